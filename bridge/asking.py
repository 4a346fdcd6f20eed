"""Pools as clients meet them: who may ask, how often, and how what is told of a question reaches its asker.

What one client is told goes out under the pool's topic, by a way of its own beside it (`Feed`), so that it
has the same bounds and the same frames as everything else.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count

from bridge.auth import Principal
from bridge.clock import Clock
from bridge.commands import AskPool
from bridge.errors import TurnNotFound
from bridge.events import Event, PoolChanged, Turn
from bridge.hub import Hub, Subscriber, Subscription, Topic
from bridge.limits import Limit
from bridge.sessions.pool import Asked, Pools
from bridge.sessions.question import Question


class Feed:
    """What one client is told of its questions to one pool."""

    def __init__(self, hub: Hub, pool: str, number: int) -> None:
        self._hub = hub
        self._name = f"pool:{pool}"
        self._aside = f"asker {number} of"
        self._topic = hub.topic(self._name, numbered=False, aside=self._aside)
        self._questions: list[Question] = []

    def subscribe(self, subscriber: Subscriber) -> Subscription:
        return self._topic.subscribe(subscriber)[0]

    def follow(self, question: Question) -> None:
        """Tell of it from its beginning on. Once is enough: for the second time nothing is told."""
        self._questions = [each for each in self._questions if not each.ended]
        if question not in self._questions:
            self._questions.append(question)
            question.listen(self._hear)

    def close(self) -> None:
        """The client is gone; its questions go on. Safe to repeat."""
        for question in self._questions:
            question.leave(self._hear)
        self._questions = []
        self._hub.drop(self._name, aside=self._aside)

    def _hear(self, at: float, event: Event) -> None:
        self._topic.publish(at, event)


@dataclass(frozen=True, slots=True)
class PoolJoined:
    """The answer of a join: the pool as it is, what is told of it to all, and what to this client alone."""

    now: PoolChanged
    changes: Subscription
    feed: Feed


class Asking:
    """The part of the service that is about pools. Raises `BridgeError`s."""

    def __init__(self, pools: Pools, hub: Hub, clock: Clock, joins: Limit, submits: Limit) -> None:
        self._pools = pools
        self._hub = hub
        self._clock = clock
        self._joins = joins
        self._submits = submits
        self._numbers = count()
        pools.watch(self._changed)

    def join(self, who: Principal, name: str, subscriber: Subscriber) -> PoolJoined:
        who.require("watch", f"pool:{name}")
        pool = self._pools.get(name)
        self._joins.take(who.account, self._clock.monotonic())
        pool.want()
        changes, _ = self._topic_of(name).subscribe(subscriber)
        return PoolJoined(pool.now(), changes, self._feed(name))

    @contextmanager
    def feed(self, name: str) -> Iterator[Feed]:
        """For who asks without having joined."""
        feed = self._feed(name)
        try:
            yield feed
        finally:
            feed.close()

    async def ask(self, who: Principal, name: str, command: AskPool, feed: Feed | None) -> Asked:
        """A question on its way, which `feed` is told of after the return, or one that has ended. As with a
        session's join: write the reply before anything is awaited."""
        who.require("prompt", f"pool:{name}")
        pool = self._pools.get(name)
        self._submits.take(who.account, self._clock.monotonic())
        key = None if command.id is None else f"{_asker(who)}/{command.id}"
        asked = await pool.ask(command.prompt, key, who.name)
        if feed is not None and asked.question is not None:
            feed.follow(asked.question)
        return asked if asked.turn is None else replace(asked, turn=replace(asked.turn, key=command.id))

    async def turn(self, name: str, asked: Asked, command: AskPool) -> Turn:
        """What was asked, as it is now."""
        turn = await self._pools.get(name).turn(asked)
        if turn is None:
            number = asked.question.turn if asked.question is not None else ""
            raise TurnNotFound(number, "The answer is not kept any more.")
        return replace(turn, key=command.id)

    def _changed(self, name: str, now: PoolChanged) -> None:
        self._topic_of(name).publish(self._clock.now(), now)

    def _topic_of(self, name: str) -> Topic:
        return self._hub.topic(f"pool:{name}", numbered=False)

    def _feed(self, name: str) -> Feed:
        return Feed(self._hub, name, next(self._numbers))


def _asker(who: Principal) -> str:
    """Whose keys are whose: by name, as one token may take the place of another; a JWT of that name is
    somebody else."""
    return f"{'jwt' if who.vouched_by else 'token'}/{who.name}"
