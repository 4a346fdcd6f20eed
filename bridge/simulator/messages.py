"""The Messages API's own words: messages, server-sent events, usage, errors. Pure.

Knows the shapes that Anthropic publishes and nothing of directives; ids are handed in by the caller,
so that the same input gives the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

Json = dict[str, Any]

MODEL_PREFIX = "simulated-"
"""Every message says through its model that nobody thought about it."""

CHARACTERS_PER_TOKEN = 4
_JSON_PIECE = 24
"""Characters of a tool's input per delta, about what the API sends."""

ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}
ERROR_TEXTS = {
    401: "invalid x-api-key",
    403: "Your API key does not have permission to use the specified resource.",
    404: "The requested resource was not found.",
    413: "Request exceeds the maximum size",
    429: "This request would exceed your account's rate limit. Please try again later.",
    500: "Internal server error",
    529: "Overloaded",
}
MODELS = ("claude-opus-5-5", "claude-sonnet-5-5", "claude-haiku-5-5")
"""What the list of models shows; any other name is served, too."""


@dataclass(frozen=True, slots=True)
class Block:
    """A content block, whole, with the texts that its deltas carry in turn."""

    kind: str
    """`text`, `thinking` or `tool_use`."""
    deltas: Sequence[str]
    tool: str = ""
    tool_id: str = ""
    tool_input: Json | None = None

    @property
    def text(self) -> str:
        return "".join(self.deltas)

    @property
    def signature(self) -> str:
        """What the API signs thinking with: opaque, and the same for the same text."""
        return base64.b64encode(hashlib.sha512(self.text.encode()).digest()).decode()

    def as_json(self) -> Json:
        """The block as it stands in a finished message."""
        if self.kind == "thinking":
            return {"type": "thinking", "thinking": self.text, "signature": self.signature}
        if self.kind == "tool_use":
            return {"type": "tool_use", "id": self.tool_id, "name": self.tool, "input": self.tool_input}
        return {"type": "text", "text": self.text}


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens, estimated; the three kinds of input add up to all of it."""

    input: int
    cache_created: int
    cache_read: int
    output: int

    def as_json(self, output: int | None = None) -> Json:
        return {
            "input_tokens": self.input,
            "cache_creation_input_tokens": self.cache_created,
            "cache_read_input_tokens": self.cache_read,
            "cache_creation": {
                "ephemeral_5m_input_tokens": self.cache_created,
                "ephemeral_1h_input_tokens": 0,
            },
            "output_tokens": self.output if output is None else output,
            "service_tier": "standard",
        }


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole assistant message."""

    id: str
    model: str
    blocks: Sequence[Block]
    stop_reason: str
    usage: Usage

    def as_json(self) -> Json:
        """The body of an answer that is not streamed."""
        return {
            **self._head(),
            "content": [block.as_json() for block in self.blocks],
            "stop_reason": self.stop_reason,
            "usage": self.usage.as_json(),
        }

    def events(self) -> Iterator[tuple[bytes, bool]]:
        """The same as server-sent events, in order, each with whether it is a delta of a block."""
        first = {**self._head(), "usage": self.usage.as_json(output=1)}
        yield event("message_start", message=first), False
        for index, block in enumerate(self.blocks):
            yield event("content_block_start", index=index, content_block=_opened(block)), False
            if index == 0:
                yield event("ping"), False
            for text in block.deltas:
                yield event("content_block_delta", index=index, delta=_delta(block, text)), True
            if block.kind == "thinking":
                signed = {"type": "signature_delta", "signature": block.signature}
                yield event("content_block_delta", index=index, delta=signed), False
            yield event("content_block_stop", index=index), False
        ended = {"stop_reason": self.stop_reason, "stop_sequence": None}
        yield event("message_delta", delta=ended, usage=self.usage.as_json()), False
        yield event("message_stop"), False

    def _head(self) -> Json:
        return {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model if self.model.startswith(MODEL_PREFIX) else MODEL_PREFIX + self.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
        }


def text_block(deltas: Sequence[str]) -> Block:
    return Block("text", deltas)


def thinking_block(deltas: Sequence[str]) -> Block:
    return Block("thinking", deltas)


def tool_block(tool_id: str, name: str, tool_input: Json) -> Block:
    """A tool call; its input is streamed as pieces of JSON, after an empty one as the API does it."""
    text = orjson.dumps(tool_input).decode()
    cut = [text[at : at + _JSON_PIECE] for at in range(0, len(text), _JSON_PIECE)]
    return Block("tool_use", ["", *cut], name, tool_id, tool_input)


def event(kind: str, **fields: Any) -> bytes:
    """One server-sent event of the API."""
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), orjson.dumps({"type": kind, **fields}))


def error_body(status: int, request_id: str, message: str = "") -> Json:
    """The error object for an HTTP status; also the data of the `error` event."""
    usual = "invalid_request_error" if status < 500 else "api_error"
    return {
        "type": "error",
        "error": {
            "type": ERROR_TYPES.get(status, usual),
            "message": message or ERROR_TEXTS.get(status, f"HTTP {status}"),
        },
        "request_id": request_id,
    }


def error_event(status: int, request_id: str) -> bytes:
    """What the API sends when it fails in the middle of a stream."""
    return b"event: error\ndata: %b\n\n" % orjson.dumps(error_body(status, request_id))


def model_info(model: str) -> Json:
    return {
        "type": "model",
        "id": model,
        "display_name": f"{model} (simulated)",
        "created_at": "2026-01-01T00:00:00Z",
    }


def model_list() -> Json:
    return {
        "data": [model_info(model) for model in MODELS],
        "has_more": False,
        "first_id": MODELS[0],
        "last_id": MODELS[-1],
    }


def count_tokens(request: Json) -> int:
    """An estimate of a request's input: never 0, growing with whatever is sent to the model."""
    return _tokens([request.get("messages"), request.get("system"), request.get("tools")])


def usage_of(request: Json, blocks: Sequence[Block]) -> Usage:
    """Plausible usage: what was sent before the last user message counts as cached where the request asks
    for caching, as newly cached on the conversation's first turn and as read from then on.
    """
    output = max(1, sum(len(block.text) for block in blocks) // CHARACTERS_PER_TOKEN)
    total = count_tokens(request)
    if not _asks_for_caching(request):
        return Usage(total, 0, 0, output)
    messages = request["messages"]
    fresh = min(_tokens(messages[-1:]), total)
    follows = any(message.get("role") == "assistant" for message in messages)
    cached = total - fresh
    return Usage(fresh, 0, cached, output) if follows else Usage(fresh, cached, 0, output)


def _opened(block: Block) -> Json:
    if block.kind == "thinking":
        return {"type": "thinking", "thinking": "", "signature": ""}
    if block.kind == "tool_use":
        return {"type": "tool_use", "id": block.tool_id, "name": block.tool, "input": {}}
    return {"type": "text", "text": ""}


def _delta(block: Block, text: str) -> Json:
    if block.kind == "thinking":
        return {"type": "thinking_delta", "thinking": text}
    if block.kind == "tool_use":
        return {"type": "input_json_delta", "partial_json": text}
    return {"type": "text_delta", "text": text}


def _tokens(value: Any) -> int:
    return max(1, len(orjson.dumps(value)) // CHARACTERS_PER_TOKEN)


def _asks_for_caching(request: Json) -> bool:
    """A mark on the system prompt, on a tool, or on any block of a message."""
    if request.get("cache_control"):
        return True
    parts = [request.get("system"), request.get("tools")]
    parts += [message.get("content") for message in request["messages"]]
    return any(
        isinstance(block, dict) and block.get("cache_control")
        for part in parts
        if isinstance(part, list)
        for block in part
    )
