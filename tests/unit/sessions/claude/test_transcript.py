"""Under which id a prompt is sent again; the transcripts are as 2.1.330 writes them, abridged."""

from __future__ import annotations

import json
from typing import Any

from bridge.events import TurnId
from bridge.sessions.claude.transcript import identity

TURN = TurnId("3947496f-0000-4000-8000-000000000000")


def entry(kind: str, uuid: str, parent: str | None, content: Any = "", **message: Any) -> dict[str, Any]:
    said = {"role": kind, "content": content, **message}
    return {"type": kind, "uuid": uuid, "parentUuid": parent, "message": said}


def prompt(uuid: str, parent: str | None = None) -> dict[str, Any]:
    return entry("user", uuid, parent, "hello")


def note(uuid: str, parent: str) -> dict[str, Any]:
    return {"type": "attachment", "uuid": uuid, "parentUuid": parent, "attachment": {"type": "date"}}


def filler(uuid: str, parent: str) -> dict[str, Any]:
    said = [{"type": "text", "text": "No response requested."}]
    return entry("assistant", uuid, parent, said, model="<synthetic>")


def answer(uuid: str, parent: str) -> dict[str, Any]:
    return entry("assistant", uuid, parent, [{"type": "text", "text": "hi"}], model="claude")


def transcript(*entries: dict[str, Any]) -> bytes:
    head = {"type": "queue-operation", "operation": "enqueue", "content": "hello"}
    return b"".join(json.dumps(e).encode() + b"\n" for e in (head, *entries))


def test_a_prompt_that_claude_does_not_know_goes_under_its_own_id() -> None:
    """As every prompt does at first."""
    assert identity(b"", TURN) == TURN
    assert identity(transcript(prompt("another"), answer("a", "another")), TURN) == TURN


def test_a_prompt_that_nothing_has_answered_goes_under_its_own_id_again() -> None:
    """The CLI runs it."""
    assert identity(transcript(prompt(TURN), note("n", TURN)), TURN) == TURN


def test_a_prompt_that_the_cli_answered_for_the_model_goes_under_another_id() -> None:
    """And under the same other one however often that is asked."""
    told = transcript(prompt(TURN), note("n", TURN), filler("f", "n"))
    again = identity(told, TURN)
    assert again != TURN
    assert identity(told, TURN) == again
    later = transcript(prompt(TURN), filler("f", TURN), prompt(again, "f"), note("n", again))
    assert identity(later, TURN) == again


def test_the_next_id_is_used_up_in_the_same_way() -> None:
    """Whoever is killed four times needs three."""
    told = [prompt(TURN), filler("f0", TURN)]
    ids = [TURN]
    for n in (1, 2):
        ids.append(TurnId(identity(transcript(*told), TURN)))
        told += [prompt(ids[-1], f"f{n - 1}"), filler(f"f{n}", ids[-1])]
    ids.append(TurnId(identity(transcript(*told), TURN)))
    assert len(set(ids)) == 4


def test_a_prompt_that_the_model_answered_is_not_run_again() -> None:
    """Its id is kept, which the CLI drops: whatever else was said before it or after."""
    told = [prompt(TURN), filler("f", TURN), answer("a", "f"), prompt("next", "a"), filler("g", "next")]
    assert identity(transcript(*told), TURN) == TURN


def test_a_tools_result_is_no_prompt() -> None:
    """What follows it answers the prompt that it belongs to."""
    result = entry("user", "r", "f", [{"type": "tool_result", "tool_use_id": "t", "content": ""}])
    told = [prompt(TURN), filler("f", TURN), result, answer("a", "r")]
    assert identity(transcript(*told), TURN) == TURN


def test_a_later_prompts_answer_is_not_this_ones() -> None:
    """Each prompt stands for itself."""
    told = [prompt(TURN), filler("f", TURN), prompt("next", "f"), answer("a", "next")]
    assert identity(transcript(*told), TURN) != TURN


def test_a_line_that_is_no_entry_changes_nothing() -> None:
    """The writer was killed in the middle of it, or is newer than this."""
    told = transcript(prompt(TURN), filler("f", TURN))
    strange = b'[1]\n{"uuid": 7}\n{"uuid": "x", "message": "so"}\n{"type": "user", "uu'
    assert identity(told + strange, TURN) == identity(told, TURN) != TURN
