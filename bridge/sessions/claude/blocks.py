"""Numbers the blocks of one turn, over its messages, its tools and its sub-agents. Pure.

Knows when a block's preview is void and when its text is final. Each sub-agent (`parent`) has a message
and open blocks of its own. A number whose block is dropped is taken again by the next block of the same
speaker: for a client, that block has begun again.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import Any, Literal

from bridge.signals import BlockDropped, BlockSettled, Signal, TextArrived, ToolCalled

Json = dict[str, Any]
Kind = Literal["text", "thinking", "tool_use"]
Parent = str | None

KINDS: dict[str, Kind] = {"text": "text", "thinking": "thinking", "tool_use": "tool_use"}
"""What gets a number. Other blocks (`redacted_thinking`, tools of the server) have nothing to show."""


@dataclass(slots=True)
class _Open:
    number: int
    kind: Kind
    pieces: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Speaker:
    """Claude itself or one sub-agent: its message, and the blocks of it that are not final yet."""

    message: str = ""
    open: dict[int, _Open] = field(default_factory=dict)
    free: list[int] = field(default_factory=list)


class Blocks:
    """One turn's blocks. Every method returns what it made known, in order."""

    def __init__(self, state: Json | None = None) -> None:
        """`state` is an earlier `export`."""
        state = state or {}
        self._next: int = state.get("next", 0)
        self.spoke: bool = state.get("spoke", False)
        """Whether Claude itself has a final block of text in this turn."""
        self.calls: set[str] = set()
        """Tool calls that were made known, since this object was made."""
        self._speakers: dict[Parent, _Speaker] = {
            parent or None: _Speaker(message=message, free=list(free))
            for parent, message, free in state.get("speakers", ())
        }

    def export(self) -> Json:
        """Small JSON from which the same numbering goes on. Only whole while `settled`."""
        speakers = [(p or "", s.message, sorted(s.free)) for p, s in self._speakers.items()]
        return {"next": self._next, "spoke": self.spoke, "speakers": speakers}

    @property
    def settled(self) -> bool:
        """Nothing is half said."""
        return not any(s.open for s in self._speakers.values())

    def message_started(self, parent: Parent, message: str) -> list[Signal]:
        dropped = self.drop(parent)
        self._speaker(parent).message = message
        return dropped

    def message_named(self, message: str) -> None:
        """Claude's own next message, of which parts may have been previewed before it had an id."""
        self._speaker(None).message = message

    def block_started(self, parent: Parent, index: int, kind: str) -> None:
        known = KINDS.get(kind)
        if known is not None:
            self._speaker(parent).open[index] = _Open(self._take_number(parent), known)

    def text_arrived(self, parent: Parent, index: int, text: str) -> list[Signal]:
        speaker = self._speaker(parent)
        block = speaker.open.get(index)
        if block is None or block.kind == "tool_use" or not text:
            return []
        block.pieces.append(text)
        return [TextArrived(block.number, block.kind, text, speaker.message, parent)]

    def settle(self, parent: Parent, message: str, content: Json) -> list[Signal]:
        """A block as an `assistant` frame gives it: final, whether it was previewed or not."""
        kind = KINDS.get(str(content.get("type")))
        if kind is None:
            return []
        speaker = self._speaker(parent)
        signals: list[Signal] = []
        if message != speaker.message:
            # The fallback's answer, which is not streamed: what was being streamed is void.
            signals += self.message_started(parent, message)
        index = next((i for i in sorted(speaker.open) if speaker.open[i].kind == kind), None)
        number = self._take_number(parent) if index is None else speaker.open.pop(index).number
        if kind == "tool_use":
            given = content.get("input")
            identity = str(content.get("id", ""))
            self.calls.add(identity)
            call = ToolCalled(
                number,
                identity,
                str(content.get("name", "")),
                given if isinstance(given, dict) else {},
                message,
                parent,
            )
            return [*signals, call]
        self.spoke = self.spoke or (parent is None and kind == "text")
        text = str(content.get(kind) or "")
        return [*signals, BlockSettled(number, kind, text, message, parent)]

    def drop(self, parent: Parent, index: int | None = None) -> list[Signal]:
        """What this speaker had begun and not finished is void; or one block of it."""
        speaker = self._speakers.get(parent)
        if speaker is None:
            return []
        void = [i for i in speaker.open if index is None or i == index]
        dropped = sorted((speaker.open.pop(i) for i in void), key=lambda b: b.number)
        for block in dropped:
            heapq.heappush(speaker.free, block.number)
        return [BlockDropped(block.number) for block in dropped if block.pieces]

    def drop_all(self) -> list[Signal]:
        return [signal for parent in list(self._speakers) for signal in self.drop(parent)]

    def keep_all(self) -> list[Signal]:
        """The turn broke off: what has come of unfinished text is its final text."""
        kept: list[Signal] = []
        for parent, speaker in self._speakers.items():
            for block in speaker.open.values():
                if block.kind != "tool_use" and block.pieces:
                    self.spoke = self.spoke or (parent is None and block.kind == "text")
                    text = "".join(block.pieces)
                    kept.append(BlockSettled(block.number, block.kind, text, speaker.message, parent))
            speaker.open.clear()
        return kept

    def _speaker(self, parent: Parent) -> _Speaker:
        return self._speakers.setdefault(parent, _Speaker())

    def _take_number(self, parent: Parent) -> int:
        free = self._speaker(parent).free
        if free:
            return heapq.heappop(free)
        self._next += 1
        return self._next - 1
