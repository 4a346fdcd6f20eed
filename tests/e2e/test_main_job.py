"""The main job, as a newcomer's script does it: join, submit, read the answer as it comes."""

from __future__ import annotations

import json
import urllib.request

import pytest

from bridge.simulator.script import words
from tests.fakes.bridge import BridgeProcess, Sessions, sim
from tests.fakes.phoenix_js import Clients, JsChannel, Refused, assert_well_told

pytestmark = pytest.mark.real


@pytest.fixture
def demo(bridge: BridgeProcess, clients: Clients) -> JsChannel:
    """`session:demo`, which the first to come has made."""
    return clients.connect(bridge.url, bridge.token).join("session:demo", {"start": {}})


def test_a_script_joins_submits_and_gets_the_answer_streamed(demo: JsChannel) -> None:
    """`{start: {}}` is all it takes."""
    assert demo.joined["session"]["name"] == "demo"
    assert (demo.joined["session"]["backend"], demo.joined["recovered"]) == ("headless", False)
    story = demo.ask(f"hello {sim(words=50)}")
    assert_well_told(story)
    assert "".join(story.deltas) == story.blocks[0] == words(50)
    assert (story.status, story.text) == ("completed", words(50).rstrip())


def test_the_session_is_there_for_a_person_in_tmux(bridge: BridgeProcess, demo: JsChannel) -> None:
    """`claude_demo` on the bridge's own socket, shown readably, and the exact command to attach."""
    demo.ask(sim(text="a heron stands still"))
    assert bridge.tmux_sessions() == {"claude_demo", "simulator"}
    attach = demo.wait_session(state="idle")["attach"]
    assert attach.split()[0].endswith("tmux")
    assert attach.split()[1:] == ["-L", bridge.tmux_socket, "attach", "-t", "claude_demo"]
    bridge.until_shown("demo", "a heron stands still")


def test_every_reply_says_that_it_is_simulated(bridge: BridgeProcess, demo: JsChannel) -> None:
    """To whoever reads the health page, the lobby or the greeting."""
    with urllib.request.urlopen(f"http://127.0.0.1:{bridge.port}/healthz", timeout=30) as answer:
        health = json.load(answer)
    assert health["ready"] is True
    note = json.loads((bridge.state_dir / "bridge.json").read_bytes())
    assert note["simulate"] is True


@pytest.mark.parametrize("via", ["params", "authToken"])
def test_the_token_is_taken_either_way(bridge: BridgeProcess, clients: Clients, via: str) -> None:
    """As a parameter of the socket, and as phoenix.js's authToken."""
    lobby = clients.connect(bridge.url, bridge.token, via=via).join("sessions")
    assert {"node", "version", "sessions"} <= lobby.joined.keys()


@pytest.mark.parametrize("via", ["params", "authToken"])
def test_a_wrong_token_is_refused(bridge: BridgeProcess, clients: Clients, via: str) -> None:
    """Before there is a socket."""
    socket = clients.connect(bridge.url, "wrong", via=via)
    assert "403" in socket.wait("error")["message"]
    socket.wait("close")
    assert [e for e in socket.life if e["lifecycle"] == "open"] == []


def test_a_foreign_page_may_not_connect(bridge: BridgeProcess, clients: Clients) -> None:
    """A browser says where its page comes from; the token alone is not enough there."""
    origin = {"Origin": "https://evil.example"}
    socket = clients.connect(bridge.url, bridge.token, headers=origin)
    assert "403" in socket.wait("error")["message"]
    own = {"Origin": f"http://127.0.0.1:{bridge.port}"}
    clients.connect(bridge.url, bridge.token, headers=own).wait("open")


def test_all_who_joined_are_told_the_same(bridge: BridgeProcess, clients: Clients, demo: JsChannel) -> None:
    """The same events under the same numbers, whoever asked."""
    others = [clients.connect(bridge.url, bridge.token).join("session:demo") for _ in range(3)]
    turn = others[0].submit(f"all {sim(words=200, thinking='so')}")
    stories = [channel.story(turn) for channel in (demo, *others)]
    for story in stories:
        assert_well_told(story)
        assert [(h.event, h.payload) for h in story.heard] == [(h.event, h.payload) for h in stories[0].heard]


def test_who_has_left_is_told_nothing_more(demo: JsChannel, bridge: BridgeProcess, clients: Clients) -> None:
    """And the session goes on for the others."""
    leaver = clients.connect(bridge.url, bridge.token).join("session:demo")
    leaver.leave()
    heard = len(leaver.heard)
    assert demo.ask("are you there?").status == "completed"
    assert [h.event for h in leaver.heard[heard:]] in ([], ["closed"])


def test_many_topics_share_one_socket(sessions: Sessions) -> None:
    """Their turns run beside each other, and no event strays."""
    channels = [sessions.join(f"n{n}") for n in range(4)]
    turns = [c.submit(f"I am {c.topic} {sim(words=60, gap_ms=5)}") for c in channels]
    for channel, turn in zip(channels, turns, strict=True):
        story = channel.story(turn)
        assert_well_told(story)
        assert story.text == words(60).rstrip()
        assert {h.payload["turn"] for h in channel.heard if "turn" in h.payload} == {turn}


def test_an_unknown_session_is_not_found(bridge: BridgeProcess, clients: Clients) -> None:
    """A join without `start` makes nothing."""
    socket = clients.connect(bridge.url, bridge.token)
    with pytest.raises(Refused) as refused:
        socket.join("session:nobody")
    assert refused.value.reason == "session_not_found"
    assert refused.value.response["message"]
    assert "nobody" not in {s["name"] for s in socket.join("sessions").joined["sessions"]}


def test_an_unknown_topic_is_phoenixs_own_error(bridge: BridgeProcess, clients: Clients) -> None:
    """As phoenix.js expects it."""
    with pytest.raises(Refused) as refused:
        clients.connect(bridge.url, bridge.token).join("room:lobby")
    assert refused.value.response == {"reason": "unmatched topic"}
