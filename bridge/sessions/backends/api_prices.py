"""What an answer of the Messages API cost. Pure; a model that is not in the table has no cost."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from bridge.config import Price
from bridge.events import Usage


@dataclass(frozen=True, slots=True)
class Tier:
    """What counts for all of a request whose prompt, cached parts included, has more tokens than `above`."""

    above: int
    price: Price


_FABLE = (10.0, 50.0, 12.5, 1.0)
_OPUS = (5.0, 25.0, 6.25, 0.5)
_SONNET_4 = (3.0, 15.0, 3.75, 0.3)

PRICES: Mapping[str, Price] = {
    # platform.claude.com/docs/en/about-claude/pricing, as of November 2026; long prompts cost the same per
    # token but for `TIERS`.
    "claude-fable-5-1": (10.0, 50.0, 12.5, 0.25),
    "claude-mythos-5-1": (10.0, 50.0, 12.5, 0.25),
    "claude-fable-5": _FABLE,
    "claude-mythos-5": _FABLE,
    "claude-opus-5-5": (4.0, 20.0, 5.0, 0.2),
    "claude-opus-5": _OPUS,
    "claude-opus-4-8": _OPUS,
    "claude-opus-4-7": _OPUS,
    "claude-opus-4-6": _OPUS,
    "claude-opus-4-5": _OPUS,
    "claude-sonnet-5-5": (2.0, 10.0, 2.5, 0.1),
    "claude-sonnet-5": (2.0, 10.0, 2.5, 0.2),
    "claude-sonnet-4-6": _SONNET_4,
    "claude-sonnet-4-5": _SONNET_4,
    "claude-haiku-5-5": (0.1, 0.5, 0.125, 0.01),
    "claude-haiku-4-5": (1.0, 5.0, 1.25, 0.1),
}
TIERS: Mapping[str, Tier] = {"claude-haiku-5-5": Tier(100_000, (0.5, 2.5, 0.625, 0.05))}

_DATED = re.compile(r"-20\d{6}$")


def cost_usd(model: str, usage: Usage, own: Mapping[str, Price]) -> float | None:
    """Of one request. `own` are the operator's prices, which come first; None where nobody knows one."""
    name = _DATED.sub("", model)
    price = own.get(model) or own.get(name)
    if price is None:
        price, tier = PRICES.get(name), TIERS.get(name)
        if tier is not None and _prompt(usage) > tier.above:
            price = tier.price
    if price is None:
        return None
    counts = (
        usage.input_tokens,
        usage.output_tokens,
        usage.cache_creation_input_tokens,
        usage.cache_read_input_tokens,
    )
    return sum(count * each for count, each in zip(counts, price, strict=True)) / 1_000_000


def _prompt(usage: Usage) -> int:
    return usage.input_tokens + usage.cache_creation_input_tokens + usage.cache_read_input_tokens
