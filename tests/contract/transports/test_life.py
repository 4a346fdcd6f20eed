"""A session's life over every transport: started, restarted, stopped, and gone for good."""

from __future__ import annotations

import pytest

from bridge.simulator.script import scripted as sim
from tests.contract.transports.conftest import Connect
from tests.contract.transports.test_joining import listed, refusal
from tests.contract.transports.test_turns import ask

pytestmark = pytest.mark.real

HOLD = sim(words=3000, gap_ms=20)


async def test_a_session_is_started_restarted_stopped_and_deleted(
    connect: Connect, way: str, own: str
) -> None:
    """Whoever looks on is told; deleting closes the channel for good."""
    name = own.removeprefix("session:")
    peer = await connect(way)
    joined = await peer.join(own, {"start": {"append_system_prompt": "Be brief."}})
    assert (joined["session"]["name"], joined["recovered"], joined["turns"]) == (name, False, [])
    differing = {"name": name, "append_system_prompt": "Be long."}
    lobby = await connect(way)
    await lobby.join("sessions")
    assert (await refusal(lobby.ask("sessions", "start", differing)))["reason"] == "session_exists"

    running = await ask(peer, own, HOLD)
    waiting = await ask(peer, own, "later")
    await peer.wait(own, "delta", turn=running)
    await peer.ask(own, "restart")
    assert (await peer.story(own, running)).status == "interrupted"
    assert (await peer.story(own, waiting)).text == "You said: later"

    await peer.ask(own, "stop")
    assert [p["session"]["state"] for e, p in peer.numbered(own) if e == "session_changed"][-1] == "stopped"
    assert (await refusal(peer.ask(own, "submit", {"prompt": "?"})))["reason"] == "session_stopped"

    await lobby.ask("sessions", "delete", {"name": name})
    assert await peer.wait(own, "phx_close") == {}
    if lobby.topical:
        assert await lobby.wait("sessions", "session_deleted", name=name) == {"name": name}
    again = await connect(way)
    assert name not in await listed(again)
    assert (await refusal(again.join(own)))["reason"] == "session_not_found"


async def test_who_has_left_is_told_nothing_more(connect: Connect, way: str, talk: str) -> None:
    """And the session goes on for the others."""
    leaver, stayed = await connect(way), await connect("phoenix-v2")
    await leaver.join(talk, {"turns": 0})
    await stayed.join(talk, {"turns": 0})
    await leaver.leave(talk)
    await stayed.story(talk, await ask(stayed, talk, "are you there?"))
    await leaver.join("sessions")  # what was told before has been heard when this is answered
    assert leaver.numbered(talk) == []
