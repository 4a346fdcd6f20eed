"""One session of engine.io: polls that may go on over a WebSocket, or a WebSocket from the beginning.

Ours, in place of python-engineio's class, for these reasons: events leave as ready-made frames, straight to
the connection, one write a tick, with the same bound for who lags as elsewhere; its queue and tasks for each
packet and client cost many times as much; a body of more than sixteen packets, or one that comes in pieces,
is lost there without a word; and a malformed packet leaves its client behind.
"""

from __future__ import annotations

import asyncio
import contextlib
from http import HTTPStatus
from typing import Any, Protocol

import structlog
from aiohttp import WSMsgType, hdrs, web
from aiohttp.abc import AbstractStreamWriter
from engineio.exceptions import EngineIOError  # type: ignore[import-untyped]

from bridge.errors import WireError
from bridge.transports import handshake
from bridge.transports.outbox import Outbox, Source
from bridge.transports.tasks import Tasks
from bridge.wire import socketio as wire

log = structlog.get_logger(__name__)

# The same as for Phoenix' sockets, where they mean the same.
REVOKED = 1001
IDLE = 1002
CRASHED = 1011
RESTARTING = 1012
LAGGING = 4008

PING_INTERVAL_S = 25.0
PING_TIMEOUT_S = 20.0
"""engine.io's own. A client that is still nobody when the first ping must have been answered is sent away."""

UPGRADE_S = 10.0
"""How long a WebSocket may take from its opening to having taken the session over; engine.io's own."""

CLOSE_S = 2.0
"""How long a client may take to answer a close; a network round trip, generously."""

LINGER_S = 5.0
"""How long a client that does not read, or does not poll, may keep what was written before."""

BETWEEN_S = 1.0
"""The same where the bridge stops: a client that is between two polls asks again within its round trip."""

MOST_PACKETS = 10_000
"""In one HTTP body: what a client gathered while an earlier one was under way."""

MOST_POLLED = 16
"""Packets in one answer to a poll: of a body with more, python-engineio's client reads none, and ends. The
rest waits for the next poll, which comes at once."""

BREATH = 64
"""Packets of one body that are handled before the others on the loop have their turn."""

_OVER_HTTP = {
    REVOKED: HTTPStatus.GONE,
    LAGGING: HTTPStatus.GONE,
    RESTARTING: HTTPStatus.SERVICE_UNAVAILABLE,
}
"""What a poll is answered with in place of a close code; 400 for the others. Not engine.io's own packet for
a close: after that, python-socketio's client would not come back."""


class Client(Protocol):
    """Who speaks over a session, once it is known who that is."""

    @property
    def outbox(self) -> Outbox: ...
    def ended(self, subscription: Source) -> bytes: ...
    def close(self) -> None:
        """The session is over. Safe to repeat."""
        ...


class Owner(Protocol):
    """All sessions' server, as far as one needs it."""

    @property
    def tasks(self) -> Tasks: ...
    @property
    def max_bytes(self) -> int: ...
    @property
    def held_limit(self) -> int:
        """Bytes of replies beyond which a client is heard no further until it reads."""
        ...

    async def message(self, socket: EngineSocket, data: str | bytes) -> None:
        """Take a message in. Raises `WireError`."""
        ...

    async def ended(self, socket: EngineSocket) -> None: ...


class Packed:
    """Frames as an answer to a poll: what python-engineio takes for a packet."""

    __slots__ = ("_frames",)

    def __init__(self, frames: bytes) -> None:
        self._frames = frames

    def encode(self, b64: bool = True) -> str:
        return wire.polled(self._frames)


class EngineSocket:
    """One session, and its client's end of an outbox. `stop` ends it from anywhere; the first code stands.

    Over polls one batch waits at a time, and the next is asked for when that was taken.
    """

    __slots__ = (
        "_code",
        "_full",
        "_heard",
        "_loop",
        "_moving",
        "_pending",
        "_poll",
        "_posting",
        "_protocol",
        "_receiver",
        "_room",
        "_timer",
        "_transport",
        "_unwritten",
        "_upgrading",
        "_waiting",
        "_writer",
        "client",
        "closed",
        "connected",
        "entered",
        "partial",
        "peer",
        "server",
        "sid",
        "upgraded",
    )

    def __init__(self, server: Owner, sid: str, peer: str) -> None:
        self.server = server
        self.sid = sid
        self.peer = peer
        """The address that it came from."""
        self.client: Client | None = None
        self.partial: Any = None
        """A packet whose bytes have not all come yet."""
        self.entered = 0
        """How often it asked to be let in."""
        self.connected = False
        self.upgraded = False
        self.closed = False
        self._upgrading = False  # there is a WebSocket that has not taken over
        self._moving = False  # and it does so now: no poll is to wait
        self._code: int | None = None
        self._loop = asyncio.get_running_loop()
        self._full = False  # what the outbox wrote last was not taken yet
        self._pending = bytearray()
        self._poll: asyncio.Future[None] | None = None
        self._posting = False
        self._room: asyncio.Future[None] | None = None
        self._transport: asyncio.Transport | None = None
        self._protocol: Any = None
        self._writer: AbstractStreamWriter | None = None
        self._receiver: asyncio.Task[None] | None = None
        self._waiting = False  # the receiver waits for a frame, and may be cancelled
        self._heard = self._loop.time()
        self._unwritten = 0
        self._timer = self._loop.call_later(PING_INTERVAL_S, self._ping)

    @property
    def closing(self) -> bool:
        return self._code is not None

    # --- ends -----------------------------------------------------------------------------------

    def stop(self, code: int, *, linger_s: float = LINGER_S) -> None:
        """Send the client away, to come back: after what was said so far. Who is between two polls is told
        by the next one, for which `linger_s` are waited."""
        if self._code is not None:
            if linger_s < LINGER_S and self._transport is None:
                self._end_within(linger_s)
            return
        if self.client is not None and self._transport is None and not self._pending:
            self.client.outbox.resume()
            self.client.outbox.flush()
        self._code = code
        self._wake(self._room)
        if self._waiting and self._receiver is not None:
            self._receiver.cancel()
        if self._transport is not None:
            return  # the receiver closes
        self._part()
        self._wake(self._poll)
        self._end_within(0 if self._poll is not None else linger_s)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    async def close(self, wait: bool = True, abort: bool = False, reason: str | None = None) -> None:
        """python-engineio's way of sending a client away: it found something wrong with it."""
        self.stop(CRASHED)

    def _part(self) -> None:
        self._timer.cancel()
        self.partial = None
        if self.client is not None:
            self.client.close()

    def _end_within(self, linger_s: float) -> None:
        self._timer.cancel()
        if linger_s:
            self._timer = self._loop.call_later(linger_s, self._end)
        else:
            self._end()

    def _end(self) -> None:
        if not self.closed:
            self.closed = True
            self._part()
            self.server.tasks.spawn(self.server.ended(self))

    # --- pings ----------------------------------------------------------------------------------

    def _ping(self) -> None:
        self.put(wire.engine_frame(wire.PING))
        self._timer = self._loop.call_later(PING_TIMEOUT_S, self._judge, self._loop.time())

    def _judge(self, pinged: float) -> None:
        """Anything that was heard since is a sign of life, and so is that it reads what waits for it."""
        held = self.client is not None and self.client.outbox.held > self.server.held_limit
        if held and self._transport is not None:
            unwritten = self._transport.get_write_buffer_size()
            if unwritten != self._unwritten:
                self._unwritten = unwritten
                self._heard = self._loop.time()
        if self._heard < pinged or self.client is None:
            self.stop(LAGGING if held else IDLE)
        else:
            self._timer = self._loop.call_later(max(0.0, PING_INTERVAL_S - PING_TIMEOUT_S), self._ping)

    # --- what is sent ---------------------------------------------------------------------------

    async def send(self, packet: Any) -> None:
        """One of python-engineio's packets."""
        self.put(wire.engine_frame(packet.encode()))

    def put(self, frames: bytes) -> None:
        """Engine.io's own, in its place behind what was written before."""
        self.write(frames)

    def write(self, data: bytes) -> bool:
        transport = self._transport
        if transport is None:
            self._pending += data
            self._wake(self._poll)
            return False
        if not transport.is_closing():
            transport.write(data)
        return not self._protocol.writing_paused

    def drain(self) -> None:
        self._full = True
        if self._transport is not None:
            self.server.tasks.spawn(self._drained())
        # else: the next poll asks for more

    async def _drained(self) -> None:
        assert self._writer is not None, "only a WebSocket is drained"
        try:
            await self._writer.drain()
        except ConnectionError:
            if self.client is not None:
                self.client.outbox.close()
        self._resume()

    def overflow(self) -> None:
        log.info("x client lagged too far")
        self.stop(LAGGING)

    def ended(self, subscription: Source) -> bytes:
        return self.client.ended(subscription) if self.client is not None else b""

    def _resume(self) -> None:
        self._full = False
        if self.client is not None:
            self.client.outbox.resume()
        self._wake(self._room)

    @staticmethod
    def _wake(waiting: asyncio.Future[None] | None) -> None:
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    # --- what is heard --------------------------------------------------------------------------

    async def _take(self, packet: str | bytes) -> None:
        """Handle one packet. Raises `WireError`."""
        self._heard = self._loop.time()
        if isinstance(packet, bytes):
            await self.server.message(self, packet)
        elif packet[:1] == wire.MESSAGE:
            await self.server.message(self, packet[1:])
        elif packet[:1] == wire.CLOSE:
            self.stop(IDLE, linger_s=0)
        elif packet[:1] not in (wire.PONG, wire.NOOP):
            raise WireError("not a packet that a client sends")

    async def _has_room(self) -> None:
        """Who asks on without reading the answers is heard no further."""
        client = self.client
        while client is not None and client.outbox.held > self.server.held_limit and not self.closing:
            if self._full:
                self._room = self._loop.create_future()
                await self._room
            else:
                await asyncio.sleep(0)  # it was not written yet

    # --- over HTTP ------------------------------------------------------------------------------

    async def handle_get_request(self, environ: dict[str, Any]) -> Any:
        request: web.Request = environ["aiohttp.request"]
        if request.headers.get(hdrs.UPGRADE, "").lower() != "websocket":
            return await self.poll()
        environ.clear()  # the caller keeps it for as long as the WebSocket lives
        return await self.upgrade(request)

    async def poll(self) -> list[Packed] | dict[str, Any]:
        """What there is to say, as soon as there is something."""
        if self._poll is not None:
            self.stop(CRASHED)  # two polls at once
        if not self._pending and not self.closing:
            self._resume()
        if not self._pending and not self.closing and not self._moving:
            self._poll = self._loop.create_future()
            try:
                await self._poll
            finally:
                self._poll = None
        if self._pending:
            end = wire.end_of(self._pending, MOST_POLLED)
            frames = bytes(self._pending[:end])
            del self._pending[:end]
            return [Packed(frames)]
        if not self.closing:
            return [Packed(wire.engine_frame(wire.NOOP))]  # a WebSocket is about to take over
        self._end()
        status = _OVER_HTTP.get(self._code or 0, HTTPStatus.BAD_REQUEST)
        headers = [("Content-Type", "text/plain")]
        return {"status": f"{status.value} {status.phrase}", "headers": headers, "response": b""}

    async def handle_post_request(self, environ: dict[str, Any]) -> None:
        """Raises python-engineio's own error where the client is to be told that this was wrong."""
        request: web.Request = environ["aiohttp.request"]
        try:
            if self._posting or self.closing:
                raise WireError("two requests with data at once, or one after the end")
            self._posting = True
            try:
                packets = wire.posted(await _body(request, self.server.max_bytes), MOST_PACKETS)
                for number, packet in enumerate(packets, 1):
                    await self._has_room()
                    if self.closing:
                        return
                    await self._take(packet)
                    if number % BREATH == 0:
                        await asyncio.sleep(0)
            finally:
                self._posting = False
        except WireError as e:
            log.debug("x malformed packet", problem=str(e))
        except (ConnectionError, web.HTTPException):
            raise
        except Exception:
            log.exception("session crashed")
        else:
            return
        self.stop(CRASHED)
        raise EngineIOError

    # --- over a WebSocket -----------------------------------------------------------------------

    async def upgrade(self, request: web.Request) -> web.WebSocketResponse:
        """Serve a WebSocket: this session's first connection, or one that is to take it over from polls."""
        if self._upgrading or self.upgraded or self.closing or handshake.upgrade_problem(request) is not None:
            raise web.HTTPBadRequest
        ws = web.WebSocketResponse(compress=False, timeout=CLOSE_S, max_msg_size=self.server.max_bytes)
        self._upgrading = True
        try:
            writer = await ws.prepare(handshake.undisclosed(request))
            self._receiver = asyncio.current_task()
            if self.connected and not await self._taken_over(ws):
                await ws.close(code=self._code or IDLE, drain=False)
                return ws
        finally:
            self._upgrading = self._moving = False
        if writer is None or request.transport is None:
            raise ConnectionResetError
        self.connected = self.upgraded = True
        self._writer, self._protocol, self._transport = writer, request.protocol, request.transport
        frames, self._pending = bytes(self._pending), bytearray()
        if frames:
            self._transport.write(frames)
        self._resume()
        await self._run(ws, self._transport)
        return ws

    async def _taken_over(self, ws: web.WebSocketResponse) -> bool:
        """The client tries the way there and back, ends its poll, and then says that it has changed over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(UPGRADE_S):
                if await self._next(ws) != wire.PING + "probe":
                    return False
                await ws.send_str(wire.PONG + "probe")
                self._moving = True
                self._wake(self._poll)
                return await self._next(ws) == wire.UPGRADE
        return False

    async def _run(self, ws: web.WebSocketResponse, transport: asyncio.Transport) -> None:
        try:
            while (packet := await self._next(ws)) is not None:
                await self._take(packet)
                del packet  # while the next one is awaited, megabytes need not be kept
        except WireError as e:
            log.debug("x malformed packet", problem=str(e))
            self.stop(CRASHED)
        except Exception:
            log.exception("session crashed")
            self.stop(CRASHED)
        finally:
            if self.client is not None and self._code is not None:
                self.client.outbox.flush()  # what was said before the close comes before it
            code, self._code = self._code, self._code or IDLE
            self._end()
        if code is not None:
            # Not drained: who does not read would hold us here.
            await ws.close(code=code, drain=False)
        transport.close()
        if transport.get_write_buffer_size():
            self._loop.call_later(LINGER_S, transport.abort)

    async def _next(self, ws: web.WebSocketResponse) -> str | bytes | None:
        """The next packet; None where there is none any more, or `stop` was called."""
        if self._code is not None:
            return None
        self._waiting = True
        try:
            await self._has_room()
            message = await ws.receive()
        except asyncio.CancelledError:
            if self._code is None or self._receiver is None:
                raise
            self._receiver.uncancel()  # it was `stop`
            return None
        finally:
            self._waiting = False
        if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
            data: str | bytes = message.data
            return data
        return None


async def _body(request: web.Request, most: int) -> bytes:
    """All of it. Raises `WireError` where that is too much."""
    body = bytearray()
    async for piece in request.content.iter_any():
        body += piece
        if len(body) > most:
            raise WireError(f"a body of more than {most} bytes")
    return bytes(body)
