"""What is spent, by whom and in which window, and when one more turn is refused. No clock."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.config import BudgetConfig
from bridge.errors import BudgetExceeded
from bridge.events import BudgetState, Spending, Turn, TurnId, Usage
from bridge.sessions.budgets import Ledger

NOON = datetime(2026, 11, 29, 12, tzinfo=UTC).timestamp()
DAY = 86_400.0


def turn(
    number: int, cost: float = 0.1, author: str | None = "ann", at: float = NOON, tokens: int = 10
) -> Turn:
    return Turn(
        id=TurnId(f"t{number}"),
        prompt="",
        author=author,
        source="client",
        status="completed",
        queued_at=at,
        started_at=at,
        finished_at=at,
        usage=Usage(tokens),
        cost_usd=cost,
    )


def refused(
    ledger: Ledger, session: str = "one", author: str | None = "ann", at: float = NOON
) -> BudgetExceeded | None:
    try:
        ledger.check(session, author, at)
    except BudgetExceeded as e:
        return e
    return None


def test_what_is_spent_is_refused_until_the_window_begins_anew() -> None:
    """The refusal says which budget it is, how much was spent of it, and until when."""
    ledger = Ledger([BudgetConfig(name="small", cost_usd=0.2)])
    for number in (1, 2):
        assert refused(ledger) is None
        ledger.finished("one", turn(number))
    error = refused(ledger)
    assert error is not None
    assert error.as_payload() | {"message": ""} == {
        "reason": "budget_exceeded",
        "message": "",
        "budget": "small",
        "per": "bridge",
        "of": None,
        "spent_usd": pytest.approx(0.2),
        "limit_usd": 0.2,
        "spent_tokens": 20,
        "limit_tokens": None,
        "under_way": 0,
        "until": "2026-11-30T00:00:00.000Z",
    }
    assert refused(ledger, at=NOON + DAY) is None


@pytest.mark.parametrize(
    ("window", "until"),
    [("day", "2026-11-30T00:00:00.000Z"), ("month", "2026-12-01T00:00:00.000Z"), ("total", None)],
)
def test_windows_end_in_utc(window: str, until: str | None) -> None:
    ledger = Ledger([BudgetConfig.model_validate({"name": "b", "tokens": 1, "window": window})])
    ledger.finished("one", turn(1))
    error = refused(ledger)
    assert error is not None
    assert error.details["until"] == until


@pytest.mark.parametrize(
    ("per", "session", "author", "wanted"),
    [
        ("session", "one", "bob", True),
        ("session", "two", "ann", False),
        ("token", "two", "ann", True),
        ("token", "one", "bob", False),
        ("token", "one", None, False),
        ("bridge", "two", "bob", True),
    ],
)
def test_each_holder_has_its_own(per: str, session: str, author: str | None, wanted: bool) -> None:
    """What ann has spent in session one is spent for that session, for her, or for all."""
    ledger = Ledger([BudgetConfig.model_validate({"name": "b", "tokens": 1, "per": per})])
    ledger.finished("one", turn(1))
    assert (refused(ledger, session, author) is not None) == wanted


def test_a_pattern_says_whose_it_is_and_inner_sessions_have_none() -> None:
    budgets = [BudgetConfig(name="b", tokens=1, per="session", applies_to=["team-*", "_*"])]
    ledger = Ledger(budgets)
    for name in ("team-a", "other", "_pool-x-1"):
        ledger.finished(name, turn(1))
    assert [n for n in ("team-a", "team-b", "other", "_pool-x-1") if refused(ledger, n)] == ["team-a"]


def test_a_warning_and_the_limit_are_told_once_each() -> None:
    told: list[BudgetState] = []
    ledger = Ledger([BudgetConfig(name="b", cost_usd=1.0, warn_at=0.5)])
    ledger.watch(told.append)
    for number in range(12):
        ledger.finished("one", turn(number))
    assert [(t.state, round(t.spent_usd, 3)) for t in told] == [("warned", 0.5), ("exceeded", 1.0)]
    assert ledger.of_session("any", NOON) == replace(
        told[-1], spent_usd=pytest.approx(1.2), spent_tokens=120, share=pytest.approx(1.2)
    )


def test_the_tightest_is_shown() -> None:
    budgets = [
        BudgetConfig(name="wide", cost_usd=10),
        BudgetConfig(name="tight", tokens=15),
        BudgetConfig(name="own", per="token", tokens=1),
    ]
    ledger = Ledger(budgets)
    ledger.finished("one", turn(1))
    shown = ledger.of_session("one", NOON)
    assert shown is not None
    assert (shown.name, shown.state) == ("tight", "ok")
    assert Ledger().of_session("one", NOON) is None


def test_a_turn_under_way_counts_as_the_average_of_those_before() -> None:
    ledger = Ledger([BudgetConfig(name="b", cost_usd=1.0)])
    ledger.finished("one", turn(0, cost=0.2))
    for number in range(1, 5):
        assert refused(ledger) is None
        ledger.hold(TurnId(f"t{number}"), "one", "ann")
        ledger.hold(TurnId(f"t{number}"), "one", "ann")
    error = refused(ledger)
    assert error is not None
    assert error.details["under_way"] == 4
    ledger.release(TurnId("t1"))
    ledger.release(TurnId("t1"))
    assert refused(ledger) is None


@given(
    costs=st.lists(st.floats(0.01, 0.2), min_size=1, max_size=60),
    limit=st.floats(0.05, 5),
    reserve=st.floats(0.2, 0.5),
    order=st.randoms(),
)
def test_never_more_than_the_limit_and_one_turn(
    costs: list[float], limit: float, reserve: float, order: object
) -> None:
    """Where no turn costs more than is reserved for it, however accepting and finishing are interleaved."""
    ledger = Ledger([BudgetConfig(name="b", cost_usd=limit, reserve_usd=reserve)])
    under_way: list[Turn] = []
    for number, cost in enumerate(costs):
        if refused(ledger) is None:
            under_way.append(turn(number, cost))
            ledger.hold(under_way[-1].id, "one", "ann")
        if under_way and order.random() < 0.4:  # type: ignore[attr-defined]
            ledger.finished("one", under_way.pop(order.randrange(len(under_way))))  # type: ignore[attr-defined]
    for each in under_way:
        ledger.finished("one", each)
    assert ledger.spent("bridge", "", "day", NOON).cost_usd <= limit + reserve


@given(days=st.lists(st.tuples(st.integers(0, 70), st.sampled_from(["ann", "bob", None])), max_size=40))
def test_what_the_journal_has_gives_the_same_as_what_was_told(days: list[tuple[int, str | None]]) -> None:
    """A ledger that is loaded after a restart and one that was there all the time agree on the present."""
    told, loaded = Ledger(), Ledger()
    rows = []
    for number, (ago, author) in enumerate(sorted(days, key=lambda d: -d[0])):
        at = NOON - ago * DAY
        told.finished("one", turn(number, author=author, at=at))
        day = datetime.fromtimestamp(at, UTC).date().isoformat()
        rows.append(Spending(day if day >= "2026-11" else "", author, "one", 1, Usage(10), 0.1))
    loaded.load(rows, NOON)
    for window in ("day", "month", "total"):
        for holder in (("bridge", ""), ("session", "one"), ("token", "ann"), ("token", "bob")):
            a, b = (x.spent(*holder, window, NOON) for x in (told, loaded))  # type: ignore[arg-type]
            assert (a.turns, a.tokens, round(a.cost_usd, 6)) == (b.turns, b.tokens, round(b.cost_usd, 6))
