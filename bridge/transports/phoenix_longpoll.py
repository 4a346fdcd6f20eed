"""Phoenix Channels over long poll: the requests, and the sessions that stand for a socket between them.

The channels themselves are `phoenix_channels`, as on a WebSocket. What a client is told waits in its session
for the next poll; HTTP answers always have the status 200, and the one that counts stands in their body.
"""

from __future__ import annotations

import asyncio
import secrets
from http import HTTPStatus

import structlog
from aiohttp import hdrs, web

from bridge.clock import Clock
from bridge.config import HubConfig, ServerConfig
from bridge.errors import WireError
from bridge.service import Service
from bridge.transports import access, handshake
from bridge.transports.handshake import POLL_PREFIX, Admission
from bridge.transports.outbox import HELD_SHARE, PULL_BYTES, Outbox, Source
from bridge.transports.phoenix_channels import MAX_INBOX, Channels
from bridge.transports.tasks import Tasks
from bridge.transports.topics import Topics
from bridge.wire import phoenix_poll

log = structlog.get_logger(__name__)

# Of these phoenix.js takes 408 as the answer to what it sends alone: a poll that said so would end it.
OK = 200
EMPTY = 204
REFUSED = 403
TIMED_OUT = 408
GONE = 410
STOPPING = 500

MAX_BODY = 8_000_000
"""Bytes of one body, which is Phoenix' own limit."""

SILENT_WINDOWS = 1.5
"""Without a poll for so many windows a session ends: a client that is there comes back at once."""

AUTH_HEADER = "X-Phoenix-AuthToken"
POLL_HEADER = "X-Phoenix-Longpoll-Token"


class PhoenixPolls:
    """All long polls of one listener."""

    def __init__(self, service: Service, server: ServerConfig, hub: HubConfig, clock: Clock) -> None:
        self.service = service
        self.server = server
        self.outbox_bytes = hub.outbox_bytes
        self.clock = clock
        self._sessions: dict[str, _Session] = {}
        self.tasks = Tasks()
        """To be kept for as long as the application stands."""
        self._stopping = False

    async def handle(self, request: web.Request) -> web.Response:
        """Answer one request. Who it is is asked when a session begins; afterwards its token says so."""
        query = request.raw_path.partition("?")[2]
        try:
            params = handshake.query_params(query)
            credential, polling = handshake.query_tokens(query)
        except handshake.Malformed:
            return web.Response(status=HTTPStatus.BAD_REQUEST)
        if not handshake.page_allowed(request, self.server):
            return _said(REFUSED)
        session = self._sessions.get(request.headers.get(POLL_HEADER, polling or ""))
        if session is not None:
            access.belongs_to(request, session.who)
        match request.method:
            case hdrs.METH_OPTIONS:
                return _preflight(request)
            case hdrs.METH_POST:
                return _said(GONE) if session is None else await _posted(session, request)
            case hdrs.METH_GET if session is not None:
                answer = await session.poll(request)
            case hdrs.METH_GET:
                answer = self._begin(request, params, request.headers.get(AUTH_HEADER) or credential)
            case _:
                return web.Response(status=HTTPStatus.BAD_REQUEST)
        if self._stopping:
            answer.force_close()
        return answer

    def close(self) -> None:
        """Answer the polls that hang and end all sessions; none begins any more."""
        self._stopping = True
        for session in list(self._sessions.values()):
            session.end()

    def forget(self, token: str) -> None:
        self._sessions.pop(token, None)

    def _begin(self, request: web.Request, params: dict[str, str | None], token: str | None) -> web.Response:
        """410 with a token: to a client that had none this means that it is open, to another that it has to
        join again."""
        if self._stopping:
            return _said(STOPPING)
        admission = handshake.admit(self.service, request, params, token)
        if admission is None:
            return _said(REFUSED)
        name = POLL_PREFIX + secrets.token_urlsafe(24)
        session = self._sessions[name] = _Session(self, admission, name)
        self.tasks.spawn(session.run())
        return _said(GONE, name)


async def _posted(session: _Session, request: web.Request) -> web.Response:
    try:
        body = await request.clone(client_max_size=MAX_BODY).read()
        frames = phoenix_poll.frames(request.headers.get(hdrs.CONTENT_TYPE), body)
    except (web.HTTPRequestEntityTooLarge, WireError):
        return web.Response(status=HTTPStatus.BAD_REQUEST)
    return _said(await session.take(frames))


class _Session:
    """One client between its requests: what it is yet to be told, and its channels."""

    def __init__(self, polls: PhoenixPolls, admission: Admission, token: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._polls = polls
        self._token = token
        self.who = admission.who
        self._codec = admission.codec
        self._window = polls.server.longpoll_window_s
        self._tasks = asyncio.TaskGroup()
        self._over = asyncio.Event()
        self._units: list[bytes] = []
        self._unread = 0
        self._poll: asyncio.Future[None] | None = None  # the poll that hangs, the latest where there are two
        self._turn = asyncio.Lock()  # held by the message that is being handled
        self._waiting = 0
        self._room = asyncio.Event()  # set whenever something was read
        self._held_limit = polls.outbox_bytes // HELD_SHARE
        self._heard = self._loop.time()
        self._silence_s = SILENT_WINDOWS * self._window
        self._timer = self._loop.call_later(self._silence_s, self._check_silence)
        self._outbox = Outbox(
            phoenix_poll.poll_format(self._codec), self, polls.outbox_bytes, self._loop.call_soon
        )
        self._channels = Channels(
            Topics(polls.service, admission.who, polls.clock, "longpoll"),
            self._codec,
            self._outbox,
            spawn=self._tasks.create_task,
            frame=phoenix_poll.unit,
            max_topics=polls.server.max_topics,
        )
        self._gone = polls.service.connected(admission.who, self.end, "longpoll")
        log.debug("= poll opened", who=admission.who.name, format=self._codec.format)

    async def run(self) -> None:
        """Until `end`, and until what was under way then is done. Cancelling it leaves that undone."""
        try:
            async with self._tasks:
                await self._over.wait()
                self._let_go()
        finally:
            self.end()
            self._let_go()  # of what was joined meanwhile, too

    def end(self) -> None:
        """The token means nothing any more, and who polls is answered; they see it at their next poll."""
        if self._over.is_set():
            return
        self._over.set()
        self._room.set()
        self._timer.cancel()
        self._polls.forget(self._token)
        self._gone()
        self._wake()
        log.debug("x poll ended")

    def _let_go(self) -> None:
        self._channels.close()
        self._outbox.close()

    # --- polls ----------------------------------------------------------------------------------

    async def poll(self, request: web.Request) -> web.Response:
        """What there is to tell, or what comes within the window."""
        self._heard = self._loop.time()
        if not self._units:
            await self._news()
            self._heard = self._loop.time()
        # A client that is gone would take with it what the next poll can still be told.
        if request.transport is None or request.transport.is_closing():
            return _said(EMPTY, self._token)
        units = b"".join(self._units)
        self._units.clear()
        self._unread = 0
        self._outbox.resume()
        self._room.set()
        return _said(OK if units else EMPTY, self._token, units)

    async def _news(self) -> None:
        """Wait for them, for a window; in vain where another poll has come since: that one is woken."""
        self._poll = poll = self._loop.create_future()
        try:
            await asyncio.wait({poll}, timeout=self._window)
        finally:
            if self._poll is poll:
                self._poll = None

    def _wake(self) -> None:
        if self._poll is not None and not self._poll.done():
            self._poll.set_result(None)

    def _check_silence(self) -> None:
        rest = self._heard + self._silence_s - self._loop.time()
        if rest <= 0:
            self.end()
        else:
            self._timer = self._loop.call_later(rest, self._check_silence)

    # --- what is sent ---------------------------------------------------------------------------

    async def take(self, frames: list[str | bytes]) -> int:
        """Handle the frames one after the other; the status of the answer. What is not handled within a
        window is handled later all the same, but what stands behind it is not."""
        for frame in frames:
            if self._over.is_set():
                return GONE
            if self._waiting >= MAX_INBOX:
                return TIMED_OUT
            work = self._tasks.create_task(self._take(frame))
            done, _ = await asyncio.wait({work}, timeout=self._window)
            if not done:
                return TIMED_OUT
        return GONE if self._over.is_set() else OK

    async def _take(self, frame: str | bytes) -> None:
        self._waiting += 1
        try:
            async with self._turn:
                while self._outbox.held > self._held_limit and not self._over.is_set():
                    self._room.clear()
                    await self._room.wait()
                if not self._over.is_set():
                    await self._channels.handle(phoenix_poll.decode(self._codec, frame))
        except WireError as e:
            log.debug("x malformed frame", problem=str(e))
            self.end()
        except Exception:
            log.exception("poll crashed")
            self.end()
        finally:
            self._waiting -= 1

    # --- the outbox's wire ----------------------------------------------------------------------

    def write(self, data: bytes) -> bool:
        self._units.append(data)
        self._unread += len(data)
        self._wake()
        return self._unread < PULL_BYTES

    def drain(self) -> None:
        """The next poll makes room."""

    def overflow(self) -> None:
        log.info("x client lagged too far")
        self.end()

    def ended(self, subscription: Source) -> bytes:
        return self._channels.ended(subscription)


def _said(status: int, token: str | None = None, units: bytes = b"") -> web.Response:
    headers = {
        hdrs.CONTENT_TYPE: "application/json; charset=utf-8",
        hdrs.CACHE_CONTROL: "no-store",
        hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: "*",
    }
    return web.Response(body=phoenix_poll.answer(status, token, units), headers=headers)


def _preflight(request: web.Request) -> web.Response:
    """Whatever headers: none of them is taken for a credential of the browser's own."""
    headers = {
        hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: "*",
        hdrs.ACCESS_CONTROL_ALLOW_HEADERS: request.headers.get(hdrs.ACCESS_CONTROL_REQUEST_HEADERS, ""),
        hdrs.ACCESS_CONTROL_ALLOW_METHODS: "get, post, options",
        hdrs.ACCESS_CONTROL_MAX_AGE: "3600",
    }
    return web.Response(headers=headers)
