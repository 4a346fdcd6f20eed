"""A thousand api sessions on one bridge stream at once, in bounded memory."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.fakes.bridge import BridgeProcess
from tests.fakes.many_api import many, rss_mib

pytestmark = [pytest.mark.real, pytest.mark.soak]

SESSIONS = 1000
WORDS, GAP_MS = 60, 1000
"""The first still streams when the last begins."""
EACH_MIB = 0.5
"""A session, its task, its connection and what is kept of it for clients that come back."""


async def test_a_thousand_sessions_stream_at_once(
    own_bridge: BridgeProcess, rounds: Callable[[int], int], report: Callable[..., None]
) -> None:
    """Every word of each arrives, and what the bridge takes is bounded by their number, not by the rounds."""
    count = rounds(SESSIONS)
    assert own_bridge.process is not None
    pid = own_bridge.process.pid
    empty = rss_mib(pid)
    began = time.monotonic()
    async with many(own_bridge.address, count) as streams:
        started_s = time.monotonic() - began
        idle = rss_mib(pid)
        began = time.monotonic()
        deltas, most = await streams.ask(WORDS, GAP_MS)
        took_s = time.monotonic() - began
        first = rss_mib(pid)
        await streams.ask(WORDS, GAP_MS)
        second = rss_mib(pid)
    report(
        sessions=count,
        at_once=most,
        deltas=deltas,
        started_s=round(started_s, 1),
        took_s=round(took_s, 1),
        mib=[round(x) for x in (empty, idle, first, second)],
    )
    assert deltas >= count * WORDS * 0.9, "they were merged: the client is too slow for this test"
    assert most == count
    assert first - empty < 100 + count * EACH_MIB
    assert second - first < 50 + count * EACH_MIB / 5
