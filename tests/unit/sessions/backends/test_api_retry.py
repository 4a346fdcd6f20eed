"""What is asked again, and when: as the installed SDK has it."""

from __future__ import annotations

from itertools import product
from typing import Any

import anthropic
import httpx2
import pytest

from bridge.sessions.backends.api_retry import delay_s, passes, wished_s

CLIENT: Any = anthropic.Anthropic(api_key="none", base_url="http://127.0.0.1:9")


@pytest.mark.parametrize("wish", [None, "true", "false", "perhaps"])
def test_the_same_answers_are_met_by_a_repetition(wish: str | None) -> None:
    """Every status, with and without the API's own word on it."""
    headers = {} if wish is None else {"x-should-retry": wish}
    for status in range(400, 600):
        response = httpx2.Response(status, headers=headers)
        assert passes(status, response.headers, None) == CLIENT._should_retry(response), status


def test_the_delays_are_the_same() -> None:
    """With every form of the API's wish but a date, and without one."""
    wishes: list[dict[str, str]] = [
        {},
        {"retry-after": "3"},
        {"retry-after": "0.5"},
        {"retry-after-ms": "1500"},
        {"retry-after-ms": "x", "retry-after": "7"},
        {"retry-after": "-1"},
        {"retry-after": "0"},
        {"retry-after": "1e12"},
        {"retry-after": "soon"},
    ]
    options = anthropic._models.FinalRequestOptions.construct(method="post", url="/", max_retries=10)
    for said, retries in product(wishes, range(10)):
        headers = httpx2.Headers(said)
        theirs = CLIENT._calculate_retry_timeout(10 - retries, options, headers)
        wish = wished_s(headers)
        longest, shortest = delay_s(retries, wish, 0.0), delay_s(retries, wish, 1.0)
        assert shortest <= theirs <= longest, (said, retries)
        assert longest <= shortest / 0.75 + 1e-9


def test_an_error_in_a_stream_is_told_by_its_kind() -> None:
    """Its status was 200."""
    assert passes(200, {}, "overloaded_error")
    assert not passes(200, {}, "invalid_request_error")
    assert not passes(200, {}, None)
