"""How many spares of which kind: the rate and the memory that are never exceeded, and that it fills again."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.config import SparesConfig
from bridge.sessions.backends.stock import ASSUMED_MB, LONGEST_BACKOFF_S, Held, Key, Stock

A, B, C, D = (Key(name) for name in "abcd")


def stock(default: Key | None = A, **config: Any) -> Stock:
    made = Stock(SparesConfig.model_validate({"high": 2, **config}))
    made.default(default)
    return made


def ready(id: str, key: Key = A, age_s: float = 1, memory_mb: float | None = 100) -> Held:
    return Held(id, key, age_s, True, memory_mb)


def test_none_are_kept_unless_asked_for() -> None:
    """By default nothing is started, and whatever is there is ended."""
    empty = Stock(SparesConfig())
    empty.default(A)
    empty.asked(B)
    assert empty.next_start([], 0) is None
    assert empty.again_in_s([], 0) is None
    assert [e.id for e in empty.endings([ready("x")])] == ["x"]


def test_it_fills_from_low_up_to_high() -> None:
    """And then waits until it is below `low` again."""
    some = stock(low=2, high=3, starts_per_s=100)
    held = [ready("1"), ready("2"), ready("3")]
    assert some.next_start(held, 0) is None
    assert some.next_start(held[:2], 0) is None
    assert some.next_start(held[:1], 0) == A
    assert some.next_start(held[:2], 0) == A
    assert some.next_start(held, 0) is None


def test_without_low_each_that_is_taken_is_replaced() -> None:
    """As far as the rate allows."""
    some = stock(high=3, starts_per_s=0.5)
    held = [ready("1"), ready("2")]
    assert some.next_start([*held, ready("3")], 0) is None
    assert some.next_start(held, 0) == A
    some.begun(0)
    assert some.next_start(held, 1.9) is None
    assert some.again_in_s(held, 1.9) == pytest.approx(0.1)
    assert some.next_start(held, 2.0) == A


def test_who_has_taken_one_has_the_processor_for_a_moment() -> None:
    """Where others are ready; the last one is replaced at once."""
    some = stock(high=3, starts_per_s=100)
    held = [ready("1"), ready("2")]
    some.taken(10)
    assert some.next_start(held, 10.9) is None
    assert some.again_in_s(held, 10.9) == pytest.approx(0.1)
    assert some.next_start(held, 11) == A
    some.taken(20)
    assert some.next_start([], 20) == A
    assert some.next_start([Held("3", A, 0, False)], 20) == A
    some.asked(B)
    assert some.next_start(held, 20) == B


def test_the_default_comes_first_and_then_what_was_asked_for_last() -> None:
    """As many kinds as there may be; the others are ended."""
    some = stock(max_keys=3, high=1)
    for key in (B, C, D, C):
        some.asked(key)
    assert some.kept == [A, C, D]
    assert [e.id for e in some.endings([ready("1", B), ready("2", C), ready("3", A)])] == ["1"]
    assert some.next_start([], 0) == A
    assert some.next_start([ready("3", A)], 0) == C
    some.forget(C)
    assert some.kept == [A, D, B]
    some.default(None)
    assert some.kept == [D, B]


def test_what_is_not_ready_counts_as_the_largest_that_was_seen() -> None:
    """Before any was measured, as what one is known to take."""
    some = stock(high=9, memory_mb=650, starts_per_s=100)
    starting = Held("s", A, 0, False, 20)
    assert some.next_start([starting], 0) == A
    assert some.next_start([starting, starting], 0) is None
    assert some.again_in_s([starting, starting], 0) is None
    some.endings([ready("1", memory_mb=200)])
    assert some.largest_mb == 200
    assert some.next_start([ready("1", memory_mb=200), starting], 0) == A
    assert some.next_start([ready("1", memory_mb=200), starting, starting], 0) is None


def test_spares_that_grow_beyond_the_budget_are_ended_the_least_important_first() -> None:
    """No more than the budget asks for."""
    some = stock(high=3, memory_mb=500)
    some.asked(B)
    held = [ready("b1", B, memory_mb=200), ready("a1", memory_mb=200), ready("a2", memory_mb=200)]
    assert [e.id for e in some.endings(held)] == ["b1"]


def test_one_that_takes_too_much_is_replaced_and_counts_as_failed() -> None:
    """The next one may take as much. It is no measure for what the others need."""
    some = stock(max_rss_mb=300)
    (ending,) = some.endings([ready("1", memory_mb=301), ready("2", memory_mb=150)])
    assert (ending.id, ending.failed) == ("1", True)
    assert some.largest_mb == 150


def test_the_old_are_replaced_one_after_the_other() -> None:
    """The oldest first, and the next once there are as many as before."""
    some = stock(high=3, max_age_s=60)
    held = [ready(f"{age}", age_s=age) for age in (61, 90, 5)]
    assert [e.id for e in some.endings(held)] == []  # it was never full yet
    assert some.next_start(held, 0) is None
    assert [e.id for e in some.endings(held)] == ["90"]
    left = [held[0], held[2]]
    assert some.next_start(left, 0) == A
    assert some.endings([*left, Held("new", A, 0, False)]) == []
    assert some.next_start([*left, ready("new")], 0) is None
    assert [e.id for e in some.endings([*left, ready("new")])] == ["61"]


def test_more_than_high_are_ended() -> None:
    """As after a start with other settings."""
    assert [e.id for e in stock(high=1).endings([ready("1"), ready("2")])] == ["2"]


def test_a_kind_that_fails_waits_longer_each_time_and_no_other_does() -> None:
    """Up to five minutes; one that lives ends that."""
    some = stock(high=1, starts_per_s=100)
    some.asked(B)
    assert [some.failed(A, 0) for _ in range(4)] == [1, 2, 4, 8]
    assert some.next_start([], 0) == B
    assert some.next_start([ready("b", B)], 7.9) is None
    assert some.again_in_s([ready("b", B)], 7.9) == pytest.approx(0.1)
    assert some.next_start([ready("b", B)], 8.0) == A
    for _ in range(40):
        longest = some.failed(A, 0)
    assert longest == LONGEST_BACKOFF_S
    some.steady(A)
    assert (some.failures(A), some.failed(A, 0)) == (0, 1)


@dataclass
class World:
    """Spares as a bridge would have them, on a clock that is moved."""

    stock: Stock
    config: SparesConfig
    now: float = 0.0
    held: list[Held] = field(default_factory=list)
    begun: list[float] = field(default_factory=list)
    made: int = 0

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.held = [replace(one, age_s=one.age_s + seconds) for one in self.held]

    def act(self) -> None:
        ends = {e.id for e in self.stock.endings(self.held)}
        self.held = [one for one in self.held if one.id not in ends]
        while (key := self.stock.next_start(self.held, self.now)) is not None:
            self.stock.begun(self.now)
            self.begun.append(self.now)
            self.made += 1
            self.held.append(Held(str(self.made), key, 0.0, False))
            self.check()

    def get_ready(self, memory_mb: float) -> None:
        for n, one in enumerate(self.held):
            if not one.ready:
                self.held[n] = replace(one, ready=True, memory_mb=memory_mb)
                return

    def take(self, index: int) -> None:
        able = [one for one in self.held if one.ready]
        if able:
            self.held.remove(able[index % len(able)])
            self.stock.taken(self.now)

    def die(self, index: int) -> None:
        if self.held:
            one = self.held.pop(index % len(self.held))
            self.stock.failed(one.key, self.now)

    def check(self) -> None:
        taken = sum(one.memory_mb or self.stock.largest_mb for one in self.held)
        assert taken <= self.config.memory_mb
        for key in {one.key for one in self.held}:
            assert sum(one.key == key for one in self.held) <= self.config.high
        gap = 1 / self.config.starts_per_s
        assert all(later - earlier >= gap * 0.999999 for earlier, later in pairwise(self.begun))


STEPS = st.one_of(
    st.tuples(st.just("pass_time"), st.floats(0, 5)),
    st.tuples(st.just("get_ready"), st.floats(50, ASSUMED_MB)),
    st.tuples(st.just("take"), st.integers(0, 9)),
    st.tuples(st.just("die"), st.integers(0, 9)),
    st.tuples(st.just("ask"), st.sampled_from([A, B, C, D])),
)


@given(
    high=st.integers(1, 5),
    low=st.integers(1, 5),
    rate=st.floats(0.1, 5),
    memory_mb=st.integers(100, 1500),
    steps=st.lists(STEPS, max_size=60),
)
def test_whatever_happens_rate_and_memory_hold_and_it_fills_again(
    high: int, low: int, rate: float, memory_mb: int, steps: list[tuple[str, Any]]
) -> None:
    """Once nothing happens any more, the default kind is full, as far as there is memory."""
    config = SparesConfig(
        high=high, low=min(low, high), starts_per_s=rate, memory_mb=memory_mb, max_keys=3, max_age_s=20
    )
    world = World(Stock(config), config)
    world.stock.default(A)
    for what, value in steps:
        if what == "ask":
            world.stock.asked(value)
        else:
            getattr(world, what)(value)
        world.act()
        world.check()
    for _ in range(100):
        world.pass_time(LONGEST_BACKOFF_S)
        world.act()
        for _ in range(len(world.held)):
            world.get_ready(world.stock.largest_mb)
        world.check()
    count = sum(one.key == A for one in world.held)
    full = world.stock.largest_mb * (len(world.held) + 1) > memory_mb
    assert count >= config.low or full  # type: ignore[operator]
