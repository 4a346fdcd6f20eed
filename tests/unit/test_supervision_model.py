"""The supervisor against a model: whatever ends, and in whatever order, the restart rules hold."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

import structlog
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bridge.errors import SupervisorFailed
from bridge.supervision import ChildSpec, Restart, RestartBudget, Supervisor
from tests.fakes.clock import FakeClock, settle

WINDOW = 5.0


@dataclass
class Expected:
    """What the model says of one child."""

    restart: Restart
    state: str = "waiting"
    lives: int = 0
    due: float = 0.0


class Supervision(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = FakeClock()
        self.model: dict[str, Expected] = {}
        self.ends: dict[str, asyncio.Future[None]] = {}
        self.lives: dict[str, int] = {}
        self.story: list[str] = []
        self.restarts: list[float] = []
        self.running = False
        self.count = 0
        self.task: asyncio.Task[None] | None = None

    def do(self, work: Coroutine[Any, Any, Any]) -> None:
        self.loop.run_until_complete(work)
        self.loop.run_until_complete(settle())

    @initialize(limit=st.integers(0, 4))
    def begin(self, limit: int) -> None:
        structlog.configure(processors=[self.swallow])
        self.limit = limit
        self.supervisor = Supervisor(
            "top", budget=RestartBudget(limit, WINDOW), clock=self.clock, sleep=self.clock.sleep
        )

    @staticmethod
    def swallow(logger: Any, name: str, event: Any) -> Any:
        raise structlog.DropEvent

    async def live(self, id: str) -> None:
        assert id not in self.ends, "two lives of one child at once"
        self.lives[id] += 1
        self.ends[id] = self.loop.create_future()
        try:
            await self.ends[id]
        finally:
            del self.ends[id]
            self.story.append(id)

    # --- what may happen ------------------------------------------------------------------------

    @precondition(lambda self: not self.running)
    @rule()
    def run(self) -> None:
        self.task = self.loop.create_task(self.supervisor.run())
        self.do(settle())
        self.running = True
        self.restarts = []
        for child in self.model.values():
            if child.state == "waiting":
                child.state, child.lives = "running", child.lives + 1

    @precondition(lambda self: self.running)
    @rule()
    def stop(self) -> None:
        self.story.clear()
        expected = self.in_reverse()
        assert self.task is not None
        self.task.cancel()
        self.do(asyncio.wait({self.task}))
        assert self.task.cancelled()
        assert self.story == expected
        self.all_wait()

    @rule(restart=st.sampled_from(["permanent", "transient", "temporary"]))
    def start_child(self, restart: Restart) -> None:
        id = f"child{self.count}"
        self.count += 1
        self.lives[id] = 0

        async def start() -> None:
            self.supervisor.start_child(ChildSpec(id, lambda: self.live(id), restart))

        self.do(start())
        self.model[id] = Expected(restart)
        if self.running:
            self.model[id].state, self.model[id].lives = "running", 1

    @precondition(lambda self: self.ends)
    @rule(pick=st.integers(0), crashes=st.booleans())
    def end(self, pick: int, crashes: bool) -> None:
        id = sorted(self.ends)[pick % len(self.ends)]
        others = [one for one in self.in_reverse() if one != id]
        self.story.clear()
        if crashes:
            self.ends[id].set_exception(RuntimeError(id))
        else:
            self.ends[id].set_result(None)
        self.do(settle())
        child = self.model[id]
        if child.restart == "temporary" or (child.restart == "transient" and not crashes):
            del self.model[id]
            return
        now = self.clock.at
        self.restarts = [at for at in self.restarts if now - at <= WINDOW] + [now]
        if len(self.restarts) <= self.limit:
            child.state, child.due = "restarting", now + self.supervisor._budget.delay()
            return
        assert self.task is not None
        assert isinstance(self.task.exception(), SupervisorFailed)
        assert self.story == [id, *others]
        self.all_wait()

    @precondition(lambda self: self.model)
    @rule(pick=st.integers(0))
    def terminate(self, pick: int) -> None:
        id = sorted(self.model)[pick % len(self.model)]
        self.do(self.supervisor.terminate_child(id))
        if self.model[id].restart == "temporary":
            del self.model[id]
        else:
            self.model[id].state = "stopped"

    @precondition(lambda self: self.model and self.running)
    @rule(pick=st.integers(0))
    def restart(self, pick: int) -> None:
        id = sorted(self.model)[pick % len(self.model)]
        temporary = self.model[id].restart == "temporary"
        self.do(self.supervisor.restart_child(id))
        self.model[id].state, self.model[id].lives = "running", self.model[id].lives + 1
        if temporary:  # forgotten when it ended, and added again: the newest is stopped first
            self.model[id] = self.model.pop(id)

    @rule(seconds=st.sampled_from([0.05, 0.1, 0.3, 1.0, 6.0]))
    def advance(self, seconds: float) -> None:
        self.do(self.clock.advance(seconds))
        for child in self.model.values():
            if child.state == "restarting" and child.due <= self.clock.at:
                child.state, child.lives = "running", child.lives + 1

    # --- what must hold -------------------------------------------------------------------------

    def in_reverse(self) -> list[str]:
        return [id for id, child in reversed(self.model.items()) if child.state == "running"]

    def all_wait(self) -> None:
        self.running = False
        for id, child in list(self.model.items()):
            if child.state == "stopped":
                continue
            child.state = "waiting"
            if child.restart == "temporary":
                del self.model[id]

    @invariant()
    def states_agree(self) -> None:
        if not hasattr(self, "supervisor"):
            return
        said = {child.id: child.state for child in self.supervisor.which_children()}
        assert said == {id: child.state for id, child in self.model.items()}
        assert list(said) == list(self.model)

    @invariant()
    def exactly_those_live_that_should(self) -> None:
        assert set(self.ends) == {id for id, child in self.model.items() if child.state == "running"}
        assert {id: self.lives[id] for id in self.model} == {id: c.lives for id, c in self.model.items()}

    def teardown(self) -> None:
        if self.task is not None and not self.task.done():
            self.task.cancel()
            self.do(asyncio.wait({self.task}))
        structlog.reset_defaults()
        self.loop.close()


TestSupervision = Supervision.TestCase
TestSupervision.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
