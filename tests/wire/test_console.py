"""The web console's files as a browser is given them, and what it is told to do with them."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import hdrs

from bridge.transports.console import HEADERS, KINDS, Console
from tests.fakes.phoenix import PhoenixServer
from tests.wire.conftest import Serve

PAGE = b"<!doctype html><title>console</title>"
SCRIPT = b"export const answer = 42\n" * 100
PLAIN = {hdrs.ACCEPT_ENCODING: "identity"}


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """What a build leaves."""
    folder = tmp_path / "console"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_bytes(PAGE)
    (folder / "assets" / "index-B0.js").write_bytes(SCRIPT)
    (folder / "assets" / "index-B0.js.gz").write_bytes(gzip.compress(SCRIPT))
    (tmp_path / "secret").write_text("zebrafinch")
    return folder


@pytest.fixture
async def server(serve: Serve, built: Path) -> PhoenixServer:
    return await serve(console=Console(built))


@pytest.fixture
async def http(server: PhoenixServer) -> AsyncIterator[aiohttp.ClientSession]:
    """Relative to the server, and leaving bodies as they came."""
    async with aiohttp.ClientSession(server.http, auto_decompress=False) as session:
        yield session


@pytest.mark.parametrize(
    ("path", "kind", "cache", "body"),
    [
        ("/", "text/html; charset=utf-8", "no-cache", PAGE),
        (
            "/assets/index-B0.js",
            "text/javascript; charset=utf-8",
            "public, max-age=31536000, immutable",
            SCRIPT,
        ),
    ],
)
async def test_a_file_is_sent_with_its_kind_and_how_long_it_stays_good(
    http: aiohttp.ClientSession, path: str, kind: str, cache: str, body: bytes
) -> None:
    """The page is asked for each time; what has a hash in its name, never again. HEAD says the same."""
    for method in ("GET", "HEAD"):
        async with http.request(method, path, headers=PLAIN) as answer:
            assert (answer.status, answer.headers["Content-Type"]) == (200, kind)
            assert answer.headers["Cache-Control"] == cache
            assert int(answer.headers["Content-Length"]) == len(body)
            assert await answer.read() == (body if method == "GET" else b"")


async def test_a_browser_is_told_to_trust_nothing_else(http: aiohttp.ClientSession) -> None:
    """On each answer, also one without a body."""
    async with http.get("/") as page:
        known = {hdrs.IF_NONE_MATCH: page.headers[hdrs.ETAG]}
    for path, headers in (("/", {}), ("/", known), ("/assets/index-B0.js", {})):
        async with http.get(path, headers=headers) as answer:
            assert dict(answer.headers) | HEADERS == dict(answer.headers)
            policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; ")
    assert "unsafe" not in policy
    assert "*" not in policy


@pytest.mark.parametrize("packed", [True, False])
async def test_what_a_client_has_is_not_sent_again(http: aiohttp.ClientSession, packed: bool) -> None:
    """Nor taken for the other form of it."""
    asked = {hdrs.ACCEPT_ENCODING: "gzip" if packed else "identity"}
    async with http.get("/assets/index-B0.js", headers=asked) as answer:
        tag = answer.headers[hdrs.ETAG]
        assert answer.headers[hdrs.VARY] == "Accept-Encoding"
    for known in (tag, f'"other", W/{tag}', "*"):
        async with http.get("/assets/index-B0.js", headers=asked | {hdrs.IF_NONE_MATCH: known}) as answer:
            assert (answer.status, await answer.read()) == (304, b"")
            assert answer.headers[hdrs.ETAG] == tag
    other = {hdrs.ACCEPT_ENCODING: "identity" if packed else "gzip", hdrs.IF_NONE_MATCH: tag}
    async with http.get("/assets/index-B0.js", headers=other) as answer:
        assert answer.status == 200


@pytest.mark.parametrize(
    ("accepted", "packed"),
    [
        ("gzip, deflate, br", True),
        ("br;q=1.0, GZIP;q=0.5", True),
        ("gzip; q=0.001", True),
        ("gzip;q=0", False),
        ("gzip; q=0.000, br", False),
        ("br", False),
        ("", False),
    ],
)
async def test_it_is_packed_for_who_can_unpack_it(
    http: aiohttp.ClientSession, accepted: str, packed: bool
) -> None:
    """By the build, and not for each request."""
    async with http.get("/assets/index-B0.js", headers={hdrs.ACCEPT_ENCODING: accepted}) as answer:
        body = await answer.read()
        assert (answer.headers.get(hdrs.CONTENT_ENCODING) == "gzip") is packed
        assert (gzip.decompress(body) if packed else body) == SCRIPT


@pytest.mark.parametrize(
    "path",
    [
        *("/index.html", "/assets", "/assets/", "/assets/index-B0.js.gz", "/assets/other.js", "/nothing"),
        *(
            "/assets/../../secret",
            "/../secret",
            "/..%2fsecret",
            "/assets/%2e%2e/%2e%2e/secret",
            "//etc/passwd",
        ),
    ],
)
async def test_no_other_path_leads_anywhere(server: PhoenixServer, path: str) -> None:
    """As it stands in the request: no client's library tidies it up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b"zebrafinch" not in answer


async def test_a_build_below_a_running_bridge_changes_nothing(
    http: aiohttp.ClientSession, built: Path
) -> None:
    """The page would ask for scripts of which the bridge knows nothing."""
    (built / "index.html").write_text("another")
    (built / "assets" / "index-B0.js").unlink()
    for path, body in (("/", PAGE), ("/assets/index-B0.js", SCRIPT)):
        async with http.get(path, headers=PLAIN) as answer:
            assert await answer.read() == body


async def test_where_it_was_not_built_the_page_says_so(serve: Serve, tmp_path: Path) -> None:
    """And how to build it; the rest of the bridge is there."""
    server = await serve(console=Console(tmp_path / "nothing"))
    async with aiohttp.ClientSession(server.http) as session:
        async with session.get("/") as answer:
            said = await answer.text()
            assert (answer.status, answer.content_type) == (503, "text/html")
            assert "make bridge/console/index.html" in said
            assert answer.headers["Cache-Control"] == "no-store"
        async with session.get("/healthz") as answer:
            assert answer.status == 200


async def test_it_can_be_switched_off(serve: Serve) -> None:
    """Then there is nothing at `/`."""
    server = await serve()
    async with aiohttp.ClientSession(server.http) as session, session.get("/") as answer:
        assert answer.status == 404


async def test_it_is_served_only_under_names_of_the_bridge(serve: Serve, built: Path) -> None:
    """Its page could otherwise be read under another's name."""
    server = await serve(console=Console(built))
    evil = {"Host": "evil.example"}
    async with aiohttp.ClientSession(server.http) as session, session.get("/", headers=evil) as answer:
        assert answer.status == 421


def test_every_file_of_the_build_is_of_a_kind_that_is_known() -> None:
    """A browser that is told not to guess runs no script and applies no style of an unknown kind."""
    console = Console()
    if not console.files:
        pytest.skip("the console is not built")
    assert {file.content_type for file in console.files} <= set(KINDS.values())
