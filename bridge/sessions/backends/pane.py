"""Shows a conversation on a terminal for whoever attaches: what was asked, said, called and requested.

`Transcript` turns signals into text and is pure; `PaneWriter` puts it on the pane's terminal. Only our own
control sequences reach it: a model's or a tool's text must not move a person's cursor or set their title.
"""

from __future__ import annotations

import asyncio
import os

import orjson

from bridge.signals import (
    AnswerMoot,
    AnswerNeeded,
    BlockDropped,
    BlockSettled,
    ProcessReady,
    PromptTyped,
    Signal,
    TextArrived,
    ToolAnswered,
    ToolCalled,
    TurnEnded,
    UpstreamRetrying,
)

PROMPT_CHARS = 2000
INPUT_CHARS = 300
OUTPUT_LINES = 5
OUTPUT_CHARS = 500
"""Enough to follow by eye; all of it is in the history."""

GATHER_S = 0.05
"""For an eye it is at once. A write to a terminal wakes tmux and costs as much as sending a delta to a
client: one for each delta was a third of what a stream cost the bridge, and tmux the same again."""

KEPT_BYTES = 256 * 1024
"""A terminal takes about 4 KB at a time; a long answer that comes whole has more."""

_BOLD, _DIM, _RED, _PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[0m"

_UNSAFE: dict[int, str | None] = dict.fromkeys((*range(0x20), *range(0x7F, 0xA0)))
_UNSAFE |= dict.fromkeys((0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)))
for _kept in (ord("\n"), ord("\t")):
    del _UNSAFE[_kept]


def safe(text: str) -> str:
    """Text without control characters and without those that turn the direction of writing."""
    return text.translate(_UNSAFE)


def cut(text: str, chars: int) -> str:
    return text if len(text) <= chars else f"{text[:chars]}… ({len(text)} characters)"


class Transcript:
    """One conversation as lines. Remembers which block it is in the middle of."""

    def __init__(self) -> None:
        self._block: int | None = None
        self._shown: set[int] = set()
        self._fresh = True
        """The cursor stands at the beginning of a line."""

    def prompt(self, text: str) -> str:
        return self._line(f"\n{_BOLD}❯ {safe(cut(text, PROMPT_CHARS))}{_PLAIN}")

    def note(self, text: str) -> str:
        return self._line(f"{_DIM}── {safe(text)} ──{_PLAIN}")

    def show(self, signal: Signal) -> str:
        """What this signal adds to the screen, often nothing."""
        match signal:
            case TextArrived(parent=None):
                return self._arrived(signal)
            case BlockSettled(parent=None):
                return self._settled(signal)
            case BlockDropped(block=block) if block in self._shown:
                self._shown.discard(block)
                self._block = None
                return self.note("the connection broke, the answer begins again")
            case ToolCalled(name=name, input=given, parent=parent):
                said = cut(orjson.dumps(given).decode(), INPUT_CHARS)
                return self._line(f"{'  ' if parent else ''}⚙ {safe(name)} {_DIM}{safe(said)}{_PLAIN}")
            case ToolAnswered(parent=None):
                return self._line(_output(signal))
            case AnswerNeeded(kind=kind, tool=tool):
                return self._line(
                    f"{_BOLD}? a {kind} is asked for ({safe(tool)}): answer through the bridge{_PLAIN}"
                )
            case AnswerMoot():
                return self.note("the request was withdrawn")
            case UpstreamRetrying(attempt=attempt, limit=limit, error=error):
                return self.note(f"{error}: trying again, {attempt} of {limit}")
            case PromptTyped():
                return self.note("Claude goes on by itself")
            case ProcessReady():
                return self.note("ready")
            case TurnEnded():
                return self._ended(signal)
            case _:
                return ""

    def _arrived(self, s: TextArrived) -> str:
        text = safe(s.text)
        before = "" if s.block == self._block else self._begin(s.block, s.kind)
        self._fresh = text.endswith("\n") if text else self._fresh
        return before + text

    def _settled(self, s: BlockSettled) -> str:
        if s.block in self._shown:
            self._block = None
            return self._line(_PLAIN if s.kind == "thinking" else "")
        before = self._begin(s.block, s.kind)
        self._block = None
        self._fresh = False
        return before + safe(s.text) + self._line(_PLAIN)

    def _begin(self, block: int, kind: str) -> str:
        self._block = block
        self._shown.add(block)
        before = "" if self._fresh else "\n"
        self._fresh = False
        return f"{before}{_DIM}✻ " if kind == "thinking" else f"{before}{_PLAIN}"

    def _ended(self, s: TurnEnded) -> str:
        self._block = None
        self._shown.clear()
        if s.error is not None:
            return self._line(f"{_RED}✗ {safe(cut(s.error.message, OUTPUT_CHARS))}{_PLAIN}")
        return "" if s.status == "completed" and self._fresh else self.note(s.status)

    def _line(self, text: str) -> str:
        """`text` on a line of its own."""
        before = "" if self._fresh else "\n"
        self._fresh = True
        return f"{before}{text}\n" if text else before


def _output(s: ToolAnswered) -> str:
    lines = safe(cut(s.output.strip(), OUTPUT_CHARS)).splitlines() or ["(nothing)"]
    shown = [*lines[:OUTPUT_LINES], *(["…"] if len(lines) > OUTPUT_LINES else [])]
    return f"{_RED if s.is_error else _DIM}" + "\n".join(f"  ⎿ {line}" for line in shown) + _PLAIN


class PaneWriter:
    """Writes to somebody else's terminal, without ever waiting for it.

    What comes within `GATHER_S` goes out in one write. What the terminal does not take is tried again
    later, up to a bound, beyond which it is dropped.
    """

    def __init__(self, tty: str) -> None:
        self._texts: list[str] = []
        self._rest = b""
        self._timer: asyncio.TimerHandle | None = None
        try:
            self._fd = os.open(tty, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            self._fd = -1  # a pane that cannot be written to is no reason to be without a session

    def write(self, text: str) -> None:
        if self._fd < 0 or not text:
            return
        self._texts.append(text)
        self._soon()

    def close(self) -> None:
        """Write what is left, as far as the terminal takes it now, and let go of it."""
        self._put()
        if self._timer is not None:
            self._timer.cancel()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _soon(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(GATHER_S, self._due)

    def _due(self) -> None:
        self._timer = None
        self._put()
        if self._rest:
            self._soon()

    def _put(self) -> None:
        data = self._rest + "".join(self._texts).encode(errors="replace")
        self._texts.clear()
        self._rest = b""
        if self._fd < 0 or not data:
            return
        try:
            taken = os.write(self._fd, data)
        except BlockingIOError:
            taken = 0
        except OSError:
            os.close(self._fd)
            self._fd = -1
            return
        if len(data) - taken <= KEPT_BYTES:
            self._rest = data[taken:]
