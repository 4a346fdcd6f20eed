"""Prints for the command: the reply on stdout, everything about it on stderr, or JSON for a script."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import orjson
from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from bridge.client import Happening, Submission
from bridge.errors import SetupError
from bridge.reading import Piece, Reader, concerns, last, printable

STYLES = {"note": "dim", "thinking": "dim italic", "ask": "yellow", "problem": "red"}


@dataclass(frozen=True, slots=True)
class Screen:
    """Where a command prints: the reply on stdout, everything about it on stderr."""

    out: Console
    err: Console

    @classmethod
    def made(cls) -> Screen:
        # Nothing is cut where nobody's terminal sets a width.
        width = None if sys.stdout.isatty() else 1000
        return cls(
            Console(soft_wrap=True, highlight=False, width=width), Console(stderr=True, soft_wrap=True)
        )

    def say(self, piece: Piece) -> None:
        if piece.tone == "text":
            sys.stdout.write(piece.text)
            sys.stdout.flush()
        else:
            end = "" if piece.tone == "thinking" else "\n"
            self.err.print(Text(piece.text, STYLES[piece.tone]), end=end)

    def json(self, value: Any) -> None:
        sys.stdout.buffer.write(orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE))
        sys.stdout.buffer.flush()

    def problem(self, error: SetupError) -> None:
        self.err.print(Text(printable(error.problem), "red"))
        if error.remedy:
            self.err.print(Text(printable(error.remedy)))


@dataclass(slots=True)
class Following:
    """One session's events on their way to the terminal or to a script."""

    name: str
    as_json: bool
    quiet: bool
    thinking: bool
    status: str | None = None

    async def until_the_turn_ends(self, events: AsyncGenerator[Happening], submission: Submission) -> None:
        reader, screen = Reader(self.name, turn=""), Screen.made()
        async with aclosing(events):
            async for event, payload in events:
                if not self.as_json:
                    self._print(reader, screen, event, payload)
                elif concerns(submission.turn, event, payload):
                    screen.json({"event": event, **payload})
                if event == "turn_finished" and payload["turn"] == submission.turn:
                    self.status = payload["status"]
                    if self.quiet and not self.as_json:
                        screen.say(Piece("text", printable(payload.get("text") or "") + "\n"))
                    return

    async def all(self, events: AsyncGenerator[Happening], past: int) -> None:
        """All that happens, and at first the last `past` turns."""
        reader, screen, first = Reader(self.name, past=past), Screen.made(), True
        async with aclosing(events):
            async for event, payload in events:
                if not self.as_json:
                    self._print(reader, screen, event, payload)
                elif first and event == "joined":
                    screen.json({"event": event, **payload, "turns": last(payload["turns"], past)})
                else:
                    screen.json({"event": event, **payload})
                first = False
        screen.err.print("The session was deleted.")

    def _print(self, reader: Reader, screen: Screen, event: str, payload: dict[str, Any]) -> None:
        for piece in reader.feed(event, payload):
            if piece.tone == "text" and self.quiet:
                continue
            if piece.tone == "thinking" and not self.thinking:
                continue
            screen.say(piece)


def branch(node: dict[str, Any], parent: Tree | None = None) -> Tree:
    """The supervision tree to look at: a child's name and what is worth knowing of it, below its parent."""
    facts = {k: v for k, v in node.items() if k not in _UNTOLD and v not in (None, "", 0)}
    told = "  ".join(f"{k} {v}" for k, v in facts.items())
    label = Text.assemble(printable(str(node.get("id", "?"))), (f"  {printable(told)}", "dim"))
    tree = Tree(label) if parent is None else parent.add(label)
    for child in node.get("children", ()):
        branch(child, tree)
    return tree


_UNTOLD = {"id", "children", "kind", "session", "since", "generation"}
"""Left to `--json`: what the tree's shape says already, or nobody reads."""
