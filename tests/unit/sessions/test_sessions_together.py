"""Registry, actor, journal and hub together, over a backend without a process."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from bridge.auth import ADMIN, Principal
from bridge.commands import (
    After,
    AnswerRequest,
    ConfigureSession,
    JoinSession,
    NameSession,
    ReadHistory,
    RestartSession,
    StartOptions,
    StartSession,
    SubmitPrompt,
)
from bridge.config import AuthConfig
from bridge.errors import (
    BackendUnavailable,
    Forbidden,
    InternalError,
    InvalidName,
    InvalidPayload,
    JournalError,
    RateLimited,
    RequestClosed,
    SessionExists,
    SessionNotFound,
    TooManySessions,
    TurnNotFound,
    Unauthorized,
)
from bridge.events import RequestId, TurnId
from bridge.presence import GATHER_S
from bridge.sessions.backends.base import Liveness
from bridge.signals import (
    AnswerMoot,
    AnswerNeeded,
    BlockSettled,
    ProcessExited,
    PromptSeen,
    TextArrived,
    TurnEnded,
    UpstreamActive,
)
from bridge.tokens import digest
from bridge.wire.views import session_payload
from tests.fakes.backend import FakeBackend
from tests.fakes.clock import JumpingClock
from tests.fakes.house import ME, START, House, Viewer, call


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


async def test_a_join_with_start_makes_a_session_and_a_prompt_gets_its_answer(house: House) -> None:
    """The main job, without a process."""
    async with house.open() as service:
        joined, viewer = await house.join(service, "demo")
        assert joined.snapshot.session.name == "demo"
        reply = await call(service, "demo", SubmitPrompt(prompt="hello"))
        finished = await viewer.until("turn_finished")
        assert (finished.turn, finished.text, finished.status) == (reply["turn"], "hello", "completed")
        assert viewer.named("turn_queued", "turn_started", "delta", "block", "turn_finished") == [
            "turn_queued",
            "turn_started",
            "delta",
            "block",
            "turn_finished",
        ]


async def test_the_reply_comes_before_the_events_of_its_command(house: House) -> None:
    """Even where other events of the same tick have already asked for a flush."""
    async with house.open() as service:
        _, viewer = await house.join(service, "demo")
        order: list[str] = []
        service.call(
            ME,
            "demo",
            SubmitPrompt(prompt="x"),
            lambda reply: order.extend(["reply", *viewer.named("turn_queued")]),
        )
        await viewer.until("turn_queued")
        assert order == ["reply"]


async def test_fifty_prompts_at_once_give_fifty_turns_in_order(house: House) -> None:
    """One answer each."""
    async with house.open() as service:
        _, viewer = await house.join(service, "demo")
        replies = await asyncio.gather(
            *(call(service, "demo", SubmitPrompt(prompt=f"p{i}")) for i in range(50))
        )
        await viewer.until("turn_finished", 50)
        finished = [(e.turn, e.text) for e in viewer.seen if e.event == "turn_finished"]
        assert finished == [(r["turn"], f"p{i}") for i, r in enumerate(replies)]


async def test_the_same_id_twice_is_one_turn(house: House) -> None:
    """Also when both are on their way at once, and after the turn has ended."""
    async with house.open() as service:
        _, viewer = await house.join(service, "demo")
        command = SubmitPrompt(prompt="x", id="key")
        first, second = await asyncio.gather(call(service, "demo", command), call(service, "demo", command))
        assert second["turn"] == first["turn"]
        assert second["duplicate"] is True
        await viewer.until("turn_finished")
        third = await call(service, "demo", command)
        assert (third["turn"], third["status"]) == (first["turn"], "completed")
        assert len([t for t in house.backends["demo"].told if t[0] == "prompt"]) == 1


async def test_the_same_id_with_another_prompt_is_refused(house: House) -> None:
    """It would be answered with a turn that the caller did not mean."""
    async with house.open() as service:
        await house.join(service, "demo")
        await call(service, "demo", SubmitPrompt(prompt="x", id="key"))
        with pytest.raises(InvalidPayload):
            await call(service, "demo", SubmitPrompt(prompt="y", id="key"))


async def test_what_was_published_is_in_the_journal_already(house: House) -> None:
    """Facts are on disk before anybody hears of them."""
    async with house.open() as service:
        _, viewer = await house.join(service, "demo")
        await call(service, "demo", SubmitPrompt(prompt="x"))
        finished = await viewer.until("turn_finished")
        turn = await house.journal.turn("demo", finished.turn)  # type: ignore[arg-type]
        assert turn is not None
        assert (turn.status, turn.text, turn.blocks[0].block) == ("completed", "x", 0)


async def test_a_turn_is_read_as_it_was_told_wherever_it_is(house: House) -> None:
    """In the queue, open with its text so far, and finished; what never was is not found."""
    house.prepare = lambda backend: setattr(backend, "answer_prompts", False)
    async with house.open() as service:
        _, viewer = await house.join(service, "demo")
        first = (await call(service, "demo", SubmitPrompt(prompt="one", id="k")))["turn"]
        second = (await call(service, "demo", SubmitPrompt(prompt="two")))["turn"]
        backend = house.backends["demo"]
        await asyncio.wait_for(backend.prompted.wait(), 10)
        backend.say(PromptSeen(first), UpstreamActive(), TextArrived(0, "text", "so far"))
        await viewer.until("delta")
        running = await service.turn(ME, "demo", first)
        assert (running.status, running.text, running.key) == ("running", "so far", "k")
        assert (await service.turn(ME, "demo", second)).status == "queued"
        now = await service.look(ME, "demo")
        assert now.snapshot.open_turn == running
        assert ([t.id for t in now.snapshot.queue], now.snapshot.turns) == ([second], ())
        assert now.seq == viewer.subscriptions[0].topic.seq
        backend.say(BlockSettled(0, "text", "so far, so good", message="m"), TurnEnded("completed", None))
        await viewer.until("turn_finished")
        finished = await service.turn(ME, "demo", first)
        assert (finished.status, finished.text) == ("completed", "so far, so good")
        with pytest.raises(TurnNotFound):
            await service.turn(ME, "demo", "none")


async def test_who_follows_is_told_from_then_on_and_is_not_shown(house: House) -> None:
    """For who waits for something: nobody is there but who has joined."""
    async with house.open() as service:
        _, viewer = await house.join(service, "demo")
        follower = Viewer(house.told)
        follower.subscriptions.append(service.follow(ME, "demo", follower))
        follower.flush()
        await call(service, "demo", SubmitPrompt(prompt="x"))
        await follower.until("turn_finished")
        assert follower.seen[0].event == "turn_queued"
        assert follower.seen == viewer.seen[-len(follower.seen) :]
        await asyncio.sleep(2 * GATHER_S)  # who is there is told when this is over
        joined, _ = await house.join(service, "demo")
        assert len(joined.attendance.present) == 1


async def test_reading_needs_the_scope_and_the_session(house: House) -> None:
    """As a join does."""
    asker = Principal("asker", frozenset({"prompt"}))
    async with house.open() as service:
        await house.join(service, "demo")
        for ask in (
            lambda: service.turn(asker, "demo", "t"),
            lambda: service.look(asker, "demo"),
        ):
            with pytest.raises(Forbidden):
                await ask()
        with pytest.raises(Forbidden):
            service.follow(asker, "demo", Viewer())
        with pytest.raises(SessionNotFound):
            service.follow(ME, "none", Viewer())
        with pytest.raises(SessionNotFound):
            await service.turn(ME, "none", "t")


async def test_a_prompt_that_cannot_be_written_down_is_refused_and_the_session_goes_on(house: House) -> None:
    """The caller is told; the next life of the task begins from what is on disk."""
    async with house.open() as service:
        await house.join(service, "demo")
        write = house.journal.write

        def full(ops: Any) -> asyncio.Future[None]:
            failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            failed.set_exception(JournalError("disk full"))
            return failed

        house.journal.write = full  # type: ignore[method-assign]
        with pytest.raises(InternalError, match="disk full"):
            await call(service, "demo", SubmitPrompt(prompt="lost"))
        house.journal.write = write  # type: ignore[method-assign]
        house.prepare = lambda backend: setattr(backend, "liveness", Liveness.ALIVE)
        while True:
            try:
                await call(service, "demo", SubmitPrompt(prompt="kept", id="again"))
                break
            except InternalError:
                await asyncio.sleep(0)
        prompts = [t[2] for t in house.backends["demo"].told if t[0] == "prompt"]
        assert "lost" not in prompts


async def test_a_snapshot_and_the_events_after_it_never_tell_the_same_thing(house: House) -> None:
    """Joins in the thick of it: what a snapshot has as finished does not finish again, none is missed."""
    async with house.open() as service:
        _, witness = await house.join(service, "demo")
        turns = 60
        told = [
            asyncio.ensure_future(call(service, "demo", SubmitPrompt(prompt=f"p{i}"))) for i in range(turns)
        ]
        joins = []
        while len(witness.named("turn_finished")) < turns:
            joins.append(await house.join(service, "demo", JoinSession(turns=1000)))
            await asyncio.sleep(0)
        await asyncio.gather(*told)
        assert len(joins) > 5
        for joined, viewer in joins:
            known = [t.id for t in joined.snapshot.turns if t.status == "completed"]
            later = [e.turn for e in viewer.seen if e.event == "turn_finished"]
            assert sorted([*known, *later]) == sorted(
                e.turn for e in witness.seen if e.event == "turn_finished"
            )


async def test_a_mark_that_cannot_be_written_down_begins_the_task_anew(house: House) -> None:
    """Nobody waits for a mark to be on disk, but one that never gets there is as loud as any other write."""
    house.prepare = lambda backend: setattr(backend, "answer_prompts", False)
    async with house.open() as service:
        _, viewer = await house.join(service, "demo")
        turn = TurnId((await call(service, "demo", SubmitPrompt(prompt="x")))["turn"])
        backend = house.backends["demo"]
        await backend.prompted.wait()
        write = house.journal.write

        def full(ops: Any) -> asyncio.Future[None]:
            house.journal.write = write  # type: ignore[method-assign]
            failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            failed.set_exception(JournalError("disk full"))
            return failed

        house.journal.write = full  # type: ignore[method-assign]

        def adopted(backend: FakeBackend) -> None:
            backend.liveness = Liveness.ALIVE
            backend.replay = (PromptSeen(turn), TextArrived(0, "text", "hi"), TurnEnded("completed", "hi"))

        house.prepare = adopted
        backend.say(PromptSeen(turn))
        finished = await viewer.until("turn_finished")
        assert (finished.turn, finished.text) == (turn, "hi")
        assert house.backends["demo"] is not backend


async def test_a_journal_that_somebody_holds_is_waited_for(house: House) -> None:
    """A prompt is refused, and does not run later; what Claude says meanwhile is told once, afterwards."""
    house.busy_s = 0.01
    house.prepare = lambda backend: setattr(backend, "answer_prompts", False)
    async with house.open() as service:
        _, viewer = await house.join(service, "demo")
        turn = TurnId((await call(service, "demo", SubmitPrompt(prompt="x", id="key")))["turn"])
        backend = house.backends["demo"]
        await backend.prompted.wait()

        other = sqlite3.connect(house.folder / "journal.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")

        lives = []

        def adopted(backend: FakeBackend) -> None:
            lives.append(backend)
            backend.liveness = Liveness.ALIVE
            backend.replay = (PromptSeen(turn), TextArrived(0, "text", "hi"), TurnEnded("completed", "hi"))

        house.prepare = adopted
        backend.say(PromptSeen(turn), TextArrived(0, "text", "hi"), TurnEnded("completed", "hi"))
        await viewer.state(service, "unknown")
        [session] = service.list_sessions(ME)
        assert "another process has locked it" in (session.reason or "")
        joined, late = await house.join(service, "demo", JoinSession())
        assert joined.snapshot.open_turn is not None
        assert joined.snapshot.open_turn.id == turn
        for command in (SubmitPrompt(prompt="refused"), RestartSession(), ConfigureSession(model="m")):
            with pytest.raises(InternalError, match="locked"):
                await call(service, "demo", command)
        with pytest.raises(InternalError, match="locked"):
            await service.start(ME, StartSession(name="another"))
        with pytest.raises(InternalError, match="locked"):
            await service.delete(ME, NameSession(name="demo"))
        again = await call(service, "demo", SubmitPrompt(prompt="x", id="key"))
        assert (again["turn"], again["duplicate"]) == (turn, True)
        assert viewer.named("turn_finished") == []

        other.execute("ROLLBACK")
        other.close()
        for witness in (viewer, late):
            finished = await witness.until("turn_finished")
            assert (finished.turn, finished.text) == (turn, "hi")
        await viewer.state(service, "idle")
        [session] = service.list_sessions(ME)
        assert session.reason is None
        assert viewer.named("turn_finished") == late.named("turn_finished") == ["turn_finished"]
        assert [turn.prompt for turn in await service.history(ME, "demo", ReadHistory())] == ["x"]
        [node] = (await service.tree(ME))["children"]
        assert (node["restarts"], len(lives)) == (0, 1), "it did not wait, or called it a crash"


async def test_a_stop_answers_when_the_process_has_ended(house: House) -> None:
    """Whoever stopped it may rely on that."""
    async with house.open() as service:
        await house.join(service, "demo")
        stopped = await service.stop(ME, NameSession(name="demo"))
        assert stopped.state == "stopped"
        assert house.backends["demo"].told[-1] == "stop"


async def test_a_deleted_name_can_be_used_again_at_once(house: House) -> None:
    """And nothing of the old session is in the new one."""
    async with house.open() as service:
        _, viewer = await house.join(service, "demo")
        await call(service, "demo", SubmitPrompt(prompt="old", id="key"))
        await viewer.until("turn_finished")
        await service.delete(ME, NameSession(name="demo"))
        joined, _ = await house.join(service, "demo")
        assert joined.snapshot.turns == ()
        assert "duplicate" not in await call(service, "demo", SubmitPrompt(prompt="new", id="key"))


async def test_two_deletes_at_once_are_one_and_a_refusal(house: House) -> None:
    """Not a hang."""
    async with house.open() as service:
        await house.join(service, "demo")
        results = await asyncio.gather(
            service.delete(ME, NameSession(name="demo")),
            service.delete(ME, NameSession(name="demo")),
            return_exceptions=True,
        )
        assert sorted(type(r).__name__ for r in results) == ["NoneType", "SessionNotFound"]


async def test_two_joins_at_once_make_one_session(house: House) -> None:
    """A join storm does not start a process each."""
    async with house.open() as service:
        await asyncio.gather(*(house.join(service, "demo") for _ in range(20)))
        assert house.backends["demo"].told == [("start", 1, False)]


async def test_sessions_turns_and_queue_come_back_after_a_restart(house: House) -> None:
    """The bridge lets go and takes up again; the process never noticed."""
    house.prepare = lambda backend: setattr(backend, "answer_prompts", False)
    async with house.open() as service:
        await house.join(service, "demo")
        first = await call(service, "demo", SubmitPrompt(prompt="first", id="k1"))
        await call(service, "demo", SubmitPrompt(prompt="second"))
        backend = house.backends["demo"]
        _, viewer = await house.join(service, "demo")
        backend.say(PromptSeen(TurnId(first["turn"])), UpstreamActive(), TextArrived(0, "text", "so "))
        await viewer.until("delta")
    assert backend.told[-1] == "detach"

    def adopted(backend: FakeBackend) -> None:
        backend.liveness = Liveness.ALIVE
        backend.replay = (
            TextArrived(0, "text", "so "),
            TextArrived(0, "text", "on"),
            BlockSettled(0, "text", "so on", "m"),
            TurnEnded("completed", "so on"),
        )

    house.prepare = adopted
    async with house.open() as service:
        _, viewer = await house.join(service, "demo", JoinSession())
        await viewer.state(service, "idle")
        await house.join(service, "demo", JoinSession())  # a join's moment is one where all is on disk
        turns = await service.history(ME, "demo", ReadHistory())
        assert [(t.prompt, t.text, t.status) for t in turns] == [
            ("first", "so on", "completed"),
            ("second", "second", "completed"),
        ]
        again = await call(service, "demo", SubmitPrompt(prompt="first", id="k1"))
        assert again["turn"] == first["turn"]


async def test_a_process_that_is_gone_is_started_again_with_its_conversation(house: House) -> None:
    """And a join does not wait for it."""
    async with house.open() as service:
        _, viewer = await house.join(service, "demo")
        await call(service, "demo", SubmitPrompt(prompt="x"))
        await viewer.until("turn_finished")
    async with house.open() as service:
        joined, viewer = await house.join(service, "demo", JoinSession())
        assert joined.snapshot.session.state in ("unknown", "restarting", "idle")
        await call(service, "demo", SubmitPrompt(prompt="y"))
        await viewer.until("turn_finished")
        assert ("start", 2, True) in house.backends["demo"].told


@pytest.mark.parametrize("jump", [-3600.0, 3600.0])
async def test_a_clock_that_is_set_to_another_time_changes_nothing(house: House, jump: float) -> None:
    """In the middle of a turn, with one behind it, and again while no bridge runs."""
    clock = house.clock = JumpingClock()
    house.prepare = lambda backend: setattr(backend, "answer_prompts", False)
    async with house.open() as service:
        _, viewer = await house.join(service, "demo")
        turns = [(await call(service, "demo", SubmitPrompt(prompt=p, id=p)))["turn"] for p in ("a", "b")]
        backend = house.backends["demo"]
        await backend.prompted.wait()
        clock.set_by = jump
        turns.append((await call(service, "demo", SubmitPrompt(prompt="c")))["turn"])
        backend.say(PromptSeen(turns[0]), TurnEnded("completed", "a"))
        ended = await viewer.until("turn_finished")
        assert ended.duration_ms >= 0
        [session] = service.list_sessions(ME)
        assert session_payload(session, clock.now())["evidence"]["age_ms"] >= 0
        # Its process dies: the next one is started when that is due, and not in an hour.
        backend.say(ProcessExited(1, "died"))
        while ("start", 2, True) not in backend.told:
            await viewer.until("session_changed", len(viewer.named("session_changed")) + 1)
    clock.set_by = -jump
    house.prepare = lambda backend: None
    async with house.open() as service:
        _, viewer = await house.join(service, "demo", JoinSession())
        turns.append((await call(service, "demo", SubmitPrompt(prompt="d")))["turn"])
        again = await call(service, "demo", SubmitPrompt(prompt="b", id="b"))
        assert (again["turn"], again["duplicate"]) == (turns[1], True)
        while True:
            known = len(viewer.named("turn_finished"))  # one more may end while the history is read
            if len(history := await service.history(ME, "demo", ReadHistory())) == 4:
                break
            await viewer.until("turn_finished", known + 1)
        assert [turn.id for turn in history] == turns


async def test_a_process_that_will_not_start_fails_the_session_and_keeps_the_queue(tmp_path: Path) -> None:
    """After the budget: `failed`, with the reason."""
    house = House(tmp_path, restart_limit=1, restart_window_s=0.1)
    house.prepare = lambda backend: setattr(backend, "refuse", "no such flag")
    async with house.open() as service:
        _, viewer = await house.join(service, "demo")
        await viewer.state(service, "failed")
        [session] = service.list_sessions(ME)
        assert session.reason == "no such flag"
        house.backends["demo"].refuse = None
        _, existing = await service.start(ME, StartSession(name="demo"))
        assert existing
        await call(service, "demo", SubmitPrompt(prompt="x"))
        await viewer.until("turn_finished")


async def test_a_restart_overtakes_a_prompt_that_is_being_handed_over(house: House) -> None:
    """That it could not be handed over says nothing about the process that comes after."""
    async with house.open() as service:
        _, viewer = await house.join(service, "demo")
        await viewer.state(service, "idle")
        backend = house.backends["demo"]
        backend.hold = asyncio.Event()
        await call(service, "demo", SubmitPrompt(prompt="x"))
        with capture_logs() as said:
            await call(service, "demo", RestartSession())
            await viewer.state(service, "idle")
            backend.hold.set()
            await call(service, "demo", SubmitPrompt(prompt="y"))
            await viewer.until("turn_finished", 2)
        assert [t for t in backend.told if t[0] == "start"] == [("start", 1, False), ("start", 2, True)]
        assert [line["event"] for line in said if line["event"] == "planned a restart"] == []


async def test_text_that_is_read_again_after_a_crash_does_not_come_on_top(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The viewers of a session whose task begins again keep their numbers, and are told to forget."""
    house.prepare = lambda backend: setattr(backend, "answer_prompts", False)
    async with house.open() as service:
        _, viewer = await house.join(service, "demo")
        reply = await call(service, "demo", SubmitPrompt(prompt="x"))
        backend = house.backends["demo"]
        text = TextArrived(0, "text", "well ")
        backend.say(PromptSeen(TurnId(reply["turn"])), text)
        await viewer.until("delta")
        house.prepare = lambda backend: (
            setattr(backend, "liveness", Liveness.ALIVE),
            setattr(
                backend, "replay", (text, BlockSettled(0, "text", "well ", "m"), TurnEnded("completed", None))
            ),
        )
        with monkeypatch.context() as patch:
            failing = asyncio.get_running_loop().create_future()
            failing.set_exception(JournalError("the disk is full"))
            patch.setattr(house.journal, "write", lambda ops: failing)
            backend.say(BlockSettled(0, "text", "well ", "m"))
            joining = asyncio.ensure_future(house.join(service, "demo", JoinSession()))
            with pytest.raises(InternalError, match="restarted"):
                await joining
        await viewer.until("turn_finished")
        kinds = ("delta", "discard", "block", "turn_finished")
        assert viewer.named(*kinds) == ["delta", "discard", "delta", "block", "turn_finished"]


async def test_a_session_that_comes_back_stopped_has_no_process(house: House) -> None:
    """The bridge may have been killed between writing it down and ending the process."""
    async with house.open() as service:
        _, viewer = await house.join(service, "demo")
        await viewer.state(service, "idle")
        await service.stop(ME, NameSession(name="demo"))
    async with house.open() as service:
        await house.backends["demo"].stopped.wait()
        assert service.list_sessions(ME)[0].state == "stopped"
        assert house.backends["demo"].told == ["stop"]


async def test_one_death_costs_one_restart_however_often_it_is_noticed(tmp_path: Path) -> None:
    """The prompt that could not be handed over tells of it, and so does the process."""
    house = House(tmp_path, restart_limit=1, restart_window_s=60)
    async with house.open() as service:
        _, viewer = await house.join(service, "demo")
        await viewer.state(service, "idle")
        gone = ProcessExited(-9, "killed")
        house.backends["demo"].say(gone, gone)
        house.backends["demo"].say(gone)
        await call(service, "demo", SubmitPrompt(prompt="x"))
        await viewer.until("turn_finished")
        assert service.list_sessions(ME)[0].restarts == 1


async def test_an_answer_is_sent_then_told(house: House) -> None:
    """The request closes for everybody with who answered; a second answer is refused with that."""
    house.prepare = lambda backend: setattr(backend, "answer_prompts", False)
    async with house.open() as service:
        _, viewer = await house.join(service, "demo")
        await call(service, "demo", SubmitPrompt(prompt="x"))
        house.backends["demo"].say(UpstreamActive(), AnswerNeeded(RequestId("r1"), "permission", "Bash", {}))
        await viewer.until("request_opened")
        joined, _ = await house.join(service, "demo")
        assert [r.id for r in joined.snapshot.requests] == ["r1"]
        assert await call(service, "demo", AnswerRequest(request="r1", decision="allow")) == {}
        closed = await viewer.until("request_closed")
        assert (closed.outcome, closed.by) == ("allowed", "me")
        with pytest.raises(RequestClosed) as refused:
            await call(service, "demo", AnswerRequest(request="r1", decision="deny"))
        assert refused.value.details == {"request": "r1", "outcome": "allowed", "by": "me"}


async def test_of_an_answer_that_claude_was_given_it_is_not_said_that_nothing_was_done(house: House) -> None:
    """What cannot be written down is that it was. Once that is known, no more answers are given."""
    house.busy_s = 0.01
    house.prepare = lambda backend: setattr(backend, "answer_prompts", False)
    async with house.open() as service:
        _, viewer = await house.join(service, "demo")
        await call(service, "demo", SubmitPrompt(prompt="x"))
        backend = house.backends["demo"]
        backend.say(UpstreamActive(), AnswerNeeded(RequestId("r1"), "permission", "Bash", {}))
        await viewer.until("request_opened")
        other = sqlite3.connect(house.folder / "journal.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(InternalError, match="Claude was told"):
            await call(service, "demo", AnswerRequest(request="r1", decision="allow"))
        await viewer.state(service, "unknown")
        with pytest.raises(InternalError, match="Nothing was done"):
            await call(service, "demo", AnswerRequest(request="r1", decision="deny"))
        assert [t for t in backend.told if t[0] == "answer"] == [("answer", "r1", True)]
        other.close()


async def test_an_answer_that_a_person_was_quicker_than_is_refused_with_theirs(house: House) -> None:
    """Also where they said the other thing; where it is merely not heard, the request stays open."""
    house.prepare = lambda backend: setattr(backend, "answer_prompts", False)
    async with house.open() as service:
        _, viewer = await house.join(service, "demo")
        await call(service, "demo", SubmitPrompt(prompt="x"))
        backend = house.backends["demo"]
        backend.say(UpstreamActive(), AnswerNeeded(RequestId("r1"), "permission", "Bash", {}))
        await viewer.until("request_opened")
        backend.refuse = "it is not heard"
        with pytest.raises(InternalError, match="not heard"):
            await call(service, "demo", AnswerRequest(request="r1", decision="deny"))
        backend.before_answering = (AnswerMoot(RequestId("r1"), "allowed"),)
        with pytest.raises(RequestClosed) as refused:
            await call(service, "demo", AnswerRequest(request="r1", decision="deny"))
        assert refused.value.details == {"request": "r1", "outcome": "allowed", "by": None}
        closed = await viewer.until("request_closed")
        assert (closed.outcome, closed.by) == ("allowed", None)


async def test_a_refused_configuration_changes_nothing(house: House) -> None:
    """Claude's own words are in the refusal."""
    async with house.open() as service:
        _, viewer = await house.join(service, "demo")
        await viewer.state(service, "idle")
        house.backends["demo"].refuse = "no such mode"
        with pytest.raises(InvalidPayload, match="no such mode"):
            await call(service, "demo", ConfigureSession(permission_mode="plan"))
        assert service.list_sessions(ME)[0].permission_mode == "default"
        house.backends["demo"].refuse = None
        await call(service, "demo", ConfigureSession(permission_mode="plan"))
        assert service.list_sessions(ME)[0].permission_mode == "plan"


async def test_a_client_that_comes_back_gets_what_it_missed(house: House) -> None:
    """Every event after its cursor, and only those."""
    async with house.open() as service:
        joined, viewer = await house.join(service, "demo")
        await call(service, "demo", SubmitPrompt(prompt="x"))
        await viewer.until("turn_finished")
        after = After(epoch=joined.epoch, seq=joined.seq)
        again, _ = await house.join(service, "demo", JoinSession(after=after))
        assert again.recovered
        elsewhere = After(epoch="another", seq=joined.seq)
        fresh, _ = await house.join(service, "demo", JoinSession(after=elsewhere))
        assert not fresh.recovered
        assert [t.text for t in fresh.snapshot.turns] == ["x"]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"cwd": "relative"}, InvalidPayload),
        ({"cwd": "/"}, InvalidPayload),
        ({"cwd": "{folder}/nothing"}, InvalidPayload),
        ({"add_dirs": ["/etc"]}, InvalidPayload),
        ({"backend": "tmux"}, BackendUnavailable),
    ],
)
async def test_options_that_cannot_be_met_are_refused_and_leave_no_session(
    house: House, options: dict[str, Any], error: type[Exception]
) -> None:
    """A folder outside the roots, one that is not there, a backend this bridge has not."""
    if "cwd" in options:
        options = {"cwd": options["cwd"].format(folder=house.folder)}
    async with house.open() as service:
        with pytest.raises(error):
            await service.start(ME, StartSession(name="demo", **options))
        assert service.list_sessions(ME) == []


async def test_a_start_with_other_options_is_refused_a_join_is_not(house: House) -> None:
    """A rejoin carries the same `start` for ever and must never conflict."""
    async with house.open() as service:
        session, existing = await service.start(ME, StartSession(name="demo", model="a"))
        assert (session.name, existing) == ("demo", False)
        assert (await service.start(ME, StartSession(name="demo", model="a")))[1]
        with pytest.raises(SessionExists) as refused:
            await service.start(ME, StartSession(name="demo", model="b"))
        assert refused.value.details["differing"] == ["model"]
        await house.join(service, "demo", JoinSession(start=StartOptions(model="b")))


async def test_there_are_no_more_sessions_than_allowed(tmp_path: Path) -> None:
    """Stopped ones do not count."""
    house = House(tmp_path, max_sessions=1)
    async with house.open() as service:
        await house.join(service, "one")
        with pytest.raises(TooManySessions):
            await house.join(service, "two")
        await service.stop(ME, NameSession(name="one"))
        await house.join(service, "two")


async def test_sessions_without_a_process_have_a_limit_of_their_own(tmp_path: Path) -> None:
    """Neither kind takes the other's places."""
    house = House(tmp_path, max_sessions=1)
    async with house.open() as service:
        for name in ("one", "two"):
            await service.start(ME, StartSession(name=name, backend="api"))
        await service.start(ME, StartSession(name="process"))
        for backend, limit in (("api", 2), ("headless", 1)):
            with pytest.raises(TooManySessions) as refused:
                await service.start(ME, StartSession.model_validate({"name": "more", "backend": backend}))
            assert refused.value.details["limit"] == limit


async def test_a_session_without_a_process_has_its_own_defaults_and_no_terminal(tmp_path: Path) -> None:
    """The model and the mode that are meant for the CLI are not for it; nor is anything kept beside it."""
    house = House(tmp_path, model="sonnet", permission_mode="plan")
    async with house.open() as service:
        session, _ = await service.start(ME, StartSession(name="one", backend="api"))
        assert (session.model, session.permission_mode) == ("api-model", "default")
        with pytest.raises(InvalidPayload):
            await service.join_terminal(ME, "one", lambda: None)
        with pytest.raises(InvalidPayload) as refused:
            await service.start(ME, StartSession(name="two", on_restart="continue"))
        assert refused.value.details["field"] == "on_restart"


@pytest.mark.parametrize("name", ["", "-x", "a b", "ä", "x" * 65, "a/b", "a\n"])
async def test_a_bad_name_is_refused(house: House, name: str) -> None:
    """Before anything of it reaches a file name or tmux."""
    async with house.open() as service:
        with pytest.raises(InvalidName):
            await service.join(ME, name, START, Viewer(), "test")


async def test_a_join_without_start_does_not_make_a_session(house: House) -> None:
    """`session_not_found`."""
    async with house.open() as service:
        with pytest.raises(SessionNotFound):
            await service.join(ME, "demo", JoinSession(), Viewer(), "test")


async def test_scopes_are_checked_before_anything_happens(house: House) -> None:
    """Each refusal names the scope that is missing."""
    watcher = Principal("w", frozenset({"watch"}))
    async with house.open() as service:
        with pytest.raises(Unauthorized):
            service.authenticate("wrong")
        assert service.authenticate("secret-token") is ME
        with pytest.raises(Forbidden) as refused:
            await service.join(watcher, "demo", START, Viewer(), "test")
        assert refused.value.details == {"scope": "control"}
        await house.join(service, "demo")
        with pytest.raises(Forbidden):
            await call(service, "demo", SubmitPrompt(prompt="x"), watcher)
        controller = Principal("c", frozenset({"control", "watch"}))
        with pytest.raises(Forbidden) as refused:
            await call(service, "demo", ConfigureSession(permission_mode="bypassPermissions"), controller)
        assert refused.value.details == {"scope": "admin"}


GIVEN = AuthConfig.model_validate(
    {"tokens": [{"name": "ada", "hash": digest("a" * 32), "scopes": ["watch"]}], "joins_per_minute": 2}
)


async def test_a_token_that_is_taken_back_while_it_connects_is_ended(house: House) -> None:
    """Between the check and the connection lies an await; whoever slips through would stay for ever."""
    async with house.open() as service:
        service.admit(GIVEN)
        ada = service.authenticate("a" * 32)
        ended: list[str] = []
        service.connected(ada, lambda: ended.append("before"))
        service.connected(ME, lambda: ended.append("other"))
        assert service.admit(AuthConfig()) == 1
        service.connected(ada, lambda: ended.append("after"))
        assert ended == ["before", "after"]


async def test_joins_are_limited_for_each_token_over_all_topics(house: House) -> None:
    """The lobby's and a session's; another token has its own."""
    async with house.open() as service:
        await house.join(service, "demo")
        service.admit(GIVEN)
        ada = service.authenticate("a" * 32)
        service.join_lobby(ada, Viewer())
        await service.join(ada, "demo", JoinSession(), Viewer(), "test")
        with pytest.raises(RateLimited):
            await service.join(ada, "demo", JoinSession(), Viewer(), "test")
        with pytest.raises(RateLimited):
            service.join_lobby(ada, Viewer())
        with pytest.raises(RateLimited):
            await service.join_terminal(ada, "demo", lambda: None)
        await house.join(service, "demo")


async def test_a_token_for_some_sessions_sees_only_those(house: House) -> None:
    """In the lobby and in joins."""
    some = Principal("s", ADMIN, ("my-*",))
    async with house.open() as service:
        await house.join(service, "demo")
        await service.start(some, StartSession(name="my-own"))
        assert [s.name for s in service.list_sessions(some)] == ["my-own"]
        with pytest.raises(Forbidden):
            await service.join(some, "demo", JoinSession(), Viewer(), "test")
