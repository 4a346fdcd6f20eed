"""The line to one running CLI: its output becomes signals, and what it is told goes in by its FIFO.

Knows one generation of one session, from the moment its process is held until it is let go of or gone.
Starting, finding and ending processes is `headless`' concern.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal as signals
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import structlog

from bridge.errors import BackendError, TmuxError
from bridge.events import RequestId, TurnId
from bridge.sessions.backends.base import Batch, Checkpoint, File, Sink
from bridge.sessions.backends.pane import PaneWriter, Transcript
from bridge.sessions.backends.pipe import Pipe
from bridge.sessions.backends.process import Process, reap
from bridge.sessions.backends.tail import FileWatch, Tail
from bridge.sessions.claude import stdin
from bridge.sessions.claude.launch import ERR, IN, OUT
from bridge.sessions.claude.stream_json import ControlAsked, ControlReply, Item, Segment, StreamParser
from bridge.sessions.tmux import Pane
from bridge.signals import AnswerMoot, LimitReached, ProcessExited, ProcessReady, Signal

log = structlog.get_logger(__name__)

CONTROL_S = 15
"""For the answer to a control request: the CLI takes milliseconds, on a very loaded machine a second."""

STDERR_BYTES = 2000
STDERR_LINES = 8
"""Of what the CLI said last on stderr: enough to see why it ended."""

OURS = "bridge-"
"""How the ids of our control requests begin; the CLI's are bare UUIDs."""

STATUS_TRIES = 50
STATUS_AGAIN_S = 0.02
"""tmux learns of a death by itself, a moment before or after us, and calls a pane dead a moment before it
knows how that came. A second in all: a loaded machine has made half of that too short."""


class Link:
    """Built for a process that runs. `sink` gets its batches; nothing follows `close`."""

    def __init__(
        self,
        generation: int,
        folder: Path,
        process: Process,
        sink: Sink,
        watch: FileWatch,
        *,
        tty: str,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        """Raises `BackendError` where the folder lacks what the process was started with."""
        self.generation = generation
        self.process = process
        self.stopping = False
        """Its end is wanted: no `ProcessExited` follows."""
        self.why: str | None = None
        self.unfit: str | None = None
        """See `memory.Running`."""
        self.prompted = False
        """A prompt was sent through here: what is sent from now on is new to the CLI."""
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the process has ended and all it said has been handed over."""
        self._folder = folder
        self._sink = sink
        self._parser = StreamParser(checkpoint)
        self._replies: dict[str, asyncio.Future[ControlReply]] = {}
        self._greeting: str | None = None
        self._answered: set[str] = set()
        self._heard_at = asyncio.get_running_loop().time()
        self._pane = PaneWriter(tty)
        self._transcript = Transcript()
        self._deadline: asyncio.TimerHandle | None = None
        self._ask_status: Callable[[], list[Pane]] = list
        self._pipe = Pipe(folder / IN)
        try:
            self._tail = Tail(folder / OUT, self._parser.offset, watch, self._take)
        except OSError as e:
            self._pipe.close()
            raise BackendError(f"the process's output could not be opened: {e.strerror}") from e

    def open(
        self, ask_status: Callable[[], list[Pane]], ready_s: float, ready: ProcessReady | None = None
    ) -> None:
        """Read what there is, then ask whether the CLI is ready; one that says nothing for `ready_s` is
        ended. Where that is known, `ready` is said in its place. `ask_status` asks tmux for the pane, in a
        thread, when the process has ended."""
        self._ask_status = ask_status
        self.process.when_gone(self._ended)
        if ready is not None:
            self._tail.when_caught_up(lambda: self.emit(ready))
            return
        self._deadline = asyncio.get_running_loop().call_later(ready_s, self._give_up, ready_s)
        self._tail.when_caught_up(self._greet)

    @property
    def writable(self) -> bool:
        return self._pipe.idle and not self._pipe.closed

    async def prompt(self, turn: TurnId, text: str, identity: str, files: Sequence[File] = ()) -> None:
        """`identity` is the prompt's id as the CLI is told it."""
        self._parser.expect(turn, identity)
        self.prompted = True
        self._pane.write(self._transcript.prompt(text))
        await self._pipe.write(stdin.prompt(identity, text, files))

    async def ask(self, subtype: str, *, within_s: float = CONTROL_S, **arguments: Any) -> ControlReply:
        """A control request and its answer. Raises `BackendError` where there is none in time, where the
        CLI refuses, and where it ends."""
        request = f"{OURS}{uuid4().hex}"
        reply: asyncio.Future[ControlReply] = asyncio.get_running_loop().create_future()
        self._replies[request] = reply
        try:
            async with asyncio.timeout(within_s):
                await self._pipe.write(stdin.control(request, subtype, **arguments))
                said = await reply
        except TimeoutError:
            raise BackendError(f"claude did not answer {subtype!r} within {within_s:g} s") from None
        finally:
            self._replies.pop(request, None)
        if not said.ok:
            raise BackendError(said.error or f"claude refused {subtype!r}")
        return said

    @property
    def busy(self) -> bool:
        """A prompt is being answered, as far as has been read."""
        return self._parser.busy

    @property
    def silent_s(self) -> float:
        """Since it said anything."""
        return asyncio.get_running_loop().time() - self._heard_at

    async def prove(self, within_s: float) -> None:
        """Have it say something, or kill it: what it is asked it does not know, and any answer will do."""
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        with contextlib.suppress(BackendError):
            await self.ask("ping", within_s=within_s)
        waited_s = loop.time() - max(asked_at, self._heard_at)
        if waited_s >= within_s and not self.gone.done() and not self.stopping:
            self._kill(f"claude hung: it said nothing for {self.silent_s:.0f} s, and did not answer")

    async def answer(self, request: RequestId, line: bytes) -> None:
        self._answered.add(request)
        await self._pipe.write(line)

    def say_goodbye(self) -> None:
        """Ask the CLI to end by itself: it breaks off what it does, keeps it, and exits in 0.1 s."""
        self._pipe.put(stdin.control(f"{OURS}{uuid4().hex}", "end_session"))

    async def flush(self, within_s: float) -> None:
        """Wait until nothing is half written, as far as the process reads."""
        if not self._pipe.idle:
            async with asyncio.timeout(within_s):
                await self._pipe.write(b"")

    def emit(self, *known: Signal) -> None:
        self._sink(Batch(self.generation, known))

    def committed(self, checkpoint: Checkpoint) -> None:
        self._tail.free(int(checkpoint.get("offset", 0)))

    def note(self, text: str) -> None:
        self._pane.write(self._transcript.note(text))

    def close(self) -> None:
        """Let go of it. The process is not touched."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._tail.close()
        self._pipe.close()
        self._pane.close()
        self.process.close()
        self._fail_replies()

    # --- what it says -----------------------------------------------------------------------------------

    def _take(self, data: bytes) -> None:
        self._heard_at = asyncio.get_running_loop().time()
        if self._parser.broken:
            return
        for segment in self._parser.feed(data):
            self._hand_over(segment)
        if self._parser.broken and not self.stopping and not self.gone.done():
            self._kill("some of what claude said is lost: it could not be written, as on a full disk")

    def _hand_over(self, segment: Segment) -> None:
        said: list[Signal] = []
        for item in segment.items:
            said += self._translate(item)
        if not said:
            return
        if any(isinstance(s, LimitReached) for s in said):
            self.prompted = False  # the CLI counts its own words as an answer: its id may be used up
        mark = None
        if segment.checkpoint is not None:
            mark = {**segment.checkpoint, "generation": self.generation}
        self._sink(Batch(self.generation, tuple(said), mark))
        self._pane.write("".join(map(self._transcript.show, said)))

    def _translate(self, item: Item) -> list[Signal]:
        match item:
            case ControlReply():
                return self._replied(item)
            case ControlAsked(request=request, subtype=subtype):
                self._pipe.put(stdin.refuse(request, f"the bridge does not know {subtype!r}"))
                return []
            case _:
                return [item]

    def _replied(self, reply: ControlReply) -> list[Signal]:
        if reply.request == self._greeting:
            self._greeting = None
            if self._deadline is not None:
                self._deadline.cancel()
            # A refusal is an answer, too: what was asked for is a sign of life.
            mode, state = reply.payload.get("current_permission_mode"), reply.payload.get("session_state")
            busy = state is not None and state != "idle"
            return [ProcessReady(permission_mode=mode if isinstance(mode, str) else None, busy=busy)]
        waiting = self._replies.get(reply.request)
        if waiting is not None:
            if not waiting.done():
                waiting.set_result(reply)
            return []
        if reply.request.startswith(OURS) or reply.request in self._answered:
            return []
        # The CLI repeats the answers it gets: this one was given through a bridge that is no more.
        return [AnswerMoot(RequestId(reply.request))]

    def _greet(self) -> None:
        self._greeting = f"{OURS}{uuid4().hex}"
        self._pipe.put(stdin.control(self._greeting, "initialize", hooks=None))

    def _give_up(self, after_s: float) -> None:
        self._kill(f"claude did not answer within {after_s:g} s")

    def _kill(self, why: str) -> None:
        self.why = why
        log.warning("killed the process", pid=self.process.pid, why=why)
        self.process.send(signals.SIGKILL)

    # --- its end ----------------------------------------------------------------------------------------

    def _ended(self) -> None:
        self._tail.when_caught_up(self._drained)

    def _drained(self) -> None:
        self._hand_over(Segment(self._parser.end(), None))
        self._pipe.close()
        self._fail_replies()
        if self.stopping:
            self._finished()
        else:
            self._look_for_status(STATUS_TRIES)

    def _look_for_status(self, tries: int) -> None:
        asked = asyncio.get_running_loop().run_in_executor(None, self._ask_status)
        asked.add_done_callback(lambda answer: self._status_known(answer, tries))

    def _status_known(self, asked: asyncio.Future[list[Pane]], tries: int) -> None:
        if self._tail.closed:
            return
        failed = asked.cancelled() or isinstance(asked.exception(), TmuxError)
        pane = None if failed else next(iter(asked.result()), None)
        if pane is not None and pane.exit_code is None and tries > 1:
            reap(pane.server_pid)
            asyncio.get_running_loop().call_later(STATUS_AGAIN_S, self._look_for_status, tries - 1)
            return
        code = pane.exit_code if pane is not None else None
        if not self.stopping:
            exited = ProcessExited(code, self.why or exit_reason(self._folder, code))
            # What it said has been taken in with this; read again, it would be a turn that nobody asked for.
            end = {**self._parser.finish(), "generation": self.generation}
            self._sink(Batch(self.generation, (exited,), end))
            self.note("the process has ended")
        self._finished()

    def _finished(self) -> None:
        if not self.gone.done():
            self.gone.set_result(None)

    def _fail_replies(self) -> None:
        for reply in self._replies.values():
            if not reply.done():
                reply.set_exception(BackendError("the process is gone"))


def exit_reason(folder: Path, code: int | None) -> str:
    """Why a process ended, for a person: its status, and the last it said on stderr."""
    if code is None:
        how = "claude ended"
    elif code < 0:
        how = f"claude was ended by {signal_name(-code)}"
    else:
        how = f"claude ended with status {code}"
    try:
        with (folder / ERR).open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - STDERR_BYTES))
            lines = file.read().decode(errors="replace").strip().splitlines()
    except OSError:
        lines = []
    said = "\n".join(lines[-STDERR_LINES:])
    return f"{how}: {said}" if said else how


def signal_name(number: int) -> str:
    try:
        return signals.Signals(number).name
    except ValueError:
        return f"signal {number}"
