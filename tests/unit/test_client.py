"""The command's Phoenix client, against a scripted bridge."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest
from aiohttp.test_utils import TestServer

from bridge import client
from bridge.client import Cursor, Submission, ask, connect, follow
from bridge.errors import BridgeUnreachable, RefusedByBridge, SetupError
from bridge.locate import Look
from tests.fakes.bridge_peer import FAILURES, Peer, Script, scripted

JOINED = {"epoch": "e1", "seq": 0, "recovered": False, "turns": [], "requests": [], "open_turn": None}
TOPIC = "session:demo"


@asynccontextmanager
async def bridge(*scripts: Script) -> AsyncIterator[Look]:
    """A bridge that plays the scripts, and where to look for it; afterwards none may have failed."""
    app = scripted(*scripts)
    async with TestServer(app) as server:
        yield Look(url=str(server.make_url("/")), token="to+ken/?", environ={})
    assert app[FAILURES] == []


async def never(_: float) -> None:
    """A backoff that takes no time."""


async def events(look: Look, count: int, **options: Any) -> list[tuple[str, dict[str, Any]]]:
    """The first `count` happenings of the session."""
    got = []
    async with aclosing(follow(look, "demo", sleep=never, **options)) as happenings:
        async for happening in happenings:
            got.append(happening)
            if len(got) == count:
                break
    return got


def joining(after: dict[str, Any] | None, reply: dict[str, Any]) -> Callable[[Peer], Awaitable[None]]:
    async def script(peer: Peer) -> None:
        join = await peer.expect("phx_join")
        assert join.payload.get("after") == after
        await join.reply(JOINED | reply)

    return script


async def test_a_question_is_answered() -> None:
    """Join, push, reply: with the token as phoenix.js sends it, outside of the URL."""

    async def script(peer: Peer) -> None:
        assert peer.token == "to+ken/?"
        await (await peer.expect("phx_join")).reply({"sessions": []})
        stop = await peer.expect("stop")
        assert (stop.topic, stop.payload) == ("sessions", {"name": "demo"})
        await stop.reply({"session": {"name": "demo"}})

    async with bridge(script) as look:
        assert await ask(look, "sessions", "stop", {"name": "demo"}) == {"session": {"name": "demo"}}


async def test_a_refusal_keeps_its_code_and_says_what_to_do() -> None:
    """The wire's reason, message and details, and a remedy where one is known."""

    async def script(peer: Peer) -> None:
        join = await peer.expect("phx_join")
        await join.reply(
            {"reason": "session_not_found", "message": "There is none.", "name": "demo"}, "error"
        )

    async with bridge(script) as look:
        with pytest.raises(RefusedByBridge) as caught:
            await ask(look, TOPIC, "interrupt", {})
    assert (caught.value.reason, caught.value.problem) == ("session_not_found", "There is none.")
    assert caught.value.details == {"name": "demo"}
    assert "claude-bridge start" in caught.value.remedy


async def test_a_wrong_token_is_told_from_a_missing_bridge() -> None:
    """HTTP 403 before the upgrade is how a Phoenix endpoint refuses."""
    from aiohttp import web

    async def refuse(_: web.Request) -> web.Response:
        return web.Response(status=403)

    app = web.Application()
    app.router.add_get("/socket/websocket", refuse)
    async with TestServer(app) as server:
        look = Look(url=str(server.make_url("/")), token="wrong", environ={})
        with pytest.raises(RefusedByBridge, match="does not accept this token"):
            await ask(look, "sessions", None, {})


async def test_something_else_on_the_port_is_said_to_be_so() -> None:
    """A web server that is no bridge answers 404."""
    from aiohttp import web

    async with TestServer(web.Application()) as server:
        look = Look(url=str(server.make_url("/")), token="t", environ={})
        with pytest.raises(BridgeUnreachable, match="not as a bridge"):
            await ask(look, "sessions", None, {})


async def test_nobody_listening_is_unreachable(unused_tcp_port: int) -> None:
    """With what to do about it."""
    look = Look(url=f"http://127.0.0.1:{unused_tcp_port}", token="t", environ={})
    with pytest.raises(BridgeUnreachable) as caught:
        await ask(look, "sessions", None, {})
    assert "claude-bridge serve" in caught.value.remedy


async def test_events_that_come_before_a_reply_are_kept() -> None:
    """A reply is waited for by its ref; what stands before it on the socket is not lost."""

    async def script(peer: Peer) -> None:
        await (await peer.expect("phx_join")).reply(JOINED)
        submit = await peer.expect("submit")
        await peer.broadcast(TOPIC, "turn_finished", seq=1, turn="t0")
        await submit.reply({"turn": "t1", "status": "queued", "position": 1})
        await peer.until_closed()

    async with bridge(script) as look:
        got = await events(look, 3, submission=Submission({"prompt": "hi", "id": "k"}))
    assert [event for event, _ in got] == ["joined", "submitted", "turn_finished"]


async def test_a_lost_connection_goes_on_after_the_last_event() -> None:
    """The rejoin says how far it got, and the caller sees each event once."""

    async def first(peer: Peer) -> None:
        await (await peer.expect("phx_join")).reply(JOINED)
        await peer.broadcast(TOPIC, "delta", seq=1, text="a")
        await peer.broadcast(TOPIC, "delta", seq=2, text="b")
        await peer.close(1012)

    async def second(peer: Peer) -> None:
        join = await peer.expect("phx_join")
        assert join.payload == {"turns": 20, "after": {"epoch": "e1", "seq": 2}}
        await join.reply(JOINED | {"recovered": True, "seq": 3})
        await peer.broadcast(TOPIC, "delta", seq=2, text="b")
        await peer.broadcast(TOPIC, "delta", seq=3, text="c")
        await peer.until_closed()

    async with bridge(first, second) as look:
        got = await events(look, 6, start={})
    assert [event for event, _ in got] == ["joined", "delta", "delta", "lost", "joined", "delta"]
    assert [p["text"] for e, p in got if e == "delta"] == ["a", "b", "c"]
    assert got[3][1] == {"why": "The bridge is stopping."}


async def test_a_missing_event_is_fetched_by_a_rejoin() -> None:
    """A gap in the numbers is never passed on."""

    async def first(peer: Peer) -> None:
        await (await peer.expect("phx_join")).reply(JOINED)
        await peer.broadcast(TOPIC, "delta", seq=2, text="b")
        await peer.until_closed()

    async def second(peer: Peer) -> None:
        await joining({"epoch": "e1", "seq": 0}, {"recovered": True})(peer)
        await peer.broadcast(TOPIC, "delta", seq=1, text="a")
        await peer.until_closed()

    async with bridge(first, second) as look:
        got = await events(look, 4)
    assert got[3] == ("delta", {"seq": 1, "text": "a"})


async def test_a_reconnect_before_the_reply_submits_under_the_same_id() -> None:
    """The bridge takes both for one prompt: it runs once."""
    seen = []

    async def first(peer: Peer) -> None:
        await (await peer.expect("phx_join")).reply(JOINED)
        seen.append((await peer.expect("submit")).payload)

    async def second(peer: Peer) -> None:
        await joining({"epoch": "e1", "seq": 0}, {"recovered": True})(peer)
        submit = await peer.expect("submit")
        seen.append(submit.payload)
        await submit.reply({"turn": "t1", "status": "running", "position": 0, "duplicate": True})
        await peer.until_closed()

    async with bridge(first, second) as look:
        await events(look, 4, submission=Submission({"prompt": "hi", "id": "k"}))
    assert seen == [{"prompt": "hi", "id": "k"}] * 2


async def test_a_reconnect_after_the_reply_submits_nothing() -> None:
    """What was accepted is never lost, so there is nothing to send again."""

    async def first(peer: Peer) -> None:
        await (await peer.expect("phx_join")).reply(JOINED)
        await (await peer.expect("submit")).reply({"turn": "t1", "status": "running", "position": 0})

    async def second(peer: Peer) -> None:
        await joining({"epoch": "e1", "seq": 0}, {"recovered": True})(peer)
        await peer.broadcast(TOPIC, "turn_finished", seq=1, turn="t1")
        await peer.until_closed()

    async with bridge(first, second) as look:
        got = await events(look, 5, submission=Submission({"prompt": "hi", "id": "k"}))
    assert [event for event, _ in got] == ["joined", "submitted", "lost", "joined", "turn_finished"]


async def test_an_end_that_fell_into_the_gap_is_told_from_the_snapshot() -> None:
    """The bridge was restarted meanwhile: another epoch, and the turn stands finished in the snapshot."""
    turn = {"id": "t1", "status": "completed", "text": "done"}

    async def first(peer: Peer) -> None:
        await (await peer.expect("phx_join")).reply(JOINED)
        await (await peer.expect("submit")).reply({"turn": "t1", "status": "running", "position": 0})

    async with bridge(
        first, joining({"epoch": "e1", "seq": 0}, {"epoch": "e2", "seq": 9, "turns": [turn]})
    ) as look:
        got = await events(look, 5, submission=Submission({"prompt": "hi", "id": "k"}))
    assert got[4] == ("turn_finished", {**turn, "turn": "t1"})


async def test_a_prompt_that_was_answered_long_ago_is_told_from_the_history() -> None:
    """The same id again returns the first turn, of which no event will come."""
    turn = {"id": "t1", "status": "completed", "text": "done"}

    async def script(peer: Peer) -> None:
        await (await peer.expect("phx_join")).reply(JOINED)
        submit = await peer.expect("submit")
        await submit.reply({"turn": "t1", "status": "completed", "position": 0, "duplicate": True})
        await (await peer.expect("history")).reply({"turns": [turn]})
        await peer.until_closed()

    async with bridge(script) as look:
        got = await events(look, 3, submission=Submission({"prompt": "hi", "id": "k"}))
    assert got[2] == ("turn_finished", {**turn, "turn": "t1"})


async def test_an_end_that_the_snapshot_has_left_out_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot is bounded; the history is read back as far as it takes."""
    monkeypatch.setattr(client, "PAGE", 2)
    turns = [{"id": f"t{n}", "status": "completed", "text": f"done {n}"} for n in range(1, 5)]

    async def first(peer: Peer) -> None:
        await (await peer.expect("phx_join")).reply(JOINED)
        await (await peer.expect("submit")).reply({"turn": "t1", "status": "running", "position": 0})

    async def second(peer: Peer) -> None:
        snapshot = {"epoch": "e2", "seq": 9, "turns": turns[3:]}
        await joining({"epoch": "e1", "seq": 0}, snapshot)(peer)
        asked = await peer.expect("history")
        assert "before" not in asked.payload
        await asked.reply({"turns": turns[2:]})
        asked = await peer.expect("history")
        assert asked.payload["before"] == "t3"
        await asked.reply({"turns": turns[:2]})
        await peer.until_closed()

    async with bridge(first, second) as look:
        got = await events(look, 5, submission=Submission({"prompt": "hi", "id": "k"}))
    assert got[4] == ("turn_finished", {**turns[0], "turn": "t1"})


async def test_a_turn_that_still_waits_after_a_reconnect_is_waited_for() -> None:
    """The snapshot has it in the queue, or open: no history tells more of it."""

    async def first(peer: Peer) -> None:
        await (await peer.expect("phx_join")).reply(JOINED)
        await (await peer.expect("submit")).reply({"turn": "t1", "status": "queued", "position": 1})

    async def second(peer: Peer) -> None:
        snapshot = {"epoch": "e2", "seq": 9, "queue": [{"id": "t1", "status": "queued"}]}
        await joining({"epoch": "e1", "seq": 0}, snapshot)(peer)
        await peer.broadcast(TOPIC, "turn_finished", seq=10, turn="t1")
        await peer.until_closed()

    async with bridge(first, second) as look:
        got = await events(look, 5, submission=Submission({"prompt": "hi", "id": "k"}))
    assert [event for event, _ in got] == ["joined", "submitted", "lost", "joined", "turn_finished"]


async def test_a_stopped_session_is_started_where_that_was_asked_for() -> None:
    """A join's `start` counts only for a new session, so the lobby starts this one."""

    async def script(peer: Peer) -> None:
        join = await peer.expect("phx_join")
        assert join.payload["start"] == {"model": "m"}
        await join.reply(JOINED)
        await (await peer.expect("submit")).reply({"reason": "session_stopped", "message": "x"}, "error")
        await (await peer.expect("phx_join")).reply({"sessions": []})
        start = await peer.expect("start")
        assert start.payload == {"name": "demo", "model": "m"}
        await start.reply({"session": {}})
        await (await peer.expect("submit")).reply({"turn": "t1", "status": "running", "position": 0})
        await peer.until_closed()

    async with bridge(script) as look:
        got = await events(look, 2, start={"model": "m"}, submission=Submission({"prompt": "p", "id": "k"}))
    assert got[1][0] == "submitted"


async def test_following_ends_when_the_session_is_deleted() -> None:
    """`phx_close` is how the contract says it."""

    async def script(peer: Peer) -> None:
        await (await peer.expect("phx_join")).reply(JOINED)
        await peer.broadcast(TOPIC, "phx_close")
        await peer.until_closed()

    async with bridge(script) as look:
        assert [event for event, _ in await events(look, 9)] == ["joined"]


async def test_a_bridge_that_stays_away_is_given_up() -> None:
    """After a minute of trying, with a word on where the session is."""
    times = iter(range(0, 1000, 10))

    async def first(peer: Peer) -> None:
        await (await peer.expect("phx_join")).reply(JOINED)
        await peer.close(1012)

    async with bridge(first) as look:
        with pytest.raises(BridgeUnreachable, match="has not come back") as caught:
            await events(look, 99, clock=lambda: float(next(times)))
    assert "claude-bridge tail demo" in caught.value.remedy
    assert next(times) == 80


async def test_a_silent_bridge_is_asked_for_a_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its answer is not passed on as an event."""
    monkeypatch.setattr(client, "HEARTBEAT_S", 0.01)

    async def script(peer: Peer) -> None:
        join = await peer.expect("phx_join")
        await join.reply(JOINED)
        beat = await peer.expect("heartbeat")
        assert beat.topic == "phoenix"
        monkeypatch.setattr(client, "HEARTBEAT_S", 100)
        await beat.reply({})
        await peer.broadcast(TOPIC, "delta", seq=1)
        async for _ in peer.ws:
            pass

    async with bridge(script) as look:
        got = await events(look, 2)
    assert got[1][0] == "delta"


async def test_choices_are_sent_as_the_questions_answers() -> None:
    """In the order of the questions, with the input they came with."""
    request = {"id": "r1", "kind": "question", "input": {"questions": [{"question": "Which?"}], "x": 1}}

    async def script(peer: Peer) -> None:
        await (await peer.expect("phx_join")).reply(JOINED | {"requests": [request]})
        answer = await peer.expect("answer")
        assert answer.payload["input"] == {**request["input"], "answers": {"Which?": "B"}}
        await answer.reply({})

    async with bridge(script) as look:
        await client.answer(look, "demo", {"request": "r1", "decision": "allow"}, ["B"])


async def test_as_many_choices_as_questions_are_needed() -> None:
    """Otherwise nothing is sent."""

    async def script(peer: Peer) -> None:
        await (await peer.expect("phx_join")).reply(JOINED)
        await peer.until_closed()

    async with bridge(script) as look:
        with pytest.raises(SetupError, match="0 questions and 1"):
            await client.answer(look, "demo", {"request": "r1", "decision": "allow"}, ["B"])


async def test_leaving_a_connection_closes_it() -> None:
    """The bridge need not wait for a timeout."""

    async def script(peer: Peer) -> None:
        await peer.until_closed()

    async with bridge(script) as look, connect(look.address()):
        pass


def test_a_merged_event_covers_its_range() -> None:
    """`first_seq` to `seq`: the next one is `seq + 1`."""
    cursor = Cursor("e", 4)
    assert cursor.take({"seq": 9, "first_seq": 5}) == "new"
    assert cursor.take({"seq": 11}) == "gap"
    assert cursor.take({"seq": 8}) == "seen"
    assert cursor.seq == 9


def test_a_snapshot_moves_the_cursor_and_a_recovery_does_not() -> None:
    """A recovered client keeps its own place, since what it missed follows now."""
    cursor = Cursor("e", 4)
    cursor.joined({"recovered": True, "epoch": "e", "seq": 9})
    assert cursor.after() == {"after": {"epoch": "e", "seq": 4}}
    cursor.joined({"recovered": False, "epoch": "f", "seq": 2})
    assert cursor.after() == {"after": {"epoch": "f", "seq": 2}}
