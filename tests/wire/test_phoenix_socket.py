"""Framing, heartbeats, close codes and the end: sections 3, 9, 10 and 12, by their ids."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from typing import Any

import aiohttp
import pytest

from bridge.errors import WireError
from bridge.wire.json import dumps
from bridge.wire.phoenix import V1, V2
from tests.fakes.phoenix import PhoenixClient, PhoenixServer, Speaker
from tests.fakes.service import TOKEN, WATCH_TOKEN
from tests.wire.conftest import Serve
from tests.wire.test_phoenix_join import A, B, ok

CODES = pytest.mark.websocket("it closes with a code")

HEARTBEAT = {"status": "ok", "response": {}}


@CODES
@pytest.mark.parametrize("frame", [{"topic": A, "event": "x", "payload": {}, "ref": "1"}, [1, 2, 3, 4]])
async def test_B04_C01_a_frame_of_another_shape_closes_1011(client: Speaker, frame: Any) -> None:
    """A V1 object and a short array on a V2 socket."""
    await client.ws.send_str(json.dumps(frame))
    assert await client.closed() == 1011


async def test_B04_a_v2_array_on_a_v1_socket_closes_1011(server: PhoenixServer) -> None:
    """The other way round."""
    async with server.client(vsn="1.0.0") as client:
        await client.say(None, "1", "phoenix", "heartbeat", {})
        assert await client.closed() == 1011


@pytest.mark.websocket("a line that does not begin with the array is base64")
async def test_C01_more_than_five_elements_and_white_space_are_fine(client: Speaker) -> None:
    """What is beyond is ignored."""
    await client.ws.send_str(' \n[null,"1","phoenix","heartbeat",{},"more",7]\t ')
    assert await client.hear() == [None, "1", "phoenix", "phx_reply", HEARTBEAT]


async def test_C02_C03_C10_every_frame_has_five_elements_and_a_reply_both_keys(
    server: PhoenixServer, client: Speaker
) -> None:
    """Absent values are null, an empty response is an object."""
    await client.say("1", "1", A, "phx_join", {})
    await client.say("1", "2", A, "submit", {"prompt": "words 2"})
    await client.say("1", "3", A, "phx_leave", {})
    await client.say("1", "4", A, "x", {})
    frames = []
    while not frames or frames[-1][1] != "4":
        frames.append(await client.hear())
    assert {len(f) for f in frames} == {5}
    assert all(isinstance(f[4], dict) for f in frames)
    replies = [f[4] for f in frames if f[3] == "phx_reply"]
    assert len(replies) == 4
    assert all(set(r) == {"status", "response"} and isinstance(r["response"], dict) for r in replies)


@pytest.mark.parametrize("ref", ["1", 1, 0, "", "é\u0000 \U0001f600", 2**53, True, [1, "a"], {"a": None}])
async def test_C04_refs_are_echoed_as_they_came(client: Speaker, ref: Any) -> None:
    """Type included: phoenix.js compares with `===`."""
    reply = await client.ask(ref, ref, A, "phx_join", {})
    assert [type(reply[0]), type(reply[1])] == [type(ref), type(ref)]
    assert reply[:2] == [ref, ref]
    await client.say(ref, ref, A, "phx_leave", {})
    assert (await client.hear())[:2] == [ref, ref]


async def test_C05_C06_a_v1_client_speaks_objects(server: PhoenixServer) -> None:
    """Four keys out, never join_ref; a binary frame that holds JSON is as good."""
    async with server.client(vsn="1.0.0") as client:
        join = {"topic": A, "event": "phx_join", "payload": {}, "ref": "1", "join_ref": "1"}
        await client.ws.send_bytes(json.dumps(join).encode())
        reply = await client.hear()
        assert set(reply) == {"topic", "event", "payload", "ref"}
        assert (reply["topic"], reply["event"], reply["ref"]) == (A, "phx_reply", "1")
        assert reply["payload"]["status"] == "ok"
        leave = {"topic": A, "event": "phx_leave", "payload": {}, "ref": "2"}
        await client.ws.send_str(json.dumps(leave))
        await client.hear()
        assert await client.hear() == {"topic": A, "event": "phx_close", "payload": {}, "ref": "1"}


@pytest.mark.parametrize("missing", ["topic", "event", "payload", "ref"])
def test_C05_a_v1_frame_needs_all_its_keys(missing: str) -> None:
    """join_ref alone may be absent."""
    frame = {"topic": A, "event": "x", "payload": {}, "ref": "1"}
    assert V1().decode(json.dumps(frame)).join_ref is None
    del frame[missing]
    with pytest.raises(WireError):
        V1().decode(json.dumps(frame))


async def test_C07_a_v1_client_without_join_ref_gets_a_close_without_ref(server: PhoenixServer) -> None:
    """And a message that does name one counts as an earlier join's."""
    async with server.client(vsn="1.0.0") as client:

        async def ask(**frame: Any) -> Any:
            await client.ws.send_str(json.dumps({"topic": A, "payload": {}, **frame}))
            return await client.hear()

        await ask(event="phx_join", ref="1")
        stale = {"topic": A, "event": "interrupt", "payload": {}, "ref": "2", "join_ref": "1"}
        await client.ws.send_str(json.dumps(stale))
        assert (await ask(event="phx_leave", ref="3"))["ref"] == "3"
        assert (await client.hear())["ref"] is None


@CODES
@pytest.mark.parametrize(
    "text", ["[NaN]", "[1e400]", '["\\ud800"]', "[1] x", "", "nonsense", "[Infinity]", "[" * 5000]
)
async def test_C08_what_is_not_strict_json_closes_1011(client: Speaker, text: str) -> None:
    """Also what Python's own parser would take."""
    await client.ws.send_str(text)
    assert await client.closed() == 1011


def test_C09_nothing_is_ever_written_that_a_strict_parser_refuses() -> None:
    """NaN becomes null, a lone surrogate a replacement character, what is too deep null."""
    assert json.loads(dumps({"a": float("nan"), "b": [float("inf")]})) == {"a": None, "b": [None]}
    assert json.loads(dumps(["\ud800x", {"\udfff": 2**70}])) == ["\ufffdx", {"\ufffd": 2**70}]
    deep: Any = "end"
    for _ in range(600):
        deep = [deep]
    assert json.loads(dumps({"a": deep, "b": 1}))["b"] == 1
    assert dumps("é/<").decode() == '"é/<"'


async def test_I01_I02_a_heartbeat_is_answered_with_exactly_an_empty_object(client: Speaker) -> None:
    """join_ref null even if the client sent one; more in it and Slipstream disconnects."""
    assert await client.ask("5", "9", "phoenix", "heartbeat", {}) == ok(None, "9", "phoenix", {})
    await client.join(A, ref="1")
    assert await client.ask(None, "10", "phoenix", "heartbeat", {}) == ok(None, "10", "phoenix", {})


async def test_I04_other_events_of_phoenix_are_unmatched(client: Speaker) -> None:
    """A join of it as well; a leave is ok."""
    for event in ("phx_join", "other"):
        reply = await client.ask("1", "2", "phoenix", event, {})
        assert reply == [
            None,
            "2",
            "phoenix",
            "phx_reply",
            {"status": "error", "response": {"reason": "unmatched topic"}},
        ]
    assert await client.ask("1", "2", "phoenix", "phx_leave", {}) == ok("1", "2", "phoenix", {})


async def test_I05_I07_a_silent_client_is_closed_1002_and_never_pinged(serve: Serve) -> None:
    """The first frame in all that time is the close; what the server sends does not count."""
    server = await serve(idle_timeout_s=0.2)
    async with aiohttp.ClientSession() as session:
        ws = await session.ws_connect(server.address(), autoping=False, autoclose=False)
        client = PhoenixClient(ws)
        await client.join(A)
        server.service.publish("a")
        assert await client.closed() == 1002


async def test_I06_a_ping_is_answered_with_its_payload(server: PhoenixServer) -> None:
    """And a pong is ignored."""
    async with aiohttp.ClientSession() as session:
        ws = await session.ws_connect(server.address(), autoping=False)
        await ws.pong(b"nobody asked")
        await ws.ping(b"payload")
        message = await ws.receive(timeout=10)
        assert (message.type, message.data) == (aiohttp.WSMsgType.PONG, b"payload")
        await PhoenixClient(ws).silence()


async def test_I07_frames_and_pings_keep_a_client_alive(serve: Serve) -> None:
    """Three times the idle time, with something every now and then."""
    server = await serve(idle_timeout_s=0.4)
    async with server.client() as client:
        loop = asyncio.get_running_loop()
        end = loop.time() + 1.2
        while loop.time() < end:
            await client.silence()
            await client.ws.ping()


@CODES
async def test_K01_all_channels_of_a_closed_socket_end(server: PhoenixServer, client: Speaker) -> None:
    """After a malformed frame nobody is left in the hub."""
    await client.join(A, ref="1")
    await client.join(B, ref="2")
    await client.ws.send_str("nonsense")
    assert await client.closed() == 1011
    await _until_empty(server)


@CODES
async def test_K01_K04_what_was_asked_before_a_malformed_frame_is_answered(client: Speaker) -> None:
    """The close comes after the replies."""
    await client.say(None, "1", "phoenix", "heartbeat", {})
    await client.ws.send_str("nonsense")
    assert (await client.hear())[1] == "1"
    assert await client.closed() == 1011


@CODES
async def test_K01_a_bug_in_the_receive_loop_closes_1011(
    client: Speaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never 1006 without a close frame."""

    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(V2, "decode", broken)
    await client.say(None, "1", "phoenix", "heartbeat", {})
    assert await client.closed() == 1011


async def test_K03_a_token_taken_back_closes_its_sockets_with_1001(server: PhoenixServer) -> None:
    """All of them, and nobody else's."""
    async with server.client() as one, server.client() as two, server.client(token=WATCH_TOKEN) as other:
        await one.join(A)
        owner = server.service.authenticate(TOKEN)
        server.service.connections.end(owner)
        assert await one.closed() == 1001
        assert await two.closed() == 1001
        await other.join(A)


async def test_K05_a_client_that_goes_without_a_word_leaves_nothing_behind(server: PhoenixServer) -> None:
    """Slipstream ends its connections like this."""
    async with server.client() as client:
        await client.join(A)
        assert client.ws._response.connection is not None
        client.ws._response.connection.transport.abort()
        await _until_empty(server)


async def test_K05_a_clients_close_is_answered_with_1000(server: PhoenixServer) -> None:
    """As Bandit does, whatever the client's code."""
    async with aiohttp.ClientSession() as session:
        ws = await session.ws_connect(server.address(), autoclose=False)
        sending = asyncio.create_task(ws.close(code=4001))
        await sending
        assert ws.close_code == 1000


async def test_K06_a_frame_too_long_closes_1009_and_a_long_one_is_fine(server: PhoenixServer) -> None:
    """Ten million bytes, not aiohttp's four."""
    async with server.client() as client:
        await client.join(A)
        assert (await client.ask("1", "2", A, "x", {"a": "y" * 5_000_000}))[1] == "2"
        assert client.ws._response.connection is not None
        # The head of a frame is enough: it says how long the frame will be.
        transport = client.ws._response.connection.transport
        transport.write(bytes((0x81, 0x80 | 127)) + (10_000_100).to_bytes(8) + bytes(4))
        assert await client.closed() == 1009


async def test_K07_broken_frames_close_1007_and_1002(server: PhoenixServer) -> None:
    """Invalid UTF-8; an opcode that is none."""
    for first, payload, code in ((0x81, b"\xff", 1007), (0x83, b"x", 1002)):
        async with server.client() as client:
            assert client.ws._response.connection is not None
            transport = client.ws._response.connection.transport
            transport.write(bytes((first, 0x80 | len(payload), 0, 0, 0, 0)) + payload)
            assert await client.closed() == code


async def test_K08_a_thousand_pushes_at_once_get_a_thousand_replies(client: Speaker) -> None:
    """In order."""
    await client.join(A, ref="1")
    for ref in range(1000):
        await client.say("1", ref, A, "interrupt", {})
    assert [(await client.hear())[1] for _ in range(1000)] == list(range(1000))


async def test_K02_M01_M02_a_stopping_server_closes_everybody_with_1012(server: PhoenixServer) -> None:
    """Joined or not, without phx_close or phx_error, and never 1000."""
    async with server.client() as joined, server.client() as idle:
        await joined.join(A)
        await idle.silence()
        stopping = asyncio.create_task(server.stop())
        assert await joined.closed() == 1012
        assert await idle.closed() == 1012
        await asyncio.gather(joined.ws.close(), idle.ws.close())
        await stopping


async def test_M01_a_client_that_does_not_answer_does_not_hold_the_stop_up(serve: Serve) -> None:
    """It is dropped after the time a stop may take."""
    server = await serve(shutdown_s=0.1)
    async with server.client() as client:
        await client.join(A)
        await client.say("9", "9", "session:slow", "phx_join", {"start": {}})  # its join never ends
        await asyncio.wait_for(server.stop(), 10)
        while (message := await client.ws.receive(timeout=10)).type is aiohttp.WSMsgType.TEXT:
            assert "presence_" in message.data
        gone = (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.ERROR)
        assert message.type in gone


async def test_M01_a_reset_connection_is_not_an_error(server: PhoenixServer) -> None:
    """RST in the middle of a stream of events: cleaned up, the others go on."""
    async with server.client() as other:
        await other.join(A)
        async with server.client() as client:
            await client.join(A)
            assert client.ws._response.connection is not None
            transport = client.ws._response.connection.transport
            sock = transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()
        while server.hub.topic(A).viewers > 1:
            await other.silence()
        await other.silence()


async def _until_empty(server: PhoenixServer) -> None:
    """Until nobody follows any session; a test's own time limit ends it otherwise."""
    async with server.client() as other:
        while server.hub.topic(A).viewers or server.hub.topic(B).viewers:
            await other.silence()
