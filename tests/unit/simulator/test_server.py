"""The simulator over HTTP, without any client's own cleverness."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

import pytest
from aiohttp import ClientPayloadError, ClientResponse, web
from aiohttp.test_utils import TestClient
from pytest_aiohttp.plugin import AiohttpClient

from bridge.simulator import server
from bridge.simulator.server import Simulator

Client = TestClient[web.Request, web.Application]
KEY = {"x-api-key": "any"}


@pytest.fixture
async def client(aiohttp_client: AiohttpClient) -> Client:
    found: Client = await aiohttp_client(Simulator().app(), server_kwargs={"handler_cancellation": True})
    return found


def asking(prompt: str, **more: Any) -> dict[str, Any]:
    return {"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": prompt}], **more}


async def post(client: Client, prompt: str, **more: Any) -> ClientResponse:
    return await client.post("/v1/messages", json=asking(prompt, **more), headers=KEY)


async def deltas(response: ClientResponse) -> list[str]:
    """The texts of a stream until its end, however it ends."""
    lines = []
    cut = []
    try:
        async for line in response.content:
            lines.append(line)  # noqa: PERF401 - what came before the cut counts, too
    except ClientPayloadError:
        cut = ["<cut>"]
    texts = [json.loads(line.removeprefix(b"data: ")) for line in lines if b'"text_delta"' in line]
    return [event["delta"]["text"] for event in texts] + cut


async def read_until(last: bytes, response: ClientResponse) -> None:
    seen = b""
    while last not in seen:
        more = await response.content.readany()
        assert more, f"the stream ended before {last!r}"
        seen += more


async def test_a_message_is_answered_whole(client: Client) -> None:
    """Without `stream`, in one body."""
    response = await post(client, "hello")
    body = await response.json()
    assert (response.status, body["content"]) == (200, [{"type": "text", "text": "You said: hello"}])


async def test_a_message_is_streamed_a_word_at_a_time(client: Client) -> None:
    """With `stream`, as server-sent events; the beta query changes nothing."""
    response = await client.post(
        "/v1/messages?beta=true", json=asking("hello", stream=True), headers={"Authorization": "Bearer any"}
    )
    assert response.content_type == "text/event-stream"
    assert await deltas(response) == ["You ", "said: ", "hello"]


@pytest.mark.parametrize("headers", [{}, {"x-api-key": ""}, {"Authorization": "Bearer "}])
async def test_without_a_key_nothing_is_answered(client: Client, headers: dict[str, str]) -> None:
    """A client that forgot its key must notice here."""
    response = await client.post("/v1/messages", json=asking("hello"), headers=headers)
    assert (response.status, (await response.json())["error"]["type"]) == (401, "authentication_error")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v2/anything", 404), ("POST", "/nowhere", 404), ("GET", "/v1/messages", 405)],
)
async def test_unknown_paths_get_the_apis_error_object(
    client: Client, method: str, path: str, status: int
) -> None:
    """Not the web server's own page."""
    response = await client.request(method, path, headers=KEY)
    body = await response.json()
    assert (response.status, body["type"]) == (status, "error")
    assert body["request_id"] == response.headers["request-id"]


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
async def test_a_body_that_is_not_json_is_refused(client: Client, path: str) -> None:
    """With a 400 that says so."""
    response = await client.post(path, data=b"{", headers=KEY)
    assert (response.status, "JSON" in (await response.json())["error"]["message"]) == (400, True)


async def test_a_malformed_directive_is_a_bad_request(client: Client) -> None:
    """The message says what is wrong with it."""
    response = await post(client, '[[sim {"wrods": 3}]]')
    body = await response.json()
    assert (response.status, body["error"]["type"]) == (400, "invalid_request_error")
    assert "wrods" in body["error"]["message"]


async def test_a_body_beyond_the_apis_limit_is_too_large(
    client: Client, monkeypatch: pytest.MonkeyPatch, aiohttp_client: AiohttpClient
) -> None:
    """413, as the API's own error."""
    monkeypatch.setattr(server, "MAX_BODY_BYTES", 1000)
    small = await aiohttp_client(Simulator().app())
    response = await small.post("/v1/messages", json=asking("x" * 2000), headers=KEY)
    assert (response.status, (await response.json())["error"]["type"]) == (413, "request_too_large")


async def test_a_counted_error_ends(client: Client) -> None:
    """529 twice, then the answer, and retries are invited."""
    responses = [await post(client, '[[sim {"status": 529, "times": 2}]]') for _ in range(3)]
    assert [response.status for response in responses] == [529, 529, 200]
    assert [response.headers.get("x-should-retry") for response in responses] == ["true", "true", None]


async def test_a_cut_comes_after_exactly_so_many_deltas(client: Client) -> None:
    """Every delta before it arrives, the end of the response never does; the next attempt succeeds."""
    prompt = '[[sim {"words": 500, "drop_after": 400}]]'
    cut = await deltas(await post(client, prompt, stream=True))
    assert (len(cut), cut[0], cut[-2:]) == (401, "w0 ", ["w399 \n", "<cut>"])
    assert len(await deltas(await post(client, prompt, stream=True))) == 500


async def test_a_stream_may_end_in_an_error_event(client: Client) -> None:
    """An overload in the middle, as the API reports it."""
    response = await post(client, '[[sim {"words": 5, "error_after": 2}]]', stream=True)
    last = (await response.text()).strip().split("\n\n")[-1]
    assert last.startswith("event: error\n")
    assert "overloaded_error" in last


async def test_a_hanging_stream_sends_its_deltas_and_falls_silent(client: Client) -> None:
    """The connection stays open until the client leaves."""
    response = await post(client, '[[sim {"words": 5, "hang_after": 1}]]', stream=True)
    await read_until(b"w0 ", response)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await response.content.readany()
    response.close()


async def test_a_hanging_stream_can_be_cut(client: Client) -> None:
    """When whoever asked for it has seen enough; those that come later hang until the next cut."""
    prompt = '[[sim {"words": 5, "hang_after": 2}]]'
    for _ in range(2):
        response = await post(client, prompt, stream=True)
        await read_until(b"w1 ", response)
        assert (await client.post("/_sim/cut")).status == 204
        async with asyncio.timeout(5):
            with pytest.raises(ClientPayloadError):
                await response.content.read()


async def test_a_client_that_leaves_ends_its_answer(client: Client) -> None:
    """A hanging stream holds nothing once nobody listens."""
    response = await post(client, '[[sim {"words": 5, "hang_after": 1}]]', stream=True)
    (waiting,) = [task for task in asyncio.all_tasks() if _waits_in(task, "_stream")]
    response.close()
    async with asyncio.timeout(5):
        await asyncio.wait([waiting])
    assert waiting.done()


def _waits_in(task: asyncio.Task[Any], function: str) -> bool:
    step: Any = task.get_coro()
    while step is not None:
        if getattr(step, "__name__", "") == function:
            return True
        step = getattr(step, "cr_await", None)
    return False


async def test_pauses_are_kept(client: Client) -> None:
    """Before the first byte once, and between deltas, not before the first of them."""
    clock = asyncio.get_running_loop().time
    begun = clock()
    response = await post(client, '[[sim {"words": 3, "first_ms": 100, "gap_ms": 50}]]', stream=True)
    first = clock() - begun
    await deltas(response)
    assert first >= 0.1
    assert 0.2 <= clock() - begun < 2


async def test_tokens_are_counted(client: Client) -> None:
    """Without `max_tokens`, which the API does not ask for here."""
    body = {"model": "m", "messages": [{"role": "user", "content": "x" * 400}]}
    response = await client.post("/v1/messages/count_tokens", json=body, headers=KEY)
    assert 100 <= (await response.json())["input_tokens"] < 150


async def test_models_are_listed_and_looked_up(client: Client) -> None:
    """Any name is served, as messages are for any model."""
    listed = await (await client.get("/v1/models", headers=KEY)).json()
    one = await (await client.get("/v1/models/claude-x", headers=KEY)).json()
    assert (listed["data"][0]["type"], one["id"]) == ("model", "claude-x")


@pytest.mark.parametrize("path", ["/", "/healthz", "/api/hello"])
async def test_it_says_that_it_lives(client: Client, path: str) -> None:
    """Without a key; the CLI's TUI asks with HEAD."""
    assert (await client.head(path)).status == 200
    assert (await (await client.get(path)).json())["status"] == "ok"


async def test_requests_are_recorded_until_they_are_forgotten(client: Client) -> None:
    """For tests that want to see what reached the model."""
    await post(client, "hello", tools=[{"name": "Bash"}])
    recorded = (await (await client.get("/_sim/requests")).json())["requests"]
    assert [(r["path"], r["model"], r["tools"]) for r in recorded] == [("/v1/messages", "m", ["Bash"])]
    assert recorded[0]["messages"] == [{"role": "user", "content": "hello"}]
    await client.delete("/_sim/requests")
    assert (await (await client.get("/_sim/requests")).json())["requests"] == []


async def test_a_reader_of_the_record_goes_on_where_it_was(client: Client) -> None:
    """Requests are numbered from 1 on, whatever the record has forgotten since."""
    for number in range(3):
        await post(client, f"{number}")
    later = (await (await client.get("/_sim/requests?after=1")).json())["requests"]
    assert [(r["number"], r["messages"][0]["content"]) for r in later] == [(2, "1"), (3, "2")]
    await client.delete("/_sim/requests")
    await post(client, "3")
    later = (await (await client.get("/_sim/requests?after=3")).json())["requests"]
    assert [(r["number"], r["messages"][0]["content"]) for r in later] == [(4, "3")]
    assert (await client.get("/_sim/requests?after=x")).status == 400


@pytest.mark.parametrize(("limit", "value"), [("RECORDED_REQUESTS", 2), ("RECORDED_BYTES", 200)])
async def test_the_record_is_bounded(
    client: Client, monkeypatch: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    """By number and by size; the oldest go first."""
    monkeypatch.setattr(server, limit, value)
    for number in range(5):
        await post(client, f"{number}")
    recorded = (await (await client.get("/_sim/requests")).json())["requests"]
    assert [r["messages"][0]["content"] for r in recorded] == ["3", "4"]


async def test_small_events_are_not_held_back(client: Client) -> None:
    """Nagle's algorithm would add up to 40 ms to a delta."""
    seen = []

    async def look(request: web.Request, response: web.StreamResponse) -> None:
        assert request.transport is not None
        found = request.transport.get_extra_info("socket")
        seen.append(found.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    app = Simulator().app()
    app.on_response_prepare.append(look)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        await client.session.get(f"http://127.0.0.1:{runner.addresses[0][1]}/healthz")
    finally:
        await runner.cleanup()
    assert seen
    assert all(seen)
