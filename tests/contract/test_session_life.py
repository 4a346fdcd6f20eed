"""Stopping, starting, restarting, deleting: the conversation is there as long as nobody deletes it."""

from __future__ import annotations

import pytest

from tests.fakes.bridge import BridgeProcess, Sessions, sim
from tests.fakes.phoenix_js import JsChannel, Refused, assert_well_told

pytestmark = pytest.mark.real

HOLD = sim(words=3000, gap_ms=20)


def remembers(bridge: BridgeProcess, channel: JsChannel, earlier: str) -> bool:
    """Whether Claude, asked now, is given what was said before."""
    channel.ask(f"what did I say before? ({channel.topic})")
    asked = bridge.requests(f"what did I say before? ({channel.topic})")[-1]
    return earlier in str(asked["messages"])


def test_a_stopped_session_goes_on_where_it_was(bridge: BridgeProcess, sessions: Sessions) -> None:
    """Its process ends, its conversation stays: Claude still knows it after the next start."""
    channel = sessions.join()
    name = channel.topic.removeprefix("session:")
    channel.ask("the word is heron")
    assert channel.push("stop") == {}
    assert channel.wait_session(state="stopped")["attach"] is None
    assert f"claude_{name}" not in bridge.tmux_sessions()
    with pytest.raises(Refused) as refused:
        channel.submit("anybody there?")
    assert refused.value.reason == "session_stopped"
    lobby = sessions.socket.join("sessions")
    assert lobby.push("start", {"name": name, "backend": channel.joined["session"]["backend"]})["existing"]
    assert remembers(bridge, channel, "the word is heron")
    assert [t["status"] for t in channel.push("history")["turns"]] == ["completed"] * 2


def test_a_stop_interrupts_what_runs_and_keeps_what_waits(sessions: Sessions) -> None:
    """The queue is answered after the next start."""
    channel = sessions.join()
    running, waiting = channel.submit(HOLD), channel.submit("later")
    channel.wait("delta", turn=running, count=3)
    channel.push("stop")
    story = channel.story(running)
    assert_well_told(story)
    assert story.status == "interrupted"
    assert story.text == "".join(story.deltas).rstrip()
    assert [t["id"] for t in sessions.look(channel).joined["queue"]] == [waiting]
    name = channel.topic.removeprefix("session:")
    sessions.socket.join("sessions").push("start", {"name": name})
    assert channel.story(waiting).text == "You said: later"


def test_a_restart_keeps_the_conversation(bridge: BridgeProcess, sessions: Sessions) -> None:
    """A new process, the same conversation; what ran is interrupted, what waits is answered."""
    channel = sessions.join()
    channel.ask("the word is heron")
    name = channel.topic.removeprefix("session:")
    before = bridge.cli_pid(name) if sessions.process else None
    running, waiting = channel.submit(HOLD), channel.submit("later")
    channel.wait("delta", turn=running)
    assert channel.push("restart") == {}
    assert channel.story(running).status == "interrupted"
    assert channel.story(waiting).text == "You said: later"
    assert not sessions.process or bridge.cli_pid(name) != before
    assert remembers(bridge, channel, "the word is heron")
    assert sessions.look(channel).joined["session"]["restarts"] == 1


def test_a_restart_before_the_first_prompt_works(sessions: Sessions) -> None:
    """There is no conversation to resume yet."""
    channel = sessions.join()
    channel.push("restart")
    assert channel.ask("hello").text == "You said: hello"


def test_deleting_closes_every_channel_for_good(bridge: BridgeProcess, sessions: Sessions) -> None:
    """Nobody's client brings the session back, its process is gone, and so is its history."""
    channel = sessions.join(resume=True)
    other = sessions.look(channel)
    name = channel.topic.removeprefix("session:")
    running, waiting = channel.submit(HOLD), channel.submit("never")
    channel.wait("delta", turn=running)
    lobby = sessions.socket.join("sessions")
    lobby.push("delete", {"name": name})
    for told in (channel, other):
        told.wait("closed")
        assert [told.story(t).status for t in (running, waiting)] == ["interrupted", "cancelled"]
    assert lobby.wait("session_deleted", name=name) == {"name": name}
    assert f"claude_{name}" not in bridge.tmux_sessions()
    assert name not in {s["name"] for s in lobby.push("list")["sessions"]}
    with pytest.raises(Refused) as refused:
        sessions.socket.join(channel.topic)
    assert refused.value.reason == "session_not_found"


def test_a_deleted_name_can_be_used_again(sessions: Sessions) -> None:
    """For a session that knows nothing of the old one."""
    channel = sessions.join()
    channel.ask("old", id="key-1")
    sessions.socket.join("sessions").push("delete", {"name": channel.topic.removeprefix("session:")})
    channel.wait("closed")
    again = sessions.socket.join(channel.topic, {"start": {}})
    assert again.joined["turns"] == []
    assert again.joined["session"]["turns"] == 0
    assert again.ask("new", id="key-1").text == "You said: new"
