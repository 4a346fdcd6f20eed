"""What an idle session costs the bridge in memory, apart from the CLI, which is a process of its own.

The resident set of a bridge is read with 20 sessions and again with 100 more, on the replayer: once as they
come up, once after each has had a turn of 100 deltas, whose events stay in the session's ring and whose
text stays in its journal. It stands against one real CLI, idle in the same run: what a session takes anyway.
`python -m bench.session_memory [--quick]` prints the rows.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

import orjson

from bench.first_delta import Bare
from bench.harness import BridgeProcess, PhoenixClient, folder, row, rss_kb, show, spread
from bridge.config import ClaudeConfig
from bridge.sessions.claude import launch

FIRST, MORE = 20, 100
DELTAS = 100
AIM_IDLE_KB, AIM_TURN_KB = 100, 250


async def bring_up(client: PhoenixClient, names: list[str]) -> None:
    await client.ask("sessions", "phx_join", {})
    for name in names:
        await client.ask("sessions", "start", {"name": name})
    await until_idle(client)


async def until_idle(client: PhoenixClient) -> None:
    """Asked for again and again: what the sessions tell meanwhile is not ours to count."""
    deadline = time.monotonic() + 60
    while True:
        sessions = (await client.ask("sessions", "list", {}))["sessions"]
        states = {s["state"] for s in sessions}
        if states == {"idle"}:
            return
        assert states <= {"idle", "starting", "busy"}, states
        assert time.monotonic() < deadline, states
        await asyncio.sleep(0.2)


async def have_turns(client: PhoenixClient, names: list[str]) -> None:
    script = orjson.dumps({"deltas": DELTAS, "per_s": 5000}).decode()
    for name in names:
        await client.ask(f"session:{name}", "phx_join", {"turns": 0})
        await client.ask(f"session:{name}", "submit", {"prompt": script})
        await client.until(f"session:{name}", "turn_finished")
        await client.ask(f"session:{name}", "phx_leave", {})


async def measure(bridge: BridgeProcess) -> tuple[float, float]:
    """KB for each of the later sessions: fresh, and after its turn."""
    first = [f"a{i}" for i in range(FIRST)]
    more = [f"b{i}" for i in range(MORE)]
    async with PhoenixClient.connect(bridge.port) as client:
        await bring_up(client, first)
        await have_turns(client, first)
        before = rss_kb(bridge.pid)
        async with PhoenixClient.connect(bridge.port) as other:
            await bring_up(other, more)
        fresh = (rss_kb(bridge.pid) - before) / MORE
        await have_turns(client, more)
        await until_idle(client)
        return fresh, (rss_kb(bridge.pid) - before) / MORE


def real_cli_kb() -> int:
    """Resident set of a CLI that is ready and was asked nothing; it has nobody to talk to."""
    config = ClaudeConfig(base_url="http://127.0.0.1:9", api_key="sk-ant-simulated-bench")
    with folder() as home:
        config = config.model_copy(update={"config_dir": home, "home": home})
        cli = Bare(launch.find_claude(config), config, home, home)
        try:
            return rss_kb(cli.pid)
        finally:
            cli.end()


def run(quick: bool) -> list[dict[str, Any]]:
    """The rows of the report."""
    cli_kb = real_cli_kb()
    figures = []
    for _ in range(1 if quick else 5):
        with folder() as home, BridgeProcess(home) as bridge:
            figures.append(asyncio.run(measure(bridge)))
    rows = []
    names = ("fresh", f"after a turn of {DELTAS} deltas")
    for name, aim, values in zip(names, (AIM_IDLE_KB, AIM_TURN_KB), zip(*figures, strict=True), strict=True):
        kb = sorted(values)
        middle = kb[len(kb) // 2]
        rows.append(
            row(
                f"memory of the bridge per idle session, {name}",
                spread(kb, "KB", 0),
                against="the session's CLI",
                alternative=f"{cli_kb / 1024:.0f} MB",
                ratio=f"1/{cli_kb / middle:.0f}",
                aim=f"≤ {aim} KB",
                met=middle <= aim,
                n=str(len(kb)),
                note=f"{MORE} sessions after {FIRST} to warm up; the CLI's own memory is not counted",
            )
        )
    return rows


if __name__ == "__main__":
    show(run("--quick" in sys.argv))
