"""Two hundred questions over four workers, one of which is killed now and then: each has its answer alone."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.test_pools import answer, assert_asked_alone, until_warm
from tests.fakes.bridge import running_bridge

pytestmark = [pytest.mark.real, pytest.mark.soak]

QUESTIONS = 200


async def test_two_hundred_questions(
    tmp_path: Path, rounds: Callable[[int], int], report: Callable[..., None]
) -> None:
    """By turns over the pool, recycled every ten; a bridge is killed in the middle."""
    count = rounds(QUESTIONS)
    pools = json.dumps({"default": {"size": 4, "recycle_questions": 10}})
    with running_bridge(tmp_path, CLAUDE_BRIDGE_POOLS=pools) as bridge:
        await until_warm(bridge, "default", 4)
        prompts = [f"question-{n:04}-of-many" for n in range(count)]
        asking = [asyncio.create_task(answer(bridge, p, p)) for p in prompts]
        await asyncio.wait(asking[: count // 4], return_when=asyncio.ALL_COMPLETED)
        await asyncio.to_thread(bridge.kill)
        await asyncio.to_thread(bridge.start)
        await asyncio.wait(asking[: count // 2], return_when=asyncio.ALL_COMPLETED)
        if (pid := bridge.living_pid("_pool-default-1")) is not None:
            os.kill(pid, signal.SIGKILL)
        ends = await asyncio.gather(*asking)
        odd = [e for e in ends if e["status"] != "completed"]
        assert len(odd) <= 1, "only the killed worker's may end otherwise"
        for prompt, end in zip(prompts, ends, strict=True):
            assert end["status"] != "completed" or end["text"] == f"You said: {prompt}"
            assert_asked_alone(bridge, prompt, times=max(1, len(bridge.requests(prompt))))
        report(questions=count, ended_unknown=len(odd))
