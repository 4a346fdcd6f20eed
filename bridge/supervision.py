"""Keeping tasks alive after OTP's example: child specs, one_for_one, restart intensity, ordered stop.

A `Supervisor` owns the tasks of its children: one that crashes is started again, by itself, with a growing
delay; where that happens too often the supervisor fails, and whoever supervises it decides. Knows nothing
of what the children do. Time is injected, so that tests can move it.
"""

from __future__ import annotations

import asyncio
import math
import traceback
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import structlog

from bridge.clock import Clock, SystemClock, rfc3339
from bridge.errors import SupervisionError, SupervisorFailed

log = structlog.get_logger(__name__)

Restart = Literal["permanent", "transient", "temporary"]
"""When a child that ended is started again: always; when it crashed; never."""

FIRST_DELAY_S = 0.1
"""Before the first restart: long enough that a child that fails at once does not use up a core."""
LONGEST_DELAY_S = 10.0
"""A person who has mended the cause should not have to wait for longer."""
FRAMES = 6
"""Innermost calls of a crash that are logged."""


@dataclass(frozen=True, slots=True)
class RestartBudget:
    """Restart intensity as a value: `limit` restarts within `window` seconds are allowed, one more is not."""

    limit: int = 3
    window: float = 5.0
    spent: tuple[float, ...] = ()

    def spend(self, now: float) -> tuple[RestartBudget, bool]:
        """The budget after a restart at `now` (seconds that never step back), and whether it is allowed."""
        spent = tuple(t for t in (*self.spent, now) if now <= t + self.window)
        return replace(self, spent=spent), len(spent) <= self.limit

    def delay(self) -> float:
        """Seconds to wait before the restart that was spent last: 0.1, 0.2, 0.4 …

        At most 10 s, and never more than an equal share of the window: else the waiting alone would
        thin out the restarts of a child that fails at once, and its budget would never be used up.
        """
        if not self.spent:
            return 0.0
        share = self.window / (self.limit + 1)
        # The exponent is bounded for the float's sake; the cap is reached long before.
        return min(FIRST_DELAY_S * 2.0 ** min(len(self.spent) - 1, 30), share, LONGEST_DELAY_S)


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """What a child is and how it is kept.

    `run` is called for each life of the child and works until it is done: an exception is a crash, a
    return a normal end. It is stopped by cancelling it; after `shutdown_s` (which may be infinite) it is
    given up. `describe` adds facts of the child's own to the tree.
    """

    id: str
    run: Callable[[], Awaitable[None]]
    restart: Restart = "permanent"
    shutdown_s: float = 5.0
    kind: Literal["worker", "supervisor"] = "worker"
    describe: Callable[[], dict[str, Any]] | None = None


class ChildState(Enum):
    WAITING = "waiting"
    """Its supervisor does not run; it is started when that does."""
    RUNNING = "running"
    RESTARTING = "restarting"
    """It ended; the delay before its restart goes on."""
    STOPPING = "stopping"
    STOPPED = "stopped"
    """Terminated by hand; `restart_child` starts it again."""
    ABANDONED = "abandoned"
    """It did not end in time when it was stopped, and has not yet."""


EDGES: dict[ChildState, frozenset[ChildState]] = {
    ChildState.WAITING: frozenset({ChildState.RUNNING, ChildState.STOPPED}),
    ChildState.RUNNING: frozenset({ChildState.RESTARTING, ChildState.STOPPING, ChildState.WAITING}),
    ChildState.RESTARTING: frozenset({ChildState.RUNNING, ChildState.STOPPING}),
    ChildState.STOPPING: frozenset({ChildState.STOPPED, ChildState.ABANDONED}),
    ChildState.STOPPED: frozenset({ChildState.RUNNING, ChildState.WAITING}),
    ChildState.ABANDONED: frozenset({ChildState.STOPPED}),
}

LIVE = frozenset({ChildState.RUNNING, ChildState.RESTARTING, ChildState.STOPPING})
"""States in which a child has a task that its supervisor answers for."""


@dataclass(slots=True)
class _Child:
    spec: ChildSpec
    since: float
    state: ChildState = ChildState.WAITING
    task: asyncio.Task[None] | None = None
    restarts: int = 0
    last_error: str | None = None

    def to(self, state: ChildState, now: float) -> None:
        assert state in EDGES[self.state], f"{self.spec.id}: {self.state} -> {state}"
        self.state = state
        self.since = now


@dataclass(frozen=True, slots=True)
class ChildStatus:
    """What `which_children` says of one child. `since` is wall time."""

    id: str
    kind: str
    state: str
    restarts: int
    since: float
    last_error: str | None


class Phase(Enum):
    IDLE = "idle"
    RUNNING = "running"
    STOPPING = "stopping"


class Supervisor:
    """Runs children one_for_one: what happens to one touches no other, until the budget is used up.

    Belongs to one event loop. Children are known from `start_child` on and run while `run` does; where
    `run` is called again (a supervisor above restarts this one), those that ran then run again.
    """

    def __init__(
        self,
        id: str,
        children: Iterable[ChildSpec] = (),
        *,
        budget: RestartBudget | None = None,
        clock: Clock | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.id = id
        self._full = budget or RestartBudget()
        self._budget = self._full
        self._clock = clock or SystemClock()
        self._sleep = sleep
        self._phase = Phase.IDLE
        self._since = self._clock.now()
        self._runs = 0
        self._last_error: str | None = None
        self._failure: asyncio.Future[SupervisorFailed] | None = None
        self._children: dict[str, _Child] = {}
        for spec in children:
            self.start_child(spec)

    def spec(self, restart: Restart = "permanent", shutdown_s: float = math.inf) -> ChildSpec:
        """This supervisor as a child of another. Its children have their own deadlines, so it needs none."""
        return ChildSpec(self.id, self.run, restart, shutdown_s, "supervisor", self.tree)

    # --- running --------------------------------------------------------------------------------

    async def run(self) -> None:
        """Start the children in their order and keep them until cancelled, which is the way to stop.

        Cancelled, or failing, it ends the children in reverse order, each within its own deadline. A second
        cancellation hurries: what is left is cancelled at once and not waited for. Raises
        `SupervisorFailed` when more restarts were needed than the budget allows.
        """
        if self._phase is not Phase.IDLE:
            raise SupervisionError(f"supervisor {self.id!r} runs already")
        self._to(Phase.RUNNING)
        self._runs += 1
        self._budget = self._full
        self._failure = asyncio.get_running_loop().create_future()
        try:
            for child in list(self._children.values()):
                if child.state is ChildState.WAITING:
                    self._launch(child)
                elif child.state is ChildState.ABANDONED:
                    log.error("child was not started: its last life goes on", **self._names(child))
            failed = await self._failure
            self._last_error = str(failed)
            raise failed
        finally:
            self._to(Phase.STOPPING)
            try:
                await self._end_all()
            finally:
                self._to(Phase.IDLE)

    def _to(self, phase: Phase) -> None:
        self._phase = phase
        self._since = self._clock.now()

    async def _end_all(self) -> None:
        ended = [child for child in reversed(self._children.values()) if child.state in LIVE]
        try:
            for child in ended:
                await self._end(child)
        except asyncio.CancelledError:
            for child in ended:
                if child.state in LIVE and child.task is not None:
                    child.task.cancel()
                    if child.state is not ChildState.STOPPING:
                        child.to(ChildState.STOPPING, self._clock.now())
                    self._abandon(child)
            raise
        finally:
            abandoned = [child.spec.id for child in ended if child.state is ChildState.ABANDONED]
            if abandoned:
                log.error("supervisor left children behind", supervisor=self.id, children=abandoned)
            for child in ended:
                if child.state is ChildState.STOPPED and self._children.get(child.spec.id) is child:
                    child.to(ChildState.WAITING, self._clock.now())

    # --- one child's life -----------------------------------------------------------------------

    def _launch(self, child: _Child) -> None:
        child.to(ChildState.RUNNING, self._clock.now())
        name = f"{self.id}/{child.spec.id}"
        child.task = asyncio.get_running_loop().create_task(self._keep(child), name=name)
        child.task.add_done_callback(lambda task: self._ended(child, task))

    async def _keep(self, child: _Child) -> None:
        """The child's task: its lives, one after the other. Ends when it is not to be started again."""
        while True:
            error = await self._live(child)
            if child.state is not ChildState.RUNNING:  # told to end, and it did, in whatever way
                if error is not None:
                    self._log_end(child, error)
                return
            if error is not None:
                child.last_error = _summary(error)
            if child.spec.restart == "temporary" or (child.spec.restart == "transient" and error is None):
                if error is not None:
                    self._log_end(child, error)
                self._forget(child)
                return
            if self._failure is None or self._failure.done():
                # The supervisor is ending as well, failed or cancelled: this one starts again when all do.
                self._log_end(child, error)
                child.to(ChildState.WAITING, self._clock.now())
                return
            self._budget, allowed = self._budget.spend(self._clock.monotonic())
            if not allowed:
                self._log_end(child, error)
                child.to(ChildState.WAITING, self._clock.now())
                problem = "it returned" if error is None else _summary(error)
                failed = SupervisorFailed(self.id, child.spec.id, problem)
                failed.__cause__ = error
                self._failure.set_result(failed)
                return
            delay = self._budget.delay()
            self._log_end(child, error, delay)
            child.restarts += 1
            child.to(ChildState.RESTARTING, self._clock.now())
            await self._sleep(delay)
            child.to(ChildState.RUNNING, self._clock.now())

    def _log_end(self, child: _Child, error: BaseException | None, restart_in_s: float | None = None) -> None:
        """Once for each crash. The whole traceback is for DEBUG: its last line may quote a prompt."""
        said = "child returned" if error is None else "child crashed"
        log.error(said, **self._names(child), restart_in_s=restart_in_s, **_crash(error))
        log.debug("! child ended by itself", **self._names(child), exc_info=error)

    async def _live(self, child: _Child) -> BaseException | None:
        """One life; what it crashed with. Raises `CancelledError` where we ended it."""
        try:
            await child.spec.run()
        except asyncio.CancelledError as e:
            task = child.task
            if child.state is not ChildState.RUNNING or task is None:
                raise
            # Not by us: it awaited what another cancelled, or was cancelled by another. That is a crash.
            while task.cancelling():
                task.uncancel()
            return e
        except Exception as e:  # noqa: BLE001 - whatever a child dies of, it is a crash
            return e
        return None

    def _ended(self, child: _Child, task: asyncio.Task[None]) -> None:
        if child.task is not task:
            return
        child.task = None
        if not task.cancelled() and (bug := task.exception()) is not None:
            # `_keep` lets nothing through but a bug of its own.
            log.critical("supervisor broke", **self._names(child), exc_info=bug)
        if child.state is ChildState.ABANDONED:
            log.warning("abandoned child ended", **self._names(child))
        if child.state is ChildState.RESTARTING:  # somebody cancelled every task of the loop
            child.to(ChildState.STOPPING, self._clock.now())
        if child.state in (ChildState.STOPPING, ChildState.ABANDONED):
            child.to(ChildState.STOPPED, self._clock.now())
            if child.spec.restart == "temporary":
                self._forget(child)

    def _forget(self, child: _Child) -> None:
        if self._children.get(child.spec.id) is child:
            del self._children[child.spec.id]

    async def _end(self, child: _Child) -> None:
        task = child.task
        if task is None or child.state not in LIVE:
            return
        if child.state is not ChildState.STOPPING:
            child.to(ChildState.STOPPING, self._clock.now())
            task.cancel()
        if await self._within(task, child.spec.shutdown_s):
            self._ended(child, task)
        elif child.state is ChildState.STOPPING:
            self._abandon(child)

    async def _within(self, task: asyncio.Task[None], deadline_s: float) -> bool:
        if math.isinf(deadline_s):
            await asyncio.wait({task})
            return True
        timer = asyncio.ensure_future(self._sleep(deadline_s))
        try:
            await asyncio.wait({task, timer}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            timer.cancel()
        return task.done()

    def _abandon(self, child: _Child) -> None:
        child.to(ChildState.ABANDONED, self._clock.now())
        log.error("child was abandoned", **self._names(child), shutdown_s=child.spec.shutdown_s)

    # --- children by hand -----------------------------------------------------------------------

    def start_child(self, spec: ChildSpec) -> None:
        """Add a child, and start it if the supervisor runs; else it starts with it.

        An id may be used again once its child has ended. Raises `SupervisionError` while it has not, and
        while the supervisor stops.
        """
        known = self._children.get(spec.id)
        if known is not None and (known.task is not None or known.state is ChildState.WAITING):
            raise SupervisionError(f"{self.id!r} has a child {spec.id!r} that has not ended")
        if self._phase is Phase.STOPPING:
            raise SupervisionError(f"{self.id!r} is stopping and starts no child")
        self._children.pop(spec.id, None)  # the newest stands last: it is stopped first
        child = self._children[spec.id] = _Child(spec, self._clock.now())
        if self._phase is Phase.RUNNING:
            self._launch(child)

    async def terminate_child(self, id: str) -> None:
        """End a child and leave it ended; returns when it has, or when its deadline has passed.

        A temporary child is forgotten, any other can be started again with `restart_child`. Cancelling
        this does not call the ending off. Raises `SupervisionError` where there is no such child.
        """
        child = self._known(id)
        if child.state is ChildState.WAITING:
            child.to(ChildState.STOPPED, self._clock.now())
            if child.spec.restart == "temporary":
                self._forget(child)
        await self._end(child)

    async def restart_child(self, id: str) -> None:
        """End the child if it runs, and start it; costs no budget.

        Raises `SupervisionError` where there is no such child, where its last life would not end, and
        where the supervisor does not run.
        """
        child = self._known(id)
        await self._end(child)
        if self._phase is not Phase.RUNNING:
            raise SupervisionError(f"{self.id!r} does not run and starts no child")
        if child.task is not None:
            raise SupervisionError(f"child {id!r} of {self.id!r} has not ended")
        if self._children.setdefault(id, child) is not child:
            raise SupervisionError(f"child {id!r} of {self.id!r} was replaced meanwhile")
        self._launch(child)

    def which_children(self) -> list[ChildStatus]:
        """The children in the order in which they were started."""
        return [
            ChildStatus(c.spec.id, c.spec.kind, c.state.value, c.restarts, c.since, c.last_error)
            for c in self._children.values()
        ]

    def tree(self) -> dict[str, Any]:
        """This supervisor and all below it, as JSON."""
        return {
            "id": self.id,
            "kind": "supervisor",
            "state": self._phase.value,
            "restarts": max(self._runs - 1, 0),
            "since": rfc3339(self._since),
            "last_error": self._last_error,
            "children": [self._node(child) for child in self._children.values()],
        }

    def _node(self, child: _Child) -> dict[str, Any]:
        try:
            own = child.spec.describe() if child.spec.describe is not None else {}
        except Exception as e:  # noqa: BLE001 - a tree that lacks a leaf is of more use than none
            own = {"description_failed": _summary(e)}
        return own | {
            "id": child.spec.id,
            "kind": child.spec.kind,
            "state": child.state.value,
            "restarts": child.restarts,
            "since": rfc3339(child.since),
            "last_error": child.last_error,
            "children": own.get("children", []),
        }

    def _known(self, id: str) -> _Child:
        child = self._children.get(id)
        if child is None:
            raise SupervisionError(f"{self.id!r} has no child {id!r}")
        return child

    def _names(self, child: _Child) -> dict[str, Any]:
        return {"supervisor": self.id, "child": child.spec.id}


def _cause(error: BaseException) -> BaseException:
    """A task group says only that something in it failed; what did is told by the first."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _summary(error: BaseException) -> str:
    """What went wrong, fit for any log: the text of an error that is not ours may quote a prompt."""
    error = _cause(error)
    ours = type(error).__module__.startswith("bridge.") or isinstance(error, OSError)
    return f"{type(error).__name__}: {error}" if ours and str(error) else type(error).__name__


def _crash(error: BaseException | None) -> dict[str, Any]:
    if error is None:
        return {}
    frames = traceback.extract_tb(_cause(error).__traceback__)[-FRAMES:]
    where = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]
    return {"error": _summary(error), "where": where}
