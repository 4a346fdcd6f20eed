"""The TUI in tmux: typing, knowing that a turn is over, and its lines, against driving it by the screen.

- From `submit` to the upstream request: ours through the external editor; theirs by a bracketed paste, a
  fixed pause and Enter, once with the 2 s that cli-agent-orchestrator 2.5.4 was seen to take, once with the
  0.3 s that stand in an earlier version's source.
- From the last upstream byte to the end of the turn: ours `turn_finished` at a client's WebSocket; theirs a
  `capture-pane` every 0.2 s until the screen has stood still for 1 s (AgentAPI waits for 2 s). Where the
  screen stood still before the answer was over, that is counted, and no time is taken.
- Twenty sessions that stream at once: every line of every answer as a `delta`, in order and once.

The same CLI, upstream and machine for both, in turns. `python -m bench.tui [--quick]` prints the rows.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from bench.harness import BridgeProcess, Peer, PhoenixClient, folder, quantile, row, show
from bench.tui_peers import READY_S, Scraped
from bridge.config import ClaudeConfig
from bridge.sessions.claude import launch
from bridge.sessions.claude.tui_launch import seed, tui_environment

KEY = "sk-ant-simulated-bench"
RUNS, SESSIONS = 30, 20
WARM_UPS = 2
PAUSES = (2.0, 0.3)
WORDS, GAP_MS = 40, 10
LINES, LINE_GAP_MS = 30, 40
"""Ten words make a line; twenty sessions give fifty lines a second."""
STARTED_AT_ONCE = 4
AIM_SENT_MS, AIM_ENDED_MS = 300, 100

numbers = itertools.count()


class Times:
    """Of one side, in ms."""

    def __init__(self) -> None:
        self.sent: list[float] = []
        self.ended: list[float] = []
        self.early = 0

    def take(self, submitted: float, ended: float, upstream: list[float]) -> None:
        self.sent.append((upstream[0] - submitted) * 1000)
        if ended < upstream[1]:
            self.early += 1
        else:
            self.ended.append((ended - upstream[1]) * 1000)


def prompt(words: int = WORDS, gap_ms: int = GAP_MS) -> tuple[str, str]:
    """A prompt, and its mark."""
    mark = f"bench-{next(numbers)}"
    return mark, f'{mark} [[sim {{"words": {words}, "gap_ms": {gap_ms}}}]]'


# --- one prompt after the other -------------------------------------------------------------------


async def ask_bridge(client: PhoenixClient, upstream: Peer, times: Times | None) -> None:
    topic = "session:timed"
    mark, text = prompt()
    submitted = time.monotonic()
    await client.push(topic, "submit", {"prompt": text})
    done = await client.until(topic, "turn_finished")
    ended = time.monotonic()
    assert done["status"] == "completed", done
    while (await client.until(topic, "session_changed"))["session"]["state"] != "idle":
        pass
    if times is not None:
        times.take(submitted, ended, upstream.ask(mark=mark)["times"])


def ask_screen(scraped: Scraped, upstream: Peer, pause: float, times: Times | None) -> None:
    mark, text = prompt()
    submitted = scraped.submit(text, pause)
    ended = scraped.still()
    deadline = time.monotonic() + READY_S
    while (there := upstream.ask(mark=mark)["times"]) is None:
        assert time.monotonic() < deadline, "the prompt never reached the upstream"
        time.sleep(0.1)
    scraped.still()
    if times is not None:
        times.take(submitted, ended, there)


async def take_turns(port: int, scraped: Scraped, upstream: Peer, runs: int) -> tuple[Times, list[Times]]:
    ours, theirs = Times(), [Times() for _ in PAUSES]
    async with PhoenixClient.connect(port) as client:
        await client.ask("session:timed", "phx_join", {"start": {"backend": "tmux"}})
        for number in range(-WARM_UPS, runs):
            await ask_bridge(client, upstream, ours if number >= 0 else None)
            for pause, times in zip(PAUSES, theirs, strict=True):
                # Blocks the loop, in which nothing else is.
                ask_screen(scraped, upstream, pause, times if number >= 0 else None)
        await client.ask("sessions", "phx_join", {})
        await client.ask("sessions", "delete", {"name": "timed"})
    return ours, theirs


# --- many at once ---------------------------------------------------------------------------------


async def stream_all(port: int, sessions: int, upstream: Peer) -> tuple[int, int, int]:
    """Lines that were asked for, that were lost, and that came only behind the last byte, the last line of
    each answer aside."""
    topics = [f"session:lines{index}" for index in range(sessions)]
    async with PhoenixClient.connect(port) as client:
        for begin in range(0, sessions, STARTED_AT_ONCE):
            group = topics[begin : begin + STARTED_AT_ONCE]
            for topic in group:
                await client.ask(topic, "phx_join", {"start": {"backend": "tmux"}})
            await _answers(client, {topic: prompt()[1] for topic in group})
        asked = {topic: prompt(LINES * 10, LINE_GAP_MS) for topic in topics}
        told = await _answers(client, {topic: text for topic, (_, text) in asked.items()})
    lost = late = 0
    for topic, (mark, _) in asked.items():
        text, deltas = told[topic]
        assert len(_lines(text)) == LINES, text
        gone, behind = missed(text, deltas, upstream.ask(mark=mark)["times"][1])
        lost, late = lost + gone, late + behind
    return LINES * sessions, lost, late


def missed(text: str, deltas: list[tuple[float, str]], last_byte: float) -> tuple[int, int]:
    """Of one answer: lines that no delta had in their place or that were there twice, and those that came
    behind the last byte, where the last one belongs."""
    whole, shown = _lines(text), _lines("".join(delta for _, delta in deltas))
    right = sum(a == b for a, b in zip(whole, shown, strict=False))
    behind = _lines("".join(delta for at, delta in deltas if at > last_byte))
    return max(len(whole), len(shown)) - right, max(0, len(behind) - 1)


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.split("\n") if line.strip()]


async def _answers(
    client: PhoenixClient, prompts: dict[str, str]
) -> dict[str, tuple[str, list[tuple[float, str]]]]:
    """Submit to all, and take in what comes until all have finished: the text, and the deltas by time. A
    preview that was taken back counts for nothing."""
    blocks: dict[str, dict[int, list[tuple[float, str]]]] = {topic: {} for topic in prompts}
    texts: dict[str, str] = {}
    for topic, text in prompts.items():
        await client.push(topic, "submit", {"prompt": text})
    while len(texts) < len(prompts):
        _, topic, event, payload = await client.receive()
        if topic in prompts and event == "delta":
            blocks[topic].setdefault(payload["block"], []).append((time.monotonic(), payload["text"]))
        elif topic in prompts and event == "discard":
            blocks[topic].pop(payload["block"], None)
        elif topic in prompts and event == "turn_finished":
            assert payload["status"] == "completed", payload
            texts[topic] = payload["text"]
    return {t: (texts[t], [d for b in sorted(blocks[t]) for d in blocks[t][b]]) for t in prompts}


# --- the rows -------------------------------------------------------------------------------------


def run(quick: bool) -> list[dict[str, Any]]:
    """The rows of the report."""
    with folder() as home, Peer("bench.tui_peers") as upstream:
        base_url = f"http://127.0.0.1:{upstream.hear()['port']}"
        table = {"base_url": base_url, "api_key": KEY, "config_dir": str(home / "claude-config")}
        (home / "claude-config").mkdir()
        argv, env, cwd = _by_hand(home, ClaudeConfig(**table))
        with BridgeProcess(home, table) as bridge:
            with Scraped(home, argv, env, cwd) as scraped:
                ours, theirs = asyncio.run(take_turns(bridge.port, scraped, upstream, 3 if quick else RUNS))
            lines = asyncio.run(stream_all(bridge.port, 3 if quick else SESSIONS, upstream))
    return [*_rows(ours, theirs), _lines_row(*lines)]


def _by_hand(home: Path, config: ClaudeConfig) -> tuple[tuple[str, ...], dict[str, str], Path]:
    """The same CLI in the same environment, with a configuration folder that asks nothing at the start."""
    own, cwd = home / "scraped-config", home / "scraped-work"
    for path in (own, cwd):
        path.mkdir()
    (own / ".claude.json").write_bytes(seed(None, str(cwd), KEY))
    claude = launch.find_claude(config)
    env = tui_environment(config, {"PATH": os.environ["PATH"], "HOME": str(home)}, home, own)
    return (str(claude), "--permission-mode", "manual"), env | {"TERM": "tmux-256color"}, cwd


def _rows(ours: Times, theirs: list[Times]) -> list[dict[str, Any]]:
    rows = []
    for pause, times in zip(PAUSES, theirs, strict=True):
        rows.append(
            row(
                "submit to upstream request, TUI",
                _two(ours.sent),
                against=f"paste, {pause:g} s, Enter",
                alternative=_two(times.sent),
                ratio=f"{median(times.sent) / median(ours.sent):.1f}× ours",
                aim=f"p50 ≤ {AIM_SENT_MS} ms",
                met=median(ours.sent) <= AIM_SENT_MS,
                n=str(len(ours.sent)),
                note="ours is acknowledged, and looks for a draft first; theirs neither",
            )
        )
    still = [t for times in theirs for t in times.ended]
    early = sum(times.early for times in theirs)
    rows.append(
        row(
            "last upstream byte to turn_finished, TUI",
            _two(ours.ended),
            against="capture-pane every 0.2 s until still for 1 s",
            alternative=_two(still) if still else "never",
            ratio=f"{median(still) / median(ours.ended):.1f}× ours" if still else "",
            aim=f"p50 ≤ {AIM_ENDED_MS} ms",
            met=median(ours.ended) <= AIM_ENDED_MS,
            n=f"{len(ours.ended)} and {len(still)}",
            note=f"{early} of theirs were taken for finished before the last byte, {ours.early} of ours; "
            f"{WORDS} words, {GAP_MS} ms apart; the CLI writes its transcript every 100 ms",
        )
    )
    return rows


def _two(values: list[float]) -> str:
    return f"p50 {quantile(values, 0.5):.0f} ms, p99 {quantile(values, 0.99):.0f} ms"


def _lines_row(lines: int, lost: int, late: int) -> dict[str, Any]:
    return row(
        f"TUI sessions that stream at once: {lines // LINES}",
        f"{lost} of {lines} lines lost",
        aim="0 lost",
        met=lost == 0,
        n=str(lines),
        note=f"a line every {LINE_GAP_MS * 10} ms in each; {late} came only behind the last byte, the last "
        "line of each answer aside",
    )


if __name__ == "__main__":
    show(run("--quick" in sys.argv))
