"""The command: what it prints, and the exit status it ends with. The bridge is a scripted one."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestServer

from bridge import __version__, cli
from bridge.reading import CAUGHT_UP
from tests.fakes.bridge_peer import FAILURES, Peer, Script, scripted

TOPIC = "session:demo"
JOINED = {
    "epoch": "e1", "seq": 0, "recovered": False, "turns": [], "requests": [], "open_turn": None,
    "session": {"name": "demo", "state": "idle", "attach": None},
}  # fmt: skip
STARTED = {"turn": "t1", "prompt": "hi", "author": "local", "source": "client"}


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No bridge of this machine may be found, and no variable of the caller's counts."""
    for name in [name for name in os.environ if name.startswith("CLAUDE_BRIDGE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))


@dataclass
class Ran:
    status: int
    out: str
    err: str


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    def command(*words: str) -> Ran:
        status = cli.main(list(words))
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        return Ran(status, out, err)

    return command


@contextmanager
def bridge(*scripts: Script) -> Iterator[None]:
    """A bridge in a thread of its own, found through the environment; none of its scripts may have failed."""
    app = scripted(*scripts)
    loop = asyncio.new_event_loop()
    server = TestServer(app, loop=loop)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(server.start_server(), loop).result()
        os.environ["CLAUDE_BRIDGE_URL"] = str(server.make_url("/"))
        os.environ["CLAUDE_BRIDGE_TOKEN"] = "token-of-the-test"
        yield
        asyncio.run_coroutine_threadsafe(server.close(), loop).result()
    finally:
        os.environ.pop("CLAUDE_BRIDGE_URL", None)
        os.environ.pop("CLAUDE_BRIDGE_TOKEN", None)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
    assert app[FAILURES] == []


def answering(event: str, response: dict[str, Any], expected: dict[str, Any] | None = None) -> Script:
    """A bridge of which one thing is asked."""

    async def script(peer: Peer) -> None:
        await (await peer.expect("phx_join")).reply(JOINED)
        asked = await peer.expect(event)
        if expected is not None:
            assert asked.payload == expected
        await asked.reply(response)
        await peer.until_closed()

    return script


def replying(*events: tuple[str, dict[str, Any]]) -> Script:
    """A bridge whose session answers a prompt with these events."""

    async def script(peer: Peer) -> None:
        await (await peer.expect("phx_join")).reply(JOINED)
        await (await peer.expect("submit")).reply({"turn": "t1", "status": "running", "position": 0})
        for seq, (event, payload) in enumerate(events, 1):
            await peer.broadcast(TOPIC, event, seq=seq, **payload)
        await peer.until_closed()

    return script


def delta(text: str) -> tuple[str, dict[str, Any]]:
    return "delta", {"turn": "t1", "block": 0, "kind": "text", "text": text}


def end(status: str = "completed", text: str = "Hello you", **more: Any) -> tuple[str, dict[str, Any]]:
    return "turn_finished", {"turn": "t1", "status": status, "text": text, **more}


# --- submit --------------------------------------------------------------------------------------


def test_submit_prints_the_answer_as_it_comes(run: Callable[..., Ran]) -> None:
    """The reply alone on stdout, status 0."""
    with bridge(replying(("turn_started", STARTED), delta("Hello"), delta(" you"), end())):
        ran = run("submit", "demo", "hi")
    assert (ran.status, ran.out, ran.err) == (0, "Hello you\n", "")


def test_submit_quietly_prints_the_final_text_alone(run: Callable[..., Ran]) -> None:
    """For `answer=$(claude-bridge submit -q …)`."""
    with bridge(replying(delta("Hel"), ("discard", {"turn": "t1", "block": 0}), delta("Hello you"), end())):
        ran = run("submit", "-q", "demo", "hi")
    assert ran.out == "Hello you\n"


def test_submit_as_json_prints_a_line_for_each_event_of_the_turn(run: Callable[..., Ran]) -> None:
    """And nothing of other turns."""
    other = ("delta", {"turn": "t0", "block": 0, "kind": "text", "text": "x"})
    with bridge(replying(other, delta("Hello you"), end())):
        ran = run("submit", "--json", "demo", "hi")
    lines = [json.loads(line) for line in ran.out.splitlines()]
    assert [line["event"] for line in lines] == ["submitted", "delta", "turn_finished"]
    assert lines[0]["turn"] == "t1"


@pytest.mark.parametrize("status", ["failed", "interrupted", "unknown"])
def test_submit_ends_with_1_when_the_turn_did_not_complete(run: Callable[..., Ran], status: str) -> None:
    """What was answered until then is printed all the same."""
    error = {"error": {"code": "api_error", "message": "Overloaded"}} if status == "failed" else {}
    with bridge(replying(delta("Hello you"), end(status, **error))):
        ran = run("submit", "demo", "hi")
    assert (ran.status, ran.out) == (1, "Hello you\n")
    assert ran.err


def test_submit_reads_a_prompt_from_stdin(run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> None:
    """`-` stands for it, and its bytes are kept."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("grüße\r\n".encode())))
    seen = []

    async def script(peer: Peer) -> None:
        await (await peer.expect("phx_join")).reply(JOINED)
        submit = await peer.expect("submit")
        seen.append(submit.payload["prompt"])
        await submit.reply({"turn": "t1", "status": "running"})
        await peer.broadcast(TOPIC, "turn_finished", seq=1, **end()[1])
        await peer.until_closed()

    with bridge(script):
        run("submit", "demo", "-")
    assert seen == ["grüße\r\n"]


def test_submit_refuses_bytes_that_are_no_text(
    run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is sent."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a\xff")))
    ran = run("submit", "demo", "-")
    assert ran.status == 2
    assert "UTF-8" in ran.err


def test_submit_sends_a_slash_command_as_one(run: Callable[..., Ran]) -> None:
    """In place of a prompt."""
    seen = []

    async def script(peer: Peer) -> None:
        await (await peer.expect("phx_join")).reply(JOINED)
        submit = await peer.expect("submit")
        seen.append({k: v for k, v in submit.payload.items() if k != "id"})
        await submit.reply({"turn": "t1", "status": "running"})
        await peer.broadcast(TOPIC, "turn_finished", seq=1, **end()[1])
        await peer.until_closed()

    with bridge(script):
        run("submit", "--command", "demo", "/compact")
    assert seen == [{"command": "/compact"}]


def test_submit_starts_the_session_where_told(run: Callable[..., Ran], tmp_path: Path) -> None:
    """With the options given, paths made absolute."""
    joins = []

    async def script(peer: Peer) -> None:
        join = await peer.expect("phx_join")
        joins.append(join.payload["start"])
        await join.reply(JOINED)
        await (await peer.expect("submit")).reply({"turn": "t1", "status": "running"})
        await peer.broadcast(TOPIC, "turn_finished", seq=1, **end()[1])
        await peer.until_closed()

    with bridge(script):
        run("submit", "demo", "hi", "--start", "--model", "m", "--cwd", str(tmp_path / "x"))
    assert joins == [{"model": "m", "cwd": str(tmp_path / "x")}]


def test_options_of_a_session_need_start(run: Callable[..., Ran]) -> None:
    """They would do nothing without."""
    ran = run("submit", "demo", "hi", "--model", "m")
    assert ran.status == 2
    assert "--start" in ran.err


def test_a_permission_request_shows_how_to_answer(run: Callable[..., Ran]) -> None:
    """On stderr, so that the reply stays clean."""
    request = {"id": "r1", "kind": "permission", "turn": "t1", "tool": "Bash", "input": {"command": "ls"}}
    closed = ("request_closed", {"request": "r1", "outcome": "allowed", "by": "ann"})
    with bridge(replying(("request_opened", {"request": request}), closed, delta("Hello you"), end())):
        ran = run("submit", "demo", "hi")
    assert "claude-bridge answer demo r1 allow" in ran.err
    assert "allowed by ann" in ran.err
    assert ran.out == "Hello you\n"


def test_ctrl_c_stops_waiting_and_says_how_to_look_again(tmp_path: Path) -> None:
    """Status 130; the session is told nothing."""
    frames: list[str] = []
    accepted = threading.Event()

    async def script(peer: Peer) -> None:
        await (await peer.expect("phx_join")).reply(JOINED)
        await (await peer.expect("submit")).reply({"turn": "t1", "status": "running", "position": 0})
        await peer.broadcast(TOPIC, "delta", seq=1, **delta("Hello")[1])
        accepted.set()
        frames.extend([message.data async for message in peer.ws])

    with bridge(script):
        process = subprocess.Popen(
            [sys.executable, "-m", "bridge", "submit", "demo", "hi"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert process.stdout is not None
        accepted.wait(30)
        assert process.stdout.read(5) == "Hello"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "claude-bridge tail demo" in err
    assert "Traceback" not in err
    assert frames == []


# --- the other commands --------------------------------------------------------------------------


def test_tail_shows_the_past_and_what_follows(run: Callable[..., Ran]) -> None:
    """Until the session is deleted."""
    past = {"prompt": "before", "author": "ann", "status": "completed", "text": "Yes"}

    async def script(peer: Peer) -> None:
        join = await peer.expect("phx_join")
        assert join.payload["turns"] == CAUGHT_UP
        await join.reply(JOINED | {"turns": [{"id": f"t{n}", **past} for n in range(9)]})
        for seq, (event, payload) in enumerate([("turn_started", STARTED), delta("Hello you"), end()], 1):
            await peer.broadcast(TOPIC, event, seq=seq, **payload)
        await peer.broadcast(TOPIC, "phx_close")
        await peer.until_closed()

    with bridge(script):
        ran = run("tail", "demo")
    assert (ran.status, ran.out) == (0, "Yes\n" * 3 + "Hello you\n")
    assert "ann> before" in ran.err
    assert "local> hi" in ran.err


@pytest.mark.parametrize("count", [0, 1, 99])
def test_tail_begins_with_as_many_turns_as_are_asked_for(run: Callable[..., Ran], count: int) -> None:
    """A snapshot has more of them, for what may be missed later."""
    past = [{"id": f"t{n}", "prompt": "x", "status": "completed", "text": f"Yes {n}"} for n in range(9)]

    async def script(peer: Peer) -> None:
        join = await peer.expect("phx_join")
        assert join.payload["turns"] == max(count, CAUGHT_UP)
        await join.reply(JOINED | {"turns": past})
        await peer.broadcast(TOPIC, "phx_close")
        await peer.until_closed()

    wanted = past[max(0, 9 - count) :]
    with bridge(script, script):
        shown = run("tail", "demo", "--turns", str(count))
        told = run("tail", "demo", "--turns", str(count), "--json")
    assert shown.out.splitlines() == [turn["text"] for turn in wanted]
    assert json.loads(told.out.splitlines()[0])["turns"] == wanted


def test_export_prints_every_turn_there_ever_was(
    run: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a document on stdout, or in a file; as JSON, what the bridge said."""
    monkeypatch.setattr(cli.client, "PAGE", 2)
    turns = [
        {"id": f"t{n}", "prompt": f"prompt {n}", "author": "ann", "source": "client", "status": "completed",
         "text": f"answer {n}", "blocks": [], "queued_at": f"2026-01-0{n}T00:00:00.000Z"}
        for n in (1, 2, 3)
    ]  # fmt: skip
    session = {"name": "demo", "backend": "headless", "state": "idle"}

    async def script(peer: Peer) -> None:
        await (await peer.expect("phx_join")).reply({**JOINED, "session": session})
        first = await peer.expect("history")
        assert first.payload == {"limit": 2}
        await first.reply({"turns": turns[1:]})
        second = await peer.expect("history")
        assert second.payload == {"limit": 2, "before": "t2"}
        await second.reply({"turns": turns[:1]})
        await peer.until_closed()

    with bridge(script, script, script):
        ran = run("export", "demo")
        prompts = [line for line in ran.out.splitlines() if line.startswith("> ")]
        assert (ran.status, prompts) == (0, ["> prompt 1", "> prompt 2", "> prompt 3"])
        assert json.loads(run("export", "demo", "--json").out) == {"session": session, "turns": turns}
        written = run("export", "demo", "-o", str(tmp_path / "demo.md"))
    assert (written.out, (tmp_path / "demo.md").read_text()) == ("", ran.out)


def test_export_says_where_it_cannot_write(run: Callable[..., Ran], tmp_path: Path) -> None:
    """One sentence, status 2."""
    session = {"name": "demo", "backend": "headless", "state": "idle"}

    async def script(peer: Peer) -> None:
        await (await peer.expect("phx_join")).reply({**JOINED, "session": session})
        await (await peer.expect("history")).reply({"turns": []})
        await peer.until_closed()

    with bridge(script):
        ran = run("export", "demo", "-o", str(tmp_path))
    assert (ran.status, ran.out) == (2, "")
    assert "cannot be written" in ran.err


def test_sessions_are_listed(run: Callable[..., Ran]) -> None:
    """One a line, with what one looks for."""
    session = {"name": "demo", "state": "idle", "backend": "headless", "model": None, "turns": 3,
               "viewers": 1, "cwd": "/home/ann"}  # fmt: skip
    with bridge(answering("list", {"sessions": [session]})):
        ran = run("sessions")
    assert "demo" in ran.out
    assert "idle" in ran.out
    assert "/home/ann" in ran.out
    assert "attach" not in ran.err


def test_sessions_that_can_be_typed_into_are_said_to_be(run: Callable[..., Ran]) -> None:
    """How, beside the list, so that scripts read the list alone."""
    session = {"name": "demo", "state": "idle", "backend": "tmux", "model": None, "turns": 3, "viewers": 1,
               "cwd": "/home/ann", "attach": "tmux attach -t claude_demo"}  # fmt: skip
    with bridge(answering("list", {"sessions": [session]})):
        ran = run("sessions")
    assert "claude-bridge attach NAME" in ran.err
    assert "attach" not in ran.out


def test_sessions_as_json_are_what_the_bridge_said(run: Callable[..., Ran]) -> None:
    """For a script."""
    with bridge(answering("list", {"sessions": []})):
        assert json.loads(run("sessions", "--json").out) == {"sessions": []}


def test_the_supervision_tree_is_drawn(run: Callable[..., Ran]) -> None:
    """Each child below its parent."""
    tree = {"id": "claude-bridge", "children": [{"id": "sessions", "state": "running", "children": []}]}
    with bridge(answering("tree", tree)):
        ran = run("sessions", "--tree")
    assert ran.out.index("claude-bridge") < ran.out.index("sessions")
    assert "running" in ran.out


def test_start_passes_every_option_on(run: Callable[..., Ran], tmp_path: Path) -> None:
    """As the contract names them."""
    expected = {
        "name": "demo", "backend": "headless", "model": "m", "cwd": str(tmp_path), "permission_mode": "plan",
        "system_prompt": "s", "append_system_prompt": "a", "allowed_tools": ["Bash", "Read"],
        "disallowed_tools": ["Write"], "mcp_config": {"mcpServers": {}}, "add_dirs": [str(tmp_path)],
        "resume": "c",
    }  # fmt: skip
    with bridge(answering("start", {"session": {"state": "starting"}}, expected)):
        ran = run(
            "start", "demo", "--backend", "headless", "--model", "m", "--cwd", str(tmp_path),
            "--permission-mode", "plan", "--system-prompt", "s", "--append-system-prompt", "a",
            "--allowed-tool", "Bash", "--allowed-tool", "Read", "--disallowed-tool", "Write",
            "--mcp-config", '{"mcpServers": {}}', "--add-dir", str(tmp_path), "--resume", "c",
        )  # fmt: skip
    assert (ran.status, ran.out) == (0, "demo is starting.\n")


@pytest.mark.parametrize(
    ("words", "event", "expected", "response", "said"),
    [
        (["stop", "demo"], "stop", {"name": "demo"}, {"session": {}}, "is stopped"),
        (["delete", "demo"], "delete", {"name": "demo"}, {}, "is deleted"),
        (["interrupt", "demo"], "interrupt", {}, {"turn": "t1"}, "t1 is interrupted"),
        (["interrupt", "demo"], "interrupt", {}, {"turn": None}, "Nothing was running"),
        (
            ["answer", "demo", "r1", "deny", "--message", "no", "--interrupt"],
            "answer",
            {"request": "r1", "decision": "deny", "message": "no", "interrupt": True},
            {},
            "is denied",
        ),
        (
            ["answer", "demo", "r1", "allow", "--input", '{"command": "ls"}', "--suggestion", "0"],
            "answer",
            {"request": "r1", "decision": "allow", "input": {"command": "ls"}, "suggestions": [0]},
            {},
            "is allowed",
        ),
    ],
)
def test_a_command_says_what_became_of_it(
    run: Callable[..., Ran],
    words: list[str],
    event: str,
    expected: dict[str, Any],
    response: dict[str, Any],
    said: str,
) -> None:
    """In one sentence."""
    with bridge(answering(event, response, expected)):
        ran = run(*words)
    assert ran.status == 0
    assert said in ran.out


def test_attach_becomes_the_command_the_bridge_named(
    run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Word for word, without a shell."""
    became: list[list[str]] = []
    monkeypatch.setattr(os, "execvp", lambda _, words: became.append(words))
    session = {"session": {"attach": "tmux -L claude-bridge attach -t claude_demo", "state": "idle"}}

    async def script(peer: Peer) -> None:
        await (await peer.expect("phx_join")).reply(JOINED | session)
        await peer.until_closed()

    with bridge(script):
        run("attach", "demo")
    assert became == [["tmux", "-L", "claude-bridge", "attach", "-t", "claude_demo"]]


def test_attach_says_so_where_there_is_no_terminal(run: Callable[..., Ran]) -> None:
    """An api session has none, a stopped one neither."""

    async def script(peer: Peer) -> None:
        await (await peer.expect("phx_join")).reply(JOINED)
        await peer.until_closed()

    with bridge(script):
        ran = run("attach", "demo")
    assert ran.status == 2
    assert "no terminal" in ran.err


def test_token_prints_the_local_bridges(run: Callable[..., Ran], tmp_path: Path) -> None:
    """Whether it runs or not."""
    (tmp_path / "claude-bridge").mkdir()
    (tmp_path / "claude-bridge/token").write_text("hush\n")
    assert run("token").out == "hush\n"


def test_token_says_so_where_none_was_made(run: Callable[..., Ran]) -> None:
    """The first `serve` makes one."""
    ran = run("token")
    assert ran.status == 2
    assert "serve" in ran.err


def test_the_doctor_ends_with_1_where_it_found_a_problem(run: Callable[..., Ran], tmp_path: Path) -> None:
    """With what to do about it, and as JSON for a script."""
    (tmp_path / "file").write_text("")
    words = ["doctor", "state", "--state-dir", str(tmp_path / "file/below")]
    ran = run(*words)
    assert ran.status == 1
    assert "--state-dir" in ran.out
    said = json.loads(run(*words, "--json").out)
    assert (said["ok"], said["findings"][0]["check"]) == (False, "state")


def test_the_doctor_knows_its_checks(run: Callable[..., Ran]) -> None:
    """A misspelt one is not passed over."""
    assert "claude, login, tmux, api, state, port" in run("doctor", "tmuxx").err


# --- what can go wrong ---------------------------------------------------------------------------


def test_no_bridge_ends_with_3(run: Callable[..., Ran]) -> None:
    """And says how to start one."""
    ran = run("sessions")
    assert ran.status == 3
    assert "claude-bridge serve" in ran.err


def test_a_refusal_ends_with_4_and_says_what_to_do(run: Callable[..., Ran]) -> None:
    """The bridge's own sentence, and the command that helps."""

    async def script(peer: Peer) -> None:
        join = await peer.expect("phx_join")
        await join.reply({"reason": "session_not_found", "message": "There is no session 'demo'."}, "error")
        await peer.until_closed()

    with bridge(script):
        ran = run("submit", "demo", "hi")
    assert ran.status == 4
    assert "There is no session 'demo'." in ran.err
    assert "claude-bridge start" in ran.err


def test_a_refusal_as_json_keeps_its_code(run: Callable[..., Ran]) -> None:
    """For a script to match on."""

    async def script(peer: Peer) -> None:
        await (await peer.expect("phx_join")).reply(JOINED)
        refused = {"reason": "queue_full", "message": "1 prompts are already waiting.", "limit": 1}
        await (await peer.expect("submit")).reply(refused, "error")
        await peer.until_closed()

    with bridge(script):
        ran = run("submit", "--json", "demo", "hi")
    assert json.loads(ran.out)["error"]["reason"] == "queue_full"


@pytest.mark.parametrize(
    "words",
    [
        ["bogus"],
        ["submit"],
        ["submit", "demo"],
        ["answer", "demo", "r1", "perhaps"],
        ["serve", "--port", "many"],
        ["serve", "--port", "70000"],
        ["serve", "--host", "0.0.0.0"],
        ["serve", "--config", "/nowhere.toml"],
        ["answer", "demo", "r1", "allow", "--input", "{"],
        ["answer", "demo", "r1", "allow", "--input", "[]"],
        ["start", "demo", "--mcp-config", "{"],
        ["sessions", "--url", "nowhere"],
        ["sessions", "--url", "https://bridge.example"],
    ],
)
def test_a_wrong_command_line_ends_with_2_and_a_sentence(run: Callable[..., Ran], words: list[str]) -> None:
    """Never a traceback; nothing was done."""
    ran = run(*words)
    assert ran.status == 2
    assert ran.err.strip()


def test_an_unknown_configuration_key_ends_with_2_and_a_suggestion(
    run: Callable[..., Ran], tmp_path: Path
) -> None:
    """Before anything is started."""
    (tmp_path / "c.toml").write_text("[server]\nprot = 1\n")
    ran = run("serve", "--config", str(tmp_path / "c.toml"))
    assert ran.status == 2
    assert "server.port" in ran.err


def test_a_defect_ends_with_70_and_one_sentence(
    run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asks to be reported; the traceback is for whoever asks for it."""
    monkeypatch.setattr(cli.doctor, "examine", lambda *_: 1 / 0)
    ran = run("doctor")
    assert ran.status == 70
    assert "ZeroDivisionError" in ran.err


def test_the_version_is_printed(run: Callable[..., Ran]) -> None:
    """As every command of its kind does."""
    assert run("--version").out == f"claude-bridge {__version__}\n"


def test_the_address_of_the_console_is_printed_with_its_token(run: Callable[..., Ran]) -> None:
    """And nothing else, for a click or a pipe."""
    ran = run("console", "--url", "http://127.0.0.1:4040/", "--token", "of-the-test")
    assert (ran.status, ran.out, ran.err) == (0, "http://127.0.0.1:4040/#token=of-the-test\n", "")


@pytest.mark.parametrize("reader", ["head -c 1", "true"])
def test_a_reader_that_has_enough_is_no_error(tmp_path: Path, reader: str) -> None:
    """`claude-bridge … | head` ends quietly, whether it goes while we write or was gone before."""
    (tmp_path / "claude-bridge").mkdir()
    (tmp_path / "claude-bridge/token").write_text("x" * 200_000)
    process = subprocess.run(
        f"{sys.executable} -m bridge token | {reader}; exit ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert (process.returncode, process.stderr) == (0, "")
