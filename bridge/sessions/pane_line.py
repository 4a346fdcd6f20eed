"""The way to one session's pane, for whoever watches it live: a `screens.Line` over tmux's control mode.

One connection for each session that is watched, and not one for all: tmux tells a control client only what
the panes of its own session put out. Watching changes nothing there. A client that sets a size has it until
somebody else sets another: a person who attaches, or whose terminal changes, gets the size of their
terminal back (tmux does that by itself, by hooks, so also while no bridge runs), and so do those who are
attached when the last viewer leaves.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Protocol

from bridge.errors import TmuxError
from bridge.sessions.picture import Picture, questions, read
from bridge.sessions.tmux import Pane, Tmux
from bridge.sessions.tmux_control import ControlClient, Exited, Notice, Noticed, Paused, Refused

TYPED_BYTES = 1000
"""In one command. What is pasted may be long, and a command is parsed whole before it does anything."""

_PEOPLE_COME = ("client-attached", "client-resized", "client-session-changed")


class Hears(Protocol):
    """Who is told; see `screens.Hears`."""

    def output(self, data: bytes) -> None: ...
    def changed(self) -> None: ...
    def ended(self) -> None: ...


class PaneLine:
    """See `screens.Line` for what each method promises. Made by `open`."""

    def __init__(self, tmux: Tmux, pane: Pane, hears: Hears) -> None:
        self._tmux = tmux
        self._pane = pane
        self._hears = hears
        self._client: ControlClient | None = None
        self._resized = False

    @classmethod
    async def open(cls, tmux: Tmux, owner: str, name: str, hears: Hears) -> PaneLine | None:
        """To the pane of the session `name`, None where it has none that is ours. Raises `TmuxError`."""
        panes = await tmux.panes(f"claude_{name}")
        pane = next((pane for pane in panes if pane.owner == owner), None)
        if pane is None:
            return None
        self = cls(tmux, pane, hears)
        try:
            self._client = await tmux.watch(pane.session, self._heard, self._noticed)
        except Refused:
            return None  # it went away meanwhile
        return self

    async def picture(self, mark: Callable[[], None]) -> Picture:
        # Where tmux has paused the pane, because nobody read for long, this is the place to go on from.
        go_on = ("refresh-client", "-A", f"{self._pane.id}:continue")
        said = await self._open.commands(go_on, *questions(self._pane.id), answered=mark)
        return read(said[1:] if said and said[0].startswith("%continue") else said)  # as 3.7 does

    async def process(self) -> int:
        said = await self._open.command("display-message", "-p", "-t", self._pane.id, "#{pane_pid}")
        try:
            return int(said[0] or 0)
        except (IndexError, ValueError) as e:
            raise TmuxError("tmux did not say what runs in a pane.") from e

    async def type(self, data: bytes) -> bool:
        pane = ("-t", self._pane.id)
        try:
            # Out of what a person scrolls back with: there the bytes would be commands to that.
            said = await self._open.commands(
                ("display-message", "-p", *pane, "#{pane_dead}"), ("copy-mode", "-q", *pane)
            )
            if said == ["1"]:
                return False
            self._tmux.typed(self._pane.session)
            for start in range(0, len(data), TYPED_BYTES):
                piece = data[start : start + TYPED_BYTES]
                await self._open.command("send-keys", "-H", *pane, *(f"{byte:02x}" for byte in piece))
        except Refused:
            return False  # there is no such pane any more, and nothing else to refuse
        return True

    async def resize(self, cols: int, rows: int) -> None:
        self._resized = True
        again = f"if-shell -F '#{{client_control_mode}}' '' 'set-option -wu -t {self._pane.id} window-size'"
        session = f"={self._pane.session}:"
        await self._open.commands(
            ("resize-window", "-t", self._pane.id, "-x", str(cols), "-y", str(rows)),
            *(("set-hook", "-t", session, hook, again) for hook in _PEOPLE_COME),
        )

    async def close(self) -> None:
        if self._resized and self._open.up:
            session = f"={self._pane.session}:"
            with contextlib.suppress(TmuxError):
                await self._open.commands(
                    ("set-option", "-wu", "-t", self._pane.id, "window-size"),
                    *(("set-hook", "-u", "-t", session, hook) for hook in _PEOPLE_COME),
                )
        await self._open.close()

    @property
    def _open(self) -> ControlClient:
        assert self._client is not None, "made by `open`"
        return self._client

    def _heard(self, pane: str, data: bytes) -> None:
        if pane == self._pane.id:  # a person may have opened others
            self._hears.output(data)

    def _noticed(self, notice: Noticed) -> None:
        match notice:
            case Paused(pane) if pane == self._pane.id:
                self._hears.changed()
            case Notice("layout-change", _):
                self._hears.changed()
            case Exited():
                self._hears.ended()
