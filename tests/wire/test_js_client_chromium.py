"""The JavaScript client in a real browser, bundled as a front end bundles it, in a page of another origin."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.fakes.chromium import Chromium, Page
from tests.fakes.phoenix import PhoenixServer
from tests.fakes.service import TOKEN
from tests.wire.conftest import Serve

pytestmark = pytest.mark.real

CLIENT = Path(__file__).parents[2] / "clients" / "js"
SCRIPT = """
import {connect as phoenix} from "./src/index.ts"
import {connect as socketio} from "./src/socketio.ts"

window.connect = (how, url, token, options) => {
  const bridge = (window.bridge = {phoenix, socketio}[how](url, {token, ...options}))
  const session = (window.session = bridge.session("a"))
  window.told = []
  session.on("delta", ({text}) => told.push(text))
  window.bytes = []
}
window.watch = () => {
  window.terminal = bridge.terminal("a")
  terminal.on("output", (output) => bytes.push(...output))
  return new Promise((resolve) => terminal.on("screen", ({cols}) => resolve(cols)))
}
window.loaded = true
"""


@pytest.fixture(scope="module")
def bundle() -> bytes:
    """The script of a page, for browsers."""
    esbuild = CLIENT / "node_modules" / ".bin" / "esbuild"
    assert esbuild.exists(), "run `make setup`: the npm packages are missing"
    done = subprocess.run(
        [
            esbuild,
            "--bundle",
            "--format=esm",
            "--platform=browser",
            "--alias:#websocket=./src/transports/websocket.ts",
        ],
        cwd=CLIENT,
        input=SCRIPT.encode(),
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

    async def page(_: web.Request) -> web.Response:
        return web.Response(text=html, content_type="text/html")

    async def script(_: web.Request) -> web.Response:
        return web.Response(body=bundle, content_type="text/javascript")

    app = web.Application()
    app.router.add_get("/", page)
    app.router.add_get("/page.js", script)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


class Tab:
    """A page of the front end, from a test's own loop."""

    def __init__(self, page: Page) -> None:
        self._page = page

    async def eval(self, expression: str) -> Any:
        return await asyncio.to_thread(self._page.eval, expression)

    async def until(self, expression: str) -> Any:
        return await asyncio.to_thread(self._page.until, expression)

    async def connect(self, how: str, server: PhoenixServer, token: str = TOKEN, **options: Any) -> None:
        await self.until("window.loaded")
        words = ", ".join(map(json.dumps, (how, server.http, token, options)))
        await self.eval(f"(connect({words}), 0)")

    async def close(self) -> None:
        await asyncio.to_thread(self._page.close)


@pytest.fixture
async def tab(chromium: Chromium, origin: str) -> AsyncIterator[Tab]:
    """A page that has not connected yet."""
    tab = Tab(await asyncio.to_thread(chromium.open, origin))
    yield tab
    await tab.close()


@pytest.mark.parametrize("how", ["phoenix", "socketio"])
async def test_a_page_streams_a_reply_and_watches_a_screen(
    tab: Tab, origin: str, serve: Serve, how: str
) -> None:
    """Bytes go and come as they are."""
    server = await serve(origins=[origin])
    pane = server.service.panes.add("a")
    await tab.connect(how, server)
    text = await tab.eval('session.submit("words 3").then((turn) => turn.text())')
    assert text.split() == ["w0", "w1", "w2"]
    assert "".join(await tab.eval("told")).strip() == text
    assert await tab.eval("session.state.turns.at(-1).text") == text
    assert await tab.eval("watch()") > 0
    pane.write(b"\xff\x00")
    assert await tab.until("bytes.length === 2 && bytes") == [255, 0]
    await tab.eval("terminal.input(new Uint8Array([254, 13]))")
    assert pane.typed == b"\xfe\r"
    await tab.eval("(bridge.close(), 0)")


async def test_a_page_goes_on_by_long_poll(tab: Tab, origin: str, serve: Serve) -> None:
    """By `fetch` or XMLHttpRequest, whichever the library takes there."""
    server = await serve(origins=[origin])
    await tab.connect("phoenix", server, transport="longpoll")
    text = await tab.eval('session.submit("words 3").then((turn) => turn.text())')
    assert text.split() == ["w0", "w1", "w2"]
    await tab.eval("(bridge.close(), 0)")


@pytest.mark.parametrize("how", ["phoenix", "socketio"])
async def test_a_page_is_told_that_its_token_does_not_count(
    tab: Tab, origin: str, serve: Serve, how: str
) -> None:
    """A browser says nothing of why a WebSocket was refused: the client has asked."""
    server = await serve(origins=[origin])
    await tab.connect(how, server, "no-such-token")
    assert await tab.eval('session.submit("words 3").catch((error) => error.code)') == "unauthorized"
    assert await tab.eval("bridge.connection.status") == "refused"
