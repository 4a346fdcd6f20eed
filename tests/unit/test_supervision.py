"""Supervision: what ends is started again by the rules, touches no other, and stops in order."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from bridge.errors import JournalError, SupervisionError, SupervisorFailed
from bridge.supervision import ChildSpec, Restart, RestartBudget, Supervisor
from tests.fakes.clock import FakeClock, settle


class Puppet:
    """A child whose every life ends when the test says so, and which writes down what happens to it."""

    def __init__(self, id: str, story: list[str] | None = None, *, stubborn: bool = False) -> None:
        self.id = id
        self.story = story if story is not None else []
        self.stubborn = stubborn
        self.lives = 0
        self.ignored = 0
        self.end: asyncio.Future[None] | None = None

    def spec(self, restart: Restart = "permanent", shutdown_s: float = 5.0) -> ChildSpec:
        return ChildSpec(self.id, self.run, restart, shutdown_s)

    async def run(self) -> None:
        self.lives += 1
        self.end = asyncio.get_running_loop().create_future()
        self.story.append(f"{self.id} began")
        try:
            while True:
                try:
                    await asyncio.shield(self.end)
                    break
                except asyncio.CancelledError:
                    self.ignored += 1
                    if not self.stubborn or self.ignored > 3:  # for ever, but for the end of a failed test
                        raise
        finally:
            self.end = None
            self.story.append(f"{self.id} ended")

    @property
    def alive(self) -> bool:
        return self.end is not None

    async def crash(self, error: BaseException | None = None) -> None:
        assert self.end is not None
        self.end.set_exception(error or RuntimeError("secret"))
        await settle()

    async def finish(self) -> None:
        assert self.end is not None
        self.end.set_result(None)
        await settle()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def started() -> AsyncIterator[Callable[[Supervisor], Any]]:
    """Runs supervisors, and stops at the end what a test left running."""
    tasks: list[asyncio.Task[None]] = []

    async def start(supervisor: Supervisor) -> asyncio.Task[None]:
        task = asyncio.create_task(supervisor.run())
        tasks.append(task)
        await settle()
        return task

    yield start
    for _ in range(5):
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await settle()
    await asyncio.gather(*tasks, return_exceptions=True)


def made(clock: FakeClock, *children: ChildSpec, id: str = "top", limit: int = 3) -> Supervisor:
    return Supervisor(id, children, budget=RestartBudget(limit, 5.0), clock=clock, sleep=clock.sleep)


def states(supervisor: Supervisor) -> dict[str, str]:
    return {child.id: child.state for child in supervisor.which_children()}


def said(logs: list[Any]) -> list[str]:
    return [line["event"] for line in logs if line["log_level"] != "debug"]


# --- the budget ---------------------------------------------------------------------------------


@given(
    st.integers(0, 5),
    st.floats(0.5, 100),
    st.lists(st.floats(0, 20), max_size=40),
)
def test_a_budget_allows_what_a_plain_count_allows(limit: int, window: float, gaps: list[float]) -> None:
    """Allowed while the restarts of the last `window` seconds, this one too, are no more than `limit`."""
    budget, now = RestartBudget(limit, window), 0.0
    history: list[float] = []
    for gap in gaps:
        now += gap
        history.append(now)
        budget, allowed = budget.spend(now)
        recent = [at for at in history if at + window >= now]
        assert allowed == (len(recent) <= limit)
        assert list(budget.spent) == recent


@given(st.integers(1, 50), st.floats(0.1, 1000))
def test_a_child_that_fails_at_once_uses_up_its_budget(limit: int, window: float) -> None:
    """The delays never thin out the restarts so much that a crash loop would go on for ever."""
    budget, now = RestartBudget(limit, window), 0.0
    for _ in range(limit):
        budget, allowed = budget.spend(now)
        assert allowed
        now += budget.delay()
    assert budget.spend(now) == (budget.spend(now)[0], False)


@given(st.integers(0, 100), st.integers(0, 50), st.floats(0.1, 1e6))
def test_delays_grow_and_are_capped(spent: int, limit: int, window: float) -> None:
    """Never shorter after one more restart, and never beyond ten seconds."""
    fewer = RestartBudget(limit, window, (0.0,) * spent).delay()
    more = RestartBudget(limit, window, (0.0,) * (spent + 1)).delay()

    assert 0.0 <= fewer <= more <= 10.0


def test_delays_double() -> None:
    """The documented sequence."""
    delays = [RestartBudget(9, 600.0, (0.0,) * spent).delay() for spent in range(10)]

    assert delays == [0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]


# --- one child ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("restart", "after_crash", "after_return"),
    [("permanent", 2, 2), ("transient", 2, 1), ("temporary", 1, 1)],
)
async def test_restart_rules(
    clock: FakeClock, started: Any, restart: Restart, after_crash: int, after_return: int
) -> None:
    """Permanent children are always started again, transient ones after a crash, temporary ones never."""
    crashing, returning = Puppet("crashing"), Puppet("returning")
    await started(made(clock, crashing.spec(restart), returning.spec(restart)))

    await crashing.crash()
    await returning.finish()
    await clock.advance(1.0)

    assert (crashing.lives, returning.lives) == (after_crash, after_return)


async def test_a_child_that_ended_for_good_is_forgotten(clock: FakeClock, started: Any) -> None:
    """Sessions and workers come and go: the tree must not keep them all."""
    puppet = Puppet("a")
    supervisor = made(clock, puppet.spec("transient"))
    await started(supervisor)
    await puppet.finish()

    assert supervisor.which_children() == []
    supervisor.start_child(puppet.spec("transient"))
    await settle()
    assert puppet.lives == 2


async def test_a_crash_touches_no_other(clock: FakeClock, started: Any) -> None:
    """One for one."""
    a, b, c = Puppet("a"), Puppet("b"), Puppet("c")
    await started(made(clock, a.spec(), b.spec(), c.spec()))

    await b.crash()
    await clock.advance(1.0)

    assert (a.lives, b.lives, c.lives) == (1, 2, 1)
    assert a.alive
    assert c.alive


async def test_a_restart_waits_for_its_delay(clock: FakeClock, started: Any) -> None:
    """The first restart comes after 0.1 s, the second after 0.2 s; meanwhile the tree says so."""
    puppet = Puppet("a")
    supervisor = made(clock, puppet.spec())
    await started(supervisor)

    await puppet.crash()
    await clock.advance(0.09)
    assert (puppet.lives, states(supervisor)) == (1, {"a": "restarting"})
    await clock.advance(0.02)
    assert (puppet.lives, states(supervisor)) == (2, {"a": "running"})
    await puppet.crash()
    await clock.advance(0.19)
    assert puppet.lives == 2
    await clock.advance(0.02)
    assert puppet.lives == 3


async def test_a_crash_is_logged_once_without_what_it_said(clock: FakeClock, started: Any) -> None:
    """Which child, what kind of error, where; its text may quote a prompt and is for DEBUG."""
    puppet = Puppet("a")
    await started(made(clock, puppet.spec()))

    with capture_logs() as logs:
        await puppet.crash(ValueError("secret"))

    [line] = [line for line in logs if line["log_level"] != "debug"]
    assert (line["event"], line["child"], line["error"]) == ("child crashed", "a", "ValueError")
    assert line["restart_in_s"] == pytest.approx(0.1)
    assert any("test_supervision.py" in frame for frame in line["where"])
    assert "secret" not in str(line)


async def test_an_error_of_our_own_is_logged_with_its_text(clock: FakeClock, started: Any) -> None:
    """Its text was written to be read, and quotes nothing."""
    puppet = Puppet("a")
    supervisor = made(clock, puppet.spec())
    await started(supervisor)

    await puppet.crash(JournalError("the disk is full"))

    assert supervisor.which_children()[0].last_error == "JournalError: the disk is full"


async def test_the_cause_within_a_group_is_logged(clock: FakeClock, started: Any) -> None:
    """A session's task is a group; that a group failed helps nobody."""
    a = Puppet("a")
    supervisor = made(clock, a.spec())
    await started(supervisor)
    with capture_logs() as logs:
        await a.crash(ExceptionGroup("", [ExceptionGroup("", [JournalError("the disk is full")])]))
    assert logs[0]["error"] == "JournalError: the disk is full"


async def test_a_child_cancelled_by_another_has_crashed(clock: FakeClock, started: Any) -> None:
    """Only its supervisor may end a child: whatever else cancels it is a fault, and it comes back."""
    puppet = Puppet("a")
    supervisor = made(clock, puppet.spec())
    await started(supervisor)

    await puppet.crash(asyncio.CancelledError())
    await clock.advance(1.0)

    assert (puppet.lives, states(supervisor)) == (2, {"a": "running"})


async def test_a_child_that_cancels_itself_has_crashed(clock: FakeClock, started: Any) -> None:
    """A library that cancels its own task must not leave a dead child that looks alive."""
    cancelling: list[int] = []

    async def run() -> None:
        task = asyncio.current_task()
        assert task is not None
        cancelling.append(task.cancelling())
        if len(cancelling) == 1:
            task.cancel()
        await asyncio.Event().wait()

    supervisor = made(clock, ChildSpec("a", run))
    task = await started(supervisor)
    await clock.advance(1.0)

    assert (cancelling, states(supervisor)) == ([0, 0], {"a": "running"})
    task.cancel()
    await settle()
    assert task.cancelled()


# --- intensity ----------------------------------------------------------------------------------


async def test_too_many_restarts_fail_the_supervisor(clock: FakeClock, started: Any) -> None:
    """The fourth crash within the window is one too many; the last reason is said, the others are ended."""
    story: list[str] = []
    a, b, c = Puppet("a", story), Puppet("b", story), Puppet("c", story)
    supervisor = made(clock, a.spec(), b.spec(), c.spec())
    task = await started(supervisor)
    for _ in range(3):
        await b.crash()
        await clock.advance(1.0)
    assert (b.lives, task.done()) == (4, False)

    story.clear()
    await b.crash(JournalError("for the last time"))

    with pytest.raises(SupervisorFailed) as failure:
        await task
    assert (failure.value.supervisor, failure.value.child) == ("top", "b")
    assert failure.value.problem == "JournalError: for the last time"
    assert isinstance(failure.value.__cause__, JournalError)
    assert story == ["b ended", "c ended", "a ended"]


async def test_restarts_outside_the_window_are_forgiven(clock: FakeClock, started: Any) -> None:
    """A child that crashes now and then is started again for ever."""
    puppet = Puppet("a")
    task = await started(made(clock, puppet.spec(), limit=1))

    for _ in range(10):
        await puppet.crash()
        await clock.advance(6.0)

    assert (puppet.lives, task.done()) == (11, False)


async def test_temporary_children_cost_no_budget(clock: FakeClock, started: Any) -> None:
    """They are not started again, so they say nothing about restarts."""
    supervisor = made(clock, limit=0)
    task = await started(supervisor)
    for number in range(5):
        puppet = Puppet(str(number))
        supervisor.start_child(puppet.spec("temporary"))
        await settle()
        await puppet.crash()

    assert not task.done()


async def test_a_supervisor_that_failed_is_restarted_by_the_one_above(clock: FakeClock, started: Any) -> None:
    """Nested: the failing part begins again as a whole, with a full budget; its sibling notices nothing."""
    a, b, sibling = Puppet("a"), Puppet("b"), Puppet("sibling")
    inner = made(clock, a.spec(), id="inner", limit=0)
    outer = made(clock, sibling.spec(), inner.spec(), id="outer")
    await started(outer)
    inner.start_child(b.spec())
    await settle()

    await a.crash()
    assert (b.alive, states(outer)["inner"]) == (False, "restarting")
    await clock.advance(1.0)

    assert (a.lives, b.lives, sibling.lives) == (2, 2, 1)
    assert states(inner) == {"a": "running", "b": "running"}
    [_, node] = outer.tree()["children"]
    assert node["last_error"] == "SupervisorFailed: 'inner' gave up on 'a': RuntimeError"


async def test_two_that_crash_at_once_fail_the_supervisor_once(clock: FakeClock, started: Any) -> None:
    """The second crash finds the supervisor already failing, and both run again with it."""
    a, b = Puppet("a"), Puppet("b")
    supervisor = made(clock, a.spec(), b.spec(), limit=0)
    task = await started(supervisor)
    assert a.end is not None
    assert b.end is not None
    a.end.set_exception(RuntimeError())
    b.end.set_exception(RuntimeError())
    with capture_logs() as logs:
        await settle()

    assert said(logs) == ["child crashed", "child crashed"]
    with pytest.raises(SupervisorFailed):
        await task
    await started(supervisor)
    assert (a.lives, b.lives) == (2, 2)


# --- stopping -----------------------------------------------------------------------------------


async def test_stopping_ends_the_children_in_reverse_order(clock: FakeClock, started: Any) -> None:
    """What was started last may need what was started first."""
    story: list[str] = []
    supervisor = made(clock, *(Puppet(id, story).spec() for id in "abc"))
    task = await started(supervisor)
    story.clear()

    with capture_logs() as logs:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    assert story == ["c ended", "b ended", "a ended"]
    assert said(logs) == []
    assert states(supervisor) == dict.fromkeys("abc", "waiting")


async def test_a_child_ends_before_the_one_before_it_is_told(clock: FakeClock, started: Any) -> None:
    """Ordered means one after the other, each within its own deadline."""
    story: list[str] = []
    first, last = Puppet("first", story), Puppet("last", story, stubborn=True)
    task = await started(made(clock, first.spec(), last.spec(shutdown_s=2.0)))
    task.cancel()
    await clock.advance(1.9)
    assert first.alive
    await last.finish()

    assert (first.alive, story[-2:]) == (False, ["last ended", "first ended"])


async def test_a_child_that_does_not_end_is_abandoned_by_name(clock: FakeClock, started: Any) -> None:
    """Its deadline over, the stop goes on without it, loudly."""
    a, b = Puppet("a"), Puppet("b", stubborn=True)
    supervisor = made(clock, a.spec(), b.spec(shutdown_s=2.0))
    task = await started(supervisor)
    with capture_logs() as logs:
        task.cancel()
        await clock.advance(2.1)
        assert task.done()

    assert not a.alive
    assert states(supervisor) == {"a": "waiting", "b": "abandoned"}
    assert said(logs) == ["child was abandoned", "supervisor left children behind"]
    assert logs[-1]["children"] == ["b"]
    with capture_logs() as logs:
        await b.finish()
    assert said(logs) == ["abandoned child ended"]


async def test_an_abandoned_child_is_never_run_twice(clock: FakeClock, started: Any) -> None:
    """Its last life goes on somewhere: a second one beside it could do everything twice."""
    puppet = Puppet("a", stubborn=True)
    supervisor = made(clock, puppet.spec(shutdown_s=1.0))
    await started(supervisor)
    ending = asyncio.create_task(supervisor.terminate_child("a"))
    await clock.advance(1.1)
    await ending

    with pytest.raises(SupervisionError):
        await supervisor.restart_child("a")
    with pytest.raises(SupervisionError):
        supervisor.start_child(puppet.spec())
    await puppet.crash()
    assert (puppet.lives, states(supervisor)) == (1, {"a": "stopped"})
    await supervisor.restart_child("a")
    await settle()
    assert puppet.lives == 2
    await puppet.finish()


async def test_a_second_cancellation_hurries(clock: FakeClock, started: Any) -> None:
    """Whoever is left is told at once and not waited for."""
    a, b, c = Puppet("a"), Puppet("b", stubborn=True), Puppet("c")
    supervisor = made(clock, a.spec(), b.spec(shutdown_s=math.inf), c.spec())
    task = await started(supervisor)
    task.cancel()
    await settle()
    assert (a.alive, c.alive, task.done()) == (True, False, False)
    assert clock.sleeping == []  # an infinite deadline is none

    with capture_logs() as logs:
        task.cancel()
        await settle()

    assert (a.alive, task.cancelled()) == (False, True)
    assert [line["children"] for line in logs if "children" in line] == [["b", "a"]]
    await b.finish()


async def test_a_child_that_waits_for_its_restart_is_stopped_too(clock: FakeClock, started: Any) -> None:
    """It does not come back after the stop."""
    puppet = Puppet("a")
    task = await started(made(clock, puppet.spec()))
    await puppet.crash()
    task.cancel()
    await clock.advance(1.0)

    assert (puppet.lives, task.cancelled()) == (1, True)


async def test_a_child_that_crashes_during_the_stop_stays_ended(clock: FakeClock, started: Any) -> None:
    """Nothing is restarted while all is ending."""
    a, b = Puppet("a"), Puppet("b", stubborn=True)
    task = await started(made(clock, a.spec(), b.spec()))
    task.cancel()
    await settle()
    with capture_logs() as logs:
        await a.crash()
        await clock.advance(1.0)
    await b.finish()

    assert (a.lives, task.cancelled(), said(logs)) == (1, True, ["child crashed"])


async def test_a_supervisor_runs_again_after_a_stop(clock: FakeClock, started: Any) -> None:
    """All that ran then runs again; what was stopped by hand stays stopped."""
    a, b, c = Puppet("a"), Puppet("b"), Puppet("c")
    supervisor = made(clock, a.spec(), b.spec(), c.spec("temporary"))
    task = await started(supervisor)
    await supervisor.terminate_child("b")
    task.cancel()
    await settle()
    await started(supervisor)

    assert states(supervisor) == {"a": "running", "b": "stopped"}
    assert (a.lives, b.lives, c.lives) == (2, 1, 1)


# --- by hand ------------------------------------------------------------------------------------


async def test_children_may_come_before_and_while_it_runs(clock: FakeClock, started: Any) -> None:
    """Before `run` they wait for it."""
    early, late = Puppet("early"), Puppet("late")
    supervisor = made(clock)
    supervisor.start_child(early.spec())
    assert states(supervisor) == {"early": "waiting"}
    await started(supervisor)
    supervisor.start_child(late.spec())
    await settle()

    assert early.alive
    assert late.alive


async def test_an_id_is_given_once(clock: FakeClock, started: Any) -> None:
    """Two children of one id could not be told apart."""
    supervisor = made(clock, Puppet("a").spec())
    with pytest.raises(SupervisionError):
        supervisor.start_child(Puppet("a").spec())
    await started(supervisor)
    with pytest.raises(SupervisionError):
        supervisor.start_child(Puppet("a").spec())


async def test_a_child_started_anew_counts_as_the_newest(clock: FakeClock, started: Any) -> None:
    """It is stopped first, since it may need all that were there when it came."""
    story: list[str] = []
    a, b = Puppet("a", story), Puppet("b", story)
    supervisor = made(clock, a.spec(), b.spec())
    task = await started(supervisor)
    await supervisor.terminate_child("a")
    supervisor.start_child(a.spec())
    await settle()
    story.clear()
    task.cancel()
    await settle()

    assert story == ["a ended", "b ended"]


async def test_no_child_is_started_during_a_stop(clock: FakeClock, started: Any) -> None:
    """Nobody would end it any more."""
    stubborn = Puppet("a", stubborn=True)
    supervisor = made(clock, stubborn.spec())
    task = await started(supervisor)
    task.cancel()
    await settle()

    with pytest.raises(SupervisionError, match="stopping"):
        supervisor.start_child(Puppet("b").spec())
    with pytest.raises(SupervisionError, match="has not ended"):
        supervisor.start_child(Puppet("a").spec())
    await stubborn.finish()


async def test_a_supervisor_runs_once_at_a_time(clock: FakeClock, started: Any) -> None:
    """A second `run` would start every child a second time."""
    supervisor = made(clock, Puppet("a").spec())
    await started(supervisor)

    with pytest.raises(SupervisionError):
        await supervisor.run()
    assert states(supervisor) == {"a": "running"}


async def test_a_terminated_child_stays_ended_until_it_is_restarted(clock: FakeClock, started: Any) -> None:
    """Ending by hand is no crash: no budget is spent, and nothing brings it back by itself."""
    puppet = Puppet("a")
    supervisor = made(clock, puppet.spec(), limit=0)
    await started(supervisor)

    await supervisor.terminate_child("a")
    await settle()
    assert clock.sleeping == []  # its deadline went with it
    await clock.advance(1.0)
    assert (puppet.lives, puppet.alive, states(supervisor)) == (1, False, {"a": "stopped"})
    await supervisor.restart_child("a")
    await settle()
    await supervisor.restart_child("a")
    await settle()
    assert (puppet.lives, puppet.alive, states(supervisor)) == (3, True, {"a": "running"})


async def test_a_terminated_temporary_child_is_forgotten(clock: FakeClock, started: Any) -> None:
    """Nobody will start it again under this id."""
    puppet = Puppet("a")
    supervisor = made(clock, puppet.spec("temporary"))
    await started(supervisor)
    await supervisor.terminate_child("a")

    assert supervisor.which_children() == []
    with pytest.raises(SupervisionError):
        await supervisor.terminate_child("a")


async def test_terminating_twice_at_once_ends_it_once(clock: FakeClock, started: Any) -> None:
    """Both callers return when it has ended."""
    puppet = Puppet("a", stubborn=True)
    supervisor = made(clock, puppet.spec())
    await started(supervisor)
    both = asyncio.gather(supervisor.terminate_child("a"), supervisor.terminate_child("a"))
    await settle()
    assert not both.done()
    await puppet.finish()
    await both

    assert (puppet.lives, states(supervisor)) == (1, {"a": "stopped"})


async def test_a_child_may_terminate_itself(clock: FakeClock, started: Any) -> None:
    """It is cancelled where it asked, and no deadlock comes of it."""
    supervisor = made(clock)

    async def run() -> None:
        await supervisor.terminate_child("a")

    supervisor.start_child(ChildSpec("a", run))
    await started(supervisor)
    await clock.advance(1.0)

    assert states(supervisor) == {"a": "stopped"}


# --- the tree -----------------------------------------------------------------------------------


async def test_the_tree_shows_all_below(clock: FakeClock, started: Any) -> None:
    """States, restarts, the last error and what children say of themselves, as plain JSON."""
    puppet = Puppet("a")
    worker = ChildSpec("b", Puppet("b").run, describe=lambda: {"session": "demo", "state": "ignored"})
    broken = ChildSpec("c", Puppet("c").run, describe=lambda: {}["gone"])
    inner = made(clock, puppet.spec(), id="inner")
    outer = made(clock, inner.spec(), worker, broken, id="outer")
    await started(outer)
    await puppet.crash(OSError(28, "No space left"))
    await clock.advance(0.5)

    began, again = "1970-01-01T00:16:40.000Z", "1970-01-01T00:16:40.100Z"
    common = {"kind": "worker", "state": "running", "restarts": 0, "since": began, "last_error": None}
    error = "OSError: [Errno 28] No space left"
    leaf = {**common, "id": "a", "restarts": 1, "since": again, "last_error": error, "children": []}
    assert outer.tree() == {
        **common,
        "id": "outer",
        "kind": "supervisor",
        "children": [
            {**common, "id": "inner", "kind": "supervisor", "children": [leaf]},
            {**common, "id": "b", "session": "demo", "children": []},
            {**common, "id": "c", "description_failed": "KeyError", "children": []},
        ],
    }
