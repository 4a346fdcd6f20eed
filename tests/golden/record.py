"""Records `stream_json/<case>/` again: `python -m tests.golden.record [case…]`.

Runs the real CLI on the simulator, the way the headless backend runs it, and keeps what it wrote as
`out.ndjson` and what our parser makes of it as `signals.json`. Look at the difference before committing
it: a new version of the CLI shows what it changed there, and so does a mistake in the parser.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bridge.config import ClaudeConfig
from bridge.sessions.backends.base import Answer
from bridge.sessions.claude.launch import find_claude
from bridge.sessions.claude.stream_json import ControlAsked, ControlReply, StreamParser
from bridge.signals import AnswerNeeded, BlockSettled, ProcessExited, TextArrived, TurnEnded
from tests.fakes.headless import Rig
from tests.fakes.simulator import start_simulator, stop_simulator

HERE = Path(__file__).parent / "stream_json"

Case = Callable[[Rig], Awaitable[Any]]


def sim(**directive: Any) -> str:
    return f"Please. [[sim {json.dumps(directive)}]]"


def asks(*directives: dict[str, Any]) -> Case:
    async def case(rig: Rig) -> None:
        for directive in directives:
            await rig.ask(sim(**directive))

    return case


async def tool_allowed(rig: Rig) -> None:
    await rig.send(sim(text="Done.", tools=[["Bash", {"command": "touch made"}]]))
    asked = await rig.until(AnswerNeeded)
    await rig.backend.answer(asked.request, Answer(True, asked.input))
    await rig.until(TurnEnded)


async def tool_denied(rig: Rig) -> None:
    await rig.send(sim(text="As you like.", tools=[["Bash", {"command": "touch made"}]]))
    asked = await rig.until(AnswerNeeded)
    await rig.backend.answer(asked.request, Answer(False, asked.input, message="not today"))
    await rig.until(TurnEnded)


async def question(rig: Rig) -> None:
    options = [{"label": "tea", "description": "hot"}, {"label": "ice", "description": "cold"}]
    one = {"question": "Which?", "header": "Drink", "options": options, "multiSelect": False}
    await rig.send(sim(text="Tea it is.", tools=[["AskUserQuestion", {"questions": [one]}]]))
    asked = await rig.until(AnswerNeeded)
    await rig.backend.answer(asked.request, Answer(True, {**asked.input, "answers": {"Which?": "tea"}}))
    await rig.until(TurnEnded)


async def interrupted(rig: Rig) -> None:
    await rig.send(sim(words=500, gap_ms=20))
    for _ in range(5):
        await rig.until(TextArrived)
    await rig.backend.interrupt()
    await rig.until(TurnEnded)
    await rig.ask(sim(text="And on we go."))


async def interrupted_while_asking(rig: Rig) -> None:
    await rig.send(sim(text="Never said.", tools=[["Bash", {"command": "touch made"}]]))
    await rig.until(AnswerNeeded)
    await rig.backend.interrupt()
    await rig.until(TurnEnded)


async def goes_on_by_itself(rig: Rig) -> None:
    in_background = {"command": "echo background", "run_in_background": True}
    await rig.ask(sim(text="It runs.", tools=[["Bash", in_background]]))
    await rig.until(TurnEnded)


async def agent(rig: Rig) -> None:
    """It is in the background where Claude does not say otherwise, and asks when the answer stands."""
    await rig.send(
        sim(text="It works.", tools=[["Agent", agent_that({"command": "touch made"}, first_ms=500)]])
    )
    asked = await rig.until(AnswerNeeded)
    await rig.backend.answer(asked.request, Answer(True, asked.input))
    await rig.until(TurnEnded)


async def agent_interrupted(rig: Rig) -> None:
    await rig.send(sim(text="It works.", tools=[["Agent", agent_that({"command": "echo; sleep 60"})]]))
    while (await rig.until(BlockSettled)).text != "It works.":
        pass
    await asyncio.sleep(0.5)
    await rig.backend.interrupt()
    await rig.until(TurnEnded)


async def sent_twice(rig: Rig) -> None:
    prompt = sim(text="Once.")
    turn = await rig.send(prompt)
    await rig.until(TurnEnded)
    await rig.backend.send_prompt(turn, prompt)
    await rig.until(TurnEnded)


async def killed(rig: Rig) -> None:
    await rig.send(sim(words=500, gap_ms=20))
    await rig.until(TextArrived)
    assert rig.backend.pid is not None
    os.kill(rig.backend.pid, signal.SIGKILL)
    await rig.until(ProcessExited)


def agent_that(bash: dict[str, Any], **more: Any) -> dict[str, Any]:
    prompt = sim(text="Hi from below.", tools=[["Bash", bash]], **more)
    return {"description": "Say hi", "subagent_type": "general-purpose", "prompt": prompt}


SUBAGENT = {
    "description": "Say hi",
    "subagent_type": "general-purpose",
    "run_in_background": False,
    "prompt": sim(text="Hi from below.", thinking="Down here.", tools=[["Bash", {"command": "echo below"}]]),
}
TWO_TOOLS = [["Bash", {"command": "echo one"}], ["Bash", {"command": "cat missing"}]]

CASES: dict[str, Case] = {
    "text": asks({"text": "Hello, world."}, {"words": 12}),
    "thinking": asks({"text": "42.", "thinking": "Six times seven."}),
    "tools": asks({"text": "Both ran.", "tools": TWO_TOOLS, "thinking": "Two at once."}),
    "tool_allowed": tool_allowed,
    "tool_denied": tool_denied,
    "question": question,
    "subagent": asks({"text": "It said hi.", "tools": [["Task", SUBAGENT]]}),
    "interrupted": interrupted,
    "interrupted_while_asking": interrupted_while_asking,
    "overloaded_twice": asks({"text": "At last.", "status": 529, "times": 2}),
    "refused": asks({"status": 400}, {"text": "Better."}),
    "no_login": asks({"status": 401}),
    "cut": asks({"words": 12, "drop_after": 5, "times": 1}),
    "cut_after_thinking": asks({"words": 12, "thinking": "A long thought.", "drop_after": 6, "times": 1}),
    "not_streamed": asks({"words": 12, "drop_after": 5, "times": 4}),
    "error_in_stream": asks({"words": 12, "error_after": 5, "times": 1}),
    "cut_short": asks({"text": "And so", "stop_reason": "max_tokens"}),
    "goes_on_by_itself": goes_on_by_itself,
    "agent": agent,
    "agent_interrupted": agent_interrupted,
    "sent_twice": sent_twice,
    "killed": killed,
}


def signals_of(output: bytes) -> list[dict[str, Any]]:
    """All signals of a recording, as JSON."""
    parser = StreamParser()
    items = [item for segment in parser.feed(output) for item in segment.items]
    items += parser.end()
    kept = [item for item in items if not isinstance(item, ControlReply | ControlAsked)]
    return [{"signal": type(item).__name__, **json.loads(json.dumps(asdict(item)))} for item in kept]


def anonymous(output: bytes, folder: Path) -> bytes:
    """Without the place it was recorded at, and without the CLI's long lists of commands."""
    for found, put in ((str(folder), "/golden"), (re.sub(r"[^A-Za-z0-9]", "-", str(folder)), "-golden")):
        output = output.replace(found.encode(), put.encode())
    lines = []
    for line in output.splitlines():
        if b'"initialize"' in line or b'"commands":' in line:
            frame = json.loads(line)
            inner = frame.get("response", {}).get("response", {})
            for long in ("commands", "agents", "models", "account"):
                inner.pop(long, None)
            line = json.dumps(frame, separators=(",", ":")).encode()
        lines.append(line + b"\n")
    return b"".join(lines)


async def record(name: str, base_url: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        rig = Rig(place, base_url, find_claude(ClaudeConfig()), max_retries=2)
        try:
            await rig.start(allowed_tools=["Bash(echo *)", "Bash(cat *)"])
            await CASES[name](rig)
            output = anonymous(rig.output().read_bytes(), place)
        finally:
            await rig.close()
    case = HERE / name
    case.mkdir(parents=True, exist_ok=True)
    (case / "out.ndjson").write_bytes(output)
    said = signals_of(output)
    (case / "signals.json").write_text("[\n" + ",\n".join(json.dumps(s) for s in said) + "\n]\n")
    sys.stdout.write(f"{name}: {len(said)} signals\n")


async def main(names: list[str]) -> None:
    process, simulator = start_simulator()
    try:
        for name in names or CASES:
            await record(name, simulator.base_url)
    finally:
        stop_simulator(process)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
