"""What REST reads of a request, and how it answers one: token, origin, query, body; JSON and refusals."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import quote

from aiohttp import hdrs, web

from bridge.auth import Principal
from bridge.commands import Command
from bridge.config import ServerConfig
from bridge.errors import (
    BridgeError,
    InvalidPayload,
    OriginRefused,
    PayloadTooLarge,
    Unauthorized,
    UnsupportedMediaType,
    WireError,
)
from bridge.events import Attachment
from bridge.transports import handshake
from bridge.wire import forms, requests, sse
from bridge.wire.json import dumps, loads
from bridge.wire.operations import Operation, query_values

PREFLIGHT_S = 600
"""How long a browser may keep the answer to a preflight: changed origins count after ten minutes."""

HEADERS = {hdrs.CACHE_CONTROL: "no-store", "X-Content-Type-Options": "nosniff"}

EVENT_STREAM = "text/event-stream"

C = TypeVar("C", bound=Command)


@dataclass(slots=True)
class Call:
    """One request that was let in."""

    request: web.Request
    operation: Operation
    who: Principal
    params: dict[str, str | None]
    headers: dict[str, str]
    """For the answer, whatever it is."""
    token: str | None
    """The token where the query had it."""

    @property
    def name(self) -> str:
        """The session's. Raises `InvalidName`."""
        return requests.check_name(self.request.match_info["name"])

    def query(self, model: type[C]) -> C:
        """The parameters. Raises `InvalidPayload`."""
        return requests.validate(model, query_values(model, self.params))

    @property
    def wants_stream(self) -> bool:
        ranges = ",".join(self.request.headers.getall(hdrs.ACCEPT, [])).lower().split(",")
        return any(each.partition(";")[0].strip() == EVENT_STREAM for each in ranges)

    async def payload(self, server: ServerConfig) -> dict[str, Any]:
        """What a channel's event would carry: the body, and what the path and the query say in its place."""
        operation, request = self.operation, self.request
        if operation.body is None:
            payload = query_values(operation.query, self.params)
        else:
            self.query(operation.query)
            payload = await read_body(request, server, parts=operation.parts)
        for parameter, key in operation.given.items():
            if key in payload:
                raise InvalidPayload(key, "is known from the path")
            payload[key] = request.match_info[parameter]
        return payload


def query_params(request: web.Request) -> dict[str, str | None] | None:
    """None: it is not UTF-8."""
    try:
        return handshake.query_params(request.raw_path.partition("?")[2])
    except handshake.Malformed:
        return None


def for_origin(request: web.Request, server: ServerConfig) -> dict[str, str]:
    """The headers of an answer to a page of this origin. Raises `OriginRefused`."""
    origin = request.headers.get(hdrs.ORIGIN)
    if not handshake.origin_allowed(origin, server.origins, handshake.own_address(request, server)):
        raise OriginRefused
    headers: dict[str, str] = {hdrs.VARY: "Origin"}
    if origin is not None:
        headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
        headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = "Location, Retry-After"
    return headers


def allowed(methods: Mapping[str, Operation]) -> list[str]:
    return [*methods, *(["HEAD"] if "GET" in methods else []), "OPTIONS"]


def options(methods: Mapping[str, Operation], request: web.Request, headers: dict[str, str]) -> web.Response:
    """Which methods there are, for a browser's preflight as well, which carries no token."""
    headers[hdrs.ALLOW] = ", ".join(allowed(methods))
    if hdrs.ORIGIN in request.headers:
        headers |= {
            hdrs.ACCESS_CONTROL_ALLOW_METHODS: headers[hdrs.ALLOW],
            hdrs.ACCESS_CONTROL_ALLOW_HEADERS: "Authorization, Content-Type, Last-Event-ID",
            hdrs.ACCESS_CONTROL_MAX_AGE: str(PREFLIGHT_S),
        }
    return web.Response(status=HTTPStatus.NO_CONTENT, headers=headers)


def cursor(request: web.Request, after: str | None) -> dict[str, Any] | None:
    """The `after` of a join. A browser sends its header with every attempt, the parameter being still that of
    the first. What it was once given by another server is no cursor here, and no error, after which it would
    not come back. Raises `InvalidPayload` for a parameter that is none."""
    if last := request.headers.get("Last-Event-ID"):
        return sse.read_cursor(last)
    if after is None:
        return None
    found = sse.read_cursor(after)
    if found is None:
        raise InvalidPayload("after", "must be the id of an event: epoch:seq")
    return found


async def read_body(request: web.Request, server: ServerConfig, *, parts: bool = False) -> dict[str, Any]:
    """The JSON object of a request's body; nothing at all counts as an empty one. With `parts` a form of
    parts may say the same. Raises `BridgeError`."""
    data = await _read(request, server.max_body_bytes, server.idle_timeout_s)
    if not data:
        return {}
    kind = request.content_type
    if parts and kind == forms.FORM:
        return forms.payload(request.headers[hdrs.CONTENT_TYPE], data)
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise UnsupportedMediaType("Send the body as JSON, with Content-Type: application/json.")
    try:
        value = loads(data)
    except WireError as e:
        raise InvalidPayload("", f"The body is {e}") from None
    if not isinstance(value, dict):
        raise InvalidPayload("", "The body must be an object.")
    return value


async def _read(request: web.Request, limit: int, patience_s: float) -> bytes:
    if request.headers.get(hdrs.CONTENT_ENCODING, "identity").lower() != "identity":
        raise UnsupportedMediaType("The body must not be compressed.")
    if (request.content_length or 0) > limit:
        raise PayloadTooLarge(limit)
    data = bytearray()
    try:
        async with asyncio.timeout(patience_s):
            while chunk := await request.content.readany():
                data += chunk
                if len(data) > limit:
                    raise PayloadTooLarge(limit)
    except TimeoutError:
        raise InvalidPayload("", f"The body did not come within {patience_s:g} seconds.") from None
    except web.RequestPayloadError:
        raise InvalidPayload("", "The body is not framed as HTTP has it.") from None
    return bytes(data)


def answered(
    call: Call, payload: Mapping[str, Any], status: HTTPStatus = HTTPStatus.OK
) -> web.StreamResponse:
    return _json(payload, status, call.headers)


def downloaded(call: Call, file: Attachment, data: bytes) -> web.Response:
    """As a file to be kept: whatever it is, a browser does not show it as a page of the bridge's."""
    plain = re.sub(r"[^\w .-]", "_", file.name, flags=re.ASCII)
    called = f"filename=\"{plain}\"; filename*=UTF-8''{quote(file.name, safe='')}"
    headers = {
        **call.headers,
        hdrs.CONTENT_DISPOSITION: f"attachment; {called}",
        "Content-Security-Policy": "default-src 'none'; sandbox",
    }
    charset = "utf-8" if file.media_type.startswith("text/") else None
    return web.Response(body=data, content_type=file.media_type, charset=charset, headers=headers)


def refused(error: BridgeError, headers: Mapping[str, str]) -> web.Response:
    said = dict(headers)
    if isinstance(error, Unauthorized):
        said[hdrs.WWW_AUTHENTICATE] = "Bearer"
    if "allow" in error.details:
        said[hdrs.ALLOW] = ", ".join(error.details["allow"])
    if (wait := error.details.get("retry_after_s")) is not None:
        said[hdrs.RETRY_AFTER] = str(math.ceil(wait))
    return _json(error.as_payload(), error.http_status, said)


def _json(payload: object, status: int, headers: Mapping[str, str]) -> web.Response:
    return web.Response(status=status, body=dumps(payload), content_type="application/json", headers=headers)
