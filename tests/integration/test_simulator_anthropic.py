"""The official `anthropic` client takes the simulator for the API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anthropic
import httpx2
import pytest
from anthropic import AsyncAnthropic
from anthropic.types import MessageParam, ToolParam

from tests.fakes.simulator import KEY, RunningSimulator

pytestmark = pytest.mark.real

TOOL: ToolParam = {"name": "add", "description": "adds", "input_schema": {"type": "object"}}


@pytest.fixture
async def client(simulator: RunningSimulator) -> AsyncIterator[AsyncAnthropic]:
    async with AsyncAnthropic(api_key=KEY, base_url=simulator.base_url, max_retries=2, timeout=30) as found:
        yield found


def asking(*messages: MessageParam, **more: Any) -> dict[str, Any]:
    return {"model": "claude-x", "max_tokens": 1000, "messages": list(messages), **more}


def user(content: Any) -> MessageParam:
    return {"role": "user", "content": content}


async def test_text_streams_a_word_at_a_time(client: AsyncAnthropic) -> None:
    """And adds up to the final message."""
    async with client.messages.stream(**asking(user('[[sim {"words": 4}]]'))) as stream:
        texts = [text async for text in stream.text_stream]
        final = await stream.get_final_message()
    assert texts == ["w0 ", "w1 ", "w2 ", "w3 "]
    assert (final.content[0].text, final.stop_reason) == ("w0 w1 w2 w3 ", "end_turn")  # type: ignore[union-attr]
    assert (final.model, final.usage.output_tokens > 0) == ("simulated-claude-x", True)


async def test_a_message_without_streaming_is_the_same(client: AsyncAnthropic) -> None:
    """Parsed into the client's own types, with the request's id."""
    message = await client.messages.create(**asking(user("hello")))
    assert message.content[0].text == "You said: hello"  # type: ignore[union-attr]
    assert (message._request_id or "").startswith("req_")


async def test_thinking_is_streamed_and_signed(client: AsyncAnthropic) -> None:
    """A block before the text."""
    prompt = user('[[sim {"thinking": "let me see", "text": "seen"}]]')
    async with client.messages.stream(**asking(prompt)) as stream:
        thoughts = [event.thinking async for event in stream if event.type == "thinking"]
        final = await stream.get_final_message()
    assert thoughts == ["let ", "me ", "see"]
    assert [block.type for block in final.content] == ["thinking", "text"]
    assert final.content[0].signature  # type: ignore[union-attr]


async def test_a_tool_is_asked_for_once_and_its_result_answered(client: AsyncAnthropic) -> None:
    """The round trip, with the client's own blocks sent back."""
    prompt = user('[[sim {"tools": [["add", {"a": 1, "b": [2, "]]"]}]], "text": "three"}]]')
    async with client.messages.stream(**asking(prompt, tools=[TOOL])) as stream:
        asked = await stream.get_final_message()
    (call,) = asked.content
    assert (call.type, asked.stop_reason) == ("tool_use", "tool_use")
    assert (call.name, call.input) == ("add", {"a": 1, "b": [2, "]]"]})  # type: ignore[union-attr]
    result = user([{"type": "tool_result", "tool_use_id": call.id, "content": "3"}])  # type: ignore[union-attr]
    back: MessageParam = {"role": "assistant", "content": asked.content}
    answered = await client.messages.create(**asking(prompt, back, result, tools=[TOOL]))
    assert (answered.content[0].text, answered.stop_reason) == ("three", "end_turn")  # type: ignore[union-attr]


async def test_a_tool_call_left_unanswered_is_refused(client: AsyncAnthropic) -> None:
    """As the API refuses a history that does not add up."""
    use: Any = {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {}}
    with pytest.raises(anthropic.BadRequestError, match="tool_result"):
        await client.messages.create(**asking(user("a"), {"role": "assistant", "content": [use]}, user("b")))


async def test_tokens_are_counted(client: AsyncAnthropic) -> None:
    """More for more."""
    small = await client.messages.count_tokens(model="claude-x", messages=[user("x" * 40)])
    large = await client.messages.count_tokens(model="claude-x", messages=[user("x" * 4000)])
    assert 0 < small.input_tokens < 100 < 1000 <= large.input_tokens


async def test_models_are_listed(client: AsyncAnthropic) -> None:
    """Through the client's own pager."""
    listed = [model.id async for model in client.models.list()]
    assert (await client.models.retrieve(listed[0])).id == listed[0]


async def test_two_overloads_are_retried_by_the_client_itself(
    client: AsyncAnthropic, simulator: RunningSimulator
) -> None:
    """It sees 529 twice and says nothing of it."""
    prompt = user('twice [[sim {"status": 529, "times": 2, "text": "done"}]]')
    message = await client.messages.create(**asking(prompt))
    assert message.content[0].text == "done"  # type: ignore[union-attr]
    assert len(simulator.requests()) == 3


async def test_a_cut_stream_raises(client: AsyncAnthropic) -> None:
    """After the deltas that came before the cut."""
    prompt = user('cut [[sim {"words": 5, "drop_after": 2}]]')
    async with client.messages.stream(**asking(prompt)) as stream:
        texts = stream.text_stream
        assert [await anext(texts), await anext(texts)] == ["w0 ", "w1 "]
        with pytest.raises(httpx2.RemoteProtocolError, match="closed connection"):
            await anext(texts)


async def test_an_error_event_raises_as_an_api_error(client: AsyncAnthropic) -> None:
    """Overloaded in the middle of the answer."""
    prompt = user('[[sim {"words": 5, "error_after": 2}]]')
    with pytest.raises(anthropic.APIStatusError, match="Overloaded"):
        async with client.messages.stream(**asking(prompt)) as stream:
            await stream.get_final_message()


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, anthropic.BadRequestError),
        (401, anthropic.AuthenticationError),
        (403, anthropic.PermissionDeniedError),
        (404, anthropic.NotFoundError),
        (413, anthropic.RequestTooLargeError),
        (429, anthropic.RateLimitError),
        (500, anthropic.InternalServerError),
        (529, anthropic.OverloadedError),
    ],
)
async def test_an_http_error_becomes_the_clients_own(
    client: AsyncAnthropic, status: int, error: type[anthropic.APIStatusError]
) -> None:
    """Each status its class."""
    prompt = user(f'[[sim {{"status": {status}}}]]')
    with pytest.raises(error) as caught:
        await client.with_options(max_retries=0).messages.create(**asking(prompt))
    assert (caught.value.status_code, bool(caught.value.request_id)) == (status, True)
