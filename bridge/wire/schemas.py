"""What `views` makes, as JSON Schema for the OpenAPI document. A test holds the two together.

Objects are open: new keys may come, and a client ignores what it does not know.
"""

from __future__ import annotations

from typing import Any, get_args

from bridge.commands import NAME
from bridge.events import BudgetHolder, RequestKind, SessionState, Source, Standing, TurnStatus

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
WHOLE: Schema = {"type": "integer"}
FLAG: Schema = {"type": "boolean"}
TIME: Schema = {"type": "string", "format": "date-time"}
DAY: Schema = {"type": "string", "format": "date"}
COST: Schema = {"type": "number", "minimum": 0}
SESSION_NAME: Schema = {"type": "string", "pattern": f"^{NAME.pattern}$"}


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def nullable(schema: Schema) -> Schema:
    if isinstance(schema.get("type"), str) and "enum" not in schema:
        return {**schema, "type": [schema["type"], "null"]}
    return {"anyOf": [schema, {"type": "null"}]}


def listed(schema: Schema) -> Schema:
    return {"type": "array", "items": schema}


def one_of(literal: Any) -> Schema:
    return {"type": "string", "enum": list(get_args(literal))}


def record(description: str, always: dict[str, Schema], maybe: dict[str, Schema] | None = None) -> Schema:
    """An object with these keys; those of `maybe` are absent where there is nothing to say."""
    schema: Schema = {"type": "object", "properties": {**always, **(maybe or {})}}
    if always:
        schema["required"] = list(always)
    return {"description": description, **schema} if description else schema


_USAGE = ("input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")

_SESSION = record(
    "A session.",
    {
        "name": SESSION_NAME,
        "backend": TEXT,
        "state": one_of(SessionState),
        "evidence": record("What decided the state, and how old that is.", {"signal": TEXT, "age_ms": WHOLE}),
        "model": nullable(TEXT),
        "cwd": TEXT,
        "permission_mode": TEXT,
        "conversation": nullable(TEXT),
        "attach": nullable(TEXT),
        "started_at": nullable(TIME),
        "turns": WHOLE,
        "restarts": WHOLE,
        "viewers": WHOLE,
        "usage": ref("Usage"),
        "cost_usd": COST,
        "node": TEXT,
    },
    {"reason": TEXT, "limited_until": TIME, "budget": ref("Budget")},
)

_BLOCK: Schema = {
    "description": "One numbered piece of a turn.",
    "oneOf": [
        record(
            "",
            {"block": WHOLE, "kind": {"enum": ["text", "thinking"]}, "text": TEXT},
            {"parent": TEXT},
        ),
        record(
            "",
            {
                "block": WHOLE,
                "kind": {"const": "tool"},
                "tool": TEXT,
                "name": TEXT,
                "input": {"type": "object"},
                "output": nullable(TEXT),
                "is_error": FLAG,
                "truncated": FLAG,
            },
            {"parent": TEXT},
        ),
    ],
}

_TURN_ALWAYS: dict[str, Schema] = {
    "id": TEXT,
    "prompt": TEXT,
    "author": nullable(TEXT),
    "source": one_of(Source),
    "status": one_of(TurnStatus),
    "text": TEXT,
    "blocks": listed(ref("Block")),
    "queued_at": TIME,
}
_TURN_MAYBE: dict[str, Schema] = {
    "key": TEXT,
    "error": ref("TurnError"),
    "usage": ref("Usage"),
    "cost_usd": COST,
    "started_at": TIME,
    "finished_at": TIME,
    "reason": TEXT,
    "attachments": listed(
        record("A file that came with the prompt.", {"name": TEXT, "media_type": TEXT, "size": WHOLE})
    ),
}

_NOW: dict[str, Schema] = {
    "session": ref("Session"),
    "epoch": TEXT,
    "seq": WHOLE,
    "open_turn": nullable(ref("Turn")),
    "queue": listed(ref("Turn")),
    "requests": listed(ref("Request")),
}

SCHEMAS: dict[str, Schema] = {
    "Usage": record("Tokens, as the Messages API counts them.", dict.fromkeys(_USAGE, WHOLE)),
    "Budget": record(
        "How a budget stands; `of` is the session's or the token's name where it is one's own.",
        {
            "name": TEXT,
            "per": one_of(BudgetHolder),
            "spent_usd": COST,
            "limit_usd": nullable(COST),
            "spent_tokens": WHOLE,
            "limit_tokens": nullable(WHOLE),
            "state": one_of(Standing),
            "until": nullable(TIME),
        },
        {"of": TEXT},
    ),
    "Spending": record(
        "What finished turns have cost since the day `since`, by day (UTC), author and session.",
        {
            "since": DAY,
            "spending": listed(
                record(
                    "",
                    {
                        "day": DAY,
                        "author": nullable(TEXT),
                        "session": TEXT,
                        "turns": WHOLE,
                        "cost_usd": COST,
                        "usage": ref("Usage"),
                    },
                )
            ),
            "budgets": listed(ref("Budget")),
        },
    ),
    "TurnError": record("Why a turn failed.", {"code": TEXT, "message": TEXT}, {"status": WHOLE}),
    "Session": _SESSION,
    "Block": _BLOCK,
    "Turn": record("A prompt and what became of it.", _TURN_ALWAYS, _TURN_MAYBE),
    "Request": record(
        "What waits for a person.",
        {
            "id": TEXT,
            "kind": one_of(RequestKind),
            "turn": TEXT,
            "tool": TEXT,
            "input": {"type": "object"},
            "suggestions": listed({"type": "object"}),
            "opened_at": TIME,
        },
        {"call": TEXT},
    ),
    "Error": record(
        "A refusal; what is beside `message` depends on the reason. errors.json lists the reasons.",
        {"reason": TEXT, "message": TEXT},
    ),
    "Sessions": record("", {"sessions": listed(ref("Session"))}),
    "StartedSession": record(
        "`existing` says that it ran already, with the same options.",
        {"session": ref("Session")},
        {"existing": FLAG},
    ),
    "ForkedSession": record("", {"session": ref("Session")}),
    "SessionNow": record(
        "A session without its finished turns. `events?after=epoch:seq` goes on from it.", _NOW
    ),
    "Deleted": record("Empty; with `keep=history` the session, stopped.", {}, {"session": ref("Session")}),
    "SubmittedTurn": record(
        "The turn. `position` is how many were before it, `duplicate` says that its `id` was used before and "
        "nothing runs again.",
        {**_TURN_ALWAYS, "queued_at": nullable(TIME), "position": WHOLE},
        {**_TURN_MAYBE, "duplicate": FLAG},
    ),
    "Turns": record("", {"turns": listed(ref("Turn"))}),
    "Interrupted": record("The turn that is interrupted, null where none ran.", {"turn": nullable(TEXT)}),
    "Nothing": record("", {}),
    "Document": record("An OpenAPI document.", {"openapi": TEXT, "paths": {"type": "object"}}),
    "Page": TEXT,
    "File": {"description": "Its bytes, with its own media type.", "type": "string", "format": "binary"},
}
