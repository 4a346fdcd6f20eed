"""The journal's file: its tables, their migrations, and opening it whatever state it is in.

Knows SQLite and the folder; knows nothing of what the rows mean (`journal_sql`) nor of threads (`journal`).
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import structlog

from bridge.clock import Clock
from bridge.errors import JournalError

log = structlog.get_logger(__name__)

# What a person may want to read with `sqlite3 journal.db` is stored plainly: text as text, times as
# seconds since 1970. Columns marked JSON hold objects of which no query asks a part.
# A row of `turns` is rewritten at every change of phase, so the prompt, which may be a megabyte and
# never changes, has a table of its own.
SCHEMA = """
CREATE TABLE sessions (
    id              INTEGER PRIMARY KEY,
    name            TEXT NOT NULL UNIQUE,
    backend         TEXT NOT NULL,
    options         TEXT NOT NULL,  -- JSON: what it was started with
    conversation    TEXT,
    model           TEXT,
    permission_mode TEXT NOT NULL,
    generation      INTEGER NOT NULL,
    checkpoint      TEXT,           -- JSON: the backend's place in the input of this generation
    state           TEXT NOT NULL,
    reason          TEXT,
    started_at      REAL,
    created_at      REAL NOT NULL,
    restarts        INTEGER NOT NULL,
    turns           INTEGER NOT NULL,
    usage           TEXT NOT NULL,  -- JSON
    cost_usd        REAL NOT NULL
);

CREATE TABLE turns (
    id          INTEGER PRIMARY KEY,
    session     INTEGER NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    turn        TEXT NOT NULL,
    number      INTEGER NOT NULL,
    key         TEXT,
    phase       TEXT NOT NULL,
    generation  INTEGER,
    author      TEXT,
    source      TEXT NOT NULL,
    status      TEXT NOT NULL,
    text        TEXT NOT NULL,
    error       TEXT,               -- JSON
    usage       TEXT,               -- JSON
    cost_usd    REAL,
    queued_at   REAL NOT NULL,
    started_at  REAL,
    finished_at REAL,
    UNIQUE (session, turn)
);
CREATE INDEX turns_in_order ON turns (session, number);
CREATE INDEX turns_open ON turns (session) WHERE phase <> 'finished';
CREATE UNIQUE INDEX turns_by_key ON turns (session, key) WHERE key IS NOT NULL;

CREATE TABLE prompts (
    turn   INTEGER PRIMARY KEY REFERENCES turns (id) ON DELETE CASCADE,
    prompt TEXT NOT NULL
);

CREATE TABLE blocks (
    turn     INTEGER NOT NULL REFERENCES turns (id) ON DELETE CASCADE,
    block    INTEGER NOT NULL,
    kind     TEXT NOT NULL,         -- text, thinking or tool
    parent   TEXT,
    message  TEXT NOT NULL,         -- of which answer of Claude it is a part
    text     TEXT,                  -- of text and thinking
    tool     TEXT,                  -- from here on: of tool
    name     TEXT,
    input    TEXT,                  -- JSON
    output   TEXT,                  -- NULL while it runs
    is_error INTEGER,
    PRIMARY KEY (turn, block)
);

CREATE TABLE requests (
    session     INTEGER NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    request     TEXT NOT NULL,
    turn        TEXT NOT NULL,
    kind        TEXT NOT NULL,
    tool        TEXT NOT NULL,
    call        TEXT,
    input       TEXT NOT NULL,      -- JSON
    suggestions TEXT NOT NULL,      -- JSON
    opened_at   REAL NOT NULL,
    outcome     TEXT,               -- NULL while it is open
    closed_by   TEXT,
    closed_at   REAL,
    PRIMARY KEY (session, request)
);
CREATE INDEX requests_open ON requests (session) WHERE outcome IS NULL;
"""

# Of a turn that is not kept any more its id is, so that whoever reads the history backwards finds its end
# there and not an error, and of one with a key what answers a duplicate.
PRUNED = """
CREATE TABLE pruned (
    session INTEGER NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    turn    TEXT NOT NULL,
    key     TEXT,
    status  TEXT,                   -- from here on: of a turn with a key
    digest  BLOB,                   -- SHA-256 of its prompt
    PRIMARY KEY (session, turn)
) WITHOUT ROWID;
CREATE UNIQUE INDEX pruned_by_key ON pruned (session, key) WHERE key IS NOT NULL;
"""

# Read by their own when they are sent, and else without their bytes, which therefore stand last.
ATTACHMENTS = """
CREATE TABLE attachments (
    turn       INTEGER NOT NULL REFERENCES turns (id) ON DELETE CASCADE,
    number     INTEGER NOT NULL,    -- from 0, as they came
    name       TEXT NOT NULL,
    media_type TEXT NOT NULL,
    size       INTEGER NOT NULL,    -- bytes
    digest     TEXT NOT NULL,       -- SHA-256, in hex
    data       BLOB NOT NULL,
    PRIMARY KEY (turn, number)
);
"""

# A row is never taken away: it stays when its session and its turns are not kept any more.
SPENDING = """
CREATE TABLE spending (
    day     TEXT NOT NULL,          -- UTC, YYYY-MM-DD
    author  TEXT NOT NULL,          -- the token's name; empty: somebody in the terminal
    session TEXT NOT NULL,          -- its name
    turns   INTEGER NOT NULL,       -- that were begun and are finished
    cost_usd REAL NOT NULL,
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    cache_creation_input_tokens INTEGER NOT NULL,
    cache_read_input_tokens INTEGER NOT NULL,
    PRIMARY KEY (day, author, session)
) WITHOUT ROWID;
"""

# What Claude has said of the account's limit: when it resets, and why the session waits.
LIMITED = """
ALTER TABLE sessions ADD COLUMN limited_until REAL;
ALTER TABLE sessions ADD COLUMN limited_why TEXT;
"""

MIGRATIONS: tuple[str, ...] = (SCHEMA, PRUNED, ATTACHMENTS, SPENDING, LIMITED)
"""`MIGRATIONS[n]` makes version n + 1 of version n. Appended to, never edited."""

CHECK_WHOLE_BYTES = 256 * 1024 * 1024
"""Up to this size a file is checked whole when it is opened (about 1 GB/s); of a larger one only the
tables that a start needs, so that adoption never waits for the history."""

LOG_BYTES = 16 * 1024 * 1024
"""What the log beside the file shrinks to once a burst has been folded in; else it would keep its size."""

NO_ROOM_BYTES = 64 * 1024
"""Less than what SQLite needs to open a file."""

DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

OF_THE_FILE = DAMAGED | {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_READONLY,
}
"""Errors that say something of the file or its disk, and nothing of what was to be written."""

ROOM_BYTES = 2 * 1024 * 1024
"""A prompt of the usual limit, 1 MiB, and as much again: with less, writing would soon fail again."""


def open_database(
    path: Path, clock: Clock, busy_s: float, migrations: Sequence[str] = MIGRATIONS
) -> tuple[sqlite3.Connection, sqlite3.Connection]:
    """A connection to write with and one to read with, at the newest version; both may change threads.

    A damaged file is moved aside, loudly, and a new one is begun: the sessions themselves live on.
    Any other trouble is a `JournalError` that leaves the file as it was.
    """
    try:
        _create(path)
        try:
            return _open(path, busy_s, migrations)
        except sqlite3.DatabaseError as e:
            if _primary(e) not in DAMAGED:
                raise
            kept = _move_aside(path, clock)
            log.error("journal was damaged and moved aside", path=str(path), kept=str(kept), problem=str(e))
        _create(path)
        return _open(path, busy_s, migrations)
    except sqlite3.Error as e:
        # What SQLite makes beside the file has no room then, which it calls an I/O error.
        full = path.parent.exists() and shutil.disk_usage(path.resolve().parent).free < NO_ROOM_BYTES
        why = "the disk is full" if full else describe(e)
        raise JournalError(f"The journal {path} cannot be opened: {why}") from e
    except OSError as e:
        raise JournalError(f"The journal {path} cannot be opened: {e.strerror or e}") from e


def describe(error: Exception) -> str:
    """What went wrong, for a person: SQLite's own words, and what they mean where they do not tell."""
    match _primary(error):
        case sqlite3.SQLITE_BUSY:
            return "another process has locked it"
        case sqlite3.SQLITE_FULL:
            return "the disk is full"
        case code if code in DAMAGED:
            return f"it is damaged ({error}); once the bridge is restarted, it begins a new one"
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN:
            return f"the file or its folder cannot be written to ({error})"
        case _:
            return str(error)


def of_the_file(error: Exception) -> bool:
    return _primary(error) in OF_THE_FILE


def damaged(error: Exception) -> bool:
    return _primary(error) in DAMAGED


def try_writing(db: sqlite3.Connection, path: Path) -> None:
    """Change nothing, and find out in an open transaction whether something could be. Raises `OSError` where
    the disk lacks room; what the file itself objects to is raised here or by the commit."""
    descriptor, name = tempfile.mkstemp(prefix=".room-", dir=path.resolve().parent)
    try:
        os.posix_fallocate(descriptor, 0, ROOM_BYTES)
    finally:
        os.close(descriptor)
        os.unlink(name)
    version: int = db.execute("PRAGMA user_version").fetchone()[0]
    db.execute(f"PRAGMA user_version = {version}")


def _primary(error: Exception) -> int | None:
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _create(path: Path) -> None:
    # SQLite gives the files beside it (-wal, -shm) the mode that this one has.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)


def _open(
    path: Path, busy_s: float, migrations: Sequence[str]
) -> tuple[sqlite3.Connection, sqlite3.Connection]:
    writer = _connect(path, busy_s)
    try:
        _check(writer, path)
        # Of a new file, which is empty; in one that has tables it changes nothing.
        writer.execute("PRAGMA auto_vacuum = INCREMENTAL")
        mode = writer.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            raise JournalError(
                f"The journal {path} cannot be opened: its file system has no shared memory for SQLite's WAL"
            )
        writer.execute("PRAGMA synchronous = FULL")
        writer.execute("PRAGMA foreign_keys = ON")
        writer.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
        migrate(writer, path, migrations)
        reader = _connect(path, busy_s)
    except BaseException:
        writer.close()
        raise
    reader.execute("PRAGMA query_only = ON")
    return writer, reader


def _connect(path: Path, busy_s: float) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=busy_s, isolation_level=None, check_same_thread=False)
    db.row_factory = sqlite3.Row
    db.text_factory = _text
    return db


def _text(raw: bytes) -> str | bytes:
    # Bytes that are no UTF-8 spoil their row, which is then found bad, not the query that meets them.
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def _check(db: sqlite3.Connection, path: Path) -> None:
    """Raise a `DatabaseError` of a kind in `DAMAGED` where the file cannot be trusted."""
    tables: list[str] = [""]
    if path.stat().st_size > CHECK_WHOLE_BYTES:
        names = db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
        tables = [f"('{row['name']}')" for row in names if row["name"] in ("sessions", "requests", "turns")]
    for table in tables:
        # Rows that break a constraint are bad records, to be skipped one by one; what counts is the tree.
        for (verdict,) in db.execute(f"PRAGMA quick_check{table}").fetchall():
            if verdict != "ok" and not verdict.startswith(
                ("NULL value in", "CHECK constraint", "NUMERIC value")
            ):
                error = sqlite3.DatabaseError(verdict)
                error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
                raise error


def migrate(db: sqlite3.Connection, path: Path, migrations: Sequence[str] = MIGRATIONS) -> None:
    """Bring the file to the newest version, each step whole or not at all."""
    version: int = db.execute("PRAGMA user_version").fetchone()[0]
    if version > len(migrations):
        raise JournalError(
            f"The journal {path} was written by a newer claude-bridge"
            f" (version {version}, this one knows {len(migrations)}): start that one, or move the file away"
        )
    for number, script in enumerate(migrations[version:], start=version + 1):
        try:
            db.executescript(f"BEGIN IMMEDIATE;\n{script};\nPRAGMA user_version = {number};\nCOMMIT;")
        except sqlite3.Error:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        if version:
            log.info("journal migrated", path=str(path), version=number)


def _move_aside(path: Path, clock: Clock) -> Path:
    stamp = datetime.fromtimestamp(clock.now(), UTC).strftime("%Y%m%dT%H%M%SZ")
    kept = path.with_name(f"{path.name}.corrupt-{stamp}")
    count = 1
    while kept.exists():
        count += 1
        kept = path.with_name(f"{path.name}.corrupt-{stamp}-{count}")
    # The log goes with its file, so that whoever repairs it finds all of it.
    for suffix in ("-wal", "-shm", ""):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(kept.with_name(kept.name + suffix))
    return kept
