"""A page of a front end, on an origin of its own: the official client as a browser loads it, and a console.

`window.client` connects, joins and keeps what it is told, for a test to look at.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

PHOENIX = Path(__file__).parents[1] / "js" / "node_modules" / "phoenix" / "priv" / "static" / "phoenix.mjs"

PAGE = """<!doctype html>
<meta charset="utf-8">
<title>a front end</title>
<script type="module">
import {LongPoll, Presence, Socket} from "/phoenix.mjs"

class Client {
  constructor(url, token, topic, options) {
    this.life = []
    this.events = []
    this.present = {}
    this.socket = new Socket(url, {authToken: token, ...options})
    this.socket.onOpen(() => this.life.push(this.socket.transport === LongPoll ? "longpoll" : "websocket"))
    this.socket.onClose(({code}) => this.life.push(code))
    this.channel = this.socket.channel(topic)
    this.channel.onMessage = (event, payload) => {
      if (typeof payload?.seq === "number") this.events.push([event, payload.text ?? null])
      return payload
    }
    const presence = new Presence(this.channel)
    presence.onSync(() => {
      const transports = (key, {metas}) => [key, metas.map((meta) => meta.transport).sort()]
      this.present = Object.fromEntries(presence.list(transports))
    })
    this.socket.connect()
    const joining = this.channel.join()
    joining.receive("ok", (reply) => (this.joined = reply)).receive("error", (e) => (this.refused = e))
  }

  push(event, payload) {
    return new Promise((done) => {
      const push = this.channel.push(event, payload)
      for (const status of ["ok", "error"]) push.receive(status, (response) => done({status, response}))
    })
  }
}

window.connect = (...how) => (window.client = new Client(...how))
window.loaded = true
</script>
"""


@asynccontextmanager
async def web_page() -> AsyncIterator[str]:
    """Its address, which is its origin."""
    async with serving(PAGE, {"/phoenix.mjs": PHOENIX.read_bytes()}) as url:
        yield url


@asynccontextmanager
async def serving(page: str, scripts: Mapping[str, bytes]) -> AsyncIterator[str]:
    """A page and its scripts, by their paths, on an origin of their own: its address."""

    async def html(_: web.Request) -> web.Response:
        return web.Response(text=page, content_type="text/html")

    async def script(request: web.Request) -> web.Response:
        return web.Response(body=scripts[request.path], content_type="text/javascript")

    app = web.Application()
    app.router.add_get("/", html)
    for path in scripts:
        app.router.add_get(path, script)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
