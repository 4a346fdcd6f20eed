"""The account of a drill: what became of every prompt, given what was killed and when. Pure.

`judge` takes one session's history and what its model and its tools were seen to have been asked, and says
what is wrong with it. Nothing is forgiven by default: only a kill explains a turn that was cut off, or a
prompt that was asked for twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from bridge.drill.prompts import Prompt

Json = dict[str, Any]
Kind = Literal["lost", "duplicated", "out of order", "wrong"]

SAME_MOMENT_S = 0.25
"""Between a kill and what the bridge wrote down of that moment, on one machine's clock."""


class Broken(Exception):
    """A promise that was not kept."""

    def __init__(self, kind: Kind, what: str) -> None:
        super().__init__(f"{kind}: {what}")
        self.kind = kind


Complain = Callable[[Broken], None]


def insist(broken: Broken) -> None:
    """The strictest way to take it."""
    raise broken


@dataclass
class Figures:
    """What was counted. Times in seconds."""

    submits: int = 0
    """Prompts sent, those sent again included."""
    accepted: int = 0
    answered: int = 0
    answered_by: Counter[str] = field(default_factory=Counter)
    """The same, by backend."""
    interrupted: int = 0
    """Cut off in the middle of their answer with the bridge itself, where that has no process to go on."""
    unknown: int = 0
    unknown_unseen: int = 0
    """Of these, typed into a terminal and never acknowledged by Claude."""
    asked_again: int = 0
    """Answered by a second try: their first process was killed before Claude had begun."""
    tools: int = 0
    joins: int = 0
    events: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    recovered_s: dict[str, list[float]] = field(default_factory=dict)
    """From each kill to the moment at which every client was back and every session ready or at work."""
    broken: list[Broken] = field(default_factory=list)

    def count(self, kind: Kind) -> int:
        return sum(b.kind == kind for b in self.broken)


@dataclass(frozen=True)
class Seen:
    """One session as its surroundings saw it."""

    name: str
    backend: str
    clients: Sequence[Sequence[Prompt]]
    """What each client submitted, in its order."""
    asked: Mapping[str, int]
    """How often the model was asked, by the prompt's key."""
    ran: Mapping[str, int]
    """How often its tool ran, by the prompt's key."""
    kills: Sequence[float]
    """When its process was killed, or the bridge where it has none, in seconds since 1970."""


def judge(seen: Seen, turns: Sequence[Json], figures: Figures) -> None:
    """`turns` is the whole history, oldest first; problems and counts go to `figures`."""
    prompts = {p.turn: p for made in seen.clients for p in made if p.turn is not None}
    _judge_history(seen, turns, prompts, figures.broken.append)
    for turn in turns:
        prompt = prompts.get(turn["id"])
        if prompt is not None:
            _judge_turn(seen, turn, prompt, figures)
    figures.accepted += len(prompts)
    figures.submits += sum(p.asked for p in prompts.values())


def _judge_history(
    seen: Seen, turns: Sequence[Json], prompts: Mapping[str, Prompt], complain: Complain
) -> None:
    ids = [t["id"] for t in turns]
    for turn, times in Counter(ids).items():
        if times > 1:
            complain(Broken("duplicated", f"{seen.name}: turn {turn} stands {times} times in the history"))
    for prompt in prompts.values():
        if prompt.turn not in ids:
            complain(Broken("lost", f"{seen.name}: {prompt.key} was accepted and is not in the history"))
    for turn in turns:
        if turn["id"] not in prompts:
            complain(Broken("duplicated", f"{seen.name}: a turn that nobody asked for: {turn}"))
    for made in seen.clients:
        own = [p.turn for p in made if p.turn in ids]
        told = [t for t in dict.fromkeys(ids) if t in own]
        if told != own:
            complain(Broken("out of order", f"{seen.name}: accepted {own}, ran {told}"))


def _judge_turn(seen: Seen, turn: Json, prompt: Prompt, figures: Figures) -> None:
    asked, ran = seen.asked.get(prompt.key, 0), seen.ran.get(prompt.key, 0)
    kills = _kills_during(turn, seen.kills)
    status, code = turn["status"], (turn.get("error") or {}).get("code")
    unseen = seen.backend == "tmux" and status == "unknown" and code == "prompt_lost"
    what = (
        f"{seen.name}: {prompt.key} is {status}, asked {asked} times, its tool ran {ran} times, its process "
        f"was killed {kills} times: {turn}"
    )

    def holds(kind: Kind, condition: bool, why: str) -> None:
        if not condition:
            figures.broken.append(Broken(kind, f"{why}; {what}"))

    holds("wrong", (turn["key"], turn["prompt"]) == (prompt.key, prompt.text), "another prompt than was sent")
    holds("duplicated", ran <= 1, "a tool ran twice")
    match status:
        case "completed":
            figures.answered += 1
            figures.answered_by[seen.backend] += 1
            figures.asked_again += asked > 1
            holds("lost", asked >= 1, "answered, and never asked")
            holds("duplicated", asked <= 1 + kills, "asked more often than its process died")
            holds("wrong", turn["text"] == prompt.answer, f"the answer is not {prompt.answer!r}")
            holds("lost", ran == (prompt.kind == "tool"), "the tool did not run")
        case "interrupted" if seen.backend == "api" and code == "bridge_restarted":
            figures.interrupted += 1
            holds("lost", kills > 0, "nobody killed the bridge")
            holds("duplicated", asked <= kills, "asked again when its answer had begun")
            holds("wrong", prompt.answer.startswith(turn["text"]), f"no part of {prompt.answer!r}")
        case "unknown":
            figures.unknown += 1
            figures.unknown_unseen += unseen
            holds("lost", kills > 0 or unseen, "nobody killed its process")
            holds("duplicated", asked <= max(kills, 1), "asked more often than its process died")
            holds("wrong", prompt.answer.startswith(turn["text"]), f"no part of {prompt.answer!r}")
        case _:
            holds("lost", False, "neither answered nor cut off")
    figures.tools += ran


def _kills_during(turn: Json, kills: Sequence[float]) -> int:
    """How many kills fell into the time from a turn's start to its end."""
    begun = turn.get("started_at") or turn["queued_at"]
    first = datetime.fromisoformat(begun).timestamp() - SAME_MOMENT_S
    last = datetime.fromisoformat(turn["finished_at"]).timestamp() + SAME_MOMENT_S
    return sum(first <= at <= last for at in kills)
