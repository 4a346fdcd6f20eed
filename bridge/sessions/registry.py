"""All sessions of this bridge, by name: brings them back, makes new ones, keeps their tasks supervised."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import structlog

from bridge.clock import Clock
from bridge.commands import NAME, StartOptions
from bridge.config import SessionConfig
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
    Evidence,
    Request,
    Session,
    SessionDeleted,
    SessionName,
    Turn,
    TurnId,
)
from bridge.sessions.actor import NOT_WRITTEN, Actor, Done, Publisher
from bridge.sessions.adoption import LOST, Adopting, Sidecars, Stray, as_loaded
from bridge.sessions.backends.base import Backend, Launch, Recall, Sink
from bridge.sessions.caretaker import Terms
from bridge.sessions.core import Phase, SessionCore
from bridge.sessions.facts import Facts, Limits, PromptRules
from bridge.sessions.journal import Journal
from bridge.sessions.keeper import Keeper
from bridge.sessions.records import LoadedSession, SaveSession, SaveTurn
from bridge.sessions.starts import Starts
from bridge.supervision import ChildSpec, RestartBudget, Supervisor

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class BackendKind:
    """How a backend of this kind is made for a session, and what it asks of prompts."""

    make: Callable[[SessionName, Sink], Backend]
    rules: PromptRules | None = None
    recall: Recall | None = None


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
    ) -> None:
        """`forget` drops a deleted session's topic. Without `adopting` only sessions on record are known."""
        self._journal = journal
        self._backends = backends
        self._publisher = publisher
        self._forget = forget
        self._supervisor = supervisor
        self._clock = clock
        self._config = config
        self._node = node
        self.starts = Starts(config.starts_at_once or max(LEAST_AT_ONCE, os.cpu_count() or 1))
        self._terms = Terms(self.starts, self._room, config.idle_stop_s, config.after_reboot)
        self._adopting = adopting
        self._orphans: dict[str, Stray] = {}
        self._looked = adopting is None
        """It is known which panes are on no record."""
        self._looking = asyncio.Lock()
        self._actors: dict[str, Actor] = {}
        self._in_change: dict[str, asyncio.Event] = {}
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
        return [self._actors[name].view() for name in sorted(self._actors)]

    def open_requests(self) -> Iterator[tuple[SessionName, Request]]:
        for actor in self._actors.values():
            for request in actor.core.requests:
                yield actor.core.facts.name, request

    async def history(self, name: SessionName, before: TurnId | None, limit: int) -> tuple[Turn, ...]:
        """Finished turns, newest last. Raises `TurnNotFound` where there is no turn `before`."""
        return await self._journal.turns(name, before, limit)

    def shortened(self, name: SessionName) -> None:
        """The oldest turns of a session are not kept any more."""
        actor = self._actors.get(name)
        if actor is not None:
            actor.shortened()

    # --- making and bringing back ---------------------------------------------------------------------

    async def load(self) -> None:
        """Bring back every session of the journal; whether their processes live is found out meanwhile. Then
        those that run and are on no record."""
        for loaded in await self._journal.load():
            actor = self._revive(loaded)
            if actor is not None:
                self._serve(actor)
        try:
            await self._look()
        except TmuxError as e:
            log.warning("could not look for sessions that are on no record", error=str(e))

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
            known, self._orphans = self._orphans, {}
            for stray in await self._adopting.look():
                if stray.name in self._actors or stray.name in self._in_change:
                    continue
                if not await self._taken_up(stray, self._adopting.sidecars):
                    self._orphans[stray.name] = stray
                    if stray.name not in known:
                        log.warning(
                            "found a session that is on no record; it is left alone",
                            session=stray.name,
                            attach=stray.attach,
                            end=stray.end,
                        )
            self._looked = True

    async def _taken_up(self, stray: Stray, sidecars: Sidecars) -> bool:
        sidecar = await asyncio.to_thread(sidecars.read, stray.name) if NAME.fullmatch(stray.name) else None
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
            return await self._make(SessionName(name), self._resolved(options)), False
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

    async def delete(self, name: str) -> None:
        """Returns once nothing of it is left, so that the name can be used again at once."""
        await self._unchanging(name)
        actor = self.get(name)
        with self._changing(name):
            ended = self._ended[name]
            await called(actor.delete)
            await ended.wait()

    async def _make(self, name: SessionName, options: StartOptions) -> Actor:
        self._room()
        if (problem := self._journal.problem) is not None:
            raise InternalError(f"{NOT_WRITTEN}: {problem}.")
        with self._changing(name):
            facts = Facts(
                name=name,
                backend=options.backend or self._config.backend,
                options=options,
                node=self._node,
                model=options.model,
                permission_mode=options.permission_mode or self._config.permission_mode,
                conversation=options.resume or str(uuid4()),
            )
            actor = self._build(facts)
            actor.core.created(self._clock.now())
            try:
                await self._journal.write([actor.saved()])
            except JournalError as e:
                raise InternalError(f"{NOT_WRITTEN}: {e}") from e
            self._serve(actor)
        log.info("session made", session=name, backend=facts.backend)
        return actor

    async def _unchanging(self, name: str) -> None:
        while (changing := self._in_change.get(name)) is not None:
            await changing.wait()

    @contextmanager
    def _changing(self, name: str) -> Iterator[None]:
        """Nobody else makes or deletes a session of this name meanwhile."""
        changed = self._in_change[name] = asyncio.Event()
        try:
            yield
        finally:
            del self._in_change[name]
            changed.set()

    def _revive(self, loaded: LoadedSession) -> Actor | None:
        """The session's task as the journal has it, not running yet."""
        r = loaded.record
        if r.backend not in self._backends:
            log.error("left a session out: nothing here can run it", session=r.name, backend=r.backend)
            return None
        facts = Facts.recorded(r, self._node)
        actor = self._build(facts, loaded)
        turns = [(t.turn, t.phase) for t in loaded.open_turns]
        halted = r.state in ("stopped", "failed", "parked")
        actor.core.restore(Phase(r.state) if halted else Phase.UNKNOWN, turns, loaded.requests)
        if not halted:
            actor.core.adopt(self._clock.now())
        return actor

    def _build(self, facts: Facts, loaded: LoadedSession | None = None) -> Actor:
        limits = Limits(self._config.max_queue, self._config.max_prompt_bytes)
        kind = self._backends[facts.backend]
        core = SessionCore(facts, limits, Evidence("journal", self._clock.now()), kind.rules)
        keeper = Keeper(facts)
        if loaded is not None:
            numbers = {t.turn.id: t.number for t in loaded.open_turns}
            keeper = Keeper(facts, loaded.record.checkpoint, numbers, loaded.last_number)
        made: list[Actor] = []
        backend = kind.make(facts.name, lambda batch: made[0].take(batch))
        actor = Actor(
            core,
            backend,
            self._journal,
            self._publisher(facts.name),
            self._clock,
            budget=RestartBudget(self._config.restart_limit, self._config.restart_window_s),
            keeper=keeper,
            terms=self._terms,
            sidecars=self._adopting.sidecars if self._adopting is not None else None,
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

        self._supervisor.start_child(
            ChildSpec(
                id=f"session:{name}",
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

    def _room(self) -> None:
        running = sum(not a.core.halted for a in self._actors.values())
        if running + len(self._in_change) >= self._config.max_sessions:
            raise TooManySessions(self._config.max_sessions)

    def defaults(self, backend: str) -> StartOptions:
        """What a session on this backend is run with that asks for nothing else. Raises `BridgeError`."""
        return self._resolved(StartOptions.model_validate({"backend": backend}))

    def _resolved(self, options: StartOptions) -> StartOptions:
        """The options with every default filled in that a process needs, and checked against this machine."""
        backend = options.backend or self._config.backend
        if backend not in self._backends:
            raise BackendUnavailable(backend, f"this bridge has {', '.join(sorted(self._backends))}.")
        roots = [root.expanduser().resolve() for root in self._config.roots] or [Path.home()]
        default = self._config.cwd.expanduser() if self._config.cwd else roots[0]
        return options.model_copy(
            update={
                "backend": backend,
                "model": options.model or self._config.model,
                "cwd": _folder("cwd", options.cwd or str(default), roots),
                "permission_mode": options.permission_mode or self._config.permission_mode,
                "add_dirs": [_folder("add_dirs", each, roots) for each in options.add_dirs or []] or None,
            }
        )

    def _compare(self, actor: Actor, options: StartOptions) -> None:
        """Only what is asked for is compared: a start without options takes the session as it is."""
        asked = options.model_dump(exclude_none=True)
        if asked:
            resolved = self._resolved(options).model_dump()
            has = actor.core.facts.options.model_dump()
            differing = [key for key in asked if resolved[key] != has[key]]
            if differing:
                raise SessionExists(actor.name, differing)


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
