"""The two other sides of `bench.tui`: an upstream that takes the time, and a TUI driven by its screen.

The upstream is the bundled simulator in a process of its own, which notes when each prompt was asked and
when the last byte of its answer was written (CLOCK_MONOTONIC, as the clients' times).
`Scraped` does as systems do that have nothing but the pane: it pastes, waits, presses Enter, and takes the
answer for finished when the screen has not changed for a while.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import orjson
import uvloop
from aiohttp import web

from bridge.simulator.server import Simulator

MARK = re.compile(r"bench-\w+")
"""Names a prompt."""
LOOK_S, STILL_S = 0.2, 1.0
"""As AgentAPI looks, which wants 2 s of stillness, and half as patient: in favour of the screen."""
READY_S = 60.0


# --- upstream -------------------------------------------------------------------------------------


class Upstream:
    """The simulator, with the time of each prompt's first request and of its answer's last byte."""

    def __init__(self) -> None:
        self.times: dict[str, list[float]] = {}

    def app(self) -> web.Application:
        app = Simulator().app()
        app.middlewares.append(self._noted)
        return app

    @web.middleware
    async def _noted(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        begun = time.monotonic()
        response = await handler(request)
        # The request of a turn, and not one of those about a name for the session.
        if request.method == "POST" and (body := orjson.loads(await request.read())).get("tools"):
            last = orjson.dumps(body["messages"]).decode()
            if marks := MARK.findall(last):
                self.times.setdefault(marks[-1], [begun, 0.0])[1] = time.monotonic()
        return response


async def upstream() -> None:
    watched = Upstream()
    runner = web.AppRunner(watched.app(), access_log=None, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    _say({"port": int(runner.addresses[0][1])})
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    while line := await reader.readline():
        _say({"times": watched.times.get(orjson.loads(line)["mark"])})
    await runner.cleanup()


def _say(what: Mapping[str, Any]) -> None:
    sys.stdout.buffer.write(orjson.dumps(what) + b"\n")
    sys.stdout.buffer.flush()


# --- the screen -----------------------------------------------------------------------------------


class Scraped:
    """A TUI in a tmux server of its own. `with` ends both."""

    def __init__(self, home: Path, argv: tuple[str, ...], env: Mapping[str, str], cwd: Path) -> None:
        self._socket = home / "scraped.sock"
        words = ["env", "-i", *(f"{key}={value}" for key, value in env.items()), *argv]
        self._tmux("new-session", "-d", "-s", "tui", "-x", "220", "-y", "50", "-c", str(cwd), "--", *words)

    def __enter__(self) -> Scraped:
        begun = time.monotonic()
        while "❯" not in self._screen():
            assert time.monotonic() - begun < READY_S, f"the TUI did not come up:\n{self._screen()}"
            time.sleep(LOOK_S)
        self.still()
        return self

    def __exit__(self, *_: object) -> None:
        self._tmux("kill-server")
        self._socket.unlink(missing_ok=True)

    def submit(self, text: str, pause: float) -> float:
        """Type it; when that began."""
        begun = time.monotonic()
        self._tmux("load-buffer", "-b", "prompt", "-", said=text.encode())
        self._tmux("paste-buffer", "-p", "-d", "-b", "prompt", "-t", "tui")
        time.sleep(pause)
        self._tmux("send-keys", "-t", "tui", "Enter")
        return begun

    def still(self) -> float:
        """Look until the screen has stood still for long enough; when that was."""
        before, since = self._screen(), time.monotonic()
        while (now := time.monotonic()) - since < STILL_S:
            time.sleep(LOOK_S)
            screen = self._screen()
            if screen != before:
                before, since = screen, time.monotonic()
        return now

    def _screen(self) -> str:
        return self._tmux("capture-pane", "-p", "-t", "tui")

    def _tmux(self, *words: str, said: bytes | None = None) -> str:
        env = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LANG": "C.UTF-8"}
        command = ["tmux", "-f", "/dev/null", "-S", str(self._socket), *words]
        return subprocess.run(command, input=said, env=env, capture_output=True, check=True).stdout.decode()


if __name__ == "__main__":
    uvloop.run(upstream())
