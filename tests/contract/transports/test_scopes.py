"""What a token allows is the same whichever way it comes in; the whole table is held by `tests/wire`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from bridge.tokens import digest, lines_of, new_token
from tests.contract.transports.conftest import Connect
from tests.contract.transports.test_joining import listed, refusal
from tests.fakes.bridge import BridgeProcess, running_bridge
from tests.fakes.phoenix_js import Refused

pytestmark = pytest.mark.real

WATCHER, TEAM, FORMER = new_token(), new_token(), new_token()


@pytest.fixture(scope="module")
def bridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BridgeProcess]:
    """With tokens that may do less than its own."""
    folder = tmp_path_factory.mktemp("bridge-scopes")
    (folder / "state").mkdir(mode=0o700)
    past = datetime.now(UTC) - timedelta(hours=1)
    tokens = [
        lines_of("watcher", digest(WATCHER), ["watch"], ["*"], None),
        lines_of("team", digest(TEAM), ["control", "watch", "prompt"], ["team-*"], None),
        lines_of("former", digest(FORMER), ["admin"], ["*"], past),
    ]
    (folder / "state" / "config.toml").write_text("\n".join(tokens))
    with running_bridge(folder) as running:
        yield running


async def test_who_may_only_watch_is_told_which_scope_is_missing(
    connect: Connect, way: str, talk: str
) -> None:
    """And sees all that happens."""
    peer = await connect(way, WATCHER)
    joined = await peer.join(talk, {"turns": 0})
    missing = {
        "submit": ({"prompt": "x"}, "prompt"),
        "interrupt": ({}, "prompt"),
        "answer": ({"request": "x", "decision": "allow"}, "approve"),
        "configure": ({"model": "x"}, "control"),
        "restart": ({}, "control"),
        "stop": ({}, "control"),
    }
    for event, (payload, scope) in missing.items():
        response = await refusal(peer.ask(talk, event, payload))
        assert (response["reason"], response["scope"]) == ("forbidden", scope)
    start = await refusal(peer.join("session:new", {"start": {}}))
    assert (start["reason"], start["scope"]) == ("forbidden", "control")
    assert "new" not in await listed(peer)
    asker = await connect("phoenix-v2")
    await asker.join(talk, {"turns": 0})
    turn = (await asker.ask(talk, "submit", {"prompt": "seen by all?"}))["turn"]
    assert (await peer.story(talk, turn)).text == "You said: seen by all?"
    assert peer.numbered(talk)[0][1]["seq"] == joined["seq"] + 1


async def test_a_token_for_some_sessions_reaches_no_other(connect: Connect, way: str, talk: str) -> None:
    """Nor is it told of them."""
    peer = await connect(way, TEAM)
    assert "shared" not in await listed(peer)
    assert (await refusal(peer.join(talk)))["reason"] == "forbidden"
    assert (await refusal(peer.join("session:nobody", {"start": {}})))["reason"] == "forbidden"
    assert (await refusal(peer.join("session:team-x")))["reason"] == "session_not_found"


async def test_a_token_that_ran_out_lets_nobody_in(connect: Connect, way: str) -> None:
    """As none does."""
    with pytest.raises(Refused):
        await connect(way, FORMER)
