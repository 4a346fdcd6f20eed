"""What Claude Code has kept of a conversation, on disk: where that is, and how a process takes it up.

It refuses to resume a conversation of which it has no word, and to begin one whose file is there. The file
comes some 0.2 s after the first prompt and begins with settings and the like, a moment before the prompt
itself stands in it (2.1.330): what can be resumed follows from nothing that was sent, only from the file.
"""

from __future__ import annotations

import contextlib
import glob
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

import structlog

from bridge.sessions.backends.base import Launch
from bridge.sessions.claude.launch import Start
from bridge.sessions.claude.transcript import has_messages

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Beginning:
    """How a process is to begin, and where what it has kept so far ends. `launch` names the conversation that
    is meant now; `renamed`: the old id could be neither resumed nor begun."""

    launch: Launch
    start: Start
    size: int
    renamed: bool


def config_folder(env: Mapping[str, str]) -> Path:
    """The configuration folder of a CLI with these variables."""
    return Path(env.get("CLAUDE_CONFIG_DIR") or Path(env.get("HOME") or "/") / ".claude")


def transcript_path(folder: Path, conversation: str) -> Path | None:
    """A conversation's file lies under its folder's name, which only the CLI knows how to make."""
    return next(folder.glob(f"projects/*/{glob.escape(conversation)}.jsonl"), None)


def beginning(folder: Path, launch: Launch) -> Beginning:
    """Blocking."""
    path = transcript_path(folder, launch.conversation)
    size = _size(path)
    if launch.resume and not size:
        log.warning("began the conversation afresh: Claude has kept nothing of it", session=launch.name)
    resume = launch.options.resume is not None or size > 0
    renamed = path is not None and not resume
    if renamed:
        launch = replace(launch, conversation=str(uuid4()))
    return Beginning(launch, Start(launch.conversation, resume, launch.options), size, renamed)


def _size(path: Path | None) -> int:
    """Of a file that holds something to resume, else 0."""
    if path is not None:
        with contextlib.suppress(OSError), path.open("rb") as file:
            if has_messages(file):
                return path.stat().st_size
    return 0
