"""Many clients at once: as cheap as a client can be that still checks all it is told.

`crowd_server` is the other side, in a process of its own.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, cast
from urllib.parse import quote

import orjson

from bench.harness import Peer, frame
from tests.fakes.service import TOKEN

Json = dict[str, Any]

PATIENCE_S = 30
"""What a crowd may take for what takes it a second; a loaded machine is the reason for its length."""
UPGRADE = (
    f"GET /socket/websocket?vsn=2.0.0&token={quote(TOKEN, safe='')} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    "Sec-WebSocket-Version: 13\r\n\r\n"
).encode()
TEXT, CLOSE = 1, 8
FINISHED = b'"turn_finished"'


class Fan(asyncio.Protocol):
    """One client of one session, over as many connections as it takes. It fails where an event is missing."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.cursor: tuple[str, int] | None = None
        self.joined: Json = {}
        self.finished: str | None = None
        self.delays: list[float] | None = None
        """Seconds from each delta's making to here, once it is a list."""
        self.merged = 0
        self.told = 0
        """Frames about presence."""
        self.present: dict[str, str] = {}
        self.bytes = 0
        self.glances = False
        """Once joined it looks for a turn's end alone, and costs the machine next to nothing."""
        self.closed: int | None = None
        self._texts: list[str] = []
        self._answered: asyncio.Future[Json] | None = None
        self._gone: asyncio.Future[int | None] | None = None
        self._wrong: AssertionError | None = None
        self._done = asyncio.Event()
        self._buffer = bytearray()
        self._open = False
        self._hello = b""

    @property
    def text(self) -> str:
        """What the previews of the turn said, or the snapshot."""
        return "".join(self._texts)

    # --- what it does -----------------------------------------------------------------------------------

    async def join(self, port: int, payload: Json | None = None, *, receive_buffer: int = 0) -> Json:
        """Connect and join, from where it was unless told otherwise; the reply."""
        loop = asyncio.get_running_loop()
        self._buffer.clear()
        self._open, self.closed, self._gone = False, None, loop.create_future()
        self._answered = loop.create_future()
        after = {"after": {"epoch": self.cursor[0], "seq": self.cursor[1]}} if self.cursor else {}
        self._hello = frame("1", "1", self.topic, "phx_join", after if payload is None else payload)
        connection = socket.socket()
        connection.setblocking(False)
        if receive_buffer:  # the kernel shall take little for a client that does not read
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        await loop.sock_connect(connection, ("127.0.0.1", port))
        await loop.create_connection(lambda: self, sock=connection)
        async with asyncio.timeout(PATIENCE_S):
            self.joined = await self._answered
        return self.joined

    async def ask(self, topic: str, event: str) -> Json:
        """Push and hear the reply."""
        self._answered = asyncio.get_running_loop().create_future()
        self.transport.write(frame(None if topic == "phoenix" else "1", "1", topic, event, {}))
        async with asyncio.timeout(PATIENCE_S):
            return await self._answered

    async def until_finished(self) -> str:
        async with asyncio.timeout(PATIENCE_S):
            await self._done.wait()
        self._done.clear()
        if self._wrong is not None:
            raise self._wrong
        assert self.finished is not None
        return self.finished

    async def until_glanced(self) -> None:
        """Until a turn was seen to end."""
        async with asyncio.timeout(PATIENCE_S):
            await self._done.wait()
        self._done.clear()

    async def until_text(self, port: int, text: str) -> None:
        """Until it has this text, coming back where it is sent away."""
        async with asyncio.timeout(PATIENCE_S):
            while not (self.text == text and self.finished in (text, None)):
                await self._progress()
                if self._gone is not None and self._gone.done():
                    await self.join(port)

    async def _progress(self) -> None:
        assert self._gone is not None
        done = asyncio.ensure_future(self._done.wait())
        try:
            await asyncio.wait({done, self._gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            done.cancel()
        self._done.clear()
        if self._wrong is not None:
            raise self._wrong

    async def until_gone(self) -> int | None:
        """The code of the close, None where there was no word."""
        assert self._gone is not None
        async with asyncio.timeout(PATIENCE_S):
            return await self._gone

    def cut(self) -> None:
        self.transport.abort()

    # --- what it hears ----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(UPGRADE)

    def connection_lost(self, exc: Exception | None) -> None:
        if isinstance(exc, AssertionError):  # whoever waits for something is told what was wrong
            self._wrong = exc
            self._done.set()
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(
                self._wrong or ConnectionResetError(f"closed with {self.closed}: {exc}")
            )
        if self._gone is not None and not self._gone.done():
            self._gone.set_result(self.closed)

    def data_received(self, data: bytes) -> None:
        self.bytes += len(data)
        buffer = self._buffer
        if self.glances and self.joined:
            if FINISHED in (seen := bytes(buffer) + data):
                self._done.set()
            buffer[:] = b"" if FINISHED in seen else seen[-len(FINISHED) :]
            return
        buffer += data
        if not self._open:
            head, found, _ = buffer.partition(b"\r\n\r\n")
            if not found:
                return
            assert b" 101 " in head.split(b"\r\n", 1)[0], bytes(head)
            del buffer[: len(head) + 4]
            self._open = True
            self.transport.write(self._hello)
        start = 0
        while (whole := whole_frame(buffer, start)) is not None:
            opcode, begin, end = whole
            self._hear(opcode, bytes(buffer[begin:end]))
            start = end
        del buffer[:start]

    def _hear(self, opcode: int, payload: bytes) -> None:
        if opcode == CLOSE:
            self.closed = struct.unpack("!H", payload[:2])[0] if payload else None
            self.transport.close()
            return
        assert opcode == TEXT, f"a text frame was expected, not {opcode}"
        _, _, topic, event, said = orjson.loads(payload)
        match event:
            case "phx_reply":
                assert said["status"] == "ok", said
                self._take_reply(said["response"])
            case "presence_state" | "presence_diff":
                self._take_presence(event, said)
            case _ if topic == self.topic and "seq" in said:
                self._take_event(event, said)

    def _take_reply(self, response: Json) -> None:
        if "epoch" in response and not response["recovered"]:
            self.cursor = (response["epoch"], response["seq"])
            turns = response["turns"]
            self._texts = [turns[-1]["text"]] if turns else []
            self.present = {}
        if self._answered is not None and not self._answered.done():
            self._answered.set_result(response)

    def _take_event(self, event: str, said: Json) -> None:
        assert self.cursor is not None
        epoch, last = self.cursor
        assert said.get("first_seq", said["seq"]) == last + 1, f"{last} was followed by {said}"
        self.merged += said["seq"] - last - 1
        self.cursor = (epoch, said["seq"])
        match event:
            case "turn_started":
                self._texts, self.finished = [], None
            case "delta":
                self._texts.append(said["text"])
                if self.delays is not None:
                    loop = asyncio.get_running_loop()
                    self.delays.append(loop.time() - int(said["text"][:20]) / 1e9)
            case "block":
                assert said["text"] == self.text, "the previews were not what the block is"
            case "turn_finished":
                self.finished = said["text"]
                self._done.set()

    def _take_presence(self, event: str, said: Json) -> None:
        self.told += 1
        if event == "presence_state":
            self.present = refs(said)
            return
        self.present |= refs(said["joins"])
        for ref in refs(said["leaves"]):
            self.present.pop(ref, None)


def refs(metas: Json) -> dict[str, str]:
    return {meta["phx_ref"]: key for key, each in metas.items() for meta in each["metas"]}


def whole_frame(data: bytearray, start: int) -> tuple[int, int, int] | None:
    """Opcode, begin and end of the payload that begins here, if all of it has come."""
    if len(data) < start + 2:
        return None
    size, begin = data[start + 1] & 0x7F, start + 2
    if size == 126:
        if len(data) < start + 4:
            return None
        size, begin = struct.unpack_from("!H", data, start + 2)[0], start + 4
    elif size == 127:
        if len(data) < start + 10:
            return None
        size, begin = struct.unpack_from("!Q", data, start + 2)[0], start + 10
    end = begin + size
    return (data[start] & 0x0F, begin, end) if len(data) >= end else None


class Crowd:
    """The server's process, and whoever joins it."""

    def __init__(self, peer: Peer, port: int) -> None:
        self.peer = peer
        self.port = port
        self.fans: list[Fan] = []

    async def ask(self, **command: Any) -> Json:
        return await asyncio.to_thread(self.peer.ask, **command)

    def stream(
        self, deltas: int, *, per_tick: int = 16, per_s: float = 0, size: int = 40, session: str = "main"
    ) -> Any:
        """One turn of the session; awaited, what it took and what it said."""
        return self.ask(
            do="stream", session=session, deltas=deltas, per_tick=per_tick, per_s=per_s, size=size
        )

    async def measure(self) -> Json:
        return await self.ask(do="measure")

    async def come(
        self, count: int, topic: str = "session:main", at_once: int = 100, *, glances: bool = False
    ) -> list[Fan]:
        """So many more clients, joined."""
        fans = [Fan(topic) for _ in range(count)]
        for fan in fans:
            fan.glances = glances
        self.fans += fans
        await self.back(fans, at_once)
        return fans

    async def back(self, fans: Iterable[Fan], at_once: int = 100) -> None:
        """All of them join (again)."""
        room = asyncio.Semaphore(at_once)

        async def one(fan: Fan) -> None:
            async with room:
                await fan.join(self.port)

        async with asyncio.TaskGroup() as group:
            for fan in fans:
                group.create_task(one(fan))

    def forget(self) -> None:
        for fan in self.fans:
            fan.cut()


@asynccontextmanager
async def crowd(*sessions: str, **settings: Any) -> AsyncIterator[Crowd]:
    """A server with these sessions, by default `main`."""
    peer = Peer("tests.fakes.crowd_server", orjson.dumps(settings).decode())
    try:
        started = await asyncio.to_thread(peer.ask, do="start", sessions=sessions or ("main",))
        made = Crowd(peer, started["port"])
        try:
            yield made
        finally:
            made.forget()
    finally:
        peer.end()
