"""Keeps one session supplied with a process: starts it, finds it again, plans its restarts, lets it rest.

What the core orders of the process is done by `hands`; what becomes of that comes back into the session's
mailbox, as a change to be made or as a signal of that process.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

import structlog

from bridge.clock import Clock
from bridge.commands import AfterReboot
from bridge.errors import BackendError, JournalError, TmuxError
from bridge.sessions.adoption import Sidecar, Sidecars
from bridge.sessions.backends.base import Backend, Batch, Launch, Liveness, Sink
from bridge.sessions.budgets import Ledger
from bridge.sessions.core import SessionCore
from bridge.sessions.effects import ForgetTurn, Output, SendPrompt, StartProcess
from bridge.sessions.hands import Files, Hands, Outcome
from bridge.sessions.idle import IdleWatch
from bridge.sessions.keeper import Keeper
from bridge.sessions.starts import Starts
from bridge.signals import LivenessLost, ProcessExited
from bridge.supervision import RestartBudget

log = structlog.get_logger(__name__)

LIMIT_LOOK_S = 3600.0
"""A timer goes by a clock that nobody can set, a limit's end by one that somebody can: so often it looks
again."""

ADOPT_AGAIN_S = (0.5, 1.0, 2.0, 5.0)
"""Between questions whether a process lives, while tmux cannot say; the last one repeats."""

Make = Callable[[float], list[Output]]
"""A change of the core, made from the session's task with the time as it is then."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds for all sessions of a bridge."""

    starts: Starts
    room: Callable[[], None]
    """Raises `TooManySessions` where no further session may have a process."""
    idle_stop_s: float | None = None
    after_reboot: AfterReboot = "resume"
    ledger: Ledger = field(default_factory=Ledger)
    limited: Callable[[str, str, float, str], None] = lambda name, backend, until, why: None
    """Told that a session (its name, its backend) has met a limit of its whole account: until when, why."""
    process: bool = True
    """False: what runs such a session is a task of the bridge."""


class Caretaker:
    """Of one session, for one life of its task."""

    def __init__(
        self,
        core: SessionCore,
        backend: Backend,
        keeper: Keeper,
        clock: Clock,
        terms: Terms,
        budget: RestartBudget,
        sidecars: Sidecars | None,
        *,
        change: Callable[[Make], None],
        sink: Sink,
        watched: Callable[[], bool],
        files: Files,
    ) -> None:
        """`watched`: somebody has the live screen open."""
        self.hands = Hands(backend, terms.starts, files)
        self._core = core
        self._backend = backend
        self._keeper = keeper
        self._clock = clock
        self._terms = terms
        self._budget = budget
        self._sidecars = sidecars
        self._change = change
        self._sink = sink
        self._watched = watched
        self._beside: Sidecar | None = None
        """As it was ordered to be kept last."""
        self._mourned = -1
        """The generation for which a restart was last planned."""
        self._limit_timer: asyncio.TimerHandle | None = None
        self._limit: float | None = None
        """When the account's limit is over, as the timer has it."""
        self._idle: IdleWatch | None = None
        if terms.idle_stop_s is not None:
            self._idle = IdleWatch(terms.idle_stop_s, clock.monotonic, lambda: core.at_rest, self._attended)

    @property
    def _name(self) -> str:
        return self._core.facts.name

    # --- starting -------------------------------------------------------------------------------------

    def start(self, *, resume: bool) -> None:
        core, self._beside = self._core, self._sidecar()
        generation = core.facts.generation

        def started(result: Outcome) -> None:
            core.facts.attach = self._backend.attach
            if result is not None:
                self._lost(ProcessExited(None, str(result)), generation)

        pressing = lambda: bool(core.queue or core.open)  # noqa: E731
        self.hands.start(self._launch(resume=resume), self._kept(self._beside), started, pressing)

    def sent(self, effect: object) -> Callable[[Outcome], None]:
        """The common ending of effects nobody waits for. What was overtaken by the next process's start says
        nothing about that process."""
        generation = self._core.facts.generation

        def done(result: Outcome) -> None:
            if isinstance(effect, ForgetTurn):
                self._change(lambda at: self._forgotten(result, generation, at))
                return
            if not isinstance(effect, SendPrompt):
                return
            turn = effect.turn
            if result is None:
                self._change(lambda _: self._core.prompt_sent(turn))
            elif isinstance(result, JournalError):
                # No other process could be sent it either, and without its files it is another prompt.
                why = f"what was attached to the prompt could not be read: {result}"
                self._change(lambda at: self._core.unsendable(turn, why, at))
            else:
                why = f"the prompt could not be handed over: {result}"
                self._lost(ProcessExited(None, why), generation)

        return done

    def _forgotten(self, result: Outcome, generation: int, at: float) -> list[Output]:
        if self._core.facts.generation != generation:
            return []  # of a process that is no more
        if result is None:
            return self._core.forgotten(at)
        log.info("replaced a worker's process", session=self._name, why=str(result))
        return self._core.spent(str(result), at)

    def keep_beside(self, out: Sequence[Output]) -> None:
        """Beside a process that runs, what a session without a record is taken up by is kept up to date."""
        gone = self._core.halted or self._core.facts.generation == 0
        if self._sidecars is None or gone or any(isinstance(o, StartProcess) for o in out):
            return
        if self._sidecar() == self._beside:
            return
        self._beside = self._sidecar()
        self.hands.keep(self._kept(self._beside))

    def _kept(self, sidecar: Sidecar) -> Callable[[], Awaitable[None]]:
        async def keep() -> None:
            if self._sidecars is not None:
                await asyncio.to_thread(self._sidecars.write, sidecar)

        return keep

    def _sidecar(self) -> Sidecar:
        f = self._core.facts
        settings = (f.model, f.permission_mode, f.created_at)
        return Sidecar(f.name, f.backend, f.options, f.conversation, f.generation, *settings)

    def _launch(self, *, resume: bool) -> Launch:
        f = self._core.facts
        return Launch(
            name=f.name,
            generation=f.generation,
            conversation=f.conversation or "",
            resume=resume,
            options=f.options,
            fresh=f.fresh,
        )

    def _lost(self, signal: ProcessExited | LivenessLost, generation: int) -> None:
        self._sink(Batch(generation, (signal,)))

    # --- restarts -------------------------------------------------------------------------------------

    def forgive(self) -> None:
        """Somebody starts it by hand, so presumably the cause is mended: the whole budget is there again."""
        self._budget = replace(self._budget, spent=())

    def plan_restart(self, why: str) -> None:
        """The process is gone against our will: another one, as far as the budget allows."""
        self.hands.started()
        generation = self._core.facts.generation
        if generation == self._mourned:
            return  # its death was noticed before, in another way
        self._mourned = generation
        self._budget, allowed = self._budget.spend(self._clock.monotonic())
        if not allowed:
            log.error("gave up restarting", session=self._name, why=why)
            self._change(lambda at: self._core.give_up(why, at))
            return
        log.warning("planned a restart", session=self._name, why=why, after_s=self._budget.delay())

        def due(at: float) -> list[Output]:
            return self._core.restart_due(at) if self._core.facts.generation == generation else []

        asyncio.get_running_loop().call_later(self._budget.delay(), self._change, due)

    # --- the bridge came back ---------------------------------------------------------------------------

    async def adopt(self) -> None:
        """Find out what became of the process, asking until there is an answer."""
        facts = self._core.facts
        generation = facts.generation
        launch = self._launch(resume=True)

        def overtaken() -> bool:
            """Somebody restarted or stopped it meanwhile."""
            return facts.generation != generation or self._core.halted

        for attempt in itertools.count():
            if overtaken():
                return
            liveness = await self.hands.adopt(launch, self._keeper.checkpoint)
            if overtaken():
                return
            if liveness is Liveness.ALIVE:
                facts.attach = self._backend.attach
                log.info("adopted", session=self._name, pid=self._backend.pid)
                return
            if liveness is Liveness.GONE:
                self._change(lambda at: self._found_gone(generation, at))
                return
            self._lost(LivenessLost("tmux cannot say whether the process lives"), generation)
            await asyncio.sleep(ADOPT_AGAIN_S[min(attempt, len(ADOPT_AGAIN_S) - 1)])

    def _found_gone(self, generation: int, at: float) -> list[Output]:
        if self._core.facts.generation != generation:
            return []
        why = "it ended while no bridge was running"
        return self._core.found_gone(why, self._terms.after_reboot, at)

    # --- the account's limit ------------------------------------------------------------------------------

    def mind_limit(self) -> None:
        """Have the queue go on when the limit is over that the session waits for now, if it does."""
        until = self._core.facts.limited_until
        if until == self._limit:
            return
        self.forget_limit()
        self._limit = until
        if until is not None:
            self._wait_for_limit(until)

    def forget_limit(self) -> None:
        """No timer is left."""
        if self._limit_timer is not None:
            self._limit_timer.cancel()
        self._limit_timer = self._limit = None

    def _wait_for_limit(self, until: float) -> None:
        left = until - self._clock.now()
        if left > 0:
            wait_s = min(left, LIMIT_LOOK_S)
            loop = asyncio.get_running_loop()
            self._limit_timer = loop.call_later(wait_s, self._wait_for_limit, until)
        else:
            self._change(lambda at: self._core.limit_over(until, at))

    # --- nobody uses it ---------------------------------------------------------------------------------

    def used(self) -> None:
        """Something happens in the session."""
        if self._idle is not None:
            self._idle.used()

    async def rest(self) -> None:
        """Where that is asked for, end the process of a session that is not used, until it is."""
        idle = self._idle
        while idle is not None:
            await idle.until_idle()
            self._change(lambda at: self._core.park(idle.after_s, at))

    async def _attended(self) -> bool:
        """Somebody looks at the terminal; also where that cannot be said."""
        try:
            return self._watched() or await self._backend.attended()
        except (BackendError, TmuxError, OSError):
            return True
