"""Facts and views as the contract's JSON: `spec/protocol.md` says what is named how.

Keys that the contract writes with `?` are left out where there is nothing to say; the others are null.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import orjson

from bridge.events import (
    AnyBlock,
    Attachment,
    Attendant,
    BlockDiscarded,
    BlockFinished,
    BudgetState,
    DeltaAdded,
    Epoch,
    Event,
    PoolChanged,
    PresenceChanged,
    PromptSteered,
    Request,
    RequestAnswered,
    RequestOpened,
    Seq,
    Session,
    SessionChanged,
    SessionDeleted,
    Snapshot,
    Spending,
    ToolBlock,
    ToolFinished,
    ToolStarted,
    Turn,
    TurnError,
    TurnFinished,
    TurnQueued,
    TurnStarted,
    Usage,
)

OUTPUT_BYTES = 64 * 1024
"""Tool output beyond this is cut in events and snapshots; the contract says so to clients."""

_second = -1
_prefix = ""


def time_text(at: float) -> str:
    """RFC 3339, UTC, milliseconds; remembers the current second, for events come by the thousand."""
    global _second, _prefix
    millis = round(at * 1000)
    second = millis // 1000
    if second != _second:
        _prefix = time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(second))
        _second = second
    return f"{_prefix}{millis % 1000:03d}Z"


def cut(output: str) -> tuple[str, bool]:
    """The output as far as it is shown, cut between characters, and whether anything is missing."""
    if len(output) * 4 <= OUTPUT_BYTES:
        return output, False
    raw = output.encode("utf-8", "surrogatepass")
    if len(raw) <= OUTPUT_BYTES:
        return output, False
    end = OUTPUT_BYTES
    while raw[end] & 0xC0 == 0x80:  # a continuation byte: its character began earlier
        end -= 1
    return raw[:end].decode("utf-8", "surrogatepass"), True


def usage_payload(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_creation_input_tokens": usage.cache_creation_input_tokens,
        "cache_read_input_tokens": usage.cache_read_input_tokens,
    }


def error_payload(error: TurnError) -> dict[str, Any]:
    payload: dict[str, Any] = {"code": error.code, "message": error.message}
    if error.status is not None:
        payload["status"] = error.status
    return payload


def session_payload(session: Session, now: float) -> dict[str, Any]:
    """`now` makes the age of the evidence."""
    evidence = session.evidence
    payload = {
        "name": session.name,
        "backend": session.backend,
        "state": session.state,
        "evidence": {
            "signal": evidence.signal,
            "age_ms": max(0, round((now - evidence.seen_at) * 1000)),
        },
        "model": session.model,
        "cwd": session.cwd,
        "permission_mode": session.permission_mode,
        "conversation": session.conversation,
        "attach": session.attach,
        "started_at": None if session.started_at is None else time_text(session.started_at),
        "turns": session.turns,
        "restarts": session.restarts,
        "viewers": session.viewers,
        "usage": usage_payload(session.usage),
        "cost_usd": session.cost_usd,
        "node": session.node,
    }
    if session.reason is not None:
        payload["reason"] = session.reason
    if session.limited_until is not None:
        payload["limited_until"] = time_text(session.limited_until)
    if session.budget is not None:
        payload["budget"] = budget_payload(session.budget)
    return payload


def budget_payload(budget: BudgetState) -> dict[str, Any]:
    payload: dict[str, Any] = {
        "name": budget.name,
        "per": budget.per,
        "spent_usd": budget.spent_usd,
        "limit_usd": budget.limit_usd,
        "spent_tokens": budget.spent_tokens,
        "limit_tokens": budget.limit_tokens,
        "state": budget.state,
        "until": None if budget.until is None else time_text(budget.until),
    }
    if budget.of is not None:
        payload["of"] = budget.of
    return payload


def spending_payload(since: str, rows: Iterable[Spending], budgets: Iterable[BudgetState]) -> dict[str, Any]:
    """`spending` by day, author and session, the newest day first, and how the budgets stand."""
    listed = [
        {
            "day": row.day,
            "author": row.author,
            "session": row.session,
            "turns": row.turns,
            "cost_usd": row.cost_usd,
            "usage": usage_payload(row.usage),
        }
        for row in rows
    ]
    return {"since": since, "spending": listed, "budgets": [budget_payload(b) for b in budgets]}


def block_payload(block: AnyBlock, *, whole: bool = False) -> dict[str, Any]:
    payload: dict[str, Any]
    if isinstance(block, ToolBlock):
        output, truncated = block.output, False
        if output is not None and not whole:
            output, truncated = cut(output)
        payload = {
            "block": block.block,
            "kind": "tool",
            "tool": block.tool,
            "name": block.name,
            "input": block.input,
            "output": output,
            "is_error": block.is_error,
            "truncated": truncated,
        }
    else:
        payload = {"block": block.block, "kind": block.kind, "text": block.text}
    return _with_parent(payload, block.parent)


def attachments_payload(attachments: Sequence[Attachment]) -> list[dict[str, Any]]:
    return [{"name": a.name, "media_type": a.media_type, "size": a.size} for a in attachments]


def turn_payload(turn: Turn, *, whole: bool = False) -> dict[str, Any]:
    """`whole` gives tool output in full, as REST does."""
    payload: dict[str, Any] = {
        "id": turn.id,
        "prompt": turn.prompt,
        "author": turn.author,
        "source": turn.source,
        "status": turn.status,
        "text": turn.text,
        "blocks": [block_payload(block, whole=whole) for block in turn.blocks],
        "queued_at": time_text(turn.queued_at),
    }
    if turn.attachments:
        payload["attachments"] = attachments_payload(turn.attachments)
    if turn.key is not None:
        payload["key"] = turn.key
    if turn.error is not None:
        payload["error"] = error_payload(turn.error)
    if turn.usage is not None:
        payload["usage"] = usage_payload(turn.usage)
    if turn.cost_usd is not None:
        payload["cost_usd"] = turn.cost_usd
    if turn.started_at is not None:
        payload["started_at"] = time_text(turn.started_at)
    if turn.finished_at is not None:
        payload["finished_at"] = time_text(turn.finished_at)
    if turn.reason is not None:
        payload["reason"] = turn.reason
    return payload


def request_payload(request: Request) -> dict[str, Any]:
    payload: dict[str, Any] = {
        "id": request.id,
        "kind": request.kind,
        "turn": request.turn,
        "tool": request.tool,
        "input": request.input,
        "suggestions": list(request.suggestions),
        "opened_at": time_text(request.opened_at),
    }
    if request.call is not None:
        payload["call"] = request.call
    return payload


def join_reply(snapshot: Snapshot, epoch: Epoch, seq: Seq, recovered: bool, now: float) -> dict[str, Any]:
    """What a client of `session:<name>` is given on joining."""
    open_turn = snapshot.open_turn
    return {
        "session": session_payload(snapshot.session, now),
        "epoch": epoch,
        "seq": seq,
        "recovered": recovered,
        "turns": [turn_payload(turn) for turn in snapshot.turns],
        "open_turn": None if open_turn is None else turn_payload(open_turn),
        "queue": [turn_payload(turn) for turn in snapshot.queue],
        "requests": [request_payload(request) for request in snapshot.requests],
    }


def session_now(snapshot: Snapshot, epoch: Epoch, seq: Seq, now: float) -> dict[str, Any]:
    """A session for who does not stay: what a join says of it, without its finished turns."""
    reply = join_reply(snapshot, epoch, seq, False, now)
    return {key: value for key, value in reply.items() if key not in ("recovered", "turns")}


def turn_finished(turn: Turn) -> dict[str, Any]:
    """What was told when this turn finished."""
    began, ended = turn.started_at or turn.queued_at, turn.finished_at or turn.queued_at
    lasted = max(0, round((ended - began) * 1000))
    cost = turn.cost_usd
    return _turn_finished(TurnFinished(turn.id, turn.status, turn.text, turn.error, turn.usage, cost, lasted))


def event_payload(event: Event, now: float) -> dict[str, Any]:
    """The event's own fields; `seq` and `at` are the topic's and are added by the wire format."""
    match event:
        case DeltaAdded(turn, block, kind, text, parent) | BlockFinished(turn, block, kind, text, parent):
            payload: dict[str, Any] = {"turn": turn, "block": block, "kind": kind, "text": text}
            return _with_parent(payload, parent)
        case BlockDiscarded(turn, block):
            return {"turn": turn, "block": block}
        case TurnQueued(turn, key, prompt, author, position, reason, files):
            payload = {"turn": turn, "key": key, "prompt": prompt, "author": author, "position": position}
            return _with_files(payload if reason is None else payload | {"reason": reason}, files)
        case TurnStarted(turn, prompt, author, source, files):
            return _with_files({"turn": turn, "prompt": prompt, "author": author, "source": source}, files)
        case PromptSteered(turn, prompt, author):
            return {"turn": turn, "prompt": prompt, "author": author}
        case ToolStarted():
            payload = {
                "turn": event.turn,
                "block": event.block,
                "tool": event.tool,
                "name": event.name,
                "input": event.input,
            }
            return _with_parent(payload, event.parent)
        case ToolFinished():
            output, truncated = cut(event.output)
            payload = {
                "turn": event.turn,
                "tool": event.tool,
                "output": output,
                "is_error": event.is_error,
                "truncated": truncated,
            }
            return _with_parent(payload, event.parent)
        case RequestOpened(request):
            return {"request": request_payload(request)}
        case RequestAnswered(request_id, outcome, by):
            return {"request": request_id, "outcome": outcome, "by": by}
        case TurnFinished():
            return _turn_finished(event)
        case SessionChanged(session):
            return {"session": session_payload(session, now)}
        case SessionDeleted(name):
            return {"name": name}
        case PresenceChanged(joins, leaves):
            return {"joins": _metas(joins), "leaves": _metas(leaves)}
        case PoolChanged():
            return pool_payload(event)


def pool_payload(pool: PoolChanged) -> dict[str, Any]:
    """A pool as it is: its join's reply, and what is told of its changes."""
    return {"size": pool.size, "idle": pool.idle, "busy": pool.busy, "waiting": pool.waiting}


@lru_cache(maxsize=4)
def presence_state(present: frozenset[Attendant]) -> orjson.Fragment:
    """Everybody who has joined. After a restart thousands are told the same: made once for all of them. Few
    are kept: that of a room with thousands takes a megabyte, and one with few is made in no time."""
    return orjson.Fragment(orjson.dumps(_metas(present)))


def _metas(attendants: Iterable[Attendant]) -> dict[str, Any]:
    """As Phoenix.Presence groups them: by key, each with its metas."""
    grouped: dict[str, Any] = {}
    for each in attendants:
        meta = {"phx_ref": each.ref, "transport": each.transport, "joined_at": time_text(each.joined_at)}
        grouped.setdefault(each.key, {"metas": []})["metas"].append(meta)
    return grouped


def _turn_finished(event: TurnFinished) -> dict[str, Any]:
    payload: dict[str, Any] = {
        "turn": event.turn,
        "status": event.status,
        "text": event.text,
        "usage": None if event.usage is None else usage_payload(event.usage),
        "cost_usd": event.cost_usd,
        "duration_ms": event.duration_ms,
    }
    if event.error is not None:
        payload["error"] = error_payload(event.error)
    return payload


def _with_files(payload: dict[str, Any], files: Sequence[Attachment]) -> dict[str, Any]:
    if files:
        payload["attachments"] = attachments_payload(files)
    return payload


def _with_parent(payload: dict[str, Any], parent: str | None) -> dict[str, Any]:
    if parent is not None:
        payload["parent"] = parent
    return payload
