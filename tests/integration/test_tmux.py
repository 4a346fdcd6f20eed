"""`Tmux` on a server of its own: exact targets, keys as they are, a pane that is started again.

`CLAUDE_BRIDGE_TEST_TMUX` names another tmux than the one on PATH, so that more than one version can be tried.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import signal
import struct
import subprocess
import termios
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from bridge.config import TmuxConfig
from bridge.drill.stage import remove_socket
from bridge.errors import TmuxError
from bridge.sessions.tmux import GENERATION, OWNER, Pane, Tmux, state_id

pytestmark = pytest.mark.real

WAIT_S = 60
BINARY = os.environ.get("CLAUDE_BRIDGE_TEST_TMUX")
AWKWARD = [
    *(
        "",
        " ",
        "a b",
        ";",
        "a;",
        "a\\;",
        "\\;",
        "\\",
        "'",
        '"',
        "$HOME",
        "${HOME}",
        "~",
        "~root",
        "{",
        "}",
        "{}",
        "%if",
    ),
    *(
        "#{pane_id}",
        "#(echo)",
        "#",
        "# x",
        "-x",
        "--",
        "a\nb",
        "\n",
        "tab\there",
        "é 世界 🙂",
        "\x1b[201~",
        "\x7f",
    ),
    *("`id`", "A=b", "\\n\\101", "!", "%end 1 1 1", "\r"),
]


@pytest.fixture
async def alone() -> AsyncIterator[Tmux]:
    """No server runs yet."""
    tmux = Tmux(f"test-{uuid.uuid4().hex[:12]}", TmuxConfig(path=Path(BINARY) if BINARY else None))
    yield tmux
    await tmux.kill_server()
    remove_socket(tmux.socket)


@pytest.fixture(params=["by a process each", "through the connection"])
async def tmux(alone: Tmux, request: pytest.FixtureRequest) -> Tmux:
    """Callers cannot tell: everything is tried both ways."""
    await alone.new_session("keeper", ("sleep", "600"), {OWNER: "keeper"})
    if request.param == "by a process each":
        await alone.close()
    await alone.panes()
    if request.param == "through the connection" and not alone.connected:
        assert alone.version_now().startswith("tmux 3.2")
        pytest.skip("no connection before tmux 3.3")
    return alone


class Person:
    """Somebody attached, with a terminal of 100 by 30."""

    def __init__(self, command: list[str]) -> None:
        self._fd, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        environ = {"PATH": os.environ["PATH"], "TERM": "xterm", "LANG": "C.UTF-8"}
        self._client = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env=environ, start_new_session=True
        )
        os.close(theirs)
        os.set_blocking(self._fd, False)
        asyncio.get_running_loop().add_reader(self._fd, self._look)

    def _look(self) -> None:
        try:
            os.read(self._fd, 65536)
        except OSError:  # the client has gone
            asyncio.get_running_loop().remove_reader(self._fd)

    @property
    def attached(self) -> bool:
        return self._client.poll() is None

    def press(self, keys: bytes) -> None:
        os.write(self._fd, keys)

    def leave(self) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)
        self._client.terminate()
        self._client.wait(WAIT_S)
        os.close(self._fd)


@contextlib.contextmanager
def attached(tmux: Tmux, session: str) -> Iterator[Person]:
    person = Person(tmux.attach_command(session).split())
    try:
        yield person
    finally:
        person.leave()


async def until(ask: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not await ask():  # noqa: ASYNC110  (tmux tells nobody)
            await asyncio.sleep(0.01)


class Typist:
    """A session whose pane writes every byte that it is typed to a file."""

    def __init__(self, tmux: Tmux, session: str, folder: Path) -> None:
        self._tmux, self.session, self._got = tmux, session, folder / f"{session}.got"

    @property
    def command(self) -> tuple[str, ...]:
        return (
            "/bin/sh",
            "-c",
            'stty raw -echo && : > "$1" && echo ready && exec cat >> "$1"',
            "-",
            str(self._got),
        )

    async def start(self) -> Pane:
        pane = await self._tmux.new_session(self.session, self.command, {OWNER: "me"})
        await self.ready()
        return pane

    async def ready(self) -> None:
        async def is_there() -> bool:
            return self._got.exists() and "ready" in await self._tmux.capture(self.session)

        await until(is_there)

    def forget(self) -> None:
        self._got.unlink(missing_ok=True)

    def got(self) -> bytes:
        return self._got.read_bytes()

    async def gets(self, data: bytes) -> None:
        async def has_it() -> bool:
            return len(self.got()) >= len(data)

        with contextlib.suppress(TimeoutError):
            await until(has_it)
        assert self.got() == data


def arguments_to(file: Path) -> tuple[str, ...]:
    """A command that writes its further arguments to a file, and stays."""
    script = 'f=$1; shift; printf "%s\\0" "$@" > "$f.part"; mv "$f.part" "$f"; exec sleep 600'
    return ("/bin/sh", "-c", script, "-", str(file))


async def arguments_in(file: Path) -> list[str]:
    async def is_there() -> bool:
        return file.exists()

    await until(is_there)
    return file.read_bytes().decode().split("\0")[:-1]


async def ended(tmux: Tmux, session: str) -> Pane:
    async def is_dead() -> bool:
        (pane,) = await tmux.panes(session)
        os.kill(pane.server_pid, signal.SIGCHLD)  # it misses one now and then
        return pane.exit_code is not None

    await until(is_dead)
    (pane,) = await tmux.panes(session)
    return pane


async def test_nothing_is_there_where_no_server_runs(alone: Tmux) -> None:
    """And asking starts none."""
    assert await alone.panes() == []
    assert await alone.panes("claude_a") == []
    assert await alone.typed_at("claude_a") is None
    assert await alone.capture("claude_a") == []
    await alone.kill_session("claude_a")
    for refused in (alone.send_keys("claude_a", "Enter"), alone.respawn("claude_a", ("true",), {})):
        with pytest.raises(TmuxError):
            await refused
    assert not Path(f"/tmp/tmux-{os.getuid()}/{alone.socket}").exists()


@pytest.mark.parametrize(("there", "meant"), [("claude_ab", "claude_a"), ("claude_a", "claude_ab")])
async def test_a_name_never_means_another_session(tmux: Tmux, tmp_path: Path, there: str, meant: str) -> None:
    """tmux itself takes the beginning of a name for the name."""
    typist = Typist(tmux, there, tmp_path)
    pane = await typist.start()
    for _ in range(3):
        assert await tmux.panes(meant) == []
        assert await tmux.capture(meant) == []
        assert await tmux.typed_at(meant) is None
        await tmux.kill_session(meant)
        with pytest.raises(TmuxError):
            await tmux.send_keys(meant, "x")
        with pytest.raises(TmuxError):
            await tmux.respawn(meant, ("true",), {})
    await tmux.send_keys(there, "y")
    await typist.gets(b"y")
    assert [p.pid for p in await tmux.panes(there)] == [pane.pid]


async def test_text_is_typed_as_it_stands(tmux: Tmux, tmp_path: Path) -> None:
    """Also where it looks like an option, the name of a key, a format or the end of a command."""
    typist = Typist(tmux, "claude_a", tmp_path)
    await typist.start()
    sent = [
        "Enter",
        "C-g",
        "-l",
        "--",
        "-t=claude_b",
        ";",
        "a;",
        "a\\;",
        "#{pane_id}",
        "$HOME",
        "~",
        "é 世界",
    ]
    for text in sent:
        await tmux.send_keys("claude_a", text, literal=True)
    await tmux.send_keys("claude_a", *sent, literal=True)
    await typist.gets("".join(sent * 2).encode())


async def test_keys_go_by_their_names(tmux: Tmux, tmp_path: Path) -> None:
    typist = Typist(tmux, "claude_a", tmp_path)
    await typist.start()
    await tmux.send_keys("claude_a", "C-g", "Escape", "-x", "Enter", ";", "Up")
    await tmux.send_keys("claude_a")
    await typist.gets(b"\x07\x1b-x\r;\x1b[A")


async def test_keys_never_reach_a_pane_that_a_person_opened(tmux: Tmux, tmp_path: Path) -> None:
    """Theirs is the active one, and may be a shell; it is not taken for the session's process either."""
    typist = Typist(tmux, "claude_a", tmp_path)
    ours = await typist.start()
    theirs = Typist(tmux, "theirs", tmp_path)
    for opened in ("split-window", "new-window"):
        tmux_by_hand(tmux, opened, "-t", "=claude_a:", *theirs.command)
    assert [p.id for p in await tmux.panes("claude_a")] == [ours.id]
    assert [p.id for p in await tmux.panes() if p.session != "keeper"] == [ours.id]
    await tmux.send_keys("claude_a", "x")
    await typist.gets(b"x")
    typist.forget()
    again = await tmux.respawn("claude_a", typist.command, {})
    assert await tmux.panes("claude_a") == [again]
    there = tmux_by_hand(tmux, "list-panes", "-s", "-t", "=claude_a:", "-F", "#{window_index} #{pane_index}")
    assert there == "0 0\n0 1\n1 0\n", "theirs stay, and ours is where it was"
    await typist.ready()
    await tmux.send_keys("claude_a", "y")
    await typist.gets(b"y")
    tmux_by_hand(tmux, "kill-pane", "-t", again.id)
    assert await tmux.panes("claude_a") == []
    with pytest.raises(TmuxError):
        await tmux.send_keys("claude_a", "x")


async def test_keys_reach_the_process_while_a_person_scrolls(tmux: Tmux, tmp_path: Path) -> None:
    """In copy mode they would move the view, and be lost."""
    typist = Typist(tmux, "claude_a", tmp_path)
    await typist.start()
    tmux_by_hand(tmux, "copy-mode", "-t", "=claude_a:")
    await tmux.send_keys("claude_a", "x", "Enter")
    await typist.gets(b"x\r")


async def test_keys_for_a_process_that_has_ended_are_refused(tmux: Tmux) -> None:
    """tmux drops them and says nothing."""
    await tmux.new_session("claude_a", ("/bin/sh", "-c", "exit 3"), {})
    assert (await ended(tmux, "claude_a")).exit_code == 3
    with pytest.raises(TmuxError, match="Nothing runs"):
        await tmux.send_keys("claude_a", "x")


async def test_a_process_that_a_signal_ended_says_so(tmux: Tmux) -> None:
    if tuple(tmux.version_now().split()[-1][:3]) == tuple("3.2"):
        pytest.skip("tmux tells it from 3.3 on")
    pane = await tmux.new_session("claude_a", ("sleep", "600"), {})
    os.kill(pane.pid, signal.SIGKILL)
    assert (await ended(tmux, "claude_a")).exit_code == -signal.SIGKILL


async def test_a_pane_is_started_again_in_its_place(tmux: Tmux, tmp_path: Path) -> None:
    """Dead or alive: with the new options, in the place of the old, the arguments as they stand."""
    first = await tmux.new_session("claude_a", ("/bin/sh", "-c", "exit 3"), {OWNER: "me", GENERATION: "1"})
    await ended(tmux, "claude_a")
    for n in (2, 3):
        file = tmp_path / str(n)
        again = await tmux.respawn("claude_a", (*arguments_to(file), *AWKWARD), {GENERATION: str(n)})
        assert await arguments_in(file) == AWKWARD
        assert (again.owner, again.generation) == ("me", n)
        size = ("display-message", "-p", "-t", "=claude_a:", "#{window_index} #{pane_width} #{pane_height}")
        assert tmux_by_hand(tmux, *size) == "0 220 50\n"
        assert not again.dead
        assert again.exit_code is None
        assert await tmux.panes("claude_a") == [again]
        os.kill(again.pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(first.pid, 0)


async def test_a_session_is_started_with_its_arguments_and_options_as_they_stand(
    tmux: Tmux, tmp_path: Path
) -> None:
    folders = [*(tmp_path / value for value in AWKWARD), Path(os.fsdecode(b"/\xff\xc3")), Path("/\x85\u2028")]
    for n, folder in enumerate(folders):
        pane = await tmux.new_session(f"s{n}", ("sleep", "600"), {OWNER: state_id(folder)})
        assert pane.owner == state_id(folder)
    assert len(set(map(state_id, folders))) == len({folder.resolve() for folder in folders})
    assert state_id(Path("/home/é/.local/a-b_c (1)")) == "/home/é/.local/a-b_c (1)"
    await tmux.new_session("claude_a", (*arguments_to(tmp_path / "got"), *AWKWARD), {})
    assert await arguments_in(tmp_path / "got") == AWKWARD


async def test_people_stay_attached_while_the_pane_is_started_again(tmux: Tmux, tmp_path: Path) -> None:
    typist = Typist(tmux, "claude_a", tmp_path)
    await typist.start()
    with attached(tmux, "claude_a") as person:
        await until(lambda: someone(tmux, "claude_a"))
        await tmux.respawn("claude_a", typist.command, {})
        await typist.ready()
        person.press(b"hello")
        await typist.gets(b"hello")
        assert person.attached


async def test_it_is_known_when_somebody_typed(tmux: Tmux, tmp_path: Path) -> None:
    """In that session, and only as long as they are attached."""
    typist = Typist(tmux, "claude_a", tmp_path)
    await typist.start()
    await Typist(tmux, "claude_ab", tmp_path).start()
    assert await tmux.typed_at("claude_a") is None
    with attached(tmux, "claude_a") as person:
        await until(lambda: someone(tmux, "claude_a"))
        began = await tmux.typed_at("claude_a")
        assert began is not None

        async def later() -> bool:
            person.press(b"x")
            at = await tmux.typed_at("claude_a")
            return at is not None and at > began

        await until(later)
        assert abs(time.time() - (await tmux.typed_at("claude_a") or 0)) < WAIT_S
        assert await tmux.typed_at("claude_ab") is None
    await until(lambda: nobody(tmux, "claude_a"))


async def test_who_is_attached_to_another_session_is_not_attached_to_this(tmux: Tmux) -> None:
    """Whose name begins like that one's."""
    await tmux.new_session("claude_ab", ("sleep", "600"), {})
    with attached(tmux, "claude_ab"):
        await until(lambda: someone(tmux, "claude_ab"))
        assert await tmux.typed_at("claude_a") is None


async def test_a_locale_without_utf8_loses_nothing(tmux: Tmux, tmp_path: Path) -> None:
    """tmux would put underscores for tabs and for letters of other languages."""
    poor = Tmux(
        tmux.socket,
        TmuxConfig(path=Path(BINARY) if BINARY else None),
        {"PATH": os.environ["PATH"], "LANG": "C"},
    )
    pane = await poor.new_session(
        "claude_a", ("/bin/sh", "-c", "echo é世界; exec sleep 600"), {OWNER: "/home/é"}
    )
    assert pane.owner == "/home/é"

    async def is_shown() -> bool:
        return (await poor.capture("claude_a"))[0] == "é世界"

    await until(is_shown)


async def test_a_refusal_says_nothing_about_what_lives(tmux: Tmux) -> None:
    """Only tmux's own words for absence mean it."""
    await tmux.new_session("claude_a", ("sleep", "600"), {})
    with pytest.raises(TmuxError, match="duplicate session"):
        await tmux.new_session("claude_a", ("sleep", "600"), {})
    with pytest.raises(TmuxError, match="no-such-option"):
        await tmux.respawn("claude_a", ("sleep", "600"), {"no-such-option": "x"})


async def someone(tmux: Tmux, session: str) -> bool:
    return await tmux.typed_at(session) is not None


async def nobody(tmux: Tmux, session: str) -> bool:
    return await tmux.typed_at(session) is None


def tmux_by_hand(tmux: Tmux, *words: str) -> str:
    done = subprocess.run(
        [BINARY or "tmux", "-L", tmux.socket, *words],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=True,
    )
    return done.stdout
