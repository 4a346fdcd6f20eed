"""The Elixir client beside the official phoenix.js, on the same bridge, in turns: an echo, a turn's deltas.

- echo: `ClaudeSession.fetch_sessions/1`, against `channel.push("list")` of a joined lobby: the push of
  `bench.echo`, from the call to its result;
- deltas: `ClaudeSession.stream/3` read to its end, against `submit` and an `on("delta")` that counts, from
  the submit to `turn_finished`. The CLI is the replayer, which writes as fast as it can. A rate is
  never above the bridge's own, so what a delta costs each client is measured as well, as processor time.

phoenix.js has no cursor and keeps no picture of the session: it does less. Its WebSocket is `ws`, as in
Node. Both clients are as they come, on one core, and the bridge on another.
`python -m bench.elixir [--quick]` prints the rows.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import orjson

from bench.echo import apart
from bench.harness import TOKEN, BridgeProcess, Peer, cpu_s, folder, quantile, row, show, spread

HERE = Path(__file__).parent
CLIENT = HERE.parent / "clients" / "elixir"
RUNS, QUICK_RUNS = 10, 2
TRIPS, BLOCK = 500, 50
"""Round trips of a run, and of one side before the other has its turn."""
DELTAS = 5000
WARM = 2
"""Runs that come first and count for nothing: both VMs compile what they run often."""
TEXT = 40
"""Bytes of a delta's text."""


@contextlib.contextmanager
def clients(home: Path, bridge: BridgeProcess) -> Iterator[tuple[Peer, Peer]]:
    """Ours and the other, on this process's core."""
    for tool in ("mix", "node"):
        assert shutil.which(tool), f"{tool} is missing: run `make setup`, or scripts/setup-elixir"
    url = f"http://127.0.0.1:{bridge.port}"
    ours = ["env", "LC_ALL=C.UTF-8", "elixir", "-pa", str(built(home)), str(HERE / "elixir_client.exs")]
    theirs = ["node", str(HERE / "phoenix_js_client.mjs")]
    with Peer(url, TOKEN, by=ours) as elixir, Peer(url, TOKEN, by=theirs) as phoenix:
        elixir.hear()
        phoenix.hear()
        yield elixir, phoenix


def built(home: Path) -> Path:
    """The Elixir client's modules, compiled anew."""
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "LC_ALL": "C.UTF-8",
        "MIX_ENV": "prod",
        "MIX_BUILD_PATH": str(home / "build"),
    }
    subprocess.run(["mix", "compile"], cwd=CLIENT, env=env, stdout=subprocess.DEVNULL, check=True)
    return home / "build" / "lib" / "claude_session" / "ebin"


def echo(peers: tuple[Peer, Peer]) -> tuple[list[float], list[float]]:
    """Microseconds of each round trip."""
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(TRIPS // BLOCK):
        for peer, trips in zip(peers, taken, strict=True):
            trips += peer.ask(do="echo", trips=BLOCK)["took"]
    return taken


def turn(peer: Peer) -> tuple[float, float]:
    """Deltas a second, and the client's processor time for one in µs."""
    prompt = orjson.dumps({"deltas": DELTAS, "per_s": 1_000_000}).decode()
    before = cpu_s(peer.pid)
    said = peer.ask(do="turn", prompt=prompt)
    assert said["bytes"] == DELTAS * TEXT, said
    return DELTAS / said["took_s"], (cpu_s(peer.pid) - before) / DELTAS * 1e6


def run(quick: bool) -> list[dict[str, Any]]:
    """The rows of the report."""
    runs = QUICK_RUNS if quick else RUNS
    cores = os.sched_getaffinity(0)
    with folder() as home, BridgeProcess(home) as bridge:
        apart(bridge.pid)
        try:
            with clients(home, bridge) as peers:
                trips = [echo(peers) for _ in range(WARM + runs)][WARM:]
                turns = [[turn(peer) for peer in peers] for _ in range(WARM + runs)][WARM:]
        finally:
            os.sched_setaffinity(0, cores)
    rows = []
    for name, q in (("p50", 0.5), ("p99", 0.99)):
        pairs = [(quantile(a, q), quantile(b, q)) for a, b in trips]
        rows.append(compared(f"echo, {name}", pairs, "µs", f"{runs} runs of {TRIPS}", ECHO))
    rates = [(a[0], b[0]) for a, b in turns]
    costs = [(a[1], b[1]) for a, b in turns]
    rows.append(compared("deltas of a turn", rates, "/s", f"{runs} turns of {DELTAS}", TURN))
    rows.append(
        compared("client's processor time for a delta", costs, "µs", f"{runs} turns of {DELTAS}", COST)
    )
    return rows


ECHO = "`list` in the lobby, no sessions, from the call to its result"
TURN = f"{TEXT} bytes each, as fast as the CLI's stand-in writes them and the bridge reads them"
COST = "user and system, all threads; ours keeps the session's picture, the other counts bytes"


def compared(figure: str, pairs: list[tuple[float, float]], unit: str, n: str, note: str) -> dict[str, Any]:
    ours, theirs = [a for a, _ in pairs], [b for _, b in pairs]
    return row(
        f"Elixir client: {figure}",
        spread(ours, unit, 0),
        against="phoenix.js",
        alternative=spread(theirs, unit, 0),
        ratio=f"{median(a / b for a, b in pairs):.2f}×",
        n=n,
        note=note,
    )


if __name__ == "__main__":
    show(run("--quick" in sys.argv))
