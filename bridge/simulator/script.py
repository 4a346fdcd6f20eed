"""What the simulator answers: reads the prompt and its `[[sim {json}]]`, and plans the reply.

Pure: no sockets, no clock, no counters. Knows how Claude Code wraps a prompt (reminders, local
commands, tool results in the user's role); does not know how an answer is put on the wire.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from bridge.simulator.schema import example

Json = dict[str, Any]
Millis = Annotated[float, Field(ge=0, le=3_600_000)]
Count = Annotated[int, Field(ge=0, le=1_000_000)]
StopReason = Literal[
    "end_turn",
    "max_tokens",
    "stop_sequence",
    "tool_use",
    "pause_turn",
    "refusal",
    "model_context_window_exceeded",
]

ECHO_LIMIT = 300
"""Characters of the prompt that the default reply repeats: short, yet enough to tell prompts apart."""

_OPENING = re.compile(r"\[\[sim(?=[\s{\]])\s*")
_CLOSING = re.compile(r"\s*\]\]")
_REMINDER = ("<system-reminder>", "</system-reminder>")
_PIECE = re.compile(r"\s*\S{1,64}\s*|\s+")
_STEERED = re.compile(
    r"The user sent a new message while you were working:\n(.*?)(?:\n\nThis is how Claude Code|\Z)", re.DOTALL
)
"""How Claude Code 2.1.330 hands on, in the system's role, what is typed while a tool runs."""
_FILES = ("image", "document")
_NOT_A_PROMPT = (
    "<local-command-",
    "<command-name>",
    "<bash-",
    "[Request interrupted by user",
    "[Image: source: ",  # where the CLI has put a copy of a picture that came with the prompt
    "Your response above was cut off mid-stream.",  # asks for the rest where some blocks had come whole
)
"""How the text begins that Claude Code adds in the user's role on its own account (2.1.330)."""


class DirectiveMalformed(ValueError):
    """The prompt has a directive that cannot be read; the text says what is wrong with it."""


class Directive(BaseModel):
    """The keys of `[[sim {…}]]`, as the contract lists them."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    text: str | None = None
    words: Count | None = None
    gap_ms: Millis = 0
    first_ms: Millis = 0
    thinking: str = ""
    tools: list[tuple[str, Json]] = []
    status: Annotated[int, Field(ge=400, le=599)] | None = None
    drop_after: Count | None = None
    hang_after: Count | None = None
    error_after: Count | None = None
    limit_s: Annotated[int, Field(ge=1, le=86_400)] | None = None
    times: Count | None = None
    stop_reason: StopReason | None = None

    @model_validator(mode="after")
    def _one_text(self) -> Directive:
        if self.text is not None and self.words is not None:
            raise ValueError("text and words exclude each other")
        return self


class FaultKind(Enum):
    STATUS = "status"
    DROP = "drop_after"
    HANG = "hang_after"
    ERROR = "error_after"
    LIMIT = "limit_s"


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that goes wrong: `at` is the HTTP status, the seconds that a limit lasts, or the number of
    deltas that come before it.

    `times` is how often, None for always.
    """

    kind: FaultKind
    at: int
    times: int | None


@dataclass(frozen=True, slots=True)
class Prompt:
    """The last thing the user really said, and whether tools have answered since."""

    text: str
    tools_answered: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """One answer. `key` names the prompt for counting `faults`; `closes` says that the turn ends with it."""

    key: str
    thinking: str
    text: str
    tools: tuple[tuple[str, Json], ...]
    stop_reason: str
    first_s: float
    gap_s: float
    faults: tuple[Fault, ...]

    @property
    def closes(self) -> bool:
        return not self.tools


def plan(request: Json) -> Plan:
    """The answer to a valid request. Raises DirectiveMalformed."""
    schema = _output_schema(request)
    if schema is not None:
        # A side request of Claude Code (it names the session so) quotes the prompt, directive and all:
        # it must neither be answered out of shape nor use up the faults meant for the prompt itself.
        return _simple("", json.dumps(example(schema)))
    prompt = find_prompt(request.get("messages", []))
    directive, rest = find_directive(prompt.text)
    if directive is None:
        return _simple(prompt.text, default_reply(rest))
    asks = bool(directive.tools) and not prompt.tools_answered
    text = "" if asks else _text(directive, rest)
    return Plan(
        key=prompt.text.strip(),  # repeated behind an answer that was cut, it has a newline at its end
        thinking="" if prompt.tools_answered else directive.thinking,
        text=text,
        tools=tuple(directive.tools) if asks else (),
        stop_reason="tool_use" if asks else directive.stop_reason or "end_turn",
        first_s=directive.first_ms / 1000,
        gap_s=directive.gap_ms / 1000,
        faults=_faults(directive),
    )


def find_prompt(messages: list[Json]) -> Prompt:
    """The last block of text in the user's role that is a prompt: not a reminder, not a local command's
    output, not a tool's result. What a person adds while tools run goes on with the script that runs, unless
    it brings a directive of its own.
    """
    answered = False
    for message in reversed(messages):
        if message["role"] == "assistant":
            continue
        for block in reversed(blocks_of(message)):
            if block.get("type") == "tool_result":
                answered = True
            text = _said(block) if message["role"] == "user" else _steered(block)
            if text:
                return Prompt(text, answered)
        if message["role"] == "user" and any(b.get("type") in _FILES for b in blocks_of(message)):
            return Prompt("", answered)  # files and no word: what was said before is not said again
    return Prompt("", answered)


def blocks_of(message: Json) -> list[Json]:
    """A message's content as blocks, whichever of its two forms it came in."""
    content = message.get("content")
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []


def find_directive(prompt: str) -> tuple[Directive | None, str]:
    """The prompt's directive, and the prompt without it. Where there are several, the last one counts.

    Raises DirectiveMalformed.
    """
    directive: Directive | None = None
    kept: list[str] = []
    end = 0
    decoder = json.JSONDecoder()
    while opening := _OPENING.search(prompt, end):
        kept.append(prompt[end : opening.start()])
        try:
            value, stop = decoder.raw_decode(prompt, opening.end())
        except json.JSONDecodeError as error:
            raise DirectiveMalformed(
                f"[[sim …]] does not hold a JSON object: {error.msg} at character {error.pos}"
            ) from None
        except RecursionError:
            raise DirectiveMalformed("[[sim …]] is nested too deeply") from None
        closing = _CLOSING.match(prompt, stop)
        if closing is None:
            raise DirectiveMalformed(f"[[sim …]] is not closed by ]] at character {stop}")
        if not isinstance(value, dict):
            raise DirectiveMalformed("[[sim …]] holds JSON, but not an object")
        directive = _read(prompt[opening.end() : stop])
        end = closing.end()
    kept.append(prompt[end:])
    return directive, "".join(kept).strip()


def default_reply(prompt: str) -> str:
    """Short, the same for the same prompt, and repeating it."""
    if "<analysis>" in prompt and "<summary>" in prompt:
        # Claude Code compacts a conversation; it looks for these tags.
        return "<analysis>Simulated.</analysis>\n<summary>A simulated summary of the conversation.</summary>"
    if len(prompt) <= ECHO_LIMIT:
        return f"You said: {prompt}"
    return f"You said: {prompt[:ECHO_LIMIT]}… ({len(prompt)} characters)"


def scripted(**keys: Any) -> str:
    """A `[[sim {…}]]` to be put into a prompt; what `Directive` lists."""
    return f"[[sim {json.dumps(keys)}]]"


def words(count: int) -> str:
    """`w0 w1 … `, a newline after every tenth."""
    return "".join(f"w{i} \n" if i % 10 == 9 else f"w{i} " for i in range(count))


def pieces(text: str) -> list[str]:
    """The text as deltas: a word each with the white space around it, long words in several."""
    return _PIECE.findall(text)


def _simple(prompt: str, text: str) -> Plan:
    return Plan(prompt, "", text, (), "end_turn", 0, 0, ())


def _said(block: Json) -> str:
    text = block.get("text")
    if block.get("type") != "text" or not isinstance(text, str):
        return ""
    text = _without_reminders(text)
    return "" if text.lstrip().startswith(_NOT_A_PROMPT) or not text.strip() else text


def _without_reminders(text: str) -> str:
    """Found by hand: a pattern would look for the end of each of a megabyte's unclosed beginnings."""
    opening, closing = _REMINDER
    kept = []
    end = 0
    while (start := text.find(opening, end)) >= 0 and (stop := text.find(closing, start)) >= 0:
        kept.append(text[end:start])
        end = stop + len(closing)
        while end < len(text) and text[end] in "\r\n":
            end += 1
    return "".join([*kept, text[end:]]) if end else text


def _steered(block: Json) -> str:
    text = block.get("text")
    found = _STEERED.search(text) if isinstance(text, str) else None
    return found[1] if found and _OPENING.search(found[1]) else ""


def _read(source: str) -> Directive:
    try:
        return Directive.model_validate_json(source)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            known = ", ".join(Directive.model_fields)
            raise DirectiveMalformed(f"[[sim …]] knows no {where!r}, only {known}") from None
        raise DirectiveMalformed(f"[[sim …]] {where}{': ' if where else ''}{first['msg']}") from None


def _text(directive: Directive, rest: str) -> str:
    if directive.text is not None:
        return directive.text
    if directive.words is not None:
        return words(directive.words)
    return default_reply(rest)


def _faults(directive: Directive) -> tuple[Fault, ...]:
    """A cut happens once unless told otherwise, so that a retry succeeds, and a limit is met once; the others
    always."""
    found = (
        (FaultKind.LIMIT, directive.limit_s, 1),
        (FaultKind.STATUS, directive.status, None),
        (FaultKind.DROP, directive.drop_after, 1),
        (FaultKind.HANG, directive.hang_after, None),
        (FaultKind.ERROR, directive.error_after, None),
    )
    return tuple(
        Fault(kind, at, directive.times if directive.times is not None else usual)
        for kind, at, usual in found
        if at is not None
    )


def _output_schema(request: Json) -> Json | None:
    config = request.get("output_config")
    shape = config.get("format") if isinstance(config, dict) else request.get("output_format")
    schema = shape.get("schema") if isinstance(shape, dict) else None
    return schema if isinstance(schema, dict) else None
