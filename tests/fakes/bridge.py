"""The bridge as people run it: a process of its own on the simulator, with the real CLI in real tmux.

A test that kills it takes `own_bridge`; the others of a file share `bridge`. Whatever a test did, at the end
the bridge, its tmux server and everything in it are gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bridge.drill.ledger import prompts_of
from bridge.drill.stage import END_S, ROOT, START_S, Stage, cmdline, ended, remove_socket
from bridge.simulator.script import scripted as sim
from tests.fakes.phoenix_js import Clients, JsChannel, JsSocket
from tests.fakes.simulator import RunningSimulator

__all__ = [
    "END_S",
    "ROOT",
    "START_S",
    "BridgeProcess",
    "Sessions",
    "cmdline",
    "ended",
    "prompts_of",
    "running_bridge",
    "sim",
]

Json = dict[str, Any]


class BridgeProcess(Stage):
    """`claude-bridge serve --simulate`, which may be killed and started again on the same folder and port."""

    def __init__(self, folder: Path, **env: str) -> None:
        super().__init__(folder, env)

    def lose_everything(self) -> None:
        """As a reboot does: bridge, tmux, every CLI and the simulator are gone at once. The disk is left."""
        self.kill()
        lost = self.descendants()
        for pid in lost:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in lost:
            assert ended(pid, END_S), f"process {pid} does not end: {cmdline(pid)}"
        remove_socket(self.tmux_socket)

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

    def remove(self) -> dict[int, str]:
        """Fails where a process of it is left."""
        left = super().remove()
        assert left == {}, "processes were left behind"
        return left

    # --- what can be seen of it -------------------------------------------------------------------------

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/socket"

    def until_shown(self, name: str, text: str) -> None:
        """Until a session's pane shows this to whoever is attached."""
        deadline = time.monotonic() + END_S
        while text not in (screen := self.tmux("capture-pane", "-p", "-t", f"=claude_{name}:").stdout):
            assert time.monotonic() < deadline, f"the pane shows only: {screen.strip()}"

    def tmux_sessions(self) -> set[str]:
        return set(self.tmux("list-sessions", "-F", "#{session_name}").stdout.split())

    def cli_pid(self, name: str) -> int:
        """The process in a session's pane."""
        pid = self.living_pid(name)
        assert pid is not None, f"nothing runs in {name}"
        return pid

    @property
    def simulator(self) -> RunningSimulator:
        said = json.loads((self.state_dir / "simulator.json").read_bytes())
        return RunningSimulator(f"http://127.0.0.1:{said['port']}", said["pid"])

    def requests(self, containing: str = "") -> list[Json]:
        """What the CLIs asked the simulator, oldest first: those whose last prompt has this text."""
        asked = [r for r in self.simulator.requests() if r["path"] == "/v1/messages"]
        return [r for r in asked if not containing or any(containing in text for text in prompts_of(r))]


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
        self.process = backend != "api"
        """Something runs below that can be looked for."""
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
