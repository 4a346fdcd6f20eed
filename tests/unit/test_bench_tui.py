"""What the TUI's benchmark takes for a lost line: a figure that cannot fall short says nothing."""

from __future__ import annotations

import pytest

from bench.tui import missed

TEXT = "one\ntwo\nthree"


@pytest.mark.parametrize(
    ("deltas", "expected"),
    [
        ([(1.0, "one\n"), (2.0, "two\n"), (9.0, "three")], (0, 0)),
        ([(1.0, "one\ntwo\n"), (9.0, "three")], (0, 0)),
        ([(1.0, "one\n"), (9.0, "two\nthree")], (0, 1)),
        ([(1.0, "one\n"), (9.0, "three")], (2, 0)),
        ([(1.0, "one\n"), (2.0, "one\n"), (3.0, "two\n"), (9.0, "three")], (3, 0)),
        ([], (3, 0)),
    ],
)
def test_lines_that_were_lost_doubled_or_late_are_counted(
    deltas: list[tuple[float, str]], expected: tuple[int, int]
) -> None:
    """From the first one on that is not in its place: where it is missing, the rest stands wrong, too."""
    assert missed(TEXT, deltas, last_byte=5.0) == expected
