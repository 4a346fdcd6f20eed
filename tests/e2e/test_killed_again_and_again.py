"""A few rounds of the soak's two most telling tests, with a seed that never changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.bridge import BridgeProcess, running_bridge
from tests.fakes.phoenix_js import Clients
from tests.soak.bridge_kills import bridge_kills
from tests.soak.cli_kills import MANY_RESTARTS, cli_kills

pytestmark = pytest.mark.real

SEED = 7


async def test_a_bridge_that_is_killed_four_times_under_load_loses_nothing(
    own_bridge: BridgeProcess, clients: Clients
) -> None:
    """Every accepted prompt is answered once, in order, and every client was told everything once."""
    figures = await bridge_kills(own_bridge, clients, seed=SEED, rounds=4, sessions=2)
    assert figures.prompts > 5


async def test_clis_that_are_killed_six_times_under_load_lose_nothing(tmp_path: Path) -> None:
    """What had begun ends as `unknown`; all else is answered. The bridge dies twice."""
    with running_bridge(tmp_path, **MANY_RESTARTS) as bridge:
        figures = await cli_kills(bridge, seed=SEED, rounds=6, sessions=2, with_bridge=True)
    assert figures.kills == 6
    assert figures.completed
