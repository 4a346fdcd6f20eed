"""`claude-bridge token`: give out tokens, list them, take them back.

What is changed is the configuration file, and a bridge that runs is told to read it again (SIGHUP).
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import orjson
import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from bridge import tokens
from bridge.clock import SystemClock
from bridge.config import TokenConfig, file_of, load
from bridge.errors import SetupError
from bridge.locate import Look, read_token, running_bridge

group = typer.Typer(help="Print the local bridge's token; give out further ones.", rich_markup_mode=None)

StateDir = Annotated[Path | None, typer.Option(help="State folder of the bridge that is meant.")]
ConfigFile = Annotated[Path | None, typer.Option(help="Configuration file; else the one the bridge reads.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Who holds the token.")]


@group.callback(invoke_without_command=True)
def show(context: typer.Context, state_dir: StateDir = None) -> int:
    """Print the local bridge's token; give out further ones, list them, take them back."""
    if context.invoked_subcommand is not None:
        return 0
    look = Look(state_dir, None, None, os.environ)
    token = os.environ.get("CLAUDE_BRIDGE_TOKEN")
    token = token or next(filter(None, map(read_token, look.folders())), None)
    if token is None:
        where = " and ".join(map(str, look.folders()))
        raise SetupError(f"No token was made yet in {where}.", "The first `claude-bridge serve` makes one.")
    sys.stdout.write(token + "\n")
    return 0


@group.command("new")
def new(
    name: Name,
    scopes: Annotated[
        list[str],
        typer.Option("--scope", help="watch, prompt, approve, control or admin; as often as needed."),
    ],
    sessions: Annotated[
        list[str] | None, typer.Option("--session", help="Session or pattern it covers (team-*); else all.")
    ] = None,
    days: Annotated[int | None, typer.Option(min=1, help="End after so many days; else never.")] = None,
    write: Annotated[bool, typer.Option("--write", help="Put it into the configuration file.")] = False,
    config: ConfigFile = None,
    state_dir: StateDir = None,
) -> int:
    """Make a token and print it, this once. Only its digest is for the configuration file."""
    token = tokens.new_token()
    ends = datetime.fromtimestamp(int(SystemClock().now()), UTC) + timedelta(days=days) if days else None
    given = {"name": name, "hash": tokens.digest(token), "scopes": scopes, "sessions": sessions or ["*"]}
    try:
        made = TokenConfig.model_validate({**given, "expires_at": ends})
    except ValidationError as e:
        first = e.errors()[0]
        wanted = str(first["msg"]).removeprefix("Value error, ")
        raise SetupError(f"{first['loc'][0]} does not fit: {first['input']!r}.", f"{wanted}.") from None
    lines = tokens.lines_of(made.name, made.hash, made.scopes, made.sessions, made.expires_at)
    said = Console(stderr=True, highlight=False, soft_wrap=True)
    if write:
        place = _place(config, state_dir)
        _replace(place, tokens.with_token(_text(place), lines, place))
        said.print(f"Written to {place}. {_told(state_dir)}", markup=False)
    else:
        said.print(f"For the configuration file, which --write does by itself:\n\n{lines}", markup=False)
    said.print("The token, which is shown only now:")
    sys.stdout.write(token + "\n")
    return 0


@group.command("list")
def list_tokens(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a script.")] = False,
    config: ConfigFile = None,
    state_dir: StateDir = None,
) -> int:
    """List the tokens of the configuration file; the bridge's own is not among them."""
    place = _place(config, state_dir)
    # Whether its address may be listened on is the bridge's own question.
    known = load({"insecure": True}, place, {}).auth.tokens if place.is_file() else []
    if as_json:
        listed = [token.model_dump(mode="json", exclude={"hash"}) for token in known]
        sys.stdout.buffer.write(orjson.dumps({"tokens": listed}, option=orjson.OPT_APPEND_NEWLINE))
        return 0
    if not known:
        Console(stderr=True, highlight=False).print(f"{place} has no tokens.", markup=False)
        return 0
    table = Table("name", "scopes", "sessions", "expires", "digest", box=None, pad_edge=False)
    for token in known:
        ends = "" if token.expires_at is None else token.expires_at.isoformat(timespec="seconds")
        digest = token.hash.removeprefix(tokens.SCHEME)[:8]
        table.add_row(token.name, " ".join(token.scopes), " ".join(token.sessions), ends, digest)
    Console(highlight=False, markup=False).print(table)
    return 0


@group.command("revoke")
def revoke(name: Name, config: ConfigFile = None, state_dir: StateDir = None) -> int:
    """Take back all tokens of a name; a running bridge closes their connections at once."""
    place = _place(config, state_dir)
    _replace(place, tokens.without_token(_text(place), name, place))
    Console(highlight=False, soft_wrap=True).print(
        f"{name} is taken out of {place}. {_told(state_dir)}", markup=False
    )
    return 0


# --- the file, and the bridge that reads it ------------------------------------------------------


def _place(config: Path | None, state_dir: Path | None) -> Path:
    """The file that is meant: a running bridge says which one it reads."""
    if config is not None:
        return config.expanduser().absolute()
    look = Look(state_dir, None, None, os.environ)
    for running in filter(None, map(running_bridge, look.folders())):
        if running.get("config"):
            return Path(running["config"])
    return file_of({"state_dir": state_dir}, None, os.environ)


def _text(place: Path) -> str:
    try:
        return place.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as e:
        raise SetupError(f"{place} cannot be read: {e}.", "Check its owner and mode.") from None


def _replace(place: Path, text: str) -> None:
    """Whole or not at all; its mode stays, and a new file is its owner's alone."""
    place = place.resolve()
    try:
        mode = place.stat().st_mode & 0o777 if place.exists() else 0o600
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor, made = tempfile.mkstemp(dir=place.parent, prefix=f".{place.name}.")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), mode)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(made).replace(place)
    except OSError as e:
        raise SetupError(f"{place} cannot be written: {e.strerror or e}.", "Check its owner and mode.") from e


def _told(state_dir: Path | None) -> str:
    """Tell the bridge, if one runs, and say so. Whoever holds the folder's lock is one, whatever else a
    process id may have become since it was written down."""
    for folder in Look(state_dir, None, None, os.environ).folders():
        try:
            with (folder / "lock").open() as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    pid = int(lock.read())
                else:
                    continue
            if not (running_bridge(folder) or {}).get("config"):
                return "The bridge that runs is an older one: restart it."  # SIGHUP would end it
            os.kill(pid, signal.SIGHUP)
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as e:
            return f"The bridge that runs could not be told ({e}): send it SIGHUP."
        return "The bridge that runs was told."
    return "It counts from the bridge's next start on."
