"""Live sockets against malformed input: each attack is one connection, and says what became of it.

The server stands in this process, so that what it kept of its clients can be counted when they are gone, and
what it logged can be read.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import aiohttp
import structlog.testing

from bridge.wire.phoenix import BINARY, TEXT
from tests.fakes.fuzz.codecs import Defect, recorded
from tests.fakes.fuzz.mutations import Mutator
from tests.fakes.phoenix import PATIENCE_S, PhoenixServer
from tests.fakes.service import TOKEN

AT_ONCE = 16
"""Connections at a time: they share the server as clients do."""
QUIET_S = 0.05
"""How long an answer to broken HTTP is waited for, which may rightly never come."""
CLOSES = {1002, 1007, 1009, 1011}
"""What the wire page names for malformed input."""


@dataclass(frozen=True)
class Attack:
    """`run` returns what became of the connection, in a word, and raises where that is not allowed."""

    name: str
    corpus: tuple[bytes, ...]
    run: Callable[[PhoenixServer, bytes], Awaitable[str]]


# --- whole frames on a WebSocket --------------------------------------------------------------------------


async def _frames(server: PhoenixServer, data: bytes, vsn: str) -> str:
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(server.address(vsn=vsn), max_msg_size=0, autoclose=False) as ws,
    ):
        with contextlib.suppress(ConnectionError):
            await ws.send_str(_frame(vsn, "1", "session:a", "phx_join"))
            try:
                await ws.send_str(data.decode())
            except UnicodeDecodeError:
                await ws.send_bytes(data)
            await ws.send_str(_frame(vsn, "still-there", "phoenix", "heartbeat"))
        while True:
            message = await ws.receive(timeout=PATIENCE_S)
            if message.type is not aiohttp.WSMsgType.TEXT:
                break
            if '"still-there"' in message.data:
                return "taken"
        assert message.type is aiohttp.WSMsgType.CLOSE, message
        assert message.data in CLOSES, message
        return f"closed {message.data}"


async def _v2(server: PhoenixServer, data: bytes) -> str:
    return await _frames(server, data, "2.0.0")


async def _v1(server: PhoenixServer, data: bytes) -> str:
    return await _frames(server, data, "1.0.0")


def _frame(vsn: str, ref: str, topic: str, event: str) -> str:
    if vsn == "1.0.0":
        return json.dumps({"topic": topic, "event": event, "payload": {}, "ref": ref})
    return json.dumps([ref, ref, topic, event, {}])


# --- bytes on a connection ---------------------------------------------------------------------------------


def _masked(opcode: int, payload: bytes, *, fin: bool = True) -> bytes:
    size = len(payload)
    head = bytes((0x80 * fin | opcode, 0x80 | size)) if size < 126 else bytes((0x80 * fin | opcode, 0xFE))
    return head + (size.to_bytes(2) if size >= 126 else b"") + bytes(4) + payload


def _upgrade(path: str, *headers: str) -> bytes:
    lines = [
        f"GET {path} HTTP/1.1",
        "Host: localhost",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        *headers,
    ]
    return "\r\n".join((*lines, "", "")).encode()


WEBSOCKET = f"/socket/websocket?vsn=2.0.0&token={quote(TOKEN)}"


async def _bytes(server: PhoenixServer, data: bytes) -> str:
    """Broken frames, behind an upgrade that is whole."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        writer.write(_upgrade(WEBSOCKET))
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_S)
        assert head.startswith(b"HTTP/1.1 101"), head
        writer.write(data)
        writer.write_eof()
        answer = await asyncio.wait_for(reader.read(), PATIENCE_S)
    except ConnectionError:
        return "reset"
    finally:
        writer.close()
    codes = [int.from_bytes(body[:2]) for opcode, body in _server_frames(answer) if opcode == 8]
    assert set(codes) <= CLOSES | {1000}, codes  # 1000 answers a close of the client's
    return f"closed {codes[0]}" if codes else "taken"


def _server_frames(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= 2:
        size, start = data[1], 2
        if size >= 126:
            start = 4 if size == 126 else 10
            size = int.from_bytes(data[2:start])
        yield data[0] & 0x0F, data[start : start + size]
        data = data[start + size :]


async def _http(server: PhoenixServer, data: bytes) -> str:
    """Broken requests: refused, or answered as what they became; never with an error of ours."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        writer.write(data)
        answer = await asyncio.wait_for(reader.read(65536), QUIET_S)
    except TimeoutError:
        return "no answer"
    except ConnectionError:
        return "reset"
    finally:
        writer.close()
    found = re.match(rb"HTTP/\d\.\d (\d{3}) ", answer)
    assert found or not answer, answer[:200]
    status = int(found[1]) if found else 0
    assert status < 500, answer[:500]
    return f"answered {status}"


ATTACKS: list[Attack] = [
    Attack("v2", (*recorded("v2_client"), *recorded("malformed", "v2"), *recorded("v2_terminal")), _v2),
    Attack("v1", (*recorded("v1_client"), *recorded("malformed", "v1")), _v1),
    Attack(
        "bytes",
        (
            _masked(TEXT, b'["1","1","session:a","phx_join",{}]'),
            _masked(TEXT, b'["1","1","sess', fin=False) + _masked(0, b'ions","phx_join",{}]'),
            _masked(BINARY, recorded("v2_terminal")[0]),
            _masked(9, b"ping") + _masked(TEXT, b'[null,"1","phoenix","heartbeat",{}]'),
            _masked(8, b"\x03\xe9bye"),
            _masked(TEXT, b"x" * 300),
        ),
        _bytes,
    ),
    Attack(
        "http",
        (
            _upgrade(WEBSOCKET),
            _upgrade(
                "/socket/websocket?vsn=1.0.0", "Sec-WebSocket-Protocol: phoenix, base64url.bearer.phx.x"
            ),
            _upgrade(
                WEBSOCKET, "Origin: http://localhost:4040", "Sec-WebSocket-Extensions: permessage-deflate"
            ),
            b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello",
            b"GET /../nowhere?x=%ff HTTP/1.0\r\n\r\n",
        ),
        _http,
    ),
]


# --- all of it, and what must be left ----------------------------------------------------------------------


async def attack_all(server: PhoenixServer, seed: int, count: int) -> dict[str, Counter[str]]:
    """So many connections, shared out among the attacks; what became of them. Raises `Defect`."""
    mutators = [Mutator(seed, attack.corpus) for attack in ATTACKS]
    found: dict[str, Counter[str]] = {attack.name: Counter() for attack in ATTACKS}
    numbers = iter(range(count))

    async def one_after_the_other() -> None:
        for number in numbers:
            attack, mutator = ATTACKS[number % len(ATTACKS)], mutators[number % len(ATTACKS)]
            data = mutator.case(number)
            try:
                found[attack.name][await attack.run(server, data)] += 1
            except Exception as e:
                raise Defect(attack.name, seed, number, data) from e

    async with asyncio.TaskGroup() as tasks:
        for _ in range(AT_ONCE):
            tasks.create_task(one_after_the_other())
    return found


class Held:
    """What a server holds for its clients: taken while there are none, and no more when they have gone."""

    def __init__(self, server: PhoenixServer) -> None:
        self._server = server
        self._before: dict[str, int] = {}

    async def while_nobody_is_there(self) -> None:
        await self._until(lambda now: not now["connections"])
        self._before = self._now()

    async def until_released(self) -> None:
        await self._until(lambda now: all(now[what] <= self._before[what] for what in now))

    async def _until(self, true: Callable[[dict[str, int]], bool]) -> None:
        deadline = asyncio.get_running_loop().time() + PATIENCE_S
        while not true(now := self._now()):
            assert asyncio.get_running_loop().time() < deadline, f"before {self._before}, now {now}"
            await asyncio.sleep(0.01)

    def _now(self) -> dict[str, int]:
        server, service = self._server, self._server.service
        assert server.runner.server is not None
        return {
            "connections": len(server.runner.server.connections),
            "subscriptions": sum(topic.viewers for topic in server.hub._topics.values()),
            "present": sum(len(room.now) for room in service.presence._rooms.values()),
            "connections to be ended with their token": sum(map(len, service.connections._ends.values())),
            "screens watched": sum(len(pane.lines) for pane in service.panes.panes.values()),
            "tasks": len(asyncio.all_tasks()),
            "files": len(os.listdir("/proc/self/fd")),
        }


@contextmanager
def nothing_logged() -> Iterator[None]:
    """No traceback, and no error: malformed input is nothing that a person has to look at."""
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign, assignment]
    root = logging.getLogger()
    root.addHandler(handler)
    said: list[MutableMapping[str, Any]] = []
    try:
        with structlog.testing.capture_logs() as said:
            yield
    finally:
        root.removeHandler(handler)
    bad: list[Any] = [e for e in said if e.get("exc_info") or e["log_level"] in ("error", "critical")]
    bad += [(r.name, r.getMessage()) for r in records if r.exc_info or r.levelno >= logging.ERROR]
    assert not bad, f"{len(bad)} lines: {bad[:3]}"
