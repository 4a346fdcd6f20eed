"""A session's events over HTTP: what is told, how it is framed, when it ends, and coming back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from bridge.auth import ADMIN, Principal
from bridge.clock import Clock
from bridge.config import HubConfig, ServerConfig
from bridge.events import BlockFinished, DeltaAdded, SessionChanged, TurnId, Usage
from bridge.service import Service
from bridge.transports import http
from bridge.transports.rest import Rest
from tests.fakes.event_stream import EventSource
from tests.fakes.phoenix import PhoenixServer
from tests.fakes.rest import PATIENCE_S, RestClient, until
from tests.fakes.service import TOKEN, WATCH_TOKEN, a_session
from tests.wire.conftest import Serve

EVENTS = "/api/sessions/a/events"
TURN = TurnId("t")


def word(text: str) -> DeltaAdded:
    return DeltaAdded(TURN, 0, "text", text)


@pytest.fixture
async def rest(server: PhoenixServer) -> AsyncIterator[RestClient]:
    async with RestClient(server.http).open() as client:
        yield client


def viewers(server: PhoenixServer) -> int:
    return server.hub.topic("session:a").viewers


async def test_the_join_comes_first_then_who_is_there_then_what_happens(
    rest: RestClient, server: PhoenixServer
) -> None:
    """As after a join over Phoenix; presence has no cursor of its own."""
    server.service.publish("a", word("before"))
    source = rest.source(EVENTS)
    async with source.connected():
        joined = await source.next_any()
        assert (joined.event, joined.id, joined.data["seq"]) == ("joined", "e1:1", 1)
        assert joined.data["recovered"] is False
        state = await source.next_any()
        assert (state.event, state.data, state.own) == ("presence_state", {}, False)
        server.service.publish("a", word("x"))
        told = await source.next()
        assert (told.event, told.id, told.data["text"], told.data["seq"]) == ("delta", "e1:2", "x", 2)
        assert source.parser.retry == 1000
    await until(lambda: not viewers(server))


async def test_a_viewer_of_a_stream_is_present(rest: RestClient, server: PhoenixServer) -> None:
    """To clients of every transport, until it goes."""
    async with server.client() as phoenix:
        await phoenix.join("session:a")
        assert (await phoenix.hear_any())[3] == "presence_state"
        assert (await phoenix.hear_any())[4]["joins"]["owner"]["metas"][0]["transport"] == "websocket"
        rest.token = WATCH_TOKEN
        source = rest.source(EVENTS)
        async with source.connected():
            came = (await phoenix.hear_any())[4]["joins"]
            assert came["guest"]["metas"][0]["transport"] == "sse"
            assert set((await source.until("presence_state")).data) == {"owner"}
            assert set((await source.until("presence_diff")).data["joins"]) == {"guest"}
        left = (await phoenix.hear_any())[4]["leaves"]
        assert left["guest"]["metas"][0]["phx_ref"] == came["guest"]["metas"][0]["phx_ref"]


async def test_a_cut_at_every_boundary_loses_nothing_and_repeats_nothing(
    rest: RestClient, server: PhoenixServer
) -> None:
    """The id of each event is where the stream goes on behind it, live or replayed."""
    server.service.publish("a", word("first"))
    source = rest.source(EVENTS)
    async with source.connected():
        await source.until("presence_state")
        await rest.post("/api/sessions/a/turns", {"prompt": "words 5"})
        await source.until("turn_finished")
    whole = [t for t in source.parser.told if "seq" in t.data and t.event != "joined"]
    assert [t.data["seq"] for t in whole] == list(range(2, 10))
    for n in range(len(whole) + 1):
        back = rest.source(EVENTS)
        back.parser.last_id = whole[n - 1].id if n else "e1:1"
        async with back.connected():
            joined = await back.next_any()
            assert joined.data["recovered"] is True
            assert joined.id == (whole[n - 1].id if n else "e1:1")
        async with back.connected():  # cut once more, before anything else was told
            assert (await back.next()).data["recovered"] is True
            assert [await back.next() for _ in whole[n:]] == whole[n:]
            assert back.parser.last_id == whole[-1].id


async def test_the_cursor_may_stand_in_the_address(rest: RestClient, server: PhoenixServer) -> None:
    """For a client's first attempt; its header is newer."""
    for n in range(4):
        server.service.publish("a", word(f"w{n}"))
    source = rest.source(f"{EVENTS}?after=e1:1&turns=0")
    async with source.connected():
        assert (await source.next()).data["recovered"] is True
        assert (await source.next()).data["text"] == "w1"
        assert (await source.next()).data["text"] == "w2"
    async with source.connected():
        assert (await source.until("joined")).id == "e1:3"
        assert (await source.next()).data["text"] == "w3"


@pytest.mark.parametrize("last", ["e0:1", "e1:99", "nonsense", "e1:-1"])
async def test_a_cursor_that_is_not_held_gets_the_snapshot_that_says_so(rest: RestClient, last: str) -> None:
    """And never an error: a browser would not come back after one."""
    source = rest.source(EVENTS, **{"Last-Event-ID": last})
    async with source.connected():
        joined = await source.next_any()
        assert (joined.data["recovered"], joined.id) == (False, "e1:0")


async def test_a_deleted_session_is_said_to_be_closed(rest: RestClient, server: PhoenixServer) -> None:
    """What was told before comes first; then the stream ends, and coming back is 404."""
    source = rest.source(EVENTS)
    async with source.connected():
        await source.until("presence_state")
        server.service.publish("a", word("last"))
        await rest.delete("/api/sessions/a")
        told = await source.end()
    assert [(t.event, t.own) for t in told] == [("delta", True), ("phx_close", False)]
    assert told[1].data == {}
    assert (await rest.get(EVENTS)).reason == "session_not_found"


async def test_a_token_that_is_taken_back_ends_its_streams(rest: RestClient, server: PhoenixServer) -> None:
    """And no other's."""
    mine = rest.source(EVENTS)
    other = EventSource(f"{server.http}{EVENTS}", WATCH_TOKEN)
    async with mine.connected(), other.connected():
        await mine.until("presence_state")
        await other.until("presence_state")
        server.service.connections.end(Principal("owner", ADMIN))
        assert await mine.end() == []
        server.service.publish("a", word("x"))
        assert (await other.next()).data["text"] == "x"


async def test_a_stop_of_the_bridge_ends_every_stream_at_an_event(
    rest: RestClient, server: PhoenixServer
) -> None:
    """Within the deadline, also where a client does not read; what was told before it has come."""
    source, deaf = rest.source(EVENTS), rest.source(EVENTS)
    async with source.connected(), deaf.connected():
        await source.until("presence_state")
        server.service.publish("a", word("last"))
        await asyncio.sleep(0)
        await asyncio.wait_for(server.runner.cleanup(), PATIENCE_S)
        assert [t.event for t in await source.end()] == ["delta"]


async def test_a_client_that_goes_is_forgotten_at_once(rest: RestClient, server: PhoenixServer) -> None:
    """Not when the next event fails to reach it: nobody is shown who is not there."""
    source = rest.source(EVENTS)
    async with source.connected():
        await source.until("presence_state")
        assert viewers(server) == 1
    await until(lambda: not viewers(server))
    await until(lambda: not server.hub.topic("session:a", numbered=False, aside="presence").viewers)


# --- the bytes --------------------------------------------------------------------------------------


async def raw(server: PhoenixServer, version: str, path: str = EVENTS) -> tuple[Any, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    head = f"GET {path}?turns=0 HTTP/{version}\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    writer.write(head.encode())
    return reader, writer


async def test_the_body_is_chunked_and_ends_as_chunked_bodies_do(server: PhoenixServer) -> None:
    """Every byte of it, as HTTP has it; a proxy in between is less patient than our clients."""
    reader, writer = await raw(server, "1.1")
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_S)
    assert b"\r\nTransfer-Encoding: chunked\r\n" in head
    assert b"\r\nConnection: close\r\n" in head
    assert b"Content-Length" not in head
    body = b""
    stopping = None
    while True:
        size = int((await asyncio.wait_for(reader.readuntil(b"\r\n"), PATIENCE_S))[:-2], 16)
        chunk = await reader.readexactly(size)
        assert await reader.readexactly(2) == b"\r\n"
        if not size:
            break
        assert chunk.endswith(b"\n\n"), "a chunk is whole units"
        body += chunk
        if stopping is None and b"presence_state" in body:
            server.service.publish("a", word("x"), BlockFinished(TURN, 0, "text", "é" * 70_000))
            await asyncio.sleep(0)
            stopping = asyncio.ensure_future(server.runner.cleanup())
    assert await reader.read() == b"", "nothing follows the last chunk"
    assert body.count(b"\nid: ") == 3
    assert stopping is not None
    await stopping
    writer.close()


async def test_a_client_of_http_1_0_gets_the_same_without_chunks(server: PhoenixServer) -> None:
    """As nginx asks, unless it is told otherwise."""
    reader, writer = await raw(server, "1.0")
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_S)
    assert b"Transfer-Encoding" not in head
    await asyncio.wait_for(reader.readuntil(b"event: presence_state\ndata: {}\n\n"), PATIENCE_S)
    server.service.publish("a", word("x"))
    unit = await asyncio.wait_for(reader.readuntil(b"\n\n"), PATIENCE_S)
    while not unit.startswith(b"event: delta\n"):
        unit = await asyncio.wait_for(reader.readuntil(b"\n\n"), PATIENCE_S)
    await server.runner.cleanup()
    assert await asyncio.wait_for(reader.read(), PATIENCE_S) == b""
    writer.close()


async def test_what_a_client_says_behind_its_request_harms_nothing(server: PhoenixServer) -> None:
    """A stream is the last answer of its connection."""
    reader, writer = await raw(server, "1.1")
    await asyncio.wait_for(reader.readuntil(b"presence_state"), PATIENCE_S)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n\x00\xff garbage")
    await writer.drain()
    server.service.publish("a", word("still here"))
    await asyncio.wait_for(reader.readuntil(b"still here"), PATIENCE_S)
    writer.close()


async def test_a_silent_stream_says_a_comment_now_and_then(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that no proxy thinks it dead; no client hears it."""

    class Quick(Rest):
        def __init__(self, service: Service, server: ServerConfig, hub: HubConfig, clock: Clock) -> None:
            super().__init__(service, server, hub, clock, beat_s=0.02)

    monkeypatch.setattr(http, "Rest", Quick)
    server = await serve()
    source = EventSource(f"{server.http}{EVENTS}", TOKEN)
    async with source.connected():
        await source.until("presence_diff")
        for _ in range(3):
            await source.comment()
        assert len(source.seen) == len(source.parser.told)


# --- who does not keep up -----------------------------------------------------------------------------


def unread(source: EventSource) -> asyncio.Transport:
    """Stop reading from the socket; the transport says when to go on."""
    assert source.response.connection is not None
    transport = source.response.connection.transport
    assert isinstance(transport, asyncio.Transport)
    transport.pause_reading()
    return transport


async def flood(server: PhoenixServer, other: EventSource, rounds: int, size: int) -> str:
    """Deltas by the hundred a tick, all of which the other one reads."""
    text = ""
    for n in range(rounds):
        words = [f"{n}.{i}".ljust(size) for i in range(100)]
        text += "".join(words)
        server.service.publish("a", *map(word, words))
        while (await other.next()).data["seq"] != (n + 1) * 100:
            pass
    return text


async def test_a_slow_reader_gets_merged_deltas_and_the_right_text(serve: Serve) -> None:
    """Each covers the numbers it stands for, without a gap."""
    server = await serve()
    slow, other = (EventSource(f"{server.http}{EVENTS}", TOKEN) for _ in range(2))
    async with slow.connected(), other.connected():
        await slow.until("presence_state")
        await other.until("presence_state")
        transport = unread(slow)
        text = await flood(server, other, 60, 1000)
        assert max(server.unwritten()) < 2_000_000, "what it lags behind by stays with the hub"
        transport.resume_reading()
        last, got, merged = 0, "", 0
        while last < 6000:
            data = (await slow.next()).data
            assert data.get("first_seq", data["seq"]) == last + 1
            merged += "first_seq" in data
            last, got = data["seq"], got + data["text"]
    assert got == text
    assert merged


async def test_who_lags_too_far_is_cut_off_and_comes_back(serve: Serve) -> None:
    """A stream that breaks off is no end: with its last id it has all that is still held, or a snapshot."""
    server = await serve(outbox_bytes=200_000, ring_events=200, ring_bytes=1_000_000)
    slow, other = (EventSource(f"{server.http}{EVENTS}", TOKEN) for _ in range(2))
    async with slow.connected(), other.connected():
        await slow.until("presence_state")
        await other.until("presence_state")
        transport = unread(slow)
        rounds = 0
        # No delta: these cannot be merged.
        usage = Usage()
        async with asyncio.timeout(60):
            while viewers(server) > 1:
                rounds += 1
                server.service.publish("a", *(BlockFinished(TURN, i, "text", "x" * 5000) for i in range(50)))
                await other.until("block")
                while other.seen[-1].data["seq"] != rounds * 50:
                    await other.next_any()
        transport.resume_reading()
        with pytest.raises((aiohttp.ClientError, ConnectionError)):
            await slow.end()
        last = slow.parser.last_id
        server.service.publish("a", SessionChanged(a_session("a", usage=usage)))
        assert (await other.next()).event == "session_changed"
    async with slow.connected():
        assert last.startswith("e1:")
        joined = await slow.until("joined")
        assert joined.data["recovered"] is False
        assert joined.id == f"e1:{joined.data['seq']}"


async def test_a_client_that_never_reads_is_dropped_with_what_it_was_sent(
    server: PhoenixServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once its stream has ended: it may hold nothing for ever."""
    monkeypatch.setattr("bridge.transports.sse.LINGER_S", 0.05)
    deaf = EventSource(f"{server.http}{EVENTS}", TOKEN)
    async with deaf.connected():
        await deaf.until("presence_state")
        unread(deaf)
        server.service.publish("a", *(BlockFinished(TURN, 0, "text", "x" * 1_000_000) for _ in range(8)))
        await until(lambda: any(server.unwritten()))
        server.service.connections.end(Principal("owner", ADMIN))
        await until(lambda: not any(server.unwritten()))
