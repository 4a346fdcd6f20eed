"""A reader of server-sent events that does as a browser's EventSource does, written from the HTML standard.

It keeps the last id it was given, also over connections, and says it when it connects again. What a browser
hides is kept as well: comments, the retry hint, and whether the stream came to its end or was cut.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

PATIENCE_S = 10
"""What a test waits for something that must come; a loaded machine is the reason for its length."""


@dataclass
class Told:
    event: str
    data: Any
    id: str
    """The last id given so far, as `lastEventId` of a browser's event."""
    own: bool
    """It came with this event."""


@dataclass
class Parser:
    """Lines to events; `last_id` survives."""

    last_id: str = ""
    retry: int | None = None
    comments: int = 0
    told: list[Told] = field(default_factory=list)
    _rest: bytes = b""
    _data: list[str] = field(default_factory=list)
    _event: str = ""
    _own: bool = False

    def feed(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._line(line.decode().removesuffix("\r"))

    def begin_again(self) -> None:
        """Another connection: what was not finished is forgotten, the id is not."""
        self._rest, self._event, self._own = b"", "", False
        self._data.clear()

    def _line(self, line: str) -> None:
        if not line:
            self._dispatch()
            return
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "":
                self.comments += 1
            case "event":
                self._event = value
            case "data":
                self._data.append(value)
            case "id" if "\0" not in value:
                self.last_id, self._own = value, True
            case "retry" if value.isdigit():
                self.retry = int(value)
            case _:
                raise AssertionError(f"a browser would ignore the line {line!r}")

    def _dispatch(self) -> None:
        if self._data:
            data = json.loads("\n".join(self._data))
            self.told.append(Told(self._event or "message", data, self.last_id, self._own))
        self._event, self._own = "", False
        self._data.clear()


class EventSource:
    """One source of events, over as many connections as a test asks for, one at a time."""

    def __init__(self, url: str, token: str | None = None, **headers: str) -> None:
        self.url = url
        self.headers = {"Accept": "text/event-stream", **headers}
        if token is not None:
            self.headers["Authorization"] = f"Bearer {token}"
        self.parser = Parser()
        self.ended = False
        """The stream came to its end; a cut raises."""
        self.response: aiohttp.ClientResponse
        self._read = 0

    @asynccontextmanager
    async def connected(self, method: str = "GET", **request: Any) -> AsyncIterator[EventSource]:
        """Connect; leaving cuts the connection, where it is still there, without a word. What had come and
        was not taken is lost with it: so a test says between which two events the cut is."""
        headers = dict(self.headers)
        del self.parser.told[self._read :]
        if self.parser.told:
            self.parser.last_id = self.parser.told[-1].id
        if self.parser.last_id:
            headers["Last-Event-ID"] = self.parser.last_id
        self.parser.begin_again()
        self.ended = False
        timeout = aiohttp.ClientTimeout(total=None)
        async with (
            aiohttp.ClientSession(timeout=timeout, read_bufsize=2**20) as session,
            session.request(method, self.url, headers=headers, **request) as response,
        ):
            self.response = response
            yield self
            response.close()

    @property
    def seen(self) -> list[Told]:
        return self.parser.told[: self._read]

    async def next_any(self) -> Told:
        while len(self.parser.told) == self._read:
            assert not self.ended, f"the stream ended; it told {[t.event for t in self.parser.told]}"
            await self._more()
        self._read += 1
        return self.parser.told[self._read - 1]

    async def next(self) -> Told:
        """The next event that is not about presence."""
        while (told := await self.next_any()).event.startswith("presence_"):
            pass
        return told

    async def until(self, event: str) -> Told:
        while (told := await self.next_any()).event != event:
            pass
        return told

    async def end(self) -> list[Told]:
        """All that is told until the stream ends."""
        while not self.ended:
            await self._more()
        rest = self.parser.told[self._read :]
        self._read += len(rest)
        return [told for told in rest if not told.event.startswith("presence_")]

    async def comment(self) -> None:
        """Until the next one."""
        before = self.parser.comments
        while self.parser.comments == before:
            await self._more()

    async def _more(self) -> None:
        data = await asyncio.wait_for(self.response.content.readany(), PATIENCE_S)
        self.parser.feed(data)
        self.ended = not data
