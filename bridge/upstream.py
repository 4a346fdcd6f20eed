"""The simulator as a process of its own: started in our tmux server, found again, kept running.

It outlives the bridge as the sessions do, because their CLIs are pointed at it; its port is kept in the
state folder and taken again, because a running CLI cannot be told another.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import structlog

from bridge.config import ApiConfig, ClaudeConfig
from bridge.errors import SetupError, TmuxError
from bridge.sessions.tmux import OWNER, Pane, Tmux, state_id

log = structlog.get_logger(__name__)

SESSION = "simulator"
"""Its tmux session; a conversation's is called `claude_…`, so the two cannot meet."""
KEY = "sk-ant-simulated-not-a-key"
LOGIN = "CLAUDE_CODE_OAUTH_TOKEN"
START_S = 30.0
"""It is up in half a second; the rest is for a machine that starts many things at once."""
ANSWER_S = 2.0


class SimulatorProcess:
    """Owns the file `simulator.json` of the state folder and the tmux session `simulator`."""

    def __init__(self, tmux: Tmux, state_dir: Path) -> None:
        self._tmux = tmux
        self._state_dir = state_dir
        self._port_file = state_dir / "simulator.json"
        self._pane: Pane | None = None

    def point(self, claude: ClaudeConfig) -> ClaudeConfig:
        """The CLI's settings, aimed at the simulator, with a home and a configuration of their own: a
        person's login and settings are neither read nor touched."""
        own = self._state_dir / "claude"
        home = self._state_dir / "home"
        for folder in (own, home):
            folder.mkdir(mode=0o700, exist_ok=True)
        return claude.model_copy(
            update={
                "base_url": f"http://127.0.0.1:{self._port()}",
                # A made-up login in its environment has the CLI behave as with a subscription.
                "api_key": None if LOGIN in claude.env else KEY,
                "config_dir": own,
                "home": home,
                "env_allow": [],
            }
        )

    def point_api(self, api: ApiConfig) -> ApiConfig:
        """The same for the Messages API's client; no key of this machine's goes with it."""
        return api.model_copy(update={"base_url": f"http://127.0.0.1:{self._port()}", "key": KEY})

    def describe(self) -> dict[str, Any]:
        return {"pid": self._pane.pid if self._pane else None, "port": self._port()}

    async def ensure(self) -> None:
        """Returns once it answers, found or started. Raises `SetupError`."""
        try:
            self._pane = await self._found()
            if self._pane is None:
                self._pane = await self._started()
        except TmuxError as e:
            raise SetupError(f"The simulator could not be started: {e}") from e

    async def watch(self) -> None:
        """Returns, to be started again by the supervisor, when the process has ended."""
        await self.ensure()
        assert self._pane is not None
        try:
            descriptor = os.pidfd_open(self._pane.pid)
        except ProcessLookupError:
            return
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        loop.add_reader(descriptor, ended.set)
        try:
            await ended.wait()
            log.warning("simulator ended")
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)

    async def _found(self) -> Pane | None:
        for pane in await self._tmux.panes(SESSION):
            if pane.owner == state_id(self._state_dir) and not pane.dead and await self._answers():
                return pane
        return None

    async def _started(self) -> Pane:
        port = self._port()
        for attempt in (port, 0) if port else (0,):
            pane = await self._launch(attempt)
            if pane is not None:
                if port and attempt != port:
                    log.error("simulator lost its port; running CLIs still ask the old one", port=port)
                return pane
        # Its pane is left with what it said last.
        raise SetupError("The simulator did not start.", f"Look at it: {self._tmux.attach_command(SESSION)}")

    async def _launch(self, port: int) -> Pane | None:
        words = [sys.executable, "-m", "bridge.simulator", "--port", str(port), "--port-file"]
        command = [*words, str(self._port_file)]
        await self._tmux.kill_session(SESSION)
        pane = await self._tmux.new_session(SESSION, command, {OWNER: state_id(self._state_dir)})
        try:
            async with asyncio.timeout(START_S):
                # The port file names the process, so an older one's word does not count.
                while self._said().get("pid") != pane.pid or not await self._answers():
                    if any(p.dead for p in await self._tmux.panes(SESSION)):
                        return None
                    await asyncio.sleep(0.05)
        except TimeoutError:
            return None
        return pane

    async def _answers(self) -> bool:
        port = self._port()
        if not port:
            return False
        timeout = aiohttp.ClientTimeout(total=ANSWER_S)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout, trust_env=False) as http,
                http.get(f"http://127.0.0.1:{port}/healthz") as answer,
            ):
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    def _port(self) -> int:
        port = self._said().get("port")
        return port if isinstance(port, int) else 0

    def _said(self) -> dict[str, Any]:
        try:
            said = orjson.loads(self._port_file.read_bytes())
        except (OSError, ValueError):
            return {}
        return said if isinstance(said, dict) else {}
