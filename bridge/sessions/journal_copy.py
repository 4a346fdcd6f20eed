"""Turns of one session that become turns of another, within the journal: a history may be long, and is not
read to be written again. Of `journal_sql`'s kind; what the rows mean stands there.
"""

# ruff: noqa: S608 - statements are put together from the columns of our own schema and nothing else

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from bridge.errors import JournalError, TurnNotFound
from bridge.events import TurnId
from bridge.sessions.records import CopyTurns, PastTurn, PastTurns

OF_A_TURN = ("prompts", "blocks", "attachments")
"""Tables whose rows belong to a turn, by their column `turn`."""

NOT_COPIED = ("id", "session", "key", "generation")
"""Columns of a turn. A key is an answer to one session's clients, a generation one session's process."""

NEWEST = 1000
"""Turns that a fork looks at one by one; it copies all."""


def past_turns(db: sqlite3.Connection, session: str, last: TurnId | None) -> PastTurns:
    """Raises `TurnNotFound` where `last` is no finished turn of the session that is still kept."""
    number = None if last is None else _number(db, session, last)
    if last is not None and number is None:
        raise TurnNotFound(last, f"There is no finished turn {last}, or it is not kept any more.")
    upto = (
        "FROM turns WHERE session = (SELECT id FROM sessions WHERE name = :session) AND phase = 'finished'"
        " AND (:number IS NULL OR number <= :number)"
    )
    asked = {"session": session, "number": number, "limit": NEWEST}
    begun, highest = db.execute(f"SELECT count(started_at), max(number) {upto}", asked).fetchone()
    rows = db.execute(
        "SELECT turn, source, status, EXISTS (SELECT 1 FROM blocks WHERE blocks.turn = turns.id) AS said"
        f" {upto} ORDER BY number DESC, id DESC LIMIT :limit",
        asked,
    ).fetchall()
    turns = (PastTurn(TurnId(r["turn"]), r["source"], r["status"], bool(r["said"])) for r in rows[::-1])
    return PastTurns(tuple(turns), begun, highest or 0)


def copy_turns(db: sqlite3.Connection, op: CopyTurns) -> None:
    source, into = (_session(db, name) for name in (op.source, op.session))
    if op.last is None:
        return
    number = _number(db, op.source, op.last)
    if number is None:
        raise JournalError(f"there is no finished turn {op.last!r} in session {op.source!r}")
    ids: dict[str, object] = {"source": source, "into": into, "number": number}
    without = {f"without{n}": turn for n, turn in enumerate(op.without)}
    later = f" AND turn NOT IN ({', '.join(f':{name}' for name in without)})" if without else ""
    names = _list(_columns(db, "turns", NOT_COPIED))
    db.execute(
        f"INSERT INTO turns (session, {names}) SELECT :into, {names} FROM turns"
        f" WHERE session = :source AND phase = 'finished' AND number <= :number{later}"
        " ON CONFLICT (session, turn) DO NOTHING",
        ids | without,
    )
    for table in OF_A_TURN:
        columns = _columns(db, table, ("turn",))
        db.execute(
            f"INSERT INTO {table} (turn, {_list(columns)}) SELECT new.id, {_list(columns, 'it.')}"
            f" FROM {table} AS it JOIN turns AS old ON old.id = it.turn"
            " JOIN turns AS new ON new.session = :into AND new.turn = old.turn"
            " WHERE old.session = :source ON CONFLICT DO NOTHING",
            ids,
        )


def _session(db: sqlite3.Connection, name: str) -> int:
    row = db.execute("SELECT id FROM sessions WHERE name = ?", (name,)).fetchone()
    if row is None:
        raise JournalError(f"there is no session {name!r}")
    found: int = row["id"]
    return found


def _number(db: sqlite3.Connection, session: str, turn: TurnId) -> int | None:
    row = db.execute(
        "SELECT number FROM turns WHERE session = (SELECT id FROM sessions WHERE name = ?) AND turn = ?"
        " AND phase = 'finished'",
        (session, turn),
    ).fetchone()
    return None if row is None else row["number"]


def _columns(db: sqlite3.Connection, table: str, without: Iterable[str]) -> list[str]:
    """As the file has them: a column that is added is copied as well."""
    return [row["name"] for row in db.execute(f"PRAGMA table_info({table})") if row["name"] not in without]


def _list(columns: Iterable[str], source: str = "") -> str:
    return ", ".join(f"{source}{name}" for name in columns)
