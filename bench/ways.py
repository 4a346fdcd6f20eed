"""The clients of a load, one small class for each transport: as cheap as a client can be that is still one.

Each joins a session, then counts bytes, reads times out of a sample, asks something cheap again and again, or
waits for the end of a replay. A transport is `begin`, `greet` and `ask`; the rest is common.
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any, ClassVar, Self, cast
from urllib.parse import quote

import orjson

from bench.harness import frame
from tests.fakes.service import TOKEN

JOIN_S = 30.0
"""Nobody takes so long to join; who does is not served."""
SENT = re.compile(rb'text\\?":\\?"(\d{20})')
"""The time at the beginning of a delta's text; over long poll it is JSON in JSON."""
REFUSED = re.compile(rb'status\\?":\\?"error')
HEADERS = "HTTP/1.1\r\nHost: 127.0.0.1\r\n"
UPGRADE = (
    f"{HEADERS}Upgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
CREDENTIAL = quote(TOKEN, safe="")


class Load:
    """All clients of one process; what they heard since the last `reset`."""

    def __init__(self) -> None:
        self.bytes = 0
        self.last = 0.0
        self.delays: list[float] = []


class NotServed(Exception):
    """The server does not have this transport."""


class Way(asyncio.Protocol):
    """One client. `after` is where it was, `until` the number of the event that ends its replay."""

    answer: ClassVar[bytes]
    """What the answer to `ask` contains, and nothing else that comes to an idle client."""

    def __init__(
        self,
        load: Load,
        session: str,
        *,
        sampled: bool = False,
        after: dict[str, Any] | None = None,
        until: int = 0,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.load = load
        self.topic = f"session:{session}"
        self.after = after
        self.joined: asyncio.Future[None] = loop.create_future()
        self.replayed: asyncio.Future[float] = loop.create_future()
        self.seen = b""
        """What came and is not dealt with, until it has joined; then, where it asks or waits, all since."""
        self._sampled = sampled
        self._ends = (b'seq":%d,' % until, b'seq":%d}' % until, b'seq\\":%d,' % until, b'seq\\":%d}' % until)
        self._waits = until > 0
        self._asked: asyncio.Future[None] | None = None
        self._began = 0.0

    # --- what a transport is ----------------------------------------------------------------------------

    def begin(self) -> bytes:
        """What is said first."""
        raise NotImplementedError

    def greet(self) -> bytes:
        """`seen` has grown: what is said to it. Ends with `welcomed`, and takes from `seen` what it uses."""
        raise NotImplementedError

    def ask(self) -> None:
        """Send something cheap that is answered."""
        raise NotImplementedError

    def hear(self, data: bytes) -> None:
        """What comes once it has joined."""

    # --- what is common ---------------------------------------------------------------------------------

    async def join(self, port: int) -> Self:
        self.port = port
        self._began = time.monotonic()
        await asyncio.get_running_loop().create_connection(lambda: self, "127.0.0.1", port)
        async with asyncio.timeout(JOIN_S):
            await self.joined
        return self

    async def trip(self) -> float:
        """Microseconds until something cheap is answered."""
        self._asked, self.seen = asyncio.get_running_loop().create_future(), b""
        began = time.perf_counter_ns()
        self.ask()
        async with asyncio.timeout(JOIN_S):
            await self._asked
        return (time.perf_counter_ns() - began) / 1000

    def welcomed(self, reply: bytes) -> None:
        """The reply to the join has come."""
        if REFUSED.search(reply):
            self.joined.set_exception(RuntimeError(f"the join was refused: {reply[:500]!r}"))
        else:
            self.joined.set_result(None)

    def close(self) -> None:
        self.transport.abort()

    @property
    def payload(self) -> dict[str, Any]:
        return {"after": self.after} if self.after else {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self.begin())

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.joined.done():
            self.joined.set_exception(NotServed(self.seen[:100]))

    def data_received(self, data: bytes) -> None:
        if self.joined.done():
            self._count(data)
            return
        self.seen += data
        if self.seen.startswith(b"HTTP/1.1 404"):
            self.transport.abort()
            return
        said = self.greet()
        if said:
            self.transport.write(said)
        if self.joined.done():
            rest, self.seen = self.seen, b""
            self._watch(rest)  # the replay may come with the reply

    def _count(self, data: bytes) -> None:
        load = self.load
        load.bytes += len(data)
        load.last = time.monotonic()
        self.hear(data)
        if self._sampled:
            for sent in SENT.findall(data):
                load.delays.append(load.last - int(sent) / 1e9)
        self._watch(data)

    def _watch(self, data: bytes) -> None:
        if self._waits:
            self.seen += data
            if any(end in self.seen for end in self._ends):
                self._waits = False
                self.replayed.set_result(time.monotonic() - self._began)
            self.seen = self.seen[-64:]
        elif self._asked is not None and not self._asked.done():
            self.seen += data
            if self.answer in self.seen:
                self._asked.set_result(None)


class PhoenixWebSocket(Way):
    answer = b"phx_reply"

    def begin(self) -> bytes:
        return f"GET /socket/websocket?vsn=2.0.0&token={CREDENTIAL} {UPGRADE}".encode()

    def greet(self) -> bytes:
        if b"\r\n\r\n" in self.seen:
            self.seen = self.seen.partition(b"\r\n\r\n")[2]
            return frame("1", "1", self.topic, "phx_join", self.payload)
        if b"phx_reply" in self.seen and self.seen.endswith(b"}]"):
            self.welcomed(self.seen)
        return b""

    def ask(self) -> None:
        self.transport.write(frame(None, "2", "phoenix", "heartbeat", {}))


class PhoenixLongPoll(Way):
    """One connection polls, a second one pushes, as phoenix.js has it."""

    answer = b"phx_reply"

    def begin(self) -> bytes:
        self.token = ""
        self._pushes: PhoenixLongPoll.Pushes | None = None
        return self._poll()

    def greet(self) -> bytes:
        body = self._body()
        if body is None:
            return b""
        if not self.token:
            self.token = orjson.loads(body)["token"]
            return self._push("1", "1", self.topic, "phx_join", self.payload)
        if b"phx_reply" in body:
            self.welcomed(body)
            self.seen = body
        return self._poll()  # what was pushed is taken, or this was a poll's answer

    def hear(self, data: bytes) -> None:
        self._held = getattr(self, "_held", b"") + data
        while (whole := http_body(self._held)) is not None:
            self._held = self._held[whole[1] :]
            self.transport.write(self._poll())

    def ask(self) -> None:
        if self._pushes is None:
            loop = asyncio.get_running_loop()
            self._pushes = PhoenixLongPoll.Pushes()
            self._opening = loop.create_task(
                loop.create_connection(lambda: self._pushes, "127.0.0.1", self.port)
            )
            self._opening.add_done_callback(lambda _: self._say())
        else:
            self._say()

    def _say(self) -> None:
        assert self._pushes is not None
        self._pushes.transport.write(self._push(None, "2", "phoenix", "heartbeat", {}))

    def close(self) -> None:
        super().close()
        if self._pushes is not None:
            self._pushes.transport.abort()

    class Pushes(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = cast(asyncio.Transport, transport)

    def _body(self) -> bytes | None:
        whole = http_body(self.seen)
        if whole is None:
            return None
        self.seen = self.seen[whole[1] :]
        return whole[0]

    def _poll(self) -> bytes:
        return f"GET {self._path()} {HEADERS}\r\n".encode()

    def _push(self, *message: Any) -> bytes:
        body = orjson.dumps(message)
        kind = "Content-Type: application/x-ndjson\r\n"
        head = f"POST {self._path()} {HEADERS}{kind}Content-Length: {len(body)}\r\n\r\n"
        return head.encode() + body

    def _path(self) -> str:
        own = f"&token={quote(self.token, safe='')}" if self.token else ""
        return f"/socket/longpoll?vsn=2.0.0&token={CREDENTIAL}{own}"


class EventStream(Way):
    """Server-sent events; what is cheap to ask is a session, over another connection."""

    answer = b'"evidence"'

    def begin(self) -> bytes:
        after = f"Last-Event-ID: {self.after['epoch']}:{self.after['seq']}\r\n" if self.after else ""
        session = self.topic.partition(":")[2]
        return (
            f"GET /api/sessions/{session}/events {HEADERS}Authorization: Bearer {TOKEN}\r\n"
            f"Accept: text/event-stream\r\n{after}\r\n"
        ).encode()

    def greet(self) -> bytes:
        _, found, rest = self.seen.partition(b"event: joined")
        if found and b"\n\n" in rest:
            self.seen = rest.partition(b"\n\n")[2]
            self.welcomed(b"")
        return b""

    def ask(self) -> None:
        loop = asyncio.get_running_loop()
        if not hasattr(self, "_asks"):
            self._asks = EventStream.Asks(self)
            self._opening = loop.create_task(
                loop.create_connection(lambda: self._asks, "127.0.0.1", self.port)
            )
        else:
            self._asks.say()

    def close(self) -> None:
        super().close()
        if hasattr(self, "_asks"):
            self._asks.transport.abort()

    class Asks(asyncio.Protocol):
        def __init__(self, stream: EventStream) -> None:
            self.stream = stream

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = cast(asyncio.Transport, transport)
            self.say()

        def say(self) -> None:
            request = f"GET /api/sessions/idle0 {HEADERS}Authorization: Bearer {TOKEN}\r\n\r\n"
            self.transport.write(request.encode())

        def data_received(self, data: bytes) -> None:
            self.stream.data_received(data)


class SocketIo(Way):
    """Over its WebSocket, which is what its clients end with."""

    answer = b"431["

    def begin(self) -> bytes:
        return f"GET /socket.io/?EIO=4&transport=websocket {UPGRADE}".encode()

    def greet(self) -> bytes:
        if b"\r\n\r\n" in self.seen:
            self.seen = self.seen.partition(b"\r\n\r\n")[2]
        if b"430[" in self.seen and self.seen.endswith(b"}]"):
            self.welcomed(self.seen)
        elif b'40{"sid"' in self.seen:
            self.seen = b""
            return text_frame(b"420" + orjson.dumps(["join", self.topic, self.payload]))
        elif b'0{"sid"' in self.seen:
            self.seen = b""
            return text_frame(b"40" + orjson.dumps({"token": TOKEN}))
        return b""

    def hear(self, data: bytes) -> None:
        if data == b"\x81\x012":
            self.transport.write(text_frame(b"3"))

    def ask(self) -> None:
        self.transport.write(text_frame(b"421" + orjson.dumps(["push", self.topic, "history", {"limit": 1}])))


WAYS: dict[str, type[Way]] = {
    "websocket": PhoenixWebSocket,
    "longpoll": PhoenixLongPoll,
    "sse": EventStream,
    "socketio": SocketIo,
}
"""By the names that presence gives them."""


async def served(way: type[Way], port: int) -> bool:
    """Whether the server has this transport."""
    try:
        (await way(Load(), "bench").join(port)).close()
    except NotServed:
        return False
    return True


def text_frame(payload: bytes) -> bytes:
    """A client's frame, of less than 126 bytes or less than 64 KiB. A mask of zeros is a mask."""
    size = len(payload)
    length = bytes((0x80 | size,)) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    return b"\x81" + length + bytes(4) + payload


def http_body(seen: bytes) -> tuple[bytes, int] | None:
    """The body of the first answer in `seen`, and where it ends; None where it has not come whole."""
    head, found, _ = seen.partition(b"\r\n\r\n")
    if not found:
        return None
    begin = len(head) + 4
    lower = head.lower()
    if b"transfer-encoding: chunked" in lower:
        body = b""
        while (line := seen.find(b"\r\n", begin)) >= 0:
            size = int(seen[begin:line], 16)
            if len(seen) < line + 2 + size + 2:
                return None
            body += seen[line + 2 : line + 2 + size]
            begin = line + 2 + size + 2
            if size == 0:
                return body, begin
        return None
    length = int(re.findall(rb"content-length: *(\d+)", lower)[0])
    return (seen[begin : begin + length], begin + length) if len(seen) >= begin + length else None
