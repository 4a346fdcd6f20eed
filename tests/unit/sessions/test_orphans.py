"""What runs and is on no record, where tmux cannot always say what runs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from bridge.clock import SystemClock
from bridge.config import SessionConfig
from bridge.errors import TmuxError
from bridge.events import SessionName
from bridge.sessions.adoption import Adopting, Sidecars, Stray
from bridge.sessions.registry import Registry
from bridge.supervision import Supervisor


async def test_an_orphan_is_not_forgotten_where_tmux_cannot_be_asked(tmp_path: Path) -> None:
    """It is shown as it was seen last: who wants its name must not end it unawares."""
    stray = Stray(SessionName("orphan"), 1, 4321, "tmux attach", "tmux kill-session")
    answers: list[Any] = [[stray], TmuxError("no answer"), []]

    async def look() -> list[Stray]:
        answer = answers.pop(0)
        if isinstance(answer, TmuxError):
            raise answer
        return list(answer)

    registry = Registry(
        SimpleNamespace(watch=lambda changed: None, load=_nothing, spent=_nothing),  # type: ignore[arg-type]
        {},
        lambda name: None,  # type: ignore[arg-type, return-value]
        lambda name: None,
        Supervisor("sessions"),
        SystemClock(),
        SessionConfig(),
        "node",
        Adopting(Sidecars(tmp_path), look),
    )
    await registry.load()
    assert await registry.orphans() == [stray]
    assert await registry.orphans() == []


async def _nothing(*_: object) -> list[Any]:
    return []
