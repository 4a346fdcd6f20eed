"""Crowds at full size: thousands of clients, a storm of them after a restart, and one that stops reading.

SOAK_ROUNDS makes them smaller: clients, or seconds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tests.fakes.crowd import Crowd, Fan, crowd

pytestmark = pytest.mark.soak

MIB = 1024 * 1024
SESSIONS = [f"s{n}" for n in range(100)]
"""Idle clients are spread over these: a bridge of many users, not one room with all of them."""
IDLE_BYTES = 32 * 1024
"""What an idle client may cost; naive aiohttp takes 17 KB of it."""
STOPPED_S = 45
READERS = 50
DELTAS = 60_000


async def come_all(there: Crowd, count: int, names: list[str]) -> list[Fan]:
    fans: list[Fan] = []
    for n, name in enumerate(names):
        share = count * (n + 1) // len(names) - count * n // len(names)
        fans += await there.come(share, f"session:{name}")
    return fans


def quantile(values: list[float], q: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * q))]


def heard(fans: list[Fan]) -> list[float]:
    delays = [delay for fan in fans for delay in fan.delays or ()]
    for fan in fans:
        fan.delays = []
    return delays


async def timed(work: Coroutine[Any, Any, Any]) -> float:
    began = time.monotonic()
    await work
    return time.monotonic() - began


async def test_five_thousand_idle_clients_and_a_thousand_subscribers_of_one_session(
    rounds: Callable[[int], int], report: Callable[..., None]
) -> None:
    """50 deltas a second to the thousand; all have all of it, the idle ones cost only memory."""
    idle, subscribers = rounds(5000), rounds(5000) // 5
    async with crowd(*SESSIONS, "main") as there:
        await come_all(there, 100, SESSIONS)  # warms up
        before = await there.measure()
        took = await timed(come_all(there, idle, SESSIONS))
        after = await there.measure()
        each = (after["rss"] - before["rss"]) / idle
        report(
            idle=idle, joined_in_s=round(took, 1), bytes_each=round(each), worst_lag_s=round(after["lag"], 3)
        )
        fans = await there.come(subscribers)
        for fan in fans[::50]:
            fan.delays = []
        await there.measure()
        said = await there.stream(1000, per_tick=1, per_s=50)
        assert set(await asyncio.gather(*(fan.until_finished() for fan in fans))) == {said["text"]}
        delays = heard(fans[::50])
        lag = (await there.measure())["lag"]
        report(
            subscribers=subscribers,
            p50_ms=round(quantile(delays, 0.5) * 1e3, 1),
            p99_ms=round(quantile(delays, 0.99) * 1e3, 1),
            server_cpu=f"{said['cpu'] / said['took']:.0%}",
            us_per_delivery=round(said["cpu"] / (1000 * subscribers) * 1e6, 2),
            worst_lag_s=round(lag, 3),
        )
        assert each < IDLE_BYTES
        assert quantile(delays, 0.99) < 2


async def test_thousands_come_back_at_once_after_a_restart(
    rounds: Callable[[int], int], report: Callable[..., None]
) -> None:
    """A thousand of them to one session. Each gets its truth; who asks something meanwhile is answered."""
    count = rounds(5000)
    async with crowd(*SESSIONS, "main", shutdown_s=10) as there:
        fans = await come_all(there, count * 4 // 5, SESSIONS)
        fans += await there.come(count // 5)
        said = await there.stream(500)
        await asyncio.gather(*(fan.until_finished() for fan in fans if fan.topic == "session:main"))
        await there.ask(do="restart", epoch="e2")
        assert {await fan.until_gone() for fan in fans} == {1012}
        storm = asyncio.ensure_future(timed(there.back(fans, at_once=1000)))
        answers: list[float] = []
        probe = Fan("session:main")
        await probe.join(there.port)
        while not storm.done():
            answers.append(await timed(probe.ask("phoenix", "heartbeat")))
            await asyncio.sleep(0.05)
        took = await storm
        lag = (await there.measure())["lag"]
        report(
            clients=count,
            back_in_s=round(took, 1),
            slowest_answer_ms=round(max(answers, default=0) * 1e3),
            worst_lag_s=round(lag, 3),
            presence_frames=max(fan.told for fan in fans),
        )
        assert {fan.joined["recovered"] for fan in fans} == {False}
        assert {fan.text for fan in fans if fan.topic == "session:main"} == {said["text"]}
        said = await there.stream(100)
        await asyncio.gather(*(fan.until_text(there.port, said["text"]) for fan in fans[-(count // 5) :]))
        assert lag < 5
        probe.cut()


async def test_a_reader_that_stops_costs_fifty_others_nothing(
    rounds: Callable[[int], int], report: Callable[..., None]
) -> None:
    """60,000 deltas in 45 s. The others' p99 is what it was without it; it has the right text in the end, and
    what is kept for it is bounded by the settings."""
    seconds = rounds(STOPPED_S)
    turns = max(3, seconds * 6 // STOPPED_S)
    deltas = DELTAS * seconds // STOPPED_S // turns
    per_s = DELTAS / STOPPED_S
    async with crowd(idle_timeout_s=600) as there:  # they only listen, which else ends after a minute
        watching = await there.come(5)
        await there.come(READERS - 5, glances=True)

        async def turn() -> tuple[str, list[float]]:
            for fan in watching:
                fan.delays = []
            said = await there.stream(deltas, per_s=per_s)
            for fan in there.fans[:READERS]:
                await (fan.until_glanced() if fan.glances else fan.until_finished())
            assert {fan.text for fan in watching} == {said["text"]}
            return said["text"], heard(watching)

        await turn()
        alone: list[float] = []
        for _ in range(turns):
            alone += (await turn())[1]
        stopped = Fan("session:main")
        there.fans.append(stopped)
        await stopped.join(there.port, receive_buffer=4096)
        stopped.transport.pause_reading()
        before = await there.measure()
        beside: list[float] = []
        for _ in range(turns):
            text, delays = await turn()
            beside += delays
        after = await there.measure()
        stopped.transport.resume_reading()
        await stopped.until_text(there.port, text)
        p99 = [quantile(delays, 0.99) * 1e3 for delays in (alone, beside)]
        grown = after["rss"] - before["rss"]
        report(
            deltas=deltas * turns,
            p50_ms=[round(quantile(delays, 0.5) * 1e3, 2) for delays in (alone, beside)],
            p99_ms=[round(each, 2) for each in p99],
            grown_mib=round(grown / MIB, 1),
            merged=stopped.merged,
            sent_away_with=stopped.closed,
        )
        assert p99[1] < p99[0] * 1.5 + 5
        assert grown < (8 + 8 + 16) * MIB
