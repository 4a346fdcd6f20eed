"""The line to one running TUI: what it lets be seen becomes signals. Knows one generation of one session.

Hooks arrive here from `hooks`, the status file and the transcript are watched, the process is held by its
pidfd; `claude.tui` puts them together. Typing is `tui`'s concern.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog

from bridge.events import Outcome
from bridge.sessions.backends.base import Batch, Checkpoint, Sink
from bridge.sessions.backends.kept import transcript_path
from bridge.sessions.backends.process import Process
from bridge.sessions.backends.status import StatusFiles, read_status
from bridge.sessions.backends.tail import CHUNK, FileWatch, Tail
from bridge.sessions.claude.messages import entry_of
from bridge.sessions.claude.tui import REFUSAL_S, TuiReader
from bridge.signals import AnswerMoot, LimitReached, LivenessLost, ProcessReady, Signal, TurnEnded

log = structlog.get_logger(__name__)

TICK_S = 0.1
DOUBT_S = 5.0
"""After an adoption a script may ask what was answered while no bridge ran; it tries twice a second."""
READY_S = 1.5
"""From `SessionStart` to a box that takes keys, where there is no status file to tell."""
BLOCKED: dict[str, Any] = {
    "decision": "block",
    "reason": "Somebody typed while a prompt was being sent. Nothing was sent; it is in the box again.",
}


class TuiLink:
    """Built for a process that runs. Also the `hooks.Receiver` of its session."""

    def __init__(
        self,
        generation: int,
        process: Process,
        config_dir: Path,
        sink: Sink,
        watch: FileWatch,
        statuses: StatusFiles,
        reader: TuiReader,
        *,
        adopted: bool = False,
    ) -> None:
        """Raises `OSError` where the status files cannot be watched."""
        self.generation = generation
        self.process = process
        self.reader = reader
        self.stopping = False
        """Its end is wanted: no `ProcessExited` follows."""
        self.why: str | None = None
        self.unfit: str | None = None
        """See `memory.Running`."""
        self.heard = 0
        """Counts what it let be heard of it."""
        self.ready = False
        self.armed: str | None = None
        """Our own text for which Enter was, or is about to be, pressed."""
        self.blocked: str | None = None
        """A text that was sent with ours in it, and was put back."""
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._config_dir = config_dir
        self._sink = sink
        self._watch = watch
        self._answers: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._left: set[str] = set()
        """Questions that only the terminal can answer."""
        self._tail: Tail | None = None
        self._path: Path | None = None
        self._begun_at: float | None = None
        self._at_odds = False
        self._closed = False
        self.offered = False
        """The account's limit was met: the TUI may have asked what to do."""
        self.given_up: Callable[[], None] = lambda: None
        """Called when what was entered last has ended as if it never was."""
        self._changed = asyncio.Event()
        self._adopted = self._reading = adopted
        """Something happened before this bridge looked; it is still being read."""
        if adopted:
            reader.doubt(_now() + DOUBT_S)
        self._unfollow = statuses.follow(config_dir, process.pid, self._look_at_status)

    # --- its life ---------------------------------------------------------------------------------------

    def open(self) -> None:
        """Read what there is."""
        self.process.when_gone(self._process_gone)
        said = read_status(self._config_dir, self.process.pid) or {}
        if said.get("sessionId") not in (None, self.reader.conversation):
            self.read_out()  # nobody was here when a person began another conversation
        self._look_at_status()
        self._find()
        if self._tail is None:
            self._read_up()

    def close(self) -> None:
        """Nothing is said any more. The process is left as it is."""
        self._closed = True
        self._unfollow()
        self.process.close()
        if self._tail is not None:
            self._tail.close()
        for answer in self._answers.values():
            answer.cancel()  # asked again, by the next bridge or never
        self._changed.set()

    async def until(self, come: Callable[[], bool], seconds: float) -> bool:
        """Wait until something has come about, for so long; whether it has."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not come():
                    if self._closed or self.gone.done():
                        return come()
                    self._changed.clear()
                    await self._changed.wait()
        return come()

    def tick(self) -> None:
        """Ten times a second while something is expected."""
        if self._closed:
            return
        now = _now()
        self._find()
        if not self.ready:
            self._perhaps_ready(now)
        self.emit(self.reader.tick(now), "transcript")
        why = self.reader.contradiction(now)
        if why is not None and not self._at_odds:
            self._at_odds = True
            self.emit([LivenessLost(why)], "status_file")

    @property
    def busy(self) -> bool:
        """A tick could make a difference."""
        works = self.reader.open or self.reader.status_now in ("busy", "waiting")
        return works or not self.ready or bool(self._answers)

    @property
    def expected(self) -> bool:
        """Something is to come of it, and no person has to answer it first."""
        waits = self.reader.status_now == "waiting" or any(map(self.reader.asks, self._answers))
        return self.busy and not waits and not self.stopping and not self.gone.done()

    def kill(self, why: str) -> None:
        """`ProcessExited` follows, and says why."""
        self.why = why
        log.warning("killed the process", pid=self.process.pid, why=why)
        self.process.send(signal.SIGKILL)

    def read_out(self) -> None:
        """The process is gone: take in the rest of what it wrote."""
        self._find()
        path = self._path
        if path is None:
            return
        with contextlib.suppress(OSError), path.open("rb") as file:
            file.seek(self.reader.offset)
            # Its last line may be half of one.
            while data := file.read(CHUNK):
                self._take(data)

    # --- what comes in ------------------------------------------------------------------------------------

    def hook(self, event: dict[str, Any]) -> dict[str, Any]:
        if self._closed:
            return {}
        self.heard += 1
        name = event.get("hook_event_name")
        if isinstance(path := event.get("transcript_path"), str) and self._tail is None:
            self._path = Path(path) if Path(path).stem == self.reader.conversation else self._path
        if name == "SessionStart":
            self._begun_at = _now()
        elif name == "UserPromptSubmit" and self.armed is not None:
            text = str(event.get("prompt", ""))
            if not self.reader.expects(text) and self.armed.rstrip() in text:
                # Keys of a person's came in between.
                self.blocked = text
                self._changed.set()
                return BLOCKED
        self.emit(self.reader.hook(event, _now()), f"hook:{name}")
        return {}

    def asked(self, request: str, event: dict[str, Any]) -> asyncio.Future[dict[str, Any]]:
        answer = self._answers.get(request)
        if answer is None:
            answer = self._answers[request] = asyncio.get_running_loop().create_future()
            self.emit(self.reader.asked(request, event, _now()), "hook:PermissionRequest")
        return answer

    def abandoned(self, request: str) -> None:
        self._settle(request, {})

    def leave_to_person(self) -> None:
        """The TUI shows what agents in the background ask once no hook waits for the answer."""
        for request in self.reader.unseen(_now()):
            self._left.add(request)
            self._settle(request, {})

    def left_to_person(self, request: str) -> bool:
        return request in self._left and self.reader.status_now == "waiting"

    async def answer(self, request: str, decision: dict[str, Any], outcome: Outcome, *, rivals: bool) -> bool:
        """Hand a client's answer over; whether it is the one that counts. `rivals`: a person sits at the
        dialog, and may have pressed a key this very moment. Then the CLI's own word is waited for."""
        answer = self._answers.get(request)
        if answer is None or answer.done() or not self.reader.asks(request):
            return False
        if rivals and self.reader.only_ask:
            self.reader.answering(request, outcome, _now())
            self._settle(request, decision)
            await self.until(lambda: self.reader.outcome(request) is not None, REFUSAL_S + TICK_S)
            return self.reader.outcome(request) in (outcome, None)
        self.reader.answered(request)
        self._settle(request, decision)
        return True

    def _settle(self, request: str, decision: dict[str, Any]) -> None:
        answer = self._answers.get(request)
        if answer is not None and not answer.done():
            answer.set_result(decision)
            # It may be asked once more, by a hook that lost its connection.
            asyncio.get_running_loop().call_later(60, self._answers.pop, request, None)

    def _look_at_status(self) -> None:
        said = read_status(self._config_dir, self.process.pid)
        if self._closed:
            return
        self.heard += 1
        if said is None:
            self.reader.status_lost()
            return
        conversation = said.get("sessionId")
        out: list[Signal] = []
        if isinstance(conversation, str) and conversation and conversation != self.reader.conversation:
            out += self._switched(conversation)
        now = _now()
        out += self.reader.status(said, now)
        if self._at_odds and self.reader.status_now != "busy":
            self._at_odds = False
            out.append(ProcessReady())
        if not self.ready:
            self._perhaps_ready(now)
        self.emit(out, "status_file")

    def _switched(self, conversation: str) -> list[Signal]:
        if self._tail is not None:
            self._tail.close()
            self._tail = None
        self._path = None
        since = self.reader.read_at if self._reading else None
        out = self.reader.switched(conversation)
        with contextlib.suppress(OSError):
            if (path := self._look_for()) is not None:
                # What stands there already is of another time, but for what came while no bridge ran.
                self.reader.begin_at(path.stat().st_size if since is None else offset_at(path, since))
        return out

    def _take(self, data: bytes) -> None:
        if not self._closed:
            self.heard += 1
            self.emit(self.reader.transcript(data, _now()), "transcript", checkpoint=True)

    def _process_gone(self) -> None:
        if not self.gone.done():
            self.gone.set_result(None)
        self._changed.set()

    # --- what goes out ------------------------------------------------------------------------------------

    def emit(self, signals: Sequence[Signal], source: str, *, checkpoint: bool = False) -> None:
        self._changed.set()
        if self._closed:
            return
        for each in signals:
            if isinstance(each, AnswerMoot):
                self._settle(each.request, {})
            if isinstance(each, LimitReached):
                self.offered = True
            if isinstance(each, LimitReached) and each.untouched:
                self.given_up()  # before it is told: whoever hears of it may send the prompt again
        if checkpoint or any(isinstance(s, TurnEnded) for s in signals):
            self._sink(Batch(self.generation, tuple(signals), self.place(), source))
        elif signals:
            self._sink(Batch(self.generation, tuple(signals), None, source))

    def place(self) -> Checkpoint:
        at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return {**self.reader.export(), "generation": self.generation, "at": at}

    def _perhaps_ready(self, now: float) -> None:
        if self._reading:
            return
        status = self.reader.status_now
        late = status is None and self._begun_at is not None and now - self._begun_at > READY_S
        if status is not None or late:
            self.ready = True
            busy = status in ("busy", "waiting")
            self.emit([ProcessReady(busy=busy)], "status_file" if status else "hook:SessionStart")

    # --- the transcript -----------------------------------------------------------------------------------

    def _find(self) -> None:
        """The transcript is there from the first prompt on."""
        if self._tail is not None:
            return
        path = self._path or self._look_for()
        if path is None:
            return
        try:
            self._tail = Tail(path, self.reader.offset, self._watch, self._take)
        except OSError:
            return
        self._path = path
        self._tail.when_caught_up(self._read_up)

    def _read_up(self) -> None:
        """All that was written before is taken in."""
        self._reading = False
        if not self.ready and not self._closed:
            self._perhaps_ready(_now())
        self._changed.set()

    def _look_for(self) -> Path | None:
        return transcript_path(self._config_dir, self.reader.conversation)


def offset_at(path: Path, since: str) -> int:
    """Where what was written after this moment begins; lines carry their times in ISO 8601, in UTC."""
    offset = 0
    with path.open("rb") as file:
        for line in file:
            if str(entry_of(line).get("timestamp") or "") > since:
                break
            offset += len(line)
    return offset


def _now() -> float:
    return asyncio.get_running_loop().time()
