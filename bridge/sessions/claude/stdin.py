"""The lines that the CLI reads in stream-json mode. Pure.

Each is one line of JSON, newline included: a line that the CLI cannot read ends it (2.1.330), so that
nothing else may ever be written to it.
"""

from __future__ import annotations

from typing import Any

import orjson

from bridge.events import RequestId

Json = dict[str, Any]


def prompt(identity: str, text: str) -> bytes:
    """Verbatim: `client_composed` keeps the CLI from reading `/…` or `@…` out of it. The CLI runs one
    `uuid` once, however often it is sent, also over `--resume`."""
    message = {"role": "user", "content": text}
    return _line({"type": "user", "message": message, "uuid": identity, "client_composed": True})


def control(request: str, subtype: str, **arguments: Any) -> bytes:
    """A control request of ours; its answer is the `ControlReply` of the same id."""
    asked = {"subtype": subtype, **arguments}
    return _line({"type": "control_request", "request_id": request, "request": asked})


def allow(request: RequestId, given: Json, suggestions: tuple[Json, ...]) -> bytes:
    answer: Json = {"behavior": "allow", "updatedInput": given}
    if suggestions:
        answer["updatedPermissions"] = list(suggestions)
    return _answer(request, answer)


def deny(request: RequestId, message: str, *, interrupt: bool) -> bytes:
    answer: Json = {"behavior": "deny", "message": message}
    if interrupt:
        answer["interrupt"] = True
    return _answer(request, answer)


def refuse(request: str, why: str) -> bytes:
    """For a request that the bridge knows nothing of: unanswered, it would hold the CLI for ever."""
    said = {"subtype": "error", "request_id": request, "error": why}
    return _line({"type": "control_response", "response": said})


def _answer(request: RequestId, answer: Json) -> bytes:
    said = {"subtype": "success", "request_id": request, "response": answer}
    return _line({"type": "control_response", "response": said})


def _line(frame: Json) -> bytes:
    return orjson.dumps(frame) + b"\n"
