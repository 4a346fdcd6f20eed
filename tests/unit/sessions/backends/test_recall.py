"""What a process has said, with no record of it: its last turn alone is told, wherever its output ends."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bridge.commands import StartOptions
from bridge.events import SessionName
from bridge.sessions.backends.base import Launch
from bridge.sessions.backends.recall import StreamRecall, last_turn
from bridge.sessions.backends.tail import HOLE_STEP, punch_hole
from bridge.sessions.claude.stream_json import StreamParser
from bridge.signals import PromptSeen, PromptTyped, TurnEnded

GOLDEN = Path(__file__).parents[3] / "golden" / "stream_json"
CASES = sorted(path.parent.name for path in GOLDEN.glob("*/out.ndjson"))
LAUNCH = Launch(SessionName("demo"), 1, "conversation", True, StartOptions())


@pytest.mark.parametrize("case", CASES)
def test_the_last_turn_alone_is_told(case: str) -> None:
    """Under the id that it was sent with; one that Claude began by itself only while it runs."""
    lines = (GOLDEN / case / "out.ndjson").read_bytes().splitlines(keepends=True)
    for count in range(len(lines) + 1):
        output = b"".join(lines[:count])
        last = last_turn(lines[:count], 0)
        parser = StreamParser(last.place)
        said = [i for s in parser.feed(output[parser.offset :]) for i in s.items]
        turns = {i.turn for i in said if isinstance(i, PromptSeen)}
        assert turns == ({last.turn} if last.turn else set())
        assert sum(isinstance(i, TurnEnded) for i in said) <= (last.turn is not None)
        assert sum(isinstance(i, PromptTyped) for i in said) <= (last.turn is None)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Where the output of a process is kept."""
    (tmp_path / "demo" / "1").mkdir(parents=True)
    return tmp_path / "demo" / "1" / "out.ndjson"


def test_what_was_freed_is_passed_by(tmp_path: Path, out: Path) -> None:
    """Offsets stay what they are; the line that was cut by it counts for nothing."""
    output = (GOLDEN / "text" / "out.ndjson").read_bytes()
    filler = b'{"type":"filler","text":"' + b"x" * (2 * HOLE_STEP) + b'"}\n'
    out.write_bytes(output + filler + output)
    if not punch_hole(out, 0, HOLE_STEP):
        pytest.skip("no holes on this file system")
    recalled = StreamRecall(tmp_path)(LAUNCH, None)
    whole = last_turn(output.splitlines(keepends=True), 0)
    assert recalled.turn == whole.turn
    assert recalled.checkpoint["offset"] == len(output) + len(filler) + whole.place["offset"]
    assert recalled.prompt.startswith("Please.")


def test_where_nothing_was_said_nothing_is_told(tmp_path: Path, out: Path) -> None:
    """The process has just begun, or all that it said was freed."""
    out.write_bytes(b"")
    assert StreamRecall(tmp_path)(LAUNCH, None).turn is None
    os.truncate(out, HOLE_STEP)
    assert StreamRecall(tmp_path)(LAUNCH, None).checkpoint["offset"] == HOLE_STEP
