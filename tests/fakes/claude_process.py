"""A driver for the real CLI in stream-json, as plain as can be: what a test asks, and every frame back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

Frame = dict[str, Any]
LINE_LIMIT = 16 * 1024 * 1024
"""Bytes of the longest frame: a prompt of 1 MB comes back more than once."""
TURN_S = 60
"""Longer than any turn here takes, retries included, on a loaded machine."""


def allow(request: Frame) -> Frame:
    """Answers a permission request with yes."""
    return {"behavior": "allow", "updatedInput": request["input"]}


def deny(request: Frame) -> Frame:
    """Answers a permission request with no."""
    return {"behavior": "deny", "message": "not today"}


@dataclass
class Turn:
    """Every frame of one turn, the result last."""

    frames: list[Frame] = field(default_factory=list)

    @property
    def result(self) -> Frame:
        return self.frames[-1]

    def of(self, kind: str, subtype: str | None = None) -> list[Frame]:
        return [f for f in self.frames if f["type"] == kind and subtype in (None, f.get("subtype"))]

    def deltas(self, key: str = "text") -> list[str]:
        """The text of every delta that carries `key`, retries and all."""
        events = [frame["event"] for frame in self.of("stream_event")]
        found = [event["delta"] for event in events if event["type"] == "content_block_delta"]
        return [delta[key] for delta in found if key in delta]

    def blocks(self, kind: str) -> list[Frame]:
        """The finished blocks of a kind, as the CLI's `assistant` frames give them."""
        return [b for f in self.of("assistant") for b in f["message"]["content"] if b["type"] == kind]


class ClaudeProcess:
    """`async with` starts the CLI and ends it; one turn at a time."""

    def __init__(self, path: Path, env: dict[str, str], cwd: Path, *arguments: str) -> None:
        self._command = [
            str(path),
            *("-p", "--verbose", "--include-partial-messages", "--permission-prompt-tool", "stdio"),
            *("--input-format", "stream-json", "--output-format", "stream-json", *arguments),
        ]
        self._env = env
        self._cwd = cwd

    async def __aenter__(self) -> ClaudeProcess:
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(
            *self._command, env=self._env, cwd=self._cwd, stdin=pipe, stdout=pipe, limit=LINE_LIMIT
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), TURN_S)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    async def ask(
        self,
        prompt: str,
        answer: Callable[[Frame], Frame] = allow,
        heard: Callable[[Turn], None] = lambda turn: None,
    ) -> Turn:
        """Submits a prompt and reads until its result, answering permission requests on the way. `heard` is
        called at every frame."""
        await self._write({"type": "user", "message": {"role": "user", "content": prompt}})
        turn = Turn()
        async with asyncio.timeout(TURN_S):
            while not turn.frames or turn.result["type"] != "result":
                frame = await self._read()
                turn.frames.append(frame)
                heard(turn)
                if frame["type"] == "control_request":
                    said: Frame = {"subtype": "success", "request_id": frame["request_id"]}
                    said["response"] = answer(frame["request"])
                    await self._write({"type": "control_response", "response": said})
        return turn

    async def _read(self) -> Frame:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        assert line, "the CLI ended before the turn did"
        frame: Frame = json.loads(line)
        return frame

    async def _write(self, frame: Frame) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(frame).encode() + b"\n")
        await self._process.stdin.drain()
