"""How the TUI is started in a tmux pane: its command line, environment, settings and scripts. Pure.

A person sits at this process as well as the bridge: it keeps their settings, their login and their editor,
gets a terminal with all its keys, and is told by hooks and through the editor (`editor_shim`) what the
bridge needs. No dialog may stand between the start and the first prompt, and a person's own
`.claude.json` is not ours to write: where it is not enough, the bridge has a configuration folder of its
own (`needs_own_config`, `seed`).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from bridge.config import ClaudeConfig
from bridge.sessions.claude.editor_shim import EDITOR_COMMAND, SHIM
from bridge.sessions.claude.launch import (
    LAUNCHER,
    MARK,
    RUNNER,
    Plan,
    Start,
    conversation_words,
    environment,
    exports,
    lines,
    option_words,
    run,
)
from bridge.sessions.claude.mentions import files_of

SETTINGS, ASK, KEY = "settings.json", "ask.json", "api-key"
EDITOR = "editor/claude-bridge"

TERMINAL = "tmux-256color"
OLD_TERMINAL = "screen-256color"
"""For machines whose terminfo does not know tmux."""

TUI = {
    "TERM": TERMINAL,
    # The classic screen: what scrolls off stays in tmux, and the mouse is the person's.
    "CLAUDE_CODE_DISABLE_ALTERNATE_SCREEN": "1",
    # The folder is one that the bridge's own rules admitted; the dialog's answer would be written into
    # the person's own file.
    "CLAUDE_CODE_SANDBOXED": "1",
    # Model calls nobody asked for: a title, the next prompt as a suggestion (which Enter would send), a
    # recap for whoever was away.
    "CLAUDE_CODE_DISABLE_TERMINAL_TITLE": "1",
    "CLAUDE_CODE_ENABLE_PROMPT_SUGGESTION": "0",
    "CLAUDE_CODE_ENABLE_AWAY_SUMMARY": "0",
    # Questions nobody asked for: a survey takes the next digit typed; a long conversation that is resumed
    # after an hour may ask whether to shorten it.
    "CLAUDE_CODE_DISABLE_FEEDBACK_SURVEY": "1",
    "CLAUDE_CODE_RESUME_THRESHOLD_MINUTES": "1000000000",
    # The left arrow in an empty box would move the conversation into a daemon, away from this pane.
    "CLAUDE_CODE_DISABLE_AGENT_VIEW": "1",
}
"""Variables for the TUI alone."""

HTTP_EVENTS = (
    "UserPromptSubmit",
    "MessageDisplay",
    "PreToolUse",
    "PostToolUse",
    "PostToolUseFailure",
    "Notification",
    "Stop",
    "StopFailure",
    "SessionEnd",
)
"""Told to the bridge as they happen. `SessionStart` exists as a command alone. Not those about compaction:
the CLI writes down their address and answer in the conversation, for Claude to read."""

HOOK_S = 30
"""A bridge that hangs holds the TUI up for so long; one that is not there does not."""
ASK_S = 31_536_000
"""A question waits for a person: a year. Without it the CLI stops listening after ten minutes."""


@dataclass(frozen=True, slots=True)
class Hooks:
    """Where this session's hooks report to."""

    url: str
    secret: str
    url_file: str
    """Names the port of whichever bridge runs by then."""
    python: str
    script: str


def plan_tui(
    start: Start,
    folder: Path,
    claude: Path,
    config: ClaudeConfig,
    environ: Mapping[str, str],
    hooks: Hooks,
    own_config: Path | None,
    mark: str = "",
) -> Plan:
    """`environ` is the bridge's own environment; `own_config` the bridge's own configuration folder,
    where this session is to use it; `mark` is what the process and its children are known by."""
    files: dict[str, str] = {}
    assert start.options.cwd is not None, "the service resolves cwd before a session is made"
    mode = start.options.permission_mode or "manual"
    options = start.options.model_copy(update={"permission_mode": mode})
    argv = (
        str(claude),
        *("--settings", str(folder / SETTINGS)),
        *option_words(options, permission_mode, folder, files),
        *conversation_words(start),
    )
    env = {**tui_environment(config, environ, folder, own_config), MARK: mark}
    key = env.pop("ANTHROPIC_API_KEY", None)
    if key:
        files[KEY] = key
    given = _settings(hooks, folder, bypass=mode == "bypassPermissions", key=bool(key), env=env)
    files[SETTINGS] = orjson.dumps(given).decode()
    files[ASK] = orjson.dumps({"url_file": hooks.url_file, "secret": hooks.secret}).decode()
    files[EDITOR] = SHIM
    files[LAUNCHER] = lines(run(folder))
    files[RUNNER] = tui_runner(argv, env, start.options.cwd)
    return Plan(argv, env, files)


def permission_mode(mode: str) -> str:
    """`default` is what `-p` calls `manual`. The TUI's own default is another: `auto`."""
    return "manual" if mode == "default" else mode


def tui_environment(
    config: ClaudeConfig, environ: Mapping[str, str], folder: Path, own_config: Path | None
) -> dict[str, str]:
    """All variables of the TUI. The editor is ours even where the operator's settings name one: that one
    is then the person's."""
    env = environment(config, environ, TUI)
    # A bridge that was started from within a session has our own editor in its environment.
    named = [e.get(name) for e in (config.env, environ) for name in ("VISUAL", "EDITOR", "BRIDGE_EDITOR")]
    if theirs := next((editor for editor in named if editor and editor != EDITOR_COMMAND), None):
        env["BRIDGE_EDITOR"] = theirs
    env["BRIDGE_EDITOR_SHIM"] = str(folder / EDITOR)
    env["EDITOR"] = env["VISUAL"] = EDITOR_COMMAND
    if own_config is not None:
        env["CLAUDE_CONFIG_DIR"] = str(own_config)
        # Not in a person's: there it would be written down as forbidden, for ever.
        env.setdefault("CLAUDE_CODE_DISABLE_OFFICIAL_MARKETPLACE_AUTOINSTALL", "1")
    if any(name.lower() in {"http_proxy", "https_proxy", "all_proxy"} for name in env):
        # Whichever it is, the hooks would go there, which are plain HTTP to this machine.
        either = env.get("no_proxy") or env.get("NO_PROXY")
        for name in ("NO_PROXY", "no_proxy"):
            env[name] = ",".join(filter(None, (env.get(name) or either, "127.0.0.1")))
    return env


_PLAIN_PATH = re.compile(r"[\w/.@+ -]+")
"""Nothing in it has a meaning in a rule."""


def _settings(
    hooks: Hooks, folder: Path, *, bypass: bool, key: bool, env: Mapping[str, str]
) -> dict[str, Any]:
    told = {
        "type": "http",
        "url": f"{hooks.url}/hook",
        "headers": {"Authorization": f"Bearer {hooks.secret}"},
        "timeout": HOOK_S,
    }
    script = (hooks.python, "-I", "-S", hooks.script, str(folder / ASK))
    asked = {"type": "command", "command": shlex.join(script), "timeout": ASK_S}
    began = {"type": "command", "command": shlex.join((*script, "--event")), "timeout": HOOK_S}
    every = dict.fromkeys(HTTP_EVENTS, told) | {"PermissionRequest": asked, "SessionStart": began}
    settings: dict[str, Any] = {
        # At the account's limit the queue waits, not the TUI: it would send the prompt by itself.
        "autoContinueAtUsageLimit": False,
        "hooks": {event: [{"hooks": [hook]}] for event, hook in every.items()},
        "disableAllHooks": False,
        # As `-p` has it, and else asked about: a folder's own `.mcp.json` is taken as it is.
        "enableAllProjectMcpServers": True,
        # These win over the `env` of a person's or a project's settings.
        "env": {name: env[name] for name in ("EDITOR", "VISUAL")},
    }
    if _PLAIN_PATH.fullmatch(files := str(files_of(folder.parent))):
        # Else Claude would have to ask whether it may look again at what was attached to a prompt.
        settings["permissions"] = {"allow": [f"Read(/{files}/**)"]}
    if bypass:
        settings["skipDangerousModePermissionPrompt"] = True
    if key:
        # A key in the environment is asked about, and the answer written into the person's file.
        settings["apiKeyHelper"] = shlex.join(("cat", str(folder / KEY)))
    return settings


def tui_runner(argv: tuple[str, ...], env: Mapping[str, str], cwd: str) -> str:
    """Becomes the CLI, on the pane's terminal, in the process that tmux started: the CLI's status file is
    named after its process, and the shim knows by it whose editor it is."""
    return lines(
        *exports(env),
        *_TERMINAL_KNOWN,
        "export BRIDGE_EDITOR_FOR=$$",
        f"cd {shlex.quote(cwd)} || exit 1",
        f"exec {shlex.join(argv)}",
    )


_TERMINAL_KNOWN = (
    f'if [ "$TERM" = {TERMINAL} ]; then',
    f"  TERM={OLD_TERMINAL}",
    '  for d in "${HOME-}/.terminfo" /etc/terminfo /lib/terminfo /usr/lib/terminfo /usr/share/terminfo \\',
    "    /usr/local/share/terminfo; do",
    # Some systems sort them by the letter, some by its code.
    f'    if [ -e "$d/t/{TERMINAL}" ] || [ -e "$d/74/{TERMINAL}" ]; then TERM={TERMINAL}; fi',
    "  done",
    "fi",
)


# --- start-up without dialogs ---------------------------------------------------------------------


def config_file(env: Mapping[str, str]) -> Path:
    """The `.claude.json` that a CLI with these variables would read."""
    return Path(env.get("CLAUDE_CONFIG_DIR") or env.get("HOME") or "/") / ".claude.json"


def needs_own_config(config: ClaudeConfig, environ: Mapping[str, str], existing: bytes | None) -> bool:
    """Whether the TUI would begin with its introduction, which no variable and no setting skips.

    `existing` is the file named by `config_file`, None where there is none. One that cannot be read as
    JSON counts as none: the CLI asks what to do with it.
    """
    if environment(config, environ, TUI).get("IS_DEMO"):
        return False
    return _object(existing).get("hasCompletedOnboarding") is not True


def seed(existing: bytes | None, cwd: str, api_key: str | None) -> bytes:
    """The content of a `.claude.json` that is the bridge's own: what is there, and what keeps the TUI from
    asking about itself, this folder and this key."""
    config = _object(existing)
    config["hasCompletedOnboarding"] = True
    projects = config.setdefault("projects", {})
    projects[cwd] = {
        **projects.get(cwd, {}),
        "hasTrustDialogAccepted": True,
        # Imports from outside the folder stay forbidden, as they are with `-p`; only the question goes.
        "hasClaudeMdExternalIncludesWarningShown": True,
    }
    if api_key:
        responses = config.setdefault("customApiKeyResponses", {})
        approved = responses.setdefault("approved", [])
        if (tail := api_key[-KEY_TAIL:]) not in approved:
            approved.append(tail)
        responses["rejected"] = [r for r in responses.get("rejected", ()) if r != tail]
    return orjson.dumps(config, option=orjson.OPT_INDENT_2)


KEY_TAIL = 20
"""So much of a key stands in the CLI's file of those that a person has approved."""


def _object(content: bytes | None) -> dict[str, Any]:
    try:
        found = orjson.loads(content or b"{}")
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}
