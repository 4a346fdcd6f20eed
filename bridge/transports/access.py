"""The access log: one line for each request, and nothing in it that lets anybody in.

A token may come in the query, in headers or in a sub-protocol, a prompt in a body: of all that only the path
is told. An upgrade is told when it is answered, not when the socket is closed weeks later.
"""

from __future__ import annotations

import logging
from typing import Any

import structlog
from aiohttp import web
from aiohttp.abc import AbstractAccessLogger
from aiohttp.http_exceptions import HttpProcessingError

from bridge.auth import Principal

log = structlog.get_logger("bridge.access")
logger = logging.getLogger("bridge.access")

server_logger = logging.getLogger("bridge.http")
"""For aiohttp's own words about requests."""


class _Readable(logging.Filter):
    """aiohttp tells of a request that it cannot read with the line it stumbled over, which may hold a token.
    The access log says that there was one, and its status. Nor is it anybody's trouble here where a client is
    gone before all of its body came."""

    def filter(self, record: logging.LogRecord) -> bool:
        problem = record.exc_info[1] if record.exc_info else None
        return not isinstance(problem, HttpProcessingError | web.RequestPayloadError | ConnectionError)


server_logger.addFilter(_Readable())

PATH_CHARS = 200
"""Of a path; ours are shorter."""
NAME_CHARS = 64
SILENT = ("/healthz", "/healthz/live")
"""Asked every few seconds by whoever watches the bridge: told at `debug`."""

WHO = web.RequestKey("who", str)
"""Where in a request it is noted whose it is."""


def belongs_to(request: web.BaseRequest, who: Principal) -> None:
    """Say whose request it is, as soon as that is known."""
    request[WHO] = who.name


class AccessLog(AbstractAccessLogger):
    """aiohttp calls `log` when a request has been answered whole."""

    @property
    def enabled(self) -> bool:
        return self.logger.isEnabledFor(logging.INFO)

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        if response.status != 101:
            _tell(request, response, bytes=response.body_length, ms=round(time * 1000, 1))


async def upgraded(request: web.Request, response: web.StreamResponse) -> None:
    """For an application's `on_response_prepare`."""
    if response.status == 101:
        _tell(request, response)


def _tell(request: web.BaseRequest, response: web.StreamResponse, **measured: Any) -> None:
    path = request.rel_url.raw_path[:PATH_CHARS]
    say = log.debug if path in SILENT and response.status < 400 else log.info
    who = request.get(WHO, "-")[:NAME_CHARS]
    say("request answered", method=request.method, path=path, status=response.status, who=who, **measured)
