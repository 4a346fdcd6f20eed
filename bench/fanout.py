"""Fan-out: one session's deltas to many clients, against bare aiohttp and python-socketio in the same run.

Bursts of 200 frames, 16 a tick, as deliveries per second; and one frame every 20 ms, as the delay
from publishing to the client and the server's CPU. Server and clients are processes of their own.
`python -m bench.fanout [--quick]` prints the rows.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from statistics import median
from typing import Any

import orjson

from bench.harness import Peer

BURST = 200
PER_S = 50
RUNS = 5
CLIENTS = (1, 50, 200, 1000)
KINDS = ("naive", "batched", "ours")
SOCKETIO_KINDS = ("room", "socketio")
SOCKETIO_CLIENTS = (50, 200)
"""A room emit takes a thousand clients through a burst in half a minute, with pauses like an end."""
QUIET_S = 0.3
"""No new byte for so long means that everything has arrived; all of it is on loopback."""
SETTLE_S = 1.0
"""The same after joins: who came is told to everybody for some time after, a fraction of this at each."""


class Bench:
    """One server of a kind, with so many joined clients."""

    def __init__(self, kind: str, clients: int, *, sample: bool = False, way: str = "websocket") -> None:
        """`way`: the transport, where there is a choice."""
        self.server = Peer("bench.fan_peers", "server", kind)
        self.load = Peer("bench.fan_peers", "load")
        self.way = "socketio" if kind in SOCKETIO_KINDS else way
        self.port = self.server.hear()["port"]
        self.come(clients, sample=sample)

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self.load.end()
        self.server.end()

    def come(self, clients: int, **how: Any) -> None:
        """So many more, joined, and told of each other."""
        self.load.ask(do="connect", clients=clients, port=self.port, way=self.way, **how)
        self.heard(SETTLE_S)

    def heard(self, quiet_s: float = QUIET_S) -> dict[str, Any]:
        """What arrived, once nothing more does."""
        before = self.load.ask(do="heard")
        while True:
            time.sleep(quiet_s)
            now = self.load.ask(do="heard")
            if now["bytes"] == before["bytes"]:
                return now
            before = now

    def send(self, **command: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        self.load.ask(do="reset")
        return self.server.ask(**command), self.heard()


def burst(kind: str, clients: int, runs: int, way: str = "websocket") -> list[float]:
    """Deliveries per second of each run."""
    with Bench(kind, clients, way=way) as bench:
        rates = []
        for run in range(-1, runs):  # the first warms up
            sent, heard = bench.send(do="burst", frames=BURST)
            assert heard["bytes"] > BURST * clients * 100, f"{kind}: frames are missing: {heard['bytes']}"
            if run >= 0:
                rates.append(BURST * clients / (heard["last"] - sent["began"]))
        return rates


def paced(kind: str, clients: int, seconds: float, runs: int) -> list[tuple[float, float, float]]:
    """p50 and p99 of the delay in ms, and the server's CPU in percent, of each run."""
    with Bench(kind, clients, sample=True) as bench:
        figures = []
        for run in range(-1, runs):
            frames = PER_S if run < 0 else int(PER_S * seconds)
            sent, heard = bench.send(do="pace", frames=frames, per_s=PER_S)
            delays = heard["delays"]
            if run >= 0:
                p50, p99 = delays[len(delays) // 2] * 1e3, delays[int(len(delays) * 0.99)] * 1e3
                figures.append((p50, p99, 100 * sent["cpu"] / sent["took"]))
        return figures


def row(figure: str, server: str, clients: int, unit: str, values: list[float], how: str) -> dict[str, Any]:
    return {
        "figure": figure,
        "server": server,
        "clients": clients,
        "unit": unit,
        "median": round(median(values), 3),
        "min": round(min(values), 3),
        "max": round(max(values), 3),
        "runs": len(values),
        "how": how,
    }


def run(quick: bool) -> list[dict[str, Any]]:
    """The rows of the report. `ratio` rows are ours against the other, of the medians."""
    counts = (1, 200) if quick else CLIENTS
    rows = bursts(KINDS, "ours", counts, quick) + delays(("naive", "ours"), counts, quick)
    counts = (200,) if quick else SOCKETIO_CLIENTS
    return rows + bursts(SOCKETIO_KINDS, "socketio", counts, quick) + delays(SOCKETIO_KINDS, counts, quick)


def bursts(kinds: Sequence[str], ours: str, counts: Sequence[int], quick: bool) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    how = f"burst of {BURST} frames, 16 a tick, 40 bytes of text"
    for clients in counts:
        medians: dict[str, float] = {}
        for kind in kinds:
            rates = [r / 1000 for r in burst(kind, clients, 2 if quick else RUNS)]
            medians[kind] = median(rates)
            rows.append(row("fan-out burst", kind, clients, "k deliveries/s", rates, how))
        rows += [
            row(f"fan-out burst, {ours} / {kind}", "ratio", clients, "x", [medians[ours] / other], how)
            for kind, other in medians.items()
            if kind != ours
        ]
    return rows


def delays(kinds: Sequence[str], counts: Sequence[int], quick: bool) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    seconds = 2.0 if quick else 4.0
    how = f"{PER_S} frames/s for {seconds:g} s, 40 bytes of text"
    for clients in counts:
        for kind in kinds:
            figures = paced(kind, clients, seconds, 1 if quick else RUNS)
            for index, (figure, unit) in enumerate((("p50", "ms"), ("p99", "ms"), ("server CPU", "%"))):
                values = [f[index] for f in figures]
                rows.append(row(f"fan-out paced, {figure}", kind, clients, unit, values, how))
    return rows


if __name__ == "__main__":
    for line in run("--quick" in sys.argv):
        print(orjson.dumps(line).decode())
