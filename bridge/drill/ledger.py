"""Who else knows: the simulator, which was asked, and the tools, which left a line each."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp

from bridge.drill.account import Broken

Json = dict[str, Any]

INTERRUPTED = "[Request interrupted by user"
"""Behind a prompt that was cut off before a word: the next one goes into the same message."""

COLLECT_S = 0.2
"""The simulator keeps 200 requests and 32 MiB of them; a long conversation's take hundreds of KB each."""
ANSWER_S = 60


class Record:
    """Every request that the CLIs made to the simulator; to be collected before it forgets."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/_sim/requests"
        self.asked: list[str] = []
        """The last prompt of each request, with what the CLI adds to it; oldest first."""
        self._seen = 0
        self._alone = asyncio.Lock()

    async def keep(self) -> None:
        """Collect until cancelled."""
        while True:
            await self.collect()
            await asyncio.sleep(COLLECT_S)

    async def collect(self) -> None:
        """Take what came since the last time. Raises `Broken` where some of it is forgotten already."""
        async with self._alone:
            timeout = aiohttp.ClientTimeout(total=ANSWER_S)
            async with (
                aiohttp.ClientSession(timeout=timeout, trust_env=False) as http,
                http.get(self._url, params={"after": str(self._seen)}) as answer,
            ):
                new: list[Json] = (await answer.json())["requests"]
            if new:
                if new[0]["number"] != self._seen + 1:
                    raise Broken("lost", "requests to the model were not counted: they came too fast")
                self._seen = new[-1]["number"]
            self.asked += ["\n".join(asked_now(r)) for r in new if r["path"] == "/v1/messages"]

    def count(self, key: str) -> int:
        """How many requests had this prompt as the last thing that was asked."""
        return sum(key in text for text in self.asked)


def prompts_of(request: Json) -> list[str]:
    """The texts of the last message in the user's role: prompts, and what the CLI adds to them."""
    last = next(m for m in reversed(request["messages"]) if m["role"] == "user")
    content = last["content"]
    return [content] if isinstance(content, str) else [b["text"] for b in content if b["type"] == "text"]


def asked_now(request: Json) -> list[str]:
    """The same without what was interrupted before."""
    texts = prompts_of(request)
    before = max((n for n, text in enumerate(texts) if text.startswith(INTERRUPTED)), default=-1)
    return texts[before + 1 :]


def effects(path: Path) -> Counter[str]:
    """How often each tool call left its line."""
    return Counter(path.read_text().split()) if path.exists() else Counter()
