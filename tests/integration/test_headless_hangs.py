"""The real CLI is held so that it hangs, or is merely silent for long."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bridge.sessions.backends.base import Answer
from bridge.signals import AnswerNeeded, ProcessExited, TextArrived, TurnEnded
from tests.fakes.headless import Rig
from tests.fakes.held import held

pytestmark = pytest.mark.real


@contextlib.asynccontextmanager
async def attended(rig: Rig, **limits: float) -> Any:
    """As a session's task does it; with limits that are too short for a start."""
    claude = rig.host.claude.model_copy(update=limits)
    rig.backend._host = replace(rig.host, claude=claude)
    attending = asyncio.ensure_future(rig.backend.attend())
    try:
        yield
    finally:
        attending.cancel()
        await asyncio.gather(attending, return_exceptions=True)


def sim(**directive: Any) -> str:
    return f"Please. [[sim {json.dumps(directive)}]]"


def pinged(rig: Rig) -> int:
    """How often it was asked whether it lives, and answered."""
    return rig.output().read_bytes().count(b'"control_response"') - 1  # the first is that to `initialize`


@pytest.mark.parametrize("when", ["in the middle of an answer", "before it reads the prompt"])
async def test_a_cli_that_hangs_is_killed(rig: Rig, when: str) -> None:
    """And why is said. What it had said before is there."""
    await rig.start()
    pid = rig.backend.pid
    assert pid is not None
    async with attended(rig, silence_s=0.4, start_timeout_s=0.6):
        if when == "in the middle of an answer":
            await rig.send(sim(words=2000, gap_ms=20))
            await rig.until(TextArrived)
            with held(pid):
                await gone(pid)
        else:
            with held(pid):
                await rig.send("hello")
                await gone(pid)
        exited = await rig.until(ProcessExited)
    assert exited.code == -9
    assert exited.reason.startswith("claude hung: it said nothing for ")


async def gone(pid: int) -> None:
    async with asyncio.timeout(60):
        while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":  # noqa: ASYNC110  (nothing tells)
            await asyncio.sleep(0.02)


async def test_a_cli_that_is_silent_and_lives_is_left_alone(rig: Rig) -> None:
    """While a tool runs, while a person is asked, and before the first word of an answer."""
    await rig.start(allowed_tools=["Bash(sleep *)"])
    async with attended(rig, silence_s=0.3):
        await rig.ask(sim(tools=[["Bash", {"command": "sleep 2"}]], text="slept"))
        after_a_tool = pinged(rig)
        await rig.ask(sim(first_ms=1500, text="late"))
        after_a_pause = pinged(rig)
        await rig.send(sim(tools=[["Bash", {"command": "touch made"}]], text="made"))
        asked = await rig.until(AnswerNeeded)
        await asyncio.sleep(1.5)
        await rig.backend.answer(asked.request, Answer(allow=True, input=asked.input))
        await rig.until(TurnEnded)
        after_a_question = pinged(rig)
    assert 0 < after_a_tool < after_a_pause < after_a_question
    assert rig.all(ProcessExited) == []
    assert [end.status for end in rig.all(TurnEnded)] == ["completed"] * 3


async def test_a_cli_that_has_nothing_to_do_is_not_asked(rig: Rig) -> None:
    await rig.start()
    await rig.ask(sim(text="hi"))
    async with attended(rig, silence_s=0.1):
        await asyncio.sleep(1)
    assert pinged(rig) == 0
