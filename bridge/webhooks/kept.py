"""The file in which what waits for endpoints outlives the bridge."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import orjson

from bridge.webhooks.endpoint import Message

Kept = dict[str, tuple[list[Message], dict[str, str]]]
"""By endpoint: the messages that wait, and the open requests it has heard of, with their sessions."""


def read(file: Path) -> Kept:
    """Nothing where there is no file. Raises `OSError`, and `ValueError` for one that is not ours."""
    try:
        said = orjson.loads(file.read_bytes())
    except FileNotFoundError:
        return {}
    try:
        return {
            key: ([Message(**{**m, "body": m["body"].encode()}) for m in waiting], dict(told))
            for key, (waiting, told) in said.items()
        }
    except (TypeError, KeyError, AttributeError) as e:
        raise ValueError(f"it has another shape: {type(e).__name__}") from None


def write(file: Path, kept: Kept) -> None:
    def message(m: Message) -> dict[str, Any]:
        return {
            "id": m.id,
            "kind": m.kind,
            "session": m.session,
            "made_at": m.made_at,
            "body": m.body.decode(),
            "attempts": m.attempts,
        }

    said = orjson.dumps({key: [[message(m) for m in waiting], told] for key, (waiting, told) in kept.items()})
    new = file.with_suffix(".new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        out.write(said)
    new.replace(file)
