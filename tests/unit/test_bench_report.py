"""The report of the benchmarks: every module's rows in one table, judged by its aims."""

from __future__ import annotations

from bench.report import Section, normal, render, table

RATIO = {
    "figure": "fan-out burst, ours / naive", "server": "ratio", "clients": 200, "unit": "x",
    "median": 4.2, "min": 4.2, "max": 4.2, "runs": 1, "how": "bursts",
}  # fmt: skip
VALUE = {
    "figure": "on disk", "unit": "ms", "value": 1.5, "min": 1.0, "max": 2.0, "against": 1.0,
    "against_what": "bare commit", "ratio": 1.5, "more": 0.5, "runs": 5, "n": 100, "how": "alone",
    "aim": "<= 2 ms more", "met": True,
}  # fmt: skip


def test_a_ratio_is_judged_by_its_aim() -> None:
    """A figure that cannot fall short is not a benchmark."""
    assert normal(RATIO)["met"] is False
    assert normal(RATIO | {"median": 5.0})["met"] is True
    assert normal(RATIO | {"clients": 1})["met"] is None


def test_a_value_is_shown_with_its_spread_and_what_it_stands_against() -> None:
    """Median, minimum and maximum, and how many were taken."""
    row = normal(VALUE)
    assert row["ours"] == "1.5 ms (1 to 2)"
    assert (row["against"], row["alternative"]) == ("bare commit", "1 ms")
    assert row["n"] == "5 × 100"


def test_a_row_in_the_tables_own_shape_is_left_alone() -> None:
    """Most modules write it themselves."""
    assert normal({"figure": "x", "ours": "1 ms"}) == {"figure": "x", "ours": "1 ms"}


def test_empty_columns_are_left_out() -> None:
    """A table is to be read."""
    assert table(Section("x", "X.", [{"figure": "a", "ours": "1"}], 1.0)) == (
        "| figure | ours |\n| --- | --- |\n| a | 1 |"
    )


def test_the_report_counts_the_aims_and_names_what_failed() -> None:
    """And the machine, without which no figure means anything."""
    text = render(
        [Section("a", "A.", [VALUE, RATIO], 1.0), Section("b", "B.", None, 1.0)], ["2 cores"], quick=True
    )
    assert "1 of 2 aims met" in text
    assert "- 2 cores" in text
    assert "failed" in text
    assert "quick" in text
