"""What is read from a request before there is a client: parameters, origin, sub-protocols.

Shared by the transports; the semantics are Phoenix's own.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from aiohttp import hdrs, web

from bridge.config import ServerConfig

TOKEN_PREFIX = "base64url.bearer.phx."  # noqa: S105 - what phoenix.js puts before an authToken
DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


class Malformed(ValueError):
    """The request's query is not UTF-8."""


def query_params(query: str) -> dict[str, str | None]:
    """Parameters by name, the last one winning. A nested one (`a[]=`, `a[b]=`) is None: not a string."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=1000)
    except ValueError as e:  # UnicodeDecodeError among them
        raise Malformed from e
    params: dict[str, str | None] = {}
    for key, value in pairs:
        name, bracket, _ = key.partition("[")
        params[name] = None if bracket else value
    return params


@dataclass(frozen=True, slots=True)
class Subprotocols:
    """What `Sec-WebSocket-Protocol` says: the token of phoenix.js' `authToken`, and the rest."""

    token: str | None
    phoenix: bool
    refused: bool
    """Protocols were asked for of which we speak none."""


def read_subprotocols(headers: Iterable[str]) -> Subprotocols:
    """Several header lines count as one. Two tokens are none, as Phoenix has it."""
    offered = [part.strip() for line in headers for part in line.split(",") if part.strip()]
    tokens = [p for p in offered if p.startswith(TOKEN_PREFIX)]
    rest = offered if len(tokens) > 1 else [p for p in offered if p not in tokens]
    token = _decoded(tokens[0].removeprefix(TOKEN_PREFIX)) if len(tokens) == 1 else None
    return Subprotocols(token, "phoenix" in rest, bool(rest) and "phoenix" not in rest)


def _decoded(text: str) -> str | None:
    """Standard base64 without padding, despite the prefix: it is JavaScript's `btoa`."""
    try:
        return base64.b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None


def undisclosed(request: web.Request, protocol: str | None = None) -> web.Request:
    """The request with only so much in its sub-protocols that aiohttp finds the one it is to choose.

    It would look at the first line alone, and log what it does not know: tokens may be among that.
    """
    offered = request.headers.getall(hdrs.SEC_WEBSOCKET_PROTOCOL, [])
    if not offered or (protocol is not None and len(offered) == 1):
        return request
    headers = request.headers.copy()
    headers.popall(hdrs.SEC_WEBSOCKET_PROTOCOL)
    if protocol is not None:
        headers[hdrs.SEC_WEBSOCKET_PROTOCOL] = protocol
    return request.clone(headers=headers)


@dataclass(frozen=True, slots=True)
class Address:
    """Where the request was accepted: the bridge's own host names and port."""

    hosts: frozenset[str]
    port: int


def own_address(request: web.BaseRequest, server: ServerConfig) -> Address:
    """Where this listener is reached by its own pages; taken from the socket, not from the request."""
    name = request.transport.get_extra_info("sockname") if request.transport else None
    hosts = {server.host, "localhost", "127.0.0.1", "::1"}
    if not isinstance(name, tuple):
        return Address(frozenset(hosts), server.port)
    return Address(frozenset({*hosts, str(name[0])}), int(name[1]))


def origin_allowed(origin: str | None, allowed: Sequence[str], own: Address) -> bool:
    """Whether a browser page of this origin may connect. No origin at all: it is no browser.

    Entries are written as for Phoenix's `check_origin`: scheme, port and host count where they are
    given (`//example.com`, `https://*.example.com`, `http://localhost:3000`); `*` allows everybody.
    """
    if origin is None:
        return True
    if "*" in allowed:
        return True
    try:
        page = urlsplit(origin)
        host, port = page.hostname, page.port or DEFAULT_PORTS.get(page.scheme)
    except ValueError:
        return False
    if not host:
        return False
    if host in own.hosts and port == own.port:
        return True
    return any(_entry_matches(entry, page.scheme, host, port) for entry in allowed)


def _entry_matches(entry: str, scheme: str, host: str, port: int | None) -> bool:
    try:
        wanted = urlsplit(entry if "//" in entry else f"//{entry}")
        wanted_host = wanted.hostname or ""
        wanted_port = wanted.port or DEFAULT_PORTS.get(wanted.scheme)
    except ValueError:
        return False  # an entry that is no origin matches none
    if wanted.scheme and wanted.scheme != scheme:
        return False
    if wanted_port is not None and wanted_port != port:
        return False
    if wanted_host.startswith("*."):
        return host == wanted_host[2:] or host.endswith(wanted_host[1:])
    return host == wanted_host
