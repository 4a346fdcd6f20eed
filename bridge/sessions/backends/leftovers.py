"""What a CLI that is gone has left running, its tools, hooks and MCP servers: ended before the next starts.

Such a process has no parent any more that would tell whose it is, and most have a session of their own. They
are known by a variable that the CLI was started with and hands on to whatever it starts: the state folder's
own random id, and the session's name. One that was started without its parent's environment, or has
overwritten it, is not found; that is also how a tool can leave something running on purpose.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import structlog

from bridge.errors import BackendError
from bridge.sessions.backends.process import Process, within
from bridge.sessions.claude.launch import MARK

log = structlog.get_logger(__name__)

PASSES = (signal.SIGTERM, signal.SIGKILL, signal.SIGKILL)
"""What forks while it is looked for is found the next time."""

ID_FILE = "mark"


def made_mark(state_dir: Path, name: str) -> str:
    """The mark of one session's processes. A path would not do: another machine's folder may be called the
    same, in a container whose processes can be seen from here."""
    known = _known(state_dir)
    if known is None:
        known = secrets.token_hex(8)
        new = state_dir / f".{ID_FILE}"
        try:
            state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            new.write_text(known)
            new.replace(state_dir / ID_FILE)
        except OSError as e:
            raise BackendError(f"the state folder cannot be written to: {e}") from e
    return f"{known}/{name}"


def _known(state_dir: Path) -> str | None:
    try:
        return (state_dir / ID_FILE).read_text() or None
    except OSError:
        return None


class Leftovers:
    """All sessions' of one bridge. Those who look at the same time share one look through `/proc`."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="leftovers")
        self._next: Future[dict[bytes, list[int]]] | None = None
        self._lock = threading.Lock()

    async def end(self, name: str, share_s: float) -> None:
        """End every process of this session, or of what else has a mark of its own, by request, then by
        force, waiting `share_s` for each. Only to be called while no CLI of it is to live. What does not end
        is logged: it holds nothing up."""
        known = _known(self._state_dir)
        if known is None:
            return  # nothing was ever started from here
        mark = f"{known}/{name}"
        for number in PASSES:
            held = [each for pid in await self._marked(mark) if (each := _hold(pid, mark)) is not None]
            if not held:
                return
            names = [f"{_name(each.pid)} ({each.pid})" for each in held]
            log.info("ended what was left", session=name, signal=number.name, processes=names)
            await asyncio.gather(*(_end(each, number, share_s) for each in held))
        if left := await self._marked(mark):
            log.error("could not end what was left", session=name, pids=left)

    async def _marked(self, mark: str) -> list[int]:
        # Shielded, for whoever else waits for the same look.
        return (await asyncio.shield(asyncio.wrap_future(self._look()))).get(mark.encode(), [])

    def _look(self) -> Future[dict[bytes, list[int]]]:
        """A look that begins from now on."""
        with self._lock:
            if self._next is None:
                self._next = self._thread.submit(self._begin)
            return self._next

    def _begin(self) -> dict[bytes, list[int]]:
        with self._lock:
            self._next = None
        found: dict[bytes, list[int]] = {}
        for each in os.listdir("/proc"):
            if each.isdigit() and (mark := mark_of(int(each))) is not None:
                found.setdefault(mark, []).append(int(each))
        return found


def mark_of(pid: int) -> bytes | None:
    """The mark a process was started with, if it has one and we may look."""
    try:
        environ = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return None
    begin = f"{MARK}=".encode()
    return next((each[len(begin) :] for each in environ.split(b"\0") if each.startswith(begin)), None)


def _hold(pid: int, mark: str) -> Process | None:
    """Never this process: a tool of the session may have started the bridge anew."""
    if pid == os.getpid():
        return None
    return Process.held(pid, lambda: mark_of(pid) == mark.encode())


async def _end(process: Process, number: signal.Signals, share_s: float) -> None:
    gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    process.when_gone(lambda: gone.set_result(None))
    try:
        process.send(number)
        await within(share_s, gone)
    except PermissionError:
        pass  # it has become somebody else
    finally:
        process.close()


def _name(pid: int) -> str:
    """Of its program. Not its command line, which may hold what is nobody's business."""
    try:
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    except OSError:
        return "?"
