"""The official npm `phoenix` client against the transports: what it needs to work, seen working."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.events import DeltaAdded, Epoch, TurnId
from bridge.transports.phoenix_channels import Channels, Work
from bridge.wire.phoenix import V2, Message
from tests.fakes.phoenix import PhoenixServer
from tests.fakes.plain_proxy import plain_proxy
from tests.fakes.scenario import Connect

A = "session:a"


def word(text: str) -> DeltaAdded:
    return DeltaAdded(TurnId("t"), 0, "text", text)


async def test_it_joins_pushes_hears_and_leaves(connect: Connect) -> None:
    """The reply first, then the events, each with its number; leaving closes the channel."""
    client = await connect()
    assert await client.hear("open")
    assert await client.hear("joined") == 0
    client.tell(push="submit", payload={"prompt": "words 3"})
    assert (await client.hear("ok"))["turn"] == "turn-1"
    events = [await client.hear("event") for _ in range(6)]
    assert events == ["turn_started", "delta", "delta", "delta", "block", "turn_finished"]
    client.tell(push="submit", payload={"prompt": " "})
    assert await client.hear("error") == "prompt_empty"
    client.tell(leave=True)
    assert await client.hear("closed")
    assert await client.hear("left")


async def test_A16_A20_it_gives_its_token_as_auth_token(connect: Connect) -> None:
    """The sub-protocol that it asks for is answered, or it would never open; polls have it in a header."""
    client = await connect(via="authToken")
    assert await client.hear("open")
    assert await client.hear("joined") == 0


async def test_A06_N13_with_a_wrong_token_it_never_opens(connect: Connect, transport: str) -> None:
    """And tries again by itself."""
    client = await connect(token="wrong")
    said = [await client.said() for _ in range(6)]
    assert said.count({"close": 1006 if transport == "websocket" else 1008}) >= 2
    assert all(s.keys() <= {"close", "errored"} for s in said)


async def test_E04_a_topic_without_a_route_is_refused(connect: Connect) -> None:
    """`receive("error")` fires."""
    client = await connect(topic="room:lobby")
    await client.hear("open")
    assert await client.hear("refused") == "unmatched topic"


async def test_K02_N11_P02_after_1011_it_comes_back_and_misses_nothing(
    server: PhoenixServer, connect: Connect
) -> None:
    """It rejoins with what it heard last and is given the rest."""
    client = await connect()
    await client.hear("open")
    await client.hear("joined")
    server.service.publish("a", word("one"))
    await client.hear("event")
    client.tell(garble=True)
    await client.hear("errored")
    assert await client.hear("close") == 1011
    server.service.publish("a", word("two"))
    assert await client.hear("open")
    assert await client.hear("joined") == 2
    assert (await client.hear("payload"))["text"] == "two"


async def test_K02_M01_M03_after_a_stop_it_comes_back_to_the_next_bridge(
    server: PhoenixServer, connect: Connect, transport: str
) -> None:
    """Another epoch: its cursor is not recovered, and it is told so."""
    client = await connect()
    await client.hear("open")
    await client.hear("joined")
    server.service.publish("a", word("one"))
    await client.hear("event")
    port = server.port
    await server.stop()
    await client.hear("errored")
    assert await client.hear("close") == (1012 if transport == "websocket" else 1011)
    server.epoch = Epoch("e2")
    await server.start(port)
    server.service.add("a")
    while "joined" not in (said := await client.said()):
        assert said.keys() <= {"close", "errored", "open", "transport"}
    assert said == {"joined": 0, "recovered": False}


async def test_G09_after_a_crashed_channel_it_joins_again(connect: Connect) -> None:
    """phx_error, then a new join by itself."""
    client = await connect()
    await client.hear("open")
    await client.hear("joined")
    client.tell(push="submit", payload={"prompt": "crash"})
    assert await client.hear("errored") == {"reason": "channel_crash"}
    assert await client.hear("joined") == 0


async def test_G10_a_deleted_session_is_not_joined_again(server: PhoenixServer, connect: Connect) -> None:
    """phx_close: the channel is closed for good."""
    client = await connect()
    await client.hear("open")
    await client.hear("joined")
    server.hub.drop("session:a")
    assert await client.hear("closed")


async def test_F05_joining_a_topic_twice_ends_the_first_and_keeps_the_second(
    server: PhoenixServer, connect: Connect
) -> None:
    """Its own leave and our close do not touch the new channel."""
    client = await connect()
    await client.hear("open")
    await client.hear("joined")
    client.tell(again=True)
    said = [await client.said() for _ in range(2)]
    assert {"closed": True} in said
    assert {"joined": 0, "recovered": True} in said
    server.service.publish("a", word("x"))
    assert (await client.hear("payload"))["text"] == "x"


@pytest.mark.longpoll("a WebSocket is closed with 4008")
async def test_N11_a_session_that_is_gone_is_joined_anew(server: PhoenixServer, connect: Connect) -> None:
    """3410 to itself; it rejoins with what it heard last, and misses nothing."""
    client = await connect()
    await client.hear("open")
    await client.hear("joined")
    (session,) = server.polls._sessions.values()
    session.end()
    server.service.publish("a", word("meanwhile"))
    await client.hear("errored")
    assert await client.hear("close") == 3410
    assert await client.hear("open")
    assert await client.hear("joined") == 1
    assert (await client.hear("payload"))["text"] == "meanwhile"


@pytest.fixture
def muted(monkeypatch: pytest.MonkeyPatch) -> list[Message]:
    """The first five heartbeats, which are left unanswered."""
    beats: list[Message] = []
    take = Channels.take

    def deaf(self: Channels, message: Message) -> Work | None:
        if message.topic == "phoenix" and len(beats) < 5:
            beats.append(message)
            return None
        return take(self, message)

    monkeypatch.setattr(Channels, "take", deaf)
    return beats


@pytest.mark.websocket("a client that polls sends no heartbeat")
async def test_I03_without_an_answer_to_its_heartbeat_it_connects_again(
    connect: Connect, muted: list[Message]
) -> None:
    """Its own close has the code 1000, and it comes back all the same."""
    client = await connect(heartbeatMs=100)
    await client.hear("open")
    await client.hear("joined")
    assert (await client.hear("errored"))["reason"] == "heartbeat_timeout"
    await client.until("open")
    await client.until("joined")
    assert (muted[0].join_ref, muted[0].event, muted[0].payload) == (None, "heartbeat", {})


@pytest.mark.longpoll("a WebSocket does")
async def test_I03_N20_a_client_that_polls_sends_no_heartbeat(
    server: PhoenixServer, connect: Connect, muted: list[Message]
) -> None:
    """Its polls are enough."""
    client = await connect(heartbeatMs=1)
    await client.hear("open")
    await client.hear("joined")
    for n in range(20):
        server.service.publish("a", word(str(n)))
        assert (await client.hear("payload"))["text"] == str(n)
    assert muted == []


@pytest.mark.websocket("it begins with one")
async def test_P03_without_an_answer_to_its_first_ping_it_falls_back_to_long_poll(
    connect: Connect, muted: list[Message]
) -> None:
    """Opening and joining alone does not convince it."""
    client = await connect(fallbackMs=500)
    assert await client.said() == {"open": True, "transport": "websocket"}
    await client.hear("joined")
    assert muted != []
    assert await client.until("transport") == "longpoll"
    await client.until("joined")
    client.tell(push="interrupt", payload={})
    assert await client.hear("ok") == {"turn": None}


@pytest.mark.websocket("it begins with one")
async def test_P03_where_a_websocket_is_refused_it_falls_back_at_once(
    server: PhoenixServer, connect: Connect
) -> None:
    """As behind a proxy that knows nothing of them."""
    async with plain_proxy(server.http) as proxy:
        client = await connect(url=proxy, fallbackMs=20_000)
        assert await client.until("transport") == "longpoll"
        assert await client.until("joined") == 0


async def test_P01_refs_are_strings_of_one_counter_and_a_rejoin_has_a_new_one(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A join's two refs are the same; it is nowhere said that they begin with 1."""
    heard: list[Message] = []
    take = Channels.take

    def noting(self: Channels, message: Message) -> Work | None:
        heard.append(message)
        return take(self, message)

    monkeypatch.setattr(Channels, "take", noting)
    client = await connect()
    await client.hear("open")
    await client.hear("joined")
    client.tell(push="submit", payload={"prompt": "crash"})
    await client.until("joined")
    client.tell(push="interrupt", payload={})
    await client.hear("ok")
    joins = [m for m in heard if m.event == "phx_join"]
    assert len(joins) == 2
    assert all(m.join_ref == m.ref for m in joins)
    assert heard[-1].join_ref == joins[1].ref
    refs = [int(m.ref) for m in heard]
    assert refs == sorted(set(refs))
    assert all(isinstance(m.ref, str) and isinstance(m.join_ref, str) for m in heard)


async def test_P04_a_reply_that_comes_too_late_is_ignored(server: PhoenixServer, connect: Connect) -> None:
    """And one that comes twice, or that nobody asked for."""
    client = await connect()
    await client.hear("open")
    await client.hear("joined")
    client.tell(push="submit", payload={"prompt": "hold"}, timeout=50)
    assert await client.hear("timeout") == "submit"
    release = server.service.held.pop()
    release({"turn": "late"})
    release({"turn": "twice"})
    client.tell(push="interrupt", payload={})
    assert await client.hear("ok") == {"turn": None}


async def test_P05_a_client_that_disconnects_leaves_nothing_and_may_come_back(
    server: PhoenixServer, connect: Connect, transport: str
) -> None:
    """Its close has no code, and is answered with 1000, which it does not take for a failure."""
    client = await connect()
    await client.hear("open")
    await client.hear("joined")
    client.tell(disconnect=True)
    said = [await client.said() for _ in range(2)]
    assert {"close": 1000 if transport == "websocket" else 1005} in said
    assert [list(s) for s in said if "close" not in s] == [["errored"]]
    client.tell(connect=True)
    assert await client.hear("open")
    assert await client.hear("joined") == 0


async def test_P06_every_payload_is_an_object(
    server: PhoenixServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its logger looks into each of them: replies, errors, events, presence and the close."""
    payloads: list[Any] = []
    push = V2.push

    def noting(self: V2, join_ref: Any, ref: Any, topic: Any, event: str, payload: Any) -> bytes:
        payloads.append(payload)
        return push(self, join_ref, ref, topic, event, payload)

    monkeypatch.setattr(V2, "push", noting)
    client = await connect(presence=True)
    await client.until("present")
    client.tell(push="submit", payload={"prompt": "words 1"})
    await client.until("event", lambda event: event == "turn_finished")
    client.tell(push="submit", payload={"prompt": "crash"})
    await client.until("errored")
    await client.until("joined")
    client.tell(leave=True)
    await client.until("left")
    assert len(payloads) >= 3
    assert None not in payloads
