"""Prompts whose answers are known to the letter, and what became of each of them."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path

from bridge.simulator.script import scripted, words


@dataclass
class Prompt:
    """One prompt under its idempotency key, which stands in its text as well: no two are alike."""

    key: str
    text: str
    answer: str
    kind: str
    turn: str | None = None
    """The turn it became, once a bridge has said so."""
    asked: int = 0
    """How often it was submitted, answered or not."""


NO_TOOLS = ("plain", "plain", "counting", "thinking", "late", "large")


@dataclass
class Writer:
    """Makes the prompts of one client of one session, out of a seed."""

    session: str
    who: str
    effects: Path
    """The file to which each tool call adds a line: a call that ran twice shows."""
    random: random.Random
    kinds: tuple[str, ...] = ("plain", "plain", "counting", "thinking", "late", "tool", "large")
    made: list[Prompt] = field(default_factory=list)

    def next(self) -> Prompt:
        key = f"{self.session}-{self.who}{len(self.made):04d};"
        prompt = self.of(self.random.choice(self.kinds), key)
        self.made.append(prompt)
        return prompt

    def of(self, kind: str, key: str) -> Prompt:
        count = self.random.randrange(20, 200)
        gap = self.random.choice((0, 1, 3, 8))
        match kind:
            case "plain":
                return Prompt(key, f"{key} hello", f"You said: {key} hello", kind)
            case "counting":
                text = f"{key} {scripted(words=count, gap_ms=gap)}"
                return Prompt(key, text, words(count).rstrip(), kind)
            case "thinking":
                text = f"{key} {scripted(thinking='well, let me see', words=count, gap_ms=gap)}"
                return Prompt(key, text, words(count).rstrip(), kind)
            case "late":
                text = f"{key} {scripted(first_ms=self.random.randrange(50, 600), text=f'late {key}')}"
                return Prompt(key, text, f"late {key}", kind)
            case "large":
                size = self.random.randrange(10_000, 60_000)
                text = f"{key} {'x' * size} {scripted(text=f'read {key}')}"
                return Prompt(key, text, f"read {key}", kind)
            case "tool":
                command = f"echo '{key}' >> {self.effects}"
                text = f"{key} {scripted(tools=[['Bash', {'command': command}]], text=f'did {key}')}"
                return Prompt(key, text, f"did {key}", kind)
            case _:
                raise AssertionError(f"no such kind of prompt: {kind}")
