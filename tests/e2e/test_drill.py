"""The command `claude-bridge drill`, short: whatever is killed, all is accounted for."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from bridge.drill.account import Figures
from bridge.drill.run import Plan, prepared
from tests.fakes.bridge import ROOT

pytestmark = pytest.mark.real


@pytest.mark.parametrize("seed", [pytest.param([], id="a fresh seed"), pytest.param(["--seed", "7"], id="7")])
def test_a_short_drill_loses_nothing(seed: list[str], tmp_path: Path, claude_path: Path) -> None:
    """What a person types; the seed of a failure stands in its output."""
    env = {
        "HOME": str(tmp_path),
        "TMPDIR": str(tmp_path),
        "PATH": f"{claude_path.parent}:/usr/local/bin:/usr/bin:/bin",
    }
    words = ["drill", "--rounds", "2", "--sessions", "1", "--json", *seed]
    done = subprocess.run(
        [sys.executable, "-m", "bridge", *words],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert f"--seed {told['seed']}" in done.stderr
    assert told["accepted"] == told["answered"] + told["interrupted"] + told["unknown"] > 0
    assert (told["lost"], told["duplicated"], told["out_of_order"], told["wrong"]) == (0, 0, 0, 0)
    assert sum(told["kills"].values()) == 2
    assert os.listdir(tmp_path) == [], "the drill left something behind"


async def test_a_drill_sees_what_is_lost(tmp_path: Path, claude_path: Path) -> None:
    """A turn that had been told vanishes from the journal: clients notice, and the account does."""
    plan = Plan(seed=1, rounds=2, sessions=1, backends=("headless",), faults=("bridge",), patience_s=8)
    env = {"CLAUDE_BRIDGE_CLAUDE__PATH": str(claude_path)}
    async with prepared(plan, tmp_path, env) as (drill, stage):

        def sabotage(done: int, figures: Figures) -> None:
            if done == 1:
                with closing(sqlite3.connect(stage.state_dir / "journal.db")) as journal, journal:
                    assert journal.execute("DELETE FROM turns WHERE number = 2").rowcount == 1

        await drill.run(sabotage)
    assert drill.figures.count("lost") >= 2
    assert drill.figures.count("duplicated") == 0
