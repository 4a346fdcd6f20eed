"""A process whose every turn begins with nothing of those before, with the real CLI on the simulator."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bridge.commands import Fresh
from bridge.errors import BackendError, ProcessSpent
from bridge.events import TurnId
from bridge.sessions.backends.base import Launch, Liveness
from bridge.signals import AnswerNeeded, ProcessReady, ToolAnswered, TurnEnded
from bridge.simulator.script import scripted as sim
from tests.fakes.headless import Rig
from tests.fakes.simulator import RunningSimulator

pytestmark = pytest.mark.real

TERMS = Fresh(turns=100, age_s=3600, rss_mb=0)


@pytest.fixture
async def rig(tmp_path: Path, simulator: RunningSimulator, claude_path: Path) -> AsyncIterator[Rig]:
    made = Rig(tmp_path, simulator.base_url, claude_path)
    yield made
    await made.close()


def launch(rig: Rig, generation: int = 1, terms: Fresh = TERMS, **options: Any) -> Launch:
    return replace(rig.launch(generation, **options), fresh=terms)


async def asked(rig: Rig, prompt: str) -> TurnId:
    turn = await rig.send(prompt)
    await rig.until(TurnEnded)
    return turn


def asked_of_the_model(simulator: RunningSimulator) -> list[list[dict[str, Any]]]:
    return [r["messages"] for r in simulator.requests() if r["path"] == "/v1/messages"]


def shape(messages: list[dict[str, Any]]) -> list[tuple[str, int]]:
    """Roles, and of how many pieces each message is."""
    return [(m["role"], len(m["content"]) if isinstance(m["content"], list) else 1) for m in messages]


async def test_what_was_asked_before_leaves_no_trace(rig: Rig, simulator: RunningSimulator) -> None:
    """The model is sent what it would be sent by a new process; also after a turn that failed."""
    await rig.backend.start(launch(rig))
    await rig.until(ProcessReady)
    await rig.backend.forget(None, pressing=False)
    prompts = ["ALPHA is the secret", f"BETA {sim(status=400)}", "GAMMA", "DELTA"]
    for prompt in prompts:
        await rig.backend.forget(await asked(rig, prompt), pressing=False)
    # Some errors make the CLI try again in other ways: each prompt's first request counts.
    every = asked_of_the_model(simulator)
    sent = [next(m for m in every if prompt.split()[0] in str(m)) for prompt in prompts]
    for prompt, messages in zip(prompts, sent, strict=True):
        assert shape(messages) == shape(sent[0])
        assert [m["role"] for m in messages].count("user") == 1
        said = str(messages)
        others = {"ALPHA", "BETA", "GAMMA", "DELTA"} - set(prompt.split())
        assert not [word for word in (*others, "local-command", "/clear") if word in said]
    kept = list(rig.folder.glob("claude/projects/**/*.jsonl"))
    assert kept == [], "nothing of it is kept on disk"


async def test_nothing_is_sent_to_a_process_that_may_know_something(rig: Rig) -> None:
    """Whoever asks for it."""
    await rig.backend.start(launch(rig))
    await rig.until(ProcessReady)
    first = await asked(rig, "one")
    with pytest.raises(BackendError, match="may know"):
        await rig.send("two")
    with pytest.raises(ProcessSpent):
        await rig.backend.forget(None, pressing=False)
    await rig.backend.forget(first, pressing=False)
    await asked(rig, "two")


async def test_a_bridge_that_comes_back_knows_whether_something_is_left(rig: Rig) -> None:
    """From what lies beside the process: whatever was killed, and whenever."""
    await rig.backend.start(launch(rig))
    await rig.until(ProcessReady)
    for clean in (True, False):
        turn = await asked(rig, "one")
        if clean:
            await rig.backend.forget(turn, pressing=False)
        await rig.backend.detach()
        rig.backend = rig.another()
        assert await rig.backend.adopt(launch(rig), rig.checkpoint) is Liveness.ALIVE
        await rig.until(ProcessReady)
        if clean:
            await rig.backend.forget(None, pressing=False)
        else:
            with pytest.raises(ProcessSpent, match="may know"):
                await rig.backend.forget(None, pressing=False)


async def test_a_process_that_was_started_with_other_options_is_replaced(rig: Rig) -> None:
    """The configuration was changed while no bridge ran."""
    await rig.backend.start(launch(rig))
    await rig.until(ProcessReady)
    await rig.backend.detach()
    rig.backend = rig.another()
    changed = launch(rig, append_system_prompt="Be brief.")
    assert await rig.backend.adopt(changed, rig.checkpoint) is Liveness.ALIVE
    await rig.until(ProcessReady)
    with pytest.raises(ProcessSpent, match="other options"):
        await rig.backend.forget(None, pressing=False)


async def test_a_process_is_replaced_when_it_is_time(rig: Rig) -> None:
    """Where another turn waits, a little later."""
    await rig.backend.start(launch(rig, terms=replace(TERMS, turns=1)))
    await rig.until(ProcessReady)
    await rig.backend.forget(await asked(rig, "one"), pressing=True)
    with pytest.raises(ProcessSpent, match="2 questions"):
        await rig.backend.forget(await asked(rig, "two"), pressing=True)
    await rig.backend.start(launch(rig, 2, replace(TERMS, rss_mb=1)))
    await rig.until(ProcessReady)
    with pytest.raises(ProcessSpent, match="MiB"):
        await rig.backend.forget(None, pressing=False)


async def test_what_needs_a_permission_is_refused_and_nobody_is_asked(rig: Rig) -> None:
    """Nobody is there to answer: the turn goes on."""
    await rig.backend.start(launch(rig))
    await rig.until(ProcessReady)
    signals = await rig.ask(sim(tools=[["Bash", {"command": f"touch {rig.folder}/made"}]], text="done"))
    assert isinstance(signals[-1], TurnEnded)
    assert signals[-1].status == "completed"
    assert not rig.all(AnswerNeeded)
    assert [tool.is_error for tool in rig.all(ToolAnswered)] == [True]
    assert not (rig.folder / "made").exists()
