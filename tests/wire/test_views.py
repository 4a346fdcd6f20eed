"""Views as JSON: what is left out, what is null, what is cut. The golden frames show the rest."""

from __future__ import annotations

from dataclasses import replace

from bridge.events import Block, Epoch, Evidence, Request, RequestId, Seq, Snapshot, ToolBlock, Turn, TurnId
from bridge.wire.views import block_payload, join_reply, request_payload, session_payload, turn_payload
from tests.fakes.service import a_session

TURN = Turn(TurnId("t"), "hi", None, "terminal", "running", 1_760_000_000.0)


def test_a_turn_leaves_out_what_it_does_not_have_yet() -> None:
    """Keys with `?` in the contract; the others are null."""
    assert turn_payload(TURN) == {
        "id": "t",
        "prompt": "hi",
        "author": None,
        "source": "terminal",
        "status": "running",
        "text": "",
        "blocks": [],
        "queued_at": "2025-10-09T08:53:20.000Z",
    }


def test_a_block_of_text_does_not_tell_its_message() -> None:
    """That is the bridge's own bookkeeping."""
    assert block_payload(Block(1, "text", "x", message="msg_1")) == {"block": 1, "kind": "text", "text": "x"}
    assert block_payload(Block(1, "thinking", "x", parent="toolu_0"))["parent"] == "toolu_0"


def test_a_tool_that_runs_has_no_output_yet() -> None:
    """Null, and not truncated."""
    payload = block_payload(ToolBlock(0, "toolu_1", "Read", {"a": 1}))
    assert (payload["kind"], payload["output"], payload["truncated"]) == ("tool", None, False)


def test_tool_output_is_cut_in_snapshots_and_whole_where_asked() -> None:
    """64 KiB."""
    block = ToolBlock(0, "toolu_1", "Read", {}, "x" * 70_000)
    turn = replace(TURN, blocks=(block,))
    shown = turn_payload(turn)["blocks"][0]
    assert (len(shown["output"]), shown["truncated"]) == (65_536, True)
    whole = turn_payload(turn, whole=True)["blocks"][0]
    assert (len(whole["output"]), whole["truncated"]) == (70_000, False)


def test_evidence_is_told_by_its_age_and_never_from_the_future() -> None:
    """A clock that steps back gives zero."""
    session = a_session("a", evidence=Evidence("result", 100.0))
    assert session_payload(session, 101.5)["evidence"] == {"signal": "result", "age_ms": 1500}
    assert session_payload(session, 99.0)["evidence"]["age_ms"] == 0


def test_a_session_says_why_only_where_there_is_a_reason() -> None:
    """`reason` is ours to add; everything else is always there."""
    assert "reason" not in session_payload(a_session("a"), 1.0)
    assert session_payload(a_session("a", reason="gone", model=None), 1.0)["reason"] == "gone"


def test_a_join_reply_without_an_open_turn_says_null() -> None:
    """And lists are there, empty."""
    reply = join_reply(Snapshot(a_session("a")), Epoch("e"), Seq(7), True, 1.0)
    assert {k: v for k, v in reply.items() if k != "session"} == {
        "epoch": "e",
        "seq": 7,
        "recovered": True,
        "turns": [],
        "open_turn": None,
        "queue": [],
        "requests": [],
    }


def test_a_request_names_its_tool_and_the_call_it_is_about() -> None:
    """The name is for people, the call for finding the tool block; without a call there is no key."""
    request = Request(RequestId("r"), "permission", TurnId("t"), "Bash", {}, (), 0.0, call="toolu_1")
    assert (request_payload(request)["tool"], request_payload(request)["call"]) == ("Bash", "toolu_1")
    assert "call" not in request_payload(replace(request, call=None))
