"""What a process's own files tell of it where the journal is lost: its last turn, and the place from which
reading on tells of that turn and of nothing before it. Blocking; decides nothing.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from bridge.events import TurnId
from bridge.sessions.backends.attached import files_of
from bridge.sessions.backends.base import Launch, Recalled
from bridge.sessions.backends.kept import transcript_path
from bridge.sessions.backends.spare import read_spare
from bridge.sessions.backends.status import read_status
from bridge.sessions.backends.typist import Entered
from bridge.sessions.claude.keyboard import as_acknowledged
from bridge.sessions.claude.launch import OUT
from bridge.sessions.claude.mentions import without_files
from bridge.sessions.claude.stream_json import StreamParser
from bridge.sessions.claude.tui import TuiReader
from bridge.signals import TurnEnded


class StreamRecall:
    """Of headless sessions. The last turn that the process was sent is told under its own id, also where it
    has ended: nobody knows whether its end was told. What was before is not."""

    def __init__(self, folder: Path) -> None:
        """`folder` holds a folder for each session."""
        self._folder = folder

    def __call__(self, launch: Launch, pid: int | None) -> Recalled:
        """Raises `OSError`."""
        folder = self._folder / launch.name / str(launch.generation)
        spare = read_spare(folder)
        conversation = spare.conversation if spare is not None else None
        path = folder / OUT
        begin = _first_line(path)
        with path.open("rb") as file:
            file.seek(begin)
            last = last_turn(file, begin)
        checkpoint = {**last.place, "generation": launch.generation}
        if last.turn is None:
            return Recalled(checkpoint, conversation=conversation)
        prompt = _replayed(path, last)
        return Recalled(checkpoint, TurnId(last.turn), prompt, seen=True, conversation=conversation)


@dataclass(frozen=True, slots=True)
class LastTurn:
    """Where it begins. `turn` is None where there is none that can be named; then nothing of it is told that
    has ended."""

    place: dict[str, Any]
    turn: str | None = None
    identity: str = ""
    """Its id as the CLI knows it."""


def last_turn(lines: Iterable[bytes], begin: int) -> LastTurn:
    """Of a process's output from this offset on, line by line."""
    place: dict[str, Any] = {"offset": begin, "parser": {}}
    parser = StreamParser(place)
    last = LastTurn(place)
    named: list[tuple[str, str]] = []
    ends = 0
    for line in lines:
        for segment in parser.feed(line):
            ends += sum(isinstance(item, TurnEnded) for item in segment.items)
            if segment.checkpoint is None:
                continue
            state = segment.checkpoint["parser"]
            if state["expected"] is not None:
                if (state["expected"], state["identity"]) not in named:
                    named.append((state["expected"], state["identity"]))
            elif not state["typed"]:
                one = ends == 1 and len(named) == 1
                if ends:
                    last = LastTurn(place, *named[0]) if one else LastTurn(segment.checkpoint)
                elif last.turn is None:
                    last = LastTurn(segment.checkpoint)
                place, named, ends = segment.checkpoint, [], 0
    state = parser.checkpoint()["parser"]
    if state["expected"] is None and not state["typed"]:
        return last
    # One that runs; but where the end of another stands in between, the two cannot be told apart.
    running = [] if ends else [*named, (state["expected"], state["identity"])]
    return LastTurn(place, *running[0]) if running and running[0][0] is not None else LastTurn(place)


def _first_line(path: Path) -> int:
    """Where the first whole line begins: what was freed before it reads as zeros, gigabytes of them maybe."""
    with path.open("rb") as file:
        try:
            begin = os.lseek(file.fileno(), 0, os.SEEK_DATA)
        except OSError:
            return path.stat().st_size  # nothing was written, or all of it freed
        if begin:
            file.seek(begin)
            begin += len(file.readline())
    return begin


def _replayed(path: Path, last: LastTurn) -> str:
    """The prompt as the CLI repeated it when it took it up."""
    with path.open("rb") as file:
        file.seek(last.place["offset"])
        for line in file:
            if last.identity.encode() not in line or b'"isReplay"' not in line:
                continue
            with contextlib.suppress(orjson.JSONDecodeError, KeyError, TypeError):
                said = orjson.loads(line)
                if said["uuid"] == last.identity and said["isReplay"]:
                    content = said["message"]["content"]
                    if isinstance(content, str):
                        return content
                    return "".join(b["text"] for b in content if b["type"] == "text")
    return ""


class TuiRecall:
    """Of sessions whose process is the TUI. Its transcript has the whole conversation, whose past is not told
    again; that a turn is open the status file says."""

    def __init__(self, folder: Path) -> None:
        """`folder` holds a folder for each session."""
        self._folder = folder

    def __call__(self, launch: Launch, pid: int | None) -> Recalled:
        """Raises `OSError`."""
        session = self._folder / launch.name
        config_dir = Path((session / str(launch.generation) / "config-dir").read_text())
        said = (read_status(config_dir, pid) if pid is not None else None) or {}
        conversation = said.get("sessionId") or launch.conversation
        reader = TuiReader(conversation)
        path = transcript_path(config_dir, conversation)
        if path is not None:
            reader.transcript(path.read_bytes(), 0.0)
        if said.get("status") not in ("busy", "waiting"):
            reader.begin_at(reader.offset)
        checkpoint = {**reader.export(), "generation": launch.generation}
        entered = Entered(session).pending() or {}
        if entered.get("generation") != launch.generation:
            return Recalled(checkpoint, conversation=conversation)
        turn, text = TurnId(str(entered.get("turn"))), as_acknowledged(str(entered.get("text")))
        text = without_files(text, str(files_of(session) / turn))
        if not entered.get("known"):
            # Typed, and not acknowledged when the bridge that typed it ended.
            return Recalled(checkpoint, turn, text, conversation=conversation)
        if entered.get("prompt_id") is None or reader.prompt_id != entered["prompt_id"]:
            return Recalled(checkpoint, conversation=conversation)  # it has ended, whichever way
        return Recalled(checkpoint, turn, text, seen=True, conversation=conversation)
