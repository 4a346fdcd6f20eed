"""Where a conversation's transcript is to be cut for another to begin with its first turns. Pure.

The CLI appends to a transcript, so that what stands before a turn's prompt is the whole conversation as it
was when that turn began: cut there, the file is one that the CLI would have left if it had been killed at
that moment, and resumes exactly. That holds behind a compaction as well as before it.

A turn is found by its prompt, whose id is the turn's, or one of those it was sent under again. Turns that
Claude began by itself have no such id: they are counted from the last one that has.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bridge.events import TurnId
from bridge.sessions.claude.messages import entry_of
from bridge.sessions.claude.transcript import OWN_WORDS, Beginnings, identities

TIMES_SENT = 8
"""Ids that one prompt is looked for under: each takes a process that was killed at the wrong moment."""

QUEUED = "queue-operation"
"""What waits in the CLI's own queue. Left out of a copy, which would be given a prompt of the other."""


@dataclass(frozen=True, slots=True)
class Told:
    """A finished turn, as far as a transcript is searched for it. `named`: by this id."""

    id: TurnId
    named: bool


@dataclass(frozen=True, slots=True)
class Cut:
    """`last` is the newest of the turns that stands in the transcript, None where none does; `end` the bytes
    up to the end of what belongs to them; `answered`: the model has said something after the last prompt."""

    last: TurnId | None
    end: int
    answered: bool


def find_cut(lines: Iterable[bytes], turns: Sequence[Told]) -> Cut:
    """`lines` with their ends; half a line at the end counts as not there. `turns` oldest first."""
    rank = {own: n for n, turn in enumerate(turns) if turn.named for own in identities(turn.id, TIMES_SENT)}
    newest, offset = -1, 0
    end: int | None = None
    by_itself = 0  # turns of this kind that belong to `turns` and are still to come
    answered = False
    beginnings = Beginnings()
    for line in lines:
        if not line.endswith(b"\n"):
            break
        entry = entry_of(line) if b'"user"' in line or b'"assistant"' in line else {}
        beginning = beginnings.of(entry)
        if beginning is not None and (found := rank.get(entry["uuid"])) is not None:
            if found >= newest:
                newest, end, answered = found, None, False
                by_itself = _by_itself(turns, found)
        elif beginning is not None and newest >= 0 and end is None:
            if beginning.asked or not by_itself:
                end = offset
            else:
                by_itself -= 1
                answered = False
        elif end is None and entry.get("type") == "assistant":
            message = entry.get("message")
            answered = answered or (isinstance(message, dict) and message.get("model") != OWN_WORDS)
        offset += len(line)
    last = turns[newest].id if newest >= 0 else None
    return Cut(last, offset if end is None else end, answered)


def _by_itself(turns: Sequence[Told], after: int) -> int:
    count = 0
    for turn in turns[after + 1 :]:
        if turn.named:
            break
        count += 1
    return count


def renamed(line: bytes, conversation: str, into: str) -> bytes:
    """A line of the copy, none where it does not belong there."""
    if b'"queue-operation"' in line and entry_of(line).get("type") == QUEUED:
        return b""
    for key in ("sessionId", "session_id"):
        # As the CLI writes it; within a text the quotes would be escaped.
        line = line.replace(f'"{key}":"{conversation}"'.encode(), f'"{key}":"{into}"'.encode())
    return line
