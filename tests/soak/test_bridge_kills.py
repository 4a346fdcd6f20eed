"""`kill -9` of the bridge at random moments, under load: nothing is lost, and nothing happens twice."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.fakes.bridge import BridgeProcess
from tests.fakes.phoenix_js import Clients
from tests.soak.bridge_kills import bridge_kills

pytestmark = [pytest.mark.real, pytest.mark.soak]


async def test_a_bridge_that_is_killed_again_and_again_loses_nothing(
    own_bridge: BridgeProcess,
    clients: Clients,
    seed: int,
    rounds: Callable[[int], int],
    report: Callable[..., None],
) -> None:
    """Forty lives of the bridge, four sessions, clients of every kind."""
    figures = await bridge_kills(own_bridge, clients, seed=seed, rounds=rounds(40), sessions=4)
    report(**vars(figures))
