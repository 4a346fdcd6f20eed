"""Spares with the real CLI: taken, refilled, found again, and never left behind, whenever the bridge dies."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from bridge.sessions.backends.base import Liveness
from bridge.sessions.backends.headless import HeadlessBackend
from bridge.sessions.backends.link import Link
from bridge.sessions.backends.spare_process import Premises
from bridge.sessions.backends.spares import LOOK_S, Taken
from bridge.sessions.tmux import Tmux
from bridge.signals import BlockSettled, ConversationNamed, ProcessExited, ProcessReady, TurnEnded
from tests.fakes.simulator import RunningSimulator
from tests.fakes.spares import SpareRig
from tests.fakes.tools import Sleeper
from tests.fakes.tui import running

pytestmark = pytest.mark.real


@pytest.fixture
async def rig(tmp_path: Path, simulator: RunningSimulator, claude_path: Path) -> AsyncIterator[SpareRig]:
    rig = SpareRig(tmp_path / "rig", simulator.base_url, claude_path)
    yield rig
    await rig.close()


async def test_a_new_session_gets_a_process_that_waited(rig: SpareRig) -> None:
    """The same one, under the session's name, with a conversation that it began; another takes its place."""
    async with rig.bridge():
        await rig.full()
        (waiting,) = rig.pids()
        (id,) = rig.ids()
        ready = await rig.start()
        assert rig.backend.pid == waiting
        assert ready.permission_mode == "default"
        named = rig.all(ConversationNamed)[-1].conversation
        assert named != rig.conversation
        said = await rig.ask("hello")
        assert "".join(s.text for s in said if isinstance(s, BlockSettled)) == "You said: hello"
        assert list((rig.folder / "claude").glob(f"projects/*/{named}.jsonl"))
        await rig.full()
        assert await rig.sessions() == {"claude_demo", *(f"claude__spare_{other}" for other in rig.ids())}
        assert id not in rig.ids()
        assert rig.spares.figures()["taken"] == 1


class Killed(BaseException):
    """The bridge is gone at this point: nothing of it runs any more."""


def kill_at(monkeypatch: pytest.MonkeyPatch, owner: object, method: str) -> None:
    def gone(*_: object, **__: object) -> None:
        raise Killed

    monkeypatch.setattr(owner, method, gone)


async def killed_while_taking(
    rig: SpareRig, monkeypatch: pytest.MonkeyPatch, owner: object, method: str
) -> tuple[int, str]:
    """A bridge that dies in the middle of a start; the process of the spare, and its id."""
    async with rig.bridge():
        await rig.full()
        (pid,), (id,) = rig.pids(), rig.ids()
        with monkeypatch.context() as patched:
            kill_at(patched, owner, method)
            with pytest.raises(Killed):
                await rig.backend.start(rig.launch())
    return pid, id


async def test_killed_before_it_is_the_sessions_a_spare_stays_one(
    rig: SpareRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had been told the session's permission mode: the next that takes it gets its own all the same."""
    async with rig.bridge():
        await rig.full()
        (pid,) = rig.pids()
        with monkeypatch.context() as patched:
            kill_at(patched, Taken, "move")
            with pytest.raises(Killed):
                await rig.backend.start(rig.launch(permission_mode="plan"))
    async with rig.bridge():
        await rig.full()
        assert rig.pids() == {pid}
        assert await rig.adopt(None) is Liveness.GONE
        ready = await rig.start(2)
        assert (rig.backend.pid, ready.permission_mode) == (pid, "default")


@pytest.mark.parametrize(
    ("owner", "method"),
    [(Tmux, "rename"), (HeadlessBackend, "_name_conversation"), (HeadlessBackend, "_hold")],
)
async def test_killed_after_it_is_the_sessions_the_next_bridge_finishes(
    rig: SpareRig, monkeypatch: pytest.MonkeyPatch, owner: type, method: str
) -> None:
    """Whatever tmux calls it still: the session is adopted with the process, and learns its conversation."""
    pid, id = await killed_while_taking(rig, monkeypatch, owner, method)
    async with rig.bridge():
        assert await rig.adopt(None) is Liveness.ALIVE
        await rig.until(ProcessReady)
        assert rig.backend.pid == pid
        named = rig.all(ConversationNamed)[-1].conversation
        await rig.ask("hello")
        assert list((rig.folder / "claude").glob(f"projects/*/{named}.jsonl"))
        await rig.full()
        assert id not in rig.ids()
        assert pid not in rig.pids()
        assert f"claude__spare_{id}" not in await rig.sessions()


@pytest.mark.parametrize("again", ["stop", "start"])
async def test_a_half_taken_spare_is_ended_with_its_session(
    rig: SpareRig, monkeypatch: pytest.MonkeyPatch, again: str
) -> None:
    """Where tmux failed in between and the bridge lives: a stop or a new start ends it, nothing is left."""
    pid, id = await killed_while_taking(rig, monkeypatch, Tmux, "rename")
    if again == "stop":
        await rig.backend.stop()
    else:
        await rig.start(2)
        assert rig.backend.pid != pid
    await rig.until_true(lambda: not running(pid))
    assert f"claude__spare_{id}" not in await rig.sessions()


def dead(rig: SpareRig) -> bool:
    assert rig.task is not None
    return rig.task.done()


async def test_killed_while_one_is_started_the_next_bridge_leaves_nothing(
    rig: SpareRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a folder without a process, nor a process that nobody knows."""
    with monkeypatch.context() as patched:
        kill_at(patched, Tmux, "new_session")
        async with rig.bridge():
            await rig.until_true(lambda: dead(rig))
    (lost,) = (rig.state_dir / "spares").iterdir()
    async with rig.bridge():
        await rig.full()
        assert not lost.exists()
        (pid,) = rig.pids()
    with monkeypatch.context() as patched:
        kill_at(patched, Premises, "hold")
        async with rig.bridge(high=2):
            await rig.until_true(lambda: dead(rig))
    async with rig.bridge():
        await rig.full()
        assert pid in rig.pids()
        assert len(rig.ids()) == len(list((rig.state_dir / "spares").iterdir())) == 2
        assert await rig.sessions() == {f"claude__spare_{id}" for id in rig.ids()}


async def test_spares_outlive_the_bridge_and_are_adopted(rig: SpareRig) -> None:
    """The same processes; a bridge that keeps none ends them, files and all."""
    async with rig.bridge(high=2):
        await rig.full()
        pids = rig.pids()
    assert all(map(running, pids))
    async with rig.bridge():
        await rig.full()
        assert rig.pids() == pids
    async with rig.bridge(high=0):
        await rig.until_true(lambda: not any(map(running, pids)))
        await rig.until_true(lambda: not any((rig.state_dir / "spares").iterdir()))
        assert await rig.sessions() == set()


async def test_a_taken_spare_goes_on_when_the_bridge_was_killed(rig: SpareRig) -> None:
    """Like any session's process, with the conversation that it has."""
    async with rig.bridge():
        await rig.full()
        await rig.start(permission_mode="acceptEdits")
        pid, named = rig.backend.pid, rig.all(ConversationNamed)[-1].conversation
        await rig.ask("one")
        await rig.backend.detach()
    rig.conversation = named
    async with rig.bridge():
        assert await rig.adopt(rig.checkpoint) is Liveness.ALIVE
        await rig.until(ProcessReady)
        assert rig.backend.pid == pid
        said = await rig.ask("two")
        assert isinstance(said[-1], TurnEnded)


async def test_a_tool_of_a_taken_spare_is_ended_before_the_next_process_starts(rig: SpareRig) -> None:
    """It has the mark of the spare and not the session's."""
    tool = Sleeper()
    command = json.dumps({"tools": [["Bash", {"command": tool.command}]], "text": "never said"})
    options = {"allowed_tools": ["Bash(*)"]}
    rig.options = options
    async with rig.bridge():
        await rig.full()
        await rig.start(**options)
        assert rig.spares.figures()["taken"] == 1
        await rig.send(f"Please. [[sim {command}]]")
        pid = await tool.started()
        os.kill(rig.backend.pid or 0, signal.SIGKILL)
        await rig.until(ProcessExited)
        assert running(pid)
        await rig.start(2, resume=True, **options)
        assert not running(pid)


async def test_a_spare_that_dies_while_it_is_taken_is_a_process_that_ended(
    rig: SpareRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After it was moved the session hears so, and starts another; before, it gets a new one at once."""
    move = Taken.move

    def dies(taken: Taken, folder: Path) -> None:
        os.kill(taken.pid or 0, signal.SIGKILL)
        move(taken, folder)

    async with rig.bridge():
        await rig.full()
        monkeypatch.setattr(Taken, "move", dies)
        await rig.backend.start(rig.launch())
        assert "SIGKILL" in ((await rig.until(ProcessExited)).reason or "")
        monkeypatch.setattr(Taken, "move", move)
        await rig.full()
        (pid,) = rig.pids()
        told = Link.ask

        async def is_dead(link: Link, subtype: str, **arguments: Any) -> object:
            os.kill(link.process.pid, signal.SIGKILL)
            return await told(link, subtype, **arguments)

        with monkeypatch.context() as patched:
            patched.setattr(Link, "ask", is_dead)
            await rig.start(2)
        assert rig.backend.pid != pid
        await rig.full()


async def test_after_a_burst_it_is_full_again(rig: SpareRig) -> None:
    """Those that come first get what there is, the others a process of their own, and each another one."""
    async with rig.bridge(high=2):
        await rig.full()
        waiting = rig.pids()
        made = [rig.other(f"s{n}") for n in range(4)]
        await asyncio.gather(*(backend.start(launch) for backend, launch in made))
        pids = {backend.pid for backend, _ in made}
        assert len(pids) == 4
        assert waiting < pids
        figures = rig.spares.figures()
        assert (figures["taken"], figures["missed"]) == (2, 2)
        await rig.full()
        assert not rig.pids() & pids


async def test_no_more_memory_is_taken_than_allowed(rig: SpareRig) -> None:
    """What would not fit is not started; what is there is kept."""
    async with rig.bridge(high=4, memory_mb=450):
        await rig.full(2)
        pids = rig.pids()
        await rig.until_true(
            lambda: rig.spares._looked_at > rig.spares._spares[min(rig.ids())].began + LOOK_S
        )
        assert rig.pids() == pids
        assert rig.spares.figures()["memory_bytes"] <= 450 * 1024**2


async def test_another_cli_means_other_spares(rig: SpareRig, claude_path: Path) -> None:
    """An update while they wait: none of the old is handed out, and they are replaced."""
    claude = rig.folder / "claude.sh"
    claude.write_text(f'#!/bin/sh\nexec {claude_path} "$@"\n')
    claude.chmod(0o755)
    rig.host = replace(rig.host, claude=rig.host.claude.model_copy(update={"path": claude}))
    async with rig.bridge():
        await rig.full()
        (old,) = rig.pids()
        claude.write_text(f'#!/bin/sh\n# newer\nexec {claude_path} "$@"\n')
        await rig.start()
        assert rig.backend.pid != old
        await rig.until_true(lambda: not running(old))
        await rig.full()


async def test_what_it_has_read_must_still_be_so(rig: SpareRig, simulator: RunningSimulator) -> None:
    """Instructions that were changed while it waited: the session is told the new ones."""
    (rig.cwd / "CLAUDE.md").write_text("be FIRST\n")
    async with rig.bridge():
        await rig.full()
        (old,) = rig.pids()
        (rig.cwd / "CLAUDE.md").write_text("be SECOND\n")
        await rig.start()
        assert rig.backend.pid != old
        await rig.ask("hello")
        assert "be SECOND" in json.dumps(simulator.requests()[-1])
        await rig.until_true(lambda: not running(old))


async def test_each_kind_is_kept_for_itself(rig: SpareRig) -> None:
    """Another model or other tools are another process; another permission mode is not, but for the one that
    a process has to be started with."""
    async with rig.bridge(max_keys=2):
        await rig.full()
        (default,) = rig.pids()
        await rig.start(permission_mode="bypassPermissions")
        assert rig.backend.pid != default
        await rig.full(2)
        backend, launch = rig.other("second")
        await backend.start(replace(launch, options=rig.launch(permission_mode="bypassPermissions").options))
        assert rig.spares.figures()["taken"] == 1
        ready = await rig.until(ProcessReady)
        assert ready.permission_mode == "bypassPermissions"
        backend, launch = rig.other("third")
        await backend.start(replace(launch, options=rig.launch(permission_mode="plan").options))
        assert backend.pid == default
        assert (await rig.until(ProcessReady)).permission_mode == "plan"


async def test_a_cli_that_cannot_start_is_not_tried_without_end(rig: SpareRig) -> None:
    """Each failure doubles the wait, and the tree says what is wrong."""
    claude = rig.folder / "claude.sh"
    claude.write_text("#!/bin/sh\necho 'no such luck' >&2\nexit 3\n")
    claude.chmod(0o755)
    rig.host = replace(rig.host, claude=rig.host.claude.model_copy(update={"path": claude}))
    with capture_logs() as logs:
        async with rig.bridge():
            await rig.until_true(lambda: sum(line["event"] == "a spare failed" for line in logs) == 2)
            assert "no such luck" in rig.spares.describe()["failing"]
    waits = [line["next_in_s"] for line in logs if line["event"] == "a spare failed"]
    assert waits == [1.0, 2.0]
