"""What the API refuses."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.simulator.validation import problem

USE = {"type": "tool_use", "id": "t1", "name": "Bash", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "t1", "content": "ok"}


def user(*content: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(content)}


def assistant(*content: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(content)}


def request(*messages: Any, **more: Any) -> dict[str, Any]:
    return {"model": "m", "max_tokens": 1, "messages": list(messages), **more}


GO = user({"type": "text", "text": "go"})


@pytest.mark.parametrize(
    "good",
    [
        request({"role": "user", "content": "hello"}),
        request(GO, assistant(USE), user(RESULT)),
        request(GO, assistant(USE), {"role": "system", "content": "note"}, user(RESULT)),
        request(
            GO,
            assistant(USE),
            assistant({**USE, "id": "t2"}),
            user({**RESULT, "tool_use_id": "t2"}),
            user(RESULT),
        ),
        request(GO, assistant()),
        request(GO, {"role": "system", "content": []}, assistant({"type": "text", "text": "a"}), GO),
    ],
)
def test_what_the_api_takes_is_taken(good: dict[str, Any]) -> None:
    """Also in the shapes that Claude Code uses."""
    assert problem(good) is None


@pytest.mark.parametrize(
    ("bad", "what"),
    [
        ([], "not a JSON object"),
        ({"max_tokens": 1, "messages": [GO]}, "model: Field required"),
        ({"model": "m", "messages": [GO]}, "max_tokens: Field required"),
        (request(GO, max_tokens=0), "max_tokens"),
        (request(GO, max_tokens="1"), "max_tokens"),
        ({"model": "m", "max_tokens": 1}, "messages: Field required"),
        (request(), "at least one message"),
        (request("hello"), "messages.0"),
        (request({"role": "human", "content": "hello"}), "human"),
        (request({"role": "user"}), "messages.0.content"),
        (request({"role": "user", "content": ""}), "non-empty"),
        (request(user({"type": "text", "text": ""})), "non-empty"),
        (request(user({"text": "a"})), "messages.0.content.0.type"),
        (request(user({"type": "text"})), "messages.0.content.0.text"),
        (request(GO, assistant(USE), GO), "without `tool_result`"),
        (request(GO, assistant(USE)), "without `tool_result`"),
        (request(GO, user(RESULT)), "unexpected `tool_use_id`"),
    ],
)
def test_what_the_api_refuses_is_refused_with_the_reason(bad: Any, what: str) -> None:
    """In the API's manner, naming the field."""
    assert what in (problem(bad) or "")


def test_counting_tokens_needs_no_limit() -> None:
    """There is nothing to generate."""
    assert problem({"model": "m", "messages": [GO]}, counting=True) is None
