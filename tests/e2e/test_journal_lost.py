"""The journal is damaged while sessions run: they are taken up again from what is kept beside them."""

from __future__ import annotations

import json
import os
import shlex
import stat
import subprocess
from typing import Any

import pytest

from bridge.simulator.script import words
from tests.e2e.test_killed import finished, rejoin_after
from tests.fakes.bridge import BridgeProcess, ended, sim
from tests.fakes.phoenix_js import Clients, JsChannel, Refused

pytestmark = pytest.mark.real

COUNT = 150


def kill_and_damage(bridge: BridgeProcess) -> None:
    """As a disk does that fails: the file is there, and its first page, and its log's, is not what it was."""
    bridge.kill()
    for name in ("journal.db", "journal.db-wal"):
        with (bridge.state_dir / name).open("r+b") as file:
            file.write(os.urandom(4096))


def logged(bridge: BridgeProcess, event: str) -> list[dict[str, Any]]:
    lines = bridge.log.read_text().splitlines()
    return [said for line in lines if (said := json.loads(line))["event"] == event]


def session(bridge: BridgeProcess, clients: Clients, name: str) -> tuple[JsChannel, str]:
    """A new one whose process is warm, and its first turn."""
    channel = clients.connect(bridge.url, bridge.token).join(f"session:{name}", {"start": {}}, resume=True)
    turn = channel.submit(f"warm up {name}")
    channel.wait("turn_finished", turn=turn)
    return channel, turn


def test_sessions_survive_their_journal(own_bridge: BridgeProcess, clients: Clients) -> None:
    """One in the middle of a turn, one that is idle, and one of which nothing is kept at all."""
    (busy, _), (idle, warm), _ = (session(own_bridge, clients, name) for name in ("busy", "idle", "orphan"))
    pids = {name: own_bridge.cli_pid(name) for name in ("busy", "idle", "orphan")}
    prompt = f"count {sim(words=COUNT, gap_ms=10)}"
    running = busy.submit(prompt)
    busy.wait("delta", turn=running, count=5)

    sidecar = own_bridge.state_dir / "sessions" / "busy" / "session.json"
    assert stat.S_IMODE(sidecar.stat().st_mode) == 0o600
    (own_bridge.state_dir / "sessions" / "orphan" / "session.json").unlink()
    kill_and_damage(own_bridge)
    own_bridge.start()

    rejoin_after(busy, 1)
    # Each conversation's last turn is told under its own id, and nothing of what was before.
    end = finished(busy, running)
    assert (end["status"], end["text"]) == ("completed", words(COUNT).rstrip())
    [told] = busy.push("history")["turns"]
    assert (told["id"], told["prompt"]) == (running, prompt)
    rejoin_after(idle, 1)
    assert idle.ask("and after that?").text == "You said: and after that?"
    first, second = idle.push("history")["turns"]
    assert (first["id"], first["text"], first["prompt"]) == (warm, "You said: warm up idle", "warm up idle")
    assert second["prompt"] == "and after that?"
    assert "warm up idle" in str(own_bridge.requests("and after that?")[0]["messages"])
    assert [len(own_bridge.requests(p)) for p in ("count", "warm up idle")] == [1, 1]
    assert {name: own_bridge.cli_pid(name) for name in pids} == pids

    the_orphan_is_left_alone(own_bridge, clients, pids["orphan"])


def the_orphan_is_left_alone(bridge: BridgeProcess, clients: Clients, pid: int) -> None:
    """Told in the log, in the tree and to who wants its name; ended by nobody but a person."""
    (said,) = logged(bridge, "found a session that is on no record; it is left alone")
    assert said["session"] == "orphan"
    assert f"pid {pid}" in bridge.run("sessions", "--tree").stdout.replace("\n", " ")
    lobby = clients.connect(bridge.url, bridge.token).join("sessions")
    tree = lobby.push("tree")["children"]
    assert [(c["pid"], c["end"]) for c in tree if c["kind"] == "orphan"] == [(pid, said["end"])]
    sessions = {s["name"]: s["reason"] for s in lobby.joined["sessions"]}
    assert sessions.keys() == {"busy", "idle"}
    assert all("history" in reason for reason in sessions.values())
    with pytest.raises(Refused) as refusal:
        lobby.push("start", {"name": "orphan"})
    assert refusal.value.reason == "backend_unavailable"
    assert said["end"] in refusal.value.response["message"]
    assert bridge.cli_pid("orphan") == pid

    subprocess.run(shlex.split(said["end"]), env=bridge.env, check=True)
    assert ended(pid, 30)
    assert [c for c in lobby.push("tree")["children"] if c["kind"] == "orphan"] == []
    assert lobby.push("start", {"name": "orphan"})["session"]["state"] == "starting"


@pytest.mark.soak
def test_a_tui_survives_the_journal(own_bridge: BridgeProcess, clients: Clients) -> None:
    """Its transcript tells of the turn that runs, and not again of the past; what it asks is asked again."""
    lobby = clients.connect(own_bridge.url, own_bridge.token).join("sessions")
    lobby.push("start", {"name": "tui", "backend": "tmux"})
    channel = lobby.socket.join("session:tui", resume=True)
    channel.ask("warm up")
    cli = own_bridge.cli_pid("tui")
    prompt = sim(tools=[["Bash", {"command": "touch made"}]], text="so it is")
    turn = channel.submit(prompt)
    channel.wait("request_opened")
    kill_and_damage(own_bridge)
    own_bridge.start()
    rejoin_after(channel, 1)

    request = channel.until(lambda: asked(channel), "the question, asked again")
    channel.push("answer", {"request": request, "decision": "allow"})
    channel.wait("turn_finished", text="so it is")
    [told] = channel.push("history")["turns"]
    assert (told["id"], told["prompt"], told["status"]) == (turn, prompt, "completed")
    assert channel.ask("and after that?").text == "You said: and after that?"
    assert own_bridge.cli_pid("tui") == cli
    assert len(own_bridge.requests("warm up")) == 1


def asked(channel: JsChannel) -> str | None:
    """What is open since the last rejoin."""
    joins = [number for number, h in enumerate(channel.heard) if h.event == "join_ok"]
    for h in channel.heard[joins[-1] :]:
        opened = [h.payload["request"]] if h.event == "request_opened" else h.payload.get("requests", [])
        if opened:
            return str(opened[0]["id"])
    return None
