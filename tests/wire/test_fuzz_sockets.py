"""Live sockets against malformed input: refused as the wire page says, and nothing is left of who sent it."""

from __future__ import annotations

from tests.fakes.fuzz.sockets import ATTACKS, Held, attack_all, nothing_logged
from tests.wire.conftest import Serve

SEED = 5
COUNT = 500
"""A hundredth of what the soak sends."""


async def test_five_hundred_malformed_inputs_leave_nothing_behind(serve: Serve) -> None:
    """No traceback, no socket, no task, no subscription; and whoever behaves is served as before."""
    server = await serve(longpoll_window_s=0.5)  # so that who polls no more is soon gone
    with nothing_logged():
        await attack_all(server, 0, len(ATTACKS))  # whatever is made once and kept, is made here
        held = Held(server)
        await held.while_nobody_is_there()
        found = await attack_all(server, SEED, COUNT)
        await held.until_released()
    for name, outcomes in found.items():
        assert len(outcomes) > 1, f"{name} tested nothing: {outcomes}"
    async with server.client() as client:
        assert (await client.join("session:a"))["session"]["name"] == "a"
