"""The bridge is killed while a sub-agent is at work in the background: its turn goes on all the same."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.test_turns_agents import delegating, until_there
from tests.e2e.test_killed import finished, rejoin_after
from tests.fakes.bridge import BridgeProcess
from tests.fakes.phoenix_js import Clients, JsChannel, Json

pytestmark = [pytest.mark.real, pytest.mark.parametrize("backend", ["headless", "tmux"])]


def warm(bridge: BridgeProcess, clients: Clients, **start: Any) -> JsChannel:
    channel = clients.connect(bridge.url, bridge.token).join("session:demo", {"start": start}, resume=True)
    channel.ask("warm up")
    return channel


def said(turn: Json) -> list[str]:
    return [b["text"] for b in turn["blocks"] if b["kind"] == "text" and b.get("parent") is None]


def test_what_an_agent_asks_is_still_open_after_a_kill(
    own_bridge: BridgeProcess, clients: Clients, backend: str
) -> None:
    """And its answer counts."""
    channel = warm(own_bridge, clients, backend=backend)
    made = own_bridge.home / "made"
    turn = channel.submit(delegating(f"touch {made}"))
    request = channel.wait("request_opened")["request"]
    own_bridge.kill()
    own_bridge.start()
    again = rejoin_after(channel, 1)
    assert (again["open_turn"]["id"], again["requests"]) == (turn, [request])
    channel.push("answer", {"request": request["id"], "decision": "allow"})
    assert finished(channel, turn)["status"] == "completed"
    assert made.exists()
    (last,) = channel.push("history", {"limit": 1})["turns"]
    assert (last["id"], said(last)) == (turn, ["it works"] * 2)


def test_an_agent_that_is_done_while_no_bridge_runs_is_answered_in_its_turn(
    own_bridge: BridgeProcess, clients: Clients, backend: str
) -> None:
    """One turn, with both answers; the next prompt has its own."""
    channel = warm(own_bridge, clients, backend=backend, allowed_tools=["Bash"])
    done = own_bridge.home / "done"
    turn = channel.submit(delegating(until_there(done)))
    channel.wait("block", turn=turn, text="it works")
    asked = len(own_bridge.requests())
    own_bridge.kill()
    done.touch()
    channel.until(lambda: len(own_bridge.requests()) >= asked + 2 or None, "Claude's answer to its agent")
    own_bridge.start()
    assert finished(channel, turn)["status"] == "completed"
    assert channel.ask("and now?").text == "You said: and now?"
    told = channel.push("history", {"limit": 3})["turns"]
    assert [said(t) for t in told] == [["You said: warm up"], ["it works"] * 2, ["You said: and now?"]]
