"""The lines that the CLI reads in stream-json mode. Pure.

Each is one line of JSON, newline included: a line that the CLI cannot read ends it (2.1.330), so that
nothing else may ever be written to it.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, Protocol

import orjson

from bridge.commands import file_kind
from bridge.events import RequestId

Json = dict[str, Any]


class Attached(Protocol):
    """A file that comes with a prompt."""

    @property
    def name(self) -> str: ...

    @property
    def media_type(self) -> str: ...

    @property
    def data(self) -> bytes: ...


def prompt(identity: str, text: str, files: Sequence[Attached] = ()) -> bytes:
    """Verbatim: `client_composed` keeps the CLI from reading `/…` or `@…` out of it. The CLI runs one
    `uuid` once, however often it is sent, also over `--resume`.

    Files come first, as the API advises. A picture that is larger than the API likes the CLI makes smaller;
    it also tells Claude, in a text of its own behind ours, where it has put a copy (2.1.330).
    """
    content: str | list[Json] = text
    if files:
        # The API refuses a text of white space alone.
        said: list[Json] = [{"type": "text", "text": text}] if text.strip() else []
        content = [*map(_block, files), *said]
    message = {"role": "user", "content": content}
    return _line({"type": "user", "message": message, "uuid": identity, "client_composed": True})


def _block(file: Attached) -> Json:
    kind = file_kind(file.media_type)
    if kind == "text":
        source = {"type": "text", "media_type": "text/plain", "data": file.data.decode()}
        return {"type": "document", "source": source, "title": file.name}
    encoded = base64.b64encode(file.data).decode()
    source = {"type": "base64", "media_type": file.media_type, "data": encoded}
    if kind == "image":
        return {"type": "image", "source": source}
    return {"type": "document", "source": source, "title": file.name}


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
