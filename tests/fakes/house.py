"""The bridge without transports and processes: service, registry, actors, journal and hub together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from bridge.auth import ADMIN, Authenticator, Connections, Principal
from bridge.clock import Clock, SystemClock
from bridge.commands import INNER, Command, JoinSession, StartOptions
from bridge.config import HubConfig, PoolConfig, SessionConfig
from bridge.events import Epoch, Event, SessionChanged, SessionDeleted, SessionName
from bridge.hub import Encoder, Hub, Subscription
from bridge.lobby import Lobby
from bridge.presence import Presence
from bridge.screens import Screens
from bridge.service import Joined, Service
from bridge.sessions.backends.base import Forks, Past
from bridge.sessions.journal import BUSY_S, Journal
from bridge.sessions.pool import Pools
from bridge.sessions.registry import BackendKind, Registry
from bridge.supervision import ChildSpec, RestartBudget, Supervisor
from tests.fakes.backend import FakeBackend
from tests.fakes.screens import FakePanes

ME = Principal("me", ADMIN)
START = JoinSession(start=StartOptions())


class Viewer:
    """A subscriber that keeps what it is sent, as facts."""

    format = "facts"

    def __init__(self, told: dict[tuple[str, int], Event] | None = None) -> None:
        self.told = told if told is not None else {}
        self.seen: list[Event] = []
        self.subscriptions: list[Subscription] = []
        self.arrived = asyncio.Event()

    def wake(self, subscription: Subscription) -> None:
        pass

    def flush(self) -> None:
        for subscription in self.subscriptions:
            for seq in subscription.pull(1 << 30).split():
                self.seen.append(self.told[subscription.topic.name, int(seq)])
        self.arrived.set()

    def offer(self, data: bytes) -> bool:
        return False

    def overflowed(self, subscription: Subscription) -> None:
        raise AssertionError("lagged")

    async def until(self, kind: str, times: int = 1) -> Any:
        """The last of so many facts of this name."""
        while True:
            found = [e for e in self.seen if e.event == kind]
            if len(found) >= times:
                return found[times - 1]
            self.arrived.clear()
            await asyncio.wait_for(self.arrived.wait(), 10)

    async def state(self, service: Service, state: str) -> None:
        """Until the only session there is has this state."""
        while service.list_sessions(ME)[0].state != state:
            self.arrived.clear()
            await asyncio.wait_for(self.arrived.wait(), 10)

    def named(self, *kinds: str) -> list[str]:
        return [e.event for e in self.seen if e.event in kinds]


class House:
    """Everything of the bridge but its transports and its processes."""

    def __init__(self, folder: Path, **config: Any) -> None:
        self.folder = folder
        self.config = SessionConfig(roots=[folder], **config)
        self.backends: dict[str, FakeBackend] = {}
        self.prepare: Callable[[FakeBackend], None] = lambda backend: None
        self.clock: Clock = SystemClock()
        self.busy_s = BUSY_S
        self.epoch = 0
        self.told: dict[tuple[str, int], Event] = {}
        self.tokens = [("secret-token", ME)]
        self.encoders: dict[str, Encoder] = {}
        """Formats of the wire, where a transport stands before it."""
        self.forks: Forks | None = None
        self.past: Past | None = None
        self.pools: dict[str, PoolConfig] = {}
        self.backend_type = FakeBackend
        self.watched = False
        """Somebody has a live screen open."""
        self.looks = 0
        """How often it was asked whether somebody has."""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Service]:
        """One run of the bridge on this folder; leaving it is a clean stop."""
        self.epoch += 1
        clock = self.clock
        self.journal = await Journal.open(self.folder / "journal.db", busy_s=self.busy_s)
        self.told.clear()
        told, house = self.told, self

        def note(topic: str, epoch: Epoch, first: int, seq: int, at: float, event: Event) -> bytes:
            told[topic, seq] = event
            return b"%d " % seq

        loop = asyncio.get_running_loop()
        hub = Hub({"facts": note, **self.encoders}, HubConfig(), loop.call_soon, Epoch(str(self.epoch)))
        supervisor = Supervisor("sessions", budget=RestartBudget(50, 60), clock=clock)
        lobby = Lobby(hub)

        class Publisher:
            def __init__(self, name: str) -> None:
                self.name = f"session:{name}"

            @property
            def viewers(self) -> int:
                return hub.topic(self.name).viewers

            @property
            def watched(self) -> bool:
                house.looks += 1
                return house.watched

            def publish(self, at: float, event: Event) -> None:
                hub.topic(self.name).publish(at, event)

            def announce(self, at: float, event: SessionChanged | SessionDeleted) -> None:
                lobby.publish(at, event)

        def backend(name: str, sink: Any) -> FakeBackend:
            made = self.backends[name] = self.backend_type(sink)
            self.prepare(made)
            return made

        workers = Supervisor("workers", budget=RestartBudget(50, 60), clock=clock)
        pools = Pools(self.pools, workers, clock, loop.call_later)

        class WorkerPublisher(Publisher):
            def publish(self, at: float, event: Event) -> None:
                pools.hear(SessionName(self.name.removeprefix("session:")), at, event)

            announce = publish

        def publisher(name: SessionName) -> Publisher:
            return (WorkerPublisher if INNER.fullmatch(name) else Publisher)(name)

        registry = self.registry = Registry(
            self.journal,
            {
                "headless": BackendKind(backend, fork=self.forks, past=self.past),
                "api": BackendKind(backend, check=lambda options: None, without_process=2, model="api-model"),
            },
            publisher,
            lambda name: hub.drop(f"session:{name}"),
            supervisor,
            clock,
            self.config,
            "node",
            workers=pools.workers,
        )
        service = Service(
            registry,
            hub,
            lobby,
            Authenticator(self.tokens, clock),
            Connections(clock, loop.call_later),
            Screens(FakePanes().connect, supervisor, (220, 50)),
            Presence(hub, clock, loop.call_later),
            clock,
            pools=pools,
            node="node",
            snapshot_bytes=4_000_000,
            tree=supervisor.tree,
            ready=lambda: True,
        )
        await registry.load()
        pools.open(registry, self.journal)
        workers.start_child(ChildSpec("pools", lambda: pools.run(registry)))
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(each.run()) for each in (supervisor, workers)]
            try:
                yield service
            finally:
                for task in running:
                    task.cancel()
        await self.journal.close()

    async def join(self, service: Service, name: str, command: JoinSession = START) -> tuple[Joined, Viewer]:
        viewer = Viewer(self.told)
        joined = await service.join(ME, name, command, viewer, "test")
        viewer.subscriptions.append(joined.subscription)
        viewer.flush()
        return joined, viewer


async def call(service: Service, name: str, command: Command, who: Principal = ME) -> Any:
    answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    service.call(who, name, command, answer.set_result)
    result = await asyncio.wait_for(answer, 10)
    if isinstance(result, Exception):
        raise result
    return result
