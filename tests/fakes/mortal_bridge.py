"""A bridge that can be killed between any two things it does to the world, and what then must hold.

Real are the registry, the actor, its hands, the core, the keeper and the journal's SQL. Simulated are the CLI
(`simulated_cli`), the disk's pace, and time. A killed process does nothing any more: whatever it would do
that others can see asks `Life.may` first, and each question is a boundary at which it can be killed.
"""

from __future__ import annotations

import asyncio
import selectors
import sqlite3
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Sequence
from contextvars import Context
from pathlib import Path
from typing import Any, Literal, TypeVar

import structlog

from bridge.commands import AnswerRequest, CancelTurn, Command, StartOptions, SubmitPrompt
from bridge.config import SessionConfig
from bridge.errors import BridgeError, InternalError, JournalError, SessionNotFound
from bridge.events import (
    Event,
    Outcome,
    RequestId,
    SessionName,
    Spending,
    Turn,
    TurnId,
)
from bridge.sessions import journal_spending, journal_sql
from bridge.sessions.actor import Actor
from bridge.sessions.budgets import Spent
from bridge.sessions.journal_schema import migrate
from bridge.sessions.records import LoadedSession, Op, PrunedTurn, TurnRecord
from bridge.sessions.registry import BackendKind, Registry
from bridge.supervision import RestartBudget, Supervisor
from tests.fakes.crash_ledger import NAME, Ledger, essence
from tests.fakes.simulated_cli import Cli, HeadlessBackendSim, SimulatedBackend
from tests.fakes.simulated_tui import TuiBackendSim, TuiCli

T = TypeVar("T")
Pace = Literal["prompt", "lazy", "stuck", "failing"]
"""Of the disk: writes what waits when nothing else is to be done; only where somebody waits for it; not at
all; or refuses, once."""

ROUNDS = 60
"""In which everything that was accepted has to end once nothing goes wrong any more."""


# --- time and the disk ------------------------------------------------------------------------------


class _Idle(selectors.DefaultSelector):
    def __init__(self, idle: Callable[[], None]) -> None:
        super().__init__()
        self._idle = idle

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout > 0:
            self._idle()
        return []


class SteppedLoop(asyncio.SelectorEventLoop):
    """Runs until nothing can go on; its time moves when a test says so."""

    def __init__(self, idle: Callable[[], bool]) -> None:
        """`idle` is called when nothing can go on, and says whether it has changed that."""
        self.at = 1000.0
        super().__init__(_Idle(lambda: None if idle() else self.stop()))

    def time(self) -> float:
        return self.at

    now = monotonic = time
    """It is the bridge's clock as well."""

    def settle(self) -> None:
        self.run_forever()

    def advance(self, seconds: float) -> None:
        self.at += seconds
        self.settle()


class _Written(asyncio.Future[None]):
    """Knows whether anybody waits for it."""

    awaited = False

    def __await__(self) -> Generator[Any, None, None]:
        self.awaited = True
        return super().__await__()

    def add_done_callback(self, fn: Callable[[Any], object], *, context: Context | None = None) -> None:
        """How `asyncio.wait` waits. A mark, which nobody waits for, has one as well."""
        self.awaited |= getattr(fn, "__name__", "") != Actor._marked.__name__
        super().add_done_callback(fn, context=context)


class Disk:
    """What is on it outlives the bridge; what waits for it may or may not."""

    def __init__(self) -> None:
        self.db = sqlite3.connect(":memory:", isolation_level=None)
        self.db.row_factory = sqlite3.Row
        self.db.execute("PRAGMA foreign_keys = ON")
        migrate(self.db, Path(":memory:"))
        self.waiting: deque[tuple[Sequence[Op], _Written]] = deque()
        self.pace: Pace = "prompt"
        self.last: Sequence[Op] = ()
        self.committed: Callable[[Sequence[Op]], None] = lambda ops: None

    @property
    def wanted(self) -> bool:
        """Something is to be written now."""
        if self.pace == "lazy":
            return any(written.awaited for _, written in self.waiting)
        return bool(self.waiting) and self.pace != "stuck"

    def write_next(self) -> None:
        ops, written = self.waiting.popleft()
        failing = self.pace == "failing"
        if not failing:
            self.put(ops)
        elif not self.waiting:
            self.pace = "prompt"
        if written.done():
            return  # cancelled, which does not take it back
        if failing:
            written.set_exception(JournalError("the disk is full"))
        else:
            written.set_result(None)

    def put(self, ops: Sequence[Op]) -> None:
        """One call: whole or not at all."""
        with self.db:
            self.db.execute("BEGIN")
            for op in ops:
                journal_sql.apply(self.db, op)
        self.last = ops
        self.committed(ops)

    def spent(self) -> Spent:
        """Over all days."""
        rows = journal_spending.totals(self.db, "9999")
        return sum((Spent(r.turns, r.cost_usd, r.usage.total) for r in rows), Spent())

    def load(self) -> LoadedSession | None:
        found, damaged = journal_sql.load(self.db, NAME)
        assert not damaged
        return found[0] if found else None


class DiskJournal:
    """`Journal` for one life of the bridge."""

    def __init__(self, disk: Disk, life: Life) -> None:
        self._disk = disk
        self._life = life
        self.problem: str | None = None

    def watch(self, changed: Callable[[], None]) -> None:
        """Its file can always be written; single writes may fail (`Pace`)."""

    def write(self, ops: Sequence[Op]) -> asyncio.Future[None]:
        written = _Written()
        if self._life.alive:
            self._disk.waiting.append((tuple(ops), written))
        return written

    async def load(self, name: SessionName | None = None) -> list[LoadedSession]:
        return journal_sql.load(self._disk.db, name)[0]

    async def spent(self, month: str) -> tuple[Spending, ...]:
        return journal_spending.totals(self._disk.db, month)

    async def turns(self, session: SessionName, before: TurnId | None, limit: int) -> tuple[Turn, ...]:
        return journal_sql.finished_turns(self._disk.db, session, before, limit)

    async def by_key(self, session: SessionName, key: str) -> TurnRecord | PrunedTurn | None:
        return journal_sql.turn_by_key(self._disk.db, session, key)

    async def closed_request(
        self, session: SessionName, request: RequestId
    ) -> tuple[Outcome, str | None] | None:
        return journal_sql.closed_request(self._disk.db, session, request)


# --- one life of the bridge ---------------------------------------------------------------------------


class Life:
    """From a start of the bridge to its death."""

    def __init__(self, fuse: int | None) -> None:
        self.alive = True
        self.fuse = fuse
        """Killed at this boundary, counted from 1."""
        self.crossed: list[str] = []

    def may(self, what: str) -> bool:
        """Whether it lives to do this."""
        if self.alive:
            self.crossed.append(what)
            self.alive = len(self.crossed) != self.fuse
        return self.alive


class Telling:
    """The publisher: what is told has to be true on disk at that moment."""

    viewers = 1

    def __init__(self, house: House, life: Life) -> None:
        self._house = house
        self._life = life

    def publish(self, at: float, event: Event) -> None:
        if self._life.may(event.event):
            self._house.ledger.told(event)

    def announce(self, at: float, event: Event) -> None:
        """The lobby is told the same."""


class House:
    """One session, its bridge, its disk and its CLI."""

    def __init__(self, cli: Cli, **config: Any) -> None:
        structlog.configure(processors=[self._read_log])
        self.broken: list[BaseException] = []
        """What the session's task ended by; a write that fails is the only reason it may have."""
        self.cli = cli
        self.disk = Disk()
        self.loop = SteppedLoop(self._idle)
        self.ledger = Ledger(self.disk.db, cli)
        self.disk.committed = self.ledger.committed
        self.config = SessionConfig(roots=[Path("/")], cwd=Path("/"), **config)
        self.life: Life | None = None
        self.fuse: int | None = None
        """For the next life."""
        self.unanswered: dict[str, str] = {}
        """Prompts by their keys, of clients that have heard no answer."""
        self._running: list[asyncio.Task[Any]] = []

    @property
    def backend(self) -> str:
        return "tmux" if isinstance(self.cli, TuiCli) else "headless"

    def close(self) -> None:
        if self.life is not None:
            self.kill(0)
        self.loop.close()
        self.disk.db.close()
        structlog.reset_defaults()

    # --- the bridge -------------------------------------------------------------------------------------

    def boot(self) -> None:
        """A bridge starts on what the last one left."""
        assert self.life is None
        life = self.life = Life(self.fuse)
        self.fuse = None
        supervisor = Supervisor("sessions", budget=RestartBudget(1000, 1), clock=self.loop)
        sim = TuiBackendSim if isinstance(self.cli, TuiCli) else HeadlessBackendSim

        def make(name: SessionName, sink: Callable[[Any], None]) -> SimulatedBackend:
            return sim(self.cli, life.may, lambda batch: sink(batch) if life.alive else None)

        self.registry = Registry(
            DiskJournal(self.disk, life),  # type: ignore[arg-type]
            {self.backend: BackendKind(make)},
            lambda name: Telling(self, life),
            lambda name: None,
            supervisor,
            self.loop,
            self.config,
            "node",
        )
        self._spawn(self.registry.load())
        self.settle()
        self._spawn(supervisor.run())
        self.settle()

    def kill(self, kept: int) -> None:
        """The bridge is gone; `kept`: so many of the writes that waited came to the disk all the same."""
        assert self.life is not None
        self.life.alive = False
        self.cli.bridge = None
        while self.disk.waiting and kept:
            self.disk.put(self.disk.waiting.popleft()[0])
            kept -= 1
        for _, written in self.disk.waiting:
            written.cancel()  # whoever waits for it to the end does so no longer
        self.disk.waiting.clear()
        for task in self._running:
            task.cancel()
        self.loop.settle()
        assert all(task.done() for task in self._running)
        self._running.clear()
        self.life = None

    def settle(self, seconds: float = 0.0) -> None:
        """Until nothing can go on; where the fuse has burnt, the bridge is dead then."""
        self.loop.advance(seconds)
        for task in [t for t in self._running if t.done()]:
            self._running.remove(task)
            if not task.cancelled() and not isinstance(task.exception(), BridgeError | None):
                task.result()
        if self.cli.bridge is not None and "greet" in self.cli.moves() and not self.cli.sleepy:
            self.cli.move("greet")
            self.loop.settle()
        for error in self.broken:
            raise error
        if self.life is not None and not self.life.alive:
            self.kill(0)

    def _read_log(self, logger: Any, name: str, event: Any) -> Any:
        alive = self.life is not None and self.life.alive  # what a kill cancels is not broken
        if alive and event["event"] == "! child ended by itself":
            self.broken += [e for e in _leaves(event["exc_info"]) if not isinstance(e, JournalError)]
        raise structlog.DropEvent

    def _idle(self) -> bool:
        """Nothing can go on: then the disk does."""
        life, disk = self.life, self.disk
        if life is None or not life.alive or not disk.wanted:
            return False
        while disk.waiting:
            if not life.may("commit"):
                return False
            disk.write_next()
        return True

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        self._running.append(self.loop.create_task(work))

    # --- its clients ------------------------------------------------------------------------------------

    @property
    def actor(self) -> Actor | None:
        try:
            return self.registry.get(NAME) if self.life is not None else None
        except SessionNotFound:
            return None

    def start(self) -> None:
        """Make the session, or start it again."""
        if self.life is not None:
            self._spawn(self.registry.start(NAME, StartOptions(backend=self.backend), joining=False))
            self.settle()

    def delete(self) -> None:
        if self.actor is not None:
            self.ledger.deleting = True
            self._spawn(self.registry.delete(NAME))
            self.settle()

    def call(self, command: Command, heard: Callable[[object], None] = lambda reply: None) -> None:
        life, actor = self.life, self.actor
        if life is not None and actor is not None:
            actor.call(command, "me", lambda reply: heard(reply) if life.may("reply") else None)
            self.settle()

    def submit(self, key: str, prompt: str) -> None:
        """Also again, where no answer was heard."""
        self.unanswered[key] = prompt

        def heard(reply: object) -> None:
            if isinstance(reply, InternalError):
                return  # nobody knows; the client tries again
            self.unanswered.pop(key, None)
            if not isinstance(reply, BridgeError):
                self.ledger.accepted(key, reply)

        self.call(SubmitPrompt(id=key, prompt=prompt), heard)

    def cancel(self, index: int) -> None:
        actor = self.actor
        if actor is not None and index < len(actor.core.queue):
            self.call(CancelTurn(turn=actor.core.queue[index].id))

    def answer(self, decision: Literal["allow", "deny"] = "allow") -> None:
        actor = self.actor
        request = next(iter(actor.core.requests), None) if actor is not None else None
        if request is not None:
            self.call(AnswerRequest(request=request.id, decision=decision))

    def move(self, what: str) -> None:
        """The CLI does something."""
        self.cli.move(what)
        self.settle()

    def die(self) -> None:
        """The CLI does."""
        self.cli.die()
        self.settle()

    # --- what must hold ---------------------------------------------------------------------------------

    def check(self) -> None:
        """What is on disk is what lives, as far as nothing is under way; and it comes back the same twice."""
        assert self.ledger.in_order()
        actor = self.actor
        loaded = self.disk.load()
        if loaded is None or self.life is None:
            return
        self.check_spending()
        again = [essence(self.registry._revive(loaded)) for _ in range(2)]
        assert again[0] == again[1]
        if actor is not None and not self.disk.waiting and actor._settled.is_set() and not actor._ended:
            lives = essence(actor)
            if actor._keeper._moved:
                lives["checkpoint"] = again[0][
                    "checkpoint"
                ]  # it goes to disk with the next that has something
            assert lives == again[0]

    def check_spending(self) -> None:
        """Every turn that has finished is counted once, on disk and, as far as nothing is under way, here."""
        query = "SELECT count(*), total(cost_usd) FROM turns WHERE phase = 'finished' AND started_at > 0"
        counted = self.disk.spent()
        assert (counted.turns, counted.cost_usd) == tuple(self.disk.db.execute(query).fetchone())
        if not self.disk.waiting and self.actor is not None and self.actor._settled.is_set():
            assert self.registry.ledger.spent("bridge", "", "total", self.loop.now()) == counted

    def check_repeat(self) -> None:
        """Every operation says what is true from now on: once more changes nothing."""
        before, spent = self.disk.load(), self.disk.spent()
        self.disk.put(self.disk.last)
        assert (self.disk.load(), self.disk.spent()) == (before, spent)

    def calm(self) -> None:
        """Nothing goes wrong any more: everything that was accepted ends."""
        cli = self.cli
        self.disk.pace = "prompt"
        if self.life is not None:
            self.life.fuse = None
        cli.silent = cli.refuses = cli.slow = cli.sleepy = False
        if isinstance(cli, TuiCli):
            cli.deaf = False
        else:
            cli.lag = False
        if cli.bridge is not None:
            cli.bridge.pump()
        for _ in range(ROUNDS):
            if self.life is None:
                self.boot()
            self.settle(10.0)
            if not self._go_on():
                self.check()
                self.ledger.all_over()
                return
        raise AssertionError("what was accepted does not end")

    def _go_on(self) -> bool:
        """One step of a CLI and of clients that behave; False where none is left to do."""
        actor, cli = self.actor, self.cli
        if actor is None:
            return False
        for key, prompt in self.unanswered.items():
            self.submit(key, prompt)
            return True
        if actor.core.state in ("stopped", "failed"):
            if not actor.core.queue:
                return False
            self.start()
        elif actor.core.requests:
            self.answer()
        elif isinstance(cli, TuiCli) and cli.draft:
            self.move("clear")
        else:
            return self.go_on() or actor.core.state != "idle"
        return True

    def go_on(self) -> bool:
        """The CLI goes on with its turn, in the usual way; False where it has none."""
        cli = self.cli
        order = ("greet", "result", "active", "end", "settle", "flush")
        if cli.run is not None and not cli.run.blocks:
            order = ("greet", "active", "preview", "settle") if not cli.run.preview else ("greet", "settle")
        usual = next((m for m in order if m in cli.moves()), None)
        if usual is not None:
            self.move(usual)
        return usual is not None


def _leaves(error: BaseException | None) -> list[BaseException]:
    """What a group of errors amounts to."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for e in error.exceptions for leaf in _leaves(e)]
    return [] if error is None else [error]
