"""Places among the starts: whose turn it is, and that none gets lost."""

from __future__ import annotations

import asyncio

from bridge.sessions.starts import Place, Starts
from tests.fakes.clock import settle


def nobody() -> bool:
    return False


async def test_who_has_somebody_waiting_comes_first_the_others_in_order() -> None:
    """Asked when a place is free, and not before: a prompt may come while one waits."""
    starts = Starts(1)
    first = await starts.place(nobody)
    pressing: set[str] = set()
    order: list[str] = []

    async def start(name: str) -> None:
        place = await starts.place(lambda: name in pressing)
        order.append(name)
        place.leave()

    async with asyncio.TaskGroup() as group:
        for name in "abc":
            group.create_task(start(name))
        await settle()
        pressing.add("c")
        first.leave()
    assert order == ["c", "a", "b"]


async def test_a_place_is_left_once() -> None:
    """However often that is said."""
    starts = Starts(1)
    place = await starts.place(nobody)
    place.leave()
    place.leave()
    await starts.place(nobody)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(starts.place(nobody))
        await settle()
        assert not waiting.done()
        waiting.cancel()


async def test_who_gives_up_leaves_the_place_to_the_next() -> None:
    """While waiting, and in the very moment in which the place was given."""
    starts = Starts(1)
    held = await starts.place(nobody)
    async with asyncio.TaskGroup() as group:
        gone, unlucky, last = (group.create_task(starts.place(nobody)) for _ in range(3))
        await settle()
        gone.cancel()
        await settle()
        held.leave()
        unlucky.cancel()
        assert isinstance(await last, Place)
    assert (gone.cancelled(), unlucky.cancelled()) == (True, True)


async def test_what_nobody_asked_for_comes_last_and_leaves_half_of_the_places() -> None:
    """However long it waited."""
    starts = Starts(4)
    spares = [await starts.spare_place() for _ in range(2)]
    order: list[str] = []

    async def spare() -> None:
        place = await starts.spare_place()
        order.append("spare")
        place.leave()

    async def start() -> None:
        place = await starts.place(nobody)
        order.append("start")
        place.leave()

    async with asyncio.TaskGroup() as group:
        group.create_task(spare())
        await settle()
        assert order == []  # two places are free
        places = [await starts.place(nobody) for _ in range(2)]
        group.create_task(start())
        await settle()
        spares[0].leave()
        await settle()
        assert order == ["start", "spare"]
        for place in (*places, spares[1]):
            place.leave()


async def test_one_place_is_enough_for_a_spare_that_is_alone() -> None:
    """And called off it leaves nothing behind."""
    starts = Starts(1)
    place = await starts.spare_place()
    waiting = asyncio.ensure_future(starts.spare_place())
    await settle()
    place.leave()
    waiting.cancel()  # in the moment in which it got the place
    await asyncio.wait({waiting})
    async with asyncio.timeout(1):
        (await starts.place(nobody)).leave()
        (await starts.spare_place()).leave()
