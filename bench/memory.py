"""Memory per idle joined client: the server's resident set, against bare aiohttp's and python-socketio's.

`python -m bench.memory [--quick]` prints the rows.
"""

from __future__ import annotations

import sys
from statistics import median
from typing import Any

import orjson

from bench.fanout import RUNS, Bench, row

CLIENTS = 1000
IDLE = 5000


def per_client(kind: str, clients: int, *, way: str = "websocket", apart: bool = False) -> float:
    """KB of resident set that each of so many more clients costs, after some were there to warm up. All are
    in one session, or `apart` in a hundred."""
    with Bench(kind, 100, way=way) as bench:
        before = bench.server.ask(do="rest")["rss_kb"]
        bench.come(clients, apart=apart)
        after = bench.server.ask(do="rest")["rss_kb"]
        return float(after - before) / clients


def run(quick: bool) -> list[dict[str, Any]]:
    how = f"{CLIENTS} clients joined to one session, after 100 to warm up"
    kinds = ("naive", "ours", "room", "socketio")
    figures = {kind: [per_client(kind, CLIENTS) for _ in range(2 if quick else RUNS)] for kind in kinds}
    rows = [row("memory per client", kind, CLIENTS, "KB", kb, how) for kind, kb in figures.items()]
    for ours, other in (("ours", "naive"), ("socketio", "room")):
        ratio = median(figures[ours]) / median(figures[other])
        rows.append(row(f"memory per client, {ours} / {other}", "ratio", CLIENTS, "x", [ratio], how))
    idle, spread = 500 if quick else IDLE, "in a hundred sessions, after 100 to warm up"
    many = [per_client("ours", idle, apart=True) for _ in range(1 if quick else 3)]
    return [*rows, row("memory per idle client", "ours", idle, "KB", many, spread)]


if __name__ == "__main__":
    for line in run("--quick" in sys.argv):
        print(orjson.dumps(line).decode())
