"""The way from the Messages API to a client: through the bridge, and to the bare `anthropic` client.

Both ask the same API the same prompts, in turns, one at a time, with the same transport. The API is a few
lines in this process that put into each delta the time at which it is sent; a delay runs from there to the
arrival at the client, CLOCK_MONOTONIC on both ends. Ours contains the turn's file, the hub and a WebSocket.
The first delta is also measured from the request on: `submit`, whose prompt is on disk before it is answered
and before anything is asked of the API, or `messages.create`. What a bare commit takes on the same disk
stands beside it: no bridge that loses no prompt can be quicker than that.
`python -m bench.api [--quick]` prints the rows.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from statistics import median
from typing import Any

import orjson
from aiohttp import web

from bench.harness import BridgeProcess, PhoenixClient, folder, quantile, row, show, spread
from bridge.config import ApiConfig
from bridge.sessions.backends.api_client import Upstream
from bridge.sessions.backends.api_history import messages
from bridge.sessions.backends.api_setup import Access

RUNS = 15
WARM_UPS = 3
DELTAS, GAP_S = 50, 0.01
AIM_MS = 1.0
TOPIC = "session:api"
KEY = "sk-ant-simulated"
MODEL = "claude-sonnet-5-5"

Delays = tuple[float, list[float]]
"""In ms: from the request to the first delta, and of each delta from the API on."""


# --- the API ---------------------------------------------------------------------------------------


def _event(kind: str, **more: Any) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), orjson.dumps({"type": kind, **more}))


async def _answer(request: web.Request) -> web.StreamResponse:
    await request.read()
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    usage = {"input_tokens": 1, "output_tokens": 1}
    message = {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "content": [],
        "usage": usage,
    }
    block = {"type": "text", "text": ""}
    await response.write(
        _event("message_start", message=message) + _event("content_block_start", index=0, content_block=block)
    )
    for _ in range(DELTAS):
        await asyncio.sleep(GAP_S)
        text = {"type": "text_delta", "text": f"{time.monotonic():.6f} "}
        await response.write(_event("content_block_delta", index=0, delta=text))
    end = _event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": DELTAS})
    await response.write(_event("content_block_stop", index=0) + end + _event("message_stop"))
    return response


@contextlib.asynccontextmanager
async def api() -> AsyncIterator[str]:
    """Its address."""
    app = web.Application()
    app.router.add_post("/v1/messages", _answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


# --- its two clients ---------------------------------------------------------------------------------


class Clock:
    """Of one answer."""

    def __init__(self) -> None:
        self.asked = time.monotonic()
        self.first: float | None = None
        self.delays: list[float] = []

    def heard(self, text: str) -> None:
        now = time.monotonic()
        if self.first is None:
            self.first = (now - self.asked - GAP_S) * 1000
        # What was merged on the way counts once for each.
        self.delays += [(now - float(sent)) * 1000 for sent in text.split()]

    def over(self) -> Delays:
        assert self.first is not None
        assert len(self.delays) == DELTAS, f"{DELTAS - len(self.delays)} deltas are missing"
        return self.first, self.delays


async def ours(client: PhoenixClient, number: int) -> Delays:
    clock = Clock()
    await client.push(TOPIC, "submit", {"prompt": f"number {number}"})
    while (told := await client.receive())[2] != "turn_finished":
        if told[2] == "delta":
            clock.heard(told[3]["text"])
    return clock.over()


async def theirs(client: Any, number: int) -> Delays:
    clock = Clock()
    said = messages([], f"number {number}")
    async for event in await client.messages.create(
        model=MODEL, max_tokens=16_000, messages=said, stream=True
    ):
        if event.type == "content_block_delta":
            clock.heard(event.delta.text)
    return clock.over()


def _commit_ms(folder: Path, runs: int) -> float:
    """A row of a prompt's size, in a file like the journal's; the median."""
    taken = []
    with contextlib.closing(sqlite3.connect(folder / "bare.db", isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("CREATE TABLE turns (prompt TEXT)")
        for _ in range(WARM_UPS + runs):
            began = time.perf_counter()
            db.execute("INSERT INTO turns VALUES (?)", ("x" * 500,))
            taken.append((time.perf_counter() - began) * 1000)
            time.sleep(GAP_S)
    return median(taken[WARM_UPS:])


async def _measured(runs: int) -> tuple[list[Delays], list[Delays], float]:
    mine, other = [], []
    with folder() as home:
        async with contextlib.AsyncExitStack() as stack:
            url = await stack.enter_async_context(api())
            made = BridgeProcess(home, api={"base_url": url, "key": KEY})
            bridge = await asyncio.to_thread(made.__enter__)
            stack.push_async_callback(asyncio.to_thread, made.__exit__, None, None, None)
            upstream = Upstream(ApiConfig(), lambda: Access(KEY, url))
            stack.push_async_callback(upstream.close)
            bare = await upstream.made()
            client = await stack.enter_async_context(PhoenixClient.connect(bridge.port))
            await client.ask(TOPIC, "phx_join", {"start": {"backend": "api", "model": MODEL}})
            for number in range(WARM_UPS + runs):
                mine.append(await ours(client, number))
                other.append(await theirs(bare, number))
        commit_ms = await asyncio.to_thread(_commit_ms, home, runs)
    return mine[WARM_UPS:], other[WARM_UPS:], commit_ms


def run(quick: bool) -> list[dict[str, Any]]:
    """The rows of the report."""
    mine, other, commit_ms = asyncio.run(_measured(5 if quick else RUNS))
    each = [[delay for _, delays in side for delay in delays] for side in (mine, other)]
    note = f"{DELTAS} deltas, {GAP_S * 1000:g} ms apart, one session"
    first = f"a bare commit before it takes {commit_ms:.2f} ms here"
    tail = [f"{quantile(delays, 0.99):.2f} ms" for delays in each]
    return [
        _row("request to first delta, p50", [f for f, _ in mine], [f for f, _ in other], first),
        _row("api to client, a delta, p50", each[0], each[1], note),
        row("api to client, a delta, p99", tail[0], against="bare client", alternative=tail[1], note=note),
    ]


def _row(figure: str, mine: list[float], other: list[float], note: str) -> dict[str, Any]:
    more = median(mine) - median(other)
    return row(
        figure,
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
