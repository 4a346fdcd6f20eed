"""A session whose account is at its limit: what waits, what ends, and what begins again. No clock."""

from __future__ import annotations

import pytest

from bridge.events import TurnError, TurnQueued, TurnStarted
from bridge.sessions.claude.limit import Limit, limit_of
from bridge.sessions.core import LIMIT_AGAIN_S, LIMIT_SOON_S, SessionCore
from bridge.sessions.effects import Output, SendPrompt, TurnAdvanced
from bridge.signals import LimitReached, TextArrived, TurnEnded
from tests.unit.sessions.test_core import of, ready, submit

UNTIL = 500.0
MET = LimitReached(UNTIL, "limit reached", untouched=True, shared=True)
ENDED = TurnEnded("failed", None, TurnError("rate_limit", "limit reached", 429))


def meets(core: SessionCore, signal: LimitReached = MET, at: float = 20.0) -> list[Output]:
    return [*core.observe(signal, at), *core.observe(ENDED, at)]


def test_the_turn_that_met_it_waits_at_the_head_of_the_queue() -> None:
    """As journaled, and told with the reason; nothing is sent, and what comes then is queued."""
    core = ready()
    first, second = submit(core, "one")[0]["turn"], submit(core, "two")[0]["turn"]
    out = meets(core)
    assert [t.id for t in core.queue] == [first, second]
    assert of(TurnQueued, out) == [TurnQueued(first, None, "hi", "ann", 0, "limit reached")]
    assert [a.phase for a in of(TurnAdvanced, out)] == ["queued"]
    assert of(SendPrompt, out) == []
    assert (core.state, core.session().limited_until, core.session().reason) == (
        "idle",
        UNTIL,
        "limit reached",
    )
    reply, out = submit(core, "three")
    assert (reply["status"], reply["position"], of(SendPrompt, out)) == ("queued", 2, [])


def test_it_goes_on_when_the_limit_is_over() -> None:
    core = ready()
    turn = submit(core, "one")[0]["turn"]
    meets(core)
    assert core.limit_over(UNTIL - 1, 30.0) == []
    out = core.limit_over(UNTIL, UNTIL)
    assert [s.turn for s in of(SendPrompt, out)] == [turn]
    assert of(TurnStarted, out) != []
    assert (core.state, core.session().limited_until) == ("busy", None)


def test_a_turn_that_was_being_answered_ends_and_the_rest_waits() -> None:
    core = ready()
    submit(core, "one")
    submit(core, "two")
    core.observe(TextArrived(0, "text", "so far"), 15.0)
    out = meets(core, LimitReached(UNTIL, "limit reached", untouched=False, shared=True))
    [ended] = [a.turn for a in of(TurnAdvanced, out) if a.phase == "finished"]
    assert (ended.status, ended.text, ended.error) == ("failed", "so far", ENDED.error)
    assert of(SendPrompt, out) == []
    assert (core.state, [t.id for t in core.queue]) == ("idle", ["two"])


@pytest.mark.parametrize(("until", "wanted"), [(None, 20.0 + LIMIT_AGAIN_S), (19.0, 20.0 + LIMIT_SOON_S)])
def test_without_a_time_or_with_one_that_is_past_it_is_tried_later(
    until: float | None, wanted: float
) -> None:
    core = ready()
    submit(core, "one")
    meets(core, LimitReached(until, "limit reached", untouched=True, shared=False))
    assert core.session().limited_until == wanted


def test_a_restart_tries_at_once_and_a_longer_limit_counts() -> None:
    core = ready()
    submit(core, "one")
    meets(core)
    assert core.limited(UNTIL - 1, "shorter", 30.0) == []
    core.limited(UNTIL + 1, "longer", 30.0)
    assert core.session().limited_until == UNTIL + 1
    core.restart(40.0)
    assert core.session().limited_until is None


@pytest.mark.parametrize(
    ("info", "wanted"),
    [
        ({"status": "rejected", "resetsAt": 5, "rateLimitType": "five_hour"}, Limit(5.0, shared=True)),
        ({"status": "rejected", "resetsAt": 5, "rateLimitType": "seven_day_opus"}, Limit(5.0, shared=False)),
        ({"status": "rejected"}, Limit(None, shared=False)),
        ({"status": "rejected", "resetsAt": 5, "isUsingOverage": True}, None),
        ({"status": "allowed_warning", "resetsAt": 5}, None),
        ({}, None),
    ],
)
def test_what_the_cli_says_of_it(info: dict[str, object], wanted: Limit | None) -> None:
    """`shared`: it holds whatever model is asked."""
    assert limit_of(info) == wanted
