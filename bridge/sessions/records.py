"""What the journal keeps, and the operations that change it: plain values, no I/O.

The core builds operations, the actor hands them to the journal, the journal alone turns them into SQL.
Each operation says what is true from now on, so that applying it a second time changes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from bridge.commands import AttachedFile, StartOptions
from bridge.events import (
    AnyBlock,
    Attachment,
    Outcome,
    Request,
    RequestId,
    SessionName,
    SessionState,
    Source,
    Turn,
    TurnId,
    TurnStatus,
    Usage,
)

TurnPhase = Literal["queued", "sending", "sent", "seen", "active", "finished"]
"""How far a turn got on its way to Claude: what a restart may do with it depends on nothing else."""


RecordedState = SessionState | Literal["parked"]
"""`parked` is `stopped` to clients; what the next prompt does tells the two apart."""


@dataclass(frozen=True, slots=True)
class SessionRecord:
    name: SessionName
    backend: str
    options: StartOptions
    conversation: str | None
    model: str | None
    permission_mode: str
    generation: int
    checkpoint: dict[str, Any] | None
    state: RecordedState
    reason: str | None
    started_at: float | None
    created_at: float
    restarts: int
    turns: int
    usage: Usage
    cost_usd: float
    limited_until: float | None = None
    limited_why: str | None = None


@dataclass(frozen=True, slots=True)
class TurnRecord:
    turn: Turn
    phase: TurnPhase
    number: int
    """Its place among the turns of its session."""
    generation: int | None = None
    """The generation it was last sent to, None while it waits."""


@dataclass(frozen=True, slots=True)
class LoadedSession:
    record: SessionRecord
    open_turns: tuple[TurnRecord, ...] = ()
    """Not finished, in order, with their blocks."""
    requests: tuple[Request, ...] = ()
    """Open ones, the oldest first."""
    last_number: int = 0
    """The highest `TurnRecord.number` of the session, finished turns included; 0 where there is none."""


@dataclass(frozen=True, slots=True)
class PrunedTurn:
    """What is left of a turn that was submitted under a key and is not kept any more: the key is good, and
    runs nothing twice, for as long as the session is there."""

    turn: TurnId
    status: TurnStatus
    digest: bytes | None
    """`digest_of` its prompt and what came with it; None where that could not be read."""

    def had(self, prompt: str, attachments: Sequence[Attachment] = ()) -> bool:
        return self.digest == digest_of(prompt, attachments)


@dataclass(frozen=True, slots=True)
class PastTurns:
    """The finished turns of a session up to one of them, as far as a fork asks: the newest, oldest first."""

    turns: tuple[PastTurn, ...]
    begun: int
    """Of all of them those that were started, which is what a session counts as its turns."""
    last_number: int


@dataclass(frozen=True, slots=True)
class PastTurn:
    turn: TurnId
    source: Source
    status: TurnStatus
    said: bool
    """Claude has said something in it."""


def digest_of(prompt: str | bytes, attachments: Sequence[Attachment] = ()) -> bytes:
    """Of what was submitted. Names, types and digests have no NUL in them: nothing reads as another."""
    digest = hashlib.sha256(prompt if isinstance(prompt, bytes) else prompt.encode())
    for each in attachments:
        digest.update("\0".join(("", each.name, each.media_type, each.digest)).encode())
    return digest.digest()


# --- operations ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SaveSession:
    """The whole record of a session; creates it where there is none."""

    record: SessionRecord


@dataclass(frozen=True, slots=True)
class SaveTurn:
    """The whole record of a turn but for its blocks, which stay as they are. The session must be known.

    `prompt` is kept as the first `SaveTurn` said it: it may be a megabyte, and never changes. A `key`
    that another turn of the session has is refused.
    """

    session: SessionName
    record: TurnRecord


@dataclass(frozen=True, slots=True)
class SaveFiles:
    """All that came with the prompt of a known turn, in order. Of a turn that has files nothing changes."""

    session: SessionName
    turn: TurnId
    files: tuple[AttachedFile, ...]


@dataclass(frozen=True, slots=True)
class SaveBlock:
    """One block of a known turn; replaces the block of the same number."""

    session: SessionName
    turn: TurnId
    block: AnyBlock


@dataclass(frozen=True, slots=True)
class SaveRequest:
    """The request is open, from now on, whatever was said of it before. The session must be known."""

    session: SessionName
    request: Request


@dataclass(frozen=True, slots=True)
class CloseRequest:
    """The request is closed; where it was closed already, or never opened, nothing changes."""

    session: SessionName
    id: RequestId
    outcome: Outcome
    by: str | None
    at: float


@dataclass(frozen=True, slots=True)
class CopyTurns:
    """The finished turns of `source` up to `last` (None: none) are turns of `session` as well, with all that
    belongs to them but their keys and what was asked of people. Refused where either session is unknown, or
    `last` is no finished turn of `source`."""

    source: SessionName
    session: SessionName
    last: TurnId | None
    without: tuple[TurnId, ...] = ()
    """Turns that were not finished when it was decided what is copied, and may be by now."""


@dataclass(frozen=True, slots=True)
class MoveCheckpoint:
    """A backend's place in the input of one generation; ignored where a later generation is recorded."""

    session: SessionName
    generation: int
    checkpoint: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class DeleteSession:
    """The session and everything that belongs to it; where there is none, nothing changes."""

    name: SessionName


@dataclass(frozen=True, slots=True)
class PruneTurns:
    """These turns and what belongs to them are not kept any more, but for what keys need (`PrunedTurn`). One
    that is not finished stays; one that is not there changes nothing."""

    session: SessionName
    turns: tuple[TurnId, ...]


@dataclass(frozen=True, slots=True)
class DropTurns:
    """As `PruneTurns`, and their keys with them: what was asked under one may run again."""

    session: SessionName
    turns: tuple[TurnId, ...]


@dataclass(frozen=True, slots=True)
class GiveBack:
    """Up to so many free pages of the file belong to the file system again, as far as the file allows it."""

    pages: int


Op = (
    SaveSession
    | SaveTurn
    | SaveFiles
    | SaveBlock
    | SaveRequest
    | CloseRequest
    | CopyTurns
    | MoveCheckpoint
    | DeleteSession
    | PruneTurns
    | DropTurns
    | GiveBack
)
