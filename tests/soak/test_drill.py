"""The drill at its full length: `kill -9` of the bridge, of CLIs, of tmux, of connections, under load."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.drill.run import FAULTS, Fault, Plan, prepared
from bridge.drill.show import result
from tests.fakes.phoenix_js import Clients

pytestmark = [pytest.mark.real, pytest.mark.soak]


@pytest.mark.parametrize(
    ("faults", "usual"), [(("bridge",), 100), (("cli",), 50), (("tmux",), 10), (FAULTS, 40)], ids=str
)
async def test_nothing_is_lost_and_nothing_happens_twice(
    faults: tuple[Fault, ...],
    usual: int,
    tmp_path: Path,
    claude_path: Path,
    clients: Clients,
    seed: int,
    rounds: Callable[[int], int],
    report: Callable[..., None],
) -> None:
    """Two sessions of each backend; the official client looks on at each, and comes back by itself."""
    plan = Plan(seed, rounds(usual), sessions=2, faults=faults)
    env = {"CLAUDE_BRIDGE_CLAUDE__PATH": str(claude_path)}
    async with prepared(plan, tmp_path, env) as (drill, stage):

        def look_on() -> None:
            for patient in drill.patients:
                socket = clients.connect(f"ws://127.0.0.1:{stage.port}/socket", stage.token)
                start = {"backend": patient.backend}
                socket.join(patient.watcher.topic, {"turns": 0, "start": start}, resume=True)

        await asyncio.to_thread(look_on)
        await drill.run(lambda done, figures: None)
        for socket in clients.sockets:
            await asyncio.to_thread(socket.disconnect)
    told = result(plan, drill.figures)
    report(**told)
    assert told["broken"] == []
    assert set(told["answered_by"]) == set(plan.backends)
    if faults == ("bridge",):
        assert told["unknown"] == told["unknown_unseen"]
