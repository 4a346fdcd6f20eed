"""A client of the bridge, whatever its transport: what one suite asks of every way in.

What a peer does is its transport's own; what it is told is kept in order, by topic, so that a test says
what must come and never how long to wait. `connect` may be called again after `cut`: it begins anew.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import aiohttp
import pytest

from tests.fakes.phoenix_js import Heard, Json, Refused, Story, _brief, _has, _of_turn

PATIENCE_S = 30
"""For what must come; a machine that runs other things as well is the reason for its length."""

T = TypeVar("T")


class Reply(dict[str, Any]):
    """The response of status ok. `order` counts everything the peer heard, events as well."""

    def __init__(self, response: Json, order: int) -> None:
        super().__init__(response)
        self.order = order


class Peer(ABC):
    """Joins topics, asks, and is told."""

    transport: str
    """What presence calls it."""
    ordered = True
    """Replies and events come over one connection, so that there is an order between them."""
    topical = True
    """It has topics, with their own events; REST has paths instead."""

    def __init__(self, address: str, token: str) -> None:
        """`address` is the bridge's, as `http://host:port`."""
        self.address = address
        self.token = token
        self.told: dict[str, list[Heard]] = {}
        self._read: dict[str, int] = {}
        self._orders = 0
        self._news = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self.end: str | None = None
        """How the connection ended, where it did."""
        self.http: aiohttp.ClientSession

    # --- what each transport does in its way -----------------------------------------------------------

    @abstractmethod
    async def _open(self) -> None:
        """Raises `Refused` where the bridge does not let it in."""

    @abstractmethod
    async def _join(self, topic: str, payload: Json) -> Reply: ...

    @abstractmethod
    async def ask(self, topic: str, event: str, payload: Any = None) -> Reply:
        """Raises `Refused`. What the transport cannot express skips the test, and says why."""

    async def submit_bytes(self, topic: str, payload: Json) -> Reply:
        """A `submit` whose files have bytes for `data`, in the transport's own way to say bytes."""
        pytest.skip("this transport has no bytes")

    @abstractmethod
    async def leave(self, topic: str) -> None: ...

    # --- what is the same for all ----------------------------------------------------------------------

    async def connect(self) -> None:
        self.told = defaultdict(list)
        self._read = defaultdict(int)
        self.end = None
        self.http = aiohttp.ClientSession()
        await self._open()

    async def join(self, topic: str, payload: Json | None = None) -> Reply:
        """The join's reply. Raises `Refused`."""
        return await asyncio.wait_for(self._join(topic, payload or {}), PATIENCE_S)

    async def cut(self) -> None:
        """The connection breaks: no leave, no close frame, no word."""
        await self.http.close()
        for task in self._tasks:
            task.cancel()
        ends = await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        for end in ends:
            if isinstance(end, AssertionError):
                raise end

    async def close(self) -> None:
        await self.cut()

    async def next_event(self, topic: str) -> Heard:
        """The next event of the topic that carries a number."""

        def find() -> Heard | None:
            told = self.told[topic]
            while self._read[topic] < len(told):
                heard = told[self._read[topic]]
                self._read[topic] += 1
                if "seq" in heard.payload:
                    return heard
            return None

        return await self.until(find, f"the next event of {topic}")

    async def wait(self, topic: str, event: str, count: int = 1, **fields: Any) -> Json:
        """The payload of the nth such event, past or coming, whose payload has these fields."""

        def find() -> Json | None:
            found = [h.payload for h in self.told[topic] if h.event == event and _has(h.payload, fields)]
            return found[count - 1] if len(found) >= count else None

        return await self.until(find, f"{event} no. {count} with {fields} on {topic}")

    async def story(self, topic: str, turn: str) -> Story:
        """All that was told of a turn, once it has finished."""
        await self.wait(topic, "turn_finished", turn=turn)
        return Story([h for h in self.told[topic] if _of_turn(h.payload, turn)])

    def numbered(self, topic: str) -> list[tuple[str, Json]]:
        """Every event of the topic that carries a number."""
        return [(h.event, h.payload) for h in self.told[topic] if "seq" in h.payload]

    async def until(self, find: Callable[[], T | None], what: str) -> T:
        """What `find` finds, as soon as it does."""
        deadline = asyncio.get_running_loop().time() + PATIENCE_S
        while (found := find()) is None:
            self._news.clear()
            left = deadline - asyncio.get_running_loop().time()
            try:
                if self.end is not None:
                    raise TimeoutError
                await asyncio.wait_for(self._news.wait(), left)
            except TimeoutError:
                last = {t: [_brief(h) for h in heard[-8:]] for t, heard in self.told.items()}
                pytest.fail(f"{type(self).__name__}: {self.end or 'too long'}, without {what}; heard: {last}")
        return found

    # --- for the transports ----------------------------------------------------------------------------

    def _hear(self, topic: str, event: str, payload: Any) -> None:
        self.told[topic].append(Heard(self._order(), event, payload))
        self._news.set()

    def _order(self) -> int:
        self._orders += 1
        return self._orders

    def _ended(self, how: str) -> None:
        self.end = self.end or how
        self._news.set()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Read on beside the test. What is read and must not be ends the peer, and fails who waits for it."""
        self._tasks.add(asyncio.get_running_loop().create_task(self._watched(work)))

    async def _watched(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as e:
            self._ended(repr(e))
            raise


def answered(status: str, response: Any, order: int) -> Reply:
    """The reply, where it is one. Raises `Refused`."""
    if status != "ok":
        raise Refused(response, status)
    return Reply(response, order)
