"""Echo: the round trip of a cheap push through the whole stack, against bare aiohttp.

`list` in the lobby of a bridge without sessions passes the token's scopes, routing, the service, the codec
and the outbox. The other side is aiohttp's own `async for`, which reads the same JSON and sends the payload
back as a reply. One blocking client asks both in turns, so that whatever disturbs the machine meets both.
`python -m bench.echo [--quick]` prints the rows.
"""

from __future__ import annotations

import os
import sys
import time
from statistics import median
from typing import Any

import orjson
import uvloop
from aiohttp import web

from bench.harness import BridgeProcess, Peer, RawClient, folder, frame, quantile, row, show, spread

TRIPS = 500
BLOCK = 10
"""Round trips of one side before the other has its turn."""
RUNS = 20
AIM = 1.3


async def naive() -> None:
    async def socket(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(compress=False)
        await ws.prepare(request)
        async for message in ws:
            join_ref, ref, topic, _, payload = orjson.loads(message.data)
            reply = [join_ref, ref, topic, "phx_reply", {"status": "ok", "response": payload}]
            await ws.send_str(orjson.dumps(reply).decode())
        return ws

    app = web.Application()
    app.router.add_get("/socket/websocket", socket)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(orjson.dumps({"port": runner.addresses[0][1]}).decode(), flush=True)
    await site._server.serve_forever()  # type: ignore[union-attr]


def apart(*servers: int) -> None:
    """The client on one core, the servers on another, as if on machines of their own: where the scheduler
    happens to put them decides more than any code, and changes within tenths of a second."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        os.sched_setaffinity(0, cores[:1])
        for pid in servers:
            for thread in os.listdir(f"/proc/{pid}/task"):
                os.sched_setaffinity(int(thread), cores[1:2])


def trips(client: RawClient, data: bytes, n: int) -> list[float]:
    """Microseconds of each round trip."""
    taken = []
    for _ in range(n):
        began = time.perf_counter_ns()
        client.ask(data)
        taken.append((time.perf_counter_ns() - began) / 1000)
    return taken


def run(quick: bool) -> list[dict[str, Any]]:
    """The rows of the report."""
    push = frame("1", "2", "sessions", "list", {})
    ours: list[list[float]] = []
    theirs: list[list[float]] = []
    with folder() as home, BridgeProcess(home) as bridge, Peer("bench.echo", "naive") as other:
        mine, bare = RawClient(bridge.port), RawClient(other.hear()["port"])
        cores = os.sched_getaffinity(0)
        apart(bridge.pid, other.pid)
        assert b'"ok"' in mine.ask(frame("1", "1", "sessions", "phx_join", {}))
        assert b'"ok"' in mine.ask(push), "the lobby does not answer"
        for _ in range(-2, 5 if quick else RUNS):
            a: list[float] = []
            b: list[float] = []
            for _ in range(TRIPS // BLOCK):
                a += trips(mine, push, BLOCK)
                b += trips(bare, push, BLOCK)
            ours.append(a)
            theirs.append(b)
        os.sched_setaffinity(0, cores)
        mine.close()
        bare.close()
    rows = []
    for name, q in (("p50", 0.5), ("p99", 0.99)):
        a = [quantile(run, q) for run in ours[2:]]  # the first two warm up
        b = [quantile(run, q) for run in theirs[2:]]
        ratio = median(x / y for x, y in zip(a, b, strict=True))
        rows.append(
            row(
                f"echo through the whole stack, {name}",
                spread(a, "µs", 0),
                against="naive aiohttp",
                alternative=spread(b, "µs", 0),
                ratio=f"{ratio:.2f}×",
                aim=f"≤ {AIM}×" if name == "p50" else "",
                met=ratio <= AIM if name == "p50" else None,
                n=f"{len(a)} runs of {TRIPS}",
                note="`list` in the lobby, no sessions; the other replies with what it read; one client",
            )
        )
    return rows


if __name__ == "__main__":
    if sys.argv[1:] == ["naive"]:
        uvloop.run(naive())
    else:
        show(run("--quick" in sys.argv))
