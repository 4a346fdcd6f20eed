"""Lines into a FIFO: whole, in order, never blocking."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.errors import BackendError
from bridge.sessions.backends.pipe import PIPE_BYTES, Pipe


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "in")
    return tmp_path / "in"


@pytest.fixture
def reader(fifo: Path) -> Iterator[int]:
    fd = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
    yield fd
    os.close(fd)


def read(reader: int, size: int) -> bytes:
    return os.read(reader, size)


async def test_a_line_is_there_before_anybody_reads(fifo: Path, reader: int) -> None:
    """Neither opening nor writing waits for a reader."""
    pipe = Pipe(fifo)
    await pipe.write(b"one\n")
    await pipe.write(b"two\n")
    assert read(reader, 100) == b"one\ntwo\n"
    pipe.close()


async def test_a_line_longer_than_the_pipe_arrives_whole(fifo: Path, reader: int) -> None:
    """Three times what the kernel holds, read bit by bit, and the next line behind it."""
    pipe = Pipe(fifo)
    line = os.urandom(3 * PIPE_BYTES).replace(b"\n", b" ") + b"\n"
    first, second = pipe.put(line), pipe.put(b"next\n")
    assert not pipe.idle
    got = bytearray()
    while len(got) < len(line) + 5:
        try:
            got += read(reader, 100_000)
        except BlockingIOError:
            await asyncio.sleep(0)
    assert bytes(got) == line + b"next\n"
    await asyncio.gather(first, second)
    assert pipe.idle
    pipe.close()


async def test_a_cancelled_line_is_written_to_its_end(fifo: Path, reader: int) -> None:
    """Half a line would spoil what comes after it."""
    pipe = Pipe(fifo)
    line = b"x" * (2 * PIPE_BYTES) + b"\n"
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await pipe.write(line)
    got = 0
    while got < len(line):
        try:
            got += len(read(reader, 1_000_000))
        except BlockingIOError:
            await asyncio.sleep(0)
    assert pipe.idle
    pipe.close()


async def test_closing_fails_what_waits(fifo: Path, reader: int) -> None:
    """Whoever waits for a process that is gone must hear of it."""
    pipe = Pipe(fifo)
    waiting = pipe.put(b"x" * (2 * PIPE_BYTES))
    pipe.close()
    pipe.close()
    with pytest.raises(BackendError, match="gone"):
        await waiting
    with pytest.raises(BackendError, match="gone"):
        await pipe.write(b"late\n")


async def test_a_pipe_that_is_not_there_is_a_backend_s_error(tmp_path: Path) -> None:
    """The folder was removed under the session."""
    with pytest.raises(BackendError, match="could not be opened"):
        Pipe(tmp_path / "nowhere")
