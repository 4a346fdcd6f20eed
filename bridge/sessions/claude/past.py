"""Reads the finished turns of a conversation out of its transcript, whoever held it. Pure.

A transcript is what the CLI needs to go on, not a record for others: branches that a person went back from
stand in it, summaries that replaced what they tell of, and lines of a dozen kinds that are no part of any
turn. What cannot be read is skipped. Memory is bounded by the newest turns that are kept, and some hundred
bytes for each message of the others.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from bridge.events import AnyBlock, Block, ToolBlock, Turn, TurnError, TurnId, TurnStatus, Usage, text_of
from bridge.sessions.claude.blocks import Blocks
from bridge.sessions.claude.messages import entry_of, error_code, output_text, plain_output, usage_of
from bridge.sessions.claude.transcript import OWN_WORDS, Beginnings, Begun
from bridge.sessions.claude.tui import INTERRUPTED
from bridge.signals import BlockSettled, ToolCalled

Json = dict[str, Any]

OUTPUT = "<local-command-stdout>"


@dataclass(slots=True)
class _Reading:
    """The turn that is being read. Times are seconds since 1970."""

    number: int
    id: TurnId
    begun: Begun
    at: float
    ended_at: float
    numbering: Blocks = field(default_factory=Blocks)
    blocks: dict[int, AnyBlock] = field(default_factory=dict)
    tools: dict[str, int] = field(default_factory=dict)
    usage: dict[str, Usage] = field(default_factory=dict)
    error: TurnError | None = None
    interrupted: bool = False
    final: bool = False
    """Its last message is one that ends a turn."""
    output: str = ""
    """What a slash command said."""

    def turn(self) -> Turn:
        blocks = tuple(self.blocks[number] for number in sorted(self.blocks))
        return Turn(
            id=self.id,
            prompt=self.begun.prompt,
            author=None,
            source="terminal",
            status=self._status(blocks),
            queued_at=self.at,
            text=text_of(blocks) or self.output,
            blocks=blocks,
            error=None if self.interrupted else self.error,
            usage=sum(self.usage.values(), Usage()) if self.usage else None,
            started_at=self.at,
            finished_at=max(self.at, self.ended_at),
        )

    def _status(self, blocks: tuple[AnyBlock, ...]) -> TurnStatus:
        if self.interrupted:
            return "interrupted"
        if self.error is not None:
            return "failed"
        # Older versions do not write down why a message ended.
        spoke = bool(blocks) and isinstance(blocks[-1], Block) and blocks[-1].kind == "text"
        return "completed" if self.final or spoke or self.output else "unknown"


class PastReader:
    """One transcript, line by line from its beginning."""

    def __init__(self, most_turns: int, most_chars: int) -> None:
        """As many turns are kept as fit into both; the oldest go first."""
        self._most_turns = most_turns
        self._most_chars = most_chars
        self._kept: deque[tuple[int, int, Turn]] = deque()  # number, size, turn
        self._chars = 0
        self._reading: _Reading | None = None
        self._beginnings = Beginnings()
        self._before: list[int | None] = []
        """Of each turn the one that it follows."""
        self._turn_of: dict[str, int] = {}
        """Of each entry the turn that it belongs to."""
        self._at = 0.0

    def take(self, line: bytes) -> None:
        entry = entry_of(line)
        own = entry.get("uuid")
        if not isinstance(own, str) or entry.get("isSidechain"):
            return
        self._at = _seconds(entry.get("timestamp")) or self._at
        begun = self._beginnings.of(entry)
        if begun is not None:
            self._begin(entry, TurnId(own), begun)
            return
        parent = entry.get("parentUuid") or entry.get("logicalParentUuid")
        turn = self._turn_of.get(str(parent), len(self._before) - 1)
        if turn < 0:
            return
        self._turn_of[own] = turn
        if self._reading is None or entry.get("isMeta"):
            return
        message = entry.get("message")
        if isinstance(message, dict):
            self._reading.ended_at = self._at
            if entry.get("type") == "assistant":
                _assistant(self._reading, entry, message)
            elif entry.get("type") == "user":
                _answered(self._reading, message)
        elif entry.get("subtype") == "turn_duration":
            self._reading.final = True

    def turns(self) -> tuple[Turn, ...]:
        """The newest turns of the conversation as it goes on from its end, the oldest first."""
        self._close()
        goes_on: set[int] = set()
        number: int | None = len(self._before) - 1 if self._before else None
        while number is not None:
            goes_on.add(number)
            number = self._before[number]
        newest = {turn.id: turn for number, _, turn in self._kept if number in goes_on}
        return tuple(newest.values())

    def _begin(self, entry: Json, own: TurnId, begun: Begun) -> None:
        self._close()
        number = len(self._before)
        parent = entry.get("parentUuid")
        # Where what it follows cannot be read, it is taken to follow what stands before it.
        before = self._turn_of.get(str(parent), number - 1) if parent is not None else None
        self._before.append(before if before is not None and before >= 0 else None)
        self._turn_of[own] = number
        self._reading = _Reading(number, own, begun, self._at, self._at)

    def _close(self) -> None:
        reading, self._reading = self._reading, None
        if reading is None:
            return
        turn = reading.turn()
        size = _size(turn)
        self._kept.append((reading.number, size, turn))
        self._chars += size
        while len(self._kept) > self._most_turns or (self._chars > self._most_chars and len(self._kept) > 1):
            self._chars -= self._kept.popleft()[1]


def _assistant(turn: _Reading, entry: Json, message: Json) -> None:
    content = message.get("content")
    if message.get("model") == OWN_WORDS:
        if entry.get("isApiErrorMessage"):
            status = entry.get("apiErrorStatus")
            known = status if isinstance(status, int) else None
            code = error_code(str(entry.get("error") or ""), known)
            turn.error = TurnError(code, output_text(content), known)
        return
    turn.error = None  # what it was, it is overcome
    identity = str(message.get("id", ""))
    for said in content if isinstance(content, list) else []:
        for signal in turn.numbering.settle(None, identity, said) if isinstance(said, dict) else []:
            match signal:
                case BlockSettled(block=number, kind=kind, text=text):
                    turn.blocks[number] = Block(number, kind, text, message=identity)
                case ToolCalled(block=number, tool=tool) if tool not in turn.tools:
                    call = ToolBlock(number, tool, signal.name, signal.input, message=identity)
                    turn.blocks[number], turn.tools[tool] = call, number
    turn.final = message.get("stop_reason") not in (None, "tool_use", "pause_turn")
    if isinstance(usage := message.get("usage"), dict):
        turn.usage[identity] = usage_of(usage)


def _answered(turn: _Reading, message: Json) -> None:
    content = message.get("content")
    if isinstance(content, str):
        if content.startswith(OUTPUT):
            turn.output = plain_output(content)
        turn.interrupted = turn.interrupted or content.startswith(INTERRUPTED)
        return
    for block in content if isinstance(content, list) else []:
        if not isinstance(block, dict):
            continue
        if block.get("type") != "tool_result":
            turn.interrupted = turn.interrupted or str(block.get("text", "")).startswith(INTERRUPTED)
            continue
        called = turn.blocks.get(turn.tools.get(str(block.get("tool_use_id")), -1))
        if isinstance(called, ToolBlock):
            output, failed = output_text(block.get("content")), bool(block.get("is_error"))
            turn.blocks[called.block] = replace(called, output=output, is_error=failed)


def _size(turn: Turn) -> int:
    """Characters, about."""
    size = len(turn.prompt) + len(turn.text)
    for block in turn.blocks:
        if isinstance(block, ToolBlock):
            size += len(block.output or "") + len(repr(block.input))
        else:
            size += len(block.text)
    return size


def _seconds(timestamp: object) -> float | None:
    try:
        return datetime.fromisoformat(timestamp).timestamp() if isinstance(timestamp, str) else None
    except ValueError:
        return None
