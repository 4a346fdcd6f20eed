"""The files that the command sends along with a prompt: read, and their media types found. Blocking."""

from __future__ import annotations

import mimetypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bridge.commands import IMAGES, PDF
from bridge.errors import SetupError

MOST_BYTES = 9_900_000
"""Of all files: a frame has 10,000,000, and its other content is small but for the prompt."""

AS_THEY_ARE = (*IMAGES, PDF, "application/json")


def read_files(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """As `attachments` of a payload, with bytes for `data`. Raises `SetupError`."""
    files: list[dict[str, Any]] = []
    total = 0
    for given in paths:
        path = given.expanduser()
        try:
            total += path.stat().st_size
            if total > MOST_BYTES:  # before it is read: it may be anything
                raise SetupError(
                    f"The files have more than {MOST_BYTES} bytes.", "Attach fewer, or smaller ones."
                )
            data = path.read_bytes()
        except OSError as e:
            raise SetupError(f"{given} cannot be attached: {e.strerror}.", "Check the path.") from e
        files.append({"name": path.name, "media_type": media_type(path.name, data), "data": data})
    return files


def media_type(name: str, data: bytes) -> str:
    """By the name; what is called otherwise and is text in UTF-8, as most source files, is plain text."""
    guessed, _ = mimetypes.guess_type(name)
    if guessed is not None and (guessed in AS_THEY_ARE or guessed.startswith("text/")):
        return guessed
    try:
        data.decode()
    except UnicodeDecodeError:
        return guessed or "application/octet-stream"
    return "text/plain"
