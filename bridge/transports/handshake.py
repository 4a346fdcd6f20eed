"""What is read from a request before there is a client: parameters, origin, sub-protocols, who it is.

Shared by the transports; the semantics are Phoenix's own.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from aiohttp import hdrs, web
from multidict import CIMultiDict

from bridge.auth import Principal
from bridge.config import ServerConfig, is_loopback
from bridge.errors import RateLimited, Unauthorized
from bridge.service import Service
from bridge.transports import access
from bridge.wire.phoenix import Codec, codec_for

TOKEN_PREFIX = "base64url.bearer.phx."  # noqa: S105 - what phoenix.js puts before an authToken
POLL_PREFIX = "lp."
"""How the tokens of long polls begin: they come as `token`, as the credential of a client does."""
DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


class Malformed(ValueError):
    """The request's query is not UTF-8."""


def query_params(query: str) -> dict[str, str | None]:
    """Parameters by name, the last one winning. A nested one (`a[]=`, `a[b]=`) is None: not a string."""
    params: dict[str, str | None] = {}
    for key, value in _pairs(query):
        name, bracket, _ = key.partition("[")
        params[name] = None if bracket else value
    return params


def query_tokens(query: str) -> tuple[str | None, str | None]:
    """The credential and the poll token of a query in which both are called `token`: of each the last."""
    credential = polling = None
    for key, value in _pairs(query):
        if key == "token":
            if value.startswith(POLL_PREFIX):
                polling = value
            else:
                credential = value
    return credential, polling


def _pairs(query: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=1000)
    except ValueError as e:  # UnicodeDecodeError among them
        raise Malformed from e


@dataclass(frozen=True, slots=True)
class Admission:
    """What a request was found to be entitled to."""

    who: Principal
    codec: Codec


def admit(
    service: Service, request: web.Request, params: dict[str, str | None], token: str | None
) -> Admission | None:
    """Who speaks which version; None where either is refused, the version first, as Phoenix does."""
    vsn = params["vsn"] or "" if "vsn" in params else None  # a nested `vsn[]` is no version
    codec = codec_for(vsn)
    if codec is None:
        return None
    try:
        who = service.authenticate(token, peer_of(request))
    except (Unauthorized, RateLimited):
        return None
    access.belongs_to(request, who)
    return Admission(who, codec)


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


def upgrade_problem(request: web.Request) -> str | None:
    """Why this is no WebSocket upgrade, in Phoenix's words; None where it is one."""
    headers = request.headers

    def tokens(name: str) -> list[str]:
        return [p.strip().lower() for line in headers.getall(name, []) for p in line.split(",")]

    connection, upgrade = tokens(hdrs.CONNECTION), tokens(hdrs.UPGRADE)
    if "upgrade" not in connection:
        return f"'connection' header must contain 'upgrade', got {_listed(connection)}"
    if "websocket" not in upgrade:
        return f"'upgrade' header must contain 'websocket', got {_listed(upgrade)}"
    if hdrs.SEC_WEBSOCKET_KEY not in headers:
        return "'sec-websocket-key' header is absent"
    if not headers[hdrs.SEC_WEBSOCKET_KEY].isascii():  # of what is no base64 aiohttp minds all but this
        return "'sec-websocket-key' header is no base64"
    version = headers.getall(hdrs.SEC_WEBSOCKET_VERSION, [])
    if version != ["13"]:
        return f"'sec-websocket-version' header must equal '13', got {_listed(version)}"
    return None


def _listed(values: list[str]) -> str:
    return "[" + ", ".join(f'"{v}"' for v in values) + "]"


def undisclosed(request: web.Request, protocol: str | None = None) -> web.Request:
    """The request with only so much in its sub-protocols that aiohttp finds the one it is to choose.

    It would look at the first line alone, and log what it does not know: tokens may be among that. Nor does
    it stand headers that are no UTF-8: where there are any, they are made some.
    """
    offered = request.headers.getall(hdrs.SEC_WEBSOCKET_PROTOCOL, [])
    plain = all(value.isascii() for value in request.headers.values())
    if plain and (not offered or (protocol is not None and len(offered) == 1)):
        return request
    headers = CIMultiDict(
        (name, value.encode(errors="replace").decode())
        for name, value in request.headers.items()
        if name.lower() != hdrs.SEC_WEBSOCKET_PROTOCOL.lower()
    )
    if offered and protocol is not None:
        headers[hdrs.SEC_WEBSOCKET_PROTOCOL] = protocol
    return request.clone(headers=headers)


@dataclass(frozen=True, slots=True)
class Address:
    """Where the request was accepted: the bridge's own host names and port."""

    hosts: frozenset[str]
    port: int
    loopback: bool = True
    """Only this machine reaches it."""


def own_address(request: web.BaseRequest, server: ServerConfig) -> Address:
    """Where this listener is reached by its own pages; taken from the socket, not from the request."""
    name = request.transport.get_extra_info("sockname") if request.transport else None
    hosts = {server.host.lower(), "localhost", "127.0.0.1", "::1"}
    loopback = is_loopback(server.host)
    if not isinstance(name, tuple):
        return Address(frozenset(hosts), server.port, loopback)
    return Address(frozenset({*hosts, str(name[0])}), int(name[1]), loopback)


def peer_of(request: web.BaseRequest) -> str:
    """The address that failed authentications are counted for."""
    return request.remote or ""


def bearer_of(request: web.BaseRequest) -> str | None:
    """The token of the `Authorization` header; two of them are none."""
    lines = request.headers.getall(hdrs.AUTHORIZATION, [])
    scheme, _, token = lines[0].partition(" ") if len(lines) == 1 else ("", "", "")
    return token.strip() or None if scheme.lower() == "bearer" else None


def host_allowed(host: str | None, allowed: Sequence[str], own: Address) -> bool:
    """Whether the bridge is asked by a name of its own. No `Host` at all: it is no browser.

    A page may make its own name lead to 127.0.0.1, but the browser then still says that name. A listener that
    others reach has names that nobody told it; it takes any as long as none are listed. An address as it
    stands is no name that somebody could have made lead here.
    """
    if host is None or "*" in allowed:
        return True
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if not own.loopback and (not allowed or _is_address(name)):
        return True
    return name in own.hosts or any(_host_matches(entry.lower(), name) for entry in allowed)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def page_allowed(request: web.BaseRequest, server: ServerConfig) -> bool:
    """Whether the page that a request comes from may connect."""
    return origin_allowed(request.headers.get(hdrs.ORIGIN), server.origins, own_address(request, server))


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
    return _host_matches(wanted_host, host)


def _host_matches(entry: str, host: str) -> bool:
    if entry.startswith("*."):
        return host == entry[2:] or host.endswith(entry[1:])
    return host == entry
