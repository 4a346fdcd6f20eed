"""A clock that moves when a test says so, with a `sleep` that goes by it."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time


class JumpingClock:
    """The machine's clock, which somebody sets to another time; what is monotonic does not mind."""

    def __init__(self) -> None:
        self.set_by = 0.0
        """Seconds that the wall clock is ahead of the machine's."""

    def now(self) -> float:
        return time.time() + self.set_by

    def monotonic(self) -> float:
        return time.monotonic()


class FakeClock:
    """Wall time and monotonic time are one; nothing moves but by `advance`."""

    def __init__(self, at: float = 1000.0) -> None:
        self.at = at
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        due: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.at + seconds, next(self._order), due))
        await due

    @property
    def sleeping(self) -> list[float]:
        """When the sleepers wake, the first to wake first."""
        return sorted(at for at, _, due in self._sleepers if not due.done())

    async def advance(self, seconds: float) -> None:
        """Wake one after the other whoever is due within `seconds`, and let each go on before the next."""
        until = self.at + seconds
        await settle()
        while self._sleepers and self._sleepers[0][0] <= until:
            self.at, _, due = heapq.heappop(self._sleepers)
            if not due.done():
                due.set_result(None)
            await settle()
        self.at = until


async def settle() -> None:
    """Let every task run until it waits for something that only the test, or the clock, can bring."""
    for _ in range(30):
        await asyncio.sleep(0)
