"""How many processes are starting at once, over all sessions of a bridge.

A CLI takes the better part of a second of a core before it is ready. Of a hundred that start at once, as
after a reboot, none is ready before all are, and the deadline of a start runs out meanwhile.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

Pressing = Callable[[], bool]


class Starts:
    """Places for `at_once` starts. Who waits is served in order, those first for whom somebody waits, and
    last what nobody has asked for yet."""

    def __init__(self, at_once: int) -> None:
        self._free = at_once
        self._spare_free = max(1, at_once // 2)
        """The rest is for who comes meanwhile."""
        self._spares: deque[asyncio.Future[None]] = deque()
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

    async def spare_place(self) -> Place:
        """`place` for a process that nobody has asked for yet: as long as others wait, it does, and it has at
        most half of the places."""
        if not (self._free and self._spare_free):
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._spares.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if not turn.cancelled():
                    self._spare_left()
                raise
        else:
            self._free -= 1
            self._spare_free -= 1
        return Place(self, spare=True)

    def _spare_left(self) -> None:
        self._spare_free += 1
        self._left()

    def _left(self) -> None:
        self._waiting = [waiting for waiting in self._waiting if not waiting[0].done()]
        if not self._waiting:
            self._free += 1
            while self._spares and self._free and self._spare_free:
                turn = self._spares.popleft()
                if not turn.done():
                    self._free -= 1
                    self._spare_free -= 1
                    turn.set_result(None)
            return
        chosen = next((w for w in self._waiting if w[1]()), self._waiting[0])
        self._waiting.remove(chosen)
        chosen[0].set_result(None)


class Place:
    def __init__(self, starts: Starts, *, spare: bool = False) -> None:
        self._starts: Starts | None = starts
        self._spare = spare

    def leave(self) -> None:
        """Safe to repeat."""
        starts, self._starts = self._starts, None
        if starts is not None and self._spare:
            starts._spare_left()
        elif starts is not None:
            starts._left()
