"""Plays the bridge's side of Phoenix Channels, so that a client can be tested without a bridge.

Each connection runs the next script; a script reads what it expects and sends what it wants, frame by frame.
"""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import WSMsgType, web

Json = dict[str, Any]


@dataclass(frozen=True)
class Pushed:
    """What the client sent, and how to answer it."""

    peer: Peer
    join_ref: str | None
    ref: str
    topic: str
    event: str
    payload: Json

    async def reply(self, response: Json, status: str = "ok") -> None:
        await self.peer.send(
            self.join_ref, self.ref, self.topic, "phx_reply", {"status": status, "response": response}
        )


class Peer:
    """One connection, seen from the server."""

    def __init__(self, ws: web.WebSocketResponse, token: str | None) -> None:
        self.ws = ws
        self.token = token

    async def expect(self, event: str) -> Pushed:
        """The client's next frame, which must be this event."""
        message = await self.ws.receive()
        assert message.type is WSMsgType.TEXT, message
        join_ref, ref, topic, got, payload = orjson.loads(message.data)
        assert got == event, (got, event, payload)
        return Pushed(self, join_ref, ref, topic, got, payload)

    async def send(
        self, join_ref: str | None, ref: str | None, topic: str, event: str, payload: Json
    ) -> None:
        await self.ws.send_str(orjson.dumps([join_ref, ref, topic, event, payload]).decode())

    async def broadcast(self, topic: str, event: str, **payload: Any) -> None:
        await self.send(None, None, topic, event, payload)

    async def close(self, code: int) -> None:
        await self.ws.close(code=code)

    async def until_closed(self) -> None:
        """Wait for the client to go."""
        async for _ in self.ws:
            pass


Script = Callable[[Peer], Awaitable[None]]


def scripted(*scripts: Script) -> web.Application:
    """An application whose nth connection plays the nth script; further ones are answered with HTTP 503.

    What a script raises ends its connection and is kept in `app["failures"]`.
    """
    remaining = list(scripts)
    failures: list[BaseException] = []

    async def socket(request: web.Request) -> web.StreamResponse:
        if not remaining:
            return web.Response(status=503)
        script = remaining.pop(0)
        ws = web.WebSocketResponse(protocols=("phoenix",))
        await ws.prepare(request)
        try:
            await script(Peer(ws, _bearer(request)))
        except AssertionError as e:
            failures.append(e)
        if not ws.closed:
            await ws.close()
        return ws

    app = web.Application()
    app[FAILURES] = failures
    app.router.add_get("/socket/websocket", socket)
    return app


FAILURES = web.AppKey("failures", list[BaseException])


def _bearer(request: web.Request) -> str | None:
    prefix = "base64url.bearer.phx."
    for protocol in request.headers.get("Sec-WebSocket-Protocol", "").split(","):
        if protocol.strip().startswith(prefix):
            encoded = protocol.strip().removeprefix(prefix)
            return base64.b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
    return None
