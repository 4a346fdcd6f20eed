"""What has been spent, and whether one more turn may be begun. Pure: no I/O, no clock.

Counts, for every session, every token and the whole bridge, what their turns cost in the day, the month and
for ever, so that budgets can be changed at any moment. A turn that was accepted and has not finished counts
with an estimate: many prompts at once find no more room than the budget has. What a turn has cost is known
when it ends, so a budget can be overdrawn by what the turns under way cost more than was estimated.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase

from bridge.clock import rfc3339
from bridge.config import BudgetConfig, BudgetWindow
from bridge.errors import BudgetExceeded
from bridge.events import BudgetHolder, BudgetState, Spending, Standing, Turn, TurnId

RESERVE_USD = 0.05
RESERVE_TOKENS = 20_000
"""What a turn that has not finished counts as, as long as none has finished in the window."""

EVERYBODY = ""
"""The key of the bridge's own holder."""
HAIR_USD = 1e-9
"""Ten times 0.1 is not 1."""

Holder = tuple[BudgetHolder, str]
"""Whose: a session's by its name, a token's by its name, the bridge's by `EVERYBODY`."""
RANK: dict[Standing, int] = {"ok": 0, "warned": 1, "exceeded": 2}


@dataclass(frozen=True, slots=True)
class Spent:
    turns: int = 0
    cost_usd: float = 0.0
    tokens: int = 0

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.turns + other.turns, self.cost_usd + other.cost_usd, self.tokens + other.tokens)


NOTHING = Spent()


class Ledger:
    """Of one bridge. What is told to it in `finished` is in the journal by then."""

    def __init__(self, budgets: Sequence[BudgetConfig] = ()) -> None:
        self._budgets = tuple(budgets)
        self._spent: dict[tuple[Holder, str], Spent] = {}
        self._held: dict[TurnId, tuple[Holder, ...]] = {}
        self._under_way: Counter[Holder] = Counter()
        self._day = ""
        self._crossed: Callable[[BudgetState], None] = lambda _: None

    def watch(self, crossed: Callable[[BudgetState], None]) -> None:
        """`crossed` is told of every budget that passes its warning, or its limit."""
        self._crossed = crossed

    def replace(self, budgets: Sequence[BudgetConfig]) -> None:
        self._budgets = tuple(budgets)

    def load(self, spent: Iterable[Spending], at: float) -> None:
        """What the journal has; of the days before this month the sum is enough (day ``""``)."""
        day, month = rfc3339(at)[:10], rfc3339(at)[:7]
        for each in spent:
            windows = ["", *([month] if each.day[:7] == month else []), *([day] if each.day == day else [])]
            amount = Spent(each.turns, each.cost_usd, each.usage.total)
            for holder in holders(each.session, each.author):
                self._add(holder, windows, amount)

    # --- one turn ---------------------------------------------------------------------------------------

    def check(self, session: str, author: str | None, at: float) -> None:
        """Raises `BudgetExceeded` where a budget has no room for one more turn."""
        for budget, holder in self._applying(session, author):
            spent, turns = self._in_window(budget, holder, at), self._under_way[holder]
            usd = spent.cost_usd + turns * _estimate(
                budget.reserve_usd, spent.cost_usd, spent.turns, RESERVE_USD
            )
            tokens = spent.tokens + turns * _estimate(
                budget.reserve_tokens, spent.tokens, spent.turns, RESERVE_TOKENS
            )
            full = budget.cost_usd is not None and usd > budget.cost_usd - HAIR_USD
            if full or (budget.tokens is not None and tokens >= budget.tokens):
                state = self._state(budget, holder, at)
                until = None if state.until is None else rfc3339(state.until)
                raise BudgetExceeded(state, until, turns)

    def hold(self, turn: TurnId, session: str, author: str | None) -> None:
        """The turn was accepted: until it has finished it counts as much as is estimated. Safe to repeat."""
        if turn not in self._held:
            self._held[turn] = holders(session, author)
            self._under_way.update(self._held[turn])

    def release(self, turn: TurnId) -> None:
        """It is not under way any more. Safe to repeat."""
        for holder in self._held.pop(turn, ()):
            self._under_way[holder] -= 1
            if not self._under_way[holder]:
                del self._under_way[holder]

    def finished(self, session: str, turn: Turn) -> None:
        """What it has cost, once; it is in the journal."""
        self.release(turn.id)
        if turn.started_at is None or turn.finished_at is None:
            return
        at = turn.finished_at
        day = rfc3339(at)[:10]
        before = {id(b): self._state(b, h, at) for b, h in self._applying(session, turn.author)}
        tokens = turn.usage.total if turn.usage is not None else 0
        for holder in holders(session, turn.author):
            self._add(holder, ("", day[:7], day), Spent(1, turn.cost_usd or 0.0, tokens))
        self._forget(day)
        for budget, holder in self._applying(session, turn.author):
            now = self._state(budget, holder, at)
            if RANK[now.state] > RANK[before[id(budget)].state]:
                self._crossed(now)

    # --- how things stand -------------------------------------------------------------------------------

    def of_session(self, session: str, at: float) -> BudgetState | None:
        """The tightest of the budgets that apply whoever asks; None where none does."""
        return _tightest(self._state(b, h, at) for b, h in self._applying(session, None))

    def states(self, at: float) -> list[BudgetState]:
        """Of all budgets, for whoever has spent something of them."""
        known = sorted({holder for holder, _ in self._spent})
        return [
            self._state(budget, holder, at)
            for budget in self._budgets
            for holder in known or [("bridge", EVERYBODY)]
            if _covers(budget, holder)
        ]

    def spent(self, holder: BudgetHolder, key: str, window: BudgetWindow, at: float) -> Spent:
        return self._spent.get(((holder, key), _window(window, at)), NOTHING)

    # --- inside -----------------------------------------------------------------------------------------

    def _applying(self, session: str, author: str | None) -> Iterator[tuple[BudgetConfig, Holder]]:
        for budget in self._budgets:
            for holder in holders(session, author):
                if _covers(budget, holder):
                    yield budget, holder

    def _in_window(self, budget: BudgetConfig, holder: Holder, at: float) -> Spent:
        return self._spent.get((holder, _window(budget.window, at)), NOTHING)

    def _state(self, budget: BudgetConfig, holder: Holder, at: float) -> BudgetState:
        spent = self._in_window(budget, holder, at)
        share = max(
            (spent.cost_usd + HAIR_USD) / budget.cost_usd if budget.cost_usd is not None else 0.0,
            spent.tokens / budget.tokens if budget.tokens is not None else 0.0,
        )
        return BudgetState(
            name=budget.name,
            per=holder[0],
            of=holder[1] or None,
            spent_usd=spent.cost_usd,
            limit_usd=budget.cost_usd,
            spent_tokens=spent.tokens,
            limit_tokens=budget.tokens,
            state="exceeded" if share >= 1 else "warned" if share >= budget.warn_at else "ok",
            until=_end(budget.window, at),
            share=share,
        )

    def _add(self, holder: Holder, windows: Iterable[str], amount: Spent) -> None:
        for window in windows:
            self._spent[holder, window] = self._spent.get((holder, window), NOTHING) + amount

    def _forget(self, day: str) -> None:
        """Windows that are over; once a day."""
        if day > self._day:
            self._day = day
            kept = ("", day[:7], day)
            self._spent = {key: spent for key, spent in self._spent.items() if key[1] in kept}


def holders(session: str, author: str | None) -> tuple[Holder, ...]:
    """Whose budgets a turn counts in. The bridge's own sessions, whose names begin with `_`, have none."""
    own: list[Holder] = [] if session.startswith("_") else [("session", session)]
    of_token: list[Holder] = [] if author is None else [("token", author)]
    return (*own, *of_token, ("bridge", EVERYBODY))


def _covers(budget: BudgetConfig, holder: Holder) -> bool:
    per, key = holder
    return budget.per == per and (
        per == "bridge" or any(fnmatchcase(key, pattern) for pattern in budget.applies_to)
    )


def _estimate(reserve: float | None, spent: float, turns: int, at_first: float) -> float:
    if reserve is not None:
        return reserve
    return spent / turns if turns else at_first


def _window(window: BudgetWindow, at: float) -> str:
    return "" if window == "total" else rfc3339(at)[: 10 if window == "day" else 7]


def _end(window: BudgetWindow, at: float) -> float | None:
    """When the window that `at` lies in is over."""
    day = datetime.fromtimestamp(at, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    match window:
        case "day":
            return (day + timedelta(days=1)).timestamp()
        case "month":
            return (day.replace(day=1) + timedelta(days=32)).replace(day=1).timestamp()
        case "total":
            return None


def _tightest(states: Iterable[BudgetState]) -> BudgetState | None:
    return max(states, key=lambda state: state.share, default=None)
