"""Records `<case>.ndjson` again: `python -m tests.golden.tui.record [case…]`.

Runs the real CLI on the simulator, the way the backend runs it, and keeps everything that its reader was
told: `[seconds, method, arguments…]` a line, hooks, status files and pieces of the transcript as they came.
Time alone is not kept: who replays it ticks. Look at the difference before committing it: a new version of
the CLI shows what it changed there.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from bridge.commands import AnswerRequest
from bridge.config import ClaudeConfig
from bridge.events import BlockFinished, DeltaAdded, RequestOpened, TurnFinished
from bridge.sessions.backends import tui
from bridge.sessions.claude.launch import find_claude
from bridge.sessions.claude.tui import TuiReader
from tests.fakes.simulator import RunningSimulator, start_simulator, stop_simulator
from tests.fakes.tui_rig import TuiRig, sim

HERE = Path(__file__).parent
KEPT = (
    *("expect", "interrupted", "asked", "answered"),
    *("hook", "status", "status_lost", "switched", "transcript"),
)
"""Methods of the reader whose calls are its input; `begin_at` is 0 in a fresh conversation."""
TIMED = ("asked", "hook", "status", "transcript")
"""Their last argument is the time."""

Case = Callable[[TuiRig], Awaitable[Any]]
Line = list[Any]


def recording(lines: list[Line], ticks: dict[str, float]) -> type[TuiReader]:
    """A reader that writes down what it is told."""

    def kept(name: str) -> Callable[..., Any]:
        def method(self: TuiReader, *args: Any, **more: Any) -> Any:
            ticks.setdefault("begin", time.monotonic())
            given = args[:-1] if name in TIMED else args
            written = [a.decode() if isinstance(a, bytes) else a for a in given]
            lines.append([round(time.monotonic() - ticks["begin"], 3), name, *written, *more.values()])
            return getattr(TuiReader, name)(self, *args, **more)

        return method

    return type("Recording", (TuiReader,), {name: kept(name) for name in KEPT})


def asks(*directives: dict[str, Any]) -> Case:
    async def case(rig: TuiRig) -> None:
        for directive in directives:
            await rig.ask(sim(**directive))

    return case


async def tool_allowed(rig: TuiRig) -> None:
    turn = await rig.submit(sim(text="Done.", thinking="Hm.", tools=[["Bash", {"command": "touch made"}]]))
    opened = await rig.event(RequestOpened)
    await rig.call(AnswerRequest(request=opened.request.id, decision="allow"))
    await rig.finished(turn)


def by_key(tool: list[Any], shown: str, *keys: str) -> Case:
    """A tool is asked for, and a person presses these keys, or types them where they are words."""

    async def case(rig: TuiRig) -> None:
        turn = await rig.submit(sim(text="Done.", tools=[tool]))
        await rig.event(RequestOpened)
        await rig.until_shown(shown)
        for key in keys:
            await asyncio.sleep(0.3)
            await (rig.write(key) if " " in key else rig.press(key))
        await rig.finished(turn)

    return case


async def interrupted(rig: TuiRig) -> None:
    turn = await rig.submit(sim(text="".join(f"Line {n}.\n" for n in range(200)), gap_ms=20))
    await rig.event(DeltaAdded, count=3)
    await rig.press("Escape")
    await rig.finished(turn)
    await rig.ask(sim(text="And on we go."))


async def interrupted_early(rig: TuiRig) -> None:
    turn = await rig.submit(sim(text="Never said.", first_ms=60_000))
    await rig.until(lambda: rig.backend._link and rig.backend._link.reader.status_now == "busy")
    await asyncio.sleep(0.3)
    await rig.press("Escape")
    await rig.finished(turn)
    await rig.ask(sim(text="Another."))


async def queued_by_hand(rig: TuiRig) -> None:
    turn = await rig.submit(sim(text="".join(f"Line {n}.\n" for n in range(30)), gap_ms=20))
    await rig.event(DeltaAdded, count=2)
    await rig.write(sim(text="The second."))
    await rig.press("Enter")
    await rig.finished(turn)
    await rig.event(TurnFinished, count=2)


async def by_hand(rig: TuiRig) -> None:
    await rig.write(sim(text="By hand."))
    await asyncio.sleep(0.2)
    await rig.press("Enter")
    await rig.event(TurnFinished)


async def cleared(rig: TuiRig) -> None:
    before = rig.session.conversation
    await rig.ask(sim(text="Before."))
    await rig.write("/clear")
    await asyncio.sleep(0.5)
    await rig.press("Enter")
    await rig.until(lambda: rig.session.conversation != before)
    await rig.ask(sim(text="After."))


async def compacted(rig: TuiRig) -> None:
    await rig.ask(sim(text="Before."))
    await rig.finished(await rig.submit_command("/compact"))
    await rig.ask(sim(text="After."))


def agent(tool: list[Any], first_ms: int = 500) -> list[Any]:
    """It is in the background where Claude does not say otherwise, and asks when the answer stands."""
    prompt = sim(text="Hi from below.", first_ms=first_ms, tools=[tool])
    return ["Agent", {"description": "Say hi", "subagent_type": "general-purpose", "prompt": prompt}]


async def agent_allowed_by_key(rig: TuiRig) -> None:
    turn = await rig.submit(sim(text="It works.", tools=[agent(TOUCH)]))
    await rig.event(RequestOpened)
    link = rig.backend._link
    assert link is not None
    await rig.until(lambda: link.reader.unseen(time.monotonic()) or None)
    link.leave_to_person()
    await rig.until_shown(PROCEED)
    await asyncio.sleep(0.3)
    await rig.press("1")
    await rig.finished(turn)


async def agent_interrupted(rig: TuiRig) -> None:
    turn = await rig.submit(sim(text="It works.", tools=[agent(["Bash", {"command": "echo; sleep 60"}])]))
    await rig.event(BlockFinished)
    await asyncio.sleep(1)
    await rig.interrupt()
    await rig.finished(turn)
    await rig.event(TurnFinished, count=2)  # Claude is told, and says something to it


async def agent_outlives_its_turn(rig: TuiRig) -> None:
    """Escape ends the turn, and not the agent."""
    long = "".join(f"Line {n}.\n" for n in range(200))
    turn = await rig.submit(sim(text=long, gap_ms=5, tools=[agent(TOUCH, first_ms=1500)]))
    await rig.event(DeltaAdded, count=3)
    await rig.press("Escape")
    await rig.finished(turn)
    opened = await rig.event(RequestOpened)
    await rig.call(AnswerRequest(request=opened.request.id, decision="allow"))
    await rig.event(TurnFinished, count=2)
    await rig.ask(sim(text="And on we go."))


PROCEED, PLAN = "Do you want to proceed?", "Exit plan mode?"
TOUCH, PLANNED = ["Bash", {"command": "touch made"}], ["ExitPlanMode", {"plan": "1. think\n2. do"}]
TWO_TOOLS = [["Bash", {"command": "echo one"}], ["Bash", {"command": "cat missing"}]]
LINES = "".join(f"Line {n} of the answer.\n" for n in range(12)).rstrip()

CASES: dict[str, Case] = {
    "text": asks({"text": LINES, "gap_ms": 5}, {"text": "Hello, world."}),
    "thinking": asks({"text": "42.", "thinking": "Six times seven."}),
    "tools": asks({"text": "Both ran.", "tools": TWO_TOOLS, "thinking": "Two at once."}),
    "tool_allowed": tool_allowed,
    "tool_allowed_by_key": by_key(TOUCH, PROCEED, "1"),
    "tool_that_takes_long_allowed_by_key": by_key(
        ["Bash", {"command": "touch made && sleep 4"}], PROCEED, "1"
    ),
    "tool_denied_by_key": by_key(TOUCH, PROCEED, "Escape"),
    "tool_denied_with_words": by_key(TOUCH, PROCEED, "Up", "Tab", "rather not", "Enter"),
    "plan_allowed_by_key": by_key(PLANNED, PLAN, "1"),
    "plan_denied_by_key": by_key(PLANNED, PLAN, "2"),
    "agent_allowed_by_key": agent_allowed_by_key,
    "agent_interrupted": agent_interrupted,
    "agent_outlives_its_turn": agent_outlives_its_turn,
    "interrupted": interrupted,
    "interrupted_early": interrupted_early,
    "refused": asks({"status": 400}, {"text": "Better."}),
    "cut": asks({"text": LINES, "drop_after": 30, "times": 1}),
    "queued_by_hand": queued_by_hand,
    "by_hand": by_hand,
    "cleared": cleared,
    "compacted": compacted,
}


def anonymous(lines: list[Line], folder: Path) -> str:
    """Without the place and machine it was recorded at, and without the long lists of tools and skills."""
    for line in lines:
        if line[1] == "transcript":
            line[2] = "".join(_short(entry) for entry in line[2].splitlines(keepends=True))
    text = "".join(json.dumps(line) + "\n" for line in lines)
    text = re.sub(r"linux:[0-9a-f]{32}:", f"linux:{'0' * 32}:", text)
    return text.replace(str(folder), "/golden").replace(re.sub(r"[^A-Za-z0-9]", "-", str(folder)), "-golden")


def _short(entry: str) -> str:
    if not entry.startswith("{") or not entry.endswith("\n"):
        return entry
    kind = json.loads(entry)["type"]
    return entry if kind in ("user", "assistant", "system", "queue-operation") else f'{{"type":"{kind}"}}\n'


async def record(name: str, simulator: RunningSimulator) -> None:
    lines: list[Line] = []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        rig = TuiRig(place / "rig", simulator, find_claude(ClaudeConfig()))
        vars(tui)["TuiReader"] = recording(lines, {})
        try:
            async with rig.bridge():
                mode = "plan" if name.startswith("plan_") else "manual"
                await rig.start(allowed_tools=["Bash(echo *)", "Bash(cat *)"], permission_mode=mode)
                await CASES[name](rig)
                await asyncio.sleep(1)  # what comes behind the end
        finally:
            await rig.close()
        (HERE / f"{name}.ndjson").write_text(anonymous(lines, place))
    sys.stdout.write(f"{name}: {len(lines)} lines\n")


async def main(names: list[str]) -> None:
    process, simulator = start_simulator()
    try:
        for name in names or CASES:
            await record(name, simulator)
    finally:
        stop_simulator(process)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
