"""The official npm `phoenix` client against the transport: what it needs to work, seen working."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bridge.events import DeltaAdded, Epoch, TurnId
from tests.fakes.phoenix import PhoenixServer
from tests.fakes.service import TOKEN

SCENARIO = Path(__file__).parents[1] / "js" / "scenario.mjs"
PATIENCE_S = 30
"""Node takes a second to start on a machine that is busy."""


class JsClient:
    """One client in a Node of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def said(self) -> dict[str, Any]:
        """The next thing it says."""
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), PATIENCE_S)
        said: dict[str, Any] = json.loads(line or b"{}")
        return said

    async def hear(self, key: str) -> Any:
        """The next thing it says, which must be of this kind."""
        said = await self.said()
        assert key in said, f"{key!r} was expected, not {said}"
        return said[key]

    def tell(self, **command: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")


Connect = Callable[..., Awaitable[JsClient]]


@asynccontextmanager
async def node(*arguments: str) -> AsyncIterator[JsClient]:
    process = await asyncio.create_subprocess_exec(
        "node",
        str(SCENARIO),
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield JsClient(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.fixture
async def connect(server: PhoenixServer) -> AsyncIterator[Connect]:
    async with AsyncExitStack() as stack:

        async def start(token: str = TOKEN, via: str = "params", topic: str = "session:a") -> JsClient:
            url = f"ws://127.0.0.1:{server.port}/socket"
            return await stack.enter_async_context(node(url, token, via, topic))

        yield start


def word(text: str) -> DeltaAdded:
    return DeltaAdded(TurnId("t"), 0, "text", text)


async def test_it_joins_pushes_hears_and_leaves(connect: Connect) -> None:
    """The reply first, then the events, each with its number; leaving closes the channel."""
    client = await connect()
    assert await client.hear("open")
    assert await client.hear("joined") == 0
    client.tell(push="submit", payload={"prompt": "words 3"})
    assert (await client.hear("ok"))["turn"] == "turn-1"
    events = [await client.hear("event") for _ in range(6)]
    assert events == ["turn_started", "delta", "delta", "delta", "block", "turn_finished"]
    client.tell(push="submit", payload={"prompt": " "})
    assert await client.hear("error") == "prompt_empty"
    client.tell(leave=True)
    assert await client.hear("closed")
    assert await client.hear("left")


async def test_A16_it_gives_its_token_as_auth_token(connect: Connect) -> None:
    """The sub-protocol that it asks for is answered, or it would never open."""
    client = await connect(via="authToken")
    assert await client.hear("open")
    assert await client.hear("joined") == 0


async def test_A06_with_a_wrong_token_it_never_opens(connect: Connect) -> None:
    """And tries again by itself."""
    client = await connect(token="wrong")
    said = [await client.said() for _ in range(6)]
    assert said.count({"close": 1006}) >= 2
    assert all(s.keys() <= {"close", "errored"} for s in said)


async def test_E04_a_topic_without_a_route_is_refused(connect: Connect) -> None:
    """`receive("error")` fires."""
    client = await connect(topic="room:lobby")
    await client.hear("open")
    assert await client.hear("refused") == "unmatched topic"


async def test_K02_P02_after_1011_it_comes_back_and_misses_nothing(
    server: PhoenixServer, connect: Connect
) -> None:
    """It rejoins with what it heard last and is given the rest."""
    client = await connect()
    await client.hear("open")
    await client.hear("joined")
    server.service.publish("a", word("one"))
    await client.hear("event")
    client.tell(garble=True)
    await client.hear("errored")
    assert await client.hear("close") == 1011
    server.service.publish("a", word("two"))
    assert await client.hear("open")
    assert await client.hear("joined") == 2
    assert (await client.hear("payload"))["text"] == "two"


async def test_K02_M01_after_1012_it_comes_back_to_the_next_bridge(
    server: PhoenixServer, connect: Connect
) -> None:
    """Another epoch: its cursor is not recovered, and it is told so."""
    client = await connect()
    await client.hear("open")
    await client.hear("joined")
    server.service.publish("a", word("one"))
    await client.hear("event")
    port = server.port
    await server.stop()
    await client.hear("errored")
    assert await client.hear("close") == 1012
    server.epoch = Epoch("e2")
    await server.start(port)
    server.service.add("a")
    while "joined" not in (said := await client.said()):
        assert said.keys() <= {"close", "errored", "open"}
    assert said == {"joined": 0, "recovered": False}


async def test_G09_after_a_crashed_channel_it_joins_again(connect: Connect) -> None:
    """phx_error, then a new join by itself."""
    client = await connect()
    await client.hear("open")
    await client.hear("joined")
    client.tell(push="submit", payload={"prompt": "crash"})
    assert await client.hear("errored") == {"reason": "channel_crash"}
    assert await client.hear("joined") == 0


async def test_G10_a_deleted_session_is_not_joined_again(server: PhoenixServer, connect: Connect) -> None:
    """phx_close: the channel is closed for good."""
    client = await connect()
    await client.hear("open")
    await client.hear("joined")
    server.hub.drop("session:a")
    assert await client.hear("closed")


async def test_F05_joining_a_topic_twice_ends_the_first_and_keeps_the_second(
    server: PhoenixServer, connect: Connect
) -> None:
    """Its own leave and our close do not touch the new channel."""
    client = await connect()
    await client.hear("open")
    await client.hear("joined")
    client.tell(again=True)
    said = [await client.said() for _ in range(2)]
    assert {"closed": True} in said
    assert {"joined": 0, "recovered": True} in said
    server.service.publish("a", word("x"))
    assert (await client.hear("payload"))["text"] == "x"
