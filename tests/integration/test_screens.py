"""Live screens of real panes: what a viewer was given, written to another terminal, gives tmux's own picture.

The other terminal is tmux as well, in a session of its own: it knows every sequence that a pane may use.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import random
import re
import shlex
import struct
import sys
import termios
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from bridge.config import TmuxConfig
from bridge.drill.stage import remove_socket
from bridge.screens import Hears, Screens
from bridge.sessions.pane_line import PaneLine
from bridge.sessions.tmux import CONTROL_VERSION, OWNER, Tmux, parse_version
from bridge.sessions.tmux_control import Paused
from bridge.supervision import Supervisor
from tests.fakes.screens import Watcher

pytestmark = pytest.mark.real

COLS, ROWS = 60, 20
WAIT_S = 60

SIZE = "#{window_width}x#{window_height}"
MODES = (
    "#{cursor_x},#{cursor_y} #{cursor_flag}#{insert_flag}#{keypad_flag}#{keypad_cursor_flag}#{wrap_flag}"
    "#{origin_flag} #{mouse_standard_flag}#{mouse_button_flag}#{mouse_all_flag}#{mouse_sgr_flag}"
    " #{scroll_region_upper}-#{scroll_region_lower} #{alternate_on}"
    "#{?alternate_on, #{alternate_saved_x}#,#{alternate_saved_y},}"
)

# Without wide characters: half overwritten they make lines that tmux has and no terminal can be made to show.
NOISE = r"""
import os, random, sys, time
chance = random.Random(int(sys.argv[1]))
os.system("stty -opost")
words = ["heron", "─═─", "grüße", "√x", "│─┐", "\x1b[31mred\x1b[m", "\x1b[1;44mbold\x1b[0m ", "x" * 60]
switches = [25, 1, 7, 1000, 1002, 1006, 1049]
copy = open(sys.argv[3], "wb", buffering=0)

def say(said):
    copy.write(said)
    sys.stdout.buffer.write(said)
    sys.stdout.buffer.flush()

for n in range(int(sys.argv[2])):
    said = b""
    for _ in range(chance.randrange(1, 60)):
        what = chance.random()
        if what < 0.5:
            said += ("%06d " % n + " ".join(chance.choices(words, k=chance.randrange(9))) + "\r\n").encode()
        elif what < 0.7:
            place = (chance.randrange(1, 21), chance.randrange(1, 61), n, chance.choice(words))
            said += ("\x1b[%d;%dH%d%s\x1b[K" % place).encode()
        elif what < 0.8:
            said += b"x" * chance.randrange(61)
        elif what < 0.85:
            said += b"\x1b[?%d%c" % (chance.choice(switches), chance.choice(b"hl"))
        elif what < 0.88:
            said += b"\x1b[%d;%dr" % (chance.randrange(1, 8), chance.randrange(10, 21))
        elif what < 0.9:
            said += chance.choice([b"\x1b[r", b"\x1b=", b"\x1b>", b"\x1b[2J"])
        elif what < 0.95:
            said += b"\x1b]0;a title %d\x07\x1b[44m\x1b[K\x1b[m" % n
        else:
            said += b"\x1b[%dA" % chance.randrange(1, 5)
    say(said)
    if chance.random() < 0.05:
        time.sleep(chance.random() / 100)
say(b"\x1b[r\x1b[HTHE END")
time.sleep(600)
"""


class Server:
    """A tmux server with one session of ours, which screens may be watched of."""

    def __init__(self, folder: Path) -> None:
        env = {"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8"}
        self.tmux = Tmux(f"test-{uuid.uuid4().hex[:12]}", TmuxConfig(width=COLS, height=ROWS), env)
        self.folder = folder
        self.env = {**env, "TERM": "xterm-256color"}
        self._made = 0

    async def ask(self, *words: str) -> str:
        command = ["tmux", "-u", "-L", self.tmux.socket, "-f", "/dev/null", *words]
        process = await asyncio.create_subprocess_exec(*command, env=self.env, stdout=asyncio.subprocess.PIPE)
        said, _ = await asyncio.wait_for(process.communicate(), WAIT_S)
        assert process.returncode == 0, words
        return said.decode().rstrip("\n")

    async def run(self, *command: str) -> None:
        await self.tmux.new_session("claude_a", command, {OWNER: "me"})

    async def show(self, data: bytes) -> None:
        """In our session; returns when the terminal has taken it all in."""
        await self.run(*self._shows(data, "shown"))
        await self.ask("wait-for", "shown")
        await self._settled("claude_a")

    async def state(self, session: str) -> tuple[str, str, str]:
        """Cursor and modes, the screen with its colours, and the one behind it."""
        target = f"={session}:"
        modes = await self.ask("display-message", "-p", "-t", target, MODES)
        capture = ("capture-pane", "-e", "-p", "-t", target)
        return modes, await self.ask(*capture), await self.ask(*capture, "-a", "-q")

    async def emulated(self, *data: bytes) -> tuple[str, str, str]:
        """What a terminal of the size of ours shows on which this was written."""
        self._made += 1
        session = f"other{self._made}"
        cols, rows = (await self.ask("display-message", "-p", "-t", "=claude_a:", SIZE)).split("x")
        shows = self._shows(b"".join(data), session)
        await self.ask("new-session", "-d", "-s", session, "-x", cols, "-y", rows, *shows)
        await self.ask("wait-for", session)
        await self._settled(session)
        state = await self.state(session)
        await self.ask("kill-session", "-t", f"={session}")
        return state

    async def seen(self, watcher: Watcher) -> tuple[str, str, str]:
        """What a terminal shows on which all was written that a viewer was given since its last picture."""
        return await self.emulated(watcher.pictures[-1].screen.encode(), watcher.since)

    def _shows(self, data: bytes, done: str) -> tuple[str, ...]:
        path = self.folder / f"{done}.bytes"
        path.write_bytes(data)
        # `tcdrain` is not enough: what tmux has read it may not have taken in.
        told = f"tmux -L {self.tmux.socket} wait-for -S {done}"
        return ("sh", "-c", f"stty raw -echo; cat {shlex.quote(str(path))}; {told}; exec sleep 600")

    async def _settled(self, session: str) -> None:
        """The kernel may hold the last bytes still: a picture is taken until two are the same."""
        before = None
        while before != (now := await self.state(session)):
            before = now
            await asyncio.sleep(0.05)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    server = Server(tmp_path)
    if (parse_version(server.tmux.version_now()) or (0, 0)) < CONTROL_VERSION:
        pytest.skip("too old for watching")
    yield server
    await server.tmux.kill_server()
    await server.tmux.close()
    remove_socket(server.tmux.socket)


@pytest.fixture
async def screens(server: Server) -> AsyncIterator[Screens]:
    supervisor = Supervisor("screens")

    def connect(name: str, hears: Hears) -> object:
        return PaneLine.open(server.tmux, "me", name, hears)

    async with asyncio.TaskGroup() as group:
        running = group.create_task(supervisor.run())
        yield Screens(connect, supervisor, (COLS, ROWS))  # type: ignore[arg-type]
        running.cancel()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not true():  # noqa: ASYNC110  (nothing tells)
            await asyncio.sleep(0.01)


def shows(watcher: Watcher, text: str) -> bool:
    return text in watcher.pictures[-1].screen or text.encode() in watcher.since


def plain(state: tuple[str, str, str]) -> list[list[str]]:
    """Without colours: tmux does not tell in which ones the process is writing just now. A last line may be
    made of them alone."""
    return [re.sub(r"\x1b\[[0-9;:]*m", "", part).rstrip("\n").split("\n") for part in state]


# --- what is seen ---------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.soak)])
async def test_viewers_of_a_busy_pane_are_given_every_byte_after_their_picture(
    server: Server, screens: Screens, seed: int
) -> None:
    """Joined at any moment, kept up or not: the picture shows all that the pane had written until then, and
    all the rest follows it, once. In the end every viewer shows what tmux shows."""
    program, copy = server.folder / "noise.py", server.folder / "copy"
    program.write_text(NOISE)
    await server.run(sys.executable, str(program), str(seed), "3000", str(copy))
    chance = random.Random(seed)
    watchers: list[Watcher] = []
    first = Watcher()
    await first.join(screens)
    while not shows(first, "THE END"):
        await asyncio.sleep(chance.random() * 0.03)
        watcher = Watcher()
        await watcher.join(screens)
        watchers.append(watcher)
        slow = chance.choice(watchers)
        slow.room = not slow.room
        if slow.room:
            slow.take()
    for watcher in watchers:
        watcher.room = True
        watcher.take()
    await until(lambda: all(shows(watcher, "THE END") for watcher in watchers))
    wanted, written = await server.state("claude_a"), copy.read_bytes()
    for watcher in [first, *watchers]:
        assert written.endswith(watcher.since)
    for watcher in chance.sample(watchers, min(5, len(watchers))):
        before = written.removesuffix(watcher.since)
        picture = await server.emulated(watcher.pictures[-1].screen.encode())
        assert plain(picture) == plain(await server.emulated(before))
        assert plain(await server.seen(watcher)) == plain(wanted)


PANES = {
    "nothing": b"",
    "lines": b"one\r\ntwo\r\n\r\nfour",
    "a full screen": b"\r\n".join(b"%d" % n for n in range(50)),
    "colours over lines": b"\x1b[31;44mred\r\nstill \x1b[1mred\r\n\x1b[0mplain\x1b[42m  \x1b[K\x1b[m",
    "wide characters": "世界" * 40 + "é\u0301".encode().decode() + "🎉",
    "the end of a line": b"\r\nfirst\r\n" + b"x" * 60,
    "the end of a coloured line": b"\x1b[35mfirst\r\n" + b"x" * 60,
    "the end of the last line": b"\x1b[20;1H" + b"x" * 60,
    "the alternate screen": b"behind\r\nit\x1b[?1049h\x1b[Hbefore\x1b[3;4H",
    "a region": b"top\x1b[3;10r\x1b[5;5Hin",
    "a region with its own origin": b"top\x1b[3;10r\x1b[?6h\x1b[2;3Hin",
    "an origin at the end of a line": b"\x1b[3;10r\x1b[?6h\x1b[2;1H" + b"y" * 60,
    "modes": b"\x1b[?25l\x1b[4h\x1b[?1h\x1b=\x1b[?7l\x1b[?1002h\x1b[?1006h",
    "all of the mouse": b"\x1b[?1003h",
    "lines of characters": b"\x1b)0\x0eqqx\x0f and \x1b(0lqk\x1b(B.",
    "no wrapping": b"\x1b[?7l" + b"z" * 70,
}


@pytest.mark.parametrize("name", PANES)
async def test_a_picture_paints_what_the_pane_shows(server: Server, screens: Screens, name: str) -> None:
    """Also over whatever a terminal showed before; and what follows goes on from there."""
    data = PANES[name]
    data = data.encode() if isinstance(data, str) else data
    await server.show(data)
    watcher = Watcher()
    picture = await watcher.join(screens)
    assert (picture.cols, picture.rows) == (COLS, ROWS)
    wanted = await server.state("claude_a")
    assert await server.seen(watcher) == wanted
    for before in PANES.values():
        dirty = before.encode() if isinstance(before, str) else before
        watcher.since = dirty + picture.screen.encode()
        if name in ("modes", "the alternate screen"):  # each in turn takes a while
            assert await server.seen(watcher) == wanted


@pytest.mark.parametrize(
    ("begun", "rest"),
    [
        (b"abc\x1b", b"[31mred"),
        (b"ab\x1b[3", b"1mred"),
        (b"\x1b]0;a tit", b"le\x07text"),
        ("ab世".encode()[:4], "世".encode()[2:] + b"x"),
        (b"abc\xe4", b"\xb8\x96x"),
    ],
)
@pytest.mark.parametrize("seen", [True, False], ids=["seen", "unseen"])
async def test_a_picture_in_the_middle_of_a_sequence_goes_on_well(
    server: Server, screens: Screens, begun: bytes, rest: bytes, seen: bool
) -> None:
    """Whether this side has seen the beginning or tmux keeps it."""
    (server.folder / "begun").write_bytes(begun)
    (server.folder / "rest").write_bytes(rest + b"\r\nTHE END")
    wait = f"tmux -L {server.tmux.socket} wait-for"
    steps = f"{wait} begin; cat begun; {wait} go; cat rest; exec sleep 600"
    await server.run("sh", "-c", f"cd {server.folder}; stty raw -echo; {steps}")
    early, late = Watcher(), Watcher()
    if seen:
        await early.join(screens)
    await server.ask("wait-for", "-S", "begin")
    if seen:
        await until(lambda: early.since == begun)
    else:
        await server._settled("claude_a")
    await late.join(screens)
    await server.ask("wait-for", "-S", "go")
    await until(lambda: shows(late, "THE END"))
    wanted = await server.state("claude_a")
    assert await server.seen(late) == wanted
    assert len(late.pictures) == 1 or (begun[-1] >= 0x80 and not seen), "nobody can know of the beginning"


async def test_another_process_in_the_pane_is_shown_anew(server: Server, screens: Screens) -> None:
    """tmux empties the pane for it."""
    await server.show(b"\x1b[?1049h\x1b[5;5Hthe old one")
    watcher = Watcher()
    await watcher.join(screens)
    assert shows(watcher, "the old one")
    await server.tmux.respawn("claude_a", ("sh", "-c", "echo the new one; exec sleep 600"), {})
    screens.changed("a")
    await until(lambda: len(watcher.pictures) > 1 and shows(watcher, "the new one"))
    assert not shows(watcher, "the old one")
    assert await server.seen(watcher) == await server.state("claude_a")


async def test_a_session_that_ends_and_comes_again_is_shown_again(server: Server, screens: Screens) -> None:
    """To who has watched all the while."""
    await server.show(b"first")
    watcher = Watcher()
    await watcher.join(screens)
    await server.tmux.kill_session("claude_a")
    await server.run("sh", "-c", "echo second; exec sleep 600")
    await until(lambda: len(watcher.pictures) > 1 and shows(watcher, "second"))


async def test_what_tmux_left_out_is_made_good_by_a_picture(server: Server, screens: Screens) -> None:
    """Where it had to pause the pane."""
    await server.show(b"")
    watcher = Watcher()
    await watcher.join(screens)
    (tty,) = [pane.tty for pane in await server.tmux.panes("claude_a")]
    (line,) = [feed._line for feed in screens._feeds.values()]
    assert isinstance(line, PaneLine)
    # What a connection orders itself it is not told of: here it is told as it would be.
    await line._open.command("refresh-client", "-A", f"{line._pane.id}:pause")
    await asyncio.to_thread(Path(tty).write_text, "lost")
    await server._settled("claude_a")
    assert watcher.since == b""
    line._noticed(Paused(line._pane.id))
    await until(lambda: len(watcher.pictures) == 2)
    assert shows(watcher, "lost")
    assert [feed._line for feed in screens._feeds.values()] == [line]
    await asyncio.to_thread(Path(tty).write_text, " found")
    await until(lambda: watcher.since == b" found")


async def test_only_our_own_pane_of_our_own_session_is_shown(server: Server, screens: Screens) -> None:
    """A person may have split it; another bridge may use the same server."""
    await server.show(b"ours")
    await server.ask("split-window", "-t", "=claude_a:", "echo theirs; exec sleep 600")
    watcher = Watcher()
    await watcher.join(screens)
    split = ("split-window", "-P", "-F", "#{pane_tty}", "-t", "=claude_a:", "echo theirs; exec sleep 600")
    tty = Path(await server.ask(*split))
    await until(lambda: len(watcher.pictures) > 1)
    assert shows(watcher, "ours")
    await asyncio.to_thread(tty.write_text, "theirs")
    (ours,) = await server.tmux.panes("claude_a")
    await asyncio.to_thread(Path(ours.tty).write_text, "ours again")
    await until(lambda: shows(watcher, "ours again"))
    assert not shows(watcher, "theirs")
    await server.tmux.new_session("claude_b", ("sleep", "600"), {OWNER: "another"})
    other = Watcher()
    assert (await other.join(screens, "b")).rows == ROWS
    assert screens._feeds["b"]._line is None


# --- what is done -----------------------------------------------------------------------------------


async def test_what_is_typed_arrives_byte_by_byte(server: Server, screens: Screens) -> None:
    """All of them, in order, and more than fits into one command; also while a person scrolls back."""
    data = bytes(range(256)) * 20
    path = server.folder / "typed"
    done = f"tmux -L {server.tmux.socket} wait-for -S typed"
    read = f"stty raw -echo; echo ready; head -c {len(data)} > {path}; {done}; exec sleep 600"
    await server.run("sh", "-c", read)
    watcher = Watcher()
    await watcher.join(screens)
    await until(lambda: shows(watcher, "ready"))
    await server.ask("copy-mode", "-t", "=claude_a:")
    for start in (0, 1, 300):
        await screens.type("a", data[start : {0: 1, 1: 300, 300: None}[start]])
    await server.ask("wait-for", "typed")
    assert path.read_bytes() == data
    # Whoever is about to type for a client sees that somebody is at the keyboard.
    assert await server.tmux.typed_at("claude_a") is not None


async def test_nobody_typed_in_the_future(
    server: Server, screens: Screens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock is set back after the last key: who waits for a quiet moment does not wait until then."""
    await server.run("sleep", "600")
    watcher = Watcher()
    await watcher.join(screens)
    await screens.type("a", b"x")
    typed_at = await server.tmux.typed_at("claude_a")
    assert typed_at is not None
    monkeypatch.setattr("bridge.sessions.tmux.time.time", lambda: typed_at - 3600)
    assert await server.tmux.typed_at("claude_a") == 0


async def test_nothing_can_be_typed_where_nothing_runs(server: Server, screens: Screens) -> None:
    """tmux would take it, and drop it."""
    await server.run("true")
    watcher = Watcher()
    await watcher.join(screens)
    (line,) = [feed._line for feed in screens._feeds.values()]
    assert line is not None
    async with asyncio.timeout(WAIT_S):
        while await line.type(b""):  # noqa: ASYNC110  (nothing tells)
            await asyncio.sleep(0.01)


class Person:
    """Somebody at a terminal, attached to our session."""

    def __init__(self, server: Server, cols: int, rows: int) -> None:
        command = ["tmux", "-L", server.tmux.socket, "attach", "-t", "=claude_a"]
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execvpe("tmux", command, server.env)
        self.resize(cols, rows)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self.fd, self._read)

    def resize(self, cols: int, rows: int) -> None:
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def type(self, data: bytes) -> None:
        os.write(self.fd, data)

    def _read(self) -> None:
        try:
            data = os.read(self.fd, 65536)
        except OSError:
            data = b""
        if not data:
            self._loop.remove_reader(self.fd)

    def close(self) -> None:
        self._loop.remove_reader(self.fd)
        os.close(self.fd)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


@pytest.fixture
def people(server: Server) -> Iterator[Callable[[int, int], Person]]:
    made: list[Person] = []

    def attach(cols: int, rows: int) -> Person:
        made.append(Person(server, cols, rows))
        return made[-1]

    yield attach
    for person in made:
        person.close()


async def size(server: Server) -> str:
    return await server.ask("display-message", "-p", "-t", "=claude_a:", SIZE)


async def until_size(server: Server, wanted: str) -> None:
    async with asyncio.timeout(WAIT_S):
        while await size(server) != wanted:  # noqa: ASYNC110  (nothing tells)
            await asyncio.sleep(0.02)


People = Callable[[int, int], Person]


async def test_watching_changes_no_size(server: Server, screens: Screens, people: People) -> None:
    """Neither a pane's that nobody is attached to, nor a person's."""
    await server.show(b"")
    first, second = Watcher(), Watcher()
    await first.join(screens)
    assert await size(server) == f"{COLS}x{ROWS}"
    people(100, 31)  # one line is tmux's own
    await until_size(server, "100x30")
    await until(lambda: first.pictures[-1].cols == 100)
    assert (await second.join(screens)).rows == 30
    await asyncio.sleep(0.1)
    assert await size(server) == "100x30"


async def test_the_latest_to_set_a_size_has_it(server: Server, screens: Screens, people: People) -> None:
    """A client that resizes, a person who attaches or whose terminal changes: whoever it was last. Typing
    is no resizing. When the last viewer leaves, the person has their own size again."""
    await server.show(b"")
    watcher = Watcher()
    await watcher.join(screens)
    await screens.resize("a", 90, 25)
    assert await size(server) == "90x25"
    await until(lambda: watcher.pictures[-1].cols == 90)
    person = people(100, 31)
    await until_size(server, "100x30")
    await screens.resize("a", 90, 25)
    assert await size(server) == "90x25"
    person.type(b"x")
    await until(lambda: watcher.pictures[-1].cols == 90)
    assert await size(server) == "90x25"
    person.resize(110, 41)
    await until_size(server, "110x40")
    await until(lambda: watcher.pictures[-1].cols == 110)
    await screens.resize("a", 90, 25)
    assert watcher.viewer is not None
    watcher.viewer.close()
    await until_size(server, "110x40")
    assert await server.ask("show-hooks", "-t", "=claude_a:") == ""


async def test_a_size_stays_when_nobody_is_there_to_have_another(
    server: Server, screens: Screens, people: People
) -> None:
    """And the next person gets theirs."""
    await server.show(b"")
    watcher = Watcher()
    await watcher.join(screens)
    await screens.resize("a", 90, 25)
    assert watcher.viewer is not None
    watcher.viewer.close()
    await until(lambda: not screens._feeds)
    assert await size(server) == "90x25"
    people(100, 31)
    await until_size(server, "100x30")


async def test_nothing_is_left_when_nobody_watches(server: Server, screens: Screens) -> None:
    """The connection ends with the last viewer."""
    await server.show(b"")
    watcher = Watcher()
    await watcher.join(screens)
    clients = ("list-clients", "-t", "=claude_a", "-F", "#{client_flags}")
    assert "ignore-size" in await server.ask(*clients)
    assert watcher.viewer is not None
    watcher.viewer.close()
    async with asyncio.timeout(WAIT_S):
        while "pause-after" in await server.ask(*clients):  # noqa: ASYNC110  (nothing tells)
            await asyncio.sleep(0.01)
