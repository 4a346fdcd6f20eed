"""The turns of a conversation that was begun outside the bridge, from Claude's own file. Blocking."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from bridge.errors import BackendError
from bridge.events import Turn
from bridge.sessions.backends.kept import transcript_path
from bridge.sessions.claude.past import PastReader

MOST_TURNS = 1000
MOST_CHARS = 32 * 1024 * 1024
"""Of what is taken over; a transcript may have hundreds of megabytes. Claude itself has all of it."""

CONVERSATION = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}")
"""It becomes part of a path."""


class TranscriptPast:
    """`Past` of sessions whose conversations the CLI keeps."""

    def __init__(self, config_folder: Callable[[], Path]) -> None:
        self._config_folder = config_folder

    def __call__(self, conversation: str) -> tuple[Turn, ...]:
        found = CONVERSATION.fullmatch(conversation) is not None
        path = transcript_path(self._config_folder(), conversation) if found else None
        turns: tuple[Turn, ...] = ()
        if path is not None:
            reader = PastReader(MOST_TURNS, MOST_CHARS)
            with path.open("rb") as lines:
                for line in lines:
                    reader.take(line)
            turns = reader.turns()
        if not turns:
            raise BackendError(f"Claude has kept no conversation {conversation!r} here")
        return turns
