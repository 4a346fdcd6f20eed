"""Many prompts, one session: each is one turn with one answer, in the order in which they came."""

from __future__ import annotations

import pytest

from tests.fakes.bridge import BridgeProcess, Sessions, prompts_of, sim
from tests.fakes.phoenix_js import Refused, assert_well_told

pytestmark = pytest.mark.real

HOLD = sim(first_ms=60_000)
"""Runs until it is interrupted."""


def test_fifty_prompts_at_once_are_fifty_turns_in_order(bridge: BridgeProcess, sessions: Sessions) -> None:
    """One answer each, its own, and one request each at the API."""
    channel = sessions.join()
    pending = [channel.send("submit", {"prompt": f"crowd {n};"}) for n in range(50)]
    replies = [p.reply() for p in pending]
    turns = [reply["turn"] for reply in replies]
    assert len(set(turns)) == 50
    stories = [channel.story(turn) for turn in turns]
    for n, story in enumerate(stories):
        assert_well_told(story)
        assert (story.status, story.text) == ("completed", f"You said: crowd {n};")
    for event in ("turn_started", "turn_finished"):
        assert [h.payload["turn"] for h in channel.heard if h.event == event] == turns
    assert [prompts_of(r)[-1] for r in bridge.requests("crowd")] == [f"crowd {n};" for n in range(50)]


def test_positions_count_what_is_before(sessions: Sessions) -> None:
    """The running turn included; `turn_queued` says the same."""
    channel = sessions.talk()
    channel.ask("warm up")
    replies = [channel.push("submit", {"prompt": p}) for p in (HOLD, "one", "two")]
    assert [(r["status"], r["position"]) for r in replies] == [("running", 0), ("queued", 1), ("queued", 2)]
    told = [channel.wait("turn_queued", turn=r["turn"])["position"] for r in replies]
    assert told == [0, 1, 2]
    joined = sessions.look(channel).joined
    assert joined["open_turn"]["id"] == replies[0]["turn"]
    assert [t["id"] for t in joined["queue"]] == [r["turn"] for r in replies[1:]]
    channel.push("interrupt")
    assert channel.story(replies[2]["turn"]).text == "You said: two"


def test_a_queued_turn_is_cancelled(bridge: BridgeProcess, sessions: Sessions) -> None:
    """It ends as such and never reaches Claude; those behind it move up."""
    channel = sessions.talk()
    first, gone, last = (channel.submit(p) for p in (HOLD, "never to be seen", "last"))
    assert channel.push("cancel", {"turn": gone}) == {}
    assert channel.wait("turn_finished", turn=gone)["status"] == "cancelled"
    channel.wait("turn_started", turn=first)
    channel.push("interrupt")
    assert channel.story(last).text == "You said: last"
    assert [h.payload["turn"] for h in channel.heard if h.event == "turn_started"] == [first, last]
    assert bridge.requests("never to be seen") == []


def test_only_a_queued_turn_can_be_cancelled(sessions: Sessions) -> None:
    """A running one, a finished one and an invented one are refused."""
    channel = sessions.talk()
    done = channel.submit("quick")
    channel.story(done)
    running = channel.submit(HOLD)
    for turn in (done, running, "no-such-turn"):
        with pytest.raises(Refused) as refused:
            channel.push("cancel", {"turn": turn})
        assert refused.value.reason == "turn_not_found"
    channel.push("interrupt")
    assert channel.story(running).status == "interrupted"


def test_the_same_id_twice_is_one_turn(bridge: BridgeProcess, sessions: Sessions) -> None:
    """At once, in the queue, and when it has long been answered: nothing runs again."""
    channel = sessions.join()
    payload = {"prompt": "only once", "id": "key-1"}
    at_once = [channel.send("submit", payload) for _ in range(3)]
    replies = [p.reply() for p in at_once]
    story = channel.story(replies[0]["turn"])
    replies.append(channel.push("submit", payload))
    assert {r["turn"] for r in replies} == {replies[0]["turn"]}
    assert [r.get("duplicate", False) for r in replies] == [False, True, True, True]
    assert replies[-1]["status"] == "completed"
    assert story.of("turn_queued")[0]["key"] == "key-1"
    assert channel.ask("after").text == "You said: after"
    assert len([h for h in channel.heard if h.event == "turn_started"]) == 2
    assert len(bridge.requests("only once")) == 1


def test_an_id_belongs_to_its_prompt(sessions: Sessions) -> None:
    """Another prompt under the same id is a mistake of the caller's, and runs nothing."""
    channel = sessions.join()
    channel.ask("this", id="key-1")
    with pytest.raises(Refused) as refused:
        channel.submit("that", id="key-1")
    assert (refused.value.reason, refused.value.response["field"]) == ("invalid_payload", "id")
    assert len(channel.push("history")["turns"]) == 1


def test_ids_of_two_sessions_do_not_meet(sessions: Sessions) -> None:
    """They are kept per session."""
    one, two = sessions.join("one"), sessions.join("two")
    turns = [c.submit(f"for {c.topic}", id="same") for c in (one, two)]
    assert turns[0] != turns[1]
    assert [c.story(t).status for c, t in zip((one, two), turns, strict=True)] == ["completed"] * 2
