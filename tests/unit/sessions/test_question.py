"""What is told of a question, to who was there and to who comes late."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bridge.events import (
    Block,
    BlockDiscarded,
    BlockFinished,
    DeltaAdded,
    Event,
    SessionName,
    ToolBlock,
    Turn,
    TurnFinished,
    TurnId,
    TurnQueued,
    TurnStarted,
)
from bridge.sessions.question import Question

TURN = TurnId("t")
WORKER = SessionName("_pool-default-1")
STARTED = TurnStarted(TURN, "why?", "me", "client")
FINISHED = TurnFinished(TURN, "completed", "so", None, None, None, 1)


def delta(text: str, block: int = 0) -> DeltaAdded:
    return DeltaAdded(TURN, block, "text", text)


class Ear:
    def __init__(self) -> None:
        self.heard: list[Any] = []

    def __call__(self, at: float, event: Event) -> None:
        self.heard.append(event)


def a_question() -> Question:
    return Question(TURN, WORKER, None, "why?")


def test_who_comes_late_hears_text_so_far_in_one_piece_and_then_the_rest() -> None:
    """So that its text ends as everybody's."""
    question, late = a_question(), Ear()
    for event in (STARTED, delta("a"), delta("b")):
        question.hear(1.0, event)
    question.listen(late)
    question.hear(2.0, delta("c"))
    assert late.heard == [STARTED, delta("ab"), delta("c")]


def test_of_a_block_that_has_ended_only_its_end_is_kept() -> None:
    """A thousand deltas are not told again where one event says it all."""
    question, late = a_question(), Ear()
    end = BlockFinished(TURN, 0, "text", "ab")
    for event in (STARTED, delta("a"), delta("b"), end, delta("x", 1)):
        question.hear(1.0, event)
    question.listen(late)
    assert late.heard == [STARTED, end, delta("x", 1)]


def test_a_block_that_was_begun_again_is_forgotten() -> None:
    """Who was there is told to discard it, who comes late never hears of it."""
    question, early, late = a_question(), Ear(), Ear()
    question.listen(early)
    for event in (STARTED, delta("a"), BlockDiscarded(TURN, 0), delta("b")):
        question.hear(1.0, event)
    question.listen(late)
    assert early.heard == [STARTED, delta("a"), BlockDiscarded(TURN, 0), delta("b")]
    assert late.heard == [STARTED, delta("b")]


def test_nobody_hears_that_it_was_put_back_and_started_again() -> None:
    """To its asker it waits for its answer all the same."""
    question, ear = a_question(), Ear()
    question.listen(ear)
    for event in (STARTED, TurnQueued(TURN, None, "why?", "me", 0), STARTED, FINISHED):
        question.hear(1.0, event)
    assert ear.heard == [STARTED, FINISHED]
    assert question.ended


def test_who_left_hears_nothing_more() -> None:
    """And the question goes on."""
    question, ear = a_question(), Ear()
    question.listen(ear)
    question.leave(ear)
    question.leave(ear)
    question.hear(1.0, STARTED)
    assert ear.heard == []
    assert question.started


def test_one_that_an_earlier_bridge_was_asked_is_told_from_its_beginning() -> None:
    """What has ended as ended, what goes on as preview."""
    blocks = (Block(0, "text", "so"), ToolBlock(1, "x", "Read", {}, "out"), Block(2, "text", "and"))
    turn = Turn(TURN, "why?", "me", "client", "running", 1.0, "key", blocks=blocks, started_at=2.0)
    question, ear = Question.taken_up(turn, WORKER, previews={2}), Ear()
    question.listen(ear)
    assert [e.event for e in ear.heard] == ["turn_started", "block", "tool_started", "tool_finished", "delta"]
    assert (question.started, question.key) == (True, "key")
    waiting = Question.taken_up(replace(turn, status="queued", blocks=()), WORKER, previews=set())
    assert not waiting.started
