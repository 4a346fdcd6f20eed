"""The HTTP side: what answers at which path.

`make_app` mounts the transports that exist; the others (long poll, REST, the console) get
their paths here when they come. Unknown paths are 404.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus

import orjson
from aiohttp import web

from bridge.clock import Clock
from bridge.config import HubConfig, ServerConfig
from bridge.service import Service
from bridge.transports.phoenix_ws import PhoenixSockets
from bridge.transports.socketio import SocketIoServer


def make_app(service: Service, server: ServerConfig, hub: HubConfig, clock: Clock) -> web.Application:
    """The application, to be run by `make_runner`; its shutdown sends every client away with 1012."""
    app = web.Application()
    sockets = PhoenixSockets(service, server, hub, clock)
    socketio = SocketIoServer(service, server, hub, clock)
    socketio.attach(app)

    async def stop(_: web.Application) -> None:
        async with asyncio.TaskGroup() as group:
            for transport in (sockets, socketio):
                group.create_task(transport.close())

    async def health(request: web.Request) -> web.Response:
        return _health(service, live="live" in request.query or request.path.endswith("/live"))

    app.on_shutdown.append(stop)
    for path in ("/socket/websocket", "/socket/websocket/"):
        app.router.add_route("*", path, sockets.handle)
    app.router.add_get("/healthz", health)
    app.router.add_get("/healthz/live", health)
    return app


def make_runner(app: web.Application, server: ServerConfig) -> web.AppRunner:
    """No access log: its lines would carry the token of the query."""
    return web.AppRunner(app, access_log=None, shutdown_timeout=server.shutdown_s, handle_signals=False)


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
