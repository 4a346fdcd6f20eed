"""The API's own words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bridge.simulator.messages import (
    Answer,
    Block,
    Usage,
    count_tokens,
    error_body,
    text_block,
    thinking_block,
    tool_block,
    usage_of,
)

USAGE = Usage(10, 20, 30, 40)


def answer(*blocks: Block, model: str = "claude-x") -> Answer:
    return Answer("msg_1", model, blocks, "end_turn", USAGE)


def events(said: Answer) -> list[dict[str, Any]]:
    """The stream's data, after checking that each event is named like its type."""
    found = []
    for raw, _ in said.events():
        name, data = raw.decode().removesuffix("\n\n").split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


def test_a_stream_is_framed_as_the_api_frames_it() -> None:
    """Start, blocks, the reason it stopped, stop."""
    assert [event["type"] for event in events(answer(text_block(["a ", "b"])))] == [
        "message_start",
        "content_block_start",
        "ping",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]


def test_every_message_says_that_it_is_simulated() -> None:
    """Through its model, streamed or not, and only once."""
    assert answer().as_json()["model"] == "simulated-claude-x"
    assert events(answer())[0]["message"]["model"] == "simulated-claude-x"
    assert answer(model="simulated-claude-x").as_json()["model"] == "simulated-claude-x"


def test_thinking_is_signed_after_its_last_delta() -> None:
    """As the API does it; the signature of the stream is that of the whole message."""
    said = answer(thinking_block(["hm ", "so"]))
    deltas = [event["delta"] for event in events(said) if event["type"] == "content_block_delta"]
    assert [delta["type"] for delta in deltas] == ["thinking_delta", "thinking_delta", "signature_delta"]
    assert deltas[-1]["signature"] == said.as_json()["content"][0]["signature"]


def test_a_tools_input_is_streamed_as_pieces_of_json() -> None:
    """Beginning with an empty one; together they are the input."""
    wanted = {"command": "echo 'ä' | wc -c", "n": [1, {"b": None}]}
    said = events(answer(tool_block("toolu_1", "Bash", wanted)))
    parts = [event["delta"]["partial_json"] for event in said if event["type"] == "content_block_delta"]
    assert parts[0] == ""
    assert len(parts) > 2
    assert json.loads("".join(parts)) == wanted
    assert said[1]["content_block"] == {"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {}}


def test_only_deltas_of_blocks_are_counted_as_deltas() -> None:
    """A cut after two deltas means two pieces of text."""
    said = answer(thinking_block(["a"]), text_block(["b", "c"]))
    assert [is_delta for _, is_delta in said.events()].count(True) == 3


def test_the_whole_message_carries_the_same_blocks() -> None:
    """A client that does not stream sees no difference."""
    body = answer(text_block(["a ", "b"]), tool_block("toolu_1", "Read", {"p": 1})).as_json()
    assert body["content"] == [
        {"type": "text", "text": "a b"},
        {"type": "tool_use", "id": "toolu_1", "name": "Read", "input": {"p": 1}},
    ]
    assert body["usage"]["output_tokens"] == 40


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (413, "request_too_large"),
        (418, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (503, "api_error"),
        (529, "overloaded_error"),
    ],
)
def test_an_error_has_the_apis_type_for_its_status(status: int, kind: str) -> None:
    """Clients tell errors apart by it."""
    body = error_body(status, "req_1")
    assert (body["type"], body["error"]["type"], body["request_id"]) == ("error", kind, "req_1")
    assert body["error"]["message"]


def test_tokens_grow_with_what_is_sent() -> None:
    """About four characters each, tools and system prompt included."""
    small = {"messages": [{"role": "user", "content": "hi"}]}
    large = {"messages": [{"role": "user", "content": "x" * 4000}]}
    assert 0 < count_tokens(small) < 1000 <= count_tokens(large) < 1100
    assert count_tokens({**small, "system": "x" * 4000}) > 1000


def marked(text: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}]


def test_caching_is_written_on_the_first_turn_and_read_afterwards() -> None:
    """All input together is what was sent."""
    first: dict[str, Any] = {"system": marked("x" * 4000), "messages": [{"role": "user", "content": "hi"}]}
    more = [*first["messages"], {"role": "assistant", "content": "ho"}, {"role": "user", "content": "again"}]
    cold, warm = usage_of(first, []), usage_of({**first, "messages": more}, [])
    assert (cold.cache_created > 900, cold.cache_read) == (True, 0)
    assert (warm.cache_created, warm.cache_read > 900) == (0, True)
    assert warm.input + warm.cache_read == count_tokens({**first, "messages": more})


def test_without_caching_all_input_is_fresh() -> None:
    """Nobody asked for more."""
    usage = usage_of({"messages": [{"role": "user", "content": "x" * 400}]}, [text_block(["y" * 80])])
    assert (usage.cache_created, usage.cache_read, usage.output) == (0, 0, 20)
    assert usage.input >= 100
