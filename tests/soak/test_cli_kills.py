"""`kill -9` of the CLIs at random moments, under load: nothing is run twice, and nothing stays stuck."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bridge.client import Connection, connect
from bridge.errors import RefusedByBridge
from tests.fakes.bridge import BridgeProcess, running_bridge, sim
from tests.soak.bridge_kills import address_of
from tests.soak.cli_kills import MANY_RESTARTS, Victim, cli_kills, next_process
from tests.soak.prompts import Writer
from tests.soak.watcher import Watcher

pytestmark = [pytest.mark.real, pytest.mark.soak]


@pytest.fixture
def patient_bridge(tmp_path: Path) -> Iterator[BridgeProcess]:
    """One that starts a process again however often it ends."""
    with running_bridge(tmp_path, **MANY_RESTARTS) as running:
        yield running


async def test_clis_that_are_killed_again_and_again_lose_nothing(
    patient_bridge: BridgeProcess, seed: int, rounds: Callable[[int], int], report: Callable[..., None]
) -> None:
    """Thirty kills over two sessions: `unknown` is only what had begun."""
    figures = await cli_kills(patient_bridge, seed=seed, rounds=rounds(30), sessions=2)
    report(**vars(figures))


async def test_clis_and_the_bridge_killed_together_lose_nothing(
    patient_bridge: BridgeProcess, seed: int, rounds: Callable[[int], int], report: Callable[..., None]
) -> None:
    """In every third round the bridge dies just after the CLI."""
    figures = await cli_kills(patient_bridge, seed=seed, rounds=rounds(30), sessions=2, with_bridge=True)
    report(**vars(figures))


async def test_a_session_whose_process_never_lives_long_is_failed_and_can_be_started_again(
    own_bridge: BridgeProcess, seed: int, report: Callable[..., None]
) -> None:
    """Three restarts a minute are its budget; what waited then is answered after a start by hand."""
    address = address_of(own_bridge)
    watcher = Watcher(address, "s0", start={})
    waiting = [f"wait {n};" for n in range(3)]
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(watcher.run())
        await watcher.until(lambda: watcher.connected, "a first join")
        async with connect(address) as connection:
            lobby = await connection.join("sessions", {})
            assert [s["name"] for s in lobby["sessions"]] == ["s0"]
            await connection.join(watcher.topic, {"turns": 0})
            late = f"late; {sim(first_ms=5000, text='late at last')}"
            turns = [await submitted(connection, watcher, prompt) for prompt in (late, *waiting)]
            victim = Victim(watcher, Writer("s0", "a", own_bridge.home, random.Random(seed)))
            for restarts in range(4):
                await watcher.until(
                    lambda n=restarts: (  # type: ignore[misc]
                        watcher.session["restarts"] == n and watcher.session["state"] == "busy"
                    ),
                    f"the process after restart no. {restarts}",
                )
                pid = await next_process(own_bridge, victim)
                victim.killed.append(pid)
                os.kill(pid, signal.SIGKILL)
            await watcher.until(lambda: watcher.session["state"] == "failed", "giving up")
            assert "SIGKILL" in watcher.session["reason"]
            (listed,) = (await connection.push("sessions", "list", {}))["sessions"]
            assert (listed["state"], listed["restarts"]) == ("failed", 3)
            with pytest.raises(RefusedByBridge) as refused:
                await submitted(connection, watcher, "now?")
            assert refused.value.reason == "session_failed"
            assert {watcher.turns[t].status for t in turns} == {"queued"}
            await connection.push("sessions", "start", {"name": "s0"})
            ends = [await watcher.finished(t) for t in turns]
        assert [e.status for e in ends] == ["completed"] * 4
        assert [e.text for e in ends] == ["late at last", *(f"You said: {p}" for p in waiting)]
        assert watcher.session["restarts"] == 3
        assert own_bridge.requests("wait 2;")
        watching.cancel()
    report(kills=4, asked=len(own_bridge.requests("late;")))


async def submitted(connection: Connection, watcher: Watcher, prompt: str) -> str:
    reply = await connection.push(watcher.topic, "submit", {"prompt": prompt})
    turn: str = reply["turn"]
    return turn
