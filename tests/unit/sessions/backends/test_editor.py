"""The editor's side of the compare-and-set, with the real shim and a box that is a file."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from pathlib import Path

import pytest

from bridge.sessions.backends import editor
from bridge.sessions.backends.editor import Box, Editor
from bridge.sessions.claude.editor_shim import SHIM


class Terminal:
    """An input box, and what Ctrl-G and Backspace do in it; `deaf` where a dialog swallows the keys, `asleep`
    where they wait."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "editor"
        self.folder.mkdir()
        self.box = folder / "box"
        self.box.write_bytes(b"")
        self.persons = folder / "ran"
        self.shim = self.folder / "shim"
        self.shim.write_text(SHIM)
        self.keys: list[str] = []
        self.deaf = False
        self.asleep: asyncio.Event | None = None
        self.behind: list[asyncio.Task[None]] = []
        self.reading = asyncio.Lock()
        self.editor = Editor(self.folder, self.press)

    @property
    def stands(self) -> str:
        return self.box.read_bytes().decode()

    async def press(self, *keys: str) -> None:
        self.keys += keys
        if self.asleep is not None:
            self.behind.append(asyncio.ensure_future(self.read(*keys)))
        elif not self.deaf:
            await self.read(*keys)

    async def read(self, *keys: str) -> None:
        """One key after the other."""
        if self.asleep is not None:
            await self.asleep.wait()
        async with self.reading:
            for key in keys:
                if key == "C-g":
                    await self.ctrl_g()
                else:
                    self.box.write_bytes(self.box.read_bytes()[:-1])

    async def ctrl_g(self) -> None:
        """As the TUI does: what the editor made of the file counts where it ends well."""
        before = self.box.read_bytes()
        env = {"PATH": "/usr/bin:/bin", "BRIDGE_EDITOR": f"touch {self.persons}"}
        command = ["/bin/sh", str(self.shim), str(self.box)]
        done = await asyncio.to_thread(subprocess.run, command, env=env, check=False)
        if done.returncode != 0:
            self.box.write_bytes(before)


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setattr(editor, "ANSWER_S", 5.0)
    return Terminal(tmp_path)


@pytest.mark.parametrize(
    "text", ["hello", "  two\n\tlines \n\n", "é 😀 \\", "'\"$(false)`%s\\n", "-e", "x" * 300_000, " "]
)
async def test_text_is_put_into_an_empty_box_as_it_is(terminal: Terminal, text: str) -> None:
    assert await terminal.editor.put(text) == Box("", True)
    assert terminal.stands == text
    assert not terminal.persons.exists()


async def test_a_shell_mode_is_left_before_anything_is_put(terminal: Terminal) -> None:
    """It looks first, and presses Backspace only where the box is empty."""
    await terminal.editor.put("ours")
    assert terminal.keys == ["C-g", "BSpace", "C-g"]
    terminal.keys.clear()
    await terminal.editor.put("more", ["ours"])
    assert terminal.keys == ["C-g", "C-g"]


async def test_a_draft_stays_and_is_told(terminal: Terminal) -> None:
    terminal.box.write_text("a person's dra")
    assert await terminal.editor.put("ours", ["something else"]) == Box("a person's dra", False)
    assert terminal.stands == "a person's dra"


async def test_what_is_ours_is_replaced(terminal: Terminal) -> None:
    terminal.box.write_text("ours of before")
    assert await terminal.editor.put("ours", ["x", "ours of before"]) == Box("ours of before", True)
    assert terminal.stands == "ours"


async def test_looking_changes_nothing(terminal: Terminal) -> None:
    terminal.box.write_text("a draft \n")
    assert await terminal.editor.look() == "a draft \n"
    assert terminal.stands == "a draft \n"


async def test_a_key_that_is_not_taken_is_told_and_does_no_harm_when_it_comes(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order is taken back; the late key opens nothing, and the one after it is a person's."""
    monkeypatch.setattr(editor, "ANSWER_S", 0.05)
    terminal.deaf = True
    assert await terminal.editor.put("ours") is None
    await terminal.ctrl_g()
    assert (terminal.stands, terminal.persons.exists()) == ("", False)
    await terminal.ctrl_g()
    assert terminal.persons.exists()


@pytest.mark.parametrize("before", [1, 2])
async def test_keys_that_waited_do_not_stand_in_for_later_ones(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, before: int
) -> None:
    """A stopped TUI that goes on takes them all. Else each order would be answered by the key before its own,
    and the last one's Backspace would take a letter of what was put there."""
    monkeypatch.setattr(editor, "SETTLE_S", 0.1)
    terminal.asleep = asyncio.Event()
    with monkeypatch.context() as patched:
        patched.setattr(editor, "ANSWER_S", 0.05)
        for _ in range(before):
            assert await terminal.editor.look() is None
    asyncio.get_running_loop().call_later(0.5, terminal.asleep.set)
    assert await terminal.editor.put("ours") == Box("", True)
    await asyncio.gather(*terminal.behind)
    assert (terminal.stands, terminal.persons.exists()) == ("ours", False)


async def test_a_key_that_a_dialog_took_is_not_waited_for_again(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the editor opens again the TUI has lost it, and the next key without an order is a person's."""
    monkeypatch.setattr(editor, "SETTLE_S", 0.05)
    terminal.deaf = True
    with monkeypatch.context() as patched:
        patched.setattr(editor, "ANSWER_S", 0.05)
        assert await terminal.editor.look() is None
    terminal.deaf = False
    assert await terminal.editor.put("ours") == Box("", True)
    await terminal.ctrl_g()
    assert terminal.persons.exists()


async def test_a_key_long_after_is_a_persons(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(editor, "ANSWER_S", 0.05)
    monkeypatch.setattr(editor, "LATE_S", 0.05)
    terminal.deaf = True
    assert await terminal.editor.look() is None
    async with asyncio.timeout(10):
        while list(terminal.folder.glob("withdrawn-*")):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await terminal.ctrl_g()
    assert terminal.persons.exists()


async def test_an_order_that_is_taken_at_the_last_moment_counts(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(editor, "ANSWER_S", 0.2)
    taken = terminal.folder / "taken"

    async def slow(*keys: str) -> None:
        (terminal.folder / "order").rename(taken)
        (taken / "found").write_text("a draft")
        asyncio.get_running_loop().call_later(0.3, taken.rename, terminal.folder / "done")

    assert await Editor(terminal.folder, slow).look() == "a draft"


async def test_who_gives_up_waiting_takes_the_order_back(terminal: Terminal) -> None:
    terminal.deaf = True
    putting = asyncio.create_task(terminal.editor.put("ours"))
    while not (terminal.folder / "order").exists():  # noqa: ASYNC110
        await asyncio.sleep(0.005)
    putting.cancel()
    await asyncio.gather(putting, return_exceptions=True)
    await terminal.ctrl_g()
    assert (terminal.stands, terminal.persons.exists()) == ("", False)


async def test_who_gives_up_where_the_folder_is_gone_is_heard(terminal: Terminal) -> None:
    """A session is deleted while its box is looked into: what was cancelled ends, and does not go on."""
    terminal.deaf = True
    looking = asyncio.create_task(terminal.editor.look())
    while not (terminal.folder / "order").exists():  # noqa: ASYNC110
        await asyncio.sleep(0.005)
    shutil.rmtree(terminal.folder)
    looking.cancel()
    await asyncio.wait({looking})
    assert looking.cancelled()


async def test_one_order_at_a_time(terminal: Terminal) -> None:
    boxes = await asyncio.gather(*(terminal.editor.put(f"p{n}") for n in range(4)))
    assert [box.placed for box in boxes if box] == [True, False, False, False]
    assert terminal.stands == "p0"


async def test_without_an_order_a_persons_own_editor_opens(terminal: Terminal) -> None:
    terminal.box.write_text("a draft")
    await terminal.ctrl_g()
    assert terminal.persons.exists()
    assert terminal.stands == "a draft"


async def test_what_an_earlier_bridge_laid_down_is_not_put_there(terminal: Terminal) -> None:
    """It died before its key; the next key is a person's, or its own, late."""
    terminal.deaf = True
    putting = asyncio.create_task(terminal.editor.put("ours"))
    while not (terminal.folder / "order").exists():  # noqa: ASYNC110  (nothing tells)
        await asyncio.sleep(0.001)
    Editor(terminal.folder, terminal.press).take_over()
    await terminal.ctrl_g()
    assert (terminal.stands, terminal.persons.exists()) == ("", False)
    putting.cancel()


async def test_nothing_is_pressed_before_the_terminal_listens(terminal: Terminal) -> None:
    """Where it never does, nothing is put there."""
    listening = asyncio.Event()

    async def listens() -> bool:
        await listening.wait()
        return True

    async def never() -> bool:
        return False

    assert await Editor(terminal.folder, terminal.press, never).put("hello") is None
    assert (terminal.keys, terminal.stands) == ([], "")
    putting = asyncio.ensure_future(Editor(terminal.folder, terminal.press, listens).put("hello"))
    await asyncio.sleep(0.2)
    assert terminal.keys == []
    listening.set()
    assert await putting == Box("", placed=True)
    assert (terminal.keys, terminal.stands) == (["C-g", "BSpace", "C-g"], "hello")
