"""The application: all that a transport may call, and the one place where scopes are checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bridge import __version__
from bridge.asking import Asking, Feed
from bridge.auth import Authenticator, Connections, Principal
from bridge.clock import Clock, rfc3339
from bridge.commands import (
    AnswerRequest,
    CancelTurn,
    Command,
    ConfigureSession,
    ForkSession,
    InterruptTurn,
    JoinSession,
    NameSession,
    ReadHistory,
    ReadSpending,
    ResizeTerminal,
    RestartSession,
    StartSession,
    StopSession,
    SubmitPrompt,
    TypeIntoTerminal,
)
from bridge.config import AuthConfig, BudgetConfig
from bridge.errors import BridgeError, Forbidden, InvalidPayload, NotFound, TurnNotFound
from bridge.events import (
    AnyBlock,
    Attachment,
    BudgetState,
    Epoch,
    Seq,
    Session,
    Snapshot,
    Spending,
    ToolBlock,
    Turn,
    TurnId,
)
from bridge.hub import Hub, Subscriber, Subscription
from bridge.limits import Limit
from bridge.lobby import Lobby
from bridge.presence import Attendance, Presence
from bridge.screens import Screens, Viewer
from bridge.sessions.actor import Actor
from bridge.sessions.picture import Picture
from bridge.sessions.pool import Asked, Pools
from bridge.sessions.registry import Registry, called

__all__ = ["Asked", "Feed", "Figures", "Joined", "Seen", "Service"]

_NEEDS: dict[type[Command], str] = {
    SubmitPrompt: "prompt",
    InterruptTurn: "prompt",
    CancelTurn: "prompt",
    AnswerRequest: "approve",
    ConfigureSession: "control",
    RestartSession: "control",
    StopSession: "control",
}


@dataclass(frozen=True, slots=True)
class Joined:
    """The answer of a join. Events after `seq` (or after the given cursor) come by the subscription; who else
    is there, by the attendance."""

    snapshot: Snapshot
    epoch: Epoch
    seq: Seq
    recovered: bool
    subscription: Subscription
    attendance: Attendance


@dataclass(frozen=True, slots=True)
class Seen:
    """A session as it is, without its finished turns; a join or a stream goes on after `seq`."""

    snapshot: Snapshot
    epoch: Epoch
    seq: Seq


@dataclass(frozen=True, slots=True)
class Figures:
    """What can be counted: of the sessions those that the asker may see, of the rest all, since the start."""

    connections: Mapping[str, int]
    sessions: Mapping[str, int]
    turns: int
    published: int
    rate_limited: Mapping[str, int]
    unauthorized: int
    spent_usd: float
    """Today, UTC."""
    spent_tokens: int
    spares: Mapping[str, float]
    """Empty where none are kept, as `Spares.figures` has them."""


@dataclass(frozen=True, slots=True)
class Spent:
    """By day, author and session, since the day `since` (UTC, YYYY-MM-DD)."""

    since: str
    rows: tuple[Spending, ...]


class Service:
    """Raises `BridgeError`s. Nothing here waits for a process; what is done with a screen waits for tmux."""

    version = __version__

    def __init__(
        self,
        registry: Registry,
        hub: Hub,
        lobby: Lobby,
        authenticator: Authenticator,
        connections: Connections,
        screens: Screens,
        presence: Presence,
        clock: Clock,
        *,
        pools: Pools,
        node: str,
        snapshot_bytes: int,
        tree: Callable[[], dict[str, Any]],
        ready: Callable[[], bool],
        spares: Callable[[], Mapping[str, float]] = dict,
    ) -> None:
        self._registry = registry
        self._hub = hub
        self._lobby = lobby
        self._authenticator = authenticator
        self._connections = connections
        self._screens = screens
        self._presence = presence
        self._clock = clock
        self._submits = Limit("This token submitted", None)
        self._joins = Limit("This token joined", None)
        self.pools = Asking(pools, hub, clock, self._joins, self._submits)
        self._snapshot_bytes = snapshot_bytes
        self._tree = tree
        self._ready = ready
        self._spares = spares
        self.node = node

    @property
    def ready(self) -> bool:
        """The sessions of the journal are loaded: joins find them."""
        return self._ready()

    def authenticate(self, token: str | None, peer: str = "") -> Principal:
        """Whose token it is; `peer` is the address it came from. Raises `Unauthorized` or `RateLimited`."""
        return self._authenticator.authenticate(token, peer)

    def connected(
        self, who: Principal, end: Callable[[], None], transport: str = "other"
    ) -> Callable[[], None]:
        """To be told by every connection that outlives one request; see `Connections.opened`."""
        closed = self._connections.opened(who, end, transport)
        if not self._authenticator.counts(who):  # taken back while the connection was being made
            self._connections.end(who)
        return closed

    def admit(self, config: AuthConfig) -> int:
        """Other tokens, keys and limits from now on; how many connections were ended for it.

        Raises `SetupError` where a key cannot be read; then everything stays as it is.
        """
        self._authenticator.replace(config)
        self._submits.set(config.submits_per_minute)
        self._joins.set(config.joins_per_minute)
        return self._connections.end_unless(self._authenticator.counts)

    def budget(self, budgets: Sequence[BudgetConfig]) -> None:
        """Other budgets from now on; what has been spent stays spent."""
        self._registry.ledger.replace(budgets)

    # --- the lobby ------------------------------------------------------------------------------------

    def join_lobby(self, who: Principal, subscriber: Subscriber) -> tuple[list[Session], Subscription]:
        who.require("watch")
        self._joins.take(who.account, self._clock.monotonic())
        return self.list_sessions(who), self._lobby.subscribe(who, subscriber)

    def list_sessions(self, who: Principal) -> list[Session]:
        who.require("watch")
        return [s for s in self._registry.sessions() if who.may_see(s.name)]

    async def start(self, who: Principal, command: StartSession) -> tuple[Session, bool]:
        """The session, and whether it existed."""
        who.require("control", command.name)
        options = command.options()
        _may_bypass(who, options.permission_mode)
        actor, existing = await self._registry.start(command.name, options, joining=False)
        return actor.view(), existing

    async def fork(self, who: Principal, command: ForkSession) -> Session:
        who.require("control", command.name)
        who.require("control", command.source)
        actor = await self._registry.fork(command.name, command.source, command.from_turn)
        return actor.view()

    async def stop(self, who: Principal, command: NameSession) -> Session:
        who.require("control", command.name)
        actor = self._registry.get(command.name)
        await called(lambda done: actor.call(StopSession(), who.name, done))
        return actor.view()

    async def delete(self, who: Principal, command: NameSession) -> None:
        who.require("control", command.name)
        await self._registry.delete(command.name)

    def figures(self, who: Principal) -> Figures:
        """For `/metrics`."""
        sessions = self.list_sessions(who)
        ledger, now = self._registry.ledger, self._clock.now()
        spent = [ledger.spent("bridge", "", "day", now)]
        if not who.may_see_all:
            spent = [ledger.spent("session", session.name, "day", now) for session in sessions]
        limits = {"authenticate": self._authenticator.failures, "join": self._joins, "submit": self._submits}
        return Figures(
            self._connections.open,
            Counter(session.state for session in sessions),
            sum(session.turns for session in sessions),
            self._hub.published,
            {what: limit.refused for what, limit in limits.items()},
            self._authenticator.refused,
            sum(each.cost_usd for each in spent),
            sum(each.tokens for each in spent),
            self._spares(),
        )

    async def spending(self, who: Principal, command: ReadSpending) -> tuple[Spent, tuple[BudgetState, ...]]:
        """What was spent in the last days, and how the budgets stand: all of it for an admin, else what the
        token itself has spent, its own budgets and the bridge's."""
        who.require("watch")
        author = None if who.may("admin") else who.name
        now = self._clock.now()
        since = rfc3339(now - (command.days - 1) * 86_400)[:10]
        rows = await self._registry.spending(since, author, command.limit)
        states = self._registry.ledger.states(now)
        if author is not None:
            states = [s for s in states if s.per == "bridge" or (s.per == "token" and s.of == author)]
        return Spent(since, rows), tuple(states)

    async def tree(self, who: Principal) -> dict[str, Any]:
        """The supervision tree, as JSON, and with it what runs and is on no record."""
        who.require("admin")
        orphans = [orphan.describe() for orphan in await self._registry.orphans()]
        tree = self._tree()
        return {**tree, "children": [*tree["children"], *orphans]}

    # --- one session ------------------------------------------------------------------------------------

    async def join(
        self, who: Principal, name: str, command: JoinSession, subscriber: Subscriber, transport: str
    ) -> Joined:
        """Snapshot and subscription belong together: between them and the return nothing is awaited, so a
        caller that writes the reply before it awaits anything has told all before the first event."""
        who.require("watch", name)
        self._joins.take(who.account, self._clock.monotonic())
        actor = await self._joined(who, name, command)
        snapshot = await actor.snapshot(command.turns)
        topic = self._hub.topic(f"session:{name}")
        after = (Epoch(command.after.epoch), Seq(command.after.seq)) if command.after else None
        subscription, recovered = topic.subscribe(subscriber, after)
        attendance = self._presence.enter(topic.name, who.name, transport, subscriber)
        return Joined(self._fitting(snapshot), topic.epoch, topic.seq, recovered, subscription, attendance)

    async def look(self, who: Principal, name: str) -> Seen:
        """The session's state for who does not stay."""
        who.require("watch", name)
        snapshot = await self._registry.get(name).snapshot(0)
        topic = self._hub.topic(f"session:{name}")
        return Seen(snapshot, topic.epoch, topic.seq)

    def follow(self, who: Principal, name: str, subscriber: Subscriber) -> Subscription:
        """What happens in a session from now on, for who waits for something of it: nobody is shown as
        present."""
        who.require("watch", name)
        self._registry.get(name)
        subscription, _ = self._hub.topic(f"session:{name}").subscribe(subscriber)
        return subscription

    def call(self, who: Principal, name: str, command: Command, done: Callable[[object], None]) -> None:
        """`done` gets the reply or a `BridgeError`, exactly once, before the command's events."""
        try:
            need = _NEEDS.get(type(command))
            if need is None:
                raise InvalidPayload("event", f"{type(command).__name__} is not for a session")
            if isinstance(command, SubmitPrompt) and command.command is not None:
                need = "control"
            who.require(need, name)
            if isinstance(command, ConfigureSession):
                _may_bypass(who, command.permission_mode)
            actor = self._registry.get(name)
            if isinstance(command, SubmitPrompt):
                self._submits.take(who.account, self._clock.monotonic())
        except BridgeError as e:
            done(e)
            return
        actor.call(command, who.name, done)

    async def history(self, who: Principal, name: str, command: ReadHistory) -> tuple[Turn, ...]:
        """Finished turns, newest last."""
        who.require("watch", name)
        session = self._registry.get(name).core.facts.name
        before = TurnId(command.before) if command.before is not None else None
        return await self._registry.history(session, before, command.limit)

    async def turn(self, who: Principal, name: str, turn: str) -> Turn:
        """One turn, queued, open or finished, with its tools' whole output. As with `join`, nothing is
        awaited between the view of an open turn and the return."""
        who.require("watch", name)
        found = await self._registry.get(name).turn(TurnId(turn))
        if found is None:
            raise TurnNotFound(turn, f"There is no turn {turn}, or it is not kept any more.")
        return found

    async def file(
        self, who: Principal, name: str, turn: str, number: int | None
    ) -> tuple[Attachment, bytes]:
        """One of the files that came with a turn's prompt, counted from 0."""
        found = await self.turn(who, name, turn)
        if number is None or number >= len(found.attachments):
            raise NotFound
        file = await self._registry.file(self._registry.get(name).core.facts.name, found.id, number)
        if file is None:  # pruned this moment
            raise NotFound
        return found.attachments[number], file.data

    # --- a session's screen -----------------------------------------------------------------------------

    async def join_terminal(
        self, who: Principal, name: str, tell: Callable[[], None]
    ) -> tuple[Picture, Viewer]:
        """What the session's pane shows now, and who is given what follows it (see `Screens.join`)."""
        who.require("watch", name)
        self._joins.take(who.account, self._clock.monotonic())
        actor = self._registry.get(name)
        if not actor.has_process:
            raise InvalidPayload("topic", f"{name!r} has no terminal: nothing runs on this machine for it")
        session = actor.core.facts.name
        viewer, picture = await self._screens.join(session, tell)
        return picture, viewer

    async def type_into_terminal(self, who: Principal, name: str, command: TypeIntoTerminal) -> None:
        who.require("control", name)
        await self._screens.type(name, command.data)

    async def resize_terminal(self, who: Principal, name: str, command: ResizeTerminal) -> None:
        who.require("control", name)
        await self._screens.resize(name, command.cols, command.rows)

    # --- inside -----------------------------------------------------------------------------------------

    async def _joined(self, who: Principal, name: str, command: JoinSession) -> Actor:
        if command.start is None:
            return self._registry.get(name)
        who.require("control", name)
        _may_bypass(who, command.start.permission_mode)
        actor, _ = await self._registry.start(name, command.start, joining=True)
        return actor

    def _fitting(self, snapshot: Snapshot) -> Snapshot:
        """Without the oldest turns, as far as the limit on a snapshot asks for it."""
        room = self._snapshot_bytes
        for turn in (snapshot.open_turn, *snapshot.queue):
            room -= _size(turn) if turn is not None else 0
        kept = 0
        for turn in reversed(snapshot.turns):
            room -= _size(turn)
            if room < 0:
                break
            kept += 1
        if kept == len(snapshot.turns):
            return snapshot
        return Snapshot(
            snapshot.session,
            snapshot.turns[len(snapshot.turns) - kept :],
            snapshot.open_turn,
            snapshot.queue,
            snapshot.requests,
        )


def _may_bypass(who: Principal, permission_mode: str | None) -> None:
    if permission_mode == "bypassPermissions" and not who.may("admin"):
        raise Forbidden("admin", "Only a token with the scope 'admin' may ask for bypassPermissions.")


_FRAME = 600
"""What a turn, block or attachment takes on the wire beside its texts, bytes; generous."""


def _size(turn: Turn) -> int:
    texts = _bytes(turn.prompt) + _bytes(turn.text) + sum(map(_block_size, turn.blocks))
    return _FRAME * (1 + len(turn.attachments)) + texts


def _block_size(block: AnyBlock) -> int:
    if isinstance(block, ToolBlock):
        # The wire cuts a tool's output at 64 KiB.
        return _FRAME + _bytes(repr(block.input)) + min(_bytes(block.output or ""), 65_536)
    return _FRAME + _bytes(block.text)


def _bytes(text: str) -> int:
    return len(text.encode(errors="replace"))
