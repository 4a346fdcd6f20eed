"""The document that a session's history becomes."""

from __future__ import annotations

from typing import Any

from bridge.export import markdown

SESSION = {
    "name": "demo", "backend": "tmux", "model": "opus", "cwd": "/home/ann", "conversation": "c-1",
    "turns": 2, "cost_usd": 0.1234,
}  # fmt: skip


def turn(**more: Any) -> dict[str, Any]:
    return {
        "id": "t1", "prompt": "hello", "author": "ann", "source": "client", "status": "completed",
        "text": "Hi.", "blocks": [{"block": 0, "kind": "text", "text": "Hi."}],
        "queued_at": "2026-01-01T00:00:00.000Z", "started_at": "2026-01-01T00:00:01.000Z", **more,
    }  # fmt: skip


def test_who_asked_what_and_what_was_said() -> None:
    """The answer as it stands, the prompt as a quotation."""
    said = markdown(SESSION, [turn(prompt="# Not a heading\n\nof ours")])
    assert said == (
        "# demo\n\n"
        "- backend: tmux\n- model: opus\n- folder: /home/ann\n- conversation: c-1\n- turns: 2\n"
        "- cost: $0.1234\n\n"
        "## ann, 2026-01-01T00:00:01.000Z\n\n"
        "> # Not a heading\n>\n> of ours\n\n"
        "Hi.\n"
    )


def test_a_turn_of_the_terminals_and_one_that_was_never_begun() -> None:
    """Nobody's name, and no time but that of the queue."""
    cancelled = turn(author=None, source="client", status="cancelled", text="", blocks=[], started_at=None)
    said = markdown(SESSION, [turn(author=None, source="terminal"), cancelled])
    assert "## the terminal, 2026-01-01T00:00:01.000Z" in said
    assert "## a client, 2026-01-01T00:00:00.000Z\n\n> hello\n\n*cancelled*\n" in said


def test_tools_stand_in_fences_that_nothing_in_them_ends() -> None:
    """What it was given, what it said, that it failed."""
    block = {
        "block": 0, "kind": "tool", "name": "Bash", "input": {"command": "cat README"},
        "output": "```\ncode\n````\n", "is_error": True, "truncated": True,
    }  # fmt: skip
    said = markdown(SESSION, [turn(blocks=[block, {**block, "output": None, "is_error": False}])])
    assert "<summary>Bash, which failed</summary>" in said
    assert "`````\n```\ncode\n````\n`````" in said
    assert "(cut; the bridge has all of it)" in said
    assert "<summary>Bash</summary>" in said
    assert "(no result)" in said
    assert said.endswith("Hi.\n"), "the text has no block of its own here"


def test_thinking_is_folded_and_a_sub_agents_words_are_left_out() -> None:
    blocks = [
        {"block": 0, "kind": "thinking", "text": "Hm."},
        {"block": 1, "kind": "text", "text": "inside", "parent": "tool"},
        {"block": 2, "kind": "text", "text": "Hi."},
    ]
    said = markdown(SESSION, [turn(blocks=blocks)])
    assert "<details><summary>Thinking</summary>\n\nHm.\n\n</details>\n\nHi.\n" in said
    assert "inside" not in said


def test_how_a_turn_ended_that_did_not_complete() -> None:
    failed = turn(status="failed", text="", blocks=[], error={"code": "overloaded", "message": "try later"})
    assert markdown(SESSION, [failed]).endswith("\n*failed: try later*\n")
