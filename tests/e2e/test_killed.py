"""The bridge is killed, stopped, started again: the sessions go on, and clients get every turn once."""

from __future__ import annotations

import os

import pytest
from inotify_simple import INotify, flags  # type: ignore[import-untyped]

from bridge.simulator.script import words
from tests.fakes.bridge import BridgeProcess, cmdline, sim
from tests.fakes.phoenix_js import Clients, JsChannel, Json, Story, assert_well_told

pytestmark = pytest.mark.real

COUNT = 150
COUNTING = sim(words=COUNT, gap_ms=10)
"""Goes on for a second and a half: longer than it takes to kill the bridge in the middle of it."""


def joined(bridge: BridgeProcess, clients: Clients) -> JsChannel:
    return clients.connect(bridge.url, bridge.token).join("session:demo", {"start": {}}, resume=True)


def answered(bridge: BridgeProcess, clients: Clients) -> JsChannel:
    """A session whose process is warm, so that what follows is not its start."""
    channel = joined(bridge, clients)
    channel.ask("warm up")
    return channel


def rejoin_after(channel: JsChannel, times: int) -> Json:
    """The reply to the nth rejoin of phoenix.js."""

    def find() -> Json | None:
        replies = [h.payload for h in list(channel.heard) if h.event == "join_ok"]
        return replies[times] if len(replies) > times else None

    return channel.until(find, f"rejoin no. {times}")


def finished(channel: JsChannel, turn: str) -> Json:
    """How a turn ended, told as an event or in the snapshot of a join."""

    def find() -> Json | None:
        for h in list(channel.heard):
            if h.event == "turn_finished" and h.payload["turn"] == turn:
                return h.payload
            if h.event == "join_ok":
                ended: Json | None = next((t for t in h.payload["turns"] if t["id"] == turn), None)
                if ended is not None:
                    return ended
        return None

    return channel.until(find, f"the end of {turn}")


@pytest.mark.parametrize("when", [pytest.param("before a word", marks=pytest.mark.soak), "in the middle"])
def test_a_killed_bridge_takes_its_turn_up_again(
    own_bridge: BridgeProcess, clients: Clients, when: str
) -> None:
    """The CLI goes on meanwhile: the same process, one request, the exact text."""
    channel = answered(own_bridge, clients)
    cli = own_bridge.cli_pid("demo")
    turn = channel.submit(f"count on {COUNTING}")
    channel.wait("turn_started", turn=turn)
    if when == "in the middle":
        channel.wait("delta", turn=turn, count=20)
    own_bridge.kill()
    channel.socket.wait("close")
    assert "claude_demo" in own_bridge.tmux_sessions()
    assert "claude" in cmdline(cli)
    own_bridge.start()
    again = rejoin_after(channel, 1)
    assert again["recovered"] is False
    end = finished(channel, turn)
    assert (end["status"], end["text"]) == ("completed", words(COUNT).rstrip())
    assert own_bridge.cli_pid("demo") == cli
    assert len(own_bridge.requests("count on")) == 1
    after = channel.ask("and after that?")
    assert_well_told(after)
    assert after.text == "You said: and after that?"
    history = channel.push("history")["turns"]
    assert [t["text"] for t in history] == [
        "You said: warm up",
        words(COUNT).rstrip(),
        "You said: and after that?",
    ]
    assert [b["text"] for b in history[1]["blocks"]] == [words(COUNT)]


def test_a_turn_that_ended_while_no_bridge_ran_is_told_as_it_was(
    own_bridge: BridgeProcess, clients: Clients
) -> None:
    """Nobody read along; all of it is there."""
    channel = answered(own_bridge, clients)
    turn = channel.submit(f"alone {sim(words=40, gap_ms=5, thinking='so')}")
    channel.wait("delta", turn=turn)
    own_bridge.kill()
    until_idle(own_bridge)
    own_bridge.start()
    end = finished(channel, turn)
    assert (end["status"], end["text"]) == ("completed", words(40).rstrip())
    assert len(own_bridge.requests("alone")) == 1
    (last,) = channel.push("history", {"limit": 1})["turns"]
    assert [(b["kind"], b["text"]) for b in last["blocks"]] == [("thinking", "so"), ("text", words(40))]


def until_idle(bridge: BridgeProcess) -> None:
    """Until the CLI has said the end of its turn to its output file."""
    (out,) = bridge.state_dir.rglob("out.ndjson")
    with INotify() as news:
        news.add_watch(str(out), flags.MODIFY)
        while b'"state":"idle"' not in out.read_bytes().rstrip().rpartition(b"\n")[2]:
            assert news.read(timeout=30_000), "the CLI does not come to an end"


def test_what_waited_when_the_bridge_was_killed_is_answered(
    own_bridge: BridgeProcess, clients: Clients
) -> None:
    """Three prompts behind the one that ran: each once, in order."""
    channel = answered(own_bridge, clients)
    prompts = [f"first {COUNTING}", "second", "third", "fourth"]
    turns = [channel.submit(p, id=f"key {n}") for n, p in enumerate(prompts)]
    channel.wait("delta", turn=turns[0], count=5)
    own_bridge.kill()
    own_bridge.start()
    ends = [finished(channel, turn) for turn in turns]
    assert [e["status"] for e in ends] == ["completed"] * 4
    texts = [words(COUNT).rstrip(), *(f"You said: {p}" for p in prompts[1:])]
    assert [e["text"] for e in ends] == texts
    assert [t["id"] for t in channel.push("history")["turns"]][1:] == turns
    for prompt in prompts:
        assert len(own_bridge.requests(prompt)) == 1
    again = channel.push("submit", {"prompt": "third", "id": "key 2"})
    assert (again["turn"], again["duplicate"], again["status"]) == (turns[2], True, "completed")


def test_a_prompt_that_was_answered_with_a_turn_is_never_lost(
    own_bridge: BridgeProcess, clients: Clients
) -> None:
    """Killed at the moment of the reply, before Claude can have heard of most of it."""
    channel = joined(own_bridge, clients)
    pending = [channel.send("submit", {"prompt": f"crowd {n};"}) for n in range(10)]
    turns = [p.reply()["turn"] for p in pending]
    own_bridge.kill()
    own_bridge.start()
    assert [finished(channel, t)["text"] for t in turns] == [f"You said: crowd {n};" for n in range(10)]
    assert [len(own_bridge.requests(f"crowd {n};")) for n in range(10)] == [1] * 10


def test_an_open_request_is_still_open_after_a_kill(own_bridge: BridgeProcess, clients: Clients) -> None:
    """And its answer counts."""
    channel = joined(own_bridge, clients)
    made = own_bridge.home / "made"
    turn = channel.submit(sim(tools=[["Bash", {"command": f"touch {made} && echo done"}]], text="so it is"))
    request = channel.wait("request_opened")["request"]
    own_bridge.kill()
    own_bridge.start()
    again = rejoin_after(channel, 1)
    assert again["requests"] == [request]
    channel.push("answer", {"request": request["id"], "decision": "allow"})
    assert finished(channel, turn)["text"] == "so it is"
    assert made.exists()


def test_a_turn_is_interrupted_by_the_bridge_that_adopted_it(
    own_bridge: BridgeProcess, clients: Clients
) -> None:
    """It speaks to the process as its predecessor did, at once: while it is still looking for it."""
    channel = answered(own_bridge, clients)
    turn = channel.submit(sim(words=3000, gap_ms=20))
    channel.wait("delta", turn=turn, count=3)
    own_bridge.kill()
    own_bridge.start()
    rejoin_after(channel, 1)
    assert channel.push("interrupt") == {"turn": turn}
    end = finished(channel, turn)
    assert end["status"] == "interrupted"
    assert words(3000).startswith(str(end["text"]))
    assert channel.ask("next").text == "You said: next"


def test_a_stopped_bridge_says_goodbye_and_leaves_its_sessions(
    own_bridge: BridgeProcess, clients: Clients
) -> None:
    """SIGTERM: exit status 0, close code 1012, and what runs goes on for the next bridge."""
    channel = answered(own_bridge, clients)
    cli = own_bridge.cli_pid("demo")
    turn = channel.submit(f"count on {COUNTING}")
    channel.wait("delta", turn=turn, count=5)
    assert own_bridge.stop() == 0
    assert channel.socket.wait("close")["code"] == 1012
    assert not (own_bridge.state_dir / "bridge.json").exists()
    assert "claude_demo" in own_bridge.tmux_sessions()
    own_bridge.start()
    end = finished(channel, turn)
    assert (end["status"], end["text"]) == ("completed", words(COUNT).rstrip())
    assert own_bridge.cli_pid("demo") == cli
    assert len(own_bridge.requests("count on")) == 1


def test_a_cli_that_died_while_no_bridge_ran_is_resumed(own_bridge: BridgeProcess, clients: Clients) -> None:
    """What had begun ends as `unknown` with what was said, never sent again; what waited is answered."""
    channel = answered(own_bridge, clients)
    running = channel.submit(f"count on {sim(words=3000, gap_ms=20)}")
    waiting = channel.submit("and then?")
    channel.wait("delta", turn=running, count=5)
    cli = own_bridge.cli_pid("demo")
    own_bridge.kill()
    os.kill(cli, 9)
    own_bridge.start()
    end = finished(channel, running)
    assert end["status"] == "unknown"
    assert str(end["text"]).startswith("w0 w1 w2 w3")
    assert words(3000).startswith(str(end["text"]))
    assert finished(channel, waiting)["text"] == "You said: and then?"
    assert len(own_bridge.requests("count on")) == 1
    assert "warm up" in str(own_bridge.requests("and then?")[0]["messages"])


@pytest.mark.soak
def test_a_cli_that_dies_under_the_bridge_is_resumed(own_bridge: BridgeProcess, clients: Clients) -> None:
    """The same, seen live: the session says that it restarts."""
    channel = answered(own_bridge, clients)
    running = channel.submit(f"count on {sim(words=3000, gap_ms=20)}")
    waiting = channel.submit("and then?")
    channel.wait("delta", turn=running, count=5)
    os.kill(own_bridge.cli_pid("demo"), 9)
    story: Story = channel.story(running)
    assert_well_told(story)
    assert (story.status, story.text) == ("unknown", "".join(story.deltas).rstrip())
    channel.wait_session(state="restarting")
    assert channel.story(waiting).text == "You said: and then?"
    assert len(own_bridge.requests("count on")) == 1
    assert channel.wait_session(state="idle", restarts=1).get("reason") is None
