"""The parser where recordings do not lead: broken input, lost frames, rare orders."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bridge.events import RequestId, TurnError, TurnId, Usage
from bridge.sessions.claude.messages import ERROR_CODES
from bridge.sessions.claude.stream_json import ControlAsked, ControlReply, Item, StreamParser
from bridge.signals import (
    AnswerMoot,
    AnswerNeeded,
    BlockDropped,
    BlockSettled,
    ConversationNamed,
    LimitReached,
    PromptSeen,
    PromptTyped,
    SettingsSeen,
    TextArrived,
    ToolAnswered,
    ToolCalled,
    TurnEnded,
    UpstreamActive,
    UpstreamRetrying,
)

Frame = dict[str, Any]
RUNNING: Frame = {"type": "system", "subtype": "session_state_changed", "state": "running"}
IDLE: Frame = {"type": "system", "subtype": "session_state_changed", "state": "idle"}


def queued(turn: str = "t1") -> Frame:
    return {"type": "command_lifecycle", "command_uuid": turn, "state": "queued"}


def event(kind: str, parent: str | None = None, **fields: Any) -> Frame:
    return {"type": "stream_event", "event": {"type": kind, **fields}, "parent_tool_use_id": parent}


def message(name: str = "m1", parent: str | None = None) -> Frame:
    return event("message_start", parent, message={"id": name})


def block(index: int = 0, kind: str = "text", parent: str | None = None) -> Frame:
    return event("content_block_start", parent, index=index, content_block={"type": kind})


def delta(text: str, index: int = 0, kind: str = "text", parent: str | None = None) -> Frame:
    return event("content_block_delta", parent, index=index, delta={"type": f"{kind}_delta", kind: text})


def final(content: Frame, name: str = "m1", parent: str | None = None, **fields: Any) -> Frame:
    said = {"id": name, "model": "claude", "content": [content]}
    return {"type": "assistant", "message": said, "parent_tool_use_id": parent, **fields}


def text(said: str) -> Frame:
    return {"type": "text", "text": said}


def result(**fields: Any) -> Frame:
    usual = {"subtype": "success", "is_error": False, "terminal_reason": "completed", "result": ""}
    return {"type": "result", **usual, **fields}


def lines(*frames: Frame) -> bytes:
    return b"".join(json.dumps(frame).encode() + b"\n" for frame in frames)


def said(*frames: Frame, parser: StreamParser | None = None) -> list[Item]:
    parser = parser or StreamParser()
    return [item for segment in parser.feed(lines(*frames)) for item in segment.items]


# --- framing -------------------------------------------------------------------------------------


def test_half_a_line_waits_for_the_rest() -> None:
    """Nothing is said, and the offset does not move, before the newline."""
    parser = StreamParser()
    line = lines(queued())
    assert parser.feed(line[:10]) == []
    assert parser.offset == 0
    assert [s.items for s in parser.feed(line[10:])] == [(PromptSeen(TurnId("t1")),)]
    assert parser.offset == len(line)


def test_behind_a_frame_that_was_cut_off_nothing_counts() -> None:
    """What is lost there may have been an answer's end."""
    parser = StreamParser()
    [segment] = parser.feed(lines(queued()) + b'{"type":"stream_ev' + lines(queued("t2")))
    assert segment.items == (PromptSeen(TurnId("t1")),)
    assert parser.broken
    assert parser.checkpoint()["offset"] == len(lines(queued()))


@pytest.mark.parametrize("line", [b"nonsense", b"[1, 2]", b"\xff\xfe", b'"text"', b"{}}"])
def test_a_line_that_is_no_frame_is_counted_and_passed_by(line: bytes) -> None:
    """The lines around it mean what they mean."""
    parser = StreamParser()
    segments = parser.feed(line + b"\n" + lines(queued()))
    assert [s.items for s in segments] == [(PromptSeen(TurnId("t1")),)]
    assert parser.garbage == 1


def test_a_known_frame_of_an_unknown_shape_is_counted_and_passed_by() -> None:
    """A new version of the CLI may say things differently; it must not end the session."""
    parser = StreamParser()
    odd: list[Frame] = [
        {"type": "assistant", "message": None},
        {"type": "stream_event", "event": {"type": "message_start"}},
        {"type": "control_request", "request": {}},
        {"type": "stream_event"},
    ]
    assert said(*odd, queued(), parser=parser) == [PromptSeen(TurnId("t1"))]
    assert parser.garbage == len(odd)


def test_a_frame_that_nobody_knows_is_no_garbage() -> None:
    """There are dozens of kinds that do not concern us."""
    parser = StreamParser()
    assert (
        said({"type": "weather", "subtype": "rain"}, {"type": "system", "subtype": "new"}, parser=parser)
        == []
    )
    assert parser.garbage == 0


def test_a_line_may_have_any_length() -> None:
    """Three million characters, fed in pieces."""
    parser = StreamParser()
    big = "x" * 3_000_000
    whole = lines(queued(), final(text(big)))
    found = [
        i for at in range(0, len(whole), 65536) for s in parser.feed(whole[at : at + 65536]) for i in s.items
    ]
    assert found[-1] == BlockSettled(0, "text", big, "m1")


def test_input_that_was_freed_reads_as_zeros_and_is_passed_by() -> None:
    """A hole in the file before the first line that is still there."""
    parser = StreamParser()
    found = [s.items for s in parser.feed(b"\0" * 5000 + lines(queued()))]
    assert found == [(PromptSeen(TurnId("t1")),)]
    assert parser.garbage == 0


# --- prompts and turns ---------------------------------------------------------------------------


def test_a_prompt_is_acknowledged_once() -> None:
    """`queued`, `started` and the replay say the same."""
    replay = {"type": "user", "isReplay": True, "uuid": "t1", "message": {"content": "hi"}}
    started = {"type": "command_lifecycle", "command_uuid": "t1", "state": "started"}
    assert said(queued(), started, replay) == [PromptSeen(TurnId("t1"))]


def test_the_replay_of_something_else_acknowledges_nothing() -> None:
    """Switching the model is replayed as a user's message, too."""
    replay = {
        "type": "user",
        "isReplay": True,
        "uuid": "zz",
        "message": {"content": "<local-command-stdout>"},
    }
    assert said(replay) == []


def test_a_turn_without_a_prompt_says_that_it_was_begun_elsewhere() -> None:
    """Claude goes on by itself when a background task ends."""
    found = said(RUNNING, message(), block(), delta("hi"), final(text("hi")), result(), IDLE)
    assert found[:2] == [PromptTyped("", first=True, behind=True), UpstreamActive()]
    assert isinstance(found[-1], TurnEnded)


def test_an_end_waits_for_idle() -> None:
    """`result` comes first, `idle` is the end."""
    parser = StreamParser()
    assert not any(isinstance(i, TurnEnded) for i in said(RUNNING, queued(), result(), parser=parser))
    assert said(IDLE, parser=parser) == [TurnEnded("completed", "")]


def test_an_end_does_not_wait_where_the_cli_tells_no_states() -> None:
    """An older CLI, or one whose variable was overridden."""
    assert said(queued(), result(result="hi"))[-1] == TurnEnded("completed", "hi")


@pytest.mark.parametrize(
    "follows",
    [queued("t2"), RUNNING, message("m2"), {"type": "system", "subtype": "init", "model": "m"}],
    ids=["prompt", "running", "message", "init"],
)
def test_an_end_counts_when_the_next_turn_begins(follows: Frame) -> None:
    """No `idle` came in between."""
    found = said(RUNNING, queued(), result(), follows)
    assert found.index(TurnEnded("completed", "")) == 1


def test_an_end_counts_when_the_process_is_gone() -> None:
    """It exits between `result` and `idle` after SIGINT."""
    parser = StreamParser()
    said(RUNNING, queued(), result(), parser=parser)
    assert parser.end() == (TurnEnded("completed", ""),)
    assert parser.end() == ()


def test_no_place_to_go_on_from_lies_between_a_result_and_its_end() -> None:
    """Another parser would not know that an end is due."""
    segments = StreamParser().feed(lines(RUNNING, queued(), result()))
    assert segments[-1].checkpoint is not None
    assert segments[-1].checkpoint["offset"] == len(lines(RUNNING, queued()))


def test_blocks_are_numbered_anew_in_the_next_turn() -> None:
    """And the next turn's activity is said again."""
    turn = [message(), block(), delta("a"), final(text("a")), result()]
    found = said(queued(), *turn, queued("t2"), *turn)
    assert [i.block for i in found if isinstance(i, BlockSettled)] == [0, 0]
    assert found.count(UpstreamActive()) == 2


def test_the_result_of_a_turn_nobody_asked_for_does_not_end_ours() -> None:
    """Claude had just gone on by itself when our prompt was sent; the answer to ours is still to come."""
    parser = StreamParser()
    parser.expect(TurnId("t1"))
    own = [
        message("m0"),
        block(),
        delta("x"),
        final(text("x"), "m0"),
        result(origin={"kind": "task-notification"}),
    ]
    assert not any(isinstance(i, TurnEnded) for i in said(RUNNING, *own, IDLE, parser=parser))
    answer = [message("m1"), block(), delta("y"), final(text("y")), result(user_message_uuid="t1"), IDLE]
    found = said(RUNNING, queued(), *answer, parser=parser)
    assert BlockSettled(1, "text", "y", "m1") in found
    assert found[-1] == TurnEnded("completed", None)


def test_a_turn_nobody_asked_for_ends_though_ours_was_sent_meanwhile() -> None:
    """It was told of before: its end is its own, and ours is still expected."""
    parser = StreamParser()
    said(RUNNING, message("m0"), final(text("x"), "m0"), parser=parser)
    parser.expect(TurnId("t1"))
    own = said(result(origin={"kind": "task-notification"}), IDLE, parser=parser)
    assert own == [TurnEnded("completed", None)]
    answer = [message("m1"), final(text("y")), result(user_message_uuid="t1"), IDLE]
    found = said(RUNNING, queued(), *answer, parser=parser)
    assert found[0] == PromptSeen(TurnId("t1"))
    assert not any(isinstance(i, PromptTyped) for i in found)
    assert found[-1] == TurnEnded("completed", None)


def test_a_prompt_that_was_answered_before_ends_as_such() -> None:
    """The CLI drops it: a replay, `idle` without `running`, and nothing else."""
    parser = StreamParser()
    said(RUNNING, queued("t0"), result(), IDLE, parser=parser)
    parser.expect(TurnId("t1"))
    replay = {"type": "user", "isReplay": True, "uuid": "t1", "message": {"content": "hi"}}
    found = said(replay, IDLE, parser=parser)
    assert found[0] == PromptSeen(TurnId("t1"))
    assert isinstance(found[1], TurnEnded)
    assert found[1].error is not None
    assert found[1].error.code == "already_answered"


def test_a_prompt_that_is_dropped_by_a_process_that_never_ran_ends_as_such() -> None:
    """One that was resumed, and has said nothing of its state before: the session must not wait for ever."""
    parser = StreamParser()
    parser.expect(TurnId("t1"))
    replay = {"type": "user", "isReplay": True, "uuid": "t1", "message": {"content": "hi"}}
    completed = {"type": "command_lifecycle", "command_uuid": "t1", "state": "completed"}
    found = said(replay, completed, IDLE, parser=parser)
    assert found[0] == PromptSeen(TurnId("t1"))
    assert isinstance(found[1], TurnEnded)
    assert found[1].error is not None
    assert found[1].error.code == "already_answered"


def test_a_prompt_may_go_under_another_id_than_its_turns() -> None:
    """The CLI speaks of that id, the signals of the turn; a parser that goes on from here knows both."""
    parser = StreamParser()
    parser.expect(TurnId("t1"), "other")
    parser = StreamParser(parser.checkpoint())
    assert said(RUNNING, queued("other"), parser=parser) == [PromptSeen(TurnId("t1"))]
    parser = StreamParser(parser.checkpoint())
    assert said(message(), result(), IDLE, parser=parser)[-1] == TurnEnded("completed", "")
    parser.expect(TurnId("t2"))
    assert PromptSeen(TurnId("t2")) in said(RUNNING, queued("t2"), parser=parser)


def test_sending_the_same_prompt_again_while_it_runs_changes_nothing() -> None:
    """An adopting bridge does so where it is not sure."""
    parser = StreamParser()
    said(RUNNING, queued(), parser=parser)
    parser.expect(TurnId("t1"))
    assert said(message(), result(), IDLE, parser=parser)[-1] == TurnEnded("completed", "")


def test_a_result_where_no_turn_is_open_ends_none() -> None:
    """A conversation that cannot be resumed is told so; the process ends."""
    assert said(result(is_error=True, subtype="error_during_execution")) == []


# --- blocks --------------------------------------------------------------------------------------


def test_numbers_go_on_over_messages_and_tools() -> None:
    """Text, thinking and tool calls each take one."""
    call = {"type": "tool_use", "id": "c1", "name": "Bash", "input": {"command": "ls"}}
    found = said(
        queued(),
        message("m1"),
        *(block(0, "thinking"), delta("hm", 0, "thinking"), final({"type": "thinking", "thinking": "hm"})),
        *(block(1, "tool_use"), final(call)),
        message("m2"),
        *(block(0), delta("ok"), final(text("ok"), "m2")),
    )
    assert [i for i in found if isinstance(i, BlockSettled | ToolCalled)] == [
        BlockSettled(0, "thinking", "hm", "m1"),
        ToolCalled(1, "c1", "Bash", {"command": "ls"}, "m1"),
        BlockSettled(2, "text", "ok", "m2"),
    ]


def test_a_block_that_begins_again_keeps_its_number() -> None:
    """The preview is dropped when the next message starts, whoever said that the first one was cut."""
    found = said(queued(), message("m1"), block(), delta("a"), message("m2"), block(), delta("b"))
    assert [i for i in found if isinstance(i, TextArrived | BlockDropped)] == [
        TextArrived(0, "text", "a", "m1"),
        BlockDropped(0),
        TextArrived(0, "text", "b", "m2"),
    ]


def test_a_retry_drops_the_preview() -> None:
    """Said by `api_retry`, before anything begins again."""
    retry = {"type": "system", "subtype": "api_retry", "attempt": 1, "max_retries": 4, "retry_delay_ms": 600}
    found = said(
        queued(), message(), block(), delta("a"), {**retry, "error": "overloaded", "error_status": 529}
    )
    assert found[-2:] == [BlockDropped(0), UpstreamRetrying(1, 4, 600, "overloaded (529)")]


def test_the_answer_that_was_not_streamed_replaces_the_preview() -> None:
    """Another message's block, never previewed, while the first one is open."""
    found = said(queued(), message("m1"), block(), delta("a"), final(text("all"), "m9"))
    assert found[-2:] == [BlockDropped(0), BlockSettled(0, "text", "all", "m9")]


def test_a_block_without_any_text_is_dropped_in_silence() -> None:
    """Nobody has seen it."""
    assert said(queued(), message("m1"), block(), message("m2"))[-1] == UpstreamActive()


def test_text_that_was_cut_off_by_an_interrupt_is_kept() -> None:
    """Also where the CLI did not say it once more as a whole."""
    found = said(
        queued(), message(), block(), delta("a"), delta("b"), result(terminal_reason="aborted_streaming")
    )
    assert found[-2:] == [BlockSettled(0, "text", "ab", "m1"), TurnEnded("interrupted", None)]


def test_a_sub_agent_has_blocks_and_messages_of_its_own() -> None:
    """They share the turn's numbers, and nothing else."""
    found = said(
        *(queued(), message("m1"), block(), delta("a")),
        *(message("s1", "c1"), block(0, "text", "c1"), delta("sub", 0, "text", "c1")),
        *(final(text("sub"), "s1", "c1"), final(text("a"))),
    )
    assert [i for i in found if isinstance(i, BlockSettled)] == [
        BlockSettled(1, "text", "sub", "s1", "c1"),
        BlockSettled(0, "text", "a", "m1"),
    ]


def test_a_sub_agent_that_outlives_its_turn_opens_none() -> None:
    """It would be a turn that nobody ends."""
    late = [
        message("s1", "c1"),
        block(0, "text", "c1"),
        delta("x", 0, "text", "c1"),
        final(text("x"), "s1", "c1"),
    ]
    assert said(queued(), result(), *late)[2:] == []


def test_the_results_text_counts_where_no_block_carried_one() -> None:
    """A local command answers so."""
    assert said(queued(), result(result="42"))[-1] == TurnEnded("completed", "42")
    assert said(queued(), message(), final(text("x")), result(result="x"))[-1] == TurnEnded("completed", None)


def test_a_tools_output_is_text_whatever_it_was() -> None:
    """A list of blocks is joined; what is no text is named."""
    content = [{"type": "text", "text": "a"}, {"type": "image", "source": {}}, {"type": "text", "text": "b"}]
    answer = {"type": "tool_result", "tool_use_id": "c1", "content": content, "is_error": True}
    found = said(queued(), {"type": "user", "message": {"content": [answer]}})
    assert found[-1] == ToolAnswered("c1", "a\n[image]\nb", True)


# --- ends ----------------------------------------------------------------------------------------


def api_error(error: str, status: int | None) -> Frame:
    said = {"id": "x", "model": "<synthetic>", "content": [{"type": "text", "text": "API Error: no"}]}
    return {"type": "assistant", "message": said, "error": error, "api_error_status": status}


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        ("unknown", 400, "invalid_request"),
        ("invalid_request", 413, "invalid_request"),
        ("authentication_failed", 401, "authentication_failed"),
        ("unknown", 403, "authentication_failed"),
        ("model_not_found", 404, "model_not_found"),
        ("rate_limit", 429, "rate_limit"),
        ("overloaded", 529, "overloaded"),
        ("server_error", 500, "server_error"),
        ("brand_new", 503, "server_error"),
        ("unknown", None, "api_error"),
    ],
)
def test_an_api_error_fails_the_turn_although_its_subtype_is_success(
    error: str, status: int | None, code: str
) -> None:
    """With one of our codes, the CLI's sentence, and the HTTP status."""
    failed = result(
        is_error=True, terminal_reason="api_error", result="API Error: no", api_error_status=status
    )
    end = said(queued(), api_error(error, status), failed)[-1]
    assert end == TurnEnded("failed", None, TurnError(code, "API Error: no", status))
    assert code in ERROR_CODES


def test_a_limit_of_the_account_is_said_before_the_end_that_it_makes() -> None:
    """Any other 429 is none."""
    told: Frame = {
        "type": "rate_limit_event",
        "rate_limit_info": {"status": "rejected", "resetsAt": 99, "rateLimitType": "five_hour"},
    }
    failed = result(is_error=True, terminal_reason="api_error", result="no", api_error_status=429)
    end = TurnEnded("failed", None, TurnError("rate_limit", "API Error: no", 429))
    refused = (queued(), api_error("rate_limit", 429), failed)
    assert said(queued(), told, *refused[1:])[-2:] == [LimitReached(99.0, "API Error: no", True, True), end]
    assert not any(isinstance(s, LimitReached) for s in said(*refused))


def test_an_error_that_was_overcome_fails_nothing() -> None:
    """Too long a conversation is compacted, and asked again."""
    found = said(queued(), api_error("invalid_request", 413), message(), final(text("ok")), result())
    assert found[-1] == TurnEnded("completed", None)


def test_an_error_of_the_cli_itself_is_named() -> None:
    """No API error stands behind it."""
    failed = result(
        is_error=True, subtype="error_max_turns", terminal_reason="max_turns", errors=["too many"]
    )
    assert said(queued(), failed | {"result": None})[-1] == TurnEnded(
        "failed", None, TurnError("max_turns", "too many")
    )


def test_a_turns_share_is_counted_over_all_models() -> None:
    """`total_cost_usd` goes on from turn to turn, and over `--resume`."""
    usage = {"inputTokens": 1, "outputTokens": 2, "cacheReadInputTokens": 4, "cacheCreationInputTokens": 8}
    models = {"a": {**usage, "costUSD": 0.25}, "b": {**usage, "costUSD": 0.5}}
    end = said(queued(), result(total_cost_usd=99, model_usage_since_last_result=models))[-1]
    assert end == TurnEnded("completed", "", None, Usage(2, 4, 16, 8), 0.75)


def test_a_cli_that_tells_no_share_tells_its_tokens() -> None:
    """And no cost, which cannot be known."""
    end = said(queued(), result(usage={"input_tokens": 3, "output_tokens": 4}))[-1]
    assert end == TurnEnded("completed", "", None, Usage(3, 4), None)


# --- beside the turn -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tool", "kind"), [("Bash", "permission"), ("AskUserQuestion", "question"), ("ExitPlanMode", "plan")]
)
def test_a_request_says_what_kind_of_answer_it_wants(tool: str, kind: str) -> None:
    """The three kinds of the contract."""
    asked = {"subtype": "can_use_tool", "tool_name": tool, "input": {"a": 1}, "tool_use_id": "c1"}
    offered = [{"type": "setMode"}]
    frame = {
        "type": "control_request",
        "request_id": "r1",
        "request": {**asked, "permission_suggestions": offered},
    }
    assert said(frame) == [
        AnswerNeeded(RequestId("r1"), kind, tool, {"a": 1}, ({"type": "setMode"},), "c1")  # type: ignore[arg-type]
    ]


def test_a_request_that_was_taken_back_is_moot() -> None:
    """An interrupt takes it back."""
    assert said({"type": "control_cancel_request", "request_id": "r1"}) == [AnswerMoot(RequestId("r1"))]


def test_other_requests_and_all_replies_are_handed_on() -> None:
    """They are the backend's to match and to refuse."""
    asked = {"type": "control_request", "request_id": "r1", "request": {"subtype": "elicitation"}}
    good = {"subtype": "success", "request_id": "q1", "response": {"mode": "plan"}}
    bad = {"subtype": "error", "request_id": "q2", "error": "no"}
    replies = [{"type": "control_response", "response": r} for r in (good, bad)]
    assert said(asked, *replies) == [
        ControlAsked("r1", "elicitation"),
        ControlReply("q1", True, {"mode": "plan"}),
        ControlReply("q2", False, {}, "no"),
    ]


def test_a_conversation_is_named_at_first_and_when_it_changes() -> None:
    """`init` comes with every turn."""
    init = {"type": "system", "subtype": "init", "session_id": "s1", "model": "m", "permissionMode": "plan"}
    found = said(init, init, {**init, "session_id": "s2"})
    assert found == [
        ConversationNamed("s1"),
        SettingsSeen("m", "plan"),
        SettingsSeen("m", "plan"),
        ConversationNamed("s2"),
        SettingsSeen("m", "plan"),
    ]


def test_a_changed_permission_mode_is_seen() -> None:
    """Said by `status`, also where Claude or a hook changed it."""
    assert said({"type": "system", "subtype": "status", "permissionMode": "plan"}) == [
        SettingsSeen(permission_mode="plan")
    ]
