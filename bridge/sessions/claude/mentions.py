"""How files come with a prompt that is typed into the TUI: their names on disk, and their mentions. Pure.

The TUI (2.1.330) attaches what a prompt mentions as `@"path"`, wherever it is: a picture as a picture, a text
as if Claude had read it. What has more than `MENTIONED_BYTES` it leaves out, a picture without a word, and of
a PDF it says only that it was read. These Claude is asked to open itself; a rule of `tui_launch` allows it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from bridge.commands import PDF, file_kind
from bridge.sessions.claude.keyboard import WHITE

MENTIONED_BYTES = 262_144
TO_OPEN = "Attached, to be opened with the Read tool: "
FILES = "files"
NAME_CHARACTERS = 60
"""Of a file's own name: at four bytes each, with number and ending, what a file system takes."""

Given = tuple[str, str, int]
"""A file's name, media type and size."""

_ENDINGS = {
    "image/png": (".png",),
    "image/jpeg": (".jpg", ".jpeg"),
    "image/gif": (".gif",),
    "image/webp": (".webp",),
    PDF: (".pdf",),
}
"""By which the TUI knows what is no text."""

_TEXTS = re.compile(
    r"\.(txt|md|rst|csv|tsv|json|html?|css|jsx?|tsx?|py|xml|ya?ml|toml|ini|log|sh|c|h|diff|patch)"
)
"""Endings that the TUI takes for text; another may be one of those that it will not read."""


def files_of(session: Path) -> Path:
    """Where a session's folder has what came with its prompts, a folder for each turn."""
    return session / FILES


def file_name(number: int, name: str, media_type: str) -> str:
    """On disk: nothing in it means anything to a mention or a shell, and its ending says what it is."""
    plain = "".join(c if c.isalnum() or c in "._-" else "_" for c in unicodedata.normalize("NFC", name))
    stem, dot, ending = plain.rpartition(".")
    ending = f"{dot}{ending}".lower() if stem else ""
    if file_kind(media_type) == "text":
        ending = ending if _TEXTS.fullmatch(ending) else ".txt"
    elif ending not in _ENDINGS[media_type]:
        ending = _ENDINGS[media_type][0]
    kept = plain[: -len(ending)] if plain.lower().endswith(ending) else plain
    return f"{number}-{kept[:NAME_CHARACTERS]}{ending}"


def with_files(prompt: str, folder: str, files: Sequence[Given]) -> str:
    """What is typed for a prompt whose files lie in `folder`, under their `file_name`."""
    said = [
        f'{_lead(media_type, size)}"{folder}/{file_name(n, name, media_type)}"'
        for n, (name, media_type, size) in enumerate(files)
    ]
    text = prompt.rstrip(WHITE)
    return "\n".join([text, "", *said] if text else said)


def without_files(typed: str, folder: str) -> str:
    """The prompt itself, of a text that `with_files` made."""
    starts = (typed.find(f'{lead}"{folder}/') for lead in ("@", TO_OPEN))
    return typed[: min((at for at in starts if at >= 0), default=len(typed))].rstrip(WHITE)


def _lead(media_type: str, size: int) -> str:
    return TO_OPEN if media_type == PDF or size > MENTIONED_BYTES else "@"
