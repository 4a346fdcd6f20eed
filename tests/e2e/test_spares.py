"""A bridge that keeps spares, killed without a word: what was taken goes on, what waited waits on."""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.simulator.script import words
from tests.e2e.test_killed import finished, rejoin_after
from tests.fakes.bridge import END_S, BridgeProcess, ended, running_bridge, sim
from tests.fakes.phoenix_js import Clients, JsChannel, Json

pytestmark = pytest.mark.real

COUNT = 150
KEPT = {"CLAUDE_BRIDGE_SPARES__HIGH": "2", "CLAUDE_BRIDGE_SPARES__STARTS_PER_S": "10"}


@pytest.fixture
def keeping(tmp_path: Path) -> Iterator[BridgeProcess]:
    with running_bridge(tmp_path, **KEPT) as running:
        yield running


def spares(lobby: JsChannel) -> Json:
    tree: Json = lobby.push("tree")
    assert [child for child in tree["children"] if child["kind"] == "orphan"] == []
    return next((child for child in tree["children"] if child["id"] == "spares"), {})


def full(bridge: BridgeProcess, clients: Clients) -> set[int]:
    """The processes that wait, once there are as many as there should be."""
    lobby = clients.connect(bridge.url, bridge.token).join("sessions")

    def find() -> set[int] | None:
        said = spares(lobby)
        return {child["pid"] for child in said["children"]} if said["ready"] == 2 else None

    return lobby.until(find, "two spares")


def metrics(bridge: BridgeProcess) -> set[str]:
    request = urllib.request.Request(f"http://127.0.0.1:{bridge.port}/metrics")
    request.add_header("Authorization", f"Bearer {bridge.token}")
    with urllib.request.urlopen(request, timeout=END_S) as answer:
        return set(answer.read().decode().splitlines())


def taken(bridge: BridgeProcess, clients: Clients, name: str) -> JsChannel:
    """A session whose process had waited."""
    waiting = full(bridge, clients)
    channel = clients.connect(bridge.url, bridge.token).join(f"session:{name}", {"start": {}}, resume=True)
    channel.ask("remember the heron")
    assert bridge.cli_pid(name) in waiting
    return channel


@pytest.mark.soak
def test_a_kill_changes_nothing_for_what_waits_nor_for_what_was_taken(
    keeping: BridgeProcess, clients: Clients
) -> None:
    """The turn goes on in the same process; the same spares are there again, and the command shows them."""
    channel = taken(keeping, clients, "demo")
    pid, waiting = keeping.cli_pid("demo"), full(keeping, clients)
    turn = channel.submit(f"count {sim(words=COUNT, gap_ms=10)}")
    channel.wait("delta", turn=turn, count=5)
    keeping.kill()
    keeping.start()
    rejoin_after(channel, 1)
    end = finished(channel, turn)
    assert (end["status"], end["text"]) == ("completed", words(COUNT).rstrip())
    assert keeping.cli_pid("demo") == pid
    assert full(keeping, clients) == waiting
    shown = keeping.run("sessions", "--tree").stdout
    assert all(f"pid {each}" in shown.replace("\n", " ") for each in waiting)
    told = metrics(keeping)
    assert {'claude_bridge_spares{state="ready"} 2', "claude_bridge_spares_taken_total 0"} <= told


@pytest.mark.soak
def test_a_taken_spare_survives_the_journal(keeping: BridgeProcess, clients: Clients) -> None:
    """It is taken up with the conversation that it began, and remembers it also after its process."""
    channel = taken(keeping, clients, "demo")
    pid = keeping.cli_pid("demo")
    keeping.kill()
    for name in ("journal.db", "journal.db-wal"):
        with (keeping.state_dir / name).open("r+b") as file:
            file.write(os.urandom(4096))
    keeping.start()
    told = rejoin_after(channel, 1)
    record = json.loads((keeping.state_dir / "sessions" / "demo" / "1" / "spare.json").read_bytes())
    assert told["session"]["conversation"] == record["conversation"]
    channel.ask("and now?")
    assert keeping.cli_pid("demo") == pid
    assert "remember the heron" in str(keeping.requests("and now?")[0]["messages"])


@pytest.mark.soak
def test_after_a_reboot_the_session_is_resumed_and_the_spares_are_new(
    keeping: BridgeProcess, clients: Clients
) -> None:
    """Of those that waited nothing is left, on the disk neither."""
    channel = taken(keeping, clients, "demo")
    lost = full(keeping, clients)
    keeping.lose_everything()
    keeping.start()
    rejoin_after(channel, 1)
    channel.ask("and now?")
    assert "remember the heron" in str(keeping.requests("and now?")[0]["messages"])
    assert not full(keeping, clients) & lost
    assert len(list((keeping.state_dir / "spares").iterdir())) == 2


def test_a_bridge_that_keeps_none_ends_those_from_before(keeping: BridgeProcess, clients: Clients) -> None:
    """And says nothing of spares any more."""
    waiting = full(keeping, clients)
    keeping.stop()
    keeping._env = {}
    keeping.start()
    assert all(ended(pid, END_S) for pid in waiting)
    assert "claude_bridge_spares" not in "".join(metrics(keeping))
    lobby = clients.connect(keeping.url, keeping.token).join("sessions")
    lobby.until(lambda: spares(lobby) == {} or None, "a tree without spares")
    assert not any(session.startswith("claude__spare") for session in keeping.tmux_sessions())
