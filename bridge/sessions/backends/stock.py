"""Which spares are to be there: what is started next, and what is ended. Pure; time is handed in.

A spare is good for one `Key` only, which stands for all of a process that cannot be changed any more. The
default options' key is always kept, and beside it those that were asked for last. No promise here depends on
how fast a process starts: the rate is kept by when a start is allowed, the budget by what was measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NewType

from bridge.config import SparesConfig

Key = NewType("Key", str)

ASSUMED_MB = 250.0
"""What a spare takes before one was measured: 170 to 190 of resident memory were seen (2.1.330)."""

ASIDE_S = 1.0
"""No start of a kind for so long after a spare was taken, while others of it are ready: who has taken one is
about to ask it something, and a start takes a core for the better part of a second."""

STEADY_S = 60.0
"""One that lives for so long after it was ready has not failed in starting."""

FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 1.0, 300.0
"""After a spare that died too early, doubled each time: a cause that stays costs a start in five minutes."""


@dataclass(frozen=True, slots=True)
class Held:
    """A spare as it is now."""

    id: str
    key: Key
    age_s: float
    ready: bool
    memory_mb: float | None = None
    """None where it was not measured yet."""


@dataclass(frozen=True, slots=True)
class Ending:
    id: str
    why: str
    failed: bool = False
    """What is wrong with it the next one will have, too."""


@dataclass(slots=True)
class _Wanted:
    """What is known of one key."""

    filling: bool = True
    failures: int = 0
    not_before: float = 0.0


class Stock:
    def __init__(self, config: SparesConfig) -> None:
        self._config = config
        self._default: Key | None = None
        self._asked: list[Key] = []
        """Other than the default, the last one first."""
        self._keys: dict[Key, _Wanted] = {}
        self._next_start = 0.0
        self._aside_until = 0.0
        self._measured_mb = 0.0

    @property
    def kept(self) -> list[Key]:
        """What is kept warm, the most important first."""
        if not self._config.high:
            return []
        first = [self._default] if self._default is not None else []
        others = [key for key in self._asked if key != self._default]
        return [*first, *others][: self._config.max_keys]

    @property
    def largest_mb(self) -> float:
        """What the next spare is taken to need."""
        return self._measured_mb or ASSUMED_MB

    def default(self, key: Key | None) -> None:
        """What the default options amount to now; None where they cannot be used."""
        self._default = key

    def asked(self, key: Key) -> None:
        """Somebody wanted such a process."""
        if self._config.high:
            self._asked = [key, *(k for k in self._asked if k != key)][: self._config.max_keys]

    def forget(self, key: Key) -> None:
        """There is no such kind any more."""
        self._asked = [k for k in self._asked if k != key]
        self._keys.pop(key, None)

    def measured(self, memory_mb: float) -> None:
        self._measured_mb = max(self._measured_mb, memory_mb)

    def taken(self, now: float) -> None:
        """A session has one of them."""
        self._aside_until = now + ASIDE_S

    def failed(self, key: Key, now: float) -> float:
        """A spare ended too early. For how many seconds none of its kind is started."""
        known = self._of(key)
        delay = min(FIRST_BACKOFF_S * 2.0 ** min(known.failures, 30), LONGEST_BACKOFF_S)
        known.failures += 1
        known.not_before = now + delay
        return delay

    def steady(self, key: Key) -> None:
        """A spare has shown that its kind can live."""
        self._of(key).failures = 0

    def failures(self, key: Key) -> int:
        """One after the other, up to now."""
        return self._of(key).failures

    # --- what to do -------------------------------------------------------------------------------------

    def endings(self, held: Sequence[Held]) -> list[Ending]:
        """What is to be ended now."""
        for one in held:
            if one.memory_mb is not None and one.memory_mb <= self._config.max_rss_mb:
                self.measured(one.memory_mb)
        ends = {e.id: e for e in self._misfits(held)}
        left = [one for one in held if one.id not in ends]
        for one in self._too_much(left):
            ends[one.id] = Ending(one.id, "spares.memory_mb is used up")
        left = [one for one in left if one.id not in ends]
        for key in self.kept:
            mine = [one for one in left if one.key == key]
            old = self._outlived(key, mine)
            if old is not None:
                ends[old.id] = Ending(old.id, "it is older than spares.max_age_s")
        return list(ends.values())

    def next_start(self, held: Sequence[Held], now: float) -> Key | None:
        """The kind of which one is to be started at this moment, None where none is. Changes nothing; who
        starts it says so by `begun`."""
        if self._taken_mb(held) + self.largest_mb > self._config.memory_mb:
            return None
        return next((key for key in self._short(held) if now >= self._due(key, held)), None)

    def begun(self, now: float) -> None:
        """One is started now."""
        self._next_start = now + 1 / self._config.starts_per_s

    def again_in_s(self, held: Sequence[Held], now: float) -> float | None:
        """When `next_start` may have another answer, though nothing happens: for the rate's sake, or after
        one was taken or has failed. None: not before something does."""
        if self._taken_mb(held) + self.largest_mb > self._config.memory_mb:
            return None
        due = [self._due(key, held) - now for key in self._short(held)]
        return max(0.0, min(due)) if due else None

    # --- inside -----------------------------------------------------------------------------------------

    def _of(self, key: Key) -> _Wanted:
        # What is not kept any more is forgotten, but for its failures while they hold a start back.
        if len(self._keys) > 4 * self._config.max_keys:
            kept = {*self.kept, key}
            self._keys = {k: wanted for k, wanted in self._keys.items() if k in kept}
        return self._keys.setdefault(key, _Wanted())

    def _due(self, key: Key, held: Sequence[Held]) -> float:
        """When one of this kind may be started."""
        others = any(one.ready and one.key == key for one in held)
        return max(self._next_start, self._of(key).not_before, self._aside_until if others else 0.0)

    def _short(self, held: Sequence[Held]) -> Iterator[Key]:
        """The kinds of which there are too few. From `low` down they are filled, then up to `high`."""
        for key in self.kept:
            known, count = self._of(key), sum(one.key == key for one in held)
            if count < (self._config.low or self._config.high):
                known.filling = True
            if count >= self._config.high:
                known.filling = False
            if known.filling:
                yield key

    def _misfits(self, held: Sequence[Held]) -> Iterator[Ending]:
        kept = self.kept
        for one in held:
            if one.key not in kept:
                yield Ending(one.id, "nobody asks for its kind any more")
            elif one.memory_mb is not None and one.memory_mb > self._config.max_rss_mb:
                why = f"it took {one.memory_mb:.0f} MiB; spares.max_rss_mb allows {self._config.max_rss_mb}"
                yield Ending(one.id, why, failed=True)
        for key in kept:
            mine = [one for one in held if one.key == key]
            for one in mine[self._config.high :]:
                yield Ending(one.id, "there are more than spares.high")

    def _too_much(self, held: Sequence[Held]) -> Iterator[Held]:
        """Of the least important kind first, as many as the budget asks for."""
        kept = self.kept
        left = sorted(held, key=lambda one: (kept.index(one.key), one.ready is False))
        while left and self._taken_mb(left) > self._config.memory_mb:
            yield left.pop()

    def _outlived(self, key: Key, mine: Sequence[Held]) -> Held | None:
        """The oldest that is too old; one at a time, so that a kind is never without any for its age."""
        old = [one for one in mine if one.age_s > self._config.max_age_s]
        if not old or self._of(key).filling or not all(one.ready for one in mine):
            return None
        return max(old, key=lambda one: one.age_s)

    def _taken_mb(self, held: Sequence[Held]) -> float:
        """What is not ready grows still: it counts as the largest that was ever seen."""
        return sum(
            one.memory_mb
            if one.ready and one.memory_mb is not None
            else max(one.memory_mb or 0.0, self.largest_mb)
            for one in held
        )
