"""Tells a TUI that hangs from one that works in silence.

While it works it redraws its clock every second, whatever a tool does, and nothing else need be heard of it
for hours. So where neither the screen moves nor anything else tells of it, it is asked something that every
program on a terminal answers: its terminal becomes a column narrower, and it paints itself anew, in whichever
view or dialog it is. What is on the screen does not matter, and is not looked at.

Two that live do not answer: one that a person sent to sleep by Ctrl-Z, which SIGCONT wakes, and one that
waits for a person's editor in a window of its own. That one is left alone.
"""

from __future__ import annotations

import asyncio
import os
import signal
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from bridge.errors import TmuxError
from bridge.sessions.backends.process import parent_of
from bridge.sessions.backends.tui_link import TuiLink
from bridge.sessions.tmux import Tmux

log = structlog.get_logger(__name__)

LOOK_S = 30.0
"""Between two looks, at most."""
AGAIN_S = 0.1
WHOLE_S = 1.1
"""tmux tells when a window was painted last in whole seconds."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A process of which something is expected."""

    link: TuiLink
    editor: Path
    """Its folder of `editor_shim`."""


async def watch_for_hangs(
    tmux: Tmux,
    session: str,
    limits: tuple[float, float],
    current: Callable[[], Watched | None],
) -> None:
    """Kill each process that hangs; `ProcessExited` follows. `limits`, in seconds, are for how long it must
    have been still to be asked, and for its answer. Runs until cancelled."""
    silence_s, answer_s = limits
    seen: object = None
    since = 0.0
    while True:
        await asyncio.sleep(min(silence_s / 4, LOOK_S))
        watched = current()
        sign = None if watched is None else await _sign(tmux, session, watched.link)
        if watched is None or sign is None or sign != seen:
            seen, since = sign, _now()
        elif _now() - since >= max(silence_s, WHOLE_S):
            if not await lives(tmux, session, watched, answer_s):
                watched.link.kill(f"claude hung: nothing moved for {_now() - since:.0f} s, nor when asked")
            seen = None


async def _sign(tmux: Tmux, session: str, link: TuiLink) -> tuple[object, ...] | None:
    """What is another whenever there was a sign of life; None where tmux cannot say."""
    try:
        return (link.generation, link.heard, await tmux.painted(session))
    except TmuxError:
        return None


async def lives(tmux: Tmux, session: str, watched: Watched, answer_s: float) -> bool:
    """Whether it lives, or that cannot be found out."""
    link = watched.link
    if _edited(watched.editor, link.process.pid):
        return True
    before = await _sign(tmux, session, link)
    if before is None:
        return True
    log.info("asked the TUI to paint itself anew", session=session, pid=link.process.pid)
    try:
        with _narrower((await tmux.panes(session))[-1].tty):
            if await _stirs(tmux, session, link, before, answer_s / 2):
                return True
    except (TmuxError, IndexError, OSError, termios.error) as e:
        log.warning("could not ask the TUI", session=session, error=str(e))
        return True
    link.process.send(signal.SIGCONT)
    return await _stirs(tmux, session, link, before, answer_s / 2)


async def _stirs(tmux: Tmux, session: str, link: TuiLink, before: object, within_s: float) -> bool:
    """Whether a sign of life comes in time; also where nobody can tell. Looks once more at the end, because
    the bridge may have been held up itself."""
    end = _now() + within_s
    while True:
        late = _now() >= end
        if await _sign(tmux, session, link) != before or link.gone.done() or link.stopping:
            return True
        if late:
            return False
        await asyncio.sleep(AGAIN_S)


@contextmanager
def _narrower(tty: str) -> Iterator[None]:
    """tmux is not told: for it, and for whoever looks, nothing changes but that the TUI paints itself."""
    fd = os.open(tty, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        rows, columns = termios.tcgetwinsize(fd)
        narrow = (rows, max(2, columns - 1))
        termios.tcsetwinsize(fd, narrow)
        try:
            yield
        finally:
            if termios.tcgetwinsize(fd) == narrow:  # else tmux has given it another size meanwhile
                termios.tcsetwinsize(fd, (rows, columns))
    finally:
        os.close(fd)


def _edited(folder: Path, pid: int) -> bool:
    """A person's own editor is open for the TUI, which waits for its end, and does nothing else."""
    try:
        return parent_of(int((folder / "editing").read_text())) == pid
    except (OSError, ValueError):
        return False


def _now() -> float:
    return asyncio.get_running_loop().time()
