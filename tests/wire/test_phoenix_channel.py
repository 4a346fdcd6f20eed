"""Leave, close, errors, routing and events of a joined channel: sections 7, 8 and 11, by their ids."""

from __future__ import annotations

import asyncio
import json

import pytest

from bridge.events import DeltaAdded, TurnId
from tests.fakes.phoenix import PhoenixClient, PhoenixServer, Speaker
from tests.wire.conftest import Serve
from tests.wire.test_phoenix_join import A, B, ok, unmatched, word


async def test_G01_a_leave_is_answered_and_then_closed(client: Speaker) -> None:
    """Slipstream has left only when phx_close comes."""
    await client.join(A, ref="1")
    assert await client.ask("1", "2", A, "phx_leave", {}) == ok("1", "2", A, {})
    assert await client.hear() == ["1", "1", A, "phx_close", {}]
    await client.silence()


async def test_G02_a_close_has_the_joins_refs_and_an_empty_payload(client: Speaker) -> None:
    """Another ref or payload makes an ordinary message of it."""
    await client.join(A, ref=7)
    await client.ask(7, 8, A, "phx_leave", {})
    assert await client.hear() == [7, 7, A, "phx_close", {}]


async def test_G04_a_leave_of_what_is_not_joined_is_ok(client: Speaker) -> None:
    """Any topic, with the client's own join_ref, and no phx_close."""
    for topic in (A, "room:x", "phoenix", None):
        assert await client.ask("9", "2", topic, "phx_leave", {}) == ok("9", "2", topic, {})
    await client.silence()


async def test_G05_a_leave_of_an_earlier_join_is_ignored_and_one_without_join_ref_is_not(
    client: Speaker,
) -> None:
    """Silence for the stale one."""
    await client.join(A, ref="1")
    await client.say("0", "2", A, "phx_leave", {})
    await client.silence()
    assert await client.ask(None, "3", A, "phx_leave", {}) == ok("1", "3", A, {})


async def test_G06_what_is_sent_behind_a_leave_gets_no_normal_answer(client: Speaker) -> None:
    """Here always `unmatched topic`."""
    await client.join(A, ref="1")
    await client.say("1", "2", A, "phx_leave", {})
    await client.say("1", "3", A, "interrupt", {})
    assert await client.hear() == ok("1", "2", A, {})
    assert await client.hear() == ["1", "1", A, "phx_close", {}]
    assert await client.hear() == unmatched("3", A)


async def test_G07_a_channel_that_crashes_says_phx_error_and_the_socket_stays(
    client: Speaker,
) -> None:
    """With the join's refs; what waited is never answered."""
    await client.join(A, ref="1")
    await client.join(B, ref="2")
    await client.say("1", "3", A, "submit", {"prompt": "hold"})
    await client.say("1", "4", A, "submit", {"prompt": "crash"})
    assert await client.hear() == ["1", "1", A, "phx_error", {"reason": "channel_crash"}]
    assert await client.ask("2", "5", B, "interrupt", {}) == ok("2", "5", B, {"turn": None})


async def test_G07_a_crash_while_something_waits_ends_the_channel_as_well(
    server: PhoenixServer, client: Speaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in what is done apart from the receive loop."""

    async def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(server.service, "history", broken)
    await client.join(A, ref="1")
    reply = await client.ask("1", "2", A, "history", {})
    assert reply == ["1", "1", A, "phx_error", {"reason": "channel_crash"}]


async def test_G08_refs_of_a_phx_error_are_those_of_the_current_join(client: Speaker) -> None:
    """With others Slipstream dies, or never joins again."""
    await client.join(A, ref="1")
    await client.join(A, ref="2")
    await client.hear()
    reply = await client.ask("2", "3", A, "submit", {"prompt": "crash"})
    assert reply[:2] == ["2", "2"]


async def test_G09_after_a_crash_the_client_joins_again(client: Speaker) -> None:
    """Nothing special is needed."""
    await client.join(A, ref="1")
    await client.ask("1", "2", A, "submit", {"prompt": "crash"})
    await client.join(A, ref="3")
    assert await client.ask("3", "4", A, "interrupt", {}) == ok("3", "4", A, {"turn": None})


async def test_G10_a_deleted_session_closes_its_channels_without_an_error(
    server: PhoenixServer, client: Speaker
) -> None:
    """phx_close to each, so that no client joins again; events published before come before it."""
    await client.join(A, ref="1")
    await client.join("sessions", ref="2")
    async with server.client() as other:
        await other.join(A, ref="7")
        server.service.publish("a", word("last"))
        await client.say("2", "3", "sessions", "delete", {"name": "a"})
        assert (await other.hear())[4]["text"] == "last"
        assert await other.hear() == ["7", "7", A, "phx_close", {}]
        await other.silence()
    heard = [await client.hear() for _ in range(4)]
    assert [f[3] for f in heard if f[2] == A] == ["delta", "phx_close"]
    assert [f[3] for f in heard if f[2] == "sessions"] == ["phx_reply", "session_deleted"]
    assert ["1", "1", A, "phx_close", {}] in heard


async def test_G12_after_a_close_the_topic_is_unjoined(client: Speaker) -> None:
    """The next event is unmatched."""
    await client.join(A, ref="1")
    await client.ask("1", "2", A, "submit", {"prompt": "crash"})
    assert await client.ask("1", "3", A, "interrupt", {}) == unmatched("3", A)


async def test_H01_a_reply_carries_the_channels_join_ref(client: Speaker) -> None:
    """Even where the client sent none."""
    await client.join(A, ref="1")
    assert await client.ask("1", "2", A, "interrupt", {}) == ok("1", "2", A, {"turn": None})
    assert await client.ask(None, "3", A, "interrupt", {}) == ok("1", "3", A, {"turn": None})


async def test_H02_a_message_without_join_ref_is_accepted(client: Speaker) -> None:
    """As Phoenix does again since 1.8.12."""
    await client.join(A, ref="1")
    assert (await client.ask(None, "2", A, "interrupt", {}))[4]["status"] == "ok"


async def test_H03_an_event_on_an_unjoined_topic_is_unmatched(client: Speaker) -> None:
    """join_ref null even though the client sent one."""
    for topic in (A, "room:x"):
        assert await client.ask("5", "2", topic, "submit", {}) == unmatched("2", topic)


async def test_H04_a_message_of_an_earlier_join_is_ignored(client: Speaker) -> None:
    """No reply of any kind; 1 is not "1"."""
    await client.join(A, ref="1")
    await client.say("0", "2", A, "interrupt", {})
    await client.say(1, "3", A, "interrupt", {})
    await client.silence()


async def test_H06_replies_are_ok_or_error_and_nothing_else(client: Speaker) -> None:
    """Slipstream dies of any other status; an unknown event is an error reply."""
    await client.join(A, ref="1")
    reply = await client.ask("1", "2", A, "subimt", {})
    assert reply[:4] == ["1", "2", A, "phx_reply"]
    assert reply[4]["status"] == "error"
    assert reply[4]["response"]["reason"] == "invalid_payload"
    assert "did you mean 'submit'" in reply[4]["response"]["message"]


async def test_H07_a_request_without_ref_is_done_and_answered_with_null(client: Speaker) -> None:
    """ref null."""
    await client.join(A, ref="1")
    assert await client.ask("1", None, A, "interrupt", {}) == ok("1", None, A, {"turn": None})


async def test_H08_a_late_reply_has_the_refs_of_its_request(server: PhoenixServer, client: Speaker) -> None:
    """It may come after that of a later request."""
    await client.join(A, ref="1")
    await client.say("1", "2", A, "submit", {"prompt": "hold"})
    assert await client.ask("1", "3", A, "interrupt", {}) == ok("1", "3", A, {"turn": None})
    server.service.release({"turn": "t9"})
    assert await client.hear() == ok("1", "2", A, {"turn": "t9"})


async def test_H09_a_busy_channel_keeps_its_order_and_delays_no_other(
    server: PhoenixServer, client: Speaker
) -> None:
    """What is sent behind a waiting `history` waits with it; topics, heartbeats and events go on."""
    await client.join(A, ref="1")
    await client.join(B, ref="2")
    server.service.history_gate.clear()
    await client.say("1", "3", A, "history", {})
    await client.say("1", "4", A, "interrupt", {})
    await client.say("1", "5", A, "history", {})
    await client.say("1", "6", A, "phx_leave", {})
    assert await client.ask("2", "7", B, "interrupt", {}) == ok("2", "7", B, {"turn": None})
    server.service.publish("a", word("x"))
    assert (await client.hear())[3] == "delta"
    await client.silence()
    server.service.history_gate.set()
    assert [(await client.hear())[1] for _ in range(5)] == ["3", "4", "5", "6", "1"]


async def test_H10_phoenixs_own_events_from_a_client_are_ordinary_unknown_ones(
    client: Speaker,
) -> None:
    """phx_close, phx_reply and phx_error close nothing."""
    await client.join(A, ref="1")
    for event in ("phx_close", "phx_reply", "phx_error", 5, None):
        reply = await client.ask("1", "2", A, event, {})
        assert reply[4]["response"]["reason"] == "invalid_payload"


async def test_L01_L02_an_event_carries_no_refs_and_is_the_same_bytes_for_all(
    server: PhoenixServer, client: Speaker
) -> None:
    """phoenix.js drops a frame whose join_ref is not its own."""
    await client.join(A, ref="1")
    async with server.client() as other:
        await other.join(A, ref="22")
        server.service.publish("a", word("x"))
        one, two = await client.hear_text(), await other.hear_text()
    assert one == two
    assert json.loads(one)[:4] == [None, None, A, "delta"]
    assert json.loads(one)[4] == {
        "turn": "t",
        "block": 0,
        "kind": "text",
        "text": "x",
        "seq": 1,
        "at": "2025-10-09T08:53:20.125Z",
    }


async def test_L02_a_v1_client_gets_the_v1_form_of_the_same_event(
    server: PhoenixServer, client: Speaker
) -> None:
    """Encoded once per version."""
    await client.join(A, ref="1")
    async with server.client(vsn="1.0.0") as old:
        await old.ws.send_str(json.dumps({"topic": A, "event": "phx_join", "payload": {}, "ref": "1"}))
        await old.hear()
        server.service.publish("a", word("x"))
        new_frame, old_frame = await client.hear(), await old.hear()
    assert old_frame == {"topic": A, "event": "delta", "payload": new_frame[4], "ref": None}


async def test_L06_the_reply_comes_before_the_events_of_its_command(client: Speaker) -> None:
    """And these in order, each with the next number."""
    await client.join(A, ref="1")
    reply = await client.ask("1", "2", A, "submit", {"prompt": "words 3"})
    assert reply == ok("1", "2", A, {"turn": "turn-1", "status": "running", "position": 0})
    events = [await client.hear() for _ in range(6)]
    names = [e[3] for e in events]
    assert names == ["turn_started", "delta", "delta", "delta", "block", "turn_finished"]
    assert [e[4]["seq"] for e in events] == [1, 2, 3, 4, 5, 6]


async def test_a_client_that_comes_back_gets_exactly_what_it_missed(
    server: PhoenixServer, client: Speaker
) -> None:
    """With `after`: recovered, and the events from there, never merged."""
    first = await client.join(A, ref="1")
    assert first["recovered"] is False
    server.service.publish("a", *(word(str(i)) for i in range(6)))
    for _ in range(6):
        await client.hear()
    async with server.client() as again:
        reply = await again.join(A, {"after": {"epoch": first["epoch"], "seq": 2}})
        assert reply["recovered"] is True
        assert reply["seq"] == 6
        heard = [(await again.hear())[4] for _ in range(4)]
        assert [(e["seq"], e["text"]) for e in heard] == [(3, "2"), (4, "3"), (5, "4"), (6, "5")]
        assert all("first_seq" not in e for e in heard)
        reply = await again.join(A, {"after": {"epoch": "another", "seq": 2}}, ref="3")
        assert reply["recovered"] is False


async def test_lobby_events_start_stop_list_and_tree(client: Speaker) -> None:
    """The lobby's client events, and that its own events carry no numbers."""
    await client.join("sessions", ref="1")
    await client.say("1", "2", "sessions", "start", {"name": "c"})
    started, changed = await client.hear(), await client.hear()
    assert started[4]["response"]["session"]["name"] == "c"
    assert "existing" not in started[4]["response"]
    assert changed[3] == "session_changed"
    assert set(changed[4]) == {"session"}
    again = await client.ask("1", "3", "sessions", "start", {"name": "c"})
    assert again[4]["response"]["existing"] is True
    await client.hear()
    listed = await client.ask("1", "4", "sessions", "list", {})
    assert [s["name"] for s in listed[4]["response"]["sessions"]] == ["a", "b", "c"]
    stopped = await client.ask("1", "5", "sessions", "stop", {"name": "c"})
    assert stopped[4]["response"]["session"]["name"] == "c"
    tree = await client.ask("1", "6", "sessions", "tree", {})
    assert tree[4]["response"] == {"name": "bridge", "children": []}
    bad = await client.ask("1", "7", "sessions", "start", {"name": "no good"})
    assert bad[4]["response"]["reason"] == "invalid_name"


async def test_history_is_answered_with_turns(client: Speaker) -> None:
    """Newest last, and an unknown `before` is turn_not_found."""
    await client.join(A, ref="1")
    await client.ask("1", "2", A, "submit", {"prompt": "words 1"})
    for _ in range(4):
        await client.hear()
    reply = await client.ask("1", "3", A, "history", {"limit": 5})
    assert [t["prompt"] for t in reply[4]["response"]["turns"]] == ["words 1"]
    reply = await client.ask("1", "4", A, "history", {"before": "x"})
    assert reply[4]["response"]["reason"] == "turn_not_found"


async def test_a_client_that_does_not_read_gets_merged_deltas_and_costs_the_others_nothing(
    server: PhoenixServer, client: Speaker
) -> None:
    """What it is sent when it reads again has no gap, and its text is whole."""
    await client.join(A, ref="1")
    async with server.client() as slow:
        await slow.join(A, ref="1")
        transport = unread(slow)
        total = 4000
        texts = [f"{i:05d}" + "x" * 2000 for i in range(total)]
        last = 0
        for text in texts:
            server.service.publish("a", DeltaAdded(TurnId("t"), 0, "text", text))
            if text.startswith("00000") or int(text[:5]) % 50 == 0:
                while last < int(text[:5]):
                    last = (await client.hear())[4]["seq"]
        while last < total:
            last = (await client.hear())[4]["seq"]
        transport.resume_reading()
        heard, merged, seq = [], 0, 0
        while seq < total:
            payload = (await slow.hear())[4]
            assert payload.get("first_seq", payload["seq"]) == seq + 1
            merged += "first_seq" in payload
            seq = payload["seq"]
            heard.append(payload["text"])
    assert "".join(heard) == "".join(texts)
    assert merged > 0


async def test_a_client_that_lags_too_far_is_closed_with_4008(serve: Serve) -> None:
    """Merging did not help: the bound holds, and the hub has let go of it."""
    server = await serve(ring_events=10, ring_bytes=1_000_000, outbox_bytes=1_000_000)
    async with server.client() as slow:
        await slow.join(A, ref="1")
        transport = unread(slow)
        topic = server.hub.topic(A)
        while topic.viewers:
            server.service.publish("a", DeltaAdded(TurnId("t"), 0, "text", "x" * 100_000))
            await asyncio.sleep(0)
        transport.resume_reading()
        while (message := await slow.ws.receive(timeout=10)).data != 4008:
            assert message.type.name == "TEXT", message


async def test_replies_to_a_client_that_never_reads_are_bounded_too(serve: Serve) -> None:
    """It is read no further, and when nothing moves for the idle time, closed with 4008."""
    server = await serve(idle_timeout_s=1.0)  # much more than the loop is ever away for
    async with server.client() as slow:
        await slow.join(A, ref="1")
        transport = unread(slow)
        ref = "r" * 100_000
        asking = asyncio.gather(*(slow.say(None, ref, "phoenix", "heartbeat", {}) for _ in range(200)))
        async with server.client() as other:
            while server.hub.topic(A).viewers:
                await other.silence()
        asking.cancel()
        transport.resume_reading()
        while (message := await slow.ws.receive(timeout=10)).data != 4008:
            assert message.type.name == "TEXT", message


async def test_many_big_replies_to_a_slow_client_all_arrive(serve: Serve) -> None:
    """Asking for more than it can read at once slows a client down, no more: 30 MB through 400 KB."""
    server = await serve(outbox_bytes=400_000)
    async with server.client() as slow, server.client() as other:
        await slow.join(A, ref="1")
        transport = unread(slow)
        ref = "r" * 100_000
        refs = [f"{i}{ref}" for i in range(300)]
        asking = asyncio.gather(*(slow.say(None, ref, "phoenix", "heartbeat", {}) for ref in refs))
        while not any(size > 65536 for size in server.unwritten()):
            await other.silence()
        await other.silence()
        transport.resume_reading()
        heard = [(await slow.hear())[1] for _ in range(300)]
        await asking
    assert heard == refs


def unread(client: PhoenixClient) -> asyncio.Transport:
    """Stop reading from the socket; the transport says when to go on."""
    assert client.ws._response.connection is not None
    transport = client.ws._response.connection.transport
    assert isinstance(transport, asyncio.Transport)
    transport.pause_reading()
    return transport
