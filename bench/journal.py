"""The journal: an accepted prompt on disk, against a bare SQLite commit of the same bytes in the same run.

Both with WAL and `synchronous=FULL`, in the same folder, in turns. The bare side inserts one row from the
thread that measures; ours goes from the event loop to the writing thread and back.
`python -m bench.journal [--quick]` prints the rows. `TMPDIR` chooses the disk.
"""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import orjson
import uvloop

from bridge.commands import StartOptions
from bridge.events import SessionName, Turn, TurnId, Usage
from bridge.sessions.journal import Journal, SaveSession, SaveTurn, SessionRecord, TurnRecord

DEMO = SessionName("demo")
RUNS = 7
CALLERS = 64
AIM_MS = 2.0
"""What accepting may cost beyond the bare commit."""

numbers = itertools.count(1)


def accepted(prompt: str) -> list[SaveTurn]:
    number = next(numbers)
    turn = Turn(TurnId(f"turn-{number}"), prompt, "me", "client", "queued", time.time(), key=f"key-{number}")
    return [SaveTurn(DEMO, TurnRecord(turn, "queued", number))]


class Bare:
    """One table without an index, one row a commit."""

    def __init__(self, folder: Path) -> None:
        self.db = sqlite3.connect(folder / "bare.db", isolation_level=None)
        for pragma in ("journal_mode = WAL", "synchronous = FULL"):
            self.db.execute(f"PRAGMA {pragma}")
        self.db.execute("CREATE TABLE bare (id INTEGER PRIMARY KEY, prompt TEXT)")

    def times(self, prompt: str, n: int) -> list[float]:
        taken = []
        for _ in range(n):
            began = time.perf_counter()
            self.db.execute("INSERT INTO bare (prompt) VALUES (?)", (prompt,))
            taken.append(time.perf_counter() - began)
        return taken


async def alone(journal: Journal, prompt: str, n: int) -> list[float]:
    """One caller that waits for each: what a client of a quiet bridge meets."""
    taken = []
    for _ in range(n):
        began = time.perf_counter()
        await journal.write(accepted(prompt))
        taken.append(time.perf_counter() - began)
    return taken


async def together(journal: Journal, prompt: str, n: int) -> float:
    """Many callers at once, each waiting for its own: seconds for each accepted prompt."""

    async def caller() -> None:
        for _ in range(n):
            await journal.write(accepted(prompt))

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return (time.perf_counter() - began) / (n * CALLERS)


def p99(values: list[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)]


def row(
    figure: str,
    ours: list[float],
    bare: list[float],
    n: int,
    how: str,
    aim: str = "",
    met: bool | None = None,
) -> dict[str, Any]:
    """Milliseconds; `value` and `against` are medians over the runs."""
    value, against = median(ours) * 1e3, median(bare) * 1e3
    return {
        "figure": figure,
        "unit": "ms",
        "value": round(value, 3),
        "min": round(min(ours) * 1e3, 3),
        "max": round(max(ours) * 1e3, 3),
        "against": round(against, 3),
        "against_what": "bare FULL commit",
        "ratio": round(value / against, 2),
        "more": round(value - against, 3),
        "runs": len(ours),
        "n": n,
        "how": how,
        "aim": aim,
        "met": met,
    }


async def _run(quick: bool, folder: Path) -> list[dict[str, Any]]:
    journal = await Journal.open(folder / "journal.db")
    record = SessionRecord(
        DEMO,
        "headless",
        StartOptions(),
        None,
        None,
        "default",
        1,
        None,
        "idle",
        None,
        None,
        0.0,
        0,
        0,
        Usage(),
        0.0,
    )
    await journal.write([SaveSession(record)])
    bare = Bare(folder)
    rows = []
    aim = f"<= {AIM_MS:g} ms more"
    for size, n in ((1_000, 100 if quick else 500), (1_000_000, 5 if quick else 20)):
        prompt = "x" * size
        ours, theirs = [], []
        for _ in range(-1, 2 if quick else RUNS):  # the first of each warms up
            theirs.append(bare.times(prompt, n))
            ours.append(await alone(journal, prompt, n))
        how = f"prompts of {size:,} bytes, one caller"
        measures: list[tuple[str, Callable[[list[float]], float]]] = [("p50", median)]
        if size < 1_000_000:
            measures.append(("p99", p99))
        for name, measure in measures:
            mine, bares = [measure(t) for t in ours[1:]], [measure(t) for t in theirs[1:]]
            met = (median(mine) - median(bares)) * 1e3 <= AIM_MS
            rows.append(row(f"prompt accepted, on disk, {name}", mine, bares, n, how, aim, met))
    n = 20 if quick else 100
    each, one_by_one = [], []
    for _ in range(-1, 2 if quick else RUNS):
        one_by_one.append(sum(bare.times("x" * 1_000, 200)) / 200)
        each.append(await together(journal, "x" * 1_000, n))
    how = f"prompts of 1,000 bytes, {CALLERS} callers at once; bare: one commit each"
    rows.append(row("prompts accepted at once, time for each", each[1:], one_by_one[1:], n * CALLERS, how))
    await journal.close()
    bare.db.close()
    return rows


def run(quick: bool) -> list[dict[str, Any]]:
    """The rows of the report."""
    with tempfile.TemporaryDirectory(prefix="bench-journal-") as folder:
        return uvloop.run(_run(quick, Path(folder)))


if __name__ == "__main__":
    for line in run("--quick" in sys.argv):
        print(orjson.dumps(line).decode())
