"""What a test's own tmux server leaves behind."""

from __future__ import annotations

import os
from pathlib import Path


def remove_socket(name: str) -> None:
    """Once its server has ended: tmux leaves the file."""
    Path(f"/tmp/tmux-{os.getuid()}/{name}").unlink(missing_ok=True)
