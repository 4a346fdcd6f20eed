"""Phoenix Channels over WebSocket: the upgrade, and the life of one socket.

The channels themselves are `phoenix_channels`. Of aiohttp this uses the handshake and the reader;
events are written as ready-made frames, straight to the connection, one write a tick; replies that
need not be waited for, one by one. A socket is closed by its own receive loop alone: everybody else
says `stop` with the code.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from http import HTTPStatus

import structlog
from aiohttp import WSMsgType, hdrs, web
from aiohttp.abc import AbstractStreamWriter

from bridge.clock import Clock
from bridge.config import HubConfig, ServerConfig
from bridge.errors import WireError
from bridge.service import Service
from bridge.transports import handshake
from bridge.transports.handshake import Admission
from bridge.transports.outbox import HELD_SHARE, Outbox, Source
from bridge.transports.phoenix_channels import Channels, Work
from bridge.transports.topics import Topics
from bridge.wire.phoenix import BINARY, Message, ws_frame

log = structlog.get_logger(__name__)

# Never 1000: older phoenix.js takes it for the end and does not come back.
REVOKED = 1001
IDLE = 1002
CRASHED = 1011
RESTARTING = 1012
LAGGING = 4008

CLOSE_S = 2.0
"""How long a client may take to answer a close; a network round trip, generously."""

LINGER_S = 5.0
"""How long a client that does not read may keep what was written before; then it is dropped."""


class PhoenixSockets:
    """All WebSockets of one listener."""

    def __init__(self, service: Service, server: ServerConfig, hub: HubConfig, clock: Clock) -> None:
        self.service = service
        self.server = server
        self.outbox_bytes = hub.outbox_bytes
        self.clock = clock
        self._open: dict[_Socket, None] = {}
        self._emptied: asyncio.Future[None] | None = None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve one upgrade request until its socket is closed.

        What is refused is refused before the upgrade, in Phoenix's order; a client never sees a socket
        that opens and then closes for want of a token.
        """
        admitted = self._admit(request)
        if isinstance(admitted, web.Response):
            return admitted
        admission, phoenix = admitted
        # What the request was judged by is garbage from here on: a socket may live for weeks.
        undisclosed = handshake.undisclosed(request, "phoenix" if phoenix else None)
        return await self._serve(undisclosed, admission, phoenix)

    def _admit(self, request: web.Request) -> web.Response | tuple[Admission, bool]:
        """The admission, and whether the sub-protocol `phoenix` was asked for: then it has to be answered."""
        if request.method != hdrs.METH_GET:
            return web.Response(status=HTTPStatus.BAD_REQUEST)
        try:
            params = handshake.query_params(request.raw_path.partition("?")[2])
        except handshake.Malformed:
            return web.Response(status=HTTPStatus.BAD_REQUEST)
        if not handshake.page_allowed(request, self.server):
            return web.Response(status=HTTPStatus.FORBIDDEN)
        protocols = handshake.read_subprotocols(request.headers.getall(hdrs.SEC_WEBSOCKET_PROTOCOL, []))
        if protocols.refused:
            return web.Response(status=HTTPStatus.FORBIDDEN)
        token = protocols.token or params.get("token")
        admission = handshake.admit(self.service, request, params, token)
        if admission is None:
            return web.Response(status=HTTPStatus.FORBIDDEN)
        problem = handshake.upgrade_problem(request)
        if problem:
            # Quoted from headers, which need not be UTF-8.
            return web.Response(status=HTTPStatus.BAD_REQUEST, text=problem.encode(errors="replace").decode())
        if self._emptied is not None:
            return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE)
        return admission, protocols.phoenix

    async def _serve(self, request: web.Request, admission: Admission, phoenix: bool) -> web.StreamResponse:
        ws = web.WebSocketResponse(
            compress=False,
            timeout=CLOSE_S,
            autoping=False,
            max_msg_size=self.server.max_frame_bytes,
            protocols=("phoenix",) if phoenix else (),
        )
        writer = await ws.prepare(request)
        socket = _Socket(self, request, ws, writer, admission)
        self._open[socket] = None
        gone = self.service.connected(admission.who, socket.revoked, "websocket")
        log.debug("= socket opened", who=admission.who.name, format=admission.codec.format)
        try:
            await socket.run()
        finally:
            gone()
            del self._open[socket]
            log.debug("x socket closed", who=admission.who.name, code=ws.close_code)
            if self._emptied is not None and not self._open and not self._emptied.done():
                self._emptied.set_result(None)
        return ws

    async def close(self) -> None:
        """Send everybody away with 1012, to come back when the bridge does; new ones are refused.

        Returns when all have gone, or after `shutdown_s` without those that are still there.
        """
        self._emptied = asyncio.get_running_loop().create_future()
        for socket in list(self._open):
            socket.stop(RESTARTING)
        if self._open:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._emptied, self.server.shutdown_s)
        for socket in list(self._open):
            socket.abort()


class _Socket:
    """One client: its receive loop, and the connection its outbox writes to."""

    __slots__ = (
        "_channels",
        "_code",
        "_codec",
        "_draining",
        "_heard",
        "_held_limit",
        "_idle_s",
        "_idle_timer",
        "_loop",
        "_outbox",
        "_protocol",
        "_receiver",
        "_taking",
        "_tasks",
        "_transport",
        "_unwritten",
        "_waiting",
        "_writer",
        "_ws",
    )

    def __init__(
        self,
        sockets: PhoenixSockets,
        request: web.Request,
        ws: web.WebSocketResponse,
        writer: AbstractStreamWriter,
        admission: Admission,
    ) -> None:
        transport = request.transport
        if transport is None:
            raise ConnectionResetError
        self._loop = asyncio.get_running_loop()
        self._ws = ws
        self._writer = writer
        self._codec = admission.codec
        self._transport = transport
        self._protocol = request.protocol
        self._tasks = asyncio.TaskGroup()
        self._draining: asyncio.Task[None] | None = None
        self._receiver: asyncio.Task[None] | None = None
        self._taking = False  # a message is being taken in, after which everything is flushed
        self._waiting = False  # the receiver waits for a frame, and may be cancelled
        self._code: int | None = None
        self._unwritten = 0
        self._held_limit = sockets.outbox_bytes // HELD_SHARE
        self._idle_s = sockets.server.idle_timeout_s
        self._heard = self._loop.time()
        self._idle_timer = self._loop.call_later(self._idle_s, self._check_idle)
        self._outbox = Outbox(self._codec.format, self, sockets.outbox_bytes, self._schedule, gathers=True)
        self._channels = Channels(
            Topics(sockets.service, admission.who, sockets.clock, "websocket"),
            self._codec,
            self._outbox,
            spawn=self._tasks.create_task,
            frame=ws_frame,
            max_topics=sockets.server.max_topics,
            binary=_binary_frame,
        )

    async def run(self) -> None:
        """Until the client goes, or `stop`. Cancelling it drops the connection."""
        async with self._tasks:
            try:
                await self._receive()
            except WireError as e:
                log.debug("x malformed frame", problem=str(e))
                self._code = CRASHED
            except Exception:
                log.exception("socket crashed")
                self._code = CRASHED
            finally:
                self._idle_timer.cancel()
                if self._code is not None:
                    self._outbox.flush()  # what was said before the close comes before it
                self._channels.close()
                self._outbox.close()
                if self._draining is not None:
                    self._draining.cancel()
            if self._code is not None:
                # Not drained: who does not read would hold us here.
                await self._ws.close(code=self._code, drain=False)
            self._transport.close()
            if self._transport.get_write_buffer_size():
                self._loop.call_later(LINGER_S, self._transport.abort)

    def stop(self, code: int) -> None:
        """Close with this code, after the message that is being handled; the first code stands."""
        if self._code is None:
            self._code = code
            if self._waiting and self._receiver is not None:
                self._receiver.cancel()

    def revoked(self) -> None:
        self.stop(REVOKED)

    def abort(self) -> None:
        self._transport.abort()

    # --- receiving ------------------------------------------------------------------------------

    async def _receive(self) -> None:
        self._receiver = receiver = asyncio.current_task()
        while self._code is None:
            self._waiting = True
            try:
                while self._outbox.held > self._held_limit and self._draining is not None:
                    await asyncio.wait({self._draining})
                message = await self._ws.receive()
            except asyncio.CancelledError:
                if self._code is None or receiver is None:
                    raise
                receiver.uncancel()  # it was `stop`
                return
            finally:
                self._waiting = False
            self._heard = self._loop.time()
            work: Work | None = None
            match message.type:
                case WSMsgType.TEXT:
                    work = self._take(self._codec.decode(message.data))
                case WSMsgType.BINARY:
                    work = self._take(self._codec.decode_binary(message.data))
                case WSMsgType.PING:
                    await self._ws.pong(message.data)
                case WSMsgType.PONG:
                    pass
                case _:
                    return
            del message  # while the next one is awaited, a frame of megabytes need not be kept
            if work is not None:
                await work
                work = None
                self._heard = self._loop.time()  # a slow join is not the client's silence

    def _take(self, message: Message) -> Work | None:
        # Flushed here: a callback would have the answer wait for another round of the loop.
        self._taking = True
        try:
            work = self._channels.take(message)
        finally:
            self._taking = False
        self._outbox.flush()
        return work

    def _schedule(self, flush: Callable[[], None]) -> None:
        if not self._taking:
            self._loop.call_soon(flush)

    def _check_idle(self) -> None:
        # Rescheduled from here rather than with every frame: a frame costs nothing this way.
        now = self._loop.time()
        held = self._outbox.held > self._held_limit
        if held and (unwritten := self._transport.get_write_buffer_size()) != self._unwritten:
            self._unwritten = unwritten  # it reads, if slowly; its own frames are not read meanwhile
            self._heard = now
        rest = self._heard + self._idle_s - now
        if rest <= 0 and self._waiting:
            self.stop(LAGGING if held else IDLE)
        else:
            self._idle_timer = self._loop.call_later(rest if rest > 0 else self._idle_s, self._check_idle)

    # --- the outbox's wire ----------------------------------------------------------------------

    def write(self, data: bytes) -> bool:
        if self._transport.is_closing():
            return True
        self._transport.write(data)
        return not self._protocol.writing_paused

    def drain(self) -> None:
        self._draining = self._tasks.create_task(self._drained())

    async def _drained(self) -> None:
        try:
            await self._writer.drain()
        except ConnectionError:
            self._outbox.close()
        else:
            self._outbox.resume()

    def overflow(self) -> None:
        log.info("x client lagged too far")
        self.stop(LAGGING)

    def ended(self, subscription: Source) -> bytes:
        return self._channels.ended(subscription)


def _binary_frame(payload: bytes) -> bytes:
    return ws_frame(payload, BINARY)
