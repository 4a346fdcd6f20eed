"""Many api sessions at once; a thousand of them are in tests/soak/test_many_api.py."""

from __future__ import annotations

import pytest

from tests.fakes.bridge import BridgeProcess
from tests.fakes.many_api import many, rss_mib

pytestmark = pytest.mark.real

COUNT = 110
"""More than `sessions.max_sessions`, which is about processes."""
GROWTH_MIB = 60
"""Room for their replay, and far less than a copy more of anything big."""


@pytest.mark.soak
async def test_a_hundred_sessions_stream_at_once(own_bridge: BridgeProcess) -> None:
    """Each its own words, all of them; and a second round takes no more memory than the first."""
    assert own_bridge.process is not None
    async with many(own_bridge.address, COUNT) as streams:
        deltas, most = await streams.ask(30, gap_ms=300)
        assert (deltas, most) == (COUNT * 30, COUNT)
        before = rss_mib(own_bridge.process.pid)
        await streams.ask(30, gap_ms=20)
        assert rss_mib(own_bridge.process.pid) - before < GROWTH_MIB
