"""The simulator in the bridge's tmux server, where it does not start."""

from __future__ import annotations

import asyncio
import subprocess
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridge import upstream
from bridge.config import TmuxConfig
from bridge.drill.stage import remove_socket
from bridge.errors import SetupError
from bridge.sessions.tmux import Tmux
from bridge.upstream import SESSION, SimulatorProcess

pytestmark = pytest.mark.real


@pytest.fixture
async def tmux() -> AsyncIterator[Tmux]:
    tmux = Tmux(f"test-{uuid.uuid4().hex[:12]}", TmuxConfig())
    yield tmux
    await tmux.kill_server()
    remove_socket(tmux.socket)


def _python(tmp_path: Path, does: str, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "python"
    script.write_text(f"#!/bin/sh\n{does}\n")
    script.chmod(0o755)
    monkeypatch.setattr(upstream.sys, "executable", str(script))


async def test_one_that_ends_at_once_leaves_its_last_words_to_be_looked_at(
    tmp_path: Path, tmux: Tmux, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The refusal names the command that shows them. Those of its very last moment tmux may lose."""
    _python(tmp_path, "echo a module is missing; sleep 0.2; exit 3", monkeypatch)
    with pytest.raises(SetupError, match="did not start") as refused:
        await SimulatorProcess(tmux, tmp_path).ensure()
    assert tmux.attach_command(SESSION) in str(refused.value)
    (pane,) = await tmux.panes(SESSION)
    assert pane.dead
    command = ["tmux", "-L", tmux.socket, "capture-pane", "-p", "-S", "-", "-t", SESSION]

    def shown() -> str:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    async with asyncio.timeout(20):
        while "a module is missing" not in shown():  # noqa: ASYNC110  (nothing tells when tmux has read it)
            await asyncio.sleep(0.05)


async def test_one_that_says_nothing_is_given_up(
    tmp_path: Path, tmux: Tmux, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not taken for a defect of the bridge."""
    monkeypatch.setattr(upstream, "START_S", 0.3)
    _python(tmp_path, "exec sleep 60", monkeypatch)
    with pytest.raises(SetupError, match="did not start"):
        await SimulatorProcess(tmux, tmp_path).ensure()
