"""How the CLI is found and started: its command line, its environment, its two scripts. Pure.

The CLI gets an environment made from nothing, so that neither the bridge's own secrets nor a surrounding
Claude session's variables reach it. Whatever may be secret or long goes through files that only their
owner can read: a command line is there for every user of the machine to see.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import orjson

from bridge.commands import StartOptions
from bridge.config import ClaudeConfig
from bridge.errors import BackendError

MARK = "BRIDGE_SESSION"
"""The variable by which all that a CLI starts is known as its session's (`backends.leftovers`). Not a name
with `CLAUDE_BRIDGE_` in front: those are settings, and an unknown one is refused."""

MINIMUM_VERSION = (2, 1, 330)
"""The oldest CLI that all this was tried with."""

INHERITED = ("HOME", "PATH", "LANG", "USER", "LOGNAME", "SHELL", "TMPDIR", "TZ")
"""What every CLI gets of the bridge's own environment, beside `LC_*` and the allow-list."""

FOREIGN = ("CLAUDECODE", "CLAUDE_CODE_")
"""Names (or their beginnings) that say that a program runs inside somebody else's Claude session. They are
not passed on, allow-list or not; `env` may set them."""

WATCHDOG_MS = 120_000
"""A stream that brings nothing for so long is given up; the API pings every few seconds. The CLI's own
limit of 300 s makes people believe that it hangs."""

IN, OUT, ERR = "in.fifo", "out.ndjson", "err.log"
LAUNCHER, RUNNER = "launch.sh", "run.sh"


@dataclass(frozen=True, slots=True)
class Start:
    """What one process needs, but for where."""

    conversation: str
    resume: bool
    options: StartOptions
    """Resolved: `cwd` is set."""
    fresh: bool = False
    """No turn of it may know of another. Nothing is kept on disk that could be taken up, and as nobody is
    there to be asked, what needs a permission is refused by the CLI itself."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A process to be started by running `/bin/sh <folder>/launch.sh` on a terminal.

    `files` are to be written into the folder first, readable by their owner alone.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    files: Mapping[str, str]


def plan(
    start: Start,
    folder: Path,
    claude: Path,
    config: ClaudeConfig,
    environ: Mapping[str, str],
    mark: str = "",
) -> Plan:
    """`environ` is the bridge's own environment; `mark` is what the process and its children are known by."""
    files: dict[str, str] = {}
    argv = (
        str(claude),
        *("-p", "--verbose", "--input-format", "stream-json", "--output-format", "stream-json"),
        *("--include-partial-messages", "--replay-user-messages", "--forward-subagent-text"),
        *(("--no-session-persistence",) if start.fresh else ("--permission-prompt-tool", "stdio")),
        *option_words(start.options, permission_mode, folder, files),
        *conversation_words(start),
    )
    env = {**environment(config, environ), MARK: mark}
    assert start.options.cwd is not None, "the service resolves cwd before a session is made"
    files[LAUNCHER] = launcher(folder)
    files[RUNNER] = runner(argv, env, start.options.cwd, folder)
    return Plan(argv, env, files)


def conversation_words(start: Start) -> tuple[str, str]:
    return ("--resume" if start.resume else "--session-id", start.conversation)


def option_words(
    options: StartOptions, mode: Callable[[str], str], folder: Path, files: dict[str, str]
) -> list[str]:
    """What a session's options are on the command line; what goes by file is put into `files`.

    `mode` says the permission mode as this kind of process calls it.
    """
    argv: list[str] = []

    def in_file(flag: str, name: str, text: str) -> None:
        files[name] = text
        argv.extend((flag, str(folder / name)))

    if options.model:
        argv += ["--model", options.model]
    if options.permission_mode:
        argv += ["--permission-mode", mode(options.permission_mode)]
    if options.system_prompt is not None:
        in_file("--system-prompt-file", "system.txt", options.system_prompt)
    if options.append_system_prompt is not None:
        in_file("--append-system-prompt-file", "system-more.txt", options.append_system_prompt)
    if isinstance(options.mcp_config, dict):
        in_file("--mcp-config", "mcp.json", orjson.dumps(options.mcp_config).decode())
    elif options.mcp_config is not None and options.mcp_config.lstrip().startswith("{"):
        in_file("--mcp-config", "mcp.json", options.mcp_config)
    elif options.mcp_config is not None:
        argv.append(f"--mcp-config={options.mcp_config}")
    # `--flag=value` each: a value that begins with a dash is none of the CLI's own options.
    argv += [f"--allowed-tools={tool}" for tool in options.allowed_tools or ()]
    argv += [f"--disallowed-tools={tool}" for tool in options.disallowed_tools or ()]
    argv += [f"--add-dir={directory}" for directory in options.add_dirs or ()]
    return argv


def permission_mode(mode: str) -> str:
    """`manual` is the TUI's word for what `-p` calls `default`."""
    return "default" if mode == "manual" else mode


HEADLESS = {"TERM": "dumb", "CLAUDE_CODE_EMIT_SESSION_STATE_EVENTS": "1"}
"""Variables for `-p` alone."""


def environment(
    config: ClaudeConfig, environ: Mapping[str, str], own: Mapping[str, str] = HEADLESS
) -> dict[str, str]:
    """All variables of the CLI, the later rule winning; `own` are those of this kind of process."""
    allowed = {*INHERITED, *config.env_allow}
    env = {
        name: value
        for name, value in environ.items()
        if (name in allowed or name.startswith("LC_")) and not name.startswith(FOREIGN)
    }
    env |= {
        **own,
        "DISABLE_AUTOUPDATER": "1",
        "CLAUDE_CODE_MAX_RETRIES": str(config.max_retries),
        "CLAUDE_ENABLE_STREAM_WATCHDOG": "1",
        "CLAUDE_STREAM_IDLE_TIMEOUT_MS": str(WATCHDOG_MS),
        "CLAUDE_ENABLE_BYTE_WATCHDOG": "1",
        "CLAUDE_BYTE_STREAM_IDLE_TIMEOUT_MS": str(WATCHDOG_MS),
    }
    if config.base_url:
        env["ANTHROPIC_BASE_URL"] = config.base_url
        # It was pointed away from Anthropic's own hosts: then it is to talk to no other.
        env["CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC"] = "1"
    if config.api_key:
        env["ANTHROPIC_API_KEY"] = config.api_key
    if config.config_dir:
        env["CLAUDE_CONFIG_DIR"] = str(config.config_dir)
    if config.home:
        env["HOME"] = str(config.home)
    return env | config.env


def launcher(folder: Path) -> str:
    """Run by tmux, on the pane's terminal.

    Keys that a person types there make no signals and stop no output. Descriptor 3 keeps the terminal
    open: without it the pane hangs up and takes the CLI along.
    """
    return lines("stty -isig -ixon -echo", "exec 3>&1", run(folder))


def run(folder: Path) -> str:
    """The launcher's last line. The environment is dropped here and made anew by a script, because the
    arguments of `env` could be seen by everybody."""
    return f"exec /usr/bin/env -i /bin/sh {shlex.quote(str(folder / RUNNER))}"


def runner(argv: Iterable[str], env: Mapping[str, str], cwd: str, folder: Path) -> str:
    """Becomes the CLI. `<>` opens the FIFO for both directions, so that the CLI sees no end of file when
    the bridge goes; `>>` appends, so that no two writers overwrite each other."""
    fifo, out, err = (shlex.quote(str(folder / name)) for name in (IN, OUT, ERR))
    return lines(
        f"exec 2>>{err}",
        *exports(env),
        f"cd {shlex.quote(cwd)} || exit 1",
        f"exec {shlex.join(argv)} <>{fifo} >>{out}",
    )


def exports(env: Mapping[str, str]) -> list[str]:
    return [f"export {name}={shlex.quote(value)}" for name, value in sorted(env.items()) if _name(name)]


def lines(*line: str) -> str:
    """A script's text."""
    return "\n".join((*line, ""))


def _name(name: str) -> bool:
    """What is no name for a shell cannot be exported by one, and is left out."""
    return re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) is not None


def find_claude(config: ClaudeConfig, path: str | None = None) -> Path:
    """The CLI: the configured one, else the one that the extra `claude` brought, else the one on `path`
    (None: the environment's PATH). Raises `BackendError` where there is none."""
    if config.path is not None:
        if not config.path.is_file():
            raise BackendError(f"The configured claude.path {config.path} is not a file.")
        return config.path
    bundled = _bundled()
    if bundled is not None:
        return bundled
    found = shutil.which("claude", path=path)
    if found is None:
        raise BackendError("There is no claude: install claude-bridge[claude], or set claude.path.")
    return Path(found)


def _bundled() -> Path | None:
    # Found, not imported: the package's code is none of our business.
    spec = importlib.util.find_spec("claude_agent_sdk")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / "_bundled" / "claude"
    return path if path.is_file() else None


def parse_version(said: str) -> tuple[int, int, int] | None:
    """What `claude --version` says (`2.1.330 (Claude Code)`), None where it says something else."""
    found = re.match(r"(\d+)\.(\d+)\.(\d+)", said.strip())
    return (int(found[1]), int(found[2]), int(found[3])) if found else None
