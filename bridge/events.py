"""The facts a session publishes, and the views (`Session`, `Turn`, `Request`) they carry.

Facts are named `NounVerbed`; `event` is their name on the wire. Their JSON is `wire.views`' concern.
All of it is immutable and shared between subscribers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NewType

SessionName = NewType("SessionName", str)
TurnId = NewType("TurnId", str)
RequestId = NewType("RequestId", str)
Seq = NewType("Seq", int)
Epoch = NewType("Epoch", str)

BlockKind = Literal["text", "thinking"]
Source = Literal["client", "terminal"]
RequestKind = Literal["permission", "question", "plan"]
Outcome = Literal["allowed", "denied", "withdrawn", "expired"]
TurnStatus = Literal["queued", "running", "completed", "interrupted", "failed", "cancelled", "unknown"]
SessionState = Literal["starting", "idle", "busy", "waiting", "restarting", "stopped", "failed", "unknown"]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens, as the Messages API counts them."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cache_creation_input_tokens + other.cache_creation_input_tokens,
            self.cache_read_input_tokens + other.cache_read_input_tokens,
        )

    @property
    def total(self) -> int:
        """All of them: what a budget counts."""
        return sum(
            (
                self.input_tokens,
                self.output_tokens,
                self.cache_creation_input_tokens,
                self.cache_read_input_tokens,
            )
        )


@dataclass(frozen=True, slots=True)
class TurnError:
    """Why a turn failed. `status` is the API's HTTP status where there was one."""

    code: str
    message: str
    status: int | None = None


@dataclass(frozen=True, slots=True)
class Block:
    """One numbered piece of a turn: text or thinking.

    `message` tells the blocks of one answer from those of the next; kept, but not on the wire.
    """

    block: int
    kind: BlockKind
    text: str
    parent: str | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class ToolBlock:
    """One tool call of a turn; `output` is None while it runs, and whole when it has finished."""

    block: int
    tool: str
    name: str
    input: dict[str, Any]
    output: str | None = None
    is_error: bool = False
    parent: str | None = None
    message: str = ""
    kind: ClassVar[str] = "tool"


AnyBlock = Block | ToolBlock


def text_of(blocks: Sequence[AnyBlock]) -> str:
    """The text of a turn: the text blocks of its last message, joined and right-trimmed."""
    own = [b for b in blocks if b.parent is None]
    return "".join(
        b.text for b in own if isinstance(b, Block) and b.kind == "text" and b.message == own[-1].message
    ).rstrip()


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that came with a prompt, without its bytes: `size` of them, of which `digest` is the SHA-256."""

    name: str
    media_type: str
    size: int
    digest: str


@dataclass(frozen=True, slots=True)
class Turn:
    id: TurnId
    prompt: str
    author: str | None
    source: Source
    status: TurnStatus
    queued_at: float
    key: str | None = None
    text: str = ""
    blocks: tuple[AnyBlock, ...] = ()
    error: TurnError | None = None
    usage: Usage | None = None
    cost_usd: float | None = None
    started_at: float | None = None
    finished_at: float | None = None
    reason: str | None = None
    """Why a queued turn waits, where it is for something else than its place."""
    attachments: tuple[Attachment, ...] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """A question to a person that holds its turn until somebody answers.

    `tool` is the tool's name, `call` the id of the call (`tool` of `tool_started`) where it is known.
    """

    id: RequestId
    kind: RequestKind
    turn: TurnId
    tool: str
    input: dict[str, Any]
    suggestions: tuple[dict[str, Any], ...]
    opened_at: float
    call: str | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """Which signal decided the state, and when it came; the wire says it as an age."""

    signal: str
    seen_at: float


BudgetHolder = Literal["session", "token", "bridge"]
Standing = Literal["ok", "warned", "exceeded"]


@dataclass(frozen=True, slots=True)
class BudgetState:
    """How one budget stands, of one of those that it holds for: `of` is the session's or the token's name,
    None for the whole bridge. `share` is the part that is spent, 1 where all is."""

    name: str
    per: BudgetHolder
    of: str | None
    spent_usd: float
    limit_usd: float | None
    spent_tokens: int
    limit_tokens: int | None
    state: Standing
    until: float | None
    """When it begins anew; None: never."""
    share: float


@dataclass(frozen=True, slots=True)
class Spending:
    """What turns have cost that finished on one day (UTC, YYYY-MM-DD), of one author in one session."""

    day: str
    author: str | None
    session: str
    turns: int
    usage: Usage
    cost_usd: float


@dataclass(frozen=True, slots=True)
class Session:
    name: SessionName
    backend: str
    state: SessionState
    evidence: Evidence
    model: str | None
    cwd: str
    permission_mode: str
    conversation: str | None
    attach: str | None
    started_at: float | None
    turns: int
    restarts: int
    viewers: int
    usage: Usage
    cost_usd: float
    node: str
    reason: str | None = None
    """Why the state is `failed` or `unknown`, for a person."""
    limited_until: float | None = None
    """The account's limit is reached, and the queue waits until then."""
    budget: BudgetState | None = None
    """The tightest that applies to it, whoever asks."""


# --- facts of one session, in the order a turn meets them ---------------------------------------


@dataclass(frozen=True, slots=True)
class TurnQueued:
    turn: TurnId
    key: str | None
    prompt: str
    author: str | None
    position: int
    reason: str | None = None
    """See `Turn.reason`."""
    attachments: tuple[Attachment, ...] = ()
    event: ClassVar[str] = "turn_queued"


@dataclass(frozen=True, slots=True)
class TurnStarted:
    turn: TurnId
    prompt: str
    author: str | None
    source: Source
    attachments: tuple[Attachment, ...] = ()
    event: ClassVar[str] = "turn_started"


@dataclass(frozen=True, slots=True)
class PromptSteered:
    turn: TurnId
    prompt: str
    author: str | None
    event: ClassVar[str] = "steered"


@dataclass(frozen=True, slots=True)
class DeltaAdded:
    """Preview text: appended, never corrected; what replaces it is `BlockFinished` or `BlockDiscarded`."""

    turn: TurnId
    block: int
    kind: BlockKind
    text: str
    parent: str | None = None
    event: ClassVar[str] = "delta"


@dataclass(frozen=True, slots=True)
class BlockDiscarded:
    turn: TurnId
    block: int
    event: ClassVar[str] = "discard"


@dataclass(frozen=True, slots=True)
class BlockFinished:
    turn: TurnId
    block: int
    kind: BlockKind
    text: str
    parent: str | None = None
    event: ClassVar[str] = "block"


@dataclass(frozen=True, slots=True)
class ToolStarted:
    turn: TurnId
    block: int
    tool: str
    name: str
    input: dict[str, Any]
    parent: str | None = None
    event: ClassVar[str] = "tool_started"


@dataclass(frozen=True, slots=True)
class ToolFinished:
    """`output` is whole here; the wire cuts it and says so."""

    turn: TurnId
    tool: str
    output: str
    is_error: bool
    parent: str | None = None
    event: ClassVar[str] = "tool_finished"


@dataclass(frozen=True, slots=True)
class RequestOpened:
    request: Request
    event: ClassVar[str] = "request_opened"


@dataclass(frozen=True, slots=True)
class RequestAnswered:
    """A request is closed, whoever or whatever closed it (`request_closed` on the wire)."""

    request: RequestId
    outcome: Outcome
    by: str | None
    event: ClassVar[str] = "request_closed"


@dataclass(frozen=True, slots=True)
class TurnFinished:
    turn: TurnId
    status: TurnStatus
    text: str
    error: TurnError | None
    usage: Usage | None
    cost_usd: float | None
    duration_ms: int
    event: ClassVar[str] = "turn_finished"


@dataclass(frozen=True, slots=True)
class SessionChanged:
    session: Session
    event: ClassVar[str] = "session_changed"


@dataclass(frozen=True, slots=True)
class SessionDeleted:
    name: SessionName
    event: ClassVar[str] = "session_deleted"


@dataclass(frozen=True, slots=True)
class Attendant:
    """One connection that has joined a session: `key` is the token's name, `ref` is unique."""

    key: str
    ref: str
    transport: str
    joined_at: float


@dataclass(frozen=True, slots=True)
class PresenceChanged:
    """Who came and who left; told beside the session's numbered events, never among them."""

    joins: tuple[Attendant, ...]
    leaves: tuple[Attendant, ...]
    event: ClassVar[str] = "presence_diff"


@dataclass(frozen=True, slots=True)
class PoolChanged:
    """How busy a pool is. `idle` workers can begin a question at once, `busy` ones answer one; those that do
    neither are being made ready."""

    size: int
    idle: int
    busy: int
    waiting: int
    event: ClassVar[str] = "pool_changed"


Event = (
    TurnQueued
    | TurnStarted
    | PromptSteered
    | DeltaAdded
    | BlockDiscarded
    | BlockFinished
    | ToolStarted
    | ToolFinished
    | RequestOpened
    | RequestAnswered
    | TurnFinished
    | SessionChanged
    | SessionDeleted
    | PresenceChanged
    | PoolChanged
)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything a joining client needs: the answer of a join, before numbering is added."""

    session: Session
    turns: tuple[Turn, ...] = ()
    open_turn: Turn | None = None
    queue: tuple[Turn, ...] = ()
    requests: tuple[Request, ...] = field(default=())
