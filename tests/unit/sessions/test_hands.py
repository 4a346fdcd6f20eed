"""Effects on a backend: one after the other, the question whether the process lives before all others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bridge.commands import StartOptions
from bridge.errors import BackendError
from bridge.sessions.backends.base import Checkpoint, Launch, Liveness
from bridge.sessions.effects import SendInterrupt
from bridge.sessions.hands import Finished, Hands
from bridge.sessions.starts import Starts
from tests.fakes.backend import FakeBackend

LAUNCH = Launch(name="demo", generation=1, conversation="c", resume=True, options=StartOptions())


class Slow(FakeBackend):
    """Looks for its process until the test lets it find it."""

    def __init__(self) -> None:
        super().__init__(lambda batch: None)
        self.liveness = Liveness.ALIVE
        self.looking = asyncio.Event()
        self.found = asyncio.Event()

    async def adopt(self, launch: Launch, checkpoint: Checkpoint | None) -> Liveness:
        self.looking.set()
        await self.found.wait()
        return await super().adopt(launch, checkpoint)


@asynccontextmanager
async def working(backend: FakeBackend) -> AsyncIterator[Hands]:
    hands = Hands(backend, Starts(1))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(hands.run())
        yield hands
        task.cancel()


async def test_what_is_asked_for_during_an_adoption_finds_the_process() -> None:
    """It waits for the answer instead of failing because nothing is held yet."""
    backend = Slow()
    done = asyncio.get_running_loop().create_future()
    async with working(backend) as hands, asyncio.TaskGroup() as group:
        adopting = group.create_task(hands.adopt(LAUNCH, None))
        await backend.looking.wait()
        hands.do(SendInterrupt(), done.set_result)
        backend.found.set()
        assert await done is None
        assert await adopting is Liveness.ALIVE
    assert backend.told == [("adopt", 1, None), "interrupt"]


async def test_a_stop_does_not_wait_for_an_adoption() -> None:
    """Whoever asked about the process is told that nobody can say."""
    backend = Slow()
    done = asyncio.get_running_loop().create_future()
    async with working(backend) as hands, asyncio.TaskGroup() as group:
        adopting = group.create_task(hands.adopt(LAUNCH, None))
        await backend.looking.wait()
        hands.stop(done.set_result)
        assert await done is None
        assert await adopting is Liveness.UNKNOWN
    assert backend.told == ["stop"]


async def test_what_is_overtaken_before_it_began_is_told_all_the_same() -> None:
    """Whoever asked for it waits for an answer."""
    backend = FakeBackend(lambda batch: None)
    ends: list[object] = []
    stopped = asyncio.get_running_loop().create_future()
    hands = Hands(backend, Starts(1))
    hands.do(SendInterrupt(), ends.append)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(hands.run())
        group.create_task(overtake(hands, stopped.set_result))
        assert await stopped is None
        task.cancel()
    assert backend.told == ["stop"]
    assert [type(end) for end in ends] == [BackendError]


async def overtake(hands: Hands, done: Finished) -> None:
    """In the very step in which the first job's task was made."""
    hands.stop(done)
