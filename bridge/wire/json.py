"""JSON as the wires want it: strict coming in, never refused going out."""

from __future__ import annotations

import json
from typing import Any

import orjson

from bridge.errors import WireError

MAX_DEPTH = 200
"""orjson writes 254 levels; what a tool nests deeper than this is cut to null rather than lost whole."""


def loads(text: str | bytes) -> Any:
    """Parse strictly: no NaN, no infinity, no lone surrogate, nothing behind the document.

    Raises `WireError`, whatever the text.
    """
    try:
        return orjson.loads(text)
    except (ValueError, RecursionError) as e:
        raise WireError(f"not JSON: {e}") from e


def dumps(value: Any) -> bytes:
    """UTF-8 JSON of any plain value.

    What has no JSON is made to have some, because an event that cannot be encoded would end every
    subscriber's stream: lone surrogates become U+FFFD, NaN becomes null, other objects their text.
    """
    try:
        return orjson.dumps(value)
    except (TypeError, RecursionError):
        return json.dumps(_plain(value, 0), ensure_ascii=False, separators=(",", ":")).encode()


def _plain(value: Any, depth: int) -> Any:
    if depth > MAX_DEPTH:
        return None
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if value - value == 0 else None  # neither NaN nor infinite
    if isinstance(value, dict):
        return {_plain(str(key), depth): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, depth + 1) for item in value]
    return str(value)
