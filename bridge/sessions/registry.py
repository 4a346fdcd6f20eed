"""All sessions of this bridge, by name: brings them back, makes new ones, keeps their tasks supervised."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from uuid import uuid4

import structlog

from bridge.clock import Clock, rfc3339
from bridge.commands import INNER, NAME, AfterReboot, Fresh, StartOptions
from bridge.config import BudgetConfig, SessionConfig
from bridge.errors import (
    BackendUnavailable,
    BridgeError,
    InternalError,
    InvalidName,
    InvalidPayload,
    JournalError,
    JournalStalled,
    SessionExists,
    SessionNotFound,
    TmuxError,
    TooManySessions,
)
from bridge.events import (
    BlockDiscarded,
    BudgetState,
    Evidence,
    Request,
    Session,
    SessionDeleted,
    SessionName,
    Spending,
    Turn,
    TurnId,
)
from bridge.sessions.actor import NOT_WRITTEN, Actor, Done, Publisher
from bridge.sessions.adoption import LOST, Adopting, Sidecars, Stray, as_loaded
from bridge.sessions.attachments import FileLimits
from bridge.sessions.backends.base import Backend, File, Forks, Launch, Past, Recall, Sink
from bridge.sessions.budgets import Ledger
from bridge.sessions.caretaker import Terms
from bridge.sessions.core import Phase, SessionCore
from bridge.sessions.facts import Facts, Limits, PromptRules
from bridge.sessions.inheritance import (
    Inherited,
    forked,
    forking,
    forks_of,
    outlasting,
    past_of,
    taken_over,
)
from bridge.sessions.journal import Journal
from bridge.sessions.keeper import Keeper
from bridge.sessions.records import LoadedSession, SaveSession, SaveTurn
from bridge.sessions.starts import Starts
from bridge.supervision import ChildSpec, RestartBudget, Supervisor

log = structlog.get_logger(__name__)


def _for_a_process(options: StartOptions) -> None:
    if options.on_restart is not None:
        raise InvalidPayload(
            "on_restart", "is for backend 'api' alone: the others go on while no bridge runs"
        )


@dataclass(frozen=True)
class BackendKind:
    """How a backend of this kind is made for a session, and what it asks of prompts."""

    make: Callable[[SessionName, Sink], Backend]
    rules: PromptRules | None = None
    recall: Recall | None = None
    fork: Forks | None = None
    """None: its sessions cannot be forked."""
    past: Past | None = None
    """None: conversations that were begun outside the bridge cannot be taken over."""
    check: Callable[[StartOptions], None] = _for_a_process
    """Raises where it cannot take these options, or cannot run here at all."""
    without_process: int | None = None
    """So many sessions may run that are nothing but tasks of the bridge: they neither wait for a place among
    the starts, nor give back memory when they are idle, nor leave anything that could be found without a
    journal. None: each has a process."""
    model: str | None = None
    """In place of the configuration's default, which is meant for the CLI."""


ONE_ACCOUNT = frozenset({"headless", "tmux"})
"""The backends that run the CLI, with one login."""


@dataclass(frozen=True)
class Workers:
    """Sessions of the bridge's own, whose names are `INNER`: nobody sees them but who made them. They are
    kept as all others are, and count against no limit of clients'."""

    terms: Callable[[SessionName], tuple[StartOptions | None, Fresh]]
    """How one is run, as it is wanted now; None: as it was."""
    supervisor: Callable[[SessionName], Supervisor]


LEAST_AT_ONCE = 4
"""Starts at once where there are fewer cores: half of a start is waiting for the disk."""

DETACH_S = 5.0
"""How long one session may take to let go of its process when the bridge stops."""


class Registry:
    def __init__(
        self,
        journal: Journal,
        backends: Mapping[str, BackendKind],
        publisher: Callable[[SessionName], Publisher],
        forget: Callable[[SessionName], None],
        supervisor: Supervisor,
        clock: Clock,
        config: SessionConfig,
        node: str,
        adopting: Adopting | None = None,
        budgets: Sequence[BudgetConfig] = (),
        workers: Workers | None = None,
    ) -> None:
        """`forget` drops a deleted session's topic. Without `adopting` only sessions on record are known."""
        self._workers = workers
        self._journal = journal
        self._backends = backends
        self._publisher = publisher
        self._forget = forget
        self._supervisor = supervisor
        self._clock = clock
        self._config = config
        self._node = node
        self.starts = Starts(config.starts_at_once or max(LEAST_AT_ONCE, os.cpu_count() or 1))
        self.ledger = Ledger(budgets)
        self.ledger.watch(self._crossed)
        self._limit: tuple[float, str] | None = None
        """The CLI account's, as it was met last: until when, and why."""
        asked = config.attachments
        bounds = (asked.max_bytes, asked.max_total_bytes, asked.max_count)
        self._file_limits = FileLimits(tuple(asked.types), *bounds)
        every = partial(Terms, ledger=self.ledger, limited=self._limited)
        self._terms = {
            name: every(self.starts, partial(self._room, name), config.idle_stop_s, config.after_reboot)
            if kind.without_process is None
            else every(Starts(kind.without_process), partial(self._room, name), process=False)
            for name, kind in backends.items()
        }
        self._adopting = adopting
        self._orphans: dict[str, Stray] = {}
        self._looked = adopting is None
        """It is known which panes are on no record."""
        self._looking = asyncio.Lock()
        self._actors: dict[str, Actor] = {}
        self._in_change: dict[str, asyncio.Event] = {}
        self._taking: set[str] = set()
        """Conversations from outside that are being read."""
        self._in_making: dict[str, str] = {}
        """Names that are in change, and the backend of each."""
        self._ended: dict[str, asyncio.Event] = {}
        journal.watch(self._journal_changed)

    # --- finding ------------------------------------------------------------------------------------

    def get(self, name: str) -> Actor:
        """Raises `InvalidName`, `SessionNotFound`."""
        if NAME.fullmatch(name) is None:
            raise InvalidName(name)
        actor = self._actors.get(name)
        if actor is None:
            raise SessionNotFound(name)
        return actor

    def sessions(self) -> list[Session]:
        """Those that clients may know of."""
        return [self._actors[name].view() for name in sorted(self._actors) if not _is_inner(name)]

    def workers(self) -> list[Actor]:
        return [actor for name, actor in sorted(self._actors.items()) if _is_inner(name)]

    def worker(self, name: SessionName) -> Actor | None:
        return self._actors.get(name)

    def open_requests(self) -> Iterator[tuple[SessionName, Request]]:
        for actor in self._actors.values():
            for request in actor.core.requests:
                yield actor.core.facts.name, request

    async def history(self, name: SessionName, before: TurnId | None, limit: int) -> tuple[Turn, ...]:
        """Finished turns, newest last. Raises `TurnNotFound` where there is no turn `before`."""
        return await self._journal.turns(name, before, limit)

    async def file(self, name: SessionName, turn: TurnId, number: int) -> File | None:
        """One of the files that came with a turn's prompt."""
        try:
            return await self._journal.file(name, turn, number)
        except JournalError as e:
            raise InternalError(f"The file could not be read: {e}") from e

    async def spending(self, since: str, author: str | None, limit: int) -> tuple[Spending, ...]:
        """What was spent by day, author and session since the day `since`; raises `JournalError`."""
        return await self._journal.spending(since, author, limit)

    def shortened(self, name: SessionName) -> None:
        """The oldest turns of a session are not kept any more."""
        actor = self._actors.get(name)
        if actor is not None:
            actor.shortened()

    # --- making and bringing back ---------------------------------------------------------------------

    async def load(self) -> None:
        """Bring back every session of the journal; whether their processes live is found out meanwhile. Then
        those that run and are on no record."""
        conversations: set[str] = set()
        now = self._clock.now()
        self.ledger.load(await self._journal.spent(rfc3339(now)[:7]), now)
        for loaded in await self._journal.load():
            conversations.add(loaded.record.conversation or "")
            actor = self._revive(loaded)
            if actor is not None:
                self._serve(actor)
        try:
            await self._look()
        except TmuxError as e:
            log.warning("could not look for sessions that are on no record", error=str(e))
        conversations |= {actor.core.facts.conversation or "" for actor in self._actors.values()}
        for forks in (kind.fork for kind in self._backends.values() if kind.fork is not None):
            try:
                await asyncio.to_thread(forks.sweep, conversations)
            except OSError as e:
                log.warning("could not remove what is left of a fork", error=str(e))

    async def orphans(self) -> list[Stray]:
        """What runs under this state folder's mark, and nobody knows what it is."""
        if self._orphans:
            with suppress(TmuxError):  # they are shown as they were seen last
                await self._look()
        return list(self._orphans.values())

    async def _look(self) -> None:
        """Take up what runs and is on no record, where what is kept beside it allows. Raises `TmuxError`."""
        if self._adopting is None:
            return
        async with self._looking:
            found: dict[str, Stray] = {}  # until all is known, and where tmux cannot say, it is as it was
            for stray in await self._adopting.look():
                if stray.name in self._actors or stray.name in self._in_change:
                    continue
                if not await self._taken_up(stray, self._adopting.sidecars):
                    found[stray.name] = stray
                    if stray.name not in self._orphans:
                        log.warning(
                            "found a session that is on no record; it is left alone",
                            session=stray.name,
                            attach=stray.attach,
                            end=stray.end,
                        )
            self._orphans, self._looked = found, True

    async def _taken_up(self, stray: Stray, sidecars: Sidecars) -> bool:
        named = NAME.fullmatch(stray.name) or INNER.fullmatch(stray.name)
        sidecar = await asyncio.to_thread(sidecars.read, stray.name) if named else None
        if sidecar is None or sidecar.generation != stray.generation:
            return False
        kind = self._backends.get(sidecar.backend)
        if kind is None or kind.recall is None:
            return False
        conversation = sidecar.conversation or ""
        launch = Launch(stray.name, sidecar.generation, conversation, True, sidecar.options)
        try:
            recalled = await asyncio.to_thread(kind.recall, launch, stray.pid)
            loaded = as_loaded(sidecar, recalled, self._clock.now())
            ops = [SaveTurn(stray.name, turn) for turn in loaded.open_turns]
            await self._journal.write([SaveSession(loaded.record), *ops])
        except (OSError, JournalError) as e:
            log.warning("could not take a session up", session=stray.name, error=str(e))
            return False
        actor = self._revive(loaded)
        assert actor is not None
        actor.core.facts.notice = LOST
        self._serve(actor)
        log.warning("took up a session that was on no record", session=stray.name, turn=recalled.turn)
        return True

    async def start(self, name: str, options: StartOptions, *, joining: bool) -> tuple[Actor, bool]:
        """The session of that name, made if there is none; whether it was there before.

        `joining` takes an existing session as it is. Otherwise options that differ raise `SessionExists`,
        and a session without a process is started again.
        """
        if NAME.fullmatch(name) is None:
            raise InvalidName(name)
        await self._unchanging(name)
        actor = self._actors.get(name)
        if actor is None and (not self._looked or name in self._orphans):
            actor = await self._unrecorded(name, options.backend or self._config.backend)
        if actor is None:
            return await self._make(SessionName(name), self.resolved(options)), False
        if not joining:
            self._compare(actor, options)
            if actor.core.halted:
                await called(actor.start)
        return actor, True

    async def _unrecorded(self, name: str, backend: str) -> Actor | None:
        """The session of that name, if it runs and can be taken up now. Raises where it cannot be: for a new
        one its process would have to be ended, which nobody has asked for."""
        try:
            await self._look()
        except TmuxError as e:
            raise InternalError(f"It cannot be found out whether {name!r} runs already: {e}") from e
        orphan = self._orphans.get(name)
        if orphan is not None:
            remedy = f"something runs as {name!r} that is on no record. Look at it: {orphan.attach}"
            raise BackendUnavailable(backend, f"{remedy}; end it: {orphan.end}; or choose another name.")
        return self._actors.get(name)

    async def fork(self, name: str, source: str, from_turn: str | None) -> Actor:
        """A new session that begins with the finished turns of `source`, which goes on as it did; up to and
        including `from_turn`, if that is given. All of it is there, or nothing."""
        if NAME.fullmatch(name) is None:
            raise InvalidName(name)
        origin = self.get(source)
        backend = origin.core.facts.backend
        forks = forks_of(backend, self._backends[backend].fork, origin.name)
        await self._unchanging(name)
        if name not in self._actors and (not self._looked or name in self._orphans):
            await self._unrecorded(name, backend)
            await self._unchanging(name)
        if name in self._actors:
            raise SessionExists(name, [], f"There is a session {name!r} already; choose another name.")
        self._room(backend)
        if (problem := self._journal.problem) is not None:
            raise InternalError(f"{NOT_WRITTEN}: {problem}.")
        try:
            with self._changing(name, backend):
                parting = await origin.parting(None if from_turn is None else TurnId(from_turn))
                inherited = forked(SessionName(name), parting)
                async with forking(forks, parting, inherited, named=from_turn is not None) as fork:
                    actor = await self._begin(inherited, fork.keep)
        except InternalError as e:
            if source not in self._actors:
                raise SessionNotFound(source) from e  # it was deleted meanwhile
            raise
        log.info("session forked", session=name, source=source, turns=actor.core.facts.turns)
        return actor

    async def delete(self, name: str) -> None:
        """Returns once nothing of it is left, so that the name can be used again at once."""
        await self._unchanging(name)
        await self._end(name, self.get(name))

    async def hire(self, name: SessionName) -> Actor:
        """The worker of that name, made if there is none. Raises `BridgeError`."""
        assert self._workers is not None
        await self._unchanging(name)
        actor = self._actors.get(name)
        if actor is None:
            options, _ = self._workers.terms(name)
            actor = await self._make(name, self.resolved(options or StartOptions()))
        return actor

    async def dismiss(self, name: SessionName) -> None:
        """Returns once nothing of the worker is left; nothing where there is none."""
        await self._unchanging(name)
        if (actor := self._actors.get(name)) is not None:
            await self._end(name, actor)

    async def _end(self, name: str, actor: Actor) -> None:
        with self._changing(name, actor.core.facts.backend):
            ended = self._ended[name]
            await called(actor.delete)
            await ended.wait()

    async def _make(self, name: SessionName, options: StartOptions) -> Actor:
        backend = options.backend or self._config.backend
        if not _is_inner(name):
            self._room(backend)
        if (problem := self._journal.problem) is not None:
            raise InternalError(f"{NOT_WRITTEN}: {problem}.")
        with self._changing(name, backend):
            facts = Facts(
                name=name,
                backend=backend,
                options=options,
                node=self._node,
                model=options.model,
                permission_mode=options.permission_mode or self._config.permission_mode,
                conversation=options.resume or str(uuid4()),
            )
            if options.resume is None:
                actor = await self._begin(Inherited(facts))
            else:
                actor = await self._take_over(facts, options.resume)
        log.info("session made", session=name, backend=facts.backend)
        return actor

    async def _begin(self, inherited: Inherited, begun: Callable[[], None] = lambda: None) -> Actor:
        """A new session, with what it begins with, on disk and served; `begun` is called when it is. Raises
        `InternalError`."""
        facts, limit = inherited.facts, self._limit
        if limit is not None and limit[0] > self._clock.now() and facts.backend in ONE_ACCOUNT:
            facts.limited_until, facts.limited_why = limit
        actor = self._build(facts, last_number=inherited.last_number)
        actor.core.created(self._clock.now())
        try:
            written = self._journal.write([actor.saved(), *inherited.operations])
            _, cancelled = await outlasting(written)
        except JournalError as e:
            raise InternalError(f"{NOT_WRITTEN}: {e}") from e
        self._serve(actor)
        begun()
        if cancelled is not None:
            raise cancelled
        return actor

    async def _take_over(self, facts: Facts, conversation: str) -> Actor:
        """A session that goes on with a conversation that was begun outside. Of one that two sessions had,
        each process would know a part, and neither would say so."""
        holders = [a.name for a in self._actors.values() if a.core.facts.conversation == conversation]
        if holders or conversation in self._taking:
            held = (
                f"belongs to session {holders[0]!r}" if holders else "is being taken over by another session"
            )
            said = f"The conversation {conversation} {held}: join that session, or fork it."
            raise SessionExists(holders[0] if holders else facts.name, ["resume"], said)
        self._taking.add(conversation)
        try:
            turns = await past_of(facts.backend, self._backends[facts.backend].past, conversation)
            return await self._begin(taken_over(facts, turns))
        finally:
            self._taking.discard(conversation)

    async def _unchanging(self, name: str) -> None:
        while (changing := self._in_change.get(name)) is not None:
            await changing.wait()

    @contextmanager
    def _changing(self, name: str, backend: str) -> Iterator[None]:
        """Nobody else makes or deletes a session of this name meanwhile."""
        changed = self._in_change[name] = asyncio.Event()
        self._in_making[name] = backend
        try:
            yield
        finally:
            del self._in_change[name], self._in_making[name]
            changed.set()

    def _revive(self, loaded: LoadedSession) -> Actor | None:
        """The session's task as the journal has it, not running yet."""
        r = loaded.record
        if r.backend not in self._backends:
            log.error("left a session out: nothing here can run it", session=r.name, backend=r.backend)
            return None
        facts = Facts.recorded(r, self._node)
        if _is_inner(r.name) and not self._as_wanted(facts):
            return None
        actor = self._build(facts, loaded)
        turns = [(t.turn, t.phase) for t in loaded.open_turns]
        halted = r.state in ("stopped", "failed", "parked")
        actor.core.restore(Phase(r.state) if halted else Phase.UNKNOWN, turns, loaded.requests)
        if not halted:
            actor.core.adopt(self._clock.now())
        return actor

    def _build(self, facts: Facts, loaded: LoadedSession | None = None, last_number: int = 0) -> Actor:
        limits = Limits(self._config.max_queue, self._config.max_prompt_bytes, self._file_limits)
        kind = self._backends[facts.backend]
        core = SessionCore(facts, limits, Evidence("journal", self._clock.now()), kind.rules)
        keeper = Keeper(facts, last_number=last_number)
        if loaded is not None:
            for t in loaded.open_turns:
                self.ledger.hold(t.turn.id, facts.name, t.turn.author)
            numbers = {t.turn.id: t.number for t in loaded.open_turns}
            keeper = Keeper(facts, loaded.record.checkpoint, numbers, loaded.last_number)
        made: list[Actor] = []
        terms = self._terms[facts.backend]
        if self._workers is not None and _is_inner(facts.name):
            _, facts.fresh = self._workers.terms(facts.name)
            after: AfterReboot = "resume" if facts.fresh.warm else "pending"
            terms = replace(terms, room=lambda: None, idle_stop_s=None, after_reboot=after)
        backend = kind.make(facts.name, lambda batch: made[0].take(batch))
        actor = Actor(
            core,
            backend,
            self._journal,
            self._publisher(facts.name),
            self._clock,
            budget=RestartBudget(self._config.restart_limit, self._config.restart_window_s),
            keeper=keeper,
            terms=terms,
            sidecars=self._adopting.sidecars if self._adopting and kind.without_process is None else None,
        )
        made.append(actor)
        return actor

    def _serve(self, actor: Actor) -> None:
        name = actor.core.facts.name
        self._actors[name] = actor
        fresh: list[Actor] = [actor]
        ended = self._ended[name] = asyncio.Event()

        async def run() -> None:
            # After a crash the task begins again from what the journal has, as after a restart.
            served = fresh.pop() if fresh else await self._reloaded(name)
            while served is not None:
                self._actors[name] = served
                served = await self._reloaded(name) if await _stalled(served) else None
            self._gone(name)
            # What follows in the supervisor happens in this same step, before anybody waiting wakes.
            ended.set()

        supervisor, kind = self._supervisor, "session"
        if self._workers is not None and _is_inner(name):
            supervisor, kind = self._workers.supervisor(name), "worker"
        supervisor.start_child(
            ChildSpec(
                id=f"{kind}:{name}",
                run=run,
                restart="transient",
                shutdown_s=DETACH_S,
                describe=lambda: self._actors[name].describe() if name in self._actors else {},
            )
        )

    async def _reloaded(self, name: SessionName) -> Actor | None:
        crashed = self._actors[name]
        for loaded in await self._journal.load(name):
            actor = self._revive(loaded)
            if actor is not None:
                # Its viewers stay, under the same numbers: text that is read again must not come on top.
                for block, turn in crashed.previews.items():
                    self._publisher(name).publish(self._clock.now(), BlockDiscarded(turn, block))
            return actor
        return None

    def _limited(self, name: str, backend: str, until: float, why: str) -> None:
        """A session has met the limit of its account: the others that use it need not try."""
        if backend in ONE_ACCOUNT:
            self._limit = (until, why)
        for actor in self._actors.values():
            same = actor.core.facts.backend == backend or {actor.core.facts.backend, backend} <= ONE_ACCOUNT
            if same and actor.name != name and not actor.core.halted:
                actor.limited(until, why)

    def _crossed(self, budget: BudgetState) -> None:
        log.warning(
            "budget exceeded" if budget.state == "exceeded" else "budget nearly spent",
            budget=budget.name,
            per=budget.per,
            of=budget.of,
            spent_usd=round(budget.spent_usd, 4),
            spent_tokens=budget.spent_tokens,
        )
        if budget.per == "bridge":
            for actor in self._actors.values():
                actor.budget_changed()

    def _journal_changed(self) -> None:
        for actor in self._actors.values():
            actor.journal_changed()

    def _gone(self, name: SessionName) -> None:
        self._actors.pop(name, None)
        self._ended.pop(name, None)
        self._publisher(name).announce(self._clock.now(), SessionDeleted(name))
        self._forget(name)
        log.info("session deleted", session=name)

    # --- what a start may ask for -----------------------------------------------------------------------

    def _room(self, backend: str) -> None:
        own = self._backends[backend].without_process
        alike = {
            n for n, kind in self._backends.items() if n == backend or own is kind.without_process is None
        }
        cores = (a.core for name, a in self._actors.items() if not _is_inner(name))
        running = sum(core.facts.backend in alike and not core.halted for core in cores)
        running += sum(each in alike for name, each in self._in_making.items() if not _is_inner(name))
        limit = self._config.max_sessions if own is None else own
        if running >= limit:
            raise TooManySessions(limit)

    def defaults(self, backend: str) -> StartOptions:
        """What a session on this backend is run with that asks for nothing else. Raises `BridgeError`."""
        return self.resolved(StartOptions.model_validate({"backend": backend}))

    def resolved(self, options: StartOptions) -> StartOptions:
        """The options with every default filled in that a process needs, and checked against this machine."""
        backend = options.backend or self._config.backend
        if backend not in self._backends:
            raise BackendUnavailable(backend, f"this bridge has {', '.join(sorted(self._backends))}.")
        kind = self._backends[backend]
        kind.check(options)
        mode = self._config.permission_mode if kind.without_process is None else "default"
        roots = [root.expanduser().resolve() for root in self._config.roots] or [Path.home()]
        default = self._config.cwd.expanduser() if self._config.cwd else roots[0]
        return options.model_copy(
            update={
                "backend": backend,
                "model": options.model or kind.model or self._config.model,
                "cwd": _folder("cwd", options.cwd or str(default), roots),
                "permission_mode": options.permission_mode or mode,
                "add_dirs": [_folder("add_dirs", each, roots) for each in options.add_dirs or []] or None,
            }
        )

    def _as_wanted(self, facts: Facts) -> bool:
        """Have a worker run as it is wanted now; whether there is anybody who wants one."""
        if self._workers is None:
            return False
        options, _ = self._workers.terms(facts.name)
        if options is not None and options.backend == facts.backend:  # else it is replaced once it is idle
            try:
                facts.options = self.resolved(options)
            except BridgeError as e:
                log.error("a worker runs as it did before", session=facts.name, problem=str(e))
                return True
            facts.model = facts.options.model
            facts.permission_mode = facts.options.permission_mode or facts.permission_mode
        return True

    def _compare(self, actor: Actor, options: StartOptions) -> None:
        """Only what is asked for is compared: a start without options takes the session as it is."""
        asked = options.model_dump(exclude_none=True)
        if asked:
            resolved = self.resolved(options).model_dump()
            has = actor.core.facts.options.model_dump()
            differing = [key for key in asked if resolved[key] != has[key]]
            if differing:
                raise SessionExists(actor.name, differing)


def _is_inner(name: str) -> bool:
    return INNER.fullmatch(name) is not None


async def _stalled(actor: Actor) -> bool:
    """Run it to its end; whether that came because nothing could be written. No crash: the next one waits."""
    stalled = False
    try:
        await actor.run()
    except* JournalStalled:
        stalled = True
    return stalled


async def called(method: Callable[[Done], None]) -> object:
    """Wait for an actor's answer; raises what it refuses with."""
    answer: asyncio.Future[object] = asyncio.get_running_loop().create_future()

    def done(result: object) -> None:
        if answer.done():
            return
        if isinstance(result, BridgeError):
            answer.set_exception(result)
        else:
            answer.set_result(result)

    method(done)
    return await answer


def _folder(field: str, given: str, roots: list[Path]) -> str:
    path = Path(given).expanduser()
    if not path.is_absolute():
        raise InvalidPayload(field, f"{given!r} is not an absolute path")
    resolved = path.resolve()
    if not any(resolved.is_relative_to(root) for root in roots):
        raise InvalidPayload(field, f"{given!r} is not under {', '.join(map(str, roots))}")
    if not resolved.is_dir():
        raise InvalidPayload(field, f"{given!r} is not a folder on the bridge's machine")
    return str(resolved)
