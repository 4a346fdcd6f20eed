"""What may be attached to a prompt, and what is known of it without its bytes. Pure.

A file that the Messages API would refuse is refused when it is submitted: later it would fail the turn, and
with a CLI every turn after it, because it stays in the conversation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from bridge.commands import FILE_TYPES, AttachedFile, file_kind
from bridge.errors import InvalidPayload
from bridge.events import Attachment

PDF_HEADER_WITHIN = 1024
"""Bytes among which a PDF's first line may stand, as its readers take it."""


@dataclass(frozen=True, slots=True)
class FileLimits:
    """Of one prompt; `types` are media types, or `text/*` for all of a kind."""

    types: tuple[str, ...] = FILE_TYPES
    max_bytes: int = 5_000_000
    max_total_bytes: int = 9_000_000
    max_count: int = 10


def check(files: Sequence[AttachedFile], limits: FileLimits) -> None:
    """Raises `InvalidPayload` with the field of the first file that may not be sent."""
    if len(files) > limits.max_count:
        raise InvalidPayload("attachments", f"must be at most {limits.max_count} files")
    for n, file in enumerate(files):
        field = f"attachments.{n}"
        if not _allowed(file.media_type, limits.types):
            known = ", ".join(limits.types)
            raise InvalidPayload(f"{field}.media_type", f"{file.media_type} cannot be attached, only {known}")
        if not file.data:
            raise InvalidPayload(f"{field}.data", "must not be empty")
        if len(file.data) > limits.max_bytes:
            size = f"has {len(file.data)} bytes; the limit is {limits.max_bytes}"
            raise InvalidPayload(f"{field}.data", size)
        if (problem := _contradiction(file)) is not None:
            raise InvalidPayload(f"{field}.{problem[0]}", problem[1])
    total = sum(len(file.data) for file in files)
    if total > limits.max_total_bytes:
        raise InvalidPayload("attachments", f"have {total} bytes; the limit is {limits.max_total_bytes}")


def described(files: Sequence[AttachedFile]) -> tuple[Attachment, ...]:
    return tuple(
        Attachment(f.name, f.media_type, len(f.data), hashlib.sha256(f.data).hexdigest()) for f in files
    )


def _allowed(media_type: str, types: Sequence[str]) -> bool:
    return media_type in types or f"{media_type.partition('/')[0]}/*" in types


def _contradiction(file: AttachedFile) -> tuple[str, str] | None:
    """Where the bytes are not what the type says: the field that is wrong, and how."""
    kind = file_kind(file.media_type)
    if kind == "text":
        try:
            text = file.data.decode()
        except UnicodeDecodeError as e:
            return "data", f"is not text in UTF-8 (byte {e.start})"
        return ("data", "is not text: it contains NUL") if "\0" in text else None
    found = _found(file.data)
    if found == file.media_type:
        return None
    return "media_type", f"is {file.media_type}, but the bytes are {found or 'something else'}"


def _found(data: bytes) -> str | None:
    """The media type by the first bytes, of those that are no text."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "image/webp"
    if b"%PDF-" in data[:PDF_HEADER_WITHIN]:
        return "application/pdf"
    return None
