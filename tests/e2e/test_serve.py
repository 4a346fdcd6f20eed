"""What keeps the bridge from serving: one clear sentence each, what to do about it, and nothing broken."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.fakes.bridge import ROOT, START_S, BridgeProcess, running_bridge, sim
from tests.fakes.phoenix_js import Clients

pytestmark = pytest.mark.real


@pytest.fixture
def unstarted(tmp_path: Path) -> BridgeProcess:
    """A folder in which nothing runs yet."""
    return BridgeProcess(tmp_path)


def refused(done: subprocess.CompletedProcess[str], *said: str) -> None:
    """It ended as a mistake of whoever runs it, in words for a person."""
    assert done.returncode == 2, done.stderr
    for words in said:
        assert words in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert "answers on" not in done.stdout


def test_a_second_bridge_on_the_same_folder_is_refused(bridge: BridgeProcess, clients: Clients) -> None:
    """With the pid of the first, which does not notice."""
    assert bridge.process is not None
    before = (bridge.state_dir / "bridge.json").read_bytes()
    refused(bridge.run("serve", "--simulate", "--port", "0"), f"pid {bridge.process.pid}", "--state-dir")
    assert (bridge.state_dir / "bridge.json").read_bytes() == before
    channel = clients.connect(bridge.url, bridge.token).join("session:second", {"start": {}})
    assert channel.ask("still there?").text == "You said: still there?"


def test_a_port_in_use_is_named(bridge: BridgeProcess, unstarted: BridgeProcess) -> None:
    """Before anything is touched."""
    done = unstarted.run("serve", "--simulate", "--port", str(bridge.port))
    refused(done, f"127.0.0.1:{bridge.port}", "--port")
    assert unstarted.descendants() == []
    assert not (unstarted.state_dir / "journal.db").exists()


def test_a_state_folder_that_cannot_be_used_is_named(unstarted: BridgeProcess) -> None:
    """A file stands where the folder should be."""
    unstarted.state_dir.write_text("a file")
    refused(unstarted.run("serve", "--simulate", "--port", "0"), str(unstarted.state_dir), "--state-dir")


def test_without_tmux_it_says_so(unstarted: BridgeProcess, tmp_path: Path) -> None:
    """And what to install."""
    empty = tmp_path / "bin"
    empty.mkdir()
    done = unstarted.run("serve", "--simulate", "--port", "0", env={"PATH": str(empty)})
    refused(done, "tmux", "nstall")


def test_a_tmux_that_is_too_old_is_refused(unstarted: BridgeProcess, tmp_path: Path) -> None:
    """With the version it is, and the one it should be."""
    old = tmp_path / "tmux"
    old.write_text("#!/bin/sh\necho tmux 2.9\n")
    old.chmod(0o755)
    done = unstarted.run("serve", "--simulate", "--port", "0", env={"CLAUDE_BRIDGE_TMUX__PATH": str(old)})
    refused(done, "2.9", "3.")


def test_a_claude_that_is_too_old_is_refused(unstarted: BridgeProcess, tmp_path: Path) -> None:
    """With the version it is, and the one it should be."""
    old = tmp_path / "claude"
    old.write_text("#!/bin/sh\necho '1.0.3 (Claude Code)'\n")
    old.chmod(0o755)
    done = unstarted.run("serve", "--simulate", "--port", "0", env={"CLAUDE_BRIDGE_CLAUDE__PATH": str(old)})
    refused(done, "1.0.3", "2.1.")


def test_without_claude_it_says_so(unstarted: BridgeProcess, tmp_path: Path) -> None:
    """A configured path that leads nowhere is not quietly replaced by another."""
    nowhere = {"CLAUDE_BRIDGE_CLAUDE__PATH": str(tmp_path / "nowhere")}
    refused(unstarted.run("serve", "--simulate", "--port", "0", env=nowhere), str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("text", "said"),
    [("[serverr]\nport = 1\n", "server"), ("[server]\nprot = 1\n", "server.port"), ("not toml", "TOML")],
)
def test_a_configuration_mistake_is_shown_where_it_is(unstarted: BridgeProcess, text: str, said: str) -> None:
    """With the nearest key that exists."""
    unstarted.state_dir.mkdir()
    (unstarted.state_dir / "config.toml").write_text(text)
    refused(unstarted.run("serve", "--simulate", "--port", "0"), "config.toml", said)


def test_an_open_address_without_tls_is_refused(unstarted: BridgeProcess) -> None:
    """Unless somebody insists."""
    refused(unstarted.run("serve", "--simulate", "--port", "0", "--host", "0.0.0.0"), "--insecure")


def test_a_damaged_journal_is_kept_aside(tmp_path: Path, clients: Clients) -> None:
    """It may be all there is of somebody's conversations; the bridge serves with a new one, and says so."""
    damaged = b"this was a database" * 1000
    (tmp_path / "state").mkdir(mode=0o700)
    (tmp_path / "state" / "journal.db").write_bytes(damaged)
    with running_bridge(tmp_path) as own:
        assert damaged in [p.read_bytes() for p in own.state_dir.iterdir() if p.is_file()]
        assert "moved aside" in own.log.read_text()
        assert clients.connect(own.url, own.token).join("sessions").joined["sessions"] == []


def greeting(bridge: BridgeProcess) -> str:
    """What it says first, to whoever reads its output from a pipe."""
    bridge.spawn()
    assert bridge.process is not None
    assert bridge.process.stdout is not None
    assert bridge.greeted(START_S)
    return os.read(bridge.process.stdout.fileno(), 65536).decode()


def test_the_console_is_announced_with_its_token_only_while_that_is_new(unstarted: BridgeProcess) -> None:
    """Later its output may be a file or a journal that others read; a command prints the address then."""
    try:
        first = greeting(unstarted)
        assert unstarted.token
        built = (ROOT / "bridge" / "console" / "index.html").exists()
        assert (f"/#token={unstarted.token}\n" in first) is built
        assert unstarted.run("console").stdout.endswith(f"/#token={unstarted.token}\n")
        unstarted.stop()
        second = greeting(unstarted)
        assert unstarted.token not in second
        assert ("console  (prints it)" in second) is built
    finally:
        unstarted.remove()


def test_the_console_can_be_switched_off(tmp_path: Path) -> None:
    """Nothing is announced, and nothing is there."""
    bridge = BridgeProcess(tmp_path, CLAUDE_BRIDGE_SERVER__CONSOLE="false")
    try:
        assert "web console" not in greeting(bridge)
        note = json.loads((bridge.state_dir / "bridge.json").read_bytes())
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"http://127.0.0.1:{note['port']}/", timeout=30)
        assert caught.value.code == 404
        caught.value.close()
    finally:
        bridge.remove()


def test_the_token_and_the_socket_are_for_their_owner_only(bridge: BridgeProcess) -> None:
    """Nobody else on the machine reads them."""
    for name in ("token", "journal.db", "lock"):
        assert (bridge.state_dir / name).stat().st_mode & 0o077 == 0, name
    assert bridge.state_dir.stat().st_mode & 0o077 == 0


def test_no_prompt_and_no_token_reach_the_log(bridge: BridgeProcess, clients: Clients) -> None:
    """At the default level; nor the answer."""
    channel = clients.connect(bridge.url, bridge.token).join("session:quiet", {"start": {}})
    channel.ask(f"zebrafinch {sim(text='kingfisher')}")
    channel.ask(f"zebrafinch {sim(status=400)}")
    said = bridge.log.read_text()
    assert "quiet" in said
    assert "zebrafinch" not in said
    assert "kingfisher" not in said
    assert bridge.token not in said


def test_secrets_stand_in_no_command_line(bridge: BridgeProcess, clients: Clients) -> None:
    """Every user of the machine can read those."""
    options = {"system_prompt": "zebrafinch"}
    channel = clients.connect(bridge.url, bridge.token).join("session:secret", {"start": options})
    channel.ask("hello")
    lines = b"".join(Path(f"/proc/{pid}/cmdline").read_bytes() for pid in bridge.descendants())
    assert b"claude" in lines
    for secret in (b"zebrafinch", b"sk-ant", bridge.token.encode()):
        assert secret not in lines


def test_nothing_of_the_bridges_own_environment_reaches_claude(tmp_path: Path, clients: Clients) -> None:
    """Its secrets are its own; a setting lets single variables through."""
    with running_bridge(
        tmp_path,
        BIRD="heron",
        MY_SECRET="zebrafinch",
        ANTHROPIC_API_KEY="zebrafinch",
        CLAUDE_CODE_ENTRYPOINT="zebrafinch",
        CLAUDE_BRIDGE_CLAUDE__ENV='{"FISH": "eel"}',
    ) as own:
        channel = clients.connect(own.url, own.token).join(
            "session:env", {"start": {"allowed_tools": ["Bash"]}}
        )
        channel.ask("hello")
        environ = Path(f"/proc/{own.cli_pid('env')}/environ").read_bytes()
    assert b"zebrafinch" not in environ
    assert b"FISH=eel" in environ


def test_the_simulator_outlives_the_bridge_and_keeps_its_port(own_bridge: BridgeProcess) -> None:
    """Running CLIs could not be told another; when it dies, it is started again there."""
    note = own_bridge.state_dir / "simulator.json"
    before = json.loads(note.read_bytes())
    own_bridge.stop()
    assert "simulator" in own_bridge.tmux_sessions()
    own_bridge.start()
    assert json.loads(note.read_bytes()) == before
    own_bridge.kill()
    os.kill(before["pid"], signal.SIGKILL)
    own_bridge.start()
    after = json.loads(note.read_bytes())
    assert after["port"] == before["port"]
    assert after["pid"] != before["pid"]


def test_a_stale_lock_does_not_hinder(own_bridge: BridgeProcess) -> None:
    """The lock of a killed bridge is nobody's."""
    own_bridge.kill()
    assert (own_bridge.state_dir / "lock").exists()
    own_bridge.start()
    assert own_bridge.run("sessions").returncode == 0
