"""One session's turns, with the real CLI on the simulator: what is asked for, and what comes of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from bridge.errors import BackendError
from bridge.sessions.backends.base import Answer
from bridge.signals import (
    AnswerMoot,
    AnswerNeeded,
    BlockDropped,
    BlockSettled,
    ConversationNamed,
    PromptSeen,
    PromptTyped,
    SettingsSeen,
    Signal,
    TextArrived,
    ToolAnswered,
    ToolCalled,
    TurnEnded,
    UpstreamActive,
    UpstreamRetrying,
)
from tests.fakes.headless import Rig
from tests.fakes.simulator import RunningSimulator

pytestmark = pytest.mark.real


def sim(**directive: Any) -> str:
    return f"Please. [[sim {json.dumps(directive)}]]"


def words(count: int) -> str:
    return "".join(f"w{n} \n" if n % 10 == 9 else f"w{n} " for n in range(count))


def previews(signals: Sequence[Signal]) -> dict[int, str]:
    """The text of each block as a client would have put it together."""
    shown: dict[int, str] = {}
    for signal in signals:
        if isinstance(signal, TextArrived):
            shown[signal.block] = shown.get(signal.block, "") + signal.text
        elif isinstance(signal, BlockDropped):
            shown.pop(signal.block, None)
    return shown


def finals(signals: Sequence[Signal]) -> dict[int, str]:
    return {s.block: s.text for s in signals if isinstance(s, BlockSettled)}


def end(signals: Sequence[Signal]) -> TurnEnded:
    assert isinstance(signals[-1], TurnEnded)
    return signals[-1]


async def test_a_turns_previews_are_its_final_text(rig: Rig) -> None:
    """From the acknowledgement over every delta to the end."""
    await rig.start()
    turn = await rig.ask(sim(words=25))
    assert [type(s) for s in turn[:4]] == [PromptSeen, ConversationNamed, SettingsSeen, UpstreamActive]
    assert len([s for s in turn if isinstance(s, TextArrived)]) == 25
    assert previews(turn) == finals(turn) == {0: words(25)}
    assert end(turn).status == "completed"
    assert end(turn).cost_usd
    assert end(turn).usage is not None


async def test_the_conversation_has_the_id_it_was_given(rig: Rig) -> None:
    """By it, it is resumed after a crash."""
    await rig.start()
    await rig.ask(sim(text="hi"))
    assert rig.all(ConversationNamed) == [ConversationNamed(rig.conversation)]


@pytest.mark.soak
async def test_thinking_is_a_block_of_its_own(rig: Rig) -> None:
    """Before the text, with a number and a kind of its own."""
    await rig.start()
    turn = await rig.ask(sim(text="Forty-two.", thinking="Six times seven."))
    assert previews(turn) == finals(turn) == {0: "Six times seven.", 1: "Forty-two."}
    assert [s.kind for s in turn if isinstance(s, BlockSettled)] == ["thinking", "text"]


@pytest.mark.soak
async def test_a_tool_runs_when_it_is_allowed(rig: Rig) -> None:
    """The request names the call, and the call's result follows."""
    await rig.start()
    await rig.send(sim(text="Done.", tools=[["Bash", {"command": "touch made"}]]))
    asked = await rig.until(AnswerNeeded)
    called = rig.all(ToolCalled)[0]
    assert (asked.kind, asked.tool, asked.call) == ("permission", "Bash", called.tool)
    assert asked.input == {"command": "touch made"}
    await rig.backend.answer(asked.request, Answer(True, asked.input))
    assert (await rig.until(ToolAnswered)).is_error is False
    assert (await rig.until(TurnEnded)).status == "completed"
    assert (rig.cwd / "made").exists()
    assert rig.all(AnswerMoot) == []


async def test_a_person_may_change_what_a_tool_is_given(rig: Rig) -> None:
    """The tool runs with the input of the answer."""
    await rig.start()
    await rig.send(sim(text="Done.", tools=[["Bash", {"command": "touch made"}]]))
    asked = await rig.until(AnswerNeeded)
    await rig.backend.answer(asked.request, Answer(True, {"command": "touch changed"}))
    await rig.until(TurnEnded)
    assert [path.name for path in rig.cwd.iterdir()] == ["changed"]


async def test_a_chosen_suggestion_holds_for_the_next_time(rig: Rig) -> None:
    """`setMode` for the session: the second call is not asked about."""
    await rig.start()
    await rig.send(sim(text="One.", tools=[["Bash", {"command": "touch one"}]]))
    asked = await rig.until(AnswerNeeded)
    mode = tuple(s for s in asked.suggestions if s["type"] == "setMode")
    assert mode
    await rig.backend.answer(asked.request, Answer(True, asked.input, mode))
    await rig.until(TurnEnded)
    turn = await rig.ask(sim(text="Two.", tools=[["Bash", {"command": "touch two"}]]))
    assert not any(isinstance(s, AnswerNeeded) for s in turn)
    assert (rig.cwd / "two").exists()


async def test_a_denied_tool_does_not_run_and_the_turn_goes_on(rig: Rig) -> None:
    """Claude is told why, and answers."""
    await rig.start()
    await rig.send(sim(text="As you like.", tools=[["Bash", {"command": "touch made"}]]))
    asked = await rig.until(AnswerNeeded)
    await rig.backend.answer(asked.request, Answer(False, {}, message="not on a Sunday"))
    answered = await rig.until(ToolAnswered)
    assert answered.is_error
    assert "not on a Sunday" in answered.output
    assert (await rig.until(TurnEnded)).status == "completed"
    assert finals(rig.signals) == {1: "As you like."}
    assert not (rig.cwd / "made").exists()


async def test_a_no_may_end_the_turn(rig: Rig) -> None:
    """`interrupt` with the answer."""
    await rig.start()
    await rig.send(sim(text="Never said.", tools=[["Bash", {"command": "touch made"}]]))
    asked = await rig.until(AnswerNeeded)
    await rig.backend.answer(asked.request, Answer(False, {}, interrupt=True))
    assert (await rig.until(TurnEnded)).status == "interrupted"


async def test_a_question_gets_its_answer(rig: Rig) -> None:
    """`input.answers` reaches Claude."""
    await rig.start()
    options = [{"label": "tea", "description": "hot"}, {"label": "ice", "description": "cold"}]
    one = {"question": "Which?", "header": "Drink", "options": options, "multiSelect": False}
    await rig.send(sim(text="Tea it is.", tools=[["AskUserQuestion", {"questions": [one]}]]))
    asked = await rig.until(AnswerNeeded)
    assert asked.kind == "question"
    await rig.backend.answer(asked.request, Answer(True, {**asked.input, "answers": {"Which?": "tea"}}))
    assert '"Which?"="tea"' in (await rig.until(ToolAnswered)).output
    assert (await rig.until(TurnEnded)).status == "completed"


async def test_an_interrupted_turn_keeps_its_partial_text(rig: Rig) -> None:
    """And the next prompt works."""
    await rig.start()
    await rig.send(sim(words=2000, gap_ms=20))
    for _ in range(5):
        await rig.until(TextArrived)
    await rig.backend.interrupt()
    ended = await rig.until(TurnEnded)
    assert ended.status == "interrupted"
    kept = finals(rig.signals)[0]
    assert kept == previews(rig.signals)[0]
    assert words(2000).startswith(kept)
    assert kept.startswith("w0 w1 w2 w3 w4 ")
    assert finals(await rig.ask(sim(text="On we go."))) == {0: "On we go."}


async def test_an_interrupt_withdraws_what_was_asked(rig: Rig) -> None:
    """Nobody needs to answer any more."""
    await rig.start()
    await rig.send(sim(text="Never said.", tools=[["Bash", {"command": "touch made"}]]))
    asked = await rig.until(AnswerNeeded)
    await rig.backend.interrupt()
    assert (await rig.until(AnswerMoot)).request == asked.request
    assert (await rig.until(TurnEnded)).status == "interrupted"


async def test_an_interrupt_where_nothing_runs_does_no_harm(rig: Rig) -> None:
    """It may come a moment after the end."""
    await rig.start()
    await rig.backend.interrupt()
    assert end(await rig.ask(sim(text="hi"))).status == "completed"


@pytest.mark.soak
async def test_an_overloaded_api_is_tried_again(rig: Rig) -> None:
    """529 twice, then the answer."""
    await rig.start()
    turn = await rig.ask(sim(text="At last.", status=529, times=2))
    retries = [s for s in turn if isinstance(s, UpstreamRetrying)]
    assert [(r.attempt, r.limit, r.error) for r in retries] == [
        (1, 4, "overloaded (529)"),
        (2, 4, "overloaded (529)"),
    ]
    assert finals(turn) == {0: "At last."}
    assert end(turn).status == "completed"


async def test_a_cut_connection_drops_the_preview_and_brings_the_text(
    rig: Rig, simulator: RunningSimulator
) -> None:
    """The same number begins again."""
    await rig.start()
    before = len(rig.signals)
    await rig.send(sim(words=20, hang_after=7, times=1))
    await rig.until(TextArrived)
    simulator.cut()
    await rig.until(TurnEnded)
    turn = rig.signals[before:]
    dropped = [s for s in turn if isinstance(s, BlockDropped)]
    assert dropped == [BlockDropped(0)]
    assert previews(turn) == finals(turn) == {0: words(20)}
    assert end(turn).status == "completed"


async def test_an_answer_that_is_not_streamed_is_whole_in_its_block(rig: Rig) -> None:
    """After an error in the stream the CLI asks once more without streaming."""
    await rig.start()
    turn = await rig.ask(sim(words=20, error_after=7, times=1))
    assert finals(turn) == {0: words(20)}
    assert end(turn).status == "completed"


@pytest.mark.soak
async def test_a_refused_request_fails_the_turn_and_not_the_session(rig: Rig) -> None:
    """400: with code, sentence and status; the next prompt works."""
    await rig.start()
    failed = end(await rig.ask(sim(status=400)))
    assert failed.status == "failed"
    assert failed.error is not None
    assert (failed.error.code, failed.error.status) == ("invalid_request", 400)
    assert "400" in failed.error.message
    assert finals(await rig.ask(sim(text="Better."))) == {0: "Better."}


async def test_a_prompt_of_a_megabyte_arrives_whole(rig: Rig) -> None:
    """With quotes and newlines, so that the line is longer than the pipe. The simulator counts it."""
    await rig.start()
    prompt = '"' + '\n"' * 520_000
    (answer,) = finals(await rig.ask(prompt)).values()
    assert answer.endswith(f"({len(prompt)} characters)")


async def test_the_same_prompt_sent_twice_runs_once(rig: Rig, simulator: RunningSimulator) -> None:
    """By its identity: while it runs, and after it was answered."""
    await rig.start()
    prompt = sim(words=5, gap_ms=20)
    turn = await rig.send(prompt)
    await rig.backend.send_prompt(turn, prompt)
    assert (await rig.until(TurnEnded)).status == "completed"
    await rig.backend.send_prompt(turn, prompt)
    again = await rig.until(TurnEnded)
    assert again.error is not None
    assert again.error.code == "already_answered"
    assert finals(await rig.ask(sim(text="next"))) == {0: "next"}
    assert len(simulator.requests()) == 2


async def test_a_prompt_is_taken_word_for_word(rig: Rig) -> None:
    """What looks like a slash command, a shell line or a file goes to the model as it stands."""
    await rig.start()
    for prompt in ("/cost now", "!ls", "# note", "@/etc/hostname what is it", "\x1b[2J esc", "'"):
        assert finals(await rig.ask(prompt)) == {0: f"You said: {prompt}"}


async def test_claude_going_on_by_itself_is_a_turn(rig: Rig) -> None:
    """A background task has ended, and Claude says something about it; one that ends before its turn does is
    told in that turn."""
    await rig.start(allowed_tools=["Bash(sleep *)"])
    tool = ["Bash", {"command": "sleep 2", "run_in_background": True}]
    await rig.ask(sim(text="It runs.", tools=[tool]))
    await rig.until(PromptTyped)
    assert (await rig.until(TurnEnded)).status == "completed"
    assert finals(await rig.ask(sim(text="And now?"))) == {0: "And now?"}


async def test_a_sub_agent_s_words_name_their_parent(rig: Rig) -> None:
    """Its blocks are numbered with the turn's."""
    below = sim(text="Hi from below.")
    call = {"description": "Say hi", "subagent_type": "general-purpose", "prompt": below}
    await rig.start()
    turn = await rig.ask(sim(text="It said hi.", tools=[["Task", {**call, "run_in_background": False}]]))
    called = next(s for s in turn if isinstance(s, ToolCalled))
    blocks = [s for s in turn if isinstance(s, BlockSettled)]
    assert [(b.text, b.parent) for b in blocks] == [("Hi from below.", called.tool), ("It said hi.", None)]
    assert [b.block for b in blocks] == [1, 2]


async def test_model_and_permission_mode_change_while_it_runs(rig: Rig, simulator: RunningSimulator) -> None:
    """Seen at once, and in force for the next prompt."""
    await rig.start()
    await rig.backend.configure("claude-haiku-5-5", "plan")
    assert SettingsSeen(model="claude-haiku-5-5") in rig.signals
    assert SettingsSeen(permission_mode="plan") in rig.signals
    turn = await rig.ask(sim(text="hi"))
    assert SettingsSeen("claude-haiku-5-5", "plan") in turn
    await rig.backend.configure(None, "manual")
    assert SettingsSeen(permission_mode="default") in rig.signals


async def test_a_mode_that_the_cli_refuses_is_an_error(rig: Rig) -> None:
    """`bypassPermissions` needs to be said at the start."""
    await rig.start()
    with pytest.raises(BackendError, match="bypassPermissions"):
        await rig.backend.configure(None, "bypassPermissions")


async def test_costs_are_each_turns_own(rig: Rig) -> None:
    """Two turns of the same size cost about the same, also over a restart."""
    await rig.start()
    prompt = sim(text="hi")
    await rig.ask(prompt)
    second = end(await rig.ask(prompt)).cost_usd
    await rig.backend.stop()
    await rig.start(2, resume=True)
    third = end(await rig.ask(prompt)).cost_usd
    assert second is not None
    assert third is not None
    assert third < 2 * second


async def test_a_prompt_that_failed_is_not_run_again(rig: Rig, simulator: RunningSimulator) -> None:
    """Under its identity, in the same process."""
    await rig.start()
    prompt = sim(status=400)
    turn = await rig.send(prompt)
    await rig.backend.send_prompt(turn, prompt)
    assert (await rig.until(TurnEnded)).status == "failed"
    asked = len(simulator.requests())
    await rig.backend.send_prompt(turn, prompt)
    again = await rig.until(TurnEnded)
    assert again.error is not None
    assert again.error.code == "already_answered"
    assert finals(await rig.ask(sim(text="next"))) == {0: "next"}
    assert len(simulator.requests()) == asked + 1
