"""The Phoenix server of the tests as a process of its own, told what to do by lines of JSON.

`python -m tests.fakes.crowd_server '{settings}'`. A load that shared its loop with the clients would measure
the clients. Each command is answered with one line; the loop's worst delay is measured all the time.
"""

from __future__ import annotations

import asyncio
import os
import resource
import sys
import time
from typing import Any

import orjson
import uvloop

from bridge.config import LogConfig
from bridge.events import BlockFinished, DeltaAdded, Epoch, Turn, TurnFinished, TurnId, TurnStarted, Usage
from bridge.log import set_up
from tests.fakes.phoenix import PhoenixServer

LOOK_S = 0.01
"""How often the loop is looked at."""


def delta_text(size: int) -> str:
    """Begins with the time, so that who hears it knows how long it took."""
    return f"{time.monotonic_ns():020d}".ljust(size, "x")


class CrowdServer:
    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.server = PhoenixServer(**settings)
        self.lag = 0.0
        self.turns = 0

    async def do(self, command: dict[str, Any]) -> dict[str, Any]:
        match command.pop("do"):
            case "start":
                for name in command["sessions"]:
                    await self.start(name)
                return {"port": self.server.port}
            case "restart":
                return await self.restart(**command)
            case "stream":
                return await self.stream(**command)
            case "measure":
                return self.measure()
        raise AssertionError("no such command")

    async def start(self, name: str) -> None:
        if not self.server.port:
            await self.server.start()
        self.server.service.add(name)

    async def restart(self, epoch: str) -> dict[str, Any]:
        """As the bridge does it: everybody is sent away, and finds it again at the same address."""
        port, sessions = self.server.port, self.server.service.sessions
        await self.server.stop()
        self.server = PhoenixServer(**self.settings)
        self.server.epoch = Epoch(epoch)
        await self.server.start(port)
        self.server.service.sessions = sessions
        return {}

    async def stream(
        self, session: str, deltas: int, per_tick: int, per_s: float, size: int
    ) -> dict[str, Any]:
        """One turn; `per_tick` deltas come at once, `per_s` of them in a second (0: as fast as they can)."""
        service, began, cpu = self.server.service, time.monotonic(), _cpu()
        self.turns += 1
        turn = TurnId(f"turn-{self.turns}")
        service.publish(session, TurnStarted(turn, "go on", "owner", "client"))
        texts: list[str] = []
        for n in range(0, deltas, per_tick):
            if per_s:
                await asyncio.sleep(began + n / per_s - time.monotonic())
            for _ in range(min(per_tick, deltas - n)):
                texts.append(delta_text(size))
                service.publish(session, DeltaAdded(turn, 0, "text", texts[-1]))
            await asyncio.sleep(0)
        text = "".join(texts)
        now = self.server.clock.now()
        done = Turn(turn, "go on", "owner", "client", "completed", now, text=text, finished_at=now)
        service.sessions[session].turns.append(done)
        service.publish(session, BlockFinished(turn, 0, "text", text))
        service.publish(session, TurnFinished(turn, "completed", text, None, Usage(1, deltas), 0.0, 5))
        return {"took": time.monotonic() - began, "cpu": _cpu() - cpu, "text": text}

    def measure(self) -> dict[str, Any]:
        """`lag` is the worst delay of the loop since the last time."""
        lag, self.lag = self.lag, 0.0
        assert self.server.runner.server is not None
        connections = len(self.server.runner.server.connections)
        return {"rss": _rss(), "cpu": _cpu(), "lag": lag, "connections": connections}

    async def watch(self) -> None:
        while True:
            due = time.monotonic() + LOOK_S
            await asyncio.sleep(LOOK_S)
            self.lag = max(self.lag, time.monotonic() - due)


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _rss() -> int:
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def serve() -> None:
    set_up(LogConfig(level="error"))
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    made = CrowdServer(orjson.loads(sys.argv[1]))
    async with asyncio.TaskGroup() as group:
        group.create_task(made.watch())
        while line := await reader.readline():
            said = await made.do(orjson.loads(line))
            sys.stdout.write(orjson.dumps(said).decode() + "\n")
            sys.stdout.flush()
        os._exit(0)  # its crowd need not be seen off


if __name__ == "__main__":
    uvloop.run(serve())
