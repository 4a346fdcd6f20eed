"""Files that come with a prompt, where a transport has bytes: binary pushes, and the parts of a form. Pure.

Both give the payload that JSON would, but with bytes in place of base64; `requests` takes it from there.
"""

from __future__ import annotations

from typing import Any

from bridge.errors import InvalidPayload, WireError
from bridge.wire.json import dumps, loads

HEAD_BYTES = 4
"""Of the length of the JSON that a binary push begins with, the most significant first."""

FILES = "attachments"


def packed(payload: dict[str, Any]) -> bytes:
    """A payload whose files have bytes for `data`, as `unpacked` reads it."""
    files = payload[FILES]
    described = [{**{k: v for k, v in f.items() if k != "data"}, "size": len(f["data"])} for f in files]
    head = dumps({**payload, FILES: described})
    return b"".join((len(head).to_bytes(HEAD_BYTES), head, *(f["data"] for f in files)))


def unpacked(data: bytes) -> dict[str, Any]:
    """The payload of a binary `submit`: a length, as much JSON, in which each attachment has `size` in place
    of `data`, and then the bytes of all of them, one after the other. Raises `InvalidPayload`."""
    start = HEAD_BYTES + int.from_bytes(data[:HEAD_BYTES])
    if len(data) < HEAD_BYTES or start > len(data):
        raise InvalidPayload("", "The payload is shorter than it says.")
    try:
        payload = loads(data[HEAD_BYTES:start])
    except WireError as e:
        raise InvalidPayload("", f"The payload's head is {e}") from None
    if not isinstance(payload, dict):
        raise InvalidPayload("", "The payload's head must be an object.")
    files = payload.get(FILES)
    files = [] if files is None else files
    if not isinstance(files, list):
        raise InvalidPayload(FILES, "must be a list")
    whole = []
    for n, file in enumerate(files):
        field = f"{FILES}.{n}"
        if not isinstance(file, dict):
            raise InvalidPayload(field, "must be an object")
        if "data" in file:
            raise InvalidPayload(f"{field}.data", "is not known here; its bytes follow the head")
        size = file.get("size")
        if type(size) is not int or size < 0:
            raise InvalidPayload(f"{field}.size", "must be a whole number of bytes")
        if start + size > len(data):
            raise InvalidPayload(f"{field}.size", "is more than the payload has")
        whole.append({**{k: v for k, v in file.items() if k != "size"}, "data": data[start : start + size]})
        start += size
    if start < len(data):
        raise InvalidPayload(FILES, f"{len(data) - start} bytes follow that belong to none of them")
    return {**payload, FILES: whole}
