"""The real TUI is held so that it hangs, or is merely silent for long."""

from __future__ import annotations

import asyncio
import termios
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from bridge.events import RequestOpened, TurnQueued
from bridge.sessions.backends.stillness import WHOLE_S, Watched, lives
from tests.fakes.held import held
from tests.fakes.simulator import RunningSimulator
from tests.fakes.tools import Sleeper, ended
from tests.fakes.tui_rig import WAIT_S, TuiRig, sim

pytestmark = pytest.mark.real

SILENT = {"silence_s": 1.2, "start_timeout_s": 1.0}
"""Too short for a start."""


@pytest.fixture
async def rig(tmp_path: Path, simulator: RunningSimulator, claude_path: Path) -> AsyncIterator[TuiRig]:
    rig = TuiRig(tmp_path / "rig", simulator, claude_path)
    yield rig
    await rig.close()


async def start(rig: TuiRig, **limits: float) -> None:
    """A session that waits for the next bridge, which has these limits."""
    async with rig.bridge():
        await rig.start(allowed_tools=["Bash(*)"])
    rig.claude = rig.claude.model_copy(update=limits)


async def works(rig: TuiRig) -> None:
    """Until its hook and its status say so: else a turn that is never heard of again counts as broken off,
    or as never acknowledged."""

    def busy() -> bool:
        link = rig.backend._link
        return link is not None and link.reader.open and link.reader.status_now == "busy"

    await rig.until(busy)


async def test_a_tui_that_hangs_in_the_middle_of_a_turn_is_killed(rig: TuiRig) -> None:
    """The turn is `unknown`, and what waited behind it runs in the next process."""
    await start(rig, **SILENT)
    async with rig.bridge():
        await rig.until_state("idle")
        turn = await rig.submit(sim(first_ms=600_000, text="never said"))
        waiting = await rig.submit("then " + sim(text="Well."))
        await works(rig)
        pid = rig.pid
        with held(pid), capture_logs() as logs:
            await ended(pid)
        told = await rig.finished(turn)
        assert told.status == "unknown"
        assert told.error is not None
        assert told.error.message.startswith("claude hung: nothing moved for ")
        assert [line["pid"] for line in logs if line["event"] == "killed the process"] == [pid]
        assert (await rig.finished(waiting)).text == "Well."
        assert rig.typed("then Please") == 1


@pytest.mark.soak
async def test_a_tui_that_hangs_before_a_prompt_is_killed(rig: TuiRig) -> None:
    """The prompt was not begun: the next process has it."""
    await start(rig, **SILENT)
    async with rig.bridge():
        await rig.until_state("idle")
        pid = rig.pid
        with held(pid):
            turn = await rig.submit("once " + sim(text="Well."))
            await rig.until(lambda: any(e.turn == turn and e.reason for e in rig.all(TurnQueued)))
            await ended(pid)
        assert (await rig.finished(turn)).text == "Well."
        assert rig.typed("once Please") == 1
        assert rig.session.restarts == 1


@pytest.mark.soak
async def test_a_tui_that_works_in_silence_is_left_alone(rig: TuiRig) -> None:
    """A tool runs for many times the limit, in another view even; then a person is asked, and takes their
    time."""
    await start(rig, silence_s=0.3)
    tool = Sleeper()
    async with rig.bridge():
        await rig.until_state("idle")
        turn = await rig.submit(sim(tools=[["Bash", {"command": tool.command}]], text="over"))
        pid = await tool.started()
        await asyncio.sleep(1.5)
        await rig.press("C-o")
        await asyncio.sleep(1.5)
        await rig.press("C-o")
        await rig.interrupt()
        assert (await rig.finished(turn)).status == "interrupted"
        await rig.submit(sim(tools=[["Write", {"file_path": "made", "content": "x"}]], text="made"))
        await rig.event(RequestOpened)
        await asyncio.sleep(1.5)
        assert (rig.session.state, rig.session.restarts) == ("waiting", 0)
        assert pid != rig.pid


@pytest.mark.soak
async def test_a_tui_that_somebody_put_to_sleep_in_a_turn_is_woken(rig: TuiRig) -> None:
    """Ctrl-Z; and there is no shell to say fg to."""
    await start(rig, silence_s=1.2, start_timeout_s=4)
    async with rig.bridge():
        await rig.until_state("idle")
        tool = Sleeper()
        await rig.submit(sim(tools=[["Bash", {"command": tool.command}]], text="over"))
        await tool.started()
        await rig.press("C-z")
        await rig.until_shown("is suspended")
        async with asyncio.timeout(WAIT_S):
            while "esc" not in (await rig.screen()).rpartition("suspended")[2]:  # noqa: ASYNC110  (nothing tells)
                await asyncio.sleep(0.1)
        assert (rig.session.state, rig.session.restarts) == ("busy", 0)


@pytest.mark.soak
async def test_a_person_s_editor_may_be_open_for_long(rig: TuiRig, tmp_path: Path) -> None:
    """Nothing of the turn is heard meanwhile, and one in a window of its own paints nothing here."""
    editor, closed = tmp_path / "editor", tmp_path / "closed"
    editor.write_text(f"#!/bin/sh\nuntil [ -e {closed} ]; do sleep 0.1; done\n")
    editor.chmod(0o755)
    rig.claude = rig.claude.model_copy(update={"env": {**rig.claude.env, "EDITOR": str(editor)}})
    await start(rig, **SILENT)
    async with rig.bridge():
        await rig.until_state("idle")
        turn = await rig.submit(sim(first_ms=1500, text="late"))
        await works(rig)
        await rig.press("C-g")
        await asyncio.sleep(4)
        closed.touch()
        assert (await rig.finished(turn)).text == "late"
        assert rig.session.restarts == 0


@pytest.mark.soak
async def test_a_tui_that_lives_answers_in_every_view(rig: TuiRig) -> None:
    """And its terminal is as wide as before."""
    async with rig.bridge():
        await rig.start()
        link = rig.backend._link
        assert link is not None
        watched = Watched(link, rig.state_dir / "sessions" / "demo" / "1" / "editor")

        async def answers() -> bool:
            await asyncio.sleep(WHOLE_S)  # what it painted last is told in whole seconds
            return await lives(rig.tmux, "claude_demo", watched, WAIT_S)

        with capture_logs() as logs:
            assert await answers()
            await rig.press("C-o")
            await rig.until_shown("Showing detailed transcript")
            assert await answers()
            await rig.press("C-o")
            await rig.write("/model")
            await rig.until_shown("Switch model")
            await rig.press("Enter")
            await rig.until_shown("Select model")
            assert await answers()
            await rig.press("Escape")
        asked = [line for line in logs if line["event"] == "asked the TUI to paint itself anew"]
        assert len(asked) == 3
        wide, tty = rig.run_tmux(
            "display-message", "-p", "-t", "=claude_demo:", "#{pane_width} #{pane_tty}"
        ).split()
        with open(tty) as terminal:
            assert termios.tcgetwinsize(terminal.fileno())[1] == int(wide)
