"""One session's task: one mailbox in, the core decides, the journal keeps, the topic tells.

Everything that happens to a session passes through `run`, one thing at a time: what the core makes of
it is first on disk, then answered, then published, and only then done. Only marks of how far the open
turn came are not waited for (`_is_mark`). The backend is never awaited here; `hands` does that beside
it, so that a slow process delays neither signals nor clients.

Where nothing can be written, what was being taken in is given up with this task (`JournalStalled`), before
anybody has heard of it. The next one begins from the journal, and from the process once writing works again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol
from uuid import uuid4

from bridge.clock import Clock
from bridge.commands import (
    AnswerRequest,
    CancelTurn,
    Command,
    ConfigureSession,
    InterruptTurn,
    RestartSession,
    StopSession,
    SubmitPrompt,
)
from bridge.errors import (
    BridgeError,
    InternalError,
    InvalidPayload,
    JournalError,
    RequestClosed,
)
from bridge.events import (
    BlockDiscarded,
    BlockFinished,
    DeltaAdded,
    Event,
    RequestId,
    Session,
    SessionChanged,
    SessionDeleted,
    Snapshot,
    Turn,
    TurnId,
)
from bridge.sessions.adoption import Sidecars
from bridge.sessions.attachments import described
from bridge.sessions.backends.base import Backend, Batch, Checkpoint
from bridge.sessions.caretaker import Caretaker, Terms
from bridge.sessions.core import Phase, SessionCore
from bridge.sessions.effects import (
    BlockKept,
    FilesKept,
    Output,
    PlanRestart,
    SendAnswer,
    SendSettings,
    StartProcess,
    StopProcess,
    TurnAdvanced,
)
from bridge.sessions.facts import Facts
from bridge.sessions.hands import Outcome
from bridge.sessions.journal import Journal
from bridge.sessions.keeper import Keeper
from bridge.sessions.records import (
    DeleteSession,
    PastTurns,
    PrunedTurn,
    SaveSession,
)
from bridge.signals import LimitReached
from bridge.supervision import RestartBudget

Done = Callable[[object], None]
"""Gets a reply's payload or a `BridgeError`, once, before the events of the command are published."""

NOT_WRITTEN = "Nothing was done, and nothing will be: the bridge cannot write to its journal"
DONE_UNWRITTEN = "Claude was told, and the bridge cannot write that down"

MAILBOX_CALLS = 10_000
"""Calls that may wait for one session; more are refused. Signals are not bounded here: they are on disk
already, and the backend reads them no faster than this task lets the loop run."""


class Publisher(Protocol):
    """Where a session's events go; the composition root makes it of the hub's topics."""

    @property
    def viewers(self) -> int: ...

    @property
    def watched(self) -> bool:
        """Somebody has the live screen open."""
        ...

    def publish(self, at: float, event: Event) -> None: ...

    def announce(self, at: float, event: SessionChanged | SessionDeleted) -> None:
        """To the lobby."""
        ...


@dataclass(frozen=True, slots=True)
class _Call:
    command: Command
    author: str | None
    done: Done


@dataclass(frozen=True, slots=True)
class _Change:
    """Something of our own to be taken in: what became of an effect, or a timer that is due."""

    make: Callable[[float], list[Output]]
    done: Done | None = None
    reply: object = None
    unwritten: str = NOT_WRITTEN
    """What `done` is told where it cannot be written down."""


@dataclass(frozen=True, slots=True)
class Parting:
    """A session at one moment, for another to be made of it."""

    facts: Facts
    past: PastTurns
    unfinished: tuple[TurnId, ...]


class _Notice:
    """The journal can be written again, or no longer: those who look at the session are told."""


class Actor:
    """Made for one life of the task: after a crash the registry builds another from the journal."""

    def __init__(
        self,
        core: SessionCore,
        backend: Backend,
        journal: Journal,
        publisher: Publisher,
        clock: Clock,
        *,
        budget: RestartBudget,
        keeper: Keeper,
        terms: Terms,
        sidecars: Sidecars | None = None,
    ) -> None:
        self.core = core
        self._backend = backend
        self._journal = journal
        self._publisher = publisher
        self._clock = clock
        self._keeper = keeper
        self._mailbox: asyncio.Queue[_Call | _Change | _Notice | Batch] = asyncio.Queue()
        self._terms = terms
        self._care = Caretaker(
            core,
            backend,
            keeper,
            clock,
            terms,
            budget,
            sidecars,
            change=lambda make: self._mailbox.put_nowait(_Change(make)),
            sink=self.take,
            watched=lambda: publisher.watched,
            files=lambda turn: journal.files(core.facts.name, turn),
        )
        self._hands = self._care.hands
        self._settled = asyncio.Event()
        self._onlookers = 0
        self._standing = False
        """Nothing was begun: it waits for the journal."""
        self._deleted: Done | None = None
        self.previews: dict[int, TurnId] = {}
        """Blocks whose text viewers were shown, and which no journal has yet."""
        self._ended = False
        self._turns_cache: tuple[int, int, tuple[Turn, ...]] | None = None

    # --- what others may call -----------------------------------------------------------------------

    @property
    def name(self) -> str:
        return self.core.facts.name

    @property
    def has_process(self) -> bool:
        """Its backend runs one, now or another time."""
        return self._terms.process

    def view(self) -> Session:
        return self._seen(self.core.session())

    def saved(self) -> SaveSession:
        """The session as the journal is to have it."""
        return self._keeper.session(self.core.phase.value)

    def call(self, command: Command, author: str | None, done: Done) -> None:
        """Put a client's command into the mailbox; `done` is called from this session's task."""
        if self._ended:
            done(self._between())
            return
        if self._mailbox.qsize() >= MAILBOX_CALLS:
            done(InternalError(f"{MAILBOX_CALLS} calls are already waiting for {self.name!r}."))
            return
        self._mailbox.put_nowait(_Call(command, author, done))

    def take(self, batch: Batch) -> None:
        """The backend's sink."""
        self._mailbox.put_nowait(batch)

    def start(self, done: Done) -> None:
        """Start a session without a process again; nothing where it runs. Refused with `TooManySessions`."""
        if (refusal := self._unwritable()) is not None:
            done(refusal)
            return

        def again(at: float) -> list[Output]:
            if not self.core.halted:
                return []
            self._terms.room()
            self._care.forgive()
            return self.core.start(at)

        self._mailbox.put_nowait(_Change(again, done))

    def delete(self, done: Done) -> None:
        """End everything of this session; `run` returns once it is gone."""
        if (refusal := self._unwritable()) is not None:
            done(refusal)
            return

        def forget(at: float) -> list[Output]:
            self._deleted = done
            return []

        def gone(result: Outcome) -> None:
            self._mailbox.put_nowait(_Change(forget))

        def end(at: float) -> list[Output]:
            out = [*self.core.cancel_all(at), *self.core.stop(at)]
            self._hands.delete(gone)
            return [o for o in out if not isinstance(o, StopProcess)]

        self._mailbox.put_nowait(_Change(end))

    def journal_changed(self) -> None:
        """Its `problem` has come or gone."""
        self._mailbox.put_nowait(_Notice())

    def budget_changed(self) -> None:
        """One that applies to this session has passed its warning or its limit, in another session."""
        self._mailbox.put_nowait(_Notice())

    def limited(self, until: float, why: str) -> None:
        """Another session has met the account's limit."""
        self._mailbox.put_nowait(_Change(lambda at: self.core.limited(until, why, at)))

    def describe(self) -> dict[str, object]:
        """For the supervision tree."""
        f = self.core.facts
        return {
            "session": f.name,
            "backend": f.backend,
            "session_state": self.core.state,
            "pid": self._backend.pid,
            "generation": f.generation,
            "process_restarts": f.restarts,
        }

    async def snapshot(self, turns: int) -> Snapshot:
        """The state as it has been published, exactly: nothing is between disk and topic when this
        returns, and the caller may subscribe before it awaits anything."""
        self._onlookers += 1
        try:
            while True:
                await self._quiet()  # what has finished by now is in the journal
                mark = self.core.finished
                finished = await self._finished_turns(turns)
                await self._quiet()
                if mark == self.core.finished:
                    return replace(self.core.snapshot(finished), session=self.view())
        finally:
            self._onlookers -= 1

    async def turn(self, turn: TurnId) -> Turn | None:
        """One turn as it has been published, finished or not; None where it is not known, or not kept any
        more. Of one that goes on, the events after it follow: subscribe before anything is awaited."""
        self._onlookers += 1
        try:
            while True:
                await self._quiet()
                if (held := self.core.held(turn)) is not None:
                    return held
                kept = await self._journal.turn(self.core.facts.name, turn)
                if kept is None or kept.status not in ("queued", "running"):
                    return kept  # else it was queued after we looked
        except JournalError as e:
            raise InternalError(f"The turn could not be read: {e}") from e
        finally:
            self._onlookers -= 1

    async def parting(self, last: TurnId | None) -> Parting:
        """What another session begins with that is forked from this one, up to the turn `last` (None: all
        that are finished). Raises `TurnNotFound`, and `InvalidPayload` where that turn is not finished."""
        self._onlookers += 1
        try:
            while True:
                await self._quiet()
                if last is not None and (held := self.core.held(last)) is not None:
                    raise InvalidPayload("from_turn", f"is {held.status}; a fork begins with finished turns")
                mark = self.core.finished
                past = await self._journal.past(self.core.facts.name, last)
                await self._quiet()
                if mark == self.core.finished:
                    return Parting(replace(self.core.facts), past, tuple(self.core.unfinished()))
        except JournalError as e:
            raise InternalError(f"The history could not be read: {e}") from e
        finally:
            self._onlookers -= 1

    def shortened(self) -> None:
        """The oldest of its turns are not kept any more."""
        self._turns_cache = None

    def abandon(self, error: BridgeError) -> None:
        """Answer every call that still waits: this task will not come to them."""
        while not self._mailbox.empty():
            item = self._mailbox.get_nowait()
            if isinstance(item, _Call | _Change) and item.done is not None:
                item.done(error)

    # --- the task -------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until deleted. Cancelling detaches: the process is left as it is. Raises `JournalStalled`,
        alone or in a group, where nothing can be written: what has been told or begun is not lost by that."""
        try:
            await self._stand()
            async with asyncio.TaskGroup() as group:
                hands = group.create_task(self._hands.run(), name=f"hands:{self.name}")
                attending = group.create_task(self._backend.attend(), name=f"attend:{self.name}")
                if self.core.phase is Phase.UNKNOWN:
                    group.create_task(self._care.adopt(), name=f"adopt:{self.name}")
                elif self.core.phase is Phase.STARTING:
                    # Made this very moment, and journaled: the first process is still to come.
                    await self._apply(self.core.start_process())
                else:
                    # Without a process: the bridge that wrote it down may have been killed before it ended
                    # the process, which would go on with a turn that is called interrupted.
                    self._hands.stop(self._then(None))
                resting = group.create_task(self._care.rest(), name=f"rest:{self.name}")
                self._care.mind_limit()
                self._settled.set()
                while self._deleted is None:
                    await self._handle(await self._mailbox.get())
                    if self._onlookers:
                        await asyncio.sleep(0)  # between two things is the only moment for a snapshot
                hands.cancel()
                attending.cancel()
                resting.cancel()
            try:
                await self._journal.write([DeleteSession(self.core.facts.name)])
            except JournalError as e:
                self._deleted(InternalError(f"The session is stopped, and still on record: {e}"))
                raise
            self._deleted({})
        finally:
            self._ended = True
            self._settled.set()  # for those who wait for a quiet moment: none will come
            self._hands.started()
            self._care.forget_limit()
            self.abandon(self._between())
            await self._backend.detach()

    async def _stand(self) -> None:
        """Wait until the journal can be written. Who looks sees the session as it was left; who asks for
        something is refused at once."""
        if self._journal.problem is None:
            return
        self._standing = True
        self._tell()
        self._settled.set()
        while self._journal.problem is not None:
            await self._handle(await self._mailbox.get())
        self._standing = False

    async def _handle(self, item: _Call | _Change | _Notice | Batch) -> None:
        self._settled.clear()
        now = self._clock.now()
        match item:
            case Batch():
                await self._take(item, now)
            case _Change(make=make, done=done, reply=reply, unwritten=unwritten):
                try:
                    out = make(now)
                except BridgeError as e:
                    if done is None:
                        raise
                    done(e)
                else:
                    await self._apply(out, done=done, reply=reply, unwritten=unwritten)
            case _Notice():
                self._tell()
            case _Call():
                try:
                    await self._answer_call(item, now)
                except BridgeError as e:
                    item.done(e)
        self._settled.set()

    async def _take(self, batch: Batch, now: float) -> None:
        if batch.generation != self.core.facts.generation or self.core.halted:
            return  # the last words of a process that was ended on purpose
        out: list[Output] = []
        for signal in batch.signals:
            out += self.core.observe(signal, now, batch.source)
        await self._apply(out, checkpoint=batch.checkpoint)
        f = self.core.facts
        if f.limited_until is not None and any(
            isinstance(s, LimitReached) and s.shared for s in batch.signals
        ):
            self._terms.limited(f.name, f.backend, f.limited_until, f.limited_why or "")

    async def _answer_call(self, call: _Call, now: float) -> None:
        command, done = call.command, call.done
        # A prompt that was accepted before is found again; an interrupt needs no writing, but a process.
        if not isinstance(command, SubmitPrompt) and (
            self._standing or not isinstance(command, InterruptTurn)
        ):
            self._check_writable()
        match command:
            case SubmitPrompt():
                reply = await self._known(command)
                if reply is not None:
                    done(reply)
                    return
                self._check_writable()
                if self.core.phase is Phase.PARKED:
                    self._terms.room()
                turn, ledger = TurnId(str(uuid4())), self._terms.ledger
                ledger.check(self.name, call.author, now)
                reply, out = self.core.submit(turn, command, call.author, now)
                ledger.hold(turn, self.name, call.author)
                try:
                    await self._apply(out, done=done, reply=reply)
                except JournalError:
                    ledger.release(turn)  # it was not accepted
                    raise
            case InterruptTurn():
                reply, out = self.core.interrupt(now)
                await self._apply(out, done=done, reply=reply)
            case CancelTurn(turn=turn):
                await self._apply(self.core.cancel(turn, now), done=done, reply={})
            case AnswerRequest():
                try:
                    out = self.core.answer(command, call.author)
                except RequestClosed as e:
                    raise await self._told_by_journal(e, command) from e
                await self._apply(out, done=done, reply={})
            case ConfigureSession():
                await self._configure(command, done, now)
            case RestartSession():
                if self.core.halted:
                    self._terms.room()
                self._care.forgive()
                await self._apply(self.core.restart(now), done=done, reply={})
            case StopSession():
                await self._apply(self.core.stop(now), done=done, reply={})
            case _:
                raise InvalidPayload("event", f"{type(command).__name__} is not for a session")

    async def _known(self, command: SubmitPrompt) -> dict[str, Any] | None:
        """The reply to a prompt whose key was used before: its first turn, and nothing runs."""
        if command.id is None:
            return None
        known = await self._journal.by_key(self.core.facts.name, command.id)
        if known is None:
            return None
        prompt = self.core.check_prompt(command)
        files = described(command.attachments)
        if isinstance(known, PrunedTurn):
            turn, status, same = known.turn, known.status, known.had(prompt, files)
        else:
            turn, status = known.turn.id, known.turn.status
            same = (known.turn.prompt, known.turn.attachments) == (prompt, files)
        if not same:
            raise InvalidPayload("id", "was used for another prompt, or other files, in this session")
        ahead = [t.id for t in self.core.queue]
        position = ahead.index(turn) + (self.core.open is not None) if turn in ahead else 0
        return {"turn": turn, "status": status, "position": position, "duplicate": True}

    async def _told_by_journal(self, refusal: RequestClosed, command: AnswerRequest) -> RequestClosed:
        if refusal.details.get("outcome") is not None:
            return refusal
        closed = await self._journal.closed_request(self.core.facts.name, RequestId(command.request))
        return RequestClosed(command.request, *closed) if closed else refusal

    async def _configure(self, command: ConfigureSession, done: Done, now: float) -> None:
        model, mode = command.model, command.permission_mode

        def configured(at: float) -> list[Output]:
            return self.core.configure(model, mode, at)

        if self.core.halted:
            await self._apply(configured(now), done=done, reply={})
            return

        def sent(result: Outcome) -> None:
            # Where there is no process yet, or none any more, the next one is started with it.
            if result is None or self.core.phase not in (Phase.IDLE, Phase.BUSY):
                unwritten = NOT_WRITTEN if result is not None else DONE_UNWRITTEN
                self._mailbox.put_nowait(_Change(configured, done, {}, unwritten))
            else:
                done(InvalidPayload("", f"Claude refused the change: {result}"))

        self._hands.do(SendSettings(model, mode), sent)

    # --- from outputs to disk, to the caller, to the topic, to the backend ------------------------------

    async def _apply(
        self,
        out: Sequence[Output],
        *,
        checkpoint: Checkpoint | None = None,
        done: Done | None = None,
        reply: object = None,
        unwritten: str = NOT_WRITTEN,
    ) -> None:
        if out:
            self._care.used()
        if any(isinstance(o, StartProcess) for o in out):
            self._new_generation()
        ops = self._keeper.operations(out, self.core.phase.value, checkpoint, self._clock.now())
        if ops:
            self._care.keep_beside(out)
            written = self._journal.write(ops)
            if done is None and all(map(_is_mark, out)):
                written.add_done_callback(self._marked)
            else:
                await self._on_disk(written, done, unwritten)
            self._account_for(out)
        waits = done is not None and any(isinstance(o, StopProcess | SendAnswer) for o in out)
        if done is not None and not waits:
            done(reply)
        now = self._clock.now()
        for o in out:
            self._carry_out(o, now, (done, reply) if waits else None)
        self._care.mind_limit()
        if self.core.phase not in (Phase.STARTING, Phase.RESTARTING):
            self._hands.started()

    def _account_for(self, out: Sequence[Output]) -> None:
        """What has finished, and is on disk, is counted before anybody is told."""
        for o in out:
            if isinstance(o, TurnAdvanced) and o.phase == "finished":
                self._terms.ledger.finished(self.name, o.turn)

    async def _on_disk(self, written: asyncio.Future[None], done: Done | None, unwritten: str) -> None:
        try:
            await written
        except JournalError as e:
            if done is not None:
                done(InternalError(f"{unwritten}: {e}"))
            raise
        if self._keeper.checkpoint is not None:
            self._backend.committed(self._keeper.checkpoint)

    def _marked(self, written: asyncio.Future[None]) -> None:
        """A mark is on disk, or not: then this task ends, as with any other write that fails."""
        error = None if written.cancelled() else written.exception()
        if error is not None:

            def fail(_: float) -> list[Output]:
                raise error

            self._mailbox.put_nowait(_Change(fail))

    def _carry_out(self, o: Output, now: float, waiting: tuple[Done | None, object] | None) -> None:
        match o:
            case DeltaAdded():
                self.previews[o.block] = o.turn
                self._publisher.publish(now, o)
            case TurnAdvanced() | BlockKept() | FilesKept():
                pass
            case SessionChanged(session=session):
                self._tell(session)
            case PlanRestart(why=why):
                self._care.plan_restart(why)
            case StartProcess(resume=resume):
                self._care.start(resume=resume)
            case StopProcess():
                self._hands.stop(self._then(waiting))
            case SendAnswer():
                self._hands.do(o, self._answer_sent(o, waiting))
            case _:
                if isinstance(o, Event):
                    if isinstance(o, BlockFinished | BlockDiscarded):
                        self.previews.pop(o.block, None)
                    self._publisher.publish(now, o)
                else:
                    self._hands.do(o, self._care.sent(o))

    def _tell(self, session: Session | None = None) -> None:
        """The session, to those who look. That the journal cannot be written is the one thing that no journal
        has before it is told."""
        now, changed = self._clock.now(), SessionChanged(self._seen(session or self.core.session()))
        self._publisher.publish(now, changed)
        self._publisher.announce(now, changed)

    def _seen(self, session: Session) -> Session:
        """As it is shown, with what the core does not know."""
        reason = session.reason
        if self._journal.problem is not None and session.state not in ("stopped", "failed"):
            reason = f"the bridge cannot write to its journal: {self._journal.problem}"
        budget = self._terms.ledger.of_session(session.name, self._clock.now())
        return replace(session, viewers=self._publisher.viewers, reason=reason, budget=budget)

    def _unwritable(self) -> InternalError | None:
        problem = self._journal.problem
        return None if problem is None else InternalError(f"{NOT_WRITTEN}: {problem}.")

    def _between(self) -> InternalError:
        """For who asks between two lives of this task."""
        why = (
            ""
            if self._journal.problem is None
            else f": its journal cannot be written: {self._journal.problem}"
        )
        return InternalError(f"The session's task is being restarted{why}.")

    def _check_writable(self) -> None:
        """What cannot be written down is not begun."""
        if (refusal := self._unwritable()) is not None:
            raise refusal

    def _new_generation(self) -> None:
        """Named and on disk before the process is there: an adoption looks for this number."""
        self.core.facts.generation += 1

    # --- what becomes of effects ------------------------------------------------------------------------

    def _then(self, waiting: tuple[Done | None, object] | None) -> Callable[[Outcome], None]:
        def finished(result: Outcome) -> None:
            if waiting is not None and waiting[0] is not None:
                waiting[0](waiting[1] if result is None else InternalError(str(result)))

        return finished

    def _answer_sent(
        self, answer: SendAnswer, waiting: tuple[Done | None, object] | None
    ) -> Callable[[Outcome], None]:
        done, reply = waiting or (None, None)

        def sent(result: Outcome) -> None:
            if result is None:
                self._mailbox.put_nowait(
                    _Change(lambda at: self.core.answered(answer.request, at), done, reply, DONE_UNWRITTEN)
                )
                return
            self.core.requests.answer_failed(answer.request)
            if done is None:
                return
            if any(r.id == answer.request for r in self.core.requests):
                done(InternalError(f"The answer could not be sent: {result}"))
                return
            # Somebody else's was quicker: who comes too late is told whose.
            late = AnswerRequest(request=answer.request, decision="deny")
            self._mailbox.put_nowait(_Call(late, None, done))

        return sent

    # --- reading ------------------------------------------------------------------------------------------

    async def _quiet(self) -> None:
        """Until nothing is between the core and the topic, which is so until the caller awaits again."""
        while not self._settled.is_set():
            await self._settled.wait()  # the session may have gone on by the time this task has its turn
        if self._ended:
            raise self._between()

    async def _finished_turns(self, limit: int) -> tuple[Turn, ...]:
        """The newest finished turns, asked for in a quiet moment; kept until the next one finishes, because
        clients come in storms."""
        mark = self.core.finished
        if self._turns_cache is not None and self._turns_cache[:2] == (mark, limit):
            return self._turns_cache[2]
        turns = await self._journal.turns(self.core.facts.name, None, limit) if limit else ()
        if mark == self.core.finished:
            self._turns_cache = (mark, limit, turns)
        return turns


def _is_mark(o: Output) -> bool:
    """Says how far the open turn came, or is preview. Nobody need wait until that is on disk, least of all
    the first word of an answer: until it is, the backend's own file says the same again."""
    return isinstance(o, DeltaAdded) or (
        isinstance(o, TurnAdvanced) and o.phase in ("sent", "seen", "active")
    )
