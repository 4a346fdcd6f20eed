"""The parser on what the real CLI said; `tests/golden/record.py` records it again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.sessions.claude.stream_json import Item, Segment, StreamParser
from bridge.signals import BlockDropped, BlockSettled, TextArrived, TurnEnded
from tests.golden.record import CASES, HERE, signals_of


def output(case: str) -> bytes:
    return (HERE / case / "out.ndjson").read_bytes()


def items(segments: list[Segment]) -> list[Item]:
    return [item for segment in segments for item in segment.items]


def expected(case: str) -> list[dict[str, Any]]:
    said: list[dict[str, Any]] = json.loads((HERE / case / "signals.json").read_text())
    return said


def test_every_case_is_recorded() -> None:
    """A folder for each case, and none that no case records."""
    assert sorted(CASES) == sorted(path.name for path in Path(HERE).iterdir())


@pytest.mark.parametrize("case", CASES)
def test_a_recording_gives_its_signals(case: str) -> None:
    """Each recording means what was agreed that it means."""
    assert signals_of(output(case)) == expected(case)


@pytest.mark.parametrize("case", CASES)
def test_nothing_the_cli_says_is_garbage(case: str) -> None:
    """Every line is understood or known to be of no concern."""
    parser = StreamParser()
    parser.feed(output(case))
    assert parser.garbage == 0


@pytest.mark.parametrize("case", CASES)
def test_a_preview_is_its_final_text(case: str) -> None:
    """What arrived of a block and was not dropped is what it settles as."""
    shown: dict[int, str] = {}
    parser = StreamParser()
    for item in items(parser.feed(output(case))):
        match item:
            case TextArrived(block=block, text=text):
                shown[block] = shown.get(block, "") + text
            case BlockDropped(block=block):
                del shown[block]
            case BlockSettled(block=block, text=text) if block in shown:
                assert shown.pop(block) == text
            case TurnEnded():
                assert shown == {}


@pytest.mark.parametrize("case", CASES)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_it_does_not_matter_how_the_bytes_are_cut(case: str, data: st.DataObject) -> None:
    """Any chunks of the same bytes give the same signals."""
    whole = output(case)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    parser, found = StreamParser(), []
    for begin, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        found += items(parser.feed(whole[begin:end]))
    assert found == items(StreamParser().feed(whole))
    assert parser.offset == len(whole)


@pytest.mark.parametrize("case", CASES)
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_going_on_from_any_checkpoint_loses_nothing(case: str, data: st.DataObject) -> None:
    """What stood before a checkpoint, and what another parser makes of the rest, is the whole. The
    checkpoint survives being written as JSON."""
    whole = output(case)
    size = data.draw(st.integers(1, 3000))
    parser, before, places = StreamParser(), [], []
    for begin in range(0, len(whole), size):
        for segment in parser.feed(whole[begin : begin + size]):
            before += segment.items
            if segment.checkpoint is not None:
                places.append((len(before), json.dumps(segment.checkpoint)))
    for count, place in places:
        checkpoint = json.loads(place)
        after = items(StreamParser(checkpoint).feed(whole[checkpoint["offset"] :]))
        assert before[:count] + after == before


@pytest.mark.parametrize("case", [case for case in CASES if case != "killed"])
def test_every_end_of_a_turn_ends_a_segment_with_a_checkpoint(case: str) -> None:
    """A turn's end is journaled together with the place to go on from, and with nothing of the next."""
    segments = StreamParser().feed(output(case))
    ends = [s for s in segments if any(isinstance(i, TurnEnded) for i in s.items)]
    assert ends
    for segment in ends:
        assert isinstance(segment.items[-1], TurnEnded)
        assert segment.checkpoint is not None
