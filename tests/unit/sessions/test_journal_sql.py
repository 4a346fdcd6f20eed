"""What is written is read, and a record that cannot be understood stops no other."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from bridge.clock import SystemClock
from bridge.errors import JournalError, TurnNotFound
from bridge.events import Block, Request, SessionName, ToolBlock, TurnId
from bridge.sessions import journal_sql
from bridge.sessions.journal import (
    CloseRequest,
    DeleteSession,
    Journal,
    MoveCheckpoint,
    Op,
    SaveBlock,
    SaveRequest,
    SaveSession,
    SaveTurn,
    SessionRecord,
    TurnRecord,
)
from bridge.sessions.journal_schema import open_database
from tests.fakes.journals import damage, reopened
from tests.fakes.records import DEMO, blocks, request, requests, session, sessions, turn, turn_records


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    path = tmp_path_factory.mktemp("rows") / "journal.db"
    writer, reader = open_database(path, SystemClock(), 1.0)
    yield writer
    reader.close()
    writer.close()


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sessions, turn_records, st.lists(requests, max_size=3, unique_by=lambda r: r.id))
def test_a_session_is_read_as_it_was_written(
    connection: sqlite3.Connection, record: SessionRecord, kept: TurnRecord, asked: list[Request]
) -> None:
    """Any session with a turn, its blocks and its requests comes back equal."""
    ops: list[Op] = [DeleteSession(DEMO), SaveSession(record), SaveTurn(DEMO, kept)]
    ops += [SaveBlock(DEMO, kept.turn.id, block) for block in kept.turn.blocks]
    ops += [SaveRequest(DEMO, one) for one in asked]
    for op in ops:
        journal_sql.apply(connection, op)

    [loaded], damaged = journal_sql.load(connection)

    assert damaged == set()
    assert loaded.record == record
    assert loaded.open_turns == (() if kept.phase == "finished" else (kept,))
    assert set(map(repr, loaded.requests)) == set(map(repr, asked))
    assert loaded.last_number == kept.number
    assert journal_sql.turn_by_id(connection, DEMO, kept.turn.id) == kept
    assert journal_sql.finished_turns(connection, DEMO, None, 5) == (
        (kept.turn,) if kept.phase == "finished" else ()
    )


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sessions, sessions, turn_records, turn_records, blocks, blocks)
def test_the_last_word_on_a_record_counts(
    connection: sqlite3.Connection,
    first: SessionRecord,
    last: SessionRecord,
    queued: TurnRecord,
    later: TurnRecord,
    preview: Any,
    settled: Any,
) -> None:
    """Saving again replaces all but the prompt, and saving the same twice changes nothing."""
    later = replace(later, turn=replace(later.turn, prompt=queued.turn.prompt, blocks=(settled,)))
    for op in (
        DeleteSession(DEMO),
        SaveSession(first),
        SaveTurn(DEMO, queued),
        SaveBlock(DEMO, queued.turn.id, preview),
        *[SaveSession(last), SaveTurn(DEMO, later), SaveBlock(DEMO, later.turn.id, settled)] * 2,
    ):
        journal_sql.apply(connection, op)

    [loaded], _ = journal_sql.load(connection)

    assert loaded.record == last
    assert journal_sql.turn_by_id(connection, DEMO, later.turn.id) == later


async def test_open_turns_load_in_their_order(journal: Journal) -> None:
    """The queue runs on in the order of the numbers, whatever was written last."""
    await journal.write([SaveSession(session()), *(SaveTurn(DEMO, turn(n)) for n in (3, 1, 2))])
    await journal.write([SaveTurn(DEMO, turn(1, "sent"))])

    [loaded] = await journal.load()

    assert [(t.number, t.phase) for t in loaded.open_turns] == [(1, "sent"), (2, "queued"), (3, "queued")]


async def test_one_session_loads_alone(journal: Journal) -> None:
    """A session whose task crashed is read again without the others."""
    await journal.write([SaveSession(session("a")), SaveSession(session("b"))])
    await journal.write([SaveTurn(SessionName("b"), turn(7))])

    [loaded] = await journal.load(SessionName("b"))

    assert (loaded.record.name, loaded.last_number, len(loaded.open_turns)) == ("b", 7, 1)
    assert await journal.load(SessionName("none")) == []


async def test_history_pages_back_newest_last(journal: Journal) -> None:
    """`before` names the oldest turn one has; what is not finished is no history."""
    finished = [SaveTurn(DEMO, turn(n, "finished")) for n in range(1, 6)]
    await journal.write([SaveSession(session()), *finished, SaveTurn(DEMO, turn(6))])

    newest = await journal.turns(DEMO, None, 2)
    older = await journal.turns(DEMO, newest[0].id, 2)
    oldest = await journal.turns(DEMO, older[0].id, 2)

    assert [[t.id for t in page] for page in (oldest, older, newest)] == [["t1"], ["t2", "t3"], ["t4", "t5"]]


async def test_history_before_an_unknown_turn_is_refused(journal: Journal) -> None:
    """An empty page would say that there is nothing older."""
    await journal.write([SaveSession(session())])

    with pytest.raises(TurnNotFound):
        await journal.turns(DEMO, TurnId("none"), 5)


async def test_a_turn_is_found_by_its_key(journal: Journal) -> None:
    """The same idempotency key finds the first turn, with what it said so far."""
    block = Block(0, "text", "so far")
    await journal.write([SaveSession(session()), SaveTurn(DEMO, turn(1, key="k"))])
    await journal.write([SaveBlock(DEMO, TurnId("t1"), block)])

    assert await journal.by_key(DEMO, "k") == turn(1, key="k", blocks=(block,))
    assert await journal.by_key(DEMO, "other") is None
    assert await journal.by_key(SessionName("other"), "k") is None


async def test_a_key_is_never_given_to_two_turns(journal: Journal) -> None:
    """The last wall against running a prompt twice: the second turn of a key is refused."""
    await journal.write([SaveSession(session()), SaveTurn(DEMO, turn(1, key="k"))])

    with pytest.raises(JournalError):
        await journal.write([SaveTurn(DEMO, turn(2, key="k"))])

    assert await journal.turn(DEMO, TurnId("t2")) is None


async def test_the_first_answer_to_a_request_stays(journal: Journal) -> None:
    """A closed request is not open any more, and a second closing changes nothing."""
    await journal.write([SaveSession(session()), SaveRequest(DEMO, request())])
    assert await journal.closed_request(DEMO, request().id) is None

    await journal.write([CloseRequest(DEMO, request().id, "allowed", "ann", 6.0)])
    await journal.write([CloseRequest(DEMO, request().id, "denied", "bob", 7.0)])

    [loaded] = await journal.load()
    assert loaded.requests == ()
    assert await journal.closed_request(DEMO, request().id) == ("allowed", "ann")


async def test_a_request_asked_again_is_open_again(journal: Journal) -> None:
    """A request that nobody can answer any more would hold its turn for ever."""
    await journal.write([SaveSession(session()), SaveRequest(DEMO, request())])
    await journal.write([CloseRequest(DEMO, request().id, "withdrawn", None, 6.0)])
    await journal.write([SaveRequest(DEMO, request())])

    [loaded] = await journal.load()
    assert loaded.requests == (request(),)
    assert await journal.closed_request(DEMO, request().id) is None


async def test_a_checkpoint_never_moves_back_a_generation(journal: Journal) -> None:
    """What an earlier process still says must not be taken for the place in the later one's input."""
    await journal.write([SaveSession(session(generation=2, checkpoint={"offset": 5}))])
    await journal.write([MoveCheckpoint(DEMO, 1, {"offset": 900})])
    [stale] = await journal.load()
    await journal.write([MoveCheckpoint(DEMO, 2, {"offset": 7})])
    [moved] = await journal.load()

    assert (stale.record.checkpoint, moved.record.checkpoint) == ({"offset": 5}, {"offset": 7})


async def test_a_deleted_session_leaves_nothing(journal: Journal) -> None:
    """Its turns, prompts, blocks and requests go with it, and its keys are free again."""
    whole = [SaveSession(session()), SaveTurn(DEMO, turn(1, key="k")), SaveRequest(DEMO, request())]
    await journal.write([*whole, SaveBlock(DEMO, TurnId("t1"), Block(0, "text", "x"))])
    await journal.write([DeleteSession(DEMO), DeleteSession(SessionName("none"))])

    db = sqlite3.connect(journal.path)
    tables = ("sessions", "turns", "prompts", "blocks", "requests")
    left = [db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables]
    db.close()
    assert left == [0, 0, 0, 0, 0]


# --- bad records --------------------------------------------------------------------------------


async def test_a_bad_session_does_not_stop_the_others(tmp_path: Path) -> None:
    """It is skipped, said loudly and without its content, and its row stays as it is."""
    path = tmp_path / "journal.db"
    async with reopened(path) as journal:
        await journal.write([SaveSession(session(name)) for name in ("a", "bad", "c")])
    damage(
        path, "UPDATE sessions SET options = ? WHERE name = 'bad'", '{"model": "secret", "colour": "secret"}'
    )

    async with reopened(path) as journal:
        with capture_logs() as logs:
            loaded = await journal.load()
        await journal.write([SaveSession(session("c", turns=1))])

    assert [one.record.name for one in loaded] == ["a", "c"]
    [line] = logs
    assert (line["log_level"], line["table"]) == ("error", "sessions")
    assert "options.colour" in line["problem"]
    assert "secret" not in str(line)
    db = sqlite3.connect(path)
    assert db.execute("SELECT count(*) FROM sessions WHERE options LIKE '%secret%'").fetchone() == (1,)
    db.close()


async def test_a_session_that_takes_a_bad_ones_name_leaves_its_record_alone(tmp_path: Path) -> None:
    """The bad record is kept beside it, with its turns; the new session begins with none."""
    path = tmp_path / "journal.db"
    async with reopened(path) as journal:
        await journal.write([SaveSession(session()), SaveTurn(DEMO, turn(1, key="k"))])
    damage(path, "UPDATE sessions SET state = 'dancing'")

    async with reopened(path) as journal:
        assert await journal.load() == []
        await journal.write([SaveSession(session()), SaveTurn(DEMO, turn(1, key="k"))])
        await journal.write([SaveSession(session(turns=1))])
        [loaded] = await journal.load()

    assert (loaded.record.turns, len(loaded.open_turns)) == (1, 1)
    db = sqlite3.connect(path)
    assert db.execute("SELECT name, state FROM sessions ORDER BY id").fetchall() == [
        ("demo~1", "dancing"),
        ("demo", "idle"),
    ]
    db.close()


@pytest.mark.parametrize(
    ("statement", "value", "left"),
    [
        ("UPDATE turns SET phase = ? WHERE turn = 't1'", "dancing", (["t2"], [], ["r1", "r2"])),
        ("UPDATE turns SET usage = ? WHERE turn = 't1'", "{", (["t2"], [], ["r1", "r2"])),
        ("UPDATE prompts SET prompt = CAST(? AS TEXT) WHERE turn = 1", b"\xff", (["t2"], [], ["r1", "r2"])),
        ("UPDATE blocks SET text = ? WHERE block = 0", None, (["t1", "t2"], [1], ["r1", "r2"])),
        ("UPDATE blocks SET kind = ? WHERE block = 1", "song", (["t1", "t2"], [0], ["r1", "r2"])),
        ("UPDATE blocks SET input = ? WHERE block = 1", "[]", (["t1", "t2"], [0], ["r1", "r2"])),
        ("UPDATE requests SET input = ? WHERE request = 'r1'", "no", (["t1", "t2"], [0, 1], ["r2"])),
    ],
)
async def test_a_bad_part_of_a_session_does_not_stop_the_rest(
    tmp_path: Path, statement: str, value: object, left: tuple[list[str], list[int], list[str]]
) -> None:
    """One turn, block or request that cannot be understood is skipped and logged; its session loads."""
    path = tmp_path / "journal.db"
    tool = ToolBlock(1, "toolu_1", "Bash", {"command": "ls"}, "out")
    async with reopened(path) as journal:
        await journal.write([SaveSession(session()), SaveTurn(DEMO, turn(1)), SaveTurn(DEMO, turn(2))])
        await journal.write([SaveBlock(DEMO, TurnId("t1"), b) for b in (Block(0, "text", "x"), tool)])
        await journal.write([SaveRequest(DEMO, request("r1")), SaveRequest(DEMO, request("r2", 6.0))])
    damage(path, statement, value)

    async with reopened(path) as journal:
        with capture_logs() as logs:
            [loaded] = await journal.load()

    found = [t.turn.id for t in loaded.open_turns]
    numbers = [b.block for t in loaded.open_turns for b in t.turn.blocks]
    assert (found, numbers, [r.id for r in loaded.requests]) == left
    assert [line["event"] for line in logs] == ["journal record was skipped and kept"]


async def test_the_key_of_a_bad_turn_is_not_free(tmp_path: Path) -> None:
    """Its prompt may have run: to say that there is no such turn would run it again."""
    path = tmp_path / "journal.db"
    async with reopened(path) as journal:
        await journal.write([SaveSession(session()), SaveTurn(DEMO, turn(1, key="k"))])
    damage(path, "UPDATE turns SET source = 'elsewhere'")

    async with reopened(path) as journal:
        with pytest.raises(JournalError, match="damaged"):
            await journal.by_key(DEMO, "k")
