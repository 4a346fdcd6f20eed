"""The command against the bridge as people run it, and what the README shows, word for word."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bridge.simulator.script import words
from tests.fakes.bridge import END_S, BridgeProcess
from tests.fakes.files import png

pytestmark = pytest.mark.real

ROOT = Path(__file__).parents[2]


@contextmanager
def waiting(bridge: BridgeProcess, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A command that somebody is looking at."""
    with subprocess.Popen(
        bridge.command(*words),
        cwd=ROOT,
        env=bridge.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def sim(**script: object) -> str:
    return f"[[sim {json.dumps(script)}]]"


def test_submit_starts_a_session_and_prints_the_reply(bridge: BridgeProcess) -> None:
    """The README's first lines."""
    ran = bridge.run("submit", "first", "hello", "--start")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "You said: hello\n", "")


def test_export_is_the_conversation_as_a_document(bridge: BridgeProcess) -> None:
    bridge.run("submit", "kept", "hello", "--start")
    ran = bridge.run("export", "kept")
    assert ran.returncode == 0
    assert ran.stdout.startswith("# kept\n")
    assert "\n> hello\n\nYou said: hello\n" in ran.stdout


def test_a_failed_turn_ends_with_1(bridge: BridgeProcess) -> None:
    """With the reason, and the next prompt works."""
    ran = bridge.run("submit", "failing", sim(status=400), "--start")
    assert ran.returncode == 1
    assert "The turn failed" in ran.stderr
    assert bridge.run("submit", "failing", "again").stdout == "You said: again\n"


def test_a_permission_is_answered_from_another_terminal(bridge: BridgeProcess) -> None:
    """The printed command is typed as it stands."""
    prompt = sim(tools=[["Bash", {"command": "touch asked"}]], text="done")
    with waiting(bridge, "submit", "asking", prompt, "--start") as submit:
        assert submit.stderr is not None
        shown = next(line.split() for line in submit.stderr if "claude-bridge answer" in line)
        answered = bridge.run(*shown[1:])
        assert answered.returncode == 0
        assert bridge.run(*shown[1:]).returncode == 4
        out, _ = submit.communicate(timeout=END_S)
    assert (submit.returncode, out) == (0, "done\n")


def test_ctrl_c_leaves_the_session_running(bridge: BridgeProcess) -> None:
    """The turn ends without anybody who waits for it, and tail shows it whole."""
    with waiting(bridge, "submit", "left", sim(words=30, gap_ms=50), "--start") as submit:
        assert submit.stdout is not None
        assert submit.stdout.read(2) == "w0"
        submit.send_signal(signal.SIGINT)
        _, err = submit.communicate(timeout=END_S)
    assert submit.returncode == 130
    assert "claude-bridge tail left" in err
    # The next prompt runs after the one that was left, so its answer says that that one has ended.
    assert bridge.run("submit", "left", "next").stdout == "You said: next\n"
    with waiting(bridge, "tail", "left", "--json") as tail:
        assert tail.stdout is not None
        joined = json.loads(tail.stdout.readline())
        tail.send_signal(signal.SIGINT)
        tail.communicate(timeout=END_S)
    assert tail.returncode == 130
    first, second = joined["turns"]
    assert (first["status"], first["text"].split()[-1]) == ("completed", "w29")
    assert second["text"] == "You said: next"


def test_a_submit_outlives_the_bridge(own_bridge: BridgeProcess) -> None:
    """Killed in the middle of the answer and started again: nothing is missing, nothing comes twice."""
    prompt = sim(words=60, gap_ms=50)
    with waiting(own_bridge, "submit", "outliving", prompt, "--start", "--json") as submit:
        assert submit.stdout is not None
        next(line for line in submit.stdout if json.loads(line)["event"] == "delta")
        own_bridge.kill()
        own_bridge.start()
        out, _ = submit.communicate(timeout=END_S)
    assert submit.returncode == 0
    events = [json.loads(line) for line in out.splitlines()]
    assert "lost" in [event["event"] for event in events]
    assert events[-1]["text"].split() == [f"w{i}" for i in range(60)]
    assert len(own_bridge.requests("words")) == 1


def test_what_ends_while_the_bridge_is_away_is_read_whole(own_bridge: BridgeProcess) -> None:
    """Once, and nothing twice: the CLIs have gone on, and their answers stand in a snapshot alone."""
    own_bridge.run("submit", "away", "hello", "--start")
    prompt = sim(words=12, gap_ms=200)
    with (
        waiting(own_bridge, "tail", "away") as tail,
        waiting(own_bridge, "ask", prompt) as ask,
        waiting(own_bridge, "submit", "away", prompt) as submit,
    ):
        assert said(tail, len("You said: hello\n")) == "You said: hello\n"
        read = {command: said(command, 3) for command in (tail, ask, submit)}
        own_bridge.kill()
        until_written(own_bridge, b"w10 w11", 2)
        own_bridge.start()
        for command in (ask, submit):
            read[command] += said(command)
            assert command.wait(END_S) == 0
        while "w11" not in read[tail] and (more := said(tail, 1)):
            read[tail] += more
        tail.send_signal(signal.SIGINT)
        read[tail] += said(tail)
    assert [text.split() for text in read.values()] == [words(12).split()] * 3


def said(command: subprocess.Popen[str], characters: int = -1) -> str:
    """What it prints next: so much, or all until it ends."""
    assert command.stdout is not None
    return command.stdout.read(characters)


def until_written(bridge: BridgeProcess, text: bytes, times: int) -> None:
    """Until so many CLIs have said this in a whole message."""
    deadline = time.monotonic() + END_S
    while sum(text in out.read_bytes() for out in bridge.state_dir.glob("sessions/*/*/out.ndjson")) < times:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_sessions_and_the_tree_are_shown(bridge: BridgeProcess) -> None:
    """A session is listed and stands in the tree under its name."""
    bridge.run("start", "shown")
    assert "shown" in bridge.run("sessions").stdout
    assert "session:shown" in bridge.run("sessions", "--tree").stdout
    listed = json.loads(bridge.run("sessions", "--json").stdout)["sessions"]
    assert "shown" in [session["name"] for session in listed]


def test_stop_and_delete_do_what_they_say(bridge: BridgeProcess) -> None:
    """A stopped session is taken up again by start; a deleted one is gone."""
    bridge.run("submit", "ending", "one", "--start")
    assert bridge.run("stop", "ending").returncode == 0
    refused = bridge.run("submit", "ending", "two")
    assert refused.returncode == 4
    assert "claude-bridge start" in refused.stderr
    assert bridge.run("submit", "ending", "three", "--start").stdout == "You said: three\n"
    assert bridge.run("delete", "ending").returncode == 0
    assert bridge.run("tail", "ending").returncode == 4


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("submit", "bad/name", "hi", "--start"), 4, "A name is"),
        (("submit", "empty", "", "--start"), 4, "no text"),
        (("sessions", "--token", "not the token"), 4, "does not accept this token"),
        (("submit", "nobody", "hi"), 4, "no session"),
        (("start", "roots", "--cwd", "/"), 4, ""),
        (("serve", "--simulate", "--port", "0"), 2, "already serves"),
        (("serve", "--config", "/nowhere"), 2, "no configuration file"),
    ],
)
def test_bad_input_ends_in_a_sentence(
    bridge: BridgeProcess, words: tuple[str, ...], status: int, said: str
) -> None:
    """Never a traceback; the bridge goes on."""
    ran = bridge.run(*words)
    assert ran.returncode == status
    assert said in ran.stderr
    assert ran.stderr.strip()
    assert "Traceback" not in ran.stderr
    assert bridge.process is not None
    assert bridge.process.poll() is None


def test_a_port_in_use_is_said_to_be_so(bridge: BridgeProcess, tmp_path: Path) -> None:
    """A second bridge with a state folder of its own on the same port."""
    ran = subprocess.run(
        [*bridge.command("serve", "--simulate", "--port", str(bridge.port))[:-1], str(tmp_path / "other")],
        cwd=ROOT,
        env=bridge.env,
        capture_output=True,
        text=True,
        timeout=END_S,
        check=False,
    )
    assert ran.returncode == 2
    assert str(bridge.port) in ran.stderr
    assert "--port" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_the_doctor_finds_this_bridge(bridge: BridgeProcess) -> None:
    """Its port is held by our own."""
    ran = bridge.run("doctor", "--simulate", "--port", str(bridge.port), "--json")
    assert ran.returncode == 0, ran.stdout
    findings = {f["check"]: f for f in json.loads(ran.stdout)["findings"]}
    assert "our own bridge" in findings["port"]["said"]


def test_the_readmes_javascript_runs(bridge: BridgeProcess, tmp_path: Path) -> None:
    """Word for word, but for the address and the socket that Node needs."""
    (script,) = re.findall(r"```js\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    address = "ws://127.0.0.1:4040/socket"
    assert address in script
    script = script.replace(address, bridge.url).replace("{authToken:", "{transport: WebSocket, authToken:")
    # Beside the packages it imports.
    file = ROOT / "tests/js" / f"readme-{os.getpid()}.mjs"
    file.write_text('import WebSocket from "ws"\n' + script)
    try:
        ran = subprocess.run(
            ["node", str(file)],
            env=bridge.env | {"CLAUDE_BRIDGE_TOKEN": bridge.token},
            capture_output=True,
            text=True,
            timeout=END_S,
            check=False,
        )
    finally:
        file.unlink()
    assert ran.stdout == "You said: hello\n[completed]\n", ran.stderr


def test_files_are_sent_along(bridge: BridgeProcess, tmp_path: Path) -> None:
    """Their types are found by their names, or by what is in them; what cannot be read is said."""
    picture, source, unknown = tmp_path / "a.png", tmp_path / "code.rs", tmp_path / "b.bin"
    picture.write_bytes(png())
    source.write_text("fn main() {}\n")
    unknown.write_bytes(b"\xff\0")
    words = ("submit", "files", f"look {sim(text='seen')}", "--start", "-q")
    ran = bridge.run(*words, "--attach", str(picture), "--attach", str(source))
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "seen\n", "")
    exported = json.loads(bridge.run("export", "files", "--json").stdout)
    assert [(f["name"], f["media_type"]) for f in exported["turns"][0]["attachments"]] == [
        ("a.png", "image/png"),
        ("code.rs", "text/plain"),
    ]
    refused = bridge.run(*words, "--attach", str(unknown))
    assert (refused.returncode, "cannot be attached" in refused.stderr) == (4, True)
    missing = bridge.run(*words, "--attach", str(tmp_path / "none"))
    assert (missing.returncode, "No such file" in missing.stderr) == (2, True)
    with (tmp_path / "huge").open("wb") as huge:
        huge.truncate(10_000_000_000)
    large = bridge.run(*words, "--attach", str(tmp_path / "huge"))
    assert (large.returncode, "more than" in large.stderr) == (2, True)
