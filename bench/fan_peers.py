"""The two sides of the fan-out figures, each a process of its own, told what to do by lines of JSON.

`server KIND`: `ours` is hub, channels and sockets before the fake service; `naive` awaits `send_str`
for each client and frame; `batched` writes sixteen ready frames at once to each; both stand on bare
aiohttp. `socketio` is ours as well, for clients of Socket.IO; `room` is python-socketio as it comes, which
emits each event to a room. `naive` and `room` keep what they said in a list, which is all their replay is.
`load` is the clients: it counts bytes, and reads times out of a sample of the
connections.
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, cast

import orjson
import socketio
import uvloop
from aiohttp import web

from bench.ways import WAYS, Load, Way, served
from bridge.config import HubConfig, LogConfig, ServerConfig
from bridge.events import DeltaAdded, Epoch, TurnId
from bridge.hub import Hub
from bridge.log import set_up
from bridge.transports.http import make_app, make_runner
from bridge.wire.formats import ENCODERS
from bridge.wire.phoenix import encode_event_v2
from tests.fakes.service import FakeService, FixedClock

SESSION = "bench"
TOPIC = f"session:{SESSION}"
IDLE_SESSIONS = 100
"""Over which clients are spread who are to have nothing in common: all in one room would tell each other that
they came."""
TURN = TurnId("00000000-0000-4000-8000-000000000000")
PER_TICK = 16
"""Frames of a burst that arrive in one tick; what one read of a CLI's output brings, roughly."""


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
    for name in (SESSION, *(f"idle{n}" for n in range(IDLE_SESSIONS))):
        service.add(name)
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
    said: list[str] = []
    seq = 0

    async def socket(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(compress=False)
        await ws.prepare(request)
        clients[ws] = cast(asyncio.Transport, request.transport)
        try:
            async for message in ws:  # answered with as little as keeps the other side going
                join_ref, ref, topic, event, payload = orjson.loads(message.data)
                reply = [join_ref, ref, topic, "phx_reply", {"status": "ok", "response": {}}]
                await ws.send_str(orjson.dumps(reply).decode())
                if event == "phx_join" and "after" in payload:
                    for text in said[payload["after"]["seq"] :]:
                        await ws.send_str(text)
        finally:
            del clients[ws]
        return ws

    async def naive_send(count: int) -> None:
        nonlocal seq
        for _ in range(count):
            seq += 1
            text = orjson.dumps([None, None, TOPIC, "delta", _payload(seq)]).decode()
            said.append(text)
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
    said: list[tuple[Any, ...]] = []
    seq = 0

    @sio.on("join")
    async def join(sid: str, topic: str, payload: Any) -> dict[str, Any]:
        await sio.enter_room(sid, topic)
        for event in said[payload["after"]["seq"] :] if "after" in payload else ():
            await sio.emit("message", event, to=sid)
        return {"status": "ok", "response": {}}

    @sio.on("push")
    async def push(sid: str, topic: str, event: str, payload: Any) -> dict[str, Any]:
        return {"status": "ok", "response": {}}

    async def send(count: int) -> None:
        nonlocal seq
        for _ in range(count):
            seq += 1
            said.append((TOPIC, "delta", _payload(seq)))
            await sio.emit("message", said[-1], room=TOPIC)

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
    collecting = 0.0  # CPU that is the bench's own
    while line := await reader.readline():
        command = orjson.loads(line)
        cpu = _cpu()
        gc.collect()
        collecting += _cpu() - cpu
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
        now = _cpu()
        _say(
            began=began,
            took=time.monotonic() - began,
            cpu=now - cpu,
            cpu_total=now - collecting,
            rss_kb=rss_kb(),
        )
    os._exit(0)  # a thousand clients need not be seen off


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


# --- the clients ------------------------------------------------------------------------------------


async def load_clients() -> None:
    load = Load()
    clients: list[Way] = []
    reader = await _lines()
    while line := await reader.readline():
        command = orjson.loads(line)
        way = WAYS[command.get("way", "websocket")]
        match command["do"]:
            case "connect":
                every = max(1, command["clients"] // 50)
                names = [f"idle{n}" for n in range(IDLE_SESSIONS)] if command.get("apart") else [SESSION]
                for index in range(command["clients"]):
                    sampled = command.get("sample", False) and index % every == 0
                    client = way(load, names[index % len(names)], sampled=sampled)
                    clients.append(await client.join(command["port"]))
                _say(connected=len(clients))
            case "reset":
                load.bytes, load.delays = 0, []
                _say(reset=True)
            case "heard":  # polled, so that waiting costs the measured part nothing
                _say(bytes=load.bytes, last=load.last, delays=sorted(load.delays))
            case "echo":
                asker = await way(load, SESSION).join(command["port"])
                _say(trips=[await asker.trip() for _ in range(command["trips"])])
                asker.close()
            case "replay":
                took = []
                for _ in range(command["times"]):
                    came = way(load, SESSION, after=command["after"], until=command["until"])
                    await came.join(command["port"])
                    took.append(await came.replayed)
                    came.close()
                _say(took=took)
            case "served":
                _say(served=await served(way, command["port"]))
    os._exit(0)


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[2]) if sys.argv[1] == "server" else load_clients())
