"""Socket.IO's packets as the bridge says them, in engine.io's: `message` events, acks, and bytes.

The unit is a whole WebSocket frame, made once for everybody. A client that polls gets the same frames
opened again (`polled`): that it may change to a WebSocket at any moment, with its subscriptions, costs no
second format. What a client says is decoded by python-socketio.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from itertools import islice
from typing import Any

from bridge.errors import WireError
from bridge.events import Epoch, Event
from bridge.wire.json import dumps
from bridge.wire.phoenix import BINARY, Status, event_said, ws_frame

FORMAT = "socketio"

SEPARATOR = "\x1e"
"""Between the packets of one HTTP body; JSON never has it unescaped."""

CLOSE = "1"
PING = "2"
PONG = "3"
MESSAGE = "4"
UPGRADE = "5"
NOOP = "6"
"""Types of engine.io packets, the first character of each."""


def engine_frame(packet: str | bytes) -> bytes:
    """An engine.io packet as a frame; bytes are a message by themselves."""
    return ws_frame(packet.encode()) if isinstance(packet, str) else ws_frame(packet, BINARY)


class SocketIo:
    """What `Channels` and `Terminal` say to a Socket.IO client, each as frames. There are no refs but the
    ids of acks, and a join has none of its own."""

    format = FORMAT
    binary = True
    acks = True

    def reply(self, join_ref: Any, ref: Any, topic: Any, status: Status, response: Any) -> bytes:
        """The ack; nothing where the client did not ask for one."""
        if ref is None:
            return b""
        return ws_frame(b"43%d" % ref + dumps([{"status": status, "response": response}]))

    def push(self, join_ref: Any, ref: Any, topic: Any, event: str, payload: Any) -> bytes:
        return ws_frame(b"42" + dumps(["message", topic, event, payload]))

    def push_bytes(self, join_ref: Any, topic: str, event: str, data: bytes) -> bytes:
        """Two frames: the event with a place kept for the bytes, and those."""
        head = dumps(["message", topic, event, {"_placeholder": True, "num": 0}])
        return ws_frame(b"451-" + head) + ws_frame(data, BINARY)


def encode_event(topic: str, epoch: Epoch, first_seq: int, seq: int, at: float, event: Event) -> bytes:
    payload = event_said(first_seq, seq, at, event)
    return ws_frame(b"42" + dumps(["message", topic, event.event, payload]))


ENCODERS = {FORMAT: encode_event}


def polled(frames: bytes) -> str:
    """Our own frames as the body of an answer to a poll."""
    return SEPARATOR.join(
        "b" + base64.b64encode(content).decode() if opcode == BINARY else content.decode()
        for opcode, content in _opened(frames)
    )


def end_of(frames: bytes | bytearray, most: int) -> int:
    """Where the first so many frames end."""
    end = 0
    for _, start, size in islice(_places(frames), most):
        end = start + size
    return end


def _opened(frames: bytes) -> Iterator[tuple[int, bytes]]:
    """The inverse of `ws_frame`."""
    for opcode, start, size in _places(frames):
        yield opcode, frames[start : start + size]


def _places(frames: bytes | bytearray) -> Iterator[tuple[int, int, int]]:
    """Each frame's opcode, and where its content begins and how long it is."""
    start = 0
    while start < len(frames):
        opcode, size = frames[start] & 0x0F, frames[start + 1]
        start += 2
        longer = {126: 2, 127: 8}.get(size, 0)
        if longer:
            size = int.from_bytes(frames[start : start + longer])
            start += longer
        yield opcode, start, size
        start += size


def posted(body: bytes, most: int) -> list[str | bytes]:
    """The packets of a client's HTTP body, bytes where they are. Raises `WireError`."""
    try:
        packets = body.decode().split(SEPARATOR, most) if body else []
        if len(packets) > most:
            raise WireError(f"more than {most} packets in one body")
        return [base64.b64decode(p[1:], validate=True) if p[:1] == "b" else p for p in packets]
    except ValueError as e:  # not UTF-8, or not base64
        raise WireError("a body is packets of text, or of base64") from e
