"""The account tells each way in which a promise can be broken, and forgives what a kill explains."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from bridge.cli import DrillFault
from bridge.drill.account import Figures, Seen, judge
from bridge.drill.prompts import Prompt
from bridge.drill.run import FAULTS, Plan
from bridge.drill.show import result

Json = dict[str, Any]

BEGUN, ENDED = "2026-11-28T10:00:00.000Z", "2026-11-28T10:00:10.000Z"
MIDDLE = datetime.fromisoformat(BEGUN).timestamp() + 5
"""Five seconds into each turn."""


def prompt(number: int, kind: str = "plain") -> Prompt:
    return Prompt(f"k{number};", f"k{number}; hello", f"answer {number}", kind, f"t{number}", asked=1)


def turn(number: int, **more: Any) -> Json:
    made = prompt(number)
    told = {"id": made.turn, "key": made.key, "prompt": made.text, "status": "completed", "text": made.answer}
    return {**told, "queued_at": BEGUN, "started_at": BEGUN, "finished_at": ENDED, **more}


def seen(*prompts: Prompt, **more: Any) -> Seen:
    asked = {p.key: 1 for p in prompts}
    return replace(Seen("s", "headless", [list(prompts)], asked, {}, []), **more)


def judged(what: Seen, *turns: Json) -> Figures:
    figures = Figures()
    judge(what, turns, figures)
    return figures


def kinds(figures: Figures) -> list[str]:
    return sorted({b.kind for b in figures.broken})


def test_all_is_well() -> None:
    figures = judged(seen(prompt(1), prompt(2, "tool"), ran={"k2;": 1}), turn(1), turn(2))
    assert figures.broken == []
    assert (figures.accepted, figures.answered, figures.submits, figures.tools) == (2, 2, 2, 1)


@pytest.mark.parametrize(
    ("what", "turns", "expected"),
    [
        (seen(prompt(1)), [], ["lost"]),
        (seen(prompt(1)), [turn(1), turn(1)], ["duplicated"]),
        (seen(prompt(1)), [turn(1), turn(2)], ["duplicated"]),
        (seen(prompt(1), prompt(2)), [turn(2), turn(1)], ["out of order"]),
        (seen(prompt(1)), [turn(1, text="another")], ["wrong"]),
        (seen(prompt(1)), [turn(1, prompt="another")], ["wrong"]),
        (seen(prompt(1)), [turn(1, status="failed")], ["lost"]),
        (seen(prompt(1)), [turn(1, status="interrupted")], ["lost"]),
        (seen(prompt(1), asked={}), [turn(1)], ["lost"]),
        (seen(prompt(1), asked={"k1;": 2}), [turn(1)], ["duplicated"]),
        (seen(prompt(1, "tool"), ran={}), [turn(1)], ["lost"]),
        (seen(prompt(1, "tool"), ran={"k1;": 2}), [turn(1)], ["duplicated", "lost"]),
        (seen(prompt(1)), [turn(1, status="unknown", text="")], ["lost"]),
        (seen(prompt(1), kills=[MIDDLE]), [turn(1, status="unknown", text="no part")], ["wrong"]),
        (seen(prompt(1), kills=[MIDDLE], asked={"k1;": 3}), [turn(1)], ["duplicated"]),
        (seen(prompt(1), kills=[MIDDLE + 60]), [turn(1, status="unknown", text="")], ["lost"]),
    ],
)
def test_what_is_broken_is_told(what: Seen, turns: list[Json], expected: list[str]) -> None:
    assert kinds(judged(what, *turns)) == expected


def test_a_kill_explains_an_unknown_turn_and_a_second_try() -> None:
    killed = seen(prompt(1), prompt(2), kills=[MIDDLE], asked={"k1;": 1, "k2;": 2})
    figures = judged(killed, turn(1, status="unknown", text="answ"), turn(2))
    assert figures.broken == []
    assert (figures.unknown, figures.answered, figures.asked_again) == (1, 1, 1)


def test_an_answer_without_a_process_is_cut_off_with_the_bridge_and_counted_apart() -> None:
    """No other backend's is."""
    cut = turn(1, status="interrupted", text="answ", error={"code": "bridge_restarted"})
    figures = judged(seen(prompt(1), backend="api", kills=[MIDDLE]), cut)
    assert (figures.broken, figures.interrupted, figures.unknown) == ([], 1, 0)
    assert "lost" in kinds(judged(seen(prompt(1), backend="api"), cut))
    assert kinds(judged(seen(prompt(1), kills=[MIDDLE]), cut)) == ["lost"]


def test_a_prompt_that_the_terminal_swallowed_is_unknown_and_counted_apart() -> None:
    """Between typed and seen nobody can tell; a headless session has no such gap."""
    lost = turn(1, status="unknown", text="", error={"code": "prompt_lost"})
    typed = judged(seen(prompt(1), backend="tmux", asked={}), lost)
    assert (typed.broken, typed.unknown, typed.unknown_unseen) == ([], 1, 1)
    assert kinds(judged(seen(prompt(1), asked={}), lost)) == ["lost"]


def test_each_client_has_its_own_order() -> None:
    """Two clients' prompts may mix; each one's own may not."""
    mixed = [turn(1), turn(3), turn(2)]
    two = seen(
        prompt(1), clients=[[prompt(1), prompt(2)], [prompt(3)]], asked={f"k{n};": 1 for n in (1, 2, 3)}
    )
    assert judged(two, *mixed).broken == []
    one = seen(prompt(1), prompt(2), prompt(3))
    assert kinds(judged(one, *mixed)) == ["out of order"]


def test_a_prompt_that_was_never_accepted_is_not_lost() -> None:
    """Its client goes on until it is; nothing was promised before."""
    figures = judged(seen(prompt(1), replace(prompt(2), turn=None)), turn(1))
    assert (figures.broken, figures.accepted) == ([], 1)


def test_the_command_offers_the_faults_that_there_are() -> None:
    assert tuple(f.value for f in DrillFault) == FAULTS


def test_a_script_is_told_what_was_broken() -> None:
    told = result(Plan(seed=5, rounds=1, sessions=1), judged(seen(prompt(1), prompt(2)), turn(1)))
    assert (told["ok"], told["seed"], told["lost"], told["duplicated"]) == (False, 5, 1, 0)
    assert told["broken"][0]["kind"] == "lost"
