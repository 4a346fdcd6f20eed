"""Many clients of one server: what each is told, what they cost each other, and what they cost the server.

The same at full size, and for longer, is in tests/soak/test_crowds.py.
"""

from __future__ import annotations

import asyncio
import time

from bridge.presence import GATHER_S
from tests.fakes.crowd import PATIENCE_S, Crowd, Fan, crowd

MIB = 1024 * 1024
CLIENTS = 300
RESPONSIVE_S = 5.0
"""The loop must never be held for so long, with two cores and whatever else runs on them."""


async def all_finished(fans: list[Fan]) -> set[str]:
    """What everybody was told in the end."""
    return set(await asyncio.gather(*(fan.until_finished() for fan in fans)))


async def responsive(crowd: Crowd) -> float:
    lag: float = (await crowd.measure())["lag"]
    assert lag < RESPONSIVE_S
    return lag


async def test_three_hundred_clients_are_told_the_same_to_the_last_word() -> None:
    """Every delta, in order, none twice: each client checks the numbers and the block's text itself."""
    async with crowd() as there:
        fans = await there.come(CLIENTS)
        said = await there.stream(200)
        assert await all_finished(fans) == {said["text"]}
        assert {fan.text for fan in fans} == {said["text"]}
        await responsive(there)


async def test_after_a_restart_all_come_back_at_once_and_each_recovers() -> None:
    """As 1012 has it: with the epoch gone each is given the whole truth, and the bridge answers meanwhile."""
    async with crowd(shutdown_s=5) as there:
        fans = await there.come(CLIENTS)
        before = await there.stream(50)
        await all_finished(fans)
        await there.ask(do="restart", epoch="e2")
        assert {await fan.until_gone() for fan in fans} == {1012}
        returning = asyncio.gather(there.back(fans, at_once=CLIENTS))
        probe = Fan("session:main")
        await probe.join(there.port)
        await probe.ask("phoenix", "heartbeat")
        await returning
        assert {fan.joined["recovered"] for fan in fans} == {False}
        assert {fan.text for fan in fans} == {before["text"]}
        assert {fan.cursor for fan in fans} == {("e2", 0)}
        said = await there.stream(50)
        assert await all_finished(fans) == {said["text"]}
        await responsive(there)
        probe.cut()


async def test_whose_connections_break_all_at_once_miss_nothing() -> None:
    """In the middle of a turn, and nobody is there for the rest of it: replay has it."""
    async with crowd() as there:
        fans = await there.come(CLIENTS)
        streaming = asyncio.create_task(there.stream(300, per_tick=1, per_s=300))
        async with asyncio.timeout(10):
            while not all(fan.text for fan in fans):  # noqa: ASYNC110 - sockets are waited for
                await asyncio.sleep(0.01)
        for fan in fans:
            fan.cut()
        said = await streaming
        await there.back(fans, at_once=CLIENTS)
        assert {fan.joined["recovered"] for fan in fans} == {True}
        assert await all_finished(fans) == {said["text"]}
        assert {fan.text for fan in fans} == {said["text"]}
        await responsive(there)


async def test_clients_that_never_read_are_left_behind_and_cost_the_others_nothing() -> None:
    """What they lag behind by is bounded by the setting, for all of them together by their number."""
    outbox = MIB // 4
    async with crowd(ring_bytes=MIB // 4, ring_events=1000, outbox_bytes=outbox) as there:
        readers = await there.come(30)
        deaf = [Fan("session:main") for _ in range(20)]
        for fan in deaf:
            await fan.join(there.port, receive_buffer=4096)
            fan.transport.pause_reading()
        there.fans += deaf
        before = await there.measure()
        # Deltas alone would merge; turns do not, and 8 MB are more than any kernel takes for twenty clients.
        for _ in range(10):
            said = await there.stream(200, size=2000)
            assert await all_finished(readers) == {said["text"]}
        after = await there.measure()
        assert after["rss"] - before["rss"] < len(deaf) * 4 * outbox + 16 * MIB
        for fan in deaf:
            fan.transport.resume_reading()
        assert {await fan.until_gone() for fan in deaf} <= {4008, None}
        await there.back(deaf)
        assert {fan.text for fan in deaf} == {said["text"]}


async def test_one_that_stops_reading_for_a_while_has_the_right_text_in_the_end() -> None:
    """What it missed is merged for it meanwhile; no event is missing, none comes twice."""
    async with crowd(ring_events=500, outbox_bytes=32 * MIB) as there:
        fans = await there.come(20)
        slow = Fan("session:main")
        await slow.join(there.port, receive_buffer=4096)
        slow.transport.pause_reading()
        said = await there.stream(6000, size=1000)
        assert await all_finished(fans) == {said["text"]}
        slow.transport.resume_reading()
        assert await slow.until_finished() == said["text"] == slow.text
        assert slow.merged > 1000
        assert slow.cursor == fans[0].cursor
        slow.cut()


async def test_a_full_room_is_told_of_itself_in_few_words() -> None:
    """Three hundred who come one after the other cost each of them a frame now and then, not one for each."""
    async with crowd() as there:
        began = time.monotonic()
        fans = await there.come(CLIENTS, at_once=1)
        visitors = await there.come(50)
        await present(fans, CLIENTS + 50)
        for fan in visitors:
            fan.cut()
        await present(fans, CLIENTS)
        took = time.monotonic() - began
        assert len({tuple(sorted(fan.present)) for fan in fans}) == 1
        assert max(fan.told for fan in fans) <= took / GATHER_S + 5
        await responsive(there)


async def present(fans: list[Fan], count: int) -> None:
    """Until each of them sees so many."""
    async with asyncio.timeout(PATIENCE_S):
        while not all(len(fan.present) == count for fan in fans):  # noqa: ASYNC110 - sockets are waited for
            await asyncio.sleep(0.01)
