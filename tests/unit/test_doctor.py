"""What the doctor finds, on machines made of a few fake programs."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge import doctor
from bridge.config import Config
from bridge.doctor import Finding
from bridge.errors import SetupError
from bridge.sessions.claude import launch

LOGGED_IN = json.dumps({"loggedIn": True, "authMethod": "claude.ai"})
LOGGED_OUT = json.dumps({"loggedIn": False, "authMethod": "none"})


class Machine:
    """A PATH with what is put there and nothing else, and a home."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.state = folder / "state"
        self.environ = {"HOME": str(folder), "PATH": str(self.bin), "XDG_STATE_HOME": str(folder / "xdg")}

    def program(self, name: str, script: str) -> Path:
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    def claude(self, version: str = "2.1.330 (Claude Code)", status: str = LOGGED_IN) -> Path:
        return self.program("claude", f"[ $1 = auth ] && echo '{status}' || echo '{version}'")

    def tmux(self, version: str = "tmux 3.3a") -> Path:
        return self.program("tmux", f"echo '{version}'")

    def check(self, name: str, **settings: Any) -> Finding:
        config = Config.model_validate({"state_dir": self.state, "server": {"port": 0}, **settings})
        (finding,) = doctor.examine(config, self.environ, [name])
        return finding


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    # The extra's own CLI would be found before the one on PATH.
    monkeypatch.setattr(launch, "_bundled", lambda: None)
    return Machine(tmp_path)


@pytest.fixture
def listening() -> Iterator[int]:
    """A port that somebody else holds."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_sound_machine_has_no_problem(machine: Machine) -> None:
    """Every check answers, in its order."""
    machine.claude()
    machine.tmux()
    findings = doctor.examine(
        Config.model_validate({"state_dir": machine.state, "server": {"port": 0}}), machine.environ
    )
    assert [f.check for f in findings] == ["claude", "login", "tmux", "api", "state", "port"]
    assert {f.status for f in findings if f.check != "api"} == {"ok"}


def test_the_api_backend_is_said_to_run_or_what_it_lacks(machine: Machine) -> None:
    """Nobody needs it, so that it is no problem where it cannot."""
    for environ, config, status in (
        ({}, {}, "note"),
        ({"ANTHROPIC_API_KEY": "k"}, {}, "ok"),
        ({}, {"api": {"key": "k"}}, "ok"),
        ({}, {"simulate": True}, "ok"),
    ):
        (found,) = doctor.examine(Config.model_validate(config), environ, ["api"])
        assert found.status == status
    (missing,) = doctor.examine(Config(), {}, ["api"])
    assert "ANTHROPIC_API_KEY" in missing.remedy


def test_no_claude_says_how_to_get_one(machine: Machine) -> None:
    """The extra brings it."""
    finding = machine.check("claude")
    assert finding.status == "problem"
    assert "claude-bridge[claude]" in finding.remedy


def test_a_claude_that_was_configured_must_be_there(machine: Machine, tmp_path: Path) -> None:
    """Its path is repeated."""
    finding = machine.check("claude", claude={"path": str(tmp_path / "nowhere")})
    assert "nowhere" in finding.said


def test_an_old_claude_is_told_from_none(machine: Machine) -> None:
    """With the version it has and the one it needs."""
    machine.claude("1.0.3 (Claude Code)")
    said = machine.check("claude").said
    assert "1.0.3" in said
    assert "too old" in said


def test_a_program_that_says_no_version_is_not_trusted(machine: Machine) -> None:
    """What it said is repeated."""
    machine.claude("segmentation fault")
    assert "segmentation fault" in machine.check("claude").said


def test_a_claude_that_cannot_be_run_is_said_to_be_so(machine: Machine) -> None:
    """Another machine's binary, for one."""
    machine.claude().write_bytes(b"\x7fELF garbage")
    finding = machine.check("claude")
    assert "cannot be run" in finding.said


def test_not_logged_in_says_what_to_do(machine: Machine) -> None:
    """Log in, give a key, or simulate."""
    machine.claude(status=LOGGED_OUT)
    finding = machine.check("login")
    assert finding.status == "problem"
    assert "--simulate" in finding.remedy


def test_the_login_is_asked_for_in_the_sessions_environment(machine: Machine) -> None:
    """A key that sessions would not get must not count."""
    machine.program(
        "claude",
        "[ $1 = auth ] || { echo 2.1.330; exit; }\n"
        f"[ -n \"$ANTHROPIC_API_KEY\" ] && echo '{LOGGED_IN}' || echo '{LOGGED_OUT}'",
    )
    machine.environ["ANTHROPIC_API_KEY"] = "made up"
    assert machine.check("login").status == "problem"
    assert machine.check("login", claude={"env_allow": ["ANTHROPIC_API_KEY"]}).status == "ok"


def test_the_simulator_needs_no_login(machine: Machine) -> None:
    """Nor is anybody asked for one."""
    assert machine.check("login", simulate=True).status == "ok"


def test_an_answer_that_cannot_be_read_is_a_note(machine: Machine) -> None:
    """A later CLI may answer otherwise, and work."""
    machine.claude(status="yes")
    assert machine.check("login").status == "note"


def test_no_tmux_says_how_to_get_one(machine: Machine) -> None:
    """And what it is for."""
    finding = machine.check("tmux")
    assert "holds the sessions" in finding.said
    assert "apt-get install tmux" in finding.remedy


def test_an_old_tmux_is_told_from_none(machine: Machine) -> None:
    """With the version it has and the one it needs."""
    machine.tmux("tmux 2.9")
    said = machine.check("tmux").said
    assert "2.9" in said
    assert "too old" in said


def test_serve_can_begin_with_the_same_checks(machine: Machine) -> None:
    """`find_claude` and `find_tmux` raise what the doctor says."""
    with pytest.raises(SetupError, match="no claude"):
        doctor.find_claude(Config(), machine.environ)
    with pytest.raises(SetupError, match="tmux was not found"):
        doctor.find_tmux(Config(), machine.environ)
    path = machine.tmux()
    assert doctor.find_tmux(Config(), machine.environ) == doctor.Program(path, "3.3a")


def test_a_state_folder_that_can_be_made_is_fine(machine: Machine) -> None:
    """It is not made by looking."""
    assert machine.check("state").status == "ok"
    assert not machine.state.exists()


def test_a_state_folder_that_cannot_be_written_says_what_to_do(machine: Machine) -> None:
    """A file stands in its way."""
    machine.state.write_text("")
    finding = machine.check("state", state_dir=str(machine.state / "below"))
    assert finding.status == "problem"
    assert "--state-dir" in finding.remedy


def test_a_free_port_is_fine(machine: Machine, unused_tcp_port: int) -> None:
    """Looking does not hold it."""
    for _ in range(2):
        assert machine.check("port", server={"port": unused_tcp_port}).status == "ok"


def test_a_taken_port_says_what_to_do(machine: Machine, listening: int) -> None:
    """How to see who has it."""
    finding = machine.check("port", server={"port": listening})
    assert finding.status == "problem"
    assert "ss -ltnp" in finding.remedy


@pytest.mark.parametrize(("folder", "status"), [("state", "ok"), ("xdg/claude-bridge", "problem")])
def test_a_port_held_by_a_bridge_says_which(
    machine: Machine, tmp_path: Path, listening: int, folder: str, status: str
) -> None:
    """Our own is no problem; another state folder's is."""
    place = tmp_path / folder
    place.mkdir(parents=True)
    said = {"pid": os.getpid(), "host": "127.0.0.1", "port": listening}
    (place / "bridge.json").write_text(json.dumps(said))
    finding = machine.check("port", server={"port": listening})
    assert finding.status == status
    assert str(os.getpid()) in finding.said


def test_an_address_of_another_machine_cannot_be_listened_on(machine: Machine) -> None:
    """A documentation address stands for it: nothing is sent there."""
    finding = machine.check("port", server={"host": "192.0.2.1", "port": 4040, "insecure": True})
    assert "cannot be listened on" in finding.said
