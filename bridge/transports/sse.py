"""Event streams over HTTP: one client's stream, and how long it lives.

Knows how an HTTP body is framed and how a client's going is noticed; what is in the streams is `rest`'s
concern. As with WebSockets, events are written straight to the connection, one write a tick.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

from aiohttp import HttpVersion11, web

from bridge.transports.outbox import Outbox, Source
from bridge.transports.topics import Closing
from bridge.wire import sse

BEAT_S = 15.0
"""Between comments on a stream: proxies drop what is silent, often after 30 or 60 s; the HTML standard says
15 s."""

RETRY_MS = 1000
"""When a browser comes back: soon, since it is a restart of the bridge that it waits for."""

LINGER_S = 5.0
"""How long a client that does not read may keep what was written before; then it is dropped."""

HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx would gather a stream before it hands it on
    "X-Content-Type-Options": "nosniff",
}


class Stream:
    """One client's stream, and the wire of its outbox. `open` it, say and attach things, then `run`."""

    def __init__(self, request: web.Request, limit: int, beat_s: float) -> None:
        transport = request.transport
        if transport is None:
            raise ConnectionResetError
        self.response = web.StreamResponse()
        self._request = request
        self._transport = transport
        self._protocol = request.protocol
        self._chunked = request.version >= HttpVersion11
        self._beat_s = beat_s
        self._loop = asyncio.get_running_loop()
        self._tasks = asyncio.TaskGroup()
        self._draining: asyncio.Task[None] | None = None
        self._over = asyncio.Event()
        self._cut = False
        self._topic: Source | None = None
        self.outbox = Outbox(sse.FORMAT, self, limit, self._loop.call_soon)

    async def open(self, headers: Mapping[str, str]) -> None:
        """Send the headers. Raises `ConnectionResetError` where the client is gone."""
        response = self.response
        response.headers.update(HEADERS | dict(headers))
        response.force_close()  # what a client sent behind its request would be lost
        writer = await response.prepare(self._request)
        if writer is None or self._transport.is_closing():
            raise ConnectionResetError
        writer.send_headers()
        self._writer = writer
        # The one way in which aiohttp tells a handler at once that its client has gone.
        self._protocol.set_parser(cast(Any, _Ears(self.stop)))
        self.send(sse.retry(RETRY_MS))

    def send(self, data: bytes) -> None:
        self.outbox.send(data)

    def follow(self, sources: tuple[Source, ...]) -> None:
        """Let these sources' events follow what was sent so far; with the first of them the stream ends."""
        self._topic = sources[0]
        for source in sources:
            self.outbox.attach(source)

    def stop(self) -> None:
        """End the stream, after what it was given so far. Safe to repeat."""
        self._over.set()

    def abort(self) -> None:
        self._transport.abort()

    async def run(self) -> None:
        """Until the client goes, the topic ends, or `stop`. Cancelling it drops the connection."""
        async with self._tasks:
            try:
                while not self._over.is_set():
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(self._beat_s):
                            await self._over.wait()
                            break
                    self.send(sse.BEAT)
                self.outbox.flush()
            finally:
                self.outbox.close()
                if self._draining is not None:
                    self._draining.cancel()
        self._end()

    def _end(self) -> None:
        if not self._transport.is_closing():
            if self._cut:
                self._transport.close()
            else:
                # The end of a chunked body, by which a client tells the end from a cut. `write_eof` of the
                # response would wait for a client that does not read.
                cast(Any, self._writer).set_eof()
        if self._transport.get_write_buffer_size():
            self._loop.call_later(LINGER_S, self._transport.abort)

    # --- the outbox's wire ----------------------------------------------------------------------

    def write(self, data: bytes) -> bool:
        if self._transport.is_closing():
            return True
        # The framing of aiohttp's own writer, which would wait where this must not.
        self._transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)
        return not self._protocol.writing_paused

    def drain(self) -> None:
        self._draining = self._tasks.create_task(self._drained())

    async def _drained(self) -> None:
        try:
            await self._writer.drain()
        except ConnectionError:
            self.outbox.close()
        else:
            self.outbox.resume()

    def overflow(self) -> None:
        self._cut = True
        self.stop()

    def ended(self, subscription: Source) -> bytes:
        if subscription is not self._topic:
            return b""
        self.stop()
        # What ended by itself has said so; a topic ends because its session was deleted.
        return b"" if isinstance(subscription, TurnSource) else sse.unit("phx_close", {})


class _Ears:
    """Stands where aiohttp puts the reader of a WebSocket: drops what comes, hears the connection end."""

    def __init__(self, gone: Callable[[], None]) -> None:
        self._gone = gone

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        return False, b""

    def feed_eof(self) -> None:
        self._gone()


class TurnSource:
    """The events of one turn, on their way to one stream: stands between the hub and the outbox."""

    format = sse.FORMAT

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._subscription: Any = None
        self._turn = sse.OneTurn("")

    def of(self, subscription: Closing) -> None:
        """Where the session's events come from, from now on."""
        self.close()
        self._subscription = subscription

    def only(self, turn: str) -> None:
        """The turn that is meant; to be said before the first `pull`."""
        self._turn = sse.OneTurn(turn)

    def close(self) -> None:
        if self._subscription is not None:
            self._subscription.close()

    # --- for the outbox -------------------------------------------------------------------------

    @property
    def pending(self) -> bool:
        return not self._turn.ended and bool(self._subscription.pending)

    @property
    def ended(self) -> bool:
        return self._turn.ended or bool(self._subscription.ended)

    def pull(self, limit: int) -> bytes:
        return self._turn.keep(self._subscription.pull(limit))

    # --- for the hub ----------------------------------------------------------------------------

    def wake(self, subscription: object) -> None:
        self._outbox.wake(self)

    def flush(self) -> None:
        self._outbox.flush()

    def offer(self, data: bytes) -> bool:
        return False

    def overflowed(self, subscription: object) -> None:
        self._outbox.overflowed(cast(Any, self))


class TurnEnd:
    """Waits for the end of one turn; costs the hub a line for each turn that ends."""

    format = sse.ENDS

    def __init__(self) -> None:
        self._subscription: Any = None
        self._turn = ""
        self._over = asyncio.Event()

    def of(self, subscription: Closing) -> None:
        self._subscription = subscription

    async def wait(self, turn: str, seconds: float, transport: asyncio.BaseTransport | None) -> None:
        """Returns when the turn has ended or nothing can be known of it any more, when the time is up, when
        the client is gone, or after `stop`."""
        self._turn = turn
        self.flush()
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while not self._over.is_set() and (rest := until - loop.time()) > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(rest, BEAT_S)):
                    await self._over.wait()
            if transport is None or transport.is_closing():
                return

    def stop(self) -> None:
        self._over.set()

    def close(self) -> None:
        if self._subscription is not None:
            self._subscription.close()

    # --- for the hub ----------------------------------------------------------------------------

    def wake(self, subscription: object) -> None:
        pass

    def flush(self) -> None:
        if not self._turn:
            return  # what has ended meanwhile stays with the hub
        subscription = self._subscription
        ended: list[bytes] = []
        while subscription.pending:
            ended += subscription.pull(1 << 16).split()
        if self._turn.encode() in ended or subscription.ended:
            self._over.set()

    def offer(self, data: bytes) -> bool:
        return False

    def overflowed(self, subscription: object) -> None:
        self._over.set()


class Open:
    """What is still being answered, so that a stop can end it."""

    def __init__(self) -> None:
        self._open: dict[Stream | TurnEnd, None] = {}
        self._emptied: asyncio.Future[None] | None = None

    @property
    def closing(self) -> bool:
        return self._emptied is not None

    @contextlib.contextmanager
    def held(self, each: Stream | TurnEnd) -> Iterator[None]:
        self._open[each] = None
        if self.closing:
            each.stop()
        try:
            yield
        finally:
            del self._open[each]
            if self._emptied is not None and not self._open and not self._emptied.done():
                self._emptied.set_result(None)

    async def close(self, within_s: float) -> None:
        """End all of it; what has not ended in time is dropped."""
        self._emptied = asyncio.get_running_loop().create_future()
        for each in list(self._open):
            each.stop()
        if self._open:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._emptied, within_s)
        for each in list(self._open):
            if isinstance(each, Stream):
                each.abort()
