"""Status files: who is called, and what is read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridge.sessions.backends.status import StatusFiles, read_status
from bridge.sessions.backends.tail import FileWatch


class Woken:
    def __init__(self) -> None:
        self.times = 0
        self._event = asyncio.Event()

    def __call__(self) -> None:
        self.times += 1
        self._event.set()

    async def next(self) -> None:
        await asyncio.wait_for(self._event.wait(), 10)
        self._event.clear()


@pytest.fixture
async def watch() -> AsyncIterator[FileWatch]:
    watch = FileWatch()
    yield watch
    watch.close()


def file(folder: Path, pid: int) -> Path:
    return folder / "sessions" / f"{pid}.json"


async def test_each_change_calls_the_one_who_follows(tmp_path: Path, watch: FileWatch) -> None:
    """Made, written, put in place by a rename, removed; another's is not told."""
    files = StatusFiles(watch)
    ours, theirs = Woken(), Woken()
    files.follow(tmp_path, 1, ours)
    files.follow(tmp_path, 2, theirs)
    file(tmp_path, 1).write_text("{}")
    await ours.next()
    new = tmp_path / "new"
    new.write_text("{}")
    new.rename(file(tmp_path, 1))
    await ours.next()
    file(tmp_path, 1).unlink()
    await ours.next()
    assert theirs.times == 0
    file(tmp_path, 2).write_text("{}")
    await theirs.next()


async def test_who_follows_no_more_is_not_called(tmp_path: Path, watch: FileWatch) -> None:
    """And who began to follow the same number since is."""
    files = StatusFiles(watch)
    first, second = Woken(), Woken()
    end = files.follow(tmp_path, 1, first)
    files.follow(tmp_path, 1, second)
    end()
    file(tmp_path, 1).write_text("{}")
    await second.next()
    assert first.times == 0


async def test_two_folders(tmp_path: Path, watch: FileWatch) -> None:
    files = StatusFiles(watch)
    one, two = Woken(), Woken()
    files.follow(tmp_path / "a", 1, one)
    files.follow(tmp_path / "b", 1, two)
    file(tmp_path / "b", 1).write_text("{}")
    await two.next()
    assert one.times == 0


async def test_where_changes_were_lost_all_are_called(tmp_path: Path, watch: FileWatch) -> None:
    """The kernel's queue was full: nobody knows whose."""
    files = StatusFiles(watch)
    one, two = Woken(), Woken()
    files.follow(tmp_path, 1, one)
    files.follow(tmp_path, 2, two)
    for look in watch._folders.values():
        look("")
    assert (one.times, two.times) == (1, 1)


@pytest.mark.parametrize(
    "content", [None, "", "{", "[]", "null", json.dumps({"status": "idle"}), json.dumps({"pid": 8})]
)
def test_what_is_not_whole_or_not_of_this_process_is_nothing(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        file(tmp_path, 7).parent.mkdir()
        file(tmp_path, 7).write_text(content)
    assert read_status(tmp_path, 7) is None


def test_a_status_is_read(tmp_path: Path) -> None:
    file(tmp_path, 7).parent.mkdir()
    said = {"pid": 7, "status": "busy", "sessionId": "c"}
    file(tmp_path, 7).write_text(json.dumps(said))
    assert read_status(tmp_path, 7) == said
