"""Asking tmux: a call through the connection in control mode, against a `tmux` process for each call.

Both are the bridge's own `Tmux.panes` of one session, on a server with twenty of them: what a look at a
process costs. The process is started from a small Python; from a bridge with much memory it costs more.
Both are asked in turns, so that whatever disturbs the machine meets both.
`python -m bench.tmux_control [--quick]` prints the rows.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import uvloop

from bench.harness import folder, quantile, row, show, spread
from bridge.config import TmuxConfig
from bridge.sessions.tmux import OWNER, Tmux

SESSIONS = 20
CALLS = 200
BLOCK = 10
"""Calls of one side before the other has its turn."""
RUNS = 20
AIM = 0.1


async def calls(tmux: Tmux, n: int) -> list[float]:
    """Milliseconds of each."""
    taken = []
    for _ in range(n):
        began = time.perf_counter_ns()
        (pane,) = await tmux.panes("s0")
        taken.append((time.perf_counter_ns() - began) / 1e6)
        assert not pane.dead
    return taken


async def measure(home: Path, runs: int) -> tuple[list[list[float]], list[list[float]]]:
    environ = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "TMUX_TMPDIR": str(home)}
    ours, theirs = Tmux("bench", TmuxConfig(), environ), Tmux("bench", TmuxConfig(), environ)
    connection, processes = [], []
    try:
        for n in range(SESSIONS):
            await ours.new_session(f"s{n}", ("sleep", "3600"), {OWNER: "bench"})
        await theirs.close()  # from now on, a process for each call
        await calls(ours, 2)
        assert ours.connected, "there is no connection"
        for _ in range(-1, runs):  # the first warms up
            a: list[float] = []
            b: list[float] = []
            for _ in range(CALLS // BLOCK):
                a += await calls(ours, BLOCK)
                b += await calls(theirs, BLOCK)
            connection.append(a)
            processes.append(b)
        assert ours.connected
        assert not theirs.connected
    finally:
        await ours.kill_server()
        await ours.close()
    return connection[1:], processes[1:]


def run(quick: bool) -> list[dict[str, Any]]:
    """The rows of the report."""
    with folder() as home:
        connection, processes = uvloop.run(measure(home, 3 if quick else RUNS))
    rows = []
    for name, q in (("p50", 0.5), ("p99", 0.99)):
        a = [quantile(run, q) for run in connection]
        b = [quantile(run, q) for run in processes]
        ratio = median(x / y for x, y in zip(a, b, strict=True))
        rows.append(
            row(
                f"asking tmux for a session's pane, {name}",
                spread(a, "ms"),
                against="a `tmux` process for each call",
                alternative=spread(b, "ms"),
                ratio=f"{ratio:.3f}×",
                aim=f"≤ {AIM}×" if name == "p50" else "",
                met=ratio <= AIM if name == "p50" else None,
                n=f"{len(a)} runs of {CALLS}",
                note=f"{SESSIONS} sessions on one server; one caller, uvloop",
            )
        )
    return rows


if __name__ == "__main__":
    show(run("--quick" in sys.argv))
