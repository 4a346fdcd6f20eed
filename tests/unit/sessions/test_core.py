"""The session's state machine: what each input leads to, without a process, a clock or a task."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.commands import AfterReboot, AnswerRequest, StartOptions, SubmitPrompt
from bridge.errors import (
    InvalidPayload,
    PromptEmpty,
    PromptRejected,
    PromptTooLarge,
    QueueFull,
    RequestClosed,
    SessionFailed,
    SessionStopped,
    TurnNotFound,
)
from bridge.events import (
    BlockFinished,
    DeltaAdded,
    Evidence,
    RequestAnswered,
    RequestId,
    RequestOpened,
    SessionChanged,
    SessionName,
    Turn,
    TurnError,
    TurnFinished,
    TurnId,
    TurnQueued,
    TurnStarted,
    Usage,
)
from bridge.sessions.core import EDGES, Phase, SessionCore
from bridge.sessions.effects import (
    Output,
    PlanRestart,
    SendAnswer,
    SendInterrupt,
    SendPrompt,
    StartProcess,
    StopProcess,
    TurnAdvanced,
)
from bridge.sessions.facts import Facts, Limits
from bridge.signals import (
    AnswerMoot,
    AnswerNeeded,
    BlockSettled,
    ConversationNamed,
    LivenessLost,
    ProcessExited,
    ProcessReady,
    PromptHeld,
    PromptLost,
    PromptSeen,
    PromptsWelcome,
    PromptTyped,
    TextArrived,
    ToolAnswered,
    ToolCalled,
    TurnEnded,
    UpstreamActive,
    UpstreamRetrying,
)

ENDED = TurnEnded("completed", "hello")


def new(**limits: int) -> SessionCore:
    facts = Facts(SessionName("demo"), "headless", StartOptions(cwd="/"), "node")
    core = SessionCore(facts, Limits(**limits), Evidence("test", 0.0))
    core.created(0.0)
    return core


def ready(**limits: int) -> SessionCore:
    core = new(**limits)
    core.start_process()
    core.observe(ProcessReady(), 1.0)
    return core


def submit(
    core: SessionCore, turn: str, prompt: str = "hi", **more: Any
) -> tuple[dict[str, Any], list[Output]]:
    return core.submit(TurnId(turn), SubmitPrompt(prompt=prompt, **more), "ann", 2.0)


def of(kind: type, out: list[Output]) -> list[Any]:
    return [o for o in out if isinstance(o, kind)]


def test_a_prompt_to_an_idle_session_runs_at_once() -> None:
    """Accepted, started, journaled as being sent, and sent: in this order."""
    reply, out = submit(ready(), "t1")
    assert reply == {"turn": "t1", "status": "running", "position": 0}
    kinds = [type(o) for o in out]
    assert kinds.index(TurnQueued) < kinds.index(TurnStarted) < kinds.index(SendPrompt)
    assert [o.phase for o in of(TurnAdvanced, out)] == ["queued", "sending"]


def test_a_prompt_to_a_starting_session_waits_until_the_process_is_ready() -> None:
    """Accepting does not wait for a process; sending does."""
    core = new()
    reply, out = submit(core, "t1")
    assert reply["status"] == "queued"
    assert not of(SendPrompt, out)
    assert of(SendPrompt, core.observe(ProcessReady(), 3.0)) == [SendPrompt(TurnId("t1"), "hi")]


def test_prompts_run_one_at_a_time_in_order() -> None:
    """The next prompt is sent only when the one before has ended."""
    core = ready()
    submit(core, "t1")
    reply, out = submit(core, "t2", "second")
    assert reply == {"turn": "t2", "status": "queued", "position": 1}
    assert not of(SendPrompt, out)
    out = core.observe(ENDED, 4.0)
    assert [type(o) for o in out if isinstance(o, TurnFinished | TurnStarted | SendPrompt)] == [
        TurnFinished,
        TurnStarted,
        SendPrompt,
    ]
    assert core.state == "busy"


def test_idle_is_not_said_between_two_queued_turns() -> None:
    """A viewer must not see a session as free that is about to go on."""
    core = ready()
    submit(core, "t1")
    submit(core, "t2")
    states = [o.session.state for o in of(SessionChanged, core.observe(ENDED, 4.0))]
    assert states == ["busy"]


def test_the_last_turn_leaves_the_session_idle() -> None:
    """The state names the signal that decided it."""
    core = ready()
    submit(core, "t1")
    core.observe(ENDED, 4.0)
    assert core.state == "idle"
    assert core.session().evidence == Evidence("result", 4.0)


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (SubmitPrompt(prompt=" \n"), PromptEmpty),
        (SubmitPrompt(prompt="x" * 11), PromptTooLarge),
        (SubmitPrompt(prompt="ä" * 6), PromptTooLarge),
        (SubmitPrompt(command="/compact"), PromptRejected),
        (SubmitPrompt(), InvalidPayload),
    ],
)
def test_a_prompt_that_cannot_be_sent_is_refused(command: SubmitPrompt, error: type[Exception]) -> None:
    """Refused before anything changed: the limit counts bytes, not characters."""
    core = ready(max_prompt_bytes=10)
    with pytest.raises(error):
        core.submit(TurnId("t1"), command, None, 2.0)
    assert core.open is None
    assert not core.queue


def test_a_full_queue_refuses_and_keeps_what_it_has() -> None:
    """The bound is on waiting prompts, not on the running one."""
    core = ready(max_queue=1)
    submit(core, "t1")
    submit(core, "t2")
    with pytest.raises(QueueFull):
        submit(core, "t3")
    assert [t.id for t in core.queue] == ["t2"]


def test_a_stopped_session_refuses_prompts() -> None:
    """`session_stopped`, not a silent queue."""
    core = ready()
    core.stop(3.0)
    with pytest.raises(SessionStopped):
        submit(core, "t1")


def test_a_failed_session_refuses_prompts_and_says_why() -> None:
    """The reason of the failure is in the refusal."""
    core = ready()
    core.observe(ProcessExited(1, "no such flag"), 3.0)
    core.give_up("no such flag", 4.0)
    with pytest.raises(SessionFailed, match="no such flag"):
        submit(core, "t1")


def test_stopping_interrupts_the_running_turn_and_keeps_its_text_and_the_queue() -> None:
    """The queue waits for the next start; what was previewed becomes the turn's text."""
    core = ready()
    submit(core, "t1")
    submit(core, "t2")
    core.observe(TextArrived(0, "text", "par"), 3.0)
    out = core.stop(4.0)
    [finished] = of(TurnFinished, out)
    assert (finished.turn, finished.status, finished.text) == ("t1", "interrupted", "par")
    assert of(StopProcess, out)
    assert [t.id for t in core.queue] == ["t2"]
    core.start(5.0)
    assert of(SendPrompt, core.observe(ProcessReady(), 6.0)) == [SendPrompt(TurnId("t2"), "hi")]


def test_deleting_cancels_the_queue() -> None:
    """Every accepted turn ends, once."""
    core = ready()
    submit(core, "t1")
    submit(core, "t2")
    assert [(f.turn, f.status) for f in of(TurnFinished, core.cancel_all(3.0))] == [
        ("t1", "interrupted"),
        ("t2", "cancelled"),
    ]


def test_a_queued_turn_can_be_cancelled() -> None:
    """It ends as cancelled and is never sent."""
    core = ready()
    submit(core, "t1")
    submit(core, "t2")
    [finished] = of(TurnFinished, core.cancel("t2", 3.0))
    assert (finished.turn, finished.status) == ("t2", "cancelled")
    assert not of(SendPrompt, core.observe(ENDED, 4.0))


@pytest.mark.parametrize("turn", ["t1", "nope"])
def test_only_a_queued_turn_can_be_cancelled(turn: str) -> None:
    """A running turn is interrupted instead; the refusal says so."""
    core = ready()
    submit(core, "t1")
    with pytest.raises(TurnNotFound):
        core.cancel(turn, 3.0)


def test_interrupting_names_the_running_turn() -> None:
    """And `None` where nothing runs, which is not an error."""
    core = ready()
    assert core.interrupt(3.0) == ({"turn": None}, [])
    submit(core, "t1")
    assert core.interrupt(3.0) == ({"turn": "t1"}, [SendInterrupt()])


def test_a_turn_that_waits_for_the_next_process_can_be_interrupted() -> None:
    """It ends there and then, and is not sent; what is queued behind it runs."""
    core = ready()
    submit(core, "t1")
    submit(core, "t2")
    core.observe(ProcessExited(-9, "killed"), 3.0)
    reply, out = core.interrupt(4.0)
    assert reply == {"turn": "t1"}
    assert [(f.turn, f.status) for f in of(TurnFinished, out)] == [("t1", "interrupted")]
    core.restart_due(5.0)
    assert [p.turn for p in of(SendPrompt, core.observe(ProcessReady(), 6.0))] == ["t2"]


def test_a_turn_that_never_became_active_is_sent_again_under_its_id_after_a_crash() -> None:
    """No upstream activity: the CLI runs one id once, so sending again is safe."""
    core = ready()
    submit(core, "t1")
    core.prompt_sent(TurnId("t1"))
    core.observe(PromptSeen(TurnId("t1")), 3.0)
    out = core.observe(ProcessExited(-9, "killed"), 4.0)
    assert of(PlanRestart, out)
    assert not of(TurnFinished, out)
    assert of(StartProcess, core.restart_due(5.0)) == [StartProcess(resume=True)]
    assert of(SendPrompt, core.observe(ProcessReady(), 6.0)) == [SendPrompt(TurnId("t1"), "hi")]


def test_that_a_turn_is_to_be_sent_again_is_journaled_with_the_crash() -> None:
    """Else a bridge that comes back now would take the word of a dead process for that of the next one."""
    core = ready()
    submit(core, "t1")
    core.observe(PromptSeen(TurnId("t1")), 3.0)
    [advanced] = of(TurnAdvanced, core.observe(ProcessExited(-9, "killed"), 4.0))
    assert (advanced.turn.id, advanced.phase) == ("t1", "sending")


def test_a_turn_with_activity_is_unknown_after_a_crash_and_never_sent_again() -> None:
    """Tools may have run; its partial text is kept."""
    core = ready()
    submit(core, "t1")
    core.observe(TextArrived(0, "text", "half"), 3.0)
    [finished] = of(TurnFinished, core.observe(ProcessExited(-9, "killed"), 4.0))
    assert (finished.status, finished.text, finished.error) == (
        "unknown",
        "half",
        TurnError("process_died", "killed"),
    )
    core.restart_due(5.0)
    assert not of(SendPrompt, core.observe(ProcessReady(), 6.0))


def test_the_queue_goes_on_after_a_crash() -> None:
    """What waited behind the lost turn runs next."""
    core = ready()
    submit(core, "t1")
    submit(core, "t2")
    core.observe(UpstreamActive(), 3.0)
    core.observe(ProcessExited(-9, "killed"), 4.0)
    core.restart_due(5.0)
    assert [p.turn for p in of(SendPrompt, core.observe(ProcessReady(), 6.0))] == ["t2"]


def test_giving_up_puts_a_turn_that_was_not_begun_back_in_front() -> None:
    """Nothing accepted is lost to a process that will not start."""
    core = ready()
    submit(core, "t1")
    submit(core, "t2")
    core.observe(ProcessExited(1, "bad"), 3.0)
    out = core.give_up("bad", 4.0)
    assert core.state == "failed"
    assert of(TurnQueued, out) == [TurnQueued(TurnId("t1"), None, "hi", "ann", 0)], "viewers know it too"
    assert [t.id for t in core.queue] == ["t1", "t2"]
    core.start(5.0)
    assert [p.turn for p in of(SendPrompt, core.observe(ProcessReady(), 6.0))] == ["t1"]


def test_a_request_makes_the_session_wait_until_it_is_answered() -> None:
    """`waiting` while it is open, `busy` after; closed only once the answer has been sent."""
    core = ready()
    submit(core, "t1")
    out = core.observe(AnswerNeeded(RequestId("r1"), "permission", "Bash", {"command": "ls"}), 3.0)
    assert [o.request.id for o in of(RequestOpened, out)] == ["r1"]
    assert core.state == "waiting"
    answer = AnswerRequest(request="r1", decision="allow")
    assert core.answer(answer, "ann") == [
        SendAnswer(RequestId("r1"), True, {"command": "ls"}, (), None, False)
    ]
    assert core.state == "waiting"
    assert of(RequestAnswered, core.answered(RequestId("r1"), 4.0)) == [
        RequestAnswered(RequestId("r1"), "allowed", "ann")
    ]
    assert core.state == "busy"


def test_the_first_answer_wins() -> None:
    """The second is told who answered and what."""
    core = ready()
    submit(core, "t1")
    core.observe(AnswerNeeded(RequestId("r1"), "permission", "Bash", {}), 3.0)
    core.answer(AnswerRequest(request="r1", decision="deny"), "ann")
    with pytest.raises(RequestClosed) as refused:
        core.answer(AnswerRequest(request="r1", decision="allow"), "bob")
    assert refused.value.details == {"request": "r1", "outcome": "denied", "by": "ann"}


def test_an_answer_that_could_not_be_sent_leaves_the_request_open() -> None:
    """Somebody can try again."""
    core = ready()
    submit(core, "t1")
    core.observe(AnswerNeeded(RequestId("r1"), "permission", "Bash", {}), 3.0)
    core.answer(AnswerRequest(request="r1", decision="deny"), "ann")
    core.requests.answer_failed(RequestId("r1"))
    assert core.answer(AnswerRequest(request="r1", decision="allow"), "bob")


def test_a_result_that_comes_before_word_that_the_answer_was_sent_is_the_answers() -> None:
    """Claude may be quicker than the hand that wrote to it."""
    core = ready()
    submit(core, "t1")
    core.observe(AnswerNeeded(RequestId("r1"), "permission", "Bash", {}, call="call"), 3.0)
    core.answer(AnswerRequest(request="r1", decision="deny"), "ann")
    out = core.observe(ToolAnswered("call", "no", True), 4.0)
    assert of(RequestAnswered, out) == [RequestAnswered(RequestId("r1"), "denied", "ann")]
    assert of(RequestAnswered, core.answered(RequestId("r1"), 5.0)) == []


def test_an_answer_names_suggestions_by_number() -> None:
    """What the CLI offered goes back to it; a number it did not offer is refused."""
    core = ready()
    submit(core, "t1")
    core.observe(AnswerNeeded(RequestId("r1"), "permission", "Bash", {}, ({"type": "setMode"},)), 3.0)
    with pytest.raises(InvalidPayload):
        core.answer(AnswerRequest(request="r1", decision="allow", suggestions=[1]), None)
    [sent] = core.answer(AnswerRequest(request="r1", decision="allow", suggestions=[0]), None)
    assert isinstance(sent, SendAnswer)
    assert sent.suggestions == ({"type": "setMode"},)


@pytest.mark.parametrize("signal", [AnswerMoot(RequestId("r1")), ToolAnswered("call", "out", False), ENDED])
def test_a_request_that_claude_no_longer_needs_is_withdrawn(signal: Any) -> None:
    """Whether Claude said so, the tool has its result, or the turn ended."""
    core = ready()
    submit(core, "t1")
    core.observe(ToolCalled(0, "call", "Bash", {}), 3.0)
    core.observe(AnswerNeeded(RequestId("r1"), "permission", "Bash", {}, call="call"), 3.0)
    assert of(RequestAnswered, core.observe(signal, 4.0)) == [
        RequestAnswered(RequestId("r1"), "withdrawn", None)
    ]


@pytest.mark.parametrize("then", ["stop", "pending", "resume"])
def test_a_question_of_a_process_that_is_gone_is_withdrawn(then: AfterReboot) -> None:
    """And its turn is not sent again, though it had said nothing: who asks has begun."""
    core = ready()
    submit(core, "t1")
    core.observe(AnswerNeeded(RequestId("r1"), "permission", "Bash", {}), 3.0)
    core.adopt(4.0)
    out = core.found_gone("it is gone", then, 5.0)
    assert of(RequestAnswered, out) == [RequestAnswered(RequestId("r1"), "withdrawn", None)]
    assert [o.status for o in of(TurnFinished, out)] == ["unknown"]
    assert (core.snapshot(()).requests, list(core.queue)) == ((), [])


def test_a_turn_that_nobody_submitted_is_a_turn() -> None:
    """What a person types, or Claude goes on with, has `source: terminal` and no author."""
    core = ready()
    [started] = of(TurnStarted, core.observe(PromptTyped("by hand"), 3.0))
    assert (started.prompt, started.source, started.author) == ("by hand", "terminal", None)
    [finished] = of(TurnFinished, core.observe(ENDED, 4.0))
    assert finished.turn == started.turn


def test_a_prompt_that_is_held_up_waits_in_front_and_says_why() -> None:
    """It is queued again, not running; the session is idle, and nothing behind it overtakes it."""
    core = ready()
    submit(core, "t1")
    submit(core, "t2")
    out = core.observe(PromptHeld(TurnId("t1"), "a draft"), 3.0)
    [queued] = of(TurnQueued, out)
    assert (queued.turn, queued.reason, queued.position) == ("t1", "a draft", 0)
    assert [o.phase for o in of(TurnAdvanced, out)] == ["queued"]
    assert (core.state, core.open, core.session().turns) == ("idle", None, 0)
    assert [(t.id, t.status, t.reason) for t in core.queue] == [
        ("t1", "queued", "a draft"),
        ("t2", "queued", None),
    ]
    assert not of(SendPrompt, submit(core, "t3")[1])


@pytest.mark.parametrize("welcome", [PromptsWelcome(), ProcessReady()])
def test_a_held_prompt_is_tried_again_when_prompts_are_welcome(welcome: Any) -> None:
    core = ready()
    submit(core, "t1")
    core.observe(PromptHeld(TurnId("t1"), "a draft"), 3.0)
    out = core.observe(welcome, 4.0)
    assert of(SendPrompt, out) == [SendPrompt(TurnId("t1"), "hi")]
    assert core.open is not None
    assert core.open.view().reason is None
    assert core.observe(PromptsWelcome(), 5.0) == []


def test_a_held_prompt_is_tried_again_when_a_persons_turn_has_ended() -> None:
    core = ready()
    submit(core, "t1")
    core.observe(PromptHeld(TurnId("t1"), "a draft"), 3.0)
    core.observe(PromptTyped("by hand"), 4.0)
    assert of(SendPrompt, core.observe(ENDED, 5.0)) == [SendPrompt(TurnId("t1"), "hi")]


@pytest.mark.parametrize("late", [PromptHeld(TurnId("t0"), "x"), PromptLost(TurnId("t0"), "x")])
def test_what_became_of_another_prompt_changes_nothing(late: Any) -> None:
    core = ready()
    submit(core, "t1")
    assert core.observe(late, 3.0) == []
    assert core.state == "busy"


def test_a_prompt_that_the_model_answers_is_not_held_up() -> None:
    core = ready()
    submit(core, "t1")
    core.observe(UpstreamActive(), 3.0)
    assert core.observe(PromptHeld(TurnId("t1"), "a draft"), 4.0) == []


def test_a_held_prompt_that_claude_took_up_all_the_same_is_running() -> None:
    """It had been handed over a second time before it was put back: what follows is its answer."""
    core = ready()
    submit(core, "t1")
    submit(core, "t2")
    core.observe(PromptHeld(TurnId("t1"), "no editor"), 3.0)
    out = core.observe(PromptSeen(TurnId("t1")), 4.0)
    assert [t.turn for t in of(TurnStarted, out)] == ["t1"]
    assert of(SendPrompt, out) == []
    assert core.observe(PromptsWelcome(), 5.0) == []
    core.observe(TextArrived(0, "text", "so", "m"), 5.0)
    out = core.observe(ENDED, 6.0)
    assert [f.turn for f in of(TurnFinished, out)] == ["t1"]
    assert of(SendPrompt, out) == [SendPrompt(TurnId("t2"), "hi")]


def test_a_prompt_that_nobody_waits_for_any_more_is_not_taken_up() -> None:
    core = ready()
    submit(core, "t1")
    core.observe(PromptHeld(TurnId("t1"), "no editor"), 3.0)
    core.cancel("t1", 4.0)
    assert core.observe(PromptSeen(TurnId("t1")), 5.0) == []


def test_a_held_prompt_can_be_cancelled() -> None:
    core = ready()
    submit(core, "t1")
    core.observe(PromptHeld(TurnId("t1"), "a draft"), 3.0)
    [finished] = of(TurnFinished, core.cancel("t1", 4.0))
    assert finished.status == "cancelled"
    assert core.observe(PromptsWelcome(), 5.0) == []


def test_a_lost_prompt_is_unknown_and_the_next_one_runs() -> None:
    """It may run or not: it is never sent again, and says why."""
    core = ready()
    submit(core, "t1")
    submit(core, "t2")
    out = core.observe(PromptLost(TurnId("t1"), "never acknowledged"), 3.0)
    [finished] = of(TurnFinished, out)
    assert (finished.turn, finished.status) == ("t1", "unknown")
    assert finished.error == TurnError("prompt_lost", "never acknowledged")
    assert of(SendPrompt, out) == [SendPrompt(TurnId("t2"), "hi")]


def test_a_persons_prompt_that_came_first_runs_first() -> None:
    """Ours, which was being typed, waits behind it with a reason; then it is sent."""
    core = ready()
    submit(core, "t1")
    out = core.observe(PromptTyped("by hand", first=True), 3.0)
    [queued] = of(TurnQueued, out)
    assert queued.turn == "t1"
    assert queued.reason
    [started] = of(TurnStarted, out)
    assert (started.prompt, started.source) == ("by hand", "terminal")
    assert of(SendPrompt, core.observe(ENDED, 4.0)) == [SendPrompt(TurnId("t1"), "hi")]


def test_a_turn_nobody_asked_for_is_not_taken_for_the_one_that_was_to_be_sent() -> None:
    """Claude went on by itself while no bridge ran; ours was handed over, or not, and is still to come."""
    for handed_over in (False, True):
        core = ready()
        submit(core, "t1")
        if handed_over:
            core.prompt_sent(TurnId("t1"))
        out = core.observe(PromptTyped("", first=True), 3.0)
        out += core.observe(BlockSettled(0, "text", "by itself", "m"), 4.0)
        out += core.observe(ENDED, 5.0)
        [own] = of(TurnFinished, out)
        assert own.turn != "t1"
        assert of(SendPrompt, out) == [SendPrompt(TurnId("t1"), "hi")]


def test_what_the_process_was_handed_is_not_handed_over_again() -> None:
    """It lies in its pipe, behind what Claude does by itself. The next process was handed nothing."""
    core = ready()
    submit(core, "t1")
    out = core.observe(PromptTyped("", first=True, behind=True), 3.0)
    out += core.observe(ENDED, 4.0)
    assert of(SendPrompt, out) == []
    assert core.open is not None
    assert core.open.id == "t1"
    core.observe(ProcessExited(1, "gone"), 5.0)
    core.restart_due(6.0)
    assert of(SendPrompt, core.observe(ProcessReady(), 7.0)) == [SendPrompt(TurnId("t1"), "hi")]


def test_a_prompt_that_was_acknowledged_is_not_put_behind_one_that_is_read_again() -> None:
    """A bridge that came back reads of the running turn as if somebody had typed it."""
    core = ready()
    submit(core, "t1")
    core.observe(PromptSeen(TurnId("t1")), 3.0)
    assert core.observe(PromptTyped("hi", first=True), 4.0) == []
    assert core.open is not None
    assert core.open.id == "t1"


@pytest.mark.parametrize("outcome", ["allowed", "denied", "withdrawn"])
def test_a_question_answered_in_the_terminal_says_how(outcome: Any) -> None:
    """By nobody that a client could name."""
    core = ready()
    submit(core, "t1")
    core.observe(AnswerNeeded(RequestId("r1"), "permission", "Bash", {}), 3.0)
    out = core.observe(AnswerMoot(RequestId("r1"), outcome), 4.0)
    assert of(RequestAnswered, out) == [RequestAnswered(RequestId("r1"), outcome, None)]
    assert core.state == "busy"
    assert core.observe(AnswerMoot(RequestId("r1"), "denied"), 5.0) == []


def test_a_state_is_known_by_what_it_was_seen_by() -> None:
    """Where the backend names its source; what changed nothing leaves the evidence as it was."""
    core = ready()
    submit(core, "t1")
    core.observe(UpstreamActive(), 3.0, "hook:MessageDisplay")
    assert core.session().evidence == Evidence("hook:MessageDisplay", 3.0)
    core.observe(PromptSeen(TurnId("t1")), 4.0, "transcript")
    assert core.session().evidence == Evidence("hook:MessageDisplay", 3.0)
    out = core.observe(ENDED, 5.0, "hook:Stop")
    [changed] = of(SessionChanged, out)
    assert changed.session.evidence == Evidence("hook:Stop", 5.0)
    assert core.session().evidence == Evidence("hook:Stop", 5.0)


def test_usage_and_cost_of_turns_add_up() -> None:
    """The session carries the sum."""
    core = ready()
    for turn in ("t1", "t2"):
        submit(core, turn)
        core.observe(TurnEnded("completed", "x", usage=Usage(1, 2), cost_usd=0.5), 4.0)
    assert (core.session().usage, core.session().cost_usd) == (Usage(2, 4), 1.0)


def test_a_lost_liveness_is_said_and_mended() -> None:
    """`unknown` with its reason while tmux cannot say, back to what is true afterwards."""
    core = ready()
    core.observe(LivenessLost("tmux is silent"), 3.0)
    assert (core.state, core.session().reason) == ("unknown", "tmux is silent")
    core.observe(ProcessReady(), 4.0)
    assert (core.state, core.session().reason) == ("idle", None)


def test_retries_upstream_are_shown_as_the_reason() -> None:
    """A person sees why nothing comes."""
    core = ready()
    submit(core, "t1")
    core.observe(UpstreamRetrying(1, 4, 500, "overloaded"), 3.0)
    assert core.session().reason == "overloaded; attempt 1 of 4"
    core.observe(TextArrived(0, "text", "x"), 4.0)
    assert core.session().reason is None


def test_a_changed_conversation_is_followed() -> None:
    """`/clear` gives a new id; the same one again says nothing."""
    core = ready()
    assert of(SessionChanged, core.observe(ConversationNamed("c2"), 3.0))
    assert core.observe(ConversationNamed("c2"), 3.0) == []


def test_an_adopted_turn_that_is_running_is_not_sent_again() -> None:
    """It was seen before the bridge went away: its end comes by itself."""
    core = new()
    turn = Turn(TurnId("t1"), "hi", None, "client", "running", 1.0, started_at=1.0)
    core.restore(Phase.UNKNOWN, [(turn, "seen")], [])
    core.adopt(2.0)
    assert not of(SendPrompt, core.observe(ProcessReady(busy=True), 3.0))
    assert core.state == "busy"


def test_an_adopted_turn_that_was_never_seen_is_sent_again_under_its_id() -> None:
    """The bridge died between the journal and the pipe."""
    core = new()
    turn = Turn(TurnId("t1"), "hi", None, "client", "running", 1.0, started_at=1.0)
    core.restore(Phase.UNKNOWN, [(turn, "sending")], [])
    core.adopt(2.0)
    assert of(SendPrompt, core.observe(ProcessReady(), 3.0)) == [SendPrompt(TurnId("t1"), "hi")]


def test_taking_in_a_turn_twice_says_nothing_twice() -> None:
    """A re-read from the checkpoint repeats signals; facts are not repeated."""
    core = ready()
    submit(core, "t1")
    signals = [
        TextArrived(0, "text", "hello"),
        BlockSettled(0, "text", "hello", "m1"),
        ToolCalled(1, "call", "Bash", {}, "m1"),
        ToolAnswered("call", "ok", False),
    ]
    for signal in signals:
        assert core.observe(signal, 3.0)
    for signal in signals:
        said = [o for o in core.observe(signal, 4.0) if not isinstance(o, TurnAdvanced)]
        assert said == []


def test_the_turns_text_is_that_of_its_last_message() -> None:
    """What was said before a tool ran is a block of its own, not part of the answer."""
    core = ready()
    submit(core, "t1")
    for signal in (
        BlockSettled(0, "text", "let me look", "m1"),
        ToolCalled(1, "call", "Bash", {}, "m1"),
        ToolAnswered("call", "ok", False),
        BlockSettled(2, "thinking", "hm", "m2"),
        BlockSettled(3, "text", "two ", "m2"),
        BlockSettled(4, "text", "parts \n", "m2"),
    ):
        core.observe(signal, 3.0)
    [finished] = of(TurnFinished, core.observe(TurnEnded("completed", None), 4.0))
    assert finished.text == "two parts"


def test_a_snapshot_carries_the_open_turn_with_its_text_so_far() -> None:
    """A late viewer sees what the others have seen."""
    core = ready()
    submit(core, "t1")
    assert of(DeltaAdded, core.observe(TextArrived(0, "text", "so "), 3.0))
    core.observe(TextArrived(0, "text", "far"), 3.0)
    view = core.snapshot(()).open_turn
    assert view is not None
    assert (view.text, view.status, view.blocks[0].block) == ("so far", "running", 0)


def test_partial_text_becomes_a_block_when_a_turn_is_interrupted() -> None:
    """`block` is said for it, so that preview and truth agree for every viewer."""
    core = ready()
    submit(core, "t1")
    core.observe(TextArrived(0, "text", "half"), 3.0)
    out = core.observe(TurnEnded("interrupted", None), 4.0)
    assert [b.text for b in of(BlockFinished, out)] == ["half"]


def test_every_edge_leads_to_a_phase_that_has_edges() -> None:
    """The table is whole: no phase can be entered and never left."""
    assert set(EDGES) == set(Phase)
    assert all(EDGES[phase] for phase in Phase)


def test_a_change_of_phase_off_the_table_is_a_defect_and_raises() -> None:
    """One writer, checked."""
    core = ready()
    core.stop(2.0)
    with pytest.raises(AssertionError):
        core._to(Phase.BUSY, "test", 3.0)


def test_a_prompt_that_cannot_be_handed_to_any_process_has_failed() -> None:
    """What came with it cannot be read any more: the next one runs, and no process is blamed."""
    core = ready()
    turn, following = TurnId("t1"), TurnId("t2")
    submit(core, turn)
    submit(core, following)
    out = core.unsendable(turn, "it could not be read", 5.0)
    (finished,) = of(TurnFinished, out)
    assert (finished.turn, finished.status, finished.error.code) == (turn, "failed", "internal")
    assert [p.turn for p in of(SendPrompt, out)] == [following]
    core.prompt_sent(following)
    assert core.unsendable(following, "too late", 6.0) == []
