"""Who a token belongs to, and what it may do. The same check for every transport, in one place."""

from __future__ import annotations

import hmac
import os
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import count
from pathlib import Path

from bridge.errors import Forbidden, SetupError, Unauthorized

SCOPES = ("watch", "prompt", "approve", "control", "admin")
_IMPLIED = {"control": {"approve"}, "admin": set(SCOPES)}


@dataclass(frozen=True, slots=True)
class Principal:
    """The holder of a token. `sessions` are patterns of names, as a shell writes them."""

    name: str
    scopes: frozenset[str]
    sessions: tuple[str, ...] = ("*",)

    def may(self, scope: str) -> bool:
        return scope in self.scopes or any(scope in _IMPLIED.get(s, ()) for s in self.scopes)

    def may_see(self, session: str) -> bool:
        return any(fnmatchcase(session, pattern) for pattern in self.sessions)

    def require(self, scope: str, session: str | None = None) -> None:
        """Raises `Forbidden` where the scope, or the session's name, is not covered."""
        if not self.may(scope):
            raise Forbidden(scope)
        if session is not None and not self.may_see(session):
            raise Forbidden(scope, f"This token does not cover the session {session!r}.")


class Connections:
    """Who is connected by which token, so that a token that no longer counts ends what it opened."""

    def __init__(self) -> None:
        self._ends: dict[Principal, dict[int, Callable[[], None]]] = {}
        self._numbers = count()

    def opened(self, who: Principal, end: Callable[[], None]) -> Callable[[], None]:
        """`end` is called once, when the token is taken back. Call what is returned when the client goes."""
        number = next(self._numbers)
        self._ends.setdefault(who, {})[number] = end

        def closed() -> None:
            ends = self._ends.get(who, {})
            ends.pop(number, None)
            if not ends:
                self._ends.pop(who, None)

        return closed

    def end(self, who: Principal) -> None:
        """The token of `who` was taken back, or ran out."""
        for end in self._ends.pop(who, {}).values():
            end()


class Authenticator:
    """Knows the tokens; `authenticate` takes the same time whatever is given."""

    def __init__(self, tokens: Sequence[tuple[str, Principal]]) -> None:
        self._tokens = [(token.encode(), principal) for token, principal in tokens]

    def authenticate(self, token: str | None) -> Principal:
        given = (token or "").encode(errors="surrogatepass")
        found: Principal | None = None
        for known, principal in self._tokens:
            if hmac.compare_digest(known, given):
                found = principal
        if found is None:
            raise Unauthorized
        return found


def made_token(path: Path, given: str | None) -> str:
    """The bridge's own token: the given one, else the one kept at `path`, else a new one.

    Kept at `path` in every case, readable by its owner alone: that is where this machine's commands find it.
    """
    if given is not None and len(given) < 8:
        raise SetupError(
            "The token in CLAUDE_BRIDGE_TOKEN is shorter than 8 characters.", "Choose a longer one."
        )
    try:
        kept = path.read_text().strip()
    except FileNotFoundError:
        kept = ""
    token = given or kept or secrets.token_urlsafe(24)
    if token != kept:
        new = path.with_suffix(".new")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(token + "\n")
        new.replace(path)
    return token


ADMIN = frozenset({"admin"})
