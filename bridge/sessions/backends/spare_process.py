"""One process that waits: started, held, found again and ended. How many there are to be, and who gets one,
is `spares`' concern.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import structlog

from bridge.clock import Clock, local_day
from bridge.commands import StartOptions
from bridge.config import ClaudeConfig
from bridge.errors import BackendError, TmuxError
from bridge.sessions.backends.base import Batch
from bridge.sessions.backends.ground import ground
from bridge.sessions.backends.kept import config_folder
from bridge.sessions.backends.leftovers import Leftovers, made_mark
from bridge.sessions.backends.link import Link, exit_reason
from bridge.sessions.backends.memory import resident_mib
from bridge.sessions.backends.process import Process, end_stranger
from bridge.sessions.backends.spare import (
    PREFIX,
    RECORD,
    Kind,
    SpareRecord,
    half_taken,
    is_spare,
    kind_of,
    make_folder,
    planned,
    remove_folder,
    written,
)
from bridge.sessions.backends.stock import Held
from bridge.sessions.backends.tail import FileWatch
from bridge.sessions.claude.launch import LAUNCHER, environment
from bridge.sessions.tmux import GENERATION, OWNER, Pane, Tmux, state_id
from bridge.signals import ProcessExited, ProcessReady

log = structlog.get_logger(__name__)


@dataclass
class Spare:
    record: SpareRecord
    kind: Kind
    folder: Path
    began: float
    """When it was started, monotonic; of an adopted one by the age of its process."""
    pane: Pane | None = None
    link: Link | None = None
    ready_at: float | None = None
    memory_mb: float | None = None
    decided: asyncio.Event = field(default_factory=asyncio.Event)
    """It is ready, or never will be."""

    @property
    def ready(self) -> bool:
        return self.ready_at is not None

    @property
    def pid(self) -> int | None:
        return self.pane.pid if self.pane is not None else None

    def measure(self) -> None:
        if self.pane is not None and (taken := resident_mib(self.pane.pid)) is not None:
            self.memory_mb = taken

    def held(self, now: float) -> Held:
        return Held(self.record.id, self.kind.key, now - self.began, self.ready, self.memory_mb)

    def let_go(self) -> None:
        """The process is not touched."""
        if self.link is not None:
            self.link.close()

    def describe(self) -> dict[str, Any]:
        """For the supervision tree."""
        return {
            "id": f"spare:{self.record.id}",
            "kind": "spare",
            "state": "ready" if self.ready else "starting",
            "pid": self.pid,
            "memory_mb": round(self.memory_mb, 1) if self.memory_mb is not None else None,
            "cwd": self.kind.options.cwd,
            "model": self.kind.options.model,
            "children": [],
        }


@dataclass(frozen=True)
class Premises:
    """What the spares of one bridge share."""

    state_dir: Path
    tmux: Tmux
    watch: FileWatch
    claude: ClaudeConfig
    environ: Mapping[str, str]
    """The bridge's own environment."""
    clock: Clock

    @property
    def folder(self) -> Path:
        return self.state_dir / "spares"

    @cached_property
    def leftovers(self) -> Leftovers:
        return Leftovers(self.state_dir)

    @cached_property
    def _config_dir(self) -> Path:
        return config_folder(environment(self.claude, self.environ))

    def kind(self, options: StartOptions) -> Kind:
        """Raises `BackendError` where there is no CLI."""
        return kind_of(options, self.claude, self.environ)

    async def ground(self, kind: Kind) -> str:
        """What a process of this kind would read if it were started now."""
        day = local_day(self.clock.now())
        return await asyncio.to_thread(ground, Path(kind.options.cwd or "/"), self._config_dir, day)

    async def panes(self) -> dict[str, Pane]:
        """Of all spares, by their ids. Raises `TmuxError` where tmux cannot say."""
        owner = state_id(self.state_dir)
        panes = [pane for pane in await self.tmux.panes() if is_spare(pane, owner)]
        return {pane.session.removeprefix(PREFIX): pane for pane in panes}

    async def half_taken(self, pane: Pane) -> bool:
        """A session's folder has it; its session ends it."""
        return await asyncio.to_thread(half_taken, self.state_dir, pane) is not None

    async def settle(self) -> None:
        """Finish what a bridge was killed in: a spare whose folder is a session's becomes that session's in
        tmux as well. To be done before anybody looks for sessions' processes."""
        try:
            for id, pane in (await self.panes()).items():
                if (self.folder / id).is_dir():
                    continue
                found = await asyncio.to_thread(half_taken, self.state_dir, pane)
                if found is not None:
                    name, generation = f"claude_{found.name}", {GENERATION: str(found.generation)}
                    await self.tmux.rename(pane.session, name, generation)
                    log.info("finished taking a spare", spare=id, session=found.name)
        except TmuxError as e:
            log.warning("could not look for spares that were being taken", error=str(e))

    async def start(self, spare: Spare, ready: Callable[[], None], lost: Callable[[str], None]) -> None:
        """Raises `BackendError`, `TmuxError`, `OSError`."""
        spare.record = replace(spare.record, ground=await self.ground(spare.kind))
        record, kind = spare.record, spare.kind
        made = planned(
            kind.options,
            record.conversation,
            spare.folder,
            kind.claude,
            self.claude,
            self.environ,
            made_mark(self.state_dir, record.marked),
        )
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        await asyncio.to_thread(make_folder, spare.folder, {**made.files, RECORD: written(record)})
        command = ("/bin/sh", str(spare.folder / LAUNCHER))
        owner = {OWNER: state_id(self.state_dir)}
        spare.pane = await self.tmux.new_session(record.session, command, owner)
        if not self.hold(spare, ready, lost):
            raise BackendError(exit_reason(spare.folder, spare.pane.exit_code))
        log.info("started a spare", spare=record.id, pid=spare.pane.pid)

    def hold(self, spare: Spare, ready: Callable[[], None], lost: Callable[[str], None]) -> bool:
        """Hear of it: that it is `ready`, or `lost` and why. False where its process has ended, or cannot be
        spoken to."""
        pane = spare.pane
        process = Process.open(pane.pid, pane.server_pid) if pane is not None and not pane.dead else None
        if pane is None or process is None:
            return False

        def hears(batch: Batch) -> None:
            for signal in batch.signals:
                if isinstance(signal, ProcessReady):
                    ready()
                elif isinstance(signal, ProcessExited):
                    lost(signal.reason or "it ended")

        try:
            link = Link(0, spare.folder, process, hears, self.watch, tty=pane.tty)
        except BackendError:
            process.close()
            return False
        session = pane.session
        link.open(lambda: self.tmux.panes_now(session), self.claude.start_timeout_s)
        spare.link = link
        return True

    async def end(self, record: SpareRecord | None, pane: Pane | None, folder: Path) -> None:
        """By request, then by force; what it left running with it. Nothing that fails holds anything up."""
        share = self.claude.stop_timeout_s / 3
        try:
            if pane is not None:
                process = None if pane.dead else Process.open(pane.pid, pane.server_pid)
                if process is not None:
                    await end_stranger(process, share)
                await self.tmux.kill_session(pane.session)
            if record is not None:
                await self.leftovers.end(record.marked, share)
            await asyncio.to_thread(remove_folder, folder)
        except (BackendError, TmuxError, OSError) as e:
            log.warning("could not end a spare", folder=folder.name, error=str(e))
