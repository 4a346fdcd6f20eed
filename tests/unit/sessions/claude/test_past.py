"""The turns of a conversation from outside, out of transcripts that the real CLI (2.1.330) wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bridge.events import Block, ToolBlock, Turn
from bridge.sessions.claude.past import PastReader
from tests.unit.sessions.claude.test_transcript import answer, entry, prompt

GOLDEN = Path(__file__).parents[3] / "golden" / "transcripts"


def read(data: bytes, most_turns: int = 1000, most_chars: int = 1 << 30) -> tuple[Turn, ...]:
    reader = PastReader(most_turns, most_chars)
    for line in data.splitlines(keepends=True):
        reader.take(line)
    return reader.turns()


def golden(name: str) -> bytes:
    return (GOLDEN / f"{name}.jsonl").read_bytes()


def written(*entries: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(e).encode() + b"\n" for e in entries)


def outline(turns: tuple[Turn, ...]) -> list[tuple[str, str, str]]:
    return [(turn.prompt.partition(" [[")[0], turn.status, turn.text[:20]) for turn in turns]


def test_a_headless_conversation() -> None:
    """Tools with their outputs, an interrupt, a refusal of the API, and what followed."""
    turns = read(golden("headless"))
    assert outline(turns) == [
        ("one", "completed", "You said: one"),
        ("two", "interrupted", ""),
        ("three", "failed", ""),
        ("four", "completed", "You said: four"),
        ("five", "completed", "w0 w1 w2 w3 w4 w5 w6"),
        ("six", "completed", "You said: six"),
    ]
    thought, wrote, denied = turns[1].blocks
    assert isinstance(thought, Block)
    assert isinstance(wrote, ToolBlock)
    assert isinstance(denied, ToolBlock)
    assert (thought.kind, thought.text, [b.block for b in turns[1].blocks]) == ("thinking", "hm", [0, 1, 2])
    assert (wrote.name, wrote.is_error, wrote.output is not None) == ("Write", False, True)
    assert (denied.name, denied.is_error) == ("Read", True)
    assert turns[2].error is not None
    assert (turns[2].error.code, turns[2].error.status) == ("invalid_request", 400)
    assert turns[0].usage is not None
    assert turns[0].usage.output_tokens > 0
    assert all(t.source == "terminal" and t.author is None and t.cost_usd is None for t in turns)
    times = [at for t in turns for at in (t.started_at, t.finished_at)]
    assert times == sorted(times, key=lambda at: at or 0.0)
    assert all(t.queued_at > 1_700_000_000 for t in turns)


def test_turns_that_claude_began_by_itself() -> None:
    """They have no prompt; what a sub-agent said is in a file of its own, and its result is the tool's."""
    turns = read(golden("by_itself"))
    assert [t.prompt.partition(" ")[0] for t in turns] == ["alpha", "beta", "gamma", "delta", "", "epsilon"]
    assert {t.status for t in turns} == {"completed"}
    assert [b.kind for b in turns[1].blocks] == ["thinking", "tool", "tool", "text"]
    outputs = [b.output for b in turns[1].blocks if isinstance(b, ToolBlock)]
    assert outputs == ["one", "two"]


def test_what_claude_says_when_an_agent_is_done_is_of_the_same_turn() -> None:
    """The CLI begins it by itself as well; but where the turn was interrupted before, it is another."""
    turns = read(golden("agents"))
    assert [t.prompt.partition(" ")[0] for t in turns] == ["alpha", "beta", "gamma"]
    assert [b.text for b in turns[1].blocks if isinstance(b, Block)] == ["It works.", "It works."]
    assert turns[1].status == "completed"
    lines = golden("agents").splitlines(keepends=True)
    told = next(n for n, line in enumerate(lines) if b'"task-notification"' in line)

    def prompts(kind: str) -> list[str]:
        words = written(entry(kind, "x", turns[1].id, "[Request interrupted by user]"))
        again = read(b"".join([*lines[:told], words, *lines[told:]]))
        return [t.prompt.partition(" ")[0] for t in again]

    assert prompts("user") == ["alpha", "beta", "", "gamma"]
    assert prompts("assistant") == ["alpha", "beta", "gamma"], "Claude's own words interrupt nothing"


def test_a_tui_conversation_with_commands_and_a_compaction() -> None:
    """The summary is nobody's prompt; what went before it stays in the history."""
    turns = read(golden("tui"))
    assert outline(turns) == [
        ("alpha", "completed", "You said: alpha"),
        ("/compact", "completed", "Compacted (ctrl+o to"),
        ("beta", "completed", "You said: beta"),
        ("!echo hi", "completed", "You said: beta"),
        ("gamma", "completed", "You said: gamma"),
    ]


def test_a_tui_conversation_that_was_broken_into() -> None:
    """The same prompts as of the headless one, and the same told of them."""
    assert outline(read(golden("tui_interrupted"))) == outline(read(golden("headless")))


def test_only_the_branch_that_goes_on_is_taken() -> None:
    """A person went back and asked something else."""
    told = written(
        prompt("a"), answer("A", "a"), prompt("b", "A"), answer("B", "b"), prompt("c", "A"), answer("C", "c")
    )
    assert [t.id for t in read(told)] == ["a", "c"]


def test_a_gap_does_not_cut_the_history_off() -> None:
    """The entry that ties two turns together cannot be read."""
    told = written(prompt("a"), answer("A", "a")) + b'{"type":"assistant","uuid":"X\n'
    assert [t.id for t in read(told + written(prompt("b", "X"), answer("B", "b")))] == ["a", "b"]


def test_the_oldest_turns_go_where_there_are_too_many() -> None:
    """By number, or by what they take; the newest one stays whatever its size."""
    assert [t.prompt for t in read(golden("by_itself"), most_turns=2)] == ["", "epsilon"]
    assert [t.prompt for t in read(golden("by_itself"), most_chars=1)] == ["epsilon"]


def test_a_prompt_nothing_came_of_is_no_completed_turn() -> None:
    """Nobody can tell how it ended."""
    assert [(t.id, t.status) for t in read(written(prompt("a")))] == [("a", "unknown")]


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
KEYS = ("type", "uuid", "parentUuid", "message", "timestamp", "isMeta", "origin", "promptSource", "subtype")
CONTENT = ("role", "content", "model", "id", "usage", "stop_reason")
ENTRIES = st.fixed_dictionaries(
    {"type": st.sampled_from(["user", "assistant", "system"]), "uuid": st.sampled_from("abcd")},
    optional={
        **dict.fromkeys(KEYS[2:], ODD),
        "message": ODD | st.fixed_dictionaries({}, optional=dict.fromkeys(CONTENT, ODD)),
    },
)


@given(st.lists(ENTRIES | ODD, max_size=12), st.data())
def test_whatever_stands_there_is_read(entries: list[Any], data: st.DataObject) -> None:
    """Known keys with values of any shape, cut anywhere: what cannot be understood is skipped."""
    told = b"".join(json.dumps(e).encode() + b"\n" for e in entries)
    turns = read(told[data.draw(st.integers(0, len(told))) :])
    assert len({t.id for t in turns}) == len(turns)


@given(st.integers(0, 20_000), st.integers(1, 4000))
def test_a_damaged_place_costs_no_more_than_the_turns_around_it(at: int, length: int) -> None:
    """Bytes in the middle are overwritten."""
    whole = golden("by_itself")
    damaged = whole[:at] + b"\0" * length + whole[at + length :]
    known = {t.id for t in read(whole)}
    lost = known - {t.id for t in read(damaged)}
    starts = [whole.index(f'"uuid":"{t}"'.encode()) for t in lost]
    assert all(at - 4000 < start < at + length + 4000 for start in starts)


def test_the_entry_helper_is_what_the_cli_writes() -> None:
    """The abridged entries of these tests have the shape of real ones."""
    assert set(entry("user", "a", None)) <= set(json.loads(golden("tui").splitlines()[4]))
