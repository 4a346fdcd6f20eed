"""Makes a conversation out of the first turns of another: a copy of Claude's own file, cut and renamed.

The CLI's `--fork-session` takes the whole conversation, and whatever its process writes meanwhile; a copy is
exact, and takes no notice of a process that works on the other. It lies beside the original, in the folder
that the CLI made for the working directory.

A copy that no session came of must not stay: until it is settled, a note in `<state>/forks/` names it, which
the next bridge finds.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Container
from pathlib import Path

import structlog

from bridge.errors import BackendError
from bridge.sessions.backends.base import Branch
from bridge.sessions.backends.kept import transcript_path
from bridge.sessions.claude.branching import Cut, Told, find_cut, renamed

log = structlog.get_logger(__name__)

LATE_S = 2.0
"""For the end of an answer to stand in the file: it is told some milliseconds before it is written."""
LOOK_S = 0.05


class TranscriptForks:
    """`Forks` of sessions whose conversations the CLI keeps."""

    def __init__(self, state_dir: Path, config_folder: Callable[[], Path]) -> None:
        self._notes = state_dir / "forks"
        self._config_folder = config_folder

    def begin(self, branch: Branch) -> None:
        if not any(turn.said for turn in branch.turns):
            return  # Claude has said nothing yet: the other one begins afresh
        source = transcript_path(self._config_folder(), branch.conversation)
        if source is None:
            raise BackendError("Claude has kept nothing of this conversation")
        deadline = time.monotonic() + LATE_S
        while not _whole(cut := _cut(source, branch), branch, late=time.monotonic() > deadline):
            time.sleep(LOOK_S)
        self._notes.mkdir(mode=0o700, exist_ok=True)
        copy = source.with_name(f"{branch.into}.jsonl")
        (self._notes / branch.into).write_text(str(copy))
        _copy(source, copy, cut.end, branch)
        log.info("conversation forked", conversation=branch.conversation, into=branch.into, size=cut.end)

    def settle(self, conversation: str, *, kept: bool) -> None:
        note = self._notes / conversation
        with contextlib.suppress(FileNotFoundError):
            copy = Path(note.read_text())
            if not kept and copy.stem == conversation:
                copy.unlink(missing_ok=True)
                copy.with_suffix(".new").unlink(missing_ok=True)
            note.unlink()

    def sweep(self, conversations: Container[str]) -> None:
        if self._notes.is_dir():
            for note in list(self._notes.iterdir()):
                self.settle(note.name, kept=note.name in conversations)


def _cut(source: Path, branch: Branch) -> Cut:
    with source.open("rb") as lines:
        return find_cut(lines, [Told(turn.id, turn.named) for turn in branch.turns])


def _whole(cut: Cut, branch: Branch, *, late: bool) -> bool:
    """Whether the file has all of these turns; False: not yet. Raises `BackendError` where it never will."""
    known = next((n for n, turn in enumerate(branch.turns) if turn.id == cut.last), -1)
    after = branch.turns[known + 1 :]
    missing = [turn for turn in after if turn.named and turn.said and turn.status == "completed"]
    # Who began by itself is not known by name; else the last one that the file knows.
    ends = next((turn for turn in reversed(after) if not turn.named), None)
    ends = ends or (branch.turns[known] if known >= 0 else None)
    unanswered = ends is not None and ends.said and not cut.answered
    if not missing and not (unanswered and ends is not None and ends.status in ("completed", "interrupted")):
        return True
    if not late:
        return False
    if missing:
        raise BackendError(f"what Claude has kept of this conversation lacks the turn {missing[-1].id}")
    if ends is not None and ends.status == "completed":
        raise BackendError(f"what Claude has kept of this conversation lacks the answer to {ends.id}")
    return True  # it was interrupted, and what had come of the answer went with its process


def _copy(source: Path, copy: Path, end: int, branch: Branch) -> None:
    new = copy.with_suffix(".new")
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with source.open("rb") as lines, open(fd, "wb") as out:
        offset = 0
        for line in lines:
            offset += len(line)
            if offset > end:
                break
            out.write(renamed(line, branch.conversation, branch.into))
        out.flush()
        os.fsync(out.fileno())
    new.replace(copy)
    folder = os.open(copy.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
