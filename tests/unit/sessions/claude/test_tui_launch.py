"""How the TUI is started, and the shim that stands in for its editor, run by a real shell."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.commands import StartOptions
from bridge.config import ClaudeConfig, load
from bridge.sessions.claude.editor_shim import EDITOR_COMMAND
from bridge.sessions.claude.launch import Plan, Start
from bridge.sessions.claude.tui_launch import (
    HTTP_EVENTS,
    Hooks,
    config_file,
    needs_own_config,
    plan_tui,
    seed,
    tui_environment,
    tui_runner,
)

FOLDER = Path("/state/sessions of it/demo/1")
HOOKS = Hooks("http://127.0.0.1:5", "the-secret", "/state/hooks.json", "/py thon", "/lib/ask_hook.py")
WORDS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)


def planned(
    *,
    resume: bool = False,
    config: ClaudeConfig | None = None,
    own: Path | None = None,
    environ: dict[str, str] | None = None,
    **options: object,
) -> Plan:
    start = Start("c0ffee", resume, StartOptions.model_validate({"cwd": "/work", **options}))
    given_environ = {"PATH": "/bin", "HOME": "/home/me"} if environ is None else environ
    return plan_tui(start, FOLDER, Path("/bin/claude"), config or ClaudeConfig(), given_environ, HOOKS, own)


def settings_of(made: Plan) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(made.files["settings.json"])
    return found


def after(argv: tuple[str, ...], flag: str) -> str:
    return argv[argv.index(flag) + 1]


# --- the command line ------------------------------------------------------------------------------


def test_a_person_and_the_bridge_share_one_conversation() -> None:
    """It is begun under its id or resumed, with the bridge's settings added to the person's."""
    made = planned()
    assert made.argv[-2:] == ("--session-id", "c0ffee")
    assert planned(resume=True).argv[-2:] == ("--resume", "c0ffee")
    assert after(made.argv, "--settings") == str(FOLDER / "settings.json")
    assert "-p" not in made.argv


@pytest.mark.parametrize(
    ("asked", "said"),
    [(None, "manual"), ("manual", "manual"), ("default", "manual"), ("plan", "plan"), ("auto", "auto")],
)
def test_nothing_is_done_unasked_unless_somebody_said_so(asked: str | None, said: str) -> None:
    """The TUI's own default is `auto`, and it does not know `-p`'s word `default`."""
    assert after(planned(permission_mode=asked).argv, "--permission-mode") == said


def test_options_are_those_of_a_headless_session() -> None:
    """Long ones by file, each of the others as its own word."""
    made = planned(model="opus", system_prompt="s", add_dirs=["/a b"], mcp_config={"mcpServers": {}})
    assert after(made.argv, "--model") == "opus"
    assert after(made.argv, "--system-prompt-file") == str(FOLDER / "system.txt")
    assert "--add-dir=/a b" in made.argv
    assert {"system.txt", "mcp.json"} <= made.files.keys()


def test_what_bypasses_permissions_was_confirmed_by_asking_for_it() -> None:
    """The warning's preselected answer would end the TUI."""
    assert settings_of(planned(permission_mode="bypassPermissions"))["skipDangerousModePermissionPrompt"]
    assert "skipDangerousModePermissionPrompt" not in settings_of(planned())


def test_what_was_attached_may_be_read_unasked() -> None:
    """Of this session alone; where the folder's name means something in a rule, Claude asks instead."""
    assert settings_of(planned())["permissions"] == {"allow": [f"Read(/{FOLDER.parent}/files/**)"]}


# --- settings and environment ----------------------------------------------------------------------


def test_every_event_reports_to_the_bridge_with_the_session_s_secret() -> None:
    """A question waits for as long as people do; what only a command can report runs one."""
    hooks = settings_of(planned())["hooks"]
    for event in HTTP_EVENTS:
        ((hook,),) = [entry["hooks"] for entry in hooks[event]]
        assert hook["url"] == "http://127.0.0.1:5/hook"
        assert hook["headers"] == {"Authorization": "Bearer the-secret"}
    asked, began = hooks["PermissionRequest"][0]["hooks"][0], hooks["SessionStart"][0]["hooks"][0]
    script = ["/py thon", "-I", "-S", "/lib/ask_hook.py", str(FOLDER / "ask.json")]
    assert shlex.split(asked["command"]) == script
    assert shlex.split(began["command"]) == [*script, "--event"]
    assert asked["timeout"] > 30 * 24 * 3600
    ask = json.loads(planned().files["ask.json"])
    assert ask == {"url_file": "/state/hooks.json", "secret": "the-secret"}


def test_a_person_s_settings_do_not_take_the_bridge_s_away() -> None:
    """Neither their switch for hooks nor the variables that they set."""
    given_settings = settings_of(planned())
    assert given_settings["disableAllHooks"] is False
    assert given_settings["env"] == {"EDITOR": EDITOR_COMMAND, "VISUAL": EDITOR_COMMAND}


def test_a_key_reaches_the_cli_past_its_question() -> None:
    """In the environment it would be asked about, wherever it came from."""
    for config, environ in (
        (ClaudeConfig(api_key="sk-secret"), {}),
        (ClaudeConfig(env={"ANTHROPIC_API_KEY": "sk-secret"}), {}),
        (ClaudeConfig(env_allow=["ANTHROPIC_API_KEY"]), {"ANTHROPIC_API_KEY": "sk-secret"}),
    ):
        made = planned(config=config, environ=environ)
        assert "ANTHROPIC_API_KEY" not in made.env
        helper = settings_of(made)["apiKeyHelper"]
        assert shlex.split(helper) == ["cat", str(FOLDER / "api-key")]
        assert [name for name, text in made.files.items() if "sk-secret" in text] == ["api-key"]
    assert "apiKeyHelper" not in settings_of(planned())


def test_no_secret_stands_where_others_see_it() -> None:
    """The launcher and the command line are for every user of the machine to read."""
    made = planned(config=ClaudeConfig(api_key="sk-secret"))
    seen = " ".join(made.argv) + made.files["launch.sh"]
    assert "secret" not in seen


def test_the_environment_suits_a_terminal() -> None:
    """A person's screen, a stream watched as closely as a headless one's, and no frames for programs."""
    env = planned(config=ClaudeConfig(max_retries=2)).env
    assert env["TERM"] == "tmux-256color"
    assert env["CLAUDE_CODE_DISABLE_ALTERNATE_SCREEN"] == "1"
    assert env["CLAUDE_CODE_MAX_RETRIES"] == "2"
    assert env["CLAUDE_ENABLE_STREAM_WATCHDOG"] == "1"
    assert "CLAUDE_CODE_EMIT_SESSION_STATE_EVENTS" not in env


@pytest.mark.parametrize(
    ("config", "environ", "theirs"),
    [
        ({}, {"EDITOR": "ed", "VISUAL": "vim -n"}, "vim -n"),
        ({}, {"EDITOR": "ed"}, "ed"),
        ({"EDITOR": "nano"}, {"VISUAL": "vim"}, "nano"),
        ({}, {}, None),
        ({}, {"EDITOR": EDITOR_COMMAND, "BRIDGE_EDITOR": "vim"}, "vim"),
    ],
)
def test_the_editor_is_the_shim_and_knows_the_person_s(
    config: dict[str, str], environ: dict[str, str], theirs: str | None
) -> None:
    """Also where the bridge itself was started from within such a session."""
    env = tui_environment(ClaudeConfig(env=config), environ, FOLDER, None)
    assert env["EDITOR"] == env["VISUAL"] == EDITOR_COMMAND
    assert env.get("BRIDGE_EDITOR") == theirs
    assert env["BRIDGE_EDITOR_SHIM"] == str(FOLDER / "editor/claude-bridge")


def test_what_the_tui_hands_down_is_no_setting_of_a_bridge() -> None:
    """A command of ours that Claude runs there refuses settings that it does not know."""
    load({"state_dir": "/nowhere"}, None, dict(planned().env))


@pytest.mark.parametrize("proxy", ["HTTP_PROXY", "https_proxy", "ALL_PROXY"])
def test_hooks_do_not_go_to_a_proxy(proxy: str) -> None:
    """They are for this machine; where a person's proxy is not to be used otherwise stays as it was."""
    config = ClaudeConfig(env={proxy: "http://proxy"})
    env = tui_environment(config, {}, FOLDER, None)
    assert env["NO_PROXY"] == env["no_proxy"] == "127.0.0.1"
    config = ClaudeConfig(env={proxy: "http://proxy", "NO_PROXY": "here.example"})
    env = tui_environment(config, {}, FOLDER, None)
    assert env["NO_PROXY"] == env["no_proxy"] == "here.example,127.0.0.1"
    assert "NO_PROXY" not in tui_environment(ClaudeConfig(), {}, FOLDER, None)


def test_a_person_s_folder_is_not_told_to_go_without_a_marketplace() -> None:
    """The CLI would write that down there, and never look again."""
    name = "CLAUDE_CODE_DISABLE_OFFICIAL_MARKETPLACE_AUTOINSTALL"
    assert name not in planned().env
    own = planned(own=Path("/state/claude-config")).env
    assert own[name] == "1"
    assert own["CLAUDE_CONFIG_DIR"] == "/state/claude-config"


@settings(max_examples=15, deadline=None)
@given(words=st.lists(WORDS, max_size=4), value=WORDS)
def test_a_shell_hands_on_every_word_and_stays_the_same_process(
    words: list[str], value: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The status file is found by the pane's process, and the shim knows its TUI by it."""
    folder = tmp_path_factory.mktemp('it\'s a "folder" $HOME')
    show = (
        "import os, sys, json; "
        'print(json.dumps([sys.argv[1:], os.environ["VALUE"], os.getcwd(), os.getpid(), '
        'os.environ["BRIDGE_EDITOR_FOR"], os.environ["TERM"]]))'
    )
    argv = ("/usr/bin/env", "python3", "-c", show, *words)
    script = folder / "run.sh"
    env = {"VALUE": value, "PATH": "/usr/bin:/bin", "TERM": "vt100"}
    script.write_text(tui_runner(argv, env, str(folder)))
    with subprocess.Popen(
        ["/usr/bin/env", "-i", "/bin/sh", str(script)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        said = json.loads(process.stdout.read())
    assert said == [words, value, str(folder), process.pid, str(process.pid), "vt100"]


@pytest.mark.parametrize(("sorted_by", "term"), [("t", "tmux-256color"), ("74", "tmux-256color")])
def test_a_terminal_that_the_machine_knows_is_used(tmp_path: Path, sorted_by: str, term: str) -> None:
    """By whatever its system sorts the descriptions."""
    known = tmp_path / ".terminfo" / sorted_by / "tmux-256color"
    known.parent.mkdir(parents=True)
    known.touch()
    assert _term(tmp_path) == term


def test_a_terminal_that_the_machine_does_not_know_is_not_claimed(tmp_path: Path) -> None:
    """Editors and pagers would refuse to start; everybody knows the older one."""
    assert _term(tmp_path) == "screen-256color"


def _term(home: Path) -> str:
    env = {"HOME": str(home), "PATH": "/usr/bin:/bin", "TERM": "tmux-256color"}
    script = tui_runner(("/bin/sh", "-c", 'echo "$TERM"'), env, str(home))
    for known in ("/etc/terminfo", "/lib/terminfo", "/usr/lib/terminfo", "/usr/share/terminfo"):
        script = script.replace(f" {known}", " /nowhere")
    script = script.replace("/usr/local/share/terminfo", "/nowhere")
    return subprocess.run(
        ["/bin/sh", "-c", script], capture_output=True, text=True, check=True
    ).stdout.strip()


# --- start-up without dialogs ----------------------------------------------------------------------


def test_the_file_of_a_person_is_found_where_the_cli_looks() -> None:
    """Beside the folder `.claude` by default, within a folder that was named."""
    assert config_file({"HOME": "/home/me"}) == Path("/home/me/.claude.json")
    assert config_file({"HOME": "/home/me", "CLAUDE_CONFIG_DIR": "/c"}) == Path("/c/.claude.json")


@pytest.mark.parametrize(
    ("existing", "needed"),
    [
        (None, True),
        (b"", True),
        (b"{", True),
        (b"[]", True),
        (b"{}", True),
        (b'{"hasCompletedOnboarding":false}', True),
        (b'{"hasCompletedOnboarding":true}', False),
    ],
)
def test_who_has_been_introduced_is_not_introduced_again(existing: bytes | None, needed: bool) -> None:
    """Their own folder serves, and the bridge's serves everybody else."""
    assert needs_own_config(ClaudeConfig(), {}, existing) is needed


def test_an_operator_may_switch_the_introduction_off() -> None:
    """There is a variable for demonstrations."""
    assert not needs_own_config(ClaudeConfig(env={"IS_DEMO": "1"}), {}, None)


def test_a_folder_of_the_bridge_s_own_asks_nothing() -> None:
    """About itself, the working folder, what that imports, and the key."""
    made = json.loads(seed(None, "/work", "k" * 10 + "0123456789abcdefghij"))
    assert made["hasCompletedOnboarding"] is True
    assert made["projects"]["/work"]["hasTrustDialogAccepted"] is True
    assert made["projects"]["/work"]["hasClaudeMdExternalIncludesWarningShown"] is True
    assert "hasClaudeMdExternalIncludesApproved" not in made["projects"]["/work"]
    assert made["customApiKeyResponses"]["approved"] == ["0123456789abcdefghij"]


def test_what_the_cli_wrote_there_is_kept() -> None:
    """Other folders, other keys, and whatever else there is."""
    first = seed(b'{"numStartups":3,"projects":{"/work":{"allowedTools":["x"]}}}', "/work", "a" * 20)
    second = json.loads(seed(first, "/other", "b" * 20))
    assert second["numStartups"] == 3
    assert second["projects"]["/work"] == {
        "allowedTools": ["x"],
        "hasTrustDialogAccepted": True,
        "hasClaudeMdExternalIncludesWarningShown": True,
    }
    assert second["projects"]["/other"]["hasTrustDialogAccepted"] is True
    assert second["customApiKeyResponses"]["approved"] == ["a" * 20, "b" * 20]
    assert json.loads(seed(json.dumps(second).encode(), "/other", "b" * 20)) == second


def test_a_key_that_was_refused_there_is_taken_now() -> None:
    """Somebody gave it to the bridge since."""
    refused = {"customApiKeyResponses": {"approved": [], "rejected": ["a" * 20]}}
    made = json.loads(seed(json.dumps(refused).encode(), "/w", "a" * 20))
    assert made["customApiKeyResponses"] == {"approved": ["a" * 20], "rejected": []}


def test_what_cannot_be_read_there_is_made_anew() -> None:
    """It is nobody's but ours."""
    assert json.loads(seed(b"\0\0", "/w", None))["hasCompletedOnboarding"] is True


# --- the editor shim -------------------------------------------------------------------------------


class Box:
    """The TUI's side and the bridge's side of the shim: a file with what stands in the input box."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self.shim = folder / "claude-bridge"
        self.shim.write_text(planned().files["editor/claude-bridge"])
        self.file = folder.parent / "claude-prompt it's 1.md"
        self.file.write_bytes(b"")

    def order(self, put: bytes, *expected: bytes) -> None:
        making = self.folder / "making"
        making.mkdir()
        (making / "put").write_bytes(put)
        for number, text in enumerate(expected, 1):
            (making / f"expect-{number}").write_bytes(text)
        making.rename(self.folder / "order")

    def start(self, editor: str | None = None, tui: int | None = None) -> subprocess.Popen[str]:
        env = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "BRIDGE_EDITOR_SHIM": str(self.shim)}
        env["BRIDGE_EDITOR_FOR"] = str(tui or os.getpid())
        if editor is not None:
            env["BRIDGE_EDITOR"] = editor
        # Split as the CLI splits it.
        command = [*EDITOR_COMMAND.split(" "), str(self.file)]
        return subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)

    def press(self, editor: str | None = None, tui: int | None = None) -> int:
        process = self.start(editor, tui)
        process.communicate(timeout=60)
        return process.returncode

    @property
    def placed(self) -> bool:
        return (self.folder / "done" / "placed").exists()

    @property
    def found(self) -> bytes:
        return (self.folder / "done" / "found").read_bytes()


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path / 'a "state" folder\'s $HOME' / "editor")


NOT_OPENED = "echo an editor was opened >"
"""An editor that no test with an order may see: it would replace the draft."""


def test_a_prompt_is_put_into_an_empty_box(box: Box) -> None:
    """And the order says so."""
    box.order(b"do this")
    assert box.press(NOT_OPENED) == 0
    assert box.file.read_bytes() == b"do this"
    assert box.placed
    assert box.found == b""
    assert not (box.folder / "order").exists()
    assert not (box.folder / "taken").exists()


def test_a_draft_stays_as_it_is(box: Box) -> None:
    """The bridge gets a copy of it, and its prompt waits."""
    box.file.write_bytes(b"half a thought\n  ")
    box.order(b"do this", b"half a thought", b"half a thought\n")
    assert box.press(NOT_OPENED) == 1
    assert box.file.read_bytes() == b"half a thought\n  "
    assert not box.placed
    assert box.found == b"half a thought\n  "


@pytest.mark.parametrize("number", [0, 1, 11])
def test_a_text_of_our_own_is_replaced(box: Box, number: int) -> None:
    """What an interrupt gave back may be any of those the order expects."""
    texts = [b"text %d" % n for n in range(12)]
    box.file.write_bytes(texts[number])
    box.order(b"next", *texts)
    assert box.press(NOT_OPENED) == 0
    assert box.file.read_bytes() == b"next"
    assert box.placed


@pytest.mark.parametrize(
    "prompt",
    [
        b"tab\there\n\n\n" * 100_000,
        bytes(range(1, 256)),
        b"no newline at the end",
        b"\nfirst\n",
        b"$HOME `id` \\ \" ' %s \\n -n",
        "# ─── Write your reply below this line ───\n".encode(),
        b"\r\n\r\n",
        b"",
    ],
    ids=["1 MB", "all bytes", "open end", "newlines", "shell", "its own line", "returns", "nothing"],
)
def test_any_prompt_arrives_byte_for_byte(box: Box, prompt: bytes) -> None:
    """No shell word ever holds it."""
    box.order(prompt)
    assert box.press(NOT_OPENED) == 0
    assert box.file.read_bytes() == prompt
    assert box.placed


def test_a_long_draft_is_compared_to_its_last_byte(box: Box) -> None:
    """One byte more is a person's."""
    ours = b"x" * 1_000_000
    box.file.write_bytes(ours + b"!")
    box.order(b"next", ours)
    box.press(NOT_OPENED)
    assert box.file.read_bytes() == ours + b"!"


def test_a_late_key_of_the_bridge_s_opens_nothing(box: Box) -> None:
    """The order was taken back after the key had been pressed; once for each."""
    (box.folder / "withdrawn-1").touch()
    (box.folder / "withdrawn-2").touch()
    assert box.press(NOT_OPENED) == 0
    assert box.press(NOT_OPENED) == 0
    assert box.file.read_bytes() == b""
    assert box.press("printf opened >") == 0
    assert box.file.read_bytes() == b"opened"


def test_without_an_order_a_person_gets_their_editor(box: Box, tmp_path: Path) -> None:
    """With its own words and the file as the TUI gave it, and its exit status is the TUI's to judge."""
    seen = tmp_path / "seen"
    editor = tmp_path / "my editor"
    editor.write_text(f'#!/bin/sh\nprintf "%s|" "$EDITOR" "$@" >"{seen}"\nprintf edited >"$2"\nexit 3\n')
    editor.chmod(0o755)
    command = f"'{editor}' --wait"
    assert box.press(command) == 3
    assert seen.read_text() == f"{command}|--wait|{box.file}|"
    assert box.file.read_bytes() == b"edited"


def test_an_editor_that_is_not_there_is_an_error_and_not_a_loss(box: Box) -> None:
    """The TUI keeps its box when the status is not 0."""
    box.file.write_bytes(b"a draft")
    assert box.press("/nowhere/vim") != 0
    assert box.file.read_bytes() == b"a draft"


def test_a_program_that_the_tui_runs_does_not_get_the_prompt(box: Box) -> None:
    """A commit message is opened with the same variable."""
    box.file.write_bytes(b"")
    box.order(b"do this")
    assert box.press("printf opened >", tui=1) == 0
    assert box.file.read_bytes() == b"opened"
    assert (box.folder / "order").exists()


def test_one_of_many_takes_an_order(box: Box) -> None:
    """However many keys were pressed at once."""
    box.order(b"do this")
    pressed = [box.start("true") for _ in range(12)]
    assert {p.communicate(timeout=60) and p.returncode for p in pressed} == {0}
    assert box.placed
    assert box.file.read_bytes() == b"do this"
    assert sorted(p.name for p in box.folder.iterdir()) == ["claude-bridge", "done", "editing"]


def test_what_a_killed_shim_left_is_in_nobody_s_way(box: Box) -> None:
    """Neither its order nor its answer."""
    for name in ("taken", "done"):
        (box.folder / name).mkdir()
        (box.folder / name / "placed").touch()
    box.file.write_bytes(b"a draft")
    box.order(b"do this")
    assert box.press(NOT_OPENED) == 1
    assert not box.placed
    assert box.found == b"a draft"


def test_a_box_that_cannot_be_read_is_left_alone(box: Box) -> None:
    """The file may be gone by then."""
    box.file.unlink()
    box.order(b"do this")
    assert box.press(NOT_OPENED) != 0
    assert not box.file.exists()
    assert not box.placed
    assert (box.folder / "done").exists()


@pytest.mark.parametrize("draft", [b"", b"half a thought"])
def test_an_order_without_a_prompt_only_looks(box: Box, draft: bytes) -> None:
    """Whatever it finds."""
    box.file.write_bytes(draft)
    box.order(b"do this")
    (box.folder / "order" / "put").unlink()
    assert box.press(NOT_OPENED) == 1
    assert box.found == box.file.read_bytes() == draft
    assert not box.placed


def test_a_prompt_that_cannot_be_read_is_not_put_there(box: Box) -> None:
    """The status tells the TUI to keep its box, whatever has become of the file."""
    box.order(b"do this")
    (box.folder / "order" / "put").unlink()
    (box.folder / "order" / "put").mkdir()
    assert box.press(NOT_OPENED) != 0
    assert not box.placed


def test_an_order_that_cannot_be_taken_changes_nothing(box: Box) -> None:
    """As on a disk that takes no writes: no editor opens for a key of the bridge's."""
    box.file.write_bytes(b"a draft")
    box.order(b"do this")
    shim = box.shim.read_text().replace('mv "$here/order"', "false")
    box.shim.write_text(shim)
    assert box.press(NOT_OPENED) != 0
    assert box.file.read_bytes() == b"a draft"


CONTEXT = (
    "# ─── Claude's last response (for reference; removed on save) ───\n"
    "# all said\n"
    "# # ─── Write your reply below this line ─────\n"
    "# ─── Write your reply below this line ──────────────────────────\n\n"
).encode()


def test_what_claude_said_last_is_no_draft(box: Box) -> None:
    """A person may have the TUI show it above what stands in the box; it stays above."""
    box.file.write_bytes(CONTEXT)
    box.order(b"\ndo this")
    assert box.press(NOT_OPENED) == 0
    assert box.placed
    assert box.file.read_bytes() == CONTEXT + b"\ndo this"
    assert box.found == b""


def test_a_draft_below_what_claude_said_last_stays_as_it_is(box: Box) -> None:
    """And is what the bridge is told of."""
    box.file.write_bytes(CONTEXT + b"\nhalf a thought")
    box.order(b"do this", b"half a thought")
    assert box.press(NOT_OPENED) == 1
    assert not box.placed
    assert box.found == b"\nhalf a thought"
    assert box.file.read_bytes() == CONTEXT + b"\nhalf a thought"
