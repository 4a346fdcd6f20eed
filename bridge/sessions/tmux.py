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
    )
)


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
        """The panes of one session, or of all; empty where there are none, or no server.

        Raises `TmuxError` where tmux cannot say.
        """
        return await _in_thread(lambda: self.panes_now(session))

    def panes_now(self, session: str | None = None) -> list[Pane]:
        """`panes`, blocking."""
        which = ["-s", "-t", f"={session}:"] if session else ["-a"]
        said = self._call("list-panes", *which, "-F", _FORMAT)
        return [] if said is None else [_pane(line) for line in said]

    async def new_session(self, session: str, command: Sequence[str], options: Mapping[str, str]) -> Pane:
        """A detached session that runs `command` in its one pane and stays when that ends.

        Raises `TmuxError`, also where a session of this name exists.
        """
        return await _in_thread(lambda: self._new_session(session, command, options))

    def _new_session(self, session: str, command: Sequence[str], options: Mapping[str, str]) -> Pane:
        size = ("-x", str(self._config.width), "-y", str(self._config.height))
        # One call, so that no session is ever there without its owner and its options. What comes first
        # must stand before the first pane does: a command that fails at once has to leave its pane.
        words = [
            *("set-option", "-s", "exit-empty", "off", ";"),
            *("set-option", "-g", "remain-on-exit", "on", ";"),
            *("set-option", "-g", "update-environment", "", ";"),
            *("set-option", "-g", "status-left-length", "80", ";"),
            *("new-session", "-d", "-s", session, "-c", "/", *size, *command, ";"),
        ]
        for name, value in options.items():
            words += ["set-option", "-t", f"={session}:", name, value, ";"]
        words += ["list-panes", "-s", "-t", f"={session}:", "-F", _FORMAT]
        said = self._call("start-server", ";", *words)
        if not said:
            raise TmuxError(f"tmux did not start the session {session}.")
        return _pane(said[-1])

    async def kill_session(self, session: str) -> None:
        """Nothing where there is none."""
        await _in_thread(lambda: self._call("kill-session", "-t", f"={session}"))

    async def kill_server(self) -> None:
        """Ends everything on this socket: for tests and for `--simulate`'s own server."""
        await _in_thread(lambda: self._call("kill-server"))

    def version_now(self) -> str:
        """Like `tmux 3.3a`; blocking."""
        said = self._call("-V")
        return said[0] if said else ""

    def _call(self, *words: str) -> list[str] | None:
        """tmux's answer as lines; None where it said that what was asked for is not there."""
        if shutil.which(self._binary) is None:
            raise TmuxError(f"There is no {self._binary} to run: install tmux, or set tmux.path.")
        # No configuration file: a person's key bindings and hooks have no place in sessions that are ours.
        command = [self._binary, "-L", self.socket, "-f", "/dev/null", *words]
        try:
            done = subprocess.run(
                command,
                env=self._env,
                cwd="/",  # the server stays where it was started, and would hold that folder
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=CALL_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as e:
            raise TmuxError(f"tmux could not be asked: {e}") from e
        if done.returncode == 0:
            return done.stdout.decode(errors="replace").splitlines()
        problem = done.stderr.decode(errors="replace").strip()
        if _ABSENT.search(problem):
            return None
        raise TmuxError(f"tmux refused ({_verb(words)}): {problem or f'exit status {done.returncode}'}")


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
    return next((w for w in words if w in {"new-session", "kill-session"}), words[0])


def _pane(line: str) -> Pane:
    fields = line.split("\t")
    if len(fields) != 10:
        raise TmuxError(f"tmux described a pane in a way that cannot be read: {line!r}")
    session, owner, generation, pane, pid, dead, status, signal, tty, server = fields
    try:
        return Pane(
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


def _int(text: str) -> int | None:
    return int(text) if text else None
