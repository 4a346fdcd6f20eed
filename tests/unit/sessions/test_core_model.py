"""Whatever happens in whatever order: every accepted prompt ends once, in order, and is sent safely."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bridge.commands import AfterReboot, StartOptions, SubmitPrompt
from bridge.errors import BridgeError
from bridge.events import Evidence, RequestId, SessionName, TurnFinished, TurnId, TurnQueued, TurnStarted
from bridge.sessions.core import Phase, SessionCore
from bridge.sessions.effects import Output, PlanRestart, SendPrompt, StartProcess
from bridge.sessions.facts import Facts, Limits
from bridge.signals import (
    AnswerNeeded,
    BlockDropped,
    BlockSettled,
    LivenessLost,
    ProcessExited,
    ProcessReady,
    PromptSeen,
    Signal,
    TextArrived,
    ToolAnswered,
    ToolCalled,
    TurnEnded,
    UpstreamActive,
)

blocks = st.integers(0, 3)


class AnySession(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        facts = Facts(SessionName("demo"), "headless", StartOptions(cwd="/"), "node")
        self.core = SessionCore(facts, Limits(max_queue=5), Evidence("test", 0.0))
        self.core.created(0.0)
        self.time = 0.0
        self.accepted: list[str] = []
        self.started: list[str] = []
        self.finished: list[str] = []
        self.active: set[str] = set()
        self.restart_wanted = False
        self.running = True

    def take(self, out: list[Output]) -> None:
        for o in out:
            match o:
                case TurnQueued(turn=turn):
                    if turn in self.accepted:
                        assert turn not in self.active, "waits again after upstream activity"
                    else:
                        self.accepted.append(turn)
                case TurnStarted(turn=turn, source="client"):
                    if turn not in self.started:
                        self.started.append(turn)
                case TurnFinished(turn=turn):
                    self.finished.append(turn)
                case SendPrompt(turn=turn):
                    assert turn not in self.active, "sent again after upstream activity"
                    assert self.core.open is not None
                    assert self.core.open.id == turn
                case PlanRestart():
                    self.restart_wanted = True
                case StartProcess():
                    self.running, self.restart_wanted = True, False
                case _:
                    pass
        if self.core.open is not None and self.core.open.active:
            self.active.add(self.core.open.id)

    def see(self, signal: Signal) -> None:
        if self.core.halted:
            return  # the actor drops what an ended process says
        self.time += 1
        self.take(self.core.observe(signal, self.time))

    @rule()
    def submit(self) -> None:
        self.time += 1
        turn = TurnId(f"t{len(self.accepted)}")
        try:
            _, out = self.core.submit(turn, SubmitPrompt(prompt="hi"), None, self.time)
        except BridgeError:
            return
        self.take(out)

    @precondition(lambda self: self.running)
    @rule()
    def ready(self) -> None:
        self.see(ProcessReady())

    @rule()
    def seen(self) -> None:
        if self.core.open is not None:
            self.see(PromptSeen(self.core.open.id))

    @precondition(lambda self: self.core.open is not None)
    @rule(block=blocks, which=st.integers(0, 6))
    def content(self, block: int, which: int) -> None:
        signals: list[Signal] = [
            UpstreamActive(),
            TextArrived(block, "text", "x"),
            BlockDropped(block),
            BlockSettled(block, "text", "xx", "m"),
            ToolCalled(block, f"call{block}", "Bash", {}, "m"),
            ToolAnswered(f"call{block}", "out", False),
            AnswerNeeded(RequestId(f"r{block}"), "permission", "Bash", {}, call=f"call{block}"),
        ]
        self.see(signals[which])

    @precondition(lambda self: self.core.open is not None)
    @rule(status=st.sampled_from(["completed", "interrupted", "failed"]))
    def ended(self, status: str) -> None:
        self.see(TurnEnded(status, "text"))  # type: ignore[arg-type]

    @rule()
    def exited(self) -> None:
        self.running = False
        self.see(ProcessExited(-9, "killed"))

    @rule()
    def lost(self) -> None:
        self.see(LivenessLost("tmux is silent"))

    @precondition(lambda self: self.restart_wanted)
    @rule(allowed=st.booleans())
    def restart_due(self, allowed: bool) -> None:
        self.restart_wanted = False
        out = self.core.restart_due(self.time) if allowed else self.core.give_up("enough", self.time)
        self.take(out)

    @rule()
    def stop(self) -> None:
        self.running = False
        self.take(self.core.stop(self.time))

    @rule()
    def park(self) -> None:
        out = self.core.park(60.0, self.time)
        self.running = self.running and not out
        self.take(out)

    @precondition(lambda self: self.core.phase is not Phase.STARTING)
    @rule(then=st.sampled_from(["resume", "pending", "stop"]))
    def found_gone(self, then: AfterReboot) -> None:
        self.running = False
        self.take(self.core.found_gone("gone", then, self.time))

    @rule()
    def restart(self) -> None:
        self.take(self.core.restart(self.time))

    @rule(index=st.integers(0, 4))
    def cancel(self, index: int) -> None:
        if index < len(self.core.queue):
            self.take(self.core.cancel(self.core.queue[index].id, self.time))

    @invariant()
    def every_accepted_prompt_is_somewhere_exactly_once(self) -> None:
        open_turn = [self.core.open.id] if self.core.open and self.core.open.id in self.accepted else []
        ended = [t for t in self.finished if t in self.accepted]
        assert sorted([*open_turn, *(t.id for t in self.core.queue), *ended]) == sorted(self.accepted)

    @invariant()
    def prompts_start_in_the_order_they_were_accepted(self) -> None:
        assert self.started == sorted(self.started, key=self.accepted.index)

    @invariant()
    def nothing_waits_for_a_prompt_in_a_session_that_was_parked(self) -> None:
        assert self.core.phase is not Phase.PARKED or not (self.core.open or self.core.queue)

    @invariant()
    def requests_are_open_only_while_a_turn_is(self) -> None:
        assert self.core.open is not None or not self.core.requests


AnySession.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestAnySession = AnySession.TestCase
