"""Answers one prompt: makes the request, says what comes of it, and makes it again where that may help.

Every signal is in the turn's file before it is said, so that a bridge that is killed knows on its next start
what its clients were told.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any

from bridge.commands import StartOptions
from bridge.config import ApiConfig
from bridge.errors import JournalError, PromptRejected
from bridge.events import TurnError, Usage
from bridge.sessions.backends.api_client import Body, Upstream, UpstreamFailed
from bridge.sessions.backends.api_conversation import Asked, Conversation
from bridge.sessions.backends.api_partial import PartialFile
from bridge.sessions.backends.api_prices import cost_usd
from bridge.sessions.backends.api_retry import delay_s
from bridge.sessions.backends.api_stream import StreamReader
from bridge.signals import LimitReached, Signal, TurnEnded, UpstreamRetrying

LIMITED = 429
LIMIT_S = 60.0
"""Who is to wait longer than this has met no burst of requests but a limit: the queue waits, and says until
when, rather than a turn that seems to hang."""


class Answering:
    """One turn of one session. `run` is its task; where that is cancelled, `interrupted` may be said."""

    def __init__(
        self,
        asked: Asked,
        model: str,
        options: StartOptions,
        conversation: Conversation,
        upstream: Upstream,
        config: ApiConfig,
        file: PartialFile,
        say: Callable[[Sequence[Signal]], None],
        now: Callable[[], float],
        reader: StreamReader | None = None,
    ) -> None:
        """`file` has been begun for this turn. `reader` goes on behind what is in it; `now` is wall time."""
        self.asked = asked
        self._model = model
        self._options = options
        self._conversation = conversation
        self._upstream = upstream
        self._config = config
        self._file = file
        self._say = say
        self._now = now
        self._reader = reader or StreamReader()
        self._untouched = reader is None
        self._spent = Usage()
        self._cost: float | None = None
        self.over = False
        """Its end has been said."""

    def already(self, usage: Usage, cost: float | None) -> None:
        """What was spent on it by an earlier bridge."""
        self._spent, self._cost = usage, cost

    async def run(self) -> None:
        """Until the turn's end has been said."""
        try:
            body = await self._body()
        except (JournalError, PromptRejected) as e:
            code = "internal" if isinstance(e, JournalError) else "invalid_request"
            self._end([TurnEnded("failed", None, TurnError(code, str(e)))])
            return
        retries = 0
        while True:
            failure = await self._attempt(body)
            if failure is None:
                self._end(self._reader.ended(*self._spend()))
                return
            usage, cost = self._spend()
            if failure.too_long and (shorter := await self._shortened(body)) is not None:
                body = shorter
                continue
            if (limit := self._limit(failure)) is not None:
                self._end([limit, TurnEnded("failed", None, failure.error, usage, cost)])
                return
            if not failure.passing or retries >= self._config.max_retries:
                self._end([TurnEnded("failed", None, failure.error, usage, cost)])
                return
            wait_s = delay_s(retries, failure.wish_s, random.random())  # noqa: S311 - spreads, and hides nothing
            retries += 1
            self._tell([*self._reader.drop(), self._retrying(retries, wait_s, failure.error)])
            await asyncio.sleep(wait_s)

    def interrupted(self) -> None:
        """The task was cancelled, because somebody asked for that. What was said so far is kept."""
        if not self.over:
            usage, cost = self._spend()
            self._end([TurnEnded("interrupted", None, None, usage, cost)])

    # --- one request ------------------------------------------------------------------------------------

    async def _attempt(self, body: Body) -> UpstreamFailed | None:
        self._reader.begin()
        try:
            await self._upstream.ask(body, self._heard)
        except UpstreamFailed as e:
            # Behind a complete answer nothing is lost any more.
            return None if self._reader.complete else e
        if self._reader.complete:
            return None
        return UpstreamFailed(TurnError("api_error", "The answer broke off."), passing=True)

    def _limit(self, failure: UpstreamFailed) -> LimitReached | None:
        wish_s = failure.wish_s
        if failure.error.status != LIMITED or (failure.passing and (wish_s or 0.0) <= LIMIT_S):
            return None
        until = None if wish_s is None else self._now() + wish_s
        return LimitReached(until, failure.error.message, self._untouched, shared=False)

    def _heard(self, event: Any) -> None:
        self._untouched = False
        signals = self._reader.take(event)
        if event.type == "message_start":
            self._conversation.counted(self._reader.usage)
            self._file.spent(*self._total())
        if signals:
            self._tell(signals)

    async def _body(self) -> Body:
        return await self._conversation.body(self._options, self._model, self.asked)

    async def _shortened(self, body: Body) -> Body | None:
        """The same with less of the past; None where that is as little as can be."""
        self._conversation.too_long()
        shorter = await self._body()
        return shorter if len(shorter["messages"]) < len(body["messages"]) else None

    def _retrying(self, attempt: int, wait_s: float, error: TurnError) -> UpstreamRetrying:
        said = error.code if error.status is None else f"{error.code} ({error.status})"
        return UpstreamRetrying(attempt, self._config.max_retries, round(wait_s * 1000), said)

    # --- what it costs, and what is said of it ----------------------------------------------------------

    def _total(self) -> tuple[Usage, float | None]:
        """The attempt that runs, and all before it."""
        usage = self._reader.usage
        cost = cost_usd(self._model, usage, self._config.prices)
        if cost is None or usage == Usage():
            return self._spent + usage, self._cost
        return self._spent + usage, (self._cost or 0.0) + cost

    def _spend(self) -> tuple[Usage, float | None]:
        """The attempt is over."""
        self._spent, self._cost = self._total()
        self._reader.settle_usage()
        return self._spent, self._cost

    def _end(self, signals: Sequence[Signal]) -> None:
        self.over = True
        self._tell(signals)

    def _tell(self, signals: Sequence[Signal]) -> None:
        self._file.add(signals)
        self._say(signals)
