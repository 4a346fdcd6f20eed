"""What Slipstream, the Elixir client, makes of what it is sent: section 16, by its ids.

It speaks V2 over WebSockets alone. `Slipstream` reads frames in its order and fails where it would lose one,
misread it or die; the Elixir package's own tests run the real one.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.fakes.phoenix import PhoenixClient, PhoenixServer
from tests.wire.conftest import Serve
from tests.wire.test_phoenix_join import A, B, word

pytestmark = pytest.mark.websocket("Slipstream knows no long poll")


class Slipstream:
    """One counter of refs, for heartbeats as well, and one join a topic."""

    def __init__(self, client: PhoenixClient) -> None:
        self.client = client
        self.refs = 0
        self.joins: dict[str, str] = {}
        self.pending: str | None = None

    def ref(self) -> str:
        self.refs += 1
        return str(self.refs)

    async def join(self, topic: str, payload: Any = None) -> str:
        ref = self.joins[topic] = self.ref()
        await self.client.say(ref, ref, topic, "phx_join", payload or {})
        return ref

    async def push(self, topic: str, event: str, payload: Any = None) -> str:
        ref = self.ref()
        await self.client.say(self.joins[topic], ref, topic, event, payload or {})
        return ref

    async def heartbeat(self) -> None:
        self.pending = self.ref()
        await self.client.say(None, self.pending, "phoenix", "heartbeat", {})

    async def hear(self) -> tuple[str, Any]:
        """What the next frame is to it, and what it says."""
        frame = await self.client.hear_any()
        assert isinstance(frame, list)
        assert len(frame) == 5
        join_ref, ref, topic, event, payload = frame
        if ref is None:  # looked at before the name of the event
            assert not event.startswith("phx_"), "it would be handed to the application"
            return "message", frame
        if topic == "phoenix":
            assert (ref, payload) == (self.pending, {"status": "ok", "response": {}}), "it would disconnect"
            self.pending = None
            return "heartbeat", None
        if event == "phx_reply":
            assert set(payload) == {"status", "response"}, "it would be lost"
            assert payload["status"] in ("ok", "error"), "its connection would die"
            kind = "join" if ref == join_ref == self.joins.get(topic) else "reply"
            return kind, (ref, payload)
        assert ref == self.joins.get(topic), "its connection would die"
        assert event in ("phx_close", "phx_error")
        if event == "phx_close":
            assert payload == {}, "it would be lost"
        del self.joins[topic]
        return event, topic

    async def until(self, kind: str) -> Any:
        while (heard := await self.hear())[0] != kind:
            pass
        return heard[1]


@pytest.fixture
async def slipstream(client: PhoenixClient) -> Slipstream:
    return Slipstream(client)


async def test_Q01_heartbeats_and_messages_share_a_counter(slipstream: Slipstream) -> None:
    """Joins of two topics, heartbeats between, pushes to both."""
    await slipstream.join(A)
    await slipstream.heartbeat()
    await slipstream.join(B)
    assert (await slipstream.until("join"))[0] == "1"
    await slipstream.until("heartbeat")
    assert (await slipstream.until("join"))[0] == "3"
    await slipstream.heartbeat()
    await slipstream.until("heartbeat")
    ref = await slipstream.push(B, "interrupt")
    assert await slipstream.until("reply") == (ref, {"status": "ok", "response": {"turn": None}})


async def test_Q03_Q05_every_frame_of_a_conversation_is_what_it_takes_it_for(
    server: PhoenixServer, slipstream: Slipstream
) -> None:
    """Replies, errors, events, presence, a crash, a leave, a deletion: nothing is lost or misread."""
    await slipstream.join(A)
    await slipstream.join("sessions")
    assert [(await slipstream.until("join"))[1]["status"] for _ in range(2)] == ["ok", "ok"]
    await slipstream.push(A, "submit", {"prompt": "words 2"})
    assert (await slipstream.until("reply"))[1]["status"] == "ok"
    while (await slipstream.until("message"))[3] != "turn_finished":
        pass
    await slipstream.push(A, "nonsense")
    assert (await slipstream.until("reply"))[1]["status"] == "error"
    await slipstream.push(A, "submit", {"prompt": "crash"})
    assert await slipstream.until("phx_error") == A
    await slipstream.join(A)
    await slipstream.until("join")
    await slipstream.push(A, "phx_leave")
    assert await slipstream.until("phx_close") == A
    await slipstream.join(A)
    await slipstream.until("join")
    await slipstream.push("sessions", "delete", {"name": "a"})
    assert await slipstream.until("phx_close") == A
    await slipstream.join("session:nobody")
    assert (await slipstream.until("join"))[1]["status"] == "error"


@pytest.mark.parametrize("code", [1011, 1012])
async def test_Q04_after_any_close_it_joins_by_itself_and_misses_nothing(serve: Serve, code: int) -> None:
    """Its topics are not joined again for it: who uses it does that, with the cursor it has."""
    server = await serve()
    async with server.client() as client:
        slipstream = Slipstream(client)
        await slipstream.join(A)
        epoch = (await slipstream.until("join"))[1]["response"]["epoch"]
        server.service.publish("a", word("one"))
        while (heard := await slipstream.until("message"))[3] != "delta":
            pass
        seq = heard[4]["seq"]
        if code == 1011:
            await client.ws.send_str("[")
        else:
            for socket in server.sockets._open:
                socket.stop(code)
        assert await client.closed() == code
    server.service.publish("a", word("two"))
    async with server.client() as client:
        slipstream = Slipstream(client)
        await slipstream.join(A, {"after": {"epoch": epoch, "seq": seq}})
        assert (await slipstream.until("join"))[1]["response"]["recovered"] is True
        while (heard := await slipstream.until("message"))[3] != "delta":
            pass
        assert (heard[4]["seq"], heard[4]["text"]) == (seq + 1, "two")
