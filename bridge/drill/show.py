"""What a person at a terminal, or a script, sees of a drill."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from bridge.drill.account import Figures
from bridge.drill.run import Plan, Tell

SHOWN, SHOWN_CHARS = 10, 600
"""Of the promises that were broken; `--json` has all of them, whole."""


def result(plan: Plan, figures: Figures) -> dict[str, Any]:
    """One object for a script. Times in seconds."""
    recovered = {
        fault: {"times": len(s), "p50_s": round(median(s), 3), "max_s": round(max(s), 3)}
        for fault, s in figures.recovered_s.items()
    }
    return {
        "ok": not figures.broken,
        "seed": plan.seed,
        "rounds": plan.rounds,
        "kills": dict(figures.kills),
        "submits": figures.submits,
        "accepted": figures.accepted,
        "answered": figures.answered,
        "answered_by": dict(figures.answered_by),
        "interrupted": figures.interrupted,
        "unknown": figures.unknown,
        "unknown_unseen": figures.unknown_unseen,
        "asked_again": figures.asked_again,
        "tools": figures.tools,
        "joins": figures.joins,
        "events": figures.events,
        "lost": figures.count("lost"),
        "duplicated": figures.count("duplicated"),
        "out_of_order": figures.count("out of order"),
        "wrong": figures.count("wrong"),
        "recovered": recovered,
        "broken": [{"kind": b.kind, "what": str(b)} for b in figures.broken],
    }


@contextmanager
def progress(plan: Plan, console: Console) -> Iterator[Tell]:
    """A bar while it lasts; gives what is to be told of every round."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as bar:
        task = bar.add_task("starting", total=plan.rounds)

        def tell(done: int, figures: Figures) -> None:
            bar.update(task, completed=done, description=_killed(figures.kills))

        yield tell


def show(plan: Plan, figures: Figures, console: Console) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(justify="right")
    table.add_column()
    table.add_column(style="dim")
    said = result(plan, figures)
    killed = f"{_killed(figures.kills)}; {figures.joins} joins, {figures.events} events"
    table.add_row(str(plan.rounds), "rounds", killed)
    table.add_row(str(figures.accepted), "accepted", f"prompts, sent {figures.submits} times")
    by = "".join(f", {times} by {backend}" for backend, times in figures.answered_by.items())
    table.add_row(str(figures.answered), "answered", f"{figures.asked_again} by a second try{by}")
    table.add_row(str(figures.interrupted), "interrupted", "cut off with the bridge, without a process")
    unseen = f", {figures.unknown_unseen} of them typed and never acknowledged" if figures.unknown else ""
    table.add_row(str(figures.unknown), "unknown", f"their process was killed{unseen}")
    for kind in ("lost", "duplicated", "out_of_order", "wrong"):
        table.add_row(Text(str(said[kind]), "red" if said[kind] else "green"), kind.replace("_", " "), "")
    for fault, times in said["recovered"].items():
        figure = f"p50 {times['p50_s']:.2f} s, slowest {times['max_s']:.2f} s"
        table.add_row("", f"back after {fault}", figure)
    console.print(table)
    for broken in figures.broken[:SHOWN]:
        console.print(Text(str(broken)[:SHOWN_CHARS], "red"))


def _killed(kills: Counter[str]) -> str:
    return ", ".join(f"{fault} {times}" for fault, times in sorted(kills.items())) or "nothing yet"
