"""A person at the terminal: a tmux client of their own on the bridge's server, on a pseudo-terminal.

What they press goes the way of real keys, so that tmux knows of it; what stands in the input box they see
with their own editor, as Ctrl-G opens it. Theirs takes a copy of the file and leaves that as it was.
"""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tests.fakes.bridge import BridgeProcess

WAIT_S = 60
EDITOR = 'cp "$1" "$0.new" && mv "$0.new" "$0.seen"\n'
"""The person's editor: a shell runs it."""


def editor_in(folder: Path) -> str:
    """What EDITOR is to be in the environment of a bridge whose people `Person` is."""
    (folder / "editor").write_text(EDITOR)
    return f"/bin/sh {folder}/editor"


class Person:
    """Attached to one session until `leave`."""

    def __init__(self, bridge: BridgeProcess, name: str, editor: Path) -> None:
        """`editor` is the folder that was given to `editor_in`."""
        self._bridge = bridge
        self._name = name
        self._seen = editor / "editor.seen"
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
        self._client = subprocess.Popen(
            ["tmux", "-L", bridge.tmux_socket, "attach", "-t", f"=claude_{name}"],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=bridge.env | {"TERM": "xterm-256color"},
            start_new_session=True,
        )
        os.close(slave)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        target = f"=claude_{name}"
        self._until(lambda: self._bridge.tmux("list-clients", "-t", target).stdout.strip(), "a client")

    def type(self, text: str, gaps: tuple[float, ...] = ()) -> None:
        """Press a key for each character, as fast as they come or with pauses between them."""
        for n, character in enumerate(text):
            os.write(self._master, character.encode())
            if gaps:
                time.sleep(gaps[n % len(gaps)])

    def press(self, key: str) -> None:
        keys = {"Enter": "\r", "Escape": "\x1b", "C-u": "\x15", "C-g": "\x07", "BSpace": "\x7f"}
        os.write(self._master, keys[key].encode())

    def choose(self, key: str, dialog: str | None) -> None:
        """Press a dialog's key, and again as long as that stands there: in its first moment it hears none."""
        end = time.monotonic() + WAIT_S
        while True:
            time.sleep(0.3)
            self.press(key) if key == "Escape" else self.type(key)
            again = time.monotonic() + 2
            while time.monotonic() < again:
                if dialog is None or dialog not in self.screen:
                    return
                time.sleep(0.05)
            assert time.monotonic() < end, f"the dialog does not hear {key}:\n{self.screen}"

    @property
    def screen(self) -> str:
        return self._bridge.tmux("capture-pane", "-p", "-t", f"=claude_{self._name}:").stdout

    def until_shown(self, text: str) -> None:
        self._until(lambda: text in self.screen, f"{text!r} on the screen")

    def until_not_shown(self, text: str) -> None:
        self._until(lambda: text not in self.screen, f"a screen without {text!r}")

    def box(self) -> str:
        """What stands in the input box, as the person's own editor opens it."""
        self._seen.unlink(missing_ok=True)
        end = time.monotonic() + WAIT_S
        while time.monotonic() < end:
            self.press("C-g")
            again = time.monotonic() + 5
            while time.monotonic() < again:
                if self._seen.exists():
                    self._until(self._back, "the TUI to take its terminal back")
                    return self._seen.read_text()
                time.sleep(0.02)
        raise AssertionError(f"no editor opened; the screen shows:\n{self.screen}")

    def _back(self) -> bool:
        """The editor is gone: until then the terminal would make another character of Enter."""
        tty = self._bridge.tmux("display-message", "-p", "-t", f"=claude_{self._name}:", "#{pane_tty}").stdout
        fd = os.open(tty.strip(), os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
        try:
            return not termios.tcgetattr(fd)[0] & termios.ICRNL
        finally:
            os.close(fd)

    def until_box(self, fits: Callable[[str], bool]) -> str:
        """What stands there as soon as it fits: what the bridge was about to send may stand before it for
        a moment."""
        end = time.monotonic() + WAIT_S
        while not fits(seen := self.box()):
            assert time.monotonic() < end, f"{seen!r} stands in the box\n{self.screen}"
            time.sleep(3)  # pressed once more, Ctrl-G would count as typing
        return seen

    def until_bridge_types(self, over: Callable[[], bool]) -> bool:
        """Until the bridge begins to put something into the box: True; or until it is `over`: False."""
        folder = next((self._bridge.state_dir / "sessions" / self._name).glob("*/editor"))
        before = folder.stat().st_mtime_ns
        while folder.stat().st_mtime_ns == before:
            if over():
                return False
            time.sleep(0.002)
        return True

    def leave(self) -> None:
        """The terminal is closed; what runs in the session goes on."""
        self._client.terminate()
        self._client.wait(WAIT_S)
        self._reader.join(WAIT_S)
        os.close(self._master)

    def _until(self, come: Callable[[], object], what: str) -> None:
        end = time.monotonic() + WAIT_S
        while not come():
            assert time.monotonic() < end, f"waited in vain for {what}; the screen shows:\n{self.screen}"
            time.sleep(0.05)

    def _read(self) -> None:
        """A terminal takes what it is sent, or tmux would wait for it."""
        while True:
            try:
                if not os.read(self._master, 65536):
                    return
            except OSError:
                return
