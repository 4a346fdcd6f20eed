"""The HTTP side: what answers at which path.

`make_app` mounts the transports that exist; the others (long poll, Socket.IO, REST, the console) get
their paths here when they come. Unknown paths are 404.
"""

from __future__ import annotations

import logging
from http import HTTPStatus

import orjson
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from bridge.clock import Clock
from bridge.config import HubConfig, ServerConfig
from bridge.service import Service
from bridge.transports.phoenix_ws import PhoenixSockets


def make_app(service: Service, server: ServerConfig, hub: HubConfig, clock: Clock) -> web.Application:
    """The application, to be run by `make_runner`; its shutdown sends every client away with 1012."""
    app = web.Application()
    sockets = PhoenixSockets(service, server, hub, clock)

    async def stop(_: web.Application) -> None:
        await sockets.close()

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
    return web.AppRunner(
        app, access_log=None, logger=_log, shutdown_timeout=server.shutdown_s, handle_signals=False
    )


def _unsaid(record: logging.LogRecord) -> bool:
    """Keep what was sent out of the log where it was no HTTP.

    aiohttp answers that with 400, and logs an error whose traceback quotes the request: anybody could fill
    the log, and tokens may stand in the line that is quoted.
    """
    error = record.exc_info[1] if record.exc_info else None
    if not isinstance(error, HttpProcessingError):
        return True
    record.msg, record.args = "x malformed request", ()
    record.exc_info = record.exc_text = None
    record.levelno, record.levelname = logging.DEBUG, "DEBUG"
    return _log.isEnabledFor(logging.DEBUG)


_log = logging.getLogger(__name__)
_log.addFilter(_unsaid)


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
