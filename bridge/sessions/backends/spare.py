"""One spare on disk and in tmux: what it was started as, how it is found again, and who has taken it.

    <state>/spares/<id>/                  waits; its process is in the tmux session `claude__spare_<id>`
    <state>/sessions/<name>/<generation>/ taken: the same folder, moved, `spare.json` still in it

The move is the moment at which it is the session's. What is left to do then (the tmux session's name, the
options that say whose it is) follows from the files alone, and is made up for where a bridge was killed in
between. Its processes keep the mark that they were started with, which `spare.json` tells.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import uuid4

import orjson
from pydantic import TypeAdapter, ValidationError

from bridge.commands import StartOptions
from bridge.config import ClaudeConfig
from bridge.errors import BackendError
from bridge.sessions.backends.stock import Key
from bridge.sessions.claude.launch import ERR, IN, LAUNCHER, MARK, OUT, RUNNER, Plan, Start, find_claude, plan
from bridge.sessions.tmux import Pane

RECORD = "spare.json"
PREFIX = "claude__spare_"
"""Of the tmux session's name; no session of a client's begins with `_`."""

BYPASS = "bypassPermissions"
"""The one permission mode that a process must be started with: the CLI refuses it later."""

_ANYWHERE = Path("/spare")


@dataclass(frozen=True, slots=True)
class Kind:
    """All of a process that cannot be changed once it runs, and how one is started."""

    key: Key
    options: StartOptions
    """Of the permission mode only whether it is `bypassPermissions`: every other can be set as well as
    started with. The model cannot: the CLI asks the API first whether it knows one, at a cost."""
    claude: Path


@dataclass(frozen=True, slots=True)
class SpareRecord:
    """What stands in `spare.json`, from before the process is started."""

    id: str
    key: str
    conversation: str
    options: StartOptions
    ground: str
    """What the CLI read as it started (`ground`)."""

    @property
    def session(self) -> str:
        """In tmux."""
        return f"{PREFIX}{self.id}"

    @property
    def marked(self) -> str:
        """By what its processes are known, as a session's are by its name."""
        return f"_spare_{self.id}"


_record = TypeAdapter(SpareRecord)
_ID = re.compile(r"[0-9a-f]{12}")


def kind_of(options: StartOptions, config: ClaudeConfig, environ: Mapping[str, str]) -> Kind:
    """Raises `BackendError` where there is no CLI."""
    claude = find_claude(config, environ.get("PATH"))
    mode = BYPASS if options.permission_mode == BYPASS else "default"
    options = options.model_copy(update={"permission_mode": mode, "resume": None})
    made = planned(options, "", _ANYWHERE, claude, config, environ, "")
    files = {name: text for name, text in made.files.items() if name not in (LAUNCHER, RUNNER)}
    env = {name: value for name, value in made.env.items() if name != MARK}
    whole = (made.argv, env, files, options.cwd, _build(claude))
    said = orjson.dumps(whole, option=orjson.OPT_SORT_KEYS)
    return Kind(Key(hashlib.sha256(said).hexdigest()[:16]), options, claude)


def planned(
    options: StartOptions,
    conversation: str,
    folder: Path,
    claude: Path,
    config: ClaudeConfig,
    environ: Mapping[str, str],
    mark: str,
) -> Plan:
    return plan(Start(conversation, False, options), folder, claude, config, environ, mark)


def _build(claude: Path) -> tuple[str, ...]:
    """Another after every update, for which the CLI need not be run."""
    real = claude.resolve()
    try:
        found = real.stat()
    except OSError as e:
        raise BackendError(f"claude cannot be looked at: {e.strerror}") from e
    return (str(real), str(found.st_ino), str(found.st_size), str(found.st_mtime_ns))


# --- its files (blocking) ----------------------------------------------------------------------------------


def make_folder(folder: Path, files: Mapping[str, str]) -> None:
    """A fresh folder for one process. Raises `OSError`."""
    folder.mkdir(mode=0o700)
    for name, text in {**files, OUT: "", ERR: ""}.items():
        fd = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "w", encoding="utf-8") as file:
            file.write(text)
    os.mkfifo(folder / IN, 0o600)


def written(record: SpareRecord) -> str:
    """As `spare.json` has it."""
    said = asdict(record) | {"options": record.options.model_dump(exclude_none=True)}
    return orjson.dumps(said).decode() + "\n"


def read_spare(folder: Path) -> SpareRecord | None:
    """What the process of this folder was, if it was a spare."""
    try:
        found = _record.validate_json((folder / RECORD).read_bytes())
    except (OSError, ValidationError):
        return None
    return found if _ID.fullmatch(found.id) else None


def taken_spares(session: Path) -> list[SpareRecord]:
    """The spares that a session's folder has taken."""
    return [found for path in session.glob(f"*/{RECORD}") if (found := read_spare(path.parent)) is not None]


@dataclass(frozen=True, slots=True)
class HalfTaken:
    """A spare whose folder is a session's, and whose pane is not called so yet."""

    name: str
    generation: int
    record: SpareRecord


def half_taken(state_dir: Path, pane: Pane) -> HalfTaken | None:
    """Whose the spare in this pane has become."""
    for path in (state_dir / "sessions").glob(f"*/*/{RECORD}"):
        record = read_spare(path.parent)
        if record is not None and record.session == pane.session and path.parent.name.isdigit():
            return HalfTaken(path.parents[1].name, int(path.parent.name), record)
    return None


def is_spare(pane: Pane, owner: str) -> bool:
    """A session's pane has a generation, also one that a session's name makes look like a spare's."""
    return pane.owner == owner and pane.generation is None and pane.session.startswith(PREFIX)


def remove_folder(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def new_spare(kind: Kind) -> SpareRecord:
    return SpareRecord(secrets.token_hex(6), kind.key, str(uuid4()), kind.options, "")
