"""Keeps no more history than is wanted: the oldest finished turns of each session go, a few at a time.

Nobody waits for it: a step is one short transaction between those of the sessions, and after each there is
room for theirs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog

from bridge.clock import Clock
from bridge.config import SessionConfig
from bridge.errors import JournalError
from bridge.events import SessionName, TurnId
from bridge.sessions.journal import Journal
from bridge.sessions.records import GiveBack, PruneTurns
from bridge.sessions.registry import Registry

log = structlog.get_logger(__name__)

EVERY_S = 60.0
"""Between two rounds over all sessions: a minute too many of what was kept for days or a thousand turns."""

STEP = 20
"""Turns in one transaction: a few milliseconds, or 50 where each holds 100 KB."""

PAUSE_S = 0.02
"""After each step. A backlog of a hundred thousand turns takes a few minutes, and nobody notices."""

PAGES = 256
"""Given back to the file system in one transaction: 1 MiB."""

SPARE_PAGES = 1024
"""Free pages that the file keeps, 4 MiB, because the next turns would only ask for them again."""

DAY_S = 86_400.0


class Retention:
    def __init__(
        self,
        journal: Journal,
        registry: Registry,
        clock: Clock,
        config: SessionConfig,
        forget: Callable[[SessionName, Sequence[TurnId]], None] = lambda _, __: None,
    ) -> None:
        """`forget` removes what is kept of turns beside the journal. Blocking."""
        self._forget = forget
        self._journal = journal
        self._registry = registry
        self._clock = clock
        self._keep = config.history_turns
        self._days = config.history_days

    @property
    def wanted(self) -> bool:
        return self._keep is not None or self._days is not None

    async def run(self) -> None:
        """Until cancelled, which is safe at any moment."""
        while True:
            try:
                pruned = await self.once()
            except JournalError as e:
                log.warning("history could not be pruned", problem=str(e), again_in_s=EVERY_S)
            else:
                if pruned:
                    log.info("history pruned", turns=pruned)
            await asyncio.sleep(EVERY_S)

    async def once(self) -> int:
        """One round over all sessions; how many turns went. Raises `JournalError`."""
        pruned = 0
        for session in self._registry.sessions():
            while step := await self._step(session.name):
                pruned += step
                await asyncio.sleep(PAUSE_S)
        while await self._journal.spare_pages() > SPARE_PAGES:
            await self._journal.write([GiveBack(PAGES)])
            await asyncio.sleep(PAUSE_S)
        return pruned

    async def _step(self, session: SessionName) -> int:
        before = None if self._days is None else self._clock.now() - self._days * DAY_S
        turns = await self._journal.prunable(session, self._keep, before, STEP)
        if turns:
            await self._journal.write([PruneTurns(session, turns)])
            self._registry.shortened(session)
            await asyncio.to_thread(self._forget, session, turns)
        return len(turns)
