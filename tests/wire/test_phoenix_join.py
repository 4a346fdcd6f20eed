"""phx_join over WebSocket V2: sections 5 and 6 of the list of Phoenix's behaviours, by their ids."""

from __future__ import annotations

import asyncio
from typing import Any

from bridge.events import DeltaAdded, TurnId
from tests.fakes.phoenix import PhoenixServer, Speaker
from tests.wire.conftest import Serve

A, B = "session:a", "session:b"


def ok(join_ref: Any, ref: Any, topic: Any, response: Any) -> list[Any]:
    return [join_ref, ref, topic, "phx_reply", {"status": "ok", "response": response}]


def error(join_ref: Any, ref: Any, topic: Any, response: Any) -> list[Any]:
    return [join_ref, ref, topic, "phx_reply", {"status": "error", "response": response}]


def unmatched(ref: Any, topic: Any) -> list[Any]:
    return error(None, ref, topic, {"reason": "unmatched topic"})


def word(text: str) -> DeltaAdded:
    return DeltaAdded(TurnId("t"), 0, "text", text)


async def test_E01_a_join_is_answered_with_its_own_refs(client: Speaker) -> None:
    """Slipstream knows a join's reply by `ref == join_ref` alone."""
    reply = await client.ask("3", "3", A, "phx_join", {})
    assert reply[:4] == ["3", "3", A, "phx_reply"]
    assert reply[4]["status"] == "ok"
    assert reply[4]["response"]["session"]["name"] == "a"
    await client.silence()


async def test_E01_the_lobby_lists_the_sessions(client: Speaker) -> None:
    """Its reply names node, version and sessions."""
    reply = await client.join("sessions")
    assert reply["node"] == "test"
    assert reply["version"] == "0.0.test"
    assert [s["name"] for s in reply["sessions"]] == ["a", "b"]


async def test_E02_a_refused_join_is_an_error_reply_and_nothing_else(client: Speaker) -> None:
    """No phx_close and no phx_error follows; the client tries again by itself."""
    reply = await client.ask("1", "1", "session:nobody", "phx_join", {})
    assert reply[:4] == ["1", "1", "session:nobody", "phx_reply"]
    assert reply[4]["status"] == "error"
    assert reply[4]["response"]["reason"] == "session_not_found"
    await client.silence()
    assert await client.ask("1", "2", "session:nobody", "x", {}) == unmatched("2", "session:nobody")


async def test_E02_a_bad_name_is_refused_as_invalid_name(client: Speaker) -> None:
    """A topic that is routed but cannot name a session says so."""
    for topic in ("session:", "session:-x", "session:a b", "session:" + "x" * 65):
        reply = await client.ask("1", "1", topic, "phx_join", {"start": {}})
        assert reply[4]["response"]["reason"] == "invalid_name"


async def test_E02_a_token_without_the_scope_is_told_which(server: PhoenixServer) -> None:
    """`forbidden` comes with the scope that is missing."""
    async with server.client(token="only-looking") as client:
        await client.join(A)
        reply = await client.ask("1", "2", A, "submit", {"prompt": "hi"})
        assert reply[4]["response"]["reason"] == "forbidden"
        assert reply[4]["response"]["scope"] == "prompt"


async def test_E03_a_join_that_crashes_says_so_and_the_socket_stays(client: Speaker) -> None:
    """A bug of ours is `join crashed`, with join_ref, and no phx_error."""
    refused = error("1", "1", "session:broken", {"reason": "join crashed"})
    assert await client.ask("1", "1", "session:broken", "phx_join", {}) == refused
    await client.silence()


async def test_E04_a_topic_without_a_route_is_unmatched_without_join_ref(client: Speaker) -> None:
    """The first element is null here, even though the join named one."""
    for topic in ("room:a", "terminal", "pool", "session", "sessions:x", ""):
        assert await client.ask("1", "1", topic, "phx_join", {}) == unmatched("1", topic)
    await client.silence()


async def test_E05_a_topic_that_is_no_string_is_unmatched_and_echoed(client: Speaker) -> None:
    """Whatever JSON it is."""
    for topic in (None, 123, True, ["session:a"], {"a": 1}):
        assert await client.ask("1", "1", topic, "phx_join", {}) == unmatched("1", topic)


async def test_E06_a_topic_too_many_is_refused_with_join_ref(serve: Serve) -> None:
    """The limit, here Phoenix's own, counts topics, so that joining one of them again succeeds."""
    server = await serve(max_topics=100)
    async with server.client() as client:
        for n in range(100):
            server.service.add(f"s{n}")
            await client.join(f"session:s{n}", ref=f"s{n}")
        refused = error("3", "3", "sessions", {"reason": "too many channels joined"})
        assert await client.ask("3", "3", "sessions", "phx_join", {}) == refused
        assert await client.ask("4", "4", "room:x", "phx_join", {}) == unmatched("4", "room:x")
        await client.join("session:s7", ref="5")


async def test_E07_a_join_without_join_ref_replies_with_its_ref_and_matches_none(
    client: Speaker,
) -> None:
    """The socket recorded null, so that messages which name the ref are an earlier join's."""
    reply = await client.ask(None, "6", A, "phx_join", {})
    assert reply[:4] == [None, "6", A, "phx_reply"]
    await client.say("6", "7", A, "interrupt", {})
    await client.silence()
    assert await client.ask(None, "8", A, "interrupt", {}) == ok("6", "8", A, {"turn": None})
    assert await client.ask(None, "9", A, "phx_leave", {}) == ok("6", "9", A, {})
    assert await client.hear() == [None, None, A, "phx_close", {}]


async def test_E08_a_join_payload_that_is_no_object_is_refused(client: Speaker) -> None:
    """Null counts as empty."""
    for payload in ([], "x", 1):
        reply = await client.ask("1", "1", A, "phx_join", payload)
        assert reply[4]["response"]["reason"] == "invalid_payload"
    reply = await client.ask("1", "1", A, "phx_join", None)
    assert reply[4]["status"] == "ok"


async def test_E09_a_slow_join_holds_the_whole_socket_and_then_all_goes_on(
    server: PhoenixServer, client: Speaker
) -> None:
    """Heartbeat and another topic wait behind it, in the order they came."""
    await client.join(A, ref="1")
    await client.say("2", "2", "session:slow", "phx_join", {"start": {}})
    await client.say(None, "3", "phoenix", "heartbeat", {})
    await client.say("1", "4", A, "interrupt", {})
    async with server.client() as other:  # another socket is not held up
        await other.silence()
    server.service.gate.set()
    assert (await client.hear())[1] == "2"
    assert (await client.hear())[1] == "3"
    assert (await client.hear())[1] == "4"


async def test_E10_a_join_given_up_by_its_client_is_left_and_joined_again(
    server: PhoenixServer, client: Speaker
) -> None:
    """There is no time limit here: the late reply comes, then the queued leave and the new join."""
    topic = "session:slow"
    await client.say("1", "1", topic, "phx_join", {"start": {}})
    await client.say("1", "2", topic, "phx_leave", {})
    await client.say("3", "3", topic, "phx_join", {})
    server.service.gate.set()
    assert (await client.hear())[:4] == ["1", "1", topic, "phx_reply"]
    assert await client.hear() == ok("1", "2", topic, {})
    assert await client.hear() == ["1", "1", topic, "phx_close", {}]
    assert (await client.hear())[:4] == ["3", "3", topic, "phx_reply"]


async def test_E11_the_join_reply_comes_first_and_no_event_is_lost_after_it(
    server: PhoenixServer, client: Speaker
) -> None:
    """Events published all the while: what follows the reply begins right after its seq."""
    stop = asyncio.Event()

    async def publish() -> None:
        while not stop.is_set():
            server.service.publish("slow", word("x"))
            await asyncio.sleep(0)

    server.service.add("slow")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(publish())
        await client.say("1", "1", "session:slow", "phx_join", {})
        await asyncio.sleep(0)
        server.service.gate.set()
        reply = await client.hear()
        heard = [await client.hear() for _ in range(50)]
        stop.set()
    assert reply[3] == "phx_reply"
    last = reply[4]["response"]["seq"]
    for frame in heard:
        assert frame[3] == "delta"
        assert frame[4].get("first_seq", frame[4]["seq"]) == last + 1
        last = frame[4]["seq"]


async def test_E13_a_new_join_has_nothing_of_an_earlier_one(server: PhoenixServer, client: Speaker) -> None:
    """After leave and join there is one subscription, so that an event comes once."""
    await client.join(A, ref="1")
    await client.ask("1", "2", A, "phx_leave", {})
    await client.hear()
    await client.join(A, ref="3")
    assert server.hub.topic(A).viewers == 1
    server.service.publish("a", word("x"))
    assert (await client.hear())[4]["text"] == "x"
    await client.silence()


async def test_F01_a_second_join_answers_then_closes_the_first_then_goes_on(
    server: PhoenixServer, client: Speaker
) -> None:
    """The exact order: reply of the new, phx_close of the old, events of the new."""
    server.service.publish("a", word("x"))
    await client.join(A, ref="1")
    await client.say("2", "2", A, "phx_join", {"after": {"epoch": "e1", "seq": 0}})
    assert (await client.hear())[:4] == ["2", "2", A, "phx_reply"]
    assert await client.hear() == ["1", "1", A, "phx_close", {}]
    assert (await client.hear())[3] == "delta"
    await client.silence()


async def test_F02_the_close_of_the_old_channel_carries_the_old_refs(client: Speaker) -> None:
    """With null phoenix.js would close the new channel for good."""
    await client.join(A, ref="old")
    await client.join(A, ref="new")
    assert await client.hear() == ["old", "old", A, "phx_close", {}]


async def test_F03_what_the_old_channel_had_under_way_is_never_answered(
    server: PhoenixServer, client: Speaker
) -> None:
    """Its late reply is dropped, and so is what waited behind."""
    await client.join(A, ref="1")
    await client.say("1", "2", A, "submit", {"prompt": "hold"})
    server.service.history_gate.clear()
    await client.say("1", "3", A, "history", {})
    await client.say("1", "4", A, "interrupt", {})
    await client.join(A, ref="5")
    await client.hear()  # phx_close of the old one
    server.service.release({"turn": "t"})
    server.service.history_gate.set()
    await client.silence()


async def test_F04_a_second_join_that_fails_leaves_the_topic_unjoined(
    server: PhoenixServer, client: Speaker
) -> None:
    """The error first, then the close of the old one."""
    await client.join(A, ref="1")
    del server.service.sessions["a"]
    reply = await client.ask("2", "2", A, "phx_join", {})
    assert reply[4]["status"] == "error"
    assert await client.hear() == ["1", "1", A, "phx_close", {}]
    assert await client.ask("1", "3", A, "x", {}) == unmatched("3", A)


async def test_F05_leave_and_join_at_once_give_one_close_of_the_old_channel(client: Speaker) -> None:
    """What phoenix.js does when it joins a topic twice; ours is the orderly of the two outcomes."""
    await client.join(A, ref="1")
    await client.say("1", "2", A, "phx_leave", {})
    await client.say("3", "3", A, "phx_join", {})
    assert await client.hear() == ok("1", "2", A, {})
    assert await client.hear() == ["1", "1", A, "phx_close", {}]
    assert (await client.hear())[:4] == ["3", "3", A, "phx_reply"]
    await client.silence()


async def test_F06_a_join_with_the_same_ref_closes_the_old_one_with_it(client: Speaker) -> None:
    """Clients must use fresh refs; Phoenix does not check."""
    await client.join(A, ref="4")
    await client.join(A, ref="4")
    assert await client.hear() == ["4", "4", A, "phx_close", {}]
