"""The command `claude-bridge drill`: sets the stage, runs it, and says what came of it."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from bridge.config import Config
from bridge.doctor import find_claude, find_tmux
from bridge.drill.account import Figures
from bridge.drill.run import Fault, Plan, Tell, prepared
from bridge.drill.show import progress, result, show
from bridge.drill.stage import PATH
from bridge.errors import SetupError
from bridge.terminal import Screen


def run(
    rounds: int,
    sessions: int,
    backends: Sequence[str],
    faults: Sequence[str],
    seed: int | None,
    *,
    as_json: bool,
) -> bool:
    """Whether every promise was kept. Raises `SetupError` where this machine lacks something."""
    if set(backends) == {"api"} and set(faults) <= {"cli", "tmux"}:
        raise SetupError(
            "Sessions of backend api have no process that could be killed.", "Add --fault bridge."
        )
    screen = Screen.made()
    chosen = random.SystemRandom().randrange(1_000_000) if seed is None else seed
    plan = Plan(chosen, rounds, sessions, tuple(backends), cast(tuple[Fault, ...], tuple(faults)))
    env = {
        "PATH": os.environ.get("PATH", PATH),
        "CLAUDE_BRIDGE_CLAUDE__PATH": str(find_claude(Config(), os.environ).path),
    }
    find_tmux(Config(), os.environ)
    screen.err.print(f"Seed {plan.seed}; repeat the plan with --seed {plan.seed}.", highlight=False)
    folder = Path(tempfile.mkdtemp(prefix="claude-bridge-drill-"))
    try:
        with progress(plan, screen.err) as tell:
            figures = asyncio.run(_drilled(plan, folder, env, tell))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)  # nobody was told of it
        raise
    if as_json:
        screen.json(result(plan, figures))
    else:
        show(plan, figures, screen.out)
    if figures.broken:
        screen.err.print(f"Its log and its journal are kept in {folder}.", highlight=False)
    else:
        shutil.rmtree(folder)
    return not figures.broken


async def _drilled(plan: Plan, folder: Path, env: dict[str, str], tell: Tell) -> Figures:
    async with prepared(plan, folder, env) as (drill, _):
        await drill.run(tell)
    return drill.figures
