"""How much history is kept: what goes, what stays known of it, and at what cost."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from bridge.commands import JoinSession, NameSession, ReadHistory, SubmitPrompt
from bridge.config import SessionConfig
from bridge.errors import InvalidPayload, JournalError, TurnNotFound
from bridge.events import Block, RequestId, TurnId
from bridge.service import Service
from bridge.sessions import retention
from bridge.sessions.backends.attached import forget_files
from bridge.sessions.journal import CloseRequest, Journal, Op, SaveBlock, SaveRequest, SaveSession, SaveTurn
from bridge.sessions.journal_schema import SCHEMA
from bridge.sessions.records import GiveBack, PruneTurns
from bridge.sessions.retention import DAY_S, SPARE_PAGES, STEP, Retention
from tests.fakes.clock import FakeClock
from tests.fakes.house import ME, House, Viewer, call
from tests.fakes.journals import reopened
from tests.fakes.records import DEMO, request, session, turn

BIG = "x" * 100_000


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pause between two steps is for others, of whom there are none here."""
    monkeypatch.setattr(retention, "PAUSE_S", 0)


def pruning(house: House, clock: FakeClock | None = None, **config: float) -> Retention:
    made = SessionConfig(**config)  # type: ignore[arg-type]
    return Retention(house.journal, house.registry, clock or FakeClock(), made)


async def asked(house: House, service: Service, count: int) -> tuple[Viewer, list[TurnId]]:
    """So many turns with a key each, all of them finished."""
    _, viewer = await house.join(service, "demo")
    for n in range(count):
        await call(service, "demo", SubmitPrompt(prompt=f"p{n}", id=f"k{n}"))
    await viewer.until("turn_finished", count)
    return viewer, [e.turn for e in viewer.seen if e.event == "turn_finished"]


async def texts(service: Service, **page: object) -> list[str]:
    return [t.text for t in await service.history(ME, "demo", ReadHistory(**page))]  # type: ignore[arg-type]


def rows(path: Path, table: str) -> int:
    with closing(sqlite3.connect(path)) as db:
        found: int = db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        return found


async def test_the_newest_turns_of_each_session_are_kept(tmp_path: Path) -> None:
    """In the history and in a join's snapshot; nothing of the others is left but what keys need."""
    house = House(tmp_path)
    async with house.open() as service:
        _, turns = await asked(house, service, 7)
        await house.join(service, "demo", JoinSession(turns=7))
        assert await pruning(house, history_turns=3).once() == 4
        assert await texts(service) == ["p4", "p5", "p6"]
        joined, _ = await house.join(service, "demo", JoinSession(turns=7))
        assert [t.id for t in joined.snapshot.turns] == turns[4:]
        assert await pruning(house, history_turns=3).once() == 0
    assert [rows(tmp_path / "journal.db", t) for t in ("turns", "prompts", "blocks")] == [3, 3, 3]


async def test_reading_backwards_ends_where_the_history_does(tmp_path: Path) -> None:
    """Also for who was in the middle of it: a turn that was pruned meanwhile has nothing before it."""
    house = House(tmp_path)
    async with house.open() as service:
        _, turns = await asked(house, service, 7)
        await pruning(house, history_turns=3).once()
        assert await texts(service, before=turns[6], limit=1) == ["p5"]
        assert await texts(service, before=turns[5]) == ["p4"]
        assert await texts(service, before=turns[4]) == []
        assert await texts(service, before=turns[2]) == []
        with pytest.raises(TurnNotFound):
            await texts(service, before="another")


async def test_a_key_is_good_for_longer_than_its_turn(tmp_path: Path) -> None:
    """The same prompt again runs nothing and is told how it ended; another prompt is refused. Also later."""
    house = House(tmp_path)
    async with house.open() as service:
        _, turns = await asked(house, service, 3)
        await pruning(house, history_turns=1).once()
    async with house.open() as service:
        again = await call(service, "demo", SubmitPrompt(prompt="p0", id="k0"))
        assert again == {"turn": turns[0], "status": "completed", "position": 0, "duplicate": True}
        with pytest.raises(InvalidPayload):
            await call(service, "demo", SubmitPrompt(prompt="another", id="k0"))
        assert [t for t in house.backends["demo"].told if t[0] == "prompt"] == []
        await service.delete(ME, NameSession(name="demo"))
        await house.join(service, "demo")
        assert "duplicate" not in await call(service, "demo", SubmitPrompt(prompt="new", id="k0"))


async def test_what_a_session_has_cost_is_not_pruned(tmp_path: Path) -> None:
    """Nor how many turns it had; and the next one is the next one, also where none is left."""
    house = House(tmp_path)
    async with house.open() as service:
        await asked(house, service, 3)
        [before] = service.list_sessions(ME)
        assert await pruning(house, FakeClock(4e9), history_days=1).once() == 3
        assert await texts(service) == []
    async with house.open() as service:
        _, viewer = await house.join(service, "demo")
        await viewer.state(service, "idle")
        [after] = service.list_sessions(ME)
        assert (after.turns, after.usage, after.cost_usd) == (before.turns, before.usage, before.cost_usd)
        for prompt in ("next", "last"):
            await call(service, "demo", SubmitPrompt(prompt=prompt))
        await viewer.until("turn_finished", 2)
        await house.join(service, "demo")  # a join's moment is one where all is on disk
        assert await texts(service) == ["next", "last"]


async def test_turns_are_kept_for_days(journal: Journal, tmp_path: Path) -> None:
    """By when they ended."""
    ended = (FakeClock().now() - days * DAY_S for days in (3.0, 2.1, 1.9, 1.0))
    saved = [SaveTurn(DEMO, turn(n, "finished", finished_at=at)) for n, at in enumerate(ended, 1)]
    await journal.write([SaveSession(session()), *saved])
    before = FakeClock().now() - 2 * DAY_S
    assert await journal.prunable(DEMO, None, before, 10) == ("t1", "t2")
    assert await journal.prunable(DEMO, 1, before, 10) == ("t1", "t2", "t3")
    assert await journal.prunable(DEMO, None, None, 10) == ()


async def test_what_is_not_finished_is_never_pruned(journal: Journal, tmp_path: Path) -> None:
    """However old, and however many came after it; open requests neither."""
    await journal.write(
        [
            SaveSession(session()),
            SaveTurn(DEMO, turn(1, "active")),
            SaveRequest(DEMO, request("open")),
            *(SaveTurn(DEMO, turn(n, "finished", finished_at=1.0)) for n in range(2, 5)),
            SaveTurn(DEMO, turn(5, "queued")),
        ]
    )
    assert await journal.prunable(DEMO, 1, None, 10) == ("t2", "t3")
    await journal.write([PruneTurns(DEMO, (TurnId("t1"), TurnId("t2"), TurnId("t5"), TurnId("t9")))])
    [loaded] = await journal.load()
    assert [t.turn.id for t in loaded.open_turns] == ["t1", "t5"]
    assert [r.id for r in loaded.requests] == ["open"]
    assert [t.id for t in await journal.turns(DEMO, None, 10)] == ["t3", "t4"]


async def test_a_turn_takes_its_requests_along(journal: Journal, tmp_path: Path) -> None:
    """They hold what Claude wanted to do. Applied twice it is the same."""
    block = Block(0, "text", "hi", None, "m")
    await journal.write(
        [
            SaveSession(session()),
            SaveTurn(DEMO, turn(1, "finished")),
            SaveBlock(DEMO, TurnId("t1"), block),
            SaveRequest(DEMO, request("r1")),
            CloseRequest(DEMO, RequestId("r1"), "allowed", "me", 6.0),
        ]
    )
    for _ in range(2):
        await journal.write([PruneTurns(DEMO, (TurnId("t1"),))])
        assert await journal.turn(DEMO, TurnId("t1")) is None
    path = tmp_path / "journal.db"
    assert [rows(path, t) for t in ("turns", "prompts", "blocks", "requests", "pruned")] == [0, 0, 0, 0, 1]


async def test_a_backlog_goes_in_small_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction holds up whatever is to be written meanwhile."""
    house = House(tmp_path)
    count = 2 * STEP + 5
    async with house.open():
        await house.journal.write(
            [
                SaveSession(session(state="stopped")),
                *(SaveTurn(DEMO, turn(n, "finished")) for n in range(count)),
            ]
        )
    async with house.open() as service:
        written: list[Sequence[Op]] = []
        write = house.journal.write
        monkeypatch.setattr(house.journal, "write", lambda ops: (written.append(ops), write(ops))[1])
        assert await pruning(house, history_turns=1).once() == count - 1
        sizes = [len(op.turns) for ops in written for op in ops if isinstance(op, PruneTurns)]
        assert sizes == [STEP, STEP, 4]
        assert [t.id for t in await service.history(ME, "demo", ReadHistory())] == [f"t{count - 1}"]


async def test_the_file_gives_its_space_back(tmp_path: Path) -> None:
    """But for what the next turns would only ask for again."""
    house = House(tmp_path)
    path = tmp_path / "journal.db"
    turns = [SaveTurn(DEMO, turn(n, "finished", prompt=BIG)) for n in range(200)]
    async with house.open():
        await house.journal.write([SaveSession(session(state="stopped")), *turns])
    before = path.stat().st_size
    async with house.open():
        await house.journal.write([PruneTurns(DEMO, tuple(t.record.turn.id for t in turns[:100]))])
        spare = await house.journal.spare_pages()
        await house.journal.write([GiveBack(100)])
        assert await house.journal.spare_pages() == spare - 100
        await pruning(house, history_turns=1).once()
        assert await house.journal.spare_pages() <= SPARE_PAGES
    assert before > 20_000_000
    assert path.stat().st_size < (SPARE_PAGES + 100) * 4096
    async with reopened(path) as journal:  # nothing of it is damaged
        assert [t.id for t in await journal.turns(DEMO, None, 10)] == ["t199"]


async def test_a_journal_of_the_first_version_is_taken_over(tmp_path: Path) -> None:
    """With what is in it; its file cannot shrink, and what is free in it is used again."""
    path = tmp_path / "journal.db"
    async with reopened(tmp_path / "new.db") as journal:
        await journal.write([SaveSession(session()), SaveTurn(DEMO, turn(1, "finished", key="k"))])
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.executescript(f"BEGIN; {SCHEMA}; PRAGMA user_version = 1; COMMIT;")
        db.execute("ATTACH ? AS new", (str(tmp_path / "new.db"),))
        for table in ("sessions", "turns", "prompts"):
            names = ", ".join(row[1] for row in db.execute(f"PRAGMA main.table_info({table})"))
            db.execute(f"INSERT INTO main.{table} ({names}) SELECT {names} FROM new.{table}")
    async with reopened(path) as journal:
        await journal.write([SaveSession(session(state="parked")), PruneTurns(DEMO, (TurnId("t1"),))])
        await journal.write([GiveBack(100)])
        assert await journal.spare_pages() == 0
        [loaded] = await journal.load()
        assert loaded.record.state == "parked"
        known = await journal.by_key(DEMO, "k")
        assert known is not None
        assert known.had("prompt 1")  # type: ignore[union-attr]


async def test_a_full_disk_does_not_end_the_pruning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said, and tried again."""
    monkeypatch.setattr(retention, "EVERY_S", 0)
    house = House(tmp_path)
    async with house.open() as service:
        await asked(house, service, 3)
        write, failing = house.journal.write, asyncio.get_running_loop().create_future()
        failing.set_exception(JournalError("the disk is full"))
        done = asyncio.Event()

        def once_full(ops: Sequence[Op]) -> asyncio.Future[None]:
            monkeypatch.setattr(house.journal, "write", write)
            done.set()
            return failing

        monkeypatch.setattr(house.journal, "write", once_full)
        with capture_logs() as said:
            async with asyncio.TaskGroup() as group:
                running = group.create_task(pruning(house, history_turns=1).run())
                await done.wait()
                while len(await texts(service)) > 1:  # noqa: ASYNC110 - nobody is told
                    await asyncio.sleep(0.005)
                running.cancel()
        assert [line["problem"] for line in said if line["log_level"] == "warning"] == ["the disk is full"]


async def test_what_is_kept_of_a_turn_beside_the_journal_goes_with_it(tmp_path: Path) -> None:
    """Files on disk of the turns that went, and of no other."""
    house = House(tmp_path)
    async with house.open() as service:
        _, turns = await asked(house, service, 3)
        folders = [tmp_path / "sessions" / "demo" / "files" / turn for turn in turns]
        for folder in folders:
            folder.mkdir(parents=True)
            (folder / "0-a.txt").write_text("a")
        config = SessionConfig(history_turns=1)
        forget = partial(forget_files, tmp_path / "sessions")
        assert await Retention(house.journal, house.registry, FakeClock(), config, forget).once() == 2
        assert [folder.exists() for folder in folders] == [False, False, True]
