"""The interactive TUI in a tmux session that people can attach to: one conversation, two kinds of hands.

A person types at the terminal, clients submit prompts, and both see the same turns. What happens is known
from hooks, the status file and the transcript (`tui_link`); prompts go in by the external editor and count
as sent when Claude acknowledges exactly their text. Implements `base.Backend`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson
import structlog

from bridge.config import ClaudeConfig
from bridge.errors import BackendError, PromptRejected, TmuxError
from bridge.events import RequestId, SessionName, TurnId
from bridge.sessions.backends import ask_hook
from bridge.sessions.backends.base import Answer, Batch, Checkpoint, Launch, Liveness, Sink
from bridge.sessions.backends.editor import Editor, Still
from bridge.sessions.backends.hooks import HookServer
from bridge.sessions.backends.kept import beginning, config_folder, transcript_path
from bridge.sessions.backends.process import Process, end, end_stranger, reap
from bridge.sessions.backends.status import StatusFiles
from bridge.sessions.backends.tail import FileWatch
from bridge.sessions.backends.tui_link import TICK_S, TuiLink
from bridge.sessions.claude.keyboard import as_acknowledged, as_command, as_typed
from bridge.sessions.claude.launch import LAUNCHER, Plan, find_claude
from bridge.sessions.claude.tui import TuiReader
from bridge.sessions.claude.tui_launch import (
    ASK,
    Hooks,
    config_file,
    needs_own_config,
    plan_tui,
    seed,
    tui_environment,
)
from bridge.sessions.tmux import GENERATION, OWNER, Pane, Tmux, state_id
from bridge.signals import (
    AnswerMoot,
    ConversationNamed,
    LivenessLost,
    ProcessExited,
    PromptHeld,
    PromptLost,
    PromptSeen,
    PromptsWelcome,
    TurnEnded,
    UpstreamActive,
)

log = structlog.get_logger(__name__)

ENTER_AFTER_S = 0.1
"""Between the shim's end and Enter: at once, every second Enter was lost (claude-cli.md §5)."""
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
ASK_S = 2.0
"""The permission hook looks for the bridge twice a second."""
SCREEN_LINES = 8
"""Of what the screen showed last: enough to see why a process ended. For people alone."""
TYPING = "the terminal is busy, or somebody types there"
DENIED = "A person refused this."
"""What Claude is told where nobody gave a reason."""


@dataclass(frozen=True)
class TuiHost:
    """What the TUI sessions of one bridge share."""

    state_dir: Path
    tmux: Tmux
    watch: FileWatch
    statuses: StatusFiles
    hooks: HookServer
    claude: ClaudeConfig
    environ: Mapping[str, str]
    """The bridge's own environment, of which the CLI gets what `launch` lets through."""

    def backend(self, name: SessionName, sink: Sink) -> TuiBackend:
        return TuiBackend(name, sink, self)

    @property
    def owner(self) -> str:
        return state_id(self.state_dir)


class KeyboardRules:
    """What cannot be typed is refused when it is submitted."""

    def prompt(self, text: str) -> None:
        as_typed(text)

    def command(self, text: str) -> str:
        return as_acknowledged(as_command(text))


class TuiBackend:
    """The `Backend` of one session; see there for what each method promises."""

    def __init__(self, name: SessionName, sink: Sink, host: TuiHost) -> None:
        self._name = name
        self._sink = sink
        self._host = host
        self._session = f"claude_{name}"
        self._folder = host.state_dir / "sessions" / name
        self._link: TuiLink | None = None
        self._editor: Editor | None = None
        self._launch: Launch | None = None
        self._secret: str | None = None
        self._left: tuple[str, ...] = ()
        """Our latest prompts: an interrupt may put one back into the box, as it was acknowledged."""
        self._held = False
        self._deadline: float | None = None
        self._woken = asyncio.Event()
        self._waiting: list[str] = []
        """Terminals in which a person's next key waits."""

    @property
    def attach(self) -> str | None:
        return self._host.tmux.attach_command(self._session) if self._link is not None else None

    @property
    def pid(self) -> int | None:
        return self._link.process.pid if self._link is not None else None

    # --- processes --------------------------------------------------------------------------------------

    async def start(self, launch: Launch) -> None:
        await self._end_process()
        claude = find_claude(self._host.claude, self._host.environ.get("PATH"))
        folder = self._folder / str(launch.generation)
        own = await asyncio.to_thread(self._own_config, launch)
        config_dir = self._config_dir(folder, own)
        begun = await asyncio.to_thread(beginning, config_dir, launch)
        secret = secrets.token_hex(24)
        server = self._host.hooks
        hooks = Hooks(
            server.url,
            secret,
            str(self._host.state_dir / "hooks.json"),
            sys.executable,
            str(Path(ask_hook.__file__)),
        )
        made = plan_tui(begun.start, folder, claude, self._host.claude, self._host.environ, hooks, own)
        await asyncio.to_thread(_prepare, self._folder, folder, made, config_dir)
        pane = await self._pane_with(launch, ("/bin/sh", str(folder / LAUNCHER)))
        log.info("started", session=self._name, generation=launch.generation, pid=pane.pid)
        self._launch = begun.launch
        self._sink(Batch(launch.generation, (ConversationNamed(begun.launch.conversation),)))
        reader = TuiReader(begun.launch.conversation)
        reader.begin_at(begun.size)
        if not self._hold(launch.generation, folder, pane, config_dir, reader, secret):
            await self._mourn(launch.generation)

    async def adopt(self, launch: Launch, checkpoint: Checkpoint | None) -> Liveness:
        try:
            pane = await self._pane()
        except TmuxError as e:
            log.warning("could not ask tmux", session=self._name, error=str(e))
            return Liveness.UNKNOWN
        folder = self._folder / str(launch.generation)
        place = checkpoint if checkpoint and checkpoint.get("generation") == launch.generation else None
        reader = TuiReader(launch.conversation, place)
        self._launch = launch
        try:
            said = orjson.loads((folder / ASK).read_bytes())
            secret = str(said["secret"])
            config_dir = Path((folder / "config-dir").read_text())
        except (OSError, KeyError, TypeError, orjson.JSONDecodeError):
            return Liveness.GONE  # nothing was started under this number
        await asyncio.to_thread(self._take_up, reader, launch.generation)
        same = pane is not None and pane.generation == launch.generation
        if (
            pane is not None
            and same
            and self._hold(launch.generation, folder, pane, config_dir, reader, secret, adopted=True)
        ):
            return Liveness.ALIVE
        await self._read_out(launch.generation, config_dir, reader)
        return Liveness.GONE

    async def stop(self) -> None:
        await self._end_process()
        pane = await self._pane()
        if pane is not None:
            await self._host.tmux.kill_session(self._session)

    async def detach(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            self._let_go(link)

    async def delete(self) -> None:
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    def committed(self, checkpoint: Checkpoint) -> None:
        """The transcript is Claude's own; nothing of it is freed."""

    async def attend(self) -> None:
        """Time, deaths, and drafts that hold a prompt up."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch_process())
            group.create_task(self._watch_draft())
            group.create_task(self._watch_silence())

    async def _watch_process(self) -> None:
        while True:
            link = self._link
            if link is None:
                self._woken.clear()
                await self._woken.wait()
                continue
            if not link.ready and self._deadline is not None and _now() > self._deadline:
                self._deadline = None
                log.error("the TUI is not ready", session=self._name)
                await self._call_for_help(link)
            if link.gone.done():
                if not link.stopping:
                    await self._buried(link)
                await asyncio.sleep(TICK_S)
                continue
            link.tick()
            # A death wakes at once, else nothing need happen while all is quiet.
            await asyncio.wait({link.gone}, timeout=TICK_S if link.busy or not link.ready else 1.0)

    async def _call_for_help(self, link: TuiLink) -> None:
        """Most likely a dialog, which another start would only show again: a person has to answer it."""
        said = await self._screen()
        waited = f"claude was not ready within {self._host.claude.start_timeout_s:g} s"
        why = f"{waited}; attach and answer what it asks ({self.attach})"
        link.emit([LivenessLost(_because(why, said))], "terminal")

    async def _buried(self, link: TuiLink) -> None:
        """A process ended by itself: what it wrote last, and how it went."""
        link.read_out()
        place = link.place()
        self._link = None
        self._let_go(link)
        await self._mourn(link.generation, place)

    async def _mourn(self, generation: int, place: Checkpoint | None = None) -> None:
        code: int | None = None
        with contextlib.suppress(TmuxError):
            for _ in range(50):
                pane = await self._pane()
                if pane is None or pane.exit_code is not None:
                    code = pane.exit_code if pane is not None else None
                    break
                reap(pane.server_pid)
                await asyncio.sleep(0.02)
        how = "claude ended" if code is None else f"claude ended with status {code}"
        if code is not None and code < 0:
            how = f"claude was ended by signal {-code}"
        reason = _because(how, await self._screen())
        self._sink(Batch(generation, (ProcessExited(code, reason),), place))

    async def _screen(self) -> list[str]:
        with contextlib.suppress(TmuxError):
            shown = [line.rstrip() for line in await self._host.tmux.capture(self._session)]
            return [line for line in shown if line and not line.startswith("Pane is dead")][-SCREEN_LINES:]
        return []

    def _hold(
        self,
        generation: int,
        folder: Path,
        pane: Pane,
        config_dir: Path,
        reader: TuiReader,
        secret: str,
        *,
        adopted: bool = False,
    ) -> bool:
        """Take up the process of a pane; False where it has ended."""
        process = None if pane.dead else Process.open(pane.pid, pane.server_pid)
        if process is None:
            return False
        host = self._host
        try:
            followed = (host.watch, host.statuses)
            link = TuiLink(generation, process, config_dir, self._sink, *followed, reader, adopted=adopted)
        except OSError as e:
            process.close()
            raise BackendError(f"the CLI's status cannot be watched: {e}") from e
        self._editor = Editor(folder / "editor", self._press)
        self._editor.take_over()
        self._secret = secret
        host.hooks.attach(secret, link)
        self._link = link
        self._held = False
        self._deadline = _now() + host.claude.start_timeout_s
        link.open()
        self._woken.set()
        return True

    def _let_go(self, link: TuiLink) -> None:
        if self._secret is not None:
            self._host.hooks.detach(self._secret)
            self._secret = None
        link.close()

    async def _end_process(self) -> None:
        """End the process that is held, or the one tmux knows of; its tmux session stays."""
        link = self._link
        share = self._host.claude.stop_timeout_s / 3
        if link is not None:
            link.stopping = True
            await end(link.process, link.gone, share)
            self._link = None
            self._let_go(link)
        pane = await self._pane()
        stranger = None if pane is None or pane.dead else Process.open(pane.pid, pane.server_pid)
        if stranger is not None:
            await end_stranger(stranger, share)

    async def _pane_with(self, launch: Launch, command: tuple[str, ...]) -> Pane:
        """A pane that runs the command, in the session where people may be attached already."""
        options = {OWNER: self._host.owner, GENERATION: str(launch.generation)}
        if await self._pane() is not None:
            return await self._host.tmux.respawn(self._session, command, options)
        return await self._host.tmux.new_session(self._session, command, options)

    async def _pane(self) -> Pane | None:
        """The session's pane, as long as it is ours. Raises `TmuxError` where tmux cannot say."""
        panes = await self._host.tmux.panes(self._session)
        return next((p for p in panes if p.owner == self._host.owner), None)

    async def _read_out(self, generation: int, config_dir: Path, reader: TuiReader) -> None:
        path = await asyncio.to_thread(transcript_path, config_dir, reader.conversation)
        if path is None:
            return
        with contextlib.suppress(OSError):
            data = await asyncio.to_thread(path.read_bytes)
            said = reader.transcript(data[reader.offset :], _now())
            place = {**reader.export(), "generation": generation}
            self._sink(Batch(generation, tuple(said), place, "transcript"))

    # --- where the CLI keeps its things -----------------------------------------------------------------

    def _own_config(self, launch: Launch) -> Path | None:
        """The bridge's own configuration folder, made ready, where this session is to use it."""
        host = self._host
        asked = host.claude.config_dir
        if asked is not None and asked.resolve().is_relative_to(host.state_dir.resolve()):
            own = asked
        else:
            env = tui_environment(host.claude, host.environ, self._folder, None)
            try:
                existing: bytes | None = config_file(env).read_bytes()
            except OSError:
                existing = None
            if not needs_own_config(host.claude, host.environ, existing):
                return None
            own = host.state_dir / "claude-config"
        try:
            own.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = own / ".claude.json"
            present = file.read_bytes() if file.exists() else None
            assert launch.options.cwd is not None
            key = tui_environment(host.claude, host.environ, self._folder, own).get("ANTHROPIC_API_KEY")
            new = file.with_name(f".claude.json.{self._name}")
            new.write_bytes(seed(present, launch.options.cwd, key))
            new.chmod(0o600)
            new.replace(file)
        except OSError as e:
            raise BackendError(f"the CLI's configuration folder {own} cannot be used: {e}") from e
        return own

    def _config_dir(self, folder: Path, own: Path | None) -> Path:
        env = tui_environment(self._host.claude, self._host.environ, folder, own)
        return config_folder(env)

    # --- typing -----------------------------------------------------------------------------------------

    async def send_prompt(self, turn: TurnId, prompt: str) -> None:
        link = self._running()
        try:
            text, command = as_typed(prompt), False
        except PromptRejected:
            text, command = as_command(prompt), True
        record = self._recorded()
        if record is not None and record.get("turn") == turn:
            await self._resolve(link, turn, text, record)
            return
        still = await self._still(link)
        if still is None:
            self._hold_up(link, turn, TYPING)
            return
        assert self._editor is not None
        self._expect(link, turn, text, command=command)
        try:
            box = await self._editor.put(text, (text, *self._left), still)
            if box is None:
                # A person's Ctrl-Z stops it, and there is no shell to go on from.
                link.process.send(signal.SIGCONT)
                why = "the terminal does not take a prompt now; is a dialog open there?"
                self._hold_up(link, turn, why)
            elif not box.placed:
                why = "a draft stands in the terminal's input box" if box.found else TYPING
                self._hold_up(link, turn, why)
            else:
                await self._enter(link, turn, text, still, command=command)
        finally:
            self._unexpect(link)
            await self._release()

    async def _free(self, link: TuiLink) -> bool:
        """Whether the box is there and nobody is typing into it."""
        reader = link.reader
        if not await link.until(lambda: not reader.open and reader.status_now in ("idle", None), IDLE_S):
            return False
        return await self._quiet()

    async def _quiet(self) -> bool:
        typed_at = await self._host.tmux.typed_at(self._session)
        # tmux counts whole seconds.
        return typed_at is None or time.time() - typed_at > STILL_S

    async def _still(self, link: TuiLink, *, free: bool = True) -> Still | None:
        """For typing while no person does; None where one may be typing now."""
        tmux, session = self._host.tmux, self._session
        activity = await tmux.activity(session)
        if not (await self._free(link) if free else await self._quiet()):
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
                await self._host.tmux.release(people)

    def _expect(self, link: TuiLink, turn: TurnId, text: str, *, command: bool) -> None:
        """From before it stands in the box: a person's Enter would send it, too."""
        link.reader.expect(turn, as_acknowledged(text), command=command)
        link.armed, link.blocked = (None if command else text), None

    def _unexpect(self, link: TuiLink) -> None:
        link.armed = None
        link.reader.forget()

    async def _enter(self, link: TuiLink, turn: TurnId, text: str, still: Still, *, command: bool) -> None:
        self._left = (text, as_acknowledged(text), *self._left[:2])
        record = {"turn": turn, "generation": link.generation, "text": text, "command": command}
        await asyncio.to_thread(self._record, record)
        await asyncio.sleep(ENTER_AFTER_S)
        if not link.reader.open and link.blocked is None and not await still.press("Enter"):
            await self._give_way(link, turn, text)
            return
        await self._acknowledged(link, turn, text, still, command=command)

    async def _give_way(self, link: TuiLink, turn: TurnId, text: str) -> None:
        """A person began to type behind our text: theirs stays in the box, ours goes."""
        assert self._editor is not None
        reader = link.reader
        box = None
        while not link.gone.done() and not reader.open:
            # Until they pause: the TUI loses what is typed within some 5 ms of a Ctrl-G.
            still = await self._still(link, free=False)
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
        await self._forget()
        if not reader.began_with(turn):
            self._hold_up(link, turn, TYPING)

    async def _acknowledged(
        self, link: TuiLink, turn: TurnId, text: str, still: Still, *, command: bool
    ) -> None:
        """Until it is, pressing Enter again only where our own text, and nothing else, is in the box."""
        assert self._editor is not None
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
                await self._dialog(link, turn)
                return
            box = await self._editor.look()
            if told():
                continue
            if box == "" and command:
                # One that ends at once leaves nothing to be seen.
                ended = TurnEnded("completed", None)
                link.emit([PromptSeen(turn), UpstreamActive(), ended], "keyboard")
                await self._forget()
                return
            if box is not None and not box.startswith(text):
                # Sent, or cleared by a person, who may have gone on typing.
                await self._late(link, told)
                break
            if box is not None and (box != text or not await still.press("Enter")):
                await self._give_way(link, turn, text)
                return
        if link.blocked is not None or (reader.open and not reader.began_with(turn)):
            await self._give_way(link, turn, text)
            return
        await self._forget()
        if reader.open:
            return
        why = "the terminal took the prompt, and Claude never acknowledged it"
        link.emit([PromptLost(turn, why)], "keyboard")

    async def _late(self, link: TuiLink, told: Callable[[], bool]) -> None:
        """For an acknowledgement that is slow to come: as long as a hook may take, where it says it works."""
        if not await link.until(told, LATE_ACK_S) and link.reader.status_now == "busy":
            await link.until(lambda: told() or link.reader.status_now != "busy", HOOK_S)

    async def _dialog(self, link: TuiLink, turn: TurnId) -> None:
        """A command opened a dialog: that is all it does. Where nobody is there to see it, it is closed."""
        link.emit([PromptSeen(turn), UpstreamActive(), TurnEnded("completed", None)], "keyboard")
        await self._forget()
        if await self._host.tmux.typed_at(self._session) is None:
            await self._press("Escape")

    async def _resolve(self, link: TuiLink, turn: TurnId, text: str, record: dict[str, Any]) -> None:
        """It was entered before, by a bridge or into a process that is no more. Never typed twice."""
        reader = link.reader
        reader.expect(turn, as_acknowledged(text))
        try:
            if record.get("generation") == link.generation and not reader.open:
                assert self._editor is not None
                still = await self._still(link)
                if still is not None and await self._editor.look() == text and not reader.open:
                    self._expect(link, turn, text, command=False)
                    await self._enter(link, turn, text, still, command=False)
                    return
            await link.until(lambda: reader.open, ACK_S)
        finally:
            self._unexpect(link)
            await self._release()
        if reader.open and not reader.began_with(turn):
            return  # a person's own, which this one waits for now; then it is asked again what became of it
        await self._forget()
        if reader.open:
            # What runs was told of before this bridge could know whose it was.
            link.emit([PromptSeen(turn), UpstreamActive()], "transcript")
            return
        why = "the prompt was typed when the bridge or Claude ended, and was never acknowledged"
        link.emit([PromptLost(turn, why)], "transcript")

    def _hold_up(self, link: TuiLink, turn: TurnId, why: str) -> None:
        link.emit([PromptHeld(turn, why)], "terminal")
        self._held = True

    async def _watch_draft(self) -> None:
        """Look now and then whether what holds a prompt up is gone."""
        looks = 0
        while True:
            await asyncio.sleep(PROBE_S[min(looks, len(PROBE_S) - 1)] if self._held else PROBE_S[0])
            link, editor = self._link, self._editor
            if not self._held or link is None or editor is None:
                looks = 0
                continue
            looks += 1
            if link.reader.open or link.gone.done():
                self._held = False  # its end is the next occasion
                continue
            try:
                still = await self._still(link)
                seen = await editor.look(still) if still is not None else None
                await self._release()
                if seen is not None and seen in ("", *self._left):
                    self._held = False
                    link.emit([PromptsWelcome()], "terminal")
            except (BackendError, TmuxError) as e:
                log.warning("could not look at the input box", session=self._name, error=str(e))

    async def _watch_silence(self) -> None:
        """Where there is no status file, the box alone tells of an Escape before the first word: the prompt
        is in it again."""
        looks = 0
        while True:
            await asyncio.sleep(PROBE_S[min(looks, len(PROBE_S) - 1)])
            link = self._link
            if link is None or not link.reader.untouched or link.reader.status_now is not None:
                looks = 0
                continue
            looks += 1
            try:
                typed_at = await self._host.tmux.typed_at(self._session)
                if typed_at is None or time.time() - typed_at > STILL_S:
                    await self._given_back(link)
            except (BackendError, TmuxError) as e:
                log.warning("could not look at the input box", session=self._name, error=str(e))

    async def _given_back(self, link: TuiLink) -> None:
        assert self._editor is not None
        found = await self._editor.look()
        if found and link.reader.status_now is None:
            link.emit(link.reader.given_back(as_acknowledged(found), _now()), "editor")

    # --- what was entered and not acknowledged: in a file, because the bridge may die at any moment -------

    def _record(self, record: dict[str, Any]) -> None:
        file = self._folder / "entered.json"
        new = file.with_suffix(".new")
        new.write_bytes(orjson.dumps(record))
        new.replace(file)
        (self._folder / "left.json").write_bytes(orjson.dumps(self._left))

    def _recorded(self) -> dict[str, Any] | None:
        try:
            record = orjson.loads((self._folder / "entered.json").read_bytes())
        except (OSError, orjson.JSONDecodeError):
            return None
        return record if isinstance(record, dict) else None

    def _take_up(self, reader: TuiReader, generation: int) -> None:
        """What an earlier bridge typed: it may stand in the box, or be acknowledged by what is read now."""
        with contextlib.suppress(OSError, orjson.JSONDecodeError, TypeError):
            self._left = tuple(orjson.loads((self._folder / "left.json").read_bytes()))
        record = self._recorded() or {}
        if record.get("generation") == generation and isinstance(text := record.get("text"), str):
            command = bool(record.get("command"))
            reader.expect(TurnId(str(record.get("turn"))), as_acknowledged(text), command=command)

    async def _forget(self) -> None:
        await asyncio.to_thread((self._folder / "entered.json").unlink, missing_ok=True)

    # --- what else is done to a running process ---------------------------------------------------------

    async def interrupt(self) -> None:
        """One Escape, and another only while the status says that it works on."""
        link = self._running()
        reader = link.reader
        # A key right behind the prompt's is lost, and one on an idle prompt is the first half of a command.
        await link.until(lambda: not reader.open or reader.status_now in ("busy", "waiting"), BUSY_S)
        reader.interrupted()
        for _ in range(ESCAPE_TRIES):
            if not reader.open:
                return
            await self._press("Escape")
            if await link.until(lambda: not reader.open, ESCAPE_S) or reader.status_now == "idle":
                return
            if reader.untouched and reader.status_now is None:
                await self._given_back(link)
        if not reader.open:
            return
        raise BackendError("claude does not react to Escape")

    async def answer(self, request: RequestId, answer: Answer) -> None:
        decision: dict[str, Any] = {"behavior": "allow" if answer.allow else "deny"}
        if answer.allow:
            decision["updatedInput"] = answer.input
            if answer.suggestions:
                decision["updatedPermissions"] = list(answer.suggestions)
        else:
            decision["message"] = answer.message or DENIED
            if answer.interrupt:
                decision["interrupt"] = True
        said = {"hookSpecificOutput": {"hookEventName": "PermissionRequest", "decision": decision}}
        link = self._running()
        # After the bridge was away the hook that waits for the answer has to find it first.
        await link.until(lambda: link.reader.asks(request), ASK_S)
        if not link.answer(request, said):
            link.emit([AnswerMoot(request)], "terminal")
            raise BackendError("it can be answered in the terminal only, or was")

    async def configure(self, model: str | None, permission_mode: str | None) -> None:
        """A TUI is told by a start of its own, which resumes the conversation."""
        link, launch = self._running(), self._launch
        assert launch is not None
        if link.reader.open:
            raise BackendError("a turn is running; wait for its end, or interrupt it")
        changes = {"model": model, "permission_mode": permission_mode}
        options = launch.options.model_copy(update={k: v for k, v in changes.items() if v is not None})
        conversation = link.reader.conversation
        await self.start(replace(launch, options=options, resume=True, conversation=conversation))

    async def _press(self, *keys: str) -> None:
        await self._host.tmux.send_keys(self._session, *keys)

    def _running(self) -> TuiLink:
        if self._link is None or self._link.gone.done():
            raise BackendError("the process is gone")
        return self._link


def _prepare(session: Path, folder: Path, made: Plan, config_dir: Path) -> None:
    """A fresh folder for one process; what is not acknowledged of an earlier one is kept."""
    try:
        session.mkdir(mode=0o700, parents=True, exist_ok=True)
        for old in session.iterdir():
            if old.is_dir():
                shutil.rmtree(old, ignore_errors=True)
        folder.mkdir(mode=0o700)
        for name, text in {**made.files, "config-dir": str(config_dir)}.items():
            file = folder / name
            file.parent.mkdir(mode=0o700, exist_ok=True)
            fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with open(fd, "w", encoding="utf-8") as out:
                out.write(text)
    except OSError as e:
        raise BackendError(f"the session's folder could not be made: {e}") from e


def _because(how: str, shown: list[str]) -> str:
    return "\n".join((f"{how}:", *shown)) if shown else how


def _now() -> float:
    return asyncio.get_running_loop().time()
