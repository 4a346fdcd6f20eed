"""The Elixir client's own tests, as its users run them: `mix test`, which brings its bridge with it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CLIENT = Path(__file__).parents[2] / "clients" / "elixir"
PATIENCE_S = 900

pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(PATIENCE_S),
    pytest.mark.skipif(shutil.which("mix") is None, reason="Elixir is not installed"),
]


def mix(build: Path, *words: str) -> None:
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(build / "home"),
        "LC_ALL": "C.UTF-8",  # Elixir 1.14 warns about anything else
        "MIX_ENV": "test",
        "MIX_BUILD_PATH": str(build / "build"),
        "CLAUDE_SESSION_PYTHON": sys.executable,
    }
    run = subprocess.run(
        ["mix", *words],
        cwd=CLIENT,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert run.returncode == 0, run.stdout


def test_it_is_formatted_and_passes_its_tests(tmp_path: Path) -> None:
    """Warnings are errors. The real CLI runs headless and in the terminal; connections and bridge are cut."""
    mix(tmp_path, "format", "--check-formatted")
    mix(tmp_path, "test", "--warnings-as-errors")


@pytest.mark.soak
def test_it_passes_its_long_tests(tmp_path: Path) -> None:
    """200 cuts, and 20 deaths of the bridge."""
    mix(tmp_path, "test", "--only", "soak:true")
