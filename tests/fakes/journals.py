"""Journals for tests, and ways to spoil one."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from bridge.sessions.journal import Journal


@contextlib.asynccontextmanager
async def reopened(path: Path, **options: Any) -> AsyncIterator[Journal]:
    opened = await Journal.open(path, **options)
    try:
        yield opened
    finally:
        await opened.close()


def damage(path: Path, statement: str, *values: object) -> None:
    """Do to the file what somebody else, or a bug, might have done."""
    db = sqlite3.connect(path)
    with db:
        assert db.execute(statement, values).rowcount == 1
    db.close()
