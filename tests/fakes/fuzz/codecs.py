"""The codecs, each with what was recorded for it: fed whatever, they give a value or refuse it, typed."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import urlencode

from aiohttp import web

from bridge.commands import Command
from bridge.errors import BridgeError, WireError
from bridge.transports import handshake
from bridge.wire import phoenix_poll, requests
from bridge.wire.json import dumps, loads
from bridge.wire.phoenix import V1, V2, Message, codec_for
from bridge.wire.requests import TopicKind
from tests.fakes.fuzz.mutations import Mutator

FRAMES = Path(__file__).parents[3] / "spec" / "frames"


def recorded(name: str, vsn: str | None = None) -> list[bytes]:
    """The wires of a file of golden frames."""
    frames = json.loads((FRAMES / f"{name}.json").read_text())
    return [
        bytes.fromhex(f["wire"]) if f.get("opcode") == "binary" else f["wire"].encode()
        for f in frames
        if vsn is None or f["vsn"] == vsn
    ]


@dataclass(frozen=True)
class Target:
    """`feed` returns what became of the input, in a word; whatever it raises is a defect."""

    name: str
    corpus: tuple[bytes, ...]
    feed: Callable[[bytes], str]


def _v2(data: bytes) -> str:
    return _message(lambda: V2().decode(data), V2())


def _v1(data: bytes) -> str:
    return _message(lambda: V1().decode(data), V1())


def _binary(data: bytes) -> str:
    return _message(lambda: V2().decode_binary(data), V2())


def _message(decode: Callable[[], Message], codec: V1 | V2) -> str:
    try:
        message = decode()
    except WireError:
        return "malformed"
    # What a client sent is given back to it: that must be possible, whatever it was.
    loads(codec.reply(message.join_ref, message.ref, message.topic, "error", {"reason": "x"}))
    return _asked(message.topic, message.event, message.payload)


def _asked(topic: Any, event: Any, payload: Any) -> str:
    route = requests.route(topic)
    if route is None:
        return "unmatched topic"
    try:
        if event == "phx_join":
            if route.kind != "sessions":
                requests.check_name(route.name)
                (requests.parse_terminal_join if route.kind == "terminal" else requests.parse_join)(payload)
        else:
            assert isinstance(requests.parse(route.kind, event, payload), Command)
    except BridgeError as e:
        loads(dumps(e.as_payload()))
        return e.code
    return "taken"


def _poll_body(data: bytes) -> str:
    """`kind|body`: what a client that polls sends."""
    kind, _, body = data.partition(b"|")
    try:
        frames = phoenix_poll.frames(kind.decode("latin-1"), body)
    except WireError:
        return "malformed"
    assert len(frames) <= phoenix_poll.MAX_LINES
    said = [_message(partial(phoenix_poll.decode, V2(), frame), V2()) for frame in frames]
    return said[0] if said else "malformed"


def _payload(data: bytes) -> str:
    """`[kind, event, payload]`: what every transport hands on."""
    try:
        kind, event, payload = loads(data)
    except (WireError, TypeError, ValueError):
        return "malformed"
    if kind not in ("sessions", "session", "terminal"):
        return "unmatched topic"
    return _asked(kind if kind == "sessions" else f"{cast(TopicKind, kind)}:a", event, payload)


def _query(data: bytes) -> str:
    text = data.decode("latin-1")
    try:
        params = handshake.query_params(text)
    except handshake.Malformed:
        return "malformed"
    assert all(value is None or isinstance(value, str) for value in params.values())
    return "taken" if codec_for(params.get("vsn")) else "refused"


_REQUEST = cast(web.BaseRequest, SimpleNamespace(transport=None))


def _headers(data: bytes) -> str:
    protocols, _, origin = data.decode("latin-1").partition("|")
    read = handshake.read_subprotocols(protocols.split(";"))
    own = handshake.Address(frozenset({"localhost"}), 4040)
    entries = ["//example.com", "https://*.example.com", origin]
    allowed = handshake.origin_allowed(origin, entries[:2], own)
    handshake.origin_allowed(origin, entries, own)
    return "taken" if allowed and not read.refused else "refused"


def _of(kind: str, event: str, **payload: Any) -> bytes:
    return json.dumps([kind, event, payload]).encode()


TARGETS: tuple[Target, ...] = (
    Target("v2", (*recorded("v2_client"), *recorded("malformed", "v2")), _v2),
    Target("v1", (*recorded("v1_client"), *recorded("malformed", "v1")), _v1),
    Target("v2 binary", tuple(recorded("v2_terminal")), _binary),
    Target(
        "payloads",
        (
            _of("session", "submit", prompt="hello", id="key-1", mode="queue"),
            _of("session", "submit", command="/compact"),
            _of("session", "answer", request="r", decision="allow", input={"a": [1]}, suggestions=[0]),
            _of("session", "answer", request="r", decision="deny", message="no", interrupt=True),
            _of("session", "history", before="t", limit=5),
            _of("session", "configure", model="x", permission_mode="plan"),
            _of("session", "cancel", turn="t"),
            _of("session", "phx_join", start={"cwd": "/", "add_dirs": ["/"]}, turns=3),
            _of("session", "phx_join", after={"epoch": "e", "seq": 3}),
            _of("sessions", "start", name="a", mcp_config={"servers": {}}, allowed_tools=["Bash"]),
            _of("sessions", "delete", name="a"),
            _of("terminal", "resize", cols=80, rows=24),
            _of("terminal", "input", text="ls\r"),
        ),
        _payload,
    ),
    Target(
        "queries",
        (
            urlencode({"token": "tok~~~>>>", "vsn": "2.0.0"}).encode(),
            b"vsn=1.0.0&vsn=2.0.0&token=lp.abc&token=x",
            b"user[id]=1&a[]=1&a[]=2&vsn=2.0.0%2Bb1&token=%C3%A9",
        ),
        _query,
    ),
    Target(
        "headers",
        (
            b"phoenix, base64url.bearer.phx.dG9rfn5+Pj4+|http://localhost:4040",
            b"other;phoenix|https://a.example.com:443",
            b"base64url.bearer.phx.x, base64url.bearer.phx.y|http://[::1]:80",
        ),
        _headers,
    ),
)


TARGETS += (
    Target(
        "poll bodies",
        tuple(
            kind + b"|" + body
            for kind in (phoenix_poll.LINES.encode(), b"application/json")
            for body in (
                *recorded("v2_client")[:8],
                b"\n".join(recorded("v2_client")[:3]),
                b"\r\n".join((recorded("v2_client")[0], base64.b64encode(recorded("v2_terminal")[0]))),
            )
        ),
        _poll_body,
    ),
)


def feed_all(seed: int, count: int) -> dict[str, Counter[str]]:
    """So many inputs, shared out among the codecs; what became of them. Raises `Defect`."""
    share, more = divmod(count, len(TARGETS))
    found: dict[str, Counter[str]] = {}
    for place, target in enumerate(TARGETS):
        mutator = Mutator(seed, target.corpus)
        outcomes = found[target.name] = Counter()
        for number in range(share + (place < more)):
            data = mutator.case(number)
            try:
                outcomes[target.feed(data)] += 1
            except Exception as e:
                raise Defect(target.name, seed, number, data) from e
    return found


class Defect(AssertionError):
    """An input that something did not stand, and how to make it again."""

    def __init__(self, target: str, seed: int, number: int, data: object) -> None:
        shown = repr(data)
        super().__init__(f"{target}: case {number} of seed {seed}: {shown[:2000]}")
