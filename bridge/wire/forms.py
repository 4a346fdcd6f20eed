"""`multipart/form-data` (RFC 7578) as the payload that JSON would say. Pure.

The body comes whole, because it is bounded, and is taken apart strictly: what is no form is refused, and
nothing is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from bridge.errors import InvalidPayload
from bridge.wire.attachments import FILES

FORM = "multipart/form-data"

MAX_PARTS = 100
"""More than anything that is taken has; bounds the work for what will be refused."""

MAX_HEADER_BYTES = 16_384
"""Of one part: a name of 255 bytes, however it is written, and some room."""

_PARAMETER = re.compile(r';\s*([\w-]+\*?)\s*=\s*("(?:[^"\\]|\\.)*"|[^";\s]+)', re.ASCII)
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]")


def payload(content_type: str, body: bytes) -> dict[str, Any]:
    """`content_type` is the request's header. Raises `InvalidPayload`."""
    boundary = _parameters(content_type).get("boundary", "")
    if not _BOUNDARY.fullmatch(boundary):
        raise InvalidPayload("", "The form's Content-Type names no boundary.")
    said: dict[str, Any] = {}
    files: list[dict[str, Any]] = []
    for headers, content in _parts(body, boundary.encode()):
        kind, given = headers.get("content-disposition", ""), {}
        if kind.partition(";")[0].strip().lower() == "form-data":
            given = _parameters(kind)
        name = given.get("name")
        if name is None:
            raise InvalidPayload("", "A part of the form has no name.")
        if name == FILES:
            file = {"media_type": headers.get("content-type", "text/plain"), "data": content}
            files.append(file if (called := _file_name(given)) is None else {"name": called, **file})
        elif name in said:
            raise InvalidPayload(name, "must be one part of the form, not several")
        else:
            said[name] = _text(name, content)
    return {**said, FILES: files} if files else said


def _parts(body: bytes, boundary: bytes) -> Iterator[tuple[dict[str, str], bytes]]:
    """Each part's headers and content. Raises `InvalidPayload`."""
    delimiter = b"\r\n--" + boundary
    body = b"\r\n" + body  # the first delimiter may stand at the very beginning
    at = body.find(delimiter)
    for _ in range(MAX_PARTS):
        if at < 0:
            break
        at += len(delimiter)
        if body.startswith(b"--", at):
            return
        line_end = body.find(b"\r\n", at)
        if line_end < 0 or body[at:line_end].strip(b" \t"):
            break
        # A part without headers has its empty line at once.
        head_end = body.find(b"\r\n\r\n", line_end, line_end + MAX_HEADER_BYTES)
        end = body.find(delimiter, head_end + 2) if head_end >= 0 else -1
        if end < 0:
            break
        yield _headers(body[line_end + 2 : head_end]), body[head_end + 4 : end]
        at = end
    raise InvalidPayload("", "The body is not a form of parts, or not all of one.")


def _headers(head: bytes) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in head.split(b"\r\n") if head else ():
        name, colon, value = _text("", line).partition(":")
        if not colon:
            raise InvalidPayload("", "A part of the form has a header that is none.")
        headers[name.strip().lower()] = value.strip()
    return headers


def _parameters(header: str) -> dict[str, str]:
    return {name.lower(): _unquoted(value) for name, value in _PARAMETER.findall(header)}


def _unquoted(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value


def _file_name(given: dict[str, str]) -> str | None:
    if (extended := given.get("filename*")) is not None:
        charset, _, rest = extended.partition("'")
        if charset.lower() == "utf-8":
            encoded = rest.partition("'")[2].encode()
            return _text(FILES, re.sub(rb"%([0-9A-Fa-f]{2})", lambda m: bytes((int(m[1], 16),)), encoded))
    name = given.get("filename")
    if name is None:
        return None
    # What browsers cannot write in a header they write so, and nothing else.
    return name.replace("%22", '"').replace("%0D", "\r").replace("%0A", "\n")


def _text(field: str, content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise InvalidPayload(field, "is not UTF-8") from None
