"""Clients that keep a session busy, and never take silence for an answer: what was not acknowledged is
submitted again under the same id, over as many connections as it takes."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from bridge.client import Connection, ConnectionLost, Submission, connect, follow
from bridge.drill.account import Broken
from bridge.drill.prompts import Prompt, Writer
from bridge.drill.watcher import AGAIN_S, Watcher
from bridge.errors import BridgeUnreachable
from bridge.locate import Address, Look

Json = dict[str, Any]

AGAIN = 0.1
"""The share of prompts that are sent once more although they were acknowledged."""


class Asker:
    """Submits one prompt after another, over one connection as long as it holds; keeps the session's queue
    at most `depth` long."""

    def __init__(self, address: Address, writer: Writer, watcher: Watcher, depth: int = 3) -> None:
        self.writer = writer
        self._address = address
        self._watcher = watcher
        self._depth = depth
        self._pending: Prompt | None = None

    async def run(self, enough: asyncio.Event) -> None:
        """Until there is enough; then what was begun is brought to its acceptance."""
        while not enough.is_set() or self._pending is not None:
            try:
                async with connect(self._address) as connection:
                    await connection.join(self._watcher.topic, {"turns": 0})
                    await self._submit(connection, enough)
            except (ConnectionLost, BridgeUnreachable):
                await asyncio.sleep(AGAIN_S)

    async def _submit(self, connection: Connection, enough: asyncio.Event) -> None:
        while not enough.is_set() or self._pending is not None:
            if self._pending is None:
                await self._room(enough)
                if enough.is_set():
                    return
                self._pending = self.writer.next()
            await submit(connection, self._watcher.topic, self._pending)
            if self.writer.random.random() < AGAIN:
                again = await submit(connection, self._watcher.topic, self._pending)
                if again.get("duplicate") is not True:
                    raise Broken("duplicated", f"{self._pending.key} was taken for a new prompt")
            self._pending = None

    async def _room(self, enough: asyncio.Event) -> None:
        """Wait until the queue is short, as far as the watcher knows, for as long as it takes. What is killed
        again before it can answer is not lost; its end is waited for when nothing is killed any more."""

        def short() -> bool:
            return enough.is_set() or len(self._watcher.unfinished) < self._depth

        await self._watcher.until(short, "a turn's end", None)


async def submit(connection: Connection, topic: str, prompt: Prompt) -> Json:
    """Submit it, once or once more; the same prompt is always the same turn."""
    prompt.asked += 1
    reply = await connection.push(topic, "submit", {"prompt": prompt.text, "id": prompt.key})
    became(prompt, reply["turn"])
    return reply


def became(prompt: Prompt, turn: str) -> None:
    """Every acknowledgement of a prompt names the same turn."""
    if prompt.turn not in (None, turn):
        raise Broken("duplicated", f"{prompt.key} became two turns, {prompt.turn} and {turn}")
    prompt.turn = turn


@dataclass
class Caller:
    """`claude-bridge submit`, again and again: one prompt, one `follow` until its turn has ended."""

    address: Address
    writer: Writer

    async def run(self, enough: asyncio.Event) -> None:
        while not enough.is_set():
            await self.call(self.writer.next())

    async def call(self, prompt: Prompt) -> None:
        submission = Submission({"prompt": prompt.text, "id": prompt.key})
        look = Look(url=self.address.url, token=self.address.token)
        end: Json | None = None
        while end is None:
            prompt.asked += 1
            try:
                events = follow(look, self.writer.session, submission=submission)
                async with aclosing(events):
                    async for event, payload in events:
                        if event == "submitted":
                            became(prompt, payload["turn"])
                        elif event == "turn_finished" and payload["turn"] == prompt.turn:
                            end = payload
                            break
            except BridgeUnreachable:
                await asyncio.sleep(AGAIN_S)
        if end["status"] == "completed" and end["text"] != prompt.answer:
            raise Broken("wrong", f"{prompt.key} was told as {end}")
