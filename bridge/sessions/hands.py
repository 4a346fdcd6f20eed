"""Does a session's effects on its backend, one after the other, beside the session's own task.

A start or a stop does not wait behind a prompt that a hung process will not read: it ends what is being
done and drops what waits, because both make it void.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog

from bridge.errors import BackendError, JournalError, ProcessSpent, TmuxError
from bridge.events import TurnId
from bridge.sessions.backends.base import Answer, Backend, Checkpoint, File, Forgetful, Launch, Liveness
from bridge.sessions.effects import (
    Effect,
    ForgetTurn,
    SendAnswer,
    SendInterrupt,
    SendPrompt,
    SendSettings,
)
from bridge.sessions.starts import Place, Pressing, Starts

log = structlog.get_logger(__name__)

Outcome = Exception | None
Finished = Callable[[Outcome], None]


@dataclass(frozen=True, slots=True)
class _Job:
    label: str
    work: Callable[[], Awaitable[object]]
    finished: Finished


Files = Callable[[TurnId], Awaitable[Sequence[File]]]
"""Reads what came with a turn's prompt. Raises `JournalError`."""


async def _no_files(_: TurnId) -> Sequence[File]:
    return ()


class Hands:
    def __init__(self, backend: Backend, starts: Starts, files: Files = _no_files) -> None:
        self._backend = backend
        self._starts = starts
        self._files = files
        self._place: Place | None = None
        self._jobs: deque[_Job] = deque()
        self._wake = asyncio.Event()
        self._current: asyncio.Task[Outcome] | None = None

    def do(self, effect: Effect, finished: Finished) -> None:
        """`finished` hears of its end, once, whatever it was; so for every job."""
        self._put(_Job(type(effect).__name__, lambda: self._work(effect), finished))

    def start(
        self, launch: Launch, keep: Callable[[], Awaitable[None]], finished: Finished, pressing: Pressing
    ) -> None:
        """Once it has its place among the starts, which it keeps until `started` is called. `keep` is done
        first; where it raises `OSError`, nothing is started."""
        self._preempt("the process is being started afresh")

        async def begin() -> None:
            self._place = await self._starts.place(pressing)
            try:
                await keep()
                await self._backend.start(launch)
            except BaseException:
                self.started()
                raise

        self._put(_Job("start", begin, finished))

    def started(self) -> None:
        """The process that was being started is ready, or never will be: another may start."""
        if self._place is not None:
            self._place.leave()
            self._place = None

    def keep(self, keep: Callable[[], Awaitable[None]]) -> None:
        """In its turn. A start or a stop makes it void as well."""
        self._put(_Job("keep", keep, lambda _: None))

    def stop(self, finished: Finished) -> None:
        self._preempt("the session was stopped")
        self._put(_Job("stop", self._backend.stop, finished))

    def delete(self, finished: Finished) -> None:
        self._preempt("the session was deleted")

        async def remove() -> None:
            await self._backend.stop()
            await self._backend.delete()

        self._put(_Job("delete", remove, finished))

    async def adopt(self, launch: Launch, checkpoint: Checkpoint | None) -> Liveness:
        """Before anything that waits, so that what is asked for meanwhile finds the process; UNKNOWN where
        there was no answer, or a stop or start came first."""
        found = Liveness.UNKNOWN
        done = asyncio.Event()

        async def look() -> None:
            nonlocal found
            found = await self._backend.adopt(launch, checkpoint)

        self._jobs.appendleft(_Job("adopt", look, lambda _: done.set()))
        self._wake.set()
        await done.wait()
        return found

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                while not self._jobs:
                    self._wake.clear()
                    await self._wake.wait()
                job = self._jobs.popleft()
                task = self._current = group.create_task(self._attempt(job), name=job.label)
                try:
                    await asyncio.wait({task})
                finally:
                    self._current = None
                    if not task.done() or task.cancelled():
                        job.finished(BackendError("it was overtaken by a stop or restart"))
                    elif task.exception() is None:
                        job.finished(task.result())

    async def _attempt(self, job: _Job) -> Outcome:
        try:
            await job.work()
        except ProcessSpent as e:
            return e
        except (BackendError, TmuxError, OSError, JournalError) as e:
            log.warning("an effect failed", effect=job.label, error=str(e))
            return e
        return None

    def _put(self, job: _Job) -> None:
        self._jobs.append(job)
        self._wake.set()

    def _preempt(self, why: str) -> None:
        self.started()
        if self._current is not None:
            self._current.cancel()
        while self._jobs:
            self._jobs.popleft().finished(BackendError(why))

    async def _send(self, effect: SendPrompt) -> None:
        # Not before it is their turn: what waits must not fill the memory.
        files = await self._files(effect.turn) if effect.attachments else ()
        if len(files) != len(effect.attachments):
            raise JournalError("not all of them are there")
        await self._backend.send_prompt(effect.turn, effect.prompt, files)

    def _work(self, effect: Effect) -> Awaitable[object]:
        match effect:
            case SendPrompt():
                return self._send(effect)
            case SendInterrupt():
                return self._backend.interrupt()
            case ForgetTurn(turn=turn, pressing=pressing):
                return _forget(self._backend, turn, pressing)
            case SendSettings(model=model, permission_mode=mode):
                return self._backend.configure(model, mode)
            case SendAnswer():
                answer = Answer(
                    effect.allow, effect.input, effect.suggestions, effect.message, effect.interrupt
                )
                return self._backend.answer(effect.request, answer)
            case _:
                raise AssertionError(f"{effect} is not done to a running process")


async def _forget(backend: Backend, turn: TurnId | None, pressing: bool) -> None:
    if not isinstance(backend, Forgetful):
        raise ProcessSpent("its process cannot forget")
    await backend.forget(turn, pressing=pressing)
