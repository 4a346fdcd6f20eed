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
import shutil
import signal
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from bridge.errors import TmuxError

CALL_S = 10
"""A tmux that does not answer for so long hangs; a loaded machine takes tenths of a second."""

CLOSE_S = 2
"""For a client to go by itself once its input has ended: milliseconds, unless its server hangs."""

READ_BYTES = 1 << 16

COMMANDS_ONLY = "no-output,ignore-size,no-detach-on-destroy"
"""Client flags: hears no pane, never counts for a window's size, and moves to another session when its own is
killed (from 3.6 on; before, tmux ignores that flag and the client ends)."""

WATCHING = "ignore-size,pause-after=5"
"""Client flags: hears the panes of its session. tmux pauses a pane of which more than 5 s are unread, instead
of keeping all of it, until `resume`."""


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


Noticed = Paused | Continued | Exited | Notice
Said = Reply | Output | Noticed

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


def _dying_with_us(env: Mapping[str, str]) -> tuple[str, ...]:
    """The end of its input is not enough for a client whose bridge is killed: one that the server still has
    words for stays, and with it a server that is told to end. (util-linux has the program.)"""
    found = shutil.which("setpriv", path=env.get("PATH"))
    return (found, "--pdeathsig", "KILL") if found else ()


class _Process:
    """A process and three pipes to it, watched by the loop.

    Not asyncio's, which complains where it is lost without a word, as happens to what belongs to nobody's
    `async with`: lost, this one closes its pipes, and a control client goes when its input ends.
    """

    def __init__(
        self,
        words: Sequence[str],
        env: Mapping[str, str],
        read: Callable[[bytes], None],
        ended: Callable[[str], None],
    ) -> None:
        """`read` gets what it prints, and at last `ended` what it complained of. Raises `OSError`."""
        self._read, self._ended = read, ended
        self._loop = asyncio.get_running_loop()
        self._unsent = b""
        pipes = [os.pipe2(os.O_CLOEXEC) for _ in range(3)]
        (stdin, self._stdin), (self._stdout, stdout), (self._stderr, stderr) = pipes
        self._pidfd = -1
        self._open = [self._stdin, self._stdout, self._stderr]
        try:
            words = [*_dying_with_us(env), *words]
            self.pid = os.posix_spawnp(
                words[0],
                words,
                env,
                file_actions=[(os.POSIX_SPAWN_DUP2, fd, n) for n, fd in enumerate((stdin, stdout, stderr))],
                setsid=True,  # Ctrl-C in the bridge's terminal is not for it
                setsigdef=[signal.SIGPIPE, signal.SIGINT],
            )
            self._pidfd = os.pidfd_open(self.pid)
            self._open.append(self._pidfd)
        except (OSError, ValueError) as e:
            self._close()
            raise TmuxError(f"tmux could not be asked: {e}") from e
        finally:
            for fd in (stdin, stdout, stderr):
                os.close(fd)
        for fd in (self._stdin, self._stdout, self._stderr):
            os.set_blocking(fd, False)
        self._loop.add_reader(self._stdout, self._readable)
        self._loop.add_reader(self._pidfd, self._exited)

    def write(self, data: bytes) -> None:
        if self._unsent or self._stdin not in self._open:
            self._unsent += data
            return
        self._unsent = data
        self._writable()

    def end_input(self) -> None:
        if self._stdin in self._open:
            self._loop.remove_writer(self._stdin)
            self._open.remove(self._stdin)
            os.close(self._stdin)

    def kill(self) -> None:
        if self._pidfd in self._open:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def __del__(self) -> None:
        if self._open:
            self._close()

    def _writable(self) -> None:
        try:
            sent = os.write(self._stdin, self._unsent)
        except BlockingIOError:
            sent = 0
        except BrokenPipeError:  # it has gone; `_exited` says so
            self._unsent = b""
            self.end_input()
            return
        self._unsent = self._unsent[sent:]
        if self._unsent:
            self._loop.add_writer(self._stdin, self._writable)
        else:
            self._loop.remove_writer(self._stdin)

    def _readable(self) -> None:
        try:
            data = os.read(self._stdout, READ_BYTES)
        except BlockingIOError:
            return
        if data:
            self._read(data)
        else:
            self._loop.remove_reader(self._stdout)

    def _exited(self) -> None:
        for fd in (self._stdout, self._pidfd):
            self._loop.remove_reader(fd)
        with contextlib.suppress(BlockingIOError):  # the server may hold the other end still
            while data := os.read(self._stdout, READ_BYTES):
                self._read(data)
        complaint = b""
        with contextlib.suppress(BlockingIOError):
            complaint = os.read(self._stderr, READ_BYTES)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)
        self.end_input()
        self._close()
        self._ended(complaint.decode(errors="replace").strip())

    def _close(self) -> None:
        while self._open:
            os.close(self._open.pop())


@dataclass(slots=True)
class _Asked:
    """A line that was sent, and what has come back for it."""

    answer: asyncio.Future[list[str]]
    left: int
    timer: asyncio.TimerHandle
    answered: Callable[[], None] | None = None
    lines: list[str] = field(default_factory=list)


class ControlClient:
    """One connection to a tmux server. Made by `open`; ends by `close`, or when tmux ends it.

    `output(pane, data)` is called for what the panes of the session write (the flags have to ask for it),
    `notice` for everything else that tmux tells unasked; both on the loop, and neither may block or raise.
    """

    def __init__(
        self,
        tmux: Sequence[str],
        session: str,
        env: Mapping[str, str],
        flags: str,
        output: Callable[[str, bytes], None] | None,
        notice: Callable[[Noticed], None] | None,
    ) -> None:
        self._output = output
        self._notice = notice
        self._loop = asyncio.get_running_loop()
        self._parser = Parser()
        self._asked: deque[_Asked] = deque()
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._ready.add_done_callback(_noted)
        self._gone: asyncio.Future[None] = self._loop.create_future()
        self._problem: TmuxError | None = None
        words = (*tmux, "-N", "-C", "attach-session", "-E", "-t", f"={session}", "-f", flags)
        self._process = _Process(words, env, self._said, self._ended)

    @classmethod
    async def open(
        cls,
        tmux: Sequence[str],
        session: str,
        env: Mapping[str, str],
        flags: str = COMMANDS_ONLY,
        output: Callable[[str, bytes], None] | None = None,
        notice: Callable[[Noticed], None] | None = None,
    ) -> ControlClient:
        """Attach to `session`. `tmux`: the program with the words that name its server; none is started.

        Raises `Refused` (no server, no such session), `Hung`, or `TmuxError` where it cannot be run.
        """
        self = cls(tmux, session, env, flags, output, notice)
        timer = self._loop.call_later(CALL_S, self._hang)
        try:
            await asyncio.shield(self._ready)
        except BaseException:
            await self.close()
            raise
        finally:
            timer.cancel()
        return self

    @property
    def pid(self) -> int:
        """Of the process; it has gone once `ended` returns."""
        return self._process.pid

    @property
    def up(self) -> bool:
        """Commands can be sent; only from the loop that made it."""
        return self._problem is None and self._ready.done() and self._loop is asyncio.get_running_loop()

    @property
    def problem(self) -> TmuxError | None:
        """Why it ended, once it has."""
        return self._problem

    async def command(self, *words: str) -> list[str]:
        """What tmux says to one command, as lines.

        Raises `Refused`, `Disconnected`, `Hung` or `Surprise`. Cancelling waits for the answer all the same,
        so that whoever comes next finds tmux as the command left it.
        """
        return await self.commands(words)

    async def commands(
        self, *commands: Sequence[str], answered: Callable[[], None] | None = None
    ) -> list[str]:
        """`command`, for several in one go: those after one that fails are not run.

        `answered` is called where the answers stand among what the panes write: after the output that came
        before them, and before any that follows.
        """
        answer = self._send(commands, answered)
        try:
            return await asyncio.shield(answer)
        except asyncio.CancelledError:
            with contextlib.suppress(TmuxError):
                await answer
            raise

    async def resume(self, pane: str) -> None:
        """Hear a paused pane again, from where it now is: what it wrote meanwhile is not told.

        tmux before 3.8 puts its `%continue` into the answer, so that there is no notice of it.
        """
        await self.command("refresh-client", "-A", f"{pane}:continue")

    async def ended(self) -> None:
        """Returns once the connection has ended, and its process with it."""
        await asyncio.shield(self._gone)

    async def close(self) -> None:
        """End the connection and its process, and nothing else. Cancelled, it goes on ending by itself."""
        try:
            await self._hear_no_more()
        finally:
            await self._close()

    async def _hear_no_more(self) -> None:
        """Pause what is heard. A server dies, and all its sessions, where the input of a client ends while a
        pane writes and some of that is on its way (every version up to 3.8)."""
        if self._output is None or not self.up:
            return
        with contextlib.suppress(TmuxError, TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                panes = await self.command("list-panes", "-s", "-F", "#{pane_id}")
                await self.commands(*(("refresh-client", "-A", f"{pane}:pause") for pane in panes))

    async def _close(self) -> None:
        self._end(Disconnected("The connection to tmux was closed."))
        self._process.end_input()
        kill = self._loop.call_later(CLOSE_S, self._process.kill)
        try:
            await self.ended()
        finally:
            if self._gone.done():
                kill.cancel()

    def _send(
        self, commands: Sequence[Sequence[str]], answered: Callable[[], None] | None = None
    ) -> asyncio.Future[list[str]]:
        line = command_line(commands)
        if not self.up:
            raise self._problem or Disconnected("There is no connection to tmux.")
        answer: asyncio.Future[list[str]] = self._loop.create_future()
        answer.add_done_callback(_noted)
        timer = self._loop.call_later(CALL_S, self._hang)
        self._asked.append(_Asked(answer, len(commands), timer, answered))
        self._process.write(line)
        return answer

    def _said(self, data: bytes) -> None:
        if self._problem is not None:
            return
        try:
            for said in self._parser.feed(data):
                self._take(said)
        except Surprise as e:
            self._end(e)
            self._process.kill()

    def _ended(self, complaint: str) -> None:
        if not self._ready.done() and complaint:
            self._end(Refused(complaint))
        self._end(Disconnected(f"The connection to tmux ended{f': {complaint}' if complaint else '.'}"))
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
                if isinstance(said, Exited):
                    self._end(Disconnected(f"tmux ended the connection{said.reason and f': {said.reason}'}."))
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
            if asked.answered is not None:
                asked.answered()
            asked.answer.set_result(asked.lines)
        else:
            asked.answer.set_exception(Refused(_text(reply.lines)))

    def _hang(self) -> None:
        self._end(Hung(f"tmux has not answered for {CALL_S} s."))
        self._process.kill()

    def _end(self, problem: TmuxError) -> None:
        """Nothing can be asked any more; who waits for an answer is told so. The first reason counts."""
        if self._problem is None:
            self._problem = problem
        if not self._ready.done():
            self._ready.set_exception(self._problem)
        while self._asked:
            asked = self._asked.popleft()
            asked.timer.cancel()
            if not asked.answer.done():
                asked.answer.set_exception(self._problem)


def _noted(future: asyncio.Future[list[str]] | asyncio.Future[None]) -> None:
    """An error that nobody waits for any more is not worth a line in the log."""
    if not future.cancelled():
        future.exception()


def _text(lines: Sequence[bytes]) -> str:
    return b"\n".join(lines).decode(errors="replace").strip()
