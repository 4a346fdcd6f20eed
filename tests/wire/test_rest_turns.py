"""Turns over REST: submitted, waited for, followed, read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from bridge.auth import ADMIN, Principal
from bridge.errors import TurnNotFound
from bridge.events import Block, DeltaAdded, ToolBlock
from tests.fakes.phoenix import PhoenixServer
from tests.fakes.rest import PATIENCE_S, RestClient, until
from tests.fakes.service import WATCH_TOKEN

SESSION = "/api/sessions/a"
TURNS = f"{SESSION}/turns"


@pytest.fixture
async def rest(server: PhoenixServer) -> AsyncIterator[RestClient]:
    async with RestClient(server.http).open() as client:
        yield client


async def until_followed(server: PhoenixServer) -> None:
    """Somebody waits for something of session `a`."""
    await until(lambda: server.hub.topic("session:a").viewers)


async def test_a_prompt_is_answered_with_its_turn(rest: RestClient) -> None:
    """202: it was taken, and goes on."""
    answer = await rest.post(TURNS, {"prompt": "open", "id": "my-key"})
    assert answer.status == 202
    assert answer.headers["Location"] == f"{TURNS}/turn-1"
    turn = answer.body
    assert (turn["id"], turn["key"], turn["prompt"], turn["status"]) == (
        "turn-1",
        "my-key",
        "open",
        "running",
    )
    assert (turn["position"], turn["text"], "duplicate" in turn) == (0, "so", False)


async def test_the_same_key_again_is_the_same_turn(rest: RestClient, server: PhoenixServer) -> None:
    """Running or finished; nothing runs twice."""
    await rest.post(TURNS, {"prompt": "open", "id": "k"})
    again = await rest.post(TURNS, {"prompt": "open", "id": "k"})
    assert (again.body["id"], again.body["status"], again.body["duplicate"]) == ("turn-1", "running", True)
    server.service.finish("a")
    once_more = await rest.post(f"{TURNS}?wait=5", {"prompt": "open", "id": "k"})
    assert (once_more.status, once_more.body["status"], once_more.body["text"]) == (
        200,
        "completed",
        "so far",
    )
    assert len(server.service.sessions["a"].turns) == 1


async def test_a_turn_of_a_key_that_is_not_kept_any_more_is_still_known(
    rest: RestClient, server: PhoenixServer
) -> None:
    """The prompt was answered once: "not found" would make the caller ask again."""
    await rest.post(TURNS, {"prompt": "x", "id": "k"})

    async def pruned(*_: object) -> None:
        raise TurnNotFound("turn-1")

    server.service.turn = pruned  # type: ignore[assignment, method-assign]
    again = await rest.post(TURNS, {"prompt": "x", "id": "k"})
    assert (again.status, again.body["id"], again.body["status"]) == (202, "turn-1", "completed")
    assert (again.body["duplicate"], again.body["queued_at"], again.body["key"]) == (True, None, "k")


async def test_who_waits_gets_the_finished_turn(rest: RestClient, server: PhoenixServer) -> None:
    """200, as soon as it has ended."""
    async with asyncio.TaskGroup() as tasks:
        asked = tasks.create_task(rest.post(f"{TURNS}?wait=60", {"prompt": "open"}))
        await until_followed(server)
        await until(lambda: server.service.sessions["a"].turns)
        server.service.finish("a")
    answer = asked.result()
    assert (answer.status, answer.body["status"], answer.body["text"]) == (200, "completed", "so far")
    assert server.hub.topic("session:a").viewers == 0, "nothing of it is left"


async def test_a_turn_that_ends_within_its_submit_is_not_waited_for(rest: RestClient) -> None:
    """Its end was there before anybody could wait for it."""
    answer = await asyncio.wait_for(rest.post(f"{TURNS}?wait=60", {"prompt": "words 3"}), PATIENCE_S)
    assert (answer.status, answer.body["text"]) == (200, "w0 w1 w2")


async def test_when_the_time_is_up_the_open_turn_is_the_answer(rest: RestClient) -> None:
    """202, and it goes on."""
    answer = await rest.post(f"{TURNS}?wait=0.05", {"prompt": "open"})
    assert (answer.status, answer.body["status"]) == (202, "running")


async def test_the_end_of_another_turn_is_not_this_ones(rest: RestClient, server: PhoenixServer) -> None:
    """Who waits goes on waiting."""
    await rest.post(TURNS, {"prompt": "open"})
    async with asyncio.TaskGroup() as tasks:
        asked = tasks.create_task(rest.get(f"{TURNS}/turn-1?wait=60"))
        await until_followed(server)
        await rest.post(TURNS, {"prompt": "words 2"})
        assert not asked.done()
        turns = server.service.sessions["a"].turns
        turns.append(turns.pop(0))
        server.service.finish("a")
    assert asked.result().body["text"] == "so far"


async def test_a_deleted_session_ends_the_wait(rest: RestClient, server: PhoenixServer) -> None:
    """There is nothing to wait for."""
    await rest.post(TURNS, {"prompt": "open"})
    async with asyncio.TaskGroup() as tasks:
        asked = tasks.create_task(rest.get(f"{TURNS}/turn-1?wait=60"))
        await until_followed(server)
        await rest.delete(SESSION)
    assert asked.result().reason == "session_not_found"


async def test_a_token_that_is_taken_back_ends_the_wait(rest: RestClient, server: PhoenixServer) -> None:
    """It is told nothing any more."""
    await rest.post(TURNS, {"prompt": "open"})
    async with asyncio.TaskGroup() as tasks:
        asked = tasks.create_task(rest.get(f"{TURNS}/turn-1?wait=60"))
        await until_followed(server)
        server.service.connections.end(Principal("owner", ADMIN))
    assert asked.result().reason == "unauthorized"


async def test_a_stop_of_the_bridge_answers_who_waits(rest: RestClient, server: PhoenixServer) -> None:
    """With the turn as it is; the prompt is not lost."""
    async with asyncio.TaskGroup() as tasks:
        asked = tasks.create_task(rest.post(f"{TURNS}?wait=60", {"prompt": "open"}))
        await until_followed(server)
        await until(lambda: server.service.sessions["a"].turns)
        await asyncio.wait_for(server.runner.cleanup(), PATIENCE_S)
    assert (asked.result().status, asked.result().body["status"]) == (202, "running")


async def test_waiting_needs_the_scope_to_read(rest: RestClient, server: PhoenixServer) -> None:
    """Refused before the prompt is taken; without it the prompt is taken, and the answer is what was said."""
    server.service.allow("asker", Principal("asker", frozenset({"prompt"})))
    rest.token = "asker"
    refused = await rest.post(f"{TURNS}?wait=5", {"prompt": "words 2"})
    assert (refused.reason, refused.body["scope"]) == ("forbidden", "watch")
    assert server.service.sessions["a"].turns == []
    answer = await rest.post(TURNS, {"prompt": "words 2"})
    assert (answer.status, answer.body["id"], answer.body["text"]) == (202, "turn-1", "")
    assert answer.body["author"] == "asker"


# --- reading --------------------------------------------------------------------------------------


async def test_a_turn_is_read_with_its_tools_whole_output(rest: RestClient, server: PhoenixServer) -> None:
    """What a list, and every event, cuts at 64 KiB."""
    await rest.post(TURNS, {"prompt": "x"})
    turns = server.service.sessions["a"].turns
    turns[0] = replace(turns[0], blocks=(ToolBlock(0, "toolu_1", "Read", {}, "x" * 100_000),))
    whole = (await rest.get(f"{TURNS}/turn-1")).body["blocks"][0]
    assert (len(whole["output"]), whole["truncated"]) == (100_000, False)
    listed = (await rest.get(TURNS)).body["turns"][0]["blocks"][0]
    assert (len(listed["output"]), listed["truncated"]) == (65_536, True)


async def test_a_turn_that_is_not_there_is_not_found(rest: RestClient) -> None:
    """By its code; a token that may only look may ask."""
    rest.token = WATCH_TOKEN
    answer = await rest.get(f"{TURNS}/none")
    assert (answer.status, answer.reason, answer.body["turn"]) == (404, "turn_not_found", "none")


async def test_the_history_is_asked_for_in_pages(rest: RestClient) -> None:
    """`limit` and `before` are those of the channels."""
    for n in range(3):
        await rest.post(TURNS, {"prompt": f"words {n + 1}"})
    answer = await rest.get(f"{TURNS}?limit=2")
    assert [t["prompt"] for t in answer.body["turns"]] == ["words 2", "words 3"]
    assert (await rest.get(f"{TURNS}?before=none")).reason == "turn_not_found"


# --- as a stream ----------------------------------------------------------------------------------


async def test_a_prompt_is_followed_until_its_turn_ends(rest: RestClient, server: PhoenixServer) -> None:
    """That turn's events, with their numbers, and nothing of another."""
    await rest.post(TURNS, {"prompt": "open"})
    source = rest.source(TURNS)
    async with source.connected("POST", json={"prompt": "words 3"}):
        assert source.response.headers["Content-Type"] == "text/event-stream"
        told = await source.end()
    assert [t.event for t in told] == [
        *("submitted", "turn_started", "delta", "delta", "delta", "block", "turn_finished"),
    ]
    assert told[0].data == {"turn": "turn-2", "status": "running", "position": 0}
    assert {t.data["turn"] for t in told} == {"turn-2"}
    assert [t.id for t in told[1:]] == [f"e1:{t.data['seq']}" for t in told[1:]]
    assert server.hub.topic("session:a").viewers == 0


async def test_a_stream_of_a_key_that_was_used_before_goes_on_where_it_is(
    rest: RestClient, server: PhoenixServer
) -> None:
    """The text so far, then what follows: together the whole, and nothing twice."""
    await rest.post(TURNS, {"prompt": "open", "id": "k"})
    source = rest.source(TURNS)
    async with source.connected("POST", json={"prompt": "open", "id": "k"}):
        submitted = await source.next()
        assert submitted.data["duplicate"] is True
        assert submitted.data["open_turn"]["blocks"] == [{"block": 0, "kind": "text", "text": "so "}]
        server.service.finish("a")
        assert [t.event for t in await source.end()] == ["delta", "block", "turn_finished"]


async def test_what_happens_while_a_turn_is_looked_up_is_told_once(
    rest: RestClient, server: PhoenixServer
) -> None:
    """It is in the text so far, and so not in what follows."""
    await rest.post(TURNS, {"prompt": "open", "id": "k"})
    service = server.service
    read = service.turn

    async def while_it_goes_on(*asked: Any) -> Any:
        turn = service.sessions["a"].turns[0]
        service.publish("a", DeltaAdded(turn.id, 0, "text", "on "))
        service.sessions["a"].turns[0] = replace(turn, blocks=(Block(0, "text", "so on "),))
        await asyncio.sleep(0)
        return await read(*asked)

    service.turn = while_it_goes_on  # type: ignore[method-assign]
    source = rest.source(TURNS)
    async with source.connected("POST", json={"prompt": "open", "id": "k"}):
        assert (await source.next()).data["open_turn"]["blocks"][0]["text"] == "so on "
        service.finish("a")
        told = await source.end()
    assert [t.data["text"] for t in told if t.event == "delta"] == ["far"]


async def test_a_stream_of_a_finished_turn_is_its_end(rest: RestClient) -> None:
    """So that who lost the stream comes back the same way, however late."""
    await rest.post(TURNS, {"prompt": "words 2", "id": "k"})
    source = rest.source(TURNS)
    async with source.connected("POST", json={"prompt": "words 2", "id": "k"}):
        told = await source.end()
    assert [t.event for t in told] == ["submitted", "turn_finished"]
    assert (told[1].data["turn"], told[1].data["text"]) == ("turn-1", "w0 w1")


async def test_a_refused_prompt_is_an_error_and_no_stream(rest: RestClient) -> None:
    """Nothing was said yet: the status can still tell."""
    headers = {"Accept": "text/event-stream"}
    answer = await rest.post(TURNS, {"prompt": " "}, headers=headers)
    assert (answer.status, answer.reason) == (422, "prompt_empty")
    answer = await rest.post(f"{TURNS}?wait=5", {"prompt": "x"}, headers=headers)
    assert (answer.status, answer.body["field"]) == (422, "wait")
    answer = await rest.post("/api/sessions/none/turns", {"prompt": "x"}, headers=headers)
    assert answer.reason == "session_not_found"
