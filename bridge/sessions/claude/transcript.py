"""What Claude Code keeps of a conversation, read for what it will do next. Pure.

Two questions: where does a turn begin? And under which id will it run a prompt?

It runs each id once: a prompt that was answered is dropped when it comes again, over `--resume` too, and
one that was not is run. But a conversation that broke off behind a prompt is resumed with an answer of
the CLI's own, "No response requested.", which it writes down when the prompt comes again. Killed for the
second time before the model has said a word, it takes that for the answer, and drops the prompt for good
(2.1.330). Such a prompt has to come under another id.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from bridge.events import TurnId
from bridge.sessions.claude.messages import entry_of
from bridge.sessions.claude.tui import INTERRUPTED, NOTIFIED, prompt_text

OWN_WORDS = "<synthetic>"
"""The `model` of what the CLI says by itself."""

MOST = 1000
"""Ids of one prompt: each takes a process that was killed at the wrong moment."""


HIDDEN = ("isMeta", "isSidechain", "isCompactSummary", "isVisibleInTranscriptOnly")
"""Marks of what the CLI tells the model by itself, or a sub-agent is told."""

_COMMAND = re.compile(r"<command-name>(.*?)</command-name>", re.DOTALL)
_ARGUMENTS = re.compile(r"<command-args>(.*?)</command-args>", re.DOTALL)
_CALL = re.compile(r"<tool-use-id>(.*?)</tool-use-id>")
_SHELL = re.compile(r"<bash-input>(.*)</bash-input>", re.DOTALL)
_AFTERWARDS = (INTERRUPTED, "<local-command-", "<bash-stdout>", "<bash-stderr>")
"""How entries begin that belong to the turn before them."""


@dataclass(frozen=True, slots=True)
class Begun:
    """Of a turn. `asked`: by a person or a program; else Claude went on by itself, and `prompt` is empty."""

    prompt: str
    asked: bool = True


class Beginnings:
    """Tells where turns begin, entry by entry. What Claude is told of its agents in the background belongs to
    the turn that they are of: it lasts until they are done, unless a person ended it before."""

    def __init__(self) -> None:
        self._agents: set[str] = set()
        """The calls that put one into the background."""

    def of(self, entry: dict[str, Any]) -> Begun | None:
        """The turn that begins with this entry; None where none does."""
        came_of, message = entry.get("toolUseResult"), entry.get("message")
        if entry.get("type") != "user" or not isinstance(message, dict):
            return None
        content = message.get("content")
        if isinstance(came_of, dict) and came_of.get("isAsync") and came_of.get("agentId"):
            results = content if isinstance(content, list) else []
            self._agents.update(str(r.get("tool_use_id")) for r in results if isinstance(r, dict))
        begun = _begins(entry)
        text = prompt_text(content)
        if begun is None and text.startswith(INTERRUPTED):
            self._agents.clear()
        told_of = _CALL.search(text) if begun is not None and text.startswith(NOTIFIED) else None
        return None if told_of is not None and told_of[1] in self._agents else begun


def _begins(entry: dict[str, Any]) -> Begun | None:
    message = entry.get("message")
    if entry.get("type") != "user" or not isinstance(message, dict) or not isinstance(entry.get("uuid"), str):
        return None
    if any(entry.get(mark) for mark in HIDDEN) or _is_tool_result(message):
        return None
    text = prompt_text(message.get("content"))
    origin = entry.get("origin")
    kind = origin.get("kind") if isinstance(origin, dict) else None
    if entry.get("promptSource") in ("sdk", "typed", "queued") or kind == "human":
        return Begun(text)
    if entry.get("promptSource") == "system" or kind is not None or text.startswith(NOTIFIED):
        return Begun("", asked=False)
    if text.startswith(_AFTERWARDS):
        return None
    if found := _COMMAND.search(text):
        arguments = _ARGUMENTS.search(text)
        return Begun(f"{found[1]} {arguments[1] if arguments else ''}".strip())
    if found := _SHELL.match(text):
        return Begun(f"!{found[1]}")
    return Begun(text)


def has_messages(lines: Iterable[bytes]) -> bool:
    """Whether there is something to resume."""
    return any(entry_of(line).get("type") in ("user", "assistant") for line in lines)


def identity(transcript: bytes, turn: TurnId) -> str:
    """The first of the prompt's ids that is not used up. The same as long as the CLI can still be working
    on it, so that it does not run twice; and where the model has answered one, that one, which the CLI
    will drop."""
    used = _used_up(transcript, turn)
    return next(own for own in (_nth(turn, n) for n in range(MOST)) if own not in used)


def identities(turn: TurnId, most: int) -> list[str]:
    """The ids under which its prompt can have been run, the likeliest first."""
    return [_nth(turn, n) for n in range(most)]


def _nth(turn: TurnId, n: int) -> str:
    return turn if n == 0 else str(uuid.uuid5(uuid.NAMESPACE_OID, f"{turn} {n}"))


def _used_up(transcript: bytes, turn: TurnId) -> set[str]:
    """Ids behind which stand the CLI's own words and none of the model's."""
    if turn.encode() not in transcript:
        return set()
    prompt_of: dict[str, str] = {}
    filled: set[str] = set()
    answered: set[str] = set()
    for line in transcript.split(b"\n"):
        entry = entry_of(line)
        own = entry.get("uuid")
        if not isinstance(own, str):
            continue
        message = entry.get("message")
        message = message if isinstance(message, dict) else {}
        prompt = prompt_of.get(str(entry.get("parentUuid")))
        if entry.get("type") == "user" and not _is_tool_result(message):
            prompt = own
        if prompt is None:
            continue
        prompt_of[own] = prompt
        if entry.get("type") == "assistant":
            (filled if message.get("model") == OWN_WORDS else answered).add(prompt)
    return filled - answered


def _is_tool_result(message: dict[str, Any]) -> bool:
    content = message.get("content")
    return isinstance(content, list) and any(
        isinstance(block, dict) and block.get("type") == "tool_result" for block in content
    )
