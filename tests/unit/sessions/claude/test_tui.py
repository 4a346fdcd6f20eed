"""The reader against recordings of the real CLI: whole, and with signs missing, late or out of order.

What it makes of them is taken in by a session's core: judged is which turns there are, how they ended and
what stands in them.
"""

from __future__ import annotations

import heapq
import json
import random
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.commands import AnswerRequest, StartOptions, SubmitPrompt
from bridge.events import (
    Block,
    Evidence,
    Outcome,
    RequestAnswered,
    RequestId,
    RequestOpened,
    SessionName,
    ToolBlock,
    Turn,
    TurnId,
)
from bridge.sessions.claude.tui import DISAGREE_S, GRACE_S, TuiReader
from bridge.sessions.core import SessionCore
from bridge.sessions.effects import Output, TurnAdvanced
from bridge.sessions.facts import Facts, Limits
from bridge.signals import (
    AnswerMoot,
    AnswerNeeded,
    BlockDropped,
    BlockSettled,
    ConversationNamed,
    ProcessReady,
    PromptSeen,
    PromptTyped,
    Signal,
    TextArrived,
    TurnEnded,
    UpstreamActive,
)

GOLDEN = Path(__file__).parents[3] / "golden" / "tui"
TICK_S = 0.1
PATIENCE_S = 20.0
LINES = "".join(f"Line {n} of the answer.\n" for n in range(12)).rstrip()
MANY = "".join(f"Line {n}.\n" for n in range(30)).rstrip()

Line = tuple[float, str, list[Any]]
Told = tuple[str, str, str, tuple[Any, ...]]
"""Of a turn: its source, how it ended, its text, its blocks."""


@cache
def recording(case: str) -> tuple[Line, ...]:
    lines = [json.loads(line) for line in (GOLDEN / f"{case}.ndjson").read_text().splitlines()]
    return tuple((at, method, args) for at, method, *args in lines)


CASES = sorted(path.stem for path in GOLDEN.glob("*.ndjson"))


def text(said: str) -> tuple[str, str]:
    return ("text", said)


def tool(name: str, output: str) -> tuple[str, str, str]:
    return ("tool", name, output)


def ours(status: str, said: str, *blocks: Any) -> Told:
    return ("client", status, said, blocks or ((text(said),) if said else ()))


NO_OUTPUT = "(Bash completed with no output)"
APPROVED = "User has approved exiting plan mode. You can now proceed."
STOPPED = (
    "The user doesn't want to proceed with this tool use. The tool use was rejected (eg. if it was a file "
    "edit, the new_string was NOT written to the file). STOP what you are doing and wait for the user to "
    "tell you how to proceed."
)
REFUSED = (
    "The user doesn't want to proceed with this tool use. The tool use was rejected (eg. if it was a file "
    "edit, the new_string was NOT written to the file). To tell you how to proceed, the user said:\n"
    "rather not"
)
LEFT_AT = "".join(f"Line {n}.\n" for n in range(27)) + "Line"
ALL_LINES = "".join(f"Line {n}.\n" for n in range(200)).rstrip()
LAUNCHED = "Async agent launched successfully."
PARTIAL = "".join(f"Line {n}.\n" for n in range(11)).rstrip()
EXPECTED: dict[str, list[Told]] = {
    "text": [ours("completed", LINES), ours("completed", "Hello, world.")],
    "thinking": [ours("completed", "42.", ("thinking", "Six times seven."), text("42."))],
    "tools": [
        ours(
            "completed",
            "Both ran.",
            ("thinking", "Two at once."),
            tool("Bash", "one"),
            tool("Bash", "Exit code 1\ncat: missing: No such file or directory"),
            text("Both ran."),
        )
    ],
    "tool_allowed": [ours("completed", "Done.", ("thinking", "Hm."), tool("Bash", NO_OUTPUT), text("Done."))],
    "tool_allowed_by_key": [ours("completed", "Done.", tool("Bash", NO_OUTPUT), text("Done."))],
    "tool_that_takes_long_allowed_by_key": [
        ours("completed", "Done.", tool("Bash", NO_OUTPUT), text("Done."))
    ],
    "tool_denied_by_key": [ours("interrupted", "", tool("Bash", STOPPED))],
    "tool_denied_with_words": [ours("completed", "Done.", tool("Bash", REFUSED), text("Done."))],
    "plan_allowed_by_key": [ours("completed", "Done.", tool("ExitPlanMode", APPROVED), text("Done."))],
    "plan_denied_by_key": [ours("interrupted", "", tool("ExitPlanMode", STOPPED))],
    "agent_allowed_by_key": [
        ours("completed", "It works.", tool("Agent", LAUNCHED), text("It works."), text("It works."))
    ],
    "agent_interrupted": [
        ours("interrupted", "It works.", tool("Agent", LAUNCHED), text("It works.")),
        ("terminal", "completed", "It works.", (text("It works."),)),
    ],
    "agent_outlives_its_turn": [
        ours("interrupted", LEFT_AT, tool("Agent", LAUNCHED), text(LEFT_AT)),
        ("terminal", "completed", ALL_LINES, (text(ALL_LINES),)),
        ours("completed", "And on we go."),
    ],
    "interrupted": [ours("interrupted", PARTIAL), ours("completed", "And on we go.")],
    "interrupted_early": [ours("interrupted", ""), ours("completed", "Another.")],
    "refused": [ours("failed", ""), ours("completed", "Better.")],
    "cut": [ours("completed", LINES)],
    "queued_by_hand": [
        ours("completed", MANY),
        ("terminal", "completed", "The second.", (text("The second."),)),
    ],
    "by_hand": [("terminal", "completed", "By hand.", (text("By hand."),))],
    "cleared": [ours("completed", "Before."), ours("completed", "After.")],
    "compacted": [
        ours("completed", "Before."),
        ("client", "completed", "Compacted (ctrl+o to see full summary)", ()),
        ours("completed", "After."),
    ],
}


class Session:
    """A reader and a core behind it, over a made-up clock."""

    def __init__(self, state: dict[str, Any] | None = None) -> None:
        self.reader = TuiReader("to be named", state)
        facts = Facts(SessionName("demo"), "tmux", StartOptions(cwd="/"), "node")
        self.core = SessionCore(facts, Limits(), Evidence("test", 0.0))
        self.core.created(0.0)
        self.core.start_process()
        self.core.observe(ProcessReady(), 0.0)
        self.now = 0.0
        self.signals: list[Signal] = []
        self.out: list[Output] = []
        self.exports: list[tuple[dict[str, Any], int]] = []
        """Every checkpoint, and how many turns were over by then."""

    def take(self, signals: list[Signal]) -> None:
        self.signals += signals
        for signal in signals:
            self.out += self.core.observe(signal, self.now)

    def tick(self, until: float) -> None:
        while self.now < until:
            self.now = min(until, self.now + TICK_S)
            self.take(self.reader.tick(self.now))

    def rest(self) -> None:
        end = self.now + PATIENCE_S
        while self.reader.open and self.now < end:
            self.tick(self.now + TICK_S)

    def play(self, lines: Iterable[Line], *, rest: bool = True) -> list[Told]:
        """Each prompt is typed, and what came behind it comes, once no turn is seen to run any more."""
        heap: list[tuple[float, int, int, Line]] = []
        typed = 0
        for n, line in enumerate(lines):
            typed += line[1] == "expect"
            heapq.heappush(heap, (line[0], n, typed, line))
        while heap:
            at, n, segment, line = heapq.heappop(heap)
            if line[1] == "expect" and self.reader.open and self.now < at + PATIENCE_S:
                heap.append((at, n, segment, line))
                heap = [(a + TICK_S * (s >= segment), i, s, moved) for a, i, s, moved in heap]
                heapq.heapify(heap)
                self.tick(at)
                continue
            self.tick(at)
            self.told_of(line)
        if rest:
            self.rest()
        return self.told

    def told_of(self, line: Line) -> None:
        _, method, args = line
        if method == "expect":
            turn, prompt, command = args
            self.core.submit(TurnId(turn), SubmitPrompt(prompt=prompt), None, self.now)
            self.reader.expect(turn, prompt, command=command)
        elif method == "switched":
            self.take(self.reader.switched(*args))
        elif method in ("asked", "hook", "status"):
            self.take(getattr(self.reader, method)(*args, self.now))
        elif method == "transcript":
            said = args[0]
            said = said.encode() if isinstance(said, str) else said
            self.take(self.reader.transcript(said, self.now))
            self.exports.append((self.reader.export(), len(self.turns)))
        else:
            getattr(self.reader, method)(*args)

    @property
    def turns(self) -> list[Turn]:
        return [o.turn for o in self.out if isinstance(o, TurnAdvanced) and o.phase == "finished"]

    @property
    def told(self) -> list[Told]:
        return [(t.source, t.status, t.text.rstrip(), tuple(map(_block, t.blocks))) for t in self.turns]


def _block(block: Block | ToolBlock) -> Any:
    if isinstance(block, ToolBlock):
        output = block.output or ""
        return tool(block.name, LAUNCHED if output.startswith(LAUNCHED) else output)
    return (block.kind, block.text.rstrip())


def without(*methods: str, seconds: tuple[float, float] = (0, 1e9)) -> Callable[[Line], Line | None]:
    first, last = seconds
    return lambda line: None if line[1] in methods and first <= line[0] <= last else line


def late(seconds: float, *methods: str) -> Callable[[Line], Line | None]:
    return lambda line: (line[0] + seconds, *line[1:]) if line[1] in methods else line


def played(case: str, *changes: Callable[[Line], Line | None]) -> Session:
    lines: list[Line] = list(recording(case))
    for change in changes:
        lines = [changed for line in lines if (changed := change(line)) is not None]
    session = Session()
    session.play(lines)
    assert session.core.open is None
    return session


HOOKS = ("hook", "asked")
STATUS = ("status", "status_lost")


@pytest.mark.parametrize("case", CASES)
def test_a_recording_gives_its_turns(case: str) -> None:
    """As they were: once each, with all that was said in them, numbered without a gap."""
    session = played(case)
    assert session.told == EXPECTED[case]
    for turn in session.turns:
        assert [b.block for b in turn.blocks] == list(range(len(turn.blocks)))
    assert len([s for s in session.signals if isinstance(s, TurnEnded)]) == len(EXPECTED[case])


@pytest.mark.parametrize("case", CASES)
def test_without_hooks_the_turns_are_the_same(case: str) -> None:
    assert played(case, without(*HOOKS)).told == EXPECTED[case]


@pytest.mark.parametrize("case", [c for c in CASES if c not in ("interrupted_early", "compacted")])
def test_without_a_status_the_turns_are_the_same(case: str) -> None:
    """But for two that nothing else tells of: an Escape before the first word, and a command's end."""
    assert played(case, without(*STATUS)).told == EXPECTED[case]


def test_without_a_status_an_early_escape_shows_by_the_prompt_that_is_back() -> None:
    """Whoever looks into the box finds it there, and only there."""
    session = Session()
    lines = [line for line in recording("interrupted_early") if line[1] not in STATUS]
    second = [n for n, line in enumerate(lines) if line[1] == "expect"][1]
    prompt = next(line[2][1] for line in lines if line[1] == "expect")
    session.play(lines[:second])
    assert session.reader.open
    assert session.reader.given_back("something else", session.now) == []
    session.take(session.reader.given_back(prompt, session.now))
    assert session.told == EXPECTED["interrupted_early"][:1]
    assert session.reader.given_back(prompt, session.now) == []


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("seconds", [0.3, 0.6])
def test_a_transcript_that_is_late_changes_nothing(case: str, seconds: float) -> None:
    """By less than the grace that a turn's end gives it."""
    assert played(case, late(seconds, "transcript", "switched")).told == EXPECTED[case]


@pytest.mark.parametrize("case", CASES)
def test_without_a_transcript_turns_end_as_they_did(case: str) -> None:
    """What was said last is there, from hooks alone; tools and thinking are not."""
    told = played(case, without("transcript")).told
    expected = EXPECTED[case]
    if case == "queued_by_hand":
        expected = expected[:1]  # nothing else says that the second began
    ends = [t[:2] for t in expected]
    if case == "agent_outlives_its_turn":
        ends[0] = ("client", "unknown")  # nor of an Escape, where the status stays busy
    assert [t[:2] for t in told] == ends
    if case != "compacted":  # a command's words stand in the transcript alone
        assert [t[2] for t in told if t[1] == "completed"] == [t[2] for t in expected if t[1] == "completed"]


@pytest.mark.parametrize("case", CASES)
def test_hooks_told_twice_change_nothing(case: str) -> None:
    session = Session()
    twice = [line for line in recording(case) for _ in range(2 if line[1] in HOOKS else 1)]
    assert session.play(twice) == EXPECTED[case]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("seconds", [0.5, 3.0, 30.0])
def test_hooks_that_are_late_change_nothing(case: str, seconds: float) -> None:
    """Also where they tell of a turn that is long over: no turn begins by them that was not there."""
    assert played(case, late(seconds, *HOOKS)).told == EXPECTED[case]


@pytest.mark.parametrize("case", CASES)
def test_hooks_that_stop_in_the_middle_change_nothing(case: str) -> None:
    hooks = [line[0] for line in recording(case) if line[1] == "hook"]
    for at in hooks:
        assert played(case, without(*HOOKS, seconds=(at, 1e9))).told == EXPECTED[case], at


@pytest.mark.parametrize("case", CASES)
def test_hooks_that_begin_in_the_middle_change_nothing(case: str) -> None:
    """All but one: where the first prompt's is lost, and a person's behind it is heard before the transcript
    has the first, the two are taken for one."""
    hooks = [line[0] for line in recording(case) if line[1] == "hook"]
    for at in hooks if case != "queued_by_hand" else [h for h in hooks if h > 3.1]:
        assert played(case, without(*HOOKS, seconds=(0, at))).told == EXPECTED[case], at


@given(st.randoms(use_true_random=False))
@pytest.mark.parametrize("case", ["text", "interrupted", "cut", "queued_by_hand"])
def test_lines_displayed_out_of_order_change_nothing(case: str, chance: random.Random) -> None:
    """Hooks come on several connections: each up to a fifth of a second late, on its own."""

    def jitter(line: Line) -> Line:
        name = line[2][0].get("hook_event_name") if line[1] == "hook" else None
        return (line[0] + chance.random() / 5, *line[1:]) if name == "MessageDisplay" else line

    assert played(case, jitter).told == EXPECTED[case]


@given(st.data())
@pytest.mark.parametrize("case", ["tools", "interrupted", "refused", "queued_by_hand", "compacted"])
def test_a_transcript_may_be_cut_anywhere(case: str, data: st.DataObject) -> None:
    """Also within a character: each piece comes when the whole came."""
    lines: list[Line] = []
    for at, method, args in recording(case):
        if method != "transcript":
            lines.append((at, method, args))
            continue
        whole = args[0].encode()
        cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=4)))
        pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
        lines += [(at, method, [piece]) for piece in pieces]
    assert Session().play(lines) == EXPECTED[case]


def test_a_text_behind_its_thinking_is_previewed_once() -> None:
    """It is taken back for the thinking, which stands before it, and then the block says all of it."""
    session = Session()
    for at, method, args in recording("thinking"):
        if method == "transcript" and "turn_duration" in args[0]:
            # The file may be read when the message stands there, and not yet that the turn is over.
            lines = args[0].splitlines(keepends=True)
            said = [line for line in lines if json.loads(line)["type"] == "assistant"]
            session.play([(at, method, ["".join(said)])], rest=False)
        else:
            session.play([(at, method, args)], rest=False)
    shown = [s for s in session.signals if isinstance(s, TextArrived | BlockDropped | BlockSettled)]
    assert [type(s).__name__ for s in shown] == [
        "TextArrived",
        "BlockDropped",
        "BlockSettled",
        "BlockSettled",
    ]


@pytest.mark.parametrize("case", [c for c in CASES if c not in ("cleared", "compacted")])
def test_read_again_from_any_checkpoint_the_rest_is_the_same(case: str) -> None:
    """As a bridge does that comes back when all is over: nothing twice, nothing left out."""
    first = played(case)
    whole = "".join(args[0] for _, method, args in recording(case) if method == "transcript").encode()
    assert len({str(export) for export, _ in first.exports}) > 1
    for export, over in first.exports:
        again = Session(json.loads(json.dumps(export)))
        again.take(again.reader.status({"status": "idle"}, 0.0))
        again.take(again.reader.transcript(whole[export["offset"] :], 0.0))
        again.rest()
        assert [t[1:] for t in again.told] == [t[1:] for t in EXPECTED[case][over:]]


@pytest.mark.parametrize("case", ["text", "tools", "interrupted"])
def test_a_transcript_that_ends_in_the_middle_of_a_turn_leaves_it_open(case: str) -> None:
    """A bridge that comes back in the middle of a turn: its end is told when it comes."""
    whole = "".join(args[0] for _, method, args in recording(case) if method == "transcript").encode()
    begin = whole.index(b'"type":"user"')
    for cut in range(begin + 2000, len(whole), 997):
        session = Session()
        session.take(session.reader.status({"status": "busy"}, 0.0))
        session.take(session.reader.transcript(whole[:cut], 0.0))
        session.tick(5.0)
        session.take(session.reader.transcript(whole[cut:], session.now))
        session.take(session.reader.status({"status": "idle"}, session.now))
        session.rest()
        assert [t[1:] for t in session.told] == [t[1:] for t in EXPECTED[case]], cut


# --- questions -------------------------------------------------------------------------------------------


BY_KEY = {
    "tool_allowed_by_key": "allowed",
    "tool_that_takes_long_allowed_by_key": "allowed",
    "tool_denied_by_key": "denied",
    "tool_denied_with_words": "denied",
    "plan_allowed_by_key": "allowed",
    "plan_denied_by_key": "denied",
}


def outcomes(session: Session) -> list[str]:
    return [o.outcome for o in session.out if isinstance(o, RequestAnswered)]


@pytest.mark.parametrize("case", ["tool_allowed", *BY_KEY])
def test_a_question_is_asked_once_behind_its_call_and_closed(case: str) -> None:
    """Answered by a client it is the caller who says how; by key, the tool's result does."""
    session = played(case)
    opened = [o for o in session.out if isinstance(o, RequestOpened)]
    assert len(opened) == 1
    assert opened[0].request.call is not None
    assert len(outcomes(session)) == 1
    assert case == "tool_allowed" or outcomes(session) == [BY_KEY[case]]


@pytest.mark.parametrize("case", BY_KEY)
@pytest.mark.parametrize(
    "change",
    [without("hook"), without(*STATUS), late(0.6, *STATUS), late(0.6, "transcript"), late(0.6, "hook")],
    ids=["no hooks", "no status", "late status", "late transcript", "late hooks"],
)
def test_how_a_person_answered_is_known_whatever_is_late_or_missing(
    case: str, change: Callable[[Line], Line | None]
) -> None:
    """The status tells only that the dialog is gone, also where what was said there is no."""
    assert outcomes(played(case, change)) == [BY_KEY[case]]


def not_waiting(line: Line) -> bool:
    told = line[2][0] if line[2] else {}
    if line[1] == "hook":
        return bool(told["hook_event_name"] == "PostToolUse")
    return line[1] == "status" and told.get("status") != "waiting"


ANSWERS: dict[Outcome, Literal["allow", "deny"]] = {"allowed": "allow", "denied": "deny"}


@pytest.mark.parametrize("case", BY_KEY)
@pytest.mark.parametrize("answer", ["allowed", "denied"])
@pytest.mark.parametrize("missing", [(), STATUS])
def test_of_two_answers_at_once_the_one_counts_that_claude_took(
    case: str, answer: Outcome, missing: tuple[str, ...]
) -> None:
    """A client's is on its way in the very moment in which a person presses a key."""
    lines = recording(case)
    asked = next(n for n, line in enumerate(lines) if line[1] == "asked")
    gone = next(n for n, line in enumerate(lines) if n > asked and not_waiting(line))
    session = Session()
    session.play([line for line in lines[:gone] if line[1] not in missing], rest=False)
    session.tick(lines[gone][0])
    [request] = session.core.requests
    session.core.answer(AnswerRequest(request=request.id, decision=ANSWERS[answer]), "me")
    session.reader.answering(request.id, answer, session.now)
    assert not session.reader.asks(request.id)
    session.play([line for line in lines[gone:] if line[1] not in missing])
    [closed] = [o for o in session.out if isinstance(o, RequestAnswered)]
    assert closed.outcome == session.reader.outcome(request.id) == BY_KEY[case]
    assert closed.by == ("me" if answer == BY_KEY[case] else None)
    assert session.told == EXPECTED[case]


def test_a_tool_that_runs_on_does_not_keep_its_question_open() -> None:
    """Once it is plain that it was not refused; until then no client can answer it any more."""
    session = Session()
    lines = recording("tool_that_takes_long_allowed_by_key")
    busy = [n for n, line in enumerate(lines) if line[1] == "status" and line[2][0].get("status") == "busy"][
        -1
    ]
    session.play(lines[: busy + 1], rest=False)
    [request] = session.core.requests
    assert not session.reader.asks(request.id)
    session.tick(session.now + GRACE_S + TICK_S)
    assert outcomes(session) == ["allowed"]
    assert session.reader.open


@pytest.mark.parametrize("case", ["tool_allowed", *BY_KEY])
def test_a_question_ends_with_its_turn_whatever_is_missing(case: str) -> None:
    for missing in (("hook",), STATUS, ("hook", *STATUS), ("transcript",)):
        session = played(case, without(*missing))
        assert not session.core.requests, missing
        assert [t[:3] for t in session.told] == [t[:3] for t in EXPECTED[case]], missing


ASKED = {"tool_name": "Bash", "tool_input": {"command": "ls"}}


def asking(status: str, *, doubt: bool) -> TuiReader:
    """A turn runs, and a question about a call of it has come."""
    reader = TuiReader("c")
    if doubt:
        reader.doubt(5.0)
    reader.status({"status": status}, 0.0)
    reader.hook({"hook_event_name": "UserPromptSubmit", "prompt": "x", "prompt_id": "p"}, 0.0)
    assert not [s for s in reader.asked("r", ASKED, 0.0) if isinstance(s, AnswerNeeded)]
    return reader


def test_after_an_adoption_a_question_counts_only_where_the_status_waits() -> None:
    """A hook that was left over asks what was answered while no bridge ran: it is let go."""
    reader = asking("busy", doubt=True)
    assert reader.tick(0.9) == []
    assert reader.tick(1.1) == [AnswerMoot(RequestId("r"), "withdrawn")]
    assert not reader.asks("r")
    for said in (asking("waiting", doubt=True), asking("busy", doubt=False)):
        assert [type(s) for s in said.tick(0.5)] == [AnswerNeeded]


def test_a_question_without_a_turn_is_let_go() -> None:
    reader = TuiReader("c")
    reader.status({"status": "idle"}, 0.0)
    assert reader.asked("r", ASKED, 0.0) == []
    assert reader.tick(1.1) == [AnswerMoot(RequestId("r"), "withdrawn")]


def test_a_turn_ends_where_the_conversation_is_left() -> None:
    """Nothing more of it will be read."""
    reader = TuiReader("c")
    reader.hook({"hook_event_name": "UserPromptSubmit", "prompt": "x", "prompt_id": "p"}, 0.0)
    said = reader.switched("d")
    assert said == [TurnEnded("unknown", None), ConversationNamed("d")]
    assert not reader.open


# --- acknowledgement -------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", [(), HOOKS, STATUS])
def test_our_prompt_is_acknowledged_once_and_a_persons_is_told_as_theirs(missing: tuple[str, ...]) -> None:
    session = played("queued_by_hand", without(*missing))
    assert len([s for s in session.signals if isinstance(s, PromptSeen)]) == 1
    assert len([s for s in session.signals if isinstance(s, PromptTyped)]) == 1


def test_a_prompt_that_is_not_exactly_ours_is_a_persons() -> None:
    reader = TuiReader("c")
    reader.expect(TurnId("t1"), "ours")
    said = reader.hook({"hook_event_name": "UserPromptSubmit", "prompt": "ours!", "prompt_id": "p"}, 0.0)
    assert said == [PromptTyped("ours!", first=True)]
    assert not reader.began_with(TurnId("t1"))


def test_a_prompt_of_which_the_tui_took_a_part_for_something_pasted_is_ours() -> None:
    """As Claude Code 2.1.330 sends a long text whose box held a long piece of it before."""
    reader = TuiReader("c")
    reader.expect(TurnId("t1"), "look at xxx yyy and say")
    pasted = 'look at \n\n<pasted_content id="482c">\nxxx yyy\n</pasted_content id="482c">\n and say'
    said = reader.hook({"hook_event_name": "UserPromptSubmit", "prompt": pasted, "prompt_id": "p"}, 0.0)
    assert said == [PromptSeen(TurnId("t1")), UpstreamActive()]


def test_a_turn_that_is_known_by_its_id_is_no_other_of_the_same_text() -> None:
    """A person may send again what a client had sent."""
    reader = TuiReader("c")
    reader.expect(TurnId("t1"), "same", prompt_id="p1")
    other = reader.hook({"hook_event_name": "UserPromptSubmit", "prompt": "same", "prompt_id": "p2"}, 0.0)
    assert other == [PromptTyped("same", first=True)]


# --- at odds ---------------------------------------------------------------------------------------------


def test_a_status_that_stays_busy_without_a_turn_is_a_contradiction_until_it_is_not() -> None:
    reader = TuiReader("c")
    reader.status({"status": "busy"}, 0.0)
    assert reader.contradiction(DISAGREE_S - 1) is None
    assert reader.contradiction(DISAGREE_S + 1) is not None
    reader.status({"status": "idle"}, DISAGREE_S + 2)
    assert reader.contradiction(2 * DISAGREE_S) is None


def test_an_interrupt_with_something_queued_behind_it_has_interrupted() -> None:
    """What waited, as word of an agent that is done, begins before the transcript says how the turn ended."""
    reader = TuiReader("c")
    reader.status({"status": "busy"}, 0.0)
    told = {"hook_event_name": "UserPromptSubmit", "prompt_id": "p1", "prompt": "hello"}
    reader.hook(told, 0.1)
    reader.interrupted()
    said = reader.hook({**told, "prompt_id": "p2", "prompt": "<task-notification>"}, 0.2)
    assert [s.status for s in said if isinstance(s, TurnEnded)] == ["interrupted"]
    said = reader.hook({**told, "prompt_id": "p3", "prompt": "more"}, 0.3)
    assert [s.status for s in said if isinstance(s, TurnEnded)] == ["unknown"], "of this one nobody can tell"


@pytest.mark.parametrize("broken", [b"{\n", b"[]\n", b"null\n", b'{"type":"user"}\n', b"\xff\xfe\n", b"\n"])
def test_a_line_that_makes_no_sense_is_passed_by(broken: bytes) -> None:
    lines = [(t, m, [a[0].encode() + broken] if m == "transcript" else a) for t, m, a in recording("tools")]
    assert Session().play(lines) == EXPECTED["tools"]


@pytest.mark.parametrize("status_first", [False, True])
def test_a_command_that_is_a_prompt_of_its_own_is_one_turn(*, status_first: bool) -> None:
    """`/init` and a person's own commands go to Claude, with every hook; which sign comes first is chance."""
    reader = TuiReader("c")
    reader.status({"status": "idle"}, 0.0)
    reader.expect(TurnId("t1"), "/plain", command=True)
    told = {"hook_event_name": "UserPromptSubmit", "prompt_id": "p1", "prompt": "/plain"}

    def hook() -> list[Signal]:
        return reader.hook(told, 0.1)

    def busy() -> list[Signal]:
        return reader.status({"status": "busy"}, 0.1)

    said = [*busy(), *hook()] if status_first else [*hook(), *busy()]
    assert [s for s in said if isinstance(s, PromptSeen | PromptTyped)] == [PromptSeen(TurnId("t1"))]
    reader.hook({"hook_event_name": "Stop", "prompt_id": "p1", "last_assistant_message": "done"}, 1.0)
    reader.status({"status": "idle"}, 1.1)
    (end,) = [s for s in reader.tick(3.0) if isinstance(s, TurnEnded)]
    assert (end.status, end.text) == ("completed", "done")
