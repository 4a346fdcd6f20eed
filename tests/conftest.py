"""Fixtures that every test may use live in `tests/fakes`; this file only names them."""

import signal
from pathlib import Path

import pytest

UNIT = Path(__file__).parent / "unit"

pytest_plugins = (
    "tests.fakes.chromium",
    "tests.fakes.phoenix_js",
    "tests.fakes.simulator",
    "tests.fakes.bridge",
)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what it puts into the background with Ctrl-C ignored, and every child would inherit
    # that; tests press Ctrl-C on their children.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The short files last, so that no long one is left over at the end, for one worker alone."""
    items.sort(key=lambda item: item.path.is_relative_to(UNIT))
