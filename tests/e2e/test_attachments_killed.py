"""The bridge is killed after accepting files: they are handed over with their prompt, once and whole."""

from __future__ import annotations

import json

import pytest

from tests.e2e.test_killed import finished, rejoin_after
from tests.fakes.bridge import BridgeProcess, sim
from tests.fakes.files import TEXT, Given, attached, blocks_of, described, pictures_in, png
from tests.fakes.held import held
from tests.fakes.phoenix_js import Clients, JsChannel, Json

pytestmark = pytest.mark.real

HOLD = sim(first_ms=60_000)
LARGE: Given = ("large.png", "image/png", png(250))
"""As large as the TUI takes with a prompt."""
HUGE: tuple[Given, ...] = tuple((f"{n}.txt", "text/plain", bytes([97 + n]) * 2_500_000) for n in range(2))
"""Several times what the FIFO to a headless CLI holds."""


def joined(bridge: BridgeProcess, clients: Clients, backend: str) -> JsChannel:
    socket = clients.connect(bridge.url, bridge.token)
    return socket.join("session:demo", {"start": {"backend": backend}}, resume=True)


@pytest.mark.parametrize("backend", ["headless", pytest.param("tmux", marks=pytest.mark.soak)])
def test_files_in_the_queue_outlive_the_bridge(
    own_bridge: BridgeProcess, clients: Clients, backend: str
) -> None:
    """They were on disk before they were accepted."""
    channel = joined(own_bridge, clients, backend)
    channel.ask("warm up")
    first = channel.submit(f"hold on {HOLD}")
    channel.wait("turn_started", turn=first)
    waits = channel.submit(f"look at these {sim(text='seen')}", attachments=attached(LARGE, TEXT))
    own_bridge.kill()
    own_bridge.start()
    again = rejoin_after(channel, 1)
    assert [t["attachments"] for t in again["queue"]] == [described(LARGE, TEXT)]
    channel.push("interrupt")
    end = finished(channel, waits)
    assert (end["status"], end["text"]) == ("completed", "seen")
    (request,) = own_bridge.requests("look at these")
    assert pictures_in(request) == [LARGE[2]]
    assert "The word is marmalade." in json.dumps(blocks_of(request))


@pytest.mark.parametrize("backend", ["headless", pytest.param("tmux", marks=pytest.mark.soak)])
def test_a_bridge_killed_right_after_accepting_hands_files_over_once(
    own_bridge: BridgeProcess, clients: Clients, backend: str
) -> None:
    """Wherever it was: before it had read them back, or handing them over."""
    channel = joined(own_bridge, clients, backend)
    channel.ask("warm up")
    turn = channel.submit(f"much to read {sim(text='read')}", attachments=attached(*HUGE))
    own_bridge.kill()
    own_bridge.start()
    end = finished(channel, turn)
    asked = own_bridge.requests("much to read")
    if backend == "tmux" and end["status"] == "unknown":  # typed, and nobody can tell: never typed twice
        assert len(asked) <= 1
        return
    assert (end["status"], end["text"], len(asked)) == ("completed", "read", 1)
    if backend == "headless":
        assert texts_in(asked[0]) == [data.decode() for _, _, data in HUGE]


def test_half_of_a_line_of_files_is_sent_again_whole(own_bridge: BridgeProcess, clients: Clients) -> None:
    """The CLI does not read while the bridge is killed: what is in the FIFO then ends the CLI, and the next
    one is sent all of it, under the same identity."""
    channel = joined(own_bridge, clients, "headless")
    channel.ask("warm up")
    cli = own_bridge.cli_pid("demo")
    with held(cli):
        turn = channel.submit(f"much to read {sim(text='read')}", attachments=attached(*HUGE))
        channel.wait("turn_started", turn=turn)
        own_bridge.kill()
    own_bridge.start()
    end = finished(channel, turn)
    (asked,) = own_bridge.requests("much to read")
    assert (end["status"], end["text"]) == ("completed", "read")
    assert texts_in(asked) == [data.decode() for _, _, data in HUGE]


def texts_in(request: Json) -> list[str]:
    return [b["source"]["data"] for b in blocks_of(request) if b["type"] == "document"]
