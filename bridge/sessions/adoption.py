"""What it takes to take a session up again where no journal knows of it: kept beside its process.

A journal can be damaged or lost while its sessions' processes go on in tmux. Each has a small file,
`<state>/sessions/<name>/session.json`, written before the process starts. With it the session is taken up
again; a pane of ours without it is an orphan, which is reported and never touched.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson
from pydantic import TypeAdapter, ValidationError

from bridge.commands import StartOptions
from bridge.events import SessionName, Turn, Usage
from bridge.sessions.backends.base import Recalled
from bridge.sessions.records import LoadedSession, SessionRecord, TurnRecord

LOST = "taken up again without its record, which was lost: what was said before is not in the history"


@dataclass(frozen=True, slots=True)
class Sidecar:
    """One session as its present process was started."""

    name: SessionName
    backend: str
    options: StartOptions
    conversation: str | None
    generation: int
    model: str | None
    permission_mode: str
    created_at: float


@dataclass(frozen=True, slots=True)
class Stray:
    """What runs, or ran, in a pane of this state folder. `attach` and `end` are commands for a person."""

    name: SessionName
    generation: int | None
    pid: int | None
    """None where its process has ended."""
    attach: str
    end: str

    def describe(self) -> dict[str, object]:
        """For the supervision tree."""
        return {
            "id": f"orphan:{self.name}",
            "kind": "orphan",
            "state": "dead" if self.pid is None else "running",
            "pid": self.pid,
            "attach": self.attach,
            "end": self.end,
            "children": [],
        }


Look = Callable[[], Awaitable[list[Stray]]]
"""All panes of this state folder. Raises `TmuxError` where tmux cannot say."""

_sidecar = TypeAdapter(Sidecar)


class Sidecars:
    """Blocking."""

    def __init__(self, folder: Path) -> None:
        """`folder` holds a folder for each session."""
        self._folder = folder

    def write(self, sidecar: Sidecar) -> None:
        """The old one or the new one is there at any moment. Raises `OSError`."""
        file = self._file(sidecar.name)
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = file.with_suffix(".new")
        said = asdict(sidecar) | {"options": sidecar.options.model_dump(exclude_none=True)}
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as out:
            out.write(orjson.dumps(said) + b"\n")
        new.replace(file)

    def read(self, name: str) -> Sidecar | None:
        """None where there is none that can be understood."""
        try:
            found = _sidecar.validate_python(orjson.loads(self._file(name).read_bytes()))
        except (OSError, orjson.JSONDecodeError, ValidationError):
            return None
        return found if found.name == name else None

    def _file(self, name: str) -> Path:
        return self._folder / name / "session.json"


@dataclass(frozen=True)
class Adopting:
    """What a registry needs beside the journal."""

    sidecars: Sidecars
    look: Look


def as_loaded(sidecar: Sidecar, recalled: Recalled, at: float) -> LoadedSession:
    """The session as a journal would have it that was begun this moment: of its past only the turn that is
    open, under its own id. When and by whom that was asked for nobody knows any more."""
    turns: tuple[TurnRecord, ...] = ()
    if recalled.turn is not None:
        turn = Turn(
            id=recalled.turn,
            prompt=recalled.prompt,
            author=None,
            source="client",
            status="running",
            queued_at=at,
            started_at=at,
        )
        turns = (TurnRecord(turn, "seen" if recalled.seen else "sent", 1, sidecar.generation),)
    record = SessionRecord(
        name=sidecar.name,
        backend=sidecar.backend,
        options=sidecar.options,
        conversation=recalled.conversation or sidecar.conversation,
        model=sidecar.model,
        permission_mode=sidecar.permission_mode,
        generation=sidecar.generation,
        checkpoint=recalled.checkpoint,
        state="unknown",
        reason=LOST,
        started_at=None,
        created_at=sidecar.created_at,
        restarts=0,
        turns=len(turns),
        usage=Usage(),
        cost_usd=0.0,
    )
    return LoadedSession(record, turns, (), len(turns))
