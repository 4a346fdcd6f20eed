"""Malformed input in earnest: a hundred times what `make test` feeds, from a fresh seed."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.fuzz.codecs import feed_all
from tests.fakes.fuzz.sockets import ATTACKS, Held, attack_all, nothing_logged
from tests.wire.conftest import Serve, serve

__all__ = ["serve"]

pytestmark = pytest.mark.soak

GROWTH_MB = 30
"""Of resident memory over 45,000 connections: what the allocator does not give back; a kilobyte kept of each
would be more."""

Rounds = Callable[[int], int]


def test_a_million_malformed_inputs_are_each_taken_or_refused(
    seed: int, rounds: Rounds, report: Callable[..., None]
) -> None:
    """By every codec."""
    for name, outcomes in feed_all(seed, rounds(1_000_000)).items():
        report(codec=name, **{word.replace(" ", "_"): times for word, times in outcomes.most_common(5)})


async def test_fifty_thousand_malformed_inputs_leave_nothing_behind(
    serve: Serve, seed: int, rounds: Rounds, report: Callable[..., None]
) -> None:
    """Nothing is logged, nothing is held, and memory has stopped growing after the first tenth."""
    count = rounds(50_000)
    server = await serve(longpoll_window_s=0.5)  # so that who polls no more is soon gone
    server.service.failures.set(None)  # among so many are more wrong tokens than one address may show
    with nothing_logged():
        await attack_all(server, seed, max(len(ATTACKS), count // 10))
        held = Held(server)
        await held.while_nobody_is_there()
        before = resident_mb()
        found: dict[str, Any] = await attack_all(server, seed + 1, count - count // 10)
        await held.until_released()
    grown = resident_mb() - before
    report(grown_mb=grown, **{name.replace(" ", "_"): dict(outcomes) for name, outcomes in found.items()})
    assert grown < GROWTH_MB


def resident_mb() -> int:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 // (1024 * 1024)
