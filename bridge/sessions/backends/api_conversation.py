"""Which of a session's turns go along with a prompt: read from the journal each time, and never kept.

How many tokens they are is estimated, and the estimate corrected by what the API counted of the last request;
only a conversation near the limit of which nothing is known yet is counted beforehand.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bridge.commands import StartOptions
from bridge.config import ApiConfig
from bridge.errors import TurnNotFound
from bridge.events import SessionName, Turn, TurnId, Usage
from bridge.sessions.backends.api_client import Body, Upstream
from bridge.sessions.backends.api_history import Said, estimate, kept, messages, said, system
from bridge.sessions.backends.base import File

PAGE = 50
"""Turns that are read at a time."""
TIGHTER = 1.5
"""By so much more is estimated where the API found a request too long."""
UNCOUNTED = 0.5
"""At the least; of a conversation that was not counted yet so much more is read."""
LIKELY = (0.2, 3.0)
"""Tokens for each that was estimated: what lies outside is no measure for the next request."""


@dataclass(frozen=True)
class Past:
    """The journal, as the backend reads it. All may raise `JournalError`."""

    turns: Callable[[SessionName, TurnId | None, int], Awaitable[Sequence[Turn]]]
    """So many finished turns before that one (None: the last), newest last. Raises `TurnNotFound`."""
    opened: Callable[[SessionName], Awaitable[tuple[Turn, bool] | None]]
    """The turn that is being answered, and whether the model has begun to."""
    files: Callable[[SessionName, TurnId], Awaitable[Sequence[File]]]
    """What came with a turn's prompt."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt; with `partial` to be answered from there on."""

    turn: TurnId
    prompt: str
    files: tuple[File, ...] = ()
    partial: str = ""


class Conversation:
    """One session's."""

    def __init__(self, name: SessionName, past: Past, upstream: Upstream, config: ApiConfig) -> None:
        self._name = name
        self._past = past
        self._upstream = upstream
        self._config = config
        self._since: TurnId | None = None
        """The oldest turn that went along last, where older ones were left out."""
        self._scale: float | None = None
        """Tokens for each that is estimated; None as long as the API has counted nothing."""
        self._estimated = 0
        """Of the last request."""
        self.alone = False
        """No turn is to know of another one."""

    async def body(self, options: StartOptions, model: str, asked: Asked) -> Body:
        """The request. Raises `PromptRejected`, `JournalError`."""
        config = self._config
        told = system(options.system_prompt, options.append_system_prompt, caching=config.caching)
        fixed = sum(estimate(block["text"]) for block in told) + estimate(asked.prompt, asked.files)
        fixed += estimate(asked.partial)
        limit = config.context_tokens - config.max_tokens
        past = [] if self.alone else await self._read(limit - fixed)

        def made(turns: Sequence[Said]) -> Body:
            said_ = messages(turns, asked.prompt, asked.files, partial=asked.partial, caching=config.caching)
            body: Body = {"model": model, "max_tokens": config.max_tokens, "messages": said_}
            if told:
                body["system"] = told
            if config.thinking is not None:
                body["thinking"] = _thinking(config.thinking)
            return body

        tokens = [each.tokens for _, each in past]
        total = fixed + sum(tokens)
        if self._scale is None and total > limit and past:
            counted = await self._upstream.count(made([each for _, each in past]))
            self._learn(counted, total)
        scale = self._scale or 1.0
        count = kept([int(each * scale) for each in tokens], int(limit - fixed * scale))
        if count < len(past):
            past = past[len(past) - count :]
            self._since = past[0][0] if past else None
        self._estimated = fixed + sum(each.tokens for _, each in past)
        return made([each for _, each in past])

    def counted(self, usage: Usage) -> None:
        """What the API says of the last request."""
        prompt = usage.input_tokens + usage.cache_creation_input_tokens + usage.cache_read_input_tokens
        self._learn(prompt, self._estimated)

    def too_long(self) -> None:
        """The API did not take the last request for its length: the next one is made shorter."""
        self._scale = max(self._scale or 1.0, 1.0) * TIGHTER

    def forget(self) -> None:
        """Another model counts otherwise."""
        self._scale = None

    def _learn(self, counted: int | None, estimated: int) -> None:
        if counted and estimated:
            self._scale = min(max(counted / estimated, LIKELY[0]), LIKELY[1])

    async def _read(self, room: int) -> list[tuple[TurnId, Said]]:
        """The newest turns, newest last: those that went along before, or more than can be too many."""
        enough = max(0, room) / (self._scale or UNCOUNTED)
        found: list[tuple[TurnId, Said]] = []
        before: TurnId | None = None
        total = 0
        while True:
            try:
                page = await self._past.turns(self._name, before, PAGE)
            except TurnNotFound:
                page = ()  # it is not kept any more since we read it
            for turn in reversed(page):
                files = await self._past.files(self._name, turn.id) if turn.attachments else ()
                told = said(turn, files)
                if told is not None:
                    found.append((turn.id, told))
                    total += told.tokens
                if turn.id == self._since or total > enough:
                    return found[::-1]
            if len(page) < PAGE:
                return found[::-1]
            before = page[0].id


def _thinking(wish: int | str) -> dict[str, Any]:
    if isinstance(wish, int):
        return {"type": "enabled", "budget_tokens": wish}
    # Models leave what they think out unless they are asked for it.
    return {"type": wish, "display": "summarized"} if wish == "adaptive" else {"type": wish}
