"""The disk is full, really, and has room again: nothing is lost, nothing runs twice, and nobody restarts."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.simulator.script import words
from tests.e2e.test_killed import until_idle
from tests.fakes.bridge import BridgeProcess, running_bridge, sim
from tests.fakes.disk import Disk, small_disk
from tests.fakes.phoenix_js import Clients, JsChannel, Refused, assert_well_told

pytestmark = pytest.mark.real

COUNT = 150


@pytest.fixture
def journal_disk(tmp_path: Path) -> Iterator[Disk]:
    """Where the journal of the next bridge in `tmp_path` is, and nothing else."""
    with small_disk(tmp_path / "disk", "6m") as disk:
        (tmp_path / "state").mkdir(mode=0o700)
        (tmp_path / "state" / "journal.db").symlink_to(disk.folder / "journal.db")
        yield disk


@pytest.fixture
def bridge(journal_disk: Disk, tmp_path: Path) -> Iterator[BridgeProcess]:
    with running_bridge(tmp_path) as running:
        yield running


def refused(channel: JsChannel, event: str, payload: dict[str, Any]) -> str:
    """The sentence of a refusal that says that the bridge cannot write."""
    with pytest.raises(Refused) as refusal:
        channel.push(event, payload)
    assert refusal.value.reason == "internal"
    message: str = refusal.value.response["message"]
    return message


def logged(bridge: BridgeProcess, event: str) -> list[dict[str, Any]]:
    lines = bridge.log.read_text().splitlines()
    return [said for line in lines if (said := json.loads(line))["event"] == event]


def test_a_journal_without_room_stands_and_goes_on(
    bridge: BridgeProcess, journal_disk: Disk, clients: Clients
) -> None:
    """In the middle of an answer, with a prompt behind it."""
    channel = clients.connect(bridge.url, bridge.token).join("session:demo", {"start": {}}, resume=True)
    channel.ask("warm up")
    cli = bridge.cli_pid("demo")
    running = channel.submit(f"count {sim(words=COUNT, gap_ms=20)}")
    waiting = channel.submit("and then?", id="key")
    channel.wait("delta", turn=running)
    journal_disk.fill()
    for number in range(60):
        assert "disk is full" in refused(channel, "submit", {"prompt": f"refused {number}"})
    standing = channel.wait_session(state="unknown")
    assert "disk is full" in standing["reason"]
    again = channel.push("submit", {"prompt": "and then?", "id": "key"})
    assert (again["turn"], again["duplicate"], again["status"]) == (waiting, True, "queued")

    until_idle(bridge)
    other = clients.connect(bridge.url, bridge.token)
    lobby = other.join("sessions")
    assert ["disk is full" in s["reason"] for s in lobby.joined["sessions"]] == [True]
    assert "disk is full" in refused(lobby, "start", {"name": "another"})
    assert "disk is full" in refused(lobby, "delete", {"name": "demo"})
    assert "disk is full" in refused(channel, "stop", {})
    joined = other.join("session:demo").joined
    assert joined["open_turn"]["id"] == running
    assert [t["id"] for t in joined["queue"]] == [waiting]
    assert [t["text"] for t in joined["turns"]] == ["You said: warm up"]
    assert len(channel.push("history")["turns"]) == 1

    journal_disk.free()
    story, next_story = channel.story(running), channel.story(waiting)
    assert (story.status, story.text) == ("completed", words(COUNT).rstrip())
    assert next_story.text == "You said: and then?"
    assert_well_told(story)
    assert_well_told(next_story)
    assert channel.ask("and now?").text == "You said: and now?"
    assert bridge.cli_pid("demo") == cli
    assert [len(bridge.requests(p)) for p in ("count", "and then?", "refused")] == [1, 1, 0]
    assert len(logged(bridge, "journal could not write")) == len(logged(bridge, "journal wrote again")) == 1
    assert logged(bridge, "child crashed") == []


@pytest.mark.soak
def test_a_cli_that_could_not_write_its_answer_is_replaced(tmp_path: Path, clients: Clients) -> None:
    """The whole state folder is full. The CLI drops what it cannot write, and writes on where there is room
    again: what it says then is not to be trusted, and nobody can tell how the turn ended."""
    with small_disk(tmp_path / "state", "40m") as disk, running_bridge(tmp_path) as bridge:
        channel = clients.connect(bridge.url, bridge.token).join("session:demo", {"start": {}}, resume=True)
        channel.ask("warm up")
        running = channel.submit(f"count {sim(words=COUNT, gap_ms=10)}")
        waiting = channel.submit("and then?")
        channel.wait("delta", turn=running, count=5)
        cli = bridge.cli_pid("demo")
        (out,) = bridge.state_dir.rglob("out.ndjson")
        disk.fill()
        assert "disk is full" in refused(channel, "submit", {"prompt": "refused"})
        deadline = time.monotonic() + 30
        while out.read_bytes().endswith(b"\n"):
            assert time.monotonic() < deadline, "everything was written"
        assert len(channel.push("history")["turns"]) == 1
        disk.free()
        story = channel.story(running)
        assert_well_told(story)
        assert story.status == "unknown"
        assert words(COUNT).startswith(story.text)
        assert channel.story(waiting).text == "You said: and then?"
        assert bridge.cli_pid("demo") != cli
        assert [len(bridge.requests(p)) for p in ("count", "refused")] == [1, 0]


@pytest.mark.soak
def test_a_journal_that_somebody_holds_is_waited_for(tmp_path: Path, clients: Clients) -> None:
    """Somebody's `sqlite3` for longer than a write waits; who holds all of the file lets no bridge start."""
    with running_bridge(tmp_path) as bridge:
        channel = clients.connect(bridge.url, bridge.token).join("session:demo", {"start": {}}, resume=True)
        channel.ask("warm up")
        somebody = sqlite3.connect(bridge.state_dir / "journal.db", isolation_level=None)
        somebody.execute("BEGIN EXCLUSIVE")
        for number in range(3):
            assert "locked" in refused(channel, "submit", {"prompt": f"refused {number}"})
        somebody.execute("COMMIT")
        channel.until(lambda: len(logged(bridge, "journal wrote again")) or None, "the end of it")
        assert channel.ask("and now?").text == "You said: and now?"
        assert bridge.requests("refused") == []

        bridge.stop()
        somebody.execute("PRAGMA locking_mode = EXCLUSIVE")
        somebody.execute("BEGIN EXCLUSIVE")
        done = bridge.run("serve", "--simulate", "--port", "0")
        assert done.returncode == 2
        assert "another process has locked it" in done.stderr
        assert "Traceback" not in done.stderr
        somebody.close()
        bridge.start()
        assert channel.ask("still there?").text == "You said: still there?"
