"""Records for tests of the journal and of what builds on it, and Hypothesis' strategies for any of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from bridge.commands import StartOptions
from bridge.events import (
    Block,
    Request,
    RequestId,
    SessionName,
    ToolBlock,
    Turn,
    TurnError,
    TurnId,
    TurnStatus,
    Usage,
)
from bridge.sessions.records import SessionRecord, TurnPhase, TurnRecord

DEMO = SessionName("demo")


def session(name: str = "demo", **changes: Any) -> SessionRecord:
    record = SessionRecord(
        name=SessionName(name),
        backend="headless",
        options=StartOptions(cwd="/srv"),
        conversation=None,
        model=None,
        permission_mode="default",
        generation=1,
        checkpoint=None,
        state="idle",
        reason=None,
        started_at=None,
        created_at=1.0,
        restarts=0,
        turns=0,
        usage=Usage(),
        cost_usd=0.0,
    )
    return replace(record, **changes)


def turn(number: int, phase: TurnPhase = "queued", **changes: Any) -> TurnRecord:
    status: TurnStatus = "completed" if phase == "finished" else "queued"
    made = Turn(TurnId(f"t{number}"), f"prompt {number}", "me", "client", status, 2.0)
    return TurnRecord(replace(made, **changes), phase, number)


def request(id: str = "r1", opened_at: float = 5.0) -> Request:
    tool, given, suggestions = "Bash", {"command": "ls"}, ({"rule": 1},)
    return Request(RequestId(id), "permission", TurnId("t1"), tool, given, suggestions, opened_at)


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
some_text = st.none() | texts
times = st.floats(0, 4e9)
finite = st.floats(allow_nan=False, allow_infinity=False)
plain_objects = st.dictionaries(
    texts, st.none() | st.booleans() | finite | texts | st.lists(texts), max_size=3
)
counts = st.integers(0, 2**40)
usages = st.builds(Usage, counts, counts, counts, counts)
options = st.builds(
    StartOptions,
    backend=st.sampled_from([None, "headless", "tmux", "api"]),
    model=st.none() | st.text("abc", min_size=1),
    system_prompt=st.none() | st.text("ab\n\"'é", min_size=1),
    allowed_tools=st.none() | st.lists(st.text("abc(*)", min_size=1)),
    mcp_config=st.none() | plain_objects,
)
sessions = st.builds(
    SessionRecord,
    name=st.just(DEMO),
    backend=texts,
    options=options,
    conversation=some_text,
    model=some_text,
    permission_mode=texts,
    generation=counts,
    checkpoint=st.none() | plain_objects,
    state=st.sampled_from(
        ["starting", "idle", "busy", "waiting", "restarting", "stopped", "failed", "unknown"]
    ),
    reason=some_text,
    started_at=st.none() | times,
    created_at=times,
    restarts=counts,
    turns=counts,
    usage=usages,
    cost_usd=st.floats(0, 1e6),
)
blocks = st.builds(
    Block,
    block=st.just(0),
    kind=st.sampled_from(["text", "thinking"]),
    text=texts,
    parent=some_text,
    message=texts,
) | st.builds(
    ToolBlock,
    block=st.just(0),
    tool=texts,
    name=texts,
    input=plain_objects,
    output=some_text,
    is_error=st.booleans(),
    parent=some_text,
    message=texts,
)
turns = st.builds(
    Turn,
    id=st.just(TurnId("t1")),
    prompt=texts,
    author=some_text,
    source=st.sampled_from(["client", "terminal"]),
    status=st.sampled_from(
        ["queued", "running", "completed", "interrupted", "failed", "cancelled", "unknown"]
    ),
    queued_at=times,
    key=some_text,
    text=texts,
    blocks=st.lists(blocks, max_size=4).map(
        lambda all: tuple(replace(b, block=i) for i, b in enumerate(all))
    ),
    error=st.none() | st.builds(TurnError, texts, texts, st.none() | counts),
    usage=st.none() | usages,
    cost_usd=st.none() | st.floats(0, 1e6),
    started_at=st.none() | times,
    finished_at=st.none() | times,
)
turn_records = st.builds(
    TurnRecord,
    turns,
    st.sampled_from(["queued", "sending", "sent", "seen", "active", "finished"]),
    number=counts,
    generation=st.none() | counts,
)
requests = st.builds(
    Request,
    id=texts,
    kind=st.sampled_from(["permission", "question", "plan"]),
    turn=texts,
    tool=texts,
    input=plain_objects,
    suggestions=st.lists(plain_objects, max_size=2).map(tuple),
    opened_at=times,
    call=some_text,
)
