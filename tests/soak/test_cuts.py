"""The client's connection breaks at every event of a turn: the text is right, and every number comes once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing

import pytest

from bridge.client import Submission, connect, follow
from bridge.drill.watcher import Watcher
from bridge.locate import Address, Look
from bridge.simulator.script import words
from tests.fakes.bridge import BridgeProcess, sim
from tests.fakes.phoenix_js import Clients, assert_well_told
from tests.soak.boundaries import insisted
from tests.soak.cutting import Cutter, cutter

pytestmark = [pytest.mark.real, pytest.mark.soak]

COUNT = 200
PROMPT = f"count {sim(thinking='hm hm', words=COUNT, gap_ms=1)}"


def through(bridge: BridgeProcess, way: Cutter) -> Address:
    return Address(f"http://127.0.0.1:{way.port}", bridge.token)


@pytest.fixture
async def session(own_bridge: BridgeProcess) -> str:
    """A session that has come up."""
    watcher = Watcher(own_bridge.address, "main", start={})
    watching = asyncio.ensure_future(watcher.run())
    await watcher.until(lambda: watcher.session.get("state") == "idle", "idle")
    watching.cancel()
    return watcher.topic


@pytest.mark.parametrize("half", [False, True], ids=["between frames", "in a frame"])
@pytest.mark.parametrize("allow", [1, 2, 7])
async def test_a_watcher_that_is_cut_off_at_every_event_misses_nothing(
    own_bridge: BridgeProcess, session: str, half: bool, allow: int, report: Callable[..., None]
) -> None:
    """The Python client's connection, and the checks of one who disbelieves all it is told."""
    async with cutter(own_bridge.port) as way:
        way.half, way.allow = half, allow
        watcher = Watcher(through(own_bridge, way), "main")
        watching = asyncio.ensure_future(watcher.run())
        await watcher.until(lambda: watcher.connected, "a join")
        turn = (await insisted(own_bridge, session, "submit", {"prompt": PROMPT}))["turn"]
        view = await watcher.finished(turn)
        watching.cancel()
        assert (view.status, view.text) == ("completed", words(COUNT).rstrip())
        assert view.blocks == {0: "hm hm", 1: words(COUNT)}
        assert watcher.joins == watcher.recovered + 1
        assert way.cuts >= COUNT // allow
    report(cuts=way.cuts, joins=watcher.joins, events=watcher.events)


async def test_a_command_that_is_cut_off_at_every_event_tells_the_whole_answer(
    own_bridge: BridgeProcess, session: str, report: Callable[..., None]
) -> None:
    """`claude-bridge submit`: each delta once, and the end."""
    told: list[str] = []
    async with cutter(own_bridge.port) as way:
        address = through(own_bridge, way)
        submission = Submission({"prompt": PROMPT, "id": "once"})
        look = Look(url=address.url, token=address.token)
        async with aclosing(follow(look, "main", submission=submission)) as events:
            async for event, payload in events:
                if event == "delta" and payload["kind"] == "text":
                    told.append(payload["text"])
                if event == "turn_finished":
                    assert payload["text"] == words(COUNT).rstrip()
                    break
        assert way.cuts >= COUNT
    assert "".join(told) == words(COUNT)
    async with connect(own_bridge.address) as connection:
        await connection.join(session, {})
        assert len((await connection.push(session, "history", {}))["turns"]) == 1
    report(cuts=way.cuts, deltas=len(told))


@pytest.mark.parametrize("half", [False, True], ids=["between frames", "in a frame"])
async def test_phoenix_js_that_is_cut_off_at_every_event_misses_nothing(
    own_bridge: BridgeProcess, session: str, clients: Clients, half: bool, report: Callable[..., None]
) -> None:
    """The official client's own rejoins; that its numbers have no gap is checked for every channel."""
    async with cutter(own_bridge.port) as way:
        way.half = half

        def use() -> int:
            url = f"ws://127.0.0.1:{way.port}/socket"
            channel = clients.connect(url, own_bridge.token).join(session, resume=True)
            turn = clients.connect(own_bridge.url, own_bridge.token).join(session).submit(PROMPT)
            story = channel.story(turn)
            assert_well_told(story)
            assert story.text == words(COUNT).rstrip()
            assert story.blocks == {0: "hm hm", 1: words(COUNT)}
            joins = [h.payload for h in channel.heard if h.event == "join_ok"]
            assert all(join["recovered"] for join in joins[1:])
            return len(joins)

        joins = await asyncio.to_thread(use)
        assert way.cuts >= COUNT
        report(cuts=way.cuts, joins=joins)
        for socket in clients.sockets:
            await asyncio.to_thread(socket.disconnect)
