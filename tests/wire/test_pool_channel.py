"""Questions to a pool at the edge: what is told in which order, and what a leave ends. No workers."""

from __future__ import annotations

from typing import Any

from tests.fakes.phoenix import PhoenixServer, Speaker
from tests.fakes.rest import RestClient

POOL = "pool:default"


async def say(client: Speaker, ref: str, event: str, payload: dict[str, Any]) -> None:
    await client.say("1", ref, POOL, event, payload)


async def heard(client: Speaker, count: int) -> list[tuple[str, Any]]:
    """Of so many frames the event and the payload."""
    return [(frame[3], frame[4]) for frame in [await client.hear() for _ in range(count)]]


async def test_the_reply_comes_before_everything_that_was_told_of_the_question(client: Speaker) -> None:
    """Also where all of it happened before the reply was written."""
    await say(client, "1", "phx_join", {})
    ((_, joined),) = await heard(client, 1)
    assert joined["response"] == {"size": 2, "idle": 2, "busy": 0, "waiting": 0}
    await say(client, "2", "ask", {"prompt": "words 3", "id": "k"})
    told = await heard(client, 4)
    assert told[0][1]["response"] == {"turn": "question-1", "status": "running", "position": 0}
    assert [event for event, _ in told[1:]] == ["turn_started", "block", "turn_finished"]
    assert not [payload for _, payload in told[1:] if "seq" in payload]
    await say(client, "3", "ask", {"prompt": "words 3", "id": "k"})
    ((_, again),) = await heard(client, 1)
    assert again["response"]["duplicate"] is True
    assert (again["response"]["turn"]["text"], again["response"]["turn"]["key"]) == ("w0 w1 w2", "k")


async def test_who_left_hears_nothing_of_its_question_and_who_comes_back_all_of_it(
    client: Speaker, server: PhoenixServer
) -> None:
    """The question goes on meanwhile."""
    pool = server.service.fake_pools.pool
    await say(client, "1", "phx_join", {})
    await say(client, "2", "ask", {"prompt": "open", "id": "k"})
    assert [event for event, _ in await heard(client, 4)] == [
        *("phx_reply", "phx_reply", "turn_started", "delta")
    ]
    await say(client, "3", "phx_leave", {})
    await heard(client, 2)
    assert pool.questions[0]._listeners == []
    await client.say("4", "4", POOL, "phx_join", {})
    await client.say("4", "5", POOL, "ask", {"prompt": "open", "id": "k"})
    told = await heard(client, 4)
    assert told[1][1]["response"]["turn"] == "question-1"
    assert [event for event, _ in told[2:]] == ["turn_started", "delta"]
    pool.finish(pool.questions[0])
    assert [event for event, _ in await heard(client, 2)] == ["block", "turn_finished"]


async def test_a_feed_is_gone_with_its_client(server: PhoenixServer) -> None:
    """A thousand clients that came and went leave nothing."""
    before = len(server.service.hub._topics)
    for _ in range(3):
        async with server.client() as client:
            await say(client, "1", "phx_join", {})
            await say(client, "2", "ask", {"prompt": "open"})
            await heard(client, 4)
            await say(client, "3", "phx_leave", {})
            await heard(client, 2)
    assert len(server.service.hub._topics) <= before + 1  # the pool's own


async def test_over_rest_the_turn_is_waited_for_or_not(server: PhoenixServer) -> None:
    """And by its id it is found again."""
    async with RestClient(server.http).open() as rest:
        done = await rest.post("/api/pools/default/ask", {"prompt": "words 2", "id": "a"})
        assert (done.status, done.body["text"], done.body["key"]) == (200, "w0 w1", "a")
        open_ = await rest.post("/api/pools/default/ask?wait=0", {"prompt": "open", "id": "b"})
        assert (open_.status, open_.body["status"]) == (202, "running")
        pool = server.service.fake_pools.pool
        pool.finish(pool.questions[1])
        again = await rest.post("/api/pools/default/ask?wait=5", {"prompt": "open", "id": "b"})
        assert (again.status, again.body["status"], again.body["duplicate"]) == (200, "completed", True)
        refused = await rest.post("/api/pools/nobody/ask", {"prompt": "x"})
        assert (refused.status, refused.body["reason"]) == (404, "session_not_found")
