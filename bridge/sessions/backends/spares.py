"""Keeps `claude -p` processes ready that nobody has asked for yet, and hands them to new sessions.

A spare waits in tmux as a session's process does: it outlives the bridge and is found again by the next one.
How many there are to be is `stock`'s to say, how one is started and ended is
`spare_process`'; here they are watched, handed out and replaced.
A start waits behind those of sessions. What goes wrong with a spare is never a session's concern: it gets a
process of its own instead.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, Protocol

import structlog

from bridge.commands import StartOptions
from bridge.config import SparesConfig
from bridge.errors import BackendError, BridgeError, TmuxError
from bridge.sessions.backends.process import age_of
from bridge.sessions.backends.spare import Kind, SpareRecord, new_spare, read_spare
from bridge.sessions.backends.spare_process import Premises, Spare
from bridge.sessions.backends.stock import STEADY_S, Held, Key, Stock
from bridge.sessions.claude.launch import permission_mode

log = structlog.get_logger(__name__)

LOOK_S = 3.0
"""Between two looks at what they take, and at the CLI, which may have been updated: microseconds each."""

GROUND_S = 10.0
"""Between two looks at what they have read; each claim looks, too."""

QUIET_S = 30.0
"""What they have read must have been left alone for so long before all are replaced: a person who edits their
instructions, or commits, would have them started again and again."""

CLAIM_S = 3.0
"""For a spare to answer when it is taken, which takes milliseconds; a new process is ready in about 1 s."""

TMUX_AGAIN_S = 5.0
"""Before tmux is asked again where it could not say what there is."""


class PlaceLike(Protocol):
    def leave(self) -> None: ...


class Taken:
    """A spare on its way to a session: one of `drop` and `arrived` is the end of it."""

    def __init__(self, spares: Spares, spare: Spare, mode: str, claimed_at: float) -> None:
        self.record = spare.record
        self.mode = mode
        """The permission mode that it has, as the CLI calls it."""
        self._spares = spares
        self._spare = spare
        self._claimed_at = claimed_at

    @property
    def pid(self) -> int | None:
        return self._spare.pid

    def move(self, folder: Path) -> None:
        """From now on it is the session's whose folder this is. Raises `OSError`; then drop it."""
        self._spare.let_go()
        os.rename(self._spare.folder, folder)

    def arrived(self) -> None:
        """The session holds its process, or it is a session's own concern that it does not."""
        self._spares._arrived(self._spare, self._claimed_at)

    def drop(self, why: str) -> None:
        """Before `move`: nobody gets it."""
        self._spares._dropped(self._spare, why)


class Spares:
    """Of one bridge. `run` does the work; without it nothing is started, and what there is can be taken."""

    def __init__(self, premises: Premises, config: SparesConfig) -> None:
        self._premises = premises
        self._config = config
        self._clock = premises.clock
        self._stock = Stock(config)
        self._kinds: dict[Key, Kind] = {}
        self._spares: dict[str, Spare] = {}
        self._claimed: set[str] = set()
        """Taken, and not yet where they belong."""
        self._ending: set[str] = set()
        self._grounds: dict[Key, tuple[str, float]] = {}
        """What each kind would read now, and since when."""
        self._looked_at = self._ground_at = float("-inf")
        self._wake = asyncio.Event()
        self._group: asyncio.TaskGroup | None = None
        self._starting = False
        """A start waits for its place."""
        self._problem: str | None = None
        self._no_default: str | None = None
        self.taken = self.missed = 0
        self._claims_s = 0.0

    @property
    def wanted(self) -> bool:
        """There are to be spares, or may be some left from when there were."""
        return self._config.high > 0 or self._premises.folder.is_dir()

    # --- taking one -----------------------------------------------------------------------------------

    async def claim(self, options: StartOptions) -> Taken | None:
        """A process that is as one started now with these options would be, its permission mode included.

        None where there is none. Cancelling it leaves none half taken.
        """
        if not self._config.high:
            return None
        begun = self._clock.monotonic()
        try:
            kind = self._premises.kind(options)
        except BackendError:
            return None
        self._kinds[kind.key] = kind
        self._stock.asked(kind.key)
        now = await self._premises.ground(kind)
        while (spare := self._pop(kind.key)) is not None:
            if spare.record.ground != now:
                self._dropped(spare, "what it was started with has changed")
                continue
            mode = permission_mode(options.permission_mode or "default")
            if await self._told(spare, mode):
                return Taken(self, spare, mode, begun)
        self.missed += 1
        self._wake.set()
        return None

    def _pop(self, key: Key) -> Spare | None:
        """The oldest that is ready. It is nobody's until it is dropped or has arrived."""
        ready = [spare for spare in self._spares.values() if spare.kind.key == key and spare.ready]
        if not ready:
            return None
        spare = self._spares.pop(min(ready, key=lambda s: s.began).record.id)
        self._claimed.add(spare.record.id)
        self._stock.taken(self._clock.monotonic())
        return spare

    async def _told(self, spare: Spare, mode: str) -> bool:
        """Always, also the mode it should have: it may have been on its way to another session before."""
        assert spare.link is not None
        try:
            await spare.link.ask("set_permission_mode", within_s=CLAIM_S, mode=mode)
        except BackendError as e:
            self._dropped(spare, str(e))
            return False
        except asyncio.CancelledError:
            self._dropped(spare, "the start was called off")
            raise
        return True

    def _arrived(self, spare: Spare, claimed_at: float) -> None:
        self._claimed.discard(spare.record.id)
        self._stock.steady(spare.kind.key)
        self.taken += 1
        self._claims_s += self._clock.monotonic() - claimed_at
        log.info("took a spare", spare=spare.record.id)
        self._wake.set()

    def _dropped(self, spare: Spare, why: str) -> None:
        self._end_soon(spare, why)
        self._claimed.discard(spare.record.id)

    async def _adopt(self) -> None:
        """Take up those that fit, end the others."""
        panes = await self._premises.panes()
        folders = {path.name for path in await asyncio.to_thread(_list, self._premises.folder)}
        for id in sorted({*panes, *folders} - self._claimed):
            folder, pane = self._premises.folder / id, panes.get(id)
            record = await asyncio.to_thread(read_spare, folder)
            record = record if record is not None and record.id == id else None
            if record is None and pane is not None:
                if await self._premises.half_taken(pane):
                    continue
                record = SpareRecord(id, "", "", StartOptions(), "")
            kind = self._kind(record) if record is not None and pane is not None else None
            if record is None or pane is None or kind is None:
                await self._premises.end(record, pane, folder)
                continue
            began = self._clock.monotonic() - (age_of(pane.pid) or 0.0)
            spare = Spare(record, kind, folder, began, pane)
            if self._premises.hold(spare, *self._hears(spare)):
                self._kinds[kind.key] = kind
                self._stock.asked(kind.key)
                self._spares[id] = spare
                log.info("adopted a spare", spare=id, pid=pane.pid)
            else:
                await self._premises.end(record, pane, folder)

    def _kind(self, record: SpareRecord) -> Kind | None:
        """None where such a process would be another one now, or none is wanted."""
        if not self._config.high or not record.key:
            return None
        try:
            kind = self._premises.kind(record.options)
        except BackendError:
            return None
        return kind if kind.key == record.key else None

    # --- keeping them -----------------------------------------------------------------------------------

    async def run(
        self, place: Callable[[], Awaitable[PlaceLike]], defaults: Callable[[], StartOptions]
    ) -> None:
        """Until cancelled, which ends none of them; where none are wanted, until those from before are ended.

        `place` is waited for before each start; `defaults` are the options of a session that asks for none,
        and may raise `BridgeError`.
        """
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                await self._adopt_patiently()
                while self._config.high:
                    await self._look(defaults)
                    self._start_one(place)
                    await self._until_woken()
        finally:
            self._group = None
            self._let_go()

    async def _adopt_patiently(self) -> None:
        while True:
            try:
                return await self._adopt()
            except TmuxError as e:
                log.warning("could not look for spares", error=str(e))
            await asyncio.sleep(TMUX_AGAIN_S)

    def _let_go(self) -> None:
        for spare in self._spares.values():
            spare.let_go()
        self._spares.clear()
        self._ending.clear()
        self._starting = False

    async def _until_woken(self) -> None:
        again = self._stock.again_in_s(self._held(), self._clock.monotonic())
        wait_s = LOOK_S if again is None or self._starting or self._ending else min(LOOK_S, again)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._wake.wait()
        self._wake.clear()

    async def _look(self, defaults: Callable[[], StartOptions]) -> None:
        now = self._clock.monotonic()
        if now - self._looked_at >= LOOK_S:
            self._looked_at = now
            self._look_at_kinds(defaults)
            for spare in self._spares.values():
                spare.measure()
                if spare.ready_at is not None and now - spare.ready_at >= STEADY_S:
                    self._stock.steady(spare.kind.key)
        if now - self._ground_at >= GROUND_S:
            self._ground_at = now
            await self._look_at_grounds()
        for ending in self._stock.endings(self._held()):
            if (found := self._spares.pop(ending.id, None)) is not None:
                if ending.failed:
                    self._failed(found, ending.why)
                self._end_soon(found, ending.why)

    def _look_at_kinds(self, defaults: Callable[[], StartOptions]) -> None:
        """What the default options amount to, and whether the other kinds are what they were: the CLI may
        have been updated."""
        try:
            kind = self._premises.kind(defaults())
        except BridgeError as e:
            if str(e) != self._no_default:
                log.warning("keeps no spares of the default options", why=str(e))
            self._no_default = str(e)
            self._stock.default(None)
        else:
            self._no_default = None
            self._kinds[kind.key] = kind
            self._stock.default(kind.key)
        for key in self._stock.kept:
            known = self._kinds.get(key)
            if known is None or not self._current(known):
                self._stock.forget(key)
        kept = set(self._stock.kept)
        self._kinds = {key: kind for key, kind in self._kinds.items() if key in kept}

    def _current(self, kind: Kind) -> bool:
        try:
            return self._premises.kind(kind.options).key == kind.key
        except BackendError:
            return False

    async def _look_at_grounds(self) -> None:
        for key in {spare.kind.key for spare in self._spares.values()}:
            kind = self._kinds.get(key)
            if kind is None:
                continue
            found = await self._premises.ground(kind)
            now = self._clock.monotonic()
            seen, since = self._grounds.get(key, (found, float("-inf")))
            since = since if seen == found else now
            self._grounds[key] = (found, since)
            for spare in list(self._spares.values()):
                stale = spare.kind.key == key and spare.record.ground != found
                if stale and spare.ready and now - since >= QUIET_S:
                    del self._spares[spare.record.id]
                    self._end_soon(spare, "what it was started with has changed")
        self._grounds = {key: known for key, known in self._grounds.items() if key in self._kinds}

    def _held(self) -> list[Held]:
        now = self._clock.monotonic()
        return [spare.held(now) for spare in self._spares.values()]

    # --- one of them --------------------------------------------------------------------------------------

    def _start_one(self, place: Callable[[], Awaitable[PlaceLike]]) -> None:
        """One start at a time waits for its place; which kind it is for is seen when it has one."""
        if not self._starting and not self._ending and self._next() is not None:
            self._starting = True
            self._do(self._start(place))

    def _next(self) -> Key | None:
        return self._stock.next_start(self._held(), self._clock.monotonic())

    async def _start(self, place: Callable[[], Awaitable[PlaceLike]]) -> None:
        given: PlaceLike | None = None
        waiting = True
        try:
            given = await place()
            key = None if self._ending else self._next()
            kind = self._kinds.get(key) if key is not None else None
            if kind is None or not self._current(kind):
                self._looked_at = float("-inf")  # it is another one by now
                return
            self._stock.begun(self._clock.monotonic())
            record = new_spare(kind)
            spare = Spare(record, kind, self._premises.folder / record.id, self._clock.monotonic())
            self._spares[spare.record.id] = spare
            waiting = self._starting = False
            self._wake.set()
            try:
                await self._premises.start(spare, *self._hears(spare))
            except (BackendError, TmuxError, OSError) as e:
                self._lost(spare, str(e))
                return
            await spare.decided.wait()
        finally:
            if waiting:
                self._starting = False
            if given is not None:
                given.leave()
            self._wake.set()

    def _hears(self, spare: Spare) -> tuple[Callable[[], None], Callable[[str], None]]:
        return lambda: self._ready(spare), lambda why: self._lost(spare, why)

    def _ready(self, spare: Spare) -> None:
        if spare.ready_at is None:
            spare.ready_at = self._clock.monotonic()
            spare.measure()
            spare.decided.set()
            self._wake.set()

    def _lost(self, spare: Spare, why: str) -> None:
        """It could not be started, or has ended by itself. Who takes it meanwhile sees that."""
        if self._spares.pop(spare.record.id, None) is not None:
            lived_s = self._clock.monotonic() - spare.ready_at if spare.ready_at is not None else 0.0
            if lived_s < STEADY_S:
                self._failed(spare, why)
            self._end_soon(spare, why)
        spare.decided.set()

    def _failed(self, spare: Spare, why: str) -> None:
        delay = self._stock.failed(spare.kind.key, self._clock.monotonic())
        self._problem = why
        log.warning("a spare failed", spare=spare.record.id, why=why, next_in_s=delay)

    def _end_soon(self, spare: Spare, why: str) -> None:
        log.info("ended a spare", spare=spare.record.id, why=why)
        spare.let_go()
        if self._group is None:
            return  # the next one to run finds it
        self._ending.add(spare.record.id)
        self._do(self._end(spare))

    async def _end(self, spare: Spare) -> None:
        try:
            await self._premises.end(spare.record, spare.pane, spare.folder)
        finally:
            self._ending.discard(spare.record.id)
            self._wake.set()

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        assert self._group is not None
        self._group.create_task(work)

    # --- what there is to see -------------------------------------------------------------------------------

    def figures(self) -> dict[str, float]:
        """Counted since the bridge started; empty where no spares are kept."""
        if not self._config.high:
            return {}
        ready = sum(spare.ready for spare in self._spares.values())
        return {
            "ready": ready,
            "starting": len(self._spares) - ready,
            "taken": self.taken,
            "missed": self.missed,
            "claims_s": self._claims_s,
            "memory_bytes": round(sum(spare.memory_mb or 0.0 for spare in self._spares.values()) * 1024**2),
        }

    def describe(self) -> dict[str, Any]:
        """For the supervision tree."""
        if not self._config.high:
            return {}
        failing = any(self._stock.failures(key) for key in self._stock.kept)
        said = self.figures()
        return {name: said[name] for name in ("ready", "starting", "taken", "missed")} | {
            "memory_mb": round(said["memory_bytes"] / 1024**2, 1),
            "failing": self._problem if failing else None,
            "no_default": self._no_default,
            "children": [spare.describe() for spare in self._spares.values()],
        }


def _list(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if path.is_dir()]
    except OSError:
        return []
