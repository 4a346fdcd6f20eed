"""A tool that runs until it is ended, told from every other process of the machine."""

from __future__ import annotations

import secrets
from pathlib import Path

from tests.fakes.tui import running, until


class Sleeper:
    """`command` is for a Bash tool; the CLI refuses a mere `sleep`."""

    def __init__(self, how: str = "") -> None:
        seconds = f"4242.{secrets.randbelow(10**9):09}"
        self._words = f"sleep\0{seconds}\0".encode()
        self.command = f"{how}env sleep {seconds}"

    async def started(self) -> int:
        """Its process, as soon as there is one."""
        return await until(self._find)

    def _find(self) -> int | None:
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if (folder / "cmdline").read_bytes() == self._words:
                    return int(folder.name)
            except OSError:
                continue
        return None


async def ended(pid: int) -> None:
    await until(lambda: not running(pid))
