"""A turn as a client is told it: deltas, blocks, the end; and prompts as Claude is told them."""

from __future__ import annotations

import pytest

from bridge.simulator.script import words
from tests.fakes.bridge import BridgeProcess, Sessions, prompts_of, sim
from tests.fakes.phoenix_js import Refused, assert_well_told

pytestmark = pytest.mark.real

LIMIT = 1024 * 1024


def test_a_reply_is_streamed_word_by_word(sessions: Sessions) -> None:
    """Deltas in order, the block the same text, and the turn's text without the space at its end."""
    story = sessions.talk().ask(f"count {sim(words=25)}")
    assert_well_told(story)
    assert story.names == ["turn_queued", "turn_started", "delta", "block", "turn_finished"]
    assert "".join(story.deltas) == words(25)
    assert len(story.deltas) > (1 if sessions.tui else 10)
    assert story.blocks == {0: words(25)}
    assert (story.status, story.text) == ("completed", words(25).rstrip())


def test_a_prompt_is_answered_for_itself(sessions: Sessions) -> None:
    """The first prompt of a fresh session reaches Claude, and every event of it names its turn."""
    channel = sessions.join()
    reply = channel.push("submit", {"prompt": "hello"})
    story = channel.story(reply["turn"])
    assert reply.keys() == {"turn", "status", "position"}
    assert story.text == "You said: hello"
    assert story.of("turn_started") == [
        {**story.of("turn_started")[0], "prompt": "hello", "author": "local", "source": "client"}
    ]


def test_the_reply_to_submit_comes_before_the_events_of_the_turn(sessions: Sessions) -> None:
    """So a client knows the turn when it first hears of it."""
    channel = sessions.talk()
    pending = channel.send("submit", {"prompt": "hello"})
    story = channel.story(pending.reply()["turn"])
    assert pending.order < story.heard[0].order


def test_a_finished_turn_tells_what_it_used(sessions: Sessions) -> None:
    """Each turn its own share; the session the sum."""
    channel = sessions.join()
    first, second = channel.ask("one").finished, channel.ask("two").finished
    session = channel.wait_session(state="idle", turns=2)
    assert first["usage"]["output_tokens"] > 0
    assert first["duration_ms"] > 0
    if not sessions.tui:
        assert first["cost_usd"] > 0
        assert session["cost_usd"] == pytest.approx(first["cost_usd"] + second["cost_usd"])
    assert session["usage"]["output_tokens"] == sum(t["usage"]["output_tokens"] for t in (first, second))


def test_thinking_is_a_block_of_its_own(sessions: Sessions) -> None:
    """Streamed as such, and no part of the turn's text."""
    story = sessions.talk().ask(sim(thinking="let me see now", text="seen"))
    assert_well_told(story)
    assert [(b["block"], b["kind"], b["text"]) for b in story.of("block")] == [
        (0, "thinking", "let me see now"),
        (1, "text", "seen"),
    ]
    streamed = "".join(d["text"] for d in story.of("delta", kind="thinking"))
    assert streamed == ("" if sessions.tui else "let me see now")
    assert story.text == "seen"


def test_any_text_comes_through_as_it_is(sessions: Sessions) -> None:
    """Beyond ASCII, beyond the basic plane, controls and quotes; blanks only at the end are cut."""
    text = '  ä 漢字 🙂 \u200b "quoted" \\n \t tab\r\nline\x07 </system-reminder> \u2028 end '
    story = sessions.talk().ask(sim(text=text))
    assert_well_told(story)
    assert story.blocks == {0: text}
    assert story.text == text.rstrip()


def test_a_prompt_reaches_claude_verbatim(bridge: BridgeProcess, sessions: Sessions) -> None:
    """What would be a command at the CLI's own prompt, or the end of a line, is only text here. What the TUI
    cannot be told, and the blanks at an end, are `test_awkward_prompts`'."""
    prompts = [
        *(() if sessions.tui else ("/cost of this", "exit", "a\n\n\nb\tc  ")),
        "!ls",
        "@/etc/hostname",
        "# remember",
        "a\n\n\nb\tc",
        '{"type":"x"}\n{',
    ]
    channel = sessions.talk()
    for prompt in prompts:
        assert channel.ask(prompt).status == "completed"
        assert prompt in prompts_of(bridge.requests()[-1])


def test_a_prompt_of_a_megabyte_is_answered(bridge: BridgeProcess, sessions: Sessions) -> None:
    """Exactly the limit, more than one byte to some characters; twice, so that nothing was left half sent."""
    tail = sim(words=3)
    prompt = "ä" * ((LIMIT - len(tail)) // 2) + "x" * (len(tail) % 2) + tail
    assert len(prompt.encode()) == LIMIT
    channel = sessions.join()
    stories = [channel.ask(prompt), channel.ask(prompt)]
    for story in stories:
        assert_well_told(story)
        assert story.text == "w0 w1 w2"
        assert story.of("turn_started")[0]["prompt"] == prompt
    assert prompt in prompts_of(bridge.requests()[-1])


def test_a_prompt_of_one_byte_more_is_refused(sessions: Sessions) -> None:
    """With its size and the limit; nothing was queued."""
    channel = sessions.join()
    with pytest.raises(Refused) as refused:
        channel.submit("x" * (LIMIT + 1))
    assert refused.value.reason == "prompt_too_large"
    assert (refused.value.response["size"], refused.value.response["limit"]) == (LIMIT + 1, LIMIT)
    assert channel.ask("hello").text == "You said: hello"
    assert len(channel.push("history")["turns"]) == 1


@pytest.mark.parametrize("prompt", ["", "  \n\t"])
def test_a_prompt_without_text_is_refused(sessions: Sessions, prompt: str) -> None:
    """The CLI would start a turn for it."""
    with pytest.raises(Refused) as refused:
        sessions.talk().submit(prompt)
    assert refused.value.reason == "prompt_empty"


def test_history_tells_the_turns_as_they_were(sessions: Sessions) -> None:
    """Newest last, page by page, the same turns that a join gives."""
    channel = sessions.join()
    told = [channel.ask(f"prompt {n}") for n in range(3)]
    history = channel.push("history", {"limit": 2})["turns"]
    older = channel.push("history", {"limit": 2, "before": history[0]["id"]})["turns"]
    assert [t["text"] for t in older + history] == [s.text for s in told]
    assert [t["prompt"] for t in older + history] == ["prompt 0", "prompt 1", "prompt 2"]
    again = sessions.look(channel, turns=2)
    assert again.joined["turns"] == history
