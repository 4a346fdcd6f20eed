"""What the CLI says of a limit of the account, in its stream and in words. Pure; written against 2.1.330.

A subscription's share of a window is used up: the API refuses with 429 and headers that say until when. The
CLI then says so in a frame of its own (`rate_limit_event`), and to a person in words that have the time as
well. Any other 429 is one of those that pass by themselves: the CLI has tried it again by then.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from bridge.signals import LimitReached

WHOLE_ACCOUNT = frozenset({"five_hour", "seven_day"})
"""`rateLimitType`s that hold whatever model is asked; `seven_day_opus` and its like hold for one."""


class Limit(NamedTuple):
    """What was said of the limit that a turn has met; JSON as it stands."""

    until: float | None
    shared: bool

    def reached(self, why: str, *, untouched: bool) -> LimitReached:
        return LimitReached(self.until, why, untouched, self.shared)


def limit_of(info: dict[str, Any]) -> Limit | None:
    """Of a `rate_limit_info`; None where it says that prompts are taken, be it against extra payment."""
    if info.get("status") != "rejected" or info.get("isUsingOverage"):
        return None
    until = info.get("resetsAt")
    known = float(until) if isinstance(until, int | float) else None
    return Limit(known, info.get("rateLimitType") in WHOLE_ACCOUNT)
