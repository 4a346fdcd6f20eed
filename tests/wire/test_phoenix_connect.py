"""Before there is a socket: mount points, versions, origins, tokens; sections 1 and 2, by their ids."""

from __future__ import annotations

import asyncio
import base64
import logging
import socket
from urllib.parse import quote

import aiohttp
import pytest

from bridge.transports.handshake import Address, origin_allowed, query_params, read_subprotocols
from bridge.wire.phoenix import codec_for
from tests.fakes.phoenix import PATIENCE_S, PhoenixServer
from tests.fakes.service import TOKEN
from tests.wire.conftest import Serve

BEARER = "base64url.bearer.phx." + base64.b64encode(TOKEN.encode()).decode().rstrip("=")
QUERY = "vsn=2.0.0&token=" + quote(TOKEN, safe="")
OWN = Address(frozenset({"localhost", "127.0.0.1"}), 4040)


class Answer:
    """The head of a response, and what came with it."""

    def __init__(self, head: str, rest: bytes) -> None:
        first, *lines = head.split("\r\n")
        self.status = int(first.split()[1])
        self.headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
        self.rest = rest


async def upgrade(
    server: PhoenixServer,
    path: str = f"/socket/websocket?{QUERY}",
    *headers: str,
    method: str = "GET",
    drop: tuple[str, ...] = (),
    then: bytes = b"",
) -> Answer:
    """One upgrade request, byte by byte as given; with `then` sent after a 101 until something comes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    lines = [
        "Host: 127.0.0.1",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
    ]
    lines = [line for line in lines if line.partition(":")[0] not in drop] + list(headers)
    writer.write((f"{method} {path} HTTP/1.1\r\n" + "\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
    async with asyncio.timeout(PATIENCE_S):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().removesuffix("\r\n\r\n")
        rest = b""
        if " 101 " in head.split("\r\n")[0]:
            if then:
                writer.write(then)
                rest = await reader.read(4096)
        else:
            length = head.lower().partition("content-length:")[2].split("\r\n")[0] or "0"
            rest = await reader.readexactly(int(length)) if method != "HEAD" else b""
    writer.close()
    return Answer(head, rest)


HEARTBEAT = b'[null,"9","phoenix","heartbeat",{}]'
MASKED_HEARTBEAT = bytes((0x81, 0x80 | len(HEARTBEAT), 0, 0, 0, 0)) + HEARTBEAT
HEARTBEAT_REPLY = b'[null,"9","phoenix","phx_reply",{"status":"ok","response":{}}]'


async def test_A01_the_socket_is_at_its_path_and_nowhere_else(server: PhoenixServer) -> None:
    """A trailing slash counts as well; more segments and the bare mount are 404."""
    assert (await upgrade(server)).status == 101
    assert (await upgrade(server, f"/socket/websocket/?{QUERY}")).status == 101
    for path in ("/socket", "/socket/websocket/more", "/", "/socket/other"):
        assert (await upgrade(server, f"{path}?{QUERY}")).status == 404


async def test_A02_nothing_is_sent_before_the_clients_first_frame(server: PhoenixServer) -> None:
    """What follows the head of the 101 is the answer to the first frame."""
    answer = await upgrade(server, then=MASKED_HEARTBEAT)
    assert answer.status == 101
    assert answer.headers["upgrade"] == "websocket"
    assert answer.headers["connection"].lower() == "upgrade"
    assert answer.headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert answer.rest == bytes((0x81, len(HEARTBEAT_REPLY))) + HEARTBEAT_REPLY


async def test_A03_compression_is_never_agreed_to(server: PhoenixServer) -> None:
    """Even where the client offers it."""
    answer = await upgrade(
        server, f"/socket/websocket?{QUERY}", "Sec-WebSocket-Extensions: permessage-deflate"
    )
    assert answer.status == 101
    assert "sec-websocket-extensions" not in answer.headers


@pytest.mark.parametrize(
    ("drop", "header", "problem"),
    [
        ("Connection", "X: y", "'connection' header must contain 'upgrade', got []"),
        ("Upgrade", "X: y", "'upgrade' header must contain 'websocket', got []"),
        ("Sec-WebSocket-Key", "X: y", "'sec-websocket-key' header is absent"),
        (
            "Sec-WebSocket-Version",
            "Sec-WebSocket-Version: 12",
            "'sec-websocket-version' header must equal '13', got [\"12\"]",
        ),
    ],
)
async def test_A04_a_malformed_upgrade_is_400_with_the_reason_but_403_wins(
    server: PhoenixServer, drop: str, header: str, problem: str
) -> None:
    """Who is asked before how."""
    answer = await upgrade(server, f"/socket/websocket?{QUERY}", header, drop=(drop,))
    assert (answer.status, answer.rest.decode()) == (400, problem)
    answer = await upgrade(server, "/socket/websocket?vsn=2.0.0&token=wrong", header, drop=(drop,))
    assert (answer.status, answer.rest) == (403, b"")


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        ("Connection: up\x86grade", "'connection' header must contain 'upgrade', got [\"up?grade\"]"),
        ("Sec-WebSocket-Key: d\xd0\x94hlIHNhbXBsZSBub25jZQ==", "'sec-websocket-key' header is no base64"),
    ],
)
async def test_a_malformed_upgrade_that_is_not_ascii_is_400_as_well(
    server: PhoenixServer, header: str, problem: str
) -> None:
    """The reason quotes the header, as far as it can be."""
    answer = await upgrade(server, f"/socket/websocket?{QUERY}", header, drop=(header.partition(":")[0],))
    assert (answer.status, answer.rest.decode()) == (400, problem)


async def test_a_key_that_is_not_ascii_is_refused_over_engine_io_as_well(server: PhoenixServer) -> None:
    """aiohttp stumbles over it."""
    key = "Sec-WebSocket-Key: d\xd0\x94hlIHNhbXBsZSBub25jZQ=="
    answer = await upgrade(server, "/socket.io/?EIO=4&transport=websocket", key, drop=("Sec-WebSocket-Key",))
    assert answer.status == 400


@pytest.mark.parametrize(
    ("path", "protocols"),
    [
        (f"/socket/websocket?{QUERY}", ("phoenix",)),
        (f"/socket/websocket?{QUERY}", ("phoenix", BEARER)),
        ("/socket.io/?EIO=4&transport=websocket", ("any",)),
    ],
)
async def test_other_headers_of_an_upgrade_may_be_in_any_encoding(
    server: PhoenixServer, path: str, protocols: tuple[str, ...]
) -> None:
    """A proxy adds a name in Latin-1, and the client is let in all the same."""
    headers = ["X-Name: Zo\xeb", *(f"Sec-WebSocket-Protocol: {protocol}" for protocol in protocols)]
    assert (await upgrade(server, path, *headers)).status == 101


async def test_what_is_no_http_leaves_no_line_and_no_token(
    server: PhoenixServer, caplog: pytest.LogCaptureFixture
) -> None:
    """aiohttp would log an error that quotes the request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(f"GET /socket/websocket?{QUERY} HTTPS\r\n\r\n".encode())
    assert (await asyncio.wait_for(reader.read(), PATIENCE_S)).startswith(b"HTTP/1.0 400 ")
    writer.close()
    assert caplog.records == []


@pytest.mark.parametrize("method", ["POST", "HEAD", "OPTIONS", "PUT", "DELETE"])
async def test_A05_any_other_method_is_400_and_empty(server: PhoenixServer, method: str) -> None:
    """Nobody is asked for a token then."""
    answer = await upgrade(server, method=method)
    assert (answer.status, answer.rest) == (400, b"")
    assert server.service.authenticated == 0


@pytest.mark.parametrize("query", ["vsn=2.0.0", "vsn=2.0.0&token=wrong", "vsn=2.0.0&token=", "token[]=x"])
async def test_A06_a_wrong_or_missing_token_is_403_before_any_upgrade(
    server: PhoenixServer, query: str
) -> None:
    """Empty body."""
    answer = await upgrade(server, f"/socket/websocket?{query}")
    assert (answer.status, answer.rest) == (403, b"")


@pytest.mark.parametrize("path", ["websocket", "longpoll"])
async def test_A08_a_bug_while_it_is_asked_who_connects_is_a_500(
    server: PhoenixServer, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """And no socket, nor a session."""

    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(server.service, "authenticate", broken)
    assert (await upgrade(server, f"/socket/{path}?{QUERY}")).status == 500


async def test_A09_origin_and_version_are_refused_before_the_token_is_looked_at(
    server: PhoenixServer,
) -> None:
    """And a query that is not UTF-8 before everything."""
    bad_origin = await upgrade(server, f"/socket/websocket?{QUERY}", "Origin: http://elsewhere.example")
    bad_version = await upgrade(server, "/socket/websocket?vsn=9.0.0&token=x")
    assert (bad_origin.status, bad_version.status, server.service.authenticated) == (403, 403, 0)
    assert (await upgrade(server, f"/socket/websocket?{QUERY}&bad=%ff")).status == 400
    assert (await upgrade(server, f"/socket/websocket?{QUERY}&odd=%zz")).status == 101


async def test_A10_the_last_of_several_parameters_counts(server: PhoenixServer) -> None:
    """For the version as for the token."""
    assert (await upgrade(server, f"/socket/websocket?token=wrong&vsn=1.0.0&{QUERY}")).status == 101
    assert (await upgrade(server, f"/socket/websocket?{QUERY}&token=wrong")).status == 403
    assert (await upgrade(server, f"/socket/websocket?{QUERY}&vsn=7")).status == 403


def test_A10_parameters_are_read_as_phoenix_reads_them() -> None:
    """A plus is a space, a nested name is no string."""
    assert query_params("a=1&a=2&b=x+y&c&d[]=1&e[f]=2") == {
        "a": "2",
        "b": "x y",
        "c": "",
        "d": None,
        "e": None,
    }


def test_A11_no_origin_passes_and_one_without_a_host_does_not() -> None:
    """It is browsers that send one."""
    assert origin_allowed(None, [], OWN)
    for origin in ("", "null", "http://", "nonsense", "http://[", "http://h:x"):
        assert not origin_allowed(origin, [], OWN), origin


def test_A12_the_bridges_own_pages_pass_by_host_and_port() -> None:
    """Another port of the same machine is another site."""
    assert origin_allowed("http://localhost:4040", [], OWN)
    assert origin_allowed("http://127.0.0.1:4040", [], OWN)
    assert not origin_allowed("http://localhost:9999", [], OWN)
    assert not origin_allowed("http://elsewhere.example:4040", [], OWN)


@pytest.mark.parametrize(
    ("entry", "passes", "refused"),
    [
        ("//example.com", ["http://example.com", "https://example.com:99"], ["http://a.example.com"]),
        ("example.com", ["https://example.com"], ["https://example.org"]),
        (
            "https://*.foo.com",
            ["https://a.b.foo.com", "https://foo.com"],
            ["http://a.foo.com", "https://barfoo.com"],
        ),
        ("http://p.com:81", ["http://p.com:81"], ["http://p.com", "http://p.com:80"]),
        ("http://p.com", ["http://p.com", "http://p.com:80"], ["http://p.com:81", "https://p.com"]),
        ("*", ["http://anything"], []),
    ],
)
def test_A13_entries_match_what_they_name(entry: str, passes: list[str], refused: list[str]) -> None:
    """Scheme, port and host where given, `*.` for all below and the name itself."""
    assert [o for o in passes if not origin_allowed(o, [entry], OWN)] == []
    assert [o for o in refused if origin_allowed(o, [entry], OWN)] == []


async def test_A14_a_foreign_origin_is_403_and_empty(serve: Serve) -> None:
    """The bridge's own and listed ones pass."""
    server = await serve(origins=["https://front.example"])
    path = f"/socket/websocket?{QUERY}"
    answer = await upgrade(server, path, "Origin: http://elsewhere.example")
    assert (answer.status, answer.rest) == (403, b"")
    assert (await upgrade(server, path, "Origin: https://front.example")).status == 101
    assert (await upgrade(server, path, f"Origin: http://localhost:{server.port}")).status == 101


async def test_A16_an_auth_token_is_taken_and_phoenix_answered(server: PhoenixServer) -> None:
    """Without the answer the client fails and tries for ever."""
    path = "/socket/websocket?vsn=2.0.0"
    answer = await upgrade(server, path, f"Sec-WebSocket-Protocol: phoenix, {BEARER}")
    assert answer.status == 101
    assert answer.headers["sec-websocket-protocol"] == "phoenix"


async def test_A17_the_token_is_standard_base64_without_padding(server: PhoenixServer) -> None:
    """This one has a '+'; the other alphabet is refused."""
    assert "+" in BEARER
    path = "/socket/websocket?vsn=2.0.0"
    other = BEARER.replace("+", "-")
    assert (await upgrade(server, path, f"Sec-WebSocket-Protocol: phoenix, {other}")).status == 403
    assert read_subprotocols([f"phoenix, {BEARER}=="]).token == TOKEN
    assert read_subprotocols(["phoenix, base64url.bearer.phx.Pz8/"]).token == "???"


async def test_A18_sub_protocols_in_all_their_forms(
    server: PhoenixServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Order and lines do not matter, two tokens are none, and none of them is ever logged."""
    caplog.set_level(logging.DEBUG)
    bare, full = "/socket/websocket?vsn=2.0.0", f"/socket/websocket?{QUERY}"

    async def tried(path: str, *lines: str) -> tuple[int, str | None]:
        answer = await upgrade(server, path, *(f"Sec-WebSocket-Protocol: {line}" for line in lines))
        return answer.status, answer.headers.get("sec-websocket-protocol")

    assert await tried(bare, f"{BEARER}, phoenix") == (101, "phoenix")
    assert await tried(bare, BEARER, "phoenix") == (101, "phoenix")
    assert await tried(bare, BEARER) == (101, None)
    assert await tried(bare, f"phoenix, {BEARER}, {BEARER}") == (403, None)
    assert await tried(full, f"phoenix, {BEARER}, {BEARER}") == (101, "phoenix")
    assert await tried(full, "other") == (403, None)
    assert await tried(full) == (101, None)
    assert BEARER not in caplog.text


def test_B01_no_version_means_the_first() -> None:
    """A client that names none speaks V1."""
    codec = codec_for(None)
    assert codec is not None
    assert codec.format == "phoenix-v1"


@pytest.mark.parametrize("vsn", ["1.0.0", "1.0.7", "2.0.0", "2.0.9", "2.0.0+b1"])
def test_B02_a_version_is_matched_as_a_semantic_one(vsn: str) -> None:
    """`~> 1.0.0` and `~> 2.0.0`."""
    codec = codec_for(vsn)
    assert codec is not None
    assert codec.format == f"phoenix-v{vsn[0]}"


@pytest.mark.parametrize(
    "vsn", ["1.1.0", "2.1.0", "3.0.0", "0.9.0", "2.0.0-rc.1", "2", "2.0", "abc", "", "02.0.0"]
)
async def test_B02_B03_other_versions_are_refused(server: PhoenixServer, vsn: str) -> None:
    """403, as is a nested parameter."""
    assert codec_for(vsn) is None
    token = quote(TOKEN, safe="")
    assert (await upgrade(server, f"/socket/websocket?token={token}&vsn={quote(vsn)}")).status == 403
    assert (await upgrade(server, f"/socket/websocket?{QUERY}&vsn[]=2.0.0")).status == 403


async def test_Q02_the_head_of_the_upgrade_comes_in_one_write(server: PhoenixServer) -> None:
    """Slipstream's client reads status line and headers together."""
    loop = asyncio.get_running_loop()
    with socket.create_connection(("127.0.0.1", server.port)) as raw:
        raw.setblocking(False)
        await loop.sock_sendall(
            raw,
            (
                f"GET /socket/websocket?{QUERY} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
                "Upgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                "Sec-WebSocket-Version: 13\r\n\r\n"
            ).encode(),
        )
        first = await loop.sock_recv(raw, 65536)
    assert first.startswith(b"HTTP/1.1 101")
    assert first.endswith(b"\r\n\r\n")


async def test_connections_do_not_wait_for_full_packets(server: PhoenixServer) -> None:
    """TCP_NODELAY is on; aiohttp sets it, and a test holds it to that."""
    async with server.client() as client:
        await client.silence()
        assert server.runner.server is not None
        transports = [connection.transport for connection in server.runner.server.connections]
        options = [
            t.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for t in transports
        ]
    assert options
    assert all(options)


async def test_health_tells_live_from_ready(server: PhoenixServer) -> None:
    """503 while joins would not find their sessions, 200 for who asks only whether it runs."""
    async with aiohttp.ClientSession(server.http) as http:
        for path, ready, status in (
            ("/healthz", True, 200),
            ("/healthz", False, 503),
            ("/healthz?live", False, 200),
            ("/healthz/live", False, 200),
        ):
            server.service.ready = ready
            async with http.get(path) as answer:
                assert answer.status == status
                assert await answer.json() == {
                    "status": "ok" if ready else "starting",
                    "live": True,
                    "ready": ready,
                    "version": "0.0.test",
                }
        async with http.get("/nothing/here") as answer:
            assert answer.status == 404
