"""The hands at one TUI's keyboard: puts prompts in, proves that they went in, and presses Escape.

A person may sit at the same terminal. What they are typing is never merged with a prompt, sent or lost,
but for the windows that docs/explanation/terminal-sessions.md lists. What happens then is read by `tui_link`;
processes are `tui`'s concern.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import termios
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
import structlog

from bridge.errors import BackendError, PromptRejected, TmuxError
from bridge.events import TurnId
from bridge.sessions.backends.editor import Editor, Still
from bridge.sessions.backends.tty import is_raw
from bridge.sessions.backends.tui_link import TuiLink
from bridge.sessions.claude.keyboard import as_acknowledged, as_command, as_typed
from bridge.sessions.claude.tui import TuiReader
from bridge.sessions.tmux import Tmux
from bridge.signals import PromptHeld, PromptLost, PromptSeen, PromptsWelcome, TurnEnded, UpstreamActive

log = structlog.get_logger(__name__)

START_S = 30.0
"""A start takes 1 s, or 3 on a busy machine. After this it is tried all the same."""
ENTER_AFTER_S = 0.1
"""Between the shim's end and Enter: at once, every second Enter was lost (claude-cli.md §5)."""
LISTENS_S = 2.0
"""It takes the TUI 2 ms from the editor's end; on a busy machine a hundred times as long."""
LISTENS_LOOK_S = 0.004
WAKE_S = 0.25
"""Between two SIGCONT, and before the first: an editor that has just ended is no reason for one."""
ACK_S = 1.0
"""The hook comes within 0.15 s, 0.4 s for 1 MB; then it is worth looking where the text is."""
ENTER_TRIES = 5
LATE_ACK_S = 5.0
"""For an acknowledgement by the transcript, where the hook does not come."""
HOOK_S = 35.0
"""The CLI gives up a hook after 30 s, and has the status busy meanwhile."""
IDLE_S = 5.0
"""A turn that has ended is followed by an idle status some 50 ms later."""
GIVE_WAY_S = 0.3
"""Between two attempts to take our text away from before a person's."""
STILL_S = 1.5
"""A person who has pressed a key so recently is typing."""
PROBE_S = (1.0, 2.0, 5.0, 10.0)
"""Between two looks at a draft that holds a prompt up; the last one repeats."""
BUSY_S = 1.0
"""From an acknowledged prompt to a status that says busy; usually 30 ms."""
ESCAPE_S = 2.0
"""An interrupt shows within 0.2 s; a second Escape on an idle prompt would open a dialog."""
ESCAPE_TRIES = 3
AGAIN_S = 0.3
"""Between two times that the same keys are pressed."""
TYPING = "the terminal is busy, or somebody types there"


class Entered:
    """One session's prompts that were entered, in its folder, because the bridge may die at any moment: the
    latest one, what became of it, and the texts of the last few.

    What became of it is in the journal a moment later, or never. So the latest one is forgotten only where it
    was not entered after all: should it come again, it is not typed again.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.left: tuple[str, ...] = ()
        """Our latest prompts: an interrupt may put one back into the box, as it was acknowledged."""

    async def begin(self, turn: TurnId, generation: int, text: str, *, command: bool) -> None:
        """It is about to be entered."""
        self.left = (text, as_acknowledged(text), *self.left[:2])
        record = {"turn": turn, "generation": generation, "text": text, "command": command}
        await asyncio.to_thread(self._write, record)

    async def forget(self) -> None:
        """It does not stand in the box any more, and was not sent."""
        await asyncio.to_thread((self._folder / "entered.json").unlink, missing_ok=True)

    def given_up(self) -> None:
        """It was sent, and is over as if it never had been: it may be entered once more."""
        (self._folder / "entered.json").unlink(missing_ok=True)

    async def known(self, prompt_id: str | None) -> None:
        """It has become the TUI's turn of this id; None where it was lost, or has none."""
        record = await asyncio.to_thread(self.pending)
        if record is not None:
            await asyncio.to_thread(self._write, {**record, "known": True, "prompt_id": prompt_id})

    def pending(self) -> dict[str, Any] | None:
        try:
            record = orjson.loads((self._folder / "entered.json").read_bytes())
        except (OSError, orjson.JSONDecodeError):
            return None
        return record if isinstance(record, dict) else None

    def take_up(self, reader: TuiReader, generation: int) -> None:
        """What an earlier bridge typed: it may stand in the box, or be acknowledged by what is read now."""
        with contextlib.suppress(OSError, orjson.JSONDecodeError, TypeError):
            self.left = tuple(orjson.loads((self._folder / "left.json").read_bytes()))
        record = self.pending() or {}
        if record.get("generation") == generation and isinstance(text := record.get("text"), str):
            prompt_id, turn = record.get("prompt_id"), TurnId(str(record.get("turn")))
            if prompt_id or not record.get("known"):
                command = bool(record.get("command"))
                reader.expect(turn, as_acknowledged(text), command=command, prompt_id=prompt_id)

    def _write(self, record: dict[str, Any]) -> None:
        file = self._folder / "entered.json"
        new = file.with_suffix(".new")
        new.write_bytes(orjson.dumps(record))
        new.replace(file)
        (self._folder / "left.json").write_bytes(orjson.dumps(self.left))


class Typist:
    """One process's, from the moment it is held until its link is closed."""

    def __init__(self, tmux: Tmux, session: str, folder: Path, link: TuiLink, entered: Entered) -> None:
        """`session` is tmux's; `folder` holds the editor's end of this process."""
        self._tmux = tmux
        self._session = session
        self._link = link
        self._entered = entered
        link.given_up = entered.given_up
        self._editor = Editor(folder, self._press, self._listens)
        self._editor.take_over()
        self.held = False
        """A prompt waits for what stands or happens in the terminal."""
        self._looks = 0
        self._look_at = 0.0
        self._waiting: list[str] = []
        """Terminals in which a person's next key waits."""

    async def send(self, turn: TurnId, prompt: str) -> None:
        """See `Backend.send_prompt`. Cancelled, it takes back what is not entered yet."""
        link = self._link
        try:
            text, command = as_typed(prompt), False
        except PromptRejected:
            text, command = as_command(prompt), True
        # One that was just started, as `configure` does, takes no key yet.
        if not await link.until(lambda: link.ready, START_S) and link.gone.done():
            raise BackendError("the process is gone")
        record = self._entered.pending()
        if record is not None and record.get("turn") == turn:
            await self._resolve(turn, text, record)
            return
        await self._close_offer()
        still = await self._still()
        if still is None:
            self._hold_up(turn, TYPING)
            return
        self._expect(turn, text, command=command)
        try:
            box = await self._editor.put(text, (text, *self._entered.left), still)
            if box is None:
                why = "the terminal does not take a prompt now; is a dialog open there?"
                self._hold_up(turn, why)
            elif not box.placed:
                why = "a draft stands in the terminal's input box" if box.found else TYPING
                self._hold_up(turn, why)
            else:
                await self._enter(turn, text, still, command=command)
        finally:
            self._unexpect()
            await self._release()

    async def interrupt(self) -> None:
        """One Escape, and another only while the status says that it works on. It leaves agents in the
        background alone: for them there are other keys."""
        link = self._link
        reader = link.reader
        # A key right behind the prompt's is lost, and one on an idle prompt is the first half of a command.
        await link.until(lambda: not reader.open or reader.status_now in ("busy", "waiting"), BUSY_S)
        reader.interrupted()
        for _ in range(ESCAPE_TRIES):
            if not reader.open:
                return
            async with self._editor.alone:
                if reader.awaits_agents and reader.status_now == "busy":
                    for _ in range(2):  # it asks back
                        await self._press("C-x", "C-k")
                        await asyncio.sleep(AGAIN_S)
                else:
                    await self._press("Escape")
            if await link.until(lambda: not reader.open, ESCAPE_S) or reader.status_now == "idle":
                return
            if reader.untouched and reader.status_now is None:
                await self._given_back()
        if not reader.open:
            return
        raise BackendError("claude does not react to Escape")

    async def look_again(self) -> None:
        """To be called every second or so: look into the box now and then where only that can tell."""
        look = self._wanted()
        if look is None:
            self._looks, self._look_at = 0, 0.0
            return
        if _now() < self._look_at:
            return
        self._looks += 1
        self._look_at = _now() + PROBE_S[min(self._looks, len(PROBE_S) - 1)]
        try:
            await look()
        except (BackendError, TmuxError) as e:
            log.warning("could not look at the input box", session=self._session, error=str(e))

    # --- whose turn it is at the keyboard ---------------------------------------------------------------

    async def _free(self) -> bool:
        """Whether the box is there and nobody is typing into it."""
        reader = self._link.reader
        free = await self._link.until(lambda: not reader.open and reader.status_now in ("idle", None), IDLE_S)
        return free and await self._quiet()

    async def _quiet(self) -> bool:
        typed_at = await self._tmux.typed_at(self._session)
        # tmux counts whole seconds.
        return typed_at is None or time.time() - typed_at > STILL_S

    async def _still(self, *, free: bool = True) -> Still | None:
        """For typing while no person does; None where one may be typing now."""
        tmux, session = self._tmux, self._session
        activity = await tmux.activity(session)
        if not (await self._free() if free else await self._quiet()):
            return None

        with contextlib.suppress(TmuxError):  # one has gone this moment
            self._waiting = await tmux.hold(session)

        async def press(*keys: str) -> bool:
            return await tmux.press_if_still(session, activity, *keys)

        return Still(press, tmux.still(session, activity))

    async def _release(self) -> None:
        """Whoever began to type meanwhile is heard behind what was done."""
        people, self._waiting = self._waiting, []
        if people:
            await asyncio.sleep(ENTER_AFTER_S)  # the TUI takes the terminal back
            with contextlib.suppress(TmuxError):
                await self._tmux.release(people)

    async def _press(self, *keys: str) -> None:
        await self._tmux.send_keys(self._session, *keys)

    async def _listens(self) -> bool:
        """Wait until the TUI has the terminal to itself, which it lets go of for an editor: until then the
        terminal makes a line feed of an Enter, and keeps a Backspace. Wakes one that a person's Ctrl-Z put to
        sleep, as `fg` would, for which there is no shell. (It does not show as stopped: tmux lets a stopped
        process go on at once, and the TUI waits for another SIGCONT.)"""
        begun = woken = _now()
        while True:
            try:
                if is_raw((await self._tmux.panes(self._session))[-1].tty):
                    return True
            except (OSError, IndexError, termios.error):
                return False
            if _now() > begun + LISTENS_S:
                return False
            if _now() > woken + WAKE_S:
                woken = _now()
                self._link.process.send(signal.SIGCONT)
            await asyncio.sleep(LISTENS_LOOK_S)

    # --- a prompt's way in ------------------------------------------------------------------------------

    def _expect(self, turn: TurnId, text: str, *, command: bool) -> None:
        """From before it stands in the box: a person's Enter would send it, too."""
        self._link.reader.expect(turn, as_acknowledged(text), command=command)
        self._link.armed, self._link.blocked = (None if command else text), None

    def _unexpect(self) -> None:
        self._link.armed = None
        self._link.reader.forget()

    async def _enter(self, turn: TurnId, text: str, still: Still, *, command: bool) -> None:
        await self._entered.begin(turn, self._link.generation, text, command=command)
        await self._listens()
        await asyncio.sleep(ENTER_AFTER_S)
        if not self._link.reader.open and self._link.blocked is None and not await still.press("Enter"):
            await self._give_way(turn, text)
            return
        await self._acknowledged(turn, text, still, command=command)

    async def _give_way(self, turn: TurnId, text: str) -> None:
        """A person began to type behind our text: theirs stays in the box, ours goes."""
        link = self._link
        reader = link.reader
        box = None
        while not link.gone.done() and not reader.open:
            # Until they pause: the TUI loses what is typed within some 5 ms of a Ctrl-G.
            still = await self._still(free=False)
            box = await self._editor.take(text, still) if still is not None else None
            await self._release()
            if box is not None and not box.refused and (box.placed or not box.found.startswith(text)):
                break
            await asyncio.sleep(GIVE_WAY_S)
        if link.gone.done():
            return
        if box is not None and not box.placed:
            # It is not there any more: they may have pressed Enter on just our text.
            await link.until(lambda: reader.open or link.blocked is not None, ACK_S)
        if reader.began_with(turn):
            await self._entered.known(reader.prompt_id)
            return
        await self._entered.forget()
        self._hold_up(turn, TYPING)

    async def _acknowledged(self, turn: TurnId, text: str, still: Still, *, command: bool) -> None:
        """Until it is, pressing Enter again only where our own text, and nothing else, is in the box."""
        link = self._link
        reader = link.reader

        def told() -> bool:
            return reader.open or link.blocked is not None or link.gone.done()

        for _ in range(ENTER_TRIES):
            await link.until(told, ACK_S)
            if link.gone.done():
                return  # the restart asks what became of it
            if told():
                break
            if command and reader.status_now == "waiting":
                await self._dialog(turn)
                return
            box = await self._editor.look()
            if told():
                continue
            if box == "" and command:
                # One that ends at once leaves nothing to be seen.
                ended = TurnEnded("completed", None)
                await self._entered.known(None)
                link.emit([PromptSeen(turn), UpstreamActive(), ended], "keyboard")
                return
            if box is not None and not box.startswith(text):
                # Sent, or cleared by a person, who may have gone on typing.
                await self._late(told)
                break
            if box is not None and (box != text or not await still.press("Enter")):
                await self._give_way(turn, text)
                return
        if link.blocked is not None or (reader.open and not reader.began_with(turn)):
            await self._give_way(turn, text)
            return
        await self._entered.known(reader.prompt_id)
        if reader.open:
            return
        why = "the terminal took the prompt, and Claude never acknowledged it"
        link.emit([PromptLost(turn, why)], "keyboard")

    async def _late(self, told: Callable[[], bool]) -> None:
        """For an acknowledgement that is slow to come: as long as a hook may take, where it says it works."""
        link = self._link
        if not await link.until(told, LATE_ACK_S) and link.reader.status_now == "busy":
            await link.until(lambda: told() or link.reader.status_now != "busy", HOOK_S)

    async def _dialog(self, turn: TurnId) -> None:
        """A command opened a dialog: that is all it does. Where nobody is there to see it, it is closed."""
        await self._entered.known(None)
        self._link.emit([PromptSeen(turn), UpstreamActive(), TurnEnded("completed", None)], "keyboard")
        if await self._tmux.typed_at(self._session) is None:
            await self._press("Escape")

    async def _close_offer(self) -> None:
        """At the account's limit the TUI asks what to do (wait, pay). Where nobody is there to see it, it is
        closed before the next prompt."""
        link = self._link
        offered, link.offered = link.offered, False
        if not offered or link.reader.status_now != "waiting" or link.reader.open:
            return
        if await self._tmux.typed_at(self._session) is None:
            await self._press("Escape")
            await link.until(lambda: link.reader.status_now == "idle", ACK_S)

    async def _resolve(self, turn: TurnId, text: str, record: dict[str, Any]) -> None:
        """It was entered before, by a bridge or into a process that is no more. Never typed twice."""
        link = self._link
        reader = link.reader
        reader.expect(turn, as_acknowledged(text), prompt_id=record.get("prompt_id"))
        try:
            if not record.get("known") and record.get("generation") == link.generation and not reader.open:
                still = await self._still()
                if still is not None and await self._editor.look() == text and not reader.open:
                    self._expect(turn, text, command=False)
                    await self._enter(turn, text, still, command=False)
                    return
            await link.until(lambda: reader.open, ACK_S)
        finally:
            self._unexpect()
            await self._release()
        if reader.open and not reader.began_with(turn):
            return  # a person's own, which this one waits for now; then it is asked again what became of it
        await self._entered.known(reader.prompt_id)
        if reader.open:
            # What runs was told of before this bridge could know whose it was.
            link.emit([PromptSeen(turn), UpstreamActive()], "transcript")
            return
        why = "the prompt was typed when the bridge or Claude ended, and was never acknowledged"
        link.emit([PromptLost(turn, why)], "transcript")

    def _hold_up(self, turn: TurnId, why: str) -> None:
        self._link.emit([PromptHeld(turn, why)], "terminal")
        self.held = True

    # --- looking into the box ---------------------------------------------------------------------------

    def _wanted(self) -> Callable[[], Awaitable[None]] | None:
        reader = self._link.reader
        if self.held and (reader.open or self._link.gone.done()):
            self.held = False  # its end is the next occasion
        if self.held:
            return self._still_held
        # Where there is no status file, the box alone tells of an Escape before the first word: the prompt is
        # in it again.
        return self._perhaps_given_back if reader.untouched and reader.status_now is None else None

    async def _still_held(self) -> None:
        still = await self._still()
        seen = await self._editor.look(still) if still is not None else None
        await self._release()
        if seen is not None and seen in ("", *self._entered.left):
            self.held = False
            self._link.emit([PromptsWelcome()], "terminal")

    async def _perhaps_given_back(self) -> None:
        if await self._quiet():
            await self._given_back()

    async def _given_back(self) -> None:
        found = await self._editor.look()
        if found and self._link.reader.status_now is None:
            self._link.emit(self._link.reader.given_back(as_acknowledged(found), _now()), "editor")


def _now() -> float:
    return asyncio.get_running_loop().time()
