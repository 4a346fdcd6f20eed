"""The two other processes of `bench.latency`: the clients, and a bridge stripped to its bones.

`listen` is one client for each session, raw sockets in one loop; it takes the time when bytes arrive.
`bare FILE…` reads the same stream files by the same inotify, parses each line, and sends each delta to one
aiohttp WebSocket for each file, as the text of the same Phoenix frame. No session, no state, no journal.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import time
from typing import Any

import orjson
import uvloop
from aiohttp import web
from inotify_simple import INotify, flags

from bench.harness import UPGRADE, frame

DELTA = re.compile(rb'"delta",\{[^{}]*?"text":"((?:\d{20}x{20})+)"')
"""A delta's frame, with several stamps where deltas were merged. A finished block is none."""
STAMP = 40
DONE = b"turn_finished"


class Client(asyncio.Protocol):
    """Joined to one session; hands its delays to `done` when the turn is over."""

    def __init__(self, topic: str, joined: asyncio.Future[None]) -> None:
        self._topic = topic
        self._joined = joined
        self._seen = b""
        self.delays: list[float] = []
        self.finished: asyncio.Future[None] | None = None

    def connection_made(self, transport: Any) -> None:  # uvloop's is no subclass of asyncio's
        self._transport = transport
        transport.write(UPGRADE.encode())

    def submit(self, script: dict[str, Any]) -> asyncio.Future[None]:
        self.delays = []
        self.finished = asyncio.get_running_loop().create_future()
        self._transport.write(
            frame("1", "2", self._topic, "submit", {"prompt": orjson.dumps(script).decode()})
        )
        return self.finished

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        self._seen = seen = self._seen + data if self._seen else data
        if not self._joined.done():
            self._greet(seen)
            return
        end = 0
        for found in DELTA.finditer(seen):
            stamps = found[1]
            for at in range(0, len(stamps), STAMP):
                self.delays.append((now - int(stamps[at : at + 20])) / 1e6)
            end = found.end()
        if DONE in seen[end:] and self.finished is not None and not self.finished.done():
            self.finished.set_result(None)
            end = len(seen)
        self._seen = seen[max(end, len(seen) - 4096) :]

    def _greet(self, seen: bytes) -> None:
        if b"phx_reply" in seen:
            assert b'"status":"ok"' in seen, seen
            self._joined.set_result(None)
        elif seen.endswith(b"\r\n\r\n"):
            self._transport.write(frame("1", "1", self._topic, "phx_join", {"start": {}}))
        else:
            return
        self._seen = b""


async def listen() -> None:
    """Asked by lines: `connect`, then `turn` as often as wanted."""
    loop = asyncio.get_running_loop()
    clients: list[Client] = []
    async for command in commands():
        match command["do"]:
            case "connect":
                for index in range(command["sessions"]):
                    joined = loop.create_future()
                    _, client = await loop.create_connection(
                        lambda i=index, j=joined: Client(f"session:b{i}", j), "127.0.0.1", command["port"]
                    )
                    await joined
                    clients.append(client)
                say(connected=len(clients))
            case "turn":
                # Where in their period the sessions stand is drawn once and the same for both sides.
                turns = [
                    client.submit({**command["script"], "phase": phase})
                    for client, phase in zip(clients, command["phases"], strict=True)
                ]
                await asyncio.gather(*turns)
                say(delays=[delay for client in clients for delay in client.delays])


async def bare(paths: list[str]) -> None:
    inotify = INotify(nonblocking=True)
    sockets: dict[str, web.WebSocketResponse] = {}
    files: dict[int, tuple[int, str]] = {}
    halves: dict[int, bytes] = dict.fromkeys(range(len(paths)), b"")
    fifos: dict[str, int] = {}
    for index, path in enumerate(paths):
        watch = inotify.add_watch(f"{path}/out.ndjson", flags.MODIFY)
        topic = f"session:b{index}"
        files[watch] = (os.open(f"{path}/out.ndjson", os.O_RDONLY), topic)
        fifos[topic] = os.open(f"{path}/in.fifo", os.O_RDWR)
        halves[watch] = b""
    wake = asyncio.Event()
    asyncio.get_running_loop().add_reader(inotify.fd, wake.set)

    async def pump() -> None:
        while True:
            await wake.wait()
            wake.clear()
            for event in inotify.read(timeout=0):
                fd, topic = files[event.wd]
                *lines, halves[event.wd] = (halves[event.wd] + os.read(fd, 1 << 18)).split(b"\n")
                for line in lines:
                    said = orjson.loads(line)
                    if said["type"] == "stream_event" and said["event"]["type"] == "content_block_delta":
                        payload = {"block": 0, "kind": "text", "text": said["event"]["delta"]["text"]}
                        text = orjson.dumps([None, None, topic, "delta", payload]).decode()
                        await sockets[topic].send_str(text)
                    elif said["type"] == "result":
                        await sockets[topic].send_str('[null,null,"","turn_finished",{}]')

    async def socket(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(compress=False)
        await ws.prepare(request)
        async for message in ws:
            _, _, topic, event, payload = orjson.loads(message.data)
            if event == "phx_join":
                sockets[topic] = ws
                await ws.send_str('["1","1","","phx_reply",{"status":"ok","response":{}}]')
            else:
                said = {"type": "user", "uuid": "prompt", "message": {"content": payload["prompt"]}}
                os.write(fifos[topic], orjson.dumps(said) + b"\n")
        return ws

    app = web.Application()
    app.router.add_get("/socket/websocket", socket)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    say(port=runner.addresses[0][1])
    await pump()


async def commands() -> Any:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        yield orjson.loads(line)


def say(**values: Any) -> None:
    sys.stdout.write(orjson.dumps(values).decode() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    uvloop.run(listen() if sys.argv[1] == "listen" else bare(sys.argv[2:]))
