"""Writes lines into a FIFO, whole and in order, without ever blocking the loop.

The FIFO is opened for both directions: opening it then waits for nobody, a reader that goes away is no
error, and what was written stays for the one who comes. It must never be opened for reading alone: who
reads from it, even one byte to look, takes it away from the CLI.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections import deque
from pathlib import Path

from bridge.errors import BackendError

PIPE_BYTES = 1024 * 1024
"""The most an unprivileged pipe may hold; asked for, so that a prompt of the usual limit goes in whole."""


class Pipe:
    def __init__(self, path: Path) -> None:
        """Raises `BackendError` where there is no such FIFO."""
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[memoryview, asyncio.Future[None]]] = deque()
        self._armed = False
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as e:
            raise BackendError(f"the way to the process could not be opened: {e.strerror}") from e
        with contextlib.suppress(
            OSError
        ):  # a user's share of large pipes is bounded: the usual 64 KiB do, too
            fcntl.fcntl(self._fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)

    @property
    def idle(self) -> bool:
        """Nothing waits to be written."""
        return not self._waiting

    @property
    def closed(self) -> bool:
        return self._fd < 0

    async def write(self, line: bytes) -> None:
        """Return once the kernel has all of it. Cancelling does not take it back: half a line would spoil
        whatever comes after it. Raises `BackendError` where the pipe is closed meanwhile."""
        await asyncio.shield(self.put(line))

    def put(self, line: bytes) -> asyncio.Future[None]:
        """Like `write`, for one who does not wait: the future says when it is done."""
        done: asyncio.Future[None] = self._loop.create_future()
        # Whoever does not look at the future does not care; it must not complain about that.
        done.add_done_callback(lambda f: f.cancelled() or f.exception())
        if self.closed:
            done.set_exception(BackendError("the process is gone"))
            return done
        self._waiting.append((memoryview(line), done))
        if not self._armed:
            self._flush()
        return done

    def close(self) -> None:
        if self.closed:
            return
        self._disarm()
        os.close(self._fd)
        self._fd = -1
        while self._waiting:
            done = self._waiting.popleft()[1]
            if not done.done():
                done.set_exception(BackendError("the process is gone"))

    def _flush(self) -> None:
        while self._waiting:
            rest, done = self._waiting[0]
            try:
                written = os.write(self._fd, rest)
            except BlockingIOError:
                written = 0
            if written == len(rest):
                self._waiting.popleft()
                if not done.done():
                    done.set_result(None)
                continue
            self._waiting[0] = (rest[written:], done)
            self._arm()
            return
        self._disarm()

    def _arm(self) -> None:
        if not self._armed:
            self._armed = True
            self._loop.add_writer(self._fd, self._flush)

    def _disarm(self) -> None:
        if self._armed:
            self._armed = False
            self._loop.remove_writer(self._fd)
