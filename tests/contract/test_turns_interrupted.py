"""Interrupting: what had been said is kept, and what waits goes on."""

from __future__ import annotations

import pytest

from bridge.simulator.script import words
from tests.fakes.bridge import BridgeProcess, Sessions, sim
from tests.fakes.phoenix_js import assert_well_told

pytestmark = pytest.mark.real

LONG = sim(words=2000, gap_ms=20)


def test_an_interrupted_turn_keeps_its_partial_text(bridge: BridgeProcess, sessions: Sessions) -> None:
    """As deltas, as block, as the turn's text, and in the history."""
    channel = sessions.talk()
    turn = channel.submit(f"count {LONG}")
    channel.wait("delta", count=5, turn=turn)
    assert channel.push("interrupt") == {"turn": turn}
    story = channel.story(turn)
    assert_well_told(story)
    assert story.status == "interrupted"
    partial = "".join(story.deltas)
    assert words(2000).startswith(partial)
    assert partial.startswith(words(5))
    assert len(partial) < len(words(2000))
    assert (story.blocks, story.text) == ({0: partial}, partial.rstrip())
    assert channel.push("history")["turns"][-1]["text"] == partial.rstrip()


def test_the_prompt_after_an_interrupted_one_is_answered(sessions: Sessions) -> None:
    """In the same process, and for itself."""
    channel = sessions.talk()
    turn = channel.submit(LONG)
    channel.wait("delta", turn=turn)
    channel.push("interrupt")
    assert channel.story(turn).status == "interrupted"
    story = channel.ask("and now?")
    assert_well_told(story)
    assert (story.status, story.text) == ("completed", "You said: and now?")
    assert channel.joined["session"]["restarts"] == sessions.look(channel).joined["session"]["restarts"]


def test_a_turn_is_interrupted_before_it_has_said_anything(sessions: Sessions) -> None:
    """While Claude has not begun to answer."""
    channel = sessions.talk()
    channel.ask("warm up")
    turn = channel.submit(sim(first_ms=60_000, text="too late"))
    channel.wait("turn_started", turn=turn)
    assert channel.push("interrupt") == {"turn": turn}
    story = channel.story(turn)
    assert_well_told(story)
    assert (story.status, story.text) == ("interrupted", "")
    assert channel.ask("next").text == "You said: next"


def test_an_interrupt_right_behind_its_prompt_ends_it(sessions: Sessions) -> None:
    """However quick: twelve times, because it used to be lost one time in three."""
    channel = sessions.talk()
    channel.ask("warm up")
    for n in range(12):
        submit = channel.send("submit", {"prompt": f"{n} {sim(first_ms=60_000)}"})
        interrupt = channel.send("interrupt")
        turn = submit.reply()["turn"]
        assert interrupt.reply() == {"turn": turn}
        assert channel.story(turn).status == "interrupted"


def test_queued_prompts_run_after_an_interrupt(sessions: Sessions) -> None:
    """Each as a turn of its own, in order."""
    channel = sessions.talk()
    first = channel.submit(LONG)
    rest = [channel.submit(f"prompt {n}") for n in range(3)]
    channel.wait("delta", turn=first)
    channel.push("interrupt")
    stories = [channel.story(turn) for turn in (first, *rest)]
    assert [s.status for s in stories] == ["interrupted", *["completed"] * 3]
    assert [s.text for s in stories[1:]] == [f"You said: prompt {n}" for n in range(3)]
    begun = [h.payload["turn"] for h in channel.heard if h.event == "turn_started"]
    assert begun == [first, *rest]


def test_interrupting_nothing_is_harmless(sessions: Sessions) -> None:
    """The reply says that there was nothing."""
    channel = sessions.talk()
    channel.ask("hello")
    assert channel.push("interrupt") == {"turn": None}
    assert channel.ask("still there?").text == "You said: still there?"
