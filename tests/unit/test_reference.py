"""The pages that are made from the code say what the code says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scripts import reference

ROOT = Path(__file__).parents[2]
DOCS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def test_the_reference_is_up_to_date() -> None:
    """`make docs` rewrites it."""
    assert [str(page.relative_to(ROOT)) for page in reference.stale()] == []


@pytest.mark.parametrize("page", DOCS, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    """Within the repository; spec/ is written beside the code."""
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", DOCS, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_of_a_page_exists(page: Path) -> None:
    """A page that shows a command nobody has is worse than none."""
    shown = re.findall(r"(?:^ {4,}|^\$ |`|bin/|\d )claude-bridge ([a-z]+)", page.read_text(), re.MULTILINE)
    known = reference.typer.main.get_command(reference.cli.cli).commands
    assert set(shown) <= set(known)
