"""The port between a session and whatever runs it.

One `Backend` object serves one session for as long as the bridge runs; processes come and go below it,
each a `generation`. What a backend sees, it says through the `Sink` it was built with, in order.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol, runtime_checkable

from bridge.commands import Fresh, StartOptions
from bridge.events import RequestId, SessionName, Turn, TurnId, TurnStatus
from bridge.signals import Signal

Checkpoint = dict[str, Any]
"""A backend's own place in its input, as JSON: all that was said before it has been taken in."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Signals that came together, with the generation they belong to.

    `checkpoint` is given where the backend could begin again right after these signals without losing
    anything; it is journaled in one transaction with what they made known.
    """

    generation: int
    signals: tuple[Signal, ...]
    checkpoint: Checkpoint | None = None
    source: str | None = None
    """By what they were seen, where a backend has more than one way: becomes `Session.evidence`."""


Sink = Callable[[Batch], None]
"""Never blocks, never raises; called on the event loop."""


class Liveness(Enum):
    ALIVE = "alive"
    GONE = "gone"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Launch:
    """What one process is to be: `resume` picks up `conversation`, else it is begun under that id."""

    name: SessionName
    generation: int
    conversation: str
    resume: bool
    options: StartOptions
    """Resolved: `cwd` and `permission_mode` are set."""
    fresh: Fresh | None = None
    """Each turn begins with nothing of those before: `conversation` is never taken up again."""


@dataclass(frozen=True, slots=True)
class Recalled:
    """What is known of a process of which there is no record: to be adopted from `checkpoint`."""

    checkpoint: Checkpoint
    turn: TurnId | None = None
    """The turn that is open, where the process was sent one that can be named."""
    prompt: str = ""
    seen: bool = False
    """Claude has acknowledged it."""
    conversation: str | None = None
    """None: the one it was started with."""


Recall = Callable[[Launch, int | None], Recalled]
"""Looks into the files of a process (its pid, None where it has ended). Blocking. Raises `OSError`."""


@dataclass(frozen=True, slots=True)
class File:
    """What was attached to a prompt, as it is handed over with it."""

    name: str
    media_type: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """A person's answer to a request. `suggestions` are the chosen ones, as the request offered them."""

    allow: bool
    input: dict[str, Any]
    suggestions: tuple[dict[str, Any], ...] = field(default=())
    message: str | None = None
    interrupt: bool = False


class Backend(Protocol):
    """Every method may raise `BackendError` or `TmuxError`; all but `close` have deadlines of their own."""

    @property
    def attach(self) -> str | None:
        """The exact command a person types to attach, None where there is nothing to attach to."""
        ...

    @property
    def pid(self) -> int | None: ...

    async def start(self, launch: Launch) -> None:
        """Start a process, ending whatever the session had before. Returns once it runs; `ProcessReady`
        or `ProcessExited` follows through the sink."""
        ...

    async def adopt(self, launch: Launch, checkpoint: Checkpoint | None) -> Liveness:
        """Take up the process of this generation where an earlier bridge left it, if it lives.

        ALIVE: everything since `checkpoint` follows through the sink, then `ProcessReady`.
        GONE: what it said before it died follows, then nothing. UNKNOWN: ask again later; nothing changed.
        """
        ...

    async def send_prompt(self, turn: TurnId, prompt: str, files: Sequence[File] = ()) -> None:
        """Hand over a prompt under the identity `turn`; the same identity twice runs once. Where it cannot
        be handed over now, `PromptHeld` follows, and `PromptsWelcome` once it can."""
        ...

    async def interrupt(self) -> None: ...

    async def answer(self, request: RequestId, answer: Answer) -> None: ...

    async def configure(self, model: str | None, permission_mode: str | None) -> None: ...

    async def attended(self) -> bool:
        """A person is attached to the terminal, whether or not they type."""
        ...

    async def stop(self) -> None:
        """End the process and wait until it is gone; the conversation stays. Safe to repeat."""
        ...

    def committed(self, checkpoint: Checkpoint) -> None:
        """All up to this checkpoint is on disk in the journal: the backend may free its input up to it."""
        ...

    async def attend(self) -> None:
        """What the backend does on its own between the calls; run beside them, until cancelled or done."""
        ...

    async def detach(self) -> None:
        """Let go without touching the process: what a stopping bridge does."""
        ...

    async def delete(self) -> None:
        """After `stop`: remove the files it kept."""
        ...


@dataclass(frozen=True, slots=True)
class KeptTurn:
    """A finished turn that a fork begins with. `named`: Claude knows it by this id; `said`: it answered."""

    id: TurnId
    named: bool
    status: TurnStatus
    said: bool


@dataclass(frozen=True, slots=True)
class Branch:
    """A conversation, and what of it another one begins with: up to the last of `turns`, oldest first (only
    the newest of them are given)."""

    conversation: str
    into: str
    turns: tuple[KeptTurn, ...]


class Forks(Protocol):
    """How a kind of backend makes one conversation out of another. Blocking; each may raise `OSError`."""

    def begin(self, branch: Branch) -> None:
        """Make `into`, durably, whether or not a process works on the other. Raises `BackendError` where it
        cannot be had exactly."""
        ...

    def settle(self, conversation: str, *, kept: bool) -> None:
        """There is a session with this conversation now, or there will be none: then nothing of it stays."""
        ...

    def sweep(self, conversations: Container[str]) -> None:
        """When a bridge starts: what was begun and never settled, by the conversations there are."""
        ...


class NothingToCopy:
    """`Forks` where the journal has all there is of a conversation."""

    def begin(self, branch: Branch) -> None:
        pass

    def settle(self, conversation: str, *, kept: bool) -> None:
        pass

    def sweep(self, conversations: Container[str]) -> None:
        pass


Past = Callable[[str], tuple[Turn, ...]]
"""The newest finished turns of a conversation that was begun outside the bridge, oldest first. Blocking.
Raises `BackendError` where there is no such conversation, `OSError` where it cannot be read."""


@runtime_checkable
class Forgetful(Protocol):
    """A backend whose processes can let go of a turn. Where one cannot, each turn of a session that is
    `Fresh` has a process of its own."""

    async def forget(self, turn: TurnId | None, *, pressing: bool) -> None:
        """Between two turns of a process that was launched `fresh`: when this returns, nothing of what was
        said before is left in it. `turn` is the only one there was since the last time, None where that is
        not known; `pressing`: another waits.

        Raises `ProcessSpent` where that is not certain, and where the process is to be replaced anyway.
        """
        ...
