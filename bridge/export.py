"""A session's history as a document, for people to read and keep. Pure.

What Claude and people wrote is Markdown already and stands as it is, but for prompts: those are quoted, so
that a prompt with headings in it does not look like part of the document. What a tool was given and said
stands in fences longer than any in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

Payload = Mapping[str, Any]

_FENCE = re.compile(r"^\s*(`{3,})", re.MULTILINE)


def markdown(session: Payload, turns: Sequence[Payload]) -> str:
    """`session` and its finished `turns`, oldest first, as the bridge describes them."""
    return "\n\n".join([*_about(session), *(part for turn in turns for part in _turn(turn))]) + "\n"


def _about(session: Payload) -> Iterator[str]:
    yield f"# {session['name']}"
    facts = {
        "backend": session["backend"],
        "model": session.get("model"),
        "folder": session.get("cwd"),
        "conversation": session.get("conversation"),
        "turns": session.get("turns"),
        "cost": f"${session['cost_usd']:.4f}" if session.get("cost_usd") else None,
    }
    yield "\n".join(f"- {name}: {value}" for name, value in facts.items() if value not in (None, ""))


def _turn(turn: Payload) -> Iterator[str]:
    who = turn.get("author") or ("the terminal" if turn["source"] == "terminal" else "a client")
    yield f"## {who}, {turn.get('started_at') or turn['queued_at']}"
    yield "\n".join(f"> {line}".rstrip() for line in (turn["prompt"] or "(no prompt)").splitlines())
    said = False
    for block in turn["blocks"]:
        if block.get("parent"):
            continue  # a sub-agent's own words
        said = said or block["kind"] == "text"
        yield from _block(block)
    if turn["text"] and not said:
        yield turn["text"]
    if turn["status"] != "completed":
        error = turn.get("error") or {}
        yield f"*{turn['status']}{': ' if error else ''}{error.get('message', '')}*"


def _block(block: Payload) -> Iterator[str]:
    match block["kind"]:
        case "text":
            yield block["text"].rstrip()
        case "thinking":
            yield _folded("Thinking", block["text"].rstrip())
        case "tool":
            given = orjson.dumps(block["input"], option=orjson.OPT_INDENT_2).decode()
            output = "(no result)" if block["output"] is None else block["output"].rstrip("\n")
            failed = ", which failed" if block["is_error"] else ""
            cut = "\n\n(cut; the bridge has all of it)" if block.get("truncated") else ""
            yield _folded(f"{block['name']}{failed}", f"{_fenced(given, 'json')}\n\n{_fenced(output)}{cut}")


def _folded(title: str, content: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{content}\n\n</details>"


def _fenced(text: str, language: str = "") -> str:
    longest = max((len(fence) for fence in _FENCE.findall(text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"
