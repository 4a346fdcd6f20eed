"""Tokens: who they belong to, what they allow, where the bridge's own is kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.auth import ADMIN, SCOPES, Authenticator, Principal, made_token
from bridge.errors import Forbidden, SetupError, Unauthorized
from tests.fakes.service import FixedClock


def test_a_token_is_made_once_and_kept_for_its_owner(tmp_path: Path) -> None:
    """Commands of this machine read it there."""
    path = tmp_path / "token"
    token = made_token(path, None)
    assert made_token(path, None) == token
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_given_token_takes_the_place_of_the_kept_one(tmp_path: Path) -> None:
    """Else the commands of this machine would show one that no longer counts."""
    path = tmp_path / "token"
    made_token(path, None)
    assert made_token(path, "given-by-hand") == "given-by-hand"
    assert path.read_text() == "given-by-hand\n"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_token_that_can_be_guessed_is_refused(tmp_path: Path) -> None:
    """With what to do about it."""
    with pytest.raises(SetupError, match="longer"):
        made_token(tmp_path / "token", "short")


@pytest.mark.parametrize("token", [None, "", "secret-toke", "secret-token ", "\ud800"])
def test_only_the_very_token_is_let_in(token: str | None) -> None:
    """Whatever stands in its place, lone surrogates included, is refused and breaks nothing."""
    me = Principal("me", ADMIN)
    authenticator = Authenticator([("secret-token", me)], FixedClock())
    assert authenticator.authenticate("secret-token") is me
    with pytest.raises(Unauthorized):
        authenticator.authenticate(token)


@pytest.mark.parametrize(
    ("scope", "allows"),
    [
        ("watch", {"watch"}),
        ("prompt", {"prompt"}),
        ("approve", {"approve"}),
        ("control", {"control", "approve"}),
        ("admin", set(SCOPES)),
    ],
)
def test_a_scope_allows_itself_and_what_it_implies(scope: str, allows: set[str]) -> None:
    """The table of the contract."""
    who = Principal("x", frozenset({scope}))
    assert {s for s in SCOPES if who.may(s)} == allows


def test_a_refusal_names_the_scope_and_the_session_that_are_not_covered() -> None:
    """`forbidden` with the scope that is missing."""
    who = Principal("x", frozenset({"watch"}), ("team-*",))
    who.require("watch", "team-one")
    with pytest.raises(Forbidden) as refused:
        who.require("prompt")
    assert refused.value.as_payload()["scope"] == "prompt"
    with pytest.raises(Forbidden, match="other"):
        who.require("watch", "other")
