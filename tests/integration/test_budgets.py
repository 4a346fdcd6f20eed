"""Budgets over the real bridge, CLI and simulator: what is refused, what is counted, what stays."""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.bridge import BridgeProcess, running_bridge, sim

pytestmark = pytest.mark.real

Json = dict[str, Any]
ROOM = 10


@pytest.fixture
def bridge(tmp_path: Path) -> Iterator[BridgeProcess]:
    budgets = [
        {"name": "few", "per": "token", "tokens": ROOM * 1000, "reserve_tokens": 1000},
        {"name": "house", "per": "bridge", "window": "month", "cost_usd": 1000},
    ]
    with running_bridge(tmp_path, CLAUDE_BRIDGE_BUDGETS=json.dumps(budgets)) as running:
        yield running


def asked(bridge: BridgeProcess, method: str, path: str, body: Json | None = None) -> tuple[int, Json]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{bridge.port}/api{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"authorization": f"Bearer {bridge.token}", "content-type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as e:
        return e.code, json.load(e)


def spending(bridge: BridgeProcess) -> tuple[int, int]:
    """Turns and tokens, over all days."""
    _, said = asked(bridge, "GET", "/spending")
    rows = said["spending"]
    return sum(row["turns"] for row in rows), sum(sum(row["usage"].values()) for row in rows)


def test_many_prompts_at_once_find_no_more_room_than_there_is(bridge: BridgeProcess) -> None:
    """50 of one token, over five sessions, while none has finished: ten are taken, and these run. What was
    accepted is answered again under its id, and counted once, also over a kill of the bridge."""
    names = [f"s{n}" for n in range(5)]
    for name in names:
        assert asked(bridge, "POST", "/sessions", {"name": name})[0] == 201
    prompts = [
        (names[n % 5], {"prompt": f"no {n} {sim(words=5, first_ms=3000)}", "id": f"k{n}"}) for n in range(50)
    ]
    with ThreadPoolExecutor(50) as pool:
        said = list(pool.map(lambda p: asked(bridge, "POST", f"/sessions/{p[0]}/turns", p[1]), prompts))
    taken = [(prompt, turn) for prompt, (status, turn) in zip(prompts, said, strict=True) if status == 202]
    refused = [error for status, error in said if status == 402]
    assert (len(taken), len(refused)) == (ROOM, 40)
    error = refused[0]
    assert (error["reason"], error["budget"], error["per"], error["of"]) == (
        "budget_exceeded",
        "few",
        "token",
        "local",
    )
    assert (error["limit_tokens"], error["limit_usd"], error["under_way"]) == (ROOM * 1000, None, ROOM)
    assert error["until"].endswith("T00:00:00.000Z")
    (name, prompt), turn = taken[0]
    again = asked(bridge, "POST", f"/sessions/{name}/turns", prompt)
    assert (again[0], again[1]["id"], again[1]["duplicate"]) == (202, turn["id"], True)
    bridge.kill()
    bridge.start()
    assert asked(bridge, "POST", f"/sessions/{name}/turns", {"prompt": "one more"})[0] == 402
    ended = [asked(bridge, "GET", f"/sessions/{p[0]}/turns/{t['id']}?wait=60")[1] for p, t in taken]
    assert [t["status"] for t in ended] == ["completed"] * ROOM
    tokens = sum(sum(t["usage"].values()) for t in ended)
    assert spending(bridge) == (ROOM, tokens)
    assert tokens > ROOM * 1000
    assert asked(bridge, "POST", f"/sessions/{name}/turns", {"prompt": "one more"})[0] == 402
    bridge.kill()
    bridge.start()
    assert spending(bridge) == (ROOM, tokens)
    assert asked(bridge, "DELETE", f"/sessions/{name}")[0] == 200
    assert spending(bridge) == (ROOM, tokens)


def test_budgets_are_read_again_and_told(tmp_path: Path) -> None:
    """At SIGHUP; the session shows the one that applies, and what was spent before counts."""
    with running_bridge(tmp_path) as bridge:
        assert asked(bridge, "POST", "/sessions", {"name": "one"})[0] == 201
        status, turn = asked(bridge, "POST", "/sessions/one/turns?wait=60", {"prompt": "hello"})
        assert (status, turn["status"]) == (200, "completed")
        assert "budget" not in asked(bridge, "GET", "/sessions/one")[1]["session"]
        (bridge.state_dir / "config.toml").write_text(
            "[[budgets]]\nname = 'mine'\nper = 'session'\ntokens = 10\n"
        )
        os.kill(json.loads((bridge.state_dir / "bridge.json").read_bytes())["pid"], signal.SIGHUP)
        deadline = time.monotonic() + 30
        while "budget" not in (now := asked(bridge, "GET", "/sessions/one")[1]["session"]):
            assert time.monotonic() < deadline, "it was not read again"
        budget = now["budget"]
        assert (budget["name"], budget["of"], budget["state"]) == ("mine", "one", "exceeded")
        assert budget["spent_tokens"] == sum(turn["usage"].values())
        assert asked(bridge, "POST", "/sessions/one/turns", {"prompt": "more"})[0] == 402
        said = json.loads(bridge.run("spending", "--json").stdout)
        assert [(row["author"], row["session"], row["turns"]) for row in said["spending"]] == [
            ("local", "one", 1)
        ]
        assert "Budget mine (session one) is exceeded" in bridge.run("spending").stdout
