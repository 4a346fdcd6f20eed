"""Turns a session's events into what a person reads in a terminal.

Pure: events in, pieces of text out, each with the tone it is said in. A preview that was already printed
cannot be taken back from a terminal, so what is printed is remembered, and only what differs is said again:
by events that follow, and by a snapshot that stands for events that were missed.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

Tone = Literal["text", "thinking", "note", "ask", "problem"]
Payload = Mapping[str, Any]
T = TypeVar("T")

FINAL = frozenset({"completed", "interrupted", "failed", "cancelled", "unknown"})
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_PREVIEW = 200
"""Characters of a tool's input that are shown: enough to decide, short enough for one look."""
CAUGHT_UP = 20
"""Turns that a snapshot is asked for: what may have ended while no connection told of it."""
_TOLD = 10_000
"""Finished turns that are remembered: a snapshot has a thousand at most."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Something to print. `text` is the reply itself, to be printed as it is; the rest are whole lines."""

    tone: Tone
    text: str


def printable(text: str) -> str:
    """`text` without what would steer a terminal: control characters, save newline and tab."""
    return _CONTROL.sub("", text)


def last(things: Sequence[T], count: int) -> list[T]:
    """The last `count` of them."""
    return list(things[max(0, len(things) - count) :])


def summary(value: object) -> str:
    """One line for a tool's input: its only string as it is, everything else as `key: value`."""
    if isinstance(value, Mapping):
        texts = [v for v in value.values() if isinstance(v, str)]
        line = texts[0] if len(value) == len(texts) == 1 else ", ".join(f"{k}: {v}" for k, v in value.items())
    else:
        line = str(value)
    line = " ".join(printable(line).split())
    return line if len(line) <= _PREVIEW else line[: _PREVIEW - 1] + "…"


def how_to_answer(session: str, request: Payload) -> str:
    """What a person types to answer a request, with what is being asked."""
    answer = f"claude-bridge answer {session} {request['id']}"
    if request["kind"] == "question":
        questions = request.get("input", {}).get("questions", [])
        lines = []
        for question in questions:
            labels = " / ".join(str(option.get("label")) for option in question.get("options", []))
            lines.append(f"  {question.get('question')}  [{labels}]")
        choices = " ".join(["--answer …"] * max(1, len(questions)))
        return printable("\n".join(["Claude asks:", *lines, f"  {answer} allow {choices}"]))
    asked = (
        "Claude has a plan"
        if request["kind"] == "plan"
        else f"Claude asks to use {request.get('tool')}: {summary(request.get('input', {}))}"
    )
    return printable(f"{asked}\n  {answer} allow\n  {answer} deny")


def concerns(turn: str | None, event: str, payload: Payload) -> bool:
    """Whether a happening belongs to one turn's story; a closed request no longer says whose it was."""
    if event in {"submitted", "lost", "request_closed"}:
        return True
    request = payload.get("request")
    owner = request.get("turn") if isinstance(request, Mapping) else payload.get("turn")
    return turn is not None and owner == turn


@dataclass(slots=True)
class Reader:
    """Follows a session, or one turn of it where `turn` is set; `outcome` is how that turn ended.

    `turn` is empty for a prompt that is still to be submitted: the bridge names its turn in the answer.
    Where a whole session is followed, the first snapshot's last `past` turns are shown.
    """

    session: str
    turn: str | None = None
    past: int = 0
    outcome: str | None = None
    _told: deque[str] | None = None
    """Turns that are over, as far as they were shown or left out on purpose; none before a snapshot."""
    _open: Payload | None = None
    _current: str | None = None
    _shown: dict[int, str] = field(default_factory=dict)
    _tools: set[str] = field(default_factory=set)
    _last: int | None = None
    _mid_line: Tone | None = None
    """What the unfinished line, if there is one, is made of."""
    _void: list[str] = field(default_factory=list)
    """What was printed of blocks that were discarded: mostly they are begun again with the same text."""
    _again: int | None = None
    """The block that has begun like the first of them."""

    def feed(self, event: str, payload: Payload) -> Iterator[Piece]:
        """What `event` adds to the page. Events of other turns add nothing where `turn` is set."""
        others = self.turn is not None and payload.get("turn", self.turn) != self.turn
        if others and event != "submitted":
            return
        handler = getattr(self, f"_on_{event}", None)
        if handler is not None:
            yield from handler(payload)

    def _on_submitted(self, reply: Payload) -> Iterator[Piece]:
        self.turn = reply["turn"]
        if self._current == self.turn:  # a pool tells it from its beginning, on another connection
            self._withdraw(set())
        if self._open is not None and self._open["id"] == self.turn:  # steered, or sent a second time
            yield from self._catch_up(self._open)
        if reply.get("status") == "queued" and reply.get("position"):
            yield Piece("note", f"Queued; {reply['position']} before it.")

    def _on_joined(self, reply: Payload) -> Iterator[Piece]:
        if reply.get("recovered"):
            return
        if self.turn is None:
            yield from self._missed(reply)
        self._open = open_turn = reply.get("open_turn")
        if open_turn and self.turn in {None, open_turn["id"]}:
            yield from self._catch_up(open_turn)
        for request in reply.get("requests", ()):
            if self.turn in {None, request["turn"]}:
                yield from self._on_request_opened({"request": request})

    def _missed(self, reply: Payload) -> Iterator[Piece]:
        """Turns that ended before the first snapshot, or while no connection told of it."""
        ended = [turn for turn in reply.get("turns", ()) if turn["status"] in FINAL]
        if self._told is None:
            new = last(ended, self.past)
        else:
            told = set(self._told)
            new = [turn for turn in ended if turn["id"] not in told]
            if new and len(new) == len(ended) and (self._told or len(ended) >= CAUGHT_UP):
                yield from self._end_line()
                yield Piece(
                    "note", f"Turns may be missing here. All are in: claude-bridge export {self.session}"
                )
        self._told = deque((turn["id"] for turn in ended), _TOLD)
        for turn in new:
            yield from self._on_turn_finished({**turn, "turn": turn["id"]})

    def _catch_up(self, turn: Payload) -> Iterator[Piece]:
        """What is not shown yet of a turn, which may be the one that is half shown."""
        if self._current != turn["id"]:
            yield from self._begin(turn["id"], turn.get("author"), turn["prompt"])
        blocks = turn.get("blocks", ())
        self._withdraw({block["block"] for block in blocks})
        for block in blocks:
            if block["kind"] == "tool":
                yield from self._on_tool_started(block)
            else:
                yield from self._on_block(block)

    def _withdraw(self, kept: set[int]) -> None:
        """What is shown of other blocks than those that are kept may be told again, and may not."""
        for block in [block for block in self._shown if block not in kept]:
            text = self._shown.pop(block)
            if text and block != self._again:  # of that one nothing was printed yet
                self._void.append(text)

    def _begin(self, turn: str, author: str | None, prompt: str) -> Iterator[Piece]:
        yield from self._end_line()
        self._current, self._last = turn, None
        self._shown.clear()
        self._tools.clear()
        self._void.clear()
        self._again = None
        if self.turn is None:
            yield Piece("note", printable(f"{author or 'terminal'}> {prompt}"))

    def _on_turn_queued(self, payload: Payload) -> Iterator[Piece]:
        if payload.get("reason"):
            yield from self._end_line()
            yield Piece("note", printable(f"Waiting: {payload['reason']}."))

    def _on_turn_started(self, payload: Payload) -> Iterator[Piece]:
        if self._current != payload["turn"]:
            yield from self._begin(payload["turn"], payload.get("author"), payload["prompt"])

    def _on_delta(self, payload: Payload) -> Iterator[Piece]:
        if payload.get("parent"):
            return
        if payload["kind"] == "thinking":
            if self._mid_line == "text":
                yield from self._end_line()
            yield self._say(payload["text"], "thinking")
            return
        block = payload["block"]
        yield from self._settle(block, self._shown.get(block, "") + payload["text"], final=False)

    def _on_block(self, payload: Payload) -> Iterator[Piece]:
        if payload["kind"] == "text" and not payload.get("parent"):
            yield from self._settle(payload["block"], payload["text"])

    def _on_discard(self, payload: Payload) -> Iterator[Piece]:
        if shown := self._shown.pop(payload["block"], ""):
            self._void.append(shown)
        return iter(())

    def _settle(self, block: int, text: str, *, final: bool = True) -> Iterator[Piece]:
        """`text` is all that the block says, or by now, where it is not `final`."""
        shown = self._shown.get(block, "")
        if text == shown and not (final and self._again == block):
            return
        if self._void:
            again, self._again = self._void[0], None
            if again == text or (not final and again.startswith(text)):
                self._shown[block], self._last = text, block
                if again == text:
                    self._void.pop(0)
                else:
                    self._again = block
                return
            continues = len(self._void) == 1 and text.startswith(again)
            self._void.clear()
            if continues:
                shown, self._last = again, block
            else:
                yield from self._end_line()
                yield Piece("note", "The text above was a preview; it begins again:")
                shown = ""
        yield from self._separate(block)
        if not text.startswith(shown):
            yield from self._end_line()
            yield Piece("note", "The text above was a preview; it reads:")
            shown = ""
        self._shown[block] = text
        yield self._say(text[len(shown) :])

    def _on_steered(self, payload: Payload) -> Iterator[Piece]:
        yield from self._end_line()
        yield Piece("note", printable(f"{payload.get('author') or 'terminal'}> {payload['prompt']}"))

    def _on_tool_started(self, payload: Payload) -> Iterator[Piece]:
        if not payload.get("parent") and payload["tool"] not in self._tools:
            self._tools.add(payload["tool"])
            yield from self._end_line()
            yield Piece("note", printable(f"· {payload['name']} {summary(payload.get('input', {}))}"))

    def _on_request_opened(self, payload: Payload) -> Iterator[Piece]:
        request = payload["request"]
        if self.turn in {None, request.get("turn")}:
            yield from self._end_line()
            yield Piece("ask", how_to_answer(self.session, request))

    def _on_request_closed(self, payload: Payload) -> Iterator[Piece]:
        by = f" by {payload['by']}" if payload.get("by") else ""
        yield from self._end_line()
        yield Piece("note", printable(f"Request {payload['request']} {payload['outcome']}{by}."))

    def _on_turn_finished(self, payload: Payload) -> Iterator[Piece]:
        if "prompt" in payload:  # the whole turn, in place of events that were missed
            yield from self._catch_up(payload)
        text, status = payload.get("text") or "", payload["status"]
        if self._told is not None:
            self._told.append(payload["turn"])
        if text and not any(self._shown.values()):
            yield from self._settle(-1, text)
        yield from self._end_line()
        if self._void:
            yield Piece("note", "The text above was a preview, and is no part of the answer.")
            self._void.clear()
        self._again = None
        if self.turn is not None:
            self.outcome = status
        error = payload.get("error") or {}
        if status == "failed":
            yield Piece(
                "problem", printable(f"The turn failed: {error.get('message', 'no reason was given')}")
            )
        elif status == "unknown":
            yield Piece(
                "problem",
                "Nobody can tell how this turn ended; it is not sent again by itself. "
                f"Look with: claude-bridge attach {self.session}",
            )
        elif status != "completed":
            yield Piece("note", f"The turn was {status}.")
        self._current = None
        self._shown.clear()

    def _on_session_changed(self, payload: Payload) -> Iterator[Piece]:
        session = payload["session"]
        if session["state"] in {"failed", "stopped"}:
            yield from self._end_line()
            reason = f": {session['reason']}" if session.get("reason") else ""
            yield Piece("problem", printable(f"The session is {session['state']}{reason}."))

    def _on_lost(self, payload: Payload) -> Iterator[Piece]:
        yield from self._end_line()
        yield Piece("note", printable(f"{payload['why']} Trying again…"))

    def _separate(self, block: int) -> Iterator[Piece]:
        if self._last != block or self._mid_line == "thinking":
            yield from self._end_line()
        self._last = block

    def _say(self, text: str, tone: Literal["text", "thinking"] = "text") -> Piece:
        clean = printable(text)
        if clean:
            self._mid_line = None if clean.endswith("\n") else tone
        return Piece(tone, clean)

    def _end_line(self) -> Iterator[Piece]:
        if self._mid_line:
            yield Piece(self._mid_line, "\n")
            self._mid_line = None
