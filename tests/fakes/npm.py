"""An npm package of this repository, and the scripts that it has."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PATIENCE_S = 300
"""Half a minute on a machine of its own; this one may run other tests beside it."""


class NpmPackage:
    """Skips where Node is older than its tests need."""

    def __init__(self, name: str) -> None:
        self.folder = ROOT / "clients" / name
        node = shutil.which("node")
        assert node is not None, "these tests need Node"
        asked = [node, "-p", "process.versions.node"]
        version = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
        if int(version.partition(".")[0]) < 20:
            pytest.skip(f"the tests of clients/{name} need Node 20; this is {version}")
        assert (self.folder / "node_modules").is_dir(), "run `make setup`: the npm packages are missing"

    def run(self, *words: str) -> None:
        """Fails with what it said."""
        done = subprocess.run(
            words,
            cwd=self.folder,
            env=os.environ | {"BRIDGE_PYTHON": sys.executable, "CI": "true", "NO_COLOR": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        if done.returncode != 0:
            pytest.fail(f"{' '.join(words)}:\n{done.stdout[-20_000:]}")
