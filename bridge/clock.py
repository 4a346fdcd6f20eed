"""Time as a parameter, so that tests can move it. Wall time is for people to read and decides nothing: it may
be set back or forward at any moment. Who else reads it compares it with another program's (tmux, the CLI)."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    def now(self) -> float:
        """Wall time in seconds since 1970, for what people and clients see."""
        ...

    def monotonic(self) -> float:
        """Seconds that never step back, for windows and deadlines."""
        ...


class SystemClock:
    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


def local_day(at: float) -> str:
    """The date where this machine stands."""
    return time.strftime("%Y-%m-%d", time.localtime(at))


def rfc3339(at: float) -> str:
    """`at` as the wire writes times: UTC, milliseconds, `Z`."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
