"""The CLI's command line, environment and scripts; what they become is left to a real shell."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.commands import StartOptions
from bridge.config import ClaudeConfig
from bridge.errors import BackendError
from bridge.sessions.claude.launch import (
    Plan,
    Start,
    environment,
    find_claude,
    launcher,
    parse_version,
    plan,
    runner,
)

FOLDER = Path("/state/sessions/demo/1")
# What an argument or a variable may hold: anything but NUL and lone surrogates.
WORDS = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=40)


def planned(*, resume: bool = False, config: ClaudeConfig | None = None, **options: object) -> Plan:
    given_options = StartOptions.model_validate({"cwd": "/work", "permission_mode": "default", **options})
    start = Start("c0ffee", resume, given_options)
    return plan(start, FOLDER, Path("/bin/claude"), config or ClaudeConfig(), {"PATH": "/bin"})


def test_a_new_conversation_is_begun_under_its_id() -> None:
    """And one that exists is resumed."""
    assert planned().argv[-2:] == ("--session-id", "c0ffee")
    assert planned(resume=True).argv[-2:] == ("--resume", "c0ffee")


def test_every_option_reaches_the_command_line() -> None:
    """Each as its own word, so that nothing in it can be taken for another option."""
    made = planned(
        model="opus",
        permission_mode="acceptEdits",
        allowed_tools=["Bash(git *)", "--model=evil"],
        disallowed_tools=["WebFetch"],
        add_dirs=["/a b", "/c"],
        mcp_config="/etc/mcp.json",
    )
    pairs = list(zip(made.argv, made.argv[1:], strict=False))
    assert ("--model", "opus") in pairs
    assert ("--permission-mode", "acceptEdits") in pairs
    for word in (
        "--allowed-tools=Bash(git *)",
        "--allowed-tools=--model=evil",
        "--disallowed-tools=WebFetch",
        "--add-dir=/a b",
        "--add-dir=/c",
        "--mcp-config=/etc/mcp.json",
    ):
        assert word in made.argv


def test_manual_is_the_cli_s_default() -> None:
    """`manual` is what the TUI calls it."""
    argv = planned(permission_mode="manual").argv
    assert argv[argv.index("--permission-mode") + 1] == "default"


def test_what_may_be_long_or_secret_goes_by_file() -> None:
    """Prompts of any size, and MCP servers with their tokens, are not for every user's `ps`."""
    mcp = {"mcpServers": {"a": {"env": {"TOKEN": "secret"}}}}
    made = planned(system_prompt="s" * 200_000, append_system_prompt="more", mcp_config=mcp)
    assert made.files["system.txt"] == "s" * 200_000
    assert made.files["system-more.txt"] == "more"
    assert json.loads(made.files["mcp.json"]) == mcp
    assert "secret" not in " ".join(made.argv)
    assert str(FOLDER / "mcp.json") in made.argv
    assert planned(mcp_config=json.dumps(mcp)).files["mcp.json"] == json.dumps(mcp)


def test_the_environment_is_made_from_nothing() -> None:
    """Of the bridge's own variables the CLI gets a few harmless ones and those that are allowed."""
    outside = {
        "PATH": "/bin",
        "HOME": "/home/me",
        "LC_TIME": "de_DE",
        "ANTHROPIC_API_KEY": "mine",
        "AWS_SECRET": "x",
        "HTTPS_PROXY": "http://proxy",
    }
    env = environment(ClaudeConfig(env_allow=["HTTPS_PROXY"], env={"EXTRA": "1"}), outside)
    assert {k: env.get(k) for k in outside} == {
        "PATH": "/bin",
        "HOME": "/home/me",
        "LC_TIME": "de_DE",
        "ANTHROPIC_API_KEY": None,
        "AWS_SECRET": None,
        "HTTPS_PROXY": "http://proxy",
    }
    assert env["EXTRA"] == "1"


@pytest.mark.parametrize("name", ["CLAUDECODE", "CLAUDE_CODE_ENTRYPOINT", "CLAUDE_CODE_MAX_RETRIES"])
def test_another_claude_session_s_variables_never_get_in(name: str) -> None:
    """Not even where the allow-list names them."""
    env = environment(ClaudeConfig(env_allow=[name]), {name: "outside"})
    assert env.get(name) != "outside"


def test_our_own_settings_reach_the_environment() -> None:
    """Where the API is, whose key it is, and how often to try."""
    config = ClaudeConfig(
        base_url="http://127.0.0.1:1", api_key="k", config_dir=Path("/c"), home=Path("/h"), max_retries=2
    )
    env = environment(config, {"HOME": "/home/me"})
    assert env["ANTHROPIC_BASE_URL"] == "http://127.0.0.1:1"
    assert env["ANTHROPIC_API_KEY"] == "k"
    assert env["CLAUDE_CONFIG_DIR"] == "/c"
    assert env["HOME"] == "/h"
    assert env["CLAUDE_CODE_MAX_RETRIES"] == "2"
    assert env["CLAUDE_CODE_EMIT_SESSION_STATE_EVENTS"] == "1"


def test_a_setting_of_the_operator_wins() -> None:
    """`claude.env` is said on purpose."""
    assert (
        environment(ClaudeConfig(env={"CLAUDE_CODE_MAX_RETRIES": "9"}), {})["CLAUDE_CODE_MAX_RETRIES"] == "9"
    )


def test_no_secret_stands_in_the_launcher() -> None:
    """Its words become arguments of `env`, which every user of the machine can see."""
    assert "export" not in launcher(FOLDER)
    assert "secret" in planned(config=ClaudeConfig(api_key="secret")).files["run.sh"]
    assert "secret" not in " ".join(planned(config=ClaudeConfig(api_key="secret")).argv)


@settings(max_examples=15, deadline=None)
@given(words=st.lists(WORDS, max_size=4), value=WORDS)
def test_a_shell_hands_on_every_word_as_it_is(
    words: list[str], value: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Quotes, newlines, dollars, dashes: arguments and variables arrive unchanged."""
    folder = tmp_path_factory.mktemp('it\'s a "folder" $HOME')
    (folder / "in.fifo").touch()
    show = 'import os, sys, json; print(json.dumps([sys.argv[1:], os.environ["VALUE"], os.getcwd()]))'
    argv = ("/usr/bin/env", "python3", "-c", show, *words)
    script = folder / "run.sh"
    script.write_text(
        runner(argv, {"VALUE": value, "PATH": "/usr/bin:/bin", "not a name": "x"}, str(folder), folder)
    )
    subprocess.run(["/usr/bin/env", "-i", "/bin/sh", str(script)], check=True, timeout=30)
    assert json.loads((folder / "out.ndjson").read_text()) == [words, value, str(folder)]


def test_a_folder_that_is_gone_is_said_on_stderr(tmp_path: Path) -> None:
    """The reason of an exit is read from there."""
    script = runner(("/bin/true",), {}, str(tmp_path / "nowhere"), tmp_path)
    done = subprocess.run(["/bin/sh", "-c", script], check=False)
    assert done.returncode == 1
    assert "nowhere" in (tmp_path / "err.log").read_text()


def test_the_configured_cli_comes_first(tmp_path: Path) -> None:
    """And one that is not there is a mistake, not a reason to take another."""
    mine = tmp_path / "claude"
    mine.touch()
    assert find_claude(ClaudeConfig(path=mine)) == mine
    with pytest.raises(BackendError, match="is not a file"):
        find_claude(ClaudeConfig(path=tmp_path / "nowhere"))


def test_the_bundled_cli_comes_before_the_one_on_path(claude_path: Path) -> None:
    """It is the one that the bridge was tried with."""
    assert find_claude(ClaudeConfig()) == claude_path


def test_the_cli_on_path_is_found_where_none_is_bundled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And where there is none at all, the error says what to install."""
    monkeypatch.setattr("bridge.sessions.claude.launch._bundled", lambda: None)
    mine = tmp_path / "claude"
    mine.touch(mode=0o755)
    assert find_claude(ClaudeConfig(), str(tmp_path)) == mine
    with pytest.raises(BackendError, match="install"):
        find_claude(ClaudeConfig(), str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("said", "version"),
    [("2.1.330 (Claude Code)\n", (2, 1, 330)), ("10.0.1", (10, 0, 1)), ("", None), ("claude 2.1", None)],
)
def test_a_version_is_read_from_what_the_cli_says(said: str, version: tuple[int, int, int] | None) -> None:
    """None where it says something else."""
    assert parse_version(said) == version
