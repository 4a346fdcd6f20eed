"""What every soak has: a seed that is printed and can be given again, rounds, and a place for its figures."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Any

import pytest

SEED = "SOAK_SEED"
ROUNDS = "SOAK_ROUNDS"


@pytest.fixture
def seed(capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> int:
    """Fresh for every run, unless SOAK_SEED names one; said before anything happens."""
    chosen = int(os.environ.get(SEED) or random.SystemRandom().randrange(1_000_000))
    with capsys.disabled():
        print(f"\n{request.node.name}: {SEED}={chosen}", flush=True)
    return chosen


@pytest.fixture
def rounds() -> Callable[[int], int]:
    """How many rounds: the test's own number, unless SOAK_ROUNDS says otherwise."""
    return lambda usual: int(os.environ.get(ROUNDS) or usual)


@pytest.fixture
def report(capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> Callable[..., None]:
    """Says what was counted, past pytest's capture."""

    def say(**figures: Any) -> None:
        with capsys.disabled():
            said = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in figures.items())
            print(f"\n{request.node.name}: {said}", flush=True)

    return say
