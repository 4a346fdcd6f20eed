"""An account at its limit, over the real CLI: the queue waits until it resets, and nothing runs twice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.bridge import BridgeProcess, running_bridge, sim
from tests.fakes.phoenix_js import Clients, JsChannel

pytestmark = pytest.mark.real

LOGIN = {"CLAUDE_BRIDGE_CLAUDE__ENV": json.dumps({"CLAUDE_CODE_OAUTH_TOKEN": "made-up-for-tests"})}
"""With a key the CLI tells of no limit: the API has none that lasts."""


@pytest.fixture
def bridge(tmp_path: Path) -> Iterator[BridgeProcess]:
    with running_bridge(tmp_path, **LOGIN) as running:
        yield running


def told(channel: JsChannel) -> list[dict[str, Any]]:
    return [h.payload["session"] for h in channel.heard if h.event == "session_changed"]


def until_limited(channel: JsChannel) -> dict[str, Any]:
    """As the session is told once it waits, and nothing runs."""

    def found() -> dict[str, Any] | None:
        last = told(channel)[-1:]
        return next((s for s in last if s["state"] == "idle" and "limited_until" in s), None)

    return channel.until(found, "a limit")


@pytest.mark.parametrize(
    "backend", ["headless", *(pytest.param(b, marks=pytest.mark.soak) for b in ("tmux", "api"))]
)
def test_the_queue_waits_until_the_limit_resets(
    bridge: BridgeProcess, clients: Clients, backend: str
) -> None:
    """The turn that met it goes back to the head of the queue and is asked again under its id; what is
    submitted meanwhile is queued, and comes after it. Each ends once, as completed."""
    socket = clients.connect(bridge.url, bridge.token)
    channel = socket.join("session:one", {"start": {"backend": backend}})
    first = channel.submit(f"first {sim(limit_s=6, text='one')}")
    assert "limit" in until_limited(channel)["reason"]
    reply = channel.push("submit", {"prompt": f"second {sim(text='two')}"})
    assert (reply["status"], reply["position"]) == ("queued", 1)
    assert channel.story(reply["turn"]).text == "two"
    ended = [h.payload for h in channel.heard if h.event == "turn_finished"]
    assert [(e["turn"], e["status"], e["text"]) for e in ended] == [
        (first, "completed", "one"),
        (reply["turn"], "completed", "two"),
    ]
    assert "limited_until" not in told(channel)[-1]


def test_it_outlives_the_bridge_and_holds_for_all_sessions(bridge: BridgeProcess, clients: Clients) -> None:
    """A session that has not met it waits as well, one that is made meanwhile too; a killed bridge goes on
    waiting, and then asks."""
    socket = clients.connect(bridge.url, bridge.token)
    one, other = (socket.join(f"session:{name}", {"start": {}}) for name in ("one", "other"))
    other.ask("hello")
    one.submit(f"first {sim(limit_s=15, text='one')}")
    until_limited(other)
    made = socket.join("session:made", {"start": {}})
    assert "limited_until" in made.joined["session"]
    waits = other.submit(f"waits {sim(text='waited')}")
    bridge.kill()
    bridge.start()
    again = clients.connect(bridge.url, bridge.token).join("session:other")
    assert "limited_until" in again.joined["session"]
    assert [t["id"] for t in again.joined["queue"]] == [waits]
    assert bridge.requests("waits") == []
    assert again.story(waits).text == "waited"
    assert len(bridge.requests("waits")) == 1


def test_a_person_has_it_tried_at_once(bridge: BridgeProcess, clients: Clients) -> None:
    """`restart` asks Claude again, which is limited still: it waits again."""
    channel = clients.connect(bridge.url, bridge.token).join("session:one", {"start": {}})
    turn = channel.submit(f"first {sim(limit_s=3000)}")
    until_limited(channel)
    channel.push("restart")
    channel.wait("turn_started", 2, turn=turn)
    channel.wait("turn_queued", 3, turn=turn)
    until_limited(channel)
    assert len(bridge.requests("first")) == 2
