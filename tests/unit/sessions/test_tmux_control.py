"""The protocol of tmux's control mode: what it says, cut anywhere, and what it is told."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import TmuxError
from bridge.sessions.tmux_control import (
    Continued,
    Exited,
    Notice,
    Output,
    Parser,
    Paused,
    Reply,
    Said,
    Surprise,
    command_line,
    quote,
)

TOLD = (
    b"%begin 1363006971 2 0\n%end 1363006971 2 0\n"
    b"%window-renamed @0 a name\n%session-changed $1 claude_a\n"
    b"%begin 1363006971 3 1\nfirst\n\n%output %0 no\n"
    b"%begin 1363006971 3 1\n%end 1363006971 2 1\nlast\n%end 1363006971 3 1\n"
    b"%output %1 a\\033[1m\\134\\015\\012 \xc3\xa9\n"
    b"%extended-output %1 1234 : b\n"
    b"%extended-output %1 1234 more : : c : d\n"
    b"%pause %1\n%continue %1\n"
    b"%begin 1363006972 4 1\ncan't find session: x\n%error 1363006972 4 1\n"
    b"%message two\nlines\n%sessions-changed\n%exit too far behind\n%exit\n"
)
MEANT: list[Said] = [
    Reply((), ok=True, asked=False),
    Notice("window-renamed", "@0 a name"),
    Notice("session-changed", "$1 claude_a"),
    Reply(
        (b"first", b"", b"%output %0 no", b"%begin 1363006971 3 1", b"%end 1363006971 2 1", b"last"),
        ok=True,
        asked=True,
    ),
    Output("%1", "a\x1b[1m\\\r\n é".encode()),
    Output("%1", b"b", 1234),
    Output("%1", b": c : d", 1234),
    Paused("%1"),
    Continued("%1"),
    Reply((b"can't find session: x",), ok=False, asked=True),
    Notice("message", "two"),
    Notice("sessions-changed", ""),
    Exited("too far behind"),
    Exited(""),
]


def test_everything_that_tmux_says_is_understood() -> None:
    """What stands between `%begin` and its own `%end` is the answer, whatever it looks like."""
    assert Parser().feed(TOLD) == MEANT


@given(st.lists(st.integers(0, len(TOLD)), max_size=30))
def test_it_does_not_matter_where_the_chunks_are_cut(cuts: list[int]) -> None:
    """A pipe gives what is there."""
    places = [0, *sorted(cuts), len(TOLD)]
    parser = Parser()
    said = [s for a, b in pairwise(places) for s in parser.feed(TOLD[a:b])]
    assert said == MEANT


def as_written(data: bytes) -> bytes:
    """As tmux writes output."""
    return b"".join(b"\\%03o" % c if c < 32 or c == 92 else bytes((c,)) for c in data)


@given(st.binary(), st.booleans())
def test_output_comes_back_as_the_pane_wrote_it(data: bytes, delayed: bool) -> None:
    """Every byte, also those that tmux does not escape."""
    head, age = (b"%extended-output %7 12 : ", 12) if delayed else (b"%output %7 ", None)
    assert Parser().feed(head + as_written(data) + b"\n") == [Output("%7", data, age)]


@given(st.binary(max_size=200), st.integers(1, 40))
def test_nonsense_is_a_surprise_or_nothing_worse(data: bytes, size: int) -> None:
    """And never anything that a caller does not expect."""
    parser = Parser()
    try:
        for at in range(0, len(data), size):
            parser.feed(data[at : at + size])
    except Surprise:
        pass


@pytest.mark.parametrize(
    "line", [b"%end 1 2 1", b"%error 1 2 1", b"%extended-output %1 a", b"%extended-output %1 x : a"]
)
def test_what_cannot_be_is_a_surprise(line: bytes) -> None:
    """Guessing would take one command's answer for another's."""
    with pytest.raises(Surprise):
        Parser().feed(line + b"\n")


def as_read(line: bytes) -> list[list[str]]:
    """As the manual says that tmux reads a line of commands in double quotes."""
    commands: list[list[str]] = [[]]
    at = 0
    while line[at : at + 1] != b"\n":
        if line[at : at + 1] == b'"':
            word, at = bytearray(), at + 1
            while line[at : at + 1] != b'"':
                if line[at : at + 1] == b"\\":
                    word.append(int(line[at + 1 : at + 4], 8))
                    at += 4
                else:
                    assert line[at] not in b"$\n#~{};'", "not to be seen outside an escape"
                    word.append(line[at])
                    at += 1
            commands[-1].append(word.decode("utf-8", "surrogateescape"))
        elif line[at : at + 1] == b";":
            commands.append([])
        else:
            assert line[at : at + 1] == b" "
        at += 1
    assert at == len(line) - 1, "one line, and no more"
    return commands


words = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@given(st.lists(st.lists(words, min_size=1), min_size=1))
def test_a_command_arrives_as_it_was_meant(commands: list[list[str]]) -> None:
    """On one line, with nothing in it that tmux would expand."""
    assert as_read(command_line(commands)) == commands


@pytest.mark.parametrize("word", ["a\0b", "\ud800"])
def test_what_no_argument_can_hold_is_refused(word: str) -> None:
    with pytest.raises(TmuxError):
        quote(word)
