"""What the API refuses in a request before any model sees it, in the API's manner of saying so. Pure.

Only what a client of ours could get wrong and the real API would refuse: a bridge that passes here must
not fail there.
"""

from __future__ import annotations

from itertools import groupby
from typing import Any

from bridge.simulator.script import blocks_of

Json = dict[str, Any]

ROLES = ("user", "assistant", "system")
"""`system` between the others is a beta of the API that Claude Code 2.1.330 uses.
After `/compact` it is empty."""


def problem(request: Any, *, counting: bool = False) -> str | None:
    """Why the API would refuse this body with a 400, or None. `counting`: no `max_tokens` is needed."""
    if not isinstance(request, dict):
        return "The request body is not a JSON object."
    model, messages = request.get("model"), request.get("messages")
    if not isinstance(model, str) or not model:
        return "model: Field required" if model is None else "model: Input should be a valid string"
    if not counting:
        limit = request.get("max_tokens")
        if not isinstance(limit, int) or isinstance(limit, bool):
            return (
                "max_tokens: Field required"
                if limit is None
                else "max_tokens: Input should be a valid integer"
            )
        if limit < 1:
            return "max_tokens: Input should be greater than or equal to 1"
    if not isinstance(messages, list):
        return "messages: Field required" if messages is None else "messages: Input should be a valid list"
    if not messages:
        return "messages: at least one message is required"
    for index, message in enumerate(messages):
        found = _problem_of(message, last=index == len(messages) - 1)
        if found:
            return f"messages.{index}{found}"
    return _unpaired_tools(messages)


def _problem_of(message: Any, *, last: bool) -> str | None:
    if not isinstance(message, dict):
        return ": Input should be an object"
    role, content = message.get("role"), message.get("content")
    if role not in ROLES:
        return f".role: Unexpected role {role!r}; it must be 'user' or 'assistant'"
    if not isinstance(content, str | list):
        return ".content: Field required" if content is None else ".content: Input should be a valid list"
    if not content and role != "system" and not (last and role == "assistant"):
        return ": all messages must have non-empty content except for the optional final assistant message"
    if isinstance(content, str):
        return None
    for index, block in enumerate(content):
        if not isinstance(block, dict) or not isinstance(block.get("type"), str):
            return f".content.{index}.type: Field required"
        if block["type"] == "text":
            if not isinstance(block.get("text"), str):
                return f".content.{index}.text.text: Field required"
            if not block["text"]:
                return f".content.{index}: text content blocks must be non-empty"
    return None


def _unpaired_tools(messages: list[Json]) -> str | None:
    """Every `tool_use` is answered in the very next turn, and nothing else is answered.

    Adjacent messages of one role are one turn, as the API itself takes them.
    """
    asked: list[str] = []
    spoken = [message for message in messages if message["role"] != "system"]
    for _, turn in groupby(spoken, key=lambda message: str(message["role"])):
        blocks = [block for message in turn for block in blocks_of(message)]
        answered = {str(block.get("tool_use_id")) for block in blocks if block["type"] == "tool_result"}
        missing = [tool for tool in asked if tool not in answered]
        if missing:
            return _without_result(missing)
        stray = answered.difference(asked)
        if stray:
            return (
                "messages: unexpected `tool_use_id` found in `tool_result` blocks: "
                f"{', '.join(sorted(stray))}. "
                "Each `tool_result` block must have a corresponding `tool_use` block in the previous message."
            )
        asked = [str(block.get("id")) for block in blocks if block["type"] == "tool_use"]
    return _without_result(asked) if asked else None


def _without_result(tools: list[str]) -> str:
    return (
        "messages: `tool_use` ids were found without `tool_result` blocks immediately after: "
        f"{', '.join(tools)}. Each `tool_use` block must have a corresponding `tool_result` block "
        "in the next message."
    )
