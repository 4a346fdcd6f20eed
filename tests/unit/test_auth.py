"""Tokens: who they belong to, what they allow, where the bridge's own is kept."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bridge.auth import (
    ADMIN,
    LOOK_AGAIN_S,
    SCOPES,
    Authenticator,
    Connections,
    Principal,
    made_token,
)
from bridge.config import AuthConfig, JwtConfig
from bridge.errors import Forbidden, RateLimited, SetupError, Unauthorized
from bridge.tokens import digest
from tests.fakes.keys import SECRET, minted
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


# --- tokens that were given out ------------------------------------------------------------------

TOKEN = "t" * 32
OTHER = "o" * 32


def given(name: str = "ada", token: str = TOKEN, **more: Any) -> dict[str, Any]:
    return {"name": name, "hash": digest(token), "scopes": ["watch"], **more}


def knowing(*tokens: dict[str, Any], clock: FixedClock | None = None, **config: Any) -> Authenticator:
    settings = AuthConfig.model_validate({"tokens": list(tokens), **config})
    return Authenticator([("hand-made", Principal("local", ADMIN))], clock or FixedClock(), settings)


def refuses(authenticator: Authenticator, token: str, peer: str = "") -> bool:
    with pytest.raises(Unauthorized):
        authenticator.authenticate(token, peer)
    return True


def test_a_configured_token_is_its_holders() -> None:
    """With the scopes and sessions that were given with it."""
    authenticator = knowing(given(sessions=["team-*"]), given("bob", OTHER, scopes=["control"]))
    ada, bob = authenticator.authenticate(TOKEN), authenticator.authenticate(OTHER)
    assert (ada.name, ada.scopes, ada.sessions) == ("ada", {"watch"}, ("team-*",))
    assert (bob.name, bob.may("approve"), bob.may("watch")) == ("bob", True, False)
    assert authenticator.authenticate("hand-made").name == "local"
    assert refuses(authenticator, TOKEN[:-1])
    assert refuses(authenticator, digest(TOKEN))


def test_a_short_token_never_counts_whatever_digest_was_configured() -> None:
    """It could be guessed."""
    assert refuses(knowing(given(token="short")), "short")


def test_a_token_ends_when_it_says() -> None:
    """To the second."""
    clock = FixedClock()
    ends = datetime.fromtimestamp(int(clock.at) + 10, UTC)
    authenticator = knowing(given(expires_at=ends), clock=clock)
    who = authenticator.authenticate(TOKEN)
    assert authenticator.counts(who)
    clock.at = ends.timestamp()
    assert refuses(authenticator, TOKEN)
    assert not authenticator.counts(who)


def test_two_tokens_of_one_name_are_told_apart() -> None:
    """One replaces the other; taking back the old one leaves the new one."""
    authenticator = knowing(given(token=TOKEN), given(token=OTHER))
    old, new = authenticator.authenticate(TOKEN), authenticator.authenticate(OTHER)
    assert old.name == new.name
    assert old != new
    assert old.account != new.account
    authenticator.replace(AuthConfig.model_validate({"tokens": [given(token=OTHER)]}))
    assert (authenticator.counts(old), authenticator.counts(new)) == (False, True)
    assert authenticator.counts(authenticator.authenticate("hand-made"))


def test_a_token_whose_rights_were_changed_is_another() -> None:
    """Who is connected by it must come again, with the rights it has now."""
    authenticator = knowing(given())
    who = authenticator.authenticate(TOKEN)
    authenticator.replace(AuthConfig.model_validate({"tokens": [given(sessions=["a"])]}))
    assert not authenticator.counts(who)


def test_a_configuration_that_cannot_be_used_leaves_the_one_there_is(tmp_path: Path) -> None:
    """A bridge does not forget who may come in because somebody mistyped a path."""
    authenticator = knowing(given(), jwt={"secret": SECRET})
    with pytest.raises(SetupError):
        authenticator.replace(AuthConfig(jwt=JwtConfig(public_key=tmp_path / "none")))
    assert authenticator.authenticate(TOKEN)
    assert authenticator.authenticate(minted())


def test_a_jwt_is_a_principal_like_any_other() -> None:
    """Others' scopes beside ours are passed over; its limits are its name's, its connections its own."""
    authenticator = knowing(jwt={"secret": SECRET})
    who = authenticator.authenticate(minted(scopes="openid watch"))
    later = authenticator.authenticate(minted(scopes="openid watch", exp=4_000_000_001))
    assert (who.name, who.scopes, who.sessions) == ("ada", {"watch"}, ("*",))
    assert who.account == later.account
    assert who != later
    assert who.account != knowing(given()).authenticate(TOKEN).account
    authenticator.replace(AuthConfig(jwt=JwtConfig(secret=SECRET[::-1])))
    assert not authenticator.counts(who)
    assert refuses(knowing(), minted())


def test_an_address_may_show_so_many_wrong_tokens_a_minute() -> None:
    """Then it is told to wait. One that could be guessed is not even compared then, a long one is let in."""
    clock = FixedClock()
    authenticator = knowing(given(), clock=clock, failures_per_minute=3)
    for _ in range(3):
        assert refuses(authenticator, "wrong", "192.0.2.1")
    with pytest.raises(RateLimited) as refused:
        authenticator.authenticate("wrong", "192.0.2.1")
    assert refused.value.details["retry_after_s"] == pytest.approx(20, abs=0.01)
    with pytest.raises(RateLimited):
        authenticator.authenticate("hand-made", "192.0.2.1")
    assert authenticator.authenticate(TOKEN, "192.0.2.1").name == "ada"
    assert authenticator.authenticate("hand-made", "192.0.2.2").name == "local"
    assert refuses(authenticator, "wrong", "192.0.2.2")
    clock.at += 20
    assert authenticator.authenticate("hand-made", "192.0.2.1").name == "local"


# --- who is connected ----------------------------------------------------------------------------


class Timers:
    """As the loop's `call_later`, by hand."""

    def __init__(self) -> None:
        self.waiting: list[tuple[float, Callable[[], None]]] = []

    def later(self, delay: float, call: Callable[[], None]) -> Any:
        entry = (delay, call)
        self.waiting.append(entry)
        waiting = self.waiting

        class Timer:
            def cancel(self) -> None:
                waiting.remove(entry)

        return Timer()

    def fire(self) -> None:
        self.waiting.pop(0)[1]()


def test_a_connection_ends_when_its_token_does() -> None:
    """All of that token's, once, and nobody else's."""
    clock, timers = FixedClock(100.0), Timers()
    connections = Connections(clock, timers.later)
    ada = Principal("ada", ADMIN, expires_at=160.0)
    ended: list[str] = []
    for name in ("one", "two"):
        connections.opened(ada, lambda name=name: ended.append(name))
    connections.opened(Principal("ada", ADMIN), lambda: ended.append("other"))
    assert [delay for delay, _ in timers.waiting] == [60.0]
    clock.at = 160.0
    timers.fire()
    assert ended == ["one", "two"]
    connections.end(ada)
    assert ended == ["one", "two"]


def test_a_clock_that_was_set_back_ends_nothing_too_early() -> None:
    """The timer looks again; what lies far ahead is looked at each hour."""
    clock, timers = FixedClock(100.0), Timers()
    connections = Connections(clock, timers.later)
    ended: list[int] = []
    closed = connections.opened(Principal("ada", ADMIN, expires_at=1e6), lambda: ended.append(1))
    assert [delay for delay, _ in timers.waiting] == [LOOK_AGAIN_S]
    timers.fire()
    assert (ended, len(timers.waiting)) == ([], 1)
    closed()
    assert timers.waiting == []


def test_connections_are_counted_by_transport_until_they_are_gone() -> None:
    """Also one that was ended counts until its client has left, and none counts twice."""
    connections = Connections(FixedClock(), Timers().later)
    ada = Principal("ada", ADMIN)
    closed = [connections.opened(ada, lambda: None, way) for way in ("websocket", "websocket", "sse")]
    assert connections.open == {"websocket": 2, "sse": 1}
    connections.end(ada)
    assert connections.open.total() == 3
    for gone in (closed[0], closed[0], closed[2]):
        gone()
    assert connections.open == {"websocket": 1}


def test_who_does_not_count_any_more_is_ended() -> None:
    """How many that were is said, for the log."""
    connections = Connections(FixedClock(), Timers().later)
    ended: list[str] = []
    for name in ("ada", "ada", "bob"):
        connections.opened(Principal(name, ADMIN), lambda name=name: ended.append(name))
    assert connections.end_unless(lambda who: who.name != "ada") == 2
    assert ended == ["ada", "ada"]
    assert connections.end_unless(lambda who: who.name != "ada") == 0
