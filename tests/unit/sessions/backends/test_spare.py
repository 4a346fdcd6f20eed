"""Which processes are the same kind, and whose one has become."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bridge.commands import StartOptions
from bridge.config import ClaudeConfig
from bridge.errors import BackendError
from bridge.sessions.backends.spare import (
    RECORD,
    Kind,
    half_taken,
    is_spare,
    kind_of,
    new_spare,
    read_spare,
    taken_spares,
    written,
)
from bridge.sessions.tmux import Pane

ENVIRON = {"PATH": "/bin", "HOME": "/home/me", "LANG": "C.UTF-8"}


@pytest.fixture
def claude(tmp_path: Path) -> Path:
    path = tmp_path / "claude"
    path.write_text("#!/bin/sh\n")
    return path


def kind(claude: Path, environ: dict[str, str] = ENVIRON, **options: Any) -> Kind:
    given = StartOptions.model_validate({"cwd": "/work", "permission_mode": "default", **options})
    return kind_of(given, ClaudeConfig(path=claude), environ)


@pytest.mark.parametrize(
    "options",
    [
        {"cwd": "/other"},
        {"model": "claude-haiku-4-5"},
        {"system_prompt": "short"},
        {"append_system_prompt": "more"},
        {"allowed_tools": ["Bash(ls)"]},
        {"disallowed_tools": ["Write"]},
        {"add_dirs": ["/data"]},
        {"mcp_config": {"mcpServers": {}}},
        {"permission_mode": "bypassPermissions"},
    ],
)
def test_what_a_process_cannot_change_makes_another_kind(claude: Path, options: dict[str, Any]) -> None:
    """Everything it is started with but who it is."""
    assert kind(claude, **options).key != kind(claude).key


def test_so_does_what_is_in_a_file_that_only_has_its_name_on_the_command_line(claude: Path) -> None:
    """Two system prompts are two kinds."""
    assert kind(claude, system_prompt="one").key != kind(claude, system_prompt="two").key


def test_the_environment_and_the_cli_itself_are_part_of_it(claude: Path) -> None:
    """An update, at the same place, too; what the CLI is not given is not."""
    before = kind(claude).key
    assert kind(claude, {**ENVIRON, "LANG": "C"}).key != before
    assert kind(claude, {**ENVIRON, "SECRET": "x"}).key == before
    claude.write_text("#!/bin/sh\n# newer\n")
    assert kind(claude).key != before
    claude.unlink()
    with pytest.raises(BackendError):
        kind(claude)


@pytest.mark.parametrize("mode", ["plan", "acceptEdits", "manual", "auto", "dontAsk"])
def test_a_permission_mode_that_can_be_set_later_makes_none(claude: Path, mode: str) -> None:
    """It is set when the spare is taken."""
    assert kind(claude, permission_mode=mode) == kind(claude)


def test_a_record_comes_back_as_it_was_written(claude: Path, tmp_path: Path) -> None:
    """What is no record of ours is none."""
    record = new_spare(kind(claude, allowed_tools=["Bash(*)"], system_prompt="ä 漢"))
    (tmp_path / RECORD).write_text(written(record))
    assert read_spare(tmp_path) == record
    (tmp_path / RECORD).write_text(written(record).replace(record.id, "../../etc"))
    assert read_spare(tmp_path) is None
    (tmp_path / RECORD).write_text("{")
    assert read_spare(tmp_path) is None


def pane(session: str, generation: int | None = None, owner: str = "us") -> Pane:
    return Pane(session, owner, generation, "%1", 1, False, None, None, "/dev/pts/1", 1)


def test_a_spare_is_told_from_a_session_whose_name_is_like_it() -> None:
    """A session's process has a generation, whatever the session is called."""
    assert is_spare(pane("claude__spare_00"), "us")
    assert not is_spare(pane("claude__spare_00", generation=1), "us")
    assert not is_spare(pane("claude__spare_00", owner="them"), "us")
    assert not is_spare(pane("claude_demo"), "us")


def test_whose_a_spare_is_stands_in_the_folder_that_has_it(claude: Path, tmp_path: Path) -> None:
    """Also before tmux knows of it."""
    record = new_spare(kind(claude))
    folder = tmp_path / "sessions" / "demo" / "3"
    folder.mkdir(parents=True)
    assert half_taken(tmp_path, pane(record.session)) is None
    (folder / RECORD).write_text(written(record))
    found = half_taken(tmp_path, pane(record.session))
    assert found is not None
    assert (found.name, found.generation) == ("demo", 3)
    assert half_taken(tmp_path, pane("claude__spare_other")) is None
    assert taken_spares(folder.parent) == [record]
