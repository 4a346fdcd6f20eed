"""What an answer cost."""

from __future__ import annotations

import pytest

from bridge.events import Usage
from bridge.sessions.backends.api_prices import PRICES, cost_usd

MILLION = Usage(1_000_000, 1_000_000, 1_000_000, 1_000_000)


def test_each_kind_of_token_has_its_price() -> None:
    """Added up; a dated name is its model's."""
    assert cost_usd("claude-sonnet-5-5", Usage(1_000_000), {}) == 2.0
    assert cost_usd("claude-sonnet-5-5", MILLION, {}) == pytest.approx(2 + 10 + 2.5 + 0.1)
    assert cost_usd("claude-haiku-4-5-20251001", MILLION, {}) == cost_usd("claude-haiku-4-5", MILLION, {})


def test_an_unknown_model_has_no_cost() -> None:
    """Which is not the same as none to pay."""
    assert cost_usd("claude-someday", MILLION, {}) is None


def test_the_operators_prices_come_first() -> None:
    """For models that have one and for models that have none."""
    own = {"claude-someday": (1.0, 2.0, 3.0, 4.0), "claude-sonnet-5-5": (0.0, 0.0, 0.0, 0.0)}
    assert cost_usd("claude-someday", MILLION, own) == 10
    assert cost_usd("claude-sonnet-5-5", MILLION, own) == 0


def test_a_long_prompt_may_cost_more() -> None:
    """All of it, the answer as well, and cached parts count as prompt."""
    short, long = Usage(50_000, 10, 25_000, 25_000), Usage(50_000, 10, 25_000, 25_001)
    assert cost_usd("claude-haiku-5-5", long, {}) == pytest.approx(
        5 * (cost_usd("claude-haiku-5-5", short, {}) or 0), rel=1e-4
    )


def test_reading_from_the_cache_is_cheaper_than_writing_to_it() -> None:
    """In every row: a slip of two columns would show."""
    for input_, output, written, read in PRICES.values():
        assert read < input_ < written < output
