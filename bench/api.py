"""The way from the Messages API to a client: through the bridge, and to the bare `anthropic` client.

Both ask the same simulator the same prompts, in turns, one at a time, with the same transport. A delay runs
from the request (`submit` on a WebSocket, or `messages.create`) to the arrival of a delta at the client, less
the pauses that the simulator was told to make before it. Ours contains the journal, the turn's file, the hub
and the WebSocket; what it has more is the bridge's.
`python -m bench.api [--quick]` prints the rows.
"""

from __future__ import annotations

import asyncio
import sys
import time
from statistics import median
from typing import Any

from bench.first_delta import simulator
from bench.harness import BridgeProcess, PhoenixClient, folder, quantile, row, show, spread
from bridge.config import ApiConfig
from bridge.sessions.backends.api_client import Upstream
from bridge.sessions.backends.api_history import messages
from bridge.sessions.backends.api_setup import Access

RUNS = 15
WARM_UPS = 3
WORDS, GAP_MS = 40, 10
AIM_MS = 1.0
TOPIC = "session:api"
KEY = "sk-ant-simulated"
MODEL = "claude-sonnet-5-5"


def prompt(number: int) -> str:
    return f'number {number} [[sim {{"words": {WORDS}, "gap_ms": {GAP_MS}}}]]'


def delays(asked: float, came: list[float]) -> list[float]:
    """In ms, each less the pauses before it."""
    assert len(came) == WORDS, f"{WORDS - len(came)} deltas are missing"
    return [(at - asked) * 1000 - n * GAP_MS for n, at in enumerate(came)]


async def ours(client: PhoenixClient, number: int) -> list[float]:
    came = []
    asked = time.monotonic()
    await client.push(TOPIC, "submit", {"prompt": prompt(number)})
    while (told := await client.receive())[2] != "turn_finished":
        if told[2] == "delta":
            came.append(time.monotonic())
    return delays(asked, came)


async def theirs(client: Any, number: int) -> list[float]:
    came = []
    asked = time.monotonic()
    said = messages([], prompt(number))
    stream = await client.messages.create(model=MODEL, max_tokens=16_000, messages=said, stream=True)
    async for event in stream:
        if event.type == "content_block_delta":
            came.append(time.monotonic())
    return delays(asked, came)


async def _measure(port: int, url: str, runs: int) -> tuple[list[list[float]], list[list[float]]]:
    upstream = Upstream(ApiConfig(), lambda: Access(KEY, url))
    bare = await upstream.made()
    mine, other = [], []
    try:
        async with PhoenixClient.connect(port) as client:
            await client.ask(TOPIC, "phx_join", {"start": {"backend": "api", "model": MODEL}})
            for number in range(WARM_UPS + runs):
                mine.append(await ours(client, number))
                other.append(await theirs(bare, number))
    finally:
        await upstream.close()
    return mine[WARM_UPS:], other[WARM_UPS:]


def run(quick: bool) -> list[dict[str, Any]]:
    """The rows of the report."""
    runs = 5 if quick else RUNS
    with folder() as there, folder() as home, simulator(there) as url:
        with BridgeProcess(home, api={"base_url": url, "key": KEY}) as bridge:
            mine, other = asyncio.run(_measure(bridge.port, url, runs))
    note = f"{WORDS} deltas, {GAP_MS} ms apart, one session; the simulator answers at once"
    rows = [
        _row("request to first delta, api", [d[0] for d in mine], [d[0] for d in other], note),
        _row("api to client, a delta", _later(mine), _later(other), note),
    ]
    rest = quantile(_later(mine), 0.99), quantile(_later(other), 0.99)
    return [
        *rows,
        row(
            "api to client, a delta, p99",
            f"{rest[0]:.2f} ms",
            against="bare client",
            alternative=f"{rest[1]:.2f} ms",
            note=note,
        ),
    ]


def _later(all_delays: list[list[float]]) -> list[float]:
    return [delay for each in all_delays for delay in each[1:]]


def _row(figure: str, mine: list[float], other: list[float], note: str) -> dict[str, Any]:
    more = median(mine) - median(other)
    return row(
        f"{figure}, p50",
        spread(mine, "ms"),
        against="bare client",
        alternative=spread(other, "ms"),
        ratio=f"{more:+.2f} ms",
        aim=f"< {AIM_MS:g} ms more",
        met=more < AIM_MS,
        n=str(len(mine)),
        note=note,
    )


if __name__ == "__main__":
    show(run("--quick" in sys.argv))
