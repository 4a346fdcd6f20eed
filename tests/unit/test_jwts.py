"""JWTs: only what a configured key has signed with its own algorithm, and only for as long as it says."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import jwt
import pytest

from bridge.config import JwtConfig
from bridge.errors import SetupError, Unauthorized
from bridge.jwts import Claims, Jwts
from tests.fakes.keys import SECRET, jwk, minted, private_pem, public_pem, rsa_key, write_jwks

NOW = 1_800_000_000.0


def claims(token: str, now: float = NOW, **config: Any) -> Claims:
    return Jwts(JwtConfig(**{"secret": SECRET, **config})).verify(token, now)


def refused(token: str, now: float = NOW, **config: Any) -> bool:
    with pytest.raises(Unauthorized):
        claims(token, now, **config)
    return True


def encoded(part: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")


def test_a_valid_token_says_who_and_what() -> None:
    """Name, scopes, patterns, and until when: its own end and the leeway."""
    made = claims(minted(sub="ada", scopes=["watch", "prompt"], sessions=["ada-*"], exp=int(NOW) + 60))
    assert (made.name, made.scopes, made.sessions) == ("ada", {"watch", "prompt"}, ("ada-*",))
    assert made.expires_at == NOW + 70


@pytest.mark.parametrize("said", [{"scopes": "watch prompt"}, {"scopes": None, "scope": "watch prompt"}])
def test_scopes_may_be_words_of_one_string(said: dict[str, Any]) -> None:
    """As OAuth writes them."""
    assert claims(minted(**said)).scopes == {"watch", "prompt"}


def test_without_scopes_nothing_is_allowed_and_without_sessions_all_are_meant() -> None:
    """A token that says nothing of scopes is somebody's for another service."""
    made = claims(minted(scopes=None))
    assert (made.scopes, made.sessions) == (frozenset(), ("*",))
    assert claims(minted(sessions=[])).sessions == ()


@pytest.mark.parametrize(
    "said",
    [
        {"exp": None},
        {"exp": "4000000000"},
        {"exp": True},
        {"exp": 1e400},
        {"exp": int(NOW) - 10},
        {"nbf": int(NOW) + 11},
        {"nbf": "soon"},
        {"sub": None},
        {"sub": ""},
        {"sub": 7},
        {"sub": "x" * 129},
        {"sub": "a\nb"},
        {"scopes": {"watch": 1}},
        {"scopes": [1]},
        {"sessions": "team-*"},
        {"sessions": [None]},
        {"sessions": ["x"] * 1001},
    ],
)
def test_claims_that_are_missing_or_are_not_what_they_must_be_are_refused(said: dict[str, Any]) -> None:
    """Never half a token."""
    # PyJWT itself will not write some of them.
    payload = {"sub": "ada", "exp": 4_000_000_000, "scopes": ["watch"], **said}
    payload = {k: v for k, v in payload.items() if v is not None}
    body = json.dumps(payload).replace("Infinity", "1e400").encode()
    assert refused(jwt.PyJWS().encode(body, SECRET, algorithm="HS256"))


def test_it_ends_at_its_end_and_the_leeway_is_small() -> None:
    """Clocks of two machines differ by seconds."""
    token = minted(exp=int(NOW))
    assert claims(token, NOW + 9.9)
    assert refused(token, NOW + 10)
    assert refused(token, NOW, leeway_s=0)
    assert claims(minted(nbf=int(NOW) + 9))


def test_a_tampered_token_is_refused() -> None:
    """Claims, header or signature."""
    head, body, signature = minted().split(".")
    more = encoded({"sub": "ada", "exp": 4_000_000_000, "scopes": ["admin"]})
    other = encoded({"alg": "HS256", "typ": "JWT", "x": 1})
    for token in (
        f"{head}.{more}.{signature}",
        f"{other}.{body}.{signature}",
        f"{head}.{body}.",
        f"{head}.{body}",
    ):
        assert refused(token)
    assert refused(minted("another secret that is long enough for HS256"))
    for nonsense in ("", "..", "a.b.c", "\ud800.b.c", f"{head}.{body}.ü", "é" * 3000):
        assert refused(nonsense)


def test_no_algorithm_but_the_keys_own_is_ever_taken() -> None:
    """`none`, its spellings, other HMACs, and a signature made with the public key as a secret."""
    body = encoded({"sub": "ada", "exp": 4_000_000_000, "scopes": ["admin"]})
    for name in ("none", "None", "NONE", "nOnE", "", None, 5, ["HS256"]):
        assert refused(f"{encoded({'alg': name, 'typ': 'JWT'})}.{body}.")
    assert refused(minted(algorithm="HS512"))
    assert refused(minted(rsa_key(), "RS256"))


def test_a_public_key_is_never_a_secret(tmp_path: Path) -> None:
    """The confusion of RS256 with HS256; with and without a secret of its own beside it."""
    public = tmp_path / "public.pem"
    public.write_bytes(public_pem(rsa_key()))
    # PyJWT refuses to sign with a PEM, so that it is done by hand.
    import hashlib
    import hmac

    head = encoded({"alg": "HS256", "typ": "JWT"})
    body = encoded({"sub": "ada", "exp": 4_000_000_000, "scopes": ["admin"]})
    for secret in (public.read_bytes(), public.read_bytes().strip()):
        mac = hmac.new(secret, f"{head}.{body}".encode(), hashlib.sha256).digest()
        forged = f"{head}.{body}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"
        assert refused(forged, public_key=public)
        assert refused(forged, public_key=public, secret=None)
    assert claims(minted(rsa_key(), "RS256"), public_key=public).name == "ada"
    assert claims(minted(), public_key=public).name == "ada"
    assert refused(minted(rsa_key(1), "RS256"), public_key=public)


def test_the_key_of_a_set_is_found_by_its_name(tmp_path: Path) -> None:
    """One that names another, or is named and signed by another, is refused; without a name all are tried."""
    other_kinds = [{"kty": "EC", "crv": "P-256"}, jwk(rsa_key(2), kid="enc", use="enc")]
    keys = write_jwks(tmp_path / "jwks", jwk(rsa_key(0), kid="a"), jwk(rsa_key(1), kid="b"), *other_kinds)
    for number, kid in ((0, "a"), (1, "b"), (1, None)):
        assert claims(minted(rsa_key(number), "RS256", kid), jwks=keys, secret=None).name == "ada"
    for number, kid in ((0, "b"), (0, "c"), (2, "enc"), (2, None)):
        assert refused(minted(rsa_key(number), "RS256", kid), jwks=keys, secret=None)


def test_audience_and_issuer_count_where_they_are_configured() -> None:
    """A token for another service, signed by the same issuer, is not ours."""
    config = {"audience": "bridge", "issuer": "https://app.example"}
    ours = {"aud": "bridge", "iss": "https://app.example"}
    assert claims(minted(**ours), **config)
    assert claims(minted(**{**ours, "aud": ["other", "bridge"]}), **config)
    assert refused(minted(**{**ours, "aud": "other"}), **config)
    assert refused(minted(iss="https://app.example"), **config)
    assert refused(minted(**{**ours, "iss": "https://elsewhere.example"}), **config)
    assert refused(minted(aud="bridge"), **config)
    assert claims(minted(**{**ours, "aud": "other"}))


def test_what_vouches_for_a_token_is_the_key_and_its_terms() -> None:
    """Who was let in by a key that is not taken any more is known by it."""
    made = claims(minted())
    same, terms, other = (
        Jwts(JwtConfig(secret=SECRET)),
        Jwts(JwtConfig(secret=SECRET, audience="x")),
        Jwts(JwtConfig(secret=SECRET.upper())),
    )
    assert made.vouched_by in same.vouchers
    assert made.vouched_by not in terms.vouchers | other.vouchers
    assert claims(minted(sub="bob")).digest != made.digest


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("secret_file", b"too short", "32 bytes"),
        ("public_key", b"no key", "no key for RS256"),
        ("public_key", None, "cannot be read"),
        ("public_key", private_pem(rsa_key()), "private key"),
        ("jwks", b"{}", "no JWK set"),
        ("jwks", b'{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}', "no key for RS256"),
        ("jwks", b'{"keys": [{"kty": "RSA", "n": "AQAB"}]}', "no key for RS256"),
    ],
)
def test_a_key_that_cannot_be_used_is_refused_with_its_place(
    tmp_path: Path, name: str, content: bytes | None, said: str
) -> None:
    """Before the bridge serves; and what to do."""
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SetupError) as error:
        Jwts(JwtConfig(**{name: path}))
    assert said in str(error.value)
    assert f"auth.jwt.{name}" in error.value.problem
    assert error.value.remedy


def test_a_secret_file_counts_without_its_last_line_break_and_not_beside_a_secret(tmp_path: Path) -> None:
    """Every editor writes one."""
    path = tmp_path / "secret"
    path.write_text(SECRET + "\n")
    assert claims(minted(), secret=None, secret_file=path).name == "ada"
    with pytest.raises(SetupError, match="both set"):
        claims(minted(), secret_file=path)


def test_the_secret_shows_in_no_text_of_the_configuration() -> None:
    """A configuration may be logged."""
    assert SECRET not in repr(JwtConfig(secret=SECRET))
