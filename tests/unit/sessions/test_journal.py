"""The journal's two threads: what was resolved is on disk, and nothing ends the writing."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from bridge.errors import JournalError, JournalStalled
from bridge.events import Block, SessionName, TurnId
from bridge.sessions.journal import (
    DeleteSession,
    Journal,
    SaveBlock,
    SaveSession,
    SaveTurn,
)
from tests.fakes.disk import Disk, small_disk
from tests.fakes.journals import reopened
from tests.fakes.records import DEMO, session, turn

ROOT = Path(__file__).parents[3]

# --- order, groups, failures --------------------------------------------------------------------


async def test_writes_that_gather_share_a_commit(journal: Journal) -> None:
    """Many calls cost few commits, and the last one said is the one that counts."""
    commits: list[str] = []
    journal._writer.set_trace_callback(lambda sql: commits.append(sql) if sql == "COMMIT" else None)

    await asyncio.gather(*(journal.write([SaveSession(session(turns=n))]) for n in range(500)))

    [loaded] = await journal.load()
    assert loaded.record.turns == 499
    assert 1 <= len(commits) <= 50


async def test_a_call_is_kept_whole_or_not_at_all(journal: Journal) -> None:
    """Where one operation of a call is refused, the others of that call are not done either."""
    with pytest.raises(JournalError, match="no turn"):
        await journal.write([SaveSession(session()), SaveBlock(DEMO, TurnId("none"), Block(0, "text", "x"))])

    assert await journal.load() == []


async def test_a_refused_call_harms_no_other(journal: Journal) -> None:
    """Calls in one commit stand for themselves."""
    results = await asyncio.gather(
        journal.write([SaveSession(session("a"))]),
        journal.write([SaveTurn(SessionName("none"), turn(1))]),
        journal.write([SaveSession(session("b", conversation="\ud800"))]),
        journal.write([SaveSession(session("c", options=object()))]),
        journal.write([SaveSession(session("d"))]),
        return_exceptions=True,
    )

    assert [type(result) for result in results] == [
        type(None),
        JournalError,
        JournalError,
        JournalError,
        type(None),
    ]
    assert [loaded.record.name for loaded in await journal.load()] == ["a", "d"]


async def test_a_cancelled_write_is_still_done(journal: Journal) -> None:
    """A caller that goes away does not take back what it said, and harms nobody who waits."""
    given_up = journal.write([SaveSession(session("a"))])
    given_up.cancel()
    await journal.write([SaveSession(session("b"))])

    assert [loaded.record.name for loaded in await journal.load()] == ["a", "b"]


async def test_a_write_of_nothing_waits_for_those_before(journal: Journal) -> None:
    """An empty call is a barrier."""
    before = journal.write([SaveSession(session())])
    await journal.write([])

    assert before.done()


async def test_close_writes_what_waits(tmp_path: Path) -> None:
    """A clean stop loses nothing, may be repeated, and later writes and reads are refused."""
    journal = await Journal.open(tmp_path / "journal.db")
    waiting = [journal.write([SaveSession(session(turns=n))]) for n in range(100)]
    await asyncio.gather(journal.close(), journal.close())
    await journal.close()

    assert all(future.done() and future.exception() is None for future in waiting)
    with pytest.raises(JournalError):
        await journal.write([SaveSession(session())])
    with pytest.raises(JournalError):
        await journal.load()
    async with reopened(tmp_path / "journal.db") as again:
        [loaded] = await again.load()
    assert loaded.record.turns == 99


async def test_a_disk_that_hangs_does_not_fill_the_memory(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the bound a write fails at once instead of waiting."""
    monkeypatch.setattr("bridge.sessions.journal.MAX_WAITING", 2)
    first, second, third = (journal.write([SaveSession(session())]) for _ in range(3))

    with pytest.raises(JournalError, match="wait for the disk"):
        await third
    await asyncio.gather(first, second)
    await journal.write([SaveSession(session())])


async def test_a_locked_journal_fails_and_recovers(tmp_path: Path) -> None:
    """While another holds the file, writes fail in their time; that they work again is found out unasked."""
    async with reopened(tmp_path / "journal.db", busy_s=0.01) as journal:
        told: list[str | None] = []
        well = asyncio.Event()

        def changed() -> None:
            told.append(journal.problem)
            if journal.problem is None:
                well.set()

        journal.watch(changed)
        other = sqlite3.connect(journal.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with capture_logs() as logs:
            for _ in range(2):
                with pytest.raises(JournalStalled, match="locked"):
                    await journal.write([SaveSession(session())])
            other.execute("ROLLBACK")
            other.close()
            await well.wait()
            await journal.write([SaveSession(session())])

        assert [line["event"] for line in logs] == ["journal could not write", "journal wrote again"]
        assert told == ["another process has locked it", None]
        assert len(await journal.load()) == 1


async def test_a_journal_that_is_damaged_under_it_is_not_written_again(tmp_path: Path) -> None:
    """No waiting helps there; the next start moves it aside."""
    async with reopened(tmp_path / "journal.db") as journal:
        prompts = [SaveTurn(DEMO, turn(number, prompt="x" * 500_000)) for number in range(12)]
        await journal.write([SaveSession(session()), *prompts])
        for name in ("journal.db", "journal.db-wal"):
            file = tmp_path / name
            file.write_bytes(os.urandom(file.stat().st_size))
        with pytest.raises(JournalStalled, match="damaged"):
            await journal.write([DeleteSession(DEMO)])  # for which it has to be read: no cache is as large
        assert "restarted" in (journal.problem or "")
    async with reopened(tmp_path / "journal.db") as journal:
        assert await journal.load() == []


async def test_a_journal_locked_by_another_cannot_be_opened(tmp_path: Path) -> None:
    """It is said, and the file is left as it was."""
    path = tmp_path / "journal.db"
    async with reopened(path) as journal:
        await journal.write([SaveSession(session())])
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(JournalError, match="locked"):
        await Journal.open(path, busy_s=0.01)
    other.close()

    assert sorted(p.name for p in tmp_path.iterdir() if "corrupt" in p.name) == []
    async with reopened(path) as journal:
        assert len(await journal.load()) == 1


# --- a kill, a full disk ------------------------------------------------------------------------

WRITER = """
import asyncio, sys
from pathlib import Path
from bridge.errors import JournalError
from bridge.sessions.journal import Journal, SaveSession, SaveTurn
from tests.fakes.records import DEMO, session, turn

async def main():
    journal = await Journal.open(Path(sys.argv[1]))
    await journal.write([SaveSession(session())])
    async def write(start):
        for number in range(start, 10**9, 8):
            await journal.write([SaveTurn(DEMO, turn(number, "finished", prompt="x" * (number % 997)))])
            print(number, flush=True)
    await asyncio.gather(*(write(start) for start in range(8)))

asyncio.run(main())
"""


def child(script: str, *arguments: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )


@pytest.mark.parametrize("lines", [1, 40, 1000])
async def test_a_kill_loses_no_resolved_write(tmp_path: Path, lines: int) -> None:
    """Whatever was told as written before `kill -9` is there afterwards."""
    path = tmp_path / "journal.db"
    process = child(WRITER, path)
    assert process.stdout is not None
    told = [int(process.stdout.readline()) for _ in range(lines)]
    process.send_signal(signal.SIGKILL)
    rest, _ = process.communicate()
    told += [int(line) for line in rest.splitlines(keepends=True) if line.endswith("\n")]

    async with reopened(path) as journal:
        kept = {t.id for t in await journal.turns(DEMO, None, 10**6)}

    assert kept >= {f"t{number}" for number in told}


LIMITED = """
import asyncio, resource, sys
from pathlib import Path
from bridge.errors import JournalError
from bridge.sessions.journal import Journal, SaveSession, SaveTurn
from tests.fakes.records import DEMO, session, turn

async def main():
    journal = await Journal.open(Path(sys.argv[1]))
    await journal.write([SaveSession(session())])
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, unlimited[1]))
    try:
        await journal.write([SaveTurn(DEMO, turn(1, prompt="x" * 1_000_000))])
    except JournalError:
        print("refused")
    resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    await journal.write([SaveTurn(DEMO, turn(2))])
    [loaded] = await journal.load()
    print([t.turn.id for t in loaded.open_turns])
    await journal.close()

asyncio.run(main())
"""


def test_a_file_that_may_not_grow_fails_the_write_alone(tmp_path: Path) -> None:
    """The call fails with `JournalError`; when there is room again, the same journal goes on."""
    process = child(LIMITED, tmp_path / "journal.db")
    said, _ = process.communicate(timeout=60)

    lines = said.splitlines()
    assert [line for line in lines if "journal" not in line] == ["refused", "['t2']"]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with small_disk(tmp_path / "small", "2m") as disk:
        yield disk


async def test_a_full_disk_fails_writes_and_is_survived(disk: Disk) -> None:
    """Every write that was told as done is kept; with room again, writing goes on."""
    ballast = disk.folder / "some"
    ballast.write_bytes(b"x" * 1_000_000)
    path = disk.folder / "journal.db"
    told: list[str] = []

    async def fill(journal: Journal) -> None:
        for number in range(1000):
            await journal.write([SaveTurn(DEMO, turn(number, prompt="x" * 20_000))])
            told.append(f"t{number}")

    async with reopened(path) as journal:
        await journal.write([SaveSession(session())])
        with capture_logs() as logs, pytest.raises(JournalError, match="disk is full"):
            await fill(journal)
        ballast.unlink()
        await journal.write([SaveTurn(DEMO, turn(5000))])
        told.append("t5000")

    async with reopened(path) as journal:
        [loaded] = await journal.load()
    assert len(told) > 5
    assert [t.turn.id for t in loaded.open_turns] == told
    assert [line["event"] for line in logs] == ["journal could not write"]


async def test_on_a_full_disk_a_journal_cannot_be_opened(disk: Disk) -> None:
    """It is said, and the file is left as it was."""
    async with reopened(disk.folder / "journal.db") as journal:
        await journal.write([SaveSession(session())])
    disk.fill()
    with pytest.raises(JournalError, match="disk is full"):
        await Journal.open(disk.folder / "journal.db")
    disk.free()
    async with reopened(disk.folder / "journal.db") as journal:
        assert len(await journal.load()) == 1
