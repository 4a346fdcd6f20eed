"""Reads what the Messages API streams for one turn, over all its attempts, and says signals. Pure.

An attempt that breaks off is made again from the beginning. What it had settled stands; what it had begun is
void, and the next attempt's blocks come after what stands, as another message.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from bridge.events import BlockKind, TurnError, Usage
from bridge.sessions.claude.messages import usage_of
from bridge.signals import BlockDropped, BlockSettled, Signal, TextArrived, TurnEnded, UpstreamActive

KINDS: dict[str, BlockKind] = {"text": "text", "thinking": "thinking"}
"""What is shown. The rest, as thinking that is not, has no number."""

CUT_SHORT = {
    "max_tokens": "The answer is longer than api.max_tokens allows; what there is of it was kept.",
    "model_context_window_exceeded": "The model's context is full; what there is of the answer was kept.",
    "refusal": "Claude refused to answer this prompt.",
}
"""Reasons for which the API ends an answer that is none, or not all of it."""


@dataclass(slots=True)
class _Open:
    number: int
    kind: BlockKind
    pieces: list[str] = field(default_factory=list)


class StreamReader:
    """One turn's."""

    def __init__(self, *, first: int = 0, message: str = "") -> None:
        """What is to come goes on behind `first` blocks of the `message`."""
        self._next = first
        self._message = message
        self._attempts = 0
        self._open: dict[int, _Open] = {}
        self._kinds: dict[int, BlockKind] = {}
        self._spoke = False
        self._usage: dict[str, int] = {}
        self.stop_reason: str | None = None
        self.complete = False
        """The message's end has come."""

    @property
    def usage(self) -> Usage:
        """Of this attempt, as far as it is known."""
        return usage_of(self._usage)

    def begin(self) -> None:
        """A request is made."""
        if self._spoke:  # of the answer before it a text stands, which is no part of this one's
            self._attempts += 1
            self._message = f"again-{self._attempts}"
        self._open, self._kinds, self._usage = {}, {}, {}
        self._spoke = self.complete = False
        self.stop_reason = None

    def take(self, event: Any) -> list[Signal]:
        """One event of the SDK's stream. What is of an unknown type or shape says nothing."""
        match getattr(event, "type", None):
            case "message_start":
                self._count(getattr(event.message, "usage", None))
                return [UpstreamActive()]
            case "content_block_start":
                kind = KINDS.get(str(getattr(event.content_block, "type", "")))
                if kind is None:
                    return []
                self._kinds[event.index] = kind
                return self._arrived(event.index, getattr(event.content_block, kind, None))
            case "content_block_delta":
                delta = event.delta
                kind = KINDS.get(str(getattr(delta, "type", "")).removesuffix("_delta"))
                return [] if kind is None else self._arrived(event.index, getattr(delta, kind, None))
            case "content_block_stop":
                return self._settled(self._open.pop(event.index, None))
            case "message_delta":
                self._count(getattr(event, "usage", None))
                self.stop_reason = getattr(event.delta, "stop_reason", None)
            case "message_stop":
                self.complete = True
        return []

    def settle_usage(self) -> None:
        """It has been counted."""
        self._usage = {}

    def drop(self) -> list[Signal]:
        """The attempt broke off."""
        dropped = sorted(self._open.values(), key=lambda block: block.number)
        if dropped:
            self._next = dropped[0].number
        self._open = {}
        return [BlockDropped(block.number) for block in dropped]

    def ended(self, usage: Usage, cost_usd: float | None) -> list[Signal]:
        """The answer is `complete`; `usage` is the turn's, over all attempts."""
        signals: list[Signal] = []
        for index in sorted(self._open):
            signals += self._settled(self._open[index])
        self._open = {}
        why = CUT_SHORT.get(self.stop_reason or "")
        if why is None or self.stop_reason is None:
            return [*signals, TurnEnded("completed", None, None, usage, cost_usd)]
        return [*signals, TurnEnded("failed", None, TurnError(self.stop_reason, why), usage, cost_usd)]

    def _arrived(self, index: int, text: object) -> list[Signal]:
        if not isinstance(text, str) or not text:
            return []
        block = self._open.get(index)
        if block is None:
            kind = self._kinds.get(index)
            if kind is None:
                return []
            block = self._open[index] = _Open(self._next, kind)
            self._next += 1
        block.pieces.append(text)
        return [TextArrived(block.number, block.kind, text, self._message)]

    def _settled(self, block: _Open | None) -> list[Signal]:
        if block is None:
            return []
        self._spoke = self._spoke or block.kind == "text"
        return [BlockSettled(block.number, block.kind, "".join(block.pieces), self._message)]

    def _count(self, usage: object) -> None:
        """The counts are totals: a later one replaces an earlier one, and one that is not said does not."""
        for name in Usage.__dataclass_fields__:
            count = getattr(usage, name, None)
            if isinstance(count, int):
                self._usage[name] = count
