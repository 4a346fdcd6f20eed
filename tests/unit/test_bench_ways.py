"""The clients of the load: what they count and time is what came."""

from __future__ import annotations

import asyncio

import pytest

from bench.ways import WAYS, Load, http_body, served
from bridge.events import DeltaAdded, TurnId
from tests.fakes.phoenix import PATIENCE_S, PhoenixServer


async def test_a_client_joins_asks_and_knows_the_end_of_a_replay() -> None:
    """The one transport that every bridge has; the others are held to the same by the benchmark."""
    server = PhoenixServer()
    await server.start()
    try:
        server.service.add("bench")
        server.service.publish("bench", *(DeltaAdded(TurnId("t"), 0, "text", "x" * 20) for _ in range(12)))
        way = WAYS["websocket"]
        assert await served(way, server.port)
        asker = await way(Load(), "bench").join(server.port)
        assert 0 < await asker.trip() < 1e6 * PATIENCE_S
        after = {"epoch": server.epoch, "seq": 2}
        back = await way(Load(), "bench", after=after, until=12).join(server.port)
        async with asyncio.timeout(PATIENCE_S):
            assert 0 < await back.replayed < PATIENCE_S
        later = await way(Load(), "bench", after=after, until=13).join(server.port)
        await asker.trip()
        assert not later.replayed.done()
        server.service.publish("bench", DeltaAdded(TurnId("t"), 0, "text", "x"))
        async with asyncio.timeout(PATIENCE_S):
            await later.replayed
        with pytest.raises(RuntimeError, match="session_not_found"):
            await way(Load(), "nobody").join(server.port)
        for client in (asker, back, later):
            client.close()
    finally:
        await server.stop()


@pytest.mark.parametrize(
    ("seen", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", (b"ok", 40)),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", None),
        (b"HTTP/1.1 200 OK\r\nContent-Le", None),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n1\r\n!\r\n0\r\n\r\n",
            (b"ok!", 65),
        ),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", None),
    ],
)
def test_an_answers_body_is_found_once_it_is_whole(seen: bytes, body: tuple[bytes, int] | None) -> None:
    """And where it ends: the next may follow."""
    assert http_body(seen) == body
    assert body is None or http_body(seen + b"HTTP/1.1") == body
