"""What holds whatever is killed, told from what clients heard, what is on disk, and what Claude was asked."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from bridge.events import (
    BlockFinished,
    Event,
    RequestAnswered,
    RequestId,
    RequestOpened,
    SessionChanged,
    SessionName,
    ToolFinished,
    ToolStarted,
    Turn,
    TurnFinished,
    TurnId,
    TurnQueued,
    TurnStarted,
)
from bridge.sessions import journal_sql
from bridge.sessions.actor import Actor
from bridge.sessions.records import DeleteSession, Op
from tests.fakes.simulated_cli import Cli, HeadlessCli

NAME = SessionName("demo")


class Ledger:
    """What clients were told, held against what is on disk and what the model was asked."""

    def __init__(self, db: sqlite3.Connection, cli: Cli) -> None:
        self._db = db
        self._cli = cli
        self.deleting = False
        self.forget()

    def forget(self) -> None:
        """The session was deleted."""
        self.turns: dict[str, TurnId] = {}
        """What was accepted, by key."""
        self.numbers: dict[TurnId, int] = {}
        self.finished: dict[TurnId, Turn] = {}
        self.told_finished: set[TurnId] = set()

    def accepted(self, key: str, reply: Any) -> None:
        turn = reply["turn"]
        assert self.turns.setdefault(key, turn) == turn, "one key, two turns"
        assert turn in self.numbers, "answered before it was on disk"

    def committed(self, ops: Sequence[Op]) -> None:
        """Nothing that was accepted is lost, nothing that has ended changes."""
        if any(isinstance(op, DeleteSession) for op in ops):
            assert self.deleting
            self.deleting = False
            self.forget()
        now = {}
        for row in self._db.execute("SELECT turn, number, key, phase FROM turns"):
            turn = TurnId(row["turn"])
            now[turn] = row["number"]
            assert self.numbers.get(turn, row["number"]) == row["number"]
            if row["key"] is not None:
                assert self.turns.setdefault(row["key"], turn) == turn, "one key, two turns"
            if row["phase"] == "finished":
                self._ended(self._turn(turn))
        assert now.keys() >= self.numbers.keys(), "lost"
        self.numbers = now

    def _ended(self, turn: Turn) -> None:
        if turn.id in self.finished:
            assert turn == self.finished[turn.id], "a finished turn has changed"
            return
        self.finished[turn.id] = turn
        upstream = self._cli.upstream
        if any(t.status == "cancelled" and t.id in upstream.ran for t in self.finished.values()):
            # The race named in crash-safety.md: what is said now may be taken for the next prompt's.
            return
        said = upstream.spoken.get(turn.id, {})
        kept = {b.block: b.text if hasattr(b, "text") else b.tool for b in turn.blocks}
        # Claude may have gone on while it was being written down that the turn was broken off.
        partial = all(said.get(number, "").startswith(text) for number, text in kept.items())
        assert partial or turn.source == "terminal", "it says what was not said"
        headless = isinstance(self._cli, HeadlessCli)
        if turn.status == "completed" and turn.source == "client":
            assert kept == said, "something that was said is missing"
            assert turn.id in upstream.active
        if turn.status == "unknown" and turn.source == "client":
            assert turn.id in upstream.broken | upstream.unsure, "it could be known how it ended"
            assert kept == said or not headless, "partial text is missing"

    def told(self, event: Event) -> None:
        """It is on disk."""
        match event:
            case TurnQueued(turn=turn) | TurnStarted(turn=turn):
                assert turn in self.numbers
                assert turn not in self.told_finished
            case BlockFinished(turn=turn, block=block, text=text):
                assert any(b.block == block and b.text == text for b in self._turn(turn).blocks)
            case ToolStarted(turn=turn, tool=tool):
                assert any(getattr(b, "tool", None) == tool for b in self._turn(turn).blocks)
            case ToolFinished(turn=turn, tool=tool, output=output):
                blocks = self._turn(turn).blocks
                assert any(getattr(b, "tool", None) == tool and b.output == output for b in blocks)
            case RequestOpened(request=request):
                assert self._request(request.id) is not None
            case RequestAnswered(request=id, outcome=outcome):
                row = self._request(id)
                assert row is not None
                assert row["outcome"] == outcome
            case TurnFinished(turn=turn):
                assert turn not in self.told_finished, "ended twice"
                self.told_finished.add(turn)
                ended = self.finished[turn]
                assert (ended.status, ended.text) == (event.status, event.text)
            case SessionChanged(session=session):
                [loaded], _ = journal_sql.load(self._db, NAME)
                record = loaded.record
                assert record.restarts >= session.restarts
                assert record.cost_usd >= session.cost_usd
            case _:
                pass

    def in_order(self) -> bool:
        """Claude was asked in the order in which prompts were accepted."""
        asked = [self.numbers[turn] for turn in self._cli.upstream.ran if turn in self.numbers]
        return asked == sorted(asked)

    def all_over(self) -> None:
        assert self.numbers.keys() == self.finished.keys(), "it never ended"

    def _turn(self, turn: TurnId) -> Turn:
        found = journal_sql.turn_by_id(self._db, NAME, turn)
        assert found is not None
        return found.turn

    def _request(self, request: RequestId) -> Any:
        query = "SELECT outcome FROM requests WHERE request = ?"
        return self._db.execute(query, (request,)).fetchone()


def essence(actor: Actor | None) -> dict[str, Any]:
    """Of a session what must come back from the journal: all but the phase, which adoption finds out anew,
    previews, which are read again, and the reasons that go with both."""
    assert actor is not None
    core, keeper = actor.core, actor._keeper
    opened = core.open
    blocks = tuple(b for _, b in sorted(opened._settled.items())) if opened is not None else ()
    return {
        "facts": replace(core.facts.record("idle", None), reason=None),
        "halted": core.state if core.state in ("stopped", "failed") else None,
        "queue": [replace(turn, reason=None) for turn in core.queue],
        "open": opened and replace(opened._turn, blocks=blocks, text="", reason=None),
        "phase": opened and (core._open_phase, opened.active),
        "requests": list(core.requests),
        "numbers": keeper._numbers,
        "checkpoint": keeper.checkpoint,
    }
