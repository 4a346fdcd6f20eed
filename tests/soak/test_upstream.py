"""Three hundred answers of a faulty upstream in one session: cut, refused, broken off; none gets it stuck."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from bridge.client import connect
from bridge.drill.watcher import Watcher
from bridge.simulator.script import words
from tests.fakes.bridge import BridgeProcess, sim

pytestmark = [pytest.mark.real, pytest.mark.soak]

COUNT = 40
MAY_GIVE_UP = 3
"""So many times 529 in a row, and the CLI (2.1.330) may report it, however many retries it is allowed."""
PATIENCE_S = 120
"""A burst of refusals is waited out by the CLI for up to ten seconds."""


def faults(chance: random.Random, number: int) -> list[dict[str, Any]]:
    """Cuts at every position first, then all kinds at random."""
    text = {"words": COUNT}
    every: list[dict[str, Any]] = [{**text, "drop_after": at} for at in range(COUNT + 1)]
    every += [{**text, "thinking": "hm hm hm", "drop_after": at} for at in range(6)]
    every += [{**text, "error_after": at, "times": 1} for at in range(0, COUNT, 5)]
    while len(every) < number:
        at = chance.randrange(COUNT)
        every.append(
            chance.choice(
                [
                    {**text, "drop_after": at},
                    {**text, "drop_after": at, "gap_ms": 2},
                    {**text, "drop_after": at, "times": chance.randrange(1, 3)},
                    {**text, "error_after": at, "times": 1},
                    {**text, "status": 529, "times": chance.randrange(1, 3)},
                    {**text, "status": 529, "times": MAY_GIVE_UP},
                    {**text, "status": chance.choice((429, 500, 503)), "times": 1},
                    {**text, "thinking": "hm hm hm", "drop_after": chance.randrange(10)},
                    {**text, "status": 400},
                    text,
                ]
            )
        )
    return every[:number]


async def test_three_hundred_faulty_answers_leave_no_turn_wrong_and_none_stuck(
    own_bridge: BridgeProcess, seed: int, rounds: Callable[[int], int], report: Callable[..., None]
) -> None:
    """Each turn's text is what was asked for, its blocks amount to it, and each preview that was not
    discarded came to its block: the watcher checks that at every event."""
    address = own_bridge.address
    watcher = Watcher(address, "main", start={})
    ends: Counter[str] = Counter()
    discards = 0
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(watcher.run())
        await watcher.until(lambda: watcher.session.get("state") == "idle", "idle")
        async with connect(address) as connection:
            await connection.join(watcher.topic, {"turns": 0})
            for fault in faults(random.Random(seed), rounds(300)):
                submitted = {"prompt": f"count {sim(**fault)}"}
                turn = (await connection.push(watcher.topic, "submit", submitted))["turn"]
                view = await watcher.finished(turn, PATIENCE_S)
                ends[view.status] += 1
                discards += view.discards
                what = f"{fault}: {view}"
                assert view.previews == {}, what
                may_fail = fault.get("times") == MAY_GIVE_UP and view.status == "failed"
                if fault.get("status") == 400 or may_fail:
                    assert view.status == "failed", what
                    assert view.error is not None
                    assert view.error["status"] == fault["status"], what
                    continue
                assert view.status == "completed", what
                assert view.text == words(COUNT).rstrip(), what
                blocks = [text for _, text in sorted(view.blocks.items())]
                assert blocks[-1].rstrip() == view.text, what
        await watcher.until(lambda: watcher.session["state"] == "idle", "idle")
        assert watcher.session["restarts"] == 0
        watching.cancel()
    report(answers=sum(ends.values()), **ends, discards=discards)
