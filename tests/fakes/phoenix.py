"""A server that speaks Phoenix in front of the fake service, and a client that says exact frames."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

import aiohttp
from aiohttp import web

from bridge.config import HubConfig, ServerConfig
from bridge.events import Epoch
from bridge.hub import Hub
from bridge.transports.http import make_app, make_runner
from bridge.wire.formats import ENCODERS
from tests.fakes.service import TOKEN, FakeService, FixedClock

PATIENCE_S = 10
"""What a test waits for something that must come; a loaded machine is the reason for its length."""


class PhoenixServer:
    """The fake service behind the real transports, on a port of its own."""

    def __init__(self, **settings: Any) -> None:
        hub = {k: settings.pop(k) for k in list(settings) if k in HubConfig.model_fields}
        self.config = ServerConfig(port=0, **{"shutdown_s": 2, **settings})
        self.hub_config = HubConfig(**hub)
        self.clock = FixedClock()
        self.epoch = Epoch("e1")
        self.port = 0

    async def start(self, port: int = 0) -> None:
        loop = asyncio.get_running_loop()
        self.hub = Hub(ENCODERS, self.hub_config, loop.call_soon, self.epoch)
        self.service = FakeService(self.hub, self.clock)
        self._screens = loop.create_task(self.service.supervisor.run())
        app = make_app(self.service.as_service(), self.config, self.hub_config, self.clock)
        self.runner = make_runner(app, self.config)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", port, reuse_address=True)
        await site.start()
        self.port = self.runner.addresses[0][1]

    async def stop(self) -> None:
        await self.runner.cleanup()
        self._screens.cancel()
        await asyncio.wait({self._screens})

    def unwritten(self) -> list[int]:
        """Bytes that each connection's socket did not take yet."""
        assert self.runner.server is not None
        transports = [connection.transport for connection in self.runner.server.connections]
        return [t.get_write_buffer_size() for t in transports if t is not None]

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def address(self, **params: str) -> str:
        return f"{self.http}/socket/websocket?" + urlencode({"token": TOKEN, "vsn": "2.0.0", **params})

    @asynccontextmanager
    async def client(self, **params: str) -> AsyncIterator[PhoenixClient]:
        async with aiohttp.ClientSession() as session:
            ws = await session.ws_connect(self.address(**params), max_msg_size=0, autoclose=False)
            async with ws:
                yield PhoenixClient(ws)


class PhoenixClient:
    """Says and hears whole frames."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.ws = ws
        self.refs = 1000

    async def say(self, *frame: Any) -> None:
        await self.ws.send_str(json.dumps(list(frame)))

    async def hear(self) -> Any:
        """The next frame that is not about presence: `hear_any` has those, too."""
        while True:
            frame = await self.hear_any()
            event = frame["event"] if isinstance(frame, dict) else frame[3]
            if not str(event).startswith("presence_"):
                return frame

    async def hear_any(self) -> Any:
        message = await self.ws.receive(timeout=PATIENCE_S)
        assert message.type is aiohttp.WSMsgType.TEXT, f"a frame was expected, not {message}"
        return json.loads(message.data)

    async def hear_bytes(self) -> tuple[str, str, str, bytes]:
        """The next frame, which must be a binary push: join_ref, topic, event, data."""
        message = await self.ws.receive(timeout=PATIENCE_S)
        assert message.type is aiohttp.WSMsgType.BINARY, f"a binary frame was expected, not {message}"
        kind, *sizes = message.data[:4]
        assert kind == 0, "a push"
        fields, start = [], 4
        for size in sizes:
            fields.append(message.data[start : start + size].decode())
            start += size
        return (*fields, message.data[start:])

    async def say_bytes(self, join_ref: str, ref: str, topic: str, event: str, data: bytes) -> None:
        fields = [field.encode() for field in (join_ref, ref, topic, event)]
        await self.ws.send_bytes(bytes([0, *map(len, fields)]) + b"".join(fields) + data)

    async def closed(self) -> int:
        """The code of the close that must come next, but for what is about presence."""
        message = await self.ws.receive(timeout=PATIENCE_S)
        while message.type is aiohttp.WSMsgType.TEXT and json.loads(message.data)[3].startswith("presence_"):
            message = await self.ws.receive(timeout=PATIENCE_S)
        assert message.type is aiohttp.WSMsgType.CLOSE, f"a close was expected, not {message}"
        assert not message.extra, "the reason of a close is always empty"
        return int(message.data)

    async def ask(self, *frame: Any) -> Any:
        """Say it, and hear the next frame."""
        await self.say(*frame)
        return await self.hear()

    async def join(self, topic: str, payload: Any = None, ref: Any = "1") -> Any:
        """Join and return the response, which must be an ok."""
        reply = await self.ask(ref, ref, topic, "phx_join", {} if payload is None else payload)
        assert reply[:4] == [ref, ref, topic, "phx_reply"]
        assert reply[4]["status"] == "ok", reply
        return reply[4]["response"]

    async def silence(self) -> None:
        """Nothing else was sent: what comes next is the answer to a heartbeat sent only now."""
        self.refs += 1
        ref = str(self.refs)
        expected = [None, ref, "phoenix", "phx_reply", {"status": "ok", "response": {}}]
        assert await self.ask(None, ref, "phoenix", "heartbeat", {}) == expected
