"""The lobby's topic, for who may know of every session and for who may not.

Whoever shares a token's patterns shares a topic beside the lobby's own, which has only what they cover: an
event is encoded once for each set of patterns, a name is compared with them once, and the unlimited pay for
none of it.
"""

from __future__ import annotations

from bridge.auth import Principal, covers
from bridge.events import SessionChanged, SessionDeleted
from bridge.hub import Hub, Subscriber, Subscription, Topic

LOBBY = "sessions"
SWEPT_AT = 64
"""Sets of patterns held before those without a viewer are looked for, and again at twice what was left."""


class Lobby:
    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._whole = hub.topic(LOBBY, numbered=False)
        self._parts: dict[tuple[str, ...], Topic] = {}
        self._concerned: dict[
            str, list[Topic]
        ] = {}  # by name of a session, of those that were told of lately
        self._swept_at = SWEPT_AT

    def subscribe(self, who: Principal, subscriber: Subscriber) -> Subscription:
        """To what `who` may see, from now on."""
        if "*" in who.sessions:
            return self._whole.subscribe(subscriber)[0]
        patterns = tuple(sorted(set(who.sessions)))
        topic = self._parts.get(patterns)
        if topic is None:
            self._concerned.clear()
            if len(self._parts) >= self._swept_at:
                self._sweep()
            topic = self._hub.topic(LOBBY, numbered=False, aside=_aside(patterns))
            self._parts[patterns] = topic
        return topic.subscribe(subscriber)[0]

    def publish(self, at: float, event: SessionChanged | SessionDeleted) -> None:
        self._whole.publish(at, event)
        if not self._parts:
            return
        deleted = isinstance(event, SessionDeleted)
        name = event.name if isinstance(event, SessionDeleted) else event.session.name
        concerned = self._concerned.get(name)
        if concerned is None:
            concerned = [topic for patterns, topic in self._parts.items() if covers(patterns, name)]
            self._concerned[name] = concerned
        for topic in concerned:
            topic.publish(at, event)
        if deleted:
            del self._concerned[name]

    def _sweep(self) -> None:
        """Forget those whose last viewer has gone."""
        for patterns in [p for p, topic in self._parts.items() if not topic.viewers]:
            del self._parts[patterns]
            self._hub.drop(LOBBY, aside=_aside(patterns))
        self._swept_at = max(SWEPT_AT, 2 * len(self._parts))


def _aside(patterns: tuple[str, ...]) -> str:
    return f"for {patterns!r}"
