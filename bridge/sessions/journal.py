"""The journal: what is told as a fact is on disk first.

One thread writes, and commits in one transaction whatever has gathered while the last commit went to
disk; another reads. Owns both threads and their connections; what the rows mean is `journal_sql`'s, how
the file is opened `journal_schema`'s. SQLite in WAL mode with `synchronous=FULL`: a resolved write
survives a kill of the bridge and a loss of power.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TypeVar

import structlog

from bridge.clock import Clock, SystemClock
from bridge.errors import JournalError, JournalStalled
from bridge.events import Outcome, RequestId, SessionName, Spending, Turn, TurnId
from bridge.sessions import journal_copy, journal_files, journal_spending, journal_sql
from bridge.sessions.backends.base import File
from bridge.sessions.journal_schema import damaged, describe, of_the_file, open_database, try_writing
from bridge.sessions.records import (
    CloseRequest,
    DeleteSession,
    LoadedSession,
    MoveCheckpoint,
    Op,
    PastTurns,
    PrunedTurn,
    SaveBlock,
    SaveRequest,
    SaveSession,
    SaveTurn,
    SessionRecord,
    TurnPhase,
    TurnRecord,
)

__all__ = [
    "CloseRequest",
    "DeleteSession",
    "Journal",
    "LoadedSession",
    "MoveCheckpoint",
    "Op",
    "SaveBlock",
    "SaveRequest",
    "SaveSession",
    "SaveTurn",
    "SessionRecord",
    "TurnPhase",
    "TurnRecord",
]

log = structlog.get_logger(__name__)

T = TypeVar("T")

BUSY_S = 5.0
"""How long another process may hold the file (somebody's `sqlite3` shell, a backup) before a write fails."""

MAX_BATCH = 1000
"""Calls in one transaction: keeps a flood from making its first call wait for its last (about 10 ms)."""

MAX_WAITING = 100_000
"""Calls that wait for the disk. A disk that hangs must not fill the memory: what comes beyond this fails."""

TRY_AGAIN_S = (0.5, 1.0, 2.0, 5.0)
"""Between looks whether writing works again; the last one repeats."""

FRESH_S = 60.0
"""Writing that failed again within this time is looked after no more often than before."""


class _Call:
    """One call of `write`: committed whole or not at all. A `trial` finds out whether one could be."""

    __slots__ = ("done", "error", "ops", "trial")

    def __init__(self, ops: tuple[Op, ...], done: asyncio.Future[None], *, trial: bool = False) -> None:
        self.ops = ops
        self.done = done
        self.trial = trial
        self.error: str | None = None


@dataclass(frozen=True, slots=True)
class _Problem:
    """Why a whole transaction failed; `lasting`: no waiting helps."""

    said: str
    lasting: bool


class Journal:
    """Belongs to the event loop it was opened on; its methods are called there and nowhere else."""

    def __init__(
        self,
        path: Path,
        writer: sqlite3.Connection,
        reader: sqlite3.Connection,
        reading: ThreadPoolExecutor,
    ) -> None:
        """Use `open`."""
        self.path = path
        self._writer = writer
        self._reader = reader
        self._reading = reading
        self._loop = asyncio.get_running_loop()
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._waiting = 0
        self._closing = False
        self._damaged: set[str] = set()
        self._problem: str | None = None
        self._trials = 0
        self._well_since = -FRESH_S
        self._changed: Callable[[], None] = lambda: None
        self._stopped: asyncio.Future[None] = self._loop.create_future()
        # A daemon: a process that ends without `close` must not wait for it, and loses nothing resolved.
        self._thread = threading.Thread(target=self._write_on, name="journal", daemon=True)
        self._thread.start()

    @classmethod
    async def open(cls, path: Path, *, clock: Clock | None = None, busy_s: float = BUSY_S) -> Journal:
        """The journal in the file `path`, begun where there is none, at the newest version of its tables.

        A damaged file is moved aside to `<name>.corrupt-<time>`, loudly, and a new one is begun. Raises
        `JournalError` where the folder is missing or cannot be written to, where another process has
        locked the file, and where a newer bridge wrote it.
        """
        reading = ThreadPoolExecutor(1, thread_name_prefix="journal-read")
        try:
            writer, reader = await asyncio.get_running_loop().run_in_executor(
                reading, open_database, Path(path), clock or SystemClock(), busy_s
            )
        except BaseException:
            reading.shutdown(wait=False)
            raise
        return cls(Path(path), writer, reader, reading)

    async def close(self) -> None:
        """Write what waits, then let go of the file. Safe to repeat; later writes fail."""
        if not self._closing:
            self._closing = True
            self._calls.put(None)
        await asyncio.shield(self._stopped)
        # Reading first: the last connection to go folds the log into the file.
        with suppress(RuntimeError):  # a second `close` finds the reading thread gone
            await self._loop.run_in_executor(self._reading, self._let_go)
        self._reading.shutdown(wait=False)

    def _let_go(self) -> None:
        self._reader.close()
        self._writer.close()

    # --- writing --------------------------------------------------------------------------------

    def write(self, ops: Sequence[Op]) -> asyncio.Future[None]:
        """Make `ops` true, all of them or none; the future is resolved when they are on disk.

        Calls take effect in their order. A failure is a `JournalError` in the future and concerns this call
        alone, or a `JournalStalled` where it concerns all of them: later ones are tried. Cancelling the
        future does not take the call back. No ops at all: resolved when everything before is on disk.
        """
        done: asyncio.Future[None] = self._loop.create_future()
        if self._closing:
            done.set_exception(JournalError("The journal is closed."))
        elif self._waiting >= MAX_WAITING:
            done.set_exception(JournalError(f"{self._waiting} writes already wait for the disk."))
        else:
            self._waiting += 1
            self._calls.put(_Call(tuple(ops), done))
        return done

    def _write_on(self) -> None:
        """The writing thread: ends with `close`, and never by an error."""
        last = False
        while not last:
            batch, last = self._gather()
            if batch:
                self._tell(self._settle, batch, self._commit(batch))
        self._tell(self._settle_stop)

    def _gather(self) -> tuple[list[_Call], bool]:
        batch: list[_Call] = []
        call = self._calls.get()
        while call is not None:
            batch.append(call)
            if len(batch) == MAX_BATCH:
                return batch, False
            try:
                call = self._calls.get_nowait()
            except Empty:
                return batch, False
        return batch, True

    def _commit(self, batch: list[_Call]) -> _Problem | None:
        """Write a batch; what keeps one call back stands in its `error`, what keeps all back is returned."""
        db = self._writer
        try:
            db.execute("BEGIN IMMEDIATE")
            for call in batch:
                self._apply(db, call)
            db.execute("COMMIT")
        except Exception as e:  # noqa: BLE001 - whatever it is, this thread serves all sessions and goes on
            if db.in_transaction:
                with suppress(sqlite3.Error):
                    db.execute("ROLLBACK")
            return _Problem(describe(e), damaged(e))
        for call in batch:
            if call.error is None:
                self._damaged.difference_update(
                    op.record.name for op in call.ops if isinstance(op, SaveSession)
                )
        return None

    def _apply(self, db: sqlite3.Connection, call: _Call) -> None:
        db.execute("SAVEPOINT call")
        try:
            if call.trial:
                try_writing(db, self.path)
            for op in call.ops:
                journal_sql.apply(db, op, self._damaged)
        except Exception as e:
            # A full disk and the like make SQLite give up the whole transaction, not the call alone.
            if not db.in_transaction or of_the_file(e):
                raise
            db.execute("ROLLBACK TO call")
            call.error = describe(e)
        db.execute("RELEASE call")

    def _tell(self, callback: Callable[..., None], *args: object) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(callback, *args)

    def _settle(self, batch: list[_Call], problem: _Problem | None) -> None:
        self._waiting -= len(batch)
        if problem is not None:
            self._stall(problem, len(batch))
        for call in batch:
            if call.trial:
                self._tried(call, problem)
            if call.done.done():
                continue
            if problem is not None:
                call.done.set_exception(JournalStalled(f"The journal could not be written: {problem.said}"))
            elif call.error is not None:
                call.done.set_exception(JournalError(f"The journal could not be written: {call.error}"))
            else:
                call.done.set_result(None)

    # --- while nothing can be written ------------------------------------------------------------

    @property
    def problem(self) -> str | None:
        """Why nothing can be written for now; None where it can, as far as is known."""
        return self._problem

    def watch(self, changed: Callable[[], None]) -> None:
        """`changed` is called, on the loop, whenever `problem` has come or gone."""
        self._changed = changed

    def _stall(self, problem: _Problem, calls: int) -> None:
        if self._problem is not None:
            return
        self._problem = problem.said
        # Once when it begins and once when it is over: a full disk is not helped by a log line per write.
        log.error("journal could not write", path=str(self.path), problem=problem.said, calls=calls)
        if self._loop.time() - self._well_since >= FRESH_S:
            self._trials = 0
        if not problem.lasting:
            self._try_later()
        self._changed()

    def _try_later(self) -> None:
        delay = TRY_AGAIN_S[min(self._trials, len(TRY_AGAIN_S) - 1)]
        self._trials += 1
        self._loop.call_later(delay, self._try)

    def _try(self) -> None:
        if not self._closing:
            done: asyncio.Future[None] = self._loop.create_future()
            done.set_result(None)  # nobody waits for it
            self._waiting += 1
            self._calls.put(_Call((), done, trial=True))

    def _tried(self, trial: _Call, problem: _Problem | None) -> None:
        if problem is not None or trial.error is not None:
            if problem is None or not problem.lasting:
                self._try_later()
            return
        self._problem = None
        self._well_since = self._loop.time()
        log.warning("journal wrote again", path=str(self.path))
        self._changed()

    def _settle_stop(self) -> None:
        if not self._stopped.done():
            self._stopped.set_result(None)

    # --- reading: each sees every write that was resolved before it ------------------------------

    async def load(self, name: SessionName | None = None) -> list[LoadedSession]:
        """Every session as it was left, the first created first; or the one called `name`, if it is there.

        A record that cannot be understood is skipped, logged and kept. Raises `JournalError` where
        the file cannot be read.
        """
        loaded, damaged = await self._ask(lambda db: journal_sql.load(db, name))
        self._damaged |= damaged
        return loaded

    async def turns(self, session: SessionName, before: TurnId | None, limit: int) -> tuple[Turn, ...]:
        """The last `limit` finished turns before `before` (None: of all), newest last, with their blocks.

        Nothing where that is not kept any more. Raises `TurnNotFound` where there never was such a turn.
        """
        return await self._ask(lambda db: journal_sql.finished_turns(db, session, before, limit))

    async def turn(self, session: SessionName, turn: TurnId) -> Turn | None:
        """One turn, finished or not, with its blocks."""
        record = await self._ask(lambda db: journal_sql.turn_by_id(db, session, turn))
        return None if record is None else record.turn

    async def files(self, session: SessionName, turn: TurnId) -> tuple[File, ...]:
        """What came with a turn's prompt, in its order, with its bytes; nothing where nothing did, or where
        the turn is not kept."""
        return await self._ask(lambda db: journal_files.read(db, session, turn))

    async def file(self, session: SessionName, turn: TurnId, number: int) -> File | None:
        """One of them, counted from 0."""
        return await self._ask(lambda db: journal_files.read_one(db, session, turn, number))

    async def past(self, session: SessionName, last: TurnId | None) -> PastTurns:
        """The finished turns up to `last` (None: all), for a fork. Raises `TurnNotFound` where `last` is no
        finished turn that is still kept."""
        return await self._ask(lambda db: journal_copy.past_turns(db, session, last))

    async def by_key(self, session: SessionName, key: str) -> TurnRecord | PrunedTurn | None:
        """The turn that was accepted under this idempotency key, with its blocks where it is still kept."""
        return await self._ask(lambda db: journal_sql.turn_by_key(db, session, key))

    async def prunable(
        self, session: SessionName, keep: int | None, before: float | None, limit: int
    ) -> tuple[TurnId, ...]:
        """The oldest finished turns, `limit` at most, beyond the newest `keep` or ended before `before`."""
        return await self._ask(lambda db: journal_sql.prunable(db, session, keep, before, limit))

    async def spent(self, month: str) -> tuple[Spending, ...]:
        """What has been spent: by day since `month` (YYYY-MM) began, and as one sum before that."""
        return await self._ask(lambda db: journal_spending.totals(db, month))

    async def spending(self, since: str, author: str | None, limit: int) -> tuple[Spending, ...]:
        """By day, author and session since the day `since`, the newest `limit` rows."""
        return await self._ask(lambda db: journal_spending.listed(db, since, author, limit))

    async def spare_pages(self) -> int:
        """Pages of the file that hold nothing and can be given back to the file system."""
        return await self._ask(journal_sql.spare_pages)

    async def closed_request(
        self, session: SessionName, request: RequestId
    ) -> tuple[Outcome, str | None] | None:
        """How a request was closed, and by whom; None where it is open or unknown."""
        return await self._ask(lambda db: journal_sql.closed_request(db, session, request))

    async def _ask(self, question: Callable[[sqlite3.Connection], T]) -> T:
        if self._closing:
            raise JournalError("The journal is closed.")
        return await self._loop.run_in_executor(self._reading, self._answer, question)

    def _answer(self, question: Callable[[sqlite3.Connection], T]) -> T:
        db = self._reader
        try:
            db.execute("BEGIN")  # one moment's view, however many queries it takes
            try:
                return question(db)
            finally:
                db.execute("ROLLBACK")
        except sqlite3.Error as e:
            raise JournalError(f"The journal could not be read: {describe(e)}") from e
