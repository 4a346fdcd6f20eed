"""Pools as people run them: many questions at once, and kills in the middle of them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from bridge.client import Submission, ask_pool, connect
from bridge.errors import RefusedByBridge
from bridge.locate import Look
from bridge.simulator.script import words
from tests.fakes.bridge import BridgeProcess, running_bridge, sim

pytestmark = pytest.mark.real

Json = dict[str, Any]


@pytest.fixture
def pools() -> Json:
    return {"default": {"size": 4}, "small": {"size": 1, "max_waiting": 1}}


@pytest.fixture
def pooled(tmp_path: Path, pools: Json) -> Iterator[BridgeProcess]:
    with running_bridge(tmp_path, CLAUDE_BRIDGE_POOLS=json.dumps(pools)) as running:
        for name, each in pools.items():  # or the end of a short test would meet them half started
            asyncio.run(until_warm(running, name, each["size"]))
        yield running


async def until_warm(bridge: BridgeProcess, name: str, size: int) -> None:
    async with connect(bridge.address) as connection, asyncio.timeout(120):
        idle = (await connection.join(f"pool:{name}", {}))["idle"]
        while idle < size:
            idle = (await connection.receive()).payload["idle"]


def look(bridge: BridgeProcess) -> Look:
    return Look(bridge.state_dir, None, None, bridge.env)


async def answer(
    bridge: BridgeProcess, prompt: str, id: str, pool: str = "default", heard: list[Any] | None = None
) -> Json:
    """The end of one question, over as many connections as it takes."""
    async with (
        asyncio.timeout(180),
        aclosing(ask_pool(look(bridge), pool, Submission({"prompt": prompt, "id": id}))) as events,
    ):
        async for event, payload in events:
            if heard is not None:
                heard.append((event, payload))
            if event == "turn_finished":
                return payload
    raise AssertionError("it ended without an end")


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not true():  # noqa: ASYNC110  (nothing tells)
            await asyncio.sleep(0.02)


def assert_asked_alone(bridge: BridgeProcess, word: str, *, times: int = 1) -> None:
    """The model was asked so often, each time with this prompt and nothing of any other."""
    asked = bridge.requests(word)
    assert len(asked) == times, word
    for request in asked:
        users = [m for m in request["messages"] if m["role"] == "user"]
        assert len(users) == 1
        assert str(users).count("question-") == 1


async def test_each_answer_belongs_to_its_question(pooled: BridgeProcess) -> None:
    """Forty at once over four workers: each with a context of its own."""
    count = 40
    prompts = [f"question-{n:03}-of-many" for n in range(count)]
    ends = await asyncio.gather(*(answer(pooled, p, p) for p in prompts))
    assert [e["text"] for e in ends] == [f"You said: {p}" for p in prompts]
    for prompt in prompts:
        assert_asked_alone(pooled, prompt)
    async with connect(pooled.address) as connection:
        assert (await connection.join("sessions", {}))["sessions"] == []
        tree = await connection.push("sessions", "tree", {})
    workers = next(c for c in tree["children"] if c["id"] == "workers")
    assert sorted(pool["id"] for pool in workers["children"]) == ["pool:default", "pool:small"]


@pytest.mark.parametrize("pools", [{"direct": {"size": 1, "backend": "api"}}])
async def test_a_pool_without_processes_knows_nothing_of_the_question_before(pooled: BridgeProcess) -> None:
    """Over the Messages API, too: one worker, one question after the other, and after a restart."""
    for n, word in enumerate(("question-one", "question-two", "question-three")):
        assert (await answer(pooled, word, word, "direct"))["text"] == f"You said: {word}"
        assert_asked_alone(pooled, word)
        if n == 1:
            await asyncio.to_thread(pooled.kill)
            await asyncio.to_thread(pooled.start)


async def test_a_killed_bridge_loses_no_question(pooled: BridgeProcess) -> None:
    """Some are answered, some run, some wait: whoever asks again under the same id is told the same."""
    prompts = [f"question-{n:02} {sim(words=80, gap_ms=15)}" for n in range(8)]
    heard: list[list[Any]] = [[] for _ in prompts]
    asking = [
        asyncio.create_task(answer(pooled, p, f"id-{n}", heard=heard[n])) for n, p in enumerate(prompts)
    ]
    await until(lambda: sum(any(e == "delta" for e, _ in each) for each in heard) >= 3)
    await until(lambda: all(any(e == "submitted" for e, _ in each) for each in heard))
    await asyncio.to_thread(pooled.kill)
    await asyncio.to_thread(pooled.start)
    ends = await asyncio.gather(*asking)
    assert {(e["status"], e["text"]) for e in ends} == {("completed", words(80).rstrip())}
    for n in range(len(prompts)):
        assert_asked_alone(pooled, f"question-{n:02}")
    again = await answer(pooled, prompts[0], "id-0")
    assert again["text"] == words(80).rstrip()
    await answer(pooled, "question-after", "after")
    assert_asked_alone(pooled, "question-after")


async def test_a_killed_worker_is_replaced(pooled: BridgeProcess) -> None:
    """What it had not begun to answer is asked again, what it had is never asked twice."""
    heard: list[Any] = []
    half = asyncio.create_task(
        answer(pooled, f"question-half {sim(words=500, gap_ms=20)}", "half", "small", heard)
    )
    waits = asyncio.create_task(answer(pooled, "question-waits", "waits", "small"))
    await until(lambda: any(e == "delta" for e, _ in heard))
    os.kill(pooled.cli_pid("_pool-small-1"), signal.SIGKILL)
    end = await half
    assert end["status"] == "unknown"
    assert end["text"]
    assert words(500).startswith(end["text"])
    assert (await waits)["text"] == "You said: question-waits"
    assert_asked_alone(pooled, "question-half")
    assert_asked_alone(pooled, "question-waits")
    silent = asyncio.create_task(
        answer(pooled, f"question-silent {sim(first_ms=3000, text='at last')}", "silent", "small")
    )
    await until(lambda: pooled.requests("question-silent"))
    os.kill(pooled.cli_pid("_pool-small-1"), signal.SIGKILL)
    end = await silent
    assert (end["status"], end["text"]) == ("completed", "at last")
    assert_asked_alone(pooled, "question-silent", times=2)


async def test_a_worker_that_used_tools_knows_nothing_of_it_afterwards(pooled: BridgeProcess) -> None:
    """It is another process; what needed a permission was refused, and nobody was asked."""
    before = await answer(pooled, "question-before", "before", "small")
    assert before["status"] == "completed"
    pid = pooled.cli_pid("_pool-small-1")
    made = pooled.home / "made"
    prompt = f"question-tool {sim(tools=[['Bash', {'command': f'touch {made}'}]], text='done')}"
    heard: list[Any] = []
    assert (await answer(pooled, prompt, "tool", "small", heard))["text"] == "done"
    assert [p["is_error"] for e, p in heard if e == "tool_finished"] == [True]
    assert not made.exists()
    assert (await answer(pooled, "question-next", "next", "small"))["text"] == "You said: question-next"
    assert_asked_alone(pooled, "question-next")
    assert pooled.cli_pid("_pool-small-1") != pid


async def test_too_many_questions_are_refused(pooled: BridgeProcess) -> None:
    """One is answered, one waits; the third is told how many may."""
    async with connect(pooled.address) as connection:
        await connection.join("pool:small", {})
        for n in range(2):
            await connection.push("pool:small", "ask", {"prompt": f"question-{n} {sim(first_ms=60_000)}"})
        with pytest.raises(RefusedByBridge) as refused:
            await connection.push("pool:small", "ask", {"prompt": "question-2"})
    assert (refused.value.reason, refused.value.details) == ("queue_full", {"limit": 1})


async def test_other_options_are_taken_up_at_the_next_start(tmp_path: Path) -> None:
    """Workers of before are replaced, before anything is asked of them."""
    with running_bridge(tmp_path, CLAUDE_BRIDGE_POOLS='{"default": {"size": 1}}') as bridge:
        await answer(bridge, "question-before", "before")
        await asyncio.to_thread(bridge.stop)
        changed = {"default": {"size": 1, "append_system_prompt": "Speak like a pirate."}}
        bridge._env = {**bridge._env, "CLAUDE_BRIDGE_POOLS": json.dumps(changed)}
        await asyncio.to_thread(bridge.start)
        again = await answer(bridge, "question-before", "before")
        assert again["text"] == "You said: question-before"
        await answer(bridge, "question-after", "after")
        (request,) = bridge.requests("question-after")
        assert "pirate" in str(request["system"]) + str(request["messages"])
        assert_asked_alone(bridge, "question-after")


def test_the_command_asks(pooled: BridgeProcess) -> None:
    """And prints the answer as it comes."""
    said = pooled.run("ask", "question-by-hand", "--pool", "small")
    assert (said.returncode, said.stdout) == (0, "You said: question-by-hand\n")
    twice = [pooled.run("ask", "question-twice", "--id", "k", "-q") for _ in range(2)]
    assert [t.stdout for t in twice] == ["You said: question-twice\n"] * 2
    assert len(pooled.requests("question-twice")) == 1
    refused = pooled.run("ask", "question", "--pool", "nobody")
    assert refused.returncode == 4
    assert "There is no pool 'nobody'" in refused.stderr


@pytest.mark.soak
async def test_another_backend_is_taken_up_at_the_next_start(tmp_path: Path) -> None:
    """By other workers, which have no process then."""
    with running_bridge(tmp_path, CLAUDE_BRIDGE_POOLS='{"default": {"size": 1}}') as bridge:
        await answer(bridge, "question-before", "before")
        await asyncio.to_thread(bridge.stop)
        changed = {"default": {"size": 1, "backend": "api"}}
        bridge._env = {**bridge._env, "CLAUDE_BRIDGE_POOLS": json.dumps(changed)}
        await asyncio.to_thread(bridge.start)
        await until_warm(bridge, "default", 1)
        assert (await answer(bridge, "question-after", "after"))["text"] == "You said: question-after"
        assert_asked_alone(bridge, "question-after")
        async with connect(bridge.address) as connection:
            await connection.join("sessions", {})
            tree = await connection.push("sessions", "tree", {})
        assert '"backend":"api"' in json.dumps(tree, separators=(",", ":"))
        assert (
            "claude__pool"
            not in subprocess.run(
                ["tmux", "-L", bridge.tmux_socket, "ls"], capture_output=True, text=True, check=False
            ).stdout
        )
