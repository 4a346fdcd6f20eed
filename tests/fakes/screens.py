"""Panes in memory, reached as tmux's are: what one shows is how much it has put out.

A picture's screen is `<n>`: it stands behind the first n bytes. A viewer that was shown `<n>` must be given
exactly what came after those, which `Watcher` checks as it takes.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from bridge.errors import TmuxError
from bridge.screens import Hears, Screens, Viewer
from bridge.sessions.picture import Picture
from bridge.supervision import RestartBudget, Supervisor


class FakePane:
    def __init__(self) -> None:
        self.written = b""
        self.cols, self.rows = 80, 24
        self.pid = 100
        self.dead = False
        self.typed = b""
        self.pending = b""
        self.pictures = 0
        self.lines: list[FakeLine] = []
        self.opened = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked = asyncio.Event()  # a picture has been asked for
        self.left = asyncio.Event()  # nobody watches any more

    def write(self, data: bytes) -> None:
        self.written += data
        for line in self.lines:
            line.hears.output(data)

    def resize(self, cols: int, rows: int) -> None:
        if (cols, rows) != (self.cols, self.rows):
            self.cols, self.rows = cols, rows
            for line in list(self.lines):
                line.hears.changed()

    def end(self) -> None:
        for line in list(self.lines):
            line.hears.ended()


class FakeLine:
    def __init__(self, pane: FakePane, hears: Hears) -> None:
        self.pane = pane
        self.hears = hears
        pane.lines.append(self)
        pane.opened += 1

    async def picture(self, mark: Callable[[], None]) -> Picture:
        pane = self.pane
        mark()
        picture = Picture(pane.cols, pane.rows, f"<{len(pane.written)}>", pane.pending)
        pane.pictures += 1
        pane.asked.set()
        await pane.gate.wait()
        return picture

    async def process(self) -> int:
        return self.pane.pid

    async def type(self, data: bytes) -> bool:
        if self.pane.dead:
            return False
        self.pane.typed += data
        return True

    async def resize(self, cols: int, rows: int) -> None:
        self.pane.resize(cols, rows)

    async def close(self) -> None:
        self.pane.lines.remove(self)
        if not self.pane.lines:
            self.pane.left.set()


class FakePanes:
    """Sessions' panes by name. `fault` is raised where tmux is asked for one."""

    def __init__(self) -> None:
        self.panes: dict[str, FakePane] = {}
        self.fault: TmuxError | None = None
        self.looks = 0
        self.looked = asyncio.Event()

    def add(self, name: str) -> FakePane:
        return self.panes.setdefault(name, FakePane())

    async def connect(self, name: str, hears: Hears) -> FakeLine | None:
        self.looks += 1
        self.looked.set()
        if self.fault is not None:
            raise self.fault
        pane = self.panes.get(name)
        return FakeLine(pane, hears) if pane is not None else None


@asynccontextmanager
async def running_screens(panes: FakePanes) -> AsyncIterator[Screens]:
    supervisor = Supervisor("screens", budget=RestartBudget(50, 60))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(supervisor.run())
        yield Screens(panes.connect, supervisor, (220, 50))
        task.cancel()


class Watcher:
    """A client that takes when it is told to, if it has room, and keeps what it makes of it."""

    def __init__(self) -> None:
        self.room = True
        self.news = asyncio.Event()
        self.pictures: list[Picture] = []
        self.since = b""
        """Output since the latest picture."""
        self.told = 0
        self.viewer: Viewer | None = None

    async def join(self, screens: Screens, name: str = "a") -> Picture:
        self.viewer, picture = await screens.join(name, self.tell)
        self.pictures.append(picture)
        self.take()
        return picture

    def tell(self) -> None:
        self.told += 1
        if self.room:
            self.take()

    def take(self, limit: int = 1 << 30) -> None:
        """Until there is no more for now."""
        assert self.viewer is not None
        while True:
            picture, output = self.viewer.take(limit)
            if picture is not None:
                self.pictures.append(picture)
                self.since = b""
            self.since += output
            if not self.viewer.pending:
                break
        self.news.set()

    def at(self) -> int:
        """How much of the pane's output it has seen, or has been shown the effect of."""
        found = re.fullmatch(r"<(\d+)>", self.pictures[-1].screen)
        assert found, "it has seen no picture of the pane"
        return int(found[1]) + len(self.since)

    def right(self, pane: FakePane) -> bool:
        """Every byte since its picture, once and in order, up to the last."""
        start = self.at() - len(self.since)
        return pane.written[start:] == self.since

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not true():
                self.news.clear()
                await self.news.wait()
