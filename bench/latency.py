"""The delay between the CLI's stream file and a client's socket: ours, and a bare reader's.

Twenty sessions bring fifty deltas a second each. The CLI is the replayer, started by the bridge as it starts
any CLI: tmux, FIFO, append-only file, pane. The other side are replayers started by hand with the same
FIFOs and files, and one process that reads these and writes to WebSockets (`latency_peers`). Everything is
set up before either is measured, and they take turns. A delay runs from just before the CLI's write to the
arrival at the client, CLOCK_MONOTONIC on both ends; it contains both halves' kernel time and the wake-ups.
`python -m bench.latency [--quick] [--profile FILE]` prints the rows.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

from bench.harness import BridgeProcess, Peer, cpu_s, folder, quantile, row, show, spread
from bench.replayer import executable

SESSIONS = 20
PER_S = 50
SECONDS = 8.0
RUNS = 5
AIM_P50, AIM_P99 = 0.5, 3.0

Turn = Callable[[int], tuple[list[float], float]]
"""Delays in ms of one turn of so many deltas in each session, and the server's CPU in µs per delta."""


@contextlib.contextmanager
def bridge_side(home: Path) -> Iterator[tuple[Turn, int]]:
    with BridgeProcess(home) as bridge, Peer("bench.latency_peers", "listen") as clients:
        clients.ask(do="connect", sessions=SESSIONS, port=bridge.port)
        yield _turns(clients, bridge.pid), bridge.pid


@contextlib.contextmanager
def bare_side(home: Path) -> Iterator[Turn]:
    claude = executable(home)
    folders = [home / f"b{index}" for index in range(SESSIONS)]
    started: list[subprocess.Popen[bytes]] = []
    try:
        for path in folders:
            path.mkdir()
            os.mkfifo(path / "in.fifo")
            stdin = os.open(path / "in.fifo", os.O_RDWR)
            with (path / "out.ndjson").open("ab") as out:
                started.append(subprocess.Popen([claude], stdin=stdin, stdout=out))
            os.close(stdin)
        with (
            Peer("bench.latency_peers", "bare", *map(str, folders)) as server,
            Peer("bench.latency_peers", "listen") as clients,
        ):
            clients.ask(do="connect", sessions=SESSIONS, port=server.hear()["port"])
            yield _turns(clients, server.pid)
    finally:
        for process in started:
            process.kill()
            process.wait()


def _turns(clients: Peer, pid: int) -> Turn:
    def turn(deltas: int) -> tuple[list[float], float]:
        before = cpu_s(pid)
        draw = random.Random(deltas)
        phases = [draw.random() for _ in range(SESSIONS)]
        script = {"deltas": deltas, "per_s": PER_S}
        delays = clients.ask(do="turn", script=script, phases=phases)["delays"]
        assert len(delays) == SESSIONS * deltas, f"{SESSIONS * deltas - len(delays)} deltas are missing"
        return delays, (cpu_s(pid) - before) / len(delays) * 1e6

    return turn


def run(quick: bool, profile: str | None = None) -> list[dict[str, Any]]:
    """The rows of the report."""
    deltas = int(PER_S * (3.0 if quick else SECONDS))
    ours, theirs = [], []
    with folder() as here, folder() as there, bridge_side(here) as (mine, pid), bare_side(there) as bare:
        for turn in (mine, bare):
            turn(PER_S)  # warms up; the first prompt also waits for the processes to come up
        if profile:
            with _profiled(pid, profile):
                ours.append(mine(deltas * 2))
            theirs.append(bare(deltas))
        for _ in range(0 if profile else 2 if quick else RUNS):
            ours.append(mine(deltas))
            theirs.append(bare(deltas))
    return _rows(ours, theirs, deltas)


def _rows(
    ours: list[tuple[list[float], float]], theirs: list[tuple[list[float], float]], deltas: int
) -> list[dict[str, Any]]:
    note = f"{SESSIONS} sessions × {PER_S} deltas/s, 40 bytes, one client each; pane and journal included"
    n = f"{len(ours)} runs of {SESSIONS * deltas}"
    rows = []
    for name, q, aim in (("p50", 0.5, AIM_P50), ("p99", 0.99, AIM_P99), ("max", 1.0, None)):
        a = [quantile(delays, q) for delays, _ in ours]
        b = [quantile(delays, q) for delays, _ in theirs]
        rows.append(
            row(
                f"stream file to client, {name}",
                spread(a, "ms"),
                against="bare reader",
                alternative=spread(b, "ms"),
                ratio=f"{median(a) / median(b):.2f}×",
                aim=f"≤ {aim} ms" if aim else "",
                met=median(a) <= aim if aim else None,
                n=n,
                note=note,
            )
        )
    cpu_a, cpu_b = [cpu for _, cpu in ours], [cpu for _, cpu in theirs]
    rows.append(
        row(
            "stream file to client, server's CPU for a delta",
            spread(cpu_a, "µs", 0),
            against="bare reader",
            alternative=spread(cpu_b, "µs", 0),
            ratio=f"{median(cpu_a) / median(cpu_b):.2f}×",
            n=n,
            note=note,
        )
    )
    return rows


@contextlib.contextmanager
def _profiled(pid: int, path: str) -> Iterator[None]:
    """Where the bridge spends its time, by py-spy (to be installed apart), as collapsed stacks."""
    command = ["py-spy", "record", "-p", str(pid), "-o", path, "-f", "raw", "-r", "500", "-d", "600"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as spy:
        time.sleep(1)
        try:
            yield
        finally:
            spy.send_signal(2)


if __name__ == "__main__":
    arguments = sys.argv[1:]
    to = arguments[arguments.index("--profile") + 1] if "--profile" in arguments else None
    show(run("--quick" in arguments, to))
