"""What a backend saw happen: the inputs of `sessions.core` that come from Claude's side.

The same vocabulary for every backend, so that the core cannot know which one it has. A backend
numbers the blocks of a turn; replaying a signal that was already taken in changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from bridge.events import BlockKind, Outcome, RequestId, RequestKind, TurnError, TurnId, Usage


@dataclass(frozen=True, slots=True)
class ProcessReady:
    """The process answers: prompts may be sent. `busy` where it was adopted in the middle of a turn."""

    model: str | None = None
    permission_mode: str | None = None
    busy: bool = False


@dataclass(frozen=True, slots=True)
class ProcessExited:
    """The process is gone. `code` is its exit status, negative for a signal, None where unknown."""

    code: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class LivenessLost:
    """Nobody can tell how things stand: tmux cannot be asked, or what can be seen contradicts itself."""

    why: str


@dataclass(frozen=True, slots=True)
class ConversationNamed:
    """The conversation's id, at first and whenever it changes."""

    conversation: str


@dataclass(frozen=True, slots=True)
class SettingsSeen:
    """What the process says it runs with; None where it said nothing of it."""

    model: str | None = None
    permission_mode: str | None = None


@dataclass(frozen=True, slots=True)
class PromptSeen:
    """Claude acknowledged the prompt that we sent under this turn's id."""

    turn: TurnId


@dataclass(frozen=True, slots=True)
class PromptHeld:
    """The prompt was not sent, and nothing of it runs: something else is in its way."""

    turn: TurnId
    why: str


@dataclass(frozen=True, slots=True)
class PromptsWelcome:
    """What held a prompt up may be gone: try again."""


@dataclass(frozen=True, slots=True)
class PromptLost:
    """The prompt was handed over and never acknowledged: nobody can tell whether it will run."""

    turn: TurnId
    why: str


@dataclass(frozen=True, slots=True)
class PromptTyped:
    """A turn began that no client asked for: a person typed, or Claude went on by itself. `first` where a
    prompt that is still to be entered comes after it; `behind`: one that this process was handed, and has
    not taken up, follows by itself."""

    prompt: str
    first: bool = False
    behind: bool = False


@dataclass(frozen=True, slots=True)
class UpstreamActive:
    """The model answers: from here on the turn is never sent again."""


@dataclass(frozen=True, slots=True)
class TextArrived:
    """Preview text. `message` tells blocks of one answer from those of the next."""

    block: int
    kind: BlockKind
    text: str
    message: str = ""
    parent: str | None = None


@dataclass(frozen=True, slots=True)
class BlockDropped:
    """The upstream began again: what was previewed of this block is void."""

    block: int


@dataclass(frozen=True, slots=True)
class BlockSettled:
    """The block's final text."""

    block: int
    kind: BlockKind
    text: str
    message: str = ""
    parent: str | None = None


@dataclass(frozen=True, slots=True)
class ToolCalled:
    block: int
    tool: str
    name: str
    input: dict[str, Any]
    message: str = ""
    parent: str | None = None


@dataclass(frozen=True, slots=True)
class ToolAnswered:
    tool: str
    output: str
    is_error: bool
    parent: str | None = None


@dataclass(frozen=True, slots=True)
class AnswerNeeded:
    """Claude asks a person. `tool` is the tool's name, `call` the id of the call where known."""

    request: RequestId
    kind: RequestKind
    tool: str
    input: dict[str, Any]
    suggestions: tuple[dict[str, Any], ...] = ()
    call: str | None = None


@dataclass(frozen=True, slots=True)
class AnswerMoot:
    """Claude no longer waits for this answer; `outcome` where a person gave it in the terminal."""

    request: RequestId
    outcome: Outcome = "withdrawn"


@dataclass(frozen=True, slots=True)
class UpstreamRetrying:
    """The API refused or broke; Claude tries again by itself."""

    attempt: int
    limit: int
    delay_ms: int
    error: str


@dataclass(frozen=True, slots=True)
class LimitReached:
    """The account may not be used until it resets: the turn that met the limit ends with this (`TurnEnded`
    follows in the same breath), and further ones would end like it."""

    until: float | None
    """Wall time; None where that was not said."""
    why: str
    untouched: bool
    """The model has said nothing in this turn, and no tool ran: it can be sent again as if it never was."""
    shared: bool
    """It holds for whatever the account is used for, not for one model alone."""


@dataclass(frozen=True, slots=True)
class TurnEnded:
    """The end, as Claude tells it; `unknown` where it is over and nothing tells how. `text` is used where no
    block carried it. `cost_usd` is this turn's."""

    status: Literal["completed", "interrupted", "failed", "unknown"]
    text: str | None
    error: TurnError | None = None
    usage: Usage | None = None
    cost_usd: float | None = None


Signal = (
    ProcessReady
    | ProcessExited
    | LivenessLost
    | ConversationNamed
    | SettingsSeen
    | PromptSeen
    | PromptHeld
    | PromptsWelcome
    | PromptLost
    | PromptTyped
    | UpstreamActive
    | TextArrived
    | BlockDropped
    | BlockSettled
    | ToolCalled
    | ToolAnswered
    | AnswerNeeded
    | AnswerMoot
    | UpstreamRetrying
    | LimitReached
    | TurnEnded
)
