"""Tokens as values: how one is made, what is kept of it, and its lines in the configuration file.

Only the digest of a token is ever written. One of 144 random bits cannot be guessed, so that the digest
may be a fast one; what is shorter than 22 characters, and so may be guessed, is never taken for such a token.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import tomllib
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import orjson

from bridge.errors import SetupError

SCHEME = "sha256:"
TOKEN_BYTES = 24
TOKEN_CHARS = 22
"""128 bits, as letters of base64."""

_HEADER = re.compile(r"^[ \t]*\[\[[ \t]*auth[ \t]*\.[ \t]*tokens[ \t]*\]\]", re.MULTILINE)
_NEXT = re.compile(r"^[ \t]*\[", re.MULTILINE)


def new_token() -> str:
    return secrets.token_urlsafe(TOKEN_BYTES)


def digest(token: str) -> str:
    """What is kept of a token. Takes any string, lone surrogates as well."""
    return SCHEME + hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()


def lines_of(
    name: str, hashed: str, scopes: Sequence[str], sessions: Sequence[str], expires_at: datetime | None
) -> str:
    """A token's table, as it stands in the file."""
    lines = [
        "[[auth.tokens]]",
        f"name = {_quoted(name)}",
        f"hash = {_quoted(hashed)}",
        f"scopes = [{', '.join(map(_quoted, scopes))}]",
        f"sessions = [{', '.join(map(_quoted, sessions))}]",
    ]
    if expires_at is not None:
        lines.append(f"expires_at = {expires_at.isoformat(timespec='seconds')}")
    return "\n".join(lines) + "\n"


def with_token(text: str, lines: str, place: Path) -> str:
    """The file's text with one more token. Raises `SetupError` where it cannot be put there."""
    before = f"{text.rstrip()}\n\n" if text.strip() else ""
    wanted = [*_names(text, place), *_names(lines, place)]
    return _checked(before + lines, wanted, place)


def without_token(text: str, name: str, place: Path) -> str:
    """The file's text without the tokens of this name. Raises `SetupError` where there is none."""
    names = _names(text, place)
    if name not in names:
        known = ", ".join(dict.fromkeys(names)) or "none at all"
        raise SetupError(f"{place} has no token {name!r}.", f"It has {known}.")
    kept, at = [], 0
    while (header := _HEADER.search(text, at)) is not None:
        after = _NEXT.search(text, header.end())
        end = after.start() if after is not None else len(text)
        kept.append(text[at : header.start()])
        if not _holds(text[header.start() : end], name):
            kept.append(text[header.start() : end])
        at = end
    return _checked("".join([*kept, text[at:]]), [n for n in names if n != name], place)


def _holds(table: str, name: str) -> bool:
    try:
        return any(token["name"] == name for token in tomllib.loads(table)["auth"]["tokens"])
    except (tomllib.TOMLDecodeError, KeyError):
        return False  # no table, but what looks like one: the check at the end sees it


def _names(text: str, place: Path) -> list[str]:
    try:
        tokens = tomllib.loads(text).get("auth", {}).get("tokens", [])
        return [str(token["name"]) for token in tokens]
    except (tomllib.TOMLDecodeError, AttributeError, KeyError, TypeError):
        raise SetupError(
            f"{place} is not a configuration that can be changed.", "Correct it first."
        ) from None


def _checked(text: str, wanted: list[str], place: Path) -> str:
    """Text was cut and joined: what it says now must be what was meant."""
    remedy = "Change the tables [[auth.tokens]] by hand."
    try:
        found = _names(text, place)
    except SetupError:
        raise SetupError(f"{place} writes its tokens in a way that cannot be changed here.", remedy) from None
    if found != wanted:
        raise SetupError(f"{place} writes its tokens in a way that cannot be changed here.", remedy)
    return text


def _quoted(text: str) -> str:
    return orjson.dumps(text).decode()  # a JSON string is one of TOML's
