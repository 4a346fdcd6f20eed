"""Fan-out of events: numbering, the replay ring, subscribers.

A topic keeps its latest events in one ring; a subscription is a cursor into it. What is published
within one tick is encoded once per wire format and handed, as one piece of bytes, to everybody who
is up to date, so that a client costs one write per tick. Only who lags costs more: it reads the ring
at its own pace, with adjacent deltas merged, and what the ring must let go meanwhile is kept for it
alone, up to a bound. Nothing here awaits, and the hub knows neither sessions nor sockets.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from functools import partial
from typing import Any, Protocol

from bridge.events import BlockKind, DeltaAdded, Epoch, Event, Seq, TurnId

Encoder = Callable[[str, Epoch, int, int, float, Event], bytes]
"""(topic, epoch, first_seq, seq, at, event) -> one complete unit of a wire format, a whole WebSocket frame
for instance: units are joined by nothing. `first_seq < seq` only for merged deltas; both are 0 where a topic
has no numbers. It must never raise: every subscriber of the topic depends on it."""

MERGE_CHARS = 64 * 1024
"""Merged deltas stop growing here, so that a client that catches up still sees its text in steps."""

ENTRY_BYTES = 200
"""What an entry of the ring costs beside its text, roughly; it makes `ring_bytes` mean memory."""

_BEYOND = 1 << 62
"""The cursor of who has left: nothing lies behind it."""


class HubLimits(Protocol):
    """The slice `HubConfig`, or anything like it."""

    @property
    def ring_events(self) -> int: ...
    @property
    def ring_bytes(self) -> int: ...
    @property
    def ring_s(self) -> float: ...
    @property
    def outbox_bytes(self) -> int: ...


class Subscriber(Protocol):
    """One client, over all its topics."""

    @property
    def format(self) -> str:
        """The key of its encoder."""
        ...

    def wake(self, subscription: Subscription) -> None:
        """This subscription has something: take note of it, no more. Not called again for it until
        `pull` has emptied it. A new subscription counts as woken: its owner begins with a pull."""
        ...

    def flush(self) -> None:
        """Everything that had to be woken in this tick has been: pull, and write."""
        ...

    def offer(self, data: bytes) -> bool:
        """All that one subscription, which is up to date, has to say of this tick. True: it is taken, and
        what is published later comes later. False: the subscription is woken instead."""
        ...

    def overflowed(self, subscription: Subscription) -> None:
        """It lags more than it may; it is already unsubscribed."""
        ...


_Delta = tuple[TurnId, int, BlockKind, str, str | None]
"""A delta's fields, in their order."""

_Entry = tuple[int, float, Event | _Delta, int]
"""One event of the ring: position, time, the event, its weight without what it was encoded to.

Deltas are most of what a ring holds, and nothing of theirs is an object that the garbage collector
follows: it lets go of plain tuples of strings and numbers when it first meets them. As objects, the rings
of twenty sessions, when full, made it stop the bridge for a fifth of a second again and again.
"""


class _Run:
    """What one frame will say: one entry, or adjacent deltas of one block as one.

    `frame` is what the first entry was encoded to, kept where the ring has let it go.
    """

    __slots__ = ("chars", "first", "frame", "last", "texts", "weight")

    def __init__(self, entry: _Entry, frame: bytes | None = None) -> None:
        self.first = self.last = entry
        self.frame = frame
        self.texts: list[str] | None = None
        event = entry[2]
        self.chars = len(event[3]) if type(event) is tuple else 0
        self.weight = entry[3] + (len(frame) if frame is not None else 0)

    def take(self, entry: _Entry) -> bool:
        """Merge this next entry into the run, if it goes on with the same block."""
        a, b = self.first[2], entry[2]
        if type(a) is not tuple or type(b) is not tuple or self.chars >= MERGE_CHARS:
            return False
        if a[:3] != b[:3] or a[4] != b[4]:
            return False
        if self.texts is None:
            self.texts = [a[3]]
        self.texts.append(b[3])
        self.frame = None
        self.chars += len(b[3])
        self.weight = ENTRY_BYTES + self.chars
        self.last = entry
        return True


class Hub:
    """All topics of one bridge, and the one flush per tick that they share."""

    def __init__(
        self,
        encoders: Mapping[str, Encoder],
        config: HubLimits,
        schedule: Callable[[Callable[[], None]], object],
        epoch: Epoch,
    ) -> None:
        self._formats = {name: index for index, name in enumerate(encoders)}
        self._encoders = list(encoders.values())
        self._config = config
        self._schedule = schedule
        self._epoch = epoch
        self._drops = 0
        self.published = 0
        """Events so far, of all topics."""
        self._topics: dict[str, Topic] = {}
        self._dirty: list[Topic] = []

    def topic(self, name: str, *, numbered: bool = True, aside: str = "") -> Topic:
        """The topic of this name, begun on first use. What is told `aside` of one (who watches it) goes out
        under its name, and has neither its numbers nor its ring."""
        key = f"{aside} {name}" if aside else name
        topic = self._topics.get(key)
        if topic is None:
            # A topic that comes after a deletion may be a namesake: its numbers begin anew, so it
            # must not share an epoch with what was deleted.
            epoch = Epoch(f"{self._epoch}.{self._drops}") if self._drops else self._epoch
            topic = self._topics[key] = Topic(self, name, numbered, epoch)
        return topic

    def drop(self, name: str, *, aside: str = "") -> None:
        """Forget a topic. Its subscribers still get what was published, then see it `ended`."""
        topic = self._topics.pop(f"{aside} {name}" if aside else name, None)
        if topic is not None:
            self._drops += topic.numbered
            topic._drop()

    def expire(self, now: float) -> None:
        """Let go of what is too old, where nothing happens as well; to be called now and then."""
        for topic in list(self._topics.values()):
            if not topic._touched:  # else the flush does it, after what is new has been handed on
                topic._evict(now)

    def _touch(self, topic: Topic) -> None:
        self._dirty.append(topic)
        if len(self._dirty) == 1:
            self._schedule(self._flush)

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, []
        self._offer([(topic, topic._offered()) for topic in dirty], [])

    def _offer(self, left: list[tuple[Topic, Iterator[Subscription]]], woken: list[Subscriber]) -> None:
        try:
            for topic, subscriptions in left:
                topic._offer(subscriptions, woken)
        except Exception:
            # As below; the iterators go on where they are.
            self._schedule(partial(self._offer, left, woken))
            raise
        self._hand_on(iter(woken), [topic for topic, _ in left])

    def _hand_on(self, woken: Iterator[Subscriber], dirty: list[Topic]) -> None:
        try:
            for subscriber in woken:
                subscriber.flush()
        except Exception:
            # A bug in one subscriber is the loop's to report; the others still get what is theirs.
            self._schedule(partial(self._hand_on, woken, dirty))
            raise
        for topic in dirty:
            topic._evict()


class Topic:
    """The events of one session, or of the lobby, in order."""

    def __init__(self, hub: Hub, name: str, numbered: bool, epoch: Epoch) -> None:
        self.name = name
        self.epoch = epoch
        self.numbered = numbered
        self.dropped = False
        self._hub = hub
        self._head = 0
        self._base = 0  # position of the entry before the ring's first
        self._mark = 0  # head at the flush before the latest one: who stands there is up to date
        self._flushed = 0  # head at the latest flush
        self._entries: list[_Entry] = []
        # By format, where anybody had need of it: what each entry was encoded to.
        self._frames: list[list[bytes | None] | None] = [None] * len(hub._encoders)
        self._bytes = 0
        self._touched = False
        self._subs: dict[Subscription, None] = {}
        self._chunks: list[tuple[int, int, bytes] | None] = [None] * len(hub._encoders)

    @property
    def seq(self) -> Seq:
        """The number of the latest event, 0 before the first."""
        return Seq(self._head if self.numbered else 0)

    @property
    def viewers(self) -> int:
        return len(self._subs)

    def publish(self, at: float, event: Event) -> None:
        """Give the event the next number; it goes out at the end of this tick. Never waits."""
        self._head += 1
        self._hub.published += 1
        if type(event) is DeltaAdded:
            weight = ENTRY_BYTES + len(event.text)
            delta = (event.turn, event.block, event.kind, event.text, event.parent)
            self._entries.append((self._head, at, delta, weight))
        else:
            weight = ENTRY_BYTES + _text_size(event)
            self._entries.append((self._head, at, event, weight))
        for frames in self._frames:
            if frames is not None:
                frames.append(None)
        self._bytes += weight
        self._touch()

    def subscribe(
        self, subscriber: Subscriber, after: tuple[Epoch, Seq] | None = None
    ) -> tuple[Subscription, bool]:
        """Follow the topic from `after`, or from now on where that is not given or no longer held.

        The second value says whether nothing between `after` and now is missing. The subscription
        counts as woken: pull it once what must precede its events has been said.
        """
        recovered = (
            after is not None
            and self.numbered
            and after[0] == self.epoch
            and self._base <= after[1] <= self._head
        )
        cursor = after[1] if recovered and after is not None else self._head
        subscription = Subscription(self, subscriber, self._hub._formats[subscriber.format], cursor)
        self._subs[subscription] = None
        return subscription, recovered

    # --- for the hub and its subscriptions ------------------------------------------------------

    def _touch(self) -> None:
        if not self._touched:
            self._touched = True
            self._hub._touch(self)

    def _drop(self) -> None:
        self.dropped = True
        self._touch()

    def _offered(self) -> Iterator[Subscription]:
        """Who has to be told what was published since the last time."""
        self._touched = False
        self._mark, self._flushed = self._flushed, self._head
        return iter(list(self._subs))

    def _offer(self, subscriptions: Iterator[Subscription], woken: list[Subscriber]) -> None:
        before = self._mark
        for subscription in subscriptions:
            cursor = subscription._cursor
            if subscription.pending or (cursor >= self._head and (not self.dropped or cursor == _BEYOND)):
                continue
            subscriber = subscription.subscriber
            if cursor == before and not self.dropped:
                data = self._since(cursor, subscription._fmt)
                subscription._cursor = self._head
                if subscriber.offer(data):
                    continue
                subscription._cursor = cursor
            subscription.pending = True
            subscriber.wake(subscription)
            woken.append(subscriber)

    def _evict(self, now: float | None = None) -> None:
        """Bring the ring back to its limits, after everybody who could has pulled. Without numbers nobody can
        ask for the past: what some still have to be told is kept with them. `now`: the time, where it is not
        that of the latest event."""
        limits = self._hub._config
        entries = self._entries
        if not entries:
            return
        oldest = (entries[-1][1] if now is None else now) - limits.ring_s
        most = limits.ring_events if self.numbered else 0
        count, held = 0, len(entries)
        while count < held and (
            held - count > most or self._bytes > limits.ring_bytes or entries[count][1] < oldest
        ):
            self._bytes -= entries[count][3]
            for frames in self._frames:
                if frames is not None and (frame := frames[count]) is not None:
                    self._bytes -= len(frame)
            count += 1
        if not count:
            return
        base = self._base + count
        overflowed = [s for s in self._subs if s._cursor < base and not s._keep_until(base)]
        del entries[:count]
        for frames in self._frames:
            if frames is not None:
                del frames[:count]
        self._base = base
        for subscription in overflowed:
            subscription.close()
            subscription.subscriber.overflowed(subscription)

    def _encoded(self, fmt: int, index: int) -> bytes:
        """An entry of the ring as a frame, made once."""
        frames = self._frames[fmt]
        if frames is None:
            frames = self._frames[fmt] = [None] * len(self._entries)
        frame = frames[index]
        if frame is None:
            frame = frames[index] = self._encode(fmt, self._entries[index])
            self._bytes += len(frame)
        return frame

    def _encode(self, fmt: int, entry: _Entry) -> bytes:
        pos, at, event, _ = entry
        seq = pos if self.numbered else 0
        said = DeltaAdded(*event) if isinstance(event, tuple) else event
        return self._hub._encoders[fmt](self.name, self.epoch, seq, seq, at, said)

    def _encode_run(self, fmt: int, run: _Run) -> bytes:
        first, last = run.first, run.last
        if run.texts is None:
            index = first[0] - self._base - 1
            return run.frame or (self._encoded(fmt, index) if index >= 0 else self._encode(fmt, first))
        event = first[2]
        assert type(event) is tuple, "only deltas are merged"
        merged = replace(DeltaAdded(*event), text="".join(run.texts))
        return self._hub._encoders[fmt](self.name, self.epoch, first[0], last[0], last[1], merged)

    def _since(self, cursor: int, fmt: int) -> bytes:
        """Everything after the cursor as it stands, made once for all who stand there."""
        held = self._chunks[fmt]
        if held is not None and held[0] == cursor and held[1] == self._head:
            return held[2]
        new = range(cursor - self._base, len(self._entries))
        data = b"".join([self._encoded(fmt, index) for index in new])
        self._chunks[fmt] = (cursor, self._head, data)
        return data

    def _run_after(self, cursor: int, replay_end: int) -> _Run:
        """The next frame for somebody who lags; what is replay stands alone."""
        entries = self._entries
        index = cursor - self._base
        run = _Run(entries[index])
        if self.numbered and run.first[0] > replay_end:
            index += 1
            while index < len(entries) and run.take(entries[index]):
                index += 1
        return run


class Subscription:
    """One client's place in one topic."""

    __slots__ = (
        "_backlog",
        "_backlog_bytes",
        "_cursor",
        "_fmt",
        "_replay_end",
        "ended",
        "pending",
        "subscriber",
        "topic",
    )

    def __init__(self, topic: Topic, subscriber: Subscriber, fmt: int, cursor: int) -> None:
        self.topic = topic
        self.subscriber = subscriber
        self.pending = True
        """There is, or may be, more to pull; while this is so, the hub does not wake for it."""
        self.ended = False
        """The topic was dropped and everything of it has been pulled."""
        self._fmt = fmt
        self._cursor = cursor
        self._replay_end = topic._head
        self._backlog: deque[_Run] | None = None  # what the ring let go before it was pulled
        self._backlog_bytes = 0

    def pull(self, limit: int) -> bytes:
        """The next frames, about `limit` bytes of them or one tick's; empty when there is no more.

        Whatever was returned is the caller's to deliver: it is not returned again.
        """
        topic, cursor = self.topic, self._cursor
        if cursor < topic._mark or self._backlog is not None:
            return self._catch_up(limit)
        self.pending = False
        self.ended = topic.dropped
        head = topic._head
        if cursor >= head:
            return b""
        self._cursor = head
        return topic._since(cursor, self._fmt)

    def close(self) -> None:
        """Leave the topic; there is nothing to pull any more. Safe to repeat."""
        self.topic._subs.pop(self, None)
        self._backlog = None
        self._cursor = _BEYOND
        self.pending = False

    def _catch_up(self, limit: int) -> bytes:
        topic = self.topic
        frames: list[bytes] = []
        size = 0
        while size < limit:
            if self._backlog is not None:
                run = self._backlog.popleft()
                self._backlog_bytes -= run.weight
                if not self._backlog:
                    self._backlog = None
            elif self._cursor < topic._head:
                run = topic._run_after(self._cursor, self._replay_end)
                self._cursor = run.last[0]
            else:
                break
            frames.append(topic._encode_run(self._fmt, run))
            size += len(frames[-1])
        if self._backlog is None and self._cursor >= topic._head:
            self.pending = False
            self.ended = topic.dropped
        return b"".join(frames)

    def _keep_until(self, base: int) -> bool:
        """Keep what the ring is about to let go; False where that is more than a client may lag."""
        topic = self.topic
        backlog = self._backlog if self._backlog is not None else deque[_Run]()
        held = topic._frames[self._fmt]
        for index in range(self._cursor - topic._base, base - topic._base):
            entry = topic._entries[index]
            last = backlog[-1] if backlog and topic.numbered else None
            before = last.weight if last else 0
            if last and last.first[0] > self._replay_end and last.take(entry):
                self._backlog_bytes += last.weight - before
            else:
                backlog.append(_Run(entry, held[index] if held is not None else None))
                self._backlog_bytes += backlog[-1].weight
        self._backlog = backlog
        self._cursor = base
        return self._backlog_bytes <= topic._hub._config.outbox_bytes


def _text_size(value: Any) -> int:
    """About how many characters a fact carries; only the rarer kinds are walked."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(len(str(key)) + _text_size(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return sum(map(_text_size, value))
    if is_dataclass(value):
        return sum(_text_size(getattr(value, f.name)) for f in fields(value))
    return 8
