"""Socket.IO's packets, checked with the decoders of python-socketio and python-engineio."""

from __future__ import annotations

from typing import Any

import pytest
from engineio.payload import Payload
from socketio.packet import Packet

from bridge.errors import WireError
from bridge.events import BlockFinished, DeltaAdded, Epoch, TurnId, TurnStarted
from bridge.wire import socketio as wire
from bridge.wire.formats import ENCODERS
from bridge.wire.phoenix import BINARY, event_said, ws_frame

WIRE = wire.SocketIo()


def read(frames: bytes) -> list[Any]:
    """Type, id and data of each packet, as another library understands them."""
    found: list[Any] = []
    packet = None
    for each in Payload(encoded_payload=wire.polled(frames)).packets:
        if packet is not None:
            if packet.add_attachment(each.data):
                found.append((packet.packet_type, packet.id, packet.data))
                packet = None
            continue
        packet = Packet(encoded_packet=each.data)
        if not packet.attachment_count:
            found.append((packet.packet_type, packet.id, packet.data))
            packet = None
    assert packet is None
    return found


def test_what_is_said_is_understood() -> None:
    """Acks, messages, and messages with bytes, joined by nothing."""
    frames = (
        WIRE.reply(None, 7, "t", "ok", {"a": "é\x1e"})
        + WIRE.push(None, None, "t", "phx_close", {})
        + WIRE.push_bytes(None, "t", "output", b"\x00\xff" * 40_000)
        + WIRE.reply(None, 10**99, "t", "error", {"reason": "x" * 70_000})
    )
    assert read(frames) == [
        (3, 7, [{"status": "ok", "response": {"a": "é\x1e"}}]),
        (2, None, ["message", "t", "phx_close", {}]),
        (5, None, ["message", "t", "output", b"\x00\xff" * 40_000]),
        (3, 10**99, [{"status": "error", "response": {"reason": "x" * 70_000}}]),
    ]


def test_who_asked_for_no_ack_is_sent_none() -> None:
    """Not even an empty frame."""
    assert WIRE.reply(None, None, "t", "ok", {}) == b""


@pytest.mark.parametrize(
    "event",
    [
        DeltaAdded(TurnId("t"), 0, "text", "ä"),
        DeltaAdded(TurnId("t"), 0, "text", "ä", "parent"),
        BlockFinished(TurnId("t"), 1, "thinking", "x" * 200),
        TurnStarted(TurnId("t"), "p", "me", "client"),
    ],
)
@pytest.mark.parametrize("first", [3, 5])
def test_an_event_is_a_message(event: Any, first: int) -> None:
    """With the payload that it has everywhere."""
    frame = ENCODERS["socketio"]("session:a", Epoch("e"), first, 5, 1.0, event)
    said = event_said(first, 5, 1.0, event)
    assert read(frame) == [(2, None, ["message", "session:a", event.event, said])]
    assert ("first_seq" in said) == (first != 5)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536])
def test_frames_are_opened_again_whatever_their_length(size: int) -> None:
    """Text as it is, bytes in base64."""
    content = b"x" * size
    assert wire.polled(ws_frame(content)) == content.decode()
    assert wire.posted(wire.polled(ws_frame(content, BINARY)).encode(), 1) == [content]


def test_a_body_holds_so_many_packets_and_no_more() -> None:
    """Text and bytes, in order."""
    assert wire.posted(b"", 2) == []
    assert wire.posted("4é\x1ebAP8=".encode(), 2) == ["4é", b"\x00\xff"]
    with pytest.raises(WireError):
        wire.posted(b"4\x1e4\x1e4", 2)
