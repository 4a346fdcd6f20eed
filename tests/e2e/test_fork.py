"""Sessions that begin with another's turns, over the real CLI: what counts is what the model is asked."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.fakes.bridge import END_S, BridgeProcess, Sessions, sim
from tests.fakes.phoenix_js import Clients, JsChannel, Refused

pytestmark = pytest.mark.real

LONG = sim(words=3000, gap_ms=10)


def said(request: dict[str, Any]) -> list[tuple[str, str]]:
    """The conversation that a request carries: who said what, without what the CLI adds by itself."""
    found: list[tuple[str, str]] = []
    for message in request["messages"]:
        content = message["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        for block in blocks:
            text = (
                block.get("text") or block.get("thinking") or str(block.get("input") or block.get("content"))
            )
            if message["role"] != "system" and not text.startswith("<system-reminder>"):
                found.append((message["role"], text.strip()))
    return found


def asked(bridge: BridgeProcess, prompt: str) -> list[tuple[str, str]]:
    return said(bridge.requests(prompt)[-1])


def fork(sessions: Sessions, source: JsChannel, word: str, **payload: Any) -> JsChannel:
    name = sessions.name(word)
    lobby = sessions.socket.join("sessions")
    made = lobby.push("fork", {"name": name, "from": source.topic.removeprefix("session:"), **payload})
    assert made["session"]["name"] == name
    return sessions.socket.join(f"session:{name}", {"turns": 100})


def test_a_fork_begins_with_the_turns_up_to_the_one_that_was_named(
    bridge: BridgeProcess, sessions: Sessions
) -> None:
    """The model is asked with exactly those, and the two go their own ways."""
    source = sessions.join(allowed_tools=["Bash"])
    first = source.ask("alpha").finished["turn"]
    tools = [["Bash", {"command": "echo one"}], ["Bash", {"command": "echo two"}]]
    second = source.ask(f"beta {sim(text='Both.', thinking='hm', tools=tools)}").finished["turn"]
    source.ask("gamma")
    branch = fork(sessions, source, "fork", from_turn=second)
    session, turns = branch.joined["session"], branch.joined["turns"]
    assert [t["id"] for t in turns] == [first, second]
    assert [b["kind"] for b in turns[1]["blocks"]] == ["thinking", "tool", "tool", "text"]
    assert (session["turns"], session["cost_usd"], session["usage"]["input_tokens"]) == (2, 0.0, 0)
    assert session["conversation"] != source.joined["session"]["conversation"]
    branch.ask("zeta")
    source.ask("delta")
    before_gamma = asked(bridge, "gamma")[:-1]
    assert asked(bridge, "zeta") == [*before_gamma, ("user", "zeta")]
    assert [text for _, text in asked(bridge, "delta")][-3:] == ["gamma", "You said: gamma", "delta"]
    assert "zeta" not in str(asked(bridge, "delta"))


def test_a_fork_of_a_session_that_works_takes_no_notice_of_it(
    bridge: BridgeProcess, sessions: Sessions
) -> None:
    """Its running turn and its queue are no part of the fork, and go on."""
    source = sessions.join()
    done = source.ask("eta").finished["turn"]
    running = source.submit(f"theta {LONG}")
    source.wait("delta", turn=running)
    queued = source.submit("iota")
    lobby = sessions.socket.join("sessions")
    for turn in (running, queued):
        with pytest.raises(Refused) as refused:
            lobby.push("fork", {"name": "never", "from": source.topic[8:], "from_turn": turn})
        assert (refused.value.response["reason"], refused.value.response["field"]) == (
            "invalid_payload",
            "from_turn",
        )
    branch = fork(sessions, source, "fork")
    assert [t["id"] for t in branch.joined["turns"]] == [done]
    branch.ask("kappa")
    assert asked(bridge, "kappa") == [("user", "eta"), ("assistant", "You said: eta"), ("user", "kappa")]
    assert not any(h.event == "turn_finished" and h.payload["turn"] == running for h in source.heard)
    source.push("interrupt", {})
    assert source.wait("turn_finished", turn=queued)["text"] == "You said: iota"


def test_a_fork_of_a_fork_outlives_what_it_came_from(bridge: BridgeProcess, sessions: Sessions) -> None:
    """Deleted sources are not missed: not by its history, and not by Claude."""
    source = sessions.join()
    source.ask("lambda")
    middle = fork(sessions, source, "middle")
    middle.ask("mu")
    sessions.socket.join("sessions").push("delete", {"name": source.topic[8:]})
    last = fork(sessions, middle, "last")
    sessions.socket.join("sessions").push("delete", {"name": middle.topic[8:]})
    assert [t["prompt"] for t in last.joined["turns"]] == ["lambda", "mu"]
    last.ask("nu")
    assert [text for _, text in asked(bridge, "nu")] == [
        *("lambda", "You said: lambda", "mu", "You said: mu", "nu")
    ]


def test_turns_that_claude_began_by_itself_are_part_of_a_fork(
    bridge: BridgeProcess, sessions: Sessions
) -> None:
    """They have no id in Claude's own file."""
    source = sessions.join(allowed_tools=["Bash"])
    background = [["Bash", {"command": "echo background", "run_in_background": True}]]
    source.ask(f"xi {sim(text='It runs.', tools=background)}")
    source.wait("turn_finished", count=2)
    source.ask("omicron")
    turns = source.push("history", {})["turns"]
    assert [t["source"] for t in turns] == ["client", "terminal", "client"]
    branch = fork(sessions, source, "fork", from_turn=turns[1]["id"])
    branch.ask("pi")
    assert asked(bridge, "pi") == [*asked(bridge, "omicron")[:-1], ("user", "pi")]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ({"from": "nobody"}, "session_not_found"),
        ({"from_turn": "none"}, "turn_not_found"),
        ({"name": "{source}"}, "session_exists"),
        ({"name": "a b"}, "invalid_name"),
    ],
)
def test_what_cannot_be_forked_is_refused(sessions: Sessions, payload: dict[str, str], reason: str) -> None:
    """And nothing is made."""
    source = sessions.talk().topic.removeprefix("session:")
    lobby = sessions.socket.join("sessions")
    before = {s["name"] for s in lobby.push("list", {})["sessions"]}
    given = {"name": "never", "from": source} | {k: v.format(source=source) for k, v in payload.items()}
    with pytest.raises(Refused) as refused:
        lobby.push("fork", given)
    assert refused.value.response["reason"] == reason
    assert {s["name"] for s in lobby.push("list", {})["sessions"]} == before


def test_a_session_in_a_terminal_is_not_forked(sessions: Sessions) -> None:
    """Which is said, with why."""
    sessions.tui = True
    source = sessions.join(backend="tmux")
    with pytest.raises(Refused) as refused:
        sessions.socket.join("sessions").push("fork", {"name": "never", "from": source.topic[8:]})
    assert (refused.value.response["reason"], refused.value.response["field"]) == ("invalid_payload", "from")
    assert "terminal" in refused.value.response["message"]


# --- a bridge that is killed meanwhile ------------------------------------------------------------------


def notes(bridge: BridgeProcess) -> list[str]:
    folder = bridge.state_dir / "forks"
    return [f.name for f in folder.iterdir()] if folder.is_dir() else []


def copies(bridge: BridgeProcess) -> set[str]:
    """The conversations that Claude has files of."""
    return {f.stem for f in (bridge.state_dir / "claude").glob("projects/*/*.jsonl")}


@pytest.mark.parametrize(
    "moment", ["copied", *(pytest.param(m, marks=pytest.mark.soak) for m in ("noted", "asked", "answered"))]
)
def test_a_bridge_that_is_killed_in_a_fork_leaves_all_of_it_or_nothing(
    own_bridge: BridgeProcess, clients: Clients, moment: str
) -> None:
    """The fork works, or there is no trace of it and it can be asked for again."""
    socket = clients.connect(own_bridge.url, own_bridge.token)
    source = socket.join("session:source", {"start": {}})
    source.ask("alpha")
    before = copies(own_bridge)
    pending = socket.join("sessions").send("fork", {"name": "fork", "from": "source"})
    deadline = time.monotonic() + END_S
    reached = {
        "asked": lambda: True,
        "noted": lambda: bool(notes(own_bridge)) or copies(own_bridge) != before,
        "copied": lambda: copies(own_bridge) != before,
    }
    if moment == "answered":
        pending.reply()
    else:
        while not reached[moment]():
            assert time.monotonic() < deadline
    own_bridge.kill()
    own_bridge.start()
    again = clients.connect(own_bridge.url, own_bridge.token)
    lobby = again.join("sessions")
    if "fork" not in {s["name"] for s in lobby.joined["sessions"]}:
        assert moment != "answered"
        assert copies(own_bridge) == before
        lobby.push("fork", {"name": "fork", "from": "source"})
    branch = again.join("session:fork")
    assert [t["prompt"] for t in branch.joined["turns"]] == ["alpha"]
    branch.ask("beta")
    assert [text for _, text in asked(own_bridge, "beta")] == ["alpha", "You said: alpha", "beta"]
    assert notes(own_bridge) == []
    assert len(copies(own_bridge)) == len(before) + 1


# --- conversations that were begun outside ----------------------------------------------------------------


@pytest.mark.parametrize("backend", ["headless", "tmux"])
def test_a_conversation_from_outside_comes_with_its_history(
    bridge: BridgeProcess, sessions: Sessions, backend: str
) -> None:
    """Begun by another bridge's session, or anybody: only Claude's file is left of it."""
    outside = sessions.join("outside", backend=backend)
    outside.ask("rho")
    outside.ask(f"sigma {sim(text='Thought.')}")
    told = outside.push("history", {})["turns"]
    conversation = outside.wait_session(state="idle")["conversation"]
    name = sessions.name("taken")
    start = {"name": name, "backend": backend, "resume": conversation}
    with pytest.raises(Refused) as refused:
        sessions.socket.join("sessions").push("start", start)
    assert refused.value.reason == "session_exists"
    assert "fork" in refused.value.response["message"]
    sessions.socket.join("sessions").push("delete", {"name": outside.topic[8:]})
    made = sessions.socket.join("sessions").push("start", start)
    assert (made["session"]["conversation"], made["session"]["turns"]) == (conversation, 2)
    taken = sessions.socket.join(f"session:{name}")
    turns = taken.joined["turns"]
    assert [(t["prompt"], t["text"], t["status"]) for t in turns] == [
        (t["prompt"], t["text"], t["status"]) for t in told
    ]
    assert {(t["source"], t["author"]) for t in turns} == {("terminal", None)}
    taken.ask("tau")
    assert [text for _, text in asked(bridge, "tau")][-3:] == [turns[1]["prompt"], "Thought.", "tau"]
    if backend == "headless":
        branch = fork(sessions, taken, "branch", from_turn=turns[0]["id"])
        branch.ask("upsilon")
        assert [text for _, text in asked(bridge, "upsilon")] == ["rho", "You said: rho", "upsilon"]


@pytest.mark.parametrize("backend", ["headless", "tmux"])
def test_a_conversation_that_claude_does_not_have_is_refused(sessions: Sessions, backend: str) -> None:
    """At once, and no session is made."""
    lobby = sessions.socket.join("sessions")
    unknown = "00000000-0000-4000-8000-000000000000"
    with pytest.raises(Refused) as refused:
        lobby.push("start", {"name": "never", "backend": backend, "resume": unknown})
    assert (refused.value.reason, refused.value.response["field"]) == ("invalid_payload", "resume")
    assert "never" not in {s["name"] for s in lobby.push("list", {})["sessions"]}


def test_the_command_forks(bridge: BridgeProcess, sessions: Sessions) -> None:
    """From the turn that is named."""
    source = sessions.join()
    first = source.ask("phi").finished["turn"]
    source.ask("chi")
    name = sessions.name("fork")
    said = bridge.run("fork", source.topic[8:], name, "--from-turn", first)
    assert (said.returncode, said.stdout) == (0, f"{name} goes on from {source.topic[8:]}.\n")
    turns = sessions.socket.join(f"session:{name}").joined["turns"]
    assert [t["id"] for t in turns] == [first]
