"""Forks, and conversations from outside: registry, actor and journal together, and Claude's own files."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bridge.auth import ADMIN, Principal
from bridge.clock import SystemClock
from bridge.commands import (
    ConfigureSession,
    ForkSession,
    NameSession,
    StartSession,
    SubmitPrompt,
)
from bridge.errors import (
    BackendError,
    Forbidden,
    InvalidPayload,
    JournalError,
    SessionExists,
    SessionNotFound,
    TooManySessions,
    TurnNotFound,
)
from bridge.events import Block, SessionName, ToolBlock, Turn, TurnId
from bridge.service import Service
from bridge.sessions import journal_copy, journal_sql
from bridge.sessions.backends import forks as forks_module
from bridge.sessions.backends.base import Branch, KeptTurn, NothingToCopy
from bridge.sessions.backends.forks import TranscriptForks
from bridge.sessions.backends.past import TranscriptPast
from bridge.sessions.journal import DeleteSession, SaveBlock, SaveSession, SaveTurn
from bridge.sessions.journal_schema import open_database
from bridge.sessions.records import CopyTurns, SaveRequest
from tests.fakes.house import ME, House, call
from tests.fakes.records import DEMO, request, session, turn
from tests.unit.sessions.claude.test_past import golden, read

FORK = SessionName("fork")
BLOCKS = (
    Block(0, "thinking", "hm", message="m1"),
    ToolBlock(1, "c1", "Bash", {"command": "ls"}, "one", message="m1"),
    Block(2, "text", "Done.", message="m2"),
)


# --- the journal ------------------------------------------------------------------------------------


@pytest.fixture
def db(tmp_path: Path) -> Any:
    writer, reader = open_database(tmp_path / "journal.db", SystemClock(), 1.0)
    yield writer
    reader.close()
    writer.close()


def written(db: sqlite3.Connection, *ops: Any) -> None:
    for op in ops:
        journal_sql.apply(db, op)


def history(db: sqlite3.Connection, name: str) -> tuple[Turn, ...]:
    return journal_sql.finished_turns(db, name, None, 100)


def fill(db: sqlite3.Connection) -> None:
    """Turns 1 to 3 are finished, 4 runs, 5 was cancelled behind it."""
    written(db, SaveSession(session()))
    for number in range(1, 6):
        phase = "active" if number == 4 else "finished"
        written(db, SaveTurn(DEMO, turn(number, phase, key=f"key {number}", started_at=3.0)))
    written(db, *(SaveBlock(DEMO, TurnId("t2"), block) for block in BLOCKS))
    written(db, SaveRequest(DEMO, request()), SaveSession(session("fork")))


def test_a_copied_turn_is_the_same_turn_without_its_key(db: sqlite3.Connection) -> None:
    """Blocks and prompt with it; the original stays as it was; what people were asked is not copied."""
    fill(db)
    before = history(db, DEMO)
    written(db, CopyTurns(DEMO, FORK, TurnId("t5"), (TurnId("t4"),)))
    copied = history(db, FORK)
    assert [t.id for t in copied] == ["t1", "t2", "t3", "t5"]
    assert copied == tuple(_without_key(t) for t in before)
    assert copied[1].blocks
    assert history(db, DEMO) == before
    assert journal_sql.turn_by_key(db, FORK, "key 1") is None
    [loaded] = journal_sql.load(db, FORK)[0]
    assert (loaded.open_turns, loaded.requests, loaded.last_number) == ((), (), 5)


def _without_key(turn: Turn) -> Turn:
    return replace(turn, key=None)


def test_copying_once_more_changes_nothing(db: sqlite3.Connection) -> None:
    """Every operation says what is true from now on."""
    fill(db)
    for _ in range(2):
        written(db, CopyTurns(DEMO, FORK, TurnId("t2")))
        assert [t.id for t in history(db, FORK)] == ["t1", "t2"]


def test_what_was_not_finished_when_it_was_decided_is_not_copied(db: sqlite3.Connection) -> None:
    """It has ended meanwhile, and the conversation was cut before it."""
    fill(db)
    written(db, SaveTurn(DEMO, turn(4, "finished")), CopyTurns(DEMO, FORK, TurnId("t5"), (TurnId("t4"),)))
    assert [t.id for t in history(db, FORK)] == ["t1", "t2", "t3", "t5"]


def test_the_copy_outlives_the_original(db: sqlite3.Connection) -> None:
    """And goes with its own session."""
    fill(db)
    written(db, CopyTurns(DEMO, FORK, TurnId("t3")), DeleteSession(DEMO))
    assert [len(t.blocks) for t in history(db, FORK)] == [0, len(BLOCKS), 0]
    written(db, DeleteSession(FORK))
    assert db.execute("SELECT count(*) FROM blocks").fetchone()[0] == 0


@pytest.mark.parametrize(
    "op",
    [
        CopyTurns(SessionName("none"), FORK, None),
        CopyTurns(DEMO, SessionName("none"), None),
        CopyTurns(DEMO, FORK, TurnId("none")),
        CopyTurns(DEMO, FORK, TurnId("t4")),
    ],
)
def test_a_copy_that_would_not_be_whole_is_refused(db: sqlite3.Connection, op: CopyTurns) -> None:
    """With it the record of the session that was to have it."""
    fill(db)
    with pytest.raises(JournalError):
        written(db, op)


def test_every_table_of_a_turn_is_copied(db: sqlite3.Connection) -> None:
    """One that is added later has to be named."""
    tables = [row[0] for row in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    refer = {
        t for t in tables for key in db.execute(f"PRAGMA foreign_key_list({t})") if key["table"] == "turns"
    }
    assert set(journal_copy.OF_A_TURN) == refer


# --- sessions -----------------------------------------------------------------------------------------


@pytest.fixture
def house(tmp_path: Path) -> House:
    made = House(tmp_path)
    made.forks = NothingToCopy()
    return made


async def asked(service: Service, name: str, prompt: str) -> str:
    """A turn, once it has finished."""
    turn: str = (await call(service, name, SubmitPrompt(prompt=prompt)))["turn"]
    while (await service.turn(ME, name, turn)).status != "completed":  # noqa: ASYNC110 - it waits for a quiet moment
        await asyncio.sleep(0.005)
    return turn


def fork(name: str, source: str, from_turn: str | None = None) -> ForkSession:
    return ForkSession.model_validate({"name": name, "from": source, "from_turn": from_turn})


async def prompts(service: Service, house: House, name: str) -> list[str]:
    return [t.prompt for t in await house.registry.history(SessionName(name), None, 100)]


async def test_a_fork_has_the_turns_the_options_and_nothing_else_of_the_other(house: House) -> None:
    """As they are now; and it comes back with them."""
    async with house.open() as service:
        await service.start(ME, StartSession(name="demo", model="one", allowed_tools=["Bash"]))
        first = await asked(service, "demo", "alpha")
        await asked(service, "demo", "beta")
        await call(service, "demo", ConfigureSession(model="two"))
        made = await service.fork(ME, fork("fork", "demo", first))
        source = service.list_sessions(ME)[0]
        assert (made.model, made.turns, made.cost_usd, made.restarts) == ("two", 1, 0.0, 0)
        assert made.conversation != source.conversation
        options = house.registry.get("fork").core.facts.options
        assert options == house.registry.get("demo").core.facts.options
        await asked(service, "fork", "gamma")
        assert await prompts(service, house, "fork") == ["alpha", "gamma"]
        assert await prompts(service, house, "demo") == ["alpha", "beta"]
        await service.delete(ME, NameSession(name="demo"))
    async with house.open() as service:
        assert await prompts(service, house, "fork") == ["alpha", "gamma"]


async def test_a_stopped_session_is_forked_and_an_empty_one_too(house: House) -> None:
    """No process is needed for it."""
    async with house.open() as service:
        await service.start(ME, StartSession(name="demo"))
        await service.fork(ME, fork("empty", "demo"))
        await asked(service, "demo", "alpha")
        await service.stop(ME, NameSession(name="demo"))
        await service.fork(ME, fork("fork", "demo"))
        assert await prompts(service, house, "fork") == ["alpha"]
        assert await prompts(service, house, "empty") == []


async def test_what_a_fork_is_refused_for(house: House) -> None:
    """Each before anything is made."""
    house.config = house.config.model_copy(update={"max_sessions": 2})
    async with house.open() as service:
        await service.start(ME, StartSession(name="demo"))
        house.backends["demo"].answer_prompts = False
        running = (await call(service, "demo", SubmitPrompt(prompt="alpha")))["turn"]
        cases: list[tuple[ForkSession, type[Exception]]] = [
            (fork("fork", "none"), SessionNotFound),
            (fork("demo", "demo"), SessionExists),
            (fork("fork", "demo", "none"), TurnNotFound),
            (fork("fork", "demo", running), InvalidPayload),
        ]
        for command, error in cases:
            with pytest.raises(error):
                await service.fork(ME, command)
        for pattern in ("demo", "fork"):
            who = Principal("someone", ADMIN, (pattern,))
            with pytest.raises(Forbidden):
                await service.fork(who, fork("fork", "demo"))
        await service.start(ME, StartSession(name="other"))
        with pytest.raises(TooManySessions):
            await service.fork(ME, fork("fork", "demo"))
        assert [s.name for s in service.list_sessions(ME)] == ["demo", "other"]


class Held(NothingToCopy):
    """Stands still in the middle of a fork."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go_on = threading.Event()
        self.settled: list[bool] = []
        self.made: list[bool] = []
        """At each settling, whether what was begun had come to its end."""
        self.over = False

    def begin(self, branch: Branch) -> None:
        self.begun.set()
        assert self.go_on.wait(10)
        self.over = True

    def settle(self, conversation: str, *, kept: bool) -> None:
        self.go_on.set()  # nobody waits for it who does not have to
        self.settled.append(kept)
        self.made.append(self.over)


async def until_begun(held: Held) -> None:
    assert await asyncio.to_thread(held.begun.wait, 10)


async def test_a_source_that_is_deleted_meanwhile_leaves_no_half_of_a_fork(house: House) -> None:
    """The copy is taken back."""
    held = house.forks = Held()
    async with house.open() as service, asyncio.TaskGroup() as group:
        await service.start(ME, StartSession(name="demo"))
        await asked(service, "demo", "alpha")

        async def forked() -> None:
            with pytest.raises(SessionNotFound):
                await service.fork(ME, fork("fork", "demo"))

        group.create_task(forked())
        await until_begun(held)
        await service.delete(ME, NameSession(name="demo"))
        held.go_on.set()
    assert held.settled == [False]
    async with house.open() as service:
        assert service.list_sessions(ME) == []


async def test_a_client_that_goes_in_the_middle_leaves_no_half_of_a_fork(house: House) -> None:
    """What it began in a thread is waited for before it is taken back."""
    held = house.forks = Held()
    async with house.open() as service:
        await service.start(ME, StartSession(name="demo"))
        await asked(service, "demo", "alpha")
        async with asyncio.TaskGroup() as group:
            task = group.create_task(service.fork(ME, fork("fork", "demo")))
            await until_begun(held)
            task.cancel()
            await asyncio.wait([task], timeout=0.1)
            held.go_on.set()
        assert (held.settled, held.made) == ([False], [True])
        assert [s.name for s in service.list_sessions(ME)] == ["demo"]


# --- Claude's files -------------------------------------------------------------------------------------

CONVERSATION = "c8668d63-66b8-4d63-ae94-ee6c25d865ee"
TOLD = read(golden("by_itself"))


@pytest.fixture
def projects(tmp_path: Path) -> Path:
    folder = tmp_path / "claude" / "projects" / "-golden-home"
    folder.mkdir(parents=True)
    (folder / f"{CONVERSATION}.jsonl").write_bytes(golden("by_itself"))
    return folder


def branch(into: str = "into", upto: int = 2) -> Branch:
    return Branch(CONVERSATION, into, tuple(KeptTurn(t.id, True, t.status, True) for t in TOLD[:upto]))


def on(folder: Path) -> TranscriptForks:
    return TranscriptForks(folder, lambda: folder / "claude")


def test_a_copy_is_the_beginning_of_the_original_under_another_name(tmp_path: Path, projects: Path) -> None:
    """Readable by its owner alone."""
    on(tmp_path).begin(branch())
    copy = projects / "into.jsonl"
    assert [t.id for t in read(copy.read_bytes())] == [t.id for t in TOLD[:2]]
    assert CONVERSATION.encode() not in copy.read_bytes()
    assert copy.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("killed", ["in the copy", "after the copy"])
def test_what_a_killed_bridge_left_of_a_fork_is_settled_by_the_next(
    tmp_path: Path, projects: Path, monkeypatch: pytest.MonkeyPatch, killed: str, kept: bool
) -> None:
    """The session is on record, or nothing is left."""
    if killed == "in the copy":
        if kept:
            return  # its record is written after the copy
        monkeypatch.setattr(forks_module.os, "fsync", _die)
        with pytest.raises(_Died):
            on(tmp_path).begin(branch())
        monkeypatch.undo()
        assert (projects / "into.new").exists()
    else:
        on(tmp_path).begin(branch())
    on(tmp_path).sweep({"into"} if kept else {CONVERSATION})
    left = sorted(f.name for f in projects.iterdir())
    assert left == [f"{CONVERSATION}.jsonl", *(["into.jsonl"] if kept else [])]
    assert list((tmp_path / "forks").iterdir()) == []


class _Died(BaseException):
    pass


def _die(descriptor: int) -> None:
    raise _Died


@pytest.mark.parametrize("status", ["completed", "unknown"])
def test_a_turn_that_claude_has_lost_is_told(
    tmp_path: Path, projects: Path, status: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answer was told; only of one that broke off may nothing be kept."""
    monkeypatch.setattr(forks_module, "LATE_S", 0.1)
    lost = KeptTurn(TurnId("lost"), True, status, True)
    asked = Branch(CONVERSATION, "into", (*branch().turns, lost))
    if status == "completed":
        with pytest.raises(BackendError, match="lacks the turn lost"):
            on(tmp_path).begin(asked)
        assert not (projects / "into.jsonl").exists()
    else:
        on(tmp_path).begin(asked)
        assert (projects / "into.jsonl").exists()


def test_a_conversation_that_is_gone_is_told(tmp_path: Path, projects: Path) -> None:
    """Nothing is guessed."""
    (projects / f"{CONVERSATION}.jsonl").unlink()
    with pytest.raises(BackendError, match="kept nothing"):
        on(tmp_path).begin(branch())


# --- conversations from outside ---------------------------------------------------------------------------


def resumed(name: str, conversation: str = CONVERSATION) -> StartSession:
    return StartSession(name=name, resume=conversation)


async def test_a_conversation_from_outside_is_the_history(
    house: House, tmp_path: Path, projects: Path
) -> None:
    """From the first moment, and after a restart; the next turn comes behind it."""
    house.past = TranscriptPast(lambda: tmp_path / "claude")
    async with house.open() as service:
        made, _ = await service.start(ME, resumed("demo"))
        assert (made.turns, made.conversation, made.cost_usd) == (len(TOLD), CONVERSATION, 0.0)
        kept = await house.registry.history(SessionName("demo"), None, 100)
        assert kept == TOLD
        await asked(service, "demo", "zeta")
    async with house.open() as service:
        assert (await prompts(service, house, "demo"))[-2:] == ["epsilon", "zeta"]


@pytest.mark.parametrize(
    "conversation", ["00000000-0000-4000-8000-000000000000", "../-golden-home/x", "*", ""]
)
async def test_a_conversation_that_is_not_there_is_refused(
    house: House, tmp_path: Path, projects: Path, conversation: str
) -> None:
    """Before anything is started."""
    house.past = TranscriptPast(lambda: tmp_path / "claude")
    async with house.open() as service:
        with pytest.raises(InvalidPayload) as refused:
            await service.start(ME, resumed("demo", conversation))
        assert refused.value.details["field"] == "resume"
        assert service.list_sessions(ME) == []


async def test_a_conversation_that_a_session_has_is_not_given_to_another(
    house: House, tmp_path: Path, projects: Path
) -> None:
    """Also at the same moment; the session itself is started again with it."""
    house.past = TranscriptPast(lambda: tmp_path / "claude")
    async with house.open() as service:
        starts = [service.start(ME, resumed(name)) for name in ("one", "two")]
        first, second = await asyncio.gather(*starts, return_exceptions=True)
        refused = first if isinstance(first, Exception) else second
        assert isinstance(refused, SessionExists)
        [made] = service.list_sessions(ME)
        with pytest.raises(SessionExists, match="fork it"):
            await service.start(ME, resumed("third"))
        await service.stop(ME, NameSession(name=made.name))
        again, existing = await service.start(ME, resumed(made.name))
        assert (again.name, existing) == (made.name, True)


async def test_a_backend_without_conversations_of_its_own_refuses(house: House) -> None:
    """As `api` does."""
    async with house.open() as service:
        with pytest.raises(InvalidPayload, match="resume"):
            await service.start(ME, resumed("demo"))
