"""The real CLI's terminal interface in a tmux server of its own, as the bridge starts it, for tests of the
hooks; and a bridge that is nothing but the listener for them, as a process that can be killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import structlog

from bridge.commands import StartOptions
from bridge.config import ClaudeConfig
from bridge.drill.stage import remove_socket
from bridge.sessions.backends import ask_hook
from bridge.sessions.backends.hooks import HookServer
from bridge.sessions.claude.launch import LAUNCHER, Start
from bridge.sessions.claude.tui_launch import SETTINGS, Hooks, plan_tui, seed

ROOT = Path(__file__).parents[2]
KEY = "sk-ant-simulated-0123456789-abcdefghijklmnopqrst"
WAIT_S = 60
"""Far more than anything here takes, so that a failure is a failure and not a slow machine."""

T = TypeVar("T")
Payload = dict[str, Any]


async def until(what: Callable[[], T | None], shown: Callable[[], str] = str) -> T:
    """The first answer that is neither None nor False; `shown` says what there was instead."""
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        if (found := what()) is not None and found is not False:
            return found
        await asyncio.sleep(0.02)
    raise AssertionError(f"waited in vain; there is:\n{shown()}")


class Recorder:
    """A receiver that remembers what it was told, and answers questions when the test does."""

    def __init__(self) -> None:
        self.hooks: list[Payload] = []
        self.questions: dict[str, asyncio.Future[Payload]] = {}
        self.events: dict[str, Payload] = {}
        self.times_asked: dict[str, int] = {}
        self.gone: list[str] = []

    def hook(self, event: Payload) -> Payload:
        self.hooks.append(event)
        return {}

    def asked(self, request: str, event: Payload) -> asyncio.Future[Payload]:
        self.times_asked[request] = self.times_asked.get(request, 0) + 1
        self.events[request] = event
        if request not in self.questions:
            self.questions[request] = asyncio.get_running_loop().create_future()
        return self.questions[request]

    def abandoned(self, request: str) -> None:
        self.gone.append(request)

    def named(self, name: str) -> list[Payload]:
        return [event for event in self.hooks if event["hook_event_name"] == name]


class Bridge:
    """The listener and one session, in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, state_dir: Path, secret: str) -> Bridge:
        """Returns when it listens."""
        command = "import sys; from tests.fakes.tui import be_a_bridge; be_a_bridge(*sys.argv[1:])"
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", command, str(state_dir), secret),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        bridge = cls(process)
        assert await bridge.said() == "listening"
        return bridge

    async def said(self) -> str:
        """`hook NAME`, `asked ID` or `gone ID`, one after the other."""
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), WAIT_S)
        return line.decode().strip()

    async def told(self, kind: str) -> str:
        """The next of this kind; what comes before it is passed over."""
        while True:
            word, _, rest = (await self.said()).partition(" ")
            if word == kind:
                return rest

    async def answer(self, request: str, answer: Payload) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{request} {json.dumps(answer)}\n".encode())
        await self._process.stdin.drain()

    async def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.communicate()


def be_a_bridge(state_dir: str, secret: str) -> None:
    """The other side of `Bridge`."""

    class Teller(Recorder):
        def hook(self, event: Payload) -> Payload:
            print("hook", event["hook_event_name"], flush=True)
            return super().hook(event)

        def asked(self, request: str, event: Payload) -> asyncio.Future[Payload]:
            print("asked", request, flush=True)
            return super().asked(request, event)

        def abandoned(self, request: str) -> None:
            print("gone", request, flush=True)

    async def run() -> None:
        server, teller = HookServer(Path(state_dir)), Teller()
        server.bind()
        server.attach(secret, teller)

        def heard() -> None:
            for line in os.read(0, 65536).decode().splitlines():
                request, _, answer = line.partition(" ")
                teller.questions[request].set_result(json.loads(answer))

        asyncio.get_running_loop().add_reader(0, heard)
        print("listening", flush=True)
        await server.serve()

    # What it logs belongs to no test.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("error"))
    asyncio.run(run())


class Tui:
    """One process on one pane. `close` ends it and its tmux server."""

    def __init__(self, root: Path, claude: Path, base_url: str, url: str, url_file: Path) -> None:
        self.secret = os.urandom(32).hex()
        self.cwd, self._config, self._folder = root / "work", root / "config", root / "session"
        for folder in (self.cwd, self._config, self._folder / "editor", root / "home"):
            folder.mkdir(parents=True)
        (self._config / ".claude.json").write_bytes(seed(None, str(self.cwd), KEY))
        self._socket = f"test-{uuid.uuid4().hex[:12]}"
        plan = plan_tui(
            Start(str(uuid.uuid4()), False, StartOptions(cwd=str(self.cwd))),
            self._folder,
            claude,
            ClaudeConfig(base_url=base_url, api_key=KEY, env={"IS_SANDBOX": "1"}),
            {"HOME": str(root / "home"), "PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"},
            Hooks(url, self.secret, str(url_file), sys.executable, ask_hook.__file__),
            self._config,
        )
        for name, text in plan.files.items():
            (self._folder / name).write_text(text)
        self.pid = 0

    def change_settings(self, change: Callable[[Payload], None]) -> None:
        """Before the start."""
        path = self._folder / SETTINGS
        settings = json.loads(path.read_text())
        change(settings)
        path.write_text(json.dumps(settings))

    async def start(self) -> None:
        """Returns when it takes prompts."""
        command = ["new-session", "-d", "-x", "200", "-y", "50", "-P", "-F", "#{pane_pid}", "/bin/sh"]
        self.pid = int(self._tmux(*command, str(self._folder / LAUNCHER)))
        await until(lambda: self.status == "idle", self.screen)

    async def prompt(self, **directive: Any) -> None:
        """Type a prompt that the simulator obeys, and send it off."""
        self._tmux("send-keys", "-l", f"[[sim {json.dumps(directive)}]]")
        await until(lambda: "}]]" in self.screen().rpartition("❯")[2], self.screen)
        self.key("Enter")

    def key(self, *keys: str) -> None:
        self._tmux("send-keys", *keys)

    @property
    def status(self) -> str | None:
        """What it says about itself."""
        with contextlib.suppress(OSError, ValueError, KeyError):
            found = json.loads((self._config / "sessions" / f"{self.pid}.json").read_text())
            return str(found["status"])
        return None

    def screen(self) -> str:
        return self._tmux("capture-pane", "-p")

    def children(self) -> dict[int, str]:
        """Command lines of its children by their process id."""
        found = {}
        for task in Path(f"/proc/{self.pid}/task").glob("*/children"):
            for pid in map(int, task.read_text().split()):
                with contextlib.suppress(OSError):
                    found[pid] = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
        return found

    def askers(self) -> list[int]:
        """The hooks that wait for an answer."""
        return [pid for pid, line in self.children().items() if "ask_hook.py" in line]

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def _tmux(self, *words: str) -> str:
        command = ["tmux", "-f", "/dev/null", "-L", self._socket, *words]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=_BARE).stdout

    def close(self) -> None:
        self._tmux("kill-server")
        remove_socket(self._socket)


_BARE = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "TERM": "xterm-256color"}


def running(pid: int) -> bool:
    """Whether there is such a process, other than as a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
