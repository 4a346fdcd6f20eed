"""What runs under the bridge is broken, so that no process of a session ever comes up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.bridge import BridgeProcess, running_bridge, sim
from tests.fakes.phoenix_js import Clients

pytestmark = pytest.mark.real


@pytest.fixture
def claude(tmp_path: Path, claude_path: Path) -> Path:
    """The configured CLI, which a test may break."""
    wrapper = tmp_path / "claude"
    put(wrapper, f'#!/bin/sh\nexec {claude_path} "$@"\n')
    return wrapper


@pytest.fixture
def bridge(tmp_path: Path, claude: Path) -> Iterator[BridgeProcess]:
    settings = {"CLAUDE_BRIDGE_CLAUDE__PATH": str(claude), "CLAUDE_BRIDGE_SESSIONS__RESTART_LIMIT": "1"}
    with running_bridge(tmp_path, **settings) as running:
        yield running


def put(path: Path, script: str, mode: int = 0o755) -> None:
    new = path.with_suffix(".new")
    new.write_text(script)
    new.chmod(mode)
    new.replace(path)


def test_a_cli_that_cannot_start_fails_its_session_which_says_why(
    bridge: BridgeProcess, clients: Clients, claude: Path
) -> None:
    """With either backend, whatever is wrong with it: listed, and started again by hand with all its tries;
    once the CLI is mended that is all it takes."""
    whole = claude.read_text()
    socket = clients.connect(bridge.url, bridge.token)
    lobby = socket.join("sessions")
    faults = {
        "exits": (
            "#!/bin/sh\necho 'no such flux' >&2\nsleep 0.1\nexit 3\n",
            0o755,
            ("status 3", "no such flux"),
        ),
        "forbidden": (whole, 0o644, ("status 126", "ermission denied")),
        "missing": (None, 0, ("claude.path", "is not a file")),
    }
    for fault, (script, mode, said) in faults.items():
        if script is None:
            claude.unlink()
        else:
            put(claude, script, mode)
        channels = {
            backend: socket.join(f"session:{fault}-{backend}", {"start": {"backend": backend}})
            for backend in ("headless", "tmux")
        }
        for channel in channels.values():
            channel.wait_session(state="failed", restarts=1)
            channel.push("restart")
            channel.wait_session(state="failed", restarts=2)
        listed = {s["name"]: s for s in lobby.push("list")["sessions"]}
        for backend, channel in channels.items():
            session = listed[f"{fault}-{backend}"]
            assert session["state"] == "failed"
            assert said[0] in session["reason"]
            # What a process says in its very last moment tmux loses once in a thousand times; it had four.
            told = [h.payload["session"].get("reason") for h in channel.heard if h.event == "session_changed"]
            assert any(all(each in (reason or "") for each in said) for reason in told), told
    put(claude, whole)
    for channel in channels.values():
        channel.push("restart")
        channel.wait_session(state="idle")
        assert channel.ask(sim(text="Well.")).text == "Well."
