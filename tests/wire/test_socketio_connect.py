"""Connections of Socket.IO: who is let in, what ends them, and how a WebSocket takes over from polls."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from bridge.events import DeltaAdded, TurnId
from bridge.transports import engineio_session as engineio
from tests.fakes.phoenix import PATIENCE_S, PhoenixServer
from tests.fakes.service import TOKEN
from tests.fakes.socketio import (
    CONNECTIONS,
    PollingClient,
    RawClient,
    WebSocketClient,
    address,
    polling,
    websocket,
)
from tests.wire.conftest import Serve

S = "session:a"


@pytest.fixture(params=CONNECTIONS)
async def opened(server: PhoenixServer, request: pytest.FixtureRequest) -> AsyncIterator[RawClient]:
    """A session of which nobody knows whose it is."""
    async with CONNECTIONS[request.param](server) as client:
        yield client


async def ended(client: RawClient) -> int:
    """How the session ends: the close code, or the status of a poll."""
    if isinstance(client, WebSocketClient):
        return await client.closed()
    assert isinstance(client, PollingClient)
    return await client.refused()


def word(text: str) -> DeltaAdded:
    return DeltaAdded(TurnId("t"), 0, "text", text)


# --- who is let in ----------------------------------------------------------------------------------


@pytest.mark.parametrize("auth", [{"token": "wrong"}, {}, {"token": 7}, [TOKEN], TOKEN, {"token": [TOKEN]}])
async def test_without_a_valid_token_nobody_is_connected(opened: RawClient, auth: Any) -> None:
    """The client is told in our own words, and may try again."""
    head, said = await opened.connect(auth)
    assert head == "4"
    assert said["data"]["reason"] == "unauthorized"
    assert said["message"] == said["data"]["message"]
    assert (await opened.connect())[0] == "0"
    await opened.join(S)


async def test_wrong_tokens_are_counted_for_the_address_they_come_from(
    server: PhoenixServer, opened: RawClient
) -> None:
    """As on every other way in; when to come again is said."""
    server.service.failures.set(1)
    assert (await opened.connect({"token": "wrong"}))[1]["data"]["reason"] == "unauthorized"
    head, said = await opened.connect({"token": "wrong"})
    assert (head, said["data"]["reason"]) == ("4", "rate_limited")
    assert 0 < said["data"]["retry_after_s"] <= 60


async def test_who_asks_to_be_let_in_again_and_again_is_sent_away(opened: RawClient) -> None:
    """Guessing gets nowhere, and answers that nobody reads do not pile up."""
    for _ in range(16):
        assert (await opened.connect({"token": "wrong"}))[0] == "4"
    if isinstance(opened, PollingClient):
        assert await opened.post(b"40") == 400
    else:
        await opened.say("40")
    assert await ended(opened) in (1011, 400)


async def test_other_namespaces_are_not_there(opened: RawClient) -> None:
    """The default one is."""
    await opened.say("40/admin," + json.dumps({"token": TOKEN}))
    assert await opened.packet() == '44/admin,"Unable to connect"'
    assert (await opened.connect())[0] == "0"


async def test_before_it_is_connected_nothing_reaches_anything(
    server: PhoenixServer, opened: RawClient
) -> None:
    """An event ends the session."""
    packet = f'420["join","{S}",{{}}]'
    if isinstance(opened, PollingClient):
        assert await opened.post(packet.encode()) == 400
    else:
        await opened.say(packet)
    assert await ended(opened) in (1011, 400)
    assert server.hub.topic(S).viewers == 0


async def test_who_leaves_the_namespace_is_gone_and_may_come_back(
    server: PhoenixServer, opened: RawClient
) -> None:
    """As another client."""
    await opened.connect()
    await opened.join(S)
    await opened.say("41")
    assert (await opened.connect())[0] == "0"
    assert server.hub.topic(S).viewers == 0
    await opened.silence()
    packets = ["41", f'420["join","{S}",{{}}]']
    if isinstance(opened, PollingClient):
        assert await opened.post("\x1e".join(packets).encode()) == 400
    else:
        await opened.say(*packets)
    assert await ended(opened) in (1011, 400)


async def test_who_does_not_say_who_it_is_is_sent_away(
    server: PhoenixServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the time of one ping."""
    monkeypatch.setattr(engineio, "PING_INTERVAL_S", 0.05)
    monkeypatch.setattr(engineio, "PING_TIMEOUT_S", 0.05)
    async with websocket(server) as client:
        assert await client.packet() == "2"
        await client.say("3")
        assert await client.closed() == 1002


async def test_origins_are_judged_as_everywhere(serve: Serve) -> None:
    """The listed and the bridge's own are told so in CORS' words; the others are refused outright."""
    server = await serve(origins=["https://app.example"])
    async with aiohttp.ClientSession() as session:
        for transport in CONNECTIONS:
            url = address(server, transport=transport)
            async with session.get(url, headers={"Origin": "https://evil.example"}) as response:
                assert response.status == 403
        url = address(server, transport="polling")
        for origin in ("https://app.example", f"http://localhost:{server.port}"):
            for method in ("GET", "OPTIONS"):
                async with session.request(method, url, headers={"Origin": origin}) as response:
                    assert response.status == 200
                    assert response.headers["Access-Control-Allow-Origin"] == origin
    async with websocket(server, Origin="https://app.example") as client:
        assert (await client.connect())[0] == "0"


@pytest.mark.parametrize(
    ("method", "params", "status"),
    [
        ("GET", {"transport": "polling", "EIO": "3"}, 400),
        ("GET", {"transport": "polling", "j": "0"}, 400),
        ("GET", {"transport": "carrier-pigeon"}, 400),
        ("GET", {"transport": "websocket"}, 400),
        ("GET", {"transport": "polling", "sid": "nobody"}, 400),
        ("POST", {"transport": "polling", "sid": "nobody"}, 400),
        ("POST", {"transport": "polling"}, 400),
        ("PUT", {"transport": "polling"}, 405),
    ],
)
async def test_requests_that_are_none_of_engine_io(
    server: PhoenixServer, method: str, params: dict[str, str], status: int
) -> None:
    """Are refused, and leave nothing behind."""
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, address(server, **params)) as response,
    ):
        assert response.status == status


# --- what ends a client -----------------------------------------------------------------------------

MALFORMED = [
    "",
    "9",
    "4",
    "49",
    "4x",
    "42",
    "42[",
    "42{}",
    "42[]",
    "42[7]",
    '42["join",',
    "4²[]",
    "42²[]",
    '42["join","\\ud800"]',
    "42" + "[" * 5000 + "]" * 5000,
    "44{}",
    "4" + '2/admin,["join","sessions"]',
    "42" + "1" * 101 + "[]",
    '451-["push",{"_placeholder":true,"num":0}]\x1e42["x"]',
    "459999999999-[]",
    "4517-[]",
    "5",
    "0{}",
    "2",
]


@pytest.mark.parametrize("packet", MALFORMED)
@pytest.mark.parametrize("transport", CONNECTIONS)
async def test_a_malformed_packet_ends_its_client(
    server: PhoenixServer, transport: str, packet: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody else, and without a traceback."""
    async with CONNECTIONS[transport](server) as client, websocket(server) as other:
        await client.connect()
        await other.connect()
        if isinstance(client, PollingClient):
            # A body that is empty holds no packet; two empty ones are no packets.
            assert await client.post((packet or "\x1e").encode()) == 400
        else:
            await client.say(*packet.split("\x1e"))
        assert await ended(client) in (1011, 400)
        await other.join(S)
    assert not [r for r in caplog.records if r.exc_info or r.levelno >= logging.WARNING]


@pytest.mark.parametrize("body", [b"\xff", b"b???", b"bQQ==", b"4\xc3", b"\x1e".join([b"6"] * 10_001)])
async def test_a_malformed_body_ends_its_client(server: PhoenixServer, body: bytes) -> None:
    """Whatever it is."""
    async with polling(server) as client:
        await client.connect()
        assert await client.post(body) == 400
        assert await client.refused() == 400


@pytest.mark.parametrize("place", ['{"_placeholder":true,"num":3}', '{"_placeholder":true,"num":"x"}'])
async def test_a_place_without_bytes_ends_its_client(opened: RawClient, place: str) -> None:
    """The bytes are another's."""
    await opened.connect()
    with_bytes = [f'451-["push","terminal:a","input",{place}]', b"x"]
    if isinstance(opened, PollingClient):
        assert await opened.post(f"{with_bytes[0]}\x1ebeA==".encode()) == 400
    else:
        await opened.say(*with_bytes)
    assert await ended(opened) in (1011, 400)


async def test_what_is_too_large_ends_its_client(serve: Serve) -> None:
    """One packet, one body, or one packet's bytes together."""
    server = await serve(max_frame_bytes=10_000)
    async with websocket(server) as client:
        await client.connect()
        await client.say("42" + json.dumps(["x" * 10_001]))
        assert await client.closed() == 1009
    async with polling(server) as poller:
        await poller.connect()
        assert await poller.post(b"x" * 10_001) == 400
        assert await poller.refused() == 400
    async with websocket(server) as client:
        await client.connect()
        await client.say('453-["push","t","input"]', b"x" * 5_000, b"x" * 5_001)
        assert await client.closed() == 1011


async def test_a_second_poll_or_body_beside_the_first_ends_the_client(server: PhoenixServer) -> None:
    """The order of what is said would be lost."""
    async with polling(server) as client, asyncio.TaskGroup() as group:
        await client.connect()
        polls = [group.create_task(client.poll()) for _ in range(2)]
        await asyncio.wait(polls, timeout=PATIENCE_S)
        assert {p.result() for p in polls} == {400}


async def test_a_second_body_beside_the_first_ends_the_client(server: PhoenixServer) -> None:
    """The same for what it says."""
    async with polling(server) as client:
        await client.connect()
        begun, go = asyncio.Event(), asyncio.Event()

        async def body() -> AsyncIterator[bytes]:
            yield b"3"
            begun.set()
            await go.wait()

        async def slowly() -> int:
            async with client.session.post(client.address, data=body()) as response:
                return response.status

        async with asyncio.TaskGroup() as group:
            first = group.create_task(slowly())
            await begun.wait()
            poll = group.create_task(client.poll())
            assert await client.post(b"3") == 400
            assert await poll == 400
            go.set()
            assert await first in (200, 400)


async def test_who_does_not_answer_pings_is_sent_away(
    server: PhoenixServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who does answer, or says anything else, stays."""
    monkeypatch.setattr(engineio, "PING_INTERVAL_S", 0.1)
    monkeypatch.setattr(engineio, "PING_TIMEOUT_S", 0.1)
    async with websocket(server) as client:
        await client.connect()
        for _ in range(3):
            assert await client.packet() == "2"
            await client.say("3")
        assert await client.closed() == 1002
    async with polling(server) as poller:
        await poller.connect()
        assert await poller.refused() == 400


async def test_a_revoked_token_ends_its_clients(server: PhoenixServer, opened: RawClient) -> None:
    """After what was said before."""
    await opened.connect()
    await opened.join(S)
    server.service.publish("a", word("last"))
    await asyncio.sleep(0)
    server.service.connections.end(server.service.authenticate(TOKEN))
    assert (await opened.message())[2]["text"] == "last"
    assert await ended(opened) in (1001, 410)
    assert server.hub.topic(S).viewers == 0


async def test_a_stopping_bridge_sends_all_away(serve: Serve) -> None:
    """At once: who polls, who does not for the moment, who has a WebSocket, who is still nobody."""
    server = await serve(shutdown_s=PATIENCE_S)
    async with (
        websocket(server) as client,
        websocket(server) as nobody,
        polling(server) as poller,
        polling(server) as idle,
        asyncio.TaskGroup() as group,
    ):
        for each in (client, poller, idle):
            await each.connect()
        poll = group.create_task(poller.poll())
        await client.join(S)
        began = asyncio.get_running_loop().time()
        stopping = group.create_task(server.stop())
        assert await poll == 503
        assert await client.closed() == 1012
        assert await nobody.closed() == 1012
        await stopping
        assert asyncio.get_running_loop().time() - began < 5
    await server.start(0)


async def test_who_is_between_two_polls_is_told_of_the_stop_by_the_next(serve: Serve) -> None:
    """On the connection that it has: a request on one that was dropped under it is lost with some clients
    (xmlhttprequest-ssl 2.1.2, of socket.io-client in Node, repeats it and never sends it off)."""
    server = await serve(shutdown_s=PATIENCE_S)
    async with polling(server) as client, asyncio.TaskGroup() as group:
        await client.connect()
        stopping = group.create_task(server.stop())
        await asyncio.sleep(0)
        assert await client.poll() == 503
        await stopping
    await server.start(0)


async def test_a_client_that_goes_is_gone_from_its_topics(server: PhoenixServer) -> None:
    """Also without a word."""
    async with websocket(server) as client:
        await client.connect()
        await client.join(S)
        assert client.ws._response.connection is not None
        client.ws._response.connection.transport.abort()  # type: ignore[union-attr]
        async with asyncio.timeout(PATIENCE_S):
            while server.hub.topic(S).viewers:  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.01)


async def test_a_client_that_says_goodbye_is_gone(server: PhoenixServer, opened: RawClient) -> None:
    """Over polls, too, where there is no connection to lose; a join that is under way comes to nothing."""
    await opened.connect()
    await opened.join(S)
    await opened.emit("join", "session:slow", {"start": {}})
    await opened.say("41", "1")
    await ended(opened)
    assert server.hub.topic(S).viewers == 0
    assert not server.service.connections._ends
    server.service.gate.set()
    async with websocket(server) as other:
        await other.connect()
        assert (await other.join("session:slow"))["session"]["viewers"] == 1


async def test_who_was_sent_away_and_does_not_poll_holds_up_no_stop(serve: Serve) -> None:
    """What it may still fetch is not waited for."""
    server = await serve(shutdown_s=PATIENCE_S)
    async with polling(server) as client:
        await client.connect()
        server.service.connections.end(server.service.authenticate(TOKEN))
        began = asyncio.get_running_loop().time()
        await server.stop()
        assert asyncio.get_running_loop().time() - began < engineio.LINGER_S - 1
    await server.start()


# --- from polls to a WebSocket ----------------------------------------------------------------------


async def test_a_websocket_takes_over_and_nothing_is_lost(server: PhoenixServer) -> None:
    """Whatever happens at which moment of it: each event once, and in order."""
    async with polling(server) as poller, aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        await poller.connect()
        await poller.join(S)
        said = 0

        async def publish() -> None:
            nonlocal said
            said += 1
            server.service.publish("a", word(str(said)))
            await asyncio.sleep(0)

        await publish()
        poll = group.create_task(poller.poll())
        await poll
        poll = group.create_task(poller.poll())
        url = address(server, transport="websocket", sid=poller.sid)
        async with session.ws_connect(url) as ws:
            await publish()
            await poll
            poll = group.create_task(poller.poll())
            await ws.send_str("2probe")
            assert await ws.receive_str(timeout=PATIENCE_S) == "3probe"
            assert await poll == 200
            assert poller.heard[-1] == "6"
            await publish()
            await poller.say(f'427["push","{S}","interrupt",{{}}]')
            await ws.send_str("5")
            await publish()
            client = WebSocketClient(ws)
            heard = [await poller.message() for _ in range(2)]
            while len(heard) < 4:
                head, data = await client.hear()
                if head == "2":
                    heard.append(tuple(data[1:]))
                else:
                    assert head == "37"
            assert [int(p["text"]) for _, _, p in heard] == [1, 2, 3, 4]
            client.acks = 100
            await client.silence()
            assert await poller.poll() == 400, "the session is no longer one of polls"


@pytest.mark.parametrize("instead", ["", "2", "2prob", "5", '42["join","session:a",{}]'])
async def test_a_websocket_that_does_not_take_over_changes_nothing(
    server: PhoenixServer, instead: str
) -> None:
    """The session goes on with polls."""
    async with polling(server) as poller, aiohttp.ClientSession() as session:
        await poller.connect()
        url = address(server, transport="websocket", sid=poller.sid)
        async with session.ws_connect(url) as ws:
            await ws.send_str(instead)
            assert (await ws.receive(timeout=PATIENCE_S)).type is aiohttp.WSMsgType.CLOSE
        async with session.ws_connect(url) as ws:
            await ws.send_str("2probe")
            await ws.receive_str(timeout=PATIENCE_S)
        await poller.join(S)
        await poller.silence()


async def test_a_session_ends_while_a_websocket_is_to_take_over(server: PhoenixServer) -> None:
    """Both are told."""
    async with polling(server) as poller, aiohttp.ClientSession() as session:
        await poller.connect()
        url = address(server, transport="websocket", sid=poller.sid)
        async with session.ws_connect(url, autoclose=False) as ws:
            await ws.send_str("2probe")
            await ws.receive_str(timeout=PATIENCE_S)
            server.service.connections.end(server.service.authenticate(TOKEN))
            assert (await ws.receive(timeout=PATIENCE_S)).data == 1001
        assert await poller.refused() == 410


# --- who lags ---------------------------------------------------------------------------------------


async def test_who_does_not_read_is_merged_and_then_sent_away(serve: Serve) -> None:
    """Who reads is told everything meanwhile; who lags keeps no more than its bound."""
    server = await serve(outbox_bytes=200_000, ring_bytes=100_000)
    text = "x" * 1000
    async with websocket(server) as slow, polling(server) as away, websocket(server) as fast:
        for client in (slow, away, fast):
            await client.connect()
            await client.join(S)
        transport = slow.ws._response.connection.transport  # type: ignore[union-attr]
        transport.pause_reading()  # type: ignore[union-attr]
        full = 0
        while not full or server.hub.topic(S).viewers > 1:
            for _ in range(10):
                server.service.publish("a", word(text))
            for _ in range(10):
                assert (await fast.message())[2]["text"] == text
            full = full or max(server.unwritten())
            assert max(server.unwritten()) < 2_000_000
        transport.resume_reading()  # type: ignore[union-attr]
        assert await slow.closed() == 4008
        assert await away.refused() == 410
        await fast.silence()


async def test_who_lags_a_little_is_told_merged(server: PhoenixServer) -> None:
    """As one event that says from where."""
    async with polling(server) as client:
        await client.connect()
        await client.join(S)
        for n in range(5):
            server.service.publish("a", word(f"{n}"))
            await asyncio.sleep(0)
        heard = (await client.message())[2]
        assert (heard["first_seq"], heard["seq"], heard["text"]) == (1, 5, "01234")


async def test_who_asks_on_without_reading_is_heard_no_further(serve: Serve) -> None:
    """What waits for it stays bounded, and once it reads everything is answered."""
    server = await serve(outbox_bytes=200_000)
    for n in range(40):
        server.service.add(f"s{n}")
    async with websocket(server) as client:
        await client.connect()
        await client.join("sessions")
        transport = client.ws._response.connection.transport  # type: ignore[union-attr]
        transport.pause_reading()  # type: ignore[union-attr]
        for n in range(1000):
            await client.say(f'42{n}["push","sessions","list",{{}}]')
        async with asyncio.timeout(PATIENCE_S):
            while not any(server.unwritten()):  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0)
        transport.resume_reading()  # type: ignore[union-attr]
        for n in range(1000):
            assert (await client.hear())[0] == f"3{n}"


# --- what is said of it -----------------------------------------------------------------------------


async def test_nothing_that_clients_say_reaches_the_log(
    server: PhoenixServer,
    opened: RawClient,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Neither token nor prompt nor a session's id that is none, at no level."""
    caplog.set_level(logging.DEBUG)
    await opened.connect({"token": "geheim-token"})
    await opened.connect()
    await opened.join(S)
    await opened.ask("push", S, "submit", {"prompt": ["geheim"]})
    await opened.ask("push", S, "submit", {"prompt": "geheim-prompt"})
    async with aiohttp.ClientSession() as session:
        for request in (
            session.get(address(server, transport="polling", sid="geheim-sid")),
            session.ws_connect(address(server, transport="websocket"), protocols=["geheim-protocol"]),
        ):
            async with request:
                pass
    captured = capfd.readouterr()
    assert "geheim" not in captured.out + captured.err + caplog.text


async def test_a_body_that_comes_in_pieces_comes_whole(server: PhoenixServer) -> None:
    """Without its length told before."""
    async with polling(server) as client:
        await client.connect()

        async def pieces() -> AsyncIterator[bytes]:
            for piece in (b"420[", b'"join",', f'"{S}"]'.encode()):
                yield piece
                await asyncio.sleep(0.01)

        async with client.session.post(client.address, data=pieces()) as response:
            assert response.status == 200
        assert (await client.hear())[0] == "30"
        async with client.session.post(client.address, data=io.BytesIO(b"")) as response:
            assert response.status == 200
        client.acks = 100
        await client.silence()
