"""One session's state machine: inputs in, events and effects out. No I/O, no clock, no tasks.

Callers feed it what clients ask (`submit`, `interrupt`, …) and what the backend saw (`observe`), with
the time as an argument, and get back what to journal and publish (`Event`, `TurnAdvanced`) and what to
do (`Effect`), in order. It never asks back. Refusals are raised before anything has changed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from enum import Enum
from typing import Any

from bridge.commands import AfterReboot, AnswerRequest, SubmitPrompt
from bridge.errors import (
    InvalidPayload,
    PromptEmpty,
    PromptRejected,
    PromptTooLarge,
    QueueFull,
    SessionFailed,
    SessionStopped,
    TurnNotFound,
)
from bridge.events import (
    Event,
    Evidence,
    Request,
    RequestAnswered,
    RequestId,
    RequestOpened,
    Session,
    SessionChanged,
    SessionState,
    Snapshot,
    ToolBlock,
    Turn,
    TurnError,
    TurnFinished,
    TurnId,
    TurnQueued,
    TurnStarted,
    TurnStatus,
    Usage,
)
from bridge.sessions import attachments
from bridge.sessions.effects import (
    FilesKept,
    ForgetTurn,
    Output,
    PlanRestart,
    SendInterrupt,
    SendPrompt,
    StartProcess,
    StopProcess,
    TurnAdvanced,
)
from bridge.sessions.facts import Facts, Limits, PromptRules
from bridge.sessions.records import TurnPhase
from bridge.sessions.requests import OpenRequests
from bridge.sessions.turns import OpenTurn
from bridge.signals import (
    AnswerMoot,
    AnswerNeeded,
    BlockDropped,
    BlockSettled,
    ConversationNamed,
    LimitReached,
    LivenessLost,
    ProcessExited,
    ProcessReady,
    PromptHeld,
    PromptLost,
    PromptSeen,
    PromptsWelcome,
    PromptTyped,
    SettingsSeen,
    Signal,
    TextArrived,
    ToolAnswered,
    ToolCalled,
    TurnEnded,
    UpstreamActive,
    UpstreamRetrying,
)


class Phase(Enum):
    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    RESTARTING = "restarting"
    STOPPED = "stopped"
    PARKED = "parked"
    """Stopped, but not on purpose: the next prompt starts it. To clients it is `stopped`."""
    FAILED = "failed"
    UNKNOWN = "unknown"


LIMIT_AGAIN_S = 300.0
"""A limit of which nobody said when it resets is tried again after so long."""
LIMIT_SOON_S = 10.0
"""And one that should have reset by now: two clocks may differ."""

_HALTED = {Phase.STOPPED, Phase.PARKED, Phase.FAILED}
_DOWN = {Phase.RESTARTING, Phase.UNKNOWN, *_HALTED}

EDGES: dict[Phase, set[Phase]] = {
    Phase.STARTING: {Phase.IDLE, Phase.BUSY, *_DOWN} - {Phase.PARKED},
    Phase.IDLE: {Phase.BUSY, *_DOWN},
    Phase.BUSY: {Phase.IDLE, *_DOWN},
    Phase.RESTARTING: {Phase.IDLE, Phase.BUSY, Phase.UNKNOWN, *_HALTED},
    Phase.UNKNOWN: {Phase.IDLE, Phase.BUSY, Phase.RESTARTING, *_HALTED},
    Phase.STOPPED: {Phase.STARTING},
    Phase.PARKED: {Phase.STARTING, Phase.STOPPED},
    Phase.FAILED: {Phase.STARTING, Phase.STOPPED},
}


class SessionCore:
    """See the module. After `created` or `restore`, `phase` has one writer: `_to`."""

    def __init__(
        self, facts: Facts, limits: Limits, evidence: Evidence, rules: PromptRules | None = None
    ) -> None:
        """`rules` are what the backend asks of a prompt, where it cannot take every text."""
        self._rules = rules
        self._held = False
        self._handed: TurnId | None = None
        """What the process that runs was handed last."""
        self._behind: TurnId | None = None
        """The same, put back into the queue: it need not be handed over again."""
        self.facts = facts
        self.phase = Phase.STOPPED
        self.open: OpenTurn | None = None
        self.queue: deque[Turn] = deque()
        self.requests = OpenRequests()
        self._limits = limits
        self._evidence = evidence
        self._open_phase: TurnPhase = "queued"
        self._last: Turn | None = None
        """The turn that finished last, until it is to be forgotten."""
        self.finished = 0
        """Turns finished since this object was made: shows a reader of the journal that it was overtaken."""

    # --- views ------------------------------------------------------------------------------------

    @property
    def state(self) -> SessionState:
        if self.phase is Phase.BUSY and self.requests:
            return "waiting"
        return "stopped" if self.phase is Phase.PARKED else self.phase.value

    @property
    def halted(self) -> bool:
        """It has no process, and is to have none until somebody asks for something."""
        return self.phase in _HALTED

    @property
    def at_rest(self) -> bool:
        """It has a process, for which there is nothing to do."""
        return self.phase is Phase.IDLE and not (self.open or self.queue or self.requests)

    @property
    def unoccupied(self) -> bool:
        """A turn could begin at once."""
        return self.at_rest and not self._held

    def session(self) -> Session:
        return self.facts.view(self.state, self._evidence)

    def snapshot(self, turns: tuple[Turn, ...]) -> Snapshot:
        return Snapshot(
            session=self.session(),
            turns=turns,
            open_turn=self.open.view() if self.open else None,
            queue=tuple(self.queue),
            requests=tuple(self.requests),
        )

    def held(self, turn: str) -> Turn | None:
        """A turn that is not finished: the open one with its text so far, or one of the queue."""
        if self.open is not None and self.open.id == turn:
            return self.open.view()
        return next((t for t in self.queue if t.id == turn), None)

    def unfinished(self) -> list[TurnId]:
        return [*([self.open.id] if self.open is not None else []), *(t.id for t in self.queue)]

    # --- what the journal brings back ---------------------------------------------------------------

    def restore(
        self, phase: Phase, turns: Sequence[tuple[Turn, TurnPhase]], requests: Sequence[Request]
    ) -> None:
        """Take up what was journaled; only right on a new object."""
        self.phase = phase
        self.requests = OpenRequests(requests)
        for turn, turn_phase in turns:
            if turn_phase == "queued" or self.open is not None:
                self.queue.append(replace(turn, status="queued"))
            else:
                self.open = OpenTurn(turn, active=turn_phase == "active")
                self._open_phase = turn_phase

    # --- what clients ask ---------------------------------------------------------------------------

    def start(self, at: float, *, by_hand: bool = True) -> list[Output]:
        """Begin the first process, or one after a stop or failure. Who does it `by_hand` has the account's
        limit tried at once."""
        f = self.facts
        f.started_at, f.reason = at, None
        if by_hand:
            self._forget_limit()
        return [*self._to(Phase.STARTING, "start", at), StartProcess(resume=self._has_conversation())]

    def created(self, at: float) -> None:
        """A new session, not started yet: what the journal hears first."""
        self.phase = Phase.STARTING
        self.facts.created_at = self.facts.started_at = at
        self._evidence = Evidence("start", at)

    def start_process(self) -> list[Output]:
        """The first process of a session that was `created`."""
        return [self._changed(), StartProcess(resume=self._has_conversation())]

    def adopt(self, at: float) -> None:
        """The bridge came back; whether the process did is being found out. Restored as `UNKNOWN`."""
        self._evidence = Evidence("adoption", at)
        self.facts.reason = "the bridge was restarted and is looking for the process"

    def check_prompt(self, command: SubmitPrompt) -> str:
        """The prompt's text, if it may be submitted at all."""
        if command.command is not None:
            if self._rules is None:
                why = f"only the backend 'tmux' takes one, and this is {self.facts.backend!r}."
                raise PromptRejected("A slash command", why)
            return self._rules.command(command.command)
        prompt, files = command.prompt, command.attachments
        if prompt is None:
            if not files:
                raise InvalidPayload("prompt", "is missing")
            prompt = ""
        if not prompt.strip() and not files:
            raise PromptEmpty
        size = len(prompt.encode())
        if size > self._limits.max_prompt_bytes:
            raise PromptTooLarge(size, self._limits.max_prompt_bytes)
        attachments.check(files, self._limits.files)
        if self._rules is not None and files:
            self._rules.with_files(prompt, self.facts.name, attachments.described(files))
        elif self._rules is not None:
            self._rules.prompt(prompt)
        return prompt

    def submit(
        self, turn: TurnId, command: SubmitPrompt, author: str | None, at: float
    ) -> tuple[dict[str, Any], list[Output]]:
        """Accept a prompt: queued, and started at once where nothing is before it. One to a session that was
        parked starts it."""
        prompt = self.check_prompt(command)
        if self.phase is Phase.STOPPED:
            raise SessionStopped(self.facts.name)
        if self.phase is Phase.FAILED:
            raise SessionFailed(self.facts.name, self.facts.reason or "no reason was recorded")
        if len(self.queue) >= self._limits.max_queue:
            raise QueueFull(self._limits.max_queue)
        queued = Turn(
            id=turn,
            prompt=prompt,
            author=author,
            source="client",
            status="queued",
            queued_at=at,
            key=command.id,
            attachments=attachments.described(command.attachments),
        )
        position = len(self.queue) + (self.open is not None)
        self.queue.append(queued)
        out: list[Output] = [
            TurnAdvanced(queued, "queued"),
            *([FilesKept(turn, tuple(command.attachments))] if command.attachments else ()),
            TurnQueued(turn, command.id, prompt, author, position, attachments=queued.attachments),
            *(self.start(at, by_hand=False) if self.phase is Phase.PARKED else self._advance("submit", at)),
        ]
        status = "running" if self.open is not None and self.open.id == turn else "queued"
        return {"turn": turn, "status": status, "position": position}, out

    def interrupt(self, at: float) -> tuple[dict[str, Any], list[Output]]:
        if self.open is None:
            return {"turn": None}, []
        reply = {"turn": self.open.id}
        if self.phase is Phase.RESTARTING:
            # It would be sent to the next process; nobody has to be told that it will not.
            return reply, self._break_off("interrupted", None, at)
        return reply, [SendInterrupt()]

    def cancel(self, turn: str, at: float) -> list[Output]:
        queued = next((t for t in self.queue if t.id == turn), None)
        if queued is None:
            if self.open is not None and self.open.id == turn:
                raise TurnNotFound(turn, "That turn is already running; interrupt it instead.")
            raise TurnNotFound(turn)
        self.queue.remove(queued)
        return self._finish(queued, "cancelled", at)

    def answer(self, command: AnswerRequest, by: str | None) -> list[Output]:
        """Send the first answer; it counts once `answered` says that it has been sent."""
        return [self.requests.answer(command, by)]

    def answered(self, request: RequestId, at: float) -> list[Output]:
        return self._closed(self.requests.answered(request), at)

    def configure(self, model: str | None, permission_mode: str | None, at: float) -> list[Output]:
        f = self.facts
        changes = {k: v for k, v in (("model", model), ("permission_mode", permission_mode)) if v is not None}
        f.options = f.options.model_copy(update=changes)
        f.model = model or f.model
        f.permission_mode = permission_mode or f.permission_mode
        return [self._changed()]

    def stop(self, at: float) -> list[Output]:
        """End the process; the queue waits for the next start."""
        if self.phase is Phase.STOPPED:
            return []
        if self.phase is Phase.PARKED:
            self.facts.reason = None  # it says that a prompt starts it, which is so no longer
        out = self._break_off("interrupted", None, at)
        return [*out, *self._to(Phase.STOPPED, "stop", at), StopProcess()]

    def park(self, after_s: float, at: float) -> list[Output]:
        """End the process of a session that nobody used for `after_s`; nothing where it is in use again."""
        if not self.at_rest:
            return []
        self.facts.reason = f"it was not used for {after_s:g} s; the next prompt starts it again"
        return [*self._to(Phase.PARKED, "idle", at), StopProcess()]

    def restart(self, at: float) -> list[Output]:
        if self.phase in _HALTED:
            return self.start(at)
        self._forget_limit()
        out = self._break_off("interrupted", None, at)
        self.facts.restarts += 1
        return [
            *out,
            *self._to(Phase.RESTARTING, "restart", at),
            StartProcess(resume=self._has_conversation()),
        ]

    def limited(self, until: float, why: str, at: float) -> list[Output]:
        """No turn is begun until then: the account's limit is reached, as this or another session found."""
        f = self.facts
        if f.limited_until is not None and f.limited_until >= until:
            return []
        f.limited_until, f.limited_why = until, why
        self._evidence = Evidence("limit", at)
        return [self._changed()]

    def limit_over(self, until: float, at: float) -> list[Output]:
        """The limit that was to last until then may be over: try. Nothing where it is another by now."""
        if self.facts.limited_until != until:
            return []
        self._forget_limit()
        self._evidence = Evidence("limit", at)
        return [*self._advance("limit", at), self._changed()]

    def cancel_all(self, at: float) -> list[Output]:
        """What a deletion ends: everything."""
        out = self._break_off("interrupted", None, at)
        while self.queue:
            out += self._finish(self.queue.popleft(), "cancelled", at)
        return out

    # --- what became of effects ---------------------------------------------------------------------

    def prompt_sent(self, turn: TurnId) -> list[Output]:
        if self.open is None or self.open.id != turn or self._open_phase != "sending":
            return []
        return self._turn_to("sent")

    def unsendable(self, turn: TurnId, why: str, at: float) -> list[Output]:
        """It cannot be handed to any process, and was not."""
        if self.open is None or self.open.id != turn or self._open_phase != "sending":
            return []
        return self._over(self._break_off("failed", why, at, "internal"), at)

    def forgotten(self, at: float) -> list[Output]:
        """What became of `ForgetTurn`: nothing is left, the next turn may begin."""
        self._held = False
        return self._advance("forgotten", at) or [self._changed()]

    def spent(self, why: str, at: float) -> list[Output]:
        """What became of `ForgetTurn`: something is left, or may be, or it is time: the next turn needs
        another process. That is no crash, and costs no budget."""
        if self.halted or self.phase is Phase.RESTARTING:
            return []
        out = self._break_off("interrupted", why, at)  # where Claude went on by itself
        self.facts.reason = why
        return [*out, *self._to(Phase.RESTARTING, "recycled", at), StartProcess(resume=False)]

    def restart_due(self, at: float) -> list[Output]:
        if self.phase is not Phase.RESTARTING:
            return []
        self.facts.restarts += 1
        return [self._changed(), StartProcess(resume=self._has_conversation())]

    def give_up(self, why: str, at: float) -> list[Output]:
        """The restart budget is spent. What was not begun waits in the queue for a restart by hand."""
        if self.phase in _HALTED:
            return []
        out = self._put_back() if self.open and not self.open.active else self._break_off("unknown", why, at)
        self.facts.reason = why
        return [*out, *self._to(Phase.FAILED, "restart_limit", at), StopProcess()]

    def found_gone(self, why: str, then: AfterReboot, at: float) -> list[Output]:
        """What `adopt` came to: there is no process any more."""
        if self.phase in _HALTED:
            return []
        pending = bool(self.queue) or (self.open is not None and not self.open.active)
        if then == "resume" or (then == "pending" and pending):
            return self._exited(ProcessExited(None, why), at)
        out = self._put_back() if self.open and not self.open.active else self._break_off("unknown", why, at)
        if then == "stop":
            self.facts.reason = why
            return [*out, *self._to(Phase.STOPPED, "adoption", at), StopProcess()]
        self.facts.reason = f"{why}; the next prompt starts it again"
        return [*out, *self._to(Phase.PARKED, "adoption", at), StopProcess()]

    # --- what the backend saw -------------------------------------------------------------------------

    def observe(self, signal: Signal, at: float, source: str | None = None) -> list[Output]:
        """Take in one signal; `source` is by what it was seen, where the backend has more than one way.
        Signals of a process that was stopped on purpose are the caller's to drop."""
        out = self._observed(signal, at)
        if source is not None and self._evidence.seen_at == at:
            self._evidence = Evidence(source, at)
            out = [self._changed() if isinstance(o, SessionChanged) else o for o in out]
        return out

    def _observed(self, signal: Signal, at: float) -> list[Output]:
        match signal:
            case TextArrived() | BlockDropped() | BlockSettled() | ToolCalled() | ToolAnswered():
                return self._content(signal, at)
            case PromptSeen(turn=turn):
                if self.open is None:
                    return self._taken_up(turn, at)
                if self.open.id != turn or self.open.active:
                    return []
                return self._turn_to("seen")
            case PromptHeld(turn=turn, why=why):
                return self._hold(turn, why, at)
            case PromptsWelcome():
                self._held = False
                return self._advance("ready", at)
            case PromptLost(turn=turn, why=why):
                return self._lose(turn, why, at)
            case UpstreamActive():
                return self._upstream_active(at)
            case PromptTyped(prompt=prompt, first=first, behind=behind):
                out: list[Output] = []
                if first and self.open is not None and self._open_phase in ("sending", "sent"):
                    self._behind = self._handed if behind and self._handed == self.open.id else None
                    out = self._hold(self.open.id, "another turn, which no client asked for, runs first", at)
                return out if self.open is not None else [*out, *self._typed(prompt, at)]
            case AnswerNeeded():
                return self._asked(signal, at)
            case AnswerMoot(request=request, outcome=outcome):
                return self._closed(self.requests.withdraw(request, outcome), at)
            case TurnEnded():
                return self._ended(signal, at)
            case ProcessReady():
                return self._ready(signal, at)
            case ProcessExited():
                return self._exited(signal, at)
            case LivenessLost(why=why):
                self.facts.reason = why
                return [] if self.phase in _HALTED else self._to(Phase.UNKNOWN, "tmux", at)
            case ConversationNamed(conversation=conversation):
                if conversation == self.facts.conversation:
                    return []
                self.facts.conversation = conversation
                return [self._changed()]
            case SettingsSeen(model=model, permission_mode=mode):
                return self._settings(model, mode)
            case LimitReached():
                return self._limit_reached(signal, at)
            case UpstreamRetrying():
                self._evidence = Evidence("api_retry", at)
                self.facts.reason = f"{signal.error}; attempt {signal.attempt} of {signal.limit}"
                return [self._changed()]

    # --- inside ---------------------------------------------------------------------------------------

    def _to(self, phase: Phase, signal: str, at: float) -> list[Output]:
        """The single writer of `phase`, checked against `EDGES`."""
        self._evidence = Evidence(signal, at)
        if phase is self.phase:
            return []
        if phase not in EDGES[self.phase]:
            raise AssertionError(f"{self.phase} does not lead to {phase}")
        self.phase = phase
        if phase in (Phase.IDLE, Phase.BUSY):
            self.facts.reason = self.facts.notice
        return [self._changed()]

    def _changed(self) -> Event:
        return SessionChanged(self.session())

    def _turn_to(self, phase: TurnPhase) -> list[Output]:
        assert self.open is not None
        self._open_phase = phase
        return [TurnAdvanced(self.open.view(), phase)]

    def _has_conversation(self) -> bool:
        f = self.facts
        return f.fresh is None and (f.turns > 0 or f.options.resume is not None)

    def _advance(self, signal: str, at: float) -> list[Output]:
        """Start the next turn where nothing runs."""
        if self._held or self.facts.limited_until is not None:
            return []
        if self.phase not in (Phase.IDLE, Phase.BUSY) or self.open or not self.queue:
            return []
        turn = replace(self.queue.popleft(), status="running", started_at=at, reason=None)
        begun = self._begin(turn, signal, at)
        if turn.id == self._behind:
            self._behind = None
            return [*begun, *self._turn_to("sent")]
        return [*begun, *self._hand_over()]

    def _hand_over(self) -> list[Output]:
        assert self.open is not None
        self._handed = self.open.id
        return [
            *self._turn_to("sending"),
            SendPrompt(self.open.id, self.open.prompt, self.open.attachments),
        ]

    def _begin(self, turn: Turn, signal: str, at: float) -> list[Output]:
        self.open = OpenTurn(turn)
        self.facts.turns += 1
        return [
            TurnStarted(turn.id, turn.prompt, turn.author, turn.source, turn.attachments),
            *self._to(Phase.BUSY, signal, at),
        ]

    def _typed(self, prompt: str, at: float) -> list[Output]:
        """A turn that no client asked for. Its id comes from the count of turns, so that a re-read of
        the same input names it the same."""
        turn = Turn(
            id=TurnId(f"{self.facts.conversation or self.facts.name}-{self.facts.turns}"),
            prompt=prompt,
            author=None,
            source="terminal",
            status="running",
            queued_at=at,
            started_at=at,
        )
        return [*self._begin(turn, "prompt", at), *self._turn_to("seen")]

    def _content(
        self, signal: TextArrived | BlockDropped | BlockSettled | ToolCalled | ToolAnswered, at: float
    ) -> list[Output]:
        out: list[Output] = []
        if self.open is None:
            out += self._typed("", at)
        assert self.open is not None
        if not self.open.active:
            out += self._upstream_active(at)
        out += self.open.take(signal)
        if isinstance(signal, ToolAnswered):
            out += self._closed(self.requests.withdraw_call(signal.tool), at)
        return out

    def _upstream_active(self, at: float) -> list[Output]:
        if self.open is None or self.open.active:
            return []
        self.open.active = True
        self.facts.reason = self.facts.notice
        self._evidence = Evidence("stream", at)
        return self._turn_to("active")

    def _asked(self, s: AnswerNeeded, at: float) -> list[Output]:
        if self.open is None:
            return []
        request = Request(
            id=s.request,
            kind=s.kind,
            turn=self.open.id,
            tool=s.tool,
            input=s.input,
            suggestions=s.suggestions,
            opened_at=at,
            call=s.call,
        )
        if not self.requests.opened(request):
            return []
        out = self._upstream_active(at)  # who asks has begun
        self._evidence = Evidence("permission", at)
        return [*out, RequestOpened(request), self._changed()]

    def _closed(self, closed: Sequence[RequestAnswered], at: float) -> list[Output]:
        out: list[Output] = list(closed)
        if out and not self.requests and self.phase is Phase.BUSY:
            self._evidence = Evidence("answer", at)
            out.append(self._changed())
        return out

    def _ended(self, s: TurnEnded, at: float) -> list[Output]:
        if self.open is None:
            return []
        out: list[Output] = [*self.open.settle_previews(), *self.requests.withdraw_all()]
        turn = self.open.finished(
            s.status, at, text=s.text, error=s.error, usage=s.usage, cost_usd=s.cost_usd
        )
        return self._over([*out, *self._close_turn(turn)], at)

    def _over(self, out: list[Output], at: float) -> list[Output]:
        """A turn is over: the next one, or none."""
        self._held = False
        if self.phase is not Phase.BUSY:
            return out
        if self.facts.fresh is not None:
            return [*out, *self._to(Phase.IDLE, "result", at), *self._forget()]
        if not self.queue or self.facts.limited_until is not None:
            return [*out, *self._to(Phase.IDLE, "result", at)]
        # The next turn starts in the same breath: `idle` is said only where it is true.
        return [*out, *self._advance("result", at), self._changed()]

    def _forget(self) -> list[Output]:
        """No turn begins until it is certain that nothing is left of those before."""
        self._held = True
        last, self._last = self._last, None
        plain = last is not None and not any(isinstance(block, ToolBlock) for block in last.blocks)
        return [ForgetTurn(last.id if last is not None and plain else None, bool(self.queue))]

    def _hold(self, turn: TurnId, why: str, at: float) -> list[Output]:
        """Back into the queue, where it says why, until a turn has ended or something has changed."""
        if self.open is None or self.open.id != turn or self.open.active:
            return []
        out = self._put_back(why)
        self._held = True
        if self.phase is Phase.BUSY:
            out += self._to(Phase.IDLE, "held", at)
        return out

    def _limit_reached(self, s: LimitReached, at: float) -> list[Output]:
        """A turn that has done nothing yet goes back to the head of the queue; others end as is told next."""
        until, why = s.until, s.why
        if until is None:
            until, why = at + LIMIT_AGAIN_S, f"{why}; when it resets was not said"
        out = self.limited(until if until > at else at + LIMIT_SOON_S, why, at)
        if self.phase is Phase.BUSY and self.open and s.untouched and self.open.source == "client":
            out = [*self._put_back(why), *out]
            out += self._to(Phase.IDLE, "limit", at)
        return out

    def _forget_limit(self) -> None:
        self.facts.limited_until = self.facts.limited_why = None

    def _taken_up(self, turn: TurnId, at: float) -> list[Output]:
        """It was on its way when it was put back, and Claude has it all the same."""
        queued = next((t for t in self.queue if t.id == turn), None)
        if queued is None or self.halted:
            return []
        self.queue.remove(queued)
        self._held = False
        begun = replace(queued, status="running", started_at=at, reason=None)
        return [*self._begin(begun, "prompt", at), *self._turn_to("seen")]

    def _lose(self, turn: TurnId, why: str, at: float) -> list[Output]:
        if self.open is None or self.open.id != turn:
            return []
        return self._over(self._break_off("unknown", why, at, "prompt_lost"), at)

    def _ready(self, s: ProcessReady, at: float) -> list[Output]:
        if self.phase in _HALTED:
            return []
        self._held = False
        self._handed = self._behind = None
        out = self._settings(s.model, s.permission_mode)
        if self.open is None:
            out += self._to(Phase.IDLE, "ready", at)
            return [*out, *(self._forget() if self.facts.fresh else self._advance("ready", at))]
        out += self._to(Phase.BUSY, "ready", at)
        if not self.open.active and self._open_phase != "seen":
            # Sent again under the same identity: the CLI runs one id once (claude-cli.md §3).
            out += self._hand_over()
        return out

    def _exited(self, s: ProcessExited, at: float) -> list[Output]:
        if self.phase in _HALTED:
            return []
        if self.open is not None and self.open.active:
            # Tools may have run: nobody can tell how far it came, so it is never sent again.
            out = self._break_off("unknown", s.reason, at)
        else:
            out = list[Output](self.requests.withdraw_all())
            if self.open is not None:
                out += self._turn_to("sending")
        self.facts.reason = s.reason
        return [*out, *self._to(Phase.RESTARTING, "process_exit", at), PlanRestart(s.reason)]

    def _settings(self, model: str | None, mode: str | None) -> list[Output]:
        f = self.facts
        before = (f.model, f.permission_mode)
        f.model = model or f.model
        f.permission_mode = mode or f.permission_mode
        return [self._changed()] if (f.model, f.permission_mode) != before else []

    def _break_off(
        self, status: TurnStatus, why: str | None, at: float, code: str = "process_died"
    ) -> list[Output]:
        """The open turn ends without Claude having ended it; what came of it is kept."""
        out = list[Output](self.requests.withdraw_all())
        if self.open is None:
            return out
        out += self.open.settle_previews()
        error = TurnError(code, why) if why else None
        return [*out, *self._close_turn(self.open.finished(status, at, error=error))]

    def _put_back(self, why: str | None = None) -> list[Output]:
        assert self.open is not None
        turn = replace(self.open.as_queued(), reason=why)
        self.open = None
        self.facts.turns -= 1
        self.queue.appendleft(turn)
        queued = TurnQueued(turn.id, turn.key, turn.prompt, turn.author, 0, why, turn.attachments)
        return [*self.requests.withdraw_all(), TurnAdvanced(turn, "queued"), queued]

    def _close_turn(self, turn: Turn) -> list[Output]:
        self.open = None
        self._last = turn if self.facts.fresh is not None else None
        self.finished += 1
        f = self.facts
        f.usage = f.usage + (turn.usage or Usage())
        f.cost_usd += turn.cost_usd or 0.0
        return [TurnAdvanced(turn, "finished"), _finished(turn)]

    def _finish(self, queued: Turn, status: TurnStatus, at: float) -> list[Output]:
        turn = replace(queued, status=status, finished_at=at)
        self.finished += 1
        return [TurnAdvanced(turn, "finished"), _finished(turn)]


def _finished(turn: Turn) -> TurnFinished:
    begun, ended = turn.started_at, turn.finished_at
    duration = 0 if begun is None or ended is None else round((ended - begun) * 1000)
    return TurnFinished(
        turn.id, turn.status, turn.text, turn.error, turn.usage, turn.cost_usd, max(0, duration)
    )
