"""Reading what others append, woken by the kernel."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridge.sessions.backends.tail import CHUNK, HOLE_STEP, FileWatch, Tail, punch_hole

WAIT_S = 10


class Reader:
    """Collects what a tail hands over."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.chunks: list[int] = []
        self._more = asyncio.Event()

    def take(self, data: bytes) -> None:
        self.data += data
        self.chunks.append(len(data))
        self._more.set()

    async def until(self, size: int) -> bytes:
        async with asyncio.timeout(WAIT_S):
            while len(self.data) < size:
                self._more.clear()
                await self._more.wait()
        return bytes(self.data)


@pytest.fixture
async def watch() -> AsyncIterator[FileWatch]:
    watch = FileWatch()
    yield watch
    watch.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "out"
    path.touch()
    return path


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


async def test_what_is_appended_is_handed_over(file: Path, watch: FileWatch) -> None:
    """In order, once, without anybody asking."""
    reader = Reader()
    tail = Tail(file, 0, watch, reader.take)
    append(file, b"one")
    assert await reader.until(3) == b"one"
    append(file, b"two")
    assert await reader.until(6) == b"onetwo"
    tail.close()


async def test_reading_begins_at_the_offset(file: Path, watch: FileWatch) -> None:
    """What stood before it was taken in earlier."""
    append(file, b"before-after")
    reader = Reader()
    tail = Tail(file, 7, watch, reader.take)
    caught_up = asyncio.get_running_loop().create_future()
    tail.when_caught_up(lambda: caught_up.set_result(bytes(reader.data)))
    assert await asyncio.wait_for(caught_up, WAIT_S) == b"after"
    tail.close()


async def test_a_long_file_is_read_in_turns(file: Path, watch: FileWatch) -> None:
    """Others have theirs between the chunks."""
    append(file, b"x" * (3 * CHUNK + 5))
    reader, turns = Reader(), []
    loop = asyncio.get_running_loop()

    def take(data: bytes) -> None:
        reader.take(data)
        loop.call_soon(lambda: turns.append(len(reader.chunks)))

    tail = Tail(file, 0, watch, take)
    tail.when_caught_up(lambda: None)
    await reader.until(3 * CHUNK + 5)
    assert reader.chunks == [CHUNK, CHUNK, CHUNK, 5]
    assert turns == [1, 2, 3]
    tail.close()


async def test_one_inotify_serves_many_files(tmp_path: Path, watch: FileWatch) -> None:
    """Each tail hears of its own file only."""
    readers = [Reader() for _ in range(20)]
    tails = []
    for number, reader in enumerate(readers):
        path = tmp_path / str(number)
        path.touch()
        tails.append(Tail(path, 0, watch, reader.take))
    for number in range(20):
        append(tmp_path / str(number), str(number).encode())
    for number, reader in enumerate(readers):
        assert await reader.until(len(str(number))) == str(number).encode()
    for tail in tails:
        tail.close()


async def test_nothing_is_handed_over_after_closing(file: Path, watch: FileWatch) -> None:
    """Also not what the kernel has told us of already."""
    reader, other = Reader(), Reader()
    tail = Tail(file, 0, watch, reader.take)
    append(file, b"late")
    tail.close()
    tail.close()
    again = Tail(file, 0, watch, other.take)
    append(file, b"r")
    assert await other.until(5) == b"later"
    assert reader.data == b""
    again.close()


async def test_a_file_that_was_removed_is_let_go_of(file: Path, watch: FileWatch) -> None:
    """The kernel took the watch away by itself."""
    tail = Tail(file, 0, watch, lambda _: None)
    file.unlink()
    tail.close()


async def test_freed_input_takes_no_room_and_keeps_its_offsets(file: Path, watch: FileWatch) -> None:
    """Zeros where it stood; the rest is where it was."""
    append(file, b"x" * (2 * HOLE_STEP) + b"rest")
    if not punch_hole(file, 0, 0) and not punch_hole(file, 0, 4096):
        pytest.skip("this file system has no holes")
    os.sync()
    before = file.stat().st_blocks
    tail = Tail(file, 2 * HOLE_STEP, watch, lambda _: None)
    tail.free(2 * HOLE_STEP)
    assert file.stat().st_blocks < before
    assert file.stat().st_size == 2 * HOLE_STEP + 4
    assert file.read_bytes()[-5:] == b"\0rest"
    tail.close()


async def test_little_is_not_freed(file: Path, watch: FileWatch) -> None:
    """A system call for every block would cost more than it brings."""
    append(file, b"x" * HOLE_STEP)
    tail = Tail(file, 0, watch, lambda _: None)
    tail.free(HOLE_STEP - 1)
    assert b"\0" not in file.read_bytes()
    tail.close()


def test_a_file_that_cannot_have_holes_stays_as_it_is(tmp_path: Path) -> None:
    """It grows, and that is all."""
    assert punch_hole(tmp_path / "nowhere", 0, 4096) is False
