"""A `Service` in memory, with a real hub: what the transports are tested and measured against.

Sessions answer by a script in the prompt: `words N` gives N deltas, `hold` keeps its reply until
`release`, `open` begins a turn that `finish` ends, `crash` raises as a bug would. A key that was used before
gives its first turn. A join of `slow…` waits for the gate, one of `broken…` fails
as a bug would.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, cast

from bridge.asking import Asking
from bridge.auth import ADMIN, Authenticator, Connections, Principal
from bridge.commands import (
    Command,
    ForkSession,
    InterruptTurn,
    JoinSession,
    NameSession,
    ReadHistory,
    ReadSpending,
    ResizeTerminal,
    StartSession,
    SubmitPrompt,
    TypeIntoTerminal,
)
from bridge.errors import BridgeError, NotFound, SessionNotFound, TurnNotFound
from bridge.events import (
    Attachment,
    Block,
    BlockFinished,
    BudgetState,
    DeltaAdded,
    Epoch,
    Event,
    Evidence,
    Seq,
    Session,
    SessionChanged,
    SessionDeleted,
    SessionName,
    Snapshot,
    Spending,
    Turn,
    TurnFinished,
    TurnId,
    TurnStarted,
    Usage,
)
from bridge.hub import Hub, Subscriber, Subscription
from bridge.limits import Limit
from bridge.lobby import Lobby
from bridge.presence import Presence
from bridge.screens import Screens, Viewer
from bridge.service import Joined, Seen, Service, Spent
from bridge.sessions.picture import Picture
from bridge.supervision import Supervisor
from tests.fakes.pools import FakePools, words_wanted
from tests.fakes.screens import FakePanes

TOKEN = "tok~~~>>>"
"""Its base64 has a "+", which tells the alphabets apart."""
WATCH_TOKEN = "only-looking"


class FixedClock:
    """Stands still unless told otherwise."""

    def __init__(self, at: float = 1_760_000_000.125) -> None:
        self.at = at

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at


def a_session(name: str, **changes: Any) -> Session:
    session = Session(
        name=SessionName(name),
        backend="headless",
        state="idle",
        evidence=Evidence("process_ready", 1_760_000_000.0),
        model="simulated-model",
        cwd="/home/someone",
        permission_mode="default",
        conversation="7d0f7a4e-0000-4000-8000-000000000001",
        attach=None,
        started_at=1_760_000_000.0,
        turns=0,
        restarts=0,
        viewers=0,
        usage=Usage(),
        cost_usd=0.0,
        node="test",
    )
    return replace(session, **changes)


@dataclass
class FakeSession:
    view: Session
    turns: list[Turn] = field(default_factory=list)
    options: object = None


class FakeService:
    version = "0.0.test"
    node = "test"

    def __init__(self, hub: Hub, clock: FixedClock | None = None) -> None:
        self.hub = hub
        self.clock = clock or FixedClock()
        self.ready = True
        self.sessions: dict[str, FakeSession] = {}
        self.gate = asyncio.Event()
        self.history_gate = asyncio.Event()
        self.history_gate.set()
        self.calls: list[tuple[str, Command]] = []
        self.held: list[Callable[[object], None]] = []
        self.authenticated = 0
        later = asyncio.get_running_loop().call_later
        self.connections = Connections(self.clock, later)
        self.lobby = Lobby(hub)
        self.presence = Presence(hub, self.clock, later)
        self.fake_pools = FakePools(self.clock.now)
        unlimited = Limit("", None)
        self.pools = Asking(self.fake_pools.as_pools(), hub, self.clock, unlimited, unlimited)
        self.panes = FakePanes()
        self.supervisor = Supervisor("screens")
        """To be run by who needs screens."""
        self.screens = Screens(self.panes.connect, self.supervisor, (220, 50))
        self._tokens = [
            (TOKEN, Principal("owner", ADMIN)),
            (WATCH_TOKEN, Principal("guest", frozenset({"watch"}))),
        ]
        self._authenticator = Authenticator(self._tokens, self.clock)

    @property
    def failures(self) -> Limit:
        return self._authenticator.failures

    def allow(self, token: str, who: Principal) -> None:
        """One more token."""
        self._tokens.append((token, who))
        self._authenticator = Authenticator(self._tokens, self.clock)

    def as_service(self) -> Service:
        return cast(Service, self)

    def add(self, name: str) -> FakeSession:
        return self.sessions.setdefault(name, FakeSession(a_session(name)))

    def publish(self, name: str, *events: Event) -> None:
        topic = self.hub.topic(f"session:{name}")
        for event in events:
            topic.publish(self.clock.now(), event)

    def release(self, result: object) -> None:
        self.held.pop(0)(result)

    # --- what a transport calls -----------------------------------------------------------------

    def authenticate(self, token: str | None, peer: str = "") -> Principal:
        self.authenticated += 1
        return self._authenticator.authenticate(token, peer)

    def connected(
        self, who: Principal, end: Callable[[], None], transport: str = "other"
    ) -> Callable[[], None]:
        return self.connections.opened(who, end, transport)

    def join_lobby(self, who: Principal, subscriber: Subscriber) -> tuple[list[Session], Subscription]:
        who.require("watch")
        return self.list_sessions(who), self.lobby.subscribe(who, subscriber)

    def list_sessions(self, who: Principal) -> list[Session]:
        return [s.view for s in self.sessions.values() if who.may_see(s.view.name)]

    async def start(self, who: Principal, command: StartSession) -> tuple[Session, bool]:
        who.require("control", command.name)
        existing = command.name in self.sessions
        session = self.add(command.name)
        self.lobby.publish(self.clock.now(), SessionChanged(session.view))
        return session.view, existing

    async def fork(self, who: Principal, command: ForkSession) -> Session:
        self._get(command.source)
        return self.add(command.name).view

    async def stop(self, who: Principal, command: NameSession) -> Session:
        return self._get(command.name).view

    async def delete(self, who: Principal, command: NameSession) -> None:
        self._get(command.name)
        del self.sessions[command.name]
        self.hub.drop(f"session:{command.name}")
        self.presence.drop(f"session:{command.name}")
        self.screens.drop(command.name)
        self.lobby.publish(self.clock.now(), SessionDeleted(SessionName(command.name)))

    async def tree(self, who: Principal) -> dict[str, Any]:
        who.require("admin")
        return {"name": "bridge", "children": []}

    async def spending(self, who: Principal, command: ReadSpending) -> tuple[Spent, tuple[BudgetState, ...]]:
        who.require("watch")
        usage = Usage(1, 2, 3, 4)
        row = Spending("2026-01-02", who.name, "demo", 2, usage, 0.25)
        budget = BudgetState("house", "bridge", None, 0.25, 1.0, 10, None, "ok", None, 0.25)
        return Spent("2026-01-01", (row,)), (budget,)

    async def join(
        self, who: Principal, name: str, command: JoinSession, subscriber: Subscriber, transport: str
    ) -> Joined:
        who.require("watch", name)
        if name.startswith("slow"):
            await self.gate.wait()
        if name.startswith("broken"):
            raise RuntimeError("a bug")
        session = self.add(name) if command.start is not None else self._get(name)
        topic = self.hub.topic(f"session:{name}")
        after = (Epoch(command.after.epoch), Seq(command.after.seq)) if command.after else None
        subscription, recovered = topic.subscribe(subscriber, after)
        turns = tuple(session.turns[-command.turns :]) if command.turns else ()
        view = replace(session.view, viewers=topic.viewers)
        attendance = self.presence.enter(topic.name, who.name, transport, subscriber)
        return Joined(Snapshot(view, turns), topic.epoch, topic.seq, recovered, subscription, attendance)

    async def look(self, who: Principal, name: str) -> Seen:
        who.require("watch", name)
        topic = self.hub.topic(f"session:{name}")
        return Seen(Snapshot(self._get(name).view), topic.epoch, topic.seq)

    def follow(self, who: Principal, name: str, subscriber: Subscriber) -> Subscription:
        who.require("watch", name)
        self._get(name)
        return self.hub.topic(f"session:{name}").subscribe(subscriber)[0]

    async def turn(self, who: Principal, name: str, turn: str) -> Turn:
        who.require("watch", name)
        found = next((t for t in self._get(name).turns if t.id == turn), None)
        if found is None:
            raise TurnNotFound(turn)
        return found

    async def file(
        self, who: Principal, name: str, turn: str, number: int | None
    ) -> tuple[Attachment, bytes]:
        """Of no turn here: the real service's own tests have some."""
        await self.turn(who, name, turn)
        raise NotFound

    def call(self, who: Principal, name: str, command: Command, done: Callable[[object], None]) -> None:
        self.calls.append((name, command))
        try:
            who.require("prompt", name)
            session = self._get(name)
        except BridgeError as e:
            done(e)
            return
        match command:
            case SubmitPrompt(prompt=prompt):
                known = next((t for t in session.turns if t.key is not None and t.key == command.id), None)
                if known is not None:
                    done({"turn": known.id, "status": known.status, "position": 0, "duplicate": True})
                else:
                    self._submit(session, prompt or "", command.id, done)
            case InterruptTurn():
                done({"turn": None})
            case _:
                done({})

    async def history(self, who: Principal, name: str, command: ReadHistory) -> tuple[Turn, ...]:
        session = self._get(name)
        await self.history_gate.wait()
        ids = [turn.id for turn in session.turns]
        if command.before is not None and command.before not in ids:
            raise TurnNotFound(command.before)
        end = len(ids) if command.before is None else ids.index(TurnId(command.before))
        return tuple(session.turns[max(0, end - command.limit) : end])

    async def join_terminal(
        self, who: Principal, name: str, tell: Callable[[], None]
    ) -> tuple[Picture, Viewer]:
        who.require("watch", name)
        self._get(name)
        viewer, picture = await self.screens.join(name, tell)
        return picture, viewer

    async def type_into_terminal(self, who: Principal, name: str, command: TypeIntoTerminal) -> None:
        who.require("control", name)
        await self.screens.type(name, command.data)

    async def resize_terminal(self, who: Principal, name: str, command: ResizeTerminal) -> None:
        who.require("control", name)
        await self.screens.resize(name, command.cols, command.rows)

    # --- the script -----------------------------------------------------------------------------

    def _get(self, name: str) -> FakeSession:
        if name not in self.sessions:
            raise SessionNotFound(name)
        return self.sessions[name]

    def _submit(
        self, session: FakeSession, prompt: str, key: str | None, done: Callable[[object], None]
    ) -> None:
        if prompt == "crash":
            raise RuntimeError("a bug")
        if prompt == "hold":
            self.held.append(done)
            return
        turn = TurnId(f"turn-{len(session.turns) + 1}")
        done({"turn": turn, "status": "running", "position": 0})
        name = session.view.name
        if prompt == "open":
            self.publish(
                name, TurnStarted(turn, prompt, "owner", "client"), DeltaAdded(turn, 0, "text", "so ")
            )
            now, so_far = self.clock.now(), (Block(0, "text", "so "),)
            session.turns.append(
                Turn(turn, prompt, "owner", "client", "running", now, key, "so", so_far, started_at=now)
            )
            return
        words = words_wanted(prompt)
        texts = [f"w{i} " for i in range(words)]
        text = "".join(texts)
        self.publish(name, TurnStarted(turn, prompt, "owner", "client"))
        self.publish(name, *(DeltaAdded(turn, 0, "text", t) for t in texts))
        self.publish(name, BlockFinished(turn, 0, "text", text))
        self.publish(name, TurnFinished(turn, "completed", text.rstrip(), None, Usage(1, words), 0.001, 5))
        now = self.clock.now()
        session.turns.append(
            Turn(turn, prompt, "owner", "client", "completed", now, key, text.rstrip(), finished_at=now)
        )

    def finish(self, name: str) -> None:
        """End the turn that `open` began."""
        session = self.sessions[name]
        now, turn = self.clock.now(), session.turns[-1]
        session.turns[-1] = replace(turn, status="completed", text="so far", finished_at=now)
        self.publish(name, DeltaAdded(turn.id, 0, "text", "far"), BlockFinished(turn.id, 0, "text", "so far"))
        self.publish(name, TurnFinished(turn.id, "completed", "so far", None, None, None, 0))
