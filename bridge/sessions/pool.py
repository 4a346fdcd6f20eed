"""Pools: workers that answer one-off questions, each with a fresh context.

A worker is an ordinary session that nobody else sees (`registry.Workers`): so a question is a turn, with all
that is promised of one. What a pool adds is who answers which question, and who hears of it. That a worker
has forgotten what it was asked before is its own session's concern (`effects.ForgetTurn`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import Any

import structlog

from bridge.clock import Clock
from bridge.commands import Fresh, RestartSession, StartOptions, SubmitPrompt
from bridge.config import PoolConfig
from bridge.errors import (
    BackendUnavailable,
    BridgeError,
    InternalError,
    InvalidPayload,
    JournalError,
    PoolNotFound,
    QueueFull,
    SetupError,
)
from bridge.events import Event, PoolChanged, SessionChanged, SessionDeleted, SessionName, Turn, TurnQueued
from bridge.sessions.actor import Actor
from bridge.sessions.journal import Journal
from bridge.sessions.question import Question, QuestionEvent
from bridge.sessions.records import DropTurns, TurnRecord
from bridge.sessions.registry import Registry, Workers, called
from bridge.supervision import RestartBudget, Supervisor

log = structlog.get_logger(__name__)

DEFAULT = "default"
"""The pool that is always there."""

LOOK_S = 5.0
"""Between two looks after a pool: workers that failed, answers that are not kept any longer."""
FAILED_AGAIN_S = 30.0
"""A worker that failed is tried again so often: nobody sees it who could do so by hand."""
GATHER_S = 0.05
"""Changes within so long are told as one: at a hundred questions a second nobody counts them."""
DROP_STEP = 50
"""Answers dropped in one transaction."""
BUDGET = RestartBudget(limit=50, window=60)
"""Crashes of workers' tasks, as for sessions."""

Told = Callable[[str, PoolChanged], None]
Later = Callable[[float, Callable[[], None]], object]


@dataclass(frozen=True, slots=True)
class Asked:
    """The answer to an ask: a question that goes on, or one that has ended and is no longer told of."""

    worker: SessionName
    turn: Turn | None
    """Where it has ended."""
    question: Question | None
    status: str
    position: int
    duplicate: bool


class Pools:
    """All pools of a bridge, by name."""

    def __init__(
        self, config: Mapping[str, PoolConfig], supervisor: Supervisor, clock: Clock, later: Later
    ) -> None:
        """`supervisor` gets a child for each pool, which is the supervisor of its workers."""
        self._clock = clock
        self._later = later
        self._supervisor = supervisor
        self._told: Told = lambda name, now: None
        self._pools = {
            name: Pool(
                name, each, Supervisor(f"pool:{name}", budget=BUDGET, clock=clock), warm=name in config
            )
            for name, each in {DEFAULT: PoolConfig(), **config}.items()
        }
        self._gone = Supervisor("pools that are no more", budget=BUDGET, clock=clock)

    @property
    def workers(self) -> Workers:
        """For the registry, which is made after this."""
        return Workers(self._terms, lambda name: pool.supervisor if (pool := self._of(name)) else self._gone)

    def names(self) -> list[str]:
        return list(self._pools)

    def get(self, name: str) -> Pool:
        """Raises `PoolNotFound`."""
        pool = self._pools.get(name)
        if pool is None:
            raise PoolNotFound(name)
        return pool

    def hear(self, worker: SessionName, at: float, event: Event) -> None:
        """All that a worker's session tells."""
        pool = self._of(worker)
        if pool is not None:
            pool.hear(worker, at, event)

    def watch(self, told: Told) -> None:
        """`told` hears of every change of a pool's figures."""
        self._told = told

    def open(self, registry: Registry, journal: Journal) -> None:
        """Once the registry has loaded what there was. Raises `SetupError` where a pool's workers could not
        be made here."""
        for name, pool in self._pools.items():
            try:
                registry.resolved(pool.config.options())
            except BridgeError as e:
                if pool.warm:
                    raise SetupError(
                        f"pools.{name}: {e}", "Correct the configuration of this pool."
                    ) from None
            pool.open(registry, journal, self._clock, self._later, self._changed)
            self._supervisor.start_child(pool.supervisor.spec())

    async def run(self, registry: Registry) -> None:
        """Look after all of them, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._gone.run())
            for actor in registry.workers():
                if self._of(actor.core.facts.name) is None:
                    log.info("ended a worker of a pool that is no more", session=actor.name)
                    with suppress(BridgeError):  # nothing can be written: at the next start, then
                        await registry.dismiss(actor.core.facts.name)
            for pool in self._pools.values():
                group.create_task(pool.run())

    def _changed(self, name: str, now: PoolChanged) -> None:
        self._told(name, now)

    def _of(self, worker: SessionName) -> Pool | None:
        prefix, _, name = worker.rpartition("-")[0].partition("-")
        return self._pools.get(name) if prefix == "_pool" else None

    def _terms(self, worker: SessionName) -> tuple[StartOptions | None, Fresh]:
        pool = self._of(worker)
        if pool is None:
            return None, PoolConfig().fresh(warm=False)
        return pool.config.options(), pool.config.fresh(warm=pool.warm)


class Pool:
    """One of them. `warm`: its workers are there before anybody asks."""

    def __init__(self, name: str, config: PoolConfig, supervisor: Supervisor, *, warm: bool) -> None:
        self.name = name
        self.config = config
        self.supervisor = supervisor
        self.warm = warm
        self._questions: dict[str, Question] = {}
        self._keys: dict[str, Question] = {}
        self._placing: dict[str, asyncio.Event] = {}
        self._load: dict[SessionName, int] = dict.fromkeys(self._names(), 0)
        self._order = count()
        self._chosen: dict[SessionName, int] = {}
        self._wanted = asyncio.Event()
        self._staffing = asyncio.Lock()
        self._failed_at: dict[SessionName, float] = {}
        self._said: PoolChanged | None = None
        self._gathering = False
        self._registry: Registry
        self._journal: Journal
        self._clock: Clock
        self._later: Later
        self._changed: Told

    def open(self, registry: Registry, journal: Journal, clock: Clock, later: Later, changed: Told) -> None:
        """Take up what an earlier bridge was asked."""
        self._registry, self._journal = registry, journal
        self._clock, self._later, self._changed = clock, later, changed
        prefix = f"_pool-{self.name}-"
        for actor in registry.workers():
            name = actor.core.facts.name
            if not (name.startswith(prefix) and name.removeprefix(prefix).isdigit()):
                continue
            self._load.setdefault(name, 0)  # the pool may have been larger
            core = actor.core
            for turn in (*([core.open.view()] if core.open else []), *core.queue):
                if turn.source == "client":
                    self._take(Question.taken_up(turn, name, previews=set(actor.previews)))

    # --- asking -----------------------------------------------------------------------------------------

    async def ask(self, prompt: str, key: str | None, author: str) -> Asked:
        """Have a question answered, once for each `key` as long as its answer is kept. Raises `BridgeError`.

        Between the question's being on record and the return nothing can be missed: listen to it then.
        """
        if key is None:
            return await self._placed(prompt, None, author)
        while (placing := self._placing.get(key)) is not None:
            await placing.wait()
        placed = self._placing[key] = asyncio.Event()
        try:
            known = await self._known(prompt, key)
            return known if known is not None else await self._placed(prompt, key, author)
        finally:
            del self._placing[key]
            placed.set()

    async def turn(self, asked: Asked) -> Turn | None:
        """The question as a turn, as it is now."""
        actor = self._registry.worker(asked.worker)
        if asked.turn is not None or actor is None or asked.question is None:
            return asked.turn
        return await actor.turn(asked.question.turn)

    async def _known(self, prompt: str, key: str) -> Asked | None:
        question = self._keys.get(key)
        if question is not None:
            _check_same(prompt, question.prompt)
            status = "running" if question.started else "queued"
            return Asked(question.worker, None, question, status, 0, True)
        for worker in self._load:
            try:
                found = await self._journal.by_key(worker, key)
            except JournalError as e:
                raise InternalError(f"It cannot be found out whether this was asked before: {e}") from e
            if isinstance(found, TurnRecord):
                _check_same(prompt, found.turn.prompt)
                if (goes_on := self._questions.get(found.turn.id)) is not None:
                    return Asked(worker, None, goes_on, found.turn.status, 0, True)
                return Asked(worker, found.turn, None, found.turn.status, 0, True)
        return None

    async def _placed(self, prompt: str, key: str | None, author: str) -> Asked:
        if sum(self._load.values()) >= self.config.size + self.config.max_waiting:
            raise QueueFull(self.config.max_waiting)
        self.want()
        actor = await self._worker()
        name = actor.core.facts.name
        self._load[name] = self._load.get(name, 0) + 1
        taken: list[Question] = []

        def answer(done: Callable[[object], None]) -> None:
            def answered(reply: Any) -> None:
                # At once, before the first event: who waits for the reply wakes later.
                if isinstance(reply, BridgeError):
                    self._unload(name)
                else:
                    taken.append(Question(reply["turn"], name, key, prompt))
                    self._take(taken[0], counted=True)
                done(reply)

            actor.call(SubmitPrompt.model_construct(prompt=prompt, id=key), author, answered)

        reply: Any = await called(answer)
        return Asked(name, None, taken[0], reply["status"], reply["position"], False)

    async def _worker(self) -> Actor:
        """Who is to answer the next question: the one with the least to do, rather one that is ready, and of
        equals the one that was not chosen for longest."""
        if len(self._hired()) < self.config.size:
            try:
                await self._staff()
            except BridgeError:
                if not self._hired():
                    raise
        able = [actor for actor in self._hired() if _is_able(actor)]
        if not able:
            raise BackendUnavailable(self.config.backend, f"no worker of the pool runs ({self._why()}).")
        chosen = min(able, key=self._rank)
        self._chosen[chosen.core.facts.name] = next(self._order)
        return chosen

    def _rank(self, actor: Actor) -> tuple[int, bool, int]:
        name = actor.core.facts.name
        return self._load.get(name, 0), not actor.core.unoccupied, self._chosen.get(name, -1)

    def _take(self, question: Question, *, counted: bool = False) -> None:
        self._questions[question.turn] = question
        if question.key is not None:
            self._keys[question.key] = question
        if not counted:
            self._load[question.worker] += 1
        self._look()

    def _unload(self, worker: SessionName) -> None:
        self._load[worker] = max(0, self._load.get(worker, 0) - 1)

    # --- what the workers tell --------------------------------------------------------------------------

    def hear(self, worker: SessionName, at: float, event: Event) -> None:
        if isinstance(event, TurnQueued | QuestionEvent):
            question = self._questions.get(event.turn)
            if question is None:
                return
            question.hear(at, event)
            if question.ended:
                del self._questions[question.turn]
                if question.key is not None:
                    self._keys.pop(question.key, None)
                self._unload(worker)
            self._look()
        elif isinstance(event, SessionChanged | SessionDeleted):
            self._look()

    def now(self) -> PoolChanged:
        busy = sum(question.started for question in self._questions.values())
        idle = sum(a.core.unoccupied and not self._load.get(a.core.facts.name) for a in self._hired())
        return PoolChanged(self.config.size, idle, busy, len(self._questions) - busy)

    def _look(self) -> None:
        """Something has changed, perhaps; the figures are told a moment later."""
        if not self._gathering:
            self._gathering = True
            self._later(GATHER_S, self._tell)

    def _tell(self) -> None:
        self._gathering = False
        now = self.now()
        if now != self._said:
            self._said = now
            self._changed(self.name, now)

    # --- looking after it -------------------------------------------------------------------------------

    def want(self) -> None:
        """Somebody is there who may ask."""
        self._wanted.set()

    async def run(self) -> None:
        """Have workers there, and forget answers in time; until cancelled."""
        if self.warm or self._questions:
            self.want()
        while True:
            try:
                await self._let_go()
                if self._wanted.is_set():
                    await self._staff()
                    self._try_failed()
                await self._drop_old()
            except (BridgeError, JournalError) as e:
                log.warning("a pool could not be looked after", pool=self.name, problem=str(e))
            if self._wanted.is_set():
                await asyncio.sleep(LOOK_S)
            else:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wanted.wait(), LOOK_S)

    async def _staff(self) -> None:
        """Make the workers that are missing. Raises `BridgeError`."""
        async with self._staffing:
            for name in self._names():
                if self._registry.worker(name) is None:
                    await self._registry.hire(name)
        self._look()

    def _try_failed(self) -> None:
        now = self._clock.monotonic()
        for name in self._names():
            actor = self._registry.worker(name)
            if actor is None or actor.core.state not in ("failed", "stopped") or _is_able(actor):
                self._failed_at.pop(name, None)
            elif now - self._failed_at.setdefault(name, now) >= FAILED_AGAIN_S:
                self._failed_at[name] = now
                actor.call(RestartSession(), None, lambda _: None)

    async def _let_go(self) -> None:
        """Of workers that are more than are wanted, or run on another backend than is wanted now, those that
        have nothing to do."""
        for name in [n for n, load in self._load.items() if not load]:
            actor = self._registry.worker(name)
            if name not in self._names():
                await self._registry.dismiss(name)
                del self._load[name]
            elif actor is not None and actor.core.facts.backend != self.config.backend:
                await self._registry.dismiss(name)

    async def _drop_old(self) -> None:
        before = self._clock.now() - self.config.keep_s
        for name in list(self._load):
            while turns := await self._journal.prunable(name, self.config.keep_answers, before, DROP_STEP):
                await self._journal.write([DropTurns(name, turns)])
                if (actor := self._registry.worker(name)) is not None:
                    actor.shortened()

    def _names(self) -> list[SessionName]:
        return [SessionName(f"_pool-{self.name}-{n + 1}") for n in range(self.config.size)]

    def _hired(self) -> list[Actor]:
        return [actor for name in self._names() if (actor := self._registry.worker(name)) is not None]

    def _why(self) -> str:
        """Of the workers that failed, for a person."""
        return next((a.core.facts.reason for a in self._hired() if a.core.facts.reason), "nobody knows why")


def _is_able(actor: Actor) -> bool:
    """A question that it is given will be answered, now or later."""
    return actor.core.phase.value not in ("failed", "stopped")


def _check_same(prompt: str, first: str) -> None:
    if prompt != first:
        raise InvalidPayload("id", "was used for another question to this pool")
