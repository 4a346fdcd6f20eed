"""The drill: sessions under load, rounds of kills, and the account at the end.

Every random choice of what is killed, when, and what is asked comes from one seed. What the machine makes of
it does not: a seed repeats the plan, not the moment.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from bridge.client import connect, finished_turns
from bridge.clock import SystemClock
from bridge.drill.account import Broken, Figures, Seen, judge
from bridge.drill.askers import Asker, Caller
from bridge.drill.ledger import Record, effects
from bridge.drill.prompts import NO_TOOLS, Prompt, Writer
from bridge.drill.relay import Relay, listening
from bridge.drill.stage import START_S, Stage, Upstream
from bridge.drill.watcher import Watcher
from bridge.locate import Address

Fault = Literal["bridge", "cli", "tmux", "clients"]
FAULTS: tuple[Fault, ...] = ("bridge", "cli", "tmux", "clients")

ALIVE = ("idle", "busy", "waiting")
LIFE_S = 3.0
"""A fault comes within so long after the last: enough for the clients to be back at work, and for a bridge to
have loaded what it asks the API with."""
HASTE = 0.25
"""The share of faults after which the next does not wait until all have recovered from this one."""
BEGINNING_S = 1.5
"""In haste it comes within so long: a bridge that starts does not answer yet, a process is not ready."""
LOOK_AGAIN_S = 0.005

NEVER_GIVE_UP = {
    "CLAUDE_BRIDGE_SESSIONS__RESTART_LIMIT": "1000",
    "CLAUDE_BRIDGE_SESSIONS__RESTART_WINDOW_S": "60",
}
"""For sessions that are to come back however often their processes are killed."""


@dataclass(frozen=True)
class Plan:
    seed: int
    rounds: int
    sessions: int
    """Of each backend."""
    backends: tuple[str, ...] = ("headless", "tmux", "api")
    faults: tuple[Fault, ...] = FAULTS
    """What a round may do; each is as likely as it stands here often."""
    patience_s: float = 90.0
    """For a turn to end, and for everybody to recover from a fault. What takes longer is lost."""


@dataclass
class Patient:
    """One session, who looks after it, and what was done to it."""

    backend: str
    watcher: Watcher
    askers: list[Asker | Caller]
    kills: list[float] = field(default_factory=list)
    """When what answers it was killed: its process, or the bridge where it has none."""
    killed: int | None = None
    """The process that was killed last."""

    @property
    def process(self) -> bool:
        return self.backend != "api"

    @property
    def clients(self) -> list[list[Prompt]]:
        return [a.writer.made for a in self.askers]


@dataclass(frozen=True)
class _Before:
    """How things stood at a fault, by session: what has to change until all have recovered from it."""

    epochs: Mapping[str, str]
    restarts: Mapping[str, int]
    joins: Mapping[str, int]


Tell = Callable[[int, Figures], None]
"""Gets the number of rounds that are over, and the figures so far."""


class Drill:
    """One drill on a stage that has been set up; `run` it once."""

    def __init__(self, plan: Plan, stage: Stage, record: Record, address: Address, relay: Relay) -> None:
        """`address` leads through the `relay`."""
        self.figures = Figures()
        self._plan = plan
        self._stage = stage
        self._record = record
        self._relay = relay
        self._chance = random.Random(plan.seed)  # noqa: S311 - what is random can be repeated
        self._clock = SystemClock()
        self._enough = asyncio.Event()
        self.patients = [
            self._patient(address, backend, number)
            for backend in plan.backends
            for number in range(plan.sessions)
        ]

    def _patient(self, address: Address, backend: str, number: int) -> Patient:
        name = f"{backend}-{number}"
        start = {"backend": backend}
        watcher = Watcher(address, name, answers=True, start=start, complain=self.figures.broken.append)

        def writer(who: str) -> Writer:
            seed = f"{self._plan.seed} {name} {who}"
            made = Writer(name, who, self._stage.home / "effects", random.Random(seed))  # noqa: S311
            return replace(made, kinds=NO_TOOLS) if backend == "api" else made

        askers: list[Asker | Caller] = [Asker(address, writer("a"), watcher)]
        if number % 2:
            askers.append(Caller(address, writer("c")))
        return Patient(backend, watcher, askers)

    async def run(self, tell: Tell) -> None:
        """All rounds, and the account. What was broken stands in the figures; only a defect of the drill
        itself is raised."""
        try:
            async with asyncio.TaskGroup() as group:
                watching = [group.create_task(p.watcher.run()) for p in self.patients]
                watching.append(group.create_task(self._record.keep()))
                for p in self.patients:
                    await p.watcher.until(lambda w=p.watcher: _alive(w), "a process", START_S)  # type: ignore[misc]
                asking = [group.create_task(a.run(self._enough)) for p in self.patients for a in p.askers]
                for number in range(self._plan.rounds):
                    await self._round(last=number == self._plan.rounds - 1)
                    tell(number + 1, self._counted())
                self._enough.set()
                await asyncio.gather(*asking)
                await self._settled()
                await self._account()
                for task in watching:
                    task.cancel()
        except* Broken as group_of_broken:
            self.figures.broken += [e for e in _leaves(group_of_broken) if isinstance(e, Broken)]

    # --- a round ----------------------------------------------------------------------------------------

    async def _round(self, *, last: bool) -> None:
        haste = self._chance.random() < HASTE and not last
        await asyncio.sleep(self._chance.uniform(0, LIFE_S))
        mortal = [p for p in self.patients if p.process]
        faults = [f for f in self._plan.faults if mortal or f not in ("cli", "tmux")]
        fault = self._chance.choice(faults)
        victim = self._chance.choice(mortal if fault == "cli" else self.patients)
        before = _Before(
            {p.watcher.name: p.watcher.epochs[-1] for p in self.patients},
            {p.watcher.name: p.watcher.session["restarts"] for p in self.patients},
            {p.watcher.name: p.watcher.joins for p in self.patients},
        )
        await self._strike(fault, victim)
        begun = time.monotonic()
        self.figures.kills[fault] += 1
        if haste:
            await asyncio.sleep(self._chance.uniform(0, BEGINNING_S))
            return
        for p in self.patients:
            if (fault != "cli" or p is victim) and (fault != "tmux" or p.process):
                await p.watcher.until(
                    lambda w=p.watcher: _recovered(fault, w, before),  # type: ignore[misc]
                    f"recovery from the loss of {fault}",
                    self._plan.patience_s,
                )
        self.figures.recovered_s.setdefault(fault, []).append(time.monotonic() - begun)

    async def _strike(self, fault: Fault, victim: Patient) -> None:
        stage = self._stage
        assert stage.process is not None
        if stage.process.poll() is not None:
            raise Broken("wrong", f"the bridge ended by itself:\n{stage.tail()}")
        match fault:
            case "bridge":
                for p in self.patients:
                    if not p.process:
                        p.kills.append(self._clock.now())
                await asyncio.to_thread(stage.kill)
                await asyncio.to_thread(stage.spawn)
            case "cli":
                pid = await self._next_process(victim)
                victim.kills.append(self._clock.now())
                victim.killed = pid
                os.kill(pid, signal.SIGKILL)
            case "tmux":
                server = await asyncio.to_thread(stage.tmux_pid)
                if server is not None:
                    now = self._clock.now()
                    for p in self.patients:
                        if p.process:
                            p.kills.append(now)
                    os.kill(server, signal.SIGKILL)
            case "clients":
                self._relay.cut()

    async def _next_process(self, victim: Patient) -> int:
        """Its process, as soon as there is one that was not killed yet."""
        deadline = time.monotonic() + self._plan.patience_s
        while time.monotonic() < deadline:
            pid = await asyncio.to_thread(self._stage.living_pid, victim.watcher.name)
            if pid is not None and pid != victim.killed:
                return pid
            await asyncio.sleep(LOOK_AGAIN_S)
        raise Broken("lost", f"{victim.watcher.name} has no process: {victim.watcher.session}")

    # --- the end ----------------------------------------------------------------------------------------

    async def _settled(self) -> None:
        """Until every prompt that was accepted has come to its end."""
        for p in self.patients:
            await p.watcher.until(lambda w=p.watcher: _alive(w), "a process", START_S)  # type: ignore[misc]
            for prompt in (prompt for made in p.clients for prompt in made):
                if prompt.turn is not None:
                    await p.watcher.finished(prompt.turn, self._plan.patience_s)
            await p.watcher.until(lambda w=p.watcher: w.session["state"] == "idle", "rest")  # type: ignore[misc]

    async def _account(self) -> None:
        await self._record.collect()
        ran = effects(self._stage.home / "effects")
        for p in self.patients:
            async with connect(self._stage.address) as connection:
                await connection.join(p.watcher.topic, {"turns": 0})
                turns = await finished_turns(connection, p.watcher.topic)
            keys = [prompt.key for made in p.clients for prompt in made]
            asked = {key: self._record.count(key) for key in keys}
            judge(Seen(p.watcher.name, p.backend, p.clients, asked, ran, p.kills), turns, self.figures)
        self._counted()

    def _counted(self) -> Figures:
        self.figures.joins = sum(p.watcher.joins for p in self.patients)
        self.figures.events = sum(p.watcher.events for p in self.patients)
        return self.figures


def _alive(watcher: Watcher) -> bool:
    return watcher.connected and watcher.session["state"] in ALIVE


def _recovered(fault: Fault, watcher: Watcher, before: _Before) -> bool:
    if not _alive(watcher):
        return False
    name = watcher.name
    match fault:
        case "bridge":
            return watcher.epochs[-1] != before.epochs[name]
        case "clients":
            return watcher.joins > before.joins[name]
        case "cli" | "tmux":
            return bool(watcher.session["restarts"] > before.restarts[name])


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    return [
        leaf for e in group.exceptions for leaf in (_leaves(e) if isinstance(e, BaseExceptionGroup) else [e])
    ]


@asynccontextmanager
async def prepared(plan: Plan, folder: Path, env: Mapping[str, str]) -> AsyncIterator[tuple[Drill, Stage]]:
    """A drill on a bridge and an upstream of its own in `folder`; afterwards nothing of them runs. `env` says
    where this machine's programs are. Raises `SetupError` where the bridge does not start."""
    upstream = await asyncio.to_thread(Upstream)
    try:
        settings = upstream.settings(folder / "state")
        stage = Stage(folder, {**env, **NEVER_GIVE_UP, **settings}, simulate=False)
        try:
            await asyncio.to_thread(stage.start)
            relay = Relay(stage.port)
            async with listening(relay):
                address = Address(f"http://127.0.0.1:{relay.port}", stage.token)
                yield Drill(plan, stage, Record(upstream.port), address, relay), stage
        finally:
            await asyncio.to_thread(stage.remove)
    finally:
        await asyncio.to_thread(upstream.end)
