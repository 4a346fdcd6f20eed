"""A pane's picture: what tmux is asked for it, and what paints it on another terminal.

Pure. tmux keeps no more of the control sequences it was sent than what it made of them, so the picture is
made again of its cells, its cursor and its modes. Two things it does not tell (3.3a): the colours in which
the process would write next, and whether it wants pastes in brackets; the one is taken to be plain, the
other is left as it is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from bridge.errors import TmuxError

CHARACTER = 3
"""Bytes of an unfinished UTF-8 character, at most."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A pane as it stands between two bytes of its output."""

    cols: int
    rows: int
    screen: str
    """What paints it, whatever the terminal showed before."""
    pending: bytes = b""
    """The beginning of a control sequence whose rest is still to come."""


_MODES = {
    "insert_flag": "\x1b[4h",
    "keypad_cursor_flag": "\x1b[?1h",
    "keypad_flag": "\x1b=",
    "mouse_standard_flag": "\x1b[?1000h",
    "mouse_button_flag": "\x1b[?1002h",
    "mouse_all_flag": "\x1b[?1003h",
    "mouse_utf8_flag": "\x1b[?1005h",
    "mouse_sgr_flag": "\x1b[?1006h",
    "cursor_flag": "\x1b[?25h",
}
"""What sets each mode that tmux tells of."""

_NUMBERS = (
    "pane_width",
    "pane_height",
    "cursor_x",
    "cursor_y",
    "scroll_region_upper",
    "scroll_region_lower",
    "alternate_saved_x",
    "alternate_saved_y",
)
_FLAGS = ("alternate_on", "wrap_flag", "origin_flag", *_MODES)
_FORMAT = " ".join(f"{name}=#{{{name}}}" for name in (*_NUMBERS, *_FLAGS))

# Everything that a picture does not paint over, as a new terminal has it; a sequence that was cut off ends.
# Not a full reset: that would take what a person can scroll back to.
_CLEAN = (
    "\x18\x1b[?1049l\x1b[0m\x1b[4l\x1b[?1l\x1b>\x1b[?6l\x1b[r\x1b(B\x1b)0\x0f"
    "\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1005l\x1b[?1006l\x1b[?25l"
)
_WRAP, _NO_WRAP = "\x1b[?7h", "\x1b[?7l"
_EMPTY = "\x1b[H\x1b[2J"
_PLAIN = "\x1b[0m"

BLANK = f"{_CLEAN}{_WRAP}{_EMPTY}\x1b[?25h"
"""A terminal on which nothing was written yet."""

_COLOURS = re.compile(r"\x1b\[[0-9;:]*m|[\x0e\x0f]")


def questions(pane: str) -> tuple[tuple[str, ...], ...]:
    """The commands whose answers, one behind the other, are what `read` takes. To be asked in one go."""
    capture = ("capture-pane", "-p", "-t", pane)
    return (
        ("display-message", "-p", "-t", pane, _FORMAT),
        (*capture, "-e", "-N"),
        (*capture, "-e", "-N", "-a", "-q"),
        (*capture, "-P", "-C"),
    )


def read(said: Sequence[str]) -> Picture:
    """The picture that tmux described. Raises `TmuxError` where it cannot be made out."""
    try:
        told = dict(field.split("=", 1) for field in said[0].split(" "))
        number = {name: int(told[name] or 0) for name in _NUMBERS}
        flags = {name for name in _FLAGS if told[name] == "1"}
    except (IndexError, KeyError, ValueError) as e:
        raise TmuxError("tmux described a pane in a way that cannot be read.") from e
    cols, rows = number["pane_width"], number["pane_height"]
    if len(said) < rows + 3:
        raise TmuxError(f"tmux described a pane of {rows} lines with {len(said)} lines.")
    shown, saved, pending = said[1 : rows + 1], said[rows + 1 : -1], said[-1]
    return Picture(cols, rows, _screen(number, flags, shown, saved), _octal(pending))


def unfinished(tail: bytes) -> bytes:
    """The beginning of a UTF-8 character with which some bytes end, if they do."""
    for back in range(1, min(CHARACTER, len(tail)) + 1):
        byte = tail[-back]
        if byte & 0xC0 != 0x80:
            length = (
                2 if byte & 0xE0 == 0xC0 else 3 if byte & 0xF0 == 0xE0 else 4 if byte & 0xF8 == 0xF0 else 1
            )
            return tail[-back:] if length > back else b""
    return b""


def _screen(number: dict[str, int], flags: set[str], shown: Sequence[str], saved: Sequence[str]) -> str:
    parts = [_CLEAN, _NO_WRAP, _EMPTY]
    if "alternate_on" in flags:
        parts += [_lines(saved), _at(number["alternate_saved_y"], number["alternate_saved_x"])]
        parts += ["\x1b[?1049h", _PLAIN, _EMPTY]
    parts += [_lines(shown), _PLAIN]
    top, bottom = number["scroll_region_upper"], number["scroll_region_lower"]
    if (top, bottom) != (0, number["pane_height"] - 1):
        parts.append(f"\x1b[{top + 1};{bottom + 1}r")
    origin = 0
    if "origin_flag" in flags:
        parts.append("\x1b[?6h")
        origin = top
    if "wrap_flag" in flags:
        parts.append(_WRAP)
    y, x = number["cursor_y"], number["cursor_x"]
    if x >= number["pane_width"]:
        # Behind the last column, where the next character wraps: writing that line again leads there.
        colours = "".join(_COLOURS.findall("".join(shown[:y])))
        parts += [_at(y - origin, 0), colours, shown[y], _PLAIN]
    else:
        parts.append(_at(y - origin, x))
    return "".join(parts + [sequence for name, sequence in _MODES.items() if name in flags])


def _lines(lines: Sequence[str]) -> str:
    # In order and without plain text between them: a line's colours may begin in the one before it.
    return _PLAIN + "".join(f"{_at(y, 0)}{line}" for y, line in enumerate(lines) if line)


def _at(y: int, x: int) -> str:
    return f"\x1b[{y + 1};{x + 1}H"


def _octal(text: str) -> bytes:
    return re.sub(rb"\\([0-7]{3})", lambda m: bytes((int(m[1], 8) & 0xFF,)), text.encode(errors="replace"))
