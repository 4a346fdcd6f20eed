"""`terminal:<name>` over WebSocket: a screen in JSON, what follows in binary pushes, input and sizes back."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from bridge.auth import ADMIN, Principal
from bridge.commands import ResizeTerminal, TypeIntoTerminal
from bridge.errors import BinaryNotSupported, InvalidPayload
from bridge.screens import BACKLOG_BYTES
from bridge.sessions.picture import BLANK
from bridge.transports.outbox import Outbox
from bridge.transports.topics import Topics
from bridge.wire import requests
from bridge.wire.requests import Route
from tests.fakes.phoenix import PhoenixClient, PhoenixServer
from tests.fakes.screens import FakePane
from tests.fakes.service import WATCH_TOKEN
from tests.wire.conftest import Serve
from tests.wire.test_phoenix_join import error, ok

pytestmark = pytest.mark.websocket("bytes")

T = "terminal:a"


@pytest.fixture
def pane(server: PhoenixServer) -> FakePane:
    return server.service.panes.add("a")


def screen(pane: FakePane, **changes: Any) -> dict[str, Any]:
    return {"cols": pane.cols, "rows": pane.rows, "screen": f"<{len(pane.written)}>", **changes}


async def test_a_join_is_answered_with_the_screen_and_followed_by_output(
    client: PhoenixClient, pane: FakePane
) -> None:
    """Bytes as the pane wrote them, in pushes of the join's own."""
    pane.write(b"before")
    assert await client.join(T, ref="7") == screen(pane)
    pane.write(b"\x1b[1m\xff\x00")
    assert await client.hear_bytes() == ("7", T, "output", b"\x1b[1m\xff\x00")
    await client.silence()


async def test_a_session_without_a_pane_has_an_empty_screen_until_it_has_one(
    server: PhoenixServer, client: PhoenixClient
) -> None:
    """Then comes the event `screen`, a push without a ref."""
    assert await client.join(T) == {"cols": 220, "rows": 50, "screen": BLANK}
    pane = server.service.panes.add("a")
    server.service.screens.changed("a")
    assert await client.hear() == ["1", None, T, "screen", screen(pane)]
    pane.write(b"x")
    assert await client.hear_bytes() == ("1", T, "output", b"x")


async def test_input_is_typed_as_bytes_or_as_text(client: PhoenixClient, pane: FakePane) -> None:
    """In the order in which it was sent."""
    await client.join(T)
    await client.say_bytes("1", "2", T, "input", b"\x1b[A\xff")
    assert await client.hear() == ok("1", "2", T, {})
    assert await client.ask("1", "3", T, "input", {"text": "é\r"}) == ok("1", "3", T, {})
    assert pane.typed == b"\x1b[A\xff\xc3\xa9\r"
    for n in range(10):
        await client.say_bytes("1", f"b{n}", T, "input", b"%d" % n)
        await client.say("1", f"t{n}", T, "input", {"text": "."})
    for n in range(10):
        assert await client.hear() == ok("1", f"b{n}", T, {})
        assert await client.hear() == ok("1", f"t{n}", T, {})
    assert pane.typed.endswith(b"0.1.2.3.4.5.6.7.8.9.")


async def test_a_resize_is_answered_and_shown_to_all(
    server: PhoenixServer, client: PhoenixClient, pane: FakePane
) -> None:
    """Whoever asked for it; one that changes nothing shows nothing."""
    await client.join(T)
    async with server.client() as other:
        await other.join(T, ref="9")
        await client.say("1", "2", T, "resize", {"cols": 100, "rows": 30})
        heard = [await client.hear(), await client.hear()]
        assert ok("1", "2", T, {"cols": 100, "rows": 30}) in heard
        assert ["1", None, T, "screen", screen(pane)] in heard
        assert await other.hear() == ["9", None, T, "screen", screen(pane, cols=100, rows=30)]
        reply = await client.ask("1", "3", T, "resize", {"cols": 100, "rows": 30})
        assert reply == ok("1", "3", T, {"cols": 100, "rows": 30})
        await other.silence()


@pytest.mark.parametrize(
    ("event", "payload", "field"),
    [
        ("resize", {"cols": 19, "rows": 30}, "cols"),
        ("resize", {"cols": 501, "rows": 30}, "cols"),
        ("resize", {"cols": 80, "rows": 4}, "rows"),
        ("resize", {"cols": 80, "rows": 301}, "rows"),
        ("resize", {"cols": 80}, "rows"),
        ("resize", {"cols": "80", "rows": 24}, "cols"),
        ("resize", {"cols": 80, "rows": 24, "lines": 3}, "lines"),
        ("resize", b"80x24", ""),
        ("input", {}, "text"),
        ("input", {"text": 3}, "text"),
        ("input", {"text": "x", "enter": True}, "enter"),
        ("input", {"text": "é" * 32_769}, "text"),
        ("input", b"x" * 65_537, ""),
        ("submit", {"prompt": "x"}, "event"),
    ],
)
def test_what_cannot_be_done_says_which_field(event: str, payload: Any, field: str) -> None:
    """And nothing is done."""
    with pytest.raises(InvalidPayload) as caught:
        requests.parse("terminal", event, payload)
    assert caught.value.details["field"] == field


def test_what_may_be_asked_at_most() -> None:
    """The bounds belong to what is allowed."""
    for cols, rows in ((20, 5), (500, 300)):
        size = {"cols": cols, "rows": rows}
        assert requests.parse("terminal", "resize", size) == ResizeTerminal(cols=cols, rows=rows)
    assert requests.parse("terminal", "input", b"x" * 65_536) == TypeIntoTerminal(data=b"x" * 65_536)
    assert requests.parse("terminal", "input", {"text": "\0\x03"}) == TypeIntoTerminal(data=b"\0\x03")


async def test_watching_is_allowed_to_whom_typing_is_not(server: PhoenixServer, pane: FakePane) -> None:
    """Scope `watch` joins, `control` does the rest."""
    async with server.client(token=WATCH_TOKEN) as guest:
        await guest.join(T)
        for ref, event, payload in (
            ("2", "input", {"text": "x"}),
            ("3", "resize", {"cols": 80, "rows": 24}),
        ):
            reply = await guest.ask("1", ref, T, event, payload)
            assert (reply[4]["status"], reply[4]["response"]["reason"]) == ("error", "forbidden")
            assert reply[4]["response"]["scope"] == "control"
    assert pane.typed == b""


@pytest.mark.parametrize(
    ("topic", "payload", "reason"),
    [
        ("terminal:nobody", {}, "session_not_found"),
        ("terminal:a b", {}, "invalid_name"),
        ("terminal:", {}, "invalid_name"),
        (T, {"start": {}}, "invalid_payload"),
    ],
)
async def test_a_join_that_cannot_be_is_refused(
    client: PhoenixClient, topic: str, payload: Any, reason: str
) -> None:
    """A terminal starts nothing."""
    reply = await client.ask("1", "1", topic, "phx_join", payload)
    assert reply[:4] == ["1", "1", topic, "phx_reply"]
    assert (reply[4]["status"], reply[4]["response"]["reason"]) == ("error", reason)


async def test_V1_has_no_bytes_and_is_refused(server: PhoenixServer, pane: FakePane) -> None:
    """With what to do about it, before anything is watched."""
    async with server.client(vsn="1.0.0") as client:
        await client.ws.send_json({"topic": T, "event": "phx_join", "payload": {}, "ref": "1"})
        said = (await client.hear())["payload"]
        assert (said["status"], said["response"]["reason"]) == ("error", "binary_not_supported")
        assert "vsn=2.0.0" in said["response"]["message"]
    assert pane.opened == 0


async def test_a_join_ref_that_fits_no_binary_frame_is_refused(client: PhoenixClient, pane: FakePane) -> None:
    """Its output could not be sent."""
    reply = await client.ask("x" * 256, "1", T, "phx_join", {})
    assert reply[4]["response"]["reason"] == "binary_not_supported"
    assert pane.opened == 0


async def test_a_transport_without_bytes_is_refused(server: PhoenixServer) -> None:
    """As long poll is one."""
    topics = Topics(server.service.as_service(), Principal("owner", ADMIN), server.clock, "longpoll")
    with pytest.raises(BinaryNotSupported):
        await topics.join(Route("terminal", "a"), {}, _outbox())


def _outbox() -> Outbox:
    class Nothing:
        def write(self, data: bytes) -> bool:
            return True

        def drain(self) -> None: ...
        def overflow(self) -> None: ...
        def ended(self, subscription: object) -> bytes:
            return b""

    return Outbox("phoenix-v2", Nothing(), 1, lambda call: call())


async def test_leaving_ends_it(server: PhoenixServer, client: PhoenixClient, pane: FakePane) -> None:
    """Nothing of the screen comes after the reply, and nobody watches any more."""
    await client.join(T)
    assert await client.ask("1", "2", T, "phx_leave", {}) == ok("1", "2", T, {})
    assert await client.hear() == ["1", "1", T, "phx_close", {}]
    pane.write(b"y")
    await client.silence()
    await asyncio.wait_for(pane.left.wait(), 60)


async def test_joining_again_begins_anew(client: PhoenixClient, pane: FakePane) -> None:
    """Output carries the new join's ref; the old channel is closed."""
    await client.join(T)
    pane.write(b"one")
    assert (await client.hear_bytes())[3] == b"one"
    assert await client.ask("2", "2", T, "phx_join", {}) == ok("2", "2", T, screen(pane))
    assert await client.hear() == ["1", "1", T, "phx_close", {}]
    pane.write(b"two")
    assert await client.hear_bytes() == ("2", T, "output", b"two")


async def test_deleting_the_session_closes_the_channel(
    server: PhoenixServer, client: PhoenixClient, pane: FakePane
) -> None:
    """phx_close with the join's refs."""
    await client.join(T)
    server.service.screens.drop("a")
    assert await client.hear() == ["1", "1", T, "phx_close", {}]
    assert await client.ask("1", "2", T, "input", {"text": "x"}) == error(
        None, "2", T, {"reason": "unmatched topic"}
    )


async def test_a_client_that_goes_watches_no_more(server: PhoenixServer, pane: FakePane) -> None:
    """Also without a word."""
    async with server.client() as client:
        await client.join(T)
        assert client.ws._response.connection is not None
        client.ws._response.connection.transport.abort()
        await asyncio.wait_for(pane.left.wait(), 60)


async def test_a_client_that_does_not_read_is_shown_the_present_picture_later(
    serve: Serve,
) -> None:
    """And is neither closed nor a burden: it is the others who are told everything."""
    server = await serve()
    pane = server.service.panes.add("a")
    async with server.client() as slow, server.client() as fast:
        await slow.join(T)
        await fast.join(T)
        transport = slow.ws._response.connection.transport  # type: ignore[union-attr]
        transport.pause_reading()
        got = b""
        line = b"x" * 8000
        full = 0
        while not full or len(pane.written) < full + 2 * BACKLOG_BYTES:
            pane.write(line)
            while len(got) < len(pane.written):
                got += (await fast.hear_bytes())[3]
            if not full and max(server.unwritten()):
                full = len(pane.written)
        assert got == pane.written
        assert max(server.unwritten()) < 1_000_000, "what it is sent waits in one place, and not for long"
        transport.resume_reading()
        seen = b""
        while True:
            message = await slow.ws.receive(timeout=60)
            if message.type is aiohttp.WSMsgType.TEXT:
                break
            assert message.type is aiohttp.WSMsgType.BINARY, message
            seen += message.data[4 + 1 + len(T) + 6 :]
        assert pane.written.startswith(seen)
        assert len(seen) < len(pane.written)
        assert message.json() == ["1", None, T, "screen", screen(pane)]
        pane.write(b"and on")
        assert (await slow.hear_bytes())[3] == b"and on"


async def test_other_topics_go_on_beside_it(
    server: PhoenixServer, client: PhoenixClient, pane: FakePane
) -> None:
    """One socket, one outbox."""
    await client.join(T)
    await client.join("session:a", ref="2")
    pane.write(b"x")
    await client.say("2", "3", "session:a", "submit", {"prompt": "words 1"})
    kinds = [(await client.ws.receive(timeout=60)).type.name for _ in range(6)]
    assert sorted(kinds) == ["BINARY", *["TEXT"] * 5]


async def test_no_output_and_no_input_reaches_the_log(
    client: PhoenixClient, pane: FakePane, capsys: pytest.CaptureFixture[str]
) -> None:
    """At no level."""
    await client.join(T)
    pane.write(b"geheim-out")
    await client.hear_bytes()
    await client.ask("1", "2", T, "input", {"text": "geheim-in"})
    captured = capsys.readouterr()
    assert "geheim" not in captured.out + captured.err
