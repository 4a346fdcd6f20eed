"""What is asked of a request before any transport sees it, and what the log says of it afterwards."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import orjson
import pytest
import structlog
from aiohttp import web

from bridge.auth import Principal
from bridge.config import LogConfig
from bridge.errors import SetupError
from bridge.log import set_up
from bridge.transports.console import Console
from bridge.transports.handshake import Address, host_allowed
from bridge.transports.tls import Certificate
from tests.fakes.keys import minted, write_certificate
from tests.fakes.phoenix import PATIENCE_S, PhoenixClient, PhoenixServer
from tests.fakes.service import TOKEN, WATCH_TOKEN
from tests.wire.conftest import Serve

# --- by which name ---------------------------------------------------------------------------------

HERE = Address(frozenset({"localhost", "127.0.0.1", "::1"}), 4040, loopback=True)
OPEN = Address(frozenset({"localhost", "127.0.0.1", "::1", "0.0.0.0"}), 4040, loopback=False)


@pytest.mark.parametrize(
    ("host", "allowed", "own", "taken"),
    [
        ("localhost:4040", [], HERE, True),
        ("127.0.0.1", [], HERE, True),
        ("LOCALHOST:80", [], HERE, True),
        ("[::1]:4040", [], HERE, True),
        (None, [], HERE, True),
        ("evil.example:4040", [], HERE, False),
        ("localhost.evil.example", [], HERE, False),
        ("127.0.0.1.nip.io", [], HERE, False),
        ("10.0.0.1", [], HERE, False),
        ("", [], HERE, False),
        ("[::1", [], HERE, False),
        ("user@localhost", [], HERE, True),
        ("localhost@evil.example", [], HERE, False),
        ("bridge.example", ["bridge.example"], HERE, True),
        ("a.bridge.example:1", ["*.Bridge.example"], HERE, True),
        ("badbridge.example", ["*.bridge.example"], HERE, False),
        ("evil.example", ["*"], HERE, True),
        ("any.example", [], OPEN, True),
        ("any.example", ["bridge.example"], OPEN, False),
        ("bridge.example", ["bridge.example"], OPEN, True),
        ("10.0.0.1:4040", ["bridge.example"], OPEN, True),
        ("localhost", ["bridge.example"], OPEN, True),
    ],
)
def test_a_bridge_answers_to_its_own_names(
    host: str | None, allowed: list[str], own: Address, taken: bool
) -> None:
    """Loopback's, its address, what is listed; a bridge that others reach has names that it does not know."""
    assert host_allowed(host, allowed, own) is taken


async def test_a_page_that_made_its_name_lead_here_reaches_nothing(serve: Serve) -> None:
    """DNS rebinding: the browser believes to speak with the page's own host, so that no origin is foreign."""
    server = await serve(hosts=["bridge.example"])
    rebound = {"Host": f"evil.example:{server.port}", "Origin": f"http://evil.example:{server.port}"}
    async with aiohttp.ClientSession() as session:
        for path in ("/healthz", "/nothing", server.address().removeprefix(server.http)):
            async with session.get(server.http + path, headers=rebound) as answer:
                assert answer.status == 421
                assert TOKEN not in await answer.text()
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect(server.address(), headers={"Host": "evil.example"})
        assert refused.value.status == 421
        assert server.service.authenticated == 0
        async with session.get(server.http + "/healthz", headers={"Host": "bridge.example"}) as answer:
            assert answer.status == 200


def routes_of(app: web.Application) -> Iterator[tuple[str, str]]:
    """Every method and path that the router knows; a variable part is given some name."""
    for route in app.router.routes():
        assert route.resource is not None
        path = route.resource.canonical
        while "{" in path:
            head, _, rest = path.partition("{")
            path = head + "demo" + rest.partition("}")[2]
        methods = ["GET", "POST", "PUT", "DELETE"] if route.method == "*" else [route.method]
        yield from ((method, path) for method in methods)


OPEN_TO_ALL = {"/healthz", "/healthz/live", "/"}


async def test_without_a_token_nothing_is_reached_but_the_health_and_the_page(
    serve: Serve, tmp_path: Path
) -> None:
    """Over all routes there are; those that come later are among them."""
    (tmp_path / "index.html").write_text("<!doctype html>")
    server = await serve(console=Console(tmp_path))
    headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    headers["Sec-WebSocket-Key"] = "dGhlIHNhbXBsZSBub25jZQ=="
    server.service.failures.set(None)  # each is to be refused for itself
    seen = set()
    async with aiohttp.ClientSession() as session:
        for method, path in set(routes_of(server.runner.app)):
            for given in ("", "?token=wrong", "?vsn=2.0.0&token="):
                async with session.request(method, server.http + path + given, headers=headers) as answer:
                    body = await answer.read()
                    told = orjson.loads(body) if body[:1] == b"{" else {}
                    refused = answer.status in {400, 401, 403, 405} or told.get("status") in {403, 410}
                    assert refused is (path not in OPEN_TO_ALL), (method, path, given, answer.status)
            seen.add(path)
    assert seen > OPEN_TO_ALL
    assert server.service.calls == []


async def test_an_address_that_shows_wrong_tokens_is_let_go_on_with_right_ones(serve: Serve) -> None:
    """Over a WebSocket a refusal is always 403."""
    server = await serve()
    async with aiohttp.ClientSession() as session:
        for _ in range(70):
            async with session.get(server.address(token="wrong")) as answer:
                assert answer.status == 403
    assert server.service.failures.refused == 10


# --- what the log says -----------------------------------------------------------------------------


@pytest.fixture
def lines() -> Iterator[StringIO]:
    """All log lines at the default level, as JSON."""
    handlers, level = logging.getLogger().handlers[:], logging.getLogger().level
    out = StringIO()
    set_up(LogConfig(), out)
    yield out
    logging.getLogger().handlers[:] = handlers
    logging.getLogger().setLevel(level)
    structlog.reset_defaults()


def accesses(lines: StringIO) -> list[dict[str, Any]]:
    said = [orjson.loads(line) for line in lines.getvalue().splitlines()]
    return [line for line in said if line["event"] == "request answered"]


async def test_each_request_is_one_line(lines: StringIO, server: PhoenixServer) -> None:
    """An upgrade as soon as it is answered, with whose it is; a socket that closes says nothing more."""
    async with server.client() as client:
        await client.join("sessions")
        (line,) = accesses(lines)
        assert (line["method"], line["path"], line["status"]) == ("GET", "/socket/websocket", 101)
        assert (line["who"], line["level"], line["logger"]) == ("owner", "info", "bridge.access")
    async with aiohttp.ClientSession() as session:
        await session.get(f"{server.http}/nowhere?prompt=zebrafinch")
        await session.get(server.address(token="zebrafinch"))
        await session.get(server.http + "/healthz")
    missing, refused = accesses(lines)[1:]
    assert (missing["path"], missing["status"], missing["who"]) == ("/nowhere", 404, "-")
    assert missing["bytes"] > 0
    assert missing["ms"] >= 0
    assert (refused["path"], refused["status"], refused["who"]) == ("/socket/websocket", 403, "-")
    assert "zebrafinch" not in lines.getvalue()


async def test_no_token_is_ever_logged_however_it_came(lines: StringIO, server: PhoenixServer) -> None:
    """In the query, in a header, as a sub-protocol; right or wrong; a JWT as well."""
    jwt = minted(sub="zebrafinch")
    wrong = "kingfisher-kingfisher-kingfisher"
    address = f"{server.http}/socket/websocket?vsn=2.0.0"
    async with aiohttp.ClientSession() as session:
        for token in (TOKEN, WATCH_TOKEN, wrong, jwt):
            bearer = base64.b64encode(token.encode()).decode().rstrip("=")
            ways: list[tuple[str, dict[str, str], list[str]]] = [
                (f"{address}&token={quote(token, safe='')}", {}, []),
                (address, {"Authorization": f"Bearer {token}"}, []),
                (address, {"X-Phoenix-AuthToken": token}, []),
                (address, {}, ["phoenix", f"base64url.bearer.phx.{bearer}"]),
                (address, {}, [f"base64url.bearer.phx.{bearer}", token if token == jwt else "other"]),
            ]
            for url, headers, protocols in ways:
                try:
                    ws = await session.ws_connect(url, headers=headers, protocols=protocols)
                    await ws.close()
                except aiohttp.WSServerHandshakeError:
                    pass
                async with session.post(url, headers=headers, data=token):
                    pass
    said = lines.getvalue()
    assert len(accesses(lines)) == 40
    for token in (TOKEN, WATCH_TOKEN, wrong, jwt, jwt.partition(".")[0]):
        assert token not in said
        assert quote(token, safe="") not in said
        assert base64.b64encode(token.encode()).decode().rstrip("=") not in said


@pytest.mark.parametrize(
    "rest",
    [
        " HTTP/1.1\r\nHost: localhost\r\nBad Header\r\n\r\n",
        " HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        " HTTP/9\r\n\r\n",
        "\x01 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "x" * 9000 + " HTTP/1.1\r\nHost: localhost\r\n\r\n",
        " HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer zebrafinch\x00\r\n\r\n",
    ],
)
async def test_a_request_that_cannot_be_read_tells_the_log_nothing_of_it(
    lines: StringIO, server: PhoenixServer, rest: str
) -> None:
    """What could not be read may be a token."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(f"GET /socket/websocket?token=zebrafinch{rest}".encode())
    async with asyncio.timeout(PATIENCE_S):
        assert b" 400 " in await reader.readline()
    writer.close()
    assert accesses(lines)[-1]["status"] == 400
    assert "zebrafinch" not in lines.getvalue()


@pytest.mark.parametrize(
    "head",
    [
        "X-Long: " + "a" * 9000 + "\r\n\r\n",
        "X-" + "a" * 9000 + ": x\r\n\r\n",
        "".join(f"X-{n}: x\r\n" for n in range(200)) + "\r\n",
        "X-Endless: " + "a" * 5_000_000,
        "X-1: x\r\n" * 500_000,
    ],
    ids=["value", "name", "many", "endless", "endlessly many"],
)
async def test_a_head_beyond_the_limits_is_refused(server: PhoenixServer, head: str) -> None:
    """As soon as it goes beyond: nobody waits for its end, and nothing of it is kept."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(f"GET /healthz HTTP/1.1\r\nHost: localhost\r\n{head}".encode())
    async with asyncio.timeout(PATIENCE_S):
        assert b" 400 " in await reader.readline()
        with contextlib.suppress(ConnectionError):  # it is not read to its end
            await reader.read()
    writer.close()


# --- revocation, over a socket ---------------------------------------------------------------------


async def test_a_token_that_is_taken_back_closes_its_sockets(server: PhoenixServer) -> None:
    """With 1001, after which phoenix.js comes again, and is refused. Others stay."""
    async with server.client() as stays, server.client(token=WATCH_TOKEN) as goes:
        await goes.join("sessions")
        server.service.connections.end(Principal("guest", frozenset({"watch"})))
        assert await goes.closed() == 1001
        await stays.silence()


async def test_the_lobby_of_a_limited_token_tells_only_of_its_sessions(serve: Serve) -> None:
    """In the join's reply, in `list`, and in every event."""
    server = await serve()
    server.service.allow("limited-token", Principal("team", frozenset({"admin"}), ("team-*",)))
    server.service.add("team-old")
    async with server.client(token="limited-token") as limited, server.client() as all_seeing:
        assert [s["name"] for s in (await limited.join("sessions"))["sessions"]] == ["team-old"]
        await all_seeing.join("sessions")
        for number, name in enumerate(("other", "team-new")):
            await all_seeing.say("1", str(number + 2), "sessions", "start", {"name": name})
            heard = [await all_seeing.hear() for _ in range(2)]
            assert {frame[3] for frame in heard} == {"phx_reply", "session_changed"}
        told = await limited.hear()
        assert told[:4] == [None, None, "sessions", "session_changed"]
        assert told[4]["session"]["name"] == "team-new"
        await all_seeing.say("1", "9", "sessions", "delete", {"name": "other"})
        await all_seeing.say("1", "9", "sessions", "delete", {"name": "team-new"})
        assert (await limited.hear())[3:] == ["session_deleted", {"name": "team-new"}]
        listed = await limited.ask("1", "5", "sessions", "list", {})
        assert [s["name"] for s in listed[4]["response"]["sessions"]] == ["team-old"]
        await limited.silence()


# --- TLS -------------------------------------------------------------------------------------------


@asynccontextmanager
async def over_tls(folder: Path) -> AsyncIterator[tuple[PhoenixServer, Certificate]]:
    certificate = Certificate(*write_certificate(folder))
    server = PhoenixServer(tls=certificate.context)
    await server.start()
    server.service.add("a")
    try:
        yield server, certificate
    finally:
        await server.stop()


@asynccontextmanager
async def shown(server: PhoenixServer, fingerprint: str) -> AsyncIterator[PhoenixClient]:
    """A client that takes this certificate and no other."""
    pinned = aiohttp.Fingerprint(bytes.fromhex(fingerprint))
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(server.address(), ssl=pinned, autoclose=False) as ws,
    ):
        yield PhoenixClient(ws)


async def test_a_new_certificate_is_shown_to_who_comes_and_cuts_nobody_off(tmp_path: Path) -> None:
    """The old connection goes on, events and all."""
    async with over_tls(tmp_path) as (server, certificate):
        old = certificate.fingerprint
        async with shown(server, old) as before:
            await before.join("session:a")
            write_certificate(tmp_path)
            assert certificate.reload()
            assert certificate.fingerprint != old
            async with shown(server, certificate.fingerprint) as after:
                await after.join("session:a")
                await after.say("1", "2", "session:a", "submit", {"prompt": "words 3"})
                events = [(await before.hear())[3] for _ in range(4)]
                assert events[0] == "turn_started"
            with pytest.raises(aiohttp.ServerFingerprintMismatch):
                async with shown(server, old):
                    pass
            await before.say("1", "3", "session:a", "history", {})
            while (await before.hear())[3] != "phx_reply":
                pass


async def test_a_pair_that_does_not_fit_leaves_the_certificate_there_is(tmp_path: Path) -> None:
    """Renewal may be half done when it is looked at."""
    async with over_tls(tmp_path) as (server, certificate):
        key = (tmp_path / "key.pem").read_bytes()
        write_certificate(tmp_path)
        (tmp_path / "key.pem").write_bytes(key)
        with pytest.raises(SetupError, match=r"server\.tls_cert"):
            certificate.reload()
        async with shown(server, certificate.fingerprint) as client:
            await client.silence()


async def test_nothing_older_than_tls_1_2_and_nothing_plain_is_spoken(tmp_path: Path) -> None:
    """Whatever the client would take."""
    async with over_tls(tmp_path) as (server, _):
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
        client.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="deprecated"):
            client.minimum_version = ssl.TLSVersion.TLSv1
        with pytest.warns(DeprecationWarning, match="deprecated"):
            client.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection("127.0.0.1", server.port, ssl=client)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with asyncio.timeout(PATIENCE_S):
            assert b"HTTP/1.1 200" not in await reader.read()
        writer.close()


@pytest.mark.parametrize("broken", ["cert.pem", "key.pem", "both", "missing", "passphrase"])
def test_files_that_are_no_certificate_are_refused_with_what_to_do(tmp_path: Path, broken: str) -> None:
    """Before the bridge serves; and nobody is asked for a passphrase."""
    cert, key = write_certificate(tmp_path)
    if broken == "both":
        cert, key = key, cert
    elif broken == "missing":
        cert.unlink()
    elif broken == "passphrase":
        from cryptography.hazmat.primitives import serialization as s

        loaded = s.load_pem_private_key(key.read_bytes(), None)
        locked = loaded.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.BestAvailableEncryption(b"x"))
        key.write_bytes(locked)
    else:
        (tmp_path / broken).write_text("nothing")
    with pytest.raises(SetupError) as refused:
        Certificate(cert, key)
    assert "server.tls_key" in refused.value.remedy
