"""Every transport that is served, by the same figures: fan-out, echo, join and replay, memory.

A transport is a class of `bench.ways`. Beside ours stand bare aiohttp (`naive`) and python-socketio as it
comes (`room`), each over the transport it has. Then the cost of a delivered delta from one subscriber to a
thousand, over WebSocket, which must never rise. `python -m bench.transports [--quick]` prints the rows.
"""

from __future__ import annotations

import sys
from itertools import pairwise
from statistics import median
from typing import Any

import orjson

from bench.fanout import BURST, RUNS, Bench, burst, row
from bench.harness import quantile
from bench.memory import per_client
from bench.ways import WAYS

CLIENTS = 200
REPLAYED = 1000
TRIPS = 1000
BESIDE = {"websocket": ("ours", "naive"), "socketio": ("ours", "room")}
"""The servers that are measured over a transport; only ours over those that are not named."""
COUNTS = (1, 10, 100, 1000)
DELIVERIES = 20_000
"""At least so many for each figure of CPU: a few hundred milliseconds of it."""


def served() -> list[str]:
    with Bench("ours", 1) as bench:
        return [n for n in WAYS if bench.load.ask(do="served", way=n, port=bench.port)["served"]]


def replay(kind: str, name: str, times: int) -> list[float]:
    """Milliseconds from the connect to the last of so many events that were missed, of each client."""
    with Bench(kind, 1) as bench:
        for _ in range(REPLAYED // BURST + 1):
            bench.send(do="burst", frames=BURST)
        head = (REPLAYED // BURST + 1) * BURST
        after = {"epoch": "bench", "seq": head - REPLAYED}
        how = {"way": name, "port": bench.port, "after": after, "until": head}
        took: list[float] = bench.load.ask(do="replay", times=times, **how)["took"]
        return [each * 1e3 for each in took]


def echo(kind: str, name: str, trips: int) -> list[float]:
    with Bench(kind, 1) as bench:
        measured: list[float] = bench.load.ask(do="echo", way=name, port=bench.port, trips=trips)["trips"]
        return measured[trips // 10 :]  # what comes first warms up


def cost(clients: int, name: str, runs: int) -> list[float]:
    """Microseconds of the server's CPU for one delivered delta, all of it counted, of each run."""
    frames = max(BURST, min(5000, DELIVERIES // clients))
    bursts = max(1, DELIVERIES // (frames * clients))
    with Bench("ours", clients, way=name) as bench:
        costs = []
        for run in range(-1, runs):  # the first warms up
            before = bench.server.ask(do="rest")["cpu_total"]
            for _ in range(bursts):
                bench.send(do="burst", frames=frames)
            used = bench.server.ask(do="rest")["cpu_total"] - before
            if run >= 0:
                costs.append(used / (frames * bursts * clients) * 1e6)
        return costs


def never_rising(runs: int, counts: tuple[int, ...]) -> list[dict[str, Any]]:
    how = f"CPU of the server in bursts, 16 a tick; {DELIVERIES} deliveries or more a run"
    costs = {clients: cost(clients, "websocket", runs) for clients in counts}
    rows = [row("cost of a delivered delta", "ours", n, "µs", costs[n], how) for n in counts]
    steps = [median(costs[b]) / median(costs[a]) for a, b in pairwise(counts)]
    title = "cost of a delivered delta, largest step from fewer clients to more"
    return [*rows, row(title, "ratio", counts[-1], "x", [max(steps)], f"from {counts[0]} on; {how}")]


def of_transport(kind: str, name: str, quick: bool) -> list[dict[str, Any]]:
    runs = 2 if quick else RUNS
    clients = 20 if quick else CLIENTS
    rates = [rate / 1000 for rate in burst(kind, clients, runs, name)]
    how = f"burst of {BURST} frames, 16 a tick, 40 bytes of text"
    rows = [row(f"{name}: fan-out burst", kind, clients, "k deliveries/s", rates, how)]
    trips = echo(kind, name, 100 if quick else TRIPS)
    for figure, q in (("p50", 0.5), ("p99", 0.99)):
        what = f"something cheap, {len(trips)} times; client and server share nothing but the machine"
        rows.append(row(f"{name}: echo, {figure}", kind, 1, "µs", [quantile(trips, q)], what))
    took = replay(kind, name, 5 if quick else 50)
    rows.append(row(f"{name}: join and replay of {REPLAYED}", kind, 1, "ms", took, "connect to last event"))
    idle = 100 if quick else 1000
    memory = [per_client(kind, idle, way=name) for _ in range(1 if quick else 3)]
    return [*rows, row(f"{name}: memory per idle client", kind, idle, "KB", memory, "one session")]


def run(quick: bool) -> list[dict[str, Any]]:
    """The rows of the report; a transport that is not served has none."""
    rows: list[dict[str, Any]] = []
    for name in served():
        for kind in BESIDE.get(name, ("ours",)):
            rows += of_transport(kind, name, quick)
    return [*rows, *never_rising(1 if quick else RUNS, COUNTS[:2] if quick else COUNTS)]


if __name__ == "__main__":
    for line in run("--quick" in sys.argv):
        print(orjson.dumps(line).decode())
