"""A CLI that takes more and more memory is replaced by a fresh one, which resumes the conversation.

Counted is what the CLI's own process keeps resident. Its tools are not: a compiler may need more for a minute
than a CLI ever should.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import structlog

from bridge.errors import BackendError
from bridge.sessions.backends.process import Process, end

log = structlog.get_logger(__name__)

LOOK_S = 3.0
"""Between two looks, which cost some 30 µs each. In so long a process that only takes memory takes 1 GB or
two."""

IN_A_TURN = 1.5
"""So many times the limit, and the end of a turn is not waited for: better to lose that than the machine."""

_RESIDENT = re.compile(rb"^VmRSS:\s*(\d+) kB", re.MULTILINE)


class Running(Protocol):
    """A link to a process."""

    process: Process
    gone: asyncio.Future[None]
    stopping: bool
    why: str | None
    """Why the bridge ended it: becomes the reason that it exited."""
    unfit: str | None
    """Why it is to be replaced as soon as no turn runs."""

    @property
    def busy(self) -> bool: ...


async def watch_memory(limit_mib: int, share_s: float, current: Callable[[], Running | None]) -> None:
    """Replace each process that takes more than `limit_mib`, between two turns; 0: never. Ends only then."""
    while limit_mib:
        await asyncio.sleep(LOOK_S)
        link = current()
        if link is None or link.stopping or link.gone.done():
            continue
        taken = resident_mib(link.process.pid)
        if taken is None or taken <= limit_mib:
            link.unfit = None
            continue
        link.unfit = f"claude took {taken:.0f} MiB of memory; claude.max_rss_mb allows {limit_mib}"
        if taken > limit_mib * IN_A_TURN or not link.busy:
            await _end(link, share_s)


async def replace_unfit(link: Running, share_s: float) -> None:
    """Before a turn is handed to it: raises `BackendError` where the next process is to have it. Where
    prompts wait there is no other moment between two turns."""
    if link.unfit is not None:
        await _end(link, share_s)
        raise BackendError(link.unfit)


async def _end(link: Running, share_s: float) -> None:
    """`ProcessExited` follows, and the next one."""
    link.why = link.unfit
    log.warning("ended a process that took too much memory", pid=link.process.pid, why=link.why)
    with contextlib.suppress(BackendError):  # it has been asked in every way there is
        await end(link.process, link.gone, share_s)


def resident_mib(pid: int) -> float | None:
    try:
        found = _RESIDENT.search(Path(f"/proc/{pid}/status").read_bytes())
    except OSError:
        return None
    return int(found[1]) / 1024 if found else None
