"""So many a minute, for each who asks."""

from __future__ import annotations

import pytest

from bridge import limits
from bridge.errors import RateLimited
from bridge.limits import Limit


def test_a_minutes_worth_may_come_at_once_and_then_as_time_gives_it() -> None:
    """Two at once, then one every half minute."""
    limit = Limit("It asked", 2)
    limit.take("a", 0)
    limit.take("a", 0)
    with pytest.raises(RateLimited) as refused:
        limit.take("a", 10)
    assert refused.value.details == {"retry_after_s": 20}
    assert refused.value.as_payload()["reason"] == "rate_limited"
    limit.take("a", 30)
    with pytest.raises(RateLimited):
        limit.take("a", 59)


def test_who_comes_when_it_was_told_to_is_let_in() -> None:
    """Whatever the sums of such fractions say in their last digit."""
    for per_minute in range(1, 300):
        limit, now = Limit("It asked", per_minute), 1e6 / 7
        for _ in range(per_minute):
            limit.take("a", now)
        for _ in range(5):
            now += limit.wait("a", now)
            limit.take("a", now)


def test_each_has_its_own() -> None:
    """One that asks too much takes nothing from the others."""
    limit = Limit("It asked", 1)
    limit.take("a", 0)
    with pytest.raises(RateLimited):
        limit.take("a", 0)
    limit.take("b", 0)
    assert limit.refused == 1


def test_what_is_refused_costs_nothing() -> None:
    """Else who keeps asking would never be heard again."""
    limit = Limit("It asked", 1)
    limit.take("a", 0)
    for second in range(1, 60):
        with pytest.raises(RateLimited):
            limit.take("a", second)
    limit.take("a", 60)


def test_without_a_number_there_is_no_limit_and_one_may_come_later() -> None:
    """What was spent under another limit stays spent."""
    limit = Limit("It asked", None)
    for _ in range(1000):
        limit.take("a", 0)
    limit.set(1)
    limit.take("a", 0)
    with pytest.raises(RateLimited):
        limit.take("a", 0)
    limit.set(2)
    limit.take("a", 0)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those whose bucket is full again are forgotten; where all are busy, the oldest."""
    monkeypatch.setattr(limits, "SWEPT_AT", 8)
    limit = Limit("It asked", 1)
    for n in range(8):
        limit.take(n, 0)
    limit.take("later", 100)
    assert set(limit._spent) == {"later"}
    for n in range(100):
        limit.take(f"busy {n}", 100)
    assert len(limit._spent) <= 8
