"""The interactive CLI for `simulated_cli`: typed into, keeps no identity, and acknowledges what it took."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from bridge.events import RequestId, TurnId
from bridge.sessions.backends.base import Answer, Checkpoint, File, Launch, Liveness, Sink
from bridge.signals import (
    AnswerNeeded,
    BlockDropped,
    LivenessLost,
    ProcessExited,
    PromptHeld,
    PromptLost,
    PromptSeen,
    PromptsWelcome,
    PromptTyped,
    Signal,
    TextArrived,
    TurnEnded,
    UpstreamActive,
)
from tests.fakes.simulated_cli import Cli, May, Run, Said, SimulatedBackend


@dataclass
class Entered:
    """The backend's own note, on disk, of the prompt that it typed last."""

    turn: TurnId
    generation: int
    acknowledged: bool | None = None
    """None: what became of it is not known yet."""


class TuiCli(Cli):
    """The interactive CLI: an input box, a transcript of the conversation, and hooks that are quicker."""

    def __init__(self) -> None:
        super().__init__()
        self.transcript: list[Said] = []
        self.begun_at = 0
        """What stood there when the process was started."""
        self.written = 0
        """So many of them are on disk: the rest is known by hooks alone, and dies with the process."""
        self.entered: Entered | None = None
        self.box: TurnId | None = None
        self.draft = False
        """A person's text stands in the box."""
        self.deaf = False
        """It takes a prompt and neither acknowledges nor runs it."""

    def begin(self, generation: int) -> None:
        super().begin(generation)
        self.written = self.begun_at = len(self.transcript)

    def end(self) -> None:
        super().end()
        self.box = None
        turn: TurnId | None = None
        for i, said in enumerate(self.transcript):
            turn = said.turn if said.prompt else turn
            if i >= self.written and turn is not None:
                self.upstream.broken.add(turn)  # its end, or all of it, is not written down
        del self.transcript[self.written :]

    def say(self, *signals: Signal, whole: bool = True) -> None:
        if not all(isinstance(s, TextArrived | BlockDropped) for s in signals):
            self.append(Said(signals, whole))
        elif self.bridge is not None:
            self.bridge.tell(*signals)  # previews are displayed, by hooks, and not written down

    def append(self, said: Said) -> None:
        self.transcript.append(said)
        if self.bridge is not None:
            self.bridge.pump()

    def flush(self) -> None:
        """The transcript is written, some 100 ms behind what happens."""
        self.written = len(self.transcript)

    def takes(self, turn: TurnId | None) -> None:
        super().takes(turn)
        assert self.run is not None
        # It is asked for as soon as it is acknowledged.
        self.active(self.run)
        self.append(Said(prompt=True, turn=turn))

    def ask(self, run: Run) -> None:
        """By a hook, which asks whoever is there, and no transcript."""
        if self.bridge is not None and run.request is not None:
            self.bridge.tell(AnswerNeeded(run.request, "permission", "Bash", {}, call=run.call))

    def begins_again_at(self) -> int:
        """Before the open turn, else behind everything."""
        if self.run is None:
            return len(self.transcript)
        return max(i for i, said in enumerate(self.transcript) if said.prompt)

    def moves(self) -> list[str]:
        found = super().moves()
        if self.alive and self.written < len(self.transcript):
            found.append("flush")
        if self.alive and self.ready:
            found += ["odds"]
            if self.run is None:
                found += ["clear"] if self.draft else ["draft"]
        return found

    def move(self, what: str) -> None:
        match what:
            case "flush":
                self.flush()
            case "draft" | "clear":
                self.draft = what == "draft"
                if what == "clear" and self.bridge is not None:
                    self.bridge.tell(PromptsWelcome())
            case "odds":
                if self.bridge is not None:
                    self.bridge.tell(LivenessLost("what can be seen contradicts itself"))
                    self.ready = False
            case _:
                super().move(what)


class TuiBackendSim(SimulatedBackend):
    cli: TuiCli

    def __init__(self, cli: TuiCli, may: May, sink: Sink) -> None:
        super().__init__(cli, may, sink)
        self.expected: TurnId | None = None

    async def start(self, launch: Launch) -> None:
        await self.started(launch)
        self.hold(launch.generation, len(self.cli.transcript))

    async def adopt(self, launch: Launch, checkpoint: Checkpoint | None) -> Liveness:
        cli = self.cli
        if cli.silent:
            return Liveness.UNKNOWN
        if cli.generation != launch.generation:
            return Liveness.GONE
        known = checkpoint is not None and checkpoint["generation"] == launch.generation
        offset = self.place(launch, checkpoint) if known else cli.begun_at
        self.generation, self.read = launch.generation, offset
        note = cli.entered
        due = note is not None and note.generation == launch.generation and note.acknowledged is not False
        self.expected = note.turn if due and note is not None else None
        if not cli.alive:
            self.pump()
            return Liveness.GONE
        cli.ready = False
        cli.flush()
        self.hold(launch.generation, offset)
        if cli.run is not None and cli.run.request is not None:
            cli.ask(cli.run)
        return Liveness.ALIVE

    async def send_prompt(self, turn: TurnId, prompt: str, files: Sequence[File] = ()) -> None:
        await self.running()
        cli = self.cli
        if cli.entered is not None and cli.entered.turn == turn:
            await self.resolve(turn, cli.entered)
        elif cli.run is not None or cli.draft or cli.box not in (None, turn):
            self.tell(PromptHeld(turn, "the terminal is busy, or somebody types there"))
        else:
            await self.alive("place in the box")
            cli.box = turn
            await self.alive("note that it is entered")
            cli.entered = Entered(turn, self.generation)
            await self.enter(turn)

    async def enter(self, turn: TurnId) -> None:
        cli = self.cli
        await self.alive("Enter")
        self.expected, cli.box = turn, None
        if cli.deaf:
            cli.upstream.unsure.add(turn)
        else:
            cli.takes(turn)
        await asyncio.sleep(0)
        if cli.bridge is not self:
            return  # the restart asks what became of it
        await self.alive("note what became of it")
        cli.entered = Entered(turn, self.generation, not cli.deaf)
        if cli.deaf:
            self.tell(PromptLost(turn, "never acknowledged"))

    async def resolve(self, turn: TurnId, note: Entered) -> None:
        """It was entered before. Never typed twice."""
        cli = self.cli
        fresh = note.acknowledged is None and note.generation == self.generation
        if fresh and cli.run is None and cli.box == turn:
            await self.enter(turn)
            return
        if cli.run is not None and cli.run.turn != turn:
            return
        await self.alive("note what became of it")
        cli.entered = Entered(turn, self.generation, cli.run is not None)
        if cli.run is not None:
            self.tell(PromptSeen(turn), UpstreamActive())
            return
        cli.upstream.unsure.add(turn)
        self.tell(PromptLost(turn, "it was typed when the bridge or Claude ended"))

    async def interrupt(self) -> None:
        await self.running()
        await self.alive("Escape")
        self.cli.interrupt()

    async def answer(self, request: RequestId, answer: Answer) -> None:
        await self.running()
        await self.alive("answer")
        self.cli.answered(request)

    def pump(self) -> None:
        for said in self.cli.transcript[self.read :]:
            self.read += 1
            self.tell(*self._known(said), mark=self._mark())

    def _known(self, said: Said) -> tuple[Signal, ...]:
        if not said.prompt:
            return said.signals
        expected, self.expected = self.expected, None
        if said.turn is not None and said.turn == expected:
            return (PromptSeen(said.turn), UpstreamActive())
        return (PromptTyped("typed", first=True), UpstreamActive())

    def _mark(self) -> int:
        """Before the open turn, as far as has been read, else behind all of that."""
        for i in range(self.read - 1, -1, -1):
            said = self.cli.transcript[i]
            if any(isinstance(s, TurnEnded) for s in said.signals):
                break
            if said.prompt:
                return i
        return self.read

    def died(self) -> None:
        self.read = min(self.read, len(self.cli.transcript))
        self.pump()
        self.tell(ProcessExited(-9, "it was killed"), mark=self._mark())
        self.cli.bridge = None
