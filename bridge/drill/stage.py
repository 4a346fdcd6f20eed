"""A bridge to be killed: a process of its own, in a folder, an environment and a tmux server of its own.

Whatever was done to it, `remove` leaves nothing of it. The calls wait where processes have to be waited for,
so that an event loop calls them in a thread.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import orjson

from bridge.config import Config
from bridge.errors import SetupError
from bridge.locate import Address, read_token

ROOT = Path(__file__).parents[2]
"""Where `python -m bridge` finds the same bridge as this one."""
PATH = "/usr/local/bin:/usr/bin:/bin"
START_S = 60
"""Python, tmux and the simulator, on a machine that is busy with other things."""
END_S = 30


class Stage:
    """`claude-bridge serve`, which may be killed and started again on the same folder and port."""

    def __init__(self, folder: Path, env: Mapping[str, str], *, simulate: bool = True) -> None:
        """Without `simulate` the bridge finds its upstream in `env`, which is added to its environment."""
        self._env = env
        self._simulate = ["--simulate"] if simulate else []
        self.state_dir = folder / "state"
        self.home = folder / "home"
        self.home.mkdir()
        self.log = folder / "bridge.log"
        self.port = 0
        self.tmux_socket = Config(state_dir=self.state_dir).tmux_socket
        self.process: subprocess.Popen[bytes] | None = None

    # --- its life -------------------------------------------------------------------------------------

    @property
    def env(self) -> dict[str, str]:
        """The whole environment: nothing of whoever starts it reaches the bridge or a CLI."""
        return {"HOME": str(self.home), "PATH": PATH, "LANG": "C.UTF-8", **self._env}

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "bridge", *words, "--state-dir", str(self.state_dir)]

    def spawn(self) -> None:
        """Begin to start it, and do not wait until it answers."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command("serve", *self._simulate, "--port", str(self.port)),
                cwd=ROOT,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
            )

    def greeted(self, within_s: float) -> bool:
        """Whether it has said where it answers, or does so in this time."""
        assert self.process is not None
        assert self.process.stdout is not None
        return bool(select.select([self.process.stdout], [], [], within_s)[0])

    def start(self) -> None:
        """Returns once it says where it answers. Raises `SetupError`."""
        self.spawn()
        assert self.process is not None
        assert self.process.stdout is not None
        greeting = os.read(self.process.stdout.fileno(), 65536) if self.greeted(START_S) else b""
        if b"answers on" not in greeting:
            raise SetupError(f"The bridge did not start: {greeting!r}\n{self.tail()}")
        note = orjson.loads((self.state_dir / "bridge.json").read_bytes())
        assert note["pid"] == self.process.pid
        self.port = note["port"]

    def kill(self) -> None:
        """As the kernel does when memory is short: no word, no clean-up."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """As a service manager does; the exit status."""
        return self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        status = self.process.wait(END_S)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process = None
        return status

    def remove(self) -> dict[int, str]:
        """End it and all that it ever started; the processes that had to be killed one by one."""
        if self.process is not None and self.process.poll() is None:
            self.kill()
        owned = self.descendants()
        self.tmux("kill-server")
        remove_socket(self.tmux_socket)
        for pid in owned:
            ended(pid, END_S)
        left = {pid: cmdline(pid) for pid in self.descendants()}
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        return left

    # --- what can be seen of it -------------------------------------------------------------------------

    @property
    def token(self) -> str:
        return read_token(self.state_dir) or ""

    @property
    def address(self) -> Address:
        return Address(f"http://127.0.0.1:{self.port}", self.token)

    def tail(self, lines: int = 80) -> str:
        said = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(said[-lines:])

    def tmux(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Asks the bridge's own tmux server."""
        command = ["tmux", "-L", self.tmux_socket, *words]
        return subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=30, check=False)

    def living_pid(self, name: str) -> int | None:
        """The process in a session's pane, if there is one that lives."""
        said = self.tmux("list-panes", "-t", f"=claude_{name}:", "-F", "#{pane_pid} #{pane_dead}")
        pid, _, dead = said.stdout.strip().partition(" ")
        return int(pid) if pid and dead == "0" else None

    def tmux_pid(self) -> int | None:
        """The bridge's tmux server."""
        said = self.tmux("display-message", "-p", "#{pid}").stdout.strip()
        return int(said) if said else None

    def descendants(self) -> list[int]:
        """Every process that was given this bridge's folder, by name or by environment."""
        marks = (bytes(self.state_dir), bytes(self.home))
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                said = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
                alive = " Z " not in (folder / "stat").read_text().rpartition(")")[2][:3]
            except OSError:
                continue
            if alive and any(mark in said for mark in marks):
                found.append(int(folder.name))
        return found


class Upstream:
    """A simulator that no tmux server takes along: it has to remember what it was asked."""

    KEY = "sk-ant-simulated-not-a-key"

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bridge.simulator", "--port", "0"],
            cwd=ROOT,
            env={"PATH": PATH, "LANG": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], START_S)
        said = self._process.stdout.readline().decode() if ready else ""
        if not said.startswith("simulator: "):
            self.end()
            raise SetupError("The simulator did not start.")
        self.url = said.removeprefix("simulator: ").strip()
        self.port = int(self.url.rpartition(":")[2])

    def settings(self, state_dir: Path) -> dict[str, str]:
        """What points a bridge at it, with a home and a configuration of the CLI's own below `state_dir`."""
        own, home = state_dir / "claude", state_dir / "home"
        for folder in (own, home):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        prefix = "CLAUDE_BRIDGE_CLAUDE__"
        return {
            "CLAUDE_BRIDGE_API__BASE_URL": self.url,
            "CLAUDE_BRIDGE_API__KEY": self.KEY,
            f"{prefix}BASE_URL": self.url,
            f"{prefix}API_KEY": self.KEY,
            f"{prefix}CONFIG_DIR": str(own),
            f"{prefix}HOME": str(home),
        }

    def end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


def remove_socket(name: str) -> None:
    """Once its server has ended: tmux leaves the file."""
    Path(f"/tmp/tmux-{os.getuid()}/{name}").unlink(missing_ok=True)  # noqa: S108 - it is tmux's place


def ended(pid: int, within_s: float) -> bool:
    """Waits for a process that may be nobody's child of ours."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], within_s)[0])
    finally:
        os.close(descriptor)


def cmdline(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:300]
    except OSError:
        return "(ended)"
