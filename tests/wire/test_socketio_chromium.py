"""`socket.io-client` in a real browser, in a page of another origin: polls, and from them to a WebSocket."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.chromium import Chromium, Tab
from tests.fakes.phoenix import PhoenixServer
from tests.fakes.service import TOKEN
from tests.fakes.web_page import serving
from tests.wire.conftest import Serve

pytestmark = pytest.mark.real

DIST = Path(__file__).parents[1] / "js" / "node_modules" / "socket.io-client" / "dist"

PAGE = """<!doctype html>
<meta charset="utf-8">
<title>a front end</title>
<script type="module">
import {io} from "/socket.io.esm.min.js"

window.connect = (url, token, transports) => {
  const client = window.client = {life: [], events: [], joined: null}
  const socket = client.socket = io(url, {auth: {token}, transports})
  socket.io.on("open", () => {
    client.life.push(socket.io.engine.transport.name)
    socket.io.engine.once("upgrade", (transport) => client.life.push(transport.name))
  })
  socket.on("connect_error", (e) => client.life.push(e.data?.reason ?? "refused"))
  socket.on("connect", async () => (client.joined = await socket.emitWithAck("join", "session:a", {})))
  socket.on("message", (topic, event, payload) => {
    if (event.startsWith("presence_")) return
    if (payload instanceof ArrayBuffer) payload = {bytes: [...new Uint8Array(payload)]}
    client.events.push([event, payload.text ?? payload.bytes ?? null])
  })
}
window.loaded = true
</script>
"""


@pytest.fixture
async def origin() -> AsyncIterator[str]:
    """The address of the page, which is its origin."""
    script = (DIST / "socket.io.esm.min.js").read_bytes()
    async with serving(PAGE, {"/socket.io.esm.min.js": script}) as url:
        yield url


class Client(Tab):
    """A page of the front end, from a test's own loop."""

    async def connect(self, server: PhoenixServer, *transports: str) -> None:
        await self.until("window.loaded")
        how = ", ".join(map(json.dumps, (server.http, TOKEN, transports)))
        await self.eval(f"(connect({how}), 0)")


@pytest.mark.parametrize("transports", [("polling",), ("polling", "websocket"), ("websocket",)])
async def test_a_listed_page_joins_prompts_and_watches_a_screen(
    chromium: Chromium, origin: str, serve: Serve, transports: tuple[str, ...]
) -> None:
    """Bytes come as ArrayBuffers."""
    server = await serve(origins=[origin])
    pane = server.service.panes.add("a")
    tab = await Client.open(chromium, origin)
    await tab.connect(server, *transports)
    assert (await tab.until("client.joined"))["status"] == "ok"
    assert await tab.until(f"client.life.length === {len(transports)} && client.life") == list(transports)
    said = await tab.eval('client.socket.emitWithAck("push", "session:a", "submit", {prompt: "words 2"})')
    assert said["status"] == "ok"
    await tab.until('client.events.at(-1)?.[0] === "turn_finished"')
    await tab.eval('client.socket.emitWithAck("join", "terminal:a", {})')
    pane.write(b"\xff\x00")
    assert await tab.until('client.events.at(-1)?.[0] === "output" && client.events.at(-1)') == [
        "output",
        [255, 0],
    ]
    typed = 'client.socket.emitWithAck("push", "terminal:a", "input", new Uint8Array([254, 13]))'
    assert (await tab.eval(typed))["status"] == "ok"
    assert pane.typed == b"\xfe\r"
    await tab.close()


@pytest.mark.parametrize("transport", ["polling", "websocket"])
async def test_a_page_that_is_not_listed_gets_nowhere(
    chromium: Chromium, origin: str, server: PhoenixServer, transport: str
) -> None:
    """With a good token."""
    tab = await Client.open(chromium, origin)
    await tab.connect(server, transport)
    assert (await tab.until("client.life.length && client.life"))[0] == "refused"
    assert await tab.eval("client.joined") is None
    await tab.close()
