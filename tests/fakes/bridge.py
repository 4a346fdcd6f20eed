"""The bridge as people run it: a process of its own on the simulator, with the real CLI in real tmux.

A test that kills it takes `own_bridge`; the others of a file share `bridge`. Whatever a test did, at the end
the bridge, its tmux server and everything in it are gone.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bridge.config import Config
from tests.fakes.phoenix_js import Clients, JsChannel, JsSocket
from tests.fakes.tmux import remove_socket

Json = dict[str, Any]

ROOT = Path(__file__).parents[2]
START_S = 60
"""Python, tmux and the simulator, on a machine that is busy with other things."""
END_S = 30


class BridgeProcess:
    """`claude-bridge serve --simulate`, which may be killed and started again on the same folder and port."""

    def __init__(self, folder: Path, **env: str) -> None:
        self._env = env
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
        """The whole environment: nothing of whoever runs the tests reaches the bridge or a CLI."""
        path = "/usr/local/bin:/usr/bin:/bin"
        return {"HOME": str(self.home), "PATH": path, "LANG": "C.UTF-8", **self._env}

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "bridge", *words, "--state-dir", str(self.state_dir)]

    def start(self) -> None:
        """Returns once it says where it answers."""
        with self.log.open("ab") as log:
            process = self.process = subprocess.Popen(
                self.command("serve", "--simulate", "--port", str(self.port)),
                cwd=ROOT,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], START_S)
        greeting = os.read(process.stdout.fileno(), 65536) if ready else b""
        assert b"answers on" in greeting, f"the bridge did not start: {greeting!r}\n{self.tail()}"
        note = json.loads((self.state_dir / "bridge.json").read_bytes())
        assert note["pid"] == process.pid
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

    def run(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """A command of `claude-bridge` against this bridge's state folder."""
        return subprocess.run(
            self.command(*words),
            cwd=ROOT,
            env=self.env | options.pop("env", {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=START_S,
            check=False,
            **options,
        )

    def remove(self) -> None:
        """End it and all that it ever started; fails where a process of it is left."""
        if self.process is not None and self.process.poll() is None:
            self.kill()
        owned = self.descendants()
        self.tmux("kill-server")
        remove_socket(self.tmux_socket)
        for pid in owned:
            assert ended(pid, END_S), f"process {pid} outlived its tmux server: {cmdline(pid)}"
        left = {pid: cmdline(pid) for pid in self.descendants()}
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        assert left == {}, "processes were left behind"

    # --- what can be seen of it -------------------------------------------------------------------------

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/socket"

    @property
    def token(self) -> str:
        return (self.state_dir / "token").read_text().strip()

    def tail(self, lines: int = 80) -> str:
        said = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(said[-lines:])

    def tmux(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Asks the bridge's own tmux server."""
        command = ["tmux", "-L", self.tmux_socket, *words]
        return subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=30, check=False)

    def until_shown(self, name: str, text: str) -> None:
        """Until a session's pane shows this to whoever is attached."""
        deadline = time.monotonic() + END_S
        while text not in (screen := self.tmux("capture-pane", "-p", "-t", f"=claude_{name}:").stdout):
            assert time.monotonic() < deadline, f"the pane shows only: {screen.strip()}"

    def tmux_sessions(self) -> set[str]:
        return set(self.tmux("list-sessions", "-F", "#{session_name}").stdout.split())

    def cli_pid(self, name: str) -> int:
        """The process in a session's pane."""
        said = self.tmux("list-panes", "-t", f"=claude_{name}:", "-F", "#{pane_pid}")
        return int(said.stdout)

    def requests(self, containing: str = "") -> list[Json]:
        """What the CLIs asked the simulator, oldest first: those whose last prompt has this text."""
        port = json.loads((self.state_dir / "simulator.json").read_bytes())["port"]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/_sim/requests", timeout=30) as answer:
            recorded: list[Json] = json.load(answer)["requests"]
        asked = [r for r in recorded if r["path"] == "/v1/messages"]
        return [r for r in asked if any(containing in text for text in prompts_of(r))]

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


def prompts_of(request: Json) -> list[str]:
    """The texts of the last message in the user's role: prompts, and what the CLI adds to them."""
    last = next(m for m in reversed(request["messages"]) if m["role"] == "user")
    content = last["content"]
    return [content] if isinstance(content, str) else [b["text"] for b in content if b["type"] == "text"]


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


# --- fixtures ------------------------------------------------------------------------------------------


@contextmanager
def running_bridge(folder: Path, **env: str) -> Iterator[BridgeProcess]:
    """`env` is added to its environment."""
    assert shutil.which("tmux"), "these tests need tmux"
    bridge = BridgeProcess(folder, **env)
    try:
        bridge.start()
        yield bridge
    finally:
        bridge.remove()


@pytest.fixture(scope="module")
def bridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BridgeProcess]:
    """One for all tests of a file; they use sessions of their own."""
    with running_bridge(tmp_path_factory.mktemp("bridge")) as running:
        yield running


@pytest.fixture
def own_bridge(tmp_path: Path) -> Iterator[BridgeProcess]:
    """For a test that stops or kills it."""
    with running_bridge(tmp_path) as running:
        yield running


class Sessions:
    """Sessions of one test, under names of its own; deleted when the test ends."""

    def __init__(self, bridge: BridgeProcess, clients: Clients, prefix: str, backend: str | None) -> None:
        self.bridge = bridge
        self.socket = clients.connect(bridge.url, bridge.token)
        self._clients = clients
        self._prefix = prefix
        self._backend = backend
        self.tui = backend == "tmux"
        """What runs below is the TUI, which shows whole lines, and neither its thinking, its retries nor
        what a turn costs."""
        self._names: list[str] = []

    def name(self, word: str = "main") -> str:
        name = f"{self._prefix}-{word}"[:64]
        self._names.append(name)
        return name

    def join(self, word: str = "main", *, resume: bool = False, **start: Any) -> JsChannel:
        """A new session, joined."""
        options = {"backend": self._backend, **start} if self._backend else start
        return self.socket.join(f"session:{self.name(word)}", {"start": options}, resume=resume)

    def talk(self, *, resume: bool = False) -> JsChannel:
        """The session that the tests of a file share, warm: for whatever leaves it as it was found. One that
        a test has left in disorder is replaced."""
        topic = f"session:shared-{self._backend or 'e2e'}"
        start = {"backend": self._backend} if self._backend else {}
        channel = self.socket.join(topic, {"start": start, "turns": 0}, resume=resume)
        joined = channel.joined
        if joined["open_turn"] or joined["queue"] or joined["session"]["state"] not in ("idle", "starting"):
            self.socket.join("sessions").push("delete", {"name": topic.removeprefix("session:")})
            channel = self.socket.join(topic, {"start": start}, resume=resume)
        return channel

    def look(self, channel: JsChannel, **payload: Any) -> JsChannel:
        """The same session as another client sees it who joins now."""
        other = self._clients.connect(self.bridge.url, self.bridge.token)
        return other.join(channel.topic, payload)

    def end(self) -> None:
        lobby = self.socket.join("sessions")
        known = {s["name"] for s in lobby.joined["sessions"]}
        asked = [lobby.send("delete", {"name": name}) for name in {*self._names} & known]
        for pending in asked:
            pending.reply()


@pytest.fixture
def socket(bridge: BridgeProcess, clients: Clients) -> JsSocket:
    """A client of the shared bridge."""
    return clients.connect(bridge.url, bridge.token)


def prefix_of(request: pytest.FixtureRequest) -> str:
    """A session name out of a test's: what it has of letters and digits, short."""
    name = request.node.originalname.removeprefix("test_")
    return "".join(c if c.isalnum() else "-" for c in name)[:40].strip("-")


@pytest.fixture
def sessions(bridge: BridgeProcess, clients: Clients, request: pytest.FixtureRequest) -> Iterator[Sessions]:
    """Sessions on the shared bridge; a suite that runs over backends gives its `backend`."""
    backend = request.getfixturevalue("backend") if "backend" in request.fixturenames else None
    made = Sessions(bridge, clients, prefix_of(request), backend)
    yield made
    made.end()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows what the bridge said."""
    report = yield
    values = getattr(item, "funcargs", {}).values()
    if report.failed:
        for running in (v for v in values if isinstance(v, BridgeProcess)):
            report.sections.append((f"the bridge's log, {running.log}", running.tail()))
    return report


def sim(**directive: Any) -> str:
    """What tells the simulator how to answer."""
    return f"[[sim {json.dumps(directive)}]]"
