"""Presence: who looks, told in few words; and any coming and going against a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bridge.config import HubConfig
from bridge.events import Attendant, Epoch, Event, PresenceChanged
from bridge.hub import Hub, Subscription
from bridge.presence import GATHER_EACH_S, GATHER_S, Attendance, Presence
from tests.fakes.clock import FakeClock
from tests.unit.test_hub import Loop, Reader

TOPIC = "session:main"


class Viewer(Reader):
    """A client as phoenix.js's `Presence` is one: it has a state, and applies diffs to it."""

    def __init__(
        self, presence: Presence, key: str, topic: str = TOPIC, transport: str = "websocket"
    ) -> None:
        super().__init__()
        self.attendance = presence.enter(topic, key, transport, self)
        self.state = {a.ref: a.key for a in self.attendance.present}
        self.diffs: list[dict[str, dict[str, str]]] = []
        self.ready.append(self.attendance.subscription)
        self.take()

    @property
    def ref(self) -> str:
        return self.attendance._attendant.ref

    @property
    def subscription(self) -> Subscription:
        return self.attendance.subscription

    def apply(self) -> None:
        """Everything that was heard since."""
        chunks, self.chunks = self.chunks, []
        for diff in map(orjson.loads, b"".join(chunks).splitlines()):
            assert diff["joins"].keys() & diff["leaves"].keys() == set()
            assert diff["joins"].keys() & self.state.keys() == set(), "somebody came who was there"
            assert diff["leaves"].keys() <= self.state.keys(), "somebody left who was not there"
            self.diffs.append(diff)
            self.state |= diff["joins"]
            for ref in diff["leaves"]:
                del self.state[ref]


class House:
    """Presence with a loop and timers that run when the test says so."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.clock = FakeClock()
        self.due: list[Callable[[], None]] = []
        self.delays: list[float] = []
        self.published = 0
        self.hub = Hub({"lines": self.encode}, HubConfig(), self.loop.call_soon, Epoch("e"))
        self.presence = Presence(self.hub, self.clock, self.later)

    def later(self, delay: float, callback: Callable[[], None]) -> None:
        self.delays.append(delay)
        self.due.append(callback)

    def encode(self, topic: str, epoch: Epoch, first: int, seq: int, at: float, event: Event) -> bytes:
        assert isinstance(event, PresenceChanged)
        assert (first, seq) == (0, 0), "no number of the session's is used up"
        self.published += 1
        return orjson.dumps({"joins": _by_ref(event.joins), "leaves": _by_ref(event.leaves)}) + b"\n"

    def enter(self, key: str = "ann", **how: Any) -> Viewer:
        return Viewer(self.presence, key, **how)

    def gather(self) -> None:
        """The time for which changes are gathered has gone by."""
        due, self.due = self.due, []
        for callback in due:
            callback()

    def tick(self) -> None:
        self.loop.tick()

    def settle(self, *viewers: Viewer) -> None:
        """All that is to be told has been, and heard."""
        while self.due or self.loop.due:
            self.gather()
            self.tick()
        for viewer in viewers:
            viewer.apply()


def _by_ref(attendants: tuple[Attendant, ...]) -> dict[str, str]:
    return {a.ref: a.key for a in attendants}


def test_a_newcomer_sees_who_is_there_and_then_itself() -> None:
    """The state has who was told of; its own arrival comes with the next diff, as with Phoenix."""
    house = House()
    ann = house.enter("ann")
    assert ann.state == {}
    house.settle(ann)
    assert ann.state == {ann.ref: "ann"}
    bob = house.enter("bob", transport="sse")
    assert bob.state == {ann.ref: "ann"}
    house.settle(ann, bob)
    assert ann.state == bob.state == {ann.ref: "ann", bob.ref: "bob"}


def test_what_changes_within_a_moment_is_told_as_one() -> None:
    """A thousand who come at once cost one event, which is encoded once."""
    house = House()
    viewers = [house.enter(f"v{n}") for n in range(1000)]
    assert house.delays == [GATHER_S]
    house.settle(*viewers)
    assert house.published == 1
    assert [len(v.diffs) for v in viewers] == [1] * 1000
    assert all(len(v.state) == 1000 for v in viewers)


def test_the_more_look_the_longer_changes_are_gathered() -> None:
    """What happens in a full room is told to everybody there: to so many in a second, not more."""
    house = House()
    viewers = [house.enter(f"v{n}") for n in range(1000)]
    house.settle(*viewers)
    viewers[0].attendance.close()
    assert house.delays == [GATHER_S, 999 * GATHER_EACH_S]


def test_one_name_with_two_connections_is_there_until_both_have_left() -> None:
    """Each connection has a ref of its own."""
    house = House()
    tab, other = house.enter("ann"), house.enter("ann")
    bob = house.enter("bob")
    house.settle(bob)
    assert sorted(bob.state.values()) == ["ann", "ann", "bob"]
    tab.attendance.close()
    house.settle(bob)
    assert bob.state == {other.ref: "ann", bob.ref: "bob"}


def test_who_leaves_before_it_was_told_was_never_there() -> None:
    """Nobody hears of it."""
    house = House()
    ann = house.enter("ann")
    house.settle(ann)
    house.enter("bob").attendance.close()
    house.settle(ann)
    assert house.published == 1
    assert ann.state == {ann.ref: "ann"}


def test_leaving_twice_is_leaving_once() -> None:
    """A channel may be left, and its socket closed afterwards."""
    house = House()
    ann, bob = house.enter("ann"), house.enter("bob")
    house.settle(ann, bob)
    for _ in range(2):
        bob.attendance.close()
    house.settle(ann)
    assert ann.state == {ann.ref: "ann"}
    assert house.published == 2
    assert (bob.chunks, bob.subscription.topic.viewers) == ([], 1)
    bob.attendance.close()
    house.settle(ann)
    assert house.published == 2


def test_an_empty_room_is_forgotten() -> None:
    """Sessions that were looked at once cost nothing; whoever comes next finds nobody."""
    house = House()
    for n in range(100):
        house.enter("ann", topic=f"session:s{n}").attendance.close()
    house.settle()
    assert house.presence._rooms == {}
    assert house.hub._topics == {}
    assert house.enter("ann").state == {}


def test_a_room_that_is_entered_before_it_was_forgotten_is_kept() -> None:
    """All have left, and somebody comes before that was told."""
    house = House()
    ann = house.enter("ann")
    house.settle(ann)
    ann.attendance.close()
    bob = house.enter("bob")
    assert bob.state == {ann.ref: "ann"}
    house.settle(bob)
    assert bob.state == {bob.ref: "bob"}


def test_a_deleted_sessions_room_ends_without_a_word() -> None:
    """What was told is still read; then the subscription has ended, whatever its attendants do."""
    house = House()
    ann, bob = house.enter("ann"), house.enter("bob")
    house.settle(ann, bob)
    house.presence.drop(TOPIC)
    ann.attendance.close()
    house.settle(bob)
    assert bob.subscription.ended
    assert bob.state == {ann.ref: "ann", bob.ref: "bob"}
    assert house.published == 1


def test_a_namesakes_room_is_another() -> None:
    """Who was in the deleted session is not in the new one, and who leaves the old one does not leave it."""
    house = House()
    ann = house.enter("ann")
    house.settle(ann)
    late = house.enter("late")
    house.presence.drop(TOPIC)
    new = house.enter("new")
    assert new.state == {}
    ann.attendance.close()
    late.attendance.close()
    house.settle(new)
    assert new.state == {new.ref: "new"}
    new.attendance.close()
    house.settle()
    assert house.presence._rooms == {}


def test_who_does_not_read_costs_the_others_nothing() -> None:
    """And has the right picture once it does."""
    house = House()
    ann, slow = house.enter("ann"), house.enter("slow")
    slow.paused = True
    for n in range(50):
        guest = house.enter(f"g{n}")
        house.settle(ann)
        guest.attendance.close()
        house.settle(ann)
    slow.paused = False
    slow.flush()
    while slow.subscription.pending:
        slow.take()
    slow.apply()
    assert slow.state == ann.state == {ann.ref: "ann", slow.ref: "slow"}


class ComingAndGoing(RuleBasedStateMachine):
    """Any order of it, over one topic that is deleted and made again; every client ends with the truth."""

    def __init__(self) -> None:
        super().__init__()
        self.house = House()
        self.there: list[Viewer] = []
        self.left: list[Attendance] = []

    @rule(key=st.sampled_from(["ann", "bob", "cy"]), paused=st.booleans())
    def enter(self, key: str, paused: bool) -> None:
        viewer = self.house.enter(key)
        viewer.paused = paused
        self.there.append(viewer)

    @precondition(lambda self: self.there)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        viewer = self.there.pop(data.draw(st.integers(0, len(self.there) - 1)))
        viewer.attendance.close()
        self.left.append(viewer.attendance)

    @precondition(lambda self: self.left)
    @rule(data=st.data())
    def leave_again(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.left)).close()

    @precondition(lambda self: self.there)
    @rule(data=st.data())
    def pause(self, data: st.DataObject) -> None:
        viewer = data.draw(st.sampled_from(self.there))
        viewer.paused = not viewer.paused
        viewer.flush()

    @rule()
    def gather(self) -> None:
        self.house.gather()

    @rule()
    def tick(self) -> None:
        self.house.tick()

    @rule()
    def delete(self) -> None:
        self.house.presence.drop(TOPIC)
        self.left += [viewer.attendance for viewer in self.there]
        self.there = []

    @rule()
    def settle(self) -> None:
        for viewer in self.there:
            viewer.paused = False
            viewer.flush()
        self.house.settle(*self.there)
        truth = {viewer.ref: viewer.attendance._attendant.key for viewer in self.there}
        assert all(viewer.state == truth for viewer in self.there)
        assert (self.house.presence._rooms == {}) is (not self.there)

    @invariant()
    def what_is_gathered_is_bounded(self) -> None:
        """One timer for each room, the deleted ones among them, however many come and go."""
        assert len(self.house.due) == len({id(due) for due in map(_room_of, self.house.due)})


def _room_of(callback: Callable[[], None]) -> object:
    return callback.__self__  # type: ignore[attr-defined]


TestComingAndGoing = ComingAndGoing.TestCase
TestComingAndGoing.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
