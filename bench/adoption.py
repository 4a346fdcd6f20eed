"""Coming back: from the start of the bridge to a rejoined client's first event, and to many sessions at work.

The bridge is killed and started again on the real CLI and the simulator, in turns in two ways:

- ours: the CLIs went on meanwhile, and the new bridge takes them up where they are;
- resumed: they were ended with it, as by a reboot or by a bridge whose sessions are its children, and are
  started afresh with `--resume`.

The first figure is of one session in the middle of an answer, with a prompt behind it: a client that connects
as soon as it can hears the next delta of that answer, or, resumed, the first of the prompt that waited. The
second is of many idle sessions: until the last of them is idle again.
`python -m bench.adoption [--quick]` prints the rows.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp

from bench.first_delta import simulator
from bench.harness import BridgeProcess, PhoenixClient, folder, row, show, spread

RUNS, QUICK_RUNS = 15, 3
SESSIONS, QUICK_SESSIONS = 50, 4
ROUNDS, QUICK_ROUNDS = 3, 1
AIM_FASTER, AIM_ALL_S = 1.5, 3.0
TOPIC = "session:back"
LONG = 'run {number} [[sim {{"words": 5000, "gap_ms": 10}}]]'
WAITING = 'wait {number} [[sim {{"words": 10}}]]'
RETRY_S = 0.002


@contextmanager
def house() -> Iterator[BridgeProcess]:
    with folder() as home, simulator(home) as base_url:
        for name in ("claude-config", "claude-home"):
            (home / name).mkdir()
        table = {
            "base_url": base_url,
            "api_key": "sk-ant-simulated-bench",
            "config_dir": str(home / "claude-config"),
            "home": str(home / "claude-home"),
        }
        with BridgeProcess(home, table) as bridge:
            yield bridge


def come_back(bridge: BridgeProcess, *, resumed: bool) -> float:
    """Kill the bridge, and its sessions' processes where they are to be `resumed`; when it was started."""
    bridge.kill()
    if resumed:
        pids = [int(p.name) for p in Path("/proc").glob("[0-9]*") if _is_cli(p, bridge.home)]
        bridge.end_sessions()
        while any(_is_cli(Path(f"/proc/{pid}"), bridge.home) for pid in pids):
            time.sleep(RETRY_S)
    began = time.perf_counter()
    bridge.spawn()
    return began


def _is_cli(process: Path, home: Path) -> bool:
    try:
        return os.fsencode(home / "claude-config") in (process / "environ").read_bytes()
    except OSError:
        return False


@asynccontextmanager
async def connected(port: int) -> Any:
    """As soon as it is possible."""
    deadline = time.monotonic() + 60
    while True:
        try:
            async with PhoenixClient.connect(port) as client:
                yield client
                return
        except aiohttp.ClientConnectionError:
            assert time.monotonic() < deadline, "the bridge does not come back"
        await asyncio.sleep(RETRY_S)


async def first_event(bridge: BridgeProcess, number: int, *, resumed: bool) -> float:
    """Milliseconds until a client hears the session say something."""
    async with PhoenixClient.connect(bridge.port) as client:
        await client.ask(TOPIC, "phx_join", {"start": {}, "turns": 0})
        running = await client.ask(TOPIC, "submit", {"prompt": LONG.format(number=number)})
        await client.until(TOPIC, "delta")
        waiting = await client.ask(TOPIC, "submit", {"prompt": WAITING.format(number=number)})
    began = come_back(bridge, resumed=resumed)
    async with connected(bridge.port) as client:
        await client.ask(TOPIC, "phx_join", {"turns": 0})
        heard = (waiting if resumed else running)["turn"]
        while (await client.until(TOPIC, "delta"))["turn"] != heard:
            pass
        taken = (time.perf_counter() - began) * 1000
        if not resumed:
            await client.push(TOPIC, "interrupt", {})
        while (await client.until(TOPIC, "turn_finished"))["turn"] != waiting["turn"]:
            pass
        while (await client.until(TOPIC, "session_changed"))["session"]["state"] != "idle":
            pass
        return taken


async def all_idle(bridge: BridgeProcess, began: float, count: int) -> float:
    """Seconds until every session of the bridge is idle."""
    async with connected(bridge.port) as client:
        states = {s["name"]: s["state"] for s in (await client.ask("sessions", "phx_join", {}))["sessions"]}
        while len(states) < count or set(states.values()) != {"idle"}:
            changed = (await client.until("sessions", "session_changed"))["session"]
            states[changed["name"]] = changed["state"]
            assert changed["state"] != "failed", changed
        return time.perf_counter() - began


async def many(bridge: BridgeProcess, count: int, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds until all of `count` sessions are idle: adopted, and resumed."""
    async with PhoenixClient.connect(bridge.port) as client:
        await client.ask("sessions", "phx_join", {})
        for number in range(count):
            await client.ask("sessions", "start", {"name": f"many{number}"})
    await all_idle(bridge, 0.0, count)
    ours, resumed = [], []
    for _ in range(rounds):
        ours.append(await all_idle(bridge, come_back(bridge, resumed=False), count))
        resumed.append(await all_idle(bridge, come_back(bridge, resumed=True), count))
    return ours, resumed


async def one(bridge: BridgeProcess, runs: int) -> tuple[list[float], list[float]]:
    """Milliseconds to the first event: adopted, and resumed."""
    ours, resumed = [], []
    for number in range(-1, runs):
        adopted = await first_event(bridge, 2 * number, resumed=False)
        afresh = await first_event(bridge, 2 * number + 1, resumed=True)
        if number >= 0:
            ours.append(adopted)
            resumed.append(afresh)
    return ours, resumed


def run(quick: bool) -> list[dict[str, Any]]:
    """The rows of the report."""
    with house() as bridge:
        first = asyncio.run(one(bridge, QUICK_RUNS if quick else RUNS))
    count = QUICK_SESSIONS if quick else SESSIONS
    with house() as bridge:
        back = asyncio.run(many(bridge, count, QUICK_ROUNDS if quick else ROUNDS))
    return _rows(first, back, count)


def _rows(
    first: tuple[list[float], list[float]], back: tuple[list[float], list[float]], count: int
) -> list[dict[str, Any]]:
    faster, sooner = median(first[1]) / median(first[0]), median(back[1]) / median(back[0])
    return [
        row(
            "p50 time from bridge start to a rejoined client's first event",
            spread(first[0], "ms", 0),
            against="the CLI started afresh with --resume",
            alternative=spread(first[1], "ms", 0),
            ratio=f"{faster:.1f}× faster",
            aim=f"≥ {AIM_FASTER:g}×",
            met=faster >= AIM_FASTER,
            n=str(len(first[0])),
            note="from the spawn of the bridge, its own start included; a session in the middle of an answer",
        ),
        row(
            f"time from bridge start until {count} sessions are idle",
            spread(back[0], "s"),
            against="all started afresh with --resume",
            alternative=spread(back[1], "s"),
            ratio=f"{sooner:.1f}× faster",
            aim=f"≤ {AIM_ALL_S:g} s",
            met=median(back[0]) <= AIM_ALL_S,
            n=str(len(back[0])),
            note="real CLI; the starts are paced by sessions.starts_at_once",
        ),
    ]


if __name__ == "__main__":
    show(run("--quick" in sys.argv))
