"""The journal's file: opened, brought up to date, or moved aside, in whatever state it is found."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from bridge.errors import JournalError
from bridge.sessions.journal import (
    Journal,
    SaveSession,
    SaveTurn,
)
from bridge.sessions.journal_schema import MIGRATIONS, migrate
from tests.fakes.journals import reopened
from tests.fakes.records import DEMO, session, turn


async def test_the_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    """Prompts stand in the file and in SQLite's log beside it, however loose the umask."""
    before = os.umask(0)
    try:
        async with reopened(tmp_path / "journal.db") as journal:
            await journal.write([SaveSession(session())])
            modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    finally:
        os.umask(before)

    assert modes == {"journal.db": 0o600, "journal.db-wal": 0o600, "journal.db-shm": 0o600}


async def test_a_loose_mode_is_tightened(tmp_path: Path) -> None:
    """A file that was copied back from a backup may be readable by everybody."""
    path = tmp_path / "journal.db"
    path.touch(0o644)
    path.chmod(0o644)
    async with reopened(path):
        assert path.stat().st_mode & 0o777 == 0o600


async def test_an_older_file_is_brought_up_to_date(tmp_path: Path) -> None:
    """A new version's table changes are made on the file as an older one left it."""
    path = tmp_path / "journal.db"
    async with reopened(path) as journal:
        await journal.write([SaveSession(session())])
    db = sqlite3.connect(path, isolation_level=None)
    with capture_logs() as logs:
        migrate(
            db, path, (*MIGRATIONS, "ALTER TABLE sessions ADD COLUMN colour TEXT NOT NULL DEFAULT 'blue'")
        )
    colours = db.execute("SELECT name, colour FROM sessions").fetchall()
    version = db.execute("PRAGMA user_version").fetchone()
    db.close()

    assert colours == [("demo", "blue")]
    assert version == (len(MIGRATIONS) + 1,)
    assert [line["event"] for line in logs] == ["journal migrated"]


async def test_a_migration_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    """Half of a migration would be a version that nobody knows."""
    path = tmp_path / "journal.db"
    async with reopened(path):
        pass
    db = sqlite3.connect(path, isolation_level=None)
    with pytest.raises(sqlite3.OperationalError):
        migrate(db, path, (*MIGRATIONS, "CREATE TABLE half (x); CREATE TABLE sessions (x)"))
    halves = db.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'half'").fetchone()
    version = db.execute("PRAGMA user_version").fetchone()
    db.close()

    assert (halves, version) == ((0,), (len(MIGRATIONS),))


async def test_a_newer_file_is_refused_and_kept(tmp_path: Path) -> None:
    """An older bridge must not guess at what a newer one wrote."""
    path = tmp_path / "journal.db"
    async with reopened(path):
        pass
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    db.close()

    with pytest.raises(JournalError, match="newer"):
        await Journal.open(path)
    assert [p.name for p in tmp_path.iterdir() if "corrupt" in p.name] == []


def overwrite_header(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"this is no database at all")


def overwrite_pages(path: Path) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(size - 4096))


def cut(path: Path) -> None:
    os.truncate(path, 6000)


@pytest.mark.parametrize("spoil", [overwrite_header, overwrite_pages, cut])
async def test_a_damaged_file_is_moved_aside(tmp_path: Path, spoil: Any) -> None:
    """The bridge starts with an empty journal, says so loudly, and the damaged file is kept."""
    path = tmp_path / "journal.db"
    async with reopened(path) as journal:
        await journal.write([SaveSession(session()), *(SaveTurn(DEMO, turn(n)) for n in range(200))])
    spoil(path)
    spoiled = path.read_bytes()

    for count in (1, 2):
        path.write_bytes(spoiled)
        with capture_logs() as logs:
            async with reopened(path) as journal:
                assert await journal.load() == []
                await journal.write([SaveSession(session())])
        kept = [p for p in tmp_path.iterdir() if p.name.startswith("journal.db.corrupt-")]
        assert [p.read_bytes() for p in kept] == [spoiled] * count
        assert [(line["log_level"], line["event"]) for line in logs] == [
            ("error", "journal was damaged and moved aside")
        ]


@pytest.mark.parametrize(("damaged", "kept"), [("sessions", 0), ("blocks", 1)])
async def test_of_a_large_file_the_history_is_not_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damaged: str, kept: int
) -> None:
    """A start looks only at the tables it needs, so that sessions come back in their time."""
    monkeypatch.setattr("bridge.sessions.journal_schema.CHECK_WHOLE_BYTES", 0)
    path = tmp_path / "journal.db"
    async with reopened(path) as journal:
        await journal.write([SaveSession(session())])
    db = sqlite3.connect(path)
    [page] = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (damaged,)).fetchone()
    db.close()
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 4096)

    async with reopened(path) as journal:
        assert len(await journal.load()) == kept


async def test_a_folder_that_is_missing_is_said(tmp_path: Path) -> None:
    """No traceback of SQLite's, but a sentence with the path."""
    with pytest.raises(JournalError, match=r"missing/journal\.db cannot be opened: No such file"):
        await Journal.open(tmp_path / "missing" / "journal.db")


async def test_a_path_that_is_no_file_is_said(tmp_path: Path) -> None:
    """A folder in the journal's place is left alone."""
    with pytest.raises(JournalError, match="cannot be opened"):
        await Journal.open(tmp_path)


@pytest.mark.parametrize("exists", [False, True])
async def test_a_read_only_folder_is_said(tmp_path: Path, exists: bool) -> None:
    """A journal that cannot be written is no journal, even where it could be read."""
    folder = tmp_path / "state"
    folder.mkdir()
    if exists:
        async with reopened(folder / "journal.db"):
            pass
    if os.geteuid():
        folder.chmod(0o500)
        undo = lambda: folder.chmod(0o700)  # noqa: E731
    else:
        bind = ["mount", "--bind", folder, folder]
        if subprocess.run(bind, capture_output=True).returncode:
            pytest.skip("root, but not allowed to mount: nothing here is read-only for it")
        subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)
        undo = lambda: subprocess.run(["umount", folder], check=True)  # noqa: E731
    try:
        with pytest.raises(JournalError, match="cannot be opened"):
            await Journal.open(folder / "journal.db")
    finally:
        undo()
