"""One-off questions: a pool of warm workers, against a cold CLI for each, one after the other.

Both run the real CLI on the same simulator, which answers at once, and are asked the same questions:

- ours: `ask` on one WebSocket, all at once, over 4 workers; until the last answer is there;
- cold: `claude -p QUESTION`, as a script would call it; until it has ended.

Of a pool the workers are warm, as they are when a bridge runs.
`python -m bench.ask [--quick]` prints the row.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.first_delta import configured, simulator
from bench.harness import BridgeProcess, PhoenixClient, folder, row, show
from bridge.sessions.claude import launch

QUESTIONS, COLD = 200, 10
WORKERS = 4
TOPIC = "pool:default"


def question(number: int) -> str:
    return f"question {number}"


async def ours(port: int, count: int) -> float:
    """Questions a second."""
    async with PhoenixClient.connect(port) as client:
        idle = (await client.ask(TOPIC, "phx_join", {}))["idle"]
        while idle < WORKERS:
            idle = (await client.until(TOPIC, "pool_changed"))["idle"]
        began = time.perf_counter()
        for number in range(count):
            await client.push(TOPIC, "ask", {"prompt": question(number)})
        answers = {(await client.until(TOPIC, "turn_finished"))["text"] for _ in range(count)}
        taken = time.perf_counter() - began
    assert answers == {f"You said: {question(number)}" for number in range(count)}
    return count / taken


def cold(claude: Path, env: Mapping[str, str], cwd: Path, count: int) -> float:
    began = time.perf_counter()
    for number in range(count):
        done = subprocess.run(
            [str(claude), "-p", question(number)],
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == f"You said: {question(number)}", done.stdout
    return count / (time.perf_counter() - began)


def run(quick: bool) -> list[dict[str, Any]]:
    """The rows of the report."""
    count, colds = (20, 3) if quick else (QUESTIONS, COLD)
    with folder() as home, simulator(home) as base_url:
        table, config = configured(home, base_url)
        env = launch.environment(config, os.environ)
        slow = cold(launch.find_claude(config), env, home / "work", colds)
        with BridgeProcess(home, table, **{"pools.default": {"size": WORKERS}}) as bridge:
            fast = asyncio.run(ours(bridge.port, count))
    return [
        row(
            f"one-off questions, {WORKERS} warm workers",
            f"{fast:.1f} /s",
            against="cold `claude -p`, one after the other",
            alternative=f"{slow:.2f} /s",
            ratio=f"{fast / slow:.1f}× as many",
            n=f"{count} / {colds}",
            note="real CLI, simulator without delay; each question with a context of its own",
        )
    ]


if __name__ == "__main__":
    show(run("--quick" in sys.argv))
