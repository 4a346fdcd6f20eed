"""Live sockets against malformed input: each attack is one connection, and says what became of it.

The server stands in this process, so that what it kept of its clients can be counted when they are gone, and
what it logged can be read.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
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
from yarl import URL

from bridge.wire import phoenix_poll
from bridge.wire.phoenix import BINARY, TEXT
from tests.fakes.fuzz.codecs import Defect, recorded
from tests.fakes.fuzz.mutations import Mutator
from tests.fakes.phoenix import PATIENCE_S, PhoenixServer
from tests.fakes.service import TOKEN

AT_ONCE = 16
LINGER_S = 10
"""For so long aiohttp reads on what a refused request still has to say, even where its client is gone."""
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


LONGPOLL = f"/socket/longpoll?vsn=2.0.0&token={quote(TOKEN)}"


async def _polls(server: PhoenixServer, data: bytes) -> str:
    """A body with broken frames; then a whole one, where the session is still there."""
    kind = "text/plain" if data[:1].isspace() else phoenix_poll.LINES
    async with aiohttp.ClientSession() as http:
        async with http.get(server.http + LONGPOLL) as begun:
            token = (await begun.json())["token"]
        address = f"{server.http}/socket/longpoll?vsn=2.0.0&token={quote(token)}"
        for body in (data, _frame("2.0.0", "still-there", "phoenix", "heartbeat").encode()):
            async with http.post(address, data=io.BytesIO(body), headers={"Content-Type": kind}) as answer:
                assert answer.status in (200, 400), answer.status
                status = (await answer.json())["status"] if answer.status == 200 else 400
            assert status in (200, 400, 408, 410), status
            if status in (408, 410):
                return f"answered {status}"
        async with http.get(address) as poll:
            said = await poll.json()
        if said["status"] == 403:
            return "gone"  # no poll for a window and a half: on a slow machine that is soon
        assert said["status"] == 200, said
        assert all(isinstance(json.loads(message), list) for message in said["messages"])
        return "taken" if any("still-there" in message for message in said["messages"]) else "more to come"


def _asked(method: str, path: str, body: Any = None) -> bytes:
    return json.dumps([method, path, body]).encode()


REST = (
    _asked("GET", "/sessions"),
    _asked("POST", "/sessions", {"name": "b", "backend": "headless", "add_dirs": ["/"]}),
    _asked("GET", "/sessions/a"),
    _asked("DELETE", "/sessions/c?keep=history"),
    _asked("POST", "/sessions/a/turns?wait=0", {"prompt": "words 2", "id": "key-1", "mode": "queue"}),
    _asked("GET", "/sessions/a/turns?limit=2&before=turn-1"),
    _asked("GET", "/sessions/a/turns/turn-1"),
    _asked("DELETE", "/sessions/a/turns/turn-1"),
    _asked("POST", "/sessions/a/interrupt", {}),
    _asked("POST", "/sessions/a/requests/r", {"decision": "allow", "input": {"a": [1]}, "suggestions": [0]}),
    _asked("POST", "/sessions/a/configure", {"model": "x", "permission_mode": "plan"}),
    _asked("GET", "/sessions/a/events?turns=0&after=e1:1"),
    _asked("POST", "/pools/default/ask?wait=0", {"prompt": "words 2", "id": "key-2"}),
    _asked("GET", "/openapi.json"),
)


async def _rest(server: PhoenixServer, data: bytes) -> str:
    """`[method, path, body]`, as far as it is still that; else a body that is none."""
    method, path, body = "POST", "/sessions/a/turns", data
    with contextlib.suppress(ValueError, TypeError):
        method, path, asked = json.loads(data)
        method, path, body = (
            quote(str(method), safe="", errors="surrogatepass") or "GET",
            f"/{path}".replace("//", "/"),
            json.dumps(asked).encode(),
        )
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    address = URL(f"{server.http}/api{quote(path, safe='/?=&:%', errors='surrogatepass')}", encoded=True)
    async with (
        aiohttp.ClientSession() as http,
        http.request(method, address, data=io.BytesIO(body), headers=headers) as answer,
    ):
        assert answer.status < 500, (answer.status, await answer.text())
        if answer.content_type == "text/event-stream":
            assert answer.status == 200
            return "streamed"
        said = await answer.read()
        if answer.status >= 400 and method != "HEAD" and answer.content_type == "application/json":
            assert {"reason", "message"} <= json.loads(said).keys(), said
        return f"answered {answer.status}"


def _emitted(name: str, *arguments: Any, ack: str = "7") -> bytes:
    return f"42{ack}{json.dumps([name, *arguments])}".encode()


SOCKETIO = "/socket.io/?EIO=4&transport="
CONNECT = "40" + json.dumps({"token": TOKEN})
PACKETS = (
    _emitted("join", "session:a", {"turns": 0}),
    _emitted("join", "sessions", {}),
    _emitted("push", "session:a", "submit", {"prompt": "words 2"}),
    _emitted("push", "session:a", "history", {"limit": 2}, ack=""),
    _emitted("leave", "session:a"),
    _emitted("join", "pool:default", {}),
    _emitted("push", "pool:default", "ask", {"prompt": "words 2", "id": "key-2"}),
    b'451-7["push","terminal:a","input",{"_placeholder":true,"num":0}]',
    CONNECT.encode(),
    b"41",
    b'43{"a":1}',
    b"2probe",
    b"5",
    b"1",
)


async def _socketio(server: PhoenixServer, data: bytes) -> str:
    """A client that is connected and has joined says something broken, and then something whole."""
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(f"{server.http}{SOCKETIO}websocket", max_msg_size=0, autoclose=False) as ws,
    ):
        with contextlib.suppress(ConnectionError):
            await ws.send_str(CONNECT)
            await ws.send_str(_emitted("join", "session:a").decode())
            try:
                await ws.send_str(data.decode())
            except UnicodeDecodeError:
                await ws.send_bytes(data)
            await ws.send_str(_emitted("push", "still-there", "x", {}, ack="99").decode())
        while True:
            message = await ws.receive(timeout=PATIENCE_S)
            if message.type not in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
                break
            if message.type is aiohttp.WSMsgType.TEXT and message.data.startswith("4399"):
                return "taken"
        if message.type is aiohttp.WSMsgType.CLOSED:
            return "gone"
        assert message.type is aiohttp.WSMsgType.CLOSE, message
        assert message.data in CLOSES, message
        return f"closed {message.data}"


async def _socketio_polls(server: PhoenixServer, data: bytes) -> str:
    """The same by polls: a body that is broken is refused, and the session is over."""
    address = f"{server.http}{SOCKETIO}polling"
    async with aiohttp.ClientSession() as http:
        async with http.get(address) as begun:
            session = json.loads((await begun.text())[1:])["sid"]
        for body in (CONNECT.encode(), data, _emitted("push", "still-there", "x", {}, ack="99")):
            async with http.post(f"{address}&sid={session}", data=io.BytesIO(body)) as answer:
                assert answer.status in (200, 400, 410), answer.status
            if answer.status != 200:
                break
        said = ""
        while answer.status == 200 and "4399" not in said:
            async with http.get(f"{address}&sid={session}") as answer:
                said = await answer.text()
                assert answer.status in (200, 400, 410), (answer.status, said)
        if answer.status == 200:
            async with http.post(f"{address}&sid={session}", data=b"1") as answer:
                assert answer.status in (200, 400), answer.status
            return "taken"
        return f"answered {answer.status}"


ATTACKS: list[Attack] = [
    Attack("socketio", PACKETS, _socketio),
    Attack("socketio polls", (*PACKETS, b"\x1e".join(PACKETS[:4]), b"bAAEC"), _socketio_polls),
    Attack("rest", REST, _rest),
    Attack("polls", (*recorded("v2_client"), b"\n".join(recorded("v2_client")[:3])), _polls),
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
            f"GET {LONGPOLL} HTTP/1.1\r\nHost: localhost\r\nX-Phoenix-AuthToken: x\r\n\r\n".encode(),
            f"POST {LONGPOLL}&token=lp.x HTTP/1.1\r\nHost: localhost\r\n"
            "Content-Type: application/x-ndjson\r\nContent-Length: 35\r\n\r\n"
            '[null,"1","phoenix","heartbeat",{}]'.encode(),
            f"GET /api/sessions/a/events?token={quote(TOKEN)} HTTP/1.1\r\nHost: localhost\r\n"
            "Last-Event-ID: e1:0\r\n\r\n".encode(),
            f"POST /api/sessions/a/turns HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
            'Content-Type: application/json\r\nContent-Length: 13\r\n\r\n{"prompt":"x"}'.encode(),
            f"GET {SOCKETIO}polling&t=x HTTP/1.1\r\nHost: localhost\r\nOrigin: http://x\r\n\r\n".encode(),
            f"POST {SOCKETIO}polling&sid=x HTTP/1.1\r\nContent-Length: 1\r\n\r\n2".encode(),
            _upgrade(f"{SOCKETIO}websocket", "Sec-WebSocket-Protocol: x"),
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
        deadline = asyncio.get_running_loop().time() + LINGER_S + PATIENCE_S
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
