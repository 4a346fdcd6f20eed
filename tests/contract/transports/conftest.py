"""One suite over every way in. What runs below is the headless CLI throughout: that what clients rely on does
not depend on it is for the suites one folder up."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

import pytest

from tests.fakes.bridge import BridgeProcess, prefix_of
from tests.fakes.peers import WAYS, Peer
from tests.fakes.phoenix_js import Refused

Connect = Callable[..., Awaitable[Peer]]


@pytest.fixture(scope="module", autouse=True)
def backend() -> str:
    return "headless"


@pytest.fixture(params=list(WAYS))
def way(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
async def connect(bridge: BridgeProcess) -> AsyncIterator[Connect]:
    """Connects a peer of the way that is named; all are gone when the test ends."""
    peers: list[Peer] = []

    async def connected(way: str, token: str | None = None) -> Peer:
        peer = WAYS[way](bridge.address.url, bridge.token if token is None else token)
        peers.append(peer)
        await peer.connect()
        return peer

    yield connected
    for peer in peers:
        await peer.close()


@pytest.fixture
async def own(connect: Connect, way: str, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """The topic of a session that the test makes and may spoil; deleted when it ends."""
    name = f"{prefix_of(request)[:45]}-{way}"
    yield f"session:{name}"
    lobby = await connect("phoenix-v2")
    await lobby.join("sessions")
    with suppress(Refused):  # the test itself has deleted it, or never made it
        await lobby.ask("sessions", "delete", {"name": name})


@pytest.fixture
async def talk(connect: Connect) -> str:
    """The topic of a session that the tests of a file share: for whatever leaves it as it was found. One
    that a test has left in disorder is replaced."""
    topic = "session:shared"
    lobby = await connect("phoenix-v2")
    await lobby.join("sessions")
    joined = await lobby.join(topic, {"start": {}, "turns": 0})
    if joined["open_turn"] or joined["queue"] or joined["session"]["state"] not in ("idle", "starting"):
        await lobby.ask("sessions", "delete", {"name": "shared"})
        await lobby.join(topic, {"start": {}, "turns": 0})
    await lobby.leave(topic)
    return topic
