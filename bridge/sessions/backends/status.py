"""The CLI's live status files: `<configuration folder>/sessions/<pid>.json`, written at each change.

An undocumented file of the CLI's own (2.1.330), and the only sign of an Escape before the first word and
of dialogs. It is removed when the CLI ends by itself, and left behind when it is killed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from bridge.sessions.backends.tail import FileWatch


class StatusFiles:
    """Whoever follows a process is called when its file changes; one watch for each folder."""

    def __init__(self, watch: FileWatch) -> None:
        self._watch = watch
        self._wakes: dict[Path, dict[str, Callable[[], None]]] = {}

    def follow(self, config_dir: Path, pid: int, wake: Callable[[], None]) -> Callable[[], None]:
        """Returns what ends it. Raises `OSError` where the folder cannot be watched."""
        folder = config_dir / "sessions"
        if folder not in self._wakes:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            wakes = self._wakes.setdefault(folder, {})

            def changed(name: str) -> None:
                for call in [wakes[name]] if name in wakes else [] if name else list(wakes.values()):
                    call()

            self._watch.add_folder(folder, changed)
        name = f"{pid}.json"
        self._wakes[folder][name] = wake
        return lambda: self._unfollow(folder, name, wake)

    def _unfollow(self, folder: Path, name: str, wake: Callable[[], None]) -> None:
        if self._wakes[folder].get(name) is wake:
            del self._wakes[folder][name]


def read_status(config_dir: Path, pid: int) -> dict[str, Any] | None:
    """None where there is no file, or half of one."""
    try:
        said = orjson.loads((config_dir / "sessions" / f"{pid}.json").read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return None
    return said if isinstance(said, dict) and said.get("pid") == pid else None
