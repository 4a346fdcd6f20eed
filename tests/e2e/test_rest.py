"""REST and event streams on the bridge as people run it: with curl, and with a client that is cut off."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bridge.simulator.script import words
from tests.fakes.bridge import END_S, ROOT, BridgeProcess, sim
from tests.fakes.event_stream import EventSource, Parser
from tests.fakes.rest import RestClient

pytestmark = pytest.mark.real

PAGE = (Path(__file__).parents[2] / "docs/how-to/use-with-curl.md").read_text()
WRITE = sim(tools=[["Write", {"file_path": "note.txt", "content": "x"}]])


def address(bridge: BridgeProcess) -> str:
    return f"http://127.0.0.1:{bridge.port}"


@pytest.fixture
async def rest(bridge: BridgeProcess) -> AsyncIterator[RestClient]:
    async with RestClient(address(bridge), bridge.token).open() as client:
        yield client


# --- the page about curl --------------------------------------------------------------------------


class Shell:
    """Runs the page's commands one by one, each with what the first ones have set."""

    def __init__(self, bridge: BridgeProcess, setting_up: str) -> None:
        self.bridge = bridge
        setting_up = setting_up.replace("http://127.0.0.1:4040", address(bridge))
        self.before = (
            f'claude-bridge() {{ {sys.executable} -m bridge "$@" --state-dir {bridge.state_dir}; }}\n'
        )
        token = self.run(f"{setting_up}echo $TOKEN").strip()
        self.before = setting_up.replace("$(claude-bridge token)", token)  # asked for once: it takes a second

    def run(self, command: str, within_s: float = END_S) -> str:
        """What it says. One that does not end by itself is given `within_s`."""
        done = subprocess.run(
            ["bash", "-c", f"set -e -o pipefail\n{self.before}{command}"],
            cwd=ROOT,
            env=self.bridge.env,
            capture_output=True,
            text=True,
            timeout=END_S,
            check=False,
        )
        assert done.returncode in ((0,) if within_s == END_S else (0, 28)), f"{command}: {done}"
        return done.stdout


async def test_every_command_of_the_page_about_curl_does_what_it_says(
    bridge: BridgeProcess, rest: RestClient
) -> None:
    """In the page's order; what a reader fills in is filled in."""
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    shell = Shell(bridge, blocks[0])
    said: dict[str, Any] = {}
    for command in [line for block in blocks[1:] for line in block.splitlines()]:
        if "TURN" in command:
            command = command.replace("TURN", said["turns"]["id"])
        if "LAST" in command:
            command = command.replace("LAST", said["cursor"])
        if command == 'api "$BRIDGE/api/sessions/demo"':
            await rest.post("/api/sessions/demo/turns", {"prompt": f"write {WRITE}"})
            async with rest.source("/api/sessions/demo/events").connected() as source:
                joined = await source.next()
                if not joined.data["requests"]:
                    await source.until("request_opened")
        if "REQUEST" in command:
            command = command.replace("REQUEST", said["demo"]["requests"][0]["id"])
        if "/events" in command:
            out = shell.run(command.replace("api -N", "api -N --max-time 1"), within_s=1)
            parser = Parser()
            parser.feed(out.encode())
            assert parser.told[0].event == "joined"
            assert parser.told[0].data["recovered"] is ("Last-Event-ID" in command)
            said["cursor"] = parser.last_id
        elif "text/event-stream" in command:
            parser = Parser()
            parser.feed(shell.run(command).encode())
            assert [parser.told[0].event, parser.told[-1].event] == ["submitted", "turn_finished"]
            assert parser.told[-1].data["text"] == "You said: tell me more"
        else:
            key = re.sub(r"[?\"' ].*", "", command.partition("$BRIDGE")[2]).rpartition("/")[2]
            said[key] = json.loads(shell.run(command))
            if "hello" in command and "wait" in command:
                assert said["turns"]["text"] == "You said: hello"
    assert (await rest.get("/api/sessions/demo")).reason == "session_not_found"


def test_curl_is_told_of_a_refusal_by_its_status(bridge: BridgeProcess) -> None:
    """And of what it was, on stdout."""
    done = subprocess.run(
        ["curl", "-sS", "--fail-with-body", f"{address(bridge)}/api/sessions"],
        capture_output=True,
        text=True,
        timeout=END_S,
        check=False,
    )
    assert done.returncode == 22
    assert '"reason":"unauthorized"' in done.stdout


# --- a stream that is cut -------------------------------------------------------------------------


async def test_a_cut_at_every_event_of_a_turn_loses_nothing(rest: RestClient) -> None:
    """A turn with thinking, a tool, a question to a person, and text: each id goes on exactly behind it."""
    await rest.post("/api/sessions", {"name": "cuts"})
    source = rest.source("/api/sessions/cuts/events")
    prompt = sim(thinking="hm hm", tools=[["Write", {"file_path": "a.txt", "content": "x"}]], words=12)
    async with source.connected():
        joined = await source.next()
        turn = (await rest.post("/api/sessions/cuts/turns", {"prompt": f"go {prompt}"})).body["id"]
        request = (await source.until("request_opened")).data["request"]
        now = (await rest.get("/api/sessions/cuts")).body
        assert [r["id"] for r in now["requests"]] == [request["id"]]
        assert now["open_turn"]["id"] == turn
        answer = f"/api/sessions/cuts/requests/{request['id']}"
        assert (await rest.post(answer, {"decision": "allow"})).body == {}
        late = await rest.post(answer, {"decision": "deny"})
        assert (late.status, late.reason, late.body["outcome"]) == (409, "request_closed", "allowed")
        finished = await source.until("turn_finished")
        assert (finished.data["status"], finished.data["text"]) == ("completed", words(12).rstrip())
    whole = [t for t in source.seen if t.own and t.event != "joined"]
    first = joined.data["seq"]
    assert whole[0].data.get("first_seq", whole[0].data["seq"]) == first + 1
    assert {"turn_queued", "turn_started", "delta", "block", "tool_started", "tool_finished"} <= {
        t.event for t in whole
    }
    # Replay is never merged: what came merged the first time comes in its parts.
    epoch, last = joined.data["epoch"], finished.data["seq"]
    told: dict[int, Any] = {}
    for seq in range(first, last + 1):
        back = rest.source("/api/sessions/cuts/events?turns=0", **{"Last-Event-ID": f"{epoch}:{seq}"})
        async with back.connected():
            again = await back.next()
            assert (again.data["recovered"], again.id) == (True, f"{epoch}:{seq}")
            for number in range(seq + 1, last + 1):
                event = await back.next()
                assert (event.id, event.data["seq"]) == (f"{epoch}:{number}", number)
                assert told.setdefault(number, event) == event
    by_number = {t.data["seq"]: t for t in whole if "first_seq" not in t.data}
    assert by_number == {seq: told[seq] for seq in by_number}
    read = (await rest.get(f"/api/sessions/cuts/turns/{turn}")).body
    assert (read["text"], read["status"]) == (finished.data["text"], "completed")
    assert [b["kind"] for b in read["blocks"]].count("tool") == 1


async def test_a_turn_is_queued_waited_for_and_cancelled(rest: RestClient) -> None:
    """Each as it is told over the channels."""
    await rest.post("/api/sessions", {"name": "queue"})
    turns = "/api/sessions/queue/turns"
    source = rest.source("/api/sessions/queue/events")
    async with source.connected():
        running = (await rest.post(turns, {"prompt": f"long {sim(words=2000, gap_ms=20)}"})).body
        await source.until("turn_started")
    queued = await rest.post(f"{turns}?wait=0.01", {"prompt": "next", "id": "k"})
    assert (queued.status, queued.body["status"], queued.body["position"]) == (202, "queued", 1)
    assert (await rest.get(f"{turns}/{queued.body['id']}")).body["status"] == "queued"
    assert (await rest.delete(f"{turns}/{running['id']}")).reason == "turn_not_found"
    assert (await rest.delete(f"{turns}/{queued.body['id']}")).status == 200
    again = await rest.post(f"{turns}?wait=30", {"prompt": "next", "id": "k"})
    assert (again.status, again.body["status"], again.body["duplicate"]) == (200, "cancelled", True)
    assert (await rest.post(turns, {"prompt": "other", "id": "k"})).body["field"] == "id"
    open_turn = await rest.get(f"{turns}/{running['id']}")
    assert open_turn.body["status"] == "running"
    assert (await rest.post("/api/sessions/queue/interrupt")).body == {"turn": running["id"]}
    ended = await rest.get(f"{turns}/{running['id']}?wait=30")
    assert ended.body["status"] == "interrupted"
    listed = (await rest.get(turns)).body["turns"]
    assert {t["id"]: t["status"] for t in listed} == {
        running["id"]: "interrupted",
        queued.body["id"]: "cancelled",
    }
    assert (await rest.post("/api/sessions/queue/stop")).body == {}
    assert (await rest.post(turns, {"prompt": "x"})).reason == "session_stopped"


async def test_a_stream_outlives_a_restart_of_the_bridge(own_bridge: BridgeProcess) -> None:
    """It ends, not breaks; the client comes back with its last id and is told that it needs the snapshot."""
    async with RestClient(address(own_bridge), own_bridge.token).open() as rest:
        await rest.post("/api/sessions", {"name": "demo"})
        source = rest.source("/api/sessions/demo/events")
        async with source.connected():
            first = await source.next()
            turn = (await rest.post("/api/sessions/demo/turns", {"prompt": f"a {sim(words=5)}"})).body
            await source.until("turn_finished")
            assert own_bridge.stop() == 0
            assert {t.event for t in await source.end()} <= {"session_changed"}
        own_bridge.start()
        async with source.connected():
            joined = await source.until("joined")
            assert joined.data["epoch"] != first.data["epoch"]
            assert joined.data["recovered"] is False
            assert [t["id"] for t in joined.data["turns"]] == [turn["id"]]
            assert joined.id == f"{joined.data['epoch']}:{joined.data['seq']}"


async def test_nothing_is_answered_to_who_has_no_token(bridge: BridgeProcess) -> None:
    """Neither to a stream nor to the description."""
    for path in ("/api/", "/api/openapi.json", "/api/sessions", "/api/sessions/demo/events"):
        source = EventSource(f"{address(bridge)}{path}")
        async with source.connected():
            assert source.response.status == 401
