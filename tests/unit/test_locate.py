"""Which bridge a command means, and with which token."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from bridge.errors import BridgeUnreachable, SetupError
from bridge.locate import Address, Look, url_of


def running(folder: Path, port: int = 1, pid: int | None = None, host: str = "127.0.0.1") -> Path:
    """A state folder as a running bridge leaves it."""
    folder.mkdir(parents=True)
    said = {"host": host, "port": port, "pid": pid or os.getpid(), "version": "0", "simulate": False}
    (folder / "bridge.json").write_text(json.dumps(said))
    (folder / "token").write_text(f"token-of-{folder.name}\n")
    return folder


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"XDG_STATE_HOME": str(tmp_path)}


def test_the_bridge_of_the_default_folder_is_found(environ: dict[str, str], tmp_path: Path) -> None:
    """With the token it made."""
    running(tmp_path / "claude-bridge", port=7)
    assert Look(environ=environ).address() == Address("http://127.0.0.1:7", "token-of-claude-bridge")


def test_the_simulated_one_is_found_where_no_other_runs(environ: dict[str, str], tmp_path: Path) -> None:
    """What `make run` started without a login."""
    running(tmp_path / "claude-bridge-simulated", port=8)
    assert Look(environ=environ).address().url == "http://127.0.0.1:8"


def test_a_bridge_whose_process_is_gone_does_not_count(environ: dict[str, str], tmp_path: Path) -> None:
    """A killed bridge leaves its file behind."""
    running(tmp_path / "claude-bridge", pid=2**22 + 1)
    with pytest.raises(BridgeUnreachable) as caught:
        Look(environ=environ).address()
    assert "claude-bridge serve" in caught.value.remedy


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"pid": "x", "host": "h", "port": 1}'])
def test_a_damaged_word_does_not_count(environ: dict[str, str], tmp_path: Path, content: str) -> None:
    """It is as if no bridge ran."""
    (running(tmp_path / "claude-bridge") / "bridge.json").write_text(content)
    with pytest.raises(BridgeUnreachable):
        Look(environ=environ).address()


def test_a_state_folder_that_was_named_is_the_only_one(environ: dict[str, str], tmp_path: Path) -> None:
    """By flag or variable."""
    running(tmp_path / "claude-bridge")
    other = running(tmp_path / "other", port=9)
    assert Look(state_dir=other, environ=environ).address().url.endswith(":9")
    by_variable = Look(environ=environ | {"CLAUDE_BRIDGE_STATE_DIR": str(other)})
    assert by_variable.address().url.endswith(":9")


def test_a_wildcard_is_connected_to_as_loopback(environ: dict[str, str], tmp_path: Path) -> None:
    """0.0.0.0 is listened on, not connected to; IPv6 is bracketed."""
    running(tmp_path / "claude-bridge", host="0.0.0.0")
    assert Look(environ=environ).address().url == "http://127.0.0.1:1"
    running(tmp_path / "six", host="::1")
    assert Look(state_dir=tmp_path / "six", environ=environ).address().url == "http://[::1]:1"


def test_what_was_said_wins(environ: dict[str, str], tmp_path: Path) -> None:
    """Flags over variables over what was found."""
    running(tmp_path / "claude-bridge")
    by_variable = environ | {"CLAUDE_BRIDGE_URL": "https://a.example", "CLAUDE_BRIDGE_TOKEN": "v"}
    assert Look(environ=by_variable).address() == Address("https://a.example", "v")
    flagged = Look(url="http://127.0.0.1:5", token="f", environ=by_variable)
    assert flagged.address() == Address("http://127.0.0.1:5", "f")


def test_the_local_token_is_never_sent_elsewhere(environ: dict[str, str], tmp_path: Path) -> None:
    """It may do everything, and belongs to this machine."""
    running(tmp_path / "claude-bridge")
    with pytest.raises(SetupError, match="needs a token"):
        Look(url="https://a.example", environ=environ).address()
    assert Look(url="http://localhost:1", environ=environ).address().token == "token-of-claude-bridge"


@pytest.mark.parametrize("url", ["a.example", "ftp://a.example", "http://"])
def test_what_is_no_address_is_refused(environ: dict[str, str], url: str) -> None:
    """With how one is written."""
    with pytest.raises(SetupError, match="no address"):
        Look(url=url, token="t", environ=environ).address()


@pytest.mark.parametrize(
    ("url", "socket"),
    [
        ("http://h:1", "ws://h:1/socket/websocket?vsn=2.0.0"),
        ("https://h/", "wss://h/socket/websocket?vsn=2.0.0"),
        ("ws://h/socket", "ws://h/socket/websocket?vsn=2.0.0"),
        ("ws://h/x/socket/websocket", "ws://h/x/socket/websocket?vsn=2.0.0"),
    ],
)
def test_an_address_may_be_written_in_several_ways(url: str, socket: str) -> None:
    """As a browser or as phoenix.js would."""
    assert Address(url, "t").websocket == socket


def test_a_token_does_not_show_in_an_addresss_text() -> None:
    """It may be logged."""
    assert "hush" not in repr(Address("http://h", "hush"))


def test_a_bridge_that_speaks_tls_is_known_by_its_certificate(
    environ: dict[str, str], tmp_path: Path
) -> None:
    """Also where its address is given; another host's or port's certificate has to be one that is trusted."""
    folder = running(tmp_path / "claude-bridge", port=7)
    said = json.loads((folder / "bridge.json").read_bytes())
    (folder / "bridge.json").write_text(json.dumps({**said, "certificate": "ab" * 32}))
    token = "token-of-claude-bridge"
    assert Look(environ=environ).address() == Address("https://127.0.0.1:7", token, "ab" * 32)
    assert Look(environ=environ).address().websocket.startswith("wss://127.0.0.1:7/")
    for url, certificate in (("https://localhost:7", "ab" * 32), ("https://localhost:8", None)):
        assert Look(url=url, environ=environ).address().certificate == certificate
    assert Look(url="https://a.example:7", token="t", environ=environ).address().certificate is None


@pytest.mark.parametrize(
    ("url", "console"),
    [
        ("http://127.0.0.1:4040", "http://127.0.0.1:4040/#token=a%2Fb%2Bc%20%26"),
        ("wss://bridge.example/socket/websocket", "https://bridge.example/#token=a%2Fb%2Bc%20%26"),
        ("https://example.com/bridge/", "https://example.com/bridge/#token=a%2Fb%2Bc%20%26"),
    ],
)
def test_the_console_is_shown_its_token_in_the_fragment(url: str, console: str) -> None:
    """Which no browser sends; written so that the page reads the same."""
    assert Address(url, "a/b+c &").console == console


def test_a_listener_on_every_address_is_reached_on_this_machines_own() -> None:
    """IPv6 in brackets."""
    assert url_of("0.0.0.0", 1, secure=False) == "http://127.0.0.1:1"
    assert url_of("::", 1, secure=True) == "https://[::1]:1"
