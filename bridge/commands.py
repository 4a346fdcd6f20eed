"""What a client may ask for, as values: the same for every transport.

The models validate what comes from outside; an unknown key is refused rather than ignored, because
a misspelt option that silently does nothing is the worst answer. `wire.requests` turns a failed
validation into `invalid_payload` with the field's name.
"""

from __future__ import annotations

import base64
import binascii
import re
import unicodedata
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
INNER = re.compile(r"_[A-Za-z0-9_-]{1,99}")
"""Names of sessions that are the bridge's own, as a pool's workers: no client can say one."""

Backend = Literal["headless", "tmux", "api"]
PermissionMode = Literal["default", "manual", "acceptEdits", "plan", "auto", "dontAsk", "bypassPermissions"]
AfterReboot = Literal["resume", "pending", "stop"]
"""What becomes of sessions whose processes are gone when the bridge starts; `config` says what each means."""
OnRestart = Literal["interrupt", "continue"]
"""What becomes of an answer of the Messages API that a restart of the bridge cut off."""


def _storable(text: str) -> str:
    # A lone surrogate can be neither stored nor sent as UTF-8; NUL would end an argument of the CLI.
    try:
        text.encode()
    except UnicodeEncodeError as e:
        raise ValueError("is not valid Unicode") from e
    return text


def _plain(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not contain NUL")
    return _storable(text)


Text = Annotated[str, AfterValidator(_storable)]
Argument = Annotated[str, AfterValidator(_plain)]


class Command(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class StartOptions(Command):
    """How a session is run; what is None takes the configuration's default."""

    backend: Backend | None = None
    model: Argument | None = None
    cwd: Argument | None = None
    permission_mode: PermissionMode | None = None
    system_prompt: Argument | None = None
    append_system_prompt: Argument | None = None
    allowed_tools: list[Argument] | None = None
    disallowed_tools: list[Argument] | None = None
    mcp_config: dict[str, Any] | Argument | None = None
    add_dirs: list[Argument] | None = None
    resume: Argument | None = None
    on_restart: OnRestart | None = None


class StartSession(StartOptions):
    name: str

    def options(self) -> StartOptions:
        return StartOptions.model_validate(self.model_dump(exclude={"name"}))


class ForkSession(Command):
    """`name` is the new session's, `from` the one whose history it begins with, up to `from_turn`."""

    name: str
    source: str = Field(alias="from")
    from_turn: str | None = None


class NameSession(Command):
    """`stop` and `delete` of the lobby."""

    name: str


class ListSessions(Command):
    pass


class After(Command):
    epoch: str
    seq: Annotated[int, Field(ge=0)]


class JoinSession(Command):
    start: StartOptions | None = None
    after: After | None = None
    turns: Annotated[int, Field(ge=0, le=1000)] = 20


IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp")
PDF = "application/pdf"
FILE_TYPES = (*IMAGES, PDF, "text/*", "application/json")
"""What may be attached unless the configuration says otherwise."""

FileKind = Literal["image", "pdf", "text"]


def file_kind(media_type: str) -> FileKind:
    """As what a file of this type is handed to Claude: what is neither picture nor PDF is text."""
    return "image" if media_type in IMAGES else "pdf" if media_type == PDF else "text"


_MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,63}/[a-z0-9][a-z0-9!#$&^_.+-]{0,63}")


def _file_name(name: str) -> str:
    if not name.strip() or name in (".", ".."):
        raise ValueError("must name the file")
    if "/" in name or "\\" in name:
        raise ValueError("must be a name without a path")
    if any(unicodedata.category(c) in ("Cc", "Zl", "Zp") for c in name):
        raise ValueError("must not contain control characters")
    if len(name.encode()) > 255:
        raise ValueError("must have at most 255 bytes")
    return name


def _media_type(given: str) -> str:
    """Without its parameters: which character set a text has is seen by its bytes."""
    essence = given.partition(";")[0].strip().lower()
    if not _MEDIA_TYPE.fullmatch(essence):
        raise ValueError("must be a media type, as image/png")
    return essence


def _decoded(data: object) -> object:
    """JSON has bytes in base64, padded or not; a transport that has bytes gives them as they are."""
    if not isinstance(data, str):
        return data
    try:
        return base64.b64decode(data + "=" * (-len(data) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("is not base64") from None


class AttachedFile(Command):
    """A file that comes with a prompt."""

    name: Annotated[Text, AfterValidator(_file_name)]
    media_type: Annotated[Text, AfterValidator(_media_type)]
    data: Annotated[
        bytes,
        BeforeValidator(_decoded),
        WithJsonSchema({"type": "string", "contentEncoding": "base64", "title": "Data"}),
        Field(repr=False),
    ]


class SubmitPrompt(Command):
    prompt: Text | None = None
    id: Annotated[Text, Field(min_length=1, max_length=255)] | None = None
    mode: Literal["queue", "steer"] = "queue"
    attachments: list[AttachedFile] = []
    command: Text | None = None


class InterruptTurn(Command):
    pass


class CancelTurn(Command):
    turn: str


class AnswerRequest(Command):
    request: str
    decision: Literal["allow", "deny"]
    input: dict[str, Any] | None = None
    suggestions: list[int] = []
    message: Text | None = None
    interrupt: bool = False


class ReadHistory(Command):
    before: str | None = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 50


class ReadSpending(Command):
    days: Annotated[int, Field(ge=1, le=3660, description="So many days, the present one included, UTC.")] = (
        30
    )
    limit: Annotated[int, Field(ge=1, le=10_000, description="Rows at most; the newest are given.")] = 1000


class ConfigureSession(Command):
    model: Argument | None = None
    permission_mode: PermissionMode | None = None


class RestartSession(Command):
    pass


class StopSession(Command):
    pass


@dataclass(frozen=True, slots=True)
class Fresh:
    """Of a session whose every turn begins with nothing of what was before, and whose processes are replaced
    now and then, between two turns. No client asks for this: it is how a pool's workers run."""

    turns: int
    """So many, and the process is replaced."""
    age_s: float
    """So old, and it is."""
    rss_mb: int
    """So much resident memory, and it is; 0: no limit."""
    warm: bool = True
    """Where its process is gone when the bridge starts, there is another at once, not with the next turn."""


class JoinTerminal(Command):
    pass


class JoinPool(Command):
    pass


class AskPool(Command):
    """A question to a pool. `id` is the asker's own key for it."""

    prompt: Text
    id: Annotated[Text, Field(min_length=1, max_length=255)] | None = None


class TypeIntoTerminal(Command):
    """`input`: bytes for the pane's process, as they are."""

    data: bytes


class ResizeTerminal(Command):
    cols: Annotated[int, Field(ge=20, le=500)]
    rows: Annotated[int, Field(ge=5, le=300)]
