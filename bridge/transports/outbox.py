"""What waits to be written to one client: replies, and the events of all its topics.

Everything of one tick goes out in one write, replies first, because a write is what costs; a wire that
gathers by itself what it is given in one tick is given each topic's part as it comes. While the
client's socket is full nothing is pulled: what it lags behind by stays with the hub, which merges and
bounds it. Only replies are kept here, and they are bounded, too. Knows no protocol and no socket.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Protocol

PULL_BYTES = 64 * 1024
"""Taken from the hub before each look at the socket: what asyncio buffers before it says "full"."""

HELD_SHARE = 8
"""A client that leaves this part of its outbox's bound unread, in replies alone, is read no further."""


class Source(Protocol):
    """A hub's subscription, as far as an outbox needs it."""

    @property
    def pending(self) -> bool: ...
    @property
    def ended(self) -> bool: ...
    def pull(self, limit: int) -> bytes: ...


class Wire(Protocol):
    """The client's side. None of it may block or raise."""

    def write(self, data: bytes) -> bool:
        """Hand over data, which is dropped where the connection is gone. False: the socket holds more
        than it should, write no more for now."""
        ...

    def drain(self) -> None:
        """Call the outbox's `resume` when there is room again."""
        ...

    def overflow(self) -> None:
        """The client does not keep up: close it with 4008."""
        ...

    def ended(self, subscription: Source) -> bytes:
        """The topic was deleted and all of it was said; returns what remains to be said of that."""
        ...


class _State(Enum):
    IDLE = "idle"
    SCHEDULED = "scheduled"
    CONGESTED = "congested"
    CLOSED = "closed"


class Outbox:
    """One client's subscriber of the hub."""

    __slots__ = (
        "_direct",
        "_direct_bytes",
        "_gathers",
        "_limit",
        "_ready",
        "_schedule",
        "_state",
        "_wire",
        "format",
    )

    def __init__(
        self,
        format: str,
        wire: Wire,
        limit: int,
        schedule: Callable[[Callable[[], None]], object],
        *,
        gathers: bool = False,
    ) -> None:
        """`gathers`: several writes of one tick cost the wire as much as one, as uvloop's connections, which
        hand them to the kernel together."""
        self.format = format
        self._gathers = gathers
        self._wire = wire
        self._limit = limit
        self._schedule = schedule
        self._state = _State.IDLE
        self._direct: list[bytes] = []
        self._direct_bytes = 0
        self._ready: list[Source] = []  # short: a deque would cost each idle client half a kilobyte

    @property
    def held(self) -> int:
        """Bytes of replies that wait for room: who asks on without reading should be heard no further."""
        return self._direct_bytes

    def send(self, frame: bytes) -> None:
        """Queue a reply: it leaves at the end of this tick, before any event published after this call."""
        if self._state is _State.CLOSED:
            return
        if self._direct_bytes > self._limit and self._state is not _State.CONGESTED:
            self.flush()  # it has not been offered yet: a long snapshot, and what follows it at once
        # One reply may be larger than the bound (a long history); that it waits behind so much is not.
        if self._direct_bytes > self._limit:
            self._overflow()
            return
        self._direct.append(frame)
        self._direct_bytes += len(frame)
        if self._state is _State.IDLE:
            self._state = _State.SCHEDULED
            self._schedule(self.flush)

    def attach(self, subscription: Source) -> None:
        """Let a new subscription's events follow what has been sent so far: its join's reply."""
        self.wake(subscription)
        if self._state is _State.IDLE:
            self._state = _State.SCHEDULED
            self._schedule(self.flush)

    def wake(self, subscription: Source) -> None:
        if self._state is not _State.CLOSED:
            self._ready.append(subscription)

    def offer(self, data: bytes) -> bool:
        if not self._gathers or self._state is not _State.IDLE or self._ready:
            return False
        if not self._wire.write(data):
            self._state = _State.CONGESTED
            self._wire.drain()
        return True

    def overflowed(self, subscription: Source) -> None:
        self._overflow()

    def resume(self) -> None:
        """The socket has room again."""
        if self._state is _State.CONGESTED:
            self._state = _State.IDLE
            self.flush()

    def flush(self) -> None:
        """Write what there is, as far as the socket takes it."""
        if self._state is _State.CONGESTED or self._state is _State.CLOSED:
            return
        self._state = _State.IDLE
        while self._direct or self._ready:
            data = self._batch()
            if data and not self._wire.write(data):
                self._state = _State.CONGESTED
                self._wire.drain()
                return

    def close(self) -> None:
        """Forget everything and take nothing more. Safe to repeat."""
        self._state = _State.CLOSED
        self._direct.clear()
        self._direct_bytes = 0
        self._ready.clear()

    def _batch(self) -> bytes:
        ready = self._ready
        if not self._direct and len(ready) == 1:  # nearly always: one topic, up to date
            subscription = ready.pop(0)
            data = subscription.pull(PULL_BYTES)
            if subscription.pending or subscription.ended:
                data += self._after(subscription)
            return data
        batch, self._direct = self._direct, []
        size, self._direct_bytes = self._direct_bytes, 0
        while ready and size < PULL_BYTES:
            subscription = ready.pop(0)
            data = subscription.pull(PULL_BYTES) + self._after(subscription)
            if data:
                batch.append(data)
                size += len(data)
        return batch[0] if len(batch) == 1 else b"".join(batch)

    def _after(self, subscription: Source) -> bytes:
        if subscription.pending:
            self._ready.append(subscription)  # behind the others: one busy topic starves none
        elif subscription.ended:
            return self._wire.ended(subscription)
        return b""

    def _overflow(self) -> None:
        if self._state is not _State.CLOSED:
            self.close()
            self._wire.overflow()
