"""What a bridge that lives for long must not do: grow."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.client import Connection, connect
from bridge.drill.watcher import Watcher
from bridge.simulator.script import words
from tests.fakes.bridge import BridgeProcess, running_bridge, sim
from tests.soak.boundaries import insisted

pytestmark = [pytest.mark.real, pytest.mark.soak]

MIB = 1024 * 1024
WARM = 0.3
"""The share of a run after which what is kept on purpose (rings, caches, SQLite's pages) is full."""
GROWTH_BYTES = 4 * MIB
"""What the allocator may do beside it: less than 3 KiB for each of the turns that are left."""
SETTLE_S = 10
LOOK_AGAIN_S = 0.01
SMALL_RING = {"CLAUDE_BRIDGE_HUB__RING_EVENTS": "1000", "CLAUDE_BRIDGE_SESSIONS__MAX_SESSIONS": "20"}


@pytest.fixture
def measured_bridge(tmp_path: Path) -> Iterator[BridgeProcess]:
    """One whose ring is full soon, so that its steady state is most of the run."""
    with running_bridge(tmp_path, **SMALL_RING) as running:
        yield running


def pid_of(bridge: BridgeProcess) -> int:
    assert bridge.process is not None
    return bridge.process.pid


def memory(pid: int) -> int:
    """Resident bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) * 1024


def descriptors(pid: int) -> dict[str, int]:
    """Open ones, by what they are."""
    found: dict[str, int] = {}
    for each in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(each.readlink())
        except FileNotFoundError:  # it was open a moment ago
            continue
        what = Path(target).name if "/" in target else re.sub(r":\[\d+\]", "", target)
        found[what] = found.get(what, 0) + 1
    return found


def watches(pid: int) -> int:
    """Files that the bridge has inotify look at."""
    infos = (each.read_text() for each in Path(f"/proc/{pid}/fdinfo").iterdir())
    return sum(info.count("inotify wd:") for info in infos)


async def test_two_thousand_turns_leave_no_trace_in_the_process(
    measured_bridge: BridgeProcess, rounds: Callable[[int], int], report: Callable[..., None]
) -> None:
    """Memory and descriptors after a third of them, and at the end."""
    bridge, pid = measured_bridge, pid_of(measured_bridge)
    watcher = Watcher(bridge.address, "main", start={})
    number = rounds(2000)
    curve: list[int] = []
    warm: dict[str, int] = {}
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(watcher.run())
        await watcher.until(lambda: watcher.session.get("state") == "idle", "idle")
        async with connect(watcher.address) as connection:
            await connection.join(watcher.topic, {"turns": 0})
            for n in range(number):
                await turn(connection, watcher, f"n{n}", f"You said: n{n}")
                if n % (number // 20) == 0:
                    curve.append(memory(pid))
                if n == int(number * WARM):
                    warm = descriptors(pid)
            curve.append(memory(pid))
            await again(pid, warm)
        watching.cancel()
    grown = curve[-1] - curve[int(len(curve) * WARM)]
    report(turns=number, memory_mib=[round(each / MIB, 1) for each in curve], grown_bytes=grown, fds=warm)
    assert grown < GROWTH_BYTES


async def again(pid: int, before: dict[str, int]) -> None:
    """Until no more is open than was before. The sockets of clients that left take a moment, at both ends."""
    try:
        async with asyncio.timeout(SETTLE_S):
            while True:
                if not more(pid, before):
                    return
                await asyncio.sleep(LOOK_AGAIN_S)
    except TimeoutError:
        assert not more(pid, before), "descriptors stay open"


def more(pid: int, before: dict[str, int]) -> dict[str, int]:
    """What is open beyond what was."""
    return {kind: n for kind, n in descriptors(pid).items() if n > before.get(kind, 0)}


async def turn(connection: Connection, watcher: Watcher, prompt: str, answer: str) -> None:
    made = (await connection.push(watcher.topic, "submit", {"prompt": prompt}))["turn"]
    view = await watcher.finished(made)
    assert (view.status, view.text) == ("completed", answer)


async def test_two_hundred_sessions_that_come_and_go_leave_nothing(
    measured_bridge: BridgeProcess, rounds: Callable[[int], int], report: Callable[..., None]
) -> None:
    """Started, in part used, and deleted, four at a time: no descriptor, watch, folder or memory stays."""
    bridge, pid = measured_bridge, pid_of(measured_bridge)
    number = rounds(200)
    curve: list[int] = []
    await come_and_go(bridge, number)
    before = descriptors(pid)
    for batch in range(0, number, 4):
        await asyncio.gather(*(come_and_go(bridge, n) for n in range(batch, min(batch + 4, number))))
        curve.append(memory(pid))
    await again(pid, before)
    assert watches(pid) == 0
    async with connect(bridge.address) as connection:
        assert (await connection.join("sessions", {}))["sessions"] == []
        tree: dict[str, Any] = await connection.push("sessions", "tree", {})
    assert "session:" not in str(tree)
    warm = int(len(curve) * WARM)
    grown = curve[-1] - curve[warm]
    report(cycles=number, memory_mib=[round(each / MIB, 1) for each in curve[:: max(1, len(curve) // 20)]])
    report(grown_bytes=grown, fds=before)
    assert bridge.tmux_sessions() == {"simulator"}
    assert list((bridge.state_dir / "sessions").iterdir()) == []
    assert grown < GROWTH_BYTES


async def come_and_go(bridge: BridgeProcess, n: int) -> None:
    name = f"s{n}"
    if n % 4 == 0:
        async with asyncio.TaskGroup() as group:
            watcher = Watcher(bridge.address, name, start={})
            watching = group.create_task(watcher.run())
            await watcher.until(lambda: watcher.connected, "a join")
            reply = await insisted(bridge, watcher.topic, "submit", {"prompt": "hello"})
            await watcher.finished(reply["turn"])
            watching.cancel()
    else:
        await insisted(bridge, "sessions", "start", {"name": name})
    await insisted(bridge, "sessions", "delete", {"name": name})


async def test_the_stream_file_does_not_grow_with_what_was_said(
    measured_bridge: BridgeProcess, rounds: Callable[[int], int], report: Callable[..., None]
) -> None:
    """What is in the journal is freed: the file takes little more room than one turn does."""
    bridge = measured_bridge
    watcher = Watcher(bridge.address, "main", start={})
    count = 5000
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(watcher.run())
        await watcher.until(lambda: watcher.session.get("state") == "idle", "idle")
        file = bridge.state_dir / "sessions" / "main" / "1" / "out.ndjson"
        blocks: list[int] = []
        looking = group.create_task(look(file, blocks))
        async with connect(watcher.address) as connection:
            await connection.join(watcher.topic, {"turns": 0})
            for n in range(rounds(30)):
                await turn(connection, watcher, f"n{n} {sim(words=count)}", words(count).rstrip())
        size = file.stat().st_size
        one, most = size // rounds(30), max(blocks) * 512
        looking.cancel()
        watching.cancel()
    report(turns=rounds(30), size_mib=round(size / MIB, 1), most_on_disk_mib=round(most / MIB, 1))
    assert most < one + 2 * MIB


async def look(file: Path, blocks: list[int]) -> None:
    """The room that a file takes, again and again, in the midst of turns as well."""
    while True:
        blocks.append(file.stat().st_blocks)
        await asyncio.sleep(LOOK_AGAIN_S)
