"""What a CLI, its tmux and its files keep when a bridge dies, as values, and the backend that looks at them.

No process and no file. It moves when a test says so, by one of its `moves`, whether a bridge is there or
not. What all CLIs have in common, and the headless one, which runs one identity once, as far as it has kept
an answer; `simulated_tui` has the other.

The measure of exactly-once is `Upstream`: what the model was asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bridge.errors import BackendError
from bridge.events import RequestId, TurnId, Usage
from bridge.sessions.backends.base import Answer, Batch, Checkpoint, File, Launch, Liveness, Sink
from bridge.signals import (
    AnswerMoot,
    AnswerNeeded,
    BlockDropped,
    BlockSettled,
    ProcessExited,
    ProcessReady,
    PromptSeen,
    PromptTyped,
    Signal,
    TextArrived,
    ToolAnswered,
    ToolCalled,
    TurnEnded,
    UpstreamActive,
)

May = Callable[[str], bool]
"""Asked before everything that outlives the bridge: whether it still lives to do it."""


class Upstream:
    """What the model was asked, over all processes."""

    def __init__(self) -> None:
        self.ran: list[TurnId] = []
        """Turns of clients that a process took up, each at its first time."""
        self.active: set[TurnId] = set()
        self.broken: set[TurnId] = set()
        """Active turns whose process died, or was ended, in the middle."""
        self.unsure: set[TurnId] = set()
        """Typed into a TUI that never acknowledged them, or that died before its transcript had them."""
        self.spoken: dict[TurnId, dict[int, str]] = {}
        """What was said of each, as it stands: block number, text."""

    def takes_up(self, turn: TurnId) -> None:
        if turn not in self.ran:
            self.ran.append(turn)

    def answers(self, turn: TurnId, said: dict[int, str]) -> None:
        assert turn not in self.active, f"{turn} ran twice"
        self.active.add(turn)
        self.spoken[turn] = said


@dataclass
class Run:
    """One turn that a process works on; `turn` is None where no client asked for it."""

    turn: TurnId | None
    number: int
    active: bool = False
    blocks: int = 0
    preview: str = ""
    call: str | None = None
    request: RequestId | None = None
    asked: int = 0
    said: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Said:
    """One entry of what a CLI writes. `whole`: a reader could begin again right behind it."""

    signals: tuple[Signal, ...] = ()
    whole: bool = True
    echo: RequestId | None = None
    """The CLI repeats an answer that it was given; who gave it knows."""
    prompt: bool = False
    """A prompt stands here: whose, its reader has to know."""
    turn: TurnId | None = None


class Cli:
    """What headless and TUI have in common: one process at a time, and what it can do next."""

    def __init__(self) -> None:
        self.upstream = Upstream()
        self.generation: int | None = None
        """The process that was started last; what it wrote is there until another is."""
        self.alive = False
        self.ready = False
        self.run: Run | None = None
        self.bridge: SimulatedBackend | None = None
        """Who reads and writes, as long as it lives."""
        self.starts = 0
        self.number = 0
        self.adopted: list[int] = []
        """The generations that a bridge asked for."""
        self.silent = False
        """tmux cannot say whether it lives."""
        self.refuses = False
        """A start fails."""
        self.sleepy = False
        """It is not ready until it is told to be."""
        self.slow = False
        """A prompt waits before it is handed over."""

    # --- its life ---------------------------------------------------------------------------------------

    def begin(self, generation: int) -> None:
        """Another process in the place of whatever ran."""
        self.end()
        self.generation, self.alive, self.ready = generation, True, False
        self.starts += 1

    def end(self) -> None:
        """However it comes to it, the process is gone, and nobody is told."""
        run, self.run = self.run, None
        if run is not None and run.turn is not None and run.active:
            self.upstream.broken.add(run.turn)
        self.alive = self.ready = False

    def die(self) -> None:
        """By itself: a bridge that is there hears of it, behind all it said."""
        if not self.alive:
            return
        self.end()
        if self.bridge is not None:
            self.bridge.died()

    # --- what it may do next ----------------------------------------------------------------------------

    def moves(self) -> list[str]:
        """Each may be given to `move`, in any order that this allows."""
        if not self.alive:
            return []
        run = self.run
        if not self.ready:
            return ["greet"]
        if run is None:
            return ["by_itself"]
        if not run.active:
            return ["active", "fail"]
        if run.request is not None:
            return []
        if run.call is not None:
            return ["result", *(["ask"] if not run.asked else [])]
        return ["preview", "settle", "call", "drop" if run.preview else "end"]

    def move(self, what: str) -> None:
        """Do one of `moves`."""
        if what == "greet":
            self.ready = True
            if self.bridge is not None:
                self.bridge.pump()
                self.bridge.tell(ProcessReady())
        elif what == "by_itself":
            self.takes(None)
            if self.run is not None and not self.run.active:
                self.move("active")
        else:
            assert self.run is not None
            self._go_on(self.run, what)

    def takes(self, turn: TurnId | None) -> None:
        """Take up a prompt, or go on without one."""
        self.number += 1
        self.run = Run(turn, self.number)
        if turn is not None:
            self.upstream.takes_up(turn)

    def active(self, run: Run) -> None:
        run.active = True
        if run.turn is not None:
            self.upstream.answers(run.turn, run.said)

    def _go_on(self, run: Run, what: str) -> None:
        n, said = run.blocks, run.said
        match what:
            case "active":
                self.active(run)
                self.say(UpstreamActive())
            case "fail":
                self._over(TurnEnded("failed", None))
            case "preview":
                run.preview += "word "
                said[n] = run.preview
                self.say(TextArrived(n, "text", "word ", "m"), whole=False)
            case "drop":
                run.preview = ""
                del said[n]
                self.say(BlockDropped(n))
            case "settle":
                said[n] = run.preview + "end"
                run.preview, run.blocks = "", n + 1
                self.say(BlockSettled(n, "text", said[n], "m"))
            case "call":
                if run.preview:
                    self._go_on(run, "settle")
                run.call = f"call-{run.number}-{run.blocks}"
                said[run.blocks] = run.call
                self.say(ToolCalled(run.blocks, run.call, "Bash", {}, "m"))
                run.blocks, run.asked = run.blocks + 1, 0
            case "ask":
                run.asked += 1
                run.request = RequestId(f"ask-{run.call}")
                self.ask(run)
            case "result":
                call, run.call = str(run.call), None
                self.say(ToolAnswered(call, "out", False))
            case "end":
                self._over(TurnEnded("completed", None, None, Usage(1, 2), 0.25))
            case _:
                raise AssertionError(what)

    def _over(self, ended: TurnEnded) -> None:
        self.run = None
        self.say(ended)

    def ask(self, run: Run) -> None:
        assert run.request is not None
        self.say(AnswerNeeded(run.request, "permission", "Bash", {}, call=run.call))

    def interrupt(self) -> None:
        run = self.run
        if run is None:
            return
        out: list[Signal] = []
        if run.request is not None:
            out.append(AnswerMoot(run.request))
        if run.preview:
            out.append(BlockSettled(run.blocks, "text", run.preview, "m"))
        self.run = None
        self.say(*out, TurnEnded("interrupted", None))

    def answered(self, request: RequestId) -> None:
        """Whoever is first; later ones fall on deaf ears."""
        if self.run is not None and self.run.request == request:
            self.run.request = None

    def say(self, *signals: Signal, whole: bool = True) -> None:
        raise NotImplementedError


class SimulatedBackend:
    """One bridge's end of a CLI; see `base.Backend`. Does nothing any more once its bridge is dead."""

    def __init__(self, cli: Cli, may: May, sink: Sink) -> None:
        self.cli = cli
        self.may = may
        self.sink = sink
        self.attach: str | None = None
        self.pid: int | None = None
        self.generation = 0
        self.read = 0
        self.mine: set[RequestId] = set()
        """Requests that were answered through here."""
        self.freed = 0

    def tell(self, *signals: Signal, mark: int | None = None) -> None:
        """Of the process: said, and kept by nobody."""
        place = None if mark is None else {"generation": self.generation, "offset": mark}
        self.sink(Batch(self.generation, signals, place))

    async def alive(self, what: str) -> None:
        """Wait for ever where the bridge has died."""
        if not self.may(what):
            await asyncio.get_running_loop().create_future()

    def hold(self, generation: int, offset: int) -> None:
        self.generation, self.read, self.cli.bridge = generation, offset, self
        self.pump()

    def place(self, launch: Launch, checkpoint: Checkpoint | None) -> int:
        """The place of this very process, else its beginning."""
        same = checkpoint is not None and checkpoint["generation"] == launch.generation
        return int(checkpoint["offset"]) if same and checkpoint is not None else 0

    async def stop(self) -> None:
        await self.alive("stop")
        self.cli.bridge = None
        self.cli.end()

    async def delete(self) -> None:
        await self.alive("delete")

    async def detach(self) -> None:
        if self.cli.bridge is self:
            self.cli.bridge = None

    async def attend(self) -> None:
        return

    def committed(self, checkpoint: Checkpoint) -> None:
        pass

    async def configure(self, model: str | None, permission_mode: str | None) -> None:
        await self.alive("configure")

    async def started(self, launch: Launch) -> None:
        await self.alive("start")
        if self.cli.refuses:
            raise BackendError("it cannot be started")
        self.cli.begin(launch.generation)

    async def running(self) -> None:
        """To be able to hand something over."""
        while self.cli.slow and self.cli.bridge is self:  # noqa: ASYNC110 - a test moves the time
            await asyncio.sleep(1.0)
        if self.cli.bridge is not self or not self.cli.alive:
            raise BackendError("the process is gone")

    def pump(self) -> None:
        raise NotImplementedError

    def died(self) -> None:
        raise NotImplementedError


# --- headless: a pipe, a file, identities -----------------------------------------------------------


class HeadlessCli(Cli):
    """`claude -p`: reads a pipe, appends to a file, and drops an identity of which it has an answer."""

    def __init__(self) -> None:
        super().__init__()
        self.out: list[Said] = []
        """The process's file; also when it is gone."""
        self.unread: list[TurnId] = []
        """Prompts in its pipe, read when nothing runs."""
        self.lag = False
        """Its file is read later."""
        self.half = False
        """Half a line stands in the pipe: with what is written next it is one that the CLI cannot read."""
        self.kept: set[TurnId] = set()
        """Prompts of which the conversation has an answer: dropped when they come again."""
        self.over: set[TurnId] = set()
        """Prompts that this process has run, however that ended: dropped as well."""
        self.freed = 0

    def begin(self, generation: int) -> None:
        super().begin(generation)
        self.out, self.unread, self.half, self.freed = [], [], False, 0
        self.over.clear()

    def say(self, *signals: Signal, whole: bool = True) -> None:
        run = self.run
        if run is not None and run.turn is not None and any(isinstance(s, BlockSettled) for s in signals):
            self.kept.add(run.turn)
        self.append(Said(signals, whole))

    def _over(self, ended: TurnEnded) -> None:
        if self.run is not None and self.run.turn is not None:
            self.over.add(self.run.turn)
        super()._over(ended)

    def append(self, said: Said) -> None:
        self.out.append(said)
        if self.bridge is not None and not self.lag:
            self.bridge.pump()
        self.take_next()

    def moves(self) -> list[str]:
        return [m for m in super().moves() if m != "by_itself" or not self.unread]

    def written(self, turn: TurnId | None) -> None:
        """A whole line has come into the pipe; None: one that is no prompt."""
        if self.half:
            self.die()
        elif turn is not None and turn not in self.unread and (self.run is None or self.run.turn != turn):
            self.unread.append(turn)
            self.take_next()

    def take_next(self) -> None:
        if self.run is None and self.unread and self.alive:
            turn = self.unread.pop(0)
            if turn in self.kept | self.over:
                self.append(Said((PromptSeen(turn), TurnEnded("failed", None))))
            else:
                self.takes(turn)
                self.append(Said((PromptSeen(turn),)))

    def takes(self, turn: TurnId | None) -> None:
        super().takes(turn)
        if turn is None:
            self.append(Said((PromptTyped("", first=True, behind=True),)))

    def move(self, what: str) -> None:
        if what == "greet" and self.bridge is not None and self.half:
            self.die()  # what asks it whether it is ready is a line, too
        else:
            super().move(what)


class HeadlessBackendSim(SimulatedBackend):
    cli: HeadlessCli

    async def start(self, launch: Launch) -> None:
        await self.started(launch)
        self.hold(launch.generation, 0)

    async def adopt(self, launch: Launch, checkpoint: Checkpoint | None) -> Liveness:
        cli = self.cli
        cli.adopted.append(launch.generation)
        if cli.silent:
            return Liveness.UNKNOWN
        offset = self.place(launch, checkpoint)
        if cli.generation != launch.generation:
            return Liveness.GONE
        assert offset >= cli.freed, "input was freed that is read again"
        self.generation, self.read = launch.generation, offset
        if cli.alive:
            cli.ready = False  # it is asked anew
            self.hold(launch.generation, offset)
            return Liveness.ALIVE
        self.pump()
        self.tell(mark=len(cli.out))
        return Liveness.GONE

    async def send_prompt(self, turn: TurnId, prompt: str, files: Sequence[File] = ()) -> None:
        await self.running()
        await self.alive("first half of a prompt")
        self.cli.half, broken = True, self.cli.half
        await self.alive("second half of a prompt")
        self.cli.half = broken
        self.cli.written(turn)

    async def interrupt(self) -> None:
        await self.running()
        await self.alive("interrupt")
        self.cli.written(None)
        self.cli.interrupt()

    async def answer(self, request: RequestId, answer: Answer) -> None:
        await self.running()
        await self.alive("answer")
        self.mine.add(request)
        self.cli.written(None)
        self.cli.answered(request)
        if self.cli.alive:
            self.cli.append(Said(echo=request))

    def committed(self, checkpoint: Checkpoint) -> None:
        if self.may("free") and checkpoint["generation"] == self.cli.generation:
            self.cli.freed = max(self.cli.freed, int(checkpoint["offset"]))

    def pump(self) -> None:
        """As the parser does: what came together is one batch, cut behind the end of a turn and at the last
        place from which another reader could go on."""
        out, self.read, at = self.cli.out[self.read :], len(self.cli.out), self.read
        signals: list[Signal] = []
        cut, mark = 0, None
        for said in out:
            at += 1
            signals += said.signals
            if said.echo is not None and said.echo not in self.mine:
                signals.append(AnswerMoot(said.echo))
            if said.whole:
                cut, mark = len(signals), at
                if signals and isinstance(signals[-1], TurnEnded):
                    self.tell(*signals, mark=mark)
                    signals, cut, mark = [], 0, None
        if mark is not None:
            self.tell(*signals[:cut], mark=mark)
        if signals[cut:]:
            self.tell(*signals[cut:])

    def died(self) -> None:
        self.pump()
        self.tell(ProcessExited(-9, "it was killed"), mark=len(self.cli.out))
        self.cli.bridge = None
