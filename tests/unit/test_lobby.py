"""The lobby of a limited token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bridge import lobby as lobbies
from bridge.auth import ADMIN, Principal
from bridge.config import HubConfig
from bridge.events import Epoch, Event, SessionChanged, SessionDeleted, SessionName
from bridge.hub import Hub, Subscription
from bridge.lobby import Lobby
from tests.fakes.service import a_session


class Visitor:
    """Pulls at once; keeps what it was told, as names."""

    format = "names"

    def __init__(self) -> None:
        self.told: list[str] = []
        self._woken: list[Subscription] = []

    def wake(self, subscription: Subscription) -> None:
        self._woken.append(subscription)

    def flush(self) -> None:
        for subscription in self._woken:
            self.told += subscription.pull(1 << 20).decode().split()
        self._woken.clear()

    def offer(self, data: bytes) -> bool:
        return False

    def overflowed(self, subscription: Subscription) -> None:
        raise AssertionError("lagged")


class Rig:
    def __init__(self) -> None:
        self.encoded: list[str] = []
        self._ticks: list[Callable[[], None]] = []
        self.hub = Hub({"names": self._encode}, HubConfig(), self._ticks.append, Epoch("e"))
        self.lobby = Lobby(self.hub)

    def _encode(self, topic: str, epoch: Epoch, first: int, seq: int, at: float, event: Event) -> bytes:
        assert (topic, first, seq) == ("sessions", 0, 0)
        said = event.session.name if isinstance(event, SessionChanged) else f"-{event.name}"  # type: ignore[union-attr]
        self.encoded.append(said)
        return f"{said} ".encode()

    def join(self, *patterns: str) -> tuple[Visitor, Subscription]:
        visitor = Visitor()
        subscription = self.lobby.subscribe(Principal("x", ADMIN, patterns), visitor)
        subscription.pull(1)
        return visitor, subscription

    def tell(self, *names: str) -> None:
        for name in names:
            event: Any = SessionChanged(a_session(name))
            if name.startswith("-"):
                event = SessionDeleted(SessionName(name[1:]))
            self.lobby.publish(0.0, event)
        while self._ticks:
            self._ticks.pop(0)()


def test_each_is_told_what_its_token_covers_and_no_more() -> None:
    """Of changes and of deletions; the unlimited of everything."""
    rig = Rig()
    everyone, team, one, nobody = (rig.join(*p)[0] for p in (["*"], ["team-*", "x"], ["solo"], []))
    rig.tell("team-1", "solo", "other", "-team-1", "x", "-x")
    assert everyone.told == ["team-1", "solo", "other", "-team-1", "x", "-x"]
    assert team.told == ["team-1", "-team-1", "x", "-x"]
    assert one.told == ["solo"]
    assert nobody.told == []


def test_those_with_the_same_patterns_share_what_is_encoded() -> None:
    """Once for the lobby, once for all of them; in whatever order a token lists them."""
    rig = Rig()
    visitors = [rig.join(*patterns)[0] for patterns in (["a*", "b"], ["b", "a*"], ["a*", "b", "b"])]
    rig.join("*")
    rig.tell("a1")
    assert rig.encoded == ["a1", "a1"]
    assert [v.told for v in visitors] == [["a1"]] * 3


def test_the_unlimited_pay_nothing_when_nobody_is_limited() -> None:
    """Not even a comparison."""
    rig = Rig()
    rig.join("*")
    rig.tell("a")
    assert (rig.encoded, rig.lobby._concerned) == (["a"], {})


def test_who_comes_later_is_told_from_then_on(monkeypatch: Any) -> None:
    """Also of sessions that were compared before there was such a token; who has left costs nothing."""
    monkeypatch.setattr(lobbies, "SWEPT_AT", 2)
    rig = Rig()
    first, left = rig.join("a*")
    rig.tell("a1")
    later, _ = rig.join("*1")
    rig.tell("a1")
    left.close()
    rig.tell("a1")
    assert (first.told, later.told) == (["a1", "a1"], ["a1", "a1"])
    for n in range(10):
        rig.join(f"p{n}")[1].close()
    assert len(rig.lobby._parts) <= 5
    rig.tell("a1", "p9")
    assert later.told[-1] == "a1"
