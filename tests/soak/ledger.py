"""The account at the end: what was accepted, what the history has, what the model was asked."""

from __future__ import annotations

import asyncio
import json
import threading
import urllib.request
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bridge.client import Connection
from tests.fakes.bridge import prompts_of
from tests.soak.prompts import Prompt

Json = dict[str, Any]

COLLECT_S = 0.2
"""The simulator keeps 200 requests and 32 MiB of them; a long conversation's take hundreds of KB each."""


class Record:
    """Every request that the CLIs made to the simulator; to be collected before it forgets."""

    def __init__(self, state_dir: Path) -> None:
        self.port = json.loads((state_dir / "simulator.json").read_bytes())["port"]
        self.asked: list[str] = []
        """The last texts in the user's role of each request, oldest first."""
        self._seen = 0
        self._alone = threading.Lock()

    async def keep(self) -> None:
        """Collect until cancelled."""
        while True:
            await asyncio.to_thread(self.collect)
            await asyncio.sleep(COLLECT_S)

    def collect(self) -> None:
        """Take what came since the last time; fails where some of it is forgotten already."""
        with self._alone:
            self._collect()

    def _collect(self) -> None:
        url = f"http://127.0.0.1:{self.port}/_sim/requests?after={self._seen}"
        with urllib.request.urlopen(url, timeout=60) as answer:
            new: list[Json] = json.load(answer)["requests"]
        if new:
            assert new[0]["number"] == self._seen + 1, "the record was looked at too seldom"
            self._seen = new[-1]["number"]
        self.asked += ["\n".join(prompts_of(r)) for r in new if r["path"] == "/v1/messages"]

    def count(self, key: str) -> int:
        """How many requests had this prompt as the last thing that was asked."""
        return sum(key in text for text in self.asked)


async def history(connection: Connection, topic: str) -> list[Json]:
    """Every finished turn of a joined session, oldest first."""
    turns: list[Json] = []
    while True:
        before = {"before": turns[0]["id"]} if turns else {}
        page = (await connection.push(topic, "history", {"limit": 500, **before}))["turns"]
        turns = [*page, *turns]
        if len(page) < 500:
            return turns


def assert_kept(writers: Sequence[list[Prompt]], turns: list[Json]) -> None:
    """Each prompt of each client is exactly one turn, answered to the letter, and each client's are in the
    order in which they were accepted; and there is no other turn."""
    ids = [t["id"] for t in turns]
    assert len(set(ids)) == len(ids), "a turn stands twice in the history"
    prompts = {p.turn: p for made in writers for p in made}
    lost = [p.key for p in prompts.values() if p.turn not in ids]
    assert lost == [], f"lost: {lost}"
    strange = [t for t in turns if t["id"] not in prompts]
    assert strange == [], f"turns that nobody asked for: {strange}"
    for made in writers:
        own = {p.turn for p in made}
        assert [t for t in ids if t in own] == [p.turn for p in made], "the turns are out of order"
    for turn in turns:
        prompt = prompts[turn["id"]]
        assert (turn["key"], turn["prompt"]) == (prompt.key, prompt.text)
        assert (turn["status"], turn["text"]) == ("completed", prompt.answer), f"{prompt.key}: {turn}"


def effects(path: Path) -> Counter[str]:
    """How often each tool call left its line."""
    return Counter(path.read_text().split()) if path.exists() else Counter()
