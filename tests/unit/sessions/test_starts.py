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
