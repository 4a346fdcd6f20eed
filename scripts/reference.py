"""Writes what is made from the code, reference pages and spec/openapi.json: `make docs`; with --check, says
whether it is up to date.

A page cannot drift from the command line or the settings, because a test compares the two.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, get_args, get_origin

import typer.main
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # as a script it stands outside of the package

from bridge import cli  # noqa: E402
from bridge.config import FLAGS, Config, Slice  # noqa: E402
from bridge.sessions import tmux  # noqa: E402
from bridge.sessions.claude import launch  # noqa: E402
from bridge.wire import openapi  # noqa: E402

MADE = "<!-- Made by scripts/reference.py (`make docs`): change the code, not this page. -->"

AFTER_THE_COMMANDS = """\
Errors are one sentence on stderr, followed by what to do about it. With `--json` a refusal is also printed
on stdout, as `{{"error": {{"reason": …, "message": …}}}}` with the code of spec/errors.json.

## Which bridge is meant

A command speaks to the bridge that runs on this machine: the one of the default state folder, else the
simulated one. `--state-dir` (or `CLAUDE_BRIDGE_STATE_DIR`) names another, `--url` and `--token` (or
`CLAUDE_BRIDGE_URL`, `CLAUDE_BRIDGE_TOKEN`) one elsewhere. The local token is sent to this machine only.

## What the doctor looks at

| check | |
|---|---|
| `claude` | the CLI that sessions run is there, and is {claude} or newer |
| `login` | `claude auth status` says so, in the environment that sessions get; no model is asked |
| `tmux` | it is there, and is {tmux} or newer |
| `state` | the state folder can be written |
| `port` | it is free, or held by the bridge of the same state folder |
"""

BEFORE_THE_SETTINGS = """\
Three sources, the later winning: a TOML file, the environment, the flags of `serve`. The file is the one
named by `--config` (or `CLAUDE_BRIDGE_CONFIG`), else `config.toml` in the state folder, where there is one;
`state_dir` and `simulate` cannot stand in that last one, since they decide where it is. A key or variable
that nobody knows is refused, with the nearest that somebody does.

In the environment a key is written `CLAUDE_BRIDGE_SESSIONS__MAX_QUEUE`, lists and tables as JSON. The flags
have short names: {flags}. An empty variable counts as not set.

```toml
[server]
port = 4041
origins = ["https://app.example"]

[sessions]
roots = ["~/projects"]

[claude]
env_allow = ["ANTHROPIC_API_KEY"]
```
"""


def command_line() -> str:
    """docs/reference/command-line.md."""
    lines = [
        "# Command line",
        MADE,
        "",
        "`claude-bridge COMMAND` (or `python -m bridge COMMAND`). Options of a command follow its name.",
        "",
    ]
    commands = _commands(typer.main.get_command(cli.cli))
    lines += ["| command | |", "|---|---|"]
    lines += [f"| [`{name}`](#{name.replace(' ', '-')}) | {command.help} |" for name, command in commands]
    for name, command in commands:
        lines += ["", f"## {name}", "", command.help, ""]
        arguments = [p for p in command.params if p.param_type_name == "argument"]
        lines += [
            f"    claude-bridge {name} {' '.join(_argument(p) for p in arguments)} …".replace("  ", " ")
        ]
        lines += ["", "| | |", "|---|---|"]
        lines += [f"| `{p.metavar or p.name.upper()}` | {p.help or ''} |" for p in arguments]
        lines += [
            f"| `{', '.join(p.opts)}` | {p.help or ''} |"
            for p in command.params
            if p.param_type_name == "option" and "--help" not in p.opts
        ]
    lines += [
        "",
        "## Exit status",
        "",
        "| status | meaning |",
        "|---|---|",
        *(f"| {status} | {meaning} |" for status, meaning in cli.EXIT_STATUS.items()),
        "",
        *AFTER_THE_COMMANDS.format(
            claude=_dotted(launch.MINIMUM_VERSION),
            tmux=_dotted(tmux.MINIMUM_VERSION),
        ).splitlines(),
    ]
    return "\n".join(lines) + "\n"


def configuration() -> str:
    """docs/reference/configuration.md."""
    lines = [
        "# Configuration",
        MADE,
        "",
        *BEFORE_THE_SETTINGS.format(
            flags=", ".join(f"`CLAUDE_BRIDGE_{name.upper()}`" for name in FLAGS)
        ).splitlines(),
    ]
    lines += _tables("", None, Config)
    return "\n".join(lines) + "\n"


def rest() -> str:
    """spec/openapi.json."""
    return json.dumps(openapi.document(), indent=2, ensure_ascii=False) + "\n"


PAGES = {
    ROOT / "docs/reference/command-line.md": command_line,
    ROOT / "docs/reference/configuration.md": configuration,
    ROOT / "spec/openapi.json": rest,
}


def stale() -> list[Path]:
    """The pages that say something else than the code."""
    return [page for page, make in PAGES.items() if not page.exists() or page.read_text() != make()]


def _argument(parameter: Any) -> str:
    name = (parameter.metavar or parameter.name).upper()
    return name if parameter.required or name.startswith("[") else f"[{name}]"


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _commands(group: Any, before: str = "") -> list[tuple[str, Any]]:
    """All commands by what is typed, those of a group after the group's own."""
    found: list[tuple[str, Any]] = []
    for name, command in group.commands.items():
        found.append((before + name, command))
        if hasattr(command, "commands"):
            found += _commands(command, f"{before}{name} ")
    return found


def _tables(name: str, about: str | None, model: type[Slice]) -> list[str]:
    """A table of the file, then those in it."""
    inner = {key: kind for key, field in model.model_fields.items() if (kind := _slice_in(field.annotation))}
    single = {key for key in inner if isinstance(model.model_fields[key].annotation, type)}
    title = f"[{name}]" if name else "The top of the file"
    lines = _table(title, about, model.model_fields, skip=set(inner))
    for key, kind in inner.items():
        whole = f"{name}.{key}" if name else key
        named = get_origin(model.model_fields[key].annotation) is dict
        title = f"{whole}.NAME" if named else whole if key in single else f"[{whole}]"
        lines += _tables(title, kind.__doc__, kind)
    return lines


def _slice_in(annotation: Any) -> type[Slice] | None:
    """The slice that is a setting's value, or of which its value is a list, or a table by names."""
    of = get_args(annotation)[-1] if get_origin(annotation) in (list, dict) else annotation
    return of if isinstance(of, type) and issubclass(of, Slice) else None


def _table(
    title: str, about: str | None, fields: dict[str, FieldInfo], skip: set[str] | None = None
) -> list[str]:
    lines = ["", f"## {title}", *(["", about] if about else []), "", "| key | default | |", "|---|---|---|"]
    for name, field in fields.items():
        if name not in (skip or set()):
            lines.append(
                f"| `{name}` | {_default(name, field)} | {' '.join((field.description or '').split())} |"
            )
    return lines


def _default(name: str, field: FieldInfo) -> str:
    if name == "state_dir":
        return "`~/.local/state/claude-bridge`, with `--simulate` `…/claude-bridge-simulated`"
    value = field.default
    if value is PydanticUndefined:
        return "needed"
    if value is None or value == "":
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value}`"


if __name__ == "__main__":
    if "--check" in sys.argv:
        for page in stale():
            sys.stderr.write(f"{page.relative_to(ROOT)} is stale: make docs\n")
        sys.exit(bool(stale()))
    for page, make in PAGES.items():
        page.write_text(make())
