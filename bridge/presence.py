"""Who is looking at which session: the metas of Phoenix.Presence, for every transport alike.

Changes of a moment are told as one, because each is told to everybody who looks: a thousand clients that come
back at once would otherwise cause a million messages. What a newcomer is given is what has been told so far,
so that the diffs that follow it add up; its own arrival is in the next of them, as with Phoenix itself.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from itertools import count

from bridge.clock import Clock
from bridge.events import Attendant, PresenceChanged
from bridge.hub import Hub, Subscriber, Subscription

GATHER_S = 0.05
"""How long changes are gathered: nobody sees it, and it bounds what a join storm costs."""
GATHER_EACH_S = 0.00025
"""So long for each who is told, where that is more: in one room 4,000 are told something in a second, a few
percent of a core, however many look and however they come and go."""

Later = Callable[[float, Callable[[], None]], object]


class Presence:
    """All sessions' rooms. Nothing of it outlives the connections: after a restart everybody joins again."""

    def __init__(self, hub: Hub, clock: Clock, later: Later) -> None:
        self._hub = hub
        self._clock = clock
        self._later = later
        self._rooms: dict[str, _Room] = {}
        self._numbers = count()
        self._run = secrets.token_hex(4)  # two bridges behind one client never give the same ref

    def enter(self, topic: str, key: str, transport: str, subscriber: Subscriber) -> Attendance:
        """Take part in a topic's presence until the attendance is closed."""
        room = self._rooms.get(topic)
        if room is None:
            room = self._rooms[topic] = _Room(self, topic)
        ref = f"{self._run}-{next(self._numbers)}"
        attendant = Attendant(key, ref, transport, self._clock.now())
        subscription, _ = room.topic.subscribe(subscriber)
        room.change(attendant, here=True)
        return Attendance(room, attendant, room.told, subscription)

    def drop(self, topic: str) -> None:
        """The session was deleted: its room is closed, and nobody is told."""
        self._rooms.pop(topic, None)
        self._hub.drop(topic, aside=_ASIDE)


_ASIDE = "presence"


class _Room:
    """One session's. `told` is what those who look have been told, `now` is what is so."""

    __slots__ = ("_gathering", "_presence", "_subscribed", "name", "now", "told", "topic")

    def __init__(self, presence: Presence, name: str) -> None:
        self.name = name
        self.topic = presence._hub.topic(name, numbered=False, aside=_ASIDE)
        self.now: set[Attendant] = set()
        self.told: frozenset[Attendant] = frozenset()
        self._presence = presence
        self._gathering = False

    def change(self, attendant: Attendant, *, here: bool) -> None:
        (self.now.add if here else self.now.discard)(attendant)
        if not self._gathering:
            self._gathering = True
            self._presence._later(max(GATHER_S, GATHER_EACH_S * len(self.now)), self._tell)

    def _tell(self) -> None:
        self._gathering = False
        if self._presence._rooms.get(self.name) is not self:
            return  # deleted: its viewers are sent away, each for itself
        told, self.told = self.told, frozenset(self.now)
        joins, leaves = self.told - told, told - self.told
        if joins or leaves:
            event = PresenceChanged(_in_order(joins), _in_order(leaves))
            self.topic.publish(self._presence._clock.now(), event)
        if not self.now:
            self._presence.drop(self.name)


class Attendance:
    """One connection's part in a room."""

    __slots__ = ("_attendant", "_room", "present", "subscription")

    def __init__(
        self, room: _Room, attendant: Attendant, present: frozenset[Attendant], subscription: Subscription
    ) -> None:
        self._room = room
        self._attendant = attendant
        self.present = present
        """Who was told to be there already, to be said before the subscription's diffs. Whoever says it takes
        it away: it is as large as the room."""
        self.subscription = subscription

    def close(self) -> None:
        """Leave. Safe to repeat."""
        self.subscription.close()
        self._room.change(self._attendant, here=False)


def _in_order(attendants: frozenset[Attendant]) -> tuple[Attendant, ...]:
    return tuple(sorted(attendants, key=lambda a: (a.joined_at, a.ref)))
