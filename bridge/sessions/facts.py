"""What is known of a session beside its phase and its turns; the journal keeps all of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from bridge.commands import Fresh, StartOptions
from bridge.events import Attachment, Evidence, Session, SessionName, SessionState, Usage
from bridge.sessions.attachments import FileLimits
from bridge.sessions.records import RecordedState, SessionRecord


@dataclass(frozen=True, slots=True)
class Limits:
    max_queue: int = 1000
    max_prompt_bytes: int = 1024 * 1024
    files: FileLimits = field(default_factory=FileLimits)


class PromptRules(Protocol):
    """What a backend cannot take as it stands. All raise `PromptRejected`, at once or never."""

    def prompt(self, text: str) -> None: ...

    def with_files(self, text: str, session: SessionName, files: Sequence[Attachment]) -> None:
        """The same for a prompt that comes with files; its text may be empty."""
        ...

    def command(self, text: str) -> str:
        """A slash command as it is to be sent."""
        ...


@dataclass(slots=True)
class Facts:
    """One session's; changed by its core and its actor alone."""

    name: SessionName
    backend: str
    options: StartOptions
    node: str
    model: str | None = None
    permission_mode: str = "default"
    conversation: str | None = None
    attach: str | None = None
    generation: int = 0
    started_at: float | None = None
    created_at: float = 0.0
    restarts: int = 0
    turns: int = 0
    usage: Usage = field(default_factory=Usage)
    cost_usd: float = 0.0
    reason: str | None = None
    notice: str | None = None
    """The reason that is given as long as there is no other."""
    limited_until: float | None = None
    """Wall time. The account's limit is reached: no turn is begun before somebody says that it is over."""
    limited_why: str | None = None
    fresh: Fresh | None = None
    """Set where no turn may know of another one; as configured, not as recorded."""

    @classmethod
    def recorded(cls, r: SessionRecord, node: str) -> Facts:
        """As the journal has them. How to attach is known again once the process is."""
        return cls(
            name=r.name,
            backend=r.backend,
            options=r.options,
            node=node,
            model=r.model,
            permission_mode=r.permission_mode,
            conversation=r.conversation,
            generation=r.generation,
            started_at=r.started_at,
            created_at=r.created_at,
            restarts=r.restarts,
            turns=r.turns,
            usage=r.usage,
            cost_usd=r.cost_usd,
            reason=r.reason,
            limited_until=r.limited_until,
            limited_why=r.limited_why,
        )

    def record(self, state: RecordedState, checkpoint: dict[str, Any] | None) -> SessionRecord:
        return SessionRecord(
            name=self.name,
            backend=self.backend,
            options=self.options,
            conversation=self.conversation,
            model=self.model,
            permission_mode=self.permission_mode,
            generation=self.generation,
            checkpoint=checkpoint,
            state=state,
            reason=self.reason,
            started_at=self.started_at,
            created_at=self.created_at,
            restarts=self.restarts,
            turns=self.turns,
            usage=self.usage,
            cost_usd=self.cost_usd,
            limited_until=self.limited_until,
            limited_why=self.limited_why,
        )

    def view(self, state: SessionState, evidence: Evidence) -> Session:
        """As clients see it; how many do, the publisher knows."""
        return Session(
            name=self.name,
            backend=self.backend,
            state=state,
            evidence=evidence,
            model=self.model,
            cwd=self.options.cwd or "",
            permission_mode=self.permission_mode,
            conversation=self.conversation,
            attach=None if state in ("stopped", "failed") else self.attach,
            started_at=self.started_at,
            turns=self.turns,
            restarts=self.restarts,
            viewers=0,
            usage=self.usage,
            cost_usd=self.cost_usd,
            node=self.node,
            reason=self.reason or self.limited_why,
            limited_until=self.limited_until,
        )
