"""A conversation as the Messages API is told it: which of its turns, and as what. Pure.

The API keeps nothing. Each request carries the turns so far, in roles that alternate and are never empty,
and the prompt. Where they do not fit, the oldest turns are left out, whole, and more of them than would have
to be: the rest then stays the same for many prompts, and with it what the API has cached.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bridge.errors import PromptRejected
from bridge.events import Turn
from bridge.sessions.backends.base import File

Block = dict[str, Any]
Message = dict[str, Any]

INTERRUPTED = "[Request interrupted by user]"
"""Behind a prompt that was interrupted before a word; Claude Code says the same."""
CONTINUE = (
    "Your response above was cut off mid-stream. Continue exactly where it stopped, without repeating any of "
    "it and without a word about the interruption."
)
KEPT = 3 / 4
"""Of the room, once something has to be left out."""

BYTES_PER_TOKEN = 3
"""English has about four, code fewer, and so have scripts that take several bytes a character."""
MESSAGE_TOKENS = 8
IMAGE_TOKENS = 1600
"""The API's own figure for the largest image it takes without shrinking it."""
PDF_BYTES_PER_TOKEN = 20
"""A page of text and its picture are 3,000 tokens and some 60 KB."""


@dataclass(frozen=True, slots=True)
class Said:
    """One turn that is over. `reply` is empty where it was interrupted before a word."""

    prompt: str
    reply: str
    files: tuple[File, ...] = ()
    tokens: int = field(default=0, compare=False)
    """As estimated."""


def said(turn: Turn, files: Sequence[File] = ()) -> Said | None:
    """None for what the model need not know: a turn that failed, was cancelled or came to nothing. It may be
    its prompt that the API refuses, which would then refuse every later one."""
    reply = turn.text.strip()
    asked = turn.prompt if turn.prompt.strip() else ""
    if not reply and turn.status not in ("interrupted", "unknown"):
        return None
    if not asked and not files:
        return None
    return Said(asked, reply, tuple(files), estimate(asked, files) + estimate(reply))


def estimate(text: str, files: Sequence[File] = ()) -> int:
    """How many tokens this may be: rather too many than too few."""
    return MESSAGE_TOKENS + len(text.encode()) // BYTES_PER_TOKEN + sum(map(_file_tokens, files))


def kept(tokens: Sequence[int], room: int) -> int:
    """How many of the newest turns, given what each takes (newest last), go along where there is `room`."""
    if sum(tokens) <= room:
        return len(tokens)
    left = int(room * KEPT)
    count = 0
    for each in reversed(tokens):
        left -= each
        if left < 0:
            break
        count += 1
    return count


def messages(
    past: Sequence[Said], prompt: str, files: Sequence[File] = (), *, partial: str = "", caching: bool = False
) -> list[Message]:
    """The conversation. With `partial` the model is asked to go on from there.

    With `caching` two places are marked: the end of the past, which the request before this one has made the
    API keep, and the end of this one, for the next. Raises `PromptRejected` for a file that the API does not
    take.
    """
    told: list[Message] = []
    asked: list[Block] = []
    for each in past:
        asked += content(each.prompt, each.files)
        if each.reply:
            told += [_message("user", asked), _message("assistant", [_text(each.reply)])]
            asked = []
        else:
            asked.append(_text(INTERRUPTED))
    end_of_past = asked[-1] if asked else told[-1]["content"][-1] if told else None
    asked += content(prompt, files)
    told.append(_message("user", asked))
    if partial.strip():
        told += [_message("assistant", [_text(partial.rstrip())]), _message("user", [_text(CONTINUE)])]
    if caching:
        for block in (end_of_past, told[-1]["content"][-1]):
            if block is not None:
                block["cache_control"] = {"type": "ephemeral"}
    return told


def system(replacing: str | None, appended: str | None, *, caching: bool = False) -> list[Block]:
    """There is none of its own that could be replaced, so both are just said, one after the other."""
    blocks = [_text(text) for text in (replacing, appended) if text and text.strip()]
    if blocks and caching:
        blocks[-1]["cache_control"] = {"type": "ephemeral"}
    return blocks


def content(prompt: str, files: Sequence[File]) -> list[Block]:
    """Files before the text that is about them, as the API's guide has it."""
    blocks = [_file(file) for file in files]
    if prompt.strip():
        blocks.append(_text(prompt))
    return blocks


def _file(file: File) -> Block:
    kind = file.media_type.partition(";")[0].strip().lower()
    if kind.startswith("image/"):
        return {"type": "image", "source": _base64(kind, file.data)}
    if kind == "application/pdf":
        return {"type": "document", "title": file.name, "source": _base64(kind, file.data)}
    if kind.startswith("text/") or kind == "application/json":
        text = file.data.decode(errors="replace")
        source = {"type": "text", "media_type": "text/plain", "data": text if text.strip() else "(empty)"}
        return {"type": "document", "title": file.name, "source": source}
    raise PromptRejected(f"The file {file.name!r}", f"the Messages API takes no {file.media_type}.")


def _file_tokens(file: File) -> int:
    if file.media_type.startswith("image/"):
        return IMAGE_TOKENS
    each = PDF_BYTES_PER_TOKEN if file.media_type.startswith("application/pdf") else BYTES_PER_TOKEN
    return MESSAGE_TOKENS + len(file.data) // each


def _base64(kind: str, data: bytes) -> Block:
    return {"type": "base64", "media_type": kind, "data": base64.b64encode(data).decode()}


def _text(text: str) -> Block:
    return {"type": "text", "text": text}


def _message(role: str, blocks: list[Block]) -> Message:
    return {"role": role, "content": blocks}
