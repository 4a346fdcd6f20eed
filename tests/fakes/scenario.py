"""The official npm `phoenix` client in a Node of its own, for tests whose server runs in their own loop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

SCENARIO = Path(__file__).parents[1] / "js" / "scenario.mjs"
PATIENCE_S = 30
"""Node takes a second to start on a machine that is busy."""


class JsClient:
    """Told line by line, and says line by line what happens; `scenario.mjs` lists both."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def said(self) -> dict[str, Any]:
        """The next thing it says."""
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), PATIENCE_S)
        assert line, "the client ended"
        said: dict[str, Any] = json.loads(line)
        return said

    async def hear(self, key: str) -> Any:
        """The next thing it says, which must be of this kind."""
        said = await self.said()
        assert key in said, f"{key!r} was expected, not {said}"
        return said[key]

    async def until(self, key: str, so: Callable[[Any], bool] = lambda _: True) -> Any:
        """The next thing of this kind that is so, whatever is said before."""
        while True:
            said = await self.said()
            if key in said and so(said[key]):
                return said[key]

    def tell(self, **command: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")


Connect = Callable[..., Awaitable[JsClient]]


@asynccontextmanager
async def scenario(url: str, **options: Any) -> AsyncIterator[JsClient]:
    process = await asyncio.create_subprocess_exec(
        "node",
        str(SCENARIO),
        url.replace("http://", "ws://"),
        json.dumps(options),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield JsClient(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
