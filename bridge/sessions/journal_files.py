"""Of the journal: the files that came with prompts. As `journal_sql`, whose functions call these.

Their bytes are read when they are to be sent, and never with the turns.
"""

from __future__ import annotations

import hashlib
import sqlite3
from dataclasses import fields

from bridge.errors import JournalError
from bridge.events import Attachment, TurnId
from bridge.sessions.backends.base import File
from bridge.sessions.records import SaveFiles

# A field of this record and its column have one name.
COLUMNS = tuple(f.name for f in fields(Attachment))

TURN = (
    "SELECT turns.id FROM turns JOIN sessions ON sessions.id = turns.session"
    " WHERE sessions.name = :session AND turns.turn = :turn"
)


def save(db: sqlite3.Connection, op: SaveFiles) -> None:
    """Make it true, within the transaction that is open."""
    found = db.execute(TURN, {"session": op.session, "turn": op.turn}).fetchone()
    if found is None:
        raise JournalError(f"there is no turn {op.turn!r} in session {op.session!r} to save files of")
    db.executemany(
        "INSERT OR IGNORE INTO attachments (turn, number, name, media_type, size, digest, data)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            (found["id"], n, f.name, f.media_type, len(f.data), hashlib.sha256(f.data).hexdigest(), f.data)
            for n, f in enumerate(op.files)
        ),
    )


def described(db: sqlite3.Connection, turn: int) -> tuple[Attachment, ...]:
    """What came with the turn of this row."""
    rows = db.execute(
        "SELECT name, media_type, size, digest FROM attachments WHERE turn = ? ORDER BY number", (turn,)
    )
    return tuple(Attachment(*(row[name] for name in COLUMNS)) for row in rows)


def read(db: sqlite3.Connection, session: str, turn: TurnId) -> tuple[File, ...]:
    """All that came with a turn's prompt, in its order. Raises `JournalError` where a record is damaged."""
    found = db.execute(TURN, {"session": session, "turn": turn}).fetchone()
    if found is None:
        return ()
    rows = db.execute("SELECT * FROM attachments WHERE turn = ? ORDER BY number", (found["id"],)).fetchall()
    return tuple(_file(row) for row in rows)


def read_one(db: sqlite3.Connection, session: str, turn: TurnId, number: int) -> File | None:
    row = db.execute(
        f"SELECT * FROM attachments WHERE turn = ({TURN}) AND number = :number",  # noqa: S608 - our own words
        {"session": session, "turn": turn, "number": number},
    ).fetchone()
    return None if row is None else _file(row)


def _file(row: sqlite3.Row) -> File:
    data = row["data"]
    if not isinstance(data, bytes) or hashlib.sha256(data).hexdigest() != row["digest"]:
        raise JournalError("the record of a file is damaged")
    return File(str(row["name"]), str(row["media_type"]), data)
