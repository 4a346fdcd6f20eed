"""A disk of its own that is small enough to be filled."""

from __future__ import annotations

import contextlib
import errno
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

import pytest

PAGE = 4096


class _Full(Exception):
    pass


def _write(file: FileIO) -> None:
    try:
        file.write(bytes(PAGE))
    except OSError as e:
        raise (_Full if e.errno == errno.ENOSPC else e) from e


class Disk:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        """To the last page."""
        with self._ballast.open("ab", buffering=0) as file, contextlib.suppress(_Full):
            while True:
                _write(file)

    def free(self) -> None:
        self._ballast.unlink()


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Disk]:
    """A new tmpfs in a new folder, for who may mount one; whatever uses it has to be gone at the end."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a small disk")
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", str(folder)], check=True)
