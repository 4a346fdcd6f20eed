"""The codecs alone: whatever comes in is a message or a `WireError`, whatever goes out is JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.clock import rfc3339
from bridge.errors import WireError
from bridge.events import DeltaAdded, Epoch, ToolFinished, ToolStarted, TurnId
from bridge.wire.json import dumps, loads
from bridge.wire.phoenix import BINARY, V1, V2, Message, encode_event_v1, encode_event_v2, ws_frame
from bridge.wire.views import OUTPUT_BYTES, cut, event_payload, time_text

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner),
)
NEARLY_FRAMES = st.one_of(
    st.text(),
    st.binary(),
    JSON.map(lambda v: json.dumps(v)),
    st.lists(JSON, max_size=7).map(lambda v: json.dumps(v)),
    st.dictionaries(st.sampled_from(["topic", "event", "payload", "ref", "join_ref"]), JSON).map(json.dumps),
)


@pytest.mark.parametrize("codec", [V1(), V2()], ids=lambda c: c.format)
@given(text=NEARLY_FRAMES)
@settings(deadline=None)
def test_decoding_gives_a_message_or_a_wire_error(codec: V1 | V2, text: str | bytes) -> None:
    """Nothing else, whatever the text: the socket's loop relies on it."""
    try:
        message = codec.decode(text)
    except WireError:
        return
    assert isinstance(message, Message)


@given(value=JSON)
@settings(deadline=None)
def test_encoding_never_fails_and_gives_strict_json(value: Any) -> None:
    """Lone surrogates, NaN and huge numbers included: an event that cannot be encoded ends a stream."""
    loads(dumps(value))


@given(values=st.tuples(JSON, JSON, JSON, JSON, JSON))
@settings(deadline=None)
def test_a_v2_frame_comes_back_as_it_went(values: tuple[Any, ...]) -> None:
    """Encoding and decoding are each other's inverse, of whatever JSON can say."""
    plain = loads(dumps(list(values)))
    frame = V2().push(plain[0], plain[1], plain[2], "e", plain[4])
    assert V2().decode(frame) == Message(plain[0], plain[1], plain[2], "e", plain[4])


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 200_000])
def test_a_websocket_frame_says_its_own_length(size: int) -> None:
    """In the shortest of the three forms, unmasked."""
    frame = ws_frame(b"x" * size, BINARY)
    assert frame[0] == 0x82
    if size < 126:
        assert (frame[1], frame[2:]) == (size, b"x" * size)
    elif size < 65536:
        assert (frame[1], int.from_bytes(frame[2:4]), len(frame)) == (126, size, size + 4)
    else:
        assert (frame[1], int.from_bytes(frame[2:10]), len(frame)) == (127, size, size + 10)


@pytest.mark.parametrize("parent", [None, "toolu_1"])
@pytest.mark.parametrize("first", [3, 7])
def test_the_short_way_for_deltas_says_what_the_long_way_says(parent: str | None, first: int) -> None:
    """V2 has one of its own, because deltas are nearly all there is."""
    event = DeltaAdded(TurnId("t"), 2, "thinking", "x", parent)
    frame = encode_event_v2("session:a", Epoch("e"), first, 7, 1.5, event)
    short = json.loads(frame[frame.index(b"[null") :])
    frame = encode_event_v1("session:a", Epoch("e"), first, 7, 1.5, event)
    long = json.loads(frame[frame.index(b'{"') :])
    assert short == [None, None, "session:a", "delta", long["payload"]]
    assert ("first_seq" in short[4]) is (first == 3)


def test_an_event_with_a_lone_surrogate_is_sent_without_it() -> None:
    """A tool may print anything."""
    event = ToolFinished(TurnId("t"), "toolu_1", "a\ud800b", False)
    frame = encode_event_v2("session:a", Epoch("e"), 1, 1, 1.0, event)
    assert "a\ufffdb".encode() in frame


@given(at=st.floats(0, 4e9))
def test_times_are_rfc_3339_whatever_the_second_before(at: float) -> None:
    """The one that remembers says what the clock's says, to the millisecond."""
    assert time_text(round(at, 3)) in {rfc3339(round(at, 3)), rfc3339(round(at, 3) + 0.0005)}


@given(output=st.text(max_size=50), times=st.integers(0, 3000))
@settings(deadline=None)
def test_tool_output_is_cut_between_characters(output: str, times: int) -> None:
    """At 64 KiB of UTF-8, losing less than one character, and only where it must."""
    whole = output * times
    shown, truncated = cut(whole)
    assert whole.startswith(shown)
    size = len(whole.encode())
    assert truncated is (size > OUTPUT_BYTES)
    if truncated:
        assert OUTPUT_BYTES - 4 < len(shown.encode()) <= OUTPUT_BYTES
    else:
        assert shown == whole


def test_cut_output_says_so_in_the_event() -> None:
    """`truncated: true`."""
    payload = event_payload(ToolFinished(TurnId("t"), "toolu_1", "é" * 40_000, False), 1.0)
    assert payload["truncated"] is True
    assert payload["output"] == "é" * 32_768


def test_a_parent_is_named_only_where_there_is_one() -> None:
    """Events of sub-agents carry it."""
    own = event_payload(ToolStarted(TurnId("t"), 0, "toolu_1", "Read", {}), 1.0)
    sub = event_payload(ToolStarted(TurnId("t"), 0, "toolu_1", "Read", {}, "toolu_0"), 1.0)
    assert "parent" not in own
    assert sub["parent"] == "toolu_0"
