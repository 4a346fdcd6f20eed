"""Clients of Socket.IO: such as say exact packets, over a WebSocket and over polls, and the official one."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.fakes.phoenix import PATIENCE_S, PhoenixServer
from tests.fakes.scenario import JsClient
from tests.fakes.service import TOKEN

SCENARIO = Path(__file__).parents[1] / "js" / "socketio.mjs"


def address(server: PhoenixServer, **params: str) -> str:
    query = "&".join(f"{key}={value}" for key, value in {"EIO": "4", **params}.items())
    return f"{server.http}/socket.io/?{query}"


class RawClient:
    """Says and hears engine.io packets; what is above them is for both transports alike."""

    sid = ""

    def __init__(self) -> None:
        self.acks = 0

    async def say(self, *packets: str | bytes) -> None:
        raise NotImplementedError

    async def packet(self) -> str | bytes:
        """The next packet, whatever it is."""
        raise NotImplementedError

    async def hear(self, *, presence: bool = False) -> Any:
        """The next packet of Socket.IO, decoded: its type and id as text, and its data; with a place for
        bytes filled by those. Of presence only where that is asked for."""
        while True:
            packet = await self.packet()
            assert isinstance(packet, str), f"text was expected, not {packet!r}"
            if packet == "2":
                await self.say("3")
                continue
            assert packet[0] == "4", packet
            head, data = _parted(packet[1:])
            if head == "51-":
                place = data.index({"_placeholder": True, "num": 0})
                data[place] = await self.packet()
            if presence or not (head == "2" and str(data[2]).startswith("presence_")):
                return head, data

    async def connect(self, auth: Any = None) -> Any:
        """Enter the namespace; what was answered."""
        await self.say("40" + json.dumps({"token": TOKEN} if auth is None else auth))
        return await self.hear()

    async def emit(self, *data: Any, ack: bool = True) -> str:
        """An event, with an ack asked for; the head that its answer will have."""
        self.acks += ack
        number = str(self.acks) if ack else ""
        await self.say(f"42{number}" + json.dumps(data))
        return f"3{number}"

    async def ask(self, *data: Any) -> Any:
        """Emit it, and what the ack says, which must come next."""
        wanted = await self.emit(*data)
        head, said = await self.hear()
        assert head == wanted, (head, said)
        assert len(said) == 1
        return said[0]

    async def join(self, topic: str, payload: Any = None) -> Any:
        """Join and return the response, which must be an ok."""
        said = await self.ask("join", topic, {} if payload is None else payload)
        assert said["status"] == "ok", said
        return said["response"]

    async def message(self) -> Any:
        """The next message: topic, event and payload."""
        head, (name, *said) = await self.hear()
        assert head in ("2", "51-"), (head, name, said)
        assert name == "message"
        return tuple(said)

    async def silence(self) -> None:
        """Nothing else was sent: what comes next is the answer to what is asked only now."""
        said = await self.ask("leave", "nothing:at-all")
        assert said == {"status": "ok", "response": {}}


class WebSocketClient(RawClient):
    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        super().__init__()
        self.ws = ws

    async def say(self, *packets: str | bytes) -> None:
        for packet in packets:
            await (self.ws.send_str(packet) if isinstance(packet, str) else self.ws.send_bytes(packet))

    async def packet(self) -> str | bytes:
        message = await self.ws.receive(timeout=PATIENCE_S)
        assert message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY), message
        data: str | bytes = message.data
        return data

    async def closed(self) -> int:
        """The code of the close that must come, after whatever else."""
        while True:
            message = await self.ws.receive(timeout=PATIENCE_S)
            if message.type is aiohttp.WSMsgType.CLOSE:
                return int(message.data)
            assert message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY), message


class PollingClient(RawClient):
    def __init__(self, session: aiohttp.ClientSession, address: str) -> None:
        super().__init__()
        self.session = session
        self.address = address
        self.heard: deque[str | bytes] = deque()

    async def post(self, body: bytes) -> int:
        async with self.session.post(self.address, data=io.BytesIO(body)) as response:
            return response.status

    async def say(self, *packets: str | bytes) -> None:
        texts = [p if isinstance(p, str) else "b" + base64.b64encode(p).decode() for p in packets]
        assert await self.post("\x1e".join(texts).encode()) == 200

    async def poll(self) -> int:
        """One poll; its status, and what it brought is `heard`."""
        timeout = aiohttp.ClientTimeout(PATIENCE_S)
        async with self.session.get(self.address, timeout=timeout) as response:
            assert "Content-Encoding" not in response.headers, "compressing together with secrets leaks them"
            if response.status == 200:
                for packet in (await response.text()).split("\x1e"):
                    self.heard.append(base64.b64decode(packet[1:]) if packet[:1] == "b" else packet)
            return response.status

    async def packet(self) -> str | bytes:
        while not self.heard:
            assert await self.poll() == 200
        return self.heard.popleft()

    async def refused(self) -> int:
        """The status of the poll that must fail, after those that do not."""
        async with asyncio.timeout(PATIENCE_S):
            while (status := await self.poll()) == 200:
                pass
        return status


def _parted(packet: str) -> tuple[str, Any]:
    end = next((i for i, c in enumerate(packet) if c in "[{"), len(packet))
    return packet[:end], json.loads(packet[end:]) if packet[end:] else None


@asynccontextmanager
async def websocket(server: PhoenixServer, **headers: str) -> AsyncIterator[WebSocketClient]:
    """Open, and not connected yet."""
    async with aiohttp.ClientSession(headers=headers) as session:
        ws = await session.ws_connect(address(server, transport="websocket"), max_msg_size=0, autoclose=False)
        async with ws:
            client = WebSocketClient(ws)
            opened = await client.packet()
            assert isinstance(opened, str)
            assert opened[0] == "0"
            client.sid = json.loads(opened[1:])["sid"]
            yield client


@asynccontextmanager
async def polling(server: PhoenixServer, **headers: str) -> AsyncIterator[PollingClient]:
    async with aiohttp.ClientSession(headers=headers) as session:
        client = PollingClient(session, address(server, transport="polling"))
        opened = await client.packet()
        assert isinstance(opened, str)
        assert opened[0] == "0"
        client.sid = json.loads(opened[1:])["sid"]
        client.address += f"&sid={client.sid}"
        yield client


@asynccontextmanager
async def node(url: str, token: str, transports: str, topic: str) -> AsyncIterator[JsClient]:
    """npm's `socket.io-client` in a Node of its own; `socketio.mjs` says what it is told and says."""
    process = await asyncio.create_subprocess_exec(
        "node",
        *(str(SCENARIO), url, token, transports, topic),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield JsClient(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


CONNECTIONS = {"websocket": websocket, "polling": polling}
