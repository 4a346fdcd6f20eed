"""From what the core says to what the journal keeps. No I/O, no clock.

Of each turn and of the session only the last word of a step is written; all of a step goes to disk in one
transaction, the backend's place in its input with it.
"""

from __future__ import annotations

from collections.abc import Sequence

from bridge.events import RequestAnswered, RequestOpened, SessionChanged, TurnId
from bridge.sessions.effects import BlockKept, FilesKept, Output, StartProcess, TurnAdvanced
from bridge.sessions.facts import Facts
from bridge.sessions.records import (
    CloseRequest,
    MoveCheckpoint,
    Op,
    RecordedState,
    SaveBlock,
    SaveFiles,
    SaveRequest,
    SaveSession,
    SaveTurn,
    TurnRecord,
)

Checkpoint = dict[str, object]


class Keeper:
    """Knows the numbers that put a session's turns in order, and the newest checkpoint."""

    def __init__(
        self,
        facts: Facts,
        checkpoint: Checkpoint | None = None,
        numbers: dict[TurnId, int] | None = None,
        last_number: int = 0,
    ) -> None:
        self.checkpoint = checkpoint
        self._moved = False
        """The checkpoint is newer than the one on disk."""
        self._facts = facts
        self._numbers = numbers or {}
        self._last_number = last_number

    def session(self, state: RecordedState) -> SaveSession:
        return SaveSession(self._facts.record(state, self.checkpoint))

    def operations(
        self, out: Sequence[Output], state: RecordedState, checkpoint: Checkpoint | None, at: float
    ) -> list[Op]:
        """A checkpoint that comes with nothing to keep waits for the next step that has something: the
        backend would only say again what is preview. Every step that is written carries the newest."""
        name, generation = self._facts.name, self._facts.generation
        turns: dict[TurnId, SaveTurn] = {}
        rest: list[Op] = []
        touched = False
        if checkpoint is not None:
            self.checkpoint, self._moved = checkpoint, True
        for o in out:
            match o:
                case TurnAdvanced(turn=turn, phase=phase):
                    number = self._number(turn.id)
                    turns[turn.id] = SaveTurn(name, TurnRecord(turn, phase, number, generation))
                    if phase == "finished":
                        touched = True  # its cost and tokens are the session's, too
                        del self._numbers[turn.id]
                case FilesKept(turn=turn_id, files=files):
                    rest.append(SaveFiles(name, turn_id, files))
                case BlockKept(turn=turn_id, block=block):
                    rest.append(SaveBlock(name, turn_id, block))
                case RequestOpened(request=request):
                    rest.append(SaveRequest(name, request))
                case RequestAnswered(request=request_id, outcome=outcome, by=by):
                    rest.append(CloseRequest(name, request_id, outcome, by, at))
                case SessionChanged():
                    touched = True
                case StartProcess():
                    self.checkpoint, touched = None, True  # another process, another input
                case _:
                    pass
        ops: list[Op] = [*turns.values(), *rest]
        if touched:
            ops = [self.session(state), *ops]
        elif ops and self._moved:
            ops.append(MoveCheckpoint(name, generation, self.checkpoint))
        if ops:
            self._moved = False
        return ops

    def _number(self, turn: TurnId) -> int:
        if turn not in self._numbers:
            self._last_number += 1
            self._numbers[turn] = self._last_number
        return self._numbers[turn]
