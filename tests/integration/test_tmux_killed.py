"""What a killed bridge leaves in tmux: its panes, and nothing of its own connections."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from bridge.drill.stage import remove_socket

pytestmark = pytest.mark.real

WATCH = """
import asyncio, sys
from bridge.config import TmuxConfig
from bridge.sessions.tmux import Tmux

async def main():
    tmux = Tmux(sys.argv[1], TmuxConfig())
    pane = await tmux.new_session("claude_a", ["yes"], {"@claude_bridge": "me"})
    client = await tmux.watch("claude_a", lambda pane, data: None)
    print(pane.server_pid, client.pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""
END_S = 20


def test_no_connection_of_a_killed_bridge_is_left_however_busy_the_pane() -> None:
    """Else its client stays for ever, and with it a server that is told to end: it waits until the client has
    taken what nobody reads any more (3.3a: 12 times of 12)."""
    socket = f"test-{uuid.uuid4().hex[:12]}"
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", WATCH, socket]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as bridge:
        assert bridge.stdout is not None
        server, client = map(int, bridge.stdout.readline().split())
        held = {os.pidfd_open(server): server, os.pidfd_open(client): client}
        bridge.kill()
    try:
        # Its exit status says nothing: 1 where the server was gone before it had told its client of success.
        subprocess.run(["tmux", "-L", socket, "kill-server"], check=False, capture_output=True, timeout=60)
        left = dict(held)
        while left:
            ready, _, _ = select.select([*left], [], [], END_S)
            assert ready, f"left behind: {sorted(left.values())}"
            for fd in ready:
                del left[fd]
    finally:
        for fd, pid in held.items():
            if not select.select([fd], [], [], 0)[0]:
                os.kill(pid, 9)
            os.close(fd)
        remove_socket(socket)
