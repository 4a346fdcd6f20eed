"""The official clients of Socket.IO: `socket.io-client` in Node, and python-socketio's own."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest
import socketio

from bridge.events import DeltaAdded, Epoch, TurnId
from bridge.transports import engineio_session as engineio
from tests.fakes.phoenix import PATIENCE_S, PhoenixServer
from tests.fakes.scenario import JsClient
from tests.fakes.service import TOKEN
from tests.fakes.socketio import node
from tests.wire.conftest import Serve

TRANSPORTS = ("websocket", "polling", "polling,websocket")
S = "session:a"

Connect = Callable[..., Awaitable[JsClient]]


def word(text: str) -> DeltaAdded:
    return DeltaAdded(TurnId("t"), 0, "text", text)


@pytest.fixture
async def connect(server: PhoenixServer) -> AsyncIterator[Connect]:
    async with AsyncExitStack() as stack:

        async def start(transports: str = "websocket", topic: str = S, token: str = TOKEN) -> JsClient:
            return await stack.enter_async_context(node(server.http, token, transports, topic))

        yield start


async def joined(client: JsClient, transports: str) -> dict[str, Any]:
    """The answer to its join, once it also has the connection that it is to end up with."""
    first, *then = transports.split(",")
    heard = [await client.said() for _ in range(2 + len(then))]
    assert heard.pop(0) == {"opened": first}
    if then:
        heard.remove({"upgraded": then[0]})
    assert "joined" in heard[0], heard
    return heard[0]


@pytest.mark.parametrize("transports", TRANSPORTS)
async def test_it_joins_pushes_hears_and_leaves(connect: Connect, transports: str) -> None:
    """The ack first, then the events; bytes in both directions in the same way."""
    client = await connect(transports)
    assert (await joined(client, transports))["joined"] == 0
    client.tell(emit=["push", S, "submit", {"prompt": "words 3"}])
    assert (await client.hear("ok"))["turn"] == "turn-1"
    events = [await client.hear("event") for _ in range(6)]
    assert events == ["turn_started", "delta", "delta", "delta", "block", "turn_finished"]
    client.tell(emit=["push", S, "submit", {"prompt": " "}])
    assert (await client.hear("error"))["reason"] == "prompt_empty"
    client.tell(leave=True)
    assert await client.hear("left") == "ok"
    client.tell(close=True)
    assert await client.hear("disconnected") == "io client disconnect"


@pytest.mark.parametrize("transports", TRANSPORTS)
async def test_a_screen_goes_both_ways(server: PhoenixServer, connect: Connect, transports: str) -> None:
    """Buffers in, buffers out."""
    pane = server.service.panes.add("a")
    client = await connect(transports, topic="terminal:a")
    await joined(client, transports)
    pane.write(b"\x1b[1m\xff\x00")
    assert await client.hear("payload") == {"base64": base64.b64encode(b"\x1b[1m\xff\x00").decode()}
    client.tell(emit=["push", "terminal:a", "input", {"base64": base64.b64encode(b"\xff\r").decode()}])
    assert await client.hear("ok") == {}
    assert pane.typed == b"\xff\r"


async def test_with_a_wrong_token_it_is_told_why(connect: Connect) -> None:
    """Once: it does not try again by itself."""
    client = await connect(token="wrong")
    assert await client.hear("opened")
    assert await client.hear("failed") == "unauthorized"


async def test_after_a_cut_it_misses_nothing(server: PhoenixServer, connect: Connect) -> None:
    """It comes back by itself, joins with what it saw last, and is given the rest."""
    client = await connect()
    await joined(client, "websocket")
    server.service.publish("a", word("one"))
    assert (await client.hear("payload"))["text"] == "one"
    client.tell(cut=True)
    assert await client.hear("disconnected") == "transport close"
    server.service.publish("a", word("two"), word("three"))
    assert await client.hear("opened")
    assert await client.said() == {"joined": 3, "recovered": True}
    assert [(await client.hear("payload"))["text"] for _ in range(2)] == ["two", "three"]
    client.tell(again=True)
    assert await client.hear("disconnected") == "forced close"
    assert await client.hear("opened")
    assert await client.said() == {"joined": 3, "recovered": True}


@pytest.mark.parametrize("transports", TRANSPORTS)
async def test_it_comes_back_to_the_next_bridge(
    server: PhoenixServer, connect: Connect, transports: str
) -> None:
    """Sent away with 1012, or 503, it connects again by itself; another epoch is not recovered."""
    client = await connect(transports)
    await joined(client, transports)
    server.service.publish("a", word("one"))
    assert (await client.hear("payload"))["text"] == "one"
    port = server.port
    await server.stop()
    if transports == "polling":
        said = await client.said()
        assert said["disconnected"] == "transport error"
        assert said["code"] == 503
    else:
        assert await client.said() == {"disconnected": "transport close", "code": 1012}
    server.epoch = Epoch("e2")
    await server.start(port)
    server.service.add("a")
    while "joined" not in (said := await client.said()):
        assert said.keys() <= {"failed", "opened", "upgraded"}
    assert said == {"joined": 0, "recovered": False}


@pytest.mark.parametrize(
    ("transports", "reason", "code"),
    [("websocket", "transport close", 1001), ("polling", "transport error", 410)],
)
async def test_a_revoked_token_sends_it_away(
    server: PhoenixServer, connect: Connect, transports: str, reason: str, code: int
) -> None:
    """With a code that it sees in the details of its `disconnect`; it tries again."""
    client = await connect(transports)
    await joined(client, transports)
    server.service.connections.end(server.service.authenticate(TOKEN))
    assert await client.said() == {"disconnected": reason, "code": code}
    assert await client.hear("opened")


@pytest.mark.parametrize("transports", TRANSPORTS)
async def test_pings_keep_it_there(serve: Serve, monkeypatch: pytest.MonkeyPatch, transports: str) -> None:
    """Through several of them it stays connected."""
    monkeypatch.setattr(engineio, "PING_INTERVAL_S", 0.2)
    monkeypatch.setattr(engineio, "PING_TIMEOUT_S", 0.2)
    server = await serve()
    pings = 0
    ping = engineio.EngineSocket._ping

    def counted(socket: engineio.EngineSocket) -> None:
        nonlocal pings
        pings += 1
        if pings == 4:
            server.service.publish("a", word("still here"))
        ping(socket)

    monkeypatch.setattr(engineio.EngineSocket, "_ping", counted)
    async with node(server.http, TOKEN, transports, S) as client:
        await joined(client, transports)
        assert (await client.hear("payload"))["text"] == "still here"


# --- python-socketio's own client -------------------------------------------------------------------


class PythonClient:
    """With its messages in a queue; it joins again at each connect, as the scenario in Node does."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        delays = {"reconnection_delay": 0.05, "reconnection_delay_max": 0.2}
        self.sio = socketio.AsyncClient(http_session=session, **delays)
        self.messages: asyncio.Queue[tuple[Any, ...]] = asyncio.Queue()
        self.joins: asyncio.Queue[Any] = asyncio.Queue()
        self.last: dict[str, Any] | None = None
        self.sio.on("message", self._message)
        self.sio.on("connect", self._connected)

    async def _connected(self) -> None:
        payload = {"after": self.last} if self.last else {}
        await self.sio.emit("join", (S, payload), callback=self._joined)

    def _joined(self, said: Any) -> None:
        response = said["response"]
        if not response["recovered"]:
            self.last = {"epoch": response["epoch"], "seq": response["seq"]}
        self.joins.put_nowait(response)

    def _message(self, *said: Any) -> None:
        if said[1].startswith("presence_"):
            return
        assert self.last is not None
        self.last["seq"] = said[2]["seq"]
        self.messages.put_nowait(said)

    async def heard(self) -> tuple[Any, ...]:
        return await asyncio.wait_for(self.messages.get(), PATIENCE_S)

    async def joined(self) -> Any:
        return await asyncio.wait_for(self.joins.get(), PATIENCE_S)


@pytest.mark.parametrize("transports", TRANSPORTS)
async def test_pythons_client_speaks_and_comes_back(server: PhoenixServer, transports: str) -> None:
    """Also after the bridge was restarted, whatever it is connected by."""
    async with aiohttp.ClientSession() as session:
        client = PythonClient(session)
        await client.sio.connect(server.http, auth={"token": TOKEN}, transports=transports.split(","))
        try:
            await _speaks_and_comes_back(server, client)
        finally:
            await client.sio.disconnect()


async def _speaks_and_comes_back(server: PhoenixServer, client: PythonClient) -> None:
    assert (await client.joined())["recovered"] is False
    said = await client.sio.call("push", (S, "submit", {"prompt": "words 2"}), timeout=PATIENCE_S)
    assert said["status"] == "ok"
    heard = [(await client.heard())[1] for _ in range(5)]
    assert heard == ["turn_started", "delta", "delta", "block", "turn_finished"]
    port = server.port
    await server.stop()
    await server.start(port)
    server.service.add("a")
    assert (await client.joined())["recovered"] is False, "this session has published less"
    server.service.publish("a", word("back"))
    assert (await client.heard())[2]["text"] == "back"


async def test_pythons_client_is_told_why_it_is_refused(server: PhoenixServer) -> None:
    """In our own words."""
    client = socketio.AsyncClient()
    told: list[Any] = []
    client.on("connect_error", told.append)
    with pytest.raises(socketio.exceptions.ConnectionError):
        await client.connect(server.http, auth={"token": "wrong"}, transports=["websocket"])
    assert told[0]["data"]["reason"] == "unauthorized"
