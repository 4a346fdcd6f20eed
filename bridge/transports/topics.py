"""What a topic means to one client: joins and events in, replies and subscriptions out.

The same for every transport that has topics; how it is framed, and when a channel is joined, is theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

from bridge.auth import Principal
from bridge.clock import Clock
from bridge.commands import (
    AskPool,
    Command,
    ForkSession,
    ListSessions,
    NameSession,
    ReadHistory,
    ReadSpending,
    ResizeTerminal,
    StartSession,
    TypeIntoTerminal,
)
from bridge.errors import BinaryNotSupported, BridgeError
from bridge.service import Asked, Feed, Service
from bridge.transports.outbox import Outbox, Source
from bridge.wire import requests, views
from bridge.wire.requests import Route

Reply = dict[str, Any]
Answer = Callable[[Reply | BridgeError], None]
Work = Coroutine[Any, Any, Reply]


class Screen(Source, Protocol):
    """A live screen on its way to one client."""

    async def join(self, service: Service, who: Principal, name: str) -> Reply: ...
    def close(self) -> None: ...


class Closing(Source, Protocol):
    def close(self) -> None: ...


@dataclass(slots=True)
class Joined:
    """What a join gives: the reply, what is said right after it, and where events come from.

    `sources` are for the client's outbox; the first is the topic's own, which ends when it is deleted.
    """

    reply: Reply
    sources: tuple[Closing, ...]
    presence: Any = None
    """The payload of `presence_state`, on topics that have presence. As the reply, it is for whoever tells it
    to take away: both are large."""
    leave: Callable[[], None] | None = None

    def close(self) -> None:
        """Leave the topic. Safe to repeat."""
        if self.leave is not None:
            self.leave()
        for source in self.sources:
            source.close()


class Topics:
    """One client's. `transport` is what presence calls the client's way in."""

    __slots__ = ("_clock", "_feeds", "_service", "_transport", "_who")

    def __init__(self, service: Service, who: Principal, clock: Clock, transport: str) -> None:
        self._service = service
        self._who = who
        self._clock = clock
        self._transport = transport
        self._feeds: dict[str, Feed] | None = None
        """Of the pools that it has joined."""

    async def join(
        self,
        route: Route,
        payload: object,
        outbox: Outbox,
        screen: Callable[[], Screen] | None = None,
    ) -> Joined:
        """Between the service's answer and the return nothing waits: write the reply before anything else.

        `screen` makes the client's end of a live screen, where its transport has bytes. Raises `BridgeError`.
        """
        service, who = self._service, self._who
        if route.kind == "sessions":
            sessions, subscription = service.join_lobby(who, outbox)
            now = self._clock.now()
            listed = [views.session_payload(s, now) for s in sessions]
            reply: Reply = {"node": service.node, "version": service.version, "sessions": listed}
            return Joined(reply, (subscription,))
        name = requests.check_name(route.name)
        if route.kind == "terminal":
            requests.parse_terminal_join(payload)
            if screen is None:
                raise BinaryNotSupported("A live screen needs a transport that has bytes: a WebSocket.")
            seen = screen()
            return Joined(await seen.join(service, who, name), (seen,))
        if route.kind == "pool":
            requests.parse_pool_join(payload)
            return self._join_pool(name, outbox)
        joined = await service.join(who, name, requests.parse_join(payload), outbox, self._transport)
        now = self._clock.now()
        attendance = joined.attendance
        # Kept by each of a thousand clients, everybody's lists of everybody would be most of their memory.
        present, attendance.present = attendance.present, frozenset()
        return Joined(
            views.join_reply(joined.snapshot, joined.epoch, joined.seq, joined.recovered, now),
            (joined.subscription, attendance.subscription),
            views.presence_state(present),
            attendance.close,
        )

    def _join_pool(self, name: str, outbox: Outbox) -> Joined:
        joined = self._service.pools.join(self._who, name, outbox)
        if self._feeds is None:
            self._feeds = {}
        feeds, feed = self._feeds, joined.feed
        feeds[name] = feed

        def leave() -> None:
            if feeds.get(name) is feed:
                del feeds[name]
            feed.close()

        return Joined(views.pool_payload(joined.now), (joined.changes, feed.subscribe(outbox)), leave=leave)

    def ask(self, route: Route, event: object, payload: object, answer: Answer) -> Work | None:
        """Do what a client's event asks. `answer` gets the reply or the error, exactly once; or, where that
        has to be waited for, the work is returned, which ends with the reply or raises the error.

        Raises nothing but what is a defect.
        """
        try:
            command = requests.parse(route.kind, event, payload)
            if route.kind == "session" and not isinstance(command, ReadHistory):
                self._service.call(self._who, route.name, command, answer)  # type: ignore[arg-type]
                return None
            if isinstance(command, ListSessions):  # nothing to wait for: no task, no further tick
                answer(self._listed())
                return None
        except BridgeError as e:
            answer(e)
            return None
        return self._perform(route.name, command)

    async def _perform(self, name: str, command: Command) -> Reply:
        service, who = self._service, self._who
        match command:
            case ReadHistory():
                turns = await service.history(who, name, command)
                return {"turns": [views.turn_payload(turn) for turn in turns]}
            case StartSession():
                session, existing = await service.start(who, command)
                reply: Reply = {"session": views.session_payload(session, self._clock.now())}
                return {**reply, "existing": True} if existing else reply
            case ForkSession():
                session = await service.fork(who, command)
                return {"session": views.session_payload(session, self._clock.now())}
            case NameSession() if isinstance(command, requests.DeleteSession):
                await service.delete(who, command)
                return {}
            case NameSession():
                session = await service.stop(who, command)
                return {"session": views.session_payload(session, self._clock.now())}
            case TypeIntoTerminal():
                await service.type_into_terminal(who, name, command)
                return {}
            case ResizeTerminal():
                await service.resize_terminal(who, name, command)
                return {"cols": command.cols, "rows": command.rows}
            case ReadSpending():
                spent, budgets = await service.spending(who, command)
                return views.spending_payload(spent.since, spent.rows, budgets)
            case AskPool():
                feed = self._feeds.get(name) if self._feeds is not None else None
                return asked_reply(await service.pools.ask(who, requests.check_name(name), command, feed))
            case requests.ReadTree():
                return await service.tree(who)
        raise AssertionError(f"no way to do {type(command).__name__}")

    def _listed(self) -> Reply:
        now = self._clock.now()
        return {"sessions": [views.session_payload(s, now) for s in self._service.list_sessions(self._who)]}


def asked_reply(asked: Asked) -> Reply:
    """The turn's id as long as the question goes on, the whole turn where it has ended."""
    if asked.turn is not None:
        reply: Reply = {"turn": views.turn_payload(asked.turn), "status": asked.status}
    else:
        assert asked.question is not None, "a question goes on or has ended"
        reply = {"turn": asked.question.turn, "status": asked.status, "position": asked.position}
    return {**reply, "duplicate": True} if asked.duplicate else reply
