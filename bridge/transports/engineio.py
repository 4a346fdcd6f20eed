"""engine.io: the requests of its sessions, over HTTP and as WebSockets.

python-engineio answers them: versions, transports, origins, sessions' ids. What one session is is ours
(`engineio_session`, which says why). Of the library (pinned by the lock; the tests of this transport are the
tests of it) this relies on: what `AsyncServer` asks of the objects in `sockets` (the public members of
`EngineSocket`), on `_handle_connect` making them, on `_ok`, and on answers of theirs that are no list being
made into responses, or passed on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import engineio  # type: ignore[import-untyped]
import orjson
from aiohttp import hdrs, web

from bridge.config import ServerConfig
from bridge.transports import engineio_session as session
from bridge.transports import handshake
from bridge.transports.engineio_session import EngineSocket
from bridge.transports.tasks import Tasks
from bridge.wire import socketio as wire

HELD_SHARE = 8
"""A client that leaves this part of its outbox's bound unread, in replies alone, is read no further."""

SILENT = logging.getLogger("bridge.transports.engineio.library")
"""For the libraries, whose lines hold what clients sent; what is worth a line is told here."""
SILENT.setLevel(logging.CRITICAL + 1)


Taken = Callable[[EngineSocket, str | bytes], Awaitable[None]]
"""Takes a message in. Raises `WireError`."""


class EngineServer(engineio.AsyncServer):  # type: ignore[misc]
    """All sessions of one listener."""

    def __init__(self, config: ServerConfig, outbox_bytes: int, tasks: Tasks, message: Taken) -> None:
        super().__init__(
            async_mode="aiohttp",
            ping_interval=session.PING_INTERVAL_S,
            ping_timeout=session.PING_TIMEOUT_S,
            max_http_buffer_size=config.max_frame_bytes,
            http_compression=False,
            cookie=None,
            cors_allowed_origins=lambda origin, environ: self._allowed(environ["aiohttp.request"]),
            logger=SILENT,
            monitor_clients=False,  # each has a timer of its own
            async_handlers=False,
        )
        self.tasks = tasks
        self._message = message
        self.max_bytes = config.max_frame_bytes
        self.held_limit = outbox_bytes // HELD_SHARE
        self._config = config
        self._emptied: asyncio.Future[None] | None = None

    async def handle_request(self, request: web.Request) -> web.StreamResponse:
        if not self._allowed(request):
            return web.Response(status=HTTPStatus.FORBIDDEN)
        if self._emptied is not None and not self._still_polls(request):
            return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE)
        if "j" in request.query:  # JSONP: a script that any page can include
            return web.Response(status=HTTPStatus.BAD_REQUEST)
        response: web.StreamResponse = await super().handle_request(request)
        return response

    def _still_polls(self, request: web.Request) -> bool:
        """A session's last poll, which is answered with what waits for it and with its end."""
        return request.method == hdrs.METH_GET and request.query.get("sid") in self.sockets

    def _allowed(self, request: web.Request) -> bool:
        origin = request.headers.get(hdrs.ORIGIN)
        own = handshake.own_address(request, self._config)
        return handshake.origin_allowed(origin, self._config.origins, own)

    async def _handle_connect(
        self, environ: dict[str, Any], transport: str, jsonp_index: int | None = None
    ) -> Any:
        """A new session; what is different from python-engineio's is whose class it is of."""
        sid: str = self.generate_id()
        peer = handshake.peer_of(environ["aiohttp.request"])
        socket = self.sockets[sid] = EngineSocket(self, sid, peer)
        said = {
            "sid": sid,
            "upgrades": [] if transport == "websocket" else ["websocket"],
            "pingInterval": round(session.PING_INTERVAL_S * 1000),
            "pingTimeout": round(session.PING_TIMEOUT_S * 1000),
            "maxPayload": self.max_bytes,
        }
        socket.put(wire.engine_frame("0" + orjson.dumps(said).decode()))
        await self.handlers["connect"](sid, {})
        if transport == "polling":
            socket.connected = True
            return self._ok(await socket.poll())
        request: web.Request = environ["aiohttp.request"]
        environ.clear()  # the caller keeps it for as long as the WebSocket lives
        try:
            return await socket.upgrade(request)
        finally:
            socket.stop(session.IDLE, linger_s=0)

    async def message(self, socket: EngineSocket, data: str | bytes) -> None:
        await self._message(socket, data)

    async def ended(self, socket: EngineSocket) -> None:
        """Forget a session."""
        self.sockets.pop(socket.sid, None)
        await self.handlers["disconnect"](socket.sid, self.reason.TRANSPORT_CLOSE)
        if self._emptied is not None and not self.sockets and not self._emptied.done():
            self._emptied.set_result(None)

    async def close(self) -> None:
        """Send everybody away with 1012, to come back when the bridge does; new ones are refused.

        Returns when all have gone, or after `shutdown_s` without those that are still there.
        """
        self._emptied = asyncio.get_running_loop().create_future()
        for socket in list(self.sockets.values()):
            socket.stop(session.RESTARTING, linger_s=session.BETWEEN_S)
        if self.sockets:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._emptied, self._config.shutdown_s)
        for socket in list(self.sockets.values()):
            socket.abort()
