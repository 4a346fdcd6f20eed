"""The lobby: who is there, starting and stopping from outside, and what all are told of it."""

from __future__ import annotations

import pytest

from tests.fakes.bridge import BridgeProcess, Sessions, sim
from tests.fakes.phoenix_js import Clients, JsChannel, Refused

pytestmark = pytest.mark.real


@pytest.fixture
def lobby(bridge: BridgeProcess, clients: Clients) -> JsChannel:
    return clients.connect(bridge.url, bridge.token).join("sessions")


def test_a_session_is_started_and_listed(lobby: JsChannel, sessions: Sessions) -> None:
    """By the reply, by the event, and by every later list."""
    name = sessions.name()
    started = lobby.push("start", {"name": name, "model": "claude-haiku-4-5"})
    assert (started["session"]["name"], started.get("existing", False)) == (name, False)
    assert lobby.wait("session_changed")["session"]["name"] == name
    assert name in {s["name"] for s in lobby.push("list")["sessions"]}
    assert {s["name"] for s in sessions.socket.join("sessions").joined["sessions"]} >= {name}
    assert sessions.socket.join(f"session:{name}").ask("hello").text == "You said: hello"


def test_starting_what_runs_gives_what_runs(lobby: JsChannel, sessions: Sessions) -> None:
    """With the same options; with others it is a conflict that names them."""
    name = sessions.name()
    options = {"name": name, "model": "claude-haiku-4-5", "allowed_tools": ["Bash"]}
    first = lobby.push("start", options)
    again = lobby.push("start", options)
    assert again["existing"] is True
    assert again["session"]["started_at"] == first["session"]["started_at"]
    with pytest.raises(Refused) as refused:
        lobby.push("start", {**options, "model": "claude-sonnet-4-5"})
    assert (refused.value.reason, refused.value.response["differing"]) == ("session_exists", ["model"])


def test_the_options_of_a_join_count_only_for_a_new_session(sessions: Sessions) -> None:
    """A rejoin never conflicts."""
    channel = sessions.join(model="claude-haiku-4-5")
    rejoined = sessions.look(channel, start={"model": "claude-sonnet-4-5"})
    assert rejoined.joined["session"]["model"] == "claude-haiku-4-5"


def test_stopping_ends_the_process_and_keeps_the_session(
    bridge: BridgeProcess, lobby: JsChannel, sessions: Sessions
) -> None:
    """All are told, in the lobby and in the session."""
    channel = sessions.join()
    name = channel.topic.removeprefix("session:")
    assert lobby.push("stop", {"name": name})["session"]["state"] == "stopped"
    channel.wait_session(state="stopped")
    told = [h.payload["session"] for h in lobby.heard if h.event == "session_changed"]
    assert [s["state"] for s in told if s["name"] == name][-1] == "stopped"
    assert f"claude_{name}" not in bridge.tmux_sessions()
    assert lobby.push("stop", {"name": name})["session"]["state"] == "stopped"


def test_the_lobby_hears_what_a_session_does(lobby: JsChannel, sessions: Sessions) -> None:
    """Its states, in order, without joining it; and nothing of what is said in it."""
    channel = sessions.join()
    channel.ask("hello")
    name = channel.topic.removeprefix("session:")

    def idle_again() -> list[str] | None:
        told = [h.payload["session"] for h in list(lobby.heard) if h.event == "session_changed"]
        states = [s["state"] for s in told if s["name"] == name]
        return states if "busy" in states and states[-1] == "idle" else None

    states = lobby.until(idle_again, "busy and idle again")
    assert list(dict.fromkeys(states)) == ["starting", "idle", "busy"]
    assert {h.event for h in lobby.heard} == {"join_ok", "session_changed"}


@pytest.mark.parametrize("event", ["stop", "delete"])
def test_what_is_not_there_cannot_be_ended(lobby: JsChannel, event: str) -> None:
    """It says so."""
    with pytest.raises(Refused, match="session_not_found"):
        lobby.push(event, {"name": "nobody"})


@pytest.mark.parametrize("name", ["", "-dash", "_under", "a b", "a/b", "a.b", "ä", "x" * 65, "a:b", "a\n"])
def test_an_invalid_name_is_refused_everywhere(lobby: JsChannel, name: str) -> None:
    """Before anything is made."""
    with pytest.raises(Refused, match="invalid_name"):
        lobby.push("start", {"name": name})
    with pytest.raises(Refused, match="invalid_name"):
        lobby.socket.join(f"session:{name}", {"start": {}})
    assert name not in {s["name"] for s in lobby.push("list")["sessions"]}


def test_the_supervision_tree_names_every_session(lobby: JsChannel, sessions: Sessions) -> None:
    """With its process."""
    channel = sessions.join()
    channel.ask("hello")
    name = channel.topic.removeprefix("session:")
    pid = sessions.bridge.cli_pid(name)
    assert f"session:{name}" in str(lobby.push("tree"))
    assert str(pid) in str(lobby.push("tree"))


def test_a_client_that_polls_is_told_the_same_and_misses_nothing(
    bridge: BridgeProcess, sessions: Sessions, clients: Clients
) -> None:
    """By long poll, cut in the middle of a turn; both see each other."""
    watching = sessions.join(resume=True)
    socket = clients.connect(bridge.url, bridge.token, transport="longpoll")
    polling = socket.join(watching.topic, resume=True)
    turn = polling.submit(sim(words=40, gap_ms=20))
    polling.wait("delta", 3, turn=turn)
    socket.cut()
    socket.wait("open", 2)
    assert polling.story(turn).text == watching.story(turn).text
    transports = {
        meta["transport"]
        for h in watching.heard
        if h.event == "presence_diff"
        for entry in h.payload["joins"].values()
        for meta in entry["metas"]
    }
    assert transports == {"websocket", "longpoll"}
