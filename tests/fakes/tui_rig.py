"""One TUI session on the simulator with everything around it but the transports: registry, journal, hooks.

What can be seen of the TUI can be taken away while it runs, people's keys can be pressed, and a bridge can
go away at any moment and come again. A tmux server and a state folder of its own; `close` ends all of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from aiohttp import web

from bridge.clock import SystemClock
from bridge.commands import Command, InterruptTurn, StartOptions, SubmitPrompt
from bridge.config import ClaudeConfig, SessionConfig, TmuxConfig
from bridge.drill.stage import remove_socket
from bridge.events import Event, Session, SessionChanged, SessionName, Turn, TurnFinished, TurnStarted
from bridge.sessions.actor import Actor
from bridge.sessions.backends.base import Batch, Sink
from bridge.sessions.backends.hooks import HookServer
from bridge.sessions.backends.leftovers import Leftovers
from bridge.sessions.backends.status import StatusFiles
from bridge.sessions.backends.tail import FileWatch
from bridge.sessions.backends.tui import KeyboardRules, TuiBackend, TuiHost
from bridge.sessions.journal import Journal
from bridge.sessions.registry import BackendKind, Registry, called
from bridge.sessions.tmux import Tmux
from bridge.supervision import RestartBudget, Supervisor
from tests.fakes.simulator import KEY, RunningSimulator
from tests.fakes.tui import until

WAIT_S = 60
"""Far more than anything here takes, so that a failure is a failure and not a slow machine."""

E = TypeVar("E", bound=Event)
T = TypeVar("T")


def sim(**directive: Any) -> str:
    return f"Please. [[sim {json.dumps(directive)}]]"


class FaultyHooks(HookServer):
    """A listener that can be told to be slow or to fail; `spoil` is asked about every hook."""

    def __init__(self, state_dir: Path) -> None:
        super().__init__(state_dir)
        self.spoil: Callable[[], str | float | None] = lambda: None
        """"500", "lost" (heard by nobody), seconds to be late by, or None."""

    async def _hook(self, request: web.Request) -> web.Response:
        how = self.spoil()
        if how == "500":
            return web.Response(status=500)
        if how == "lost":
            return web.json_response({})
        if isinstance(how, float):
            await asyncio.sleep(how)
        return await super()._hook(request)


class TuiRig:
    """The session is called `demo`. `bridge` is one life of the bridge; between two the CLI is on its own."""

    name = SessionName("demo")

    def __init__(self, folder: Path, simulator: RunningSimulator, claude: Path, **config: Any) -> None:
        self.folder = folder
        self.simulator = simulator
        self.state_dir = folder / "state"
        self.config_dir = self.state_dir / "claude"
        self.cwd = folder / "proj"
        self.cwd.mkdir(parents=True)
        self.state_dir.mkdir()
        self.tmux = Tmux(f"test-{uuid.uuid4().hex[:12]}", TmuxConfig())
        settings = {
            "path": claude,
            "base_url": simulator.base_url,
            "api_key": KEY,
            "config_dir": self.config_dir,
            "env": {"IS_SANDBOX": "1", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"},
        }
        self.claude = ClaudeConfig(**{**settings, **config})
        self.limits: dict[str, Any] = {}
        """Of `SessionConfig`, for lives of the bridge that are still to come."""
        self.events: list[Event] = []
        """Of every life of the bridge so far."""
        self.batches: list[Batch] = []
        self.states: list[tuple[str, str]] = []
        """Every state that was told, and by which signal it was known."""
        self._more = asyncio.Event()
        self._ready: dict[str, int] = {}

    # --- lives of the bridge ----------------------------------------------------------------------------

    @asynccontextmanager
    async def bridge(self) -> AsyncIterator[Actor | None]:
        """Leaving it lets go of the CLI, as a bridge that ends does."""
        async with contextlib.AsyncExitStack() as stack:
            watch = FileWatch()
            stack.callback(watch.close)
            self.hooks = FaultyHooks(self.state_dir)
            self._serving: asyncio.Task[None] | None = None
            stack.push_async_callback(self.hooks_down)
            self.hooks.bind()
            environ = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(self.folder), "LANG": "C.UTF-8"}
            self.host = TuiHost(
                *(self.state_dir, self.tmux, watch, StatusFiles(watch), self.hooks, self.claude, environ),
                lambda name: self.viewers,
            )
            journal = await Journal.open(self.state_dir / "journal.db")
            stack.push_async_callback(journal.close)
            clock = SystemClock()
            supervisor = Supervisor("sessions", budget=RestartBudget(5, 60), clock=clock)
            self.registry = Registry(
                journal,
                {"tmux": BackendKind(self._backend, KeyboardRules(Path("/nowhere")))},
                lambda name: self,
                lambda name: None,
                supervisor,
                clock,
                SessionConfig(roots=[self.folder], backend="tmux", **self.limits),
                "node",
            )
            await self.registry.load()
            self._serving = asyncio.create_task(self.hooks.serve())
            running = asyncio.create_task(supervisor.run())
            try:
                yield self.actor if self.registry.sessions() else None
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)

    def _backend(self, name: SessionName, sink: Sink) -> TuiBackend:
        def take(batch: Batch) -> None:
            self.batches.append(batch)
            sink(batch)

        self.backend = self.host.backend(name, take)
        return self.backend

    async def hooks_down(self) -> None:
        if self._serving is not None:
            self._serving.cancel()
            await asyncio.gather(self._serving, return_exceptions=True)
            self._serving = None

    async def hooks_up(self) -> None:
        self.hooks.bind()
        self._serving = asyncio.create_task(self.hooks.serve())

    async def close(self) -> None:
        pids = [pane.pid for pane in await self.tmux.panes() if not pane.dead]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)  # hung up on, some take ten seconds
        await self.tmux.kill_server()
        # They write into the test's folder to the last.
        await until(lambda: not any(_alive(pid) for pid in pids))
        await Leftovers(self.state_dir).end(self.name, 1)
        await self.tmux.close()
        remove_socket(self.tmux.socket)

    # --- what the registry publishes to -----------------------------------------------------------------

    viewers = 1

    def publish(self, at: float, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, SessionChanged):
            session = event.session
            if not self.states or self.states[-1] != (session.state, session.evidence.signal):
                self.states.append((session.state, session.evidence.signal))
        self._more.set()

    def announce(self, at: float, event: Event) -> None:
        pass

    # --- what a client does and sees --------------------------------------------------------------------

    @property
    def actor(self) -> Actor:
        return self.registry.get(self.name)

    @property
    def session(self) -> Session:
        return self.actor.view()

    async def start(self, **options: Any) -> None:
        """A new session, or one that was stopped; idle when this returns."""
        options = {"cwd": str(self.cwd), "permission_mode": "manual", "backend": "tmux", **options}
        await self.registry.start(self.name, StartOptions(**options), joining=False)
        await self.until_state("idle")

    async def call(self, command: Command) -> Any:
        return await called(lambda done: self.actor.call(command, "me", done))

    async def submit(self, prompt: str) -> str:
        turn: str = (await self.call(SubmitPrompt(prompt=prompt)))["turn"]
        return turn

    async def submit_command(self, command: str) -> str:
        turn: str = (await self.call(SubmitPrompt(command=command)))["turn"]
        return turn

    async def ask(self, prompt: str) -> Turn:
        return await self.finished(await self.submit(prompt))

    async def interrupt(self) -> None:
        await self.call(InterruptTurn())

    async def finished(self, turn: str) -> Turn:
        """How it ended, as the journal has it."""
        await self.until(lambda: any(e.turn == turn for e in self.all(TurnFinished)))
        return next(t for t in await self.turns() if t.id == turn)

    async def turns(self) -> tuple[Turn, ...]:
        return await self.registry.history(self.name, None, 100)

    def all(self, kind: type[E], since: int = 0) -> list[E]:
        return [e for e in self.events[since:] if isinstance(e, kind)]

    async def event(self, kind: type[E], since: int = 0, count: int = 1) -> E:
        """The event of this kind that comes as so-manieth behind the first `since` events."""
        await self.until(lambda: len(self.all(kind, since)) >= count)
        return self.all(kind, since)[count - 1]

    async def typed_turn(self, since: int) -> TurnStarted:
        """The next turn that no client asked for."""
        return await self.until(
            lambda: next((e for e in self.all(TurnStarted, since) if e.source != "client"), None)
        )

    async def until(self, what: Callable[[], T | None]) -> T:
        """The first answer that is neither None nor False; asked whenever something was told."""
        try:
            async with asyncio.timeout(WAIT_S):
                while (found := what()) is None or found is False:
                    self._more.clear()
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._more.wait(), 0.05)
                return found
        except TimeoutError:
            told = "\n".join(str(e)[:300] for e in self.events[-12:])
            raise AssertionError(f"waited in vain; {self.session}\n{told}\n{await self.screen()}") from None

    async def until_state(self, state: str) -> Session:
        await self.until(lambda: self.session.state == state)
        return self.session

    # --- what a person does and sees --------------------------------------------------------------------

    async def press(self, *keys: str) -> None:
        await self.tmux.send_keys("claude_demo", *keys)

    async def write(self, text: str) -> None:
        await self.tmux.send_keys("claude_demo", text, literal=True)

    async def screen(self) -> str:
        return "\n".join(await self.tmux.capture("claude_demo"))

    async def until_shown(self, text: str) -> None:
        end = time.monotonic() + WAIT_S
        while text not in (shown := await self.screen()):
            assert time.monotonic() < end, shown
            await asyncio.sleep(0.05)

    def run_tmux(self, *words: str) -> str:
        command = ["tmux", "-L", self.tmux.socket, *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    # --- the CLI and its files --------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        assert self.backend.pid is not None
        return self.backend.pid

    @property
    def status_file(self) -> Path:
        return self.config_dir / "sessions" / f"{self.pid}.json"

    def transcript(self) -> Path | None:
        found = self.config_dir.glob(f"projects/*/{self.session.conversation}.jsonl")
        return next(found, None)

    def typed(self, part: str) -> int:
        """How often a prompt with this in it was taken, as the model was told of the conversation."""
        return max(
            (sum(part in _said(m) for m in r["messages"]) for r in self.simulator.requests()), default=0
        )

    def kill(self, number: int) -> None:
        os.kill(self.pid, number)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _said(message: dict[str, Any]) -> str:
    return json.dumps(message["content"], ensure_ascii=False) if message["role"] == "user" else ""
