"""Permission questions outlive the bridge: the script that asks them, alone and started by the real CLI."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import inotify_simple
import pytest

from bridge.sessions.backends import ask_hook, hooks
from bridge.sessions.backends.hooks import HookServer
from tests.fakes.simulator import RunningSimulator
from tests.fakes.tui import WAIT_S, Bridge, Recorder, Tui, running, until

pytestmark = pytest.mark.real

SECRET = "0123456789abcdef" * 4
QUESTION = {"hook_event_name": "PermissionRequest", "tool_name": "Bash", "tool_input": {"command": "ls"}}


def decision(**words: Any) -> dict[str, Any]:
    return {"hookSpecificOutput": {"hookEventName": "PermissionRequest", "decision": words}}


ALLOW = decision(behavior="allow")
DENY = decision(behavior="deny", message="not this one")


@contextlib.asynccontextmanager
async def listening(
    state_dir: Path, receiver: Recorder | None, secret: str = SECRET
) -> AsyncIterator[HookServer]:
    """A bridge that is nothing but its listener."""
    server = HookServer(state_dir)
    server.bind()
    if receiver is not None:
        server.attach(secret, receiver)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(server.serve())
        try:
            yield server
        finally:
            task.cancel()


# --- the script ---------------------------------------------------------------------------------------


def ask_file(state_dir: Path) -> Path:
    ask = state_dir / "ask.json"
    if not ask.exists():
        ask.write_text(json.dumps({"url_file": str(state_dir / "hooks.json"), "secret": SECRET}))
    return ask


class Script:
    """The hook as a process, started as the CLI starts it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    @classmethod
    async def start(cls, state_dir: Path, question: object = QUESTION, *words: str) -> Script:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", ask_hook.__file__, str(ask_file(state_dir)), *words),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps(question).encode())
        process.stdin.close()
        return cls(process)

    async def printed(self) -> str:
        """What it said, once it ended; that is always without an error."""
        out, err = await asyncio.wait_for(self.process.communicate(), WAIT_S)
        assert (self.process.returncode, err) == (0, b"")
        return out.decode()


async def one_question(session: Recorder, *, times: int = 1) -> str:
    """The id of the only question, once it was asked so often."""
    await until(lambda: sum(session.times_asked.values()) >= times)
    (request,) = session.questions
    return request


@pytest.mark.parametrize(
    ("answer", "printed"),
    [(ALLOW, json.dumps(ALLOW, separators=(",", ":"))), ({}, "")],
    ids=["allow", "moot"],
)
async def test_the_script_prints_the_answer(tmp_path: Path, answer: dict[str, Any], printed: str) -> None:
    """As it was given; nothing where nobody waits for one."""
    session = Recorder()
    async with listening(tmp_path, session):
        script = await Script.start(tmp_path)
        session.questions[await one_question(session)].set_result(answer)
        assert await script.printed() == printed


async def test_a_large_question_is_asked_whole(tmp_path: Path) -> None:
    """And its answer may be as large."""
    session, text = Recorder(), "ä" * 4_000_000
    async with listening(tmp_path, session):
        script = await Script.start(tmp_path, {**QUESTION, "tool_input": {"content": text}})
        request = await one_question(session)
        answer = decision(behavior="allow", updatedInput={"content": text})
        session.questions[request].set_result(answer)
        assert json.loads(await script.printed()) == answer


async def test_a_question_is_one_however_often_it_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A poll ends after a while, and the next one is for the same."""
    monkeypatch.setattr(hooks, "POLL_S", 0.01)
    session = Recorder()
    async with listening(tmp_path, session):
        script = await Script.start(tmp_path)
        request = await one_question(session, times=3)
        session.questions[request].set_result(ALLOW)
        assert json.loads(await script.printed()) == ALLOW


async def test_the_script_finds_a_bridge_that_starts_later(tmp_path: Path) -> None:
    """Nothing is there, then half a file, then nonsense, then a port on which nobody listens."""
    session, file = Recorder(), tmp_path / "hooks.json"
    ask_file(tmp_path)
    with inotify_simple.INotify() as notify:
        notify.add_watch(tmp_path / "ask.json", inotify_simple.flags.OPEN)
        script = await Script.start(tmp_path)
        for content in (None, '{"url": "http://127.0', "[]", '{"url": 7}', '{"url": "http://127.0.0.1:1"}'):
            if content is not None:
                file.write_text(content)
            for _ in range(2):  # the first attempt may have begun before
                await until(lambda: notify.read(timeout=0) or None)
    file.unlink()
    async with listening(tmp_path, session):
        session.questions[await one_question(session)].set_result(ALLOW)
        assert json.loads(await script.printed()) == ALLOW


@pytest.mark.parametrize("same_port", [True, False])
async def test_the_script_follows_the_bridge(tmp_path: Path, same_port: bool) -> None:
    """It stops, somebody else may take its port, and the next one is asked the same question."""
    first, second = Recorder(), Recorder()
    async with listening(tmp_path, first) as server:
        script = await Script.start(tmp_path)
        request = await one_question(first)
        port = int(server.url.rpartition(":")[2])
    with contextlib.ExitStack() as stack:
        if not same_port:
            stack.enter_context(socket.create_server(("127.0.0.1", port)))
        async with listening(tmp_path, second) as server:
            assert (server.url == f"http://127.0.0.1:{port}") == same_port
            assert await one_question(second) == request
            second.questions[request].set_result(ALLOW)
            assert json.loads(await script.printed()) == ALLOW
    assert (first.gone, second.gone) == ([], [])


async def test_the_script_waits_for_its_session(tmp_path: Path) -> None:
    """A bridge that has just started may not know the secret yet."""
    session = Recorder()
    async with listening(tmp_path, None) as server:
        script = await Script.start(tmp_path)
        await until(lambda: server._told_at)
        server.attach(SECRET, session)
        session.questions[await one_question(session)].set_result(ALLOW)
        assert json.loads(await script.printed()) == ALLOW


BODY = json.dumps(ALLOW)
STRANGE = [
    "",
    "\r\n\r\n",
    "SSH-2.0-OpenSSH\r\n",
    "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 200 OK\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnull",
    f"HTTP/1.1 200 OK\r\nContent-Length: {len(BODY)}\r\n\r\n{BODY[:-9]}",
    "HTTP/1.1 fine\r\n\r\n{}",
    "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
]


@contextlib.asynccontextmanager
async def strangers(state_dir: Path, answers: list[str]) -> AsyncIterator[list[tuple[float, str]]]:
    """Listens where the script asks and gives it one answer after the other, closing each time; when and
    what was asked."""
    asked: list[tuple[float, str]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = int(head.lower().partition("content-length:")[2].split()[0])
        await reader.readexactly(length)
        asked.append((time.monotonic(), head.partition("\r\n")[0]))
        writer.write(answers[min(len(asked), len(answers)) - 1].encode())
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    (state_dir / "hooks.json").write_text(json.dumps({"url": f"http://127.0.0.1:{port}"}))
    try:
        yield asked
    finally:
        server.close()
        await server.wait_closed()


async def test_nonsense_is_no_answer(tmp_path: Path) -> None:
    """Whoever sits on the port: the question stays open until a whole answer comes."""
    real = f"HTTP/1.1 200 OK\r\nContent-Length: {len(BODY)}\r\n\r\n{BODY}"
    async with strangers(tmp_path, [*STRANGE, real]) as asked:
        script = await Script.start(tmp_path)
        assert await script.printed() == BODY
    assert len(asked) == len(STRANGE) + 1
    assert len({line for _, line in asked}) == 1
    # Not twice a second: at most, so half of the time it takes is still far from a busy loop.
    assert asked[-1][0] - asked[0][0] > ask_hook.ATTEMPT_S * len(STRANGE) / 2


@pytest.mark.parametrize("status", [400, 413])
async def test_a_refused_question_is_left_to_the_terminal(tmp_path: Path, status: int) -> None:
    """It would be refused for ever."""
    async with strangers(tmp_path, [f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n"]) as asked:
        script = await Script.start(tmp_path)
        assert await script.printed() == ""
    assert len(asked) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
async def test_a_script_that_is_ended_says_so(tmp_path: Path, number: signal.Signals) -> None:
    """The CLI ends it when the turn is interrupted."""
    session = Recorder()
    async with listening(tmp_path, session):
        script = await Script.start(tmp_path)
        request = await one_question(session)
        script.process.send_signal(number)
        assert await script.printed() == ""
        assert session.gone == [request]


async def test_a_script_that_is_ended_without_a_bridge_ends(tmp_path: Path) -> None:
    """There is nobody to tell."""
    session = Recorder()
    async with listening(tmp_path, session):
        script = await Script.start(tmp_path)
        await one_question(session)
    script.process.terminate()
    assert await script.printed() == ""


async def test_ctrl_c_is_not_for_the_script(tmp_path: Path) -> None:
    """It goes to all that run in the terminal."""
    session = Recorder()
    async with listening(tmp_path, session):
        script = await Script.start(tmp_path)
        request = await one_question(session)
        script.process.send_signal(signal.SIGINT)
        session.questions[request].set_result(ALLOW)
        assert json.loads(await script.printed()) == ALLOW


async def test_a_script_whose_output_nobody_reads_ends(tmp_path: Path) -> None:
    """The CLI was killed; the shell that it had put between lives on as the script's parent."""
    session = Recorder()
    async with listening(tmp_path, session):
        script = await Script.start(tmp_path)
        request = await one_question(session)
        transport = script.process._transport.get_pipe_transport(1)  # type: ignore[attr-defined]
        transport.close()
        assert await asyncio.wait_for(script.process.wait(), WAIT_S) == 0
        assert session.gone == [request]


PARENT = """
import subprocess, sys
subprocess.Popen(sys.argv[1:])
sys.stdin.read()
"""


@pytest.mark.parametrize("bridge", ["there", "away"])
async def test_a_script_whose_parent_is_gone_ends(tmp_path: Path, bridge: str) -> None:
    """Also in the middle of a poll, and with its output open."""
    session = Recorder()
    question = tmp_path / "question.json"
    question.write_text(json.dumps(QUESTION))
    script = f"exec {sys.executable} -I -S {ask_hook.__file__} {ask_file(tmp_path)} < {question}"
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(listening(tmp_path, session))
        parent = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", PARENT, "/bin/sh", "-c", script),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        request = await one_question(session)
        (child,) = map(int, Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split())
        if bridge == "away":
            await stack.aclose()
        parent.kill()
        await until(lambda: not running(child))
        assert session.gone == ([request] if bridge == "there" else [])
        await parent.communicate()


async def test_an_event_is_passed_on(tmp_path: Path) -> None:
    """`SessionStart` exists as a command alone."""
    session = Recorder()
    async with listening(tmp_path, session):
        script = await Script.start(tmp_path, {"hook_event_name": "SessionStart"}, "--event")
        assert await script.printed() == ""
    assert session.hooks == [{"hook_event_name": "SessionStart"}]


async def test_an_event_without_a_bridge_is_given_up(tmp_path: Path) -> None:
    """The CLI waits for it."""
    script = await Script.start(tmp_path, {}, "--event")
    assert await script.printed() == ""


# --- the real CLI -------------------------------------------------------------------------------------


KEY_S = 2.0
"""Before a key is pressed again: a second one would be taken for the next dialog's, or stand in the box."""


class World:
    """A TUI that is running, and the session its hooks report to."""

    def __init__(self, state_dir: Path, tui: Tui) -> None:
        self.state_dir = state_dir
        self.tui = tui

    def listening(self, session: Recorder) -> contextlib.AbstractAsyncContextManager[HookServer]:
        return listening(self.state_dir, session, self.tui.secret)

    async def ask_for(self, name: str) -> None:
        """A turn that wants to make a file; returns when the dialog takes keys."""
        await self.tui.prompt(tools=[["Bash", {"command": f"touch {name}"}]], text=f"done with {name}")
        await self.dialog()

    async def dialog(self) -> None:
        await until(lambda: self.tui.status == "waiting" and "Esc to cancel" in self.tui.screen(), self.shown)

    async def press(self, key: str) -> None:
        """Until the dialog is gone: keys that come with its first picture are not heard."""
        again_at = 0.0

        def gone() -> bool:
            nonlocal again_at
            if self.tui.status != "waiting":
                return True
            if time.monotonic() >= again_at:
                self.tui.key(key)
                again_at = time.monotonic() + KEY_S
            return False

        await until(gone, self.shown)

    async def turn_ended(self) -> None:
        await until(lambda: self.tui.status == "idle", self.shown)

    def made(self, name: str) -> bool:
        return (self.tui.cwd / name).exists()

    def shown(self) -> str:
        return self.tui.screen()


@pytest.fixture
def make_world(
    tmp_path: Path, simulator: RunningSimulator, claude_path: Path
) -> Iterator[Callable[[], World]]:
    made: list[Tui] = []

    def make() -> World:
        state_dir = tmp_path / "state"
        state_dir.mkdir()
        server = HookServer(state_dir)
        server.bind()
        server.close()
        tui = Tui(tmp_path / "tui", claude_path, simulator.base_url, server.url, state_dir / "hooks.json")
        made.append(tui)
        return World(state_dir, tui)

    yield make
    for tui in made:
        tui.close()


@pytest.fixture
def world(make_world: Callable[[], World]) -> World:
    return make_world()


async def test_a_question_outlives_a_killed_bridge(world: World) -> None:
    """The same port, the same question, the dialog is on the screen all the while; and the hooks of the
    running CLI reach the new bridge."""
    first = await Bridge.start(world.state_dir, world.tui.secret)
    try:
        await world.tui.start()
        await world.ask_for("made")
        request = await first.told("asked")
        await first.kill()
        (script,) = world.tui.askers()
        await world.dialog()
        second = await Bridge.start(world.state_dir, world.tui.secret)
        try:
            assert await second.told("asked") == request
            await world.dialog()
            assert world.tui.askers() == [script]
            await second.answer(request, ALLOW)
            assert await second.told("hook") == "PostToolUse"
            while await second.told("hook") != "Stop":
                pass
            await world.turn_ended()
        finally:
            await second.kill()
    finally:
        await first.kill()
    assert world.made("made")
    assert "Allowed by PermissionRequest hook" in world.shown()


async def test_a_question_follows_the_bridge_to_another_port(world: World) -> None:
    """The hooks over HTTP are lost to the running CLI; what it asks is not."""
    first, second = Recorder(), Recorder()
    async with world.listening(first) as server:
        await world.tui.start()
        await world.ask_for("made")
        request = await one_question(first)
        port = int(server.url.rpartition(":")[2])
    with socket.create_server(("127.0.0.1", port)) as taken:
        async with world.listening(second) as server:
            assert server.url != f"http://127.0.0.1:{port}"
            assert await one_question(second) == request
            await world.dialog()
            taken.close()  # else the hooks of the turn's end would wait for whoever took the port
            second.questions[request].set_result(ALLOW)
            await world.turn_ended()
    assert world.made("made")


async def test_what_a_person_answered_meanwhile_is_moot(world: World) -> None:
    """The script does not know of it. It asks the next bridge, is told that nobody waits, and ends."""
    first, second = Recorder(), Recorder()
    async with world.listening(first):
        await world.tui.start()
        await world.ask_for("made")
        request = await one_question(first)
    await world.press("1")
    await world.turn_ended()
    assert world.made("made")
    (script,) = world.tui.askers()
    async with world.listening(second):
        assert await one_question(second) == request
        before = world.shown()
        second.questions[request].set_result({})
        await until(lambda: not running(script), world.shown)
    assert (world.tui.status, world.shown()) == ("idle", before)
    assert (first.gone, second.gone) == ([], [])


async def test_an_answer_after_the_persons_is_harmless(world: World) -> None:
    """Not even the next dialog, which is open by then, is closed by it."""
    session = Recorder()
    async with world.listening(session):
        await world.tui.start()
        await world.ask_for("first")
        request = await one_question(session)
        (script,) = world.tui.askers()
        await world.press("1")
        await world.turn_ended()
        await world.ask_for("second")
        await until(lambda: len(session.questions) == 2)
        session.questions[request].set_result(DENY)
        await until(lambda: script not in world.tui.askers() and not running(script), world.shown)
        await world.press("1")
        await world.turn_ended()
    assert (world.made("first"), world.made("second")) == (True, True)
    assert "PermissionRequest hook" not in world.shown()


@pytest.mark.soak
async def test_the_person_and_the_hook_at_once_make_one_answer(world: World) -> None:
    """Whichever was first: the tool ran or was refused, and the other answer changed nothing."""
    session = Recorder()
    async with world.listening(session):
        await world.tui.start()
        for number in range(4):
            name, ran = f"made-{number}", len(session.named("PostToolUse"))
            await world.ask_for(name)
            await until(lambda n=number: len(session.questions) == n + 1)
            question = list(session.questions.values())[-1]
            if number % 2:
                question.set_result(DENY)
            world.tui.key("1")
            if not question.done():
                question.set_result(DENY)
            await world.turn_ended()
            await until(lambda: not world.tui.askers(), world.shown)
            assert len(session.named("Stop")) == number + 1
            assert world.made(name) == (len(session.named("PostToolUse")) > ran)
            world.tui.key("C-u")  # a key that came too late stands in the box


async def test_questions_open_at_once_are_told_apart(world: World) -> None:
    """Tools that only read are asked for together: the dialogs wait in line, and each has its own script."""
    session = Recorder()
    files = [world.state_dir / name for name in ("one", "two", "three")]
    for file in files:
        file.write_text("something")
    async with world.listening(session):
        await world.tui.start()
        await world.tui.prompt(tools=[["Read", {"file_path": str(file)}] for file in files], text="done")
        await until(lambda: len(session.questions) == len(files), world.shown)
        await world.dialog()
        read = []
        for request in reversed(session.questions):
            session.questions[request].set_result(ALLOW)
            read.append(session.events[request]["tool_input"]["file_path"])
            await until(lambda: len(session.named("PostToolUse")) == len(read), world.shown)
        await world.turn_ended()
    assert [event["tool_input"]["file_path"] for event in session.named("PostToolUse")] == read
    assert sorted(read) == sorted(map(str, files))


async def test_escape_withdraws_the_question(world: World) -> None:
    """The CLI ends the script, which says so: no other hook tells of an interrupt."""
    session = Recorder()
    async with world.listening(session):
        await world.tui.start()
        await world.ask_for("made")
        request = await one_question(session)
        await world.press("Escape")
        await until(lambda: session.gone == [request], world.shown)
        await until(lambda: not world.tui.askers(), world.shown)
    assert not world.made("made")


async def test_a_killed_cli_leaves_no_script(world: World) -> None:
    """And its question is withdrawn."""
    session = Recorder()
    async with world.listening(session):
        await world.tui.start()
        await world.ask_for("made")
        request = await one_question(session)
        scripts = descendants(world.tui.pid)
        assert scripts
        world.tui.kill()
        await until(lambda: not any(map(running, scripts)))
        assert session.gone == [request]


def descendants(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found += [child, *descendants(child)]
    return found
