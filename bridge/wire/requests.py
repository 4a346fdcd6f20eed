"""What clients ask for, as commands: the same for every transport.

Turns topic, event and payload into one of `bridge.commands`, or into an error that names the field
and says what is wrong with it. A key that is null counts as absent.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from pydantic import ValidationError

from bridge.commands import (
    NAME,
    After,
    AnswerRequest,
    AskPool,
    AttachedFile,
    CancelTurn,
    Command,
    ConfigureSession,
    ForkSession,
    InterruptTurn,
    JoinPool,
    JoinSession,
    JoinTerminal,
    ListSessions,
    NameSession,
    ReadHistory,
    ReadSpending,
    ResizeTerminal,
    RestartSession,
    StartOptions,
    StartSession,
    StopSession,
    SubmitPrompt,
    Text,
    TypeIntoTerminal,
)
from bridge.errors import InvalidName, InvalidPayload, PromptEmpty
from bridge.wire import attachments

MAX_TYPED_BYTES = 65_536
"""In one `input`: tmux holds it until the pane's process reads."""

C = TypeVar("C", bound=Command)
TopicKind = Literal["sessions", "session", "terminal", "pool"]


class DeleteSession(NameSession):
    """Told apart from a `stop`, which names its session in the same way."""


class ReadTree(Command):
    """The supervision tree; our extension of the lobby."""


class TypeText(Command):
    """`input` as JSON says it; in a binary frame the payload is the bytes themselves."""

    text: Text


@dataclass(frozen=True, slots=True)
class Route:
    """A topic that exists here. `name` is the session's or the pool's, empty for the lobby."""

    kind: TopicKind
    name: str


_EVENTS: dict[TopicKind, dict[str, type[Command]]] = {
    "sessions": {
        "start": StartSession,
        "stop": NameSession,
        "delete": DeleteSession,
        "fork": ForkSession,
        "list": ListSessions,
        "tree": ReadTree,
        "spending": ReadSpending,
    },
    "session": {
        "submit": SubmitPrompt,
        "interrupt": InterruptTurn,
        "cancel": CancelTurn,
        "answer": AnswerRequest,
        "history": ReadHistory,
        "configure": ConfigureSession,
        "restart": RestartSession,
        "stop": StopSession,
    },
    "terminal": {
        "input": TypeText,
        "resize": ResizeTerminal,
    },
    "pool": {
        "ask": AskPool,
    },
}

_NAMED: dict[str, TopicKind] = {"session": "session", "terminal": "terminal", "pool": "pool"}
"""What stands before the name in a topic."""

_NESTED: dict[str, type[Command]] = {"start": StartOptions, "after": After, "attachments": AttachedFile}
"""Keys that hold an object of ours, or a list of such, in which null counts as absent as well."""


def route(topic: object) -> Route | None:
    """Where a topic leads; None for what no route matches. The name is not looked at yet."""
    if topic == "sessions":
        return Route("sessions", "")
    prefix, colon, name = topic.partition(":") if isinstance(topic, str) else ("", "", "")
    kind = _NAMED.get(prefix) if colon else None
    return Route(kind, name) if kind is not None else None


def model(kind: TopicKind, event: str) -> type[Command]:
    """The command that an event is read as."""
    return _EVENTS[kind][event]


def check_name(name: str) -> str:
    if not NAME.fullmatch(name):
        raise InvalidName(name)
    return name


def parse_join(payload: object) -> JoinSession:
    return validate(JoinSession, _object({} if payload is None else payload))


def parse_terminal_join(payload: object) -> JoinTerminal:
    return validate(JoinTerminal, _object({} if payload is None else payload))


def parse_pool_join(payload: object) -> JoinPool:
    return validate(JoinPool, _object({} if payload is None else payload))


def parse(kind: TopicKind, event: object, payload: object) -> Command:
    """The command a client's event asks for.

    Raises `InvalidPayload` with the field, `InvalidName` or `PromptEmpty`.
    """
    events = _EVENTS[kind]
    model = events.get(event) if isinstance(event, str) else None
    if model is None:
        raise InvalidPayload("event", f"{_quoted(event)} is not known on this topic{_near(event, events)}")
    if model is TypeText and isinstance(payload, bytes):
        return _typed(payload, "")
    if model is SubmitPrompt and isinstance(payload, bytes):
        payload = attachments.unpacked(payload)
    values = _object({} if payload is None else payload)
    command = validate(model, values)
    further = _FURTHER.get(model)
    return command if further is None else further(command)


def _with_name(command: StartSession | NameSession | ForkSession) -> Command:
    check_name(command.name)
    return command


def _asked(command: AskPool) -> Command:
    if not command.prompt.strip():
        raise PromptEmpty
    return command


def _typed_text(command: TypeText) -> Command:
    return _typed(command.text.encode(), "text")


def _typed(data: bytes, field: str) -> TypeIntoTerminal:
    if len(data) > MAX_TYPED_BYTES:
        raise InvalidPayload(field, f"must have at most {MAX_TYPED_BYTES} bytes; send more in pieces")
    return TypeIntoTerminal(data=data)


def _submitted(command: SubmitPrompt) -> Command:
    if command.prompt is not None and command.command is not None:
        raise InvalidPayload("command", "it stands in place of `prompt`, not beside it")
    text = command.prompt if command.command is None else command.command
    if command.attachments:
        if command.command is not None:
            raise InvalidPayload("attachments", "they come with a prompt, not with a command")
        return command  # they may say all there is to say
    if text is None:
        raise InvalidPayload("prompt", "is required")
    if not text.strip():
        raise PromptEmpty
    return command


_FURTHER: dict[type[Command], Callable[[Any], Command]] = {
    StartSession: _with_name,
    NameSession: _with_name,
    DeleteSession: _with_name,
    ForkSession: _with_name,
    SubmitPrompt: _submitted,
    AskPool: _asked,
    TypeText: _typed_text,
}
"""What becomes of a command that fits its model: the check of what a model cannot say."""


def _object(payload: object) -> dict[str, Any]:
    if not isinstance(payload, dict):
        raise InvalidPayload("", "The payload must be an object.")
    values = _without_nulls(payload)
    for key in _NESTED:
        if key not in values:
            continue
        if isinstance(values[key], dict):
            values[key] = _without_nulls(values[key])
        elif isinstance(values[key], list):
            values[key] = [_without_nulls(each) if isinstance(each, dict) else each for each in values[key]]
    return values


def _without_nulls(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def validate(model: type[C], values: dict[str, Any]) -> C:
    """Raises `InvalidPayload` with the field."""
    try:
        return model.model_validate(values)
    except ValidationError as e:
        raise _explain(model, e) from None


def _explain(model: type[Command], error: ValidationError) -> InvalidPayload:
    # An unknown key is often the misspelling of one that is then missing: say that first.
    problems = sorted(error.errors(include_url=False), key=lambda p: p["type"] != "extra_forbidden")
    problem = problems[0]
    # Members of a union add names of types to the path; a client knows only its own keys.
    path = [p for p in problem["loc"] if isinstance(p, int) or (p.isidentifier() and p != "str")]
    if problem["type"] == "extra_forbidden":
        path = list(problem["loc"])
        owner = _NESTED.get(str(path[0]), model) if len(path) > 1 else model
        known = [field.alias or name for name, field in owner.model_fields.items()]
        sentence = f"is not known here{_near(path[-1], known)}"
    else:
        sentence = _sentence(problem["type"], problem.get("ctx", {}), problem["msg"])
    return InvalidPayload(".".join(map(str, path)), sentence)


_SENTENCES = {
    "missing": "is required",
    "string_type": "must be a string",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "bytes_type": "must be base64",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "literal_error": "must be one of {expected}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "too_short": "must not be empty",
    "too_long": "must have at most {max_length} characters",
    "value_error": "{error}",
}


def _sentence(kind: str, context: dict[str, Any], fallback: str) -> str:
    template = _SENTENCES.get(kind)
    return template.format_map(context) if template else fallback[:1].lower() + fallback[1:]


def _near(key: object, known: Any) -> str:
    close = difflib.get_close_matches(str(key), list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _quoted(value: object) -> str:
    text = value if isinstance(value, str) else type(value).__name__
    return repr(text if len(text) <= 64 else text[:64] + "…")
