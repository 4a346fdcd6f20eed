"""One webhook: what waits for it, when it is sent, and when it is sent again. Knows no HTTP and no file."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from http import HTTPStatus
from typing import Any, Protocol
from urllib.parse import urlsplit

import structlog

from bridge.clock import Clock
from bridge.config import WebhookConfig
from bridge.events import RequestOpened
from bridge.wire import webhooks as wire

log = structlog.get_logger(__name__)

PARALLEL = 4
"""Requests under way to one endpoint: several sessions' messages do not wait for one that hangs."""
LEAST_JITTER = 0.75
"""The share of a delay that is waited at least; the rest is chance, so that bridges do not knock in step."""


class Timer(Protocol):
    def cancel(self) -> None: ...


Later = Callable[[float, Callable[[], None]], Timer]


@dataclass(slots=True)
class Message:
    """One fact, as it is sent until it is taken."""

    id: str
    kind: str
    session: str
    made_at: float
    body: bytes
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one attempt: the HTTP status, or why there was none."""

    status: int = 0
    problem: str = ""
    retry_after_s: float = 0.0


class Post(Protocol):
    async def __call__(self, config: WebhookConfig, headers: dict[str, str], body: bytes) -> Answer: ...


class Endpoint:
    """One configured webhook: what waits for it, and what was told that may have to be told again."""

    def __init__(
        self, config: WebhookConfig, key: bytes, clock: Clock, later: Later, changed: Callable[[], None]
    ) -> None:
        """`changed` is called when what is to be kept has changed."""
        where = urlsplit(config.url)
        self.label = f"{where.hostname}{where.path}"
        """For the log: whatever else stands in a URL may be secret."""
        self.waiting: dict[str, Message] = {}
        self.told: dict[str, str] = {}
        """Ids of the open requests that were taken, with their sessions: not to be told after a restart."""
        self.gone = False
        self._config = config
        self._key = key
        self._clock = clock
        self._later = later
        self._keep = changed
        self._woken = asyncio.Event()
        self._under_way: dict[str, str] = {}
        self._held: dict[str, float] = {}  # sessions whose next message waits for a repetition
        self._bytes = 0
        self._dropped = 0
        self._failing = False
        self._stopping = False

    def wants(self, kind: str, session: str) -> bool:
        config = self._config
        return (
            not self.gone and kind in config.events and any(fnmatchcase(session, p) for p in config.sessions)
        )

    def add(self, message: Message) -> None:
        """Queue it, unless it is known; the oldest makes room for it."""
        if message.id in self.waiting or message.id in self.told or self.gone:
            return
        config = self._config
        self.waiting[message.id] = message
        self._bytes += len(message.body)
        while len(self.waiting) > config.queue_messages or self._bytes > config.queue_bytes:
            oldest = next((m for m in self.waiting.values() if m.id not in self._under_way), message)
            if oldest is message:  # it is larger than the bound, or all before it are under way
                break
            self._forget(oldest)
            if not self._dropped:
                log.warning("webhook's queue is full; the oldest are dropped", to=self.label)
            self._dropped += 1
        self._changed()

    def closed(self, message: str) -> None:
        """The request is not open any more: it needs no remembering."""
        if self.told.pop(message, None) is not None:
            self._changed()

    def deleted(self, session: str) -> None:
        if session in self.told.values():
            self.told = {id: of for id, of in self.told.items() if of != session}
            self._changed()

    def stop(self) -> None:
        """Send what was not tried yet, repeat nothing, and let `run` return."""
        self._stopping = True
        self._woken.set()

    def describe(self) -> dict[str, Any]:
        state = "gone" if self.gone else "failing" if self._failing else "ok"
        return {"to": self.label, "state": state, "waiting": len(self.waiting), "dropped": self._dropped}

    async def run(self, post: Post) -> None:
        """Deliver until stopped, or the endpoint says that it is gone. Cancelling drops nothing."""
        self._stopping = False
        async with asyncio.TaskGroup() as group:
            while not self.gone:
                self._woken.clear()
                now = self._clock.monotonic()
                due, next_at = self._due(now)
                for message in due:
                    self._under_way[message.id] = message.session
                    group.create_task(self._attempt(post, message))
                if self._stopping and not self._under_way:
                    return
                timer = self._later(next_at - now, self._woken.set) if next_at is not None else None
                try:
                    await self._woken.wait()
                finally:
                    if timer is not None:
                        timer.cancel()

    # --- inside -----------------------------------------------------------------------------------------

    def _due(self, now: float) -> tuple[list[Message], float | None]:
        """What may be sent now, the oldest first, one of a session; and when there will be more by itself."""
        room = PARALLEL - len(self._under_way)
        passed = set(self._under_way.values())
        due: list[Message] = []
        next_at: float | None = None
        for message in self.waiting.values():
            if len(due) >= room:
                break
            if message.session in passed:
                continue
            passed.add(message.session)
            at = self._held.get(message.session, now)
            if at <= now:
                due.append(message)
            elif next_at is None or at < next_at:
                next_at = at
        return due, None if self._stopping else next_at

    async def _attempt(self, post: Post, message: Message) -> None:
        headers = wire.headers(self._key, message.id, int(self._clock.now()), message.body)
        try:
            answer = await post(self._config, headers, message.body)
        finally:
            del self._under_way[message.id]
            message.attempts += 1
        if HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
            self._taken(message)
        elif answer.status == HTTPStatus.GONE:
            self._give_up_all()
        else:
            self._refused(message, answer)
        self._changed()

    def _taken(self, message: Message) -> None:
        self._forget(message)
        self._held.pop(message.session, None)
        if message.kind == RequestOpened.event:
            self.told[message.id] = message.session
        if self._failing:
            self._failing = False
            log.info("webhook is taken again", to=self.label)
        if self._dropped and not self.waiting:
            log.warning("webhook has caught up; messages were dropped", to=self.label, dropped=self._dropped)
            self._dropped = 0

    def _refused(self, message: Message, answer: Answer) -> None:
        config = self._config
        if not self._failing:
            self._failing = True
            log.warning("webhook is not taken", to=self.label, status=answer.status, problem=answer.problem)
        if message.attempts >= config.attempts or self._clock.now() - message.made_at >= config.give_up_s:
            log.warning(
                "webhook's message was given up", to=self.label, id=message.id, tries=message.attempts
            )
            self._forget(message)
            self._held.pop(message.session, None)
            return
        # The exponent is bounded for the float's sake; the cap is reached long before.
        delay = min(config.retry_first_s * 2.0 ** min(message.attempts - 1, 60), config.retry_longest_s)
        delay *= random.uniform(LEAST_JITTER, 1.0)  # noqa: S311 - nobody gains by guessing it
        delay = max(delay, min(answer.retry_after_s, config.retry_longest_s))
        self._held[message.session] = self._clock.monotonic() + delay

    def _give_up_all(self) -> None:
        self.gone = True
        log.warning(
            "webhook is gone (410); it is told nothing more", to=self.label, dropped=len(self.waiting)
        )
        self.waiting.clear()
        self.told.clear()

    def _forget(self, message: Message) -> None:
        if self.waiting.pop(message.id, None) is not None:
            self._bytes -= len(message.body)

    def _changed(self) -> None:
        self._woken.set()
        self._keep()
