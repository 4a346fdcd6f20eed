"""The outbox: what goes out together, in which order, and what happens when the socket is full."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bridge.transports.outbox import Outbox, Source


class Topic:
    """A subscription with chunks to give, one a pull."""

    def __init__(self, *chunks: bytes, ends: bool = False) -> None:
        self.chunks = list(chunks)
        self.ends = ends

    @property
    def pending(self) -> bool:
        return bool(self.chunks)

    @property
    def ended(self) -> bool:
        return self.ends and not self.chunks

    def pull(self, limit: int) -> bytes:
        return self.chunks.pop(0) if self.chunks else b""


class Wire:
    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.room = True
        self.drains = 0
        self.overflows = 0

    def write(self, data: bytes) -> bool:
        self.written.append(data)
        return self.room

    def drain(self) -> None:
        self.drains += 1

    def overflow(self) -> None:
        self.overflows += 1

    def ended(self, subscription: Source) -> bytes:
        return b"<closed>"


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def due() -> list[Callable[[], None]]:
    return []


@pytest.fixture
def outbox(wire: Wire, due: list[Callable[[], None]]) -> Outbox:
    return Outbox("phoenix-v2", wire, 100, due.append)


def test_replies_of_a_tick_go_out_in_one_write_before_the_events(outbox: Outbox, wire: Wire) -> None:
    """And the topics' events behind them, in the same write."""
    outbox.wake(Topic(b"a1"))
    outbox.wake(Topic(b"b1"))
    outbox.send(b"r1")
    outbox.send(b"r2")
    assert wire.written == []
    outbox.flush()
    assert wire.written == [b"r1r2a1b1"]


def test_a_tick_is_scheduled_once(outbox: Outbox, due: list[Callable[[], None]]) -> None:
    """However much is sent in it."""
    for _ in range(3):
        outbox.send(b"r")
    outbox.attach(Topic(b"a"))
    assert len(due) == 1


def test_one_topics_bytes_are_handed_on_as_they_are(outbox: Outbox, wire: Wire) -> None:
    """The shared chunk is not copied for each client."""
    chunk = b"x" * 1000
    outbox.wake(Topic(chunk))
    outbox.flush()
    assert wire.written[0] is chunk


def test_a_wire_that_gathers_takes_a_topics_part_as_it_comes(
    wire: Wire, due: list[Callable[[], None]]
) -> None:
    """Unless something is to be said before it, or there is no room."""
    outbox = Outbox("phoenix-v2", wire, 100, due.append, gathers=True)
    assert [outbox.offer(b"a1"), outbox.offer(b"b1")] == [True, True]
    outbox.send(b"r")
    assert not outbox.offer(b"a2")
    outbox.flush()
    outbox.wake(Topic(b"a2"))
    assert not outbox.offer(b"b2")
    outbox.flush()
    wire.room = False
    assert outbox.offer(b"a3")
    assert not outbox.offer(b"a4")
    assert (wire.written, wire.drains) == ([b"a1", b"b1", b"r", b"a2", b"a3"], 1)
    outbox.close()
    assert not outbox.offer(b"a5")


def test_a_wire_that_does_not_gather_is_offered_nothing(outbox: Outbox, wire: Wire) -> None:
    """A poll that is answered is over: what comes behind would have to wait for the next one."""
    assert not outbox.offer(b"a1")
    assert wire.written == []


def test_nothing_is_pulled_while_the_socket_is_full(outbox: Outbox, wire: Wire) -> None:
    """What the client lags behind by stays where it is shared; replies wait here."""
    wire.room = False
    topic = Topic(b"a1", b"a2")
    outbox.wake(topic)
    outbox.flush()
    outbox.send(b"r")
    outbox.flush()
    assert (wire.written, topic.chunks, wire.drains) == ([b"a1"], [b"a2"], 1)
    wire.room = True
    outbox.resume()
    assert b"".join(wire.written) == b"a1ra2"


def test_a_busy_topic_does_not_starve_another(outbox: Outbox, wire: Wire) -> None:
    """They take turns."""
    big = b"x" * 70_000
    outbox.wake(Topic(big, big, big))
    outbox.wake(Topic(b"small"))
    outbox.flush()
    assert b"".join(wire.written).index(b"small") < 80_000


def test_the_end_of_a_topic_comes_after_its_last_events(outbox: Outbox, wire: Wire) -> None:
    """Alone or among others."""
    outbox.wake(Topic(b"a1", b"a2", ends=True))
    outbox.flush()
    outbox.wake(Topic(b"b1", ends=True))
    outbox.send(b"r")
    outbox.flush()
    assert b"".join(wire.written) == b"a1a2<closed>rb1<closed>"


def test_what_follows_a_long_reply_at_once_closes_nobody(outbox: Outbox, wire: Wire) -> None:
    """The socket is offered the long one first: a snapshot may be larger than what may wait."""
    outbox.send(b"x" * 500)
    outbox.send(b"state")
    outbox.flush()
    assert (wire.overflows, wire.written) == (0, [b"x" * 500, b"state"])


def test_replies_beyond_the_bound_close_the_client_once(outbox: Outbox, wire: Wire) -> None:
    """While the socket is full; one that is larger than the bound by itself is still kept."""
    wire.room = False
    outbox.send(b"first")
    outbox.flush()
    outbox.send(b"x" * 500)
    assert wire.overflows == 0
    outbox.send(b"x")
    outbox.send(b"x")
    assert wire.overflows == 1
    outbox.flush()
    assert wire.written == [b"first"]


def test_a_lagging_subscription_closes_the_client(outbox: Outbox, wire: Wire) -> None:
    """The hub says so; nothing is written after it."""
    outbox.overflowed(Topic())
    outbox.send(b"r")
    outbox.wake(Topic(b"a"))
    outbox.flush()
    outbox.resume()
    assert (wire.overflows, wire.written) == (1, [])


def test_a_closed_outbox_holds_nothing(outbox: Outbox) -> None:
    """Who waits for it to be emptied would wait for ever."""
    outbox.send(b"reply")
    assert outbox.held == 5
    outbox.close()
    assert outbox.held == 0
