"""Phoenix' long poll as bytes: what stands in an answer's `messages`, and what a body's lines say.

An answer is `{"status", "token", "messages"}`, its messages JSON strings with a whole frame each. Such a
string is made once and shared by all who poll; a comma follows it, so that any number of them, put behind one
another, are the list but for the last comma.
"""

from __future__ import annotations

import base64
import binascii

from bridge.errors import WireError
from bridge.events import Epoch, Event
from bridge.wire.json import dumps
from bridge.wire.phoenix import V1, V2, Codec, Message, v1_event, v2_event

LINES = "application/x-ndjson"
"""The content type of a body with a frame a line, exactly so; any other body is one frame."""

MAX_LINES = 100
"""Frames taken of one body, the rest is dropped: Phoenix' own bound, by which its client cuts its batches."""


def unit(json: bytes) -> bytes:
    """A frame as it stands in `messages`."""
    return dumps(str(json, "utf-8")) + b","


def poll_format(codec: Codec) -> str:
    """The key of the encoder of a client that polls."""
    return f"{codec.format}-poll"


def encode_event_v2(topic: str, epoch: Epoch, first_seq: int, seq: int, at: float, event: Event) -> bytes:
    return unit(v2_event(topic, first_seq, seq, at, event))


def encode_event_v1(topic: str, epoch: Epoch, first_seq: int, seq: int, at: float, event: Event) -> bytes:
    return unit(v1_event(topic, first_seq, seq, at, event))


POLL_ENCODERS = {f"{V2.format}-poll": encode_event_v2, f"{V1.format}-poll": encode_event_v1}
"""For clients that poll."""


def answer(status: int, token: str | None = None, units: bytes = b"") -> bytes:
    """The body of an answer. phoenix.js takes no other status of a poll than 200, 204, 403, 410 and 500."""
    if token is None:
        return b'{"status":%d}' % status
    return b'{"status":%d,"token":%b,"messages":[%b]}' % (status, dumps(token), units[:-1])


def frames(content_type: str | None, body: bytes) -> list[str | bytes]:
    """The frames of a body: text, or the bytes of a binary one. Raises `WireError` where a line is neither
    an array nor base64."""
    if content_type != LINES:
        return [_text(body)]
    lines = _text(body).replace("\r\n", "\n").split("\n")[:MAX_LINES]
    return [line if line.startswith("[") else _bytes(line) for line in lines]


def decode(codec: Codec, frame: str | bytes) -> Message:
    """Raises `WireError`."""
    return codec.decode_binary(frame) if isinstance(frame, bytes) else codec.decode(frame)


def _text(body: bytes) -> str:
    try:
        return str(body, "utf-8")
    except UnicodeDecodeError as e:
        raise WireError("a body is not UTF-8") from e


def _bytes(line: str) -> bytes:
    try:
        return base64.b64decode(line, validate=True)
    except (binascii.Error, ValueError) as e:
        raise WireError("a line is neither an array nor base64") from e
