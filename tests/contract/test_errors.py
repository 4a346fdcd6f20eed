"""`spec/errors.json` and the bridge's errors are one list."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from bridge.errors import BridgeError

SPEC: dict[str, dict[str, Any]] = json.loads((Path(__file__).parents[2] / "spec" / "errors.json").read_text())


def subclasses(of: type[BridgeError]) -> Iterator[type[BridgeError]]:
    for cls in of.__subclasses__():
        if cls.__module__.startswith("bridge."):
            yield cls
            yield from subclasses(cls)


ERRORS = list(subclasses(BridgeError))


def test_the_codes_are_the_same_on_both_sides() -> None:
    """A client may match on what the contract lists, and on nothing else."""
    assert {e.code for e in ERRORS} == set(SPEC)


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: e.code)
def test_whether_a_retry_can_help_is_the_same_on_both_sides(error: type[BridgeError]) -> None:
    """Clients decide by it whether to come again."""
    assert SPEC[error.code]["retryable"] is error.retryable


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: e.code)
def test_the_status_over_http_is_the_same_on_both_sides(error: type[BridgeError]) -> None:
    """A client that looks at the status alone is told the same."""
    assert SPEC[error.code]["http_status"] == error.http_status


@pytest.mark.parametrize("code", SPEC)
def test_each_code_has_a_sentence_and_a_status(code: str) -> None:
    """And nothing else."""
    entry = SPEC[code]
    assert set(entry) == {"meaning", "retryable", "http_status"}
    assert entry["meaning"].endswith(".")
    status = HTTPStatus(entry["http_status"])  # raises for one that does not exist
    assert 400 <= status < 600
