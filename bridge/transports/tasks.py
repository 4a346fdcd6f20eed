"""Work that outlives the request that began it: a group of tasks for as long as the listener stands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from aiohttp import web


class Tasks:
    """A transport's own. What it spawns must not raise: its errors are for the transport to handle."""

    def __init__(self) -> None:
        self._group = asyncio.TaskGroup()
        self._running: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._group.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def context(self, _: web.Application) -> AsyncIterator[None]:
        """For an application's `cleanup_ctx`; what still runs at the end, when all clients are gone, is
        cancelled."""
        async with self._group:
            yield
            for task in self._running:
                task.cancel()
