"""`kill -9` of the bridge at every step of a prompt, a request, a start, a stop and a deletion."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable

import pytest

from bridge.drill.watcher import AGAIN_S
from bridge.simulator.script import words
from tests.fakes.bridge import BridgeProcess, sim
from tests.soak.boundaries import Scene, Trap, insisted, listed, pushed, reborn, scene

pytestmark = [pytest.mark.real, pytest.mark.soak]

MEGABYTE = 1024 * 1024
SETTLED = ("stopped", "busy", "idle")


@pytest.mark.parametrize("kind", ["plain", "thinking", "tool"])
async def test_killed_at_every_trace_of_a_prompt(
    own_bridge: BridgeProcess, kind: str, seed: int, rounds: Callable[[int], int], report: Callable[..., None]
) -> None:
    """From its acceptance to its end; a tool's request and its answer are on the way."""
    sprung = 0
    async with scene(own_bridge, seed) as s:
        for nth in range(1, rounds(30) + 1):
            prompt = s.prompt(kind)
            trap = Trap(own_bridge, s.name, nth)
            asking = asyncio.create_task(s.answered(prompt))
            await trap.closed()
            sprung += trap.sprung
            await asking
        assert await s.asked() == {}
        assert s.tools_run() == {}
        assert s.watcher.session["restarts"] == 0
    report(kills=nth, at_a_trace=sprung, prompts=len(s.prompts), lost=0, asked_twice=0)


@pytest.mark.parametrize("revived", ["before the next bridge", "under the next bridge"])
async def test_killed_with_half_a_prompt_in_the_pipe(
    own_bridge: BridgeProcess, revived: str, seed: int, rounds: Callable[[int], int]
) -> None:
    """The CLI cannot read it and ends; the next one gets the whole."""
    async with scene(own_bridge, seed) as s:
        for n in range(rounds(5)):
            key = f"half-{n:03d};"
            text = f"{key} {sim(text=f'read {key}')}"
            prompt = s.said(text.ljust(MEGABYTE, "x"), f"read {key}", key)
            await s.at_rest()
            with s.stopped_cli():
                await s.accepted(prompt)
                assert await s.in_pipe(MEGABYTE) == MEGABYTE
                if revived == "before the next bridge":
                    await asyncio.to_thread(own_bridge.kill)
                else:
                    await reborn(own_bridge)
            if own_bridge.process is None:
                await asyncio.to_thread(own_bridge.start)
            await s.answered(prompt)
            assert s.watcher.session["restarts"] == n + 1
            assert await s.asked() == {}


@pytest.mark.parametrize("bridges", [0, 1, 2])
async def test_killed_between_sent_and_seen(
    own_bridge: BridgeProcess, bridges: int, seed: int, rounds: Callable[[int], int]
) -> None:
    """The line is in the pipe, and the CLI reads it later: under no bridge, the next, or the one after."""
    async with scene(own_bridge, seed) as s:
        for _ in range(rounds(10)):
            await s.at_rest()
            prompt = s.prompt("thinking")
            with s.stopped_cli():
                await s.accepted(prompt)
                waiting = await s.in_pipe(len(prompt.text))
                await asyncio.to_thread(own_bridge.kill)
                for _ in range(bridges):
                    await asyncio.to_thread(own_bridge.start)
                    waiting = await s.in_pipe(waiting + 1)  # it asks the CLI whether it is ready
                    if _ + 1 < bridges:
                        await asyncio.to_thread(own_bridge.kill)
            if own_bridge.process is None:
                await s.until_said(b'"state":"idle"')
                await asyncio.to_thread(own_bridge.start)
            await s.answered(prompt)
        assert await s.asked() == {}
        assert s.watcher.session["restarts"] == 0


async def test_killed_between_the_result_and_its_journal(
    own_bridge: BridgeProcess, seed: int, rounds: Callable[[int], int]
) -> None:
    """A bridge that was stopped in mid-turn has read neither the end nor what came before it."""
    async with scene(own_bridge, seed) as s:
        for n in range(rounds(10)):
            key = f"count-{n:03d};"
            prompt = s.said(f"{key} {sim(words=100, gap_ms=4)}", words(100).rstrip(), key)
            behind = s.prompt("plain")
            await s.accepted(prompt)
            await s.accepted(behind)
            assert prompt.turn is not None
            await s.watcher.until(lambda: bool(s.watcher.turns[prompt.turn].previews), "a delta")  # type: ignore[index]  # noqa: B023
            assert own_bridge.process is not None
            os.kill(own_bridge.process.pid, signal.SIGSTOP)
            await s.until_said(b'"type":"result"', len(s.said_so_far()))
            await reborn(own_bridge)
            await s.answered(prompt)
            await s.answered(behind)
        assert await s.asked() == {}
        assert s.watcher.session["restarts"] == 0


async def test_killed_while_an_answer_is_on_its_way(
    own_bridge: BridgeProcess, seed: int, rounds: Callable[[int], int], report: Callable[..., None]
) -> None:
    """The answer is in the pipe or it is not: the tool runs once, and its request does not stay open."""
    async with scene(own_bridge, seed, answers=False) as s:
        again = 0
        for nth in range(1, rounds(12) + 1):
            prompt = s.prompt("tool")
            await s.accepted(prompt)
            await s.watcher.until(lambda: bool(s.watcher.requests), "a request")
            (request,) = s.watcher.requests
            trap = Trap(own_bridge, s.name, nth)
            answer = {"request": request, "decision": "allow"}
            await pushed(own_bridge, s.watcher.topic, "answer", answer)
            await trap.closed()
            again += await answer_again(own_bridge, s, request)
            await s.answered(prompt)
            assert s.watcher.requests == {}
        assert s.tools_run() == {}
        assert await s.asked() == {}
        assert s.watcher.session["restarts"] == 0
    report(kills=nth, answered_again=again, tools_run_twice=0)


async def answer_again(bridge: BridgeProcess, s: Scene, request: str) -> bool:
    """As whoever got no reply does; False where it was too late."""
    try:
        await insisted(bridge, s.watcher.topic, "answer", {"request": request, "decision": "allow"})
    except Exception as refused:
        if getattr(refused, "reason", None) != "request_closed":
            raise
        return False
    return True


async def test_killed_with_an_answer_in_the_pipe(
    own_bridge: BridgeProcess, seed: int, rounds: Callable[[int], int]
) -> None:
    """The CLI reads it after the bridge that wrote it is dead, and perhaps the second one, too."""
    async with scene(own_bridge, seed, answers=False) as s:
        for n in range(rounds(6)):
            prompt = s.prompt("tool")
            await s.accepted(prompt)
            await s.watcher.until(lambda: bool(s.watcher.requests), "a request")
            (request,) = s.watcher.requests
            with s.stopped_cli():
                await pushed(own_bridge, s.watcher.topic, "answer", {"request": request, "decision": "allow"})
                await s.in_pipe(10)
                await reborn(own_bridge)
                if n % 2:
                    await answer_again(own_bridge, s, request)
            await s.answered(prompt)
            assert s.watcher.requests == {}
        assert s.tools_run() == {}
        assert await s.asked() == {}


async def test_killed_during_a_start(
    own_bridge: BridgeProcess, seed: int, rounds: Callable[[int], int], report: Callable[..., None]
) -> None:
    """The session is there or it is not, and asked for again it works; no process is left beside it."""
    for nth in range(1, rounds(12) + 1):
        name = f"start{nth}"
        trap = Trap(own_bridge, name, nth)
        await pushed(own_bridge, "sessions", "start", {"name": name})
        await trap.closed()
        async with scene(own_bridge, seed, name) as s:
            await s.answered(s.prompt("plain"))
            assert await s.asked() == {}
        assert own_bridge.tmux_sessions() == {"simulator", f"claude_{name}"}
        await insisted(own_bridge, "sessions", "delete", {"name": name})
    assert_clean(own_bridge)
    report(kills=nth)


async def test_killed_during_a_stop(
    own_bridge: BridgeProcess, seed: int, rounds: Callable[[int], int], report: Callable[..., None]
) -> None:
    """Stopped or going on: what is called stopped has no process, and its turn's end stays what it was."""
    stopped = 0
    async with scene(own_bridge, seed) as s:
        for nth in range(1, rounds(10) + 1):
            key = f"stop-{nth:03d};"
            prompt = s.said(f"{key} {sim(words=2000, gap_ms=2)}", "", key)
            await s.accepted(prompt)
            assert prompt.turn is not None
            await s.watcher.until(lambda: bool(s.watcher.turns[prompt.turn].previews), "a delta")  # type: ignore[index]  # noqa: B023
            trap = Trap(own_bridge, s.name, nth, files=False)  # the CLI writes all the while
            await pushed(own_bridge, s.watcher.topic, "stop", {})
            await trap.closed()
            await s.watcher.until(
                lambda: s.watcher.connected and s.watcher.session["state"] in SETTLED, "rest"
            )
            if s.watcher.session["state"] == "stopped":
                stopped += 1
                await gone(own_bridge, s.name)
                assert s.watcher.turns[prompt.turn].status == "interrupted"
                await insisted(own_bridge, "sessions", "start", {"name": s.name})
            else:
                await insisted(own_bridge, s.watcher.topic, "interrupt", {})
                await s.watcher.finished(prompt.turn)
            await s.answered(s.prompt("plain"))
        assert await s.asked() == {}
    report(kills=nth, stopped=stopped)


async def gone(bridge: BridgeProcess, name: str) -> None:
    """Until the session's process and its place in tmux are no more."""
    async with asyncio.timeout(30):
        while True:
            if f"claude_{name}" not in await asyncio.to_thread(bridge.tmux_sessions):
                return
            await asyncio.sleep(AGAIN_S)


async def test_killed_during_a_deletion(
    own_bridge: BridgeProcess, seed: int, rounds: Callable[[int], int], report: Callable[..., None]
) -> None:
    """Deleted or there: what is gone from the list is gone altogether, and what is left can be used."""
    deleted = 0
    for nth in range(1, rounds(12) + 1):
        name = f"delete{nth}"
        async with scene(own_bridge, seed, name) as s:
            await s.answered(s.prompt("plain"))
        trap = Trap(own_bridge, name, nth)
        await pushed(own_bridge, "sessions", "delete", {"name": name})
        await trap.closed()
        if name in await listed(own_bridge):
            # The first step of a deletion is a stop.
            await insisted(own_bridge, "sessions", "start", {"name": name})
            async with scene(own_bridge, seed, name) as s:
                await s.answered(s.said("again;", "You said: again;", "again;"))
            await insisted(own_bridge, "sessions", "delete", {"name": name})
        else:
            deleted += 1
        assert_clean(own_bridge)
    report(kills=nth, deleted=deleted)


def assert_clean(bridge: BridgeProcess) -> None:
    """Nothing is left of any session."""
    assert bridge.tmux_sessions() == {"simulator"}
    folder = bridge.state_dir / "sessions"
    assert [p.name for p in folder.iterdir()] == []
    note = json.loads((bridge.state_dir / "simulator.json").read_bytes())
    assert note["port"]
