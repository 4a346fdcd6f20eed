"""What the benchmarks share: a bridge as a process of its own, a client's frames, figures and rows.

Everything that a bridge here keeps lies in one temporary folder, its tmux socket included, and goes with it.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import quote

import aiohttp
import orjson

from bench.replayer import executable

TOKEN = "bench-token"
START_S = 60.0
HEAR_S = 60.0
"""No peer works for so long before it answers."""
UPGRADE = (
    "GET /socket/websocket?vsn=2.0.0&token={token} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
    "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
).format(token=quote(TOKEN, safe=""))


# --- figures and rows -----------------------------------------------------------------------------


def quantile(values: list[float], q: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * q))]


def spread(values: list[float], unit: str, digits: int = 2) -> str:
    """The median, with minimum and maximum where there are several."""
    text = f"{median(values):.{digits}f} {unit}"
    if len(values) > 1:
        text += f" ({min(values):.{digits}f} to {max(values):.{digits}f})"
    return text


def row(
    figure: str,
    ours: str,
    *,
    against: str = "",
    alternative: str = "",
    ratio: str = "",
    aim: str = "",
    met: bool | None = None,
    n: str = "",
    note: str = "",
) -> dict[str, Any]:
    """One line of the report: our figure, what it stands against, that one's figure, and what we aim at."""
    return {
        "figure": figure,
        "ours": ours,
        "against": against,
        "alternative": alternative,
        "ratio": ratio,
        "aim": aim,
        "met": met,
        "n": n,
        "note": note,
    }


def show(rows: list[dict[str, Any]]) -> None:
    for line in rows:
        print(orjson.dumps(line, option=orjson.OPT_INDENT_2).decode())


# --- processes ------------------------------------------------------------------------------------


def cpu_s(pid: int) -> float:
    """Processor time that a process has had: its clock, by the name that clock_getcpuclockid(3) gives it.
    /proc counts in ticks of 10 ms, of which a short turn may have none."""
    return time.clock_gettime(~pid << 3 | 2)


def rss_kb(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


class Peer:
    """A process that says a line of JSON when it is up, and one for each line it is asked."""

    def __init__(self, *arguments: str, by: Sequence[str] = (sys.executable, "-m")) -> None:
        """`by`: what runs it; a module of Python by default."""
        self._process = subprocess.Popen([*by, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.pid = self._process.pid

    def hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], HEAR_S)
        assert ready, f"the other process has said nothing for {HEAR_S} s"
        line = self._process.stdout.readline()
        assert line, "the other process has died"
        answer: dict[str, Any] = orjson.loads(line)
        return answer

    def ask(self, **command: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(orjson.dumps(command) + b"\n")
        self._process.stdin.flush()
        return self.hear()

    def end(self) -> None:
        self._process.terminate()
        self._process.communicate()

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A temporary one, short enough for a socket in it, that goes even while others still write there."""
    path = Path(tempfile.mkdtemp(prefix="cb-"))
    try:
        yield path
    finally:
        deadline = time.monotonic() + 5
        while path.exists() and time.monotonic() < deadline:
            shutil.rmtree(path, ignore_errors=True)


class BridgeProcess:
    """`claude-bridge serve` with a configuration of our own. `with` starts and ends it and what it began."""

    def __init__(
        self, home: Path, claude: Mapping[str, Any] | None = None, **tables: Mapping[str, Any]
    ) -> None:
        """`claude`: that table of the configuration; without it the CLI is the replayer. `tables`: others."""
        self.home = home
        self._tables = tables
        self._claude = claude or {"path": str(executable(home))}
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    def __enter__(self) -> BridgeProcess:
        cwd = self.home / "cwd"
        cwd.mkdir()
        tables = {
            "sessions": {"roots": [str(cwd)], "cwd": str(cwd), "max_sessions": 1000},
            "claude": dict(self._claude),
            "log": {"level": "warning"},
            **self._tables,
        }
        self._config = self.home / "bridge.toml"
        self._config.write_text(
            f'token = "{TOKEN}"\n' + "".join(_toml(name, t) for name, t in tables.items())
        )
        self.environ = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "TMUX_TMPDIR": str(self.home),
        }
        self.spawn()
        try:
            self.port = self._wait_for(self.home / "state" / "bridge.json")
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def spawn(self) -> None:
        """Begin to start it: again, after a `kill`, on the port it had. Nobody waits until it answers."""
        with (self.home / "bridge.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "bridge", "serve", "--port", str(self.port)),
                    *("--state-dir", str(self.home / "state"), "--config", str(self._config)),
                ],
                env=self.environ | {"PYTHONPATH": os.getcwd()},
                stdout=subprocess.DEVNULL,
                stderr=log,
            )

    def kill(self) -> None:
        """Its sessions go on."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._end()
        if kind is not None:
            said = (self.home / "bridge.log").read_text(errors="replace")
            print(f"The bridge said:\n{said[:4000]}", file=sys.stderr)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def _wait_for(self, said: Path) -> int:
        assert self._process is not None
        deadline = time.monotonic() + START_S
        port = 0
        while not (port and _ready(port)):
            assert self._process.poll() is None, "the bridge did not start"
            assert time.monotonic() < deadline, "the bridge took too long to start"
            time.sleep(0.02)
            if said.exists():
                port = orjson.loads(said.read_bytes())["port"]
        return port

    def _end(self) -> None:
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        # Its sessions outlive it by design; here they shall not.
        self.end_sessions()

    def end_sessions(self) -> None:
        """Every process of a session, and tmux."""
        for server in (self.home / f"tmux-{os.getuid()}").glob("*"):
            subprocess.run(["tmux", "-S", str(server), "kill-server"], capture_output=True, check=False)


def _ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:  # not listening yet, or not ready (503)
        return False


def _toml(name: str, table: Mapping[str, Any]) -> str:
    # JSON's strings, numbers and lists are TOML's as well.
    lines = (f"{key} = {orjson.dumps(value).decode()}" for key, value in table.items())
    return f"[{name}]\n" + "\n".join(lines) + "\n"


# --- clients --------------------------------------------------------------------------------------


def frame(*message: Any) -> bytes:
    """A Phoenix V2 message as a client's WebSocket frame. A mask of zeros is a mask."""
    payload = orjson.dumps(message)
    size = len(payload)
    assert size < 65536, "nothing here is that long"
    length = bytes((0x80 | size,)) if size < 126 else bytes((0xFE,)) + struct.pack("!H", size)
    return b"\x81" + length + bytes(4) + payload


class RawClient:
    """The cheapest client there is, blocking, so that what is measured is the server."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(UPGRADE.encode())
        said = b""
        while b"\r\n\r\n" not in said:
            said += self._socket.recv(4096)
        assert b" 101 " in said.split(b"\r\n", 1)[0], said

    def ask(self, data: bytes) -> bytes:
        """Send a frame, receive one."""
        self._socket.sendall(data)
        said = self._socket.recv(65536)
        while len(said) < 2 or len(said) < _whole(said):
            said += self._socket.recv(65536)
        return said

    def close(self) -> None:
        self._socket.close()


def _whole(data: bytes) -> int:
    size = data[1] & 0x7F
    if size < 126:
        return 2 + size
    if size == 126:
        return 4 + struct.unpack_from("!H", data, 2)[0] if len(data) >= 4 else 4
    return 10 + struct.unpack_from("!Q", data, 2)[0] if len(data) >= 10 else 10


class PhoenixClient:
    """A client as people write them: aiohttp, one coroutine."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self._ws = ws
        self._ref = 0

    @classmethod
    @contextlib.asynccontextmanager
    async def connect(cls, port: int) -> Any:
        url = f"ws://127.0.0.1:{port}/socket/websocket?vsn=2.0.0&token={quote(TOKEN, safe='')}"
        async with aiohttp.ClientSession() as http, http.ws_connect(url, max_msg_size=0) as ws:
            yield cls(ws)

    async def push(self, topic: str, event: str, payload: Mapping[str, Any]) -> str:
        self._ref += 1
        join = "1" if topic != "phoenix" else None
        ref = str(self._ref)
        await self._ws.send_str(orjson.dumps([join, ref, topic, event, payload]).decode())
        return ref

    async def receive(self) -> tuple[str | None, str, str, dict[str, Any]]:
        """(ref, topic, event, payload) of the next message."""
        _, ref, topic, event, payload = orjson.loads(await self._ws.receive_str(timeout=120))
        return ref, topic, event, payload

    async def ask(self, topic: str, event: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Push and wait for the reply; events that come before it are dropped."""
        ref = await self.push(topic, event, payload)
        while True:
            got, _, name, said = await self.receive()
            if got == ref and name == "phx_reply":
                assert said["status"] == "ok", said
                response: dict[str, Any] = said["response"]
                return response

    async def until(self, topic: str, *events: str) -> dict[str, Any]:
        """The payload of the next such event of the topic."""
        while True:
            _, where, name, payload = await self.receive()
            if where == topic and name in events:
                return payload
