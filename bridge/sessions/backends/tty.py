"""A pane's terminal, looked at from outside."""

from __future__ import annotations

import os
import termios


def is_raw(tty: str) -> bool:
    """Whether keys reach its program as they are, and the terminal makes nothing of them itself.

    Raises `OSError` or `termios.error` where there is no such terminal.
    """
    fd = os.open(tty, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return not termios.tcgetattr(fd)[3] & termios.ICANON
    finally:
        os.close(fd)
