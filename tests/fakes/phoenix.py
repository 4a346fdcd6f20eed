"""A server that speaks Phoenix in front of the fake service, and clients that say exact frames."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

import aiohttp
from aiohttp import web

from bridge.config import HubConfig, ServerConfig
from bridge.events import Epoch
from bridge.hub import Hub
from bridge.transports.console import Console
from bridge.transports.http import make_app, make_runner
from bridge.transports.phoenix_longpoll import PhoenixPolls
from bridge.transports.phoenix_ws import PhoenixSockets
from bridge.wire.formats import ENCODERS
from tests.fakes.service import TOKEN, FakeService, FixedClock

PATIENCE_S = 10
"""What a test waits for something that must come; a loaded machine is the reason for its length."""


class PhoenixServer:
    """The fake service behind the real transports, on a port of its own."""

    def __init__(
        self, tls: ssl.SSLContext | None = None, console: Console | None = None, **settings: Any
    ) -> None:
        self.tls = tls
        self.console = console
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
        service = self.service.as_service()
        app = make_app(service, self.config, self.hub_config, self.clock, self.console)
        handlers = [route.handler for route in app.router.routes()]
        owners = [getattr(handler, "__self__", None) for handler in handlers]
        self.polls = next(owner for owner in owners if isinstance(owner, PhoenixPolls))
        self.sockets = next(owner for owner in owners if isinstance(owner, PhoenixSockets))
        self.runner = make_runner(app, self.config)
        await self.runner.setup()
        site = web.TCPSite(
            self.runner,
            "127.0.0.1",
            port,
            reuse_address=True,
            backlog=1024,
            ssl_context=self.tls,
        )
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
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}"

    def address(self, **params: str) -> str:
        return f"{self.http}/socket/websocket?" + urlencode({"token": TOKEN, "vsn": "2.0.0", **params})

    def poll_address(self, **params: str) -> str:
        return f"{self.http}/socket/longpoll?" + urlencode({"token": TOKEN, "vsn": "2.0.0", **params})

    @asynccontextmanager
    async def client(self, **params: str) -> AsyncIterator[PhoenixClient]:
        async with aiohttp.ClientSession() as session:
            ws = await session.ws_connect(self.address(**params), max_msg_size=0, autoclose=False)
            async with ws:
                yield PhoenixClient(ws)

    @asynccontextmanager
    async def longpoll(self, **params: str) -> AsyncIterator[LongPollClient]:
        """A client that has opened and polls, by long poll."""
        async with polling(self.poll_address(**params)) as client:
            yield client


@asynccontextmanager
async def polling(url: str) -> AsyncIterator[LongPollClient]:
    """A client of this address that has opened and polls."""
    async with aiohttp.ClientSession() as http:
        client = LongPollClient(http, url)
        await client.open()
        loops = [asyncio.create_task(client.keep_polling()), asyncio.create_task(client.keep_posting())]
        try:
            yield client
        finally:
            for task in loops:
                task.cancel()
            await asyncio.wait(loops)


class Speaker:
    """Says and hears whole frames, over whichever transport."""

    refs = 1000

    async def send_text(self, text: str) -> None:
        raise NotImplementedError

    async def send_bytes(self, frame: bytes) -> None:
        raise NotImplementedError

    async def hear_any_text(self) -> str:
        """The text of the next frame."""
        raise NotImplementedError

    async def say(self, *frame: Any) -> None:
        await self.send_text(json.dumps(list(frame)))

    async def say_bytes(self, join_ref: str, ref: str, topic: str, event: str, data: bytes) -> None:
        fields = [field.encode() for field in (join_ref, ref, topic, event)]
        await self.send_bytes(bytes([0, *map(len, fields)]) + b"".join(fields) + data)

    async def hear_text(self) -> str:
        """The text of the next frame that is not about presence."""
        while True:
            text = await self.hear_any_text()
            frame = json.loads(text)
            event = frame["event"] if isinstance(frame, dict) else frame[3]
            if not str(event).startswith("presence_"):
                return text

    async def hear(self) -> Any:
        """The next frame that is not about presence: `hear_any` has those, too."""
        return json.loads(await self.hear_text())

    async def hear_any(self) -> Any:
        return json.loads(await self.hear_any_text())

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


class PhoenixClient(Speaker):
    """Over a WebSocket."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.ws = ws

    async def send_text(self, text: str) -> None:
        await self.ws.send_str(text)

    async def send_bytes(self, frame: bytes) -> None:
        await self.ws.send_bytes(frame)

    async def hear_any_text(self) -> str:
        message = await self.ws.receive(timeout=PATIENCE_S)
        assert message.type is aiohttp.WSMsgType.TEXT, f"a frame was expected, not {message}"
        return str(message.data)

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

    async def closed(self) -> int:
        """The code of the close that must come next, but for what is about presence."""
        message = await self.ws.receive(timeout=PATIENCE_S)
        while message.type is aiohttp.WSMsgType.TEXT and json.loads(message.data)[3].startswith("presence_"):
            message = await self.ws.receive(timeout=PATIENCE_S)
        assert message.type is aiohttp.WSMsgType.CLOSE, f"a close was expected, not {message}"
        assert not message.extra, "the reason of a close is always empty"
        return int(message.data)


NDJSON = {"Content-Type": "application/x-ndjson"}


class LongPollClient(Speaker):
    """Over long poll, as phoenix.js does it: one poll hangs all the while, one batch is sent at a time.

    A test that wants single requests leaves the loops alone and uses `get` and `post`.
    """

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self.http = http
        self.url = url
        self.token: str | None = None
        self._heard: asyncio.Queue[str | int] = asyncio.Queue()
        self._said: asyncio.Queue[str] = asyncio.Queue()

    async def get(self, **headers: str) -> dict[str, Any]:
        """One poll."""
        async with self.http.get(self._address(), headers=headers) as answer:
            assert answer.status == 200
            body: dict[str, Any] = await answer.json()
            return body

    async def post(self, body: str | bytes, headers: dict[str, str] = NDJSON) -> dict[str, Any]:
        """One batch."""
        async with self.http.post(self._address(), data=body, headers=headers) as answer:
            assert answer.status == 200
            said: dict[str, Any] = await answer.json()
            return said

    async def open(self) -> dict[str, Any]:
        answer = await self.get()
        assert (answer["status"], answer["messages"]) == (410, []), answer
        self.token = answer["token"]
        return answer

    async def keep_polling(self) -> None:
        """Until a poll has another status than those that bring something or nothing."""
        while True:
            answer = await self.get()
            if answer["status"] not in (200, 204):
                self._heard.put_nowait(answer["status"])
                return
            for text in answer["messages"]:
                self._heard.put_nowait(text)

    async def keep_posting(self) -> None:
        while True:
            batch = [await self._said.get()]
            while not self._said.empty() and len(batch) < 100:
                batch.append(self._said.get_nowait())
            with contextlib.suppress(aiohttp.ClientError):  # the poll fails as well, and says so
                await self.post("\n".join(batch))

    async def send_text(self, text: str) -> None:
        self._said.put_nowait(text)

    async def send_bytes(self, frame: bytes) -> None:
        self._said.put_nowait(base64.b64encode(frame).decode())

    async def hear_any_text(self) -> str:
        text = await asyncio.wait_for(self._heard.get(), PATIENCE_S)
        assert isinstance(text, str), f"a frame was expected, not the status {text}"
        return text

    async def closed(self) -> int:
        """The status with which the session must end now, but for what is about presence."""
        status = await asyncio.wait_for(self._heard.get(), PATIENCE_S)
        while isinstance(status, str) and json.loads(status)[3].startswith("presence_"):
            status = await asyncio.wait_for(self._heard.get(), PATIENCE_S)
        assert isinstance(status, int), f"an end was expected, not {status}"
        return status

    def _address(self) -> str:
        return self.url if self.token is None else f"{self.url}&{urlencode({'token': self.token})}"
