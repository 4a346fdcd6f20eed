"""`python -m bench [--quick] [MODULE…]` measures everything (or what is named) and writes REPORT.md.

One benchmark at a time, each in a process of its own, so that none measures what another left behind.
Ends with 1 where a benchmark failed or an aim was missed.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import orjson

from bench.report import REPORT, Section, judged, machine, render, table

BENCH = Path(__file__).parent
ORDER = ("first_delta", "latency", "fanout", "transports", "echo", "journal", "memory")
ONE = "import sys, orjson, {m}; open(sys.argv[1], 'wb').write(orjson.dumps({m}.run('--quick' in sys.argv)))"


def modules() -> list[str]:
    """Every file here that has a `run`, the known ones first."""
    there = {path.stem for path in BENCH.glob("*.py") if "\ndef run(" in path.read_text()}
    return [name for name in ORDER if name in there] + sorted(there - set(ORDER))


def measure(name: str, quick: bool) -> Section:
    """One module's rows; None for them where it failed."""
    title = (BENCH / f"{name}.py").read_text().split('"""')[1].strip()
    begun = time.monotonic()
    with tempfile.NamedTemporaryFile() as file:
        words = [sys.executable, "-c", ONE.format(m=f"bench.{name}"), file.name]
        done = subprocess.run([*words, *(["--quick"] if quick else [])], cwd=BENCH.parent, check=False)
        rows: list[dict[str, Any]] | None = orjson.loads(file.read()) if done.returncode == 0 else None
    return Section(name, title, rows, time.monotonic() - begun)


def main() -> int:
    quick = "--quick" in sys.argv
    names = [word for word in sys.argv[1:] if not word.startswith("-")]
    unknown = set(names) - set(modules())
    if unknown:
        print(f"There is no benchmark {', '.join(sorted(unknown))}; there are {', '.join(modules())}.")
        return 2
    sections = []
    for name in names or modules():
        print(f"\n{name}", flush=True)
        section = measure(name, quick)
        print(table(section), flush=True)
        sections.append(section)
    if not names:
        REPORT.write_text(render(sections, machine(), quick=quick))
        print(f"\nWritten to {REPORT.relative_to(BENCH.parent)}")
    missed = [row["figure"] for s in sections for row in judged(s).rows or () if row.get("met") is False]
    failed = [s.name for s in sections if s.rows is None]
    print(f"\nmissed: {', '.join(missed) or 'nothing'}; failed: {', '.join(failed) or 'nothing'}")
    return 1 if missed or failed else 0


if __name__ == "__main__":
    sys.exit(main())
