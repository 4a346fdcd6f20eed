"""Transport × event × scopes × session pattern, cell by cell, through the real service.

What is expected is written down here once more, apart from the code that decides it. A transport takes part
with a `Driver` in `DRIVERS`; each cell asks as one token for one thing, and the answer must be the one that
the table gives, down to the scope that a refusal names.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlencode

import aiohttp
import pytest
from aiohttp import web

from bridge.auth import ADMIN, Principal
from bridge.clock import SystemClock
from bridge.commands import StartSession
from bridge.config import HubConfig, PoolConfig, ServerConfig
from bridge.errors import BridgeError
from bridge.service import Service
from bridge.transports.http import make_app, make_runner
from bridge.transports.topics import Topics
from bridge.wire import requests
from bridge.wire.formats import ENCODERS
from tests.fakes.house import House
from tests.fakes.peers import WAYS, Peer
from tests.fakes.peers.rest import RestPeer
from tests.fakes.phoenix import PhoenixClient, Speaker, polling
from tests.fakes.phoenix_js import Refused

# --- the tokens ------------------------------------------------------------------------------------

SCOPES = ("watch", "prompt", "approve", "control", "admin")
SETS: tuple[frozenset[str], ...] = (
    frozenset(),
    *(frozenset({scope}) for scope in SCOPES),
    *(frozenset({"watch", scope}) for scope in ("prompt", "approve", "control")),
)
PATTERNS: dict[tuple[str, ...], bool] = {
    ("*",): True,
    ("other", "mine-*", "pool:mine-*"): True,
    ("other-*",): False,
    (): False,
}
"""And whether they cover the session that is asked for."""

ALLOWS = {"control": {"control", "approve"}, "admin": set(SCOPES)}
"""What a scope allows beside itself."""


@dataclass(frozen=True)
class Holder:
    scopes: frozenset[str]
    patterns: tuple[str, ...]

    @property
    def token(self) -> str:
        return f"token-of-{'-'.join(sorted(self.scopes))}-for-{'-'.join(self.patterns)}".replace("*", "all")

    def refused(self, scope: str, *, named: bool) -> str | None:
        """What a refusal for want of `scope` says, if there is one."""
        may = any(scope in ALLOWS.get(held, {held}) for held in self.scopes)
        covered = PATTERNS[self.patterns] or not named
        return None if may and covered else f"forbidden: {scope}"


HOLDERS = [Holder(scopes, patterns) for scopes in SETS for patterns in PATTERNS]

# --- the events ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """One thing that can be asked. `needs` are the scopes, in the order in which they are looked at;
    `otherwise` is what comes where all are there."""

    topic: str
    event: str
    payload: dict[str, Any]
    needs: tuple[str, ...]
    otherwise: str = "ok"
    named: bool = True
    """It is about one session."""

    def expected(self, holder: Holder, *, joins: bool) -> str:
        """`joins`: on this transport an event can only be sent on a topic that was joined."""
        if joins and self.event != "join":
            refused = holder.refused("watch", named=self.topic != "sessions")
            if refused is not None:
                return refused
        for scope in self.needs:
            refused = holder.refused(scope, named=self.named)
            if refused is not None:
                return refused
        return self.otherwise


NAME = "mine-one"
BYPASS = {"permission_mode": "bypassPermissions"}
LOBBY, SESSION, TERMINAL = "sessions", f"session:{NAME}", f"terminal:{NAME}"
POOL = f"pool:{NAME}"

CELLS = [
    Cell(LOBBY, "join", {}, ("watch",), named=False),
    Cell(LOBBY, "list", {}, ("watch",), named=False),
    Cell(LOBBY, "tree", {}, ("admin",), named=False),
    Cell(LOBBY, "spending", {}, ("watch",), named=False),
    Cell(LOBBY, "start", {"name": NAME}, ("control",)),
    Cell(LOBBY, "start", {"name": NAME, **BYPASS}, ("control", "admin"), "session_exists"),
    Cell(LOBBY, "fork", {"name": "mine-two", "from": NAME}, ("control",), "invalid_payload"),
    Cell(LOBBY, "fork", {"name": NAME, "from": NAME}, ("control",), "invalid_payload"),
    Cell(LOBBY, "stop", {"name": NAME}, ("control",)),
    Cell(LOBBY, "delete", {"name": NAME}, ("control",)),
    Cell(SESSION, "join", {}, ("watch",)),
    Cell(SESSION, "join", {"start": {}}, ("watch", "control")),
    Cell(SESSION, "join", {"start": BYPASS}, ("watch", "control", "admin")),
    Cell(SESSION, "submit", {"prompt": "hello"}, ("prompt",)),
    Cell(SESSION, "submit", {"command": "/compact"}, ("control",), "prompt_rejected"),
    Cell(SESSION, "interrupt", {}, ("prompt",)),
    Cell(SESSION, "cancel", {"turn": "none"}, ("prompt",), "turn_not_found"),
    Cell(SESSION, "answer", {"request": "none", "decision": "deny"}, ("approve",), "request_closed"),
    Cell(SESSION, "history", {}, ("watch",)),
    Cell(SESSION, "configure", {"model": "other"}, ("control",)),
    Cell(SESSION, "configure", BYPASS, ("control", "admin")),
    Cell(SESSION, "restart", {}, ("control",)),
    Cell(SESSION, "stop", {}, ("control",)),
    Cell(TERMINAL, "join", {}, ("watch",)),
    Cell(TERMINAL, "input", {"text": "x"}, ("control",), "session_stopped"),
    Cell(TERMINAL, "resize", {"cols": 80, "rows": 24}, ("control",)),
    Cell(POOL, "join", {}, ("watch",)),
    Cell(POOL, "ask", {"prompt": "hello"}, ("prompt",)),
]


def name_of(cell: Cell) -> str:
    keys = "-".join([*cell.payload, *(["bypass"] if "bypass" in str(cell.payload) else [])])
    return f"{cell.topic.partition(':')[0]}-{cell.event}-{keys}".strip("-")


# --- the transports --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bridge:
    """What a driver may need of it: where it answers, or the service itself."""

    base: str
    service: Service


class Driver(Protocol):
    """One client, as one token. What a transport does not have at all it answers with `None`: the cell is
    then left out (a live screen where there are no bytes).

    `joins`: whether an event can only be sent where the topic is joined, so that `watch` is needed, too.
    """

    joins: bool

    async def ask(self, topic: str, event: str, payload: dict[str, Any]) -> str | None:
        """`ok`, or the code of the error; of `forbidden` with the scope: `forbidden: control`."""
        ...


def told(status: str, response: dict[str, Any]) -> str:
    """An answer as `Driver.ask` gives it."""
    if status == "ok":
        return "ok"
    reason = str(response["reason"])
    return f"{reason}: {response['scope']}" if reason == "forbidden" else reason


class Straight:
    """No transport at all: what a client asks for goes to `Topics` as it is. Nothing is joined first, so that
    each event is refused by its own check, and not by that of a join."""

    joins = False

    def __init__(self, topics: Topics) -> None:
        self._topics = topics

    async def ask(self, topic: str, event: str, payload: dict[str, Any]) -> str | None:
        route = requests.route(topic)
        assert route is not None
        if event == "join":
            return None  # needs a subscriber, which is the transports' own
        answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        work = self._topics.ask(route, event, payload, answered.set_result)
        try:
            result = await (answered if work is None else work)
        except BridgeError as e:
            result = e
        said = told("error", result.as_payload()) if isinstance(result, BridgeError) else "ok"
        # A screen that nobody has opened takes nothing; whether it would be allowed to has been said by then.
        return None if route.kind == "terminal" and not said.startswith("forbidden") else said

    @staticmethod
    @asynccontextmanager
    async def connect(bridge: Bridge, token: str) -> AsyncIterator[Straight]:
        who = bridge.service.authenticate(token)
        yield Straight(Topics(bridge.service, who, SystemClock(), "test"))


class Phoenix:
    """Phoenix Channels, over WebSocket or long poll; the latter has no bytes, and so no screens."""

    joins = True

    def __init__(self, client: Speaker) -> None:
        self._client = client
        self._ref = 0

    async def ask(self, topic: str, event: str, payload: dict[str, Any]) -> str | None:
        join_ref = str(self._ref + 1)
        joined = await self._push(join_ref, topic, "phx_join", payload if event == "join" else {})
        if joined == "binary_not_supported":
            return None
        if joined == "ok" and event != "join":
            answer = await self._push(join_ref, topic, event, payload)
        else:
            answer = joined
        await self._push(join_ref, topic, "phx_leave", {})
        return answer

    async def _push(self, join_ref: str, topic: str, event: str, payload: dict[str, Any]) -> str:
        self._ref += 1
        await self._client.say(join_ref, str(self._ref), topic, event, payload)
        while True:
            _, ref, _, heard, answer = await self._client.hear()
            if heard == "phx_reply" and ref == str(self._ref):
                return told(answer["status"], answer["response"])

    @staticmethod
    @asynccontextmanager
    async def by_websocket(bridge: Bridge, token: str) -> AsyncIterator[Phoenix]:
        async with aiohttp.ClientSession() as session:
            url = f"{bridge.base}/socket/websocket"
            async with session.ws_connect(url, params={"vsn": "2.0.0", "token": token}) as ws:
                yield Phoenix(PhoenixClient(ws))

    @staticmethod
    @asynccontextmanager
    async def by_longpoll(bridge: Bridge, token: str) -> AsyncIterator[Phoenix]:
        query = urlencode({"vsn": "2.0.0", "token": token})
        async with polling(f"{bridge.base}/socket/longpoll?{query}") as client:
            yield Phoenix(client)


class AsPeer:
    """Socket.IO, and REST, which joins nothing: there a POST needs no `watch`."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self.joins = peer.topical

    async def ask(self, topic: str, event: str, payload: dict[str, Any]) -> str | None:
        if event == "join" and "start" in payload and not self._peer.topical:
            return None  # two requests, each with a cell of its own
        try:
            if event == "join" or self.joins:
                await self._peer.join(topic, payload if event == "join" else {})
            if event != "join":
                await self._peer.ask(topic, event, payload)
        except Refused as e:
            return told("error", e.response)
        except pytest.skip.Exception:
            return None  # has no path
        return "ok"

    @staticmethod
    @asynccontextmanager
    async def by(make: Callable[[str, str], Peer], bridge: Bridge, token: str) -> AsyncIterator[AsPeer]:
        peer = make(bridge.base, token)
        await peer.connect()
        try:
            yield AsPeer(peer)
        finally:
            await peer.close()


class _Unasked(RestPeer):
    """Does not look first whether it may look."""

    async def _open(self) -> None:
        self._streams = {}


Connect = Callable[[Bridge, str], AbstractAsyncContextManager[Driver]]

DRIVERS: dict[str, Connect] = {
    "straight": Straight.connect,
    "websocket": Phoenix.by_websocket,
    "longpoll": Phoenix.by_longpoll,
    "socketio": partial(AsPeer.by, WAYS["socketio"]),
    "rest": partial(AsPeer.by, _Unasked),
}


# --- the table -------------------------------------------------------------------------------------


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[Bridge]:
    """Everything but processes, behind the real transports."""
    house = House(folder)
    house.pools = {NAME: PoolConfig(size=1)}
    house.encoders = dict(ENCODERS)
    house.tokens = [
        (h.token, Principal("someone", h.scopes, h.patterns, credential=h.token)) for h in HOLDERS
    ]
    async with house.open() as service:
        config = ServerConfig(port=0, shutdown_s=2)
        runner = make_runner(make_app(service, config, HubConfig(), house.clock), config)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            yield Bridge(f"http://127.0.0.1:{runner.addresses[0][1]}", service)
        finally:
            await runner.cleanup()


@pytest.mark.parametrize("cell", CELLS, ids=name_of)
@pytest.mark.parametrize("way", DRIVERS)
async def test_each_token_may_do_what_the_table_says_and_nothing_else(
    tmp_path: Path, way: str, cell: Cell
) -> None:
    """Over all tokens; what is wrong is shown with the token and both answers."""
    owner = Principal("owner", ADMIN)
    wrong = {}
    async with serving(tmp_path) as bridge:
        for holder in HOLDERS:
            await bridge.service.start(owner, StartSession(name=NAME))
            async with DRIVERS[way](bridge, holder.token) as driver:
                expected = cell.expected(holder, joins=driver.joins)
                answer = await driver.ask(cell.topic, cell.event, cell.payload)
                if answer not in (expected, None):
                    wrong[holder.token] = f"{answer}, not {expected}"
    assert wrong == {}


def test_the_table_has_every_event_there_is() -> None:
    """A new event that nobody puts down here would be tested by nobody."""
    from bridge.wire.requests import _EVENTS

    listed = {(cell.topic.partition(":")[0], cell.event) for cell in CELLS}
    known = {(kind, event) for kind, events in _EVENTS.items() for event in (*events, "join")}
    assert listed == known
    outcomes = {cell.expected(holder, joins=True) for cell in CELLS for holder in HOLDERS}
    assert {f"forbidden: {scope}" for scope in SCOPES} | {"ok"} <= outcomes
