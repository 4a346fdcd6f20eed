"""The web console in a real Chromium: a reply that streams at 200 deltas a second, a long transcript that is
scrolled, first paint, sizes.

- ours: the built console on the real transports, following a session whose reply grows by a word every 5 ms;
- naive: a page of phoenix.js and marked that parses the whole text anew at each delta, as the first version
  of such a page does, and that does not even keep HTML out of it;
- a transcript of 10,000 lines, half of them what tools put out, which the console folds, scrolled from its
  end to its beginning, which fetches the older turns, and back again at 9,000 pixels a second; against a page
  that has laid all of it out at once;
- first paint, as the browser itself reports it, against a page of one sentence, which is what this browser
  takes on this machine for anything.

`python -m bench.console [--quick]` prints the rows.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import quote

from bench.harness import folder, quantile, row, show, spread
from bridge.config import LogConfig
from bridge.events import (
    Block,
    BlockFinished,
    DeltaAdded,
    ToolBlock,
    Turn,
    TurnFinished,
    TurnId,
    TurnStarted,
    Usage,
)
from bridge.log import set_up
from bridge.transports.console import BUILT, Console
from tests.fakes.chromium import Chromium, PageError, Tab
from tests.fakes.phoenix import PhoenixServer
from tests.fakes.service import TOKEN
from tests.fakes.web_page import PHOENIX, serving

PER_S, STREAM_S, QUICK_S = 200, 60, 10
PAINTS, QUICK_PAINTS = 20, 5
NAIVE_S = 10
"""The naive page is given no more: a minute of it leaves it so far behind that nothing can be asked of it."""
LATE_S = 30
LINES, QUICK_LINES = 10_000, 1000
SCROLL_PX, SCROLL_S = 150, 180
"""At each frame, and for each way at most."""
LOOK_S = 0.5
"""Between two looks whether a page is through with it: no question to a page may wait for so long."""
AIM_TASK_MS, AIM_GROWTH_MB, AIM_PAINT_MS, AIM_FRAME_MS = 100, 10, 200, 34

PACKAGES = Path(__file__).parents[1] / "clients" / "console" / "node_modules"

PAGE = """<!doctype html>
<meta charset="utf-8">
<title>a naive page</title>
<style>#out { height: 90vh; overflow: auto }</style>
<div id="out"></div>
<script src="/marked.js"></script>
<script type="module">
import {Socket} from "/phoenix.mjs"

const out = document.getElementById("out")
const socket = new Socket("ADDRESS/socket", {authToken: "TOKEN"})
socket.connect()
SCRIPT
</script>
"""

NAIVE = """const channel = socket.channel("session:a")
let text = ""
channel.on("delta", (delta) => {
  text += delta.text
  out.innerHTML = marked.parse(text)
  out.scrollTop = out.scrollHeight
})
channel.join().receive("ok", () => (window.joined = true))"""

LONG = """const channel = socket.channel("session:long", {turns: 1000})
channel.join().receive("ok", ({turns}) => {
  const told = (block) => block.kind === "tool" ? `~~~\\n${block.output}\\n~~~` : block.text
  out.innerHTML = turns.map((t) => marked.parse([t.prompt, ...t.blocks.map(told)].join("\\n\\n"))).join("")
  out.scrollTop = out.scrollHeight
})"""

SCROLL = """window.found = null, (async () => {
  const list = document.querySelector("SCROLLED")
  const frame = () => new Promise(requestAnimationFrame)
  const frames = []
  let most = 0
  const go = async (by, isThere) => {
    const until = performance.now() + LIMIT_MS
    let last = await frame()
    while (!isThere()) {
      list.scrollTop += by
      const now = await frame()
      frames.push(now - last)
      last = now
      most = Math.max(most, document.getElementsByTagName("*").length)
      if (now > until) throw new Error(`still on its way: ${list.scrollTop} of ${list.scrollHeight}`)
    }
  }
  await go(-STEP, () => list.scrollTop <= 0 && list.innerText.includes("The very beginning"))
  await go(STEP, () => list.scrollTop + list.clientHeight >= list.scrollHeight - 2)
  return {frames, most}
})().then((it) => (found = it), (e) => (found = {error: String(e)})), 0"""

STILL = "<!doctype html><title>nothing</title><p>A page without style or script."

WATCH = """(() => {
  window.measured = {long: []}
  new PerformanceObserver((list) => list.getEntries().forEach(({duration}) => measured.long.push(duration)))
    .observe({type: "longtask"})
})()"""


@dataclass(frozen=True)
class Streamed:
    """What a page had to do for one reply."""

    longest_ms: float
    """0 where no task took 50 ms, below which a browser reports none."""
    blocked_ms: float
    """What tasks took beyond 50 ms each, all together."""
    busy: float
    """The main thread's share of the time."""
    early_mb: float
    end_mb: float
    """The script's heap after a quarter and at the end, garbage collected."""
    late_ms: float
    """From the last delta to its word on the page; infinite where that took longer than `LATE_S`."""


@dataclass(frozen=True)
class Scrolled:
    shown_ms: float
    """From the page's beginning until the end of the transcript is in view."""
    frames: list[float]
    """Milliseconds between two of them, in order."""
    longest_ms: float
    """As in `Streamed`, while it was scrolled."""
    elements: int
    """The most there were in the page."""
    heap_mb: float


@dataclass(frozen=True)
class Painted:
    """First contentful paints, milliseconds from the beginning of the navigation."""

    fresh: list[float]
    """The console in a window of a browser that has never seen it."""
    again: list[float]
    """The same, opened once more there."""
    shown: list[float]
    """Until the list of sessions is there, at the first of the two."""
    nothing: list[float]
    """A page of one sentence, in a new window as well."""


def reply(pieces: int) -> list[str]:
    """Markdown as Claude writes it, a word at a time: paragraphs, a list, code, a table, over and over."""
    said: list[str] = []
    for number in _forever():
        words = " ".join(f"word{number}-{n}" for n in range(40))
        code = "\n".join(f"    value_{n} = compute({number}, {n})  # a remark" for n in range(8))
        part = (
            f"## Part {number}\n\n{words}. **Bold**, `code`, [a link](https://example.com).\n\n"
            f"- one\n- two with *stress*\n- three\n\n```python\ndef part_{number}():\n{code}\n```\n\n"
            f"| a | b |\n|---|---|\n| {number} | {number * 2} |\n\n"
        )
        said += re.findall(r"\s*\S+\s*", part)
        if len(said) >= pieces:
            break
    return [*said[: pieces - 1], "\n\nThe-very-end"]


def _forever() -> Iterator[int]:
    number = 0
    while True:
        yield number
        number += 1


async def streamed(server: PhoenixServer, tab: Tab, number: int, seconds: int) -> Streamed:
    """The page watches session `a`, to which nobody else speaks."""
    pieces, turn = reply(PER_S * seconds), TurnId(f"turn-{number}")
    await tab.eval(WATCH)
    before = await tab.measure()
    loop, publish = asyncio.get_running_loop(), server.service.publish
    began = loop.time()
    publish("a", TurnStarted(turn, "go", "owner", "client"))
    early = before
    for n, piece in enumerate(pieces):
        await asyncio.sleep(max(0, began + n / PER_S - loop.time()))
        publish("a", DeltaAdded(turn, 0, "text", piece))
        if n == len(pieces) // 4:
            early_task = asyncio.create_task(tab.measure())
    last, late = time.perf_counter(), float("inf")
    with contextlib.suppress(PageError):
        await tab.until("document.body.innerText.includes('The-very-end')", LATE_S)
        late = time.perf_counter() - last
    early, after = await early_task, await tab.measure()
    long: list[float] = await tab.eval("measured.long")
    text = "".join(pieces)
    publish("a", BlockFinished(turn, 0, "text", text))
    publish("a", TurnFinished(turn, "completed", text, None, Usage(1, len(pieces)), 0.001, 5))
    return Streamed(
        max(long, default=0),
        sum(task - 50 for task in long),
        (after["TaskDuration"] - before["TaskDuration"]) / (after["Timestamp"] - before["Timestamp"]),
        early["JSHeapUsedSize"] / 1e6,
        after["JSHeapUsedSize"] / 1e6,
        late * 1000,
    )


def transcript(lines: int) -> list[Turn]:
    """Turns of 80 lines each, as a session of work has them: words, a tool's output, words again."""
    made = []
    for n in range(lines // 80):
        first, last = ("The very beginning", f"Step {n} is done") if n == 0 else ("Now", f"Step {n} is done")
        listing = "\n".join(f"src/part_{n}/file_{k}.py:{k}: value = compute({k})" for k in range(40))
        code = "\n".join(f"    value_{k} = compute({n}, {k})  # a remark" for k in range(20))
        told = f"{first}: `grep` has **{n}** more.\n\n```python\ndef part_{n}():\n{code}\n```"
        steps = "\n".join(f"- step {k} of {n}, with a [link](https://example.com/{k})" for k in range(12))
        blocks = (
            Block(0, "text", told),
            ToolBlock(1, f"call-{n}", "Bash", {"command": f"grep -rn compute src/part_{n}"}, listing),
            Block(2, "text", f"{steps}\n\n{last}."),
        )
        at = 1_760_000_000.0 + 60 * n
        turn = Turn(TurnId(f"long-{n}"), f"Go on with part {n}", "owner", "client", "completed", at, None)
        made.append(replace(turn, text=f"{last}.", blocks=blocks, started_at=at, finished_at=at + 30))
    return made


async def scrolled(tab: Tab, scroller: str, last: str) -> Scrolled:
    """A page that shows the end of a transcript already, or will: `last` stands there."""
    shown = await tab.until(f"document.body.innerText.includes({last!r}) && performance.now()")
    await tab.eval(WATCH)
    words = {"SCROLLED": scroller, "LIMIT_MS": str(SCROLL_S * 1000), "STEP": str(SCROLL_PX)}
    script = SCROLL
    for name, value in words.items():
        script = script.replace(name, value)
    await tab.eval(script)
    found = None
    while found is None:
        await asyncio.sleep(LOOK_S)
        found = await tab.eval("found")
    if "error" in found:
        raise PageError(found["error"])
    long: list[float] = await tab.eval("measured.long")
    heap = (await tab.measure())["JSHeapUsedSize"] / 1e6
    return Scrolled(shown, found["frames"], max(long, default=0), found["most"], heap)


SHOWN = "document.querySelector('nav.sessions') && performance.now()"
PAINTED = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"


async def paints(chromium: Chromium, url: str, still: str, runs: int) -> Painted:
    """In turns."""
    fresh, again, shown, nothing = [], [], [], []
    for _ in range(runs + 1):  # the first warms the browser itself
        tab = await Tab.open(chromium, url)
        shown.append(await tab.until(SHOWN))
        fresh.append(await tab.until(PAINTED))
        await tab.act(("reload",))
        again.append(await tab.until(PAINTED))
        await tab.close()
        tab = await Tab.open(chromium, still)
        nothing.append(await tab.until(PAINTED))
        await tab.close()
    return Painted(fresh[1:], again[1:], shown[1:], nothing[1:])


async def measure(
    chromium: Chromium, seconds: int, runs: int, lines: int
) -> tuple[Streamed, Streamed, Painted, Scrolled, Scrolled]:
    scripts = {
        "/phoenix.mjs": PHOENIX.read_bytes(),
        "/marked.js": (PACKAGES / "marked" / "lib" / "marked.umd.js").read_bytes(),
    }
    server = PhoenixServer(console=Console(), origins=["*"])
    await server.start()
    server.service.add("a")
    address = f"{server.http}/#token={quote(TOKEN, safe='')}"
    server.service.add("long").turns += transcript(lines)
    last = server.service.sessions["long"].turns[-1].text

    def page(script: str) -> str:
        told = PAGE.replace("SCRIPT", script).replace("ADDRESS", server.http.replace("http", "ws"))
        return told.replace("TOKEN", TOKEN)

    try:
        async with serving(STILL, {}) as still:
            painted = await paints(chromium, address, still, runs)
        tab = await Tab.open(chromium, address)
        await tab.until("document.querySelector('nav a')")
        await tab.eval("location.hash = '#/a'")
        await tab.until("document.querySelector('textarea')")
        ours = await streamed(server, tab, 1, seconds)
        await tab.close()
        async with serving(page(NAIVE), scripts) as url:
            tab = await Tab.open(chromium, url)
            await tab.until("window.joined")
            naive = await streamed(server, tab, 2, min(seconds, NAIVE_S))
            await tab.close()
        tab = await Tab.open(chromium, address)
        await tab.until("document.querySelector('nav a')")
        await tab.eval("location.hash = '#/long'")
        await tab.act(("reload",))
        ours_long = await scrolled(tab, ".transcript-scroll", last)
        await tab.close()
        async with serving(page(LONG), scripts) as url:
            tab = await Tab.open(chromium, url)
            naive_long = await scrolled(tab, "#out", last)
            await tab.close()
    finally:
        await server.stop()
    return ours, naive, painted, ours_long, naive_long


def sizes() -> tuple[float, float]:
    """Kilobytes, packed: what the page asks for before it can be used, and everything there is."""
    page = (BUILT / "index.html").read_text()
    first = [BUILT / name for name in re.findall(r'(?:src|href)="\./(assets/[^"]+)"', page)]
    first += [file for file in (BUILT / "assets").glob("start-*") if file.suffix != ".gz"]
    all_of_it = [file for file in BUILT.rglob("*") if file.is_file() and file.suffix != ".gz"]
    return _packed(first), _packed(all_of_it)


def _packed(files: list[Path]) -> float:
    there = (file.with_name(f"{file.name}.gz") for file in files)
    return sum((p if p.exists() else p.with_suffix("")).stat().st_size for p in there) / 1000


def _late(page: Streamed) -> str:
    return f"more than {LATE_S} s" if page.late_ms == float("inf") else f"{page.late_ms:.0f} ms"


def run(quick: bool) -> list[dict[str, Any]]:
    """The rows of the report."""
    seconds, runs, lines = (QUICK_S, QUICK_PAINTS, QUICK_LINES) if quick else (STREAM_S, PAINTS, LINES)
    set_up(LogConfig(level="warning"))
    with folder() as home:
        chromium = Chromium(home)
        try:
            ours, naive, painted, long, whole_long = asyncio.run(measure(chromium, seconds, runs, lines))
        finally:
            chromium.close()
    first, whole = sizes()
    frame_ms = quantile(long.frames, 0.99)
    how = f"{PER_S} deltas a second for {seconds} s"
    page = f"naive page, {NAIVE_S} s"
    return [
        row(
            f"longest task of the page, {how}",
            f"{ours.longest_ms:.0f} ms" if ours.longest_ms else "below 50 ms",
            against=page,
            alternative=f"{naive.longest_ms:.0f} ms",
            aim=f"≤ {AIM_TASK_MS} ms",
            met=ours.longest_ms <= AIM_TASK_MS,
            n=f"{PER_S * seconds} deltas",
            note="PerformanceObserver, which reports tasks of 50 ms and more",
        ),
        row(
            f"the page's main thread busy, {how}",
            f"{ours.busy:.0%}",
            against=page,
            alternative=f"{naive.busy:.0%}",
            ratio=f"{naive.busy / ours.busy:.1f}× less",
            note=f"beyond 50 ms a task: {ours.blocked_ms:.0f} ms against {naive.blocked_ms:.0f} ms; its last "
            f"word shown after {_late(ours)} against {_late(naive)}",
        ),
        row(
            f"growth of the script's heap in the last three quarters, {how}",
            f"{ours.end_mb - ours.early_mb:.1f} MB",
            aim=f"≤ {AIM_GROWTH_MB} MB",
            met=ours.end_mb - ours.early_mb <= AIM_GROWTH_MB,
            note=f"after garbage collection; {ours.end_mb:.1f} MB at the end",
        ),
        row(
            f"a transcript of {lines} lines, scrolled: a frame, p99",
            f"{frame_ms:.0f} ms",
            against="all of it in the page",
            alternative=f"{quantile(whole_long.frames, 0.99):.0f} ms",
            aim=f"≤ {AIM_FRAME_MS} ms",
            met=frame_ms <= AIM_FRAME_MS,
            n=f"{len(long.frames)} frames",
            note=f"{SCROLL_PX} px a frame, both ways, older turns fetched on the way; the longest frame "
            f"{max(long.frames):.0f} ms, against {max(whole_long.frames):.0f} ms; the longest task "
            f"{long.longest_ms:.0f} ms, against {whole_long.longest_ms:.0f} ms (0: below 50)",
        ),
        row(
            f"a transcript of {lines} lines: until its end is in view",
            f"{long.shown_ms:.0f} ms",
            against="all of it in the page",
            alternative=f"{whole_long.shown_ms:.0f} ms",
            ratio=f"{whole_long.shown_ms / long.shown_ms:.1f}× sooner",
            n="1",
            note=f"at most {long.elements} elements in the page, against {whole_long.elements}; the script's "
            f"heap at the end {long.heap_mb:.1f} MB, against {whole_long.heap_mb:.1f} MB",
        ),
        row(
            "first contentful paint of the console on loopback, a browser that has never seen it",
            spread(painted.fresh, "ms", 0),
            against="a page of one sentence",
            alternative=spread(painted.nothing, "ms", 0),
            aim=f"≤ {AIM_PAINT_MS} ms",
            met=median(painted.fresh) <= AIM_PAINT_MS,
            n=str(len(painted.fresh)),
            note="both with what the browser does for a new window; the name of the console, in its place",
        ),
        row(
            "first contentful paint of the console on loopback, opened again",
            spread(painted.again, "ms", 0),
            aim=f"≤ {AIM_PAINT_MS} ms",
            met=median(painted.again) <= AIM_PAINT_MS,
            n=str(len(painted.again)),
        ),
        row(
            "the list of sessions is there, in a browser that has never seen it",
            spread(painted.shown, "ms", 0),
            n=str(len(painted.shown)),
            note="asked of the page over and over: as much too late as that takes",
        ),
        row(
            "what the console loads before it can be used, gzip",
            f"{first:.0f} kB",
            note=f"{whole:.0f} kB with what is loaded when it is needed: terminal, highlighting",
        ),
    ]


if __name__ == "__main__":
    show(run("--quick" in sys.argv))
