"""Fifty sessions on one bridge: all of them are taken up again after a kill, and after a reboot."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from bridge.client import connect
from tests.fakes.bridge import BridgeProcess

pytestmark = [pytest.mark.real, pytest.mark.soak]

SESSIONS = 50
"""Their CLIs take 200 MB each."""
STEADY = {"idle"}


async def until(bridge: BridgeProcess, found: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
    """The sessions, as soon as they are so. They are asked for again when one has changed."""
    async with connect(bridge.address) as connection:
        sessions = {s["name"]: s for s in (await connection.join("sessions", {}))["sessions"]}
        while not found(list(sessions.values())):
            async with asyncio.timeout(300):
                message = await connection.receive()
            if message.event == "session_changed":
                sessions[message.payload["session"]["name"]] = message.payload["session"]
        return list(sessions.values())


def steady(sessions: list[dict[str, Any]]) -> bool:
    assert "failed" not in {s["state"] for s in sessions}, [s["reason"] for s in sessions if "reason" in s]
    return {s["state"] for s in sessions} == STEADY


def pids(bridge: BridgeProcess) -> dict[str, str]:
    said = bridge.tmux("list-panes", "-a", "-F", "#{session_name} #{pane_pid}").stdout
    return dict(line.split() for line in said.splitlines() if line.startswith("claude_"))


@pytest.mark.parametrize("backend", ["headless", "tmux"])
async def test_all_sessions_are_taken_up_again(
    own_bridge: BridgeProcess, backend: str, rounds: Callable[[int], int], report: Callable[..., None]
) -> None:
    """After a kill of the bridge: the same processes. After a reboot: others, started a few at a time, so
    that none runs out of time."""
    count = rounds(SESSIONS)
    async with connect(own_bridge.address) as connection:
        await connection.join("sessions", {})
        for n in range(count):
            await connection.push("sessions", "start", {"name": f"s{n}", "backend": backend})
    began = time.monotonic()
    await until(own_bridge, lambda sessions: len(sessions) == count and steady(sessions))
    started_s = time.monotonic() - began
    before = pids(own_bridge)
    assert len(before) == count

    own_bridge.kill()
    began = time.monotonic()
    own_bridge.start()
    answers_s = time.monotonic() - began
    sessions = await until(own_bridge, steady)
    adopted_s = time.monotonic() - began
    assert pids(own_bridge) == before
    assert Counter(s["restarts"] for s in sessions) == {0: count}
    assert own_bridge.log.read_text().count('"event":"adopted"') == count

    own_bridge.lose_everything()
    began = time.monotonic()
    own_bridge.start()
    sessions = await until(own_bridge, steady)
    resumed_s = time.monotonic() - began
    assert len(pids(own_bridge)) == count
    assert Counter(s["restarts"] for s in sessions) == {1: count}, "a start ran out of time"
    report(
        sessions=count,
        started_s=round(started_s, 1),
        answers_s=round(answers_s, 2),
        adopted_s=round(adopted_s, 2),
        resumed_s=round(resumed_s, 1),
    )
