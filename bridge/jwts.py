"""JSON Web Tokens: who somebody else says that the caller is.

Which algorithm a key is used with is said by our configuration alone: what a token's own header names only
chooses among the keys that were given for it, so that a public key is never taken for a secret.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
import orjson

from bridge.config import JwtConfig
from bridge.errors import SetupError, Unauthorized

SECRET_BYTES = 32
"""An HS256 secret must not be shorter than its digest (RFC 7518, 3.2)."""
NAME_CHARS = 128
"""A `sub` becomes the author of prompts and a key of presence; an identifier, not a text."""
PATTERNS = 1000
"""Sessions that one token may list: each is compared with each name."""


@dataclass(frozen=True, slots=True)
class Claims:
    """What a valid token says. `vouched_by` names the key and the conditions it was accepted under; `digest`
    is the token's own."""

    name: str
    scopes: frozenset[str]
    sessions: tuple[str, ...]
    expires_at: float
    vouched_by: str
    digest: str


@dataclass(frozen=True, slots=True)
class _Key:
    algorithm: str
    key: Any
    kid: str | None
    fingerprint: str


class Jwts:
    """Verifies. Made anew when the configuration is read again."""

    def __init__(self, config: JwtConfig) -> None:
        """Reads the files of keys. Raises `SetupError`."""
        self._config = config
        self._keys = _read(config)

    @property
    def vouchers(self) -> frozenset[str]:
        """All that may stand in `Claims.vouched_by` now."""
        return frozenset(key.fingerprint for key in self._keys)

    def verify(self, token: str, now: float) -> Claims:
        """Raises `Unauthorized`, whatever is wrong with it."""
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError):
            raise Unauthorized from None
        for key in self._keys:
            if key.algorithm != header.get("alg") or not _named(key, header.get("kid")):
                continue
            try:
                payload = self._decoded(token, key)
            except (jwt.PyJWTError, ValueError):
                continue
            return self._claims(token, payload, key, now)
        raise Unauthorized

    def _decoded(self, token: str, key: _Key) -> dict[str, Any]:
        config = self._config
        payload: dict[str, Any] = jwt.decode(
            token,
            key.key,
            algorithms=[key.algorithm],
            audience=config.audience,
            issuer=config.issuer,
            options={
                "require": ["exp", "sub"],
                "verify_aud": config.audience is not None,
                "verify_iss": config.issuer is not None,
                # Times are compared with the clock that is handed in.
                "verify_exp": False,
                "verify_nbf": False,
                "verify_iat": False,
            },
        )
        return payload

    def _claims(self, token: str, payload: dict[str, Any], key: _Key, now: float) -> Claims:
        leeway = self._config.leeway_s
        name, ends = payload["sub"], _time(payload["exp"]) + leeway
        if not isinstance(name, str) or not 0 < len(name) <= NAME_CHARS or not name.isprintable():
            raise Unauthorized
        if now >= ends or ("nbf" in payload and now < _time(payload["nbf"]) - leeway):
            raise Unauthorized
        scopes = payload.get("scopes", payload.get("scope", []))
        scopes = _strings(scopes.split() if isinstance(scopes, str) else scopes)
        sessions = _strings(payload.get("sessions", ["*"]))
        digest = hashlib.sha256(token.encode()).hexdigest()
        return Claims(name, frozenset(scopes), tuple(sessions), ends, key.fingerprint, digest)


def _named(key: _Key, kid: object) -> bool:
    """A key of a set is meant by its `kid`; a single one by whatever a token says."""
    return key.kid is None or kid is None or key.kid == kid


def _time(value: object) -> float:
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise Unauthorized
    return float(value)


def _strings(value: object) -> list[str]:
    if not isinstance(value, list) or len(value) > PATTERNS or not all(isinstance(v, str) for v in value):
        raise Unauthorized
    return value


# --- the keys ------------------------------------------------------------------------------------


def _read(config: JwtConfig) -> list[_Key]:
    if config.secret is not None and config.secret_file is not None:
        raise SetupError("auth.jwt.secret and auth.jwt.secret_file are both set.", "Set one of the two.")
    terms = f"{config.audience!r} {config.issuer!r}"
    keys = []
    if config.secret is not None:
        keys.append(_secret(config.secret.encode(), "auth.jwt.secret", terms))
    if config.secret_file is not None:
        given = _content("auth.jwt.secret_file", config.secret_file).rstrip()
        keys.append(_secret(given, f"auth.jwt.secret_file ({config.secret_file})", terms))
    if config.public_key is not None:
        keys.append(_public_key(config.public_key, terms))
    if config.jwks is not None:
        keys += _set(config.jwks, terms)
    return keys


def _secret(secret: bytes, place: str, terms: str) -> _Key:
    if len(secret) < SECRET_BYTES:
        raise SetupError(
            f"{place} is shorter than {SECRET_BYTES} bytes.", "Make one with: openssl rand -base64 48"
        )
    return _made("HS256", secret, None, secret, terms, place)


def _public_key(path: Path, terms: str) -> _Key:
    pem = _content("auth.jwt.public_key", path)
    return _made("RS256", pem, None, pem, terms, f"auth.jwt.public_key ({path})")


def _set(path: Path, terms: str) -> list[_Key]:
    place = f"auth.jwt.jwks ({path})"
    try:
        entries = orjson.loads(_content("auth.jwt.jwks", path))["keys"]
        usable = [e for e in entries if e["kty"] == "RSA" and e.get("use", "sig") == "sig"]
        usable = [e for e in usable if e.get("alg", "RS256") == "RS256"]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise SetupError(f"{place} is no JWK set.", 'It is written {"keys": [{"kty": "RSA", …}]}.') from None
    if not usable:
        raise SetupError(f"{place} has no key for RS256.", "Only RSA keys for signatures are used.")
    keys = []
    for entry in usable:
        public = {
            k: entry.get(k) for k in ("kty", "n", "e")
        }  # a private key in the set is used as its public half
        said = orjson.dumps(public, option=orjson.OPT_SORT_KEYS)
        keys.append(_made("RS256", said, entry.get("kid"), said, terms, place, from_jwk=True))
    return keys


def _made(
    algorithm: str, given: bytes, kid: object, said: bytes, terms: str, place: str, *, from_jwk: bool = False
) -> _Key:
    kind = jwt.get_algorithm_by_name(algorithm)
    prepare: Callable[[Any], Any] = kind.from_jwk if from_jwk else kind.prepare_key
    try:
        key = prepare(given.decode() if from_jwk else given)
        problem = kind.check_key_length(key)
    except (jwt.PyJWTError, ValueError, TypeError, KeyError) as e:
        raise SetupError(f"{place} is no key for {algorithm}: {e}", "Give the key itself, in PEM.") from None
    if hasattr(key, "private_bytes"):
        raise SetupError(
            f"{place} is a private key.", "The bridge needs the public one, and must not have this."
        )
    if problem:
        raise SetupError(f"{place}: {problem}", "Use a longer key.")
    fingerprint = hashlib.sha256(f"{algorithm} {terms} ".encode() + said).hexdigest()
    return _Key(algorithm, key, kid if isinstance(kid, str) else None, fingerprint)


def _content(setting: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as e:
        raise SetupError(f"{setting}: {path} cannot be read: {e.strerror}.", "Check the path.") from None
