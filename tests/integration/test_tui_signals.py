"""Each sign of what the real TUI does is taken away in turn: turns end rightly all the same, and once.

The simulator's record judges whether a prompt was typed twice.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from bridge.events import ToolBlock
from bridge.sessions.backends import tui_link
from bridge.sessions.claude import tui
from tests.fakes.simulator import RunningSimulator
from tests.fakes.tui_rig import TuiRig, sim

pytestmark = pytest.mark.real


@pytest.fixture
async def rig(tmp_path: Path, simulator: RunningSimulator, claude_path: Path) -> AsyncIterator[TuiRig]:
    rig = TuiRig(tmp_path / "rig", simulator, claude_path)
    async with rig.bridge():
        await rig.start(allowed_tools=["Bash(echo *)"])
        yield rig
    await rig.close()


Turn = Callable[[TuiRig], Awaitable[None]]


async def text(rig: TuiRig) -> None:
    turn = await rig.ask("text " + sim(text="One.\nTwo."))
    assert (turn.status, turn.text) == ("completed", "One.\nTwo.")


async def tool(rig: TuiRig) -> None:
    turn = await rig.ask("tool " + sim(text="Ran.", tools=[["Bash", {"command": "echo ran"}]]))
    assert (turn.status, turn.text) == ("completed", "Ran.")


async def refused(rig: TuiRig) -> None:
    turn = await rig.ask("refused " + sim(status=400))
    assert turn.status == "failed"
    assert turn.error is not None
    assert turn.error.code == "invalid_request"


async def answering(rig: TuiRig, word: str) -> str:
    """A turn whose answer is on its way."""
    turn = await rig.submit(f"{word} " + sim(words=3000, gap_ms=10))
    await rig.until(lambda: rig.typed(f"{word} Please"))
    await rig.until_shown(" w15 ")
    return turn


async def escape(rig: TuiRig) -> None:
    """As a person does it: once more where it was lost, because the bridge looked into the box just then."""
    while True:
        await rig.press("Escape")
        for _ in range(40):
            if "esc to interrupt" not in await rig.screen():
                return
            await asyncio.sleep(0.05)


async def escaped(rig: TuiRig) -> None:
    turn = await answering(rig, "escaped")
    await escape(rig)
    assert (await rig.finished(turn)).status == "interrupted"


async def interrupted(rig: TuiRig) -> None:
    turn = await answering(rig, "interrupted")
    await rig.interrupt()
    assert (await rig.finished(turn)).status == "interrupted"


TURNS: tuple[Turn, ...] = (text, tool, escaped, interrupted, refused)


async def all_turns(rig: TuiRig, before: Callable[[], Any] = lambda: None) -> None:
    """Each kind of turn, one after the other, and one more: every prompt was typed once."""
    for kind in TURNS:
        before()
        await kind(rig)
    after = await rig.ask("after " + sim(text="Well."))
    assert (after.status, after.text) == ("completed", "Well.")
    for word in [kind.__name__ for kind in TURNS] + ["after"]:
        assert rig.typed(f"{word} Please") == 1, word
    assert [t.source for t in await rig.turns()] == ["client"] * 6
    await rig.until_state("idle")


@pytest.mark.soak
async def test_all_signs_there(rig: TuiRig) -> None:
    """What the others are measured by."""
    await all_turns(rig)
    blocks = (await rig.turns())[1].blocks
    assert [b.output for b in blocks if isinstance(b, ToolBlock)] == ["ran"]


async def test_hooks_that_nobody_hears(rig: TuiRig) -> None:
    """The listener is gone: the status file and the transcript tell."""
    await rig.hooks_down()
    await all_turns(rig)
    blocks = (await rig.turns())[1].blocks
    assert [b.output for b in blocks if isinstance(b, ToolBlock)] == ["ran"]


@pytest.mark.soak
async def test_hooks_that_fail(rig: TuiRig) -> None:
    rig.hooks.spoil = lambda: "500"
    await all_turns(rig)


async def test_hooks_that_are_lost_from_the_middle_of_a_turn_on(rig: TuiRig) -> None:
    heard = 0

    def spoil() -> str | None:
        nonlocal heard
        heard += 1
        return "lost" if heard > 2 else None

    def begin() -> None:
        nonlocal heard
        heard = 0

    rig.hooks.spoil = spoil
    await all_turns(rig, begin)


@pytest.mark.soak
async def test_hooks_that_are_late(rig: TuiRig) -> None:
    """The first by more than an acknowledgement is waited for; meanwhile the status says busy."""
    delays = iter([6.2])
    rig.hooks.spoil = lambda: next(delays, 0.7)
    turn = await rig.ask("late " + sim(text="Late."))
    assert (turn.status, turn.text) == ("completed", "Late.")
    after = await rig.ask("after " + sim(text="Well."))
    assert (after.status, after.text) == ("completed", "Well.")
    assert (rig.typed("late Please"), rig.typed("after Please")) == (1, 1)
    assert len(await rig.turns()) == 2
    await rig.until_state("idle")


async def test_no_status_file(rig: TuiRig) -> None:
    """Deleted, it is not written again."""
    rig.status_file.unlink()
    await all_turns(rig)


@pytest.mark.parametrize("by", ["Escape", pytest.param("interrupt", marks=pytest.mark.soak)])
async def test_an_escape_before_the_first_word_without_a_status_file(rig: TuiRig, by: str) -> None:
    """Nothing else tells of it but that the prompt is in the box again."""
    rig.status_file.unlink()
    turn = await rig.submit("early " + sim(text="Never said.", first_ms=60_000))
    await rig.until(lambda: rig.simulator.requests() != [])
    await rig.until_shown("esc to interrupt")
    if by == "Escape":
        await escape(rig)
    else:
        await rig.interrupt()
    assert (await rig.finished(turn)).status == "interrupted"
    after = await rig.ask("after " + sim(text="Well."))
    assert (after.status, after.text) == ("completed", "Well.")


@pytest.mark.soak
async def test_neither_hooks_nor_a_status_file(rig: TuiRig) -> None:
    """The transcript alone."""
    rig.status_file.unlink()
    await rig.hooks_down()
    await text(rig)
    await tool(rig)
    await escaped(rig)
    await text(rig)


@pytest.mark.soak
async def test_a_transcript_that_cannot_be_read_for_a_while(
    rig: TuiRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found a second late in each turn: what hooks said stands in for it, and nothing is said twice."""
    loop = asyncio.get_running_loop()
    found = tui_link.TuiLink._find

    def lose() -> None:
        link = rig.backend._link
        assert link is not None
        if link._tail is not None:
            link._tail.close()
            link._tail = None
        monkeypatch.setattr(tui_link.TuiLink, "_find", lambda self: None)
        loop.call_later(1.5, monkeypatch.setattr, tui_link.TuiLink, "_find", found)

    await all_turns(rig, lose)


async def test_what_decided_is_told(rig: TuiRig) -> None:
    """`evidence` names the sign by which a state is known."""
    await text(rig)
    assert rig.states[-1][0] == "idle"
    assert rig.states[-1][1] in ("transcript", "hook:Stop")
    await rig.hooks_down()
    await answering_then_escape(rig)
    assert rig.states[-1][0] == "idle"
    assert rig.states[-1][1] in ("transcript", "status_file")


async def answering_then_escape(rig: TuiRig) -> None:
    turn = await answering(rig, "once")
    await escape(rig)
    await rig.finished(turn)


async def test_signs_at_odds_are_told_and_the_session_is_well_when_they_agree(
    rig: TuiRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody, or a defect, leaves a status that says busy where no turn is to be seen."""
    monkeypatch.setattr(tui, "DISAGREE_S", 0.5)
    file = rig.status_file
    honest = json.loads(file.read_bytes())
    forged = json.dumps({**honest, "status": "busy"})

    def is_taken_for_true() -> bool:
        if file.read_text() != forged:
            file.write_text(forged)  # some 0.2 s after its start the CLI adds the session's name
        return rig.session.state == "unknown"

    await rig.until(is_taken_for_true)
    session = rig.session
    assert session.reason is not None
    assert "busy" in session.reason
    turn = await rig.submit("meanwhile " + sim(text="Done."))
    file.write_text(json.dumps(honest))
    assert (await rig.finished(turn)).status == "completed"
    assert (await rig.until_state("idle")).reason is None
    assert rig.typed("meanwhile Please") == 1
