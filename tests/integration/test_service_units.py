"""The systemd units that are shipped, as far as a machine without systemd can tell."""

from __future__ import annotations

import os
import shlex
import subprocess
import uuid
from configparser import ConfigParser
from pathlib import Path

import pytest

from bridge.config import ServerConfig, TmuxConfig
from bridge.drill.stage import remove_socket
from bridge.sessions.registry import DETACH_S
from bridge.sessions.tmux import Tmux

UNITS = Path(__file__).parents[2] / "deploy" / "systemd"
SOCKET = "claude-bridge"


def service(name: str) -> dict[str, str]:
    parser = ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(UNITS / f"{name}.service")
    return dict(parser["Service"])


def test_stopping_the_bridge_ends_the_bridge_alone() -> None:
    """It has the time it may take, and looks for the sessions where the other unit keeps them."""
    bridge = service("claude-bridge")
    assert bridge["KillMode"] == "process"
    assert float(bridge["TimeoutStopSec"]) > ServerConfig().shutdown_s + DETACH_S
    assert bridge["Environment"] == f"CLAUDE_BRIDGE_TMUX__SOCKET={SOCKET}"


def test_a_session_that_is_killed_for_its_memory_takes_no_other_along() -> None:
    """systemd's default would stop the unit, and all of them with it."""
    assert service("claude-bridge-tmux")["OOMPolicy"] == "continue"


@pytest.mark.real
async def test_the_bridge_uses_the_server_that_was_started_for_it() -> None:
    """And it stays when there are no sessions, or the next one would start in the bridge's own unit."""
    words = shlex.split(service("claude-bridge-tmux")["ExecStart"])
    socket = f"test-{uuid.uuid4().hex[:12]}"
    words = [{SOCKET: socket, "/usr/bin/tmux": "tmux"}.get(word, word) for word in words]
    assert socket in words

    def running() -> str:
        ask = ["tmux", "-L", socket, "display-message", "-p", "#{pid}"]
        return subprocess.run(ask, capture_output=True, text=True, check=True, timeout=30).stdout.strip()

    tmux = Tmux(socket, TmuxConfig())
    try:
        clean = {"PATH": os.environ["PATH"], "HOME": "/", "LANG": "C.UTF-8"}
        subprocess.run(words, env=clean, check=True, timeout=30)
        server = running()
        pane = await tmux.new_session("claude_demo", ("sleep", "600"), {})
        assert str(pane.server_pid) == server
        await tmux.kill_session("claude_demo")
        assert running() == server
    finally:
        await tmux.kill_server()
        await tmux.close()
        remove_socket(socket)
