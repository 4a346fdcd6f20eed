"""Coming in, over every transport: what a join gives, what it refuses, and what makes no sense."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.transports.conftest import Connect
from tests.fakes.peers import Peer
from tests.fakes.phoenix_js import Refused

pytestmark = pytest.mark.real


async def refusal(asked: Any) -> dict[str, Any]:
    with pytest.raises(Refused) as refused:
        await asked
    assert refused.value.response["message"], "a sentence for a person"
    return refused.value.response


async def listed(peer: Peer) -> set[str]:
    """The sessions that the lobby names."""
    return {session["name"] for session in (await peer.join("sessions"))["sessions"]}


async def test_a_wrong_token_lets_nobody_in(connect: Connect, way: str) -> None:
    """Nor does none."""
    for token in ("wrong", ""):
        with pytest.raises(Refused):
            await connect(way, token)


async def test_the_lobby_lists_the_sessions(connect: Connect, way: str, talk: str) -> None:
    """Joining it and asking it say the same."""
    peer = await connect(way)
    assert "shared" in await listed(peer)
    asked = await peer.ask("sessions", "list")
    assert "shared" in {session["name"] for session in asked["sessions"]}


async def test_a_join_tells_all_there_is_to_know(connect: Connect, way: str, talk: str) -> None:
    """The session, where its events stand, and what is under way."""
    joined = await (await connect(way)).join(talk, {"turns": 0})
    assert {
        "session",
        "epoch",
        "seq",
        "recovered",
        "turns",
        "open_turn",
        "queue",
        "requests",
    } == joined.keys()
    assert (joined["session"]["name"], joined["recovered"], joined["turns"]) == ("shared", False, [])


async def test_an_unknown_session_is_not_found(connect: Connect, way: str) -> None:
    """A join without `start` makes nothing."""
    peer = await connect(way)
    assert (await refusal(peer.join("session:nobody")))["reason"] == "session_not_found"
    assert "nobody" not in await listed(peer)


@pytest.mark.parametrize("name", ["-begins", "no space", "ümlaut", "x" * 65])
async def test_a_bad_name_is_refused_as_such(connect: Connect, way: str, name: str) -> None:
    """With or without a `start`."""
    peer = await connect(way)
    joins: list[dict[str, Any]] = [{}, {"start": {}}]
    for payload in joins:
        assert (await refusal(peer.join(f"session:{name}", payload)))["reason"] == "invalid_name"


async def test_an_unknown_topic_is_unmatched(connect: Connect, way: str) -> None:
    """As Phoenix says it."""
    with pytest.raises(Refused) as refused:
        await (await connect(way)).join("room:lobby")
    assert refused.value.response == {"reason": "unmatched topic"}


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        ({"start": True}, "start"),
        ({"start": {"modell": "x"}}, "start.modell"),
        ({"start": {"backend": "telepathy"}}, "start.backend"),
        ({"start": {"allowed_tools": "Bash"}}, "start.allowed_tools"),
        ({"start": {"allowed_tools": [1]}}, "start.allowed_tools.0"),
        ({"start": {"model": "a\0b"}}, "start.model"),
        ({"after": {"epoch": "x"}}, "after.seq"),
        ({"after": {"epoch": "x", "seq": -1}}, "after.seq"),
        ({"turns": 5000}, "turns"),
        ({"from": 3}, "from"),
    ],
)
async def test_a_malformed_join_names_its_field(
    connect: Connect, way: str, talk: str, payload: dict[str, Any], field: str
) -> None:
    """And no session is made of it."""
    peer = await connect(way)
    topic = "session:malformed" if "start" in payload else talk
    response = await refusal(peer.join(topic, payload))
    if not peer.topical:
        field = field.removeprefix("start.")  # over REST the options are the body itself
    assert (response["reason"], response["field"]) == ("invalid_payload", field)
    assert "malformed" not in await listed(peer)


@pytest.mark.parametrize(
    ("event", "payload", "field"),
    [
        ("submit", {}, "prompt"),
        ("submit", {"prompt": None}, "prompt"),
        ("submit", {"prompt": 7}, "prompt"),
        ("submit", {"promt": "x"}, "promt"),
        ("submit", {"prompt": "x", "id": ""}, "id"),
        ("submit", {"prompt": "x", "id": "k" * 256}, "id"),
        ("submit", {"prompt": "x", "mode": "later"}, "mode"),
        ("submit", {"prompt": "x", "command": "/cost"}, "command"),
        ("cancel", {}, "turn"),
        ("cancel", {"turn": ["x"]}, "turn"),
        ("answer", {"decision": "allow"}, "request"),
        ("answer", {"request": "x", "decision": "maybe"}, "decision"),
        ("answer", {"request": "x", "decision": "allow", "input": []}, "input"),
        ("history", {"limit": 0}, "limit"),
        ("history", {"limit": "all"}, "limit"),
        ("configure", {"model": 7}, "model"),
        ("configure", {"permission_mode": "everything"}, "permission_mode"),
        ("interrupt", {"now": True}, "now"),
        ("dance", {}, "event"),
        ("submit", ["x"], ""),
        ("submit", "x", ""),
    ],
)
async def test_a_malformed_payload_names_its_field(
    connect: Connect, way: str, talk: str, event: str, payload: Any, field: str
) -> None:
    """And says in a sentence what is wrong with it; nothing is done."""
    peer = await connect(way)
    joined = await peer.join(talk, {"turns": 0})
    response = await refusal(peer.ask(talk, event, payload))
    assert (response["reason"], response["field"]) == ("invalid_payload", field)
    assert (await peer.join(talk, {"turns": 0}))["session"]["turns"] == joined["session"]["turns"]


async def test_an_answer_to_nothing_is_told_that_nothing_is_open(
    connect: Connect, way: str, talk: str
) -> None:
    """An invented request, or turn."""
    peer = await connect(way)
    await peer.join(talk)
    answer = {"request": "invented", "decision": "allow"}
    assert (await refusal(peer.ask(talk, "answer", answer)))["reason"] == "request_closed"
    assert (await refusal(peer.ask(talk, "cancel", {"turn": "invented"})))["reason"] == "turn_not_found"
    assert (await refusal(peer.ask(talk, "history", {"before": "invented"})))["reason"] == "turn_not_found"
