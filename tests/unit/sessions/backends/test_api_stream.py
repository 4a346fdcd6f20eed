"""What the Messages API streams, as signals."""

from __future__ import annotations

from types import SimpleNamespace as Event
from typing import Any

from bridge.events import TurnError, Usage
from bridge.sessions.backends.api_stream import StreamReader
from bridge.signals import BlockDropped, BlockSettled, Signal, TextArrived, TurnEnded, UpstreamActive


def start(**usage: int) -> Event:
    return Event(type="message_start", message=Event(usage=Event(**usage)))


def begun(index: int, kind: str, **content: Any) -> Event:
    return Event(type="content_block_start", index=index, content_block=Event(type=kind, **content))


def delta(index: int, kind: str, text: str) -> Event:
    return Event(
        type="content_block_delta", index=index, delta=Event(**{"type": f"{kind}_delta", kind: text})
    )


def stop(index: int) -> Event:
    return Event(type="content_block_stop", index=index)


def last(reason: str = "end_turn", **usage: int | None) -> list[Event]:
    told = Event(type="message_delta", delta=Event(stop_reason=reason), usage=Event(**usage))
    return [told, Event(type="message_stop")]


def read(reader: StreamReader, *events: Any) -> list[Signal]:
    return [signal for event in events for signal in reader.take(event)]


def test_thinking_and_text_are_blocks_of_their_own() -> None:
    """Numbered as they come to something; what is not shown has no number."""
    reader = StreamReader()
    reader.begin()
    signals = read(
        reader,
        start(input_tokens=7, output_tokens=1),
        begun(0, "redacted_thinking", data="x"),
        stop(0),
        begun(1, "thinking", thinking=""),
        Event(type="content_block_delta", index=1, delta=Event(type="signature_delta", signature="s")),
        stop(1),
        begun(2, "thinking", thinking=""),
        delta(2, "thinking", "hm"),
        stop(2),
        begun(3, "text", text="so"),
        delta(3, "text", " it is"),
        stop(3),
        *last(output_tokens=9, input_tokens=None),
    )
    assert signals == [
        UpstreamActive(),
        TextArrived(0, "thinking", "hm"),
        BlockSettled(0, "thinking", "hm"),
        TextArrived(1, "text", "so"),
        TextArrived(1, "text", " it is"),
        BlockSettled(1, "text", "so it is"),
    ]
    assert reader.complete
    assert reader.usage == Usage(7, 9)
    assert reader.ended(Usage(7, 9), 0.1) == [TurnEnded("completed", None, None, Usage(7, 9), 0.1)]


def test_an_attempt_that_breaks_off_is_void_but_for_what_was_settled() -> None:
    """The next one takes up its numbers behind that."""
    reader = StreamReader()
    reader.begin()
    read(reader, start(), begun(0, "thinking"), delta(0, "thinking", "hm"), stop(0))
    read(reader, begun(1, "text"), delta(1, "text", "so f"))
    assert reader.drop() == [BlockDropped(1)]
    reader.begin()
    again = read(reader, start(), begun(0, "text"), delta(0, "text", "so far"), stop(0))
    assert again[1:] == [TextArrived(1, "text", "so far"), BlockSettled(1, "text", "so far")]


def test_text_that_stands_from_an_attempt_before_is_another_message() -> None:
    """So that it is no part of the turn's text."""
    reader = StreamReader()
    reader.begin()
    read(reader, start(), begun(0, "text"), delta(0, "text", "one"), stop(0))
    assert reader.drop() == []
    reader.begin()
    assert read(reader, begun(0, "text"), delta(0, "text", "two"))[0] == TextArrived(
        1, "text", "two", "again-1"
    )


def test_an_answer_that_goes_on_is_of_the_same_message() -> None:
    """Behind the blocks that are there, also where it takes two attempts."""
    reader = StreamReader(first=2, message="m")
    reader.begin()
    read(reader, start(), begun(0, "text"), delta(0, "text", "lo"))
    assert reader.drop() == [BlockDropped(2)]
    reader.begin()
    assert read(reader, begun(0, "text"), delta(0, "text", "re")) == [TextArrived(2, "text", "re", "m")]


def test_an_answer_that_is_none_or_not_all_of_it_is_a_failure() -> None:
    """With the API's own reason as the code, and what there is of it."""
    for reason in ("max_tokens", "refusal", "model_context_window_exceeded"):
        reader = StreamReader()
        reader.begin()
        read(reader, begun(0, "text"), delta(0, "text", "half"), *last(reason))
        settled, end = reader.ended(Usage(), None)
        assert settled == BlockSettled(0, "text", "half")
        assert isinstance(end, TurnEnded)
        assert isinstance(end.error, TurnError)
        assert (end.status, end.error.code) == ("failed", reason)


def test_what_is_of_an_unknown_type_says_nothing() -> None:
    """The API may say more one day."""
    reader = StreamReader()
    reader.begin()
    unknown = Event(type="content_block_delta", index=0, delta=Event(type="smell_delta", smell="x"))
    assert read(reader, Event(type="news"), Event(), begun(0, "smell"), unknown, stop(0)) == []
