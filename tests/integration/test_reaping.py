"""How a process in a pane ended, as far as tmux knows."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from bridge.config import TmuxConfig
from bridge.drill.stage import remove_socket
from bridge.sessions.backends.process import reap
from bridge.sessions.tmux import Tmux

pytestmark = pytest.mark.real

RUNS = 60
"""Without `reap` every eighth or so never got its status, on a machine with two busy cores."""


async def test_every_process_that_ends_at_once_gets_its_status() -> None:
    """tmux misses a SIGCHLD now and then, and asks again only when told to."""
    tmux = Tmux(f"test-{uuid.uuid4().hex[:12]}", TmuxConfig())
    try:
        for n in range(RUNS):
            pane = await tmux.new_session(f"s{n}", ("/bin/sh", "-c", "exit 3"), {})
            async with asyncio.timeout(30):
                while pane.exit_code is None:
                    if pane.dead:
                        reap(pane.server_pid)
                    (pane,) = await tmux.panes(f"s{n}")
            assert pane.exit_code == 3
    finally:
        await tmux.kill_server()
        remove_socket(tmux.socket)
