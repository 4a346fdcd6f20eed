"""A session's live screen as a browser has it: the official client, the real bridge, tmux and CLI."""

from __future__ import annotations

import base64
import subprocess
import time

import pytest

from tests.fakes.bridge import BridgeProcess, Sessions, sim
from tests.fakes.phoenix_js import Clients, JsChannel, Json, JsSocket, Refused

pytestmark = pytest.mark.real


def b64(data: bytes) -> Json:
    """As the driver makes an ArrayBuffer of it."""
    return {"base64": base64.b64encode(data).decode()}


def seen(screen: JsChannel) -> str:
    """All that a terminal was given to show: pictures and output, in order."""
    shown = screen.joined["screen"].encode()
    for heard in list(screen.heard):
        if heard.event == "output":
            shown += base64.b64decode(heard.payload["base64"])
        elif heard.event == "screen":
            shown += heard.payload["screen"].encode()
    return shown.decode(errors="replace")


def until_seen(screen: JsChannel, text: str) -> None:
    screen.until(
        lambda: text in seen(screen) or None, f"{text!r} on the screen, which shows {seen(screen)!r}"
    )


def until_refused(screen: JsChannel, reason: str) -> None:
    """Until it takes no input any more."""
    deadline = time.monotonic() + 60
    said = None
    while said is None:
        assert time.monotonic() < deadline, "it takes input still"
        try:
            screen.push("input", {"text": ""})
        except Refused as e:
            said = e.reason
    assert said == reason


def screen_of(socket: JsSocket, session: JsChannel) -> JsChannel:
    return socket.join(session.topic.replace("session:", "terminal:"))


def echo(bridge: BridgeProcess, talk: JsChannel) -> None:
    """The pane of a headless session keeps what is typed to itself: its process reads elsewhere."""
    target = f"=claude_{talk.topic.removeprefix('session:')}:"
    tty = bridge.tmux("display-message", "-p", "-t", target, "#{pane_tty}").stdout.strip()
    subprocess.run(["stty", "-F", tty, "echo"], check=True, timeout=30)


def test_a_conversation_is_seen_on_its_screen(sessions: Sessions, socket: JsSocket) -> None:
    """A headless one as well: what was said before the join, and what is said from then on."""
    talk = sessions.join()
    talk.ask(sim(text="a heron stands still"))
    screen = screen_of(socket, talk)
    assert (screen.joined["cols"], screen.joined["rows"]) == (220, 50)
    until_seen(screen, "a heron stands still")
    talk.ask(sim(text="and then it flies"))
    until_seen(screen, "and then it flies")
    outputs = [heard for heard in screen.heard if heard.event == "output"]
    assert outputs, "bytes came in ArrayBuffers"


def test_what_is_typed_is_echoed_by_the_pane(
    bridge: BridgeProcess, sessions: Sessions, socket: JsSocket
) -> None:
    """An ArrayBuffer as well as text, and its reply is text."""
    talk = sessions.join()
    talk.ask("hello")
    echo(bridge, talk)
    screen = screen_of(socket, talk)
    assert screen.push("input", {"text": "typed-as-text"}) == {}
    until_seen(screen, "typed-as-text")
    assert screen.push("input", b64(b" typed-as-bytes")) == {}
    until_seen(screen, "typed-as-bytes")
    bridge.until_shown(talk.topic.removeprefix("session:"), "typed-as-bytes")


def test_a_resize_is_told_to_all(bridge: BridgeProcess, sessions: Sessions, clients: Clients) -> None:
    """As a `screen` of the new size; bounds are kept."""
    talk = sessions.join()
    talk.ask("hello")
    first, second = (screen_of(clients.connect(bridge.url, bridge.token), talk) for _ in range(2))
    assert first.push("resize", {"cols": 100, "rows": 30}) == {"cols": 100, "rows": 30}
    for screen in (first, second):
        screen.wait("screen", cols=100, rows=30)
    with pytest.raises(Refused) as refused:
        first.push("resize", {"cols": 19, "rows": 30})
    assert (refused.value.reason, refused.value.response["field"]) == ("invalid_payload", "cols")
    third = screen_of(clients.connect(bridge.url, bridge.token), talk)
    assert (third.joined["cols"], third.joined["rows"]) == (100, 30)


def test_a_screen_stays_while_its_process_goes_and_comes(sessions: Sessions, socket: JsSocket) -> None:
    """Stopped, it takes no input; started again, it is shown anew; deleted, the channel closes."""
    talk = sessions.join()
    talk.ask(sim(text="the first process"))
    screen = screen_of(socket, talk)
    until_seen(screen, "the first process")
    talk.push("stop")
    until_refused(screen, "session_stopped")
    late = sessions.socket.join(screen.topic)
    assert "the first process" not in late.joined["screen"]
    heard = len([h for h in late.heard if h.event == "screen"])
    talk.push("restart")
    for channel in (screen, late):
        channel.wait("screen", heard + 1)
    talk.ask(sim(text="the second process"))
    for channel in (screen, late):
        until_seen(channel, "the second process")
    sessions.socket.join("sessions").push("delete", {"name": talk.topic.removeprefix("session:")})
    for channel in (screen, late):
        channel.wait("closed")


def test_a_client_that_comes_back_is_shown_the_present_picture(
    sessions: Sessions, bridge: BridgeProcess, clients: Clients
) -> None:
    """phoenix.js joins again by itself."""
    talk = sessions.join()
    talk.ask("hello")
    socket = clients.connect(bridge.url, bridge.token)
    screen = screen_of(socket, talk)
    socket.cut()
    talk.ask(sim(text="said meanwhile"))
    screen.wait("join_ok", 2)
    screen.until(
        lambda: (
            any("said meanwhile" in str(h.payload) for h in screen.heard if h.event == "join_ok")
            or "said meanwhile" in seen(screen)
            or None
        ),
        "what was said meanwhile",
    )


def test_nothing_of_a_screen_is_logged(bridge: BridgeProcess, sessions: Sessions, socket: JsSocket) -> None:
    """Neither what was typed nor what was shown."""
    talk = sessions.join()
    talk.ask(sim(text="a-secret-said"))
    echo(bridge, talk)
    screen = screen_of(socket, talk)
    screen.push("input", {"text": "a-secret-typed"})
    until_seen(screen, "a-secret-typed")
    assert "a-secret" not in bridge.log.read_text(errors="replace")
