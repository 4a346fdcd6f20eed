"""What `/metrics` counts, and for whom."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import aiohttp

from bridge.auth import ADMIN, Principal
from bridge.commands import NameSession, StartSession
from bridge.config import AuthConfig
from bridge.service import Figures
from bridge.transports.metrics import _lines
from tests.wire.test_authorization import Holder, Phoenix, serving

OWNER = Principal("owner", ADMIN)
WATCHER = Holder(frozenset({"watch"}), ("*",))
ASKER = Holder(frozenset({"watch", "prompt"}), ("other", "mine-*", "pool:mine-*"))


async def test_it_counts_what_there_is_and_what_was_refused(tmp_path: Path) -> None:
    """Each family with its type; every state of a session is there from the start."""
    async with serving(tmp_path) as bridge, aiohttp.ClientSession() as session:
        service = bridge.service
        for name in ("mine-one", "mine-two", "hidden"):
            await service.start(OWNER, StartSession(name=name))
        await service.stop(OWNER, NameSession(name="mine-two"))
        service.admit(AuthConfig(submits_per_minute=1))

        async def asked(token: str | None) -> tuple[int, list[str]]:
            headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
            async with session.get(f"{bridge.base}/metrics", headers=headers) as answer:
                return answer.status, (await answer.text()).splitlines()

        async with Phoenix.by_websocket(bridge, ASKER.token) as driver:
            topic = "session:mine-one"
            said = [await driver.ask(topic, "submit", {"prompt": "hello"}) for _ in range(2)]
            assert said == ["ok", "rate_limited"]
            assert (await asked("wrong"))[0] == 401
            assert (await asked(None))[0] == 401
            status, lines = await asked(WATCHER.token)
        assert status == 200
        assert {
            "# TYPE claude_bridge_connections gauge",
            'claude_bridge_connections{transport="websocket"} 1',
            'claude_bridge_sessions{state="stopped"} 1',
            'claude_bridge_sessions{state="failed"} 0',
            "claude_bridge_turns 1",
            'claude_bridge_rate_limited_total{what="submit"} 1',
            'claude_bridge_rate_limited_total{what="join"} 0',
            "claude_bridge_unauthorized_total 2",
        } <= set(lines)
        published = next(line for line in lines if line.startswith("claude_bridge_events_published_total"))
        assert int(published.split()[1]) > 5
        sessions = [int(line.split()[1]) for line in lines if line.startswith("claude_bridge_sessions")]
        seen = [
            int(line.split()[1])
            for line in (await asked(ASKER.token))[1]
            if line.startswith("claude_bridge_sessions")
        ]
        assert (sum(sessions), sum(seen)) == (3, 2)


async def test_it_needs_the_scope_watch(tmp_path: Path) -> None:
    """And says so, as any refusal does."""
    async with serving(tmp_path) as bridge, aiohttp.ClientSession() as session:
        token = Holder(frozenset({"prompt"}), ("*",)).token
        async with session.get(
            f"{bridge.base}/metrics", headers={"Authorization": f"Bearer {token}"}
        ) as answer:
            assert (answer.status, (await answer.json())["scope"]) == (403, "watch")


def test_spares_are_counted_where_they_are_kept() -> None:
    """And only there: a bridge without them says nothing of them."""
    none = Figures({}, {}, 0, 0, {}, 0, 0.0, 0, {})
    said = {"ready": 2, "starting": 1, "memory_bytes": 3e8, "taken": 5, "missed": 4, "claims_s": 0.25}
    assert "spares" not in "".join(_lines(none))
    assert {
        'claude_bridge_spares{state="ready"} 2',
        'claude_bridge_spares{state="starting"} 1',
        "claude_bridge_spares_memory_bytes 300000000.0",
        "claude_bridge_spares_taken_total 5",
        "claude_bridge_spares_missed_total 4",
        "claude_bridge_spares_claim_seconds_sum 0.25",
        "claude_bridge_spares_claim_seconds_count 5",
    } <= set("".join(_lines(replace(none, spares=said))).splitlines())
