"""The report of all benchmarks: their rows, whatever shape a module gives them, as tables with the aims."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bridge.config import ClaudeConfig
from bridge.errors import BackendError
from bridge.sessions.claude.launch import find_claude

Row = dict[str, Any]

REPORT = Path(__file__).parent / "REPORT.md"
COLUMNS = ("figure", "ours", "against", "alternative", "ratio", "aim", "met", "n", "note")
HEADINGS = ("figure", "ours", "against", "theirs", "ratio", "aim", "met", "n", "note")

AIMS: dict[tuple[str, int], tuple[str, Callable[[float], bool]]] = {
    ("fan-out burst, ours / naive", 200): ("≥ 5", lambda ratio: ratio >= 5),
    ("fan-out burst, ours / batched", 200): ("≥ 0.8", lambda ratio: ratio >= 0.8),
    ("memory per client, ours / naive", 1000): ("≤ 1.4", lambda ratio: ratio <= 1.4),
    ("cost of a delivered delta, largest step from fewer clients to more", 1000): (
        "≤ 1.1: never rising",
        lambda step: step <= 1.1,
    ),
}
"""For modules whose rows say what was measured and leave the judgement to the report."""


@dataclass(frozen=True)
class Section:
    """One module's outcome; `rows` is None where it failed."""

    name: str
    title: str
    rows: list[Row] | None
    took_s: float


def machine() -> list[str]:
    """What the figures were taken on."""
    model = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.machine(),
    )
    memory = next((int(line.split()[1]) for line in _lines("/proc/meminfo") if "MemTotal" in line), 0)
    return [
        f"{os.cpu_count()} cores ({model}), {memory / 2**20:.0f} GiB",
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        f"claude {_claude()}, {_said(['tmux', '-V'])}",
    ]


def normal(row: Row) -> Row:
    """One line of the table, from any of the shapes that the modules use."""
    if "ours" in row:
        return row
    if "value" in row:  # a value against another of the same unit
        unit = row["unit"]
        more = f"; {row['more']:g} {unit} more" if "more" in row else ""
        return {
            "figure": row["figure"],
            "ours": f"{row['value']:g} {unit} ({row['min']:g} to {row['max']:g})",
            "against": row.get("against_what", ""),
            "alternative": f"{row['against']:g} {unit}",
            "ratio": f"{row['ratio']:g}",
            "aim": row.get("aim", ""),
            "met": row.get("met"),
            "n": f"{row['runs']} × {row['n']}",
            "note": f"{row['how']}{more}",
        }
    aim, holds = AIMS.get((row["figure"], row["clients"]), ("", None))
    is_ratio = row["server"] == "ratio"
    figure = f"{row['figure']}, {row['clients']} clients"
    return {
        "figure": figure if is_ratio else f"{figure}: {row['server']}",
        "ours": "" if is_ratio else f"{row['median']:g} {row['unit']} ({row['min']:g} to {row['max']:g})",
        "ratio": f"{row['median']:g}" if is_ratio else "",
        "aim": aim,
        "met": holds(row["median"]) if holds else None,
        "n": row["runs"],
        "note": row["how"],
    }


def judged(section: Section) -> Section:
    """The section with its rows in the table's shape."""
    rows = None if section.rows is None else [normal(row) for row in section.rows]
    return Section(section.name, section.title, rows, section.took_s)


def table(section: Section) -> str:
    """The rows as a Markdown table, without columns that are empty throughout."""
    if section.rows is None:
        return "**This benchmark failed.**"
    cells = [[_cell(row.get(column)) for column in COLUMNS] for row in judged(section).rows or ()]
    used = [i for i in range(len(COLUMNS)) if any(line[i] for line in cells)]
    lines = [[HEADINGS[i] for i in used], ["---"] * len(used), *([line[i] for i in used] for line in cells)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def render(sections: list[Section], on: list[str], *, quick: bool) -> str:
    """REPORT.md whole."""
    rows = [row for section in sections for row in judged(section).rows or ()]
    aims = [row for row in rows if row.get("met") is not None]
    met = sum(1 for row in aims if row["met"])
    head = [
        "# What was measured",
        "",
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, by `make bench`"
        f"{' (quick: too few runs to rely on)' if quick else ''}. {met} of {len(aims)} aims met.",
        "",
        *(f"- {line}" for line in on),
        "",
        "Everything is on loopback, both sides of a comparison in the same run, one benchmark at a time.",
        "Figures are medians, with minimum and maximum in brackets; n is runs × measurements. Absolute",
        "figures drift from machine to machine: the ratios are what is aimed at.",
    ]
    parts = [
        f"## {section.name}\n\n{section.title}\n\n{table(section)}\n\nTook {section.took_s:.0f} s."
        for section in sections
    ]
    return "\n".join(head) + "\n\n" + "\n\n".join(parts) + "\n"


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "**no**"
    return str(value).replace("|", "\\|").replace("\n", " ")


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def _claude() -> str:
    try:
        return _said([str(find_claude(ClaudeConfig())), "--version"])
    except BackendError:
        return "absent"


def _said(words: list[str]) -> str:
    # An environment made from nothing: a version is asked for, and nobody's login is any business of ours.
    try:
        done = subprocess.run(
            words, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False
        )
    except OSError:
        return "absent"
    return done.stdout.strip()
