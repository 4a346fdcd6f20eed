"""The real CLI takes more memory than it may: it is replaced between two turns, or in one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bridge.commands import RestartSession
from bridge.errors import BackendError
from bridge.sessions.backends import memory
from bridge.sessions.backends.memory import resident_mib
from bridge.signals import ProcessExited, TextArrived, TurnEnded
from tests.fakes.headless import Rig, new_turn
from tests.fakes.simulator import RunningSimulator
from tests.fakes.tui_rig import TuiRig, sim

pytestmark = pytest.mark.real


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "LOOK_S", 0.05)


@contextlib.asynccontextmanager
async def limited(rig: Rig, mib: int) -> AsyncIterator[None]:
    """As a session's task does it."""
    rig.backend._host = replace(rig.host, claude=rig.host.claude.model_copy(update={"max_rss_mb": mib}))
    attending = asyncio.ensure_future(rig.backend.attend())
    try:
        yield
    finally:
        attending.cancel()
        await asyncio.gather(attending, return_exceptions=True)


def taken(rig: Rig) -> int:
    mib = resident_mib(rig.backend.pid or 0)
    assert mib is not None
    return int(mib)


async def test_a_cli_that_takes_too_much_is_ended_when_its_turn_is_over(
    rig: Rig, simulator: RunningSimulator
) -> None:
    """It goes by its own leave, and the conversation with it."""
    await rig.start()
    await rig.send("first " + sim(words=100, gap_ms=10))
    await rig.until(TextArrived)
    limit = taken(rig) - 20
    async with limited(rig, limit):
        ended = await rig.until(TurnEnded)
        exited = await rig.until(ProcessExited)
    assert ended.status == "completed"
    assert exited.code == 143
    assert exited.reason.endswith(f"MiB of memory; claude.max_rss_mb allows {limit}")
    await rig.start(2, resume=True)
    await rig.ask(sim(text="Well."))
    assert all(word in str(simulator.requests()[-1]) for word in ("first Please", "w99"))


async def test_a_cli_that_takes_far_too_much_is_ended_in_its_turn(rig: Rig) -> None:
    await rig.start()
    await rig.send(sim(words=2000, gap_ms=20))
    await rig.until(TextArrived)
    async with limited(rig, taken(rig) // 2):
        exited = await rig.until(ProcessExited)
    assert "max_rss_mb" in exited.reason
    assert rig.all(TurnEnded) == []


async def test_a_prompt_that_waits_goes_to_the_next_process(rig: Rig) -> None:
    """Else a session with a queue would have no moment between two turns."""
    await rig.start()
    turn = new_turn()
    link = rig.backend._link
    assert link is not None
    link.unfit = "claude took all"
    with pytest.raises(BackendError, match="took all"):
        await rig.backend.send_prompt(turn, "now")
    assert (await rig.until(ProcessExited)).reason == "claude took all"
    await rig.start(2)
    await rig.backend.send_prompt(turn, "now")
    assert (await rig.until(TurnEnded)).status == "completed"


async def test_a_tui_that_takes_too_much_at_once_is_given_up(
    tmp_path: Path, simulator: RunningSimulator, claude_path: Path
) -> None:
    """Each time it counts as a restart; the reason names the limit. Started by hand, it has all again."""
    limits: dict[str, Any] = {"max_rss_mb": 50}
    rig = TuiRig(tmp_path / "rig", simulator, claude_path, **limits)
    rig.limits = {"restart_limit": 1}
    try:
        async with rig.bridge():
            starting = asyncio.create_task(rig.start())
            await rig.until(lambda: bool(rig.registry.sessions()))
            session = await rig.until_state("failed")
            starting.cancel()
            assert session.reason is not None
            assert session.reason.endswith("claude.max_rss_mb allows 50")
            assert session.restarts == 1
            await rig.call(RestartSession())
            await rig.until(lambda: rig.session.restarts == 2)
            await rig.until_state("failed")
    finally:
        await rig.close()
