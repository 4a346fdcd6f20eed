"""The bridge is killed again and again under load; afterwards everything has to be there once."""

from __future__ import annotations

import asyncio
import random
import select
import subprocess
import time
from dataclasses import dataclass, field
from typing import Any

from bridge.client import connect
from bridge.locate import Address
from tests.fakes.bridge import END_S, ROOT, BridgeProcess
from tests.fakes.phoenix_js import Clients, JsChannel
from tests.soak.askers import Asker, Caller
from tests.soak.ledger import Record, assert_kept, effects, history
from tests.soak.prompts import Prompt, Writer
from tests.soak.watcher import Watcher

Json = dict[str, Any]

YOUNG = 0.25
"""The share of lives that may end before the bridge answers for the first time."""
BEGINNING_S = 1.5
LIFE_S = 2.0
"""Of a bridge that answers: long enough for its clients to be back at work."""


@dataclass
class Figures:
    rounds: int = 0
    before_answering: int = 0
    prompts: int = 0
    submits: int = 0
    tools: int = 0
    joins: int = 0
    recovered: int = 0
    events: int = 0
    callers: int = 0
    back_s: list[float] = field(default_factory=list)


def address_of(bridge: BridgeProcess) -> Address:
    return Address(f"http://127.0.0.1:{bridge.port}", bridge.token)


def spawn(bridge: BridgeProcess) -> None:
    """Begin to start it, and do not wait until it answers."""
    with bridge.log.open("ab") as log:
        bridge.process = subprocess.Popen(
            bridge.command("serve", "--simulate", "--port", str(bridge.port)),
            cwd=ROOT,
            env=bridge.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
        )


def answers_within(bridge: BridgeProcess, seconds: float) -> bool:
    """Whether it has greeted, or does so in this time."""
    assert bridge.process is not None
    assert bridge.process.stdout is not None
    return bool(select.select([bridge.process.stdout], [], [], seconds)[0])


def live(bridge: BridgeProcess, chance: random.Random, *, greeted: bool) -> bool:
    """Let it live for a time, then kill it; whether it had come to answer."""
    assert bridge.process is not None
    if chance.random() < YOUNG:
        seconds = chance.uniform(0, BEGINNING_S)
    else:
        assert greeted or answers_within(bridge, END_S), bridge.tail()
        seconds = chance.uniform(0, LIFE_S)
    try:
        bridge.process.wait(seconds)
    except subprocess.TimeoutExpired:
        answered = greeted or answers_within(bridge, 0)
        bridge.kill()
        return answered
    raise AssertionError(f"the bridge ended by itself:\n{bridge.tail()}")


class Crowd:
    """Some sessions of one bridge, each with clients of every kind."""

    def __init__(self, bridge: BridgeProcess, names: list[str], seed: int, clients: Clients) -> None:
        self.address = address_of(bridge)
        self.bridge = bridge
        self.record = Record(bridge.state_dir)
        self.effects = bridge.home / "effects"
        self.watchers = {n: Watcher(self.address, n, answers=True, start={}) for n in names}
        self.writers: dict[str, list[Writer]] = {}
        self.askers: list[Asker | Caller] = []
        for place, name in enumerate(names):
            asking = Writer(name, "a", self.effects, random.Random(f"{seed} {name}"))
            self.askers.append(Asker(self.address, asking, self.watchers[name]))
            self.writers[name] = [asking]
            if place % 2:
                calling = Writer(name, "c", self.effects, random.Random(f"{seed} {name} c"))
                self.askers.append(Caller(self.address, calling))
                self.writers[name].append(calling)
        self._clients = clients
        self.js: list[JsChannel] = []

    def join_js(self) -> None:
        """The official client looks on at each session, and comes back by itself."""
        for watcher in self.watchers.values():
            socket = self._clients.connect(self.bridge.url, self.bridge.token)
            self.js.append(socket.join(watcher.topic, {"turns": 0}, resume=True))

    def prompts(self, name: str) -> list[Prompt]:
        """Those of one session; every one of them was accepted, or is asked until it is."""
        return [p for writer in self.writers[name] for p in writer.made]

    async def settled(self) -> None:
        """Until every prompt that was accepted has been answered."""
        for name, watcher in self.watchers.items():
            for prompt in self.prompts(name):
                assert prompt.turn is not None, f"{prompt.key} was never accepted"
                await watcher.finished(prompt.turn)
            await watcher.until(lambda w=watcher: w.session["state"] == "idle", "idle")  # type: ignore[misc]

    async def assert_nothing_lost(self, figures: Figures) -> None:
        self.record.collect()
        for name, watcher in self.watchers.items():
            prompts = self.prompts(name)
            async with connect(self.address) as connection:
                await connection.join(watcher.topic, {"turns": 0})
                assert_kept([w.made for w in self.writers[name]], await history(connection, watcher.topic))
            assert {p.turn for p in prompts} == set(watcher.turns)
            asked = {p.key: self.record.count(p.key) for p in prompts if self.record.count(p.key) != 1}
            assert asked == {}, f"prompts that were not asked exactly once: {asked}"
            tools = [p.key for p in prompts if p.kind == "tool"]
            assert {k: effects(self.effects)[k] for k in tools} == dict.fromkeys(tools, 1)
            assert watcher.session["restarts"] == 0
            figures.prompts += len(prompts)
            figures.submits += sum(p.asked for p in prompts)
            figures.tools += len(tools)
            figures.joins += watcher.joins
            figures.recovered += watcher.recovered
            figures.events += watcher.events
        figures.callers += sum(c.calls for c in self.askers if isinstance(c, Caller))


async def bridge_kills(
    bridge: BridgeProcess, clients: Clients, *, seed: int, rounds: int, sessions: int
) -> Figures:
    """`rounds` lives of the bridge, each ended at a random moment, under load from the first to the last."""
    chance = random.Random(seed)
    crowd = Crowd(bridge, [f"s{n}" for n in range(sessions)], seed, clients)
    figures = Figures()
    enough = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        watching = [group.create_task(w.run()) for w in crowd.watchers.values()]
        watching.append(group.create_task(crowd.record.keep()))
        for watcher in crowd.watchers.values():
            await watcher.until(lambda w=watcher: w.connected, "a first join")  # type: ignore[misc]
        await asyncio.to_thread(crowd.join_js)
        asking = [group.create_task(a.run(enough)) for a in crowd.askers]
        for n in range(rounds):
            figures.rounds += 1
            answered = await asyncio.to_thread(live, bridge, chance, greeted=n == 0)
            figures.before_answering += not answered
            await asyncio.to_thread(spawn, bridge)
        begun = time.monotonic()
        assert await asyncio.to_thread(answers_within, bridge, END_S), bridge.tail()
        figures.back_s.append(time.monotonic() - begun)
        enough.set()
        await asyncio.gather(*asking)
        await crowd.settled()
        await crowd.assert_nothing_lost(figures)
        for task in watching:
            task.cancel()
    return figures
