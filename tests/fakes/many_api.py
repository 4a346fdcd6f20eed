"""Many api sessions on one bridge that stream at once, each with a client that checks every number."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bridge.client import Connection, connect
from bridge.locate import Address
from bridge.simulator.script import scripted, words

PATIENCE_S = 600.0


def rss_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:")) / 1024


@dataclass
class Streams:
    """`count` sessions, joined over one connection."""

    connection: Connection
    topics: list[str]

    async def ask(self, count: int, gap_ms: int) -> tuple[int, int]:
        """A prompt to each, one after the other; the number of deltas, and how many sessions streamed at the
        same moment at most. Every reply is checked to the letter."""
        prompt = f"count {scripted(words=count, gap_ms=gap_ms)}"
        for topic in self.topics:
            await self.connection.push(topic, "submit", {"prompt": prompt})
        texts: dict[str, list[str]] = {topic: [] for topic in self.topics}
        streaming: set[str] = set()
        most = deltas = 0
        left = set(self.topics)
        async with asyncio.timeout(PATIENCE_S):
            while left:
                message = await self.connection.receive()
                if message.event == "delta":
                    deltas += 1
                    texts[message.topic].append(message.payload["text"])
                    streaming.add(message.topic)
                    most = max(most, len(streaming))
                elif message.event == "turn_finished":
                    assert message.payload["status"] == "completed", message.payload
                    assert "".join(texts[message.topic]) == words(count)
                    streaming.discard(message.topic)
                    left.discard(message.topic)
        return deltas, most


@asynccontextmanager
async def many(address: Address, count: int) -> AsyncIterator[Streams]:
    topics = [f"session:many-{n}" for n in range(count)]
    async with connect(address) as connection:
        for topic in topics:
            await connection.join(topic, {"start": {"backend": "api"}, "turns": 0})
        yield Streams(connection, topics)
