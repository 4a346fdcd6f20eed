"""Spares on the simulator, and sessions that take them: for tests, in a tmux server of their own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from bridge.clock import SystemClock
from bridge.commands import StartOptions
from bridge.config import SparesConfig
from bridge.events import SessionName
from bridge.sessions.backends.base import Batch, Launch
from bridge.sessions.backends.headless import HeadlessBackend
from bridge.sessions.backends.spare_process import Premises
from bridge.sessions.backends.spares import Spares
from bridge.sessions.starts import Starts
from tests.fakes.headless import Rig
from tests.fakes.tui import until


class SpareRig(Rig):
    """A `Rig` whose session takes spares, as long as a `bridge` runs."""

    def __init__(self, folder: Path, base_url: str, claude: Path, **spares: Any) -> None:
        super().__init__(folder, base_url, claude)
        self.config = SparesConfig(**{"high": 1, "starts_per_s": 20, **spares})
        self.others: list[HeadlessBackend] = []
        self.task: asyncio.Task[None] | None = None
        """The spares' own."""
        self.options: dict[str, Any] = {}
        """Of the default kind, beside where it works."""
        self._anew()

    def _anew(self) -> None:
        """As another bridge would have them."""
        host = self.host
        self.premises = Premises(
            self.state_dir, self.tmux, host.watch, host.claude, self.environ, SystemClock()
        )
        self.spares = Spares(self.premises, self.config)
        self.host = replace(host, spares=self.spares)
        self.backend = self.another()

    def defaults(self) -> StartOptions:
        return self.launch(**self.options).options

    @contextlib.asynccontextmanager
    async def bridge(self, **config: Any) -> AsyncIterator[Spares]:
        """One life of a bridge, with other settings maybe; it is left as by a kill: nothing ends with it."""
        self.config = self.config.model_copy(update=config)
        self._anew()
        await self.premises.settle()
        task = self.task = asyncio.ensure_future(self.spares.run(Starts(8).spare_place, self.defaults))
        try:
            yield self.spares
        finally:
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                pass
            except BaseExceptionGroup as e:
                if isinstance(e, ExceptionGroup):  # anything but what a test killed it with
                    raise

    async def until_true(self, what: Callable[[], bool]) -> None:
        await until(what)

    async def full(self, count: int | None = None) -> None:
        """Until so many are ready."""
        wanted = self.config.high if count is None else count
        await self.until_true(lambda: self.spares.figures()["ready"] == wanted)

    def ids(self) -> set[str]:
        return {node["id"].removeprefix("spare:") for node in self.spares.describe()["children"]}

    def pids(self) -> set[int]:
        return {node["pid"] for node in self.spares.describe()["children"]}

    async def sessions(self) -> set[str]:
        """All there are in tmux."""
        return {pane.session for pane in await self.tmux.panes()}

    def other(self, name: str) -> tuple[HeadlessBackend, Launch]:
        """Another session, and how it is started."""

        def hears(batch: Batch) -> None:
            self._take(batch)

        backend = self.host.backend(SessionName(name), hears)
        self.others.append(backend)
        return backend, replace(self.launch(), name=SessionName(name))

    async def close(self) -> None:
        for backend in self.others:
            with contextlib.suppress(Exception):
                await backend.stop()
        with contextlib.suppress(Exception):
            async with self.bridge(high=0):
                await self.until_true(lambda: not any((self.state_dir / "spares").glob("*")))
        await super().close()
