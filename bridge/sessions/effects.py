"""What `core` tells the actor to do, and what it tells it to keep: the outputs beside events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bridge.commands import AttachedFile
from bridge.events import AnyBlock, Attachment, Event, RequestId, Turn, TurnId
from bridge.sessions.records import TurnPhase


@dataclass(frozen=True, slots=True)
class TurnAdvanced:
    """To be journaled, and not published: the open turn came further."""

    turn: Turn
    phase: TurnPhase


@dataclass(frozen=True, slots=True)
class BlockKept:
    """To be journaled, and not published: a block is final, or a tool's result has come."""

    turn: TurnId
    block: AnyBlock


@dataclass(frozen=True, slots=True)
class FilesKept:
    """To be journaled with their turn, and not published: what came with its prompt."""

    turn: TurnId
    files: tuple[AttachedFile, ...]


@dataclass(frozen=True, slots=True)
class StartProcess:
    resume: bool


@dataclass(frozen=True, slots=True)
class StopProcess:
    pass


@dataclass(frozen=True, slots=True)
class PlanRestart:
    """The process is gone against our will: start it again, as far as the restart budget allows."""

    why: str


@dataclass(frozen=True, slots=True)
class SendPrompt:
    turn: TurnId
    prompt: str
    attachments: tuple[Attachment, ...] = ()


@dataclass(frozen=True, slots=True)
class SendInterrupt:
    pass


@dataclass(frozen=True, slots=True)
class SendAnswer:
    request: RequestId
    allow: bool
    input: dict[str, Any]
    suggestions: tuple[dict[str, Any], ...]
    message: str | None
    interrupt: bool


@dataclass(frozen=True, slots=True)
class SendSettings:
    model: str | None
    permission_mode: str | None


@dataclass(frozen=True, slots=True)
class ForgetTurn:
    """Of a session that is `Fresh`, between two turns: nothing of what was before may be left."""

    turn: TurnId | None
    """All that there is to forget, where that is known, and words alone; else whatever there may be."""
    pressing: bool
    """Another turn waits."""


Effect = (
    StartProcess
    | StopProcess
    | PlanRestart
    | SendPrompt
    | SendInterrupt
    | SendAnswer
    | SendSettings
    | ForgetTurn
)
Output = Event | TurnAdvanced | BlockKept | FilesKept | Effect
