"""The REST interface as one table: what its handlers serve and what `openapi` describes.

An operation that is an event of a topic takes its body from that event's command, so that REST refuses what
the channels refuse, with the same words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import Field

from bridge.commands import Command, ReadHistory, ReadSpending
from bridge.errors import (
    BackendUnavailable,
    BridgeError,
    BudgetExceeded,
    Forbidden,
    InternalError,
    InvalidName,
    InvalidPayload,
    NotFound,
    OriginRefused,
    PayloadTooLarge,
    PoolNotFound,
    PromptEmpty,
    PromptRejected,
    PromptTooLarge,
    QueueFull,
    RateLimited,
    RequestClosed,
    SessionExists,
    SessionFailed,
    SessionNotFound,
    SessionStopped,
    TooManySessions,
    TurnNotFound,
    Unauthorized,
    UnsupportedMediaType,
)
from bridge.wire import requests
from bridge.wire.requests import TopicKind

LONGEST_WAIT_S = 3600
"""Of one request; hours are for an event stream."""


class NoQuery(Command):
    pass


class WaitQuery(Command):
    wait: Annotated[float, Field(ge=0, le=LONGEST_WAIT_S)] | None = Field(
        default=None, description="Seconds to wait for the end of the turn."
    )


class DeleteQuery(Command):
    keep: Literal["history"] | None = Field(
        default=None, description="`history`: the session is stopped, and its conversation stays."
    )


class EventsQuery(Command):
    after: str | None = Field(
        default=None, description="`epoch:seq` of the last event seen. The header Last-Event-ID goes before."
    )
    turns: Annotated[int, Field(ge=0, le=1000)] = Field(
        default=20, description="Finished turns in the snapshot of `joined`."
    )


Errors = tuple[type[BridgeError], ...]

ALWAYS: Errors = (
    Unauthorized,
    Forbidden,
    OriginRefused,
    NotFound,
    InvalidPayload,
    RateLimited,
    InternalError,
)
NAMED: Errors = (*ALWAYS, InvalidName, SessionNotFound)
BODY: Errors = (PayloadTooLarge, UnsupportedMediaType)
STARTING: Errors = (TooManySessions, BackendUnavailable)
SUBMITTING: Errors = (
    *(PromptEmpty, PromptTooLarge, PromptRejected, QueueFull, BudgetExceeded),
    *(SessionStopped, SessionFailed, *STARTING),
)
ASKING: Errors = (PromptEmpty, PromptTooLarge, PromptRejected, QueueFull, BudgetExceeded, BackendUnavailable)


@dataclass(frozen=True, slots=True)
class Operation:
    """`answers` are the schemas of `wire.schemas` by status. `given` are keys of the event's payload that the
    path holds, by the name of the path's parameter."""

    id: str
    method: Literal["GET", "POST", "DELETE"]
    path: str
    summary: str
    answers: Mapping[int, str]
    errors: Errors = NAMED
    topic: TopicKind | None = None
    event: str | None = None
    query: type[Command] = NoQuery
    given: Mapping[str, str] = field(default_factory=dict)
    stream: Literal["never", "asked", "always"] = "never"
    """Whether it answers with an event stream: where `Accept` asks for one, or in any case."""
    parts: bool = False
    """Its body may come as a form of parts."""
    token_in_query: bool = False
    """A browser makes this request without a script, and so without a header."""

    @property
    def body(self) -> type[Command] | None:
        if self.method != "POST" or self.topic is None or self.event is None:
            return None
        return requests.model(self.topic, self.event)


SESSION = "/api/sessions/{name}"

OPERATIONS = (
    Operation(
        *("page", "GET", "/api/", "This description, to be read in a browser"),
        answers={200: "Page"},
        errors=ALWAYS,
        token_in_query=True,
    ),
    Operation(
        *("openapi", "GET", "/api/openapi.json", "This description, as OpenAPI"),
        answers={200: "Document"},
        errors=ALWAYS,
        token_in_query=True,
    ),
    Operation(
        *("list_sessions", "GET", "/api/sessions", "The sessions that the token covers"),
        answers={200: "Sessions"},
        errors=ALWAYS,
        topic="sessions",
        event="list",
    ),
    Operation(
        *("start_session", "POST", "/api/sessions", "Start a session, or one that is stopped again"),
        answers={201: "StartedSession", 200: "StartedSession"},
        errors=(*ALWAYS, *BODY, InvalidName, SessionExists, *STARTING),
        topic="sessions",
        event="start",
    ),
    Operation(
        *("read_session", "GET", SESSION, "A session as it is now: its open turn, queue and open requests"),
        answers={200: "SessionNow"},
    ),
    Operation(
        *("delete_session", "DELETE", SESSION, "End a session and remove its history"),
        answers={200: "Deleted"},
        topic="sessions",
        event="delete",
        query=DeleteQuery,
        given={"name": "name"},
    ),
    Operation(
        *("submit", "POST", f"{SESSION}/turns", "Submit a prompt, and wait for its turn or follow it"),
        answers={202: "SubmittedTurn", 200: "SubmittedTurn"},
        errors=(*NAMED, *BODY, *SUBMITTING),
        topic="session",
        event="submit",
        query=WaitQuery,
        parts=True,
        stream="asked",
    ),
    Operation(
        *("history", "GET", f"{SESSION}/turns", "Finished turns, newest last"),
        answers={200: "Turns"},
        errors=(*NAMED, TurnNotFound),
        topic="session",
        event="history",
        query=ReadHistory,
    ),
    Operation(
        *("read_turn", "GET", f"{SESSION}/turns/{{turn}}", "One turn, with its tools' whole output"),
        answers={200: "Turn"},
        errors=(*NAMED, TurnNotFound),
        query=WaitQuery,
    ),
    Operation(
        *("read_attachment", "GET", f"{SESSION}/turns/{{turn}}/attachments/{{number}}"),
        "A file that came with a prompt, counted from 0",
        answers={200: "File"},
        errors=(*NAMED, TurnNotFound),
    ),
    Operation(
        *("cancel", "DELETE", f"{SESSION}/turns/{{turn}}", "Cancel a queued turn"),
        answers={200: "Nothing"},
        errors=(*NAMED, TurnNotFound),
        topic="session",
        event="cancel",
        given={"turn": "turn"},
    ),
    Operation(
        *("interrupt", "POST", f"{SESSION}/interrupt", "Interrupt the running turn"),
        answers={200: "Interrupted"},
        errors=(*NAMED, *BODY),
        topic="session",
        event="interrupt",
    ),
    Operation(
        *("answer", "POST", f"{SESSION}/requests/{{id}}", "Answer an open request"),
        answers={200: "Nothing"},
        errors=(*NAMED, *BODY, RequestClosed),
        topic="session",
        event="answer",
        given={"id": "request"},
    ),
    Operation(
        *("stop", "POST", f"{SESSION}/stop", "End the process; the conversation and the queue stay"),
        answers={200: "Nothing"},
        errors=(*NAMED, *BODY),
        topic="session",
        event="stop",
    ),
    Operation(
        *("restart", "POST", f"{SESSION}/restart", "End the process and begin another"),
        answers={200: "Nothing"},
        errors=(*NAMED, *BODY, *STARTING),
        topic="session",
        event="restart",
    ),
    Operation(
        *("configure", "POST", f"{SESSION}/configure", "Change the model or the permission mode"),
        answers={200: "Nothing"},
        errors=(*NAMED, *BODY),
        topic="session",
        event="configure",
    ),
    Operation(
        *("fork", "POST", f"{SESSION}/fork", "Begin another session with this one's finished turns"),
        answers={201: "ForkedSession"},
        errors=(*NAMED, *BODY, SessionExists, TurnNotFound, TooManySessions),
        topic="sessions",
        event="fork",
        given={"name": "from"},
    ),
    Operation(
        *("spending", "GET", "/api/spending", "What turns have cost, and how the budgets stand"),
        answers={200: "Spending"},
        errors=ALWAYS,
        topic="sessions",
        event="spending",
        query=ReadSpending,
    ),
    Operation(
        *("events", "GET", f"{SESSION}/events", "Follow a session: its events, from now or from a cursor on"),
        answers={},
        query=EventsQuery,
        stream="always",
        token_in_query=True,
    ),
    Operation(
        *("ask", "POST", "/api/pools/{name}/ask", "Ask a pool, and wait for the answer or follow it"),
        answers={202: "SubmittedTurn", 200: "SubmittedTurn"},
        errors=(*ALWAYS, InvalidName, PoolNotFound, *BODY, *ASKING),
        topic="pool",
        event="ask",
        query=WaitQuery,
        stream="asked",
    ),
)


def by_path() -> dict[str, dict[str, Operation]]:
    """The operations of each path, by method."""
    paths: dict[str, dict[str, Operation]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = operation
    return paths


_WHOLE = re.compile(r"-?\d{1,18}", re.ASCII)
_NUMBER = re.compile(r"-?\d{1,18}(\.\d{1,18})?", re.ASCII)


def query_values(query: type[Command], params: Mapping[str, str | None]) -> dict[str, Any]:
    """A request's parameters as the command's values, not validated yet. Raises `InvalidPayload`."""
    values: dict[str, Any] = {}
    for name, text in params.items():
        if text is None:
            raise InvalidPayload(name, "must be a plain value")
        kinds = _kinds(query).get(name, set())
        if "integer" in kinds and _WHOLE.fullmatch(text):
            values[name] = int(text)
        elif "number" in kinds and _NUMBER.fullmatch(text):
            values[name] = float(text)
        else:
            values[name] = text
    return values


@lru_cache
def _kinds(query: type[Command]) -> dict[str, set[str]]:
    """What JSON calls each parameter's type."""
    properties = query.model_json_schema().get("properties", {})
    return {
        name: {str(each.get("type")) for each in (schema, *schema.get("anyOf", ()))}
        for name, schema in properties.items()
    }
