"""Pools without workers, behind the real `Asking`: a question is answered by the script in its prompt.

`words N` gives N deltas at once, `open` begins an answer that `finish` ends, `crash` raises as a bug would.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from bridge.errors import PoolNotFound
from bridge.events import (
    BlockFinished,
    DeltaAdded,
    PoolChanged,
    SessionName,
    Turn,
    TurnFinished,
    TurnId,
    TurnStarted,
    Usage,
)
from bridge.sessions.pool import Asked, Pools
from bridge.sessions.question import Question

WORKER = SessionName("_pool-default-1")


def words_wanted(prompt: str) -> int:
    """N of `words N`; 1 for any other prompt, as one that a fuzzer made of it."""
    wanted = prompt.removeprefix("words ")
    return int(wanted) if wanted != prompt and wanted.isdecimal() and len(wanted) < 7 else 1


class FakePools:
    """One pool, `default`, which is called `a` as well."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now_s = now
        self.pool = FakePool(self)

    def as_pools(self) -> Pools:
        return cast(Pools, self)

    def watch(self, told: Callable[[str, PoolChanged], None]) -> None:
        self.told = told

    def get(self, name: str) -> FakePool:
        if name not in ("default", "a"):
            raise PoolNotFound(name)
        return self.pool


class FakePool:
    def __init__(self, pools: FakePools) -> None:
        self._pools = pools
        self.questions: list[Question] = []
        self.turns: dict[str, Turn] = {}

    def want(self) -> None:
        pass

    def now(self) -> PoolChanged:
        return PoolChanged(2, 2, 0, 0)

    async def ask(self, prompt: str, key: str | None, author: str) -> Asked:
        if prompt == "crash":
            raise RuntimeError("a bug")
        for known in self.questions:
            if key is not None and known.key == key:
                turn = self.turns[known.turn]
                return Asked(WORKER, turn if known.ended else None, known, turn.status, 0, True)
        at = self._pools.now_s()
        question = Question(TurnId(f"question-{len(self.questions) + 1}"), WORKER, key, prompt)
        self.questions.append(question)
        self.turns[question.turn] = Turn(
            question.turn, prompt, author, "client", "running", at, key, started_at=at
        )
        question.hear(at, TurnStarted(question.turn, prompt, author, "client"))
        words = [f"w{i} " for i in range(words_wanted(prompt))]
        for word in words:
            question.hear(at, DeltaAdded(question.turn, 0, "text", word))
        if prompt != "open":
            self.finish(question)
        return Asked(WORKER, None, question, "running", 0, False)

    def finish(self, question: Question) -> None:
        at, turn = self._pools.now_s(), self.turns[question.turn]
        count = words_wanted(turn.prompt)
        text = "".join(f"w{i} " for i in range(count))
        self.turns[question.turn] = Turn(
            question.turn,
            turn.prompt,
            turn.author,
            "client",
            "completed",
            at,
            turn.key,
            text.rstrip(),
            finished_at=at,
        )
        question.hear(at, BlockFinished(question.turn, 0, "text", text))
        usage = Usage(1, count)
        question.hear(at, TurnFinished(question.turn, "completed", text.rstrip(), None, usage, 0.001, 5))

    async def turn(self, asked: Asked) -> Turn | None:
        assert asked.question is not None
        return self.turns[asked.question.turn]
