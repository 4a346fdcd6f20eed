"""The hub: numbers, replay, who lags, what is shared; and any interleaving of it all against a model."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from bridge.config import HubConfig
from bridge.events import BlockFinished, DeltaAdded, Epoch, Event, Seq, SessionDeleted, SessionName, TurnId
from bridge.hub import MERGE_CHARS, Hub, Subscription, Topic

TURN = TurnId("t")
EPOCH = Epoch("e")


def delta(text: str, block: int = 0) -> DeltaAdded:
    return DeltaAdded(TURN, block, "text", text)


def settled(text: str = "") -> BlockFinished:
    return BlockFinished(TURN, 0, "text", text)


@dataclass
class Loop:
    """Runs what was scheduled when the test says so: one tick."""

    due: list[Callable[[], None]] = field(default_factory=list)

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.due.append(callback)

    def tick(self) -> None:
        due, self.due = self.due, []
        for callback in due:
            callback()


class Reader:
    """A subscriber that keeps what it heard; while `paused`, it takes nothing. If `eager`, it takes what it
    is offered."""

    def __init__(self, format: str = "lines", *, eager: bool = False) -> None:
        self.format = format
        self.eager = eager
        self.paused = False
        self.ready: list[Subscription] = []
        self.chunks: list[bytes] = []
        self.overflows: list[Subscription] = []
        self.wakes = 0

    def wake(self, subscription: Subscription) -> None:
        assert subscription not in self.ready, "woken twice without having pulled all"
        self.wakes += 1
        self.ready.append(subscription)

    def flush(self) -> None:
        if not self.paused:
            self.take()

    def offer(self, data: bytes) -> bool:
        if not self.eager or self.paused or self.ready:
            return False
        self.chunks.append(data)
        return True

    def take(self, limit: int = 1 << 30) -> None:
        """Pull each once, and keep those that have more."""
        for subscription in list(self.ready):
            self.chunks.append(subscription.pull(limit))
            if not subscription.pending:
                self.ready.remove(subscription)

    def overflowed(self, subscription: Subscription) -> None:
        self.overflows.append(subscription)

    @property
    def frames(self) -> list[Any]:
        """[topic, first_seq, seq, event, block, text] of each."""
        return [orjson.loads(line) for line in b"".join(self.chunks).splitlines()]


class Bench:
    def __init__(self, **limits: int) -> None:
        self.loop = Loop()
        self.encoded = 0
        config = HubConfig(**{"ring_events": 1000, "ring_bytes": 1 << 30, "outbox_bytes": 1 << 30, **limits})
        encoders = {"lines": self.encode, "other": self.encode}
        self.hub = Hub(encoders, config, self.loop.call_soon, EPOCH)

    def encode(self, topic: str, epoch: Epoch, first: int, seq: int, at: float, event: Event) -> bytes:
        self.encoded += 1
        block, text = getattr(event, "block", None), getattr(event, "text", None)
        return orjson.dumps([topic, first, seq, event.event, block, text]) + b"\n"

    def reader(self, topic: Topic, **how: Any) -> Reader:
        reader = Reader(how.pop("format", "lines"), eager=how.pop("eager", False))
        subscription, _ = topic.subscribe(reader, **how)
        reader.ready.append(subscription)
        reader.take()
        return reader


def test_what_is_published_goes_out_at_the_end_of_the_tick() -> None:
    """Numbered from one, in order, not before."""
    bench = Bench()
    topic = bench.hub.topic("a")
    reader = bench.reader(topic)
    topic.publish(1.0, delta("x"))
    topic.publish(1.0, settled("x"))
    assert reader.frames == []
    bench.loop.tick()
    assert reader.frames == [["a", 1, 1, "delta", 0, "x"], ["a", 2, 2, "block", 0, "x"]]
    assert topic.seq == 2


def test_an_event_is_encoded_once_for_all_who_share_a_format() -> None:
    """And everybody is handed the very same bytes."""
    bench = Bench()
    topic = bench.hub.topic("a")
    readers = [bench.reader(topic) for _ in range(10)] + [bench.reader(topic, format="other")]
    for i in range(16):
        topic.publish(1.0, delta(str(i)))
    bench.loop.tick()
    assert bench.encoded == 32
    assert len({id(r.chunks[-1]) for r in readers[:10]}) == 1


def test_who_is_up_to_date_and_takes_what_is_offered_is_not_woken() -> None:
    """The same bytes for all of them; who lags, or has something else to say first, is woken as ever."""
    bench = Bench()
    topic = bench.hub.topic("a")
    eager, other, slow = (bench.reader(topic, eager=n != 1) for n in range(3))
    slow.paused = True
    for text in "ab":
        topic.publish(1.0, settled(text))
        bench.loop.tick()
    assert [len(reader.frames) for reader in (eager, other, slow)] == [2, 2, 0]
    assert [reader.wakes for reader in (eager, other, slow)] == [0, 2, 1]
    assert eager.chunks[-1] is other.chunks[-1]
    slow.paused = False
    slow.take()
    topic.publish(1.0, settled("c"))
    bench.loop.tick()
    assert [len(reader.frames) for reader in (eager, other, slow)] == [3, 3, 3]
    assert slow.wakes == 1


def test_one_flush_per_tick_however_many_topics_and_events() -> None:
    """A client of several topics is woken before it is told to write."""
    bench = Bench()
    a, b = bench.hub.topic("a"), bench.hub.topic("b")
    reader = bench.reader(a)
    subscription, _ = b.subscribe(reader)
    subscription.pull(1)
    for topic in (a, b, a, b):
        topic.publish(1.0, delta("x"))
    assert len(bench.loop.due) == 1
    bench.loop.tick()
    assert [f[0] for f in reader.frames] == ["a", "a", "b", "b"]
    assert reader.wakes == 2


def test_a_new_subscription_begins_now_and_waits_for_its_first_pull() -> None:
    """So that a join's reply comes before its events."""
    bench = Bench()
    topic = bench.hub.topic("a")
    topic.publish(1.0, delta("before"))
    reader = Reader()
    subscription, recovered = topic.subscribe(reader)
    topic.publish(1.0, delta("after"))
    bench.loop.tick()
    assert (reader.wakes, recovered, topic.viewers) == (0, False, 1)
    assert b"after" in subscription.pull(100)
    assert b"before" not in subscription.pull(100)
    topic.publish(1.0, delta("later"))
    bench.loop.tick()
    assert reader.wakes == 1


@pytest.mark.parametrize(
    ("after", "recovered"),
    [
        ((EPOCH, Seq(3)), True),
        ((EPOCH, Seq(5)), True),
        ((EPOCH, Seq(2)), False),
        ((EPOCH, Seq(6)), False),
        ((Epoch("other"), Seq(4)), False),
        (None, False),
    ],
)
def test_replay_begins_after_what_a_client_has_if_the_ring_still_holds_it(
    after: tuple[Epoch, Seq] | None, recovered: bool
) -> None:
    """Two of five are still there; the others, the future and another epoch are not."""
    bench = Bench(ring_events=2)
    topic = bench.hub.topic("a")
    for i in range(1, 6):
        topic.publish(1.0, delta(str(i)))
    bench.loop.tick()
    reader = Reader()
    subscription, answer = topic.subscribe(reader, after)
    reader.ready.append(subscription)
    reader.take()
    assert answer is recovered
    assert [f[2] for f in reader.frames] == (list(range(after[1] + 1, 6)) if recovered and after else [])


def test_the_ring_is_bounded_by_bytes_as_well() -> None:
    """Long events push the older ones out."""
    bench = Bench(ring_bytes=10_000)
    topic = bench.hub.topic("a")
    for i in range(100):
        topic.publish(1.0, delta(f"{i:02d}" + "x" * 998))
    bench.loop.tick()
    assert topic.subscribe(Reader(), (EPOCH, Seq(99)))[1] is True
    assert topic.subscribe(Reader(), (EPOCH, Seq(80)))[1] is False


def test_the_ring_is_bounded_by_age_as_well() -> None:
    """Counted from what is newest, at every event; and from now, where none comes any more."""
    bench = Bench(ring_s=60)
    topic = bench.hub.topic("a")
    for at in (1.0, 2.0, 61.5):
        topic.publish(at, settled())
        bench.loop.tick()

    def recovered(after: int) -> bool:
        return topic.subscribe(Reader(), (EPOCH, Seq(after)))[1]

    assert [recovered(after) for after in range(4)] == [False, True, True, True]
    bench.hub.expire(61.9)
    assert [recovered(after) for after in range(4)] == [False, True, True, True]
    bench.hub.expire(121.6)
    assert [recovered(after) for after in range(4)] == [False, False, False, True]
    topic.publish(200.0, settled())
    bench.loop.tick()
    assert [recovered(after) for after in (2, 3, 4)] == [False, True, True]


def test_what_grows_too_old_is_kept_for_who_has_not_had_it() -> None:
    """For who lags, and for everybody where it has not gone out yet."""
    bench = Bench(ring_s=60)
    topic = bench.hub.topic("a")
    slow, quick = bench.reader(topic), bench.reader(topic)
    slow.paused = True
    topic.publish(1.0, settled("first"))
    bench.loop.tick()
    topic.publish(2.0, settled("second"))
    bench.hub.expire(1000.0)
    bench.loop.tick()
    bench.hub.expire(1000.0)
    slow.take()
    assert [[f[5] for f in reader.frames] for reader in (slow, quick)] == [["first", "second"]] * 2


def test_the_collector_has_nothing_to_do_with_the_deltas_of_a_ring() -> None:
    """Full rings of objects would make it stop the bridge for tenths of a second."""
    bench = Bench(ring_events=10_000)
    topic = bench.hub.topic("a")
    bench.reader(topic)
    gc.collect()
    before = len(gc.get_objects())
    for i in range(5000):
        topic.publish(1.0, delta(f"text {i}"))
        bench.loop.tick()
    assert topic.subscribe(Reader(), (EPOCH, Seq(1)))[1] is True
    gc.collect()
    gc.collect()  # a tuple within a tuple is let go of first
    assert len(gc.get_objects()) - before < 1000


def test_adjacent_deltas_of_one_block_are_merged_for_who_lags() -> None:
    """Never across another event or another block, and nobody else notices."""
    bench = Bench()
    topic = bench.hub.topic("a")
    slow, quick = bench.reader(topic), bench.reader(topic)
    slow.paused = True
    for event in (delta("a"), delta("b"), settled(), delta("c"), delta("d", 1), delta("e", 1)):
        topic.publish(1.0, event)
        bench.loop.tick()
    topic.publish(1.0, delta("f", 1))
    bench.loop.tick()
    slow.take()
    assert [f[1:] for f in slow.frames] == [
        [1, 2, "delta", 0, "ab"],
        [3, 3, "block", 0, ""],
        [4, 4, "delta", 0, "c"],
        [5, 7, "delta", 1, "def"],
    ]
    assert [f[1:3] for f in quick.frames] == [[i, i] for i in range(1, 8)]


def test_replay_is_never_merged_and_what_follows_it_may_be() -> None:
    """A client that lags while it is replayed to."""
    bench = Bench()
    topic = bench.hub.topic("a")
    for i in range(4):
        topic.publish(1.0, delta(str(i)))
    bench.loop.tick()
    reader = Reader()
    reader.ready.append(topic.subscribe(reader, (EPOCH, Seq(1)))[0])
    for i in range(4, 8):
        topic.publish(1.0, delta(str(i)))
        bench.loop.tick()
    bench.loop.tick()
    reader.take()
    assert [f[1:3] for f in reader.frames] == [[2, 2], [3, 3], [4, 4], [5, 8]]


def test_merged_text_stops_growing_at_a_bound() -> None:
    """A client that catches up still sees steps."""
    bench = Bench()
    topic = bench.hub.topic("a")
    reader = bench.reader(topic)
    reader.paused = True
    for _ in range(10):
        topic.publish(1.0, delta("x" * (MERGE_CHARS // 4)))
        bench.loop.tick()
    reader.take()
    assert [f[1:3] for f in reader.frames] == [[1, 4], [5, 8], [9, 10]]


def test_what_the_ring_lets_go_is_kept_for_who_lags() -> None:
    """Merged there as well, in order with what follows."""
    bench = Bench(ring_events=2)
    topic = bench.hub.topic("a")
    reader = bench.reader(topic)
    reader.paused = True
    for i in range(10):
        topic.publish(1.0, delta(str(i)))
        bench.loop.tick()
    while reader.ready:
        reader.take(limit=1)
    assert "".join(f[5] for f in reader.frames) == "0123456789"
    assert len(reader.frames) < 10


def test_a_client_that_lags_too_far_is_told_and_let_go() -> None:
    """The bound is on what is kept for it alone."""
    bench = Bench(ring_events=1, outbox_bytes=2000)
    topic = bench.hub.topic("a")
    slow, quick = bench.reader(topic), bench.reader(topic)
    slow.paused = True
    for _ in range(30):
        topic.publish(1.0, settled("x" * 100))
        bench.loop.tick()
    assert len(slow.overflows) == 1
    assert topic.viewers == 1
    assert len(quick.frames) == 30
    assert slow.overflows[0].pull(1 << 20) == b""


def test_a_dropped_topic_says_what_it_had_to_say_and_ends() -> None:
    """`ended` only when all of it has been pulled."""
    bench = Bench()
    topic = bench.hub.topic("a")
    reader = bench.reader(topic)
    (subscription,) = topic._subs
    topic.publish(1.0, delta("last"))
    bench.hub.drop("a")
    assert not subscription.ended
    bench.loop.tick()
    assert [f[5] for f in reader.frames] == ["last"]
    assert subscription.ended


def test_a_namesake_of_a_dropped_topic_has_an_epoch_of_its_own() -> None:
    """Or a cursor of the old one would be taken for one of the new."""
    bench = Bench()
    old = bench.hub.topic("a")
    old.publish(1.0, delta("x"))
    bench.hub.drop("a")
    new = bench.hub.topic("a")
    new.publish(1.0, delta("y"))
    assert new.seq == 1
    assert new.epoch != old.epoch
    assert new.subscribe(Reader(), (old.epoch, Seq(1)))[1] is False


def test_a_topic_without_numbers_says_zero_and_merges_and_replays_nothing() -> None:
    """The lobby."""
    bench = Bench()
    topic = bench.hub.topic("sessions", numbered=False)
    reader = bench.reader(topic)
    reader.paused = True
    for _ in range(3):
        topic.publish(1.0, SessionDeleted(SessionName("x")))
        bench.loop.tick()
    reader.take()
    assert [f[1:3] for f in reader.frames] == [[0, 0]] * 3
    assert topic.seq == 0
    assert topic.subscribe(Reader(), (EPOCH, Seq(0)))[1] is False


def test_a_closed_subscription_is_neither_woken_nor_given_anything() -> None:
    """Closing twice is closing once."""
    bench = Bench()
    topic = bench.hub.topic("a")
    reader = bench.reader(topic)
    (subscription,) = topic._subs
    topic.publish(1.0, delta("x"))
    subscription.close()
    subscription.close()
    bench.loop.tick()
    assert (reader.wakes, topic.viewers, subscription.pull(100)) == (0, 0, b"")


def test_a_subscriber_that_fails_when_it_is_offered_something_costs_the_others_nothing() -> None:
    """They are gone on with, each once."""
    bench = Bench()
    topic = bench.hub.topic("a")
    readers = [bench.reader(topic, eager=n != 2) for n in range(4)]

    def broken(data: bytes) -> bool:
        raise RuntimeError("a bug")

    readers[1].offer = broken  # type: ignore[method-assign]
    topic.publish(1.0, delta("x"))
    with pytest.raises(RuntimeError):
        bench.loop.tick()
    bench.loop.tick()
    assert [len(r.frames) for r in readers] == [1, 0, 1, 1]


def test_a_subscriber_that_fails_costs_the_others_nothing() -> None:
    """Its error reaches the loop; the rest get theirs in the next tick."""
    bench = Bench()
    topic = bench.hub.topic("a")
    readers = [bench.reader(topic) for _ in range(3)]

    def broken() -> None:
        raise RuntimeError("a bug")

    readers[1].flush = broken  # type: ignore[method-assign]
    topic.publish(1.0, delta("x"))
    with pytest.raises(RuntimeError):
        bench.loop.tick()
    bench.loop.tick()
    assert [len(r.frames) for r in readers] == [1, 0, 1]


# --- any interleaving --------------------------------------------------------------------------------


@dataclass
class Follower:
    """What a subscriber must have heard: everything after `begin`, alone up to `replay_end`."""

    reader: Reader
    begin: int
    replay_end: int


class Interleavings(RuleBasedStateMachine):
    """Publishing, pulling, pausing, evicting and joining in any order."""

    @initialize(events=st.integers(1, 8), small=st.booleans())
    def begin(self, events: int, small: bool) -> None:
        self.bench = Bench(ring_events=events, **({"ring_bytes": 1500} if small else {}))
        self.topic = self.bench.hub.topic("a")
        self.published: list[Event] = []
        self.followers: list[Follower] = []

    @rule(block=st.integers(0, 1), text=st.text("abc", max_size=3), plain=st.integers(0, 4))
    def publish(self, block: int, text: str, plain: int) -> None:
        event: Event = settled(text) if plain == 0 else delta(text, block)
        self.published.append(event)
        self.topic.publish(1.0, event)

    @rule()
    def tick(self) -> None:
        self.bench.loop.tick()

    @rule()
    def expire(self) -> None:
        self.bench.hub.expire(1e12)

    @rule(back=st.none() | st.integers(0, 12), pulls=st.booleans(), eager=st.booleans())
    def subscribe(self, back: int | None, pulls: bool, eager: bool) -> None:
        head = len(self.published)
        after = None if back is None else (EPOCH, Seq(max(0, head - back)))
        reader = Reader(eager=eager)
        subscription, recovered = self.topic.subscribe(reader, after)
        reader.ready.append(subscription)
        begin = after[1] if recovered and after else head
        self.followers.append(Follower(reader, begin, head))
        if pulls:
            reader.take()

    @rule(index=st.integers(0, 9), paused=st.booleans())
    def pause(self, index: int, paused: bool) -> None:
        if index < len(self.followers):
            self.followers[index].reader.paused = paused

    @rule(index=st.integers(0, 9), limit=st.integers(1, 200))
    def pull(self, index: int, limit: int) -> None:
        if index < len(self.followers):
            self.followers[index].reader.take(limit)

    @rule(index=st.integers(0, 9))
    def leave(self, index: int) -> None:
        if index < len(self.followers):
            reader = self.followers.pop(index).reader
            for subscription in list(self.topic._subs):
                if subscription.subscriber is reader:
                    subscription.close()

    @invariant()
    def everybody_has_heard_a_part_of_it_in_order(self) -> None:
        for follower in getattr(self, "followers", []):
            self._check(follower)

    def teardown(self) -> None:
        self.bench.loop.tick()
        for follower in self.followers:
            while follower.reader.ready:
                follower.reader.take(1)
            assert self._check(follower) == len(self.published)

    def _check(self, follower: Follower) -> int:
        """Everything it heard is what was published, each once; returns how far it got."""
        last = follower.begin
        for _, first, seq, name, block, text in follower.reader.frames:
            assert first == last + 1
            events = self.published[first - 1 : seq]
            assert len(events) == seq - first + 1
            if seq > first:
                assert first > follower.replay_end, "replay is never merged"
            assert {e.event for e in events} == {name}
            assert {e.block for e in events} == {block}  # type: ignore[union-attr]
            assert text == "".join(e.text for e in events)  # type: ignore[union-attr]
            assert name == "delta" or seq == first
            last = seq
        return last


TestInterleavings = Interleavings.TestCase
TestInterleavings.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
