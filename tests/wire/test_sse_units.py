"""Units of an event stream, and what is read back of them."""

from __future__ import annotations

import pytest

from bridge.events import (
    BlockFinished,
    DeltaAdded,
    Epoch,
    Event,
    PresenceChanged,
    Request,
    RequestAnswered,
    RequestId,
    RequestOpened,
    SessionChanged,
    TurnFinished,
    TurnId,
    TurnStarted,
)
from bridge.wire import sse
from tests.fakes.event_stream import Parser
from tests.fakes.service import a_session

AT = 1_760_000_000.125
A, B = TurnId("turn-a"), TurnId("turn-b")


def said(event: Event, seq: int = 7, first: int = 7) -> bytes:
    return sse.encode_event("session:a", Epoch("e1.2"), first, seq, AT, event)


def test_an_event_has_its_name_its_cursor_and_its_payload() -> None:
    """The payload is the one of the channels, number and time included."""
    assert said(DeltaAdded(A, 0, "text", "hi")) == (
        b"event: delta\nid: e1.2:7\n"
        b'data: {"turn":"turn-a","block":0,"kind":"text","text":"hi","seq":7,"at":"2025-10-09T08:53:20.125Z"}'
        b"\n\n"
    )


@pytest.mark.parametrize("text", ["a\nb", "a\r\nb\rc", "\u2028\u2029\x85", "data: x\n\nevent: y", "\ud800"])
def test_no_text_can_break_a_unit(text: str) -> None:
    """JSON writes line breaks in other letters; what is no Unicode is replaced."""
    parser = Parser()
    parser.feed(said(BlockFinished(A, 0, "text", text)))
    assert [t.event for t in parser.told] == ["block"]
    assert parser.told[0].data["text"] == text.replace("\ud800", "\ufffd")


def test_a_merged_delta_has_the_cursor_of_its_last() -> None:
    """Who comes back with it has all of it."""
    parser = Parser()
    parser.feed(said(DeltaAdded(A, 0, "text", "xyz"), seq=9, first=7))
    assert (parser.last_id, parser.told[0].data["first_seq"]) == ("e1.2:9", 7)


def test_what_has_no_number_leaves_the_cursor_alone() -> None:
    """Presence comes beside the events, and would move it back."""
    parser = Parser(last_id="e1.2:5")
    parser.feed(said(PresenceChanged((), ()), seq=0, first=0))
    assert (parser.last_id, parser.told[0].data) == ("e1.2:5", {"joins": {}, "leaves": {}})


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("e1.2:7", {"epoch": "e1.2", "seq": 7}),
        ("a:0", {"epoch": "a", "seq": 0}),
        *((bad, None) for bad in ("", "7", ":7", "e1:", "e1:-1", "e1:x", "e1:07", "e1:1:2", "e1: 7", "e1:٣")),
        ("e1:" + "9" * 40, None),
    ],
)
def test_a_cursor_is_an_epoch_and_a_number(text: str, after: object) -> None:
    """Anything else is none."""
    assert sse.read_cursor(text) == after


def request_of(turn: TurnId, name: str) -> RequestOpened:
    return RequestOpened(Request(RequestId(name), "permission", turn, "Bash", {}, (), AT))


def test_one_turn_is_picked_out_of_a_session() -> None:
    """With its requests, and without what is about the session or another turn."""
    mine = [
        TurnStarted(A, "hi", "me", "client"),
        request_of(A, "r1"),
        RequestAnswered(RequestId("r1"), "allowed", "me"),
        TurnFinished(A, "completed", "x", None, None, None, 5),
    ]
    others = [
        TurnStarted(B, 'turn-a "turn":"turn-a"', "me", "client"),
        request_of(B, "r2"),
        RequestAnswered(RequestId("r2"), "denied", None),
        SessionChanged(a_session("a")),
        PresenceChanged((), ()),
        TurnFinished(B, "completed", "x", None, None, None, 5),
    ]
    mixed = b"".join(said(e) for pair in zip(others, mine, strict=False) for e in pair)
    assert len(mixed.split(sse.END)) == 9
    one = sse.OneTurn("turn-a")
    assert one.keep(mixed) == b"".join(map(said, mine))
    assert one.ended
    assert one.keep(said(mine[0])) == b"", "nothing follows the end"


def test_ends_of_turns_are_all_that_is_said_to_who_waits() -> None:
    """A line each."""
    finished = TurnFinished(A, "completed", "x", None, None, None, 5)
    assert sse.encode_end("session:a", Epoch("e"), 1, 1, AT, finished) == b"turn-a\n"
    assert sse.encode_end("session:a", Epoch("e"), 1, 1, AT, DeltaAdded(A, 0, "text", "x")) == b""
