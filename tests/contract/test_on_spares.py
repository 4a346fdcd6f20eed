"""Turns as told by sessions that took a process which had waited for them: not one thing is different."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.contract.test_turns_told import *  # noqa: F403 - the same promises, kept once more
from tests.fakes.bridge import BridgeProcess, Json, Sessions, running_bridge
from tests.fakes.phoenix_js import JsSocket

pytestmark = pytest.mark.real

KEPT = {"CLAUDE_BRIDGE_SPARES__HIGH": "2", "CLAUDE_BRIDGE_SPARES__STARTS_PER_S": "10"}


@pytest.fixture(scope="module", autouse=True)
def backend() -> str:
    return "headless"


@pytest.fixture(scope="module")
def bridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BridgeProcess]:
    with running_bridge(tmp_path_factory.mktemp("bridge-spares"), **KEPT) as running:
        yield running


@pytest.fixture(autouse=True)
def ready(socket: JsSocket) -> None:
    """What a test starts finds a spare."""
    lobby = socket.join("sessions")
    lobby.until(lambda: spares(lobby.push("tree"))["ready"] > 0 or None, "a spare that is ready")


def spares(tree: Json) -> Json:
    found: Json = next(child for child in tree["children"] if child["id"] == "spares")
    return found


def test_its_process_waited(sessions: Sessions) -> None:
    """So the others in this file tell something; and it has one conversation, which the client is told of."""
    lobby = sessions.socket.join("sessions")
    before = spares(lobby.push("tree"))
    pids = {child["pid"] for child in before["children"]}
    channel = sessions.join("waited")
    channel.ask("hello")
    name = channel.topic.removeprefix("session:")
    assert sessions.bridge.cli_pid(name) in pids
    assert spares(lobby.push("tree"))["taken"] == before["taken"] + 1
    record = sessions.bridge.state_dir / "sessions" / name / "1" / "spare.json"
    told = channel.wait_session(state="idle", turns=1)["conversation"]
    assert told == json.loads(record.read_bytes())["conversation"]
