"""What the journal is told of a step: the last word of each thing, in one transaction."""

from __future__ import annotations

from bridge.commands import StartOptions
from bridge.events import (
    Block,
    BlockFinished,
    DeltaAdded,
    Evidence,
    SessionChanged,
    SessionName,
    Turn,
    TurnId,
)
from bridge.sessions.effects import BlockKept, Output, StartProcess, TurnAdvanced
from bridge.sessions.facts import Facts
from bridge.sessions.keeper import Keeper
from bridge.sessions.records import MoveCheckpoint, Op, SaveBlock, SaveSession, SaveTurn

TURN = Turn(TurnId("t1"), "hi", None, "client", "queued", 0.0)
DELTA = DeltaAdded(TurnId("t1"), 0, "text", "x")
KEPT: list[Output] = [
    BlockKept(TurnId("t1"), Block(0, "text", "x")),
    BlockFinished(TurnId("t1"), 0, "text", "x"),
]


def new() -> tuple[Facts, Keeper]:
    facts = Facts(SessionName("demo"), "headless", StartOptions(cwd="/"), "node", generation=3)
    return facts, Keeper(facts)


def test_previews_are_not_kept() -> None:
    """They are read again from the backend's own file."""
    _, keeper = new()
    assert keeper.operations([DELTA], "busy", None, 0.0) == []


def test_of_a_turn_only_the_last_word_of_a_step_is_kept() -> None:
    """Accepted and sent in one step is one row written once."""
    _, keeper = new()
    out: list[Output] = [TurnAdvanced(TURN, "queued"), TurnAdvanced(TURN, "sending")]
    [saved] = keeper.operations(out, "busy", None, 0.0)
    assert isinstance(saved, SaveTurn)
    assert (saved.record.phase, saved.record.number, saved.record.generation) == ("sending", 1, 3)


def test_turns_keep_their_numbers_and_numbers_only_grow() -> None:
    """Also over a restart, where the journal says which were given."""
    facts, _ = new()
    keeper = Keeper(facts, None, {TurnId("t1"): 7}, 9)
    second = Turn(TurnId("t2"), "hi", None, "client", "queued", 0.0)
    ops = keeper.operations([TurnAdvanced(TURN, "seen"), TurnAdvanced(second, "queued")], "busy", None, 0.0)
    assert [op.record.number for op in ops if isinstance(op, SaveTurn)] == [7, 10]


def test_a_checkpoint_goes_to_disk_with_what_it_covers() -> None:
    """In the same transaction, after the facts."""
    _, keeper = new()
    ops = keeper.operations(KEPT, "busy", {"offset": 5}, 0.0)
    assert [type(op) for op in ops] == [SaveBlock, MoveCheckpoint]


def test_a_checkpoint_without_facts_goes_with_the_next_that_come() -> None:
    """What is on disk after a write is never older than what the keeper says."""
    _, keeper = new()
    assert keeper.operations([DELTA], "busy", {"offset": 5}, 0.0) == []
    ops: list[Op] = keeper.operations(KEPT, "busy", None, 0.0)
    assert ops[-1] == MoveCheckpoint(SessionName("demo"), 3, {"offset": 5})
    assert all(not isinstance(op, MoveCheckpoint) for op in keeper.operations(KEPT, "busy", None, 0.0))


def test_another_process_begins_without_a_checkpoint() -> None:
    """Its input is another file."""
    facts, keeper = new()
    keeper.operations(KEPT, "busy", {"offset": 5}, 0.0)
    session = facts.view("starting", Evidence("start", 0.0))
    [saved] = keeper.operations([SessionChanged(session), StartProcess(True)], "starting", None, 0.0)
    assert isinstance(saved, SaveSession)
    assert saved.record.checkpoint is None
