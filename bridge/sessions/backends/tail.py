"""Reads files that others append to, as they grow: woken by inotify, never by a clock.

One inotify descriptor serves every file of the bridge. Knows bytes and offsets, not what they mean.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
from collections.abc import Callable
from pathlib import Path

from inotify_simple import INotify, flags  # type: ignore[import-untyped]

CHUNK = 256 * 1024
"""Bytes read in one go: what a reader of the loop takes before others have their turn. Parsing so many
takes about 10 ms."""

HOLE_STEP = 1024 * 1024
"""Input is freed in steps of at least so much: freeing is a system call that waits for the file system."""

_PAGE = 4096
_KEEP_SIZE, _PUNCH_HOLE = 0x01, 0x02  # linux/falloc.h


class FileWatch:
    """One inotify for all files; belongs to the loop on which it is first used."""

    def __init__(self) -> None:
        self._inotify: INotify | None = None
        self._wakes: dict[int, Callable[[], None]] = {}
        self._folders: dict[int, Callable[[str], None]] = {}

    def add(self, path: Path, wake: Callable[[], None]) -> int:
        """`wake` is called whenever something was written to the file. One watch for each file."""
        watch: int = self._opened().add_watch(path, flags.MODIFY)
        self._wakes[watch] = wake
        return watch

    def add_folder(self, path: Path, wake: Callable[[str], None]) -> int:
        """`wake` gets the name of a file that was written, made or removed in the folder; an empty one where
        any may have been. One watch for each folder."""
        mask = flags.MODIFY | flags.CREATE | flags.MOVED_TO | flags.DELETE
        watch: int = self._opened().add_watch(path, mask)
        self._folders[watch] = wake
        return watch

    def _opened(self) -> INotify:
        if self._inotify is None:
            self._inotify = INotify(nonblocking=True)
            asyncio.get_running_loop().add_reader(self._inotify.fd, self._ready)
        return self._inotify

    def remove(self, watch: int) -> None:
        known = self._wakes.pop(watch, None) or self._folders.pop(watch, None)
        if known is None or self._inotify is None:
            return
        try:
            self._inotify.rm_watch(watch)
        except OSError as e:
            if e.errno != errno.EINVAL:  # the file is gone, and its watch with it
                raise

    def close(self) -> None:
        if self._inotify is not None:
            asyncio.get_running_loop().remove_reader(self._inotify.fd)
            self._inotify.close()
            self._inotify = None
        self._wakes.clear()
        self._folders.clear()

    def _ready(self) -> None:
        assert self._inotify is not None
        wakes: set[Callable[[], None]] = set()
        for event in self._inotify.read(timeout=0):
            if event.mask & flags.Q_OVERFLOW:
                wakes.update(self._wakes.values())  # what was written to is lost: look everywhere
                for look in list(self._folders.values()):
                    look("")
            elif event.wd in self._folders:
                self._folders[event.wd](event.name)
            elif event.wd in self._wakes:
                wakes.add(self._wakes[event.wd])
        for wake in wakes:
            wake()


class Tail:
    """One file from an offset on. Everything in it is handed to `take`, in order and once."""

    def __init__(self, path: Path, offset: int, watch: FileWatch, take: Callable[[bytes], None]) -> None:
        self._path = path
        self._freed = 0
        self._watch = watch
        self._take = take
        self._at_end: Callable[[], None] | None = None
        self._scheduled = False
        self._closed = False
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        os.lseek(self._fd, offset, os.SEEK_SET)
        self._wd = watch.add(path, self._read)

    @property
    def closed(self) -> bool:
        return self._closed

    def when_caught_up(self, then: Callable[[], None]) -> None:
        """Read to the present end and call `then` there, once; a later call takes the place of this one."""
        self._at_end = then
        self._soon()

    def free(self, offset: int) -> None:
        """Nobody will ever ask for what stands before `offset`: give the disk its room back. Offsets stay
        valid. Where the file system cannot, the file just stays large."""
        end = offset // _PAGE * _PAGE
        if self._closed or end - self._freed < HOLE_STEP:
            return
        if punch_hole(self._path, self._freed, end - self._freed):
            self._freed = end

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._watch.remove(self._wd)
            os.close(self._fd)

    def _soon(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._again)

    def _again(self) -> None:
        self._scheduled = False
        self._read()

    def _read(self) -> None:
        if self._closed or self._scheduled:
            return
        data = os.read(self._fd, CHUNK)
        if data:
            self._take(data)
        if len(data) == CHUNK:
            self._soon()  # there may be more; the others first
        elif self._at_end is not None and not self._closed:
            then, self._at_end = self._at_end, None
            then()


def punch_hole(path: Path, offset: int, length: int) -> bool:
    """Free a range of a file without changing its size; False where that is not possible here."""
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        mode = _KEEP_SIZE | _PUNCH_HOLE
        done: int = libc.fallocate(fd, mode, ctypes.c_int64(offset), ctypes.c_int64(length))
        return done == 0
    finally:
        os.close(fd)
