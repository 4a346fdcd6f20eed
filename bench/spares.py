"""New sessions on spares: from asking for the session to its first word, against a cold CLI.

The real CLI on the simulator, which answers at once; the environment of a CLI is made by `launch`:

- ours: from a client's join that starts the session, its first `submit` right behind, to the first `delta`,
  spares ready; the session is deleted and the spares are full again before the next;
- cold: `claude -p PROMPT`, from the spawn to the first delta on its stdout;
- a burst: many sessions at once on fewer spares, those that got one against those that did not.

`python -m bench.spares [--quick]` prints the rows.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from bench.first_delta import Cold, configured, prompt, simulator
from bench.harness import BridgeProcess, PhoenixClient, folder, row, show, spread
from bridge.sessions.claude import launch

RUNS = 10
BURST, KEPT = 20, 8
AIM_COLD, AIM_BURST = 3.0, 2.0
FULL_S = 120.0
AGAIN_S = 0.1


async def first_word(port: int, name: str, number: int) -> float:
    """Milliseconds; the session is there afterwards."""
    topic = f"session:{name}"
    async with PhoenixClient.connect(port) as client:
        began = time.perf_counter()
        await client.push(topic, "phx_join", {"start": {}})
        await client.push(topic, "submit", {"prompt": prompt(number)})
        await client.until(topic, "delta")
        taken = time.perf_counter() - began
        await client.until(topic, "turn_finished")
    return taken * 1000


async def delete(port: int, *names: str) -> None:
    async with PhoenixClient.connect(port) as client:
        await client.ask("sessions", "phx_join", {})
        for name in names:
            await client.ask("sessions", "delete", {"name": name})


async def full(port: int, count: int) -> None:
    async with PhoenixClient.connect(port) as client:
        await client.ask("sessions", "phx_join", {})
        deadline = time.monotonic() + FULL_S
        while True:
            tree = await client.ask("sessions", "tree", {})
            kept = next(child for child in tree["children"] if child["id"] == "spares")
            if kept["ready"] >= count:
                return
            assert time.monotonic() < deadline, f"there are not {count} spares: {kept}"
            await asyncio.sleep(AGAIN_S)


async def one_by_one(port: int, cold: Cold, count: int, runs: int) -> tuple[list[float], list[float]]:
    ours, theirs = [], []
    for number in range(runs + 1):  # the first of each warms the caches
        await full(port, count)
        name = f"one-{number}"
        ours.append(await first_word(port, name, number))
        await delete(port, name)
        await full(port, count)
        theirs.append(cold.ask(prompt(number)))  # blocks the loop, in which nothing else is
    return ours[1:], theirs[1:]


async def burst(port: int, state: Path, count: int, burst: int) -> tuple[list[float], list[float]]:
    """Those with a spare, and those without."""
    await full(port, count)
    names = [f"burst-{number}" for number in range(burst)]
    taken = await asyncio.gather(*(first_word(port, name, n) for n, name in enumerate(names)))
    got: dict[bool, list[float]] = {True: [], False: []}
    for name, time_ms in zip(names, taken, strict=True):
        got[(state / "sessions" / name / "1" / "spare.json").exists()].append(time_ms)
    await delete(port, *names)
    return got[True], got[False]


def run(quick: bool) -> list[dict[str, Any]]:
    """The rows of the report."""
    count, many, runs = (2, 6, 3) if quick else (KEPT, BURST, RUNS)
    with folder() as home, simulator(home) as base_url:
        table, config = configured(home, base_url)
        environment = launch.environment(config, os.environ)
        cold = Cold(launch.find_claude(config), environment, home / "work")
        kept = {"high": count, "starts_per_s": 2, "memory_mb": 300 * count}
        with BridgeProcess(home, table, spares=kept) as bridge:
            ours, theirs = asyncio.run(one_by_one(bridge.port, cold, count, runs))
            with_one, without = asyncio.run(burst(bridge.port, home / "state", count, many))
    faster, among = median(theirs) / median(ours), median(without) / median(with_one)
    return [
        row(
            "new session to first delta, on a spare",
            spread(ours, "ms", 0),
            against="cold `claude -p`",
            alternative=spread(theirs, "ms", 0),
            ratio=f"{faster:.1f}× faster",
            aim=f"≥ {AIM_COLD:g}×",
            met=faster >= AIM_COLD,
            n=str(len(ours)),
            note="real CLI, simulator without delay; in turns, spares full before each",
        ),
        row(
            f"{many} sessions at once on {count} spares: those that got one",
            spread(with_one, "ms", 0),
            against="those that got none",
            alternative=spread(without, "ms", 0),
            ratio=f"{among:.1f}× faster",
            aim=f"≥ {AIM_BURST:g}×",
            met=among >= AIM_BURST,
            n=f"{len(with_one)} and {len(without)}",
            note="join with start and submit to the first delta, all in the same moment",
        ),
    ]


if __name__ == "__main__":
    show(run("--quick" in sys.argv))
