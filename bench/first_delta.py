"""The way to the first word: a session's next prompt, against a cold CLI and against a bare warm one.

All three run the real CLI on the same simulator, with the same flags and environment but for what makes the
difference, and are asked the same prompts in turns:

- ours: from a client's `submit` on its WebSocket to the first `delta` there, session idle;
- cold: `claude -p PROMPT`, from the spawn to the first delta on its stdout, as a script would call it;
- bare: one warm stream-json process on two pipes, from the write of the prompt to the delta's line.

The simulator answers at once, so what is measured is everything but the model. The environment of a CLI is
made by the bridge's own `launch`: no login is read.
`python -m bench.first_delta [--quick]` prints the rows.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import IO, Any
from uuid import uuid4

import orjson

from bench.harness import BridgeProcess, PhoenixClient, folder, row, show, spread
from bridge.commands import StartOptions
from bridge.config import ClaudeConfig
from bridge.sessions.claude import launch, stdin

RUNS = 60
"""A prompt takes 20 to 60 ms: medians of 15 differed by 4.2 to 7.3 ms, those of 60 by 2.5 to 5.5."""
WARM_UPS = 2
AIM_COLD, AIM_MORE_MS = 10.0, 5.0
TOPIC = "session:first"
READY_S = 60.0


def prompt(number: int) -> str:
    """Ten words, no pause; never the same prompt twice."""
    return f'number {number} [[sim {{"words": 10}}]]'


@contextmanager
def simulator(home: Path) -> Any:
    """Its address."""
    port_file = home / "simulator.json"
    words = [sys.executable, "-m", "bridge.simulator", "--port-file", str(port_file)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + READY_S
        while not port_file.exists() or not port_file.read_bytes():
            assert process.poll() is None, "the simulator did not start"
            assert time.monotonic() < deadline, "the simulator took too long to start"
            time.sleep(0.02)
        yield f"http://127.0.0.1:{orjson.loads(port_file.read_bytes())['port']}"
    finally:
        process.terminate()
        process.wait()


def is_delta(line: bytes) -> bool:
    return b'"content_block_delta"' in line


class Cold:
    """A process for each prompt."""

    def __init__(self, claude: Path, env: Mapping[str, str], cwd: Path) -> None:
        self._claude = claude
        self._env = env
        self._cwd = cwd

    def ask(self, text: str) -> float:
        words = [str(self._claude), "-p", text, "--output-format", "stream-json", "--verbose"]
        began = time.perf_counter()
        process = subprocess.Popen(
            [*words, "--include-partial-messages"],
            env=dict(self._env),
            cwd=self._cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        with process:
            assert process.stdout is not None
            reader = Lines(process.stdout)
            reader.until(is_delta)
            taken = time.perf_counter() - began
            reader.rest()
        assert process.returncode == 0, "the one-shot CLI failed"
        return taken * 1000


class Lines:
    """Lines of a pipe as they come, nothing read ahead that would have to be waited for."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._fd = pipe.fileno()
        self._half = b""

    def until(self, wanted: Any) -> None:
        while True:
            while b"\n" not in self._half:
                data = os.read(self._fd, 1 << 16)
                assert data, "the CLI ended too early"
                self._half += data
            line, _, self._half = self._half.partition(b"\n")
            if wanted(line):
                return

    def rest(self) -> None:
        while os.read(self._fd, 1 << 16):
            pass


class Bare:
    """One warm process, as the bridge starts it, on pipes."""

    def __init__(self, claude: Path, config: ClaudeConfig, home: Path, cwd: Path) -> None:
        options = StartOptions(cwd=str(cwd), permission_mode="default")
        made = launch.plan(launch.Start(str(uuid4()), False, options), home, claude, config, os.environ)
        self._process = subprocess.Popen(
            made.argv,
            env=dict(made.env),
            cwd=cwd,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        assert self._process.stdout is not None
        self.pid = self._process.pid
        self._lines = Lines(self._process.stdout)
        self._write(stdin.control("init", "initialize", hooks=None))
        self._lines.until(lambda line: b'"control_response"' in line)

    def ask(self, text: str) -> float:
        began = time.perf_counter()
        self._write(stdin.prompt(str(uuid4()), text))  # type: ignore[arg-type]
        self._lines.until(is_delta)
        taken = time.perf_counter() - began
        self._lines.until(lambda line: b'"state":"idle"' in line)
        return taken * 1000

    def _write(self, line: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line)

    def end(self) -> None:
        self._process.terminate()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


async def ask_bridge(client: PhoenixClient, text: str) -> float:
    began = time.perf_counter()
    await client.push(TOPIC, "submit", {"prompt": text})
    await client.until(TOPIC, "delta")
    taken = time.perf_counter() - began
    done = await client.until(TOPIC, "turn_finished")
    assert done["status"] == "completed", done
    while (await client.until(TOPIC, "session_changed"))["session"]["state"] != "idle":
        pass
    return taken * 1000


async def measure(port: int, cold: Cold, bare: Bare, runs: int) -> dict[str, list[float]]:
    """Milliseconds by who was asked. Whoever comes right after the cold one finds the caches empty, so the
    order goes round."""
    times: dict[str, list[float]] = {"ours": [], "cold": [], "bare": []}
    async with PhoenixClient.connect(port) as client:
        await client.ask(TOPIC, "phx_join", {"start": {}})
        for number in range(-WARM_UPS, runs):
            for turn in range(3):
                name = list(times)[(number + turn) % 3]
                if name == "ours":
                    taken = await ask_bridge(client, prompt(number))
                else:  # blocks the loop, in which nothing else is
                    taken = (cold if name == "cold" else bare).ask(prompt(number))
                if number >= 0:
                    times[name].append(taken)
    return times


def configured(home: Path, base_url: str) -> tuple[dict[str, str], ClaudeConfig]:
    """The CLI pointed at a simulator, with folders of its own, as a table of the configuration and read."""
    for name in ("claude-config", "claude-home", "work"):
        (home / name).mkdir()
    table = {
        "base_url": base_url,
        "api_key": "sk-ant-simulated-bench",
        "config_dir": str(home / "claude-config"),
        "home": str(home / "claude-home"),
    }
    return table, ClaudeConfig.model_validate(table)


def run(quick: bool) -> list[dict[str, Any]]:
    """The rows of the report."""
    with folder() as home, simulator(home) as base_url:
        table, config = configured(home, base_url)
        claude = launch.find_claude(config)
        cold = Cold(claude, launch.environment(config, os.environ), home / "work")
        bare = Bare(claude, config, home, home / "work")
        try:
            with BridgeProcess(home, table) as bridge:
                times = asyncio.run(measure(bridge.port, cold, bare, 6 if quick else RUNS))
        finally:
            bare.end()
    return _rows(times)


def _rows(times: dict[str, list[float]]) -> list[dict[str, Any]]:
    ours, cold, bare = times["ours"], times["cold"], times["bare"]
    faster = median(cold) / median(ours)
    more = median(ours) - median(bare)
    n = str(len(ours))
    return [
        row(
            "prompt to first delta, next prompt of a session",
            spread(ours, "ms", 1),
            against="cold `claude -p`",
            alternative=spread(cold, "ms", 1),
            ratio=f"{faster:.1f}× faster",
            aim=f"≥ {AIM_COLD:g}×",
            met=faster >= AIM_COLD,
            n=n,
            note="real CLI, simulator without delay, aiohttp client; the three in turns",
        ),
        row(
            "prompt to first delta, more than the process alone",
            spread(ours, "ms", 1),
            against="bare warm stream-json process",
            alternative=spread(bare, "ms", 1),
            ratio=f"{more:+.1f} ms",
            aim=f"≤ {AIM_MORE_MS:g} ms more",
            met=more <= AIM_MORE_MS,
            n=n,
            note="the same flags and environment, two pipes, blocking reads",
        ),
    ]


if __name__ == "__main__":
    show(run("--quick" in sys.argv))
