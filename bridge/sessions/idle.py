"""Notices that nobody uses a session any more. Knows neither what a session is nor what follows."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

LOOKS = 10
"""Looks within the time that makes a session idle. Somebody who was attached and went is missed by as much as
lies between two of them: the session may be stopped a tenth of that time too early."""


class IdleWatch:
    """One session's. Time is the monotonic one: setting the machine's clock stops nobody's session."""

    def __init__(
        self,
        after_s: float,
        monotonic: Callable[[], float],
        at_rest: Callable[[], bool],
        attended: Callable[[], Awaitable[bool]],
    ) -> None:
        """`attended` is asked whether somebody uses the session in a way that nobody tells (`used`)."""
        self.after_s = after_s
        self._monotonic = monotonic
        self._at_rest = at_rest
        self._attended = attended
        self._used_at = monotonic()

    def used(self) -> None:
        self._used_at = self._monotonic()

    async def until_idle(self) -> None:
        """Returns once nobody has used the session for `after_s`, which then begins anew."""
        while True:
            await asyncio.sleep(self.after_s / LOOKS)
            if not self._at_rest() or await self._attended():
                self.used()
            elif self._monotonic() - self._used_at >= self.after_s:
                self.used()
                return
