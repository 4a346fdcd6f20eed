"""All webhooks: what is heard of the sessions, who is told, and what is kept over a restart.

Hears what sessions publish, as a client would, and is never waited for. Each endpoint has a queue of its own
and a few requests under way, so that one that is slow or dead costs the others nothing. Messages of one
session follow each other: the next is sent when the one before was taken or given up.

What waits is also kept in a file, at most `KEEP_S` behind, so that a stop loses nothing and a kill the last
moment's; the same fact has the same id whichever bridge tells it, and receivers leave out what they know.
No text of a conversation and no secret is logged here; of an endpoint, host and path.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import structlog

from bridge import __version__
from bridge.clock import Clock
from bridge.config import WebhookConfig, is_loopback
from bridge.errors import SetupError
from bridge.events import (
    Event,
    Request,
    RequestAnswered,
    RequestOpened,
    Session,
    SessionChanged,
    SessionDeleted,
    SessionName,
    TurnFinished,
)
from bridge.webhooks import kept as kept_file
from bridge.webhooks.endpoint import Answer, Endpoint, Later, Message
from bridge.webhooks.kept import Kept
from bridge.wire import webhooks as wire

log = structlog.get_logger(__name__)

GRACE_S = 3.0
"""How long a stop lets requests end that are under way; what is not taken by then is kept in the file."""
KEEP_S = 1.0
"""What waits is written down so much later: an endpoint that works has taken it by then, at no cost."""

Short = dict[str, tuple[list[str], dict[str, str]]]
"""What the file has, without the messages themselves."""


class Webhooks:
    """All endpoints. `tell` is how it hears; `run` is the supervised child that delivers."""

    def __init__(self, hooks: Iterable[WebhookConfig], file: Path, clock: Clock, later: Later) -> None:
        """Reads what an earlier bridge kept in `file`. Raises `SetupError` where a secret is unusable."""
        self._clock = clock
        self._later = later
        self._file = file
        self._failed: set[str] = set()
        self._dirty = asyncio.Event()
        self._endpoints: dict[str, Endpoint] = {}
        seen: Counter[str] = Counter()
        for hook in hooks:
            seen[hook.url] += 1
            endpoint = Endpoint(hook, _key(hook), clock, later, self._dirty.set)
            self._endpoints[f"{hook.url} {seen[hook.url]}"] = endpoint
            if hook.url.startswith("http:") and not is_loopback(urlsplit(hook.url).hostname or ""):
                log.warning("webhook is sent unencrypted", to=endpoint.label)
        self._kept = self._read()

    def begin(self, sessions: Iterable[Session], requests: Iterable[tuple[SessionName, Request]]) -> None:
        """What is so as the bridge starts: open requests of which an endpoint has not heard are told."""
        self._failed = {s.name for s in sessions if s.state == "failed"}
        opened = list(requests)
        still = {wire.message_id(RequestOpened.event, name, request.id) for name, request in opened}
        for endpoint in self._endpoints.values():
            endpoint.told = {id: of for id, of in endpoint.told.items() if id in still}
        for name, request in opened:
            self.tell(name, request.opened_at, RequestOpened(request))

    def tell(self, name: SessionName, at: float, event: Event) -> None:
        """What a session published. Never waits; costs nothing where it is nothing of ours."""
        match event:
            case RequestOpened(request=request):
                self._add(name, request.opened_at, event.event, request.id, event)
            case TurnFinished(turn=turn):
                self._add(name, at, event.event, turn, event)
            case SessionChanged(session=session):
                if session.state != "failed":
                    self._failed.discard(name)
                elif name not in self._failed:
                    self._failed.add(name)
                    self._add(name, at, "session_failed", f"{session.conversation} {at}", event)
            case RequestAnswered(request=id):
                for endpoint in self._endpoints.values():
                    endpoint.closed(wire.message_id(RequestOpened.event, name, id))
            case SessionDeleted():
                self._failed.discard(name)
                for endpoint in self._endpoints.values():
                    endpoint.deleted(name)

    async def run(self) -> None:
        """Deliver until cancelled; then what is under way has `GRACE_S`, and the rest is kept."""
        timeout = aiohttp.ClientTimeout(total=None)
        jar = aiohttp.DummyCookieJar()
        async with aiohttp.ClientSession(timeout=timeout, cookie_jar=jar, auto_decompress=False) as http:
            sender = Sender(http)
            try:
                async with asyncio.TaskGroup() as group:
                    keeping = group.create_task(self._keep())
                    working = [group.create_task(e.run(sender.post)) for e in self._endpoints.values()]
                    try:
                        await asyncio.Event().wait()
                    finally:
                        for endpoint in self._endpoints.values():
                            endpoint.stop()
                        await asyncio.wait(working, timeout=GRACE_S)
                        for task in (keeping, *working):
                            task.cancel()
            finally:
                await self._write()
                self._tell_left()

    def describe(self) -> dict[str, Any]:
        return {"webhooks": [endpoint.describe() for endpoint in self._endpoints.values()]}

    # --- inside -----------------------------------------------------------------------------------------

    def _add(self, name: SessionName, at: float, kind: str, of: str, event: wire.Told) -> None:
        wanted = [e for e in self._endpoints.values() if e.wants(kind, name)]
        if wanted:
            id, body = wire.message_id(kind, name, of), wire.body(kind, name, at, event)
            for endpoint in wanted:
                endpoint.add(Message(id, kind, name, self._clock.now(), body))

    def _tell_left(self) -> None:
        for endpoint in self._endpoints.values():
            if endpoint.waiting:
                log.info(
                    "webhook's messages are kept for the next start",
                    to=endpoint.label,
                    ids=[*endpoint.waiting],
                )

    async def _keep(self) -> None:
        while True:
            await self._dirty.wait()
            rested = asyncio.Event()
            timer = self._later(KEEP_S, rested.set)
            try:
                await rested.wait()
            finally:
                timer.cancel()
            await self._write()

    async def _write(self) -> None:
        """Bring the file up to date, where it is not."""
        self._dirty.clear()
        kept = {
            key: ([*endpoint.waiting.values()], dict(endpoint.told))
            for key, endpoint in self._endpoints.items()
            if endpoint.waiting or endpoint.told
        }
        now = _in_short(kept)
        if now == self._kept:
            return
        try:
            await asyncio.to_thread(kept_file.write, self._file, kept)
        except OSError as e:
            log.warning("webhooks could not be kept", error=e.strerror)
        else:
            self._kept = now

    def _read(self) -> Short:
        """Queue what was kept; what the file has now, in short."""
        try:
            kept = kept_file.read(self._file)
        except (OSError, ValueError) as e:
            log.warning("what was kept of webhooks cannot be read", error=type(e).__name__)
            return {}
        for key, (waiting, told) in kept.items():
            endpoint = self._endpoints.get(key)
            if endpoint is None:
                log.warning(
                    "a webhook's messages were dropped: it is not configured any more", n=len(waiting)
                )
                continue
            for message in waiting:
                endpoint.add(message)
            endpoint.told.update(told)
        return _in_short(kept)


class Sender:
    """HTTP: one attempt. Redirects are not followed: what was signed is for this address alone."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self._http = http

    async def post(self, config: WebhookConfig, headers: dict[str, str], body: bytes) -> Answer:
        """Never raises but when cancelled. What the endpoint says beside its status is not read."""
        headers = {**headers, "user-agent": f"claude-bridge/{__version__}"}
        timeout = aiohttp.ClientTimeout(total=config.timeout_s)
        try:
            async with self._http.post(
                config.url, data=body, headers=headers, timeout=timeout, allow_redirects=False
            ) as response:
                after = response.headers.get("retry-after", "")
                return Answer(response.status, retry_after_s=float(after) if after.isdecimal() else 0.0)
        except TimeoutError:
            return Answer(problem=f"no answer within {config.timeout_s:g} s")
        except (aiohttp.ClientError, OSError) as e:
            return Answer(problem=type(e).__name__)  # its text may have the whole URL


def _key(hook: WebhookConfig) -> bytes:
    where = urlsplit(hook.url).hostname
    try:
        secret = hook.secret if hook.secret_file is None else hook.secret_file.read_text()
        return wire.secret_bytes(secret or "")
    except OSError as e:
        problem = f"{hook.secret_file} cannot be read: {e.strerror}"
    except ValueError as e:
        problem = str(e)
    raise SetupError(
        f"The secret of the webhook to {where} cannot be used: {problem}.",
        'Make one:  echo "whsec_$(head -c 32 /dev/urandom | base64)"',
    )


def _in_short(kept: Kept) -> Short:
    return {key: ([m.id for m in waiting], told) for key, (waiting, told) in kept.items()}
