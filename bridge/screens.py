"""Live screens: what each watched session's pane puts out, handed to all who look at it.

One feed for each session that has viewers, begun with the first and ended after the last. A feed keeps the
latest output once, for all of them; a viewer is a place in it. Who falls further behind than that is not
sent what it missed: it is shown the picture as it is when it has room again. So a slow viewer holds
nothing up, and costs no memory of its own. Knows neither tmux nor sockets: how a pane is reached is a
`Line`. What is shown or typed never reaches a log.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import structlog

from bridge.errors import InternalError, SessionNotFound, SessionStopped, TmuxError
from bridge.sessions.picture import BLANK, CHARACTER, Picture, unfinished
from bridge.supervision import ChildSpec, Supervisor

log = structlog.get_logger(__name__)

BACKLOG_BYTES = 256 * 1024
"""Output kept for the slowest viewer: some hundred screens of text. A picture says more than older ones."""

LOOK_AGAIN_S = (0.1, 0.2, 0.5, 1.0, 2.0)
"""Between looks for a pane that is not there: soon at first, since a start takes a moment. That a session
starts is told (`changed`); the last is for what nobody tells."""

JOIN_S = 2.0
"""What a join waits for the first picture, which takes milliseconds. Later it comes as an event."""

LIVES_S = 10.0
"""Between looks at a pane that says nothing: a line may be gone without a word."""

CLOSE_S = 5.0
"""How long a feed may take to let go of its pane."""


class Line(Protocol):
    """The way to one pane. Its methods raise `TmuxError`, and end within seconds."""

    async def picture(self, mark: Callable[[], None]) -> Picture:
        """The pane as it stands; `mark` is called at the very place in the output that it stands at."""
        ...

    async def process(self) -> int:
        """Which process the pane runs."""
        ...

    async def type(self, data: bytes) -> bool:
        """Hand bytes to the pane's process, as they are; False where it has ended."""
        ...

    async def resize(self, cols: int, rows: int) -> None: ...

    async def close(self) -> None:
        """Let go of the pane, which stays. Never raises."""
        ...


class Hears(Protocol):
    """What a line tells, in the order of the output. None of it waits or raises."""

    def output(self, data: bytes) -> None: ...

    def changed(self) -> None:
        """The pane has another size, or output was left out: only a new picture helps."""
        ...

    def ended(self) -> None:
        """There will be no more output. Close the line."""
        ...


Connect = Callable[[str, Hears], Awaitable[Line | None]]
"""The line to a session's pane, None where it has none. Raises `TmuxError` where that cannot be said."""


class Viewer:
    """One client's place in a session's output."""

    __slots__ = ("_cursor", "_doubt", "_feed", "_picture", "_prefix", "_tell", "_wants", "ended", "pending")

    def __init__(self, feed: Feed, tell: Callable[[], None]) -> None:
        self.pending = True
        """There is, or may be, more to take; while this is so, the viewer is not told again."""
        self.ended = False
        """The session was deleted."""
        self._feed = feed
        self._tell = tell
        self._cursor: int | None = None  # None: lost, only a picture helps
        self._wants = False  # it has room for a picture now
        self._picture: Picture | None = None  # to be taken before any output
        self._prefix = b""  # to be taken before what stands at the cursor
        self._doubt = False  # the picture may stand in the middle of a character

    def take(self, limit: int) -> tuple[Picture | None, bytes]:
        """The picture to paint and the output to write after it, about `limit` bytes of it; what was taken
        is not given again. Nothing of either where there is no more, or a picture is yet to be made."""
        feed = self._feed
        if self.ended or self._cursor is None:
            self.pending = False
            self._want()
            return None, b""
        chunks, self._cursor = feed.after(self._cursor, limit)
        if self._doubt and chunks:
            self._doubt = False
            if chunks[0][0] & 0xC0 == 0x80 and not self._prefix:
                # The rest of a character of which nobody here has seen the beginning.
                self._lose()
                self.pending = False
                self._want()
                return None, b""
        picture, self._picture = self._picture, None
        prefix, self._prefix = self._prefix, b""
        self.pending = self._cursor < feed.head
        return picture, b"".join([prefix, *chunks]) if prefix else b"".join(chunks)

    def close(self) -> None:
        """Leave. Safe to repeat."""
        self._feed.leave(self)
        self._lose()
        self._wants = self.pending = True  # it is neither told anything nor shown a picture

    # --- for its feed -----------------------------------------------------------------------------------

    def _want(self) -> None:
        if not self.ended and not self._wants:
            self._wants = True
            self._feed.look()

    def _lose(self) -> None:
        self._cursor = self._picture = None
        self._prefix = b""

    def _wake(self) -> None:
        if not self.pending:
            self.pending = True
            # In a step of its own: what goes wrong at one viewer's is not the others' trouble.
            asyncio.get_running_loop().call_soon(self._tell)

    def _stand(self, at: int, prefix: bytes, doubt: bool) -> None:
        self._cursor, self._prefix, self._doubt, self._wants = at, prefix, doubt, False


class Feed:
    """One watched session: its line as long as it has a pane, its latest output, its viewers."""

    def __init__(
        self, name: str, connect: Connect, size: tuple[int, int], gone: Callable[[Feed], None]
    ) -> None:
        """`gone` is called when nobody watches any more, in the last step of `run`."""
        self.name = name
        self.head = 0  # position behind the latest chunk
        self._connect = connect
        self._gone = gone
        self._size = size
        self._wanted: tuple[int, int] | None = None
        self._viewers: dict[Viewer, None] = {}
        self._joining: dict[Viewer, asyncio.Future[Picture | None]] = {}
        self._line: Line | None = None
        self._process = 0
        self._news = asyncio.Event()
        self._asked = False  # the session has changed: it may have a pane now, or another process
        self._over = False  # the line has nothing more to say
        self._problem = ""  # why tmux could not be asked, as it was logged
        self._chunks: deque[bytes] = deque()
        self._bytes = 0
        self._base = 0  # position of the first chunk
        self._mark: tuple[int, bytes, bool] | None = None  # where the picture that is being taken stands
        self._tail = b""
        self._flushing = False

    # --- viewers ----------------------------------------------------------------------------------------

    async def join(self, tell: Callable[[], None]) -> tuple[Viewer, Picture]:
        """A new viewer, and what it sees first: an empty screen where there is no pane (yet), or none can be
        had in time. What follows, it is told."""
        viewer = Viewer(self, tell)
        self._viewers[viewer] = None
        answer: asyncio.Future[Picture | None] = asyncio.get_running_loop().create_future()
        self._joining[viewer] = answer
        viewer._want()
        try:
            async with asyncio.timeout(JOIN_S):
                picture = await answer
        except TimeoutError:
            picture = None
        except asyncio.CancelledError:
            viewer.close()
            raise
        finally:
            self._joining.pop(viewer, None)
        if viewer.ended:
            raise SessionNotFound(self.name)
        return viewer, picture or Picture(*(self._wanted or self._size), BLANK)

    def leave(self, viewer: Viewer) -> None:
        self._viewers.pop(viewer, None)
        if not self._viewers:
            self._news.set()

    def drop(self) -> None:
        """The session was deleted."""
        for viewer in list(self._viewers):
            viewer.ended = True
            viewer._lose()
            viewer._wake()
            self._joined(viewer, None)
        self._viewers.clear()
        self._news.set()

    @property
    def watched(self) -> bool:
        return bool(self._viewers)

    def look(self) -> None:
        """Somebody wants a picture."""
        self._news.set()

    def ask(self) -> None:
        """The session has changed in some way."""
        self._asked = True
        self._news.set()

    def after(self, position: int, limit: int) -> tuple[list[bytes], int]:
        """Output from a position that is held, and the position behind it."""
        taken: list[bytes] = []
        size = 0
        for index in range(position - self._base, len(self._chunks)):
            taken.append(self._chunks[index])
            size += len(taken[-1])
            if size >= limit:
                break
        return taken, position + len(taken)

    def describe(self) -> dict[str, Any]:
        cols, rows = self._size
        return {"viewers": len(self._viewers), "size": f"{cols}x{rows}", "attached": self._line is not None}

    # --- what clients do --------------------------------------------------------------------------------

    async def type(self, data: bytes) -> None:
        """Raises `SessionStopped` where nothing runs that could read it."""
        line = self._line
        try:
            taken = line is not None and await line.type(data)
        except TmuxError as e:
            if not self._went(line):
                raise InternalError("tmux did not take the input.") from e
            taken = False
        if not taken:
            raise SessionStopped(self.name)

    async def resize(self, cols: int, rows: int) -> None:
        """The latest one holds, also for a pane that is yet to come while somebody watches."""
        self._wanted = (cols, rows)
        line = self._line
        try:
            if line is not None:
                await line.resize(cols, rows)
        except TmuxError as e:
            if not self._went(line):
                raise InternalError("tmux did not take the new size.") from e

    def _went(self, line: Line | None) -> bool:
        """It went while it was asked for something: its pane did, or tmux."""
        return self._over or self._line is not line

    # --- what the line says -----------------------------------------------------------------------------

    def output(self, data: bytes) -> None:
        if not data:
            return
        self._chunks.append(data)
        self._bytes += len(data)
        self.head += 1
        self._tail = (self._tail + data[-CHARACTER:])[-CHARACTER:]
        if not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def changed(self) -> None:
        self._lose_all()

    def ended(self) -> None:
        self._over = True
        self._news.set()

    # --- its task ---------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until nobody watches. Cancelling it lets go of the pane."""
        self._lose_all()
        tries = 0
        while self._viewers:
            self._asked = False
            line = await self._reach()
            if line is None:
                self._answer_blank()
                await self._wait(LOOK_AGAIN_S[min(tries, len(LOOK_AGAIN_S) - 1)])
                tries = 0 if self._asked else tries + 1
                continue
            tries = 0
            self._line = line
            try:
                await self._follow(line)
            except TmuxError as e:
                if not self._over:
                    log.warning("lost sight of a screen", session=self.name, problem=str(e))
            finally:
                self._line = None
                await line.close()
            self._lose_all()
            if self._viewers:
                await asyncio.sleep(LOOK_AGAIN_S[0])
        self._gone(self)

    async def _reach(self) -> Line | None:
        self._over = False
        self._tail = b""
        try:
            line = await self._connect(self.name, self)
        except TmuxError as e:
            if self._problem != (problem := str(e)):  # it is tried again and again: once is enough
                log.warning("could not look at a screen", session=self.name, problem=problem)
            self._problem = problem
            return None
        self._problem = ""
        return line

    async def _follow(self, line: Line) -> None:
        """Make the pictures that are wanted, one at a time, until the line ends or nobody watches."""
        if self._wanted is not None:
            await line.resize(*self._wanted)
        self._process = await line.process()
        while self._viewers and not self._over:
            if self._asked:
                self._asked = False
                process = await line.process()
                if process != self._process:
                    self._process = process
                    self._lose_all()  # what it found on the screen was another's
            if any(viewer._wants for viewer in self._viewers):
                await self._show(line)
            elif not self._asked and not await self._wait(LIVES_S):
                self._asked = True

    async def _show(self, line: Line) -> None:
        """Take a picture, for all who want one by now."""
        try:
            picture = await line.picture(self._note)
            noted = self._mark
        finally:
            self._mark = None
        if noted is None:
            return  # overtaken: the output after it is no longer held whole
        at, tail, known = noted
        self._size = (picture.cols, picture.rows)
        for viewer in [v for v in self._viewers if v._wants]:
            viewer._stand(at, picture.pending or tail, not known)
            if not self._joined(viewer, picture):
                viewer._picture = picture
                viewer._wake()

    def _note(self) -> None:
        self._mark = (self.head, unfinished(self._tail), len(self._tail) == CHARACTER)

    def _joined(self, viewer: Viewer, picture: Picture | None) -> bool:
        """Whether the picture is the answer to this viewer's join."""
        answer = self._joining.pop(viewer, None)
        if answer is None or answer.done():
            return False
        answer.set_result(picture)
        return True

    def _answer_blank(self) -> None:
        for viewer in list(self._joining):
            self._joined(viewer, None)

    async def _wait(self, seconds: float) -> bool:
        """For whatever there is to do, or so long; whether there is something."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):  # `wait_for` may swallow a cancellation (3.11)
                await self._news.wait()
        there = self._news.is_set()
        self._news.clear()
        return there

    # --- the backlog ------------------------------------------------------------------------------------

    def _lose_all(self) -> None:
        """What is held is of no use to anybody."""
        self._chunks.clear()
        self._bytes = 0
        self._base = self.head
        self._mark = None
        for viewer in list(self._viewers):
            viewer._lose()
            viewer._wake()

    def _flush(self) -> None:
        self._flushing = False
        for viewer in list(self._viewers):
            if viewer._cursor is not None and viewer._cursor < self.head:
                viewer._wake()
        asyncio.get_running_loop().call_soon(self._trim)  # after those who have room took it

    def _trim(self) -> None:
        """Keep what somebody has yet to take, within the bound."""
        needed = [v._cursor for v in self._viewers if v._cursor is not None]
        if self._mark is not None:
            needed.append(self._mark[0])
        least = min(needed, default=self.head)
        while self._chunks and (self._base < least or self._bytes > BACKLOG_BYTES):
            self._bytes -= len(self._chunks.popleft())
            self._base += 1
        if self._base <= least:
            return
        if self._mark is not None and self._mark[0] < self._base:
            self._mark = None
        for viewer in list(self._viewers):
            if viewer._cursor is not None and viewer._cursor < self._base:
                viewer._lose()
                viewer._wake()


class Screens:
    """The feeds of all sessions that are watched, each a supervised child."""

    def __init__(self, connect: Connect, supervisor: Supervisor, size: tuple[int, int]) -> None:
        """`size` is what a pane has that nobody has given another, columns and rows."""
        self._connect = connect
        self._supervisor = supervisor
        self._size = size
        self._feeds: dict[str, Feed] = {}
        self._made = 0

    async def join(self, name: str, tell: Callable[[], None]) -> tuple[Viewer, Picture]:
        """Watch a session. `tell` is called when the viewer has something to take; it must not raise.

        Raises `SessionNotFound` where the session is deleted meanwhile. Cancelling it leaves nothing.
        """
        feed = self._feeds.get(name)
        if feed is None:
            feed = self._feeds[name] = Feed(name, self._connect, self._size, self._gone)
            self._made += 1  # one that was dropped may still be ending under its name
            self._supervisor.start_child(
                ChildSpec(
                    id=f"screen:{name}#{self._made}",
                    run=feed.run,
                    restart="transient",
                    shutdown_s=CLOSE_S,
                    describe=feed.describe,
                )
            )
        return await feed.join(tell)

    async def type(self, name: str, data: bytes) -> None:
        """Raises `SessionStopped`, `InternalError`."""
        feed = self._feeds.get(name)
        if feed is None:
            raise SessionNotFound(name)
        await feed.type(data)

    async def resize(self, name: str, cols: int, rows: int) -> None:
        feed = self._feeds.get(name)
        if feed is None:
            raise SessionNotFound(name)
        await feed.resize(cols, rows)

    def watched(self, name: str) -> bool:
        """Somebody looks at the session's screen."""
        feed = self._feeds.get(name)
        return feed is not None and feed.watched

    def changed(self, name: str) -> None:
        """The session is in another state: a look is worth while."""
        feed = self._feeds.get(name)
        if feed is not None:
            feed.ask()

    def drop(self, name: str) -> None:
        """The session was deleted: its viewers end."""
        feed = self._feeds.pop(name, None)
        if feed is not None:
            feed.drop()

    def _gone(self, feed: Feed) -> None:
        if self._feeds.get(feed.name) is feed:
            del self._feeds[feed.name]
