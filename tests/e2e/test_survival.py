"""What outlives the bridge and the machine: open requests, queues, conversations, and who was stopped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.test_killed import finished, rejoin_after
from tests.fakes.bridge import BridgeProcess, ended, running_bridge, sim
from tests.fakes.person import Person
from tests.fakes.phoenix_js import Clients, JsChannel, Json, Refused

pytestmark = pytest.mark.real


def joined(bridge: BridgeProcess, clients: Clients, name: str, **start: object) -> JsChannel:
    return clients.connect(bridge.url, bridge.token).join(f"session:{name}", {"start": start}, resume=True)


def touching(path: Path, text: str) -> str:
    """A prompt for which Claude has to ask."""
    return sim(tools=[["Bash", {"command": f"touch {path}"}]], text=text)


def opened(channel: JsChannel, turn: str) -> Json:
    """The request that a turn opens, told as an event or in the snapshot of a join."""

    def find() -> Json | None:
        told = [h.payload["request"] for h in list(channel.heard) if h.event == "request_opened"]
        told += [r for h in list(channel.heard) if h.event == "join_ok" for r in h.payload["requests"]]
        return next((r for r in told if r["turn"] == turn), None)

    return channel.until(find, f"a request of {turn}")


@pytest.mark.parametrize("backend", ["headless", "tmux"])
def test_a_request_and_three_prompts_outlive_the_bridge_and_then_the_machine(
    own_bridge: BridgeProcess, clients: Clients, backend: str
) -> None:
    """Where the bridge alone was killed the request can be answered; with its CLI it goes, and its turn is
    unknown. Each time the queue runs on in order, every prompt once."""
    channel = joined(own_bridge, clients, "demo", backend=backend)
    first, second = (own_bridge.home / name for name in ("first", "second"))
    prompts = [touching(first, "one"), touching(second, "two"), "third", "fourth", "fifth"]
    turns = [channel.submit(p, id=f"key {n}") for n, p in enumerate(prompts)]
    request = opened(channel, turns[0])

    own_bridge.kill()
    own_bridge.start()
    again = rejoin_after(channel, 1)
    assert again["requests"] == [request]
    assert (again["open_turn"]["id"], [t["id"] for t in again["queue"]]) == (turns[0], turns[1:])
    channel.push("answer", {"request": request["id"], "decision": "allow"})
    assert finished(channel, turns[0])["text"] == "one"
    assert first.exists()
    lost = opened(channel, turns[1])
    assert [len(own_bridge.requests(p)) for p in prompts] == [1, 1, 0, 0, 0]

    own_bridge.lose_everything()
    own_bridge.start()
    rejoin_after(channel, 2)
    ends = [finished(channel, turn) for turn in turns[1:]]
    assert [e["status"] for e in ends] == ["unknown", "completed", "completed", "completed"]
    assert [e["text"] for e in ends[1:]] == [f"You said: {p}" for p in prompts[2:]]
    with pytest.raises(Refused) as refused:
        channel.push("answer", {"request": lost["id"], "decision": "allow"})
    assert (refused.value.reason, refused.value.response["outcome"]) == ("request_closed", "withdrawn")
    assert not second.exists()
    # The simulator is another one now, and was not asked for what had begun.
    assert [len(own_bridge.requests(p)) for p in prompts] == [0, 0, 1, 1, 1]
    assert [t["id"] for t in channel.push("history")["turns"]] == turns
    assert str(first) in str(own_bridge.requests("third")[0]["messages"]), "the conversation was lost"
    repeated = channel.push("submit", {"prompt": prompts[1], "id": "key 1"})
    assert (repeated["turn"], repeated["status"], repeated["duplicate"]) == (turns[1], "unknown", True)


@pytest.fixture(scope="module")
def thrifty_bridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BridgeProcess]:
    """One that parks a session as soon as it has nothing to do, and starts one at a time."""
    settings = {"IDLE_STOP_S": "0.3", "STARTS_AT_ONCE": "1", "AFTER_REBOOT": "pending"}
    env = {f"CLAUDE_BRIDGE_SESSIONS__{name}": value for name, value in settings.items()}
    with running_bridge(tmp_path_factory.mktemp("bridge"), **env) as running:
        yield running


PARKED = "it was not used for 0.3 s; the next prompt starts it again"


def test_sessions_come_back_from_a_reboot_as_they_were(
    thrifty_bridge: BridgeProcess, clients: Clients
) -> None:
    """What was parked or stopped has no process; a prompt starts the first, with its conversation."""
    bridge = thrifty_bridge
    parked, stopped, busy = (joined(bridge, clients, name) for name in ("parked", "stopped", "busy"))
    for channel in (parked, stopped):
        channel.ask("remember this")
    stopped.push("stop")
    running = busy.submit(sim(words=3000, gap_ms=20))
    waiting = busy.submit("and then?")
    busy.wait("delta", turn=running)
    assert parked.wait_session(state="stopped")["reason"] == PARKED
    bridge.lose_everything()
    bridge.start()
    assert finished(busy, running)["status"] == "unknown"
    assert finished(busy, waiting)["text"] == "You said: and then?"
    again = rejoin_after(parked, 1)["session"]
    assert (again["state"], again["reason"]) == ("stopped", PARKED)
    assert parked.ask("what was it?").text == "You said: what was it?"
    assert "remember this" in str(bridge.requests("what was it?")[0]["messages"])
    with pytest.raises(Refused) as refused:
        stopped.push("submit", {"prompt": "hello?"})
    assert refused.value.reason == "session_stopped"
    assert "claude_stopped" not in bridge.tmux_sessions()


def test_a_session_is_not_parked_under_somebody_who_is_attached(
    thrifty_bridge: BridgeProcess, clients: Clients, tmp_path: Path
) -> None:
    """Once they have gone it is: its process ends, and the next prompt starts another."""
    bridge = thrifty_bridge
    attended = joined(bridge, clients, "attended", backend="tmux")
    running = attended.submit(sim(words=300, gap_ms=20))
    attended.wait("delta", turn=running)
    cli = bridge.cli_pid("attended")
    person = Person(bridge, "attended", tmp_path)
    attended.push("interrupt")
    attended.wait("turn_finished", turn=running)
    other = joined(bridge, clients, "other")
    other.ask("hello")
    assert other.wait_session(state="stopped")["reason"] == PARKED
    assert "stopped" not in {
        h.payload["session"]["state"] for h in attended.heard if h.event == "session_changed"
    }
    person.leave()
    assert attended.wait_session(state="stopped")["reason"] == PARKED
    assert ended(cli, 30)
    assert attended.ask("are you there?").text == "You said: are you there?"
