"""Puts text into the TUI's input box through its external editor: a compare-and-set on what stands there.

The other side is `claude.editor_shim`. An order is laid down, Ctrl-G is pressed, and the shim says what it
found. A person's draft is never replaced, and nothing is decided by looking at the screen.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import shutil
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bridge.errors import BackendError

KEY = "C-g"
ANSWER_S = 3.0
"""From the key to the shim's answer it takes 30 to 80 ms; a dialog swallows the key."""
LATE_S = 30.0
"""A TUI that was busy may still open the editor for a key of ours; then nothing shall open."""
SETTLE_S = 1.0
"""A TUI that reads again takes all keys that waited at once; each opens the editor for 10 to 80 ms."""
LOOK_S = 0.004


@dataclass(frozen=True, slots=True)
class Still:
    """For as long as no person types: `press` presses keys or says that it did not, `check` is a line for
    a shell, which is true where none was pressed yet."""

    press: Callable[..., Awaitable[bool]]
    check: str


@dataclass(frozen=True, slots=True)
class Box:
    """What stood in the box, and whether what was to be put there is there now. `refused` where nobody
    looked, because a person had begun to type."""

    found: str
    placed: bool
    refused: bool = False


class Editor:
    """One process's. `press` sends keys, by tmux's names."""

    def __init__(
        self,
        folder: Path,
        press: Callable[..., Awaitable[None]],
        listens: Callable[[], Awaitable[bool]] | None = None,
    ) -> None:
        """`listens` waits until the TUI reads its terminal's keys, and says whether it does."""
        self._folder = folder
        self._press = press
        self._listens = listens
        self.alone = asyncio.Lock()
        """A key that is pressed while the editor opens is lost, or taken together with ours."""
        self._answers = False
        """The last key opened the editor."""

    async def look(self, still: Still | None = None) -> str | None:
        """What stands in the box; None where no editor opens."""
        async with self.alone:
            box = await self._order({}, still, KEY)
        return None if box is None or box.refused else box.found

    async def put(self, text: str, over: Iterable[str] = (), still: Still | None = None) -> Box | None:
        """Put `text` there if the box is empty or holds one of `over`; None where no editor opens.

        Looks first: a person's `!` in front of an empty box would have a shell run the text, and only
        where the box is empty may a Backspace take it away. What stands there already is left: of a long text
        that it is given twice, the TUI would take a part for something pasted, and alter it. With `still`,
        nothing is put there where a person began to type meanwhile.
        """
        over = tuple(over)
        order = {f"expect-{n}": expected for n, expected in enumerate(over, 1)} | {"put": text}
        async with self.alone:
            box = await self._order({}, still, KEY)
            if box is None or box.refused or (box.found and box.found not in over):
                return box
            if box.found == text:
                return Box(text, placed=True)
            return await self._order(order, still, *(() if box.found else ("BSpace",)), KEY)

    async def take(self, text: str, still: Still | None = None) -> Box | None:
        """Take `text` away from the beginning of what stands there; `placed` where it stood there."""
        async with self.alone:
            return await self._order({"take": text}, still, KEY)

    async def _order(self, order: Mapping[str, str], still: Still | None, *keys: str) -> Box | None:
        if still is not None:
            order = {**order, "still": still.check}
        # The editor's last word comes before its end: a Backspace would be the terminal's own until then.
        if self._listens is not None and not await self._listens():
            return None
        try:
            await self._settle()
            await asyncio.to_thread(self._lay, order)
            try:
                if still is None:
                    await self._press(*keys)
                elif not await still.press(*keys):
                    await asyncio.to_thread(self._take_back)
                    return Box("", placed=False, refused=True)
                self._answers = await self._answered(ANSWER_S)
                if not self._answers and not await asyncio.to_thread(self._withdraw):
                    # Taken at the last moment.
                    self._answers = await self._answered(ANSWER_S)
                self._expire_later()
                return await asyncio.to_thread(self._read)
            except asyncio.CancelledError:
                with contextlib.suppress(OSError):  # a deleted session's folder is gone
                    self._withdraw()
                    self._expire_later()
                raise
        except OSError as e:
            raise BackendError(f"the editor's folder cannot be used: {e}") from e

    def take_over(self) -> None:
        """What an earlier bridge had laid down is not to be put there: a key of a person's would."""
        if (self._folder / "order").exists():
            self._withdraw()
        self._expire_later()

    async def _settle(self) -> None:
        """A key of ours that nothing came of may still open the editor, in answer to the next order: the next
        order's own key, and a Backspace that goes before it, would then come behind that order's end."""
        end = _now() + SETTLE_S
        while owed := self._owed():
            if _now() > end:
                break
            await asyncio.sleep(LOOK_S)
        if self._answers:  # since, so the TUI has read them, and lost them
            for mark in owed:
                mark.unlink(missing_ok=True)

    async def _answered(self, seconds: float) -> bool:
        done = self._folder / "done"
        end = _now() + seconds
        while not done.exists():
            if _now() > end:
                return False
            await asyncio.sleep(LOOK_S)
        return True

    def _lay(self, order: Mapping[str, str]) -> None:
        new = self._folder / "new"
        for old in (new, self._folder / "done", self._folder / "order"):
            shutil.rmtree(old, ignore_errors=True)
        new.mkdir(mode=0o700)
        for name, text in order.items():
            (new / name).write_bytes(text.encode())
        os.rename(new, self._folder / "order")

    def _withdraw(self) -> bool:
        """Take back an order whose key was pressed; whether it could be."""
        mark = self._folder / f"withdrawn-{uuid.uuid4()}"
        mark.touch()
        if not self._take_back():
            mark.unlink(missing_ok=True)
            return False
        return True

    def _take_back(self) -> bool:
        try:
            os.rename(self._folder / "order", self._folder / "void")
        except OSError:
            return False
        shutil.rmtree(self._folder / "void", ignore_errors=True)
        return True

    def _owed(self) -> list[Path]:
        return list(self._folder.glob("withdrawn-*"))

    def _expire_later(self) -> None:
        """From then on a key is a person's."""
        for mark in self._owed():
            asyncio.get_running_loop().call_later(LATE_S, functools.partial(mark.unlink, missing_ok=True))

    def _read(self) -> Box | None:
        done = self._folder / "done"
        try:
            found = (done / "found").read_bytes().decode(errors="replace")
        except OSError:
            return None
        return Box(found, (done / "placed").exists())


def _now() -> float:
    return asyncio.get_running_loop().time()
