"""Which failures of the Messages API are met by asking again, and after how long: the SDK's own rules. Pure.

The SDK keeps its repetitions to itself, and gives up on a stream that breaks off in the middle. So it is told
to repeat nothing, and what it would do is done here, where it can be shown; `test_api_retry` holds the two
together. An HTTP date in `retry-after` is not read, as the API sends seconds.
"""

from __future__ import annotations

from collections.abc import Mapping

FIRST_S, LONGEST_S = 0.5, 8.0
JITTER = 0.25
LONGEST_WISH_S = 4_294_967.0
"""Longer than that the SDK waits for nobody either."""

PASSING = frozenset({"overloaded_error", "api_error", "rate_limit_error", "timeout_error"})
"""Errors in the middle of a stream, whose HTTP status was 200, that pass."""
STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""What the API says with each of its errors, where there is a status to say it with."""


def passes(status: int, headers: Mapping[str, str], kind: str | None) -> bool:
    """Whether an answer of this status, or an error event of this `kind` in a good one, may be repeated."""
    if status < 400:
        return kind in PASSING
    wish = headers.get("x-should-retry")
    if wish in ("true", "false"):
        return wish == "true"
    return status in (408, 409, 429) or status >= 500


def wished_s(headers: Mapping[str, str]) -> float | None:
    """How long the API asks to be left alone."""
    for name, unit in (("retry-after-ms", 1000), ("retry-after", 1)):
        try:
            wish = float(headers[name]) / unit
        except (KeyError, ValueError):
            continue
        return min(wish, LONGEST_WISH_S) if wish > 0 else None
    return None


def delay_s(retries: int, wish: float | None, chance: float) -> float:
    """Before the next request, after so many `retries`; `chance` is from 0 to 1."""
    if wish is not None:
        return wish
    return min(FIRST_S * 2.0 ** min(retries, 1000), LONGEST_S) * (1 - JITTER * chance)
