"""The CLIs are killed again and again under load; what had begun ends as `unknown`, all else is answered."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from bridge.client import connect
from tests.fakes.bridge import BridgeProcess
from tests.soak.askers import Asker
from tests.soak.bridge_kills import address_of, answers_within, spawn
from tests.soak.ledger import Record, effects, history
from tests.soak.prompts import Prompt, Writer
from tests.soak.watcher import Watcher

Json = dict[str, Any]

MANY_RESTARTS = {
    "CLAUDE_BRIDGE_SESSIONS__RESTART_LIMIT": "1000",
    "CLAUDE_BRIDGE_SESSIONS__RESTART_WINDOW_S": "60",
}
"""For a bridge whose sessions are to come back however often their processes are killed."""

KINDS = ("plain", "counting", "counting", "thinking", "late", "late", "tool")
YOUNG = 0.3
"""The share of processes that are killed before they can have become ready."""
LOOK_AGAIN_S = 0.005


@dataclass
class Figures:
    kills: int = 0
    young: int = 0
    bridge_kills: int = 0
    prompts: int = 0
    completed: int = 0
    unknown: int = 0
    without_a_word: int = 0
    """Unknown turns in which Claude had said nothing that a client saw."""
    asked_again: int = 0
    tools_run: int = 0
    restarts: list[int] = field(default_factory=list)
    forgotten: int = 0
    """Completed turns that the resumed conversation does not have."""


@dataclass
class Victim:
    """One session and what was done to it."""

    watcher: Watcher
    writer: Writer
    killed: list[int] = field(default_factory=list)
    suffered: Counter[str] = field(default_factory=Counter)
    """Kills while a turn was open, by turn."""


async def next_process(bridge: BridgeProcess, victim: Victim) -> int:
    """The session's process, as soon as there is one that was not killed yet."""
    while True:
        said = await asyncio.to_thread(
            bridge.tmux,
            *("list-panes", "-t", f"=claude_{victim.watcher.name}:", "-F", "#{pane_pid} #{pane_dead}"),
        )
        pid, _, dead = said.stdout.strip().partition(" ")
        if pid and dead == "0" and int(pid) not in victim.killed:
            return int(pid)
        await asyncio.sleep(LOOK_AGAIN_S)


async def kill(bridge: BridgeProcess, victim: Victim, chance: random.Random, figures: Figures) -> None:
    watcher = victim.watcher
    pid = await next_process(bridge, victim)
    if chance.random() < YOUNG:
        figures.young += 1
        await asyncio.sleep(chance.uniform(0, 0.8))  # the random moment, not a wait for something
    else:
        restarts = len(victim.killed)

        def ready() -> bool:
            s = watcher.session
            return s["restarts"] >= restarts and s["state"] in ("busy", "waiting", "idle")

        await watcher.until(ready, f"the process after restart no. {restarts}")
        await asyncio.sleep(chance.uniform(0, 1.2))
    for turn in watcher.unfinished:
        victim.suffered[turn] += 1
    victim.killed.append(pid)
    os.kill(pid, signal.SIGKILL)
    figures.kills += 1


async def cli_kills(
    bridge: BridgeProcess, *, seed: int, rounds: int, sessions: int, with_bridge: bool = False
) -> Figures:
    """`rounds` kills of the sessions' processes in turn, under load; in every third the bridge as well."""
    chance = random.Random(seed)
    address, record, figures = address_of(bridge), Record(bridge.state_dir), Figures()
    path = bridge.home / "effects"
    victims = [
        Victim(
            Watcher(address, f"s{n}", answers=True, start={}),
            Writer(f"s{n}", "a", path, random.Random(f"{seed} {n}"), KINDS),
        )
        for n in range(sessions)
    ]
    enough = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        watching = [group.create_task(v.watcher.run()) for v in victims]
        for v in victims:
            await v.watcher.until(lambda v=v: v.watcher.connected, "a first join")  # type: ignore[misc]
        asking = [group.create_task(Asker(address, v.writer, v.watcher).run(enough)) for v in victims]
        for n in range(rounds):
            await kill(bridge, victims[n % sessions], chance, figures)
            if with_bridge and n % 3 == 2:
                await asyncio.sleep(chance.uniform(0, 0.3))
                await asyncio.to_thread(bridge.kill)
                await asyncio.to_thread(spawn, bridge)
                assert await asyncio.to_thread(answers_within, bridge, 60), bridge.tail()
                figures.bridge_kills += 1
            await asyncio.to_thread(record.collect)
        enough.set()
        await asyncio.gather(*asking)
        for v in victims:
            for prompt in v.writer.made:
                assert prompt.turn is not None
                await v.watcher.finished(prompt.turn)
            await v.watcher.until(lambda v=v: v.watcher.session["state"] == "idle", "idle")  # type: ignore[misc]
        record.collect()
        for v in victims:
            async with connect(address) as connection:
                await connection.join(v.watcher.topic, {"turns": 0})
                turns = await history(connection, v.watcher.topic)
            judge(v, turns, record, effects(path), figures)
            figures.forgotten += forgotten(bridge, v, turns)
        for task in watching:
            task.cancel()
    return figures


def judge(v: Victim, turns: list[Json], record: Record, done: Counter[str], figures: Figures) -> None:
    """What each turn may have become, given when its process was killed."""
    prompts = {p.turn: p for p in v.writer.made}
    accepted = [p.turn for p in v.writer.made]
    strange = [t for t in turns if t["id"] not in accepted]
    assert strange == [], f"turns that nobody asked for: {strange}"
    assert [t["id"] for t in turns] == accepted, "lost, or out of order"
    for turn in turns:
        prompt, kills = prompts[turn["id"]], v.suffered[turn["id"]]
        asked, ran = record.count(prompt.key), done[prompt.key]
        what = f"{prompt.key} was {turn['status']}, asked {asked} times, killed {kills} times: {turn}"
        assert ran <= 1, f"a tool ran {ran} times: {what}"
        if turn["status"] == "completed":
            assert turn["text"] == prompt.answer, what
            assert 1 <= asked <= 1 + kills, what
            assert ran == (prompt.kind == "tool"), what
            figures.completed += 1
            figures.asked_again += asked > 1
        else:
            assert turn["status"] == "unknown", what
            assert kills, what
            assert asked <= kills, what
            assert prompt.answer.startswith(turn["text"]), what
            assert turn["error"]["code"] == "process_died", what
            figures.unknown += 1
            figures.without_a_word += not (turn["text"] or turn["blocks"])
        figures.prompts += 1
        figures.tools_run += ran
    conversations = {s["conversation"] for s in v.watcher.states if s["conversation"]}
    assert len(conversations) == 1, f"the conversation was not resumed: {conversations}"
    # A bridge killed between planning a restart and starting the process makes one of two.
    spare = v.watcher.session["restarts"] - len(v.killed)
    assert 0 <= spare <= figures.bridge_kills, f"{spare} restarts that nobody asked for"
    figures.restarts.append(v.watcher.session["restarts"])


def forgotten(bridge: BridgeProcess, v: Victim, turns: list[Json]) -> int:
    """How many completed turns the conversation lacks, as the model was last told it."""
    told = str(next(r for r in reversed(bridge.requests()) if v.writer.made[-1].key in str(r["messages"])))
    answered = {t["id"] for t in turns if t["status"] == "completed"}
    prompts: list[Prompt] = [p for p in v.writer.made if p.turn in answered]
    return sum(p.key not in told for p in prompts)
