"""Payloads that make no sense: refused with the field that is wrong, and nothing is done."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.fakes.bridge import BridgeProcess
from tests.fakes.phoenix_js import Clients, JsChannel, PhoenixJs, Refused

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def shared(bridge: BridgeProcess, phoenix_js_process: PhoenixJs) -> Iterator[JsChannel]:
    """One session for all refusals: none of them may harm it."""
    clients = Clients(phoenix_js_process)
    channel = clients.connect(bridge.url, bridge.token).join("session:shared", {"start": {}})
    yield channel
    assert channel.ask("still well?").text == "You said: still well?"
    assert len(channel.push("history")["turns"]) == 1
    channel.socket.disconnect()


@pytest.mark.parametrize(
    ("event", "payload", "field"),
    [
        ("submit", {}, "prompt"),
        ("submit", {"prompt": None}, "prompt"),
        ("submit", {"prompt": 7}, "prompt"),
        ("submit", {"promt": "x"}, "promt"),
        ("submit", {"prompt": "x", "id": ""}, "id"),
        ("submit", {"prompt": "x", "id": "k" * 256}, "id"),
        ("submit", {"prompt": "x", "mode": "later"}, "mode"),
        ("submit", {"prompt": "x", "command": "/cost"}, "command"),
        ("cancel", {}, "turn"),
        ("cancel", {"turn": ["x"]}, "turn"),
        ("answer", {"decision": "allow"}, "request"),
        ("answer", {"request": "x", "decision": "maybe"}, "decision"),
        ("answer", {"request": "x", "decision": "allow", "input": []}, "input"),
        ("history", {"limit": 0}, "limit"),
        ("history", {"limit": "all"}, "limit"),
        ("configure", {"model": 7}, "model"),
        ("configure", {"permission_mode": "everything"}, "permission_mode"),
        ("interrupt", {"now": True}, "now"),
        ("dance", {}, "event"),
        ("submit", ["x"], ""),
        ("submit", "x", ""),
    ],
)
def test_a_malformed_payload_names_its_field(shared: JsChannel, event: str, payload: Any, field: str) -> None:
    """And says in a sentence what is wrong with it."""
    with pytest.raises(Refused) as refused:
        shared.push(event, payload)
    assert (refused.value.reason, refused.value.response["field"]) == ("invalid_payload", field)
    assert refused.value.response["message"]


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        ({"start": True}, "start"),
        ({"start": {"modell": "x"}}, "start.modell"),
        ({"start": {"backend": "telepathy"}}, "start.backend"),
        ({"start": {"allowed_tools": "Bash"}}, "start.allowed_tools"),
        ({"start": {"allowed_tools": [1]}}, "start.allowed_tools.0"),
        ({"start": {"model": "a\0b"}}, "start.model"),
        ({"after": {"epoch": "x"}}, "after.seq"),
        ({"after": {"epoch": "x", "seq": -1}}, "after.seq"),
        ({"turns": 5000}, "turns"),
        ({"from": 3}, "from"),
    ],
)
def test_a_malformed_join_names_its_field(
    bridge: BridgeProcess, clients: Clients, payload: Any, field: str
) -> None:
    """No session is made of it."""
    socket = clients.connect(bridge.url, bridge.token)
    with pytest.raises(Refused) as refused:
        socket.join("session:malformed", payload)
    assert (refused.value.reason, refused.value.response["field"]) == ("invalid_payload", field)
    assert "malformed" not in {s["name"] for s in socket.join("sessions").joined["sessions"]}


def test_a_backend_that_is_not_there_says_so(bridge: BridgeProcess, clients: Clients) -> None:
    """With what to do about it."""
    with pytest.raises(Refused) as refused:
        clients.connect(bridge.url, bridge.token).join("session:other", {"start": {"backend": "api"}})
    assert refused.value.reason == "backend_unavailable"
    assert refused.value.response["remedy"]


def test_an_answer_to_nothing_is_told_that_nothing_is_open(shared: JsChannel) -> None:
    """An invented request."""
    with pytest.raises(Refused, match="request_closed"):
        shared.push("answer", {"request": "invented", "decision": "allow"})
