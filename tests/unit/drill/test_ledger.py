"""Which prompt a request to the model is for."""

from __future__ import annotations

from bridge.drill.ledger import asked_now
from bridge.sessions.backends.api_history import Said, messages


def test_a_prompt_that_was_interrupted_is_not_asked_again_with_the_next_one() -> None:
    """Both stand in one message."""
    told = messages([Said("one", "yes"), Said("two", ""), Said("three", "")], "four")
    assert told[-1]["role"] == "user"
    assert len(told[-1]["content"]) > 1
    assert asked_now({"messages": told}) == ["four"]


def test_what_the_cli_adds_belongs_to_the_prompt() -> None:
    said = [{"type": "text", "text": text} for text in ("a reminder", "the prompt")]
    assert asked_now({"messages": [{"role": "user", "content": said}]}) == ["a reminder", "the prompt"]
    assert asked_now({"messages": [{"role": "user", "content": "the prompt"}]}) == ["the prompt"]
