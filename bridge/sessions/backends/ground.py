"""What a CLI reads of the machine as it starts, and never again: whether a waiting process still knows it.

2.1.330 reads its instructions, skills, agents and settings, the branch and the date when it starts, and tells
Claude of them with the first prompt, an hour later if need be; nothing that it could be asked makes it look
again. Looked at here is when those files were last written. What a file includes from elsewhere is not
followed, and of the work tree only where it stands is known: a file that was edited after the start is
missing in the `git status` that Claude is shown, as it would be a minute into any conversation.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

INSTRUCTIONS = ("CLAUDE.md", "CLAUDE.local.md", ".mcp.json")
OWN = (".claude/CLAUDE.md", ".claude/settings.json", ".claude/settings.local.json")
USERS = ("CLAUDE.md", "settings.json", "settings.local.json", "plugins/installed_plugins.json")
MANAGED = ("/etc/claude-code/managed-settings.json", "/etc/claude-code/CLAUDE.md")
TREES = ("skills", "agents", "commands", "rules", "output-styles")

MOST_FILES = 2000
"""Of one tree; beyond that a change is found by its folders alone."""


def ground(cwd: Path, config_dir: Path, day: str) -> str:
    """A digest of it; `day` is the date. Blocking, a millisecond; what cannot be read counts as not there."""
    seen = hashlib.sha256(day.encode())
    for path in _files(cwd, config_dir):
        seen.update(f"{path}\0{_state(path)}\0".encode(errors="surrogateescape"))
    for line in _head(cwd):
        seen.update(line.encode(errors="surrogateescape"))
    return seen.hexdigest()


def _files(cwd: Path, config_dir: Path) -> Iterator[Path]:
    for folder in (cwd, *cwd.parents):
        yield from (folder / name for name in (*INSTRUCTIONS, *OWN))
    yield from (config_dir / name for name in USERS)
    yield from map(Path, MANAGED)
    for base in (*(folder / ".claude" for folder in (cwd, *cwd.parents)), config_dir):
        for name in TREES:
            yield from _below(base / name)


def _below(folder: Path) -> Iterator[Path]:
    count = 0
    for place, folders, files in os.walk(folder):
        folders.sort()
        yield Path(place)
        for name in sorted(files):
            count += 1
            if count <= MOST_FILES:
                yield Path(place, name)


def _state(path: Path) -> str:
    try:
        found = path.stat()
    except OSError:
        return "-"
    return f"{found.st_ino} {found.st_size} {found.st_mtime_ns}"


def _head(cwd: Path) -> Iterator[str]:
    """The branch, and the commit on it."""
    for folder in (cwd, *cwd.parents):
        git = folder / ".git"
        if not git.exists():
            continue
        said = _text(git)
        if said.startswith("gitdir:"):  # a work tree beside the repository
            git = (folder / said.removeprefix("gitdir:").strip()).resolve()
        head = _text(git / "HEAD")
        yield head
        if head.startswith("ref:"):
            common = (git / (_text(git / "commondir").strip() or ".")).resolve()
            yield _text(common / head.removeprefix("ref:").strip())
            yield _state(common / "packed-refs")
        return


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="surrogateescape")[:4096] if path.is_file() else ""
    except OSError:
        return ""
