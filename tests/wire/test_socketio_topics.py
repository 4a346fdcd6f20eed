"""Topics over Socket.IO, packet by packet, over a WebSocket and over polls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from bridge.events import DeltaAdded, TurnId
from tests.fakes.phoenix import PhoenixServer
from tests.fakes.screens import FakePane
from tests.fakes.service import WATCH_TOKEN
from tests.fakes.socketio import CONNECTIONS, RawClient, websocket
from tests.wire.conftest import Serve

S = "session:a"


@pytest.fixture(params=CONNECTIONS)
async def sio(server: PhoenixServer, request: pytest.FixtureRequest) -> AsyncIterator[RawClient]:
    """A client that is connected and has joined nothing."""
    async with CONNECTIONS[request.param](server) as client:
        head, _ = await client.connect()
        assert head == "0"
        yield client


def refusal(said: Any) -> str:
    assert said["status"] == "error", said
    reason: str = said["response"]["reason"]
    return reason


def word(text: str) -> DeltaAdded:
    return DeltaAdded(TurnId("t"), 0, "text", text)


async def test_a_prompt_is_acknowledged_before_its_events(sio: RawClient) -> None:
    """Every event a `message` with its number."""
    joined = await sio.join(S)
    assert (joined["epoch"], joined["seq"], joined["recovered"]) == ("e1", 0, False)
    said = await sio.ask("push", S, "submit", {"prompt": "words 2"})
    assert said == {"status": "ok", "response": {"turn": "turn-1", "status": "running", "position": 0}}
    heard = [await sio.message() for _ in range(5)]
    assert [(t, e, p["seq"]) for t, e, p in heard] == [
        (S, event, seq)
        for seq, event in enumerate(["turn_started", "delta", "delta", "block", "turn_finished"], 1)
    ]
    await sio.silence()


async def test_a_join_is_acknowledged_before_what_it_recovers(server: PhoenixServer, sio: RawClient) -> None:
    """Then who is there, then every event after the cursor."""
    server.service.publish("a", word("one"), word("two"), word("three"))
    await asyncio.sleep(0)
    wanted = await sio.emit("join", S, {"after": {"epoch": "e1", "seq": 1}})
    head, (said,) = await sio.hear(presence=True)
    assert head == wanted
    assert (said["status"], said["response"]["recovered"]) == ("ok", True)
    heard = [(await sio.hear(presence=True))[1] for _ in range(4)]
    assert [h[2] for h in heard] == ["presence_state", "delta", "delta", "presence_diff"]
    assert [h[3]["text"] for h in heard[1:3]] == ["two", "three"]
    assert heard[3][3]["joins"]["owner"]["metas"][0]["transport"] == "socketio"


async def test_leaving_is_acknowledged_and_ends_the_events(server: PhoenixServer, sio: RawClient) -> None:
    """Also of what was not joined."""
    await sio.join(S)
    assert await sio.ask("leave", S) == {"status": "ok", "response": {}}
    server.service.publish("a", word("x"))
    await sio.silence()
    assert refusal(await sio.ask("push", S, "interrupt", {})) == "unmatched topic"
    assert server.hub.topic(S).viewers == 0


async def test_a_topic_that_is_joined_again_is_replaced(server: PhoenixServer, sio: RawClient) -> None:
    """Nothing is said of the first, and nothing comes twice."""
    await sio.join(S)
    await sio.join(S, {"after": {"epoch": "e1", "seq": 0}})
    server.service.publish("a", word("x"))
    assert (await sio.message())[2]["text"] == "x"
    await sio.silence()
    assert server.hub.topic(S).viewers == 1


async def test_a_deleted_session_is_told_with_phx_close(server: PhoenixServer, sio: RawClient) -> None:
    """After the last event; the topic is not joined any more."""
    await sio.join(S)
    server.service.publish("a", word("last"))
    server.hub.drop(S)
    assert (await sio.message())[1] == "delta"
    assert await sio.message() == (S, "phx_close", {})
    assert refusal(await sio.ask("push", S, "interrupt", {})) == "unmatched topic"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (("join", "room:x", {}), "unmatched topic"),
        (("join", 7, {}), "unmatched topic"),
        (("join",), "unmatched topic"),
        (("join", "session:a b", {}), "invalid_name"),
        (("join", "session:nobody", {}), "session_not_found"),
        (("join", S, []), "invalid_payload"),
        (("push", "session:b", "interrupt", {}), "unmatched topic"),
        (("push", S, "sing", {}), "invalid_payload"),
        (("push", S, "phx_leave", {}), "invalid_payload"),
        (("push", S, "phx_join", {}), "invalid_payload"),
        (("push", S), "invalid_payload"),
        (("push", S, "submit", {"prompt": " "}), "prompt_empty"),
        (("push", S, "submit", 3), "invalid_payload"),
        (("emit", S), "invalid_payload"),
    ],
)
async def test_what_cannot_be_is_refused_in_the_ack(sio: RawClient, said: Any, reason: str) -> None:
    """And the client goes on."""
    await sio.join(S)
    assert refusal(await sio.ask(*said)) == reason
    await sio.silence()


async def test_arguments_may_be_left_out(sio: RawClient) -> None:
    """As a payload is, or the ack."""
    assert (await sio.ask("join", S))["status"] == "ok"
    assert (await sio.ask("push", S, "interrupt"))["status"] == "ok"
    await sio.emit("push", S, "interrupt", ack=False)
    await sio.emit("foo", ack=False)
    await sio.silence()


async def test_scopes_are_those_of_the_token(server: PhoenixServer) -> None:
    """Looking is not prompting."""
    async with websocket(server) as client:
        await client.connect({"token": WATCH_TOKEN})
        await client.join(S)
        said = await client.ask("push", S, "submit", {"prompt": "x"})
        assert (refusal(said), said["response"]["scope"]) == ("forbidden", "prompt")


async def test_topics_are_bounded(serve: Serve) -> None:
    """With joins that are under way; joining again needs no more room."""
    server = await serve(max_topics=2)
    async with websocket(server) as client:
        await client.connect()
        await client.emit("join", "session:slow-a", {"start": {}})
        await client.join(S)
        assert refusal(await client.ask("join", "sessions")) == "too many channels joined"
        await client.join(S)
        server.service.gate.set()
        assert (await client.hear())[0] == "31"


async def test_one_topics_slow_join_holds_up_that_topic_alone(server: PhoenixServer, sio: RawClient) -> None:
    """What was said to it meanwhile comes behind it, in order."""
    slow = "session:slow"
    heads = [
        await sio.emit("join", slow, {"start": {}}),
        await sio.emit("push", slow, "interrupt", {}),
        await sio.emit("join", slow, {}),
        await sio.emit("leave", slow),
        await sio.emit("push", slow, "interrupt", {}),
    ]
    await sio.join(S)
    assert (await sio.ask("push", S, "interrupt", {}))["status"] == "ok"
    server.service.gate.set()
    heard = [await sio.hear() for _ in heads]
    assert [h for h, _ in heard] == heads
    assert [said[0]["status"] for _, said in heard] == ["ok", "ok", "ok", "ok", "error"]


async def test_what_one_topic_is_asked_is_done_in_order(server: PhoenixServer, sio: RawClient) -> None:
    """Behind something slow of its own; also a join again, whose forerunner is still answered."""
    await sio.join(S)
    server.service.history_gate.clear()
    heads = [
        await sio.emit("push", S, "history", {}),
        await sio.emit("push", S, "interrupt", {}),
        await sio.emit("join", S, {}),
        await sio.emit("push", S, "interrupt", {}),
    ]
    await sio.join("sessions")
    server.service.history_gate.set()
    heard = [await sio.hear() for _ in heads]
    assert [h for h, _ in heard] == heads
    assert [said[0]["status"] for _, said in heard] == ["ok"] * 4


async def test_every_ack_is_answered(server: PhoenixServer, sio: RawClient) -> None:
    """Also behind a leave, and where the topic was left or joined again before its answer was known."""
    await sio.join(S)
    held = await sio.emit("push", S, "submit", {"prompt": "hold"})
    await sio.join(S)
    server.service.history_gate.clear()
    heads = [
        await sio.emit("push", S, "history", {}),
        await sio.emit("leave", S),
        await sio.emit("push", S, "history", {}),
    ]
    server.service.history_gate.set()
    heard = [await sio.hear() for _ in heads]
    assert [h for h, _ in heard] == heads
    assert [said[0]["status"] for _, said in heard] == ["ok", "ok", "error"]
    server.service.release({"turn": "t"})
    assert await sio.hear() == (held, [{"status": "ok", "response": {"turn": "t"}}])


async def test_a_bug_loses_the_topic_and_says_so(sio: RawClient) -> None:
    """In the ack, and as `phx_error`; the client joins again."""
    await sio.join(S)
    assert refusal(await sio.ask("push", S, "submit", {"prompt": "crash"})) == "internal"
    assert await sio.message() == (S, "phx_error", {"reason": "channel_crash"})
    assert refusal(await sio.ask("join", "session:broken", {"start": {}})) == "join crashed"
    await sio.join(S)


async def test_a_thousand_pushes_at_once(sio: RawClient) -> None:
    """All are answered, in their order, in one body as well as in a thousand frames."""
    await sio.join(S)
    await sio.say(*(f'42{n}["push","{S}","interrupt",{{}}]' for n in range(1000)))
    assert [(await sio.hear())[0] for _ in range(1000)] == [f"3{n}" for n in range(1000)]


async def test_a_large_prompt_comes_whole(server: PhoenixServer, sio: RawClient) -> None:
    """In however many pieces it arrives."""
    await sio.join(S)
    prompt = "ä" * 400_000
    assert (await sio.ask("push", S, "submit", {"prompt": prompt}))["status"] == "ok"
    assert server.service.calls[-1][1].prompt == prompt  # type: ignore[attr-defined]


# --- screens ----------------------------------------------------------------------------------------

T = "terminal:a"


@pytest.fixture
def pane(server: PhoenixServer) -> FakePane:
    return server.service.panes.add("a")


async def test_a_screen_comes_as_bytes(sio: RawClient, pane: FakePane) -> None:
    """After the join's picture; `screen` as JSON."""
    pane.write(b"before")
    assert await sio.join(T) == {"cols": 80, "rows": 24, "screen": "<6>"}
    pane.write(b"\x1b[1m\xff\x00")
    assert await sio.message() == (T, "output", b"\x1b[1m\xff\x00")
    size = {"cols": 100, "rows": 30}
    wanted = await sio.emit("push", T, "resize", size)
    heard = [await sio.hear(), await sio.hear()]
    assert (wanted, [{"status": "ok", "response": size}]) in heard
    assert ("2", ["message", T, "screen", {**size, "screen": "<12>"}]) in heard


async def test_input_is_typed_as_bytes_or_as_text(sio: RawClient, pane: FakePane) -> None:
    """In the order in which it was said."""
    await sio.join(T)
    for n in range(3):
        place = '{"_placeholder":true,"num":0}'
        await sio.say(f'451-7{n}["push","{T}","input",{place}]', b"\xff%d" % n)
        await sio.say(f'428{n}["push","{T}","input",{{"text":"é"}}]')
    for n in range(3):
        for head in (f"37{n}", f"38{n}"):
            assert await sio.hear() == (head, [{"status": "ok", "response": {}}])
    assert pane.typed == b"\xff0\xc3\xa9\xff1\xc3\xa9\xff2\xc3\xa9"


async def test_a_deleted_screen_is_closed(server: PhoenixServer, sio: RawClient, pane: FakePane) -> None:
    """As every topic is."""
    await sio.join(T)
    server.service.screens.drop("a")
    assert await sio.message() == (T, "phx_close", {})


async def test_bytes_where_there_are_none_are_refused(sio: RawClient) -> None:
    """A prompt is text."""
    await sio.join(S)
    await sio.say('451-5["push","session:a","submit",{"prompt":{"_placeholder":true,"num":0}}]', b"\xff\xfe")
    head, (said,) = await sio.hear()
    assert head == "35"
    assert refusal(said) == "invalid_payload"
