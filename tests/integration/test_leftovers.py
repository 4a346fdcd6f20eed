"""The real CLI is killed while a tool of it runs: that is ended, and nobody else's."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from bridge.events import SessionName
from bridge.sessions.backends.base import Liveness
from bridge.sessions.backends.leftovers import made_mark, mark_of
from bridge.signals import ProcessExited
from tests.fakes.headless import Rig, new_turn
from tests.fakes.simulator import RunningSimulator
from tests.fakes.tools import Sleeper, ended
from tests.fakes.tui import running
from tests.fakes.tui_rig import TuiRig, sim

pytestmark = pytest.mark.real

BASH = ["Bash(*)"]


@pytest.fixture
async def tui(tmp_path: Path, simulator: RunningSimulator, claude_path: Path) -> AsyncIterator[TuiRig]:
    rig = TuiRig(tmp_path / "rig", simulator, claude_path)
    yield rig
    await rig.close()


def use(tool: Sleeper) -> str:
    return call(tool.command)


def call(command: str) -> str:
    return sim(tools=[["Bash", {"command": command}]], text="never said")


def kill(pid: int | None) -> None:
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


async def test_a_tool_of_a_killed_headless_cli_is_ended_before_the_next_one_starts(rig: Rig) -> None:
    """One that takes no notice of SIGTERM, too. The log has its name, and no word of its command line. The
    tool of another session lives on."""
    rig.host = replace(rig.host, claude=rig.host.claude.model_copy(update={"stop_timeout_s": 0.6}))
    rig.backend = rig.another()
    mine, stubborn, theirs = Sleeper(), Sleeper(), Sleeper()
    other = rig.host.backend(SessionName("other"), rig._take)
    try:
        launch = rig.launch(allowed_tools=BASH)
        await rig.start(allowed_tools=BASH)
        await other.start(replace(launch, name=SessionName("other"), conversation=str(new_turn())))
        await other.send_prompt(new_turn(), use(theirs))
        both = f"{mine.command} & trap '' TERM; {stubborn.command}"
        await rig.send(call(both))
        pids = [await each.started() for each in (mine, stubborn)]
        neighbour = await theirs.started()
        kill(rig.backend.pid)
        await rig.until(ProcessExited)
        assert all(map(running, pids))  # as the kernel leaves them
        with capture_logs() as logs:
            await rig.start(2, resume=True)
        assert not any(map(running, pids))
        assert running(neighbour)
        told = [line for line in logs if line["event"] == "ended what was left"]
        assert [line["signal"] for line in told] == ["SIGTERM", "SIGKILL"]
        assert f"sleep ({pids[1]})" in told[1]["processes"]
        assert "4242" not in str(told)
    finally:
        neighbour = other.pid or 0
        await other.stop()
        assert not running(neighbour)


async def test_a_stop_leaves_no_tool_of_a_headless_cli_that_was_killed(rig: Rig) -> None:
    """Nor of one that no bridge was there to see die."""
    tool = Sleeper()
    await rig.start(allowed_tools=BASH)
    await rig.send(use(tool))
    pid, cli = await tool.started(), rig.backend.pid
    await rig.backend.detach()
    assert await rig.adopt(rig.checkpoint) is Liveness.ALIVE
    assert running(pid)  # the bridge came back, and the CLI lives
    await rig.backend.detach()
    kill(cli)
    await ended(cli or 0)
    await rig.adopt(rig.checkpoint)  # tmux may not know yet that it is gone
    await rig.backend.stop()
    assert not running(pid)


async def test_a_tool_of_a_killed_tui_is_ended_before_the_next_one_starts(tui: TuiRig) -> None:
    """It lives on as long as the CLI does, bridge or no bridge. The shell of a person who has split the
    window and works beside Claude is nobody's tool."""
    tool, persons = Sleeper("setsid "), Sleeper()
    async with tui.bridge():
        await tui.start(allowed_tools=BASH)
        tui.run_tmux("split-window", "-d", "-t", "=claude_demo:", persons.command)
        theirs = await persons.started()
        turn = await tui.submit(use(tool))
        pid = await tool.started()
    async with tui.bridge():
        await tui.until_state("busy")
        assert running(pid)
        kill(tui.pid)
        assert (await tui.finished(turn)).status == "unknown"
        await tui.until(lambda: tui.session.restarts == 1)
        await tui.until_state("idle")
        assert not running(pid)
        assert running(theirs)


async def test_a_bridge_that_a_tool_started_does_not_end_itself(rig: Rig) -> None:
    """It inherits the mark of the session whose tool it is."""
    mark = made_mark(rig.state_dir, rig.name)
    script = f"""
import asyncio, os
from pathlib import Path
from bridge.events import SessionName
from bridge.sessions.backends.leftovers import Leftovers
asyncio.run(Leftovers(Path({str(rig.state_dir)!r})).end(SessionName("demo"), 1))
"""
    env = {"BRIDGE_SESSION": mark, "PATH": os.environ["PATH"]}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, env=env, cwd=Path(__file__).parents[2]
    )
    assert await process.wait() == 0
    assert mark_of(os.getpid()) != mark.encode()
