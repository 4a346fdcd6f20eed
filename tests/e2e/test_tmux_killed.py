"""The tmux server is killed under the bridge, and every session with it."""

from __future__ import annotations

import os
import signal

import pytest

from tests.fakes.bridge import END_S, BridgeProcess, ended, sim
from tests.fakes.phoenix_js import Clients

pytestmark = pytest.mark.real


def test_sessions_come_back_after_the_tmux_server_was_killed(
    own_bridge: BridgeProcess, clients: Clients
) -> None:
    """With either backend. What ran is `unknown` and is not run again, what waited is answered once, and no
    process of before is left."""
    socket = clients.connect(own_bridge.url, own_bridge.token)
    channels = {
        backend: socket.join(f"session:{backend}", {"start": {"backend": backend}})
        for backend in ("headless", "tmux")
    }
    running, waiting, before = {}, {}, []
    for backend, channel in channels.items():
        running[backend] = channel.submit(f"count {backend} {sim(words=3000, gap_ms=20)}")
        waiting[backend] = channel.submit(f"wait {backend} {sim(text='Well.')}")
    for backend, channel in channels.items():
        channel.wait("delta", turn=running[backend], count=2)
        before.append(own_bridge.cli_pid(backend))
    server = int(own_bridge.tmux("display-message", "-p", "#{pid}").stdout)
    os.kill(server, signal.SIGKILL)
    for backend, channel in channels.items():
        assert channel.story(running[backend]).status == "unknown"
        assert channel.story(waiting[backend]).text == "Well."
        channel.wait_session(state="idle", restarts=1)
        assert own_bridge.cli_pid(backend) not in before
        assert len(own_bridge.requests(f"wait {backend}")) == 1
        assert own_bridge.requests(f"count {backend}") == []  # of what was asked since
    assert all(ended(pid, END_S) for pid in before)
