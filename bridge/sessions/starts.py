"""How many processes are starting at once, over all sessions of a bridge.

A CLI takes the better part of a second of a core before it is ready. Of a hundred that start at once, as
after a reboot, none is ready before all are, and the deadline of a start runs out meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

Pressing = Callable[[], bool]


class Starts:
    """Places for `at_once` starts. Who waits is served in order, those first for whom somebody waits."""

    def __init__(self, at_once: int) -> None:
        self._free = at_once
        self._waiting: list[tuple[asyncio.Future[None], Pressing]] = []

    async def place(self, pressing: Pressing) -> Place:
        """Wait for a place, to be left once what was started is ready. `pressing`: somebody waits for it.

        Cancelling it leaves nothing behind.
        """
        if self._free:
            self._free -= 1
            return Place(self)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((turn, pressing))
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it was given a place in the same moment
                self._left()
            raise
        return Place(self)

    def _left(self) -> None:
        self._waiting = [waiting for waiting in self._waiting if not waiting[0].done()]
        if not self._waiting:
            self._free += 1
            return
        chosen = next((w for w in self._waiting if w[1]()), self._waiting[0])
        self._waiting.remove(chosen)
        chosen[0].set_result(None)


class Place:
    def __init__(self, starts: Starts) -> None:
        self._starts: Starts | None = starts

    def leave(self) -> None:
        """Safe to repeat."""
        starts, self._starts = self._starts, None
        if starts is not None:
            starts._left()
