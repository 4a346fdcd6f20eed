"""What the CLI's stream and its transcript have in common: tool results, errors, kinds of questions. Pure."""

from __future__ import annotations

import re
from typing import Any

import orjson

from bridge.events import RequestKind, Usage

ERROR_CODES = frozenset(
    {
        "authentication_failed",  # 401, 403: not logged in, or a wrong key
        "billing_error",
        "rate_limit",  # 429
        "overloaded",  # 529
        "invalid_request",  # 400, 413 and their like
        "model_not_found",
        "server_error",  # 5xx
        "api_error",  # the API could not be reached, or said something else
        "max_turns",
        "execution_error",  # the CLI itself failed
        "already_answered",  # the CLI knows the prompt's id; its answer was given to somebody else
    }
)
"""Every `TurnError.code` that the CLI is the cause of."""

REQUEST_KINDS: dict[str, RequestKind] = {"AskUserQuestion": "question", "ExitPlanMode": "plan"}

_OUR_HOOKS = re.compile(r"\w+ \[http://127\.0\.0\.1:\d+/hook\] ")
"""`/compact` prints how each hook went."""


def output_text(content: object) -> str:
    """A tool's result as text; what is no text is named."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    return "\n".join(
        str(block.get("text", "")) if block.get("type") == "text" else f"[{block.get('type')}]"
        for block in content
        if isinstance(block, dict)
    )


def error_code(said: str, status: object) -> str:
    """One of `ERROR_CODES`, from what the CLI calls it and the HTTP status, where there is one."""
    if said in ERROR_CODES:
        return said
    if not isinstance(status, int):
        return "api_error"
    named = {401: "authentication_failed", 403: "authentication_failed", 429: "rate_limit", 529: "overloaded"}
    usual = "server_error" if status >= 500 else "invalid_request" if status >= 400 else "api_error"
    return named.get(status, usual)


def entry_of(line: bytes) -> dict[str, Any]:
    """A line of a transcript; nothing where it is none: empty, or half of one whose writer was killed."""
    try:
        entry = orjson.loads(line)
    except orjson.JSONDecodeError:
        return {}
    return entry if isinstance(entry, dict) else {}


def usage_of(said: dict[str, Any]) -> Usage:
    """As the Messages API counts."""
    return Usage(**{name: int(said.get(name) or 0) for name in Usage.__dataclass_fields__})


def plain_output(said: str) -> str:
    """What a slash command printed, without its tags and colours."""
    text = said.removeprefix("<local-command-stdout>").removesuffix("</local-command-stdout>")
    plain, _, rest = text.partition("\x1b[")
    while rest:
        _, _, rest = rest.partition("m")
        more, _, rest = rest.partition("\x1b[")
        plain += more
    return "\n".join(line for line in plain.splitlines() if not _OUR_HOOKS.match(line)).strip()
