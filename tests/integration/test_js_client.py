"""The JavaScript client: its types, its package, and its own tests, which start a real bridge."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.real, pytest.mark.timeout(400)]

CLIENT = Path(__file__).parents[2] / "clients" / "js"
PATIENCE_S = 300
"""Half a minute on a machine of its own; this one may run other tests beside it."""


@pytest.fixture(scope="module")
def built() -> Path:
    """The folder of the client, checked and built."""
    node = shutil.which("node")
    assert node is not None, "these tests need Node"
    major = subprocess.run(
        [node, "-p", "process.versions.node"], capture_output=True, text=True, check=True
    ).stdout
    if int(major.partition(".")[0]) < 20:
        pytest.skip(f"the client and its tests need Node 20; this is {major.strip()}")
    assert (CLIENT / "node_modules").is_dir(), "run `make setup`: the npm packages are missing"
    run("npm", "run", "-s", "check")
    run("npm", "run", "-s", "build")
    return CLIENT


def run(*words: str) -> None:
    """Fails with what it said."""
    done = subprocess.run(
        words,
        cwd=CLIENT,
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


def test_the_client_passes_its_own_tests(built: Path) -> None:
    """Golden frames, breaks at every step, both transports against a real bridge that is killed."""
    run("npx", "vitest", "run")
