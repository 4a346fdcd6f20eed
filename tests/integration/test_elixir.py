"""The Elixir client as its users run it: its own tests, which bring their bridge, its guide, its example."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.bridge import BridgeProcess, running_bridge, sim

CLIENT = Path(__file__).parents[2] / "clients" / "elixir"
PATIENCE_S = 900
SOAK_S = 3000
"""220 connections that break and 20 bridges that are killed, and a thousand sessions."""

pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(PATIENCE_S),
    pytest.mark.skipif(shutil.which("mix") is None, reason="Elixir is not installed"),
]


class Elixir:
    """The client's project, built in a folder of its own once for all tests of this file."""

    def __init__(self, folder: Path) -> None:
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder / "home"),
            "LC_ALL": "C.UTF-8",  # Elixir 1.14 warns about anything else
            "MIX_ENV": "test",
            "MIX_BUILD_PATH": str(folder / "build"),
            "CLAUDE_SESSION_PYTHON": sys.executable,
        }

    def run(self, *words: str, stdin: str = "", patience_s: float = PATIENCE_S, **env: str) -> str:
        """What it printed; fails where it failed."""
        run = subprocess.run(
            words,
            cwd=CLIENT,
            env=self.env | env,
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=patience_s,
            check=False,
        )
        assert run.returncode == 0, run.stdout
        return run.stdout


@pytest.fixture(scope="module")
def elixir(tmp_path_factory: pytest.TempPathFactory) -> Elixir:
    return Elixir(tmp_path_factory.mktemp("elixir"))


@pytest.fixture
def bridge(tmp_path: Path) -> Iterator[BridgeProcess]:
    with running_bridge(tmp_path) as running:
        yield running


def test_it_is_formatted_and_passes_its_tests(elixir: Elixir) -> None:
    """Warnings are errors. The real CLI runs headless and in the terminal; connections and bridge are cut."""
    elixir.run("mix", "format", "--check-formatted")
    elixir.run("mix", "compile", "--warnings-as-errors")
    elixir.run("mix", "test", "--warnings-as-errors")


@pytest.mark.soak
@pytest.mark.timeout(SOAK_S)
def test_it_passes_its_long_tests(elixir: Elixir) -> None:
    """The connection killed at every event of a turn, the bridge 20 times; 1,000 sessions, 100,000 deltas."""
    elixir.run("mix", "test", "--only", "soak:true", patience_s=SOAK_S)


def test_the_calls_of_the_guide_work_as_written(elixir: Elixir, bridge: BridgeProcess) -> None:
    """In iex, with no address and no token: the bridge of this machine is found by itself."""
    guide = (CLIENT / "guides" / "getting-started.md").read_text()
    (session,) = re.findall(r"^```elixir\n(iex> .*?)^```$", guide, re.DOTALL | re.MULTILINE)
    lines = session.splitlines()
    typed = [line.removeprefix("iex> ") for line in lines if line.startswith("iex> ")]
    shown = [line for line in lines if not line.startswith("iex> ")]
    assert len(typed) == 3
    said = elixir.run(
        *("iex", "-S", "mix"),
        stdin="\n".join([*typed, "System.halt(0)", ""]),
        CLAUDE_BRIDGE_STATE_DIR=str(bridge.state_dir),
    )
    for line in shown:
        assert line in said


def test_the_example_talks_and_asks(elixir: Elixir, bridge: BridgeProcess) -> None:
    """A prompt, one whose tool is denied, and an empty line that ends it."""
    tool = ["Bash", {"command": "touch here", "description": "x"}]
    denied = f"write {sim(tools=[tool], text='As you wish.')}"
    said = elixir.run(
        *("mix", "run", "examples/chat.exs", "chat"),
        stdin=f"hello\n{denied}\nn\n\n",
        CLAUDE_BRIDGE_STATE_DIR=str(bridge.state_dir),
    )
    assert "You said: hello" in said
    assert 'Claude wants to use Bash: %{"command" => "touch here"' in said
    assert "As you wish." in said
