"""The backend behind its port, with an API of our own: what follows what, and what a session may not meet."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from types import SimpleNamespace as Event
from typing import Any

import pytest

from bridge.commands import StartOptions
from bridge.config import ApiConfig
from bridge.errors import BackendError, JournalError
from bridge.events import Block, SessionName, Turn, TurnError, TurnId, Usage
from bridge.sessions.backends.api import ApiBackend, ApiHost
from bridge.sessions.backends.api_client import Body, UpstreamFailed
from bridge.sessions.backends.api_conversation import Past
from bridge.sessions.backends.base import Batch, File, Launch, Liveness
from bridge.signals import BlockSettled, ProcessReady, Signal, TextArrived, TurnEnded, UpstreamRetrying

NAME, TURN = SessionName("demo"), TurnId("t1")
PATIENCE_S = 20.0


class Api:
    """Stands in for `Upstream`: answers with what a test has laid down, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Body] = []
        self.answers: list[list[Event] | UpstreamFailed] = []
        self.tokens: int | None = None
        self.counts = 0
        self.warmed = 0
        self.hold = asyncio.Event()

    async def made(self) -> Any:
        return self

    async def warm(self) -> None:
        self.warmed += 1

    async def count(self, body: Body) -> int | None:
        self.counts += 1
        return self.tokens

    async def ask(self, body: Body, heard: Callable[[Any], None]) -> None:
        self.asked.append(body)
        answer = self.answers.pop(0)
        if isinstance(answer, UpstreamFailed):
            raise answer
        for event in answer:
            if event is HOLD:
                await self.hold.wait()
            else:
                heard(event)
            await asyncio.sleep(0)


HOLD = Event(type="hold")


def answer(text: str, *, hold: bool = False, tokens: int = 10) -> list[Event]:
    usage = Event(input_tokens=tokens, output_tokens=1)
    return [
        Event(type="message_start", message=Event(usage=usage)),
        Event(type="content_block_start", index=0, content_block=Event(type="text", text="")),
        Event(type="content_block_delta", index=0, delta=Event(type="text_delta", text=text)),
        *([HOLD] if hold else []),
        Event(type="content_block_stop", index=0),
        Event(type="message_delta", delta=Event(stop_reason="end_turn"), usage=Event(output_tokens=5)),
        Event(type="message_stop"),
    ]


class Rig:
    def __init__(self, folder: Path, **config: Any) -> None:
        self.history: list[Turn] = []
        self.open: tuple[Turn, bool] | None = None
        self.broken = False
        self.read = 0
        self.files: dict[TurnId, tuple[File, ...]] = {}
        settings = ApiConfig(**{"key": "k", "max_retries": 2, **config})
        self.host = ApiHost(folder, settings, {}, Past(self._turns, self._opened, self._files))
        self.api = Api()
        self.host.upstream = self.api  # type: ignore[assignment]
        self.signals: list[Signal] = []
        self.batches: list[Batch] = []
        self._more = asyncio.Event()
        self.backend = self.another()

    def another(self) -> ApiBackend:
        return self.host.backend(NAME, self._take)

    def launch(self, **options: Any) -> Launch:
        return Launch(NAME, 1, "c", False, StartOptions(**options))

    async def until(self, kind: type[Signal], text: str | None = None) -> Any:
        """The first of this kind since the last were cleared, or the first that says this text."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                seen = (s for s in self.signals if isinstance(s, kind))
                found = next((s for s in seen if text is None or getattr(s, "text", None) == text), None)
                if found is not None:
                    return found
                self._more.clear()
                await self._more.wait()

    def _take(self, batch: Batch) -> None:
        self.batches.append(batch)
        self.signals += batch.signals
        self._more.set()

    async def _turns(self, name: SessionName, before: TurnId | None, limit: int) -> Sequence[Turn]:
        if self.broken:
            raise JournalError("gone")
        self.read += 1
        ids = [turn.id for turn in self.history]
        end = len(ids) if before is None else ids.index(before)
        return self.history[max(0, end - limit) : end]

    async def _opened(self, name: SessionName) -> tuple[Turn, bool] | None:
        if self.broken:
            raise JournalError("gone")
        return self.open

    async def _files(self, name: SessionName, turn: TurnId) -> Sequence[File]:
        return self.files.get(turn, ())


@contextlib.asynccontextmanager
async def attended(backend: ApiBackend) -> AsyncIterator[ApiBackend]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(backend.attend())
        await asyncio.sleep(0)
        yield backend
        task.cancel()
    await backend.detach()


def turn(number: int, text: str = "answered", prompt: str = "asked") -> Turn:
    return Turn(TurnId(f"old-{number}"), prompt, None, "client", "completed", 0.0, text=text)


OPEN = Turn(TURN, "ask", None, "client", "running", 0.0)


async def test_a_prompt_is_one_request_and_its_turn_ends(tmp_path: Path) -> None:
    """With what it used; the same identity again runs nothing."""
    rig = Rig(tmp_path)
    async with attended(rig.backend) as backend:
        await backend.start(rig.launch(model="claude-sonnet-5-5"))
        rig.api.answers.append(answer("so", hold=True))
        await backend.send_prompt(TURN, "ask")
        await rig.until(TextArrived)
        await backend.send_prompt(TURN, "ask")
        with pytest.raises(BackendError, match="another"):
            await backend.send_prompt(TurnId("t2"), "ask")
        rig.api.hold.set()
        end = await rig.until(TurnEnded)
    assert isinstance(rig.signals[0], ProcessReady)
    assert (end.status, end.usage) == ("completed", Usage(10, 5))
    assert end.cost_usd == pytest.approx((10 * 2 + 5 * 10) / 1e6)
    assert len(rig.api.asked) == 1
    assert rig.batches[-1].checkpoint == {"ended": TURN}


async def test_the_file_goes_once_the_end_is_in_the_journal(tmp_path: Path) -> None:
    """And not before."""
    rig = Rig(tmp_path)
    file = tmp_path / "sessions" / "demo" / "answer.part"
    async with attended(rig.backend) as backend:
        await backend.start(rig.launch())
        rig.api.answers.append(answer("so"))
        await backend.send_prompt(TURN, "ask")
        await rig.until(TurnEnded)
        backend.committed({"ended": "another"})
        assert file.exists()
        backend.committed({"ended": TURN})
        assert not file.exists()


async def test_an_interrupted_answer_ends_as_such_once(tmp_path: Path) -> None:
    """With what its prompt cost; an interrupt of nothing is nothing."""
    rig = Rig(tmp_path)
    async with attended(rig.backend) as backend:
        await backend.start(rig.launch())
        await backend.interrupt()
        rig.api.answers.append(answer("so", hold=True))
        await backend.send_prompt(TURN, "ask")
        await rig.until(TextArrived)
        await backend.interrupt()
        await backend.interrupt()
    ends = [s for s in rig.signals if isinstance(s, TurnEnded)]
    assert [(e.status, e.usage) for e in ends] == [("interrupted", Usage(10, 1))]


async def test_an_interrupt_that_comes_too_late_says_nothing(tmp_path: Path) -> None:
    """The connection fails while it is closed, and the cancellation is lost: that failure is the end."""
    rig = Rig(tmp_path)
    refused = UpstreamFailed(TurnError("api_error", "It broke."), passing=False)

    async def stubborn(body: Body, heard: Callable[[Any], None]) -> None:
        for event in answer("so")[:3]:
            heard(event)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise refused from None

    rig.api.ask = stubborn  # type: ignore[method-assign]
    async with attended(rig.backend) as backend:
        await backend.start(rig.launch())
        await backend.send_prompt(TURN, "ask")
        await rig.until(TextArrived)
        await backend.interrupt()
    assert [s.status for s in rig.signals if isinstance(s, TurnEnded)] == ["failed"]


async def test_what_does_not_pass_is_not_asked_again(tmp_path: Path) -> None:
    """What passes is, as often as the setting says; the error is the last one."""
    rig = Rig(tmp_path)
    passing = UpstreamFailed(TurnError("overloaded", "Overloaded", 529), passing=True, wish_s=0.001)
    refused = UpstreamFailed(TurnError("invalid_request", "No", 400), passing=False)
    async with attended(rig.backend) as backend:
        await backend.start(rig.launch())
        rig.api.answers += [passing, refused]
        await backend.send_prompt(TURN, "ask")
        end = await rig.until(TurnEnded)
        assert (end.status, end.error) == ("failed", refused.error)
        rig.signals.clear()
        rig.api.answers += [passing] * 3
        await backend.send_prompt(TurnId("t2"), "ask")
        end = await rig.until(TurnEnded)
    assert end.error == passing.error
    retries = [s for s in rig.signals if isinstance(s, UpstreamRetrying)]
    assert [(r.attempt, r.limit, r.error) for r in retries] == [
        (1, 2, "overloaded (529)"),
        (2, 2, "overloaded (529)"),
    ]


async def test_a_request_that_is_too_long_is_made_shorter(tmp_path: Path) -> None:
    """Though the estimate said that it would fit; where nothing can be left out, it fails."""
    rig = Rig(tmp_path, context_tokens=2000, max_tokens=500)
    rig.history = [turn(n, prompt="x" * 300) for n in range(10)]
    too_long = UpstreamFailed(TurnError("invalid_request", "long", 400), passing=False, too_long=True)
    async with attended(rig.backend) as backend:
        await backend.start(rig.launch())
        rig.api.answers += [too_long, answer("so")]
        await backend.send_prompt(TURN, "ask")
        assert (await rig.until(TurnEnded)).status == "completed"
        sizes = [len(body["messages"]) for body in rig.api.asked]
        assert sizes[1] < sizes[0]
        rig.signals.clear()
        rig.history = []
        rig.api.answers.append(too_long)
        await backend.send_prompt(TurnId("t2"), "ask")
        assert (await rig.until(TurnEnded)).error == too_long.error


async def test_only_a_conversation_near_the_limit_is_counted_and_only_once(tmp_path: Path) -> None:
    """After that the API's own figures say how far the estimate is off."""
    rig = Rig(tmp_path, context_tokens=3000, max_tokens=1000)
    rig.history = [turn(n, prompt="x" * 300) for n in range(20)]
    rig.api.tokens = 1000
    async with attended(rig.backend) as backend:
        await backend.start(rig.launch())
        for n in range(3):
            rig.signals.clear()
            rig.api.answers.append(answer("so", tokens=1000))
            await backend.send_prompt(TurnId(f"t{n}"), "ask")
            await rig.until(TurnEnded)
    assert rig.api.counts == 1
    assert [len(body["messages"]) for body in rig.api.asked] == [41, 41, 41]


async def test_what_cannot_be_read_fails_the_turn(tmp_path: Path) -> None:
    """Nothing is asked without the conversation."""
    rig = Rig(tmp_path)
    async with attended(rig.backend) as backend:
        await backend.start(rig.launch())
        rig.broken = True
        await backend.send_prompt(TURN, "ask")
        end = await rig.until(TurnEnded)
        assert (end.status, end.error.code) == ("failed", "internal")
        assert await backend.adopt(rig.launch(), None) is Liveness.UNKNOWN
    assert rig.api.asked == []


async def cut(rig: Rig, text: str = "so far ") -> None:
    """An answer that a bridge was killed in."""
    async with attended(rig.backend) as backend:
        await backend.start(rig.launch())
        rig.api.answers.append(answer(text, hold=True))
        await backend.send_prompt(TURN, "ask")
        await rig.until(TextArrived)
    assert not any(isinstance(s, TurnEnded) for s in rig.signals), "letting go said something"
    rig.signals.clear()
    rig.backend = rig.another()


async def test_an_answer_that_was_cut_is_interrupted_with_its_text(tmp_path: Path) -> None:
    """Whether or not the journal has heard that it had begun."""
    for journaled in (True, False):
        rig = Rig(tmp_path / str(journaled))
        await cut(rig)
        rig.open = (OPEN, journaled)
        async with attended(rig.backend) as backend:
            assert await backend.adopt(rig.launch(), None) is Liveness.ALIVE
        *said, end, ready = rig.signals
        assert TextArrived(0, "text", "so far ") in said
        assert isinstance(end, TurnEnded)
        assert end.error is not None
        assert (end.status, end.error.code, end.usage) == ("interrupted", "bridge_restarted", Usage(10, 1))
        assert isinstance(ready, ProcessReady)


async def test_an_answer_that_was_complete_is_told_as_it_was(tmp_path: Path) -> None:
    """The bridge was killed between the API's last word and the journal."""
    rig = Rig(tmp_path)
    async with attended(rig.backend) as backend:
        await backend.start(rig.launch())
        rig.api.answers.append(answer("so"))
        await backend.send_prompt(TURN, "ask")
        end = await rig.until(TurnEnded)
    rig.signals.clear()
    rig.open = (OPEN, True)
    async with attended(rig.another()) as backend:
        await backend.adopt(rig.launch(on_restart="continue"), None)
    assert rig.signals[-2] == end
    assert BlockSettled(0, "text", "so") in rig.signals


async def test_a_session_that_is_adopted_has_its_client_made_before_the_next_prompt(tmp_path: Path) -> None:
    """Loading the package takes a second, which that prompt would wait for."""
    rig = Rig(tmp_path)
    async with attended(rig.backend) as backend:
        assert await backend.adopt(rig.launch(), None) is Liveness.ALIVE
        await asyncio.sleep(0)
        assert rig.api.warmed == 1


async def test_what_belongs_to_a_turn_that_is_over_is_forgotten(tmp_path: Path) -> None:
    """Else it would be told as another turn; and what was not begun is the core's to send again."""
    for opened in (None, (Turn(TurnId("t2"), "next", None, "client", "running", 0.0), False)):
        rig = Rig(tmp_path / str(opened is None))
        await cut(rig)
        rig.open = opened
        async with attended(rig.backend) as backend:
            assert await backend.adopt(rig.launch(), None) is Liveness.ALIVE
        assert [type(s) for s in rig.signals] == [ProcessReady]


async def test_a_turn_whose_file_is_gone_is_interrupted_with_what_the_journal_has(tmp_path: Path) -> None:
    """It had begun, so that it is not sent again."""
    rig = Rig(tmp_path)
    blocks = (Block(0, "thinking", "hm"),)
    rig.open = (Turn(TURN, "ask", None, "client", "running", 0.0, blocks=blocks), True)
    async with attended(rig.backend) as backend:
        await backend.adopt(rig.launch(), None)
    assert BlockSettled(0, "thinking", "hm") in rig.signals
    assert isinstance(rig.signals[-2], TurnEnded)


async def test_an_answer_goes_on_behind_its_text(tmp_path: Path) -> None:
    """Twice, where it is cut off twice: every part is a block of one message, and each is asked for once."""
    rig = Rig(tmp_path, on_restart="continue")
    await cut(rig)
    rig.open = (OPEN, True)
    async with attended(rig.backend) as backend:
        rig.api.answers.append(answer("and so ", hold=True))
        await backend.adopt(rig.launch(), None)
        await rig.until(TextArrived, "and so ")
    assert BlockSettled(0, "text", "so far ") in rig.signals
    rig.signals.clear()
    async with attended(rig.another()) as backend:
        rig.api.answers.append(answer("on"))
        await backend.adopt(rig.launch(), None)
        end = await rig.until(TurnEnded)
    assert [s for s in rig.signals if isinstance(s, BlockSettled)] == [
        BlockSettled(0, "text", "so far "),
        BlockSettled(1, "text", "and so "),
        BlockSettled(2, "text", "on"),
    ]
    assert [m["content"][0]["text"] for m in rig.api.asked[-1]["messages"]][:2] == ["ask", "so far and so"]
    assert end.usage == Usage(30, 7)


async def test_another_model_counts_from_the_next_prompt_on(tmp_path: Path) -> None:
    """A permission mode is refused: there is nothing to permit."""
    rig = Rig(tmp_path, thinking="adaptive", caching=False)
    async with attended(rig.backend) as backend:
        await backend.start(rig.launch())
        await backend.configure("other", None)
        with pytest.raises(BackendError):
            await backend.configure(None, "plan")
        rig.api.answers.append(answer("so"))
        await backend.send_prompt(TURN, "ask", [File("a", "image/png", b"x")])
        end = await rig.until(TurnEnded)
    (body,) = rig.api.asked
    assert (body["model"], body["thinking"]["type"]) == ("other", "adaptive")
    assert body["messages"][0]["content"][0]["type"] == "image"
    assert "cache_control" not in str(body)
    assert end.cost_usd is None
