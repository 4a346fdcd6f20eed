"""Clients of all transports at once, in one session: the same events, and sight of each other."""

from __future__ import annotations

import asyncio

import pytest

from bridge.simulator.script import scripted as sim
from tests.contract.transports.conftest import Connect
from tests.contract.transports.test_turns import ask, assert_whole, merged
from tests.fakes.peers import WAYS, Peer
from tests.fakes.phoenix_js import Json, assert_well_told

pytestmark = pytest.mark.real


async def everyone(connect: Connect, topic: str) -> tuple[list[Peer], list[Json]]:
    peers = [await connect(way) for way in WAYS]
    return peers, [await peer.join(topic, {"turns": 0}) for peer in peers]


async def test_all_are_told_the_same_under_the_same_numbers(connect: Connect, talk: str) -> None:
    """Whoever asked, and however they came."""
    peers, joined = await everyone(connect, talk)
    turns = [await ask(peer, talk, f"for all {sim(thinking='so', words=40)}") for peer in peers]
    stories = [[await peer.story(talk, turn) for turn in turns] for peer in peers]
    for peer, reply, told in zip(peers, joined, stories, strict=True):
        for story in told:
            assert_well_told(story)
        assert_whole(peer, talk, reply)
        last = stories[0][-1].heard[-1].payload["seq"]
        said = [[(e, p) for e, p in each.numbered(talk) if p["seq"] <= last] for each in (peers[0], peer)]
        assert merged(said[1]) == merged(said[0])
        numbers = [{p["seq"]: e for e, p in each} for each in said]
        shared = numbers[0].keys() & numbers[1].keys()
        assert {n: numbers[1][n] for n in shared} == {n: numbers[0][n] for n in shared}
        assert len(shared) > len(turns) * 4


async def test_all_see_each_other(connect: Connect, talk: str) -> None:
    """Under their transport, whichever came first; and see who goes."""
    peers, _ = await everyone(connect, talk)
    expected = sorted(peer.transport for peer in peers)
    for peer in peers:
        await peer.until(lambda p=peer: present(p, talk) == expected or None, f"{expected}")  # type: ignore[misc]
    leaver = peers[0]
    await leaver.leave(talk)
    expected.remove(leaver.transport)
    for peer in peers[1:]:
        await peer.until(lambda p=peer: present(p, talk) == expected or None, f"{expected}")  # type: ignore[misc]


def present(peer: Peer, topic: str) -> list[str]:
    """Who is there, as a client makes it out of state and diffs."""
    here: dict[str, str] = {}
    for heard in peer.told[topic]:
        if heard.event == "presence_state":
            here = dict(_metas(heard.payload))
        elif heard.event == "presence_diff":
            assert heard.payload.keys() == {"joins", "leaves"}
            for ref, _ in _metas(heard.payload["leaves"]):
                here.pop(ref, None)
            here.update(_metas(heard.payload["joins"]))
    return sorted(here.values())


def _metas(grouped: Json) -> list[tuple[str, str]]:
    assert set(grouped) <= {"local"}, "the key is the token's name"
    return [(m["phx_ref"], m["transport"]) for each in grouped.values() for m in each["metas"]]


async def test_two_ways_ask_at_once_and_both_are_answered(connect: Connect, talk: str) -> None:
    """Prompts of all transports stand in one queue, each with one answer."""
    peers, _ = await everyone(connect, talk)
    turns = await asyncio.gather(*[ask(peer, talk, f"mine {n}") for n, peer in enumerate(peers)])
    assert len(set(turns)) == len(peers)
    for n, turn in enumerate(turns):
        assert (await peers[0].story(talk, turn)).text == f"You said: mine {n}"
