"""A backend without a process: it does at once what a process would, and can be told to fail.

For tests of the session's task, which must not care what runs below it. Says what it was told in `told`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from bridge.errors import BackendError
from bridge.events import RequestId, TurnId
from bridge.sessions.backends.base import Answer, Batch, Checkpoint, File, Launch, Liveness, Sink
from bridge.signals import (
    BlockSettled,
    ProcessExited,
    ProcessReady,
    PromptSeen,
    Signal,
    TextArrived,
    TurnEnded,
)


class FakeBackend:
    """`answer_prompts` off: prompts are taken and nothing comes until the test calls `say`."""

    def __init__(self, sink: Sink, *, answer_prompts: bool = True) -> None:
        self.sink = sink
        self.answer_prompts = answer_prompts
        self.liveness = Liveness.GONE
        self.replay: tuple[Signal, ...] = ()
        self.before_answering: tuple[Signal, ...] = ()
        self.told: list[Any] = []
        self.refuse: str | None = None
        self.hold: asyncio.Event | None = None
        self.stopped = asyncio.Event()
        self.launch: Launch | None = None
        self.prompted = asyncio.Event()
        self.committed_at: list[Checkpoint] = []
        self.person = False
        """Somebody is attached."""
        self.looks = 0
        """How often it was asked whether somebody is."""

    @property
    def attach(self) -> str | None:
        return "tmux attach"

    @property
    def pid(self) -> int | None:
        return 1 if self.launch else None

    def say(self, *signals: Signal, checkpoint: Checkpoint | None = None) -> None:
        assert self.launch is not None
        self.sink(Batch(self.launch.generation, signals, checkpoint))

    async def start(self, launch: Launch) -> None:
        self.told.append(("start", launch.generation, launch.resume))
        if self.refuse:
            raise BackendError(self.refuse)
        self.launch = launch
        self.say(ProcessReady())

    async def adopt(self, launch: Launch, checkpoint: Checkpoint | None) -> Liveness:
        self.told.append(("adopt", launch.generation, checkpoint))
        if self.liveness is Liveness.ALIVE:
            self.launch = launch
            self.say(*self.replay, ProcessReady())
        return self.liveness

    async def send_prompt(self, turn: TurnId, prompt: str, files: Sequence[File] = ()) -> None:
        if self.hold is not None:
            await self.hold.wait()
        self.told.append(("prompt", turn, prompt))
        self.prompted.set()
        if self.answer_prompts:
            self.say(PromptSeen(turn))
            self.say(
                TextArrived(0, "text", prompt),
                BlockSettled(0, "text", prompt, "m"),
                TurnEnded("completed", prompt),
                checkpoint={"after": turn},
            )

    async def interrupt(self) -> None:
        self.told.append("interrupt")

    async def answer(self, request: RequestId, answer: Answer) -> None:
        self.say(*self.before_answering)
        if self.refuse:
            raise BackendError(self.refuse)
        self.told.append(("answer", request, answer.allow))

    async def configure(self, model: str | None, permission_mode: str | None) -> None:
        if self.refuse:
            raise BackendError(self.refuse)
        self.told.append(("configure", model, permission_mode))

    async def attended(self) -> bool:
        self.looks += 1
        return self.person

    async def stop(self) -> None:
        self.told.append("stop")
        self.stopped.set()
        if self.launch is not None:
            self.say(ProcessExited(-15, "stopped"))
        self.launch = None

    def committed(self, checkpoint: Checkpoint) -> None:
        self.committed_at.append(checkpoint)

    async def attend(self) -> None:
        return

    async def detach(self) -> None:
        self.told.append("detach")

    async def delete(self) -> None:
        self.told.append("delete")
