"""The two sides of the fan-out figures, each a process of its own, told what to do by lines of JSON.

`server KIND`: `ours` is hub, channels and sockets before the fake service; `naive` awaits `send_str`
for each client and frame; `batched` writes sixteen ready frames at once to each; both stand on bare
aiohttp. `socketio` is ours as well, for clients of Socket.IO; `room` is python-socketio as it comes, which
emits each event to a room. `load` is the clients: it counts bytes, and reads times out of a sample of the
connections.
"""

from __future__ import annotations

import asyncio
import gc
import os
import re
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, cast
from urllib.parse import quote

import orjson
import socketio
import uvloop
from aiohttp import web

from bridge.config import HubConfig, LogConfig, ServerConfig
from bridge.events import DeltaAdded, Epoch, TurnId
from bridge.hub import Hub
from bridge.log import set_up
from bridge.transports.http import make_app, make_runner
from bridge.wire.formats import ENCODERS
from bridge.wire.phoenix import encode_event_v2
from tests.fakes.service import TOKEN, FakeService, FixedClock

TOPIC = "session:bench"
TURN = TurnId("00000000-0000-4000-8000-000000000000")
PER_TICK = 16
"""Frames of a burst that arrive in one tick; what one read of a CLI's output brings, roughly."""

UPGRADE = (
    "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
    "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
SOCKETIO = "/socket.io/?EIO=4&transport=websocket"
SOCKETIO_KINDS = frozenset({"socketio", "room"})


def delta() -> DeltaAdded:
    """40 bytes of text, beginning with the time."""
    return DeltaAdded(TURN, 0, "text", f"{time.monotonic_ns():020d}{'x' * 20}")


async def _lines() -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    return reader


def _say(**values: Any) -> None:
    sys.stdout.write(orjson.dumps(values).decode() + "\n")
    sys.stdout.flush()


def rss_kb() -> int:
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


# --- the server -------------------------------------------------------------------------------------

Send = Callable[[int], Awaitable[None]]
"""Send so many frames, all of which came in one tick, to every client."""


def ours() -> tuple[web.AppRunner, Send]:
    config, hub_config, clock = ServerConfig(max_topics=10), HubConfig(), FixedClock()
    hub = Hub(ENCODERS, hub_config, asyncio.get_running_loop().call_soon, Epoch("bench"))
    service = FakeService(hub, clock)
    service.add("bench")
    topic = hub.topic(TOPIC)

    async def send(count: int) -> None:
        for _ in range(count):
            topic.publish(clock.at, delta())
        await asyncio.sleep(0)

    return make_runner(make_app(service.as_service(), config, hub_config, clock), config), send


def _payload(seq: int) -> dict[str, Any]:
    """A new delta, for those who make their own JSON."""
    event = delta()
    return {
        "turn": event.turn,
        "block": event.block,
        "kind": event.kind,
        "text": event.text,
        "seq": seq,
        "at": "2025-10-09T08:53:20.125Z",
    }


def bare(batched: bool) -> tuple[web.AppRunner, Send]:
    clients: dict[web.WebSocketResponse, asyncio.Transport] = {}
    seq = 0

    async def socket(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(compress=False)
        await ws.prepare(request)
        clients[ws] = cast(asyncio.Transport, request.transport)
        try:
            async for _ in ws:  # the join: answered with as little as keeps the other side going
                await ws.send_str('["1","1","session:bench","phx_reply",{"status":"ok","response":{}}]')
        finally:
            del clients[ws]
        return ws

    async def naive_send(count: int) -> None:
        nonlocal seq
        for _ in range(count):
            seq += 1
            text = orjson.dumps([None, None, TOPIC, "delta", _payload(seq)]).decode()
            for ws in clients:
                await ws.send_str(text)

    async def batched_send(count: int) -> None:
        nonlocal seq
        frames = []
        for _ in range(count):
            seq += 1
            frames.append(encode_event_v2(TOPIC, Epoch("bench"), seq, seq, 1_760_000_000.125, delta()))
        data = b"".join(frames)
        for transport in clients.values():
            transport.write(data)
        await asyncio.sleep(0)

    app = web.Application()
    app.router.add_get("/socket/websocket", socket)
    return web.AppRunner(app, access_log=None), batched_send if batched else naive_send


def room() -> tuple[web.AppRunner, Send]:
    """What python-socketio's own documentation leads to: a room for the topic, an emit for the event."""
    sio = socketio.AsyncServer(async_mode="aiohttp", json=_Json)
    seq = 0

    @sio.on("join")
    async def join(sid: str, topic: str, payload: Any) -> dict[str, Any]:
        await sio.enter_room(sid, topic)
        return {"status": "ok", "response": {}}

    async def send(count: int) -> None:
        nonlocal seq
        for _ in range(count):
            seq += 1
            await sio.emit("message", (TOPIC, "delta", _payload(seq)), room=TOPIC)

    app = web.Application()
    sio.attach(app)
    return web.AppRunner(app, access_log=None), send


class _Json:
    loads = staticmethod(orjson.loads)

    @staticmethod
    def dumps(value: Any, **_: Any) -> str:
        return orjson.dumps(value).decode()


SERVERS = {
    "ours": ours,
    "socketio": ours,
    "naive": partial(bare, False),
    "batched": partial(bare, True),
    "room": room,
}


async def serve(kind: str) -> None:
    set_up(LogConfig(level="warning"))  # standard output is for the answers
    runner, send = SERVERS[kind]()
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=4096).start()
    _say(port=runner.addresses[0][1])
    reader = await _lines()
    while line := await reader.readline():
        command = orjson.loads(line)
        gc.collect()
        began, cpu = time.monotonic(), _cpu()
        match command["do"]:
            case "burst":
                left = command["frames"]
                while left > 0:
                    await send(min(PER_TICK, left))
                    left -= PER_TICK
            case "pace":
                for index in range(command["frames"]):
                    await asyncio.sleep(began + index / command["per_s"] - time.monotonic())
                    await send(1)
        _say(began=began, took=time.monotonic() - began, cpu=_cpu() - cpu, rss_kb=rss_kb())
    os._exit(0)  # a thousand clients need not be seen off


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


# --- the clients ------------------------------------------------------------------------------------


class Load:
    """All clients of one process; what they heard since the last `reset`."""

    def __init__(self) -> None:
        self.bytes = 0
        self.last = 0.0
        self.delays: list[float] = []


class Client(asyncio.Protocol):
    """One connection: it enters, and says in turn what it has to, each when the one before was answered."""

    path = "/socket/websocket?vsn=2.0.0&token={token}"
    says: tuple[Any, ...] = (orjson.dumps(["1", "1", TOPIC, "phx_join", {}]),)
    answers = (b"phx_reply",)

    def __init__(self, load: Load, sampled: bool) -> None:
        self.load = load
        self.sampled = sampled
        self.joined = asyncio.get_running_loop().create_future()
        self.greeting = b""
        self.said = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        path = self.path.format(token=quote(TOKEN, safe=""))
        self.transport.write(UPGRADE.format(path=path).encode())

    def data_received(self, data: bytes) -> None:
        if not self.joined.done():
            self._greet(data)
            return
        load = self.load
        load.bytes += len(data)
        load.last = time.monotonic()
        if self.sampled:
            for sent in re.findall(rb'"text":"(\d{20})', data):
                load.delays.append(load.last - int(sent) / 1e9)

    def _greet(self, data: bytes) -> None:
        self.greeting += data
        awaited = (b"\r\n\r\n", *self.answers)
        while self.said < len(awaited) and awaited[self.said] in self.greeting:
            if self.said < len(self.says):
                payload = self.says[self.said]
                # A mask of zeros is a mask.
                self.transport.write(bytes((0x81, 0x80 | len(payload), 0, 0, 0, 0)) + payload)
            self.said += 1
        if self.said == len(awaited) and self.greeting.endswith(b"}]"):
            self.joined.set_result(None)


class SocketIoClient(Client):
    path = SOCKETIO
    says = (b"40" + orjson.dumps({"token": TOKEN}), b"420" + orjson.dumps(["join", TOPIC, {}]))
    answers = (b"40{", b"430[")


async def load_clients() -> None:
    load = Load()
    clients: list[Client] = []
    loop = asyncio.get_running_loop()
    reader = await _lines()
    while line := await reader.readline():
        command = orjson.loads(line)
        match command["do"]:
            case "connect":
                every = max(1, command["clients"] // 50)
                made = SocketIoClient if command["socketio"] else Client
                for index in range(command["clients"]):
                    sampled = command["sample"] and index % every == 0
                    _, client = await loop.create_connection(
                        partial(made, load, sampled), "127.0.0.1", command["port"]
                    )
                    await client.joined
                    clients.append(client)
                _say(connected=len(clients))
            case "reset":
                load.bytes, load.delays = 0, []
                _say(reset=True)
            case "heard":  # polled, so that waiting costs the measured part nothing
                _say(bytes=load.bytes, last=load.last, delays=sorted(load.delays))
    os._exit(0)


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[2]) if sys.argv[1] == "server" else load_clients())
