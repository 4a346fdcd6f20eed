"""A process that hangs: nothing of it runs, and it is not stopped in a way that anybody could end."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_DETACH, WALL = 0x4206, 0x4207, 17, 0x40000000  # linux/ptrace.h, wait.h


@contextmanager
def held(pid: int) -> Iterator[None]:
    """SIGSTOP will not do: tmux goes on with what it finds stopped. It may be killed meanwhile."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)

    def ptrace(request: int, tid: int) -> None:
        if libc.ptrace(request, tid, None, None) != 0:
            number = ctypes.get_errno()
            if number in (errno.EPERM, errno.ENOSYS):
                pytest.skip("this machine does not let one process hold another")
            raise OSError(number, os.strerror(number))

    threads: set[int] = set()
    try:
        while new := {int(t) for t in os.listdir(f"/proc/{pid}/task")} - threads:
            for tid in new:
                ptrace(PTRACE_SEIZE, tid)
                threads.add(tid)
                ptrace(PTRACE_INTERRUPT, tid)
                os.waitpid(tid, WALL)
        yield
    finally:
        for tid in [*sorted(threads - {pid}), pid]:
            try:
                ptrace(PTRACE_DETACH, tid)
            except ProcessLookupError:  # killed: its parent hears of it once we have
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(tid, WALL)
