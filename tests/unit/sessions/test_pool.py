"""Pools over workers without processes: who answers what, who hears it, and what survives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bridge.auth import Principal
from bridge.commands import AskPool, JoinSession, NameSession, StartOptions
from bridge.config import PoolConfig
from bridge.errors import Forbidden, InvalidName, InvalidPayload, PoolNotFound, QueueFull, SetupError
from bridge.events import SessionName, TurnId
from bridge.service import Feed, Service
from bridge.sessions.backends.base import Liveness
from bridge.sessions.pool import Asked
from bridge.signals import BlockSettled, ProcessExited, TextArrived, ToolAnswered, ToolCalled, TurnEnded
from tests.fakes.backend import FakeBackend
from tests.fakes.clock import JumpingClock
from tests.fakes.house import ME, House, Viewer

OTHER = Principal("other", frozenset({"watch", "prompt"}), credential="other")


class Forgetting(FakeBackend):
    """Whose processes can forget; `unsure`: they say that they cannot."""

    unsure = False

    async def forget(self, turn: TurnId | None, *, pressing: bool) -> None:
        from bridge.errors import ProcessSpent

        self.told.append(("forget", turn))
        if self.unsure:
            raise ProcessSpent("it may know")


class PoolHouse(House):
    """With pools, and backends that forget; `slow`: nothing is answered until the test says so."""

    def __init__(self, folder: Path, **pool: Any) -> None:
        super().__init__(folder, max_sessions=1)
        self.pools = {"default": PoolConfig(**pool)}
        self.slow = False
        self.backend_type = Forgetting

        def prepare(backend: FakeBackend) -> None:
            backend.answer_prompts = not self.slow

        self.prepare = prepare

    def worker(self, number: int) -> FakeBackend:
        return self.backends[f"_pool-default-{number}"]


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110  (nothing tells)
            await asyncio.sleep(0.005)


async def ask(
    service: Service, prompt: str, id: str | None = None, who: Principal = ME, feed: Feed | None = None
) -> Asked:
    return await service.pools.ask(who, "default", AskPool(prompt=prompt, id=id), feed)


async def text_of(service: Service, asked: Asked) -> str:
    """What it is answered, once it is."""

    if asked.question is not None:
        question = asked.question
        await until(lambda: question.ended)
    return (await service.pools.turn("default", asked, AskPool(prompt="x"))).text


@pytest.fixture
def house(tmp_path: Path) -> PoolHouse:
    return PoolHouse(tmp_path, size=2, max_waiting=2)


async def test_a_question_is_answered_and_the_worker_forgets_it(house: PoolHouse) -> None:
    """Before the next one is handed to it."""
    async with house.open() as service:
        for number in range(4):
            assert await text_of(service, await ask(service, f"q{number}")) == f"q{number}"
        for worker in (1, 2):
            told = [t for t in house.worker(worker).told if t[0] in ("prompt", "forget")]
            assert told[0] == ("forget", None)
            prompts = [t for t in told if t[0] == "prompt"]
            assert len(prompts) == 2, "round robin among equals"
            after = [told[told.index(p) + 1] for p in prompts]
            assert after == [("forget", p[1]) for p in prompts]


async def test_nobody_sees_a_worker(house: PoolHouse) -> None:
    """Not in the lists, not by its name, and it counts against no limit."""
    async with house.open() as service:
        await text_of(service, await ask(service, "q"))
        assert service.list_sessions(ME) == []
        with pytest.raises(InvalidName):
            await house.join(service, "_pool-default-1", JoinSession())
        with pytest.raises(InvalidName):
            await service.delete(ME, NameSession(name="_pool-default-1"))
        await house.registry.start("mine", StartOptions(), joining=False)  # max_sessions is 1
        assert [s.name for s in service.list_sessions(ME)] == ["mine"]


async def test_the_same_id_asks_once_and_only_for_its_asker(house: PoolHouse) -> None:
    """Also where it was asked at the same moment, and after the answer."""
    async with house.open() as service:
        first, second = await asyncio.gather(ask(service, "q", "k"), ask(service, "q", "k"))
        assert [first.duplicate, second.duplicate].count(True) == 1
        assert await text_of(service, first) == "q"
        again = await ask(service, "q", "k")
        assert again.turn is not None
        assert (again.turn.text, again.turn.key, again.duplicate) == ("q", "k", True)
        with pytest.raises(InvalidPayload):
            await ask(service, "something else", "k")
        others = await ask(service, "something else", "k", OTHER)
        assert not others.duplicate
        assert await text_of(service, others) == "something else"


async def test_a_bridge_that_comes_back_knows_the_ids(house: PoolHouse) -> None:
    """Of what was answered, and of what goes on."""
    async with house.open() as service:
        done = await ask(service, "done", "k1")
        await text_of(service, done)
        house.worker(1).answer_prompts = house.worker(2).answer_prompts = False
        open_ = await ask(service, "open", "k2")
        assert open_.question is not None
        worker = house.backends[open_.worker]
        await until(worker.prompted.is_set)
        turn = open_.question.turn

    def prepare(backend: FakeBackend) -> None:
        backend.liveness = Liveness.ALIVE
        backend.answer_prompts = False

    house.prepare = prepare
    async with house.open() as service:
        again = await ask(service, "done", "k1")
        assert again.turn is not None
        assert again.turn.text == "done"
        goes_on = await ask(service, "open", "k2")
        assert goes_on.question is not None
        assert (goes_on.question.turn, goes_on.duplicate) == (turn, True)
        heard: list[Any] = []
        goes_on.question.listen(lambda at, event: heard.append(event))
        worker = house.backends[goes_on.worker]
        await until(lambda: worker.launch is not None)
        worker.say(TextArrived(0, "text", "so"), BlockSettled(0, "text", "so", "m"))
        worker.say(TurnEnded("completed", None))
        await until(lambda: goes_on.question is not None and goes_on.question.ended)
        assert (heard[-1].event, heard[-1].text) == ("turn_finished", "so")


async def test_answers_are_kept_for_so_long_and_their_ids_with_them(house: PoolHouse) -> None:
    """After that the same id is a new question; nothing of the old one is left."""
    clock = JumpingClock()
    house.clock = clock
    house.pools = {"default": PoolConfig(size=1, keep_s=100)}
    async with house.open() as service:
        await text_of(service, await ask(service, "q", "k"))
    clock.set_by = 99
    async with house.open() as service:
        assert (await ask(service, "q", "k")).duplicate
    clock.set_by = 200
    async with house.open() as service:
        worker = SessionName("_pool-default-1")
        async with asyncio.timeout(20):
            while await house.journal.turns(worker, None, 10):  # noqa: ASYNC110  (nothing tells)
                await asyncio.sleep(0.005)
        again = await ask(service, "something else", "k")
        assert not again.duplicate
        assert await text_of(service, again) == "something else"


async def test_what_is_too_much_is_refused(house: PoolHouse) -> None:
    """Two are answered, two may wait."""
    house.slow = True
    async with house.open() as service:
        asked = [await ask(service, f"q{n}") for n in range(4)]
        with pytest.raises(QueueFull) as refused:
            await ask(service, "one more")
        assert refused.value.details == {"limit": 2}
        assert sorted(a.worker for a in asked) == ["_pool-default-1"] * 2 + ["_pool-default-2"] * 2
        worker = house.worker(1)
        await until(worker.prompted.is_set)
        worker.answer_prompts = True
        worker.say(BlockSettled(0, "text", "x", "m"), TurnEnded("completed", None))
        for one in asked:
            if one.worker == "_pool-default-1":
                await text_of(service, one)
        await ask(service, "one more")


async def test_a_process_that_used_tools_or_is_not_sure_is_replaced(house: PoolHouse) -> None:
    """Without a word of it to anybody, and it costs no budget; the next question waits for the next one."""
    house.slow = True
    async with house.open() as service:
        asked = await ask(service, "q")
        worker = house.backends[asked.worker]
        assert isinstance(worker, Forgetting)
        await until(worker.prompted.is_set)
        worker.say(ToolCalled(0, "t", "Bash", {}, "m"), ToolAnswered("t", "out", False))
        worker.unsure = True
        worker.say(TurnEnded("completed", "done"))
        assert await text_of(service, asked) == "done"
        await until(lambda: ("start", 2, False) in worker.told)
        assert ("forget", None) in worker.told[worker.told.index(("forget", None)) + 1 :]
        actor = house.registry.worker(SessionName(asked.worker))
        assert actor is not None
        assert actor.core.facts.restarts == 0
        worker.unsure = False


async def test_a_worker_that_dies_without_a_word_is_asked_again_and_else_never(house: PoolHouse) -> None:
    """As with sessions; and it never takes the old conversation up."""
    house.slow = True
    async with house.open() as service:
        silent, spoken = await ask(service, "silent"), await ask(service, "spoken")
        for asked in (silent, spoken):
            await until(house.backends[asked.worker].prompted.is_set)
        house.backends[silent.worker].answer_prompts = True
        house.backends[silent.worker].say(ProcessExited(-9, "killed"))
        house.backends[spoken.worker].say(TextArrived(0, "text", "half"), ProcessExited(-9, "killed"))
        assert await text_of(service, silent) == "silent"
        assert await text_of(service, spoken) == "half"
        turn = await service.pools.turn("default", spoken, AskPool(prompt="x"))
        assert turn.status == "unknown"
        starts = [t for b in house.backends.values() for t in b.told if t[0] == "start"]
        assert len(starts) >= 4
        assert not any(resume for _, _, resume in starts)


async def test_workers_that_nobody_wants_any_more_are_ended(house: PoolHouse) -> None:
    """Of a pool that is gone, and of one that became smaller."""
    house.pools["more"] = PoolConfig(size=1)
    async with house.open() as service:
        await text_of(service, await ask(service, "q"))
        await until(lambda: "_pool-more-1" in house.backends)
        await until(lambda: house.registry.worker(SessionName("_pool-more-1")) is not None)
    house.pools = {"default": PoolConfig(size=1)}
    async with house.open() as service:
        await until(lambda: [a.name for a in house.registry.workers()] == ["_pool-default-1"])
        with pytest.raises(PoolNotFound):
            await service.pools.ask(ME, "more", AskPool(prompt="q"), None)
    assert "delete" in house.backends["_pool-more-1"].told


async def test_a_pool_without_a_table_starts_nothing_until_somebody_comes(house: PoolHouse) -> None:
    """An unused bridge costs nothing."""
    house.pools = {}
    async with house.open() as service:
        await house.registry.start("mine", StartOptions(), joining=False)
        assert list(house.backends) == ["mine"]
        service.pools.join(ME, "default", Viewer(house.told))
        await until(lambda: len(house.backends) == 3)


async def test_who_may_not_is_refused(house: PoolHouse) -> None:
    """A token's patterns say which pools, by `pool:` and the name."""
    async with house.open() as service:
        for who in (
            Principal("x", frozenset({"watch"})),
            Principal("x", frozenset({"prompt"}), ("default", "team-*")),
        ):
            with pytest.raises(Forbidden):
                await ask(service, "q", who=who)
        await ask(service, "q", who=Principal("x", frozenset({"prompt"}), ("pool:d*",)))


async def test_a_pool_that_cannot_run_here_keeps_the_bridge_from_starting(house: PoolHouse) -> None:
    """Said where it stands, before anybody asks."""
    house.pools["odd"] = PoolConfig(cwd="/nowhere/at/all")
    with pytest.raises(SetupError, match=r"pools\.odd: cwd"):
        async with house.open():
            pass
    await house.journal.close()
