"""Kills the bridge at a chosen step of what it does, seen from outside: no hook in it, no debugger.

Every step leaves a trace: a write to the journal, a line in the CLI's pipe, a line of its output. Who counts
the traces of one prompt and kills at the nth has been at every boundary, once n has run from the first to the
last. What a stopped process holds up can be held up for as long as it takes.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import random
import signal
import struct
import termios
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from inotify_simple import INotify, flags

from bridge.client import ConnectionLost, connect
from bridge.drill.askers import submit
from bridge.drill.ledger import Record, effects
from bridge.drill.prompts import Prompt, Writer
from bridge.drill.watcher import AGAIN_S, View, Watcher
from bridge.errors import BridgeUnreachable
from tests.fakes.bridge import BridgeProcess
from tests.fakes.held import held

Json = dict[str, Any]

QUIET_S = 1.5
"""A prompt that has left no trace for so long is over: then the bridge is killed all the same."""
WAIT_S = 60.0


class Trap:
    """Kills the bridge at the nth write to its journal or to a session's files."""

    def __init__(self, bridge: BridgeProcess, name: str, nth: int, *, files: bool = True) -> None:
        """Without `files` the writes to the journal alone are counted."""
        self._news = INotify()
        self._bridge = bridge
        self._nth = nth
        self.sprung = False
        """At the nth write, not because there were too few."""
        self._news.add_watch(bridge.state_dir / "journal.db-wal", flags.MODIFY)
        for path in (bridge.state_dir / "sessions" / name).glob("*/out.ndjson") if files else ():
            self._news.add_watch(path, flags.MODIFY)
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        seen = 0
        while seen < self._nth:
            events = self._news.read(timeout=int(QUIET_S * 1000))
            if not events:
                break
            seen += len(events)
        self.sprung = seen >= self._nth
        assert self._bridge.process is not None
        os.kill(self._bridge.process.pid, signal.SIGKILL)

    async def closed(self) -> None:
        """The bridge is dead, and another one answers."""
        await asyncio.to_thread(self._thread.join)
        self._news.close()
        await reborn(self._bridge)


async def reborn(bridge: BridgeProcess) -> None:
    await asyncio.to_thread(bridge.kill)
    await asyncio.to_thread(bridge.start)


class Scene:
    """One session, a watcher of it, and who talks to it."""

    def __init__(self, bridge: BridgeProcess, name: str, watcher: Watcher, seed: int) -> None:
        self.bridge = bridge
        self.name = name
        self.watcher = watcher
        self.record = Record(bridge.simulator.port)
        self.prompts: list[Prompt] = []
        self._writer = Writer(name, "a", bridge.home / "effects", random.Random(seed))

    def prompt(self, kind: str) -> Prompt:
        key = f"{self.name}-{len(self.prompts):03d};"
        self.prompts.append(self._writer.of(kind, key))
        return self.prompts[-1]

    def said(self, text: str, answer: str, key: str) -> Prompt:
        self.prompts.append(Prompt(key, text, answer, "said"))
        return self.prompts[-1]

    async def accepted(self, prompt: Prompt) -> None:
        """Submit until it is."""
        while True:
            try:
                async with connect(self.watcher.address) as connection:
                    await connection.join(self.watcher.topic, {"turns": 0})
                    await submit(connection, self.watcher.topic, prompt)
                    return
            except (ConnectionLost, BridgeUnreachable):
                await asyncio.sleep(AGAIN_S)

    async def answered(self, prompt: Prompt) -> View:
        """Accepted, and its turn's end, which is as it should be."""
        await self.accepted(prompt)
        assert prompt.turn is not None
        view = await self.watcher.finished(prompt.turn)
        assert (view.status, view.text) == ("completed", prompt.answer), f"{prompt.key}: {view}"
        return view

    async def asked(self) -> dict[str, int]:
        """How often the model was asked, of the prompts that it was not asked exactly once."""
        await self.record.collect()
        counts = {p.key: self.record.count(p.key) for p in self.prompts}
        return {key: count for key, count in counts.items() if count != 1}

    def tools_run(self) -> dict[str, int]:
        """The same of tool calls."""
        ran = effects(self.bridge.home / "effects")
        return {p.key: ran[p.key] for p in self.prompts if p.kind == "tool" and ran[p.key] != 1}

    # --- holding it up ----------------------------------------------------------------------------------

    @property
    def folder(self) -> Path:
        """The running process's files."""
        kept = (self.bridge.state_dir / "sessions" / self.name).iterdir()
        return max((path for path in kept if path.is_dir()), key=lambda path: int(path.name))

    @property
    def cli(self) -> int:
        return self.bridge.cli_pid(self.name)

    async def at_rest(self) -> None:
        """Until the bridge that answers has its process in hand, and nothing to do."""
        w = self.watcher
        await w.until(lambda: w.connected and w.session["state"] == "idle", "rest")

    @contextmanager
    def stopped_cli(self) -> Iterator[None]:
        """It reads nothing and says nothing, until the end."""
        with held(self.cli):
            yield

    async def in_pipe(self, at_least: int) -> int:
        """Until so many bytes wait in the CLI's pipe; opened for both directions, and nothing is read."""
        fd = os.open(self.folder / "in.fifo", os.O_RDWR | os.O_NONBLOCK)
        try:
            async with asyncio.timeout(WAIT_S):
                while True:
                    (waiting,) = struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, b"\0" * 4))
                    if waiting >= at_least:
                        return int(waiting)
                    await asyncio.sleep(0.005)
        finally:
            os.close(fd)

    def said_so_far(self) -> bytes:
        return (self.folder / "out.ndjson").read_bytes()

    async def until_said(self, text: bytes, after: int = 0) -> None:
        """Until the CLI has said this, whether or not a bridge reads it."""
        with INotify() as news:
            news.add_watch(self.folder / "out.ndjson", flags.MODIFY)
            while text not in self.said_so_far()[after:]:
                said = await asyncio.to_thread(news.read, int(WAIT_S * 1000))
                assert said, f"the CLI does not say {text!r}"


@asynccontextmanager
async def scene(
    bridge: BridgeProcess, seed: int, name: str = "main", *, answers: bool = True
) -> AsyncIterator[Scene]:
    watcher = Watcher(bridge.address, name, answers=answers, start={})
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(watcher.run())
        await watcher.until(lambda: watcher.session.get("state") == "idle", "idle")
        yield Scene(bridge, name, watcher, seed)
        watching.cancel()


async def pushed(bridge: BridgeProcess, topic: str, event: str, payload: Json) -> Json | None:
    """One push of whoever does not mind that the bridge dies of it: None then."""
    try:
        async with connect(bridge.address) as connection:
            await connection.join(topic, {})
            return await connection.push(topic, event, payload)
    except (ConnectionLost, BridgeUnreachable):
        return None


async def insisted(bridge: BridgeProcess, topic: str, event: str, payload: Json) -> Json:
    """The same until there is an answer."""
    while True:
        reply = await pushed(bridge, topic, event, payload)
        if reply is not None:
            return reply
        await asyncio.sleep(AGAIN_S)


async def listed(bridge: BridgeProcess) -> dict[str, Json]:
    """The sessions of a bridge that answers, by name."""
    async with connect(bridge.address) as connection:
        sessions: list[Json] = (await connection.join("sessions", {}))["sessions"]
    return {s["name"]: s for s in sessions}
