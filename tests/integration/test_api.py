"""Sessions of backend `api` on a bridge of their own: what they ask the API, and what a killed bridge leaves.

What they have in common with the others is in tests/contract.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bridge.simulator.script import words
from tests.e2e.test_killed import finished, rejoin_after
from tests.fakes.bridge import END_S, BridgeProcess, Sessions, running_bridge, sim
from tests.fakes.phoenix_js import Clients, JsChannel, Json, Refused, assert_well_told

pytestmark = pytest.mark.real

MARK = {"type": "ephemeral"}
LONG = sim(words=3000, gap_ms=20)


@pytest.fixture(scope="module", autouse=True)
def backend() -> str:
    return "api"


def marked(request: Json) -> list[str]:
    """The texts that the API is asked to keep, with all before them."""
    blocks = [*(request["system"] or []), *(b for m in request["messages"] for b in m["content"])]
    return [b["text"] for b in blocks if b.get("cache_control") == MARK]


def told(request: Json) -> list[tuple[str, list[str]]]:
    return [(m["role"], [b["text"] for b in m["content"]]) for m in request["messages"]]


# --- what is asked -------------------------------------------------------------------------------------


def test_a_conversation_is_told_whole_and_its_prefix_kept(bridge: BridgeProcess, sessions: Sessions) -> None:
    """System, the end of what was said before, and the end of this prompt are marked. No tools."""
    channel = sessions.join(system_prompt="You are a heron.", append_system_prompt="Stand on one leg.")
    for prompt in ("first of three", "second of three", "third of three"):
        channel.ask(prompt)
    first, _, third = (bridge.requests(f"{n} of three")[0] for n in ("first", "second", "third"))
    assert [b["text"] for b in third["system"]] == ["You are a heron.", "Stand on one leg."]
    assert told(third) == [
        ("user", ["first of three"]),
        ("assistant", ["You said: first of three"]),
        ("user", ["second of three"]),
        ("assistant", ["You said: second of three"]),
        ("user", ["third of three"]),
    ]
    assert marked(first) == ["Stand on one leg.", "first of three"]
    assert marked(third) == ["Stand on one leg.", "You said: second of three", "third of three"]
    assert (third["tools"], third["stream"]) == ([], True)


def test_without_a_system_prompt_there_is_none(bridge: BridgeProcess, sessions: Sessions) -> None:
    """The API has none of its own."""
    sessions.join().ask("without a system prompt")
    assert bridge.requests("without a system prompt")[0]["system"] is None


def test_what_was_interrupted_stays_in_the_conversation(bridge: BridgeProcess, sessions: Sessions) -> None:
    """With what there was of its answer; one that failed does not."""
    channel = sessions.join()
    turn = channel.submit(f"talk {LONG}")
    channel.wait("delta", turn=turn, count=3)
    channel.push("interrupt")
    partial = channel.story(turn).text
    silent = channel.submit(f"hush {sim(first_ms=60_000)}")
    channel.wait("turn_started", turn=silent)
    channel.push("interrupt")
    assert channel.story(silent).status == "interrupted"
    assert channel.ask(f"fail {sim(status=400)}").status == "failed"
    channel.ask("after all that")
    said = told(bridge.requests("after all that")[0])
    assert [role for role, _ in said] == ["user", "assistant", "user"]
    assert said[1] == ("assistant", [partial])
    assert [text.split()[0] for text in said[2][1]] == ["hush", "[Request", "after"]


def test_an_error_in_the_middle_of_an_answer_is_asked_again(sessions: Sessions) -> None:
    """As the SDK does with the same error at its beginning."""
    story = sessions.talk().ask(f"count {sim(words=30, error_after=7, times=1)}")
    assert_well_told(story)
    assert [d["block"] for d in story.of("discard")] == [0]
    assert (story.status, story.text) == ("completed", words(30).rstrip())


def test_a_cut_answer_is_a_failure_with_what_there_is(sessions: Sessions) -> None:
    """`max_tokens` and a refusal are told as such."""
    story = sessions.talk().ask(sim(words=5, stop_reason="max_tokens"))
    assert (story.status, story.finished["error"]["code"]) == ("failed", "max_tokens")
    assert story.text == words(5).rstrip()
    refused = sessions.talk().ask(sim(text="", stop_reason="refusal"))
    assert (refused.status, refused.finished["error"]["code"]) == ("failed", "refusal")


def test_what_is_not_for_it_is_refused_at_the_start(sessions: Sessions) -> None:
    """With the field; and nothing was made."""
    asked: dict[str, Any] = {
        "allowed_tools": ["Bash"],
        "disallowed_tools": ["Bash"],
        "mcp_config": {},
        "add_dirs": ["/tmp"],
        "resume": "x",
        "permission_mode": "plan",
    }
    for field, value in asked.items():
        start = {"backend": "api", field: value}
        with pytest.raises(Refused) as refused:
            sessions.socket.join(f"session:{sessions.name(field)}", {"start": start})
        assert (refused.value.reason, refused.value.response["field"]) == ("invalid_payload", field)
    with pytest.raises(Refused) as refused:
        sessions.socket.join(f"session:{sessions.name()}", {"start": {"on_restart": "continue"}})
    assert refused.value.response["field"] == "on_restart"


def test_there_is_nothing_to_attach_to(sessions: Sessions) -> None:
    """Nor a screen, nor slash commands."""
    channel = sessions.join()
    channel.ask("hello")
    name = channel.topic.removeprefix("session:")
    assert channel.joined["session"]["attach"] is None
    with pytest.raises(Refused) as refused:
        channel.push("submit", {"command": "/compact"})
    assert refused.value.reason == "prompt_rejected"
    with pytest.raises(Refused) as no_screen:
        sessions.socket.join(f"terminal:{name}")
    assert no_screen.value.reason == "invalid_payload"


def test_a_conversation_is_trimmed_by_whole_turns(clients: Clients, tmp_path_factory: Any) -> None:
    """The oldest go, more than would have to, and the rest stays the same for the next prompt."""
    limits = {"CLAUDE_BRIDGE_API__CONTEXT_TOKENS": "3000", "CLAUDE_BRIDGE_API__MAX_TOKENS": "1000"}
    with running_bridge(tmp_path_factory.mktemp("trimmed"), **limits) as bridge:
        channel = joined(bridge, clients)
        for n in range(24):
            assert channel.ask(f"turn {n:02} {'heron ' * 60}").status == "completed"
        told_ = [told(bridge.requests(f"turn {n:02} ")[0]) for n in range(24)]
        firsts = [int(said[0][1][0].split()[1]) for said in told_]
        assert firsts[0] == 0
        assert firsts == sorted(firsts)
        assert 0 < len(set(firsts)) - 1 < 10, "it was cut anew for nearly every prompt"
        assert firsts[-1] > 5


# --- a bridge that goes ----------------------------------------------------------------------------------


@pytest.fixture
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BridgeProcess]:
    """A bridge to be killed."""
    with running_bridge(tmp_path_factory.mktemp("killed")) as running:
        yield running


def joined(bridge: BridgeProcess, clients: Clients, **start: object) -> JsChannel:
    socket = clients.connect(bridge.url, bridge.token)
    return socket.join("session:demo", {"start": {"backend": "api", **start}}, resume=True)


def gone(bridge: BridgeProcess, how: str) -> None:
    end: Callable[[], object] = bridge.kill if how == "kill" else bridge.stop
    end()
    bridge.start()


@pytest.mark.parametrize("how", ["kill", pytest.param("stop", marks=pytest.mark.soak)])
def test_an_answer_cut_by_a_restart_keeps_its_text(kept: BridgeProcess, clients: Clients, how: str) -> None:
    """It is `interrupted`, with the reason, and never asked again; what waits is answered, once each."""
    channel = joined(kept, clients)
    channel.ask("before")
    turn = channel.submit(f"long {LONG}")
    waiting = [channel.submit(f"waiting {n}", id=f"key {n}") for n in range(2)]
    channel.wait("delta", turn=turn, count=10)
    gone(kept, how)
    rejoin_after(channel, 1)
    end = finished(channel, turn)
    assert (end["status"], end["error"]["code"]) == ("interrupted", "bridge_restarted")
    assert words(3000).startswith(end["text"])
    assert end["text"].startswith(words(10).rstrip())
    assert end["cost_usd"] > 0
    assert [finished(channel, t)["text"] for t in waiting] == ["You said: waiting 0", "You said: waiting 1"]
    assert len(kept.requests("long")) == 1
    assert [len(kept.requests(f"waiting {n}")) for n in range(2)] == [1, 1]
    assert ("assistant", [end["text"]]) in told(kept.requests("waiting 0")[0])
    history = channel.push("history")["turns"]
    assert [t["id"] for t in history][1:] == [turn, *waiting]
    assert not list((kept.state_dir / "sessions" / "demo").glob("answer.part"))


def test_a_prompt_that_nobody_answered_yet_is_sent_again(kept: BridgeProcess, clients: Clients) -> None:
    """The model had not begun: nothing was said that could be said twice."""
    channel = joined(kept, clients)
    channel.ask("warm up")
    turn = channel.submit(f"slow {sim(first_ms=4000, text='at last')}")
    channel.wait("turn_started", turn=turn)
    deadline = time.monotonic() + END_S
    while not kept.requests("slow"):
        assert time.monotonic() < deadline, "the model was never asked"
    gone(kept, "kill")
    rejoin_after(channel, 1)
    end = finished(channel, turn)
    assert (end["status"], end["text"]) == ("completed", "at last")
    assert len(kept.requests("slow")) == 2


def test_an_answer_goes_on_where_that_was_asked_for(kept: BridgeProcess, clients: Clients) -> None:
    """The model is shown its own words and told to go on; the turn is one, and its text both parts."""
    channel = joined(kept, clients, on_restart="continue")
    prompt = f"go on {sim(words=100, gap_ms=20)}"
    turn = channel.submit(prompt)
    channel.wait("delta", turn=turn, count=10)
    gone(kept, "kill")
    rejoin_after(channel, 1)
    end = finished(channel, turn)
    assert end["status"] == "completed"
    asked = told(kept.requests("Your response above")[0])
    assert [role for role, _ in asked] == ["user", "assistant", "user"]
    partial = asked[1][1][0]
    assert asked[0][1] == [prompt]
    assert words(100).startswith(partial)
    assert end["text"].startswith(partial)
    assert end["text"].endswith(words(100).rstrip()), "the simulator begins anew"
    assert len(end["text"]) >= len(partial) + len(words(100).rstrip())
    assert channel.ask("and now?").text == "You said: and now?"


@pytest.mark.soak
@pytest.mark.timeout(300)  # a bridge on a busy machine takes ten seconds to start
def test_killed_again_and_again_nothing_is_lost_or_asked_twice(kept: BridgeProcess, clients: Clients) -> None:
    """Four kills while prompts stream in: each turn ends once, and what had begun is not asked for again."""
    channel = joined(kept, clients)
    turns: list[str] = []
    for n in range(4):
        turns += [channel.submit(f"p{n}.{m} {sim(words=30, gap_ms=5)}", id=f"{n}.{m}") for m in range(4)]
        channel.wait("delta", turn=turns[-4])
        gone(kept, "kill")
        rejoin_after(channel, n + 1)
    ends = [finished(channel, turn) for turn in turns]
    history = channel.push("history", {"limit": 100})["turns"]
    assert [t["id"] for t in history] == turns
    for end, turn in zip(ends, history, strict=True):
        assert end["status"] in ("completed", "interrupted")
        assert words(30).startswith(end["text"])
        assert end["status"] == "interrupted" or end["text"] == words(30).rstrip()
        asked = len(kept.requests(turn["prompt"].split()[0] + " "))
        assert asked >= 1
        if end["status"] == "interrupted":
            assert asked <= 2, "an answer that had begun was asked for again"
