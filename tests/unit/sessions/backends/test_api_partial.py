"""What a killed bridge leaves of an answer."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from bridge.events import TurnError, TurnId, Usage
from bridge.sessions.backends.api_partial import PartialFile
from bridge.signals import (
    BlockDropped,
    BlockSettled,
    Signal,
    TextArrived,
    TurnEnded,
    UpstreamActive,
    UpstreamRetrying,
)

TURN = TurnId("t1")


def test_what_was_said_is_there_again(tmp_path: Path) -> None:
    """Settled blocks, text that was on its way, what it cost; what was dropped is not."""
    file = PartialFile(tmp_path / "demo")
    file.begin(TURN)
    file.spent(Usage(10, 1), 0.5)
    file.add(
        [UpstreamActive(), TextArrived(0, "thinking", "hm ", "m"), TextArrived(0, "thinking", "hm", "m")]
    )
    file.add([BlockSettled(0, "thinking", "hm hm", "m"), TextArrived(1, "text", "void", "m")])
    file.add([BlockDropped(1), UpstreamRetrying(1, 4, 500, "overloaded")])
    file.add([TextArrived(1, "text", "so ", "again-1"), TextArrived(1, "text", "far ", "again-1")])
    found = PartialFile(tmp_path / "demo").read()
    assert found is not None
    assert (found.turn, found.active, found.ended) == (TURN, True, None)
    assert (found.usage, found.cost_usd) == (Usage(10, 1), 0.5)
    assert (found.text, found.message) == ("so far ", "again-1")
    assert found.signals() == [
        UpstreamActive(),
        BlockSettled(0, "thinking", "hm hm", "m"),
        TextArrived(1, "text", "so far ", "again-1"),
    ]


def test_a_turn_that_nobody_answers_is_not_active(tmp_path: Path) -> None:
    """It may be sent again."""
    file = PartialFile(tmp_path)
    file.begin(TURN)
    found = file.read()
    assert found is not None
    assert (found.turn, found.active, found.blocks) == (TURN, False, {})


def test_an_end_is_remembered_as_it_was(tmp_path: Path) -> None:
    """The bridge may be killed before its journal has it."""
    ends = [
        TurnEnded("completed", None, None, Usage(1, 2, 3, 4), 0.25),
        TurnEnded("failed", None, TurnError("overloaded", "Overloaded", 529), None, None),
    ]
    for end in ends:
        file = PartialFile(tmp_path)
        file.begin(TURN)
        file.add([UpstreamActive(), end])
        found = file.read()
        assert found is not None
        assert found.ended == end


def test_a_later_turn_replaces_an_earlier_one(tmp_path: Path) -> None:
    """And what goes on is written behind what is there."""
    file = PartialFile(tmp_path)
    file.begin(TURN)
    file.add([UpstreamActive(), TextArrived(0, "text", "old")])
    file.begin(TurnId("t2"))
    file.add([UpstreamActive(), TextArrived(0, "text", "new")])
    other = PartialFile(tmp_path)
    other.go_on(TurnId("t2"))
    other.add([BlockSettled(0, "text", "new"), TextArrived(1, "text", "er")])
    found = other.read()
    assert found is not None
    assert (found.turn, found.text) == ("t2", "newer")
    other.remove()
    assert other.read() is None


@given(st.integers(0, 400), st.binary(max_size=6))
def test_a_file_that_ends_anywhere_is_read_as_far_as_it_goes(cut: int, more: bytes) -> None:
    """Its text is a beginning of what was said, whatever stands behind it."""
    folder = Path("/dev/shm") / f"partial-{os.getpid()}"
    file = PartialFile(folder)
    file.begin(TURN)
    file.add([UpstreamActive(), *(TextArrived(0, "text", f"w{n} ") for n in range(8))])
    path = folder / "answer.part"
    path.write_bytes(path.read_bytes()[:cut] + more)
    found = file.read()
    assert found is None or "".join(f"w{n} " for n in range(8)).startswith(found.text)
    file.remove()
    folder.rmdir()


def test_a_disk_that_is_full_ends_the_writing_and_not_the_answer(tmp_path: Path) -> None:
    """What was kept until then can be read."""
    file = PartialFile(tmp_path)
    file.begin(TURN)
    signals: list[Signal] = [UpstreamActive(), TextArrived(0, "text", "kept")]
    file.add(signals)
    assert file._out is not None
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, file._out)
    os.close(full)
    file.add([TextArrived(0, "text", "lost")])
    file.add([TextArrived(0, "text", "lost as well")])
    found = file.read()
    assert found is not None
    assert (found.active, found.text) == (True, "kept")
