"""Where transcripts of the real CLI are cut for a fork."""

from __future__ import annotations

import json

import pytest

from bridge.events import TurnId
from bridge.sessions.claude.branching import Told, find_cut, renamed
from bridge.sessions.claude.transcript import identities
from tests.unit.sessions.claude.test_past import golden, read, written
from tests.unit.sessions.claude.test_transcript import answer, filler, prompt

WHOLE = golden("by_itself")
TURNS = read(WHOLE)
BY_ITSELF = 4


def cut(data: bytes, *turns: Told) -> bytes:
    return data[: find_cut(data.splitlines(keepends=True), turns).end]


def told(upto: int) -> list[Told]:
    return [
        Told(TurnId("c-4"), False) if n == BY_ITSELF else Told(t.id, True)
        for n, t in enumerate(TURNS[: upto + 1])
    ]


@pytest.mark.parametrize("upto", range(len(TURNS)))
def test_what_is_kept_is_exactly_the_turns_up_to_the_last(upto: int) -> None:
    """One of them Claude began by itself, and is known to nobody by its id."""
    found = find_cut(WHOLE.splitlines(keepends=True), told(upto))
    kept = WHOLE[: found.end]
    assert [t.id for t in read(kept)] == [t.id for t in TURNS[: upto + 1]]
    assert found.answered
    after = WHOLE[found.end :].splitlines()
    assert not after or json.loads(after[0])["uuid"] == TURNS[upto + 1].id


def test_a_turn_is_kept_with_what_its_agents_made_claude_say() -> None:
    whole = golden("agents")
    _, beta, gamma = read(whole)
    kept = cut(whole, Told(beta.id, True))
    assert read(kept)[-1] == beta
    assert json.loads(whole[len(kept) :].splitlines()[0]).get("uuid") in (None, gamma.id)


def test_what_is_written_meanwhile_does_not_move_the_cut() -> None:
    """The other session goes on, and is in the middle of a line."""
    before = cut(WHOLE, *told(3))
    assert cut(WHOLE + WHOLE.splitlines()[-1], *told(3)) == before


def test_half_a_line_counts_as_not_there() -> None:
    """It is being written."""
    half = WHOLE.rstrip()[:-10]
    assert cut(half, *told(5)) == b"".join(WHOLE.splitlines(keepends=True)[:-1])


def test_a_prompt_that_was_sent_again_under_another_id_is_found() -> None:
    """What the CLI said to the first belongs to the turn as well."""
    turn = TurnId("3947496f-0000-4000-8000-000000000000")
    again = identities(turn, 2)[1]
    data = written(prompt(turn), filler("f", turn), prompt(again, "f"), answer("a", again), prompt("x", "a"))
    found = find_cut(data.splitlines(keepends=True), [Told(turn, True)])
    assert (found.last, found.answered) == (turn, True)
    assert data[: found.end].endswith(written(answer("a", again)))


def test_turns_that_are_not_there_are_not_found() -> None:
    """Of nothing the whole is kept; who asks decides what that means."""
    found = find_cut(WHOLE.splitlines(keepends=True), [Told(TurnId("none"), True)])
    assert (found.last, found.end) == (None, len(WHOLE))


def test_an_answer_that_is_not_written_yet_is_missed() -> None:
    """It comes some milliseconds after it was told."""
    data = written(prompt("a"))
    assert not find_cut(data.splitlines(keepends=True), [Told(TurnId("a"), True)]).answered


def test_a_line_of_the_copy_names_the_new_conversation() -> None:
    """And what a text says stays as it is; what waits in the CLI's queue is left out."""
    text = json.dumps(
        {"text": '"sessionId":"old"', "sessionId": "old", "session_id": "old"}, separators=(",", ":")
    )
    line = json.loads(renamed(text.encode(), "old", "new"))
    assert line == {"text": '"sessionId":"old"', "sessionId": "new", "session_id": "new"}
    assert renamed(b'{"type":"queue-operation","operation":"enqueue"}\n', "old", "new") == b""
    said = b'{"type":"user","message":{"content":"\\"queue-operation\\""}}\n'
    assert renamed(said, "old", "new") == said
