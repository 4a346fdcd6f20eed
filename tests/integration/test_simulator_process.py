"""The simulator as the bridge starts it: a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.fakes.simulator import start_simulator, stop_simulator

pytestmark = pytest.mark.real


def test_sigterm_ends_it_even_while_an_answer_hangs() -> None:
    """With status 0, at once."""
    process, running = start_simulator()
    body = {
        "model": "m",
        "max_tokens": 9,
        "stream": True,
        "messages": [{"role": "user", "content": '[[sim {"hang_after": 0}]]'}],
    }
    request = urllib.request.Request(
        f"{running.base_url}/v1/messages", json.dumps(body).encode(), {"x-api-key": "any"}
    )
    with urllib.request.urlopen(request, timeout=10):
        assert stop_simulator(process) == 0


def test_the_port_file_is_whole_and_says_where_it_listens(tmp_path: Path) -> None:
    """With a port file it prints nothing; the file appears by renaming, so it is never half there."""
    port_file = tmp_path / "simulator.json"
    process = subprocess.Popen(
        [sys.executable, "-m", "bridge.simulator", "--port-file", str(port_file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        _appears(port_file)
        told = json.loads(port_file.read_text())
        with urllib.request.urlopen(f"http://127.0.0.1:{told['port']}/healthz", timeout=10) as answer:
            assert answer.status == 200
    finally:
        process.terminate()
        printed, _ = process.communicate(timeout=10)
    assert (told["pid"], printed) == (process.pid, b"")
    assert [path.name for path in tmp_path.iterdir()] == ["simulator.json"]


def test_a_port_in_use_is_a_sentence_and_status_1() -> None:
    """No traceback."""
    process, running = start_simulator()
    try:
        port = running.base_url.rpartition(":")[2]
        second = subprocess.run(
            [sys.executable, "-m", "bridge.simulator", "--port", port],
            capture_output=True,
            text=True,
            timeout=30,
        )
    finally:
        stop_simulator(process)
    assert (second.returncode, "Traceback" in second.stderr) == (1, False)
    assert port in second.stderr


def test_it_takes_its_port_again_at_once() -> None:
    """Sessions go on with the address that they were started with."""
    process, running = start_simulator()
    port = running.base_url.rpartition(":")[2]
    with urllib.request.urlopen(f"{running.base_url}/healthz", timeout=10):
        stop_simulator(process)
    again, second = start_simulator("--port", port)
    stop_simulator(again)
    assert second.base_url == running.base_url


def test_it_stands_alone() -> None:
    """It outlives the bridge and its upgrades, so it imports nothing of it but itself."""
    code = (
        "import sys, bridge.simulator.__main__\n"
        "print([m for m in sys.modules if m.startswith('bridge.') and not m.startswith('bridge.simulator')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.strip() == "[]"


def _appears(path: Path) -> None:
    """Waits for a file by watching its folder."""
    from inotify_simple import INotify, flags

    with INotify() as watch:
        watch.add_watch(path.parent, flags.MOVED_TO | flags.CREATE)
        while not path.exists():
            assert watch.read(timeout=20_000), f"{path.name} did not appear"
