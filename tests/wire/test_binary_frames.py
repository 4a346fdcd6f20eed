"""V2's binary frames: section 4 of Phoenix's wire, by its ids; exact bytes."""

from __future__ import annotations

import json
from typing import Any

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.errors import BinaryNotSupported, WireError
from bridge.wire.phoenix import V1, V2, Message
from tests.fakes.phoenix import PhoenixServer, Speaker
from tests.wire.test_phoenix_join import A, ok, word


def client_push(join_ref: str, ref: str, topic: str, event: str, data: bytes = b"") -> bytes:
    """As phoenix.js and Slipstream make it."""
    fields = [field.encode() for field in (join_ref, ref, topic, event)]
    return bytes([0, *map(len, fields)]) + b"".join(fields) + data


def test_D01_a_clients_push_is_read() -> None:
    """Kind, four sizes, four strings, and the rest as it is."""
    frame = b"\x00\x01\x01\x06\x03" + b"1" + b"2" + b"room:a" + b"bin" + b"\x01\x02"
    assert V2().decode_binary(frame) == Message("1", "2", "room:a", "bin", b"\x01\x02")


def test_D02_our_push_has_no_ref() -> None:
    """And so one byte less of a header."""
    frame = V2().push_bytes("1", "room:a", "binpush", b"\x00\xff")
    assert frame == b"\x00\x01\x06\x07" + b"1" + b"room:a" + b"binpush" + b"\x00\xff"


@pytest.mark.parametrize(("join_ref", "said"), [(None, b""), ("", b""), (7, b"7"), ("ä", "ä".encode())])
def test_D02_a_join_ref_that_is_no_string_is_said_as_one(join_ref: Any, said: bytes) -> None:
    """There is no other way to say it in bytes; none is an empty one."""
    frame = V2().push_bytes(join_ref, "t", "e", b"x")
    assert frame == bytes((0, len(said), 1, 1)) + said + b"tex"


@pytest.mark.parametrize("long", ["join_ref", "topic", "event"])
def test_D08_a_field_has_255_bytes_at_most(long: str) -> None:
    """Of UTF-8: more cannot be said in one byte of size."""
    fields = {"join_ref": "1", "topic": "t", "event": "e", long: "ä" * 127 + "x"}
    assert len(V2().push_bytes(**fields, data=b"")) == 4 + 255 + 2
    fields[long] = "ä" * 128
    with pytest.raises(BinaryNotSupported):
        V2().push_bytes(**fields, data=b"")


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\x00",
        b"\x00\x05",
        b"\x00\x00\x00\x00",
        b"\x00\x01\x01\x06\x03" + b"12room:abi",
        b"\x01" + client_push("1", "2", A, "e")[1:],
        b"\x02" + client_push("1", "2", A, "e")[1:],
        b"\x00\x01\x00\x00\x00\xff",
    ],
)
def test_D09_what_is_no_push_is_refused(frame: bytes) -> None:
    """Another kind, a frame cut short, a header that is no UTF-8."""
    with pytest.raises(WireError):
        V2().decode_binary(frame)


def test_D10_V1_has_no_bytes_to_say() -> None:
    """It is refused before anything is sent."""
    with pytest.raises(BinaryNotSupported):
        V1().push_bytes("1", "t", "e", b"")


@given(frame=st.binary(max_size=80) | st.binary(max_size=80).map(lambda b: b"\0\1\1\1\1" + b))
@settings(deadline=None)
def test_whatever_the_bytes_a_message_comes_of_them_or_a_wire_error(frame: bytes) -> None:
    """The socket's loop relies on it."""
    try:
        message = V2().decode_binary(frame)
    except WireError:
        return
    fields = (message.join_ref, message.ref, message.topic, message.event)
    assert client_push(*fields, message.payload) == frame


async def test_D06_D07_a_binary_frame_may_carry_any_event(client: Speaker) -> None:
    """The answers are text, because what they say is JSON."""
    await client.send_bytes(client_push("", "9", "phoenix", "heartbeat"))
    assert await client.hear() == [None, "9", "phoenix", "phx_reply", {"status": "ok", "response": {}}]
    await client.join(A)
    await client.send_bytes(client_push("1", "2", A, "phx_leave"))
    assert await client.hear() == ok("1", "2", A, {})
    assert await client.hear() == ["1", "1", A, "phx_close", {}]


async def test_D03_D04_what_answers_bytes_and_what_all_are_told_is_text(
    server: PhoenixServer, client: Speaker
) -> None:
    """Binary replies and broadcasts are never made, because none of them has bytes to say."""
    await client.join(A)
    await client.say_bytes("1", "2", A, "interrupt", b"")
    assert json.loads(await client.hear_text())[:4] == ["1", "2", A, "phx_reply"]
    server.service.publish("a", word("x"))
    assert json.loads(await client.hear_text())[:4] == [None, None, A, "delta"]


@pytest.mark.parametrize("event", ["submit", "phx_join"])
async def test_bytes_where_an_object_is_wanted_are_an_invalid_payload(client: Speaker, event: str) -> None:
    """Not a frame that cannot be read: the socket stays."""
    await client.join(A)
    await client.send_bytes(client_push("1", "2", A, event, b"{}"))
    reply = await client.hear()
    assert reply[:4] == ["1", "2", A, "phx_reply"]
    assert (reply[4]["status"], reply[4]["response"]["reason"]) == ("error", "invalid_payload")


async def test_D05_an_empty_join_ref_is_a_stale_one(client: Speaker) -> None:
    """It is not the same as none, and such a message is dropped."""
    await client.join(A)
    await client.send_bytes(client_push("", "2", A, "submit", b"x"))
    await client.silence()


@pytest.mark.websocket("it closes with a code")
@pytest.mark.parametrize("frame", [b"", b"\x01\x02", b"\x00\x05"])
async def test_D09_a_malformed_binary_frame_closes_1011(client: Speaker, frame: bytes) -> None:
    """Like a text frame that is none."""
    await client.ws.send_bytes(frame)
    assert await client.closed() == 1011


async def test_C05_V1_takes_a_binary_frame_for_text(server: PhoenixServer) -> None:
    """It does not look at the opcode."""
    async with server.client(vsn="1.0.0") as client:
        frame = b'{"topic":"phoenix","event":"heartbeat","payload":{},"ref":"1"}'
        await client.ws.send_bytes(frame)
        message = await client.ws.receive(timeout=10)
        assert message.type is aiohttp.WSMsgType.TEXT
