"""The HTTP side: what answers at which path.

`make_app` mounts the transports that exist, and the web console. Unknown paths are 404.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus

import orjson
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from bridge.clock import Clock
from bridge.config import HubConfig, ServerConfig
from bridge.service import Service
from bridge.transports import access, handshake, metrics
from bridge.transports.console import Console
from bridge.transports.phoenix_longpoll import PhoenixPolls
from bridge.transports.phoenix_ws import PhoenixSockets
from bridge.transports.rest import Rest
from bridge.transports.socketio import SocketIoServer

FAREWELL: web.AppKey[Callable[[], Awaitable[None]]] = web.AppKey("farewell")


class _Runner(web.AppRunner):
    async def cleanup(self) -> None:
        """Clients first, while there are connections: aiohttp drops those between two requests before it
        says anything to anybody, and with them the next poll of who has only just got an answer."""
        if self.server is not None:
            await self.app[FAREWELL]()
        await super().cleanup()


def make_app(
    service: Service,
    server: ServerConfig,
    hub: HubConfig,
    clock: Clock,
    console: Console | None = None,
) -> web.Application:
    """The application, to be run by `make_runner`, which sends every client away at its end: sockets with
    1012, event streams at an end. Without a `console` there is nothing at `/`."""
    app = web.Application(middlewares=[_asked_by_name(server)])
    sockets = PhoenixSockets(service, server, hub, clock)
    polls = PhoenixPolls(service, server, hub, clock)
    rest = Rest(service, server, hub, clock)
    socketio = SocketIoServer(service, server, hub, clock)
    socketio.attach(app)

    async def stop() -> None:
        polls.close()
        async with asyncio.TaskGroup() as group:
            for transport in (sockets, socketio, rest):
                group.create_task(transport.close())

    async def health(request: web.Request) -> web.Response:
        return _health(service, live="live" in request.query or request.path.endswith("/live"))

    app.cleanup_ctx.append(polls.tasks.context)
    app[FAREWELL] = stop
    app.on_response_prepare.append(access.upgraded)
    for path in ("/socket/websocket", "/socket/websocket/"):
        app.router.add_route("*", path, sockets.handle)
    app.router.add_get("/metrics", metrics.handler(service))
    for path in ("/socket/longpoll", "/socket/longpoll/"):
        app.router.add_route("*", path, polls.handle)
    rest.mount(app)
    app.router.add_get("/healthz", health)
    app.router.add_get("/healthz/live", health)
    if console is not None:
        console.mount(app)
    return app


def make_runner(app: web.Application, server: ServerConfig) -> web.AppRunner:
    """With an access log of our own: aiohttp's lines would carry the token of the query. Compressed bodies
    are left as they are, and so refused: a small one may become a very large one."""
    return _Runner(
        app,
        logger=access.server_logger,
        access_log=access.logger,
        access_log_class=access.AccessLog,
        shutdown_timeout=server.shutdown_s,
        handle_signals=False,
        auto_decompress=False,
    )


def _asked_by_name(server: ServerConfig) -> Middleware:
    """Refuses what asks for another host, before any handler sees it (see `handshake.host_allowed`)."""

    # No coroutine of its own: its frame would stay for as long as a socket does.
    @web.middleware
    def check(request: web.Request, handler: Handler) -> Awaitable[web.StreamResponse]:
        host = request.headers.get(hdrs.HOST)
        if handshake.host_allowed(host, server.hosts, handshake.own_address(request, server)):
            return handler(request)
        return _misdirected()

    return check


async def _misdirected() -> web.StreamResponse:
    said = "This bridge does not answer to that name; server.hosts lists those it does.\n"
    return web.Response(status=HTTPStatus.MISDIRECTED_REQUEST, text=said)


def _health(service: Service, *, live: bool) -> web.Response:
    """Live: the loop runs, or there were no answer. Ready: joins find their sessions."""
    ready = service.ready
    body = {
        "status": "ok" if ready else "starting",
        "live": True,
        "ready": ready,
        "version": service.version,
    }
    status = HTTPStatus.OK if ready or live else HTTPStatus.SERVICE_UNAVAILABLE
    headers = {"Cache-Control": "no-store"}
    return web.Response(
        status=status, body=orjson.dumps(body), content_type="application/json", headers=headers
    )
