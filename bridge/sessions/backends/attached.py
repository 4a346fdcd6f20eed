"""What came with prompts, as files for a CLI that takes nothing else: in the session's own folder, one folder
for each turn, until the session is deleted or the turn is not kept any more. Blocking.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from bridge.errors import BackendError
from bridge.events import SessionName, TurnId
from bridge.sessions.backends.base import File
from bridge.sessions.claude.mentions import FILES, file_name, files_of

__all__ = ["FILES", "files_of", "forget_files", "write_files"]


def write_files(folder: Path, files: Sequence[File]) -> None:
    """Under their `file_name`; again over what is there. Raises `BackendError`."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for n, file in enumerate(files):
            path = folder / file_name(n, file.name, file.media_type)
            new = folder / f".{n}"  # never half a file under its name
            fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with open(fd, "wb") as out:
                out.write(file.data)
            new.replace(path)
    except OSError as e:
        raise BackendError(f"what came with the prompt could not be written: {e.strerror or e}") from e


def forget_files(sessions: Path, session: SessionName, turns: Sequence[TurnId]) -> None:
    """`sessions` holds a folder for each session."""
    for turn in turns:
        shutil.rmtree(files_of(sessions / session) / turn, ignore_errors=True)
