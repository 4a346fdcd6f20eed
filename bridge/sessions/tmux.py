"""The one file that talks to tmux: a server of our own, one session for each conversation.

Every call is one short-lived `tmux` in a thread (3 to 8 ms). A library of tmux objects is not used: it
would start the server with the bridge's own environment, secrets and all, and takes a question that
could not be asked for the answer "there is nothing". Here only tmux's own "no server", "no such session"
mean that there is none; anything else raises `TmuxError` and says nothing about what lives.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from bridge.config import TmuxConfig
from bridge.errors import TmuxError

T = TypeVar("T")

MINIMUM_VERSION = (3, 2)
"""Ubuntu 22.04's; 3.0 already knows all that is used, but nobody tried."""

CALL_S = 10
"""A tmux that does not answer for so long hangs; a loaded machine takes tenths of a second."""

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
    r"|no current target",  # `-a` on a server without sessions
)
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
    )
)

Command = Sequence[str]
"""One command of tmux with its arguments, word by word."""


@dataclass(frozen=True, slots=True)
class Pane:
    """A session's one pane. `status` and `signal` are known once tmux calls it dead."""

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


class Tmux:
    """One tmux server, reached by the name of its socket. Started where it does not run."""

    def __init__(self, socket: str, config: TmuxConfig, environ: Mapping[str, str] = os.environ) -> None:
        self.socket = socket
        self._config = config
        self._binary = str(config.path) if config.path else "tmux"
        self._env = {name: environ[name] for name in ENVIRONMENT if name in environ}
        self._env.setdefault("LANG", "C.UTF-8")

    def attach_command(self, session: str) -> str:
        """What a person types to see the session."""
        return f"{self._binary} -L {self.socket} attach -t {session}"

    async def panes(self, session: str | None = None) -> list[Pane]:
        """The pane of one session, or those of all; empty where there are none, or no server.

        Raises `TmuxError` where tmux cannot say.
        """
        return await _in_thread(lambda: self.panes_now(session))

    def panes_now(self, session: str | None = None) -> list[Pane]:
        """`panes`, blocking."""
        return _panes(self._run(_list_panes(session)) or [])

    async def new_session(self, session: str, command: Sequence[str], options: Mapping[str, str]) -> Pane:
        """A detached session that runs `command` in its one pane and stays when that ends.

        Raises `TmuxError`, also where a session of this name exists.
        """
        size = ("-x", str(self._config.width), "-y", str(self._config.height))
        # One call, so that no session is ever there without its owner and its options. What comes first
        # must stand before the first pane does: a command that fails at once has to leave its pane.
        said = await self._ask(
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
        return _panes(said)[-1]

    async def respawn(self, session: str, command: Sequence[str], options: Mapping[str, str]) -> Pane:
        """End what runs in the session's pane, if it still does, and run `command` there. Whoever is attached
        stays.

        Raises `TmuxError`, also where there is no such session.
        """
        target = await self._target(session)
        said = await self._ask(
            ("respawn-pane", "-k", "-t", target, "-c", "/", "--", *command),
            *_set_options(session, options),
            _list_panes(session),
        )
        if not said:
            raise _no_session(session)
        return _panes(said)[-1]

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
        )
        if said is None:
            raise _no_session(session)
        if "1" in said:  # tmux takes keys for a dead pane, and drops them
            raise TmuxError(f"Nothing runs in {session} any more.")

    async def typed_at(self, session: str) -> float | None:
        """When a person last pressed a key there, or attached: epoch seconds, whole ones. None where nobody
        is attached. Raises `TmuxError` where tmux cannot say."""
        said = await self._ask(
            ("list-clients", "-t", f"={session}", "-F", "#{client_control_mode} #{client_activity}")
        )
        people = (line.split(" ") for line in said or [])
        try:
            return max((float(at) for control, at in people if control != "1"), default=None)
        except ValueError as e:
            raise TmuxError(f"tmux described its clients in a way that cannot be read: {said!r}") from e

    async def capture(self, session: str) -> list[str]:
        """What the session's screen shows, as text; empty where there is no such session. For people to read:
        nothing may be decided by it. Raises `TmuxError` where tmux cannot say."""
        found = await self.panes(session)
        return (await self._ask(("capture-pane", "-p", "-t", _exactly(found[-1]))) or []) if found else []

    async def kill_session(self, session: str) -> None:
        """Nothing where there is none."""
        await self._ask(("kill-session", "-t", f"={session}"))

    async def kill_server(self) -> None:
        """Ends everything on this socket: for tests and for `--simulate`'s own server."""
        await self._ask(("kill-server",))

    def version_now(self) -> str:
        """Like `tmux 3.3a`; blocking."""
        said = self._start("-V")
        return said[0] if said else ""

    async def _target(self, session: str) -> str:
        """The session's pane, as tmux is to be asked for it."""
        found = await self.panes(session)
        if not found:
            raise _no_session(session)
        return _exactly(found[-1])

    async def _ask(self, *commands: Command) -> list[str] | None:
        """tmux's answer as lines; None where it said that what was asked for is not there."""
        return await _in_thread(lambda: self._run(*commands))

    def _run(self, *commands: Command) -> list[str] | None:
        """`_ask` by a tmux of its own, blocking."""
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
        if _ABSENT.search(problem):
            return None
        raise TmuxError(f"tmux refused ({_verb(words)}): {problem or f'exit status {done.returncode}'}")

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
    """The value of `OWNER` for a state folder: two bridges on one socket tell theirs apart by it."""
    return str(state_dir.resolve())


def _verb(words: Sequence[str]) -> str:
    return next(
        (w for w in words if w in {"new-session", "kill-session", "respawn-pane", "send-keys"}), words[0]
    )


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


def _panes(said: Sequence[str]) -> list[Pane]:
    """Those that we made. A session from before they were marked has one pane."""
    return [pane for pane, ours in map(_pane, said) if ours in ("", pane.id)]


def _pane(line: str) -> tuple[Pane, str]:
    """A pane, and which one of its session is ours."""
    fields = line.split("\t")
    if len(fields) != 11:
        raise TmuxError(f"tmux described a pane in a way that cannot be read: {line!r}")
    session, owner, generation, pane, pid, dead, status, signal, tty, server, ours = fields
    try:
        found = Pane(
            session,
            owner,
            _int(generation),
            pane,
            int(pid),
            dead == "1",
            _int(status),
            _int(signal),
            tty,
            int(server),
        )
    except ValueError as e:
        raise TmuxError(f"tmux described a pane in a way that cannot be read: {line!r}") from e
    return found, ours


def _int(text: str) -> int | None:
    return int(text) if text else None
