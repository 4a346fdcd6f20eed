"""One headless session on the simulator, with everything it says written down: for tests and recordings.

A tmux server and a state folder of its own; `close` ends both, whatever a test left running.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from pathlib import Path
from typing import Any, TypeVar

from bridge.commands import StartOptions
from bridge.config import ClaudeConfig, TmuxConfig
from bridge.drill.stage import remove_socket
from bridge.errors import BackendError, TmuxError
from bridge.events import SessionName, TurnId
from bridge.sessions.backends.base import Batch, Checkpoint, Launch, Liveness
from bridge.sessions.backends.headless import HeadlessBackend, Host
from bridge.sessions.backends.tail import FileWatch
from bridge.sessions.tmux import Tmux
from bridge.signals import ProcessReady, Signal, TurnEnded

WAIT_S = 60
"""Far more than anything here takes, so that a failure is a failure and not a slow machine."""

S = TypeVar("S")


def new_turn() -> TurnId:
    return TurnId(str(uuid.uuid4()))


class Rig:
    def __init__(self, folder: Path, base_url: str, claude: Path, **config: Any) -> None:
        self.folder = folder
        self.state_dir = folder / "state"
        self.cwd = folder / "proj"
        self.cwd.mkdir(parents=True)
        self.tmux = Tmux(f"test-{uuid.uuid4().hex[:12]}", TmuxConfig())
        self.environ = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "HOME": str(folder),
            "ANTHROPIC_API_KEY": "not-to-be-passed-on",
            "CLAUDECODE": "1",
        }
        settings = {
            "path": claude,
            "base_url": base_url,
            "api_key": "sk-ant-simulated",
            "config_dir": folder / "claude",
            "env": {"IS_SANDBOX": "1"},
        }
        self.host = Host(
            self.state_dir, self.tmux, FileWatch(), ClaudeConfig(**{**settings, **config}), self.environ
        )
        self.name = SessionName("demo")
        self.conversation = str(uuid.uuid4())
        self.batches: list[Batch] = []
        self.signals: list[Signal] = []
        """All signals so far."""
        self._seen = 0
        self._more = asyncio.Event()
        self.backend = self.another()

    def another(self) -> HeadlessBackend:
        """A backend as a bridge that was started anew would have it, of the same session."""
        return self.host.backend(self.name, self._take)

    def _take(self, batch: Batch) -> None:
        self.batches.append(batch)
        self.signals += batch.signals
        self._more.set()

    def launch(self, generation: int = 1, *, resume: bool = False, **options: Any) -> Launch:
        given: dict[str, Any] = {"cwd": str(self.cwd), "permission_mode": "default", **options}
        return Launch(self.name, generation, self.conversation, resume, StartOptions(**given))

    async def start(self, generation: int = 1, *, resume: bool = False, **options: Any) -> ProcessReady:
        await self.backend.start(self.launch(generation, resume=resume, **options))
        return await self.until(ProcessReady)

    async def adopt(self, checkpoint: Checkpoint | None, generation: int = 1) -> Liveness:
        """Take up the session with another backend, which becomes this rig's."""
        self.backend = self.another()
        return await self.backend.adopt(self.launch(generation, resume=True), checkpoint)

    async def until(self, kind: type[S]) -> S:
        """The next signal of this kind; those before it are passed by."""
        async with asyncio.timeout(WAIT_S):
            while True:
                while self._seen < len(self.signals):
                    signal = self.signals[self._seen]
                    self._seen += 1
                    if isinstance(signal, kind):
                        return signal
                self._more.clear()
                await self._more.wait()

    async def send(self, prompt: str) -> TurnId:
        turn = new_turn()
        await self.backend.send_prompt(turn, prompt)
        return turn

    async def ask(self, prompt: str) -> list[Signal]:
        """One turn: every signal from the prompt to its end, the end last."""
        before = self._seen
        await self.send(prompt)
        await self.until(TurnEnded)
        return self.signals[before : self._seen]

    def all(self, kind: type[S]) -> list[S]:
        return [signal for signal in self.signals if isinstance(signal, kind)]

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The last one, as a journal would have it."""
        return next((b.checkpoint for b in reversed(self.batches) if b.checkpoint is not None), None)

    def output(self, generation: int = 1) -> Path:
        return self.state_dir / "sessions" / self.name / str(generation) / "out.ndjson"

    async def close(self) -> None:
        with contextlib.suppress(TmuxError, BackendError):
            await self.backend.stop()  # and wait for it: it writes into the test's folder to the last
        await self.backend.detach()
        await self.tmux.kill_server()
        remove_socket(self.tmux.socket)
        self.host.watch.close()
