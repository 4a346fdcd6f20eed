"""What a process may still know of a turn, where no turn may know of another: kept as a file beside it.

The file is there from before a prompt is written to the process until the process has been made to forget it.
So whatever is killed and whenever: without the file nothing is left of a turn, with it something may be.

Forgetting is the CLI's own `rewind_conversation`: it takes a prompt and all that followed it out of what is
sent to the model, leaves no trace there, and takes a millisecond (2.1.330). `/clear` leaves a note of itself
in the next request. What tools have left, as files that were read or commands that still run, rewinding does
not undo: a process that used tools is replaced.
"""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import orjson

from bridge.commands import Fresh, StartOptions
from bridge.errors import BackendError, ProcessSpent
from bridge.events import TurnId
from bridge.sessions.backends.link import Link
from bridge.sessions.backends.memory import resident_mib

ASKED = "asked"
"""The file, which holds the identity of the prompt."""
OPTIONS = "options"
"""Beside it, how the process was started, as a digest."""

OVERDUE = 2
"""A process that has answered, or aged, so many times as much as it should before it is replaced is replaced
also where another turn waits for it."""

REWIND_TRIES = 50
REWIND_AGAIN_S = 0.02
"""It says that a turn runs for some moments after it said that it is idle, on a machine under load."""


def digest_of(options: StartOptions) -> str:
    said = orjson.dumps(options.model_dump(exclude_none=True), option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(said).hexdigest()


class Slate:
    """Of one process, in the folder that is its own."""

    def __init__(self, folder: Path, terms: Fresh, options: StartOptions) -> None:
        self._folder = folder
        self._terms = terms
        self._options = digest_of(options)
        self._turns = 0
        self._since = asyncio.get_running_loop().time()

    async def write(self, identity: str) -> None:
        """Before a prompt is handed over. Raises `BackendError` where another was, and is not forgotten."""
        self._turns += 1
        await asyncio.to_thread(self._write, identity)

    async def wipe(self, link: Link, turn: TurnId | None, *, pressing: bool) -> None:
        """See `Forgetful.forget`."""
        asked, started = await asyncio.to_thread(self._read)
        if started != self._options:
            raise ProcessSpent("it was started with other options")
        if asked is not None:
            if asked != turn:
                raise ProcessSpent("it may know of what it was asked before")
            await self._rewind(link, asked)
            await asyncio.to_thread((self._folder / ASKED).unlink, missing_ok=True)
        if (why := self._due(link, OVERDUE if pressing else 1)) is not None:
            raise ProcessSpent(why)

    async def _rewind(self, link: Link, identity: str) -> None:
        for _ in range(REWIND_TRIES):
            said = (await link.ask("rewind_conversation", target_message_uuid=identity)).payload
            if said.get("reason") != "turn_running":
                break
            await asyncio.sleep(REWIND_AGAIN_S)
        # Anything that it says of what is left, or that nobody knows here, counts as something left.
        if said.get("rewound") is not True or said.get("precedingAssistantUuid") or "resolution" in said:
            raise BackendError(
                f"it cannot forget what it was asked: {said.get('error') or 'something is left'}"
            )

    def _due(self, link: Link, times: int) -> str | None:
        """Why the process is to be replaced, where it is."""
        terms, age = self._terms, asyncio.get_running_loop().time() - self._since
        if self._turns >= terms.turns * times:
            return f"it has answered {self._turns} questions"
        if age >= terms.age_s * times:
            return f"it is {age:.0f} s old"
        taken = resident_mib(link.process.pid) if terms.rss_mb else None
        if taken is not None and taken > terms.rss_mb:
            return f"it takes {taken:.0f} MiB of memory"
        return None

    # --- the files --------------------------------------------------------------------------------------

    def _write(self, identity: str) -> None:
        asked = self._read()[0]
        if asked not in (None, identity):
            raise BackendError("the process may know of what it was asked before")
        try:
            (self._folder / ASKED).write_text(identity)
        except OSError as e:
            raise BackendError(f"the process's folder cannot be written to: {e.strerror}") from e

    def _read(self) -> tuple[str | None, str]:
        try:
            started = (self._folder / OPTIONS).read_text()
            try:
                return (self._folder / ASKED).read_text(), started
            except FileNotFoundError:
                return None, started
        except OSError as e:
            raise BackendError(f"the process's folder cannot be read: {e.strerror}") from e
