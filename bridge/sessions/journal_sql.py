"""Between the journal's rows and the values of `records`: one function per operation and per question.

Synchronous, on a connection it is handed. A row that cannot be understood is told apart from a file
that cannot be read: the first is skipped and logged (without what it says), the second raises.
"""

# ruff: noqa: S608 - statements are put together from the columns of our own schema and nothing else

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, fields, replace
from typing import Any, TypeVar, get_args

import orjson
import structlog
from pydantic import TypeAdapter, ValidationError

from bridge.commands import INNER, NAME
from bridge.errors import JournalError, TurnNotFound
from bridge.events import AnyBlock, Block, Outcome, Request, ToolBlock, Turn, TurnId
from bridge.sessions import journal_copy, journal_files, journal_spending
from bridge.sessions.records import (
    CloseRequest,
    CopyTurns,
    DeleteSession,
    DropTurns,
    GiveBack,
    LoadedSession,
    MoveCheckpoint,
    Op,
    PrunedTurn,
    PruneTurns,
    SaveBlock,
    SaveFiles,
    SaveRequest,
    SaveSession,
    SaveTurn,
    SessionRecord,
    TurnRecord,
    digest_of,
)

log = structlog.get_logger(__name__)

T = TypeVar("T")
Row = sqlite3.Row

SESSION_ID = "(SELECT id FROM sessions WHERE name = :session)"
# A field of these records and its column have one name; a new field needs a migration beside it.
SESSION_COLUMNS = tuple(f.name for f in fields(SessionRecord))
TURN_FIELDS = tuple(
    f.name for f in fields(Turn) if f.name not in ("id", "prompt", "blocks", "reason", "attachments")
)
"""`reason` is found out anew."""
TURN_COLUMNS = ("number", "phase", "generation", *TURN_FIELDS)
TURNS = "SELECT turns.*, prompts.prompt FROM turns LEFT JOIN prompts ON prompts.turn = turns.id"
TEXT_FIELDS = tuple(f.name for f in fields(Block))
TOOL_FIELDS = tuple(f.name for f in fields(ToolBlock))
BLOCK_COLUMNS = tuple(dict.fromkeys(("block", "kind", *TEXT_FIELDS, *TOOL_FIELDS)))
REQUEST_COLUMNS = tuple(f.name for f in fields(Request) if f.name != "id")
OUTCOMES = get_args(Outcome)
ENDLESS = 2**63 - 1
INCREMENTAL = 2
"""What SQLite calls `auto_vacuum = INCREMENTAL`."""


# --- writing ------------------------------------------------------------------------------------


def apply(db: sqlite3.Connection, op: Op, damaged: frozenset[str] | set[str] = frozenset()) -> None:
    """Make `op` true, within the transaction that is open.

    `damaged` are names whose row could not be understood when it was loaded: a session that takes such
    a name gets a row of its own, and the old one is kept beside it, as `<name>~<id>`.
    """
    match op:
        case SaveSession(record):
            if record.name in damaged:
                db.execute("UPDATE sessions SET name = name || '~' || id WHERE name = ?", (record.name,))
            _save_session(db, record)
        case SaveTurn():
            _save_turn(db, op)
        case SaveFiles():
            journal_files.save(db, op)
        case SaveBlock():
            _save_block(db, op)
        case SaveRequest():
            _save_request(db, op)
        case CloseRequest():
            db.execute(
                "UPDATE requests SET outcome = :outcome, closed_by = :by, closed_at = :at"
                f" WHERE session = {SESSION_ID} AND request = :id AND outcome IS NULL",
                asdict(op),
            )
        case CopyTurns():
            journal_copy.copy_turns(db, op)
        case MoveCheckpoint():
            db.execute(
                "UPDATE sessions SET generation = :generation, checkpoint = :checkpoint"
                " WHERE name = :session AND generation <= :generation",
                {"session": op.session, "generation": op.generation, "checkpoint": _json(op.checkpoint)},
            )
        case DeleteSession(name):
            db.execute("DELETE FROM sessions WHERE name = ?", (name,))
        case PruneTurns():
            _prune_turns(db, op)
        case DropTurns():
            _drop_turns(db, op)
        case GiveBack(pages):
            for _ in range(pages):
                # One at a time: the module takes a single step of what has no columns, and that is one page.
                db.execute("PRAGMA incremental_vacuum(1)")


def _save_session(db: sqlite3.Connection, record: SessionRecord) -> None:
    row = {name: getattr(record, name) for name in SESSION_COLUMNS}
    row["options"] = _json(record.options.model_dump(exclude_none=True))
    row["checkpoint"] = _json(record.checkpoint)
    row["usage"] = _json(record.usage)
    db.execute(SAVE_SESSION, row)


def _save_turn(db: sqlite3.Connection, op: SaveTurn) -> None:
    turn = op.record.turn
    row = {name: getattr(turn, name) for name in TURN_FIELDS}
    row |= {"session": op.session, "turn": turn.id, "number": op.record.number}
    row |= {"phase": op.record.phase, "generation": op.record.generation}
    row |= {"error": _json(turn.error), "usage": _json(turn.usage)}
    if turn.finished_at is not None and op.record.phase == "finished" and not _finished(db, op):
        journal_spending.add(db, op.session, turn)
    if db.execute(UPDATE_TURN, row).rowcount:
        return
    inserted = db.execute(INSERT_TURN, row)
    if not inserted.rowcount:
        raise JournalError(f"there is no session {op.session!r} to save a turn of")
    db.execute("INSERT INTO prompts (turn, prompt) VALUES (?, ?)", (inserted.lastrowid, turn.prompt))


def _finished(db: sqlite3.Connection, op: SaveTurn) -> bool:
    """Whether that is on record already."""
    known = f"SELECT 1 FROM turns WHERE session = {SESSION_ID} AND turn = :turn AND phase = 'finished'"
    return db.execute(known, {"session": op.session, "turn": op.record.turn.id}).fetchone() is not None


def _save_block(db: sqlite3.Connection, op: SaveBlock) -> None:
    names = TOOL_FIELDS if isinstance(op.block, ToolBlock) else TEXT_FIELDS
    row: dict[str, Any] = dict.fromkeys(BLOCK_COLUMNS) | {name: getattr(op.block, name) for name in names}
    row |= {"session": op.session, "turn": op.turn, "kind": op.block.kind, "input": _json(row["input"])}
    if not db.execute(SAVE_BLOCK, row).rowcount:
        raise JournalError(f"there is no turn {op.turn!r} in session {op.session!r} to save a block of")


def _save_request(db: sqlite3.Connection, op: SaveRequest) -> None:
    request = op.request
    row = {name: getattr(request, name) for name in REQUEST_COLUMNS}
    row |= {"session": op.session, "request": request.id}
    row |= {"input": _json(request.input), "suggestions": _json(request.suggestions)}
    if not db.execute(SAVE_REQUEST, row).rowcount:
        raise JournalError(f"there is no session {op.session!r} to save a request of")


def _prune_turns(db: sqlite3.Connection, op: PruneTurns) -> None:
    for turn in op.turns:
        row = _one_turn(db, op.session, "turns.turn = :value AND phase = 'finished'", turn)
        if row is None:
            continue
        key, prompt = row["key"], row["prompt"]
        digest = None
        if key is not None and prompt is not None:
            digest = digest_of(prompt, journal_files.described(db, row["id"]))
        status = row["status"] if key is not None else None
        db.execute(
            "INSERT INTO pruned (session, turn, key, status, digest) VALUES (?, ?, ?, ?, ?)",
            (row["session"], turn, key, status, digest),
        )
        db.execute("DELETE FROM turns WHERE id = ?", (row["id"],))
    _drop_requests(db, op.session, op.turns)


def _drop_turns(db: sqlite3.Connection, op: DropTurns) -> None:
    marks = ", ".join("?" * len(op.turns))
    db.execute(
        f"DELETE FROM turns WHERE session = (SELECT id FROM sessions WHERE name = ?) AND turn IN ({marks})"
        " AND phase = 'finished'",
        (op.session, *op.turns),
    )
    _drop_requests(db, op.session, op.turns)


def _drop_requests(db: sqlite3.Connection, session: str, turns: tuple[TurnId, ...]) -> None:
    marks = ", ".join("?" * len(turns))
    db.execute(
        f"DELETE FROM requests WHERE session = (SELECT id FROM sessions WHERE name = ?) AND turn IN ({marks})"
        " AND outcome IS NOT NULL",
        (session, *turns),
    )


def _json(value: object) -> str | None:
    return None if value is None else orjson.dumps(value).decode()


def _names(columns: Iterable[str]) -> str:
    return ", ".join(columns)


def _marks(columns: Iterable[str]) -> str:
    return ", ".join(f":{name}" for name in columns)


def _sets(columns: Iterable[str], source: str = "excluded.") -> str:
    return ", ".join(f"{name} = {source}{name}" for name in columns)


SAVE_SESSION = (
    f"INSERT INTO sessions ({_names(SESSION_COLUMNS)}) VALUES ({_marks(SESSION_COLUMNS)})"
    f" ON CONFLICT (name) DO UPDATE SET {_sets(SESSION_COLUMNS[1:])}"
)
UPDATE_TURN = f"UPDATE turns SET {_sets(TURN_COLUMNS, ':')} WHERE session = {SESSION_ID} AND turn = :turn"
INSERT_TURN = (
    f"INSERT INTO turns (session, turn, {_names(TURN_COLUMNS)})"
    f" SELECT id, :turn, {_marks(TURN_COLUMNS)} FROM sessions WHERE name = :session"
)
SAVE_BLOCK = (
    f"INSERT INTO blocks (turn, {_names(BLOCK_COLUMNS)})"
    f" SELECT id, {_marks(BLOCK_COLUMNS)} FROM turns WHERE session = {SESSION_ID} AND turn = :turn"
    f" ON CONFLICT (turn, block) DO UPDATE SET {_sets(BLOCK_COLUMNS[1:])}"
)
SAVE_REQUEST = (
    f"INSERT INTO requests (session, request, {_names(REQUEST_COLUMNS)})"
    f" SELECT id, :request, {_marks(REQUEST_COLUMNS)} FROM sessions WHERE name = :session"
    f" ON CONFLICT (session, request) DO UPDATE SET {_sets(REQUEST_COLUMNS)},"
    " outcome = NULL, closed_by = NULL, closed_at = NULL"
)


# --- reading ------------------------------------------------------------------------------------

_session = TypeAdapter(SessionRecord)
_turn = TypeAdapter(TurnRecord)
_block = TypeAdapter(Block)
_tool = TypeAdapter(ToolBlock)
_request = TypeAdapter(Request)


class BadRow(Exception):
    """A row that cannot be understood; its text says which column, never what stands there."""


def load(db: sqlite3.Connection, name: str | None = None) -> tuple[list[LoadedSession], set[str]]:
    """Every session (or the one called `name`) as it stands, and the names of rows not understood."""
    only = {"name": name}
    mine = ":name IS NULL OR session = (SELECT id FROM sessions WHERE name = :name)"
    turns = _grouped(db, f"{TURNS} WHERE phase <> 'finished' AND ({mine}) ORDER BY number, turns.id", only)
    requests = _grouped(db, f"SELECT * FROM requests WHERE outcome IS NULL AND ({mine}) ORDER BY rowid", only)
    loaded: list[LoadedSession] = []
    damaged: set[str] = set()
    stored = db.execute("SELECT * FROM sessions WHERE :name IS NULL OR name = :name ORDER BY id", only)
    for row in stored.fetchall():
        record = _understood("sessions", row, read_session)
        if record is None:
            damaged.add(str(row["name"]))
            continue
        open_turns = tuple(_turns_with_blocks(db, turns.get(row["id"], [])))
        found = (_understood("requests", r, read_request) for r in requests.get(row["id"], []))
        opened = tuple(request for request in found if request is not None)
        loaded.append(LoadedSession(record, open_turns, opened, _last_number(db, row["id"])))
    return loaded, damaged


def _last_number(db: sqlite3.Connection, session: int) -> int:
    query = "SELECT max(number) FROM turns WHERE session = ? AND typeof(number) = 'integer'"
    highest: int | None = db.execute(query, (session,)).fetchone()[0]
    return highest or 0


def finished_turns(
    db: sqlite3.Connection, session: str, before: TurnId | None, limit: int
) -> tuple[Turn, ...]:
    """The last `limit` finished turns before the turn `before`, newest last.

    Raises `TurnNotFound` where the session had no turn `before`.
    """
    number: int | None = None
    if before is not None:
        row = _one_turn(db, session, "turns.turn = :value", before)
        if row is None and _one_pruned(db, session, "turn = :value", before) is not None:
            return ()  # those before it went with it
        if row is None:
            raise TurnNotFound(before, f"There is no turn {before} to read on from.")
        number = row["number"]
    rows = db.execute(
        f"{TURNS} WHERE session = {SESSION_ID} AND phase = 'finished'"
        f" AND number < coalesce(:number, {ENDLESS}) ORDER BY number DESC, turns.id DESC LIMIT :limit",
        {"session": session, "number": number, "limit": limit},
    ).fetchall()
    return tuple(record.turn for record in _turns_with_blocks(db, rows[::-1]))


def turn_by_id(db: sqlite3.Connection, session: str, turn: TurnId) -> TurnRecord | None:
    return _one_record(db, _one_turn(db, session, "turns.turn = :value", turn))


def turn_by_key(db: sqlite3.Connection, session: str, key: str) -> TurnRecord | PrunedTurn | None:
    found = _one_record(db, _one_turn(db, session, "turns.key = :value", key))
    if found is not None:
        return found
    row = _one_pruned(db, session, "key = :value", key)
    return None if row is None else PrunedTurn(row["turn"], row["status"], row["digest"])


def prunable(
    db: sqlite3.Connection, session: str, keep: int | None, before: float | None, limit: int
) -> tuple[TurnId, ...]:
    """The oldest finished turns, `limit` at most, that are not among the newest `keep`, or ended before the
    time `before` (None: that is no reason).

    It reads no further than that, so that asking costs the same however long the history is.
    """
    cut: int | None = None
    if keep is not None:
        finished = f"SELECT number FROM turns WHERE session = {SESSION_ID} AND phase = 'finished'"
        query = f"{finished} ORDER BY number DESC LIMIT 1 OFFSET :keep"
        row = db.execute(query, {"session": session, "keep": keep}).fetchone()
        cut = None if row is None else row["number"]
    oldest = db.execute(
        f"SELECT turn, number, finished_at FROM turns WHERE session = {SESSION_ID} AND phase = 'finished'"
        " ORDER BY number LIMIT :limit",
        {"session": session, "limit": limit},
    )
    return tuple(
        row["turn"]
        for row in oldest.fetchall()
        if (cut is not None and row["number"] <= cut)
        or (before is not None and row["finished_at"] is not None and row["finished_at"] < before)
    )


def spare_pages(db: sqlite3.Connection) -> int:
    """Free pages that `GiveBack` can give back: none of a file that was begun before it could."""
    if db.execute("PRAGMA auto_vacuum").fetchone()[0] != INCREMENTAL:
        return 0
    free: int = db.execute("PRAGMA freelist_count").fetchone()[0]
    return free


def closed_request(db: sqlite3.Connection, session: str, request: str) -> tuple[Outcome, str | None] | None:
    row = db.execute(
        f"SELECT outcome, closed_by FROM requests WHERE session = {SESSION_ID} AND request = :request",
        {"session": session, "request": request},
    ).fetchone()
    if row is None or row["outcome"] not in OUTCOMES:
        return None
    return row["outcome"], row["closed_by"]


def _one_turn(db: sqlite3.Connection, session: str, condition: str, value: str) -> Row | None:
    found: Row | None = db.execute(
        f"{TURNS} WHERE session = {SESSION_ID} AND {condition}", {"session": session, "value": value}
    ).fetchone()
    return found


def _one_pruned(db: sqlite3.Connection, session: str, condition: str, value: str) -> Row | None:
    found: Row | None = db.execute(
        f"SELECT * FROM pruned WHERE session = {SESSION_ID} AND {condition}",
        {"session": session, "value": value},
    ).fetchone()
    return found


def _one_record(db: sqlite3.Connection, row: Row | None) -> TurnRecord | None:
    if row is None:
        return None
    for record in _turns_with_blocks(db, [row]):
        return record
    # "There is none" would be wrong: its key has been used, its prompt may have run.
    raise JournalError("the record of this turn is damaged")


def _grouped(db: sqlite3.Connection, query: str, parameters: dict[str, str | None]) -> dict[int, list[Row]]:
    groups: dict[int, list[Row]] = {}
    for row in db.execute(query, parameters).fetchall():
        groups.setdefault(row["session"], []).append(row)
    return groups


def _turns_with_blocks(db: sqlite3.Connection, rows: Iterable[Row]) -> Iterator[TurnRecord]:
    for row in rows:
        record = _understood("turns", row, read_turn)
        if record is None:
            continue
        stored = db.execute("SELECT * FROM blocks WHERE turn = ? ORDER BY block", (row["id"],)).fetchall()
        found = (_understood("blocks", block, read_block) for block in stored)
        blocks = tuple(block for block in found if block is not None)
        attachments = journal_files.described(db, row["id"])
        yield replace(record, turn=replace(record.turn, blocks=blocks, attachments=attachments))


def _understood(table: str, row: Row, read: Callable[[Row], T]) -> T | None:
    try:
        return read(row)
    except BadRow as e:
        where = {
            name: row[name]
            for name in ("id", "session", "turn", "block", "request")
            if name in set(row.keys())
        }
        log.error("journal record was skipped and kept", table=table, row=where, problem=str(e))
        return None


def read_session(row: Row) -> SessionRecord:
    name = row["name"]
    if not isinstance(name, str) or not (NAME.fullmatch(name) or INNER.fullmatch(name)):
        raise BadRow("name: is no name of a session")
    stored = {name: row[name] for name in SESSION_COLUMNS}
    stored |= {name: _unjson(name, row[name]) for name in ("options", "checkpoint", "usage")}
    return _valid(_session, stored)


def read_turn(row: Row) -> TurnRecord:
    turn = {name: row[name] for name in TURN_FIELDS} | {"id": row["turn"], "prompt": row["prompt"]}
    turn |= {name: _unjson(name, row[name]) for name in ("error", "usage")}
    return _valid(_turn, {"turn": turn, **{name: row[name] for name in ("number", "phase", "generation")}})


def read_block(row: Row) -> AnyBlock:
    if row["kind"] != ToolBlock.kind:
        return _valid(_block, {name: row[name] for name in TEXT_FIELDS})
    return _valid(
        _tool, {name: row[name] for name in TOOL_FIELDS} | {"input": _unjson("input", row["input"])}
    )


def read_request(row: Row) -> Request:
    stored = {name: row[name] for name in REQUEST_COLUMNS} | {"id": row["request"]}
    return _valid(_request, stored | {name: _unjson(name, row[name]) for name in ("input", "suggestions")})


def _valid(adapter: TypeAdapter[T], stored: dict[str, Any]) -> T:
    try:
        return adapter.validate_python(stored)
    except ValidationError as e:
        problems = e.errors(include_input=False, include_url=False, include_context=False)
        raise BadRow("; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in problems)) from None


def _unjson(column: str, text: object) -> Any:
    if text is None:
        return None
    try:
        return orjson.loads(text if isinstance(text, str) else b"")
    except orjson.JSONDecodeError:
        raise BadRow(f"{column}: is no JSON") from None
