"""When the API fails: what is retried ends well, what is not ends the turn, and the session goes on."""

from __future__ import annotations

import pytest

from bridge.simulator.script import words
from tests.fakes.bridge import BridgeProcess, Sessions, sim
from tests.fakes.phoenix_js import Story, assert_well_told

pytestmark = pytest.mark.real


def test_an_overloaded_api_is_asked_again(bridge: BridgeProcess, sessions: Sessions) -> None:
    """HTTP 529 twice, then the answer: one turn, its text once, and the session says what it waits for."""
    channel = sessions.talk()
    story = channel.ask(f"patience {sim(status=529, times=2, text='third time lucky')}")
    assert_well_told(story)
    assert (story.status, story.text) == ("completed", "third time lucky")
    assert "".join(story.deltas) == "third time lucky"
    assert len(bridge.requests("patience")) == 3
    reasons = [h.payload["session"].get("reason") for h in channel.heard if h.event == "session_changed"]
    assert sessions.tui or any(reason and "attempt 2" in reason for reason in reasons)
    assert channel.heard[-1].payload.get("session", {}).get("reason") is None


def test_a_stream_that_was_cut_is_told_anew(bridge: BridgeProcess, sessions: Sessions) -> None:
    """The preview is discarded, and the one that follows is the block's text."""
    channel = sessions.talk()
    turn = channel.submit(f"count {sim(words=40, hang_after=20, gap_ms=2, times=1)}")
    channel.until(lambda: "".join(channel.so_far(turn).deltas) == words(20) or None, "so many words")
    bridge.simulator.cut()
    story = channel.story(turn)
    assert_well_told(story)
    told = [h.event for h in story.heard if h.event in ("delta", "discard", "block")]
    assert told.count("discard") == 1
    first = story.deltas[: told.index("discard")]
    assert "".join(first) == words(20)
    assert "".join(story.deltas[len(first) :]) == words(40)
    assert (story.blocks, story.text) == ({0: words(40)}, words(40).rstrip())


def test_a_settled_block_stands_when_the_stream_is_cut_behind_it(
    bridge: BridgeProcess, sessions: Sessions
) -> None:
    """Only what had not come whole is discarded. The CLI asks for the rest without a terminal; in one it asks
    the person to send the prompt again."""
    channel = sessions.talk()
    turn = channel.submit(sim(thinking="hm hm", words=30, hang_after=15, times=1))
    channel.wait("delta", turn=turn, kind="text")  # in a terminal once a line is whole
    bridge.simulator.cut()
    story = channel.story(turn)
    assert_well_told(story)
    assert story.blocks[0] == "hm hm"
    if sessions.tui:
        assert (story.status, story.finished["error"]["code"]) == ("failed", "server_error")
        assert words(30).startswith(story.text)
    else:
        assert [d["block"] for d in story.of("discard")] == [1]
        assert (story.status, story.text) == ("completed", words(30).rstrip())
    assert channel.ask("and now?").text == "You said: and now?"


def test_an_answer_that_was_not_streamed_comes_as_its_block_alone(sessions: Sessions) -> None:
    """The CLI asks again without streaming when a stream ends in an error: the block carries the text."""
    story = sessions.talk().ask(f"count {sim(words=12, error_after=4)}")
    assert_well_told(story)
    if not sessions.tui:
        assert story.of("discard") != []
        assert "".join(story.deltas) == words(4)
    assert (story.status, story.blocks, story.text) == ("completed", {0: words(12)}, words(12).rstrip())


def failed(story: Story) -> None:
    assert_well_told(story)
    assert story.status == "failed"
    assert story.finished["error"]["message"]


def test_a_refused_request_fails_its_turn_and_the_next_prompt_works(sessions: Sessions) -> None:
    """HTTP 400: the turn says so, with the status; the session is as good as before."""
    channel = sessions.join()
    story = channel.ask(f"first {sim(status=400)}")
    failed(story)
    assert story.finished["error"]["status"] == 400
    following = channel.ask("second")
    assert_well_told(following)
    assert (following.status, following.text) == ("completed", "You said: second")
    assert [t["status"] for t in channel.push("history")["turns"]] == ["failed", "completed"]


def test_prompts_behind_a_failed_one_are_answered(sessions: Sessions) -> None:
    """A failure ends one turn, not the queue."""
    channel = sessions.talk()
    turns = [channel.submit(p) for p in (sim(status=400), "second", "third")]
    stories = [channel.story(turn) for turn in turns]
    assert [s.status for s in stories] == ["failed", "completed", "completed"]
    assert [s.text for s in stories[1:]] == ["You said: second", "You said: third"]
