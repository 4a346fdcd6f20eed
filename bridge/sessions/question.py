"""One question to a pool: what has been told of it, and who hears the rest. No I/O, no tasks.

What was told is kept until the question has ended, so that who comes late hears it as who was there from the
start did, but for text: of a block that has ended only its end, of one that goes on its text in one piece.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import groupby

from bridge.events import (
    Block,
    BlockDiscarded,
    BlockFinished,
    DeltaAdded,
    Event,
    SessionName,
    ToolBlock,
    ToolFinished,
    ToolStarted,
    Turn,
    TurnFinished,
    TurnId,
    TurnQueued,
    TurnStarted,
)

Hears = Callable[[float, Event], None]
"""Gets the time and the event. Never raises."""

QuestionEvent = (
    TurnStarted | DeltaAdded | BlockDiscarded | BlockFinished | ToolStarted | ToolFinished | TurnFinished
)
"""What its asker is told, of all that a session tells of a turn."""


class Question:
    def __init__(self, turn: TurnId, worker: SessionName, key: str | None, prompt: str) -> None:
        """`key` is the asker's own id for it, with whose it is."""
        self.turn = turn
        self.worker = worker
        self.key = key
        self.prompt = prompt
        self.started = False
        self.ended = False
        self._told: list[tuple[float, QuestionEvent]] = []
        self._listeners: list[Hears] = []

    @classmethod
    def taken_up(cls, turn: Turn, worker: SessionName, *, previews: set[int]) -> Question:
        """One that an earlier bridge was asked, as far as it has come; `previews` are blocks that go on."""
        question = cls(turn.id, worker, turn.key, turn.prompt)
        if turn.status != "running":
            return question
        at = turn.started_at or turn.queued_at
        question.hear(at, TurnStarted(turn.id, turn.prompt, turn.author, turn.source))
        for block in turn.blocks:
            for event in _told_of(turn.id, block, goes_on=block.block in previews):
                question.hear(at, event)
        return question

    def hear(self, at: float, event: QuestionEvent | TurnQueued) -> None:
        match event:
            case TurnQueued():
                self.started = False  # put back; that it waits again changes nothing for who waits for it
                return
            case TurnStarted():
                self.started = True
                if self._told:
                    return  # for the second time, after it was put back
            case TurnFinished():
                self.ended = True
            case BlockFinished() | BlockDiscarded():
                number = event.block
                self._told = [
                    (then, e)
                    for then, e in self._told
                    if not (isinstance(e, DeltaAdded) and e.block == number)
                ]
        if not isinstance(event, BlockDiscarded):
            self._told.append((at, event))
        for hears in tuple(self._listeners):
            hears(at, event)

    def listen(self, hears: Hears) -> None:
        """All that has been told, at once, and then all that will be."""
        for at, event in self._so_far():
            hears(at, event)
        if not self.ended:
            self._listeners.append(hears)

    def leave(self, hears: Hears) -> None:
        """Safe to repeat."""
        if hears in self._listeners:
            self._listeners.remove(hears)

    def _so_far(self) -> list[tuple[float, QuestionEvent]]:
        said: list[tuple[float, QuestionEvent]] = []
        for _, run in groupby(self._told, key=lambda each: _part_of(each[1])):
            told = list(run)
            at, last = told[-1]
            if isinstance(last, DeltaAdded):
                texts = [event.text for _, event in told if isinstance(event, DeltaAdded)]
                said.append((at, replace(last, text="".join(texts))))
            else:
                said += told
        return said


def _part_of(event: QuestionEvent) -> int | None:
    """Which block it is a piece of."""
    return event.block if isinstance(event, DeltaAdded) else None


def _told_of(turn: TurnId, block: Block | ToolBlock, *, goes_on: bool) -> list[QuestionEvent]:
    """What was told of a block until now."""
    number, parent = block.block, block.parent
    if isinstance(block, ToolBlock):
        told: list[QuestionEvent] = [ToolStarted(turn, number, block.tool, block.name, block.input, parent)]
        if block.output is not None:
            told.append(ToolFinished(turn, block.tool, block.output, block.is_error, parent))
        return told
    if goes_on:
        return [DeltaAdded(turn, number, block.kind, block.text, parent)] if block.text else []
    return [BlockFinished(turn, number, block.kind, block.text, parent)]
