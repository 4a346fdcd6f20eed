"""Questions to a pool over every transport: told to the asker alone, and once for each id."""

from __future__ import annotations

import uuid

import aiohttp
import pytest

from bridge.simulator.script import scripted as sim
from bridge.simulator.script import words
from tests.contract.transports.conftest import Connect
from tests.contract.transports.test_joining import refusal
from tests.fakes.bridge import BridgeProcess
from tests.fakes.phoenix_js import Story

pytestmark = pytest.mark.real

POOL = "pool:default"


def assert_told_whole(story: Story) -> None:
    """Begun first, ended last, and once each."""
    told = [h.event for h in story.heard]
    assert (told[0], told[-1]) == ("turn_started", "turn_finished")
    assert (told.count("turn_started"), told.count("turn_finished")) == (1, 1)


async def test_an_answer_is_a_stream_that_only_its_asker_hears(connect: Connect, way: str) -> None:
    """Without numbers: the topic begins again with its join."""
    asker, other = await connect(way), await connect(way)
    if not asker.topical:
        pytest.skip("over REST it is a stream of its own")
    for peer in (asker, other):
        assert (await peer.join(POOL)).keys() == {"size", "idle", "busy", "waiting"}
    reply = await asker.ask(POOL, "ask", {"prompt": f"hello {sim(thinking='so', words=50, gap_ms=20)}"})
    story = await asker.story(POOL, reply["turn"])
    assert_told_whole(story)
    assert "".join(story.deltas) == story.blocks[1] == words(50)
    assert (story.status, story.text) == ("completed", words(50).rstrip())
    if asker.ordered:
        assert reply.order < story.heard[0].order
    assert not [h for h in asker.told[POOL] if "seq" in h.payload]
    await other.wait(POOL, "pool_changed")
    assert {h.event for h in other.told[POOL]} == {"pool_changed"}


async def test_the_same_id_is_the_same_question(connect: Connect, way: str, bridge: BridgeProcess) -> None:
    """Twice while it runs, from two connections; once more when it is answered."""
    first, second = await connect(way), await connect(way)
    for peer in (first, second):
        if peer.topical:
            await peer.join(POOL)
    id, prompt = uuid.uuid4().hex, f"count {uuid.uuid4().hex} {sim(words=200, gap_ms=10)}"
    asked = await first.ask(POOL, "ask", {"prompt": prompt, "id": id})
    if first.topical:
        await first.wait(POOL, "delta", turn=asked["turn"], count=5)
    again = await second.ask(POOL, "ask", {"prompt": prompt, "id": id})
    assert again["turn"] == asked["turn"]
    if first.topical:
        for peer in (first, second):
            story = await peer.story(POOL, asked["turn"])
            assert_told_whole(story)
            assert (story.text, "".join(story.deltas)) == (words(200).rstrip(), words(200))
        once_more = await first.ask(POOL, "ask", {"prompt": prompt, "id": id})
        assert (once_more["turn"]["text"], once_more["turn"]["key"]) == (words(200).rstrip(), id)
    else:
        url = f"{bridge.address.url}/api/pools/default/ask?wait=30"
        headers = {"Authorization": f"Bearer {bridge.token}"}
        async with first.http.post(url, json={"prompt": prompt, "id": id}, headers=headers) as answer:
            turn = await answer.json()
        assert (answer.status, turn["text"], turn["duplicate"]) == (200, words(200).rstrip(), True)
    refused = await refusal(first.ask(POOL, "ask", {"prompt": "something else", "id": id}))
    assert (refused["reason"], refused["field"]) == ("invalid_payload", "id")
    assert len(bridge.requests(prompt.split(" [[")[0])) == 1


async def test_what_is_no_question_is_refused(connect: Connect, way: str) -> None:
    """With the words of a submit."""
    peer = await connect(way)
    if peer.topical:
        await peer.join(POOL)
        assert (await refusal(peer.join("pool:nobody")))["reason"] == "session_not_found"
        assert (await refusal(peer.ask(POOL, "submit", {"prompt": "x"})))["reason"] == "invalid_payload"
    assert (await refusal(peer.ask(POOL, "ask", {"prompt": " "})))["reason"] == "prompt_empty"
    assert (await refusal(peer.ask(POOL, "ask", {"prompt": "x", "pronto": 1})))["field"] == "pronto"
    if way != "socketio-polling":  # whose client does not send so much at once
        too_large = await refusal(peer.ask(POOL, "ask", {"prompt": "x" * 1_048_577}))
        assert too_large["reason"] == "prompt_too_large"


async def test_over_rest_an_answer_is_a_stream_as_well(bridge: BridgeProcess) -> None:
    """Broken off, the same request goes on from the beginning."""
    url = f"{bridge.address.url}/api/pools/default/ask"
    headers = {"Authorization": f"Bearer {bridge.token}", "Accept": "text/event-stream"}
    body = {"prompt": f"hi {sim(words=30)}", "id": uuid.uuid4().hex}
    async with aiohttp.ClientSession(headers=headers) as http:
        for attempt in range(2):
            async with http.post(url, json=body) as answer:
                assert answer.status == 200
                events = [
                    line.removeprefix("event: ")
                    for line in (await answer.text()).splitlines()
                    if line.startswith("event: ")
                ]
            assert (events[0], events[-1]) == ("submitted", "turn_finished")
            assert ("delta" in events) == (attempt == 0)
