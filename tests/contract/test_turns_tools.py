"""Tools that ask first: what is opened, who answers, and what becomes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.bridge import BridgeProcess, Sessions, sim
from tests.fakes.phoenix_js import JsChannel, Json, Refused, Story, assert_well_told

pytestmark = pytest.mark.real


def touching(path: Path, **more: object) -> str:
    """A prompt that makes Claude want to make a file."""
    return sim(tools=[["Bash", {"command": f"touch {path} && echo touched"}]], text="that was it", **more)


def opened(channel: JsChannel, turn: str) -> Json:
    """The request that the turn opens."""

    def find() -> Json | None:
        told = [h.payload["request"] for h in list(channel.heard) if h.event == "request_opened"]
        return next((r for r in told if r["turn"] == turn), None)

    return channel.until(find, "a request")


def test_an_allowed_tool_runs(sessions: Sessions, tmp_path: Path) -> None:
    """Asked, answered, run, and the reply goes on from its output."""
    channel = sessions.talk()
    made = tmp_path / "made"
    turn = channel.submit(touching(made))
    request = opened(channel, turn)
    assert (request["kind"], request["tool"]) == ("permission", "Bash")
    assert request["input"]["command"] == f"touch {made} && echo touched"
    assert not made.exists()
    assert channel.push("answer", {"request": request["id"], "decision": "allow"}) == {}
    story = channel.story(turn)
    assert_well_told(story)
    assert made.exists()
    assert channel.wait("request_closed", request=request["id"])["outcome"] == "allowed"
    assert channel.wait("request_closed", request=request["id"])["by"] == "local"
    (started,), (finished,) = story.of("tool_started"), story.of("tool_finished")
    assert (started["name"], started["tool"]) == ("Bash", finished["tool"])
    assert (finished["output"], finished["is_error"], finished["truncated"]) == ("touched", False, False)
    assert (story.status, story.text) == ("completed", "that was it")


def test_a_denied_tool_does_not_run_and_the_turn_goes_on(sessions: Sessions, tmp_path: Path) -> None:
    """The refusal is the tool's result, with the reason that was given."""
    channel = sessions.talk()
    turn = channel.submit(touching(tmp_path / "made"))
    request = opened(channel, turn)
    channel.push("answer", {"request": request["id"], "decision": "deny", "message": "not today"})
    story = channel.story(turn)
    assert_well_told(story)
    assert not (tmp_path / "made").exists()
    (finished,) = story.of("tool_finished")
    assert finished["is_error"]
    assert "not today" in finished["output"]
    assert channel.wait("request_closed", request=request["id"])["outcome"] == "denied"
    assert (story.status, story.text) == ("completed", "that was it")


def test_a_denial_may_end_the_turn(sessions: Sessions, tmp_path: Path) -> None:
    """With `interrupt` nothing more is said."""
    channel = sessions.talk()
    turn = channel.submit(touching(tmp_path / "made"))
    channel.push("answer", {"request": opened(channel, turn)["id"], "decision": "deny", "interrupt": True})
    assert channel.story(turn).status == "interrupted"
    assert channel.ask("next").text == "You said: next"


def test_an_answer_may_change_the_input(sessions: Sessions, tmp_path: Path) -> None:
    """What runs is what was allowed."""
    channel = sessions.talk()
    turn = channel.submit(touching(tmp_path / "asked"))
    command = f"touch {tmp_path / 'given'}"
    answer = {"request": opened(channel, turn)["id"], "decision": "allow", "input": {"command": command}}
    channel.push("answer", answer)
    assert channel.story(turn).status == "completed"
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["given"]


def test_a_session_that_waits_for_an_answer_says_so(sessions: Sessions, tmp_path: Path) -> None:
    """To whoever was there, and to whoever joins: with the request itself."""
    channel = sessions.talk()
    turn = channel.submit(touching(tmp_path / "made"))
    request = opened(channel, turn)
    channel.wait_session(state="waiting")
    late = sessions.look(channel)
    assert (late.joined["session"]["state"], late.joined["requests"]) == ("waiting", [request])
    late.push("answer", {"request": request["id"], "decision": "allow"})
    assert late.story(turn).status == "completed"
    assert sessions.look(channel).joined["requests"] == []


def test_the_first_answer_wins(sessions: Sessions, tmp_path: Path) -> None:
    """A later one is told who was first, and with what; also when the turn is long over."""
    channel = sessions.talk()
    turn = channel.submit(touching(tmp_path / "made"))
    request = opened(channel, turn)["id"]
    both = [channel.send("answer", {"request": request, "decision": d}) for d in ("deny", "allow")]
    both[0].reply()
    late = [both[1]]
    channel.story(turn)
    late.append(channel.send("answer", {"request": request, "decision": "allow"}))
    for pending in late:
        with pytest.raises(Refused) as refused:
            pending.reply()
        assert refused.value.reason == "request_closed"
        assert (refused.value.response["outcome"], refused.value.response["by"]) == ("denied", "local")
    assert not (tmp_path / "made").exists()


def test_an_interrupt_withdraws_what_was_asked(sessions: Sessions, tmp_path: Path) -> None:
    """Nobody has to answer a question of a turn that is over."""
    channel = sessions.talk()
    turn = channel.submit(touching(tmp_path / "made"))
    request = opened(channel, turn)["id"]
    assert channel.push("interrupt") == {"turn": turn}
    assert channel.story(turn).status == "interrupted"
    assert channel.wait("request_closed", request=request)["outcome"] == "withdrawn"
    assert sessions.look(channel).joined["requests"] == []
    assert not (tmp_path / "made").exists()
    assert channel.ask("next").text == "You said: next"


def test_a_question_gets_its_answer(sessions: Sessions) -> None:
    """By `input.answers`, beside the question as it was asked."""
    options = [{"label": label, "description": label} for label in "AB"]
    question = {"question": "Which?", "header": "H", "multiSelect": False, "options": options}
    channel = sessions.talk()
    turn = channel.submit(sim(tools=[["AskUserQuestion", {"questions": [question]}]], text="B it is"))
    request = opened(channel, turn)
    assert (request["kind"], request["input"]["questions"]) == ("question", [question])
    answer = {"request": request["id"], "decision": "allow", "input": {"answers": {"Which?": "B"}}}
    channel.push("answer", answer)
    story = channel.story(turn)
    assert '"Which?"="B"' in story.of("tool_finished")[0]["output"]
    assert story.text == "B it is"


def test_several_tools_of_one_turn_are_told_apart(bridge: BridgeProcess, sessions: Sessions) -> None:
    """Each has its own input and output, and its place among the blocks."""
    tools = [["Bash", {"command": f"echo {word}"}] for word in ("one", "two", "three")]
    story = sessions.join(allowed_tools=["Bash"]).ask(sim(thinking="so", tools=tools, text="all done"))
    assert_well_told(story)
    assert story.of("request_opened") == []
    started = {t["tool"]: t["input"]["command"] for t in story.of("tool_started")}
    finished = {t["tool"]: f"echo {t['output']}" for t in story.of("tool_finished")}
    assert len(started) == 3
    assert finished == started
    assert [t["block"] for t in story.of("tool_started")] == [1, 2, 3]
    assert (story.blocks, story.text) == ({0: "so", 4: "all done"}, "all done")


def test_long_output_is_cut_and_says_so(sessions: Sessions) -> None:
    """64 KiB at most stand in an event, and in the history of a join."""
    channel = sessions.join(allowed_tools=["Bash"])
    story: Story = channel.ask(
        sim(tools=[["Bash", {"command": "head -c 20000 /dev/zero | tr '\\0' x"}]], text=".")
    )
    output = story.of("tool_finished")[0]["output"]
    assert len(output.encode()) <= 64 * 1024
    assert output.startswith("xxx")
