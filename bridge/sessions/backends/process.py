"""A process that is not our child, held so that nothing meant for it can reach another.

A pid is a number that is given away again; a pidfd is the process itself. It becomes readable when the
process ends, and a signal through it fails once it has.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path

from bridge.errors import BackendError


class Process:
    """Use `Process.open`; `close` lets go of it without touching it."""

    def __init__(self, pid: int, fd: int) -> None:
        self.pid = pid
        self._fd = fd
        self._watched = False

    @classmethod
    def open(cls, pid: int, parent: int) -> Process | None:
        """The process `pid`, as long as it is a child of `parent`; None where it is gone.

        The parent is asked for after the process is held: a number that was given away meanwhile belongs
        to somebody else's child.
        """
        return cls.held(pid, lambda: parent_of(pid) == parent)

    @classmethod
    def held(cls, pid: int, is_it: Callable[[], bool]) -> Process | None:
        """The process `pid` if, once held, it is the one that is meant; None where it is not, or is gone."""
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            return None
        if not is_it():
            os.close(fd)
            return None
        return cls(pid, fd)

    def when_gone(self, then: Callable[[], None]) -> None:
        """Call `then` once, on the loop, when the process has ended."""

        def gone() -> None:
            self._unwatch()
            then()

        asyncio.get_running_loop().add_reader(self._fd, gone)
        self._watched = True

    def send(self, number: signal.Signals) -> None:
        """Nothing where it is gone already."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._fd, number)

    def close(self) -> None:
        if self._fd >= 0:
            self._unwatch()
            os.close(self._fd)
            self._fd = -1

    def _unwatch(self) -> None:
        if self._watched:
            self._watched = False
            asyncio.get_running_loop().remove_reader(self._fd)


async def end(process: Process, gone: asyncio.Future[None], share_s: float) -> None:
    """By request, then by force, waiting `share_s` for each. Raises `BackendError` where it does not end."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if not gone.done():
            process.send(number)
        if await within(share_s, gone):
            return
    raise BackendError(f"the process {process.pid} does not end")


async def within(seconds: float, done: asyncio.Future[None]) -> bool:
    await asyncio.wait({done}, timeout=seconds)
    return done.done()


async def end_stranger(process: Process, share_s: float) -> None:
    """End a process that nobody holds; lets go of it."""
    gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    process.when_gone(lambda: gone.set_result(None))
    try:
        await end(process, gone, share_s)
    finally:
        process.close()


def reap(tmux_server: int) -> None:
    """Have tmux look for ended children. It misses a SIGCHLD now and then (3.3a, on a busy machine: 52 of 400
    processes that ended at once), and then never learns how they ended."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(tmux_server, signal.SIGCHLD)


def parent_of(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name stands in brackets and may hold anything, brackets included.
    return int(stat.rpartition(")")[2].split()[1])


def age_of(pid: int) -> float | None:
    """For how many seconds a process has been running, whatever was done to the clock. None: it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        up_s = float(Path("/proc/uptime").read_text().split()[0])
    except OSError:
        return None
    begun = int(stat.rpartition(")")[2].split()[19])
    return max(0.0, up_s - begun / os.sysconf("SC_CLK_TCK"))
