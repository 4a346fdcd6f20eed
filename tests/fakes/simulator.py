"""Fixtures: the simulator as a process of its own, and the real CLI's environment pointed at it."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

KEY = "sk-ant-simulated-0000000000000000"
"""A made-up key; the simulator takes any."""
EXIT_S = 10
"""Far more than a simulator needs to end, so that one that hangs fails the run instead of stopping it."""


@dataclass(frozen=True)
class RunningSimulator:
    base_url: str
    pid: int

    @property
    def port(self) -> int:
        return int(self.base_url.rpartition(":")[2])

    def requests(self) -> list[dict[str, Any]]:
        """What was asked since the test began, oldest first."""
        with urllib.request.urlopen(f"{self.base_url}/_sim/requests", timeout=10) as answer:
            recorded: list[dict[str, Any]] = json.load(answer)["requests"]
            return recorded

    def forget(self) -> None:
        _tell(f"{self.base_url}/_sim/requests", "DELETE")

    def cut(self) -> None:
        """The connections of the streams that hang."""
        _tell(f"{self.base_url}/_sim/cut", "POST")


def _tell(url: str, method: str) -> None:
    urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=10).close()


def start_simulator(*arguments: str) -> tuple[subprocess.Popen[str], RunningSimulator]:
    """A simulator on a free port, listening when this returns. The caller ends the process."""
    command = [sys.executable, "-m", "bridge.simulator", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("simulator: http://"), f"the simulator did not start: {line!r}"
    return process, RunningSimulator(line.removeprefix("simulator: ").strip(), process.pid)


def stop_simulator(process: subprocess.Popen[str]) -> int:
    process.terminate()
    status = process.wait(EXIT_S)
    if process.stdout is not None:
        process.stdout.close()
    return status


@pytest.fixture(scope="session")
def simulator_process() -> Iterator[RunningSimulator]:
    process, running = start_simulator()
    yield running
    stop_simulator(process)


@pytest.fixture
def simulator(simulator_process: RunningSimulator) -> RunningSimulator:
    """The run's simulator, with an empty record of requests."""
    simulator_process.forget()
    return simulator_process


@pytest.fixture(scope="session")
def claude_path() -> Path:
    """The real CLI, as the wheel of claude-agent-sdk carries it."""
    spec = importlib.util.find_spec("claude_agent_sdk")
    assert spec is not None, "install the dev extra: claude-agent-sdk is missing"
    assert spec.origin is not None
    path = Path(spec.origin).parent / "_bundled" / "claude"
    assert path.is_file(), f"this wheel of claude-agent-sdk carries no CLI: {path}"
    return path


@pytest.fixture
def claude_env(tmp_path: Path, simulator: RunningSimulator) -> dict[str, str]:
    """The whole environment of a CLI that knows nobody: own home, own settings, made-up key, loopback."""
    home, config = tmp_path / "home", tmp_path / "claude-config"
    home.mkdir()
    config.mkdir()
    return {
        "HOME": str(home),
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "ANTHROPIC_BASE_URL": simulator.base_url,
        "ANTHROPIC_API_KEY": KEY,
        "CLAUDE_CONFIG_DIR": str(config),
        "CLAUDE_CODE_MAX_RETRIES": "4",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "CLAUDE_CODE_DISABLE_OFFICIAL_MARKETPLACE_AUTOINSTALL": "1",
        "DISABLE_AUTOUPDATER": "1",
        "IS_SANDBOX": "1",
    }
