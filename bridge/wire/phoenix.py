"""Phoenix Channels' serializers: V2 (arrays) and V1 (objects), and V2's binary pushes, both ways.

A codec turns the content of a frame into a `Message` and replies, pushes and events into JSON; `ws_frame`
puts what was made into a WebSocket frame. Sockets and the state of channels are `transports.phoenix_ws`'
concern. Of Phoenix's binary frames only pushes are made: nothing here replies or broadcasts in bytes.
"""

from __future__ import annotations

import re
from typing import Any, Literal, NamedTuple, Protocol

from bridge.errors import BinaryNotSupported, WireError
from bridge.events import DeltaAdded, Epoch, Event
from bridge.wire.json import dumps, loads
from bridge.wire.views import event_payload, time_text

TEXT = 0x1
BINARY = 0x2
"""Opcodes of WebSocket frames."""

_PUSH = 0
"""The kind of a binary frame that is a push, in either direction."""

Status = Literal["ok", "error"]
"""Slipstream's connection dies of any other status."""


class Message(NamedTuple):
    """What a client sent. `join_ref` and `ref` are echoed exactly as they came, JSON type included;
    whether topic, event and payload are of use is for the channel to say. The payload of a binary frame
    is `bytes`."""

    join_ref: Any
    ref: Any
    topic: Any
    event: Any
    payload: Any


class Says(Protocol):
    """What a wire says to a client of topics, one unit each."""

    @property
    def format(self) -> str:
        """The key of its event encoder."""
        ...

    @property
    def binary(self) -> bool:
        """It has bytes: `push_bytes` may be used."""
        ...

    @property
    def acks(self) -> bool:
        """Every message with a ref is owed its reply, whatever becomes of its channel; and a close names no
        join, so it is told only of a topic that is gone."""
        ...

    def reply(self, join_ref: Any, ref: Any, topic: Any, status: Status, response: Any) -> bytes:
        """Empty where there is nobody to tell."""
        ...

    def push(self, join_ref: Any, ref: Any, topic: Any, event: str, payload: Any) -> bytes: ...

    def push_bytes(self, join_ref: Any, topic: str, event: str, data: bytes) -> bytes:
        """A push of bytes, for a frame with the binary opcode. Raises `BinaryNotSupported` where there are
        none, or a field does not fit."""
        ...


class Codec(Says, Protocol):
    """One version of Phoenix's protocol."""

    def decode(self, text: str | bytes) -> Message:
        """Raises `WireError` on whatever the version does not allow."""
        ...

    def decode_binary(self, data: bytes) -> Message:
        """The same for a frame with the binary opcode."""
        ...


class V2:
    """`[join_ref, ref, topic, event, payload]`, both ways."""

    format = "phoenix-v2"
    binary = True
    acks = False

    def decode(self, text: str | bytes) -> Message:
        frame = loads(text)
        if type(frame) is not list or len(frame) < 5:
            raise WireError("a V2 frame is an array of five")
        return Message(frame[0], frame[1], frame[2], frame[3], frame[4])  # Phoenix ignores what is beyond

    def decode_binary(self, data: bytes) -> Message:
        # A kind, four sizes of one byte each, the four strings, and the rest is the payload.
        if len(data) < 5 or data[0] != _PUSH:
            raise WireError("a binary frame from a client is a push")
        fields, start = [], 5
        for size in data[1:5]:
            fields.append(data[start : start + size])
            start += size
        if start > len(data):
            raise WireError("a binary frame is shorter than its header says")
        try:
            join_ref, ref, topic, event = [str(field, "utf-8") for field in fields]
        except UnicodeDecodeError as e:
            raise WireError("a binary frame's header is not UTF-8") from e
        return Message(join_ref, ref, topic, event, data[start:])

    def reply(self, join_ref: Any, ref: Any, topic: Any, status: Status, response: Any) -> bytes:
        return dumps([join_ref, ref, topic, "phx_reply", {"status": status, "response": response}])

    def push(self, join_ref: Any, ref: Any, topic: Any, event: str, payload: Any) -> bytes:
        return dumps([join_ref, ref, topic, event, payload])

    def push_bytes(self, join_ref: Any, topic: str, event: str, data: bytes) -> bytes:
        # Without a ref, unlike a client's: the header is a byte shorter.
        text = (
            ""
            if join_ref is None
            else join_ref
            if isinstance(join_ref, str)
            else str(dumps(join_ref), "utf-8")
        )
        fields = [field.encode(errors="replace") for field in (text, topic, event)]
        sizes = [len(field) for field in fields]
        if max(sizes) > 255:
            raise BinaryNotSupported(
                "A binary frame has room for 255 bytes of join_ref, topic and event each."
            )
        return b"".join((bytes((_PUSH, *sizes)), *fields, data))


class V1:
    """`{topic, event, payload, ref}`; `join_ref` may come in and never goes out."""

    format = "phoenix-v1"
    binary = False
    acks = False

    def decode(self, text: str | bytes) -> Message:
        frame = loads(text)
        if type(frame) is not dict or not frame.keys() >= {"topic", "event", "payload", "ref"}:
            raise WireError("a V1 frame is an object with topic, event, payload and ref")
        return Message(frame.get("join_ref"), frame["ref"], frame["topic"], frame["event"], frame["payload"])

    def decode_binary(self, data: bytes) -> Message:
        return self.decode(data)  # this version does not look at the opcode

    def reply(self, join_ref: Any, ref: Any, topic: Any, status: Status, response: Any) -> bytes:
        payload = {"status": status, "response": response}
        return dumps({"topic": topic, "event": "phx_reply", "payload": payload, "ref": ref})

    def push(self, join_ref: Any, ref: Any, topic: Any, event: str, payload: Any) -> bytes:
        return dumps({"topic": topic, "event": event, "payload": payload, "ref": ref})

    def push_bytes(self, join_ref: Any, topic: str, event: str, data: bytes) -> bytes:
        raise BinaryNotSupported("Bytes need version 2 of Phoenix's protocol: connect with vsn=2.0.0.")


def client_push(join_ref: str, ref: str, topic: str, event: str, data: bytes) -> bytes:
    """A client's push of bytes, which `V2.decode_binary` reads."""
    fields = [field.encode() for field in (join_ref, ref, topic, event)]
    return b"".join((bytes((_PUSH, *map(len, fields))), *fields, data))


_VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?")
_CODECS: dict[tuple[int, int], Codec] = {(1, 0): V1(), (2, 0): V2()}


def codec_for(vsn: str | None) -> Codec | None:
    """The codec of a `vsn` parameter, None where it must be refused.

    `~> 1.0.0` and `~> 2.0.0` as semantic versions; a client that names none speaks V1.
    """
    if vsn is None:
        return _CODECS[1, 0]
    match = _VERSION.fullmatch(vsn)
    if match is None or match[4]:
        return None
    return _CODECS.get((int(match[1]), int(match[2])))


def ws_frame(payload: bytes, opcode: int = TEXT) -> bytes:
    """One whole, unmasked frame, as a server sends it."""
    size = len(payload)
    if size < 126:
        return bytes((0x80 | opcode, size)) + payload
    if size < 65536:
        return bytes((0x80 | opcode, 126)) + size.to_bytes(2) + payload
    return bytes((0x80 | opcode, 127)) + size.to_bytes(8) + payload


def v2_event(topic: str, first_seq: int, seq: int, at: float, event: Event) -> bytes:
    """An event as JSON: a broadcast, so it carries no refs and all clients share it."""
    return dumps([None, None, topic, event.event, event_said(first_seq, seq, at, event)])


def v1_event(topic: str, first_seq: int, seq: int, at: float, event: Event) -> bytes:
    payload = event_said(first_seq, seq, at, event)
    return dumps({"topic": topic, "event": event.event, "payload": payload, "ref": None})


def event_said(first_seq: int, seq: int, at: float, event: Event) -> dict[str, Any]:
    """An event's payload as it is published, whatever the wire puts around it."""
    if type(event) is not DeltaAdded:
        return numbered(event_payload(event, at), first_seq, seq, at)
    # The hot path: 99 of 100 events; the same fields as `event_payload`.
    payload = {
        "turn": event.turn,
        "block": event.block,
        "kind": event.kind,
        "text": event.text,
        "seq": seq,
        "at": time_text(at),
    }
    if not seq:  # of a pool's question, which has no numbers
        del payload["seq"]
    if event.parent is not None:
        payload["parent"] = event.parent
    if first_seq != seq:
        payload["first_seq"] = first_seq
    return payload


def numbered(payload: dict[str, Any], first_seq: int, seq: int, at: float) -> dict[str, Any]:
    """The payload with what stands beside it in numbered topics; topics without numbers have none."""
    if seq:
        payload["seq"] = seq
        payload["at"] = time_text(at)
        if first_seq != seq:
            payload["first_seq"] = first_seq
    return payload


def encode_event_v2(topic: str, epoch: Epoch, first_seq: int, seq: int, at: float, event: Event) -> bytes:
    """As a whole WebSocket frame."""
    return ws_frame(v2_event(topic, first_seq, seq, at, event))


def encode_event_v1(topic: str, epoch: Epoch, first_seq: int, seq: int, at: float, event: Event) -> bytes:
    return ws_frame(v1_event(topic, first_seq, seq, at, event))


ENCODERS = {V2.format: encode_event_v2, V1.format: encode_event_v1}
"""For clients on a WebSocket."""
