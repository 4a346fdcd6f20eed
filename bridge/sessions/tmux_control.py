"""tmux's control mode: one `tmux -C` process through which a command takes 0.1 ms instead of 3 to 8.

The protocol (`Parser`, `quote`) is pure. `ControlClient` is one connection: commands out, their answers and,
if asked for, what the panes of a session write. It knows no session of ours and nothing about why it is
asked; which connection is used, and what follows when one ends, is decided in `tmux.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from bridge.errors import TmuxError

CALL_S = 10
"""A tmux that does not answer for so long hangs; a loaded machine takes tenths of a second."""

CLOSE_S = 2
"""For a client to go by itself once its input has ended: milliseconds, unless its server hangs."""

STDERR_KEPT = 4096

COMMANDS_ONLY = "no-output,ignore-size,no-detach-on-destroy"
"""Client flags: hears no pane, never counts for a window's size, and moves to another session when its own is
killed (from 3.6 on; before, tmux ignores that flag and the client ends)."""

WATCHING = "ignore-size,pause-after=5"
"""Client flags: hears the panes of its session. tmux pauses a pane of which more than 5 s are unread, instead
of keeping all of it; `refresh-client -A %0:continue` goes on, from where the pane then is."""


class Refused(TmuxError):
    """tmux's own words for why it did not do what it was asked."""


class Disconnected(TmuxError):
    """The connection ended before the answer came: whether tmux did what it was asked is not known."""


class Hung(TmuxError):
    """No answer for `CALL_S`: whether tmux will do what it was asked is not known either."""


class Surprise(TmuxError):
    """tmux said what the protocol does not have."""


# --- the protocol: pure ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reply:
    """What one command said. `asked`: it came over the connection, and not from the client's command line."""

    lines: tuple[bytes, ...]
    ok: bool
    asked: bool


@dataclass(frozen=True, slots=True)
class Output:
    """What a pane wrote. `age_ms`: how long tmux had it lying about, told where the client can be paused."""

    pane: str
    data: bytes
    age_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Paused:
    """More of this pane was unread than tmux keeps: what it wrote meanwhile is lost to this client."""

    pane: str


@dataclass(frozen=True, slots=True)
class Continued:
    pane: str


@dataclass(frozen=True, slots=True)
class Exited:
    """The client ends, and why, where tmux tells."""

    reason: str


@dataclass(frozen=True, slots=True)
class Notice:
    """Any other thing that happened (`session-changed`, `layout-change`, …), newer ones of tmux included."""

    name: str
    rest: str


Said = Reply | Output | Paused | Continued | Exited | Notice

_GUARD = re.compile(rb"%(begin|end|error) (\d+) (\d+) (\d+)")
_OCTAL = re.compile(rb"\\([0-3][0-7]{2})")
_BYTE = {b"%03o" % n: bytes((n,)) for n in range(256)}


class Parser:
    """What tmux says in control mode, from chunks cut anywhere."""

    def __init__(self) -> None:
        self._rest = b""
        self._block: tuple[bytes, ...] | None = None
        self._lines: list[bytes] = []

    def feed(self, data: bytes) -> list[Said]:
        """Raises `Surprise`; nothing that comes after that can be trusted."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        found = (self._line(line) for line in lines)
        return [said for said in found if said is not None]

    def _line(self, line: bytes) -> Said | None:
        guard = _GUARD.fullmatch(line)
        kind = guard[1] if guard else b""
        if self._block is not None:
            # Whatever a command prints stands here as it is, even if it looks like a notice or another end.
            if guard is None or kind == b"begin" or guard.groups()[1:] != self._block:
                self._lines.append(line)
                return None
            reply = Reply(tuple(self._lines), kind == b"end", self._block[2] != b"0")
            self._block, self._lines = None, []
            return reply
        if guard is not None:
            if kind != b"begin":
                raise Surprise(f"tmux ended an answer that had not begun: {line!r}")
            self._block = guard.groups()[1:]
            return None
        if line.startswith(b"%"):
            return _notice(line)
        return None  # the rest of a notice whose text has line ends (`%message`)


def _notice(line: bytes) -> Said:
    name, _, rest = line[1:].partition(b" ")
    if name == b"output":
        pane, _, data = rest.partition(b" ")
        return Output(pane.decode("ascii", "replace"), _unescaped(data))
    if name == b"extended-output":
        about, colon, data = rest.partition(b" : ")
        fields = about.split(b" ")  # of which later versions may have more
        if not colon or len(fields) < 2 or not fields[1].isdigit():
            raise Surprise(f"tmux wrote output that cannot be read: {line[:100]!r}")
        return Output(fields[0].decode("ascii", "replace"), _unescaped(data), int(fields[1]))
    text = rest.decode(errors="replace")
    match name:
        case b"pause":
            return Paused(text)
        case b"continue":
            return Continued(text)
        case b"exit":
            return Exited(text)
    return Notice(name.decode("ascii", "replace"), text)


def _unescaped(data: bytes) -> bytes:
    return _OCTAL.sub(lambda found: _BYTE[found[1]], data) if b"\\" in data else data


_UNSAFE = re.compile(rb"[^A-Za-z0-9 _./:=@%+,-]")


def quote(word: str) -> bytes:
    """A word for tmux's command language, which gives it back as it was: whatever might mean something there
    is an octal escape. Raises `TmuxError` for what no argument can hold."""
    try:
        raw = os.fsencode(word)
    except UnicodeEncodeError as e:
        raise TmuxError(f"tmux could not be asked: {e}") from e
    if b"\0" in raw:
        raise TmuxError("tmux could not be asked: an argument cannot hold a NUL")
    return b'"' + _UNSAFE.sub(lambda found: b"\\%03o" % found[0][0], raw) + b'"'


def command_line(commands: Sequence[Sequence[str]]) -> bytes:
    """Commands that run in order, up to the first that fails."""
    return b" ; ".join(b" ".join(map(quote, command)) for command in commands) + b"\n"


# --- the connection -------------------------------------------------------------------------------


@dataclass(slots=True)
class _Asked:
    """A line that was sent, and what has come back for it."""

    answer: asyncio.Future[list[str]]
    left: int
    timer: asyncio.TimerHandle
    lines: list[str] = field(default_factory=list)


class ControlClient(asyncio.SubprocessProtocol):
    """One connection to a tmux server. Made by `open`; ends by `close`, or when tmux ends it.

    `output(pane, data)` is called for what the panes of the session write (the flags have to ask for it),
    `notice` for everything else that tmux tells unasked; both on the loop, and neither may block or raise.
    """

    def __init__(
        self,
        output: Callable[[str, bytes], None] | None = None,
        notice: Callable[[Paused | Continued | Exited | Notice], None] | None = None,
    ) -> None:
        self._output = output
        self._notice = notice
        self._loop = asyncio.get_running_loop()
        self._parser = Parser()
        self._asked: deque[_Asked] = deque()
        self._process: asyncio.SubprocessTransport | None = None
        self._stdin: asyncio.WriteTransport | None = None
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._ready.add_done_callback(_noted)
        self._gone: asyncio.Future[None] = self._loop.create_future()
        self._stderr = b""
        self._problem: TmuxError | None = None

    @classmethod
    async def open(
        cls,
        tmux: Sequence[str],
        session: str,
        env: Mapping[str, str],
        flags: str = COMMANDS_ONLY,
        output: Callable[[str, bytes], None] | None = None,
        notice: Callable[[Paused | Continued | Exited | Notice], None] | None = None,
    ) -> ControlClient:
        """Attach to `session`. `tmux`: the program with the words that name its server; none is started.

        Raises `Refused` (no server, no such session), `Hung`, or `TmuxError` where it cannot be run.
        """
        self = cls(output, notice)
        words = [*tmux, "-N", "-C", "attach-session", "-E", "-t", f"={session}", "-f", flags]
        timer = self._loop.call_later(CALL_S, self._hang)
        try:
            # Not to be cancelled, which would kill it: a server before 3.7 dies with a control client that
            # dies while it introduces itself. `connection_made` ends it in that case.
            await asyncio.shield(
                self._loop.subprocess_exec(
                    lambda: self,
                    *words,
                    env=dict(env),
                    cwd="/",
                    start_new_session=True,  # Ctrl-C in the bridge's terminal is not for it
                )
            )
            await asyncio.shield(self._ready)
        except (OSError, ValueError) as e:
            raise TmuxError(f"tmux could not be asked: {e}") from e
        except BaseException:
            await self.close()
            raise
        finally:
            timer.cancel()
        return self

    @property
    def up(self) -> bool:
        """Commands can be sent; only from the loop that made it."""
        return (
            self._problem is None
            and self._ready.done()
            and not self._gone.done()
            and self._loop is asyncio.get_running_loop()
        )

    @property
    def problem(self) -> TmuxError | None:
        """Why it ended, once it has."""
        return self._problem

    async def command(self, *words: str) -> list[str]:
        """What tmux says to one command, as lines.

        Raises `Refused`, `Disconnected` or `Hung`. Cancelling waits for the answer all the same, so that
        whoever comes next finds tmux as the command left it.
        """
        return await self.commands(words)

    async def commands(self, *commands: Sequence[str]) -> list[str]:
        """`command`, for several in one go: those after one that fails are not run."""
        answer = self._send(commands)
        try:
            return await asyncio.shield(answer)
        except asyncio.CancelledError:
            with contextlib.suppress(TmuxError):
                await answer
            raise

    async def ended(self) -> None:
        """Returns once the connection has ended, and its process with it."""
        await asyncio.shield(self._gone)

    async def close(self) -> None:
        """End the connection and its process. Nothing else ends with it."""
        self._end(Disconnected("The connection to tmux was closed."))
        if self._process is None:
            return
        if self._stdin is not None:
            self._stdin.close()
        try:
            async with asyncio.timeout(CLOSE_S):
                await self.ended()
        except TimeoutError:
            self._kill()
            await self.ended()
        finally:
            self._process.close()

    def _send(self, commands: Sequence[Sequence[str]]) -> asyncio.Future[list[str]]:
        line = command_line(commands)
        if not self.up or self._stdin is None:
            raise self._problem or Disconnected("There is no connection to tmux.")
        answer: asyncio.Future[list[str]] = self._loop.create_future()
        answer.add_done_callback(_noted)
        timer = self._loop.call_later(CALL_S, self._hang)
        self._asked.append(_Asked(answer, len(commands), timer))
        self._stdin.write(line)
        return answer

    # --- what the process does ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._process = cast(asyncio.SubprocessTransport, transport)
        self._stdin = cast(asyncio.WriteTransport, self._process.get_pipe_transport(0))
        if self._problem is not None:
            self._stdin.close()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd != 1:
            self._stderr = (self._stderr + data)[-STDERR_KEPT:]
            return
        if self._problem is not None:
            return
        try:
            for said in self._parser.feed(data):
                self._take(said)
        except Surprise as e:
            self._end(e)
            self._kill()

    def process_exited(self) -> None:
        """What it said before is still to be read."""

    def connection_lost(self, exc: Exception | None) -> None:
        words = self._stderr.decode(errors="replace").strip()
        self._end(Disconnected(f"The connection to tmux ended{f': {words}' if words else '.'}"), words)
        if self._process is not None:
            self._process.close()
        if not self._gone.done():
            self._gone.set_result(None)

    def _take(self, said: Said) -> None:
        match said:
            case Output(pane, data):
                if self._output is not None:
                    self._output(pane, data)
            case Reply(asked=True):
                self._answer(said)
            case Reply():
                self._attached(said)
            case _:
                if self._notice is not None:
                    self._notice(said)

    def _attached(self, reply: Reply) -> None:
        if self._ready.done():
            return
        if reply.ok:
            self._ready.set_result(None)
        else:
            self._end(Refused(_text(reply.lines)))

    def _answer(self, reply: Reply) -> None:
        if not self._asked:
            raise Surprise("tmux answered what it was not asked")
        asked = self._asked[0]
        asked.left -= 1
        if reply.ok:
            asked.lines += [line.decode(errors="replace") for line in reply.lines]
            if asked.left:
                return
        self._asked.popleft()
        asked.timer.cancel()
        if asked.answer.done():
            return
        if reply.ok:
            asked.answer.set_result(asked.lines)
        else:
            asked.answer.set_exception(Refused(_text(reply.lines)))

    def _hang(self) -> None:
        self._end(Hung(f"tmux has not answered for {CALL_S} s."))
        self._kill()

    def _end(self, problem: TmuxError, words: str = "") -> None:
        """Nothing can be asked any more; who waits for an answer is told so. The first reason counts."""
        if self._problem is None:
            self._problem = problem
        if not self._ready.done():
            self._ready.set_exception(Refused(words) if words else self._problem)
        while self._asked:
            asked = self._asked.popleft()
            asked.timer.cancel()
            if not asked.answer.done():
                asked.answer.set_exception(self._problem)

    def _kill(self) -> None:
        if self._process is not None and self._process.get_returncode() is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()


def _noted(future: asyncio.Future[list[str]] | asyncio.Future[None]) -> None:
    """An error that nobody waits for any more is not worth a line in the log."""
    if not future.cancelled():
        future.exception()


def _text(lines: Sequence[bytes]) -> str:
    return b"\n".join(lines).decode(errors="replace").strip()
