"""`spec/phoenix.md` and the tests are one list: what matters to a client is tested, under its id."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
LINE = re.compile(r"^\| ([A-Z]\d\d) \| (J|S|JS|–) \| (\S.*) \|$", re.MULTILINE)
TEST = re.compile(r"^(?:async )?def (test_\w+)", re.MULTILINE)
ID = re.compile(r"(?<=_)[A-Z]\d\d(?=_)")


def listed() -> dict[str, str]:
    """Ids, and whom they matter to."""
    lines = LINE.findall((ROOT / "spec" / "phoenix.md").read_text())
    ids = [name for name, _, _ in lines]
    assert len(ids) == len(set(ids)), "an id stands there twice"
    return {name: whom for name, whom, _ in lines}


def named_in(folder: Path) -> dict[str, list[str]]:
    """Ids in the names of test functions, and the files they are in."""
    found: dict[str, list[str]] = {}
    for path in sorted(folder.rglob("test_*.py")):
        for test in TEST.findall(path.read_text()):
            for name in ID.findall(test):
                found.setdefault(name, []).append(path.name)
    return found


def test_the_list_is_whole() -> None:
    """All sections, without a gap in any."""
    sections: dict[str, list[int]] = {}
    for name in listed():
        sections.setdefault(name[0], []).append(int(name[1:]))
    assert "".join(sections) == "ABCDEFGHIKLMNOPQ"
    assert all(numbers == list(range(1, len(numbers) + 1)) for numbers in sections.values())
    assert len(listed()) == 150


def test_what_matters_to_a_client_is_tested() -> None:
    """Every J, S and JS has a test with its id in its name."""
    found = named_in(ROOT / "tests")
    assert [name for name, whom in listed().items() if whom != "–" and name not in found] == []


def test_no_test_names_what_is_not_listed() -> None:
    """An id in a test's name leads to its line."""
    assert sorted(named_in(ROOT / "tests").keys() - listed().keys()) == []


def test_an_id_is_found_wherever_it_stands_in_a_name(tmp_path: Path) -> None:
    """Several in a row as well; a check that finds nothing would find nothing missing."""
    (tmp_path / "test_x.py").write_text(
        "async def test_A01_N02_x(): ...\ndef test_B03_y(): ...\ndef a_C04_z(): ..."
    )
    assert sorted(named_in(tmp_path)) == ["A01", "B03", "N02"]
