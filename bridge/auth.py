"""Who a token belongs to, and what it may do. The same check for every transport, in one place."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from hmac import compare_digest
from itertools import count
from pathlib import Path
from typing import Protocol, get_args

from bridge.clock import Clock
from bridge.config import AuthConfig, JwtConfig, Scope, TokenConfig
from bridge.errors import Forbidden, SetupError, Unauthorized
from bridge.jwts import Jwts
from bridge.limits import Limit
from bridge.tokens import TOKEN_CHARS, digest, new_token

SCOPES: tuple[str, ...] = get_args(Scope)
_IMPLIED = {"control": {"approve"}, "admin": set(SCOPES)}


@dataclass(frozen=True, slots=True)
class Principal:
    """The holder of a token. `sessions` are patterns of names, as a shell writes them."""

    name: str
    scopes: frozenset[str]
    sessions: tuple[str, ...] = ("*",)
    credential: str = ""
    """Tells the tokens of one name apart; no secret."""
    vouched_by: str = ""
    """Of a JWT: by which key."""
    expires_at: float | None = None
    """Wall time, seconds."""

    @property
    def account(self) -> tuple[str, str]:
        """Whose limits count. Who may have a new JWT made at any time is one and the same by its name."""
        return ("jwt", self.name) if self.vouched_by else ("token", self.credential)

    def may(self, scope: str) -> bool:
        return scope in _allowed(self.scopes)

    def may_see(self, session: str) -> bool:
        return covers(self.sessions, session)

    @property
    def may_see_all(self) -> bool:
        return "*" in self.sessions

    def require(self, scope: str, session: str | None = None) -> None:
        """Raises `Forbidden` where the scope, or the session's name, is not covered."""
        if not self.may(scope):
            raise Forbidden(scope)
        if session is not None and not self.may_see(session):
            raise Forbidden(scope, f"This token does not cover the session {session!r}.")


@lru_cache
def _allowed(scopes: frozenset[str]) -> frozenset[str]:
    """They, and what they imply."""
    return scopes.union(*(_IMPLIED.get(scope, ()) for scope in scopes))


def covers(patterns: Sequence[str], session: str) -> bool:
    return "*" in patterns or any(fnmatchcase(session, pattern) for pattern in patterns)


# --- who is connected ----------------------------------------------------------------------------


class Timer(Protocol):
    def cancel(self) -> object: ...


Later = Callable[[float, Callable[[], None]], Timer]
"""As `loop.call_later`."""

LOOK_AGAIN_S = 3600.0
"""A timer goes by a clock that nobody can set, a token's end by one that somebody can: look again so
often."""


class Connections:
    """Who is connected by which token, so that a token that no longer counts ends what it opened."""

    def __init__(self, clock: Clock, later: Later) -> None:
        self._clock = clock
        self._later = later
        self._ends: dict[Principal, dict[int, Callable[[], None]]] = {}
        self._timers: dict[Principal, Timer] = {}
        self._numbers = count()
        self._open: dict[int, str] = {}

    @property
    def open(self) -> Counter[str]:
        """How many there are, by transport."""
        return Counter(self._open.values())

    def opened(self, who: Principal, end: Callable[[], None], transport: str = "other") -> Callable[[], None]:
        """`end` is called once, when the token is taken back or runs out. Call what is returned when the
        client goes."""
        number = next(self._numbers)
        self._open[number] = transport
        ends = self._ends.get(who)
        if ends is None:
            ends = self._ends[who] = {}
            self._time(who)
        ends[number] = end
        return _Closed(self, who, number)

    def closed(self, who: Principal, number: int) -> None:
        self._open.pop(number, None)
        ends = self._ends.get(who, {})
        ends.pop(number, None)
        if not ends:
            self._forget(who)

    def end(self, who: Principal) -> None:
        """The token of `who` was taken back, or ran out."""
        for end in self._forget(who).values():
            end()

    def end_unless(self, counts: Callable[[Principal], bool]) -> int:
        """End all whose tokens do not count any more; how many connections that were."""
        gone = [who for who in self._ends if not counts(who)]
        ended = sum(len(self._ends[who]) for who in gone)
        for who in gone:
            self.end(who)
        return ended

    def _time(self, who: Principal) -> None:
        if who.expires_at is not None:
            left = who.expires_at - self._clock.now()
            self._timers[who] = self._later(min(max(left, 0.0), LOOK_AGAIN_S), lambda: self._timed(who))

    def _timed(self, who: Principal) -> None:
        self._timers.pop(who, None)
        if who.expires_at is not None and self._clock.now() >= who.expires_at:
            self.end(who)
        elif who in self._ends:
            self._time(who)

    def _forget(self, who: Principal) -> dict[int, Callable[[], None]]:
        timer = self._timers.pop(who, None)
        if timer is not None:
            timer.cancel()
        return self._ends.pop(who, {})


class _Closed:
    """What a connection calls when it has gone. Thousands of clients have one each: a closure is four times
    as large."""

    __slots__ = ("_connections", "_number", "_who")

    def __init__(self, connections: Connections, who: Principal, number: int) -> None:
        self._connections = connections
        self._who = who
        self._number = number

    def __call__(self) -> None:
        self._connections.closed(self._who, self._number)


# --- who comes in --------------------------------------------------------------------------------


class Authenticator:
    """Knows the tokens, and says whose one is.

    Tokens are compared by their digests, all of them each time: how long that takes tells nothing of any.
    """

    def __init__(
        self, tokens: Sequence[tuple[str, Principal]], clock: Clock, config: AuthConfig | None = None
    ) -> None:
        """`tokens` are the bridge's own, as they are. Raises `SetupError` where a key of `config` cannot be
        read."""
        self._own = [(digest(token), who, len(token) >= TOKEN_CHARS) for token, who in tokens]
        self._clock = clock
        self._known: list[tuple[str, Principal, bool]] = []
        self._jwts = Jwts(JwtConfig())
        self.refused = 0
        """Tokens that were not valid."""
        self.failures = Limit("Wrong tokens were shown", None)
        self.replace(config or AuthConfig())

    def replace(self, config: AuthConfig) -> None:
        """Another configuration from now on. Raises `SetupError`, and keeps the one it has then."""
        jwts = Jwts(config.jwt)
        self._jwts = jwts
        self._known = [*self._own, *((token.hash, _holder(token), True) for token in config.tokens)]
        self.failures.set(config.failures_per_minute)

    def authenticate(self, token: str | None, peer: str = "") -> Principal:
        """Whose token it is. `peer` is the address it came from; without one, failures are not counted.

        Raises `Unauthorized`, or `RateLimited` where the address showed too many wrong ones. A token that
        nobody can guess is let in all the same: behind a proxy all clients have one address, and a single one
        that keeps coming with an old token must not shut out the others.
        """
        now = self._clock.monotonic()
        who, strong = self._found(token or "")
        if who is not None and (strong or not peer or self.failures.wait(peer, now) <= 0):
            return who
        self.refused += 1
        if peer:
            self.failures.take(peer, now)
        raise Unauthorized

    def counts(self, who: Principal) -> bool:
        """Whether a principal that was let in would be let in again."""
        if who.expires_at is not None and self._clock.now() >= who.expires_at:
            return False
        if who.vouched_by:
            return who.vouched_by in self._jwts.vouchers
        return any(who == known for _, known, _ in self._known)

    def _found(self, token: str) -> tuple[Principal | None, bool]:
        given, found, sure = digest(token), None, False
        for known, who, strong in self._known:
            if compare_digest(known, given) and (len(token) >= TOKEN_CHARS or not strong):
                found, sure = who, strong
        if found is None and token.count(".") == 2:
            return self._claimed(token), True
        if found is not None and found.expires_at is not None and self._clock.now() >= found.expires_at:
            return None, False
        return found, sure

    def _claimed(self, token: str) -> Principal | None:
        try:
            claims = self._jwts.verify(token, self._clock.now())
        except Unauthorized:
            return None
        scopes = claims.scopes & set(SCOPES)  # others' scopes may stand beside ours
        return Principal(
            claims.name, scopes, claims.sessions, claims.digest, claims.vouched_by, claims.expires_at
        )


def _holder(token: TokenConfig) -> Principal:
    expires_at = None if token.expires_at is None else token.expires_at.timestamp()
    return Principal(
        token.name,
        frozenset(token.scopes),
        tuple(token.sessions),
        credential=token.hash,
        expires_at=expires_at,
    )


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
    token = given or kept or new_token()
    if token != kept:
        new = path.with_suffix(".new")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(token + "\n")
        new.replace(path)
    return token


ADMIN = frozenset({"admin"})
