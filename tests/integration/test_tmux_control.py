"""The connection for commands, and what happens to calls when it ends, hangs, or cannot be had."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.config import TmuxConfig
from bridge.drill.stage import remove_socket
from bridge.errors import TmuxError
from bridge.sessions import tmux_control
from bridge.sessions.tmux import CONTROL_VERSION, OWNER, Tmux, parse_version
from bridge.sessions.tmux_control import ControlClient, Hung, Noticed, Paused, Refused

pytestmark = pytest.mark.real

WAIT_S = 60
BINARY = os.environ.get("CLAUDE_BRIDGE_TEST_TMUX") or shutil.which("tmux") or "tmux"
SLEEP = ("sleep", "600")


@pytest.fixture
async def tmux() -> AsyncIterator[Tmux]:
    """A server with the sessions a and b, and a connection to it."""
    tmux = Tmux(f"test-{uuid.uuid4().hex[:12]}", TmuxConfig(path=Path(BINARY)))
    if (parse_version(tmux.version_now()) or (0, 0)) < CONTROL_VERSION:
        pytest.skip("too old for a connection")
    for name in "ab":
        await tmux.new_session(name, SLEEP, {OWNER: "me"})
    await connected(tmux)
    yield tmux
    await tmux.kill_server()
    remove_socket(tmux.socket)


@pytest.fixture
async def client(tmux: Tmux) -> AsyncIterator[ControlClient]:
    client = await ControlClient.open(words(tmux), "a", environ())
    yield client
    await client.close()


def words(tmux: Tmux) -> list[str]:
    return [BINARY, "-u", "-L", tmux.socket, "-f", "/dev/null"]


def environ() -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}


def by_hand(tmux: Tmux, *command: str) -> str:
    done = subprocess.run(
        [*words(tmux), *command], capture_output=True, text=True, timeout=WAIT_S, check=True, env=environ()
    )
    return done.stdout


async def connected(tmux: Tmux) -> None:
    """What was found by the first call lets the second connect."""
    await tmux.panes()
    await tmux.panes()
    assert tmux.connected


async def test_of_many_that_ask_at_once_the_first_connects_for_all(
    tmux: Tmux, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bridge that comes back asks for each of its sessions. Where nothing runs there is no connection."""
    fresh = Tmux(tmux.socket, TmuxConfig(path=Path(BINARY)))
    nobody = Tmux(f"{tmux.socket}-x", TmuxConfig(path=Path(BINARY)))
    processes: list[tuple[str, ...]] = []
    start = fresh._start
    monkeypatch.setattr(fresh, "_start", lambda *command: (processes.append(command), start(*command))[1])

    async def look(at: Tmux) -> int:
        await at.connect()
        return len(await at.panes("a"))

    assert await asyncio.gather(*(look(fresh) for _ in range(20))) == [1] * 20
    assert (fresh.connected, len(processes)) == (True, 1)
    assert await look(nobody) == 0
    assert not nobody.connected
    await fresh.close()


async def until(ask: Callable[[], object]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not ask():  # noqa: ASYNC110  (nothing tells)
            await asyncio.sleep(0.01)


def clients(tmux: Tmux) -> list[int]:
    return [int(pid) for pid in by_hand(tmux, "list-clients", "-F", "#{client_pid}").split()]


async def server_of(tmux: Tmux) -> int:
    (server,) = {pane.server_pid for pane in await tmux.panes()}
    return server


def children() -> set[str]:
    """Of this thread."""
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


def is_there(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


# --- commands -------------------------------------------------------------------------------------


any_text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)


async def arrives(client: ControlClient, text: str, saved: Path) -> None:
    await client.commands(("set-buffer", "-b", "x", "--", text), ("save-buffer", "-b", "x", str(saved)))
    assert saved.read_bytes() == text.encode()


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=any_text)
async def test_what_arrives_is_what_was_sent(client: ControlClient, tmp_path: Path, text: str) -> None:
    """Every text that an argument can hold: nothing of it is tmux's language."""
    await arrives(client, text, tmp_path / "saved")


async def test_long_and_awkward_arguments_arrive(client: ControlClient, tmp_path: Path) -> None:
    """Longer than tmux takes on its command line, and than a pipe holds."""
    awkward = "$HOME ~ #{pid} #(id) ; } {'\"\\n"
    for text in ("a" * 200_000, "é\n" * 50_000, "".join(map(chr, range(1, 256))), awkward):
        await arrives(client, text, tmp_path / "saved")


async def test_answers_go_to_who_asked(client: ControlClient) -> None:
    """Many at once, some refused."""

    async def ask(n: int) -> None:
        if n % 3 == 0:
            with pytest.raises(Refused, match=f"can't find session: no{n}$"):
                await client.command("kill-session", "-t", f"=no{n}")
        else:
            said = await client.commands(("display-message", "-p", f"{n}"), ("display-message", "-p", "and"))
            assert said == [str(n), "and"]

    async with asyncio.TaskGroup() as group:
        for n in range(300):
            group.create_task(ask(n))


async def test_what_follows_a_refused_command_is_not_run(client: ControlClient) -> None:
    with pytest.raises(Refused):
        await client.commands(("display-message", "-p", "1"), ("kill-session", "-t", "=no"), ("kill-server",))
    with pytest.raises(Refused, match="unknown command: nonsense"):
        await client.commands(("kill-server",), ("nonsense",))
    assert await client.command("display-message", "-p", "still here") == ["still here"]


async def test_a_screen_that_looks_like_an_answer_is_none(tmux: Tmux, client: ControlClient) -> None:
    lines = [f"%{what} {int(time.time())} {n} 1" for what in ("end", "error") for n in range(300, 320)]
    await tmux.new_session("liar", ("/bin/sh", "-c", 'printf "%s\\n" "$@"; exec sleep 600', "-", *lines), {})
    while lines[-1] not in (screen := await tmux.capture("liar")):  # noqa: ASYNC110  (nothing tells)
        await asyncio.sleep(0.01)
    assert screen[: len(lines)] == lines
    assert tmux.connected


async def test_cancelling_waits_for_the_answer(tmux: Tmux, client: ControlClient) -> None:
    """So that whoever comes next finds tmux as the command left it."""
    server = await server_of(tmux)
    os.kill(server, signal.SIGSTOP)
    try:
        task = asyncio.ensure_future(client.command("set-option", "-s", "@x", "done"))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0.1)  # long enough for one that does not wait
        assert not task.done()
    finally:
        os.kill(server, signal.SIGCONT)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert by_hand(tmux, "show-options", "-sv", "@x") == "done\n"


# --- what it must not do --------------------------------------------------------------------------


async def test_it_is_no_person_and_changes_no_size(tmux: Tmux) -> None:
    def size() -> str:
        return by_hand(tmux, "display-message", "-p", "-t", "=a:", "#{window_width} #{window_height}")

    before = size()
    client = await ControlClient.open(words(tmux), "a", environ())
    assert len(clients(tmux)) == 2
    assert await tmux.typed_at("a") is None
    assert size() == before == "220 50\n"
    await client.close()
    assert size() == before


async def test_it_starts_no_server_and_keeps_none(tmux: Tmux) -> None:
    nobody = Tmux(f"{tmux.socket}-x", TmuxConfig(path=Path(BINARY)))
    with pytest.raises(Refused, match="No such file"):
        await ControlClient.open(words(nobody), "a", environ())
    assert not Path(f"/tmp/tmux-{os.getuid()}/{nobody.socket}").exists()
    by_hand(tmux, "set-option", "-s", "exit-empty", "on")
    server = await server_of(tmux)
    for name in "ab":
        await tmux.kill_session(name)
    await until(lambda: not is_there(server))
    assert await tmux.panes() == []


async def test_nothing_is_left_of_it_when_it_is_closed(tmux: Tmux, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes by itself, without being killed."""
    monkeypatch.setattr("bridge.sessions.tmux_control.CLOSE_S", 10 * WAIT_S)
    client = await ControlClient.open(words(tmux), "a", environ())
    assert client.pid in clients(tmux)
    await client.close()
    await client.close()
    assert not Path(f"/proc/{client.pid}").exists()
    with pytest.raises(TmuxError):
        await client.command("list-panes")
    await tmux.close()
    await until(lambda: clients(tmux) == [])
    assert len(await tmux.panes()) == 2
    assert not tmux.connected


async def test_nothing_is_left_where_there_is_no_such_session(tmux: Tmux) -> None:
    """And the beginning of a name is not the name."""
    before = clients(tmux)
    await tmux.new_session("claude_ab", SLEEP, {})
    with pytest.raises(Refused, match="can't find session"):
        await ControlClient.open(words(tmux), "claude_a", environ())
    assert clients(tmux) == before


async def test_nothing_is_left_where_it_is_cancelled_before_it_stands(tmux: Tmux) -> None:
    """Nor does the server die of one that went away half introduced."""
    server, before = await server_of(tmux), children()
    os.kill(server, signal.SIGSTOP)
    try:
        task = asyncio.ensure_future(ControlClient.open(words(tmux), "a", environ()))
        await until(lambda: children() != before)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert children() == before
    finally:
        os.kill(server, signal.SIGCONT)
    assert await server_of(tmux) == server


async def test_nothing_is_left_of_it_when_its_server_is_ended(tmux: Tmux) -> None:
    (pid,) = clients(tmux)
    await tmux.kill_server()
    assert not Path(f"/proc/{pid}").exists()


async def test_it_goes_with_its_bridge(tmux: Tmux) -> None:
    """Also where the bridge was killed and could say nothing."""
    script = (
        "import asyncio, sys; from bridge.sessions.tmux_control import ControlClient\n"
        "async def main():\n"
        f"    client = await ControlClient.open({words(tmux)!r}, 'a', {environ()!r})\n"
        "    print(client.pid, flush=True); await client.ended()\n"
        "asyncio.run(main())"
    )
    bridge = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert bridge.stdout is not None
    pid = int(bridge.stdout.readline())
    assert pid in clients(tmux)
    bridge.kill()
    bridge.communicate()
    await until(lambda: not is_there(pid) and pid not in clients(tmux))


async def test_one_that_is_lost_ends_without_a_word(tmux: Tmux) -> None:
    async def lose() -> int:
        return (await ControlClient.open(words(tmux), "a", environ())).pid

    loop = asyncio.new_event_loop()
    pid = await asyncio.to_thread(loop.run_until_complete, lose())
    loop.close()
    gc.collect()
    await until(lambda: not is_there(pid))


# --- when it ends, and calls go on ----------------------------------------------------------------


async def test_calls_go_on_when_the_session_of_the_connection_is_killed(tmux: Tmux) -> None:
    """And no server dies of it, however often."""
    server = await server_of(tmux)
    for n in range(30):
        await tmux.new_session(f"s{n}", SLEEP, {OWNER: "me"})
        for name in ("a", "b", f"s{n - 1}") if n == 0 else (f"s{n - 1}",):
            await tmux.kill_session(name)
        assert [pane.session for pane in await tmux.panes()] == [f"s{n}"]
        assert len(await tmux.panes(f"s{n}")) == 1
    await connected(tmux)
    assert await server_of(tmux) == server
    assert len(clients(tmux)) == 1


async def test_the_last_session_may_go(tmux: Tmux) -> None:
    for name in "ab":
        await tmux.kill_session(name)
    assert await tmux.panes() == []
    assert await tmux.panes("a") == []
    await tmux.new_session("c", SLEEP, {OWNER: "me"})
    await connected(tmux)
    assert len(await tmux.panes()) == 1


async def test_many_calls_meet_one_connection_that_is_being_made(tmux: Tmux) -> None:
    """Sessions come and go meanwhile: a tmux before 3.7 would die of meeting them half introduced."""
    server = await server_of(tmux)

    async def churn(n: int) -> None:
        for _ in range(5):
            await tmux.new_session(f"s{n}", SLEEP, {OWNER: "me"})
            watching = await tmux.watch(f"s{n}", lambda pane, data: None)
            assert len(await tmux.panes(f"s{n}")) == 1
            await tmux.kill_session(f"s{n}")
            await watching.close()

    async with asyncio.TaskGroup() as group:
        for n in range(8):
            group.create_task(churn(n))
    assert await server_of(tmux) == server
    assert sorted(pane.session for pane in await tmux.panes()) == ["a", "b"]


async def test_a_killed_connection_is_made_again(tmux: Tmux) -> None:
    (pid,) = clients(tmux)
    os.kill(pid, signal.SIGKILL)
    await until(lambda: not tmux.connected)
    await connected(tmux)
    (again,) = clients(tmux)
    assert again != pid


async def test_a_killed_server_is_no_server(tmux: Tmux) -> None:
    server = await server_of(tmux)
    os.kill(server, signal.SIGKILL)
    await until(lambda: not is_there(server))
    assert await tmux.panes() == []
    with pytest.raises(TmuxError):
        await tmux.send_keys("a", "x")


async def test_what_cannot_be_repeated_is_not(tmux: Tmux, client: ControlClient) -> None:
    """The connection ends before the answer: a question is asked again, but keys may have arrived."""
    server = await server_of(tmux)
    ours = next(pid for pid in clients(tmux) if pid != client.pid)
    target = await tmux._target("a")
    os.kill(server, signal.SIGSTOP)
    try:
        async with asyncio.TaskGroup() as group:
            asked = group.create_task(tmux._ask(("list-panes", "-a", "-F", "#{session_name}")))
            keys = group.create_task(refused(tmux._ask(("send-keys", "-t", target, "x"), twice=False)))
            await asyncio.sleep(0.1)  # both are written; nothing tells
            os.kill(ours, signal.SIGKILL)
            await keys
            os.kill(server, signal.SIGCONT)
            assert await asked == ["a", "b"]
    finally:
        os.kill(server, signal.SIGCONT)


async def refused(call: object) -> None:
    with pytest.raises(tmux_control.Disconnected):
        await call  # type: ignore[misc]


async def test_a_tmux_that_hangs_says_nothing_about_what_lives(
    tmux: Tmux, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither through the connection nor by a process. Then no connection is tried for a while."""
    server = await server_of(tmux)
    other = Tmux(tmux.socket, TmuxConfig(path=Path(BINARY)))
    monkeypatch.setattr("bridge.sessions.tmux.CALL_S", 0.5)
    monkeypatch.setattr("bridge.sessions.tmux_control.CALL_S", 0.5)
    os.kill(server, signal.SIGSTOP)
    try:
        with pytest.raises(Hung):
            await tmux.panes()
        with pytest.raises(TmuxError):
            await other.panes("a")
    finally:
        os.kill(server, signal.SIGCONT)
    monkeypatch.undo()
    for _ in range(3):
        assert len(await tmux.panes()) == 2
        assert not tmux.connected


async def test_a_tmux_whose_control_mode_is_not_understood_is_asked_by_processes(
    tmux: Tmux, tmp_path: Path
) -> None:
    strange = tmp_path / "tmux"
    strange.write_text(
        f'#!/bin/sh\nfor word; do [ "$word" = -C ] && echo tried >> {tmp_path}/tried && '
        f'{{ echo "%end 1 1 1"; exec cat; }}; done\nexec {BINARY} "$@"\n'
    )
    strange.chmod(0o755)
    other = Tmux(tmux.socket, TmuxConfig(path=strange))
    for _ in range(4):
        assert len(await other.panes()) == 2
        assert not other.connected
    await other.send_keys("a", "x")
    assert (tmp_path / "tried").read_text() == "tried\n"


async def test_an_old_tmux_is_asked_by_processes(tmux: Tmux, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its windows would take the size of the connection, which has none."""
    monkeypatch.setattr("bridge.sessions.tmux.CONTROL_VERSION", (99, 0))
    other = Tmux(tmux.socket, TmuxConfig(path=Path(BINARY)))
    for _ in range(3):
        assert len(await other.panes()) == 2
        assert not other.connected
    with pytest.raises(TmuxError, match="newer"):
        await other.watch("a", lambda pane, data: None)


# --- the screen of a session ----------------------------------------------------------------------


class Watch:
    """What a session's panes write."""

    def __init__(self) -> None:
        self.heard: dict[str, bytearray] = {}
        self.notices: list[Noticed] = []

    def output(self, pane: str, data: bytes) -> None:
        self.heard.setdefault(pane, bytearray()).extend(data)

    def notice(self, notice: Noticed) -> None:
        self.notices.append(notice)


async def test_what_a_pane_writes_is_heard_as_it_was_written(tmux: Tmux, tmp_path: Path) -> None:
    """Of that session alone, byte for byte."""
    written = bytes(c for c in range(256) if c != 10) * 20 + "世界 \\033 %end\r".encode()
    (tmp_path / "written").write_bytes(written)
    script = f"stty raw -echo; echo ready; head -c 1 > {tmp_path}/go; exec cat {tmp_path}/written -"
    pane = await tmux.new_session("c", ("/bin/sh", "-c", script), {})
    await tmux.new_session("d", ("/bin/sh", "-c", "while :; do echo noise; sleep 0.01; done"), {})
    while "ready" not in await tmux.capture("c"):  # noqa: ASYNC110  (nothing tells)
        await asyncio.sleep(0.01)
    watch = Watch()
    watching = await tmux.watch("c", watch.output, watch.notice)
    await tmux.send_keys("c", "x")
    await until(lambda: len(watch.heard.get(pane.id, b"")) >= len(written))
    assert watch.heard == {pane.id: bytearray(written)}
    await tmux.kill_session("c")
    await watching.ended()
    await watching.close()
    assert tmux_control.Exited("") in watch.notices


async def test_a_pane_that_writes_more_than_is_read_is_paused(tmux: Tmux) -> None:
    """And goes on when asked to: tmux does not keep what nobody reads."""
    await tmux.new_session("c", ("/bin/sh", "-c", "yes some more"), {})
    (pane,) = await tmux.panes("c")
    watch = Watch()
    watching = await tmux.watch("c", watch.output, watch.notice, "ignore-size,pause-after=1")
    await until(lambda: watch.heard)
    while Paused(pane.id) not in watch.notices:
        time.sleep(2.5)  # this loop reads nothing meanwhile
        await asyncio.sleep(0.05)
    await watching.resume(pane.id)
    before = len(watch.heard[pane.id])
    await until(lambda: len(watch.heard[pane.id]) > before)
    await watching.close()


async def test_no_server_dies_of_a_watcher_that_comes_and_goes(tmux: Tmux) -> None:
    """While the pane writes all the time, and is started again: a few dozen times were enough to kill it."""
    flood = ("/bin/sh", "-c", "yes")
    await tmux.new_session("c", flood, {})
    server = await server_of(tmux)
    for n in range(80):
        watch = Watch()
        watching = await tmux.watch("c", watch.output)
        await until(lambda watch=watch: watch.heard)  # type: ignore[misc]
        if n % 2:
            await tmux.respawn("c", flood, {})
        await watching.close()
    assert await server_of(tmux) == server
