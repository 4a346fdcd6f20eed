"""What may be put into the TUI's input box, so that Claude is told exactly what was meant. Pure.

An external editor fills the box, so that nothing here is about paste markers, tabs or line ends. What is left
are the rules by which the TUI (2.1.330) takes a text for something else, or alters it on the way to Claude.
What is accepted arrives as it is, but for white space at its end; the rest is refused, never altered.
`tests/contract/awkward.py` has an example of each.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from bridge.errors import PromptEmpty, PromptRejected

WHITE = " \t\n\v\f\r\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
"""What the TUI cuts off at the end, and looks past for a command at the beginning."""

EXITS = frozenset({"exit", "quit", ":q", ":q!", ":wq", ":wq!"})
"""Each of these ends the CLI where it stands alone in the box. Case counts."""

FOLDED, SHOWN = 10_000, 500
"""A text of more than so many UTF-16 units is folded in the box: all but so many at each end is set aside."""

UNSEEN = "\u200b"

REMEDY = "use the backend 'headless', which takes every text as it is"


def as_typed(prompt: str) -> str:
    """What to put into the box for `prompt`, to be sent with Enter.

    The blank at its end is cut off by the TUI. It closes the list of completions, in which Enter would
    choose instead of send, and keeps Enter from making a new line of a backslash. `UNSEEN`, of which a long
    text may have some before it, is left out. Raises `PromptRejected`.
    """
    text = prompt.rstrip(WHITE)
    if not text:
        raise PromptEmpty
    start = text.lstrip(WHITE)
    if start in EXITS:
        raise PromptRejected(f"The prompt {start!r}", f"the terminal would end Claude for it; {REMEDY}.")
    if _is_command(start):
        what = f"A prompt that begins with {_word(start)!r}"
        why = "the terminal would take it for a command; if it is one, send it with submit {command}, else"
        raise PromptRejected(what, f"{why} {REMEDY}.")
    lead, blanks = _margins(_checked(text))
    if lead and (text[0] in WHITE or "\r\n" in text):  # where it leaves something out, it tidies these up
        raise _unfoldable(lead)
    return UNSEEN * lead + text + " " * blanks


def as_acknowledged(typed: str) -> str:
    """What `UserPromptSubmit` says, and Claude is told, when `typed` was sent.

    It is also what stands in the box again when that was interrupted before Claude began to answer.
    """
    return typed.lstrip(UNSEEN).rstrip(WHITE)


def as_command(command: str) -> str:
    """What to put into the box for a slash command that is meant as one. Raises `PromptRejected`.

    It ends in a blank that the TUI does not take for the end of a name: it would complete that to the first
    command in its list, and `/q` to one that ends Claude.
    """
    text = command.strip(WHITE)
    if not text:
        raise PromptEmpty
    word = _word(text)
    if not _is_command(text) or word == "/":
        why = "a command is a slash and a name; text is sent as a prompt."
        raise PromptRejected(f"{word!r} as a command", why)
    if word.lower() in ("/exit", "/quit"):
        raise PromptRejected(f"The command {word!r}", "it would end Claude; stop the session instead.")
    lead, blanks = _margins(_checked(text))
    if lead:
        raise _unfoldable(lead)
    return text + "\xa0" * blanks


def _is_command(start: str) -> bool:
    """A command may have any name without a slash in it: what begins with a path or a comment is none."""
    return start.startswith("/") and not _PATH.match(start)


_PATH = re.compile(r"/(?!mcp__)[^\s/]*/|/\*")


def _word(text: str) -> str:
    return text.split(maxsplit=1)[0][:40]


def _checked(text: str) -> str:
    for at in _altered(text):
        raise _refusal(text[at], at)
    stands_for = _STANDS_FOR.search(text)
    if stands_for or _PASTE_TAG.search(_plain(text)):
        what = f"The text {stands_for[0]!r}" if stands_for else "A tag <pasted_content>"
        why = "the terminal has it stand for what was pasted there, and would alter it"
        raise PromptRejected(what, f"{why}; {REMEDY}.")
    return text


# --- a long text, which is folded ------------------------------------------------------------------------


def _margins(text: str) -> tuple[int, int]:
    """How much to put before and behind it, so that it is folded where nothing is lost."""
    if 2 * len(text) < FOLDED:
        return 0, 1
    units = text.encode("utf-16-le")
    size = len(units) // 2
    if size + 1 <= FOLDED:
        return 0, 1
    lead, more = _shift(units, SHOWN, -1), _shift(units, size + 1 - SHOWN, 1)
    if lead is None or more is None:
        raise _unfoldable(None)
    return lead, 1 + more


def _unfoldable(lead: int | None) -> PromptRejected:
    what = f"So long a text, with what stands {SHOWN} characters from its beginning or end,"
    remedy = f"begin it with {lead} more {'blank' if lead == 1 else 'blanks'}" if lead else "shorten it"
    why = f"the terminal folds it there, and would break it; {remedy}, or {REMEDY}."
    return PromptRejected(what, why)


def _shift(units: bytes, at: int, step: int) -> int | None:
    """How far beside a place the text can be folded; None where it takes more than any emoji is long."""
    return next((n for n in range(50) if _folds_well(units, at + n * step)), None)


def _folds_well(units: bytes, at: int) -> bool:
    """Whether nothing is altered that would not be, were the parts before and behind looked at as one."""
    before, after = units[2 * max(0, at - _WINDOW) : 2 * at], units[2 * at : 2 * (at + _WINDOW)]
    whole, left, right = (u.decode("utf-16-le", "surrogatepass") for u in (before + after, before, after))
    behind = {len(whole) - len(right) + i - 1 for i in _altered(f"]{right}")}
    return behind.union(_altered(f"{left}[")).issubset(_altered(whole))


# --- what would not arrive as it is ----------------------------------------------------------------------

_PICTURES = """
    a9 ae 203c 2049 2122 2139 2194-2199 21a9-21aa 231a-231b 2328 23cf 23e9-23f3 23f8-23fa 24c2 25aa-25ab
    25b6 25c0 25fb-25fe 2600-2604 260e 2611 2614-2615 2618 261d 2620 2622-2623 2626 262a 262e-262f 2638-263a
    2640 2642 2648-2653 265f-2660 2663 2665-2666 2668 267b 267e-267f 2692-2697 2699 269b-269c 26a0-26a1 26a7
    26aa-26ab 26b0-26b1 26bd-26be 26c4-26c5 26c8 26ce-26cf 26d1 26d3-26d4 26e9-26ea 26f0-26f5 26f7-26fa 26fd
    2702 2705 2708-270d 270f 2712 2714 2716 271d 2721 2728 2733-2734 2744 2747 274c 274e 2753-2755 2757
    2763-2764 2795-2797 27a1 27b0 27bf 2934-2935 2b05-2b07 2b1b-2b1c 2b50 2b55 3030 303d 3297 3299 1f004
    1f02c-1f02f 1f094-1f09f 1f0af-1f0b0 1f0c0 1f0cf-1f0d0 1f0f6-1f0ff 1f170-1f171 1f17e-1f17f 1f18e
    1f191-1f19a 1f1ae-1f1e5 1f201-1f20f 1f21a 1f22f 1f232-1f23a 1f23c-1f23f 1f249-1f25f 1f266-1f321
    1f324-1f393 1f396-1f397 1f399-1f39b 1f39e-1f3f0 1f3f3-1f3f5 1f3f7-1f3fa 1f400-1f4fd 1f4ff-1f53d
    1f549-1f54e 1f550-1f567 1f56f-1f570 1f573-1f57a 1f587 1f58a-1f58d 1f590 1f595-1f596 1f5a4-1f5a5 1f5a8
    1f5b1-1f5b2 1f5bc 1f5c2-1f5c4 1f5d1-1f5d3 1f5dc-1f5de 1f5e1 1f5e3 1f5e8 1f5ef 1f5f3 1f5fa-1f64f
    1f680-1f6c5 1f6cb-1f6d2 1f6d5-1f6e5 1f6e9 1f6eb-1f6f0 1f6f3-1f6ff 1f7da-1f7ff 1f80c-1f80f 1f848-1f84f
    1f85a-1f85f 1f888-1f88f 1f8ae-1f8af 1f8bc-1f8bf 1f8c2-1f8cf 1f8d9-1f8ff 1f90c-1f93a 1f93c-1f945
    1f947-1f9ff 1fa58-1fa5f 1fa6e-1faff 1fc00-1fffd
"""
"""Emoji as the TUI knows them, beside which it keeps variation selectors and joiners."""


_PICTURE = "[" + "".join("-".join(chr(int(c, 16)) for c in r.split("-")) for r in _PICTURES.split()) + "]"

_JOINED_PICTURES = re.compile(rf"{_PICTURE}[🏻-🏿]?\ufe0f?\u200d{_PICTURE}")
_VARIED_PICTURE = re.compile(rf"(?:{_PICTURE}|[🏻-🏿])[\ufe0e\ufe0f]|[0-9#*]\ufe0f\u20e3")
_REGION = "|".join("".join(chr(0xE0000 + ord(c)) for c in name) for name in ("gbeng", "gbsct", "gbwls"))
_REGION_FLAG = re.compile(f"🏴(?:{_REGION})\U000e007f")

_LINE_BREAKS = "\r\v\f\x85\u2028\u2029"
_JOINERS = "\u200c\u200d"
_MARKS = "\u061c\u200e\u200f"
_VARIANTS = "\u180b\u180c\u180d"

_NOTABLE = re.compile(
    r"[\x00-\x08\v\f\x0e-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    r"\u2060-\u206f\u3164\ud800-\udfff\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    r"\U0001107f\U00013430-\U0001343f\U00016fe4\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]|\r(?!\n)"
)
"""What the TUI alters, though some of it not everywhere."""

_JOINED_SCRIPTS = {
    "ARABIC",
    "SYRIAC",
    "DEVANAGARI",
    "BENGALI",
    "GURMUKHI",
    "GUJARATI",
    "ORIYA",
    "TAMIL",
    "TELUGU",
}
_JOINED_SCRIPTS |= {"KANNADA", "MALAYALAM", "SINHALA", "TIBETAN", "MYANMAR", "KHMER"}
"""After a letter of these the TUI keeps a joiner, as the first words of the letters' names say them."""

_ACCENTS = "\u0953\u0954"
"""Devanagari by name only: the TUI takes them for nobody's."""

_PASTE_TAG = re.compile(r"<[^\w<\\]*pasted(?:_|[^\w\s])content")
_STANDS_FOR = re.compile(r"\[(?:Pasted text|Image|\.\.\.Truncated text) #\d+[^\]\n]{,40}\]?")

_ARABIC = re.compile(r"[\u0620-\u063f\u0641-\u064a\u0671-\u06d3]")
_HEBREW = re.compile(
    r"[\u05d0-\u05ea\u05ef-\u05f2\ufb1d\ufb1f-\ufb28\ufb2a-\ufb36\ufb38-\ufb3c\ufb3e\ufb40\ufb41\ufb43\ufb44\ufb46-\ufb4f]"
)

_WINDOW = 200
"""How many characters are looked at around one; bounds the work."""


def _altered(text: str) -> Iterator[int]:
    """Where the TUI would not leave the text as it is."""
    return (m.start() for m in _NOTABLE.finditer(text) if not _is_kept(m[0], text, m.start()))


def _refusal(character: str, at: int) -> PromptRejected:
    name = unicodedata.name(character, "a control character")
    if character in _LINE_BREAKS:
        why = f"the terminal would make it a line feed; write one, or {REMEDY}."
    elif unicodedata.category(character) == "Cs":
        name, why = "a surrogate", "it is one half of a character; remove it."
    else:
        why = f"the terminal would leave it out; remove it, or {REMEDY}."
    return PromptRejected(f"U+{ord(character):04X} ({name}) at character {at + 1}", why)


def _is_kept(character: str, text: str, at: int) -> bool:
    if character in _JOINERS and _letter_before(text, at):
        return True
    if character == "\u200d":
        return any(m.end() == at + 2 for m in _starting(_JOINED_PICTURES, text, at - 3, at))
    if character in "\ufe0e\ufe0f":
        return at > 0 and _VARIED_PICTURE.match(text, at - 1) is not None
    if character in _VARIANTS:
        return at > 0 and unicodedata.category(text[at - 1]) == "Lo" and _script(text[at - 1]) == "MONGOLIAN"
    if character in _MARKS:
        return _is_mark_kept(text, at)
    return any(m.end() > at for m in _starting(_REGION_FLAG, text, at - 6, at))


def _starting(pattern: re.Pattern[str], text: str, first: int, end: int) -> Iterator[re.Match[str]]:
    """The matches that begin at each of some places."""
    return (m for at in range(max(0, first), end) if (m := pattern.match(text, at)))


def _is_mark_kept(text: str, at: int) -> bool:
    """A direction mark is kept beside words and blanks, in a line with letters that it is about."""
    before = text[at - 1] if at else "\n"
    after = text[at + 1 : at + 2] or "\n"
    kinds = [" " if c in "\t\r\n" else unicodedata.category(c)[0] for c in (before, after)]
    if "M" in kinds or "C" in kinds or all(kind in "LN" for kind in kinds):
        return False
    line = text[max(0, at - _WINDOW) : at].rpartition("\n")[2] + text[at : at + _WINDOW].partition("\n")[0]
    arabic, hebrew = _ARABIC.search(line), _HEBREW.search(line)
    return bool(arabic and not hebrew) if text[at] == "\u061c" else bool(arabic or hebrew)


def _letter_before(text: str, at: int) -> bool:
    """Whether it follows a letter of a script that has joiners, and at most marks of these scripts."""
    for character in reversed(text[max(0, at - _WINDOW) : at]):
        category = unicodedata.category(character)
        if category[0] not in "LM" or _script(character) not in _JOINED_SCRIPTS or character in _ACCENTS:
            return False
        if category[0] == "L":
            return category == "Lo"
    return False


def _script(character: str) -> str:
    return unicodedata.name(character, "").partition(" ")[0]


def _plain(text: str) -> str:
    """As the TUI reads a tag: whatever its case, width and accents."""
    if text.isascii():
        return text.lower()
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c)).lower()
