"""The JavaScript client in a real browser, bundled as a front end bundles it, in a page of another origin."""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.chromium import Chromium, Tab
from tests.fakes.phoenix import PhoenixServer
from tests.fakes.service import TOKEN
from tests.fakes.web_page import serving
from tests.wire.conftest import Serve

pytestmark = pytest.mark.real

CLIENT = Path(__file__).parents[2] / "clients" / "js"
ALIASES = {"#websocket": "transports/websocket.ts", "claude-bridge-client": "index.ts"}


@pytest.fixture(scope="module")
def bundle() -> bytes:
    """The script of a page, for browsers."""
    esbuild = CLIENT / "node_modules" / ".bin" / "esbuild"
    assert esbuild.exists(), "run `make setup`: the npm packages are missing"
    done = subprocess.run(
        [
            esbuild,
            *("test/page/page.tsx", "--bundle", "--format=esm", "--platform=browser", "--jsx=automatic"),
            *(f"--alias:{name}=./src/{path}" for name, path in ALIASES.items()),
        ],
        cwd=CLIENT,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@pytest.fixture
async def origin(bundle: bytes) -> AsyncIterator[str]:
    """The address of the page, which is its origin."""
    html = (
        '<!doctype html><meta charset="utf-8"><title>a front end</title>'
        '<script type="module" src="/page.js"></script>'
    )
    async with serving(html, {"/page.js": bundle}) as url:
        yield url


class Client(Tab):
    """A page of the front end, from a test's own loop."""

    async def connect(self, how: str, server: PhoenixServer, token: str = TOKEN, **options: Any) -> None:
        await self.until("window.page")
        words = ", ".join(map(json.dumps, (how, server.http, token, options)))
        await self.eval(f"page.connect({words})")


@pytest.fixture
async def tab(chromium: Chromium, origin: str) -> AsyncIterator[Client]:
    """A page that has not connected yet."""
    tab = await Client.open(chromium, origin)
    yield tab
    await tab.close()


@pytest.mark.parametrize("how", ["phoenix", "socketio"])
async def test_a_page_streams_a_reply_and_watches_a_screen(
    tab: Client, origin: str, serve: Serve, how: str
) -> None:
    """Bytes go and come as they are."""
    server = await serve(origins=[origin])
    pane = server.service.panes.add("a")
    await tab.connect(how, server)
    text = await tab.eval('page.ask("words 3")')
    assert text.split() == ["w0", "w1", "w2"]
    assert "".join(await tab.eval("page.told")).strip() == text
    assert await tab.eval("page.session.state.turns.at(-1).text") == text
    assert await tab.eval("page.watch()") > 0
    pane.write(b"\xff\x00")
    assert await tab.until("page.bytes.length === 2 && page.bytes") == [255, 0]
    await tab.eval("page.terminal.input(new Uint8Array([254, 13]))")
    assert pane.typed == b"\xfe\r"
    await tab.eval("page.bridge.close()")


async def test_a_page_goes_on_by_long_poll(tab: Client, origin: str, serve: Serve) -> None:
    """By whatever the library takes in a browser."""
    server = await serve(origins=[origin])
    await tab.connect("phoenix", server, transport="longpoll")
    assert (await tab.eval('page.ask("words 3")')).split() == ["w0", "w1", "w2"]
    await tab.eval("page.bridge.close()")


@pytest.mark.parametrize("how", ["phoenix", "socketio"])
async def test_a_page_is_told_that_its_token_does_not_count(
    tab: Client, origin: str, serve: Serve, how: str
) -> None:
    """A browser says nothing of why a WebSocket was refused: the client has asked."""
    server = await serve(origins=[origin])
    await tab.connect(how, server, "no-such-token")
    assert await tab.eval('page.ask("words 3").catch((error) => error.code)') == "unauthorized"
    assert await tab.eval("page.bridge.connection.status") == "refused"


async def test_the_example_in_react_shows_what_happens_and_leaves_when_it_is_taken_away(
    tab: Client, origin: str, serve: Serve
) -> None:
    """In strict mode, which mounts everything twice."""
    server = await serve(origins=[origin])
    await tab.connect("phoenix", server)
    await tab.eval("page.render()")
    await tab.until('document.querySelector("input")')
    await tab.eval('page.type("words 3")')
    await tab.until('document.querySelector("article p")?.textContent.trim() === "w0 w1 w2"')
    assert await tab.eval('document.querySelector("article h2").textContent') == "words 3"
    assert await tab.eval("page.session.state.status") == "live"
    await tab.eval("page.unmount()")
    assert await tab.until('page.session.state.status === "ended"')
