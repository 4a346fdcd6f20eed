"""The listener for hooks: whose they are, in which order they come, and questions that stay open."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from structlog.testing import capture_logs

from bridge.errors import SetupError
from bridge.sessions.backends import hooks
from bridge.sessions.backends.hooks import HookServer

SECRET = "0123456789abcdef" * 4
OTHER = "fedcba9876543210" * 4
HEAD = f"POST /hook HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SECRET}\r\n"
WAIT_S = 60


class Recorder:
    """A receiver that remembers, and answers questions when the test does."""

    def __init__(self) -> None:
        self.hooks: list[dict[str, Any]] = []
        self.questions: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.gone: list[str] = []
        self.answer: dict[str, Any] = {}
        self.was_asked = asyncio.Event()

    def hook(self, event: dict[str, Any]) -> dict[str, Any]:
        self.hooks.append(event)
        return self.answer

    def asked(self, request: str, event: dict[str, Any]) -> asyncio.Future[dict[str, Any]]:
        self.events.append((request, event))
        self.was_asked.set()
        return self.questions.setdefault(request, asyncio.get_running_loop().create_future())

    def abandoned(self, request: str) -> None:
        self.gone.append(request)

    async def next_question(self) -> None:
        await asyncio.wait_for(self.was_asked.wait(), WAIT_S)
        self.was_asked.clear()


@contextlib.asynccontextmanager
async def serving(state_dir: Path) -> AsyncIterator[HookServer]:
    server = HookServer(state_dir)
    async with running(server):
        yield server


@contextlib.asynccontextmanager
async def running(server: HookServer) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        server.bind()  # as `serve` does; from here on nobody is refused
        task = group.create_task(server.serve())
        try:
            yield
        finally:
            task.cancel()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[HookServer]:
    async with serving(tmp_path) as server:
        yield server


@pytest.fixture
def session(server: HookServer) -> Recorder:
    recorder = Recorder()
    server.attach(SECRET, recorder)
    return recorder


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(WAIT_S)) as http:
        yield http


def bearer(secret: str = SECRET) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


async def post(
    http: aiohttp.ClientSession, url: str, body: object = None, headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    content = body if isinstance(body, bytes) else json.dumps({} if body is None else body).encode()
    async with http.post(url, data=content, headers=bearer() if headers is None else headers) as answer:
        text = await answer.read()
        return answer.status, json.loads(text) if text else None


def port_of(server: HookServer) -> int:
    return int(server.url.rpartition(":")[2])


# --- whose hook it is ---------------------------------------------------------------------------------


async def test_a_hook_reaches_its_session_and_is_answered(
    server: HookServer, session: Recorder, http: aiohttp.ClientSession
) -> None:
    """What the receiver returns is the body of the answer."""
    session.answer = {"decision": "block", "reason": "not now"}
    status, said = await post(http, f"{server.url}/hook", {"hook_event_name": "UserPromptSubmit"})
    assert (status, said) == (200, session.answer)
    assert session.hooks == [{"hook_event_name": "UserPromptSubmit"}]


async def test_a_secret_opens_one_session(
    server: HookServer, session: Recorder, http: aiohttp.ClientSession
) -> None:
    """Two sessions on one listener, each hears its own."""
    other = Recorder()
    server.attach(OTHER, other)
    await post(http, f"{server.url}/hook", {"n": 1}, bearer(OTHER))
    await post(http, f"{server.url}/hook", {"n": 2})
    assert (session.hooks, other.hooks) == ([{"n": 2}], [{"n": 1}])


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": SECRET},
        {"Authorization": "Bearer "},
        {"Authorization": f"Basic {SECRET}"},
        {"Authorization": f"Bearer {OTHER}"},
        {"Authorization": f"Bearer {SECRET[:-1]}"},
        {"Authorization": f"Bearer {SECRET}0"},
        {"Authorization": "Bearer \udce4\udcff"},
    ],
)
@pytest.mark.parametrize("path", ["/hook", "/ask/one", "/ask/one/gone"])
async def test_a_stranger_is_refused(
    path: str,
    headers: dict[str, str],
    server: HookServer,
    session: Recorder,
    http: aiohttp.ClientSession,
) -> None:
    """Without the exact secret nothing reaches a session, whatever is asked for."""
    status, _ = await post(http, server.url + path, {"n": 1}, headers)
    assert status == 401
    assert (session.hooks, session.events, session.gone) == ([], [], [])


async def test_a_detached_session_hears_nothing(
    server: HookServer, session: Recorder, http: aiohttp.ClientSession
) -> None:
    """Its secret is as good as unknown."""
    server.detach(SECRET)
    assert await post(http, f"{server.url}/hook") == (401, None)
    assert session.hooks == []


async def test_refusals_are_logged_once_in_a_while_without_the_secret(
    server: HookServer, http: aiohttp.ClientSession
) -> None:
    """A script that was left behind asks for as long as it lives."""
    with capture_logs() as lines:
        for _ in range(5):
            await post(http, f"{server.url}/hook", {"prompt": "private"}, bearer(OTHER))
    assert [line["event"] for line in lines] == ["hooks with an unknown secret were refused"]
    assert OTHER not in str(lines)
    assert "private" not in str(lines)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"text"', b"\xff", b"[" * 100_000])
@pytest.mark.parametrize("path", ["/hook", "/ask/one"])
async def test_a_body_that_is_no_object_is_refused(
    path: str, body: bytes, server: HookServer, session: Recorder, http: aiohttp.ClientSession
) -> None:
    """It comes from no CLI."""
    status, _ = await post(http, server.url + path, body)
    assert (status, session.hooks, session.events) == (400, [], [])


async def test_half_an_emoji_is_mended(
    server: HookServer, session: Recorder, http: aiohttp.ClientSession
) -> None:
    """The CLI cuts long results by UTF-16 units; what is left could be written nowhere."""
    await post(http, f"{server.url}/hook", b'{"cut": "ab\\ud83d", "whole": "\\ud83d\\ude00"}')
    assert session.hooks == [{"cut": "ab\ufffd", "whole": "\U0001f600"}]


async def test_a_large_result_is_taken_and_a_larger_one_refused(
    server: HookServer, session: Recorder, http: aiohttp.ClientSession
) -> None:
    """The bound is far above what a tool returns."""
    frame = len(b'{"t": ""}')
    exact = b'{"t": "' + b"x" * (hooks.BODY_BYTES - frame) + b'"}'
    for body, expected in ((exact, 200), (exact + b" ", 413)):
        async with http.post(f"{server.url}/hook", data=io.BytesIO(body), headers=bearer()) as answer:
            assert answer.status == expected
    assert len(session.hooks) == 1


async def test_hooks_keep_their_order_on_one_connection(
    server: HookServer, session: Recorder, http: aiohttp.ClientSession
) -> None:
    """A connection is kept, and a hook is taken when its body is there."""
    for n in range(50):
        await post(http, f"{server.url}/hook", {"n": n})
    assert [event["n"] for event in session.hooks] == list(range(50))


async def test_a_hook_counts_when_its_body_is_complete(server: HookServer, session: Recorder) -> None:
    """The one that began first and ended last is the later one."""
    slow_reader, slow = await asyncio.open_connection("127.0.0.1", port_of(server))
    slow.write(f'{HEAD}Content-Length: 9\r\n\r\n{{"n"'.encode())
    await slow.drain()
    fast_reader, fast = await asyncio.open_connection("127.0.0.1", port_of(server))
    fast.write(f'{HEAD}Content-Length: 9\r\n\r\n{{"n": 2 }}'.encode())
    assert (await fast_reader.readline()).startswith(b"HTTP/1.1 200")
    slow.write(b": 1 }")
    assert (await slow_reader.readline()).startswith(b"HTTP/1.1 200")
    assert session.hooks == [{"n": 2}, {"n": 1}]
    for writer in (slow, fast):
        writer.close()
        await writer.wait_closed()


async def test_a_hook_that_breaks_off_is_no_error(
    server: HookServer, session: Recorder, http: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    """The CLI was killed while it spoke."""
    _, writer = await asyncio.open_connection("127.0.0.1", port_of(server))
    writer.write(f'{HEAD}Content-Length: 100\r\n\r\n{{"n"'.encode())
    await writer.drain()
    await post(http, f"{server.url}/hook", {"n": 1})  # by now the first is being read
    writer.close()
    await writer.wait_closed()
    await post(http, f"{server.url}/hook", {"n": 2})
    assert session.hooks == [{"n": 1}, {"n": 2}]
    assert caplog.records == []


# --- questions ----------------------------------------------------------------------------------------


async def test_a_question_waits_for_its_answer(
    server: HookServer, session: Recorder, http: aiohttp.ClientSession
) -> None:
    """The answer is the body, as it is to be printed."""
    async with asyncio.TaskGroup() as group:
        asked = group.create_task(post(http, f"{server.url}/ask/one", {"tool_name": "Bash"}))
        await session.next_question()
        session.questions["one"].set_result({"hookSpecificOutput": {}})
    assert asked.result() == (200, {"hookSpecificOutput": {}})
    assert session.events == [("one", {"tool_name": "Bash"})]


async def test_a_question_without_an_answer_is_to_be_asked_again(
    server: HookServer, session: Recorder, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The poll ends, the question does not."""
    monkeypatch.setattr(hooks, "POLL_S", 0.0)
    assert await post(http, f"{server.url}/ask/one") == (204, None)
    assert not session.questions["one"].done()


async def test_an_answer_is_given_as_often_as_it_is_asked_for(
    server: HookServer, session: Recorder, http: aiohttp.ClientSession
) -> None:
    """The first time, its connection may have been lost."""
    async with asyncio.TaskGroup() as group:
        polls = []
        for _ in range(2):
            polls.append(group.create_task(post(http, f"{server.url}/ask/one")))
            await session.next_question()
        session.questions["one"].set_result({"a": 1})
    assert [poll.result() for poll in polls] == [(200, {"a": 1})] * 2
    assert await post(http, f"{server.url}/ask/one") == (200, {"a": 1})


async def test_a_client_that_goes_away_leaves_the_question_open(
    server: HookServer, session: Recorder, http: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    """It comes back; nothing is logged, and nothing is abandoned."""
    async with asyncio.TaskGroup() as group:
        lost = group.create_task(post(http, f"{server.url}/ask/one"))
        await session.next_question()
        lost.cancel()
    await post(http, f"{server.url}/hook")  # the listener has seen the loss
    assert not session.questions["one"].done()
    session.questions["one"].set_result({"a": 1})
    assert await post(http, f"{server.url}/ask/one") == (200, {"a": 1})
    assert (session.gone, caplog.records) == ([], [])


async def test_a_hook_that_gives_up_says_so(
    server: HookServer, session: Recorder, http: aiohttp.ClientSession
) -> None:
    """Also for an id nobody has heard of: the bridge may have started meanwhile."""
    assert await post(http, f"{server.url}/ask/one/gone", b"") == (204, None)
    assert session.gone == ["one"]


async def test_a_question_of_a_detached_session_is_to_be_asked_later(
    server: HookServer, session: Recorder, http: aiohttp.ClientSession
) -> None:
    """At once, and whoever held the future still holds it."""
    async with asyncio.TaskGroup() as group:
        asked = group.create_task(post(http, f"{server.url}/ask/one"))
        await session.next_question()
        server.detach(SECRET)
    assert asked.result() == (503, None)
    assert not session.questions["one"].done()


async def test_a_withdrawn_future_is_to_be_asked_later(
    server: HookServer, session: Recorder, http: aiohttp.ClientSession
) -> None:
    """Cancelled is not answered: the dialog is still open."""
    async with asyncio.TaskGroup() as group:
        asked = group.create_task(post(http, f"{server.url}/ask/one"))
        await session.next_question()
        session.questions["one"].cancel()
    assert asked.result() == (503, None)


# --- stopping and starting ----------------------------------------------------------------------------


async def test_stopping_lets_questions_go_at_once(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    """The one who asks is told to ask later, and the question stays."""
    session = Recorder()
    async with asyncio.TaskGroup() as group:
        async with serving(tmp_path) as server:
            server.attach(SECRET, session)
            asked = group.create_task(post(http, f"{server.url}/ask/one"))
            await session.next_question()
        assert asked.done(), "the listener ended before what it held"
    assert asked.result() == (503, None)
    assert not session.questions["one"].done()


async def test_a_listener_serves_again(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    """The supervisor starts it anew: same address, same sessions."""
    server, session = HookServer(tmp_path), Recorder()
    server.bind()
    server.attach(SECRET, session)
    url = server.url
    for n in range(2):
        async with running(server):
            assert (await post(http, f"{url}/hook", {"n": n}))[0] == 200
            async with asyncio.TaskGroup() as group:
                asked = group.create_task(post(http, f"{url}/ask/{n}"))
                await session.next_question()
                session.questions[str(n)].set_result({})
            assert asked.result() == (200, {})
    assert server.url == url
    assert session.hooks == [{"n": 0}, {"n": 1}]


async def test_hooks_wait_between_bind_and_serve(tmp_path: Path) -> None:
    """A CLI that lives does not see the start of the bridge as a failure."""
    server, session = HookServer(tmp_path), Recorder()
    server.bind()
    server.attach(SECRET, session)
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(server))
    writer.write(f"{HEAD}Content-Length: 2\r\n\r\n{{}}".encode())
    await writer.drain()
    async with running(server):
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.close()
        await writer.wait_closed()
    assert session.hooks == [{}]


# --- the port -----------------------------------------------------------------------------------------


def listeners_port(state_dir: Path) -> int:
    server = HookServer(state_dir)
    server.bind()
    server.close()
    return port_of(server)


def test_the_port_is_kept(tmp_path: Path) -> None:
    """A running CLI knows one address for as long as it lives."""
    assert listeners_port(tmp_path) == listeners_port(tmp_path)


def test_the_file_says_where_and_only_to_its_owner(tmp_path: Path) -> None:
    """The script that asks reads it at each attempt."""
    port = listeners_port(tmp_path)
    file = tmp_path / "hooks.json"
    assert json.loads(file.read_text()) == {"url": f"http://127.0.0.1:{port}", "port": port}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["hooks.json"]


def test_only_this_machine_is_listened_to(tmp_path: Path) -> None:
    """Hooks come from nowhere else."""
    server = HookServer(tmp_path)
    server.bind()
    assert server._socket is not None
    assert server._socket.getsockname()[0] == "127.0.0.1"
    server.close()


def test_a_lost_port_is_replaced_and_told(tmp_path: Path) -> None:
    """Somebody else took it; what runs asks them, so the log says it as an error."""
    port = listeners_port(tmp_path)
    with socket.create_server(("127.0.0.1", port)), capture_logs() as lines:
        other = listeners_port(tmp_path)
    assert other != port
    assert [(line["log_level"], line["port"]) for line in lines] == [("error", port)]
    assert json.loads((tmp_path / "hooks.json").read_text())["port"] == other


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"port": "x"}', b'{"port": 70000}', b'{"port": -1}', b"{}"]
)
def test_a_spoilt_file_is_written_anew(tmp_path: Path, content: bytes) -> None:
    """A file that says nothing is as none."""
    (tmp_path / "hooks.json").write_bytes(content)
    port = listeners_port(tmp_path)
    assert json.loads((tmp_path / "hooks.json").read_text())["port"] == port


def test_the_port_is_none_that_the_system_gives_away(tmp_path: Path) -> None:
    """An outgoing connection must not sit on it while the bridge is away."""
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    if low <= hooks.OWN_PORTS:
        pytest.skip("this machine gives away every port")
    assert hooks.OWN_PORTS <= listeners_port(tmp_path) < low


def test_a_folder_that_cannot_be_written_is_a_problem_of_the_set_up(tmp_path: Path) -> None:
    """Without the file no script would find the way back."""
    with pytest.raises(SetupError):
        HookServer(tmp_path / "missing").bind()
