"""The real CLI takes the simulator for the API: what it makes of every kind of answer and fault."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.claude_process import ClaudeProcess, Frame, Turn, allow, deny
from tests.fakes.simulator import RunningSimulator

pytestmark = pytest.mark.real


@pytest.fixture
async def claude(
    claude_path: Path, claude_env: dict[str, str], tmp_path: Path
) -> AsyncIterator[ClaudeProcess]:
    work = tmp_path / "work"
    work.mkdir()
    async with ClaudeProcess(claude_path, claude_env, work) as process:
        yield process


def sim(**directive: Any) -> str:
    return f"[[sim {json.dumps(directive)}]]"


async def test_words_arrive_one_delta_each(claude: ClaudeProcess) -> None:
    """Deltas, block and result are the same text."""
    turn = await claude.ask(f"count {sim(words=12)}")
    assert turn.deltas() == [*(f"w{i} " for i in range(9)), "w9 \n", "w10 ", "w11 "]
    assert [block["text"] for block in turn.blocks("text")] == ["".join(turn.deltas())]
    assert (turn.result["is_error"], turn.result["result"]) == (False, turn.blocks("text")[0]["text"])


async def test_every_message_is_from_a_simulated_model(claude: ClaudeProcess) -> None:
    """What the CLI passes on says so."""
    turn = await claude.ask("hello")
    assert all(frame["message"]["model"].startswith("simulated-") for frame in turn.of("assistant"))
    assert turn.result["result"] == "You said: hello"


async def test_usage_and_cost_are_reported(claude: ClaudeProcess) -> None:
    """The CLI reckons with what the simulator says; the second turn reads the first one's cache."""
    first, second = await claude.ask("hello"), await claude.ask("again")
    assert first.result["usage"]["cache_creation_input_tokens"] > 1000
    assert second.result["usage"]["cache_read_input_tokens"] > 1000
    assert 0 < first.result["total_cost_usd"] < second.result["total_cost_usd"]


async def test_thinking_comes_before_the_reply(claude: ClaudeProcess) -> None:
    """As a block of its own, streamed and signed."""
    turn = await claude.ask(sim(thinking="let me see", text="seen"))
    assert "".join(turn.deltas("thinking")) == "let me see"
    assert len(turn.deltas("signature")) == 1
    assert (turn.blocks("thinking")[0]["thinking"], turn.result["result"]) == ("let me see", "seen")


async def test_tools_run_when_allowed(claude: ClaudeProcess, tmp_path: Path) -> None:
    """Two of them, their inputs whole, then the reply."""
    made = tmp_path / "work" / "made.txt"
    tools = [
        ["Bash", {"command": f"echo 'one ]] two' > {made}"}],
        ["Bash", {"command": f"test -e {tmp_path}"}],
    ]
    turn = await claude.ask(sim(tools=tools, text="done"), allow)
    assert [block["input"] for block in turn.blocks("tool_use")] == [tool[1] for tool in tools]
    assert made.read_text() == "one ]] two\n"
    assert (turn.result["result"], turn.result["num_turns"]) == ("done", 3)


async def test_a_denied_tool_does_not_run_and_the_turn_goes_on(claude: ClaudeProcess, tmp_path: Path) -> None:
    """The refusal is the tool's result."""
    made = tmp_path / "work" / "made.txt"
    turn = await claude.ask(sim(tools=[["Bash", {"command": f"touch {made}"}]], text="done"), deny)
    results = [block for frame in turn.of("user") for block in frame["message"]["content"]]
    assert [(block["type"], block["is_error"]) for block in results] == [("tool_result", True)]
    assert (made.exists(), turn.result["result"]) == (False, "done")


async def test_a_question_is_asked_and_answered(claude: ClaudeProcess) -> None:
    """AskUserQuestion with the answer in its input."""
    options = [{"label": label, "description": label} for label in "AB"]
    question = {"question": "Which?", "header": "H", "multiSelect": False, "options": options}

    def choose(request: Frame) -> Frame:
        return {"behavior": "allow", "updatedInput": {**request["input"], "answers": {"Which?": "B"}}}

    turn = await claude.ask(sim(tools=[["AskUserQuestion", {"questions": [question]}]], text="done"), choose)
    assert '"Which?"="B"' in json.dumps(turn.of("user")[-1]["message"]).replace('\\"', '"')
    assert turn.result["result"] == "done"


async def test_a_sub_agent_follows_a_script_of_its_own(claude: ClaudeProcess) -> None:
    """Its directive is part of its prompt, inside the parent's."""
    agent = {"description": "d", "prompt": f"go {sim(words=2)}", "subagent_type": "general-purpose"}
    turn = await claude.ask(sim(tools=[["Agent", {**agent, "run_in_background": False}]], text="done"))
    assert turn.result["result"] == "done"
    assert "w0 w1" in json.dumps(turn.of("user")[-1])


async def test_two_overloads_are_retried_and_the_third_attempt_answers(
    claude: ClaudeProcess, simulator: RunningSimulator
) -> None:
    """Each announced by `api_retry`."""
    turn = await claude.ask(sim(status=529, times=2, text="done"))
    assert [frame["error_status"] for frame in turn.of("system", "api_retry")] == [529, 529]
    assert (turn.result["result"], len(simulator.requests())) == ("done", 3)


def cut_behind(simulator: RunningSimulator, *counts: int) -> Callable[[Turn], None]:
    """Cuts the stream that hangs when so many deltas have been heard, of all attempts together."""
    to_come = list(counts)

    def heard(turn: Turn) -> None:
        if to_come and len(turn.deltas()) == to_come[0]:
            del to_come[0]
            simulator.cut()

    return heard


async def test_a_cut_stream_begins_again_from_nothing(
    claude: ClaudeProcess, simulator: RunningSimulator
) -> None:
    """The deltas of both attempts are seen, one block is true."""
    turn = await claude.ask(sim(words=6, hang_after=3, times=1), heard=cut_behind(simulator, 3))
    assert turn.deltas() == ["w0 ", "w1 ", "w2 ", *(f"w{i} " for i in range(6))]
    assert [block["text"] for block in turn.blocks("text")] == ["w0 w1 w2 w3 w4 w5 "]
    assert len(turn.of("system", "api_retry")) == 1


async def test_a_stream_that_is_cut_every_time_is_answered_without_streaming(
    claude_path: Path, claude_env: dict[str, str], tmp_path: Path, simulator: RunningSimulator
) -> None:
    """The CLI's last resort: a block whose text never was in a delta."""
    env = {**claude_env, "CLAUDE_CODE_MAX_RETRIES": "1"}
    async with ClaudeProcess(claude_path, env, tmp_path) as claude:
        turn = await claude.ask(sim(words=4, hang_after=2), heard=cut_behind(simulator, 2, 4))
    assert [request["stream"] for request in simulator.requests()][-1] is not True
    assert (turn.deltas(), turn.result["result"]) == (["w0 ", "w1 "] * 2, "w0 w1 w2 w3 ")


async def test_an_error_event_in_the_stream_is_answered_without_streaming(claude: ClaudeProcess) -> None:
    """Silently: no retry is announced."""
    turn = await claude.ask(sim(words=4, error_after=2))
    assert (turn.of("system", "api_retry"), turn.result["result"]) == ([], "w0 w1 w2 w3 ")


async def test_a_bad_request_fails_the_turn_and_the_next_prompt_works(claude: ClaudeProcess) -> None:
    """As an error result that calls itself success; the failed prompt's script is not met again."""
    failed = await claude.ask(f"first {sim(status=400)}")
    following = await claude.ask("second")
    assert (failed.result["is_error"], failed.result["api_error_status"]) == (True, 400)
    assert following.result["result"] == "You said: second"


async def test_a_malformed_directive_is_shown_to_whoever_wrote_it(claude: ClaudeProcess) -> None:
    """The CLI passes the API's message on."""
    turn = await claude.ask('[[sim {"wrods": 3}]]')
    assert (turn.result["is_error"], "wrods" in turn.result["result"]) == (True, True)


async def test_running_into_the_limit_makes_the_cli_go_on(
    claude: ClaudeProcess, simulator: RunningSimulator
) -> None:
    """`stop_reason` is taken as the API's own."""
    await claude.ask(sim(text="part", stop_reason="max_tokens"))
    assert len(simulator.requests()) == 2


async def test_a_prompt_of_a_megabyte_arrives_whole(
    claude: ClaudeProcess, simulator: RunningSimulator
) -> None:
    """And its directive is found at the end of it."""
    prompt = "x" * (1024 * 1024 - 100) + sim(words=3)
    turn = await claude.ask(prompt)
    (request,) = simulator.requests()
    assert prompt in [block["text"] for block in request["messages"][0]["content"]]
    assert turn.result["result"] == "w0 w1 w2 "
