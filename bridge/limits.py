"""How much may be asked in how short a time: one token bucket for each who asks. It knows no clock, and its
memory is bounded: a bucket that is full again is forgotten."""

from __future__ import annotations

from collections.abc import Hashable

from bridge.errors import RateLimited

MINUTE_S = 60.0
SWEPT_AT = 4096
"""Buckets held before those that are full again are looked for: addresses of strangers are without number."""


class Limit:
    """So many of one thing a minute, for each key; `None`: as many as one likes. A minute's may all come at
    once."""

    def __init__(self, what: str, per_minute: int | None) -> None:
        self._what = what
        self._per_minute = per_minute
        self._spent: dict[Hashable, tuple[float, float]] = {}  # how much, and when that was so
        self.refused = 0

    def set(self, per_minute: int | None) -> None:
        """Another limit from now on; what was spent stays spent."""
        self._per_minute = per_minute

    def take(self, key: Hashable, now: float) -> None:
        """Spend one. Raises `RateLimited`, and spends nothing then."""
        if self._per_minute is None:
            return
        wait = self.wait(key, now)
        if wait > 0:
            self.refused += 1
            raise RateLimited(self._what, wait)
        if len(self._spent) >= SWEPT_AT and key not in self._spent:
            self._sweep(now)
        self._spent[key] = (self._left_of(key, now) + 1, now)

    def wait(self, key: Hashable, now: float) -> float:
        """Seconds until one may be spent; 0: now."""
        if self._per_minute is None:
            return 0.0
        over = self._left_of(key, now) + 1 - self._per_minute
        # Who comes when it was told to must not be refused for the last digit of a sum.
        return over * MINUTE_S / self._per_minute if over > 1e-6 else 0.0

    def _left_of(self, key: Hashable, now: float) -> float:
        """What was spent and has not come back yet."""
        spent, then = self._spent.get(key, (0.0, now))
        return max(0.0, spent - (now - then) * (self._per_minute or 0) / MINUTE_S)

    def _sweep(self, now: float) -> None:
        left = {key: (spent, now) for key in self._spent if (spent := self._left_of(key, now)) > 0}
        if len(left) >= SWEPT_AT:  # all of them busy: the oldest go, who thereby may ask anew
            left = dict(list(left.items())[SWEPT_AT // 2 :])
        self._spent = left
