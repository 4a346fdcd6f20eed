"""Whether a waiting process still knows what one started now would read."""

from __future__ import annotations

import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from bridge.sessions.backends.ground import ground

DAY = "2026-11-29"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "repo" / "deep"
    folder.mkdir(parents=True)
    git(folder.parent, "init", "-q", "-b", "main")
    (folder / "code.py").write_text("1\n")
    return folder


def git(folder: Path, *words: str) -> None:
    who = ("-c", "user.name=a", "-c", "user.email=a@example.com")
    subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True)


@pytest.mark.parametrize(
    "path",
    [
        "repo/deep/CLAUDE.md",
        "repo/CLAUDE.md",
        "repo/.claude/settings.json",
        "repo/deep/.mcp.json",
        "repo/deep/.claude/skills/one/SKILL.md",
        "repo/.claude/agents/two.md",
        "config/CLAUDE.md",
        "config/settings.json",
        "config/skills/three/SKILL.md",
    ],
)
def test_what_is_read_at_the_start_is_seen_to_change(project: Path, tmp_path: Path, path: str) -> None:
    """Made, written again, and removed."""
    seen = [ground(project, tmp_path / "config", DAY)]
    file = tmp_path / path
    file.parent.mkdir(parents=True, exist_ok=True)
    for text in ("one\n", "other\n"):
        file.write_text(text)
        seen.append(ground(project, tmp_path / "config", DAY))
    file.unlink()
    seen.append(ground(project, tmp_path / "config", DAY))
    assert all(one != other for one, other in pairwise(seen))


def test_a_commit_and_another_branch_are_seen(project: Path, tmp_path: Path) -> None:
    """In a work tree of its own, too."""
    seen = [ground(project, tmp_path, DAY)]
    git(project, "add", ".")
    git(project, "commit", "-qm", "one")
    seen.append(ground(project, tmp_path, DAY))
    git(project, "checkout", "-qb", "other")
    seen.append(ground(project, tmp_path, DAY))
    git(project, "worktree", "add", "-q", str(tmp_path / "beside"), "-b", "third")
    beside = [ground(tmp_path / "beside", tmp_path, DAY)]
    git(tmp_path / "beside", "commit", "-q", "--allow-empty", "-m", "two")
    beside.append(ground(tmp_path / "beside", tmp_path, DAY))
    assert len({*seen, *beside}) == 5


def test_the_day_is_part_of_it_and_work_is_not(project: Path, tmp_path: Path) -> None:
    """A spare is not thrown away for every file that somebody saves."""
    before = ground(project, tmp_path, DAY)
    (project / "code.py").write_text("2\n")
    assert ground(project, tmp_path, DAY) == before
    assert ground(project, tmp_path, "2026-11-30") != before
