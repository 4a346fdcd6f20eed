"""Processes held by what they are, not by their number."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Iterator

import pytest

from bridge.sessions.backends.process import Process

WAIT_S = 10


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()


async def test_its_end_is_told_once(child: subprocess.Popen[bytes]) -> None:
    """By the kernel, at the moment it happens."""
    process = Process.open(child.pid, os.getpid())
    assert process is not None
    gone = asyncio.get_running_loop().create_future()
    process.when_gone(lambda: gone.set_result(None))
    process.send(signal.SIGKILL)
    await asyncio.wait_for(gone, WAIT_S)
    process.close()
    process.close()


async def test_a_process_of_somebody_else_is_not_taken(child: subprocess.Popen[bytes]) -> None:
    """The number was given away again: its parent is not the one we know of."""
    assert Process.open(child.pid, os.getpid() + 1) is None


async def test_a_process_that_is_gone_is_not_taken(child: subprocess.Popen[bytes]) -> None:
    """Its number may belong to nobody."""
    child.kill()
    child.wait()
    assert Process.open(child.pid, os.getpid()) is None


async def test_a_signal_to_one_that_is_gone_reaches_nobody(child: subprocess.Popen[bytes]) -> None:
    """And is no error: it was to end anyway."""
    process = Process.open(child.pid, os.getpid())
    assert process is not None
    child.kill()
    child.wait()
    process.send(signal.SIGTERM)
    process.close()
