"""The line to one process, with a file and a FIFO in the CLI's place."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bridge.errors import BackendError, TmuxError
from bridge.events import RequestId
from bridge.sessions.backends.base import Batch
from bridge.sessions.backends.link import Link, exit_reason
from bridge.sessions.backends.process import Process
from bridge.sessions.backends.tail import CHUNK, FileWatch
from bridge.sessions.tmux import Pane
from bridge.signals import AnswerMoot, BlockSettled, ProcessExited, ProcessReady, Signal

WAIT_S = 10


def pane(**fields: Any) -> Pane:
    usual = {"session": "claude_x", "owner": "", "generation": 1, "id": "%1", "pid": 1, "dead": True}
    rest = {"status": 3, "signal": None, "tty": "/nowhere", "server_pid": 1}
    return Pane(**{**usual, **rest, **fields})


class Bench:
    """A link, and both of its ends."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        os.mkfifo(folder / "in.fifo")
        (folder / "out.ndjson").touch()
        (folder / "err.log").write_text("")
        self.child = subprocess.Popen(["sleep", "600"])
        process = Process.open(self.child.pid, os.getpid())
        assert process is not None
        self.batches: list[Batch] = []
        self.watch = FileWatch()
        self.link = Link(1, folder, process, self.batches.append, self.watch, tty="/nowhere")
        self.stdin = os.open(folder / "in.fifo", os.O_RDWR | os.O_NONBLOCK)

    @property
    def signals(self) -> list[Signal]:
        return [signal for batch in self.batches for signal in batch.signals]

    def says(self, *frames: dict[str, Any]) -> None:
        with (self.folder / "out.ndjson").open("ab") as file:
            file.write(b"".join(json.dumps(frame).encode() + b"\n" for frame in frames))

    async def hears(self) -> list[dict[str, Any]]:
        """What the CLI would read next."""
        async with asyncio.timeout(WAIT_S):
            while True:
                try:
                    return [json.loads(line) for line in os.read(self.stdin, 65536).splitlines()]
                except BlockingIOError:
                    await asyncio.sleep(0)

    async def gone(self) -> list[Signal]:
        self.child.kill()
        await asyncio.wait_for(self.link.gone, WAIT_S)
        return self.signals

    def close(self) -> None:
        self.link.close()
        self.watch.close()
        self.child.kill()
        self.child.wait()
        os.close(self.stdin)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.close()


def reply(request: str, subtype: str = "success", **fields: Any) -> dict[str, Any]:
    return {"type": "control_response", "response": {"subtype": subtype, "request_id": request, **fields}}


def said(text: str) -> list[dict[str, Any]]:
    message = {"id": "m1", "model": "m", "content": [{"type": "text", "text": text}]}
    queued = {"type": "command_lifecycle", "command_uuid": "t1", "state": "queued"}
    return [queued, {"type": "assistant", "message": message}]


async def test_the_sign_of_life_is_asked_for_once_all_is_read(bench: Bench) -> None:
    """Whatever the process answers to `initialize` makes it ready."""
    bench.link.open(list, WAIT_S)
    (asked,) = await bench.hears()
    assert asked["request"]["subtype"] == "initialize"
    bench.says(reply(asked["request_id"], "error", error="unknown"))
    await bench.gone()
    assert bench.signals[0] == ProcessReady()


async def test_an_exit_comes_after_the_last_byte(bench: Bench) -> None:
    """However much there is still to be read when the process ends."""
    bench.link.open(lambda: [pane()], WAIT_S)
    await bench.hears()
    bench.says(*said("x" * (3 * CHUNK)))
    signals = await bench.gone()
    assert isinstance(signals[-2], BlockSettled)
    assert signals[-1] == ProcessExited(3, "claude ended with status 3")


async def test_an_exit_that_tmux_cannot_explain_is_one_all_the_same(bench: Bench) -> None:
    """The pidfd knows that it is gone, tmux only would know how."""

    def ask() -> list[Pane]:
        raise TmuxError("no answer")

    bench.link.open(ask, WAIT_S)
    assert (await bench.gone())[-1] == ProcessExited(None, "claude ended")


async def test_a_wanted_end_is_not_reported(bench: Bench) -> None:
    """Who stops a session knows that its process ends."""
    bench.link.open(lambda: [pane()], WAIT_S)
    bench.link.stopping = True
    assert await bench.gone() == []


async def test_a_refusal_is_an_error_with_the_cli_s_reason(bench: Bench) -> None:
    """It reaches whoever asked."""
    bench.link.open(list, WAIT_S)
    await bench.hears()
    asking = asyncio.gather(bench.link.ask("set_model", model="x"), return_exceptions=True)
    (asked,) = await bench.hears()
    assert asked["request"] == {"subtype": "set_model", "model": "x"}
    bench.says(reply(asked["request_id"], "error", error="no such model"))
    (error,) = await asyncio.wait_for(asking, WAIT_S)
    assert isinstance(error, BackendError)
    assert str(error) == "no such model"


async def test_an_answer_given_through_an_earlier_bridge_closes_its_request(bench: Bench) -> None:
    """The CLI repeats answers; that one is known from nowhere else. Our own old questions are not meant."""
    bench.says(reply("bridge-0123"), reply("r1"))
    bench.link.open(list, WAIT_S)
    await bench.hears()
    assert bench.signals == [AnswerMoot(RequestId("r1"))]


async def test_nothing_follows_after_letting_go(bench: Bench) -> None:
    """Neither signals nor an exit: the process is somebody else's now."""
    bench.link.open(list, WAIT_S)
    await bench.hears()
    bench.link.close()
    bench.says(*said("late"))
    bench.child.kill()
    bench.child.wait()
    await asyncio.sleep(0)
    assert bench.signals == []


def test_a_reason_names_the_signal_and_the_last_words(tmp_path: Path) -> None:
    """Eight lines of stderr at most, and none where there are none."""
    (tmp_path / "err.log").write_text("".join(f"line {n}\n" for n in range(100)))
    assert exit_reason(tmp_path, 2).startswith("claude ended with status 2: line 92\n")
    assert exit_reason(tmp_path / "nowhere", -9) == "claude was ended by SIGKILL"
    assert exit_reason(tmp_path / "nowhere", -64) == "claude was ended by SIGRTMAX"
    assert exit_reason(tmp_path / "nowhere", None) == "claude ended"
