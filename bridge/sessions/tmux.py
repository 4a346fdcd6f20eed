"""The one file that talks to tmux: a server of our own, one session for each conversation.

A call goes through one connection in control mode (`tmux_control`, 0.1 ms), where that is up, or else is one
short-lived `tmux` in a thread (3 to 8 ms). A library of tmux objects is not used: it would start the server
with the bridge's own environment, secrets and all, and takes a question that could not be asked for the
answer "there is nothing". Here only tmux's own "no server", "no such session" mean that there is none;
anything else raises `TmuxError` and says nothing about what lives.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from bridge.config import TmuxConfig
from bridge.errors import TmuxError
from bridge.sessions.tmux_control import (
    CALL_S,
    COMMANDS_ONLY,
    WATCHING,
    ControlClient,
    Disconnected,
    Noticed,
    Refused,
    Surprise,
)

T = TypeVar("T")

MINIMUM_VERSION = (3, 2)
"""Ubuntu 22.04's; 3.0 already knows all that is used, but nobody tried."""

CONTROL_VERSION = (3, 3)
"""Before, a connection for commands gives every window a size of 80 by 23, `ignore-size` or not."""

CONNECT_AGAIN_S = 60
"""Before another try where a connection hung or was not understood. Until then every call is a process."""

ENVIRONMENT = (
    "HOME",
    "PATH",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "USER",
    "LOGNAME",
    "SHELL",
    "TMPDIR",
    "TMUX_TMPDIR",
)
"""What tmux and its server get. The server keeps it for ever, and every pane would inherit it."""

OWNER, GENERATION = "@claude_bridge", "@claude_bridge_generation"
"""Session options that say whose a session is: the state folder's id, and which process of its session."""

PANE = "@claude_bridge_pane"
"""Session option that names the pane we made. A person may split the window or open another: what is meant
for the CLI must never reach a shell of theirs."""

_ABSENT = re.compile(
    r"no server running on|error connecting to .*\((No such file or directory|Connection refused)\)"
    r"|can't find (session|pane|window)|no such (session|pane|window)"
    r"|no current target|no sessions",  # `-a`, or attaching, on a server without sessions
)
_UNTOLD = re.compile(r"[\x00-\x1f\x7f-\x9f$%\\\u2028\u2029\ud800-\udfff]")
_FORMAT = "\t".join(
    f"#{{{name}}}"
    for name in (
        "session_name",
        OWNER,
        GENERATION,
        "pane_id",
        "pane_pid",
        "pane_dead",
        "pane_dead_status",
        "pane_dead_signal",
        "pane_tty",
        "pid",
        PANE,
        "version",
    )
)

Command = Sequence[str]
"""One command of tmux with its arguments, word by word."""


@dataclass(frozen=True, slots=True)
class Pane:
    """A session's one pane. `status` and `signal` are known once tmux calls it dead. The `pid` of a dead one
    is 0 where tmux does not tell it any more (3.8)."""

    session: str
    owner: str
    generation: int | None
    id: str
    pid: int
    dead: bool
    status: int | None
    signal: int | None
    tty: str
    server_pid: int

    @property
    def exit_code(self) -> int | None:
        """As `subprocess` has it: negative for a signal."""
        return -self.signal if self.signal else self.status


HELD, HOLD_S = "claude-bridge", 0.5
"""A table of keys in which every key waits: longer than an editor is open that only copies a file."""


class Tmux:
    """One tmux server, reached by the name of its socket. Started where it does not run.

    Where a connection for commands can be made is learnt from what is found: the call after one that saw a
    session of ours makes it.
    """

    def __init__(self, socket: str, config: TmuxConfig, environ: Mapping[str, str] = os.environ) -> None:
        self.socket = socket
        self._config = config
        self._binary = str(config.path) if config.path else "tmux"
        self._env = {name: environ[name] for name in ENVIRONMENT if name in environ}
        self._env.setdefault("LANG", "C.UTF-8")
        self._client: ControlClient | None = None
        self._seen: str | None = None
        self._typed: dict[str, float] = {}
        self._version: tuple[int, int] | None = None
        self._not_before = 0.0
        self._closed = False
        self._gate = asyncio.Lock()
        self._connecting = asyncio.Lock()
        self._tried = False
        self._calls = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def connected(self) -> bool:
        """Calls go through a connection, and not by a process each."""
        return self._client is not None and self._client.up

    def attach_command(self, session: str) -> str:
        """What a person types to see the session."""
        return f"{self._binary} -L {self.socket} attach -t {session}"

    def end_command(self, session: str) -> str:
        """What a person types to end the session, and none whose name only begins like it."""
        return f"{self._binary} -L {self.socket} kill-session -t '={session}'"

    async def panes(self, session: str | None = None) -> list[Pane]:
        """The pane of one session, or those of all; empty where there are none, or no server.

        Raises `TmuxError` where tmux cannot say.
        """
        return self._found(await self._ask(_list_panes(session)))

    def panes_now(self, session: str | None = None) -> list[Pane]:
        """`panes`, blocking."""
        return [row.pane for row in _rows(self._run(_list_panes(session)) or [])]

    async def new_session(self, session: str, command: Sequence[str], options: Mapping[str, str]) -> Pane:
        """A detached session that runs `command` in its one pane and stays when that ends.

        Raises `TmuxError`, also where a session of this name exists.
        """
        size = ("-x", str(self._config.width), "-y", str(self._config.height))
        # One call, so that no session is ever there without its owner and its options. What comes first
        # must stand before the first pane does: a command that fails at once has to leave its pane.
        said = await self._by_process(
            ("start-server",),
            ("set-option", "-s", "exit-empty", "off"),
            ("set-option", "-g", "remain-on-exit", "on"),
            ("set-option", "-g", "update-environment", ""),
            ("set-option", "-g", "status-left-length", "80"),
            ("new-session", "-d", "-s", session, "-c", "/", *size, "--", *command),
            ("set-option", "-F", "-t", f"={session}:", PANE, "#{pane_id}"),
            *_set_options(session, options),
            _list_panes(session),
        )
        if not said:
            raise TmuxError(f"tmux did not start the session {session}.")
        return self._found(said)[-1]

    async def rename(self, session: str, name: str, options: Mapping[str, str]) -> Pane:
        """Give a session another name, and options, in one call. Whoever is attached stays.

        Raises `TmuxError`, also where there is no such session, or one of that name.
        """
        said = await self._ask(
            ("rename-session", "-t", f"={session}", name),
            *_set_options(name, options),
            _list_panes(name),
            twice=False,
        )
        if not said:
            raise _no_session(session)
        return self._found(said)[-1]

    async def respawn(self, session: str, command: Sequence[str], options: Mapping[str, str]) -> Pane:
        """Run `command` in the session's pane instead of what runs there, or ran. Whoever is attached stays.

        The pane is a new one in the place of the old. What still ran in that is hung up, and may take its
        time to end. Raises `TmuxError`, also where there is no such session.
        """
        # Not `respawn-pane`: the server dies of that, and all sessions with it, where a connection that hears
        # the pane has not read everything (every version up to 3.8, also when the connection has gone since).
        old, new = await self._target(session), f"={session}:{{end}}"
        said = await self._ask(
            ("new-window", "-d", "-a", "-t", new, "-c", "/", "--", *command),
            ("set-option", "-F", "-t", new, PANE, "#{pane_id}"),
            *_set_options(session, options),
            ("swap-pane", "-d", "-s", new, "-t", old),
            ("kill-pane", "-t", old),
            _list_panes(session),
            twice=False,
        )
        if not said:
            raise _no_session(session)
        return self._found(said)[-1]

    async def send_keys(self, session: str, *keys: str, literal: bool = False) -> None:
        """Press keys in the session's pane, named as tmux names them (`Enter`, `C-g`), or text as it stands.
        A person who scrolls back there is taken out of that, since the keys would move their view.

        Raises `TmuxError`, also where there is no such session, or its process has ended. After an error it
        is not known how many of the keys arrived.
        """
        if not keys:
            return
        target = await self._target(session)
        said = await self._ask(
            ("copy-mode", "-q", "-t", target),
            ("send-keys", "-t", target, *(["-l"] if literal else []), "--", *keys),
            ("display-message", "-p", "-t", target, "#{pane_dead}"),
            twice=False,
        )
        if said is None:
            raise _no_session(session)
        if "1" in said:  # tmux takes keys for a dead pane, and drops them
            raise TmuxError(f"Nothing runs in {session} any more.")

    async def activity(self, session: str) -> str:
        """What is another by the next second's first key of a person's. Raises `TmuxError`."""
        said = await self._ask(("display-message", "-p", "-t", f"={session}:", "#{session_activity}"))
        if not said or not said[0].isdigit():
            raise _no_session(session)
        return said[0]

    async def people(self, session: str) -> list[str]:
        """The terminals that are attached to a session; live screens are not. Raises `TmuxError`."""
        said = await self._ask(
            ("list-clients", "-t", f"={session}", "-F", "#{client_control_mode} #{client_name}")
        )
        return [name for control, _, name in (line.partition(" ") for line in said or []) if control != "1"]

    async def painted(self, session: str) -> str:
        """What is another by the next second in which something writes to the session's pane, or to another
        of its window. Raises `TmuxError`."""
        target = await self._target(session)
        said = await self._ask(("display-message", "-p", "-t", target, "#{window_activity}"))
        if not said or not said[0].isdigit():
            raise _no_session(session)
        return said[0]

    async def hold(self, session: str) -> list[str]:
        """Have the first key of each person who is attached wait for half a second, and what they press
        next behind it: the TUI loses keys while it opens an editor. Returns what `release` is to be given.

        It waits in tmux, and goes on from there whatever becomes of the bridge. Raises `TmuxError`.
        """
        people = await self.people(session)
        if people:
            await self._ask(
                ("bind-key", "-T", HELD, "Any", f"run-shell 'sleep {HOLD_S}' ; send-keys"),
                ("bind-key", "-T", HELD, "C-b", "switch-client -T prefix"),
                *(("switch-client", "-c", name, "-T", HELD) for name in people),
            )
        return people

    async def release(self, people: Sequence[str]) -> None:
        """Their next key does not wait. Raises `TmuxError`."""
        if people:
            await self._ask(*(("switch-client", "-c", name, "-T", "root") for name in people))

    def still(self, session: str, activity: str) -> str:
        """A line for a shell that is true if no person pressed a key since `activity` was told."""
        place = self._env.get("TMUX_TMPDIR")
        ask = shlex.join(
            (
                *(["env", f"TMUX_TMPDIR={place}"] if place else []),
                *(shutil.which(self._binary) or self._binary, *self._command()[1:]),
                *("display-message", "-p", "-t", f"={session}:", "#{session_activity}"),
            )
        )
        return f'[ "$({ask})" = {activity} ]'

    async def press_if_still(self, session: str, activity: str, *keys: str) -> bool:
        """Press keys, named as tmux names them, unless a person pressed one since `activity` was told.

        tmux takes one key after the other, so that none of theirs comes between the look and ours. Raises
        `TmuxError`, as `send_keys` does.
        """
        target = await self._target(session)
        press = f"copy-mode -q -t '{target}' ; send-keys -t '{target}' -- {' '.join(keys)}"
        tell = f"display-message -p -t '{target}' 'pressed #{{pane_dead}}'"
        # Not through the connection, where what is nested answers a second time.
        said = await self._by_process(
            ("if-shell", "-F", "-t", target, f"#{{==:#{{session_activity}},{activity}}}", f"{press} ; {tell}")
        )
        if said is None:
            raise _no_session(session)
        if "pressed 1" in said:
            raise TmuxError(f"Nothing runs in {session} any more.")
        return bool(said)

    async def typed_at(self, session: str) -> float | None:
        """When a person last pressed a key there, here or from afar (`typed`), or attached: epoch seconds,
        whole ones; 0 where that was before the clock was set back. None where nobody is attached. Raises
        `TmuxError` where tmux cannot say."""
        said = await self._ask(
            ("list-clients", "-t", f"={session}", "-F", "#{client_control_mode} #{client_activity}")
        )
        people = (line.split(" ") for line in said or [])
        try:
            here = [float(at) for control, at in people if control != "1"]
        except ValueError as e:
            raise TmuxError(f"tmux described its clients in a way that cannot be read: {said!r}") from e
        known = [*here, self._typed[session]] if session in self._typed else here
        # Nobody typed in the future. Believed, it would have a prompt wait until that has come.
        return max((at if at <= time.time() + 1 else 0.0 for at in known), default=None)

    def typed(self, session: str) -> None:
        """A person typed there without being attached."""
        self._typed[session] = time.time()

    async def capture(self, session: str) -> list[str]:
        """What the session's screen shows, as text, broken lines whole; empty where there is no such
        session. For people to read: nothing may be decided by it. Raises `TmuxError` where tmux cannot say.
        """
        found = await self.panes(session)
        if not found:
            return []
        # Not through the connection, where a screen could show what looks like the end of the answer.
        # For the notice that a pane is dead tmux scrolls by a line, which may be the one that says why.
        more = ("-S", "-1") if found[-1].dead else ()
        return await self._by_process(("capture-pane", "-pJ", *more, "-t", _exactly(found[-1]))) or []

    async def kill_session(self, session: str) -> None:
        """Nothing where there is none."""
        await self._ask(("kill-session", "-t", f"={session}"))

    async def kill_server(self) -> None:
        """Ends everything on this socket: for tests and for `--simulate`'s own server."""
        if self._client is not None:
            await self._client.close()
        try:
            await self._by_process(("kill-server",))
        except TmuxError as e:
            if "server exited" not in str(e):  # it was about to
                raise

    async def watch(
        self,
        session: str,
        output: Callable[[str, bytes], None],
        notice: Callable[[Noticed], None] | None = None,
        flags: str = WATCHING,
    ) -> ControlClient:
        """A connection of its own, for the caller to close, that hears what the panes of a session write.

        Raises `TmuxError`, also where there is no such session, or tmux is older than `CONTROL_VERSION`.
        """
        if not await self.panes(session):
            raise _no_session(session)
        if self._version is None or self._version < CONTROL_VERSION:
            raise TmuxError("Watching a screen needs tmux 3.3 or newer.")
        return await self._introduced(session, flags, output, notice)

    async def connect(self) -> None:
        """To be waited for before many sessions are asked for at once: who comes first has all of them
        connected, where anything runs, and none is a process. Where that cannot be had, nothing is lost."""
        async with self._connecting:
            if not self._tried:
                self._tried = True
                with contextlib.suppress(TmuxError):
                    await self.panes()
                    await self._connection()

    async def close(self) -> None:
        """End the connection for commands; nothing in tmux ends. Later calls are processes again."""
        self._closed = True
        if self._client is not None:
            await self._client.close()

    def version_now(self) -> str:
        """Like `tmux 3.3a`; blocking."""
        said = self._start("-V")
        return said[0] if said else ""

    def _found(self, said: Sequence[str] | None) -> list[Pane]:
        """What tmux listed. A session of ours can be attached to by the next call."""
        rows = _rows(said or [])
        if rows:
            self._version = rows[-1].version
        if self._version is not None and self._version >= CONTROL_VERSION:
            self._seen = next((row.pane.session for row in rows if row.pane.owner), self._seen)
        return [row.pane for row in rows]

    async def _target(self, session: str) -> str:
        """The session's pane, as tmux is to be asked for it."""
        found = await self.panes(session)
        if not found:
            raise _no_session(session)
        return _exactly(found[-1])

    async def _ask(self, *commands: Command, twice: bool = True) -> list[str] | None:
        """tmux's answer as lines; None where it said that what was asked for is not there. `twice`: it may be
        asked again where the connection ended before the answer came."""
        client = await self._connection()
        async with self._call():
            if client is not None and client.up:
                try:
                    return await client.commands(*commands)
                except Refused as e:
                    _unless_absent(commands[0], str(e))
                    return None
                except (Disconnected, Surprise):
                    if not twice:
                        raise
            return await _in_thread(lambda: self._run(*commands))

    async def _by_process(self, *commands: Command) -> list[str] | None:
        async with self._call():
            return await _in_thread(lambda: self._run(*commands))

    async def _connection(self) -> ControlClient | None:
        """The one for commands, where there is one or can be."""
        client = self._client
        if client is not None and client.up:
            return client
        now = asyncio.get_running_loop().time()
        if client is not None:
            self._client = None
            if not isinstance(client.problem, Disconnected):
                self._not_before = now + CONNECT_AGAIN_S
        if self._closed or self._seen is None or self._calls or now < self._not_before:
            return None
        session, self._seen = self._seen, None
        try:
            self._client = await self._introduced(session, COMMANDS_ONLY)
        except TmuxError as e:
            if not (isinstance(e, Refused) and _ABSENT.search(str(e))):
                self._not_before = now + CONNECT_AGAIN_S
        return self._client

    async def _introduced(
        self,
        session: str,
        flags: str,
        output: Callable[[str, bytes], None] | None = None,
        notice: Callable[[Noticed], None] | None = None,
    ) -> ControlClient:
        """A new connection. Nothing else is asked of tmux meanwhile: up to 3.6 a server dies, and all its
        sessions, where one begins or ends while a client has said only half of who it is."""
        async with self._gate:
            await self._idle.wait()
            return await ControlClient.open(self._command(), session, self._env, flags, output, notice)

    @contextlib.asynccontextmanager
    async def _call(self) -> AsyncIterator[None]:
        async with self._gate:
            self._calls += 1
            self._idle.clear()
        try:
            yield
        finally:
            self._calls -= 1
            if not self._calls:
                self._idle.set()

    def _run(self, *commands: Command) -> list[str] | None:
        """`_by_process`, blocking."""
        words: list[str] = []
        for command in commands:
            words += [*([";"] if words else []), *map(_argument, command)]
        return self._start(*words)

    def _start(self, *words: str) -> list[str] | None:
        if shutil.which(self._binary) is None:
            raise TmuxError(f"There is no {self._binary} to run: install tmux, or set tmux.path.")
        try:
            done = subprocess.run(
                self._command(*words),
                env=self._env,
                cwd="/",  # the server stays where it was started, and would hold that folder
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=CALL_S,
                check=False,
            )
        except (OSError, ValueError, subprocess.TimeoutExpired) as e:
            raise TmuxError(f"tmux could not be asked: {e}") from e
        if done.returncode == 0:
            return _lines(done.stdout.decode(errors="replace"))
        problem = done.stderr.decode(errors="replace").strip()
        _unless_absent(words, problem or f"exit status {done.returncode}")
        return None

    def _command(self, *words: str) -> list[str]:
        # No configuration file: a person's key bindings and hooks have no place in sessions that are ours.
        # And always UTF-8: for a locale without it tmux replaces tabs and foreign letters in what it says.
        return [self._binary, "-u", "-L", self.socket, "-f", "/dev/null", *words]


async def _in_thread(call: Callable[[], T]) -> T:
    """Run a blocking call in a thread. Cancelling waits for it, so that whoever comes next finds tmux
    as the call left it, and not as it is about to be."""
    future = asyncio.get_running_loop().run_in_executor(None, call)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        with contextlib.suppress(TmuxError):
            await future
        raise


def parse_version(said: str) -> tuple[int, int] | None:
    """What `tmux -V` says (`tmux 3.3a`, `tmux next-3.5`), None where it says something else."""
    found = re.search(r"(\d+)\.(\d+)", said)
    return (int(found[1]), int(found[2])) if found else None


def state_id(state_dir: Path) -> str:
    """The value of `OWNER` for a state folder: two bridges on one socket tell theirs apart by it. Escaped is
    what some version of tmux does not say as it was told: `$`, control characters, bytes that are no text."""
    return _UNTOLD.sub(lambda found: f"%{ord(found[0]):02X}", str(state_dir.resolve()))


def _unless_absent(words: Sequence[str], problem: str) -> None:
    """Raises what tmux refused, unless its words mean that what was asked for is not there."""
    if not _ABSENT.search(problem):
        known = {"new-session", "kill-session", "new-window", "send-keys"}
        raise TmuxError(f"tmux refused ({next((w for w in words if w in known), words[0])}): {problem}")


def _argument(word: str) -> str:
    """A word as an argument on tmux's command line, where a `;` at its end would begin another command."""
    return f"{word[:-1]}\\;" if word.endswith(";") else word


def _lines(said: str) -> list[str]:
    lines = said.split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def _list_panes(session: str | None) -> Command:
    which = ("-s", "-t", f"={session}:") if session else ("-a",)
    return ("list-panes", *which, "-F", _FORMAT)


def _set_options(session: str, options: Mapping[str, str]) -> list[Command]:
    return [("set-option", "-t", f"={session}:", "--", name, value) for name, value in options.items()]


def _exactly(pane: Pane) -> str:
    """A target that is this pane, in this session, or nothing."""
    return f"={pane.session}:.{pane.id}"


def _no_session(session: str) -> TmuxError:
    return TmuxError(f"There is no tmux session {session}.")


@dataclass(frozen=True, slots=True)
class _Row:
    pane: Pane
    ours: str
    version: tuple[int, int] | None


def _rows(said: Sequence[str]) -> list[_Row]:
    """Those of panes that we made. A session from before they were marked has one pane."""
    return [row for row in map(_row, said) if row.ours in ("", row.pane.id)]


def _row(line: str) -> _Row:
    fields = line.split("\t")
    if len(fields) != 12:
        raise TmuxError(f"tmux described a pane in a way that cannot be read: {line!r}")
    session, owner, generation, pane, pid, dead, status, killed_by, tty, server, ours, version = fields
    try:
        found = Pane(
            session,
            owner,
            _int(generation),
            pane,
            _int(pid) or 0,
            dead == "1" or not pid,
            _int(status),
            _signal(killed_by),
            tty,
            int(server),
        )
    except (ValueError, KeyError) as e:
        raise TmuxError(f"tmux described a pane in a way that cannot be read: {line!r}") from e
    return _Row(found, ours, parse_version(version))


def _int(text: str) -> int | None:
    return int(text) if text else None


def _signal(text: str) -> int | None:
    """A number, or a name where the system has a table of them."""
    return signal.Signals[f"SIG{text}"].value if text.isalpha() else _int(text)
