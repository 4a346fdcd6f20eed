"""The journal's account of what was spent: a row for each day (UTC), author and session.

Written in the transaction that finishes a turn, and by nothing else: a turn is counted once, and what was
spent stays known when turns and sessions are not kept any more.
"""

from __future__ import annotations

import sqlite3

from bridge.clock import rfc3339
from bridge.events import Spending, Turn, Usage

ADD = """
INSERT INTO spending (day, author, session, turns, cost_usd, input_tokens, output_tokens,
                      cache_creation_input_tokens, cache_read_input_tokens)
VALUES (:day, :author, :session, 1, :cost_usd, :input_tokens, :output_tokens,
        :cache_creation_input_tokens, :cache_read_input_tokens)
ON CONFLICT (day, author, session) DO UPDATE SET
    turns = turns + 1,
    cost_usd = cost_usd + excluded.cost_usd,
    input_tokens = input_tokens + excluded.input_tokens,
    output_tokens = output_tokens + excluded.output_tokens,
    cache_creation_input_tokens = cache_creation_input_tokens + excluded.cache_creation_input_tokens,
    cache_read_input_tokens = cache_read_input_tokens + excluded.cache_read_input_tokens
"""
SUMS = """
       sum(turns) AS turns, sum(cost_usd) AS cost_usd, sum(input_tokens) AS input_tokens,
       sum(output_tokens) AS output_tokens, sum(cache_creation_input_tokens) AS cache_creation_input_tokens,
       sum(cache_read_input_tokens) AS cache_read_input_tokens
"""


def add(db: sqlite3.Connection, session: str, turn: Turn) -> None:
    """Count a turn that has finished just now. One that was never begun has cost nothing."""
    if turn.started_at is None or turn.finished_at is None:
        return
    usage = turn.usage or Usage()
    row = {name: getattr(usage, name) for name in Usage.__dataclass_fields__}
    row |= {"day": rfc3339(turn.finished_at)[:10], "author": turn.author or "", "session": session}
    db.execute(ADD, row | {"cost_usd": turn.cost_usd or 0.0})


def totals(db: sqlite3.Connection, month: str) -> tuple[Spending, ...]:
    """By day since the beginning of `month` (YYYY-MM), and what was before summed up under the day ``""``."""
    rows = db.execute(
        f"SELECT CASE WHEN day >= :month THEN day ELSE '' END AS shown, author, session, {SUMS}"  # noqa: S608
        " FROM spending GROUP BY shown, author, session",
        {"month": month},
    )
    return tuple(_read(row) for row in rows.fetchall())


def listed(db: sqlite3.Connection, since: str, author: str | None, limit: int) -> tuple[Spending, ...]:
    """The newest `limit` rows since the day `since`, the newest day first; of `author` alone where given."""
    rows = db.execute(
        "SELECT day AS shown, * FROM spending WHERE day >= :since AND (:author IS NULL OR author = :author)"
        " ORDER BY day DESC, author, session LIMIT :limit",
        {"since": since, "author": author, "limit": limit},
    )
    return tuple(_read(row) for row in rows.fetchall())


def _read(row: sqlite3.Row) -> Spending:
    usage = Usage(**{name: int(row[name]) for name in Usage.__dataclass_fields__})
    author = str(row["author"]) or None
    return Spending(
        str(row["shown"]), author, str(row["session"]), int(row["turns"]), usage, float(row["cost_usd"])
    )
