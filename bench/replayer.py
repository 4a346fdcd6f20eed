"""Stands in for the CLI: answers `initialize`, and replays a recorded turn for every prompt, at its own pace.

Run as `claude` would be, through tmux, FIFO and file; so whatever reads it is the real thing, and no
model and no CLI take the machine's time. The prompt is the script, like `{"deltas": 50, "per_s": 50,
"phase": 0.5}` (`phase`: how much of a period the first delta waits). The text of every delta has 40 bytes
and begins with the time of its writing, CLOCK_MONOTONIC in 20 digits of nanoseconds. Standard library
only: it starts fast.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

VERSION = "2.1.330 (Claude Code)"
RECORDED = Path(__file__).with_name("recorded.ndjson")
"""One turn of the real CLI 2.1.330, of whose deltas one is kept, with these in place of what differs:"""
CONVERSATION = b"00000000-0000-4000-8000-000000000001"
PROMPT = b"00000000-0000-4000-8000-000000000002"
PADDING = "x" * 20


def executable(folder: Path) -> Path:
    """A file to be given as `claude.path`."""
    path = folder / "claude"
    # Neither site-packages nor bytecode checks: a hundred of them start in seconds.
    path.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S {Path(__file__).resolve()} "$@"\n')
    path.chmod(0o755)
    return path


def stamp() -> str:
    return f"{time.monotonic_ns():020d}{PADDING}"


class Replayer:
    def __init__(self, conversation: str) -> None:
        recorded = (
            RECORDED.read_bytes().replace(CONVERSATION, conversation.encode()).splitlines(keepends=True)
        )
        self._ready = recorded[0]
        delta = next(i for i, line in enumerate(recorded) if b'"text":"TEXT"' in line)
        self._before = b"".join(recorded[1:delta])
        self._delta = recorded[delta].split(b"TEXT")
        self._after = b"".join(recorded[delta + 1 :])

    def take(self, frame: dict[str, Any]) -> None:
        match frame["type"]:
            case "control_request":
                self._control(frame["request_id"], frame["request"]["subtype"])
            case "user":
                self._turn(str(frame["uuid"]), str(frame["message"]["content"]))

    def _control(self, request: str, subtype: str) -> None:
        if subtype == "initialize":
            write(self._ready.replace(b"init-1", request.encode()))
            return
        said = {"subtype": "success", "request_id": request, "response": {}}
        write(json.dumps({"type": "control_response", "response": said}).encode() + b"\n")
        if subtype == "end_session":
            sys.exit(0)

    def _turn(self, prompt: str, script: str) -> None:
        asked = json.loads(script)
        period = 1 / asked["per_s"]
        quoted = json.dumps(script).encode()
        write(self._before.replace(PROMPT, prompt.encode()).replace(b'"hello"', quoted))
        head, tail = self._delta
        texts = []
        begin = time.monotonic() + asked.get("phase", 0) * period
        for index in range(asked["deltas"]):
            rest = begin + index * period - time.monotonic()
            if rest > 0:
                time.sleep(rest)
            text = stamp()
            write(head + text.encode() + tail)
            texts.append(text)
        write(self._after.replace(PROMPT, prompt.encode()).replace(b"WHOLE", "".join(texts).encode()))


def write(data: bytes) -> None:
    """One write, as the CLI does it: no reader of the file sees half of it."""
    assert os.write(1, data) == len(data)


def main(arguments: list[str]) -> None:
    if "--version" in arguments:
        print(VERSION)
        return
    flags = ("--session-id", "--resume")
    conversation = next((arguments[i + 1] for i, a in enumerate(arguments) if a in flags), "unknown")
    replayer = Replayer(conversation)
    for line in sys.stdin.buffer:
        replayer.take(json.loads(line))


if __name__ == "__main__":
    main(sys.argv[1:])
