"""The interactive TUI in a tmux session that people can attach to: one conversation, two kinds of hands.

A person types at the terminal, clients submit prompts, and both see the same turns. What happens is known
from hooks, the status file and the transcript (`tui_link`), prompts go in by the external editor (`typist`);
this file starts, finds, ends and forgets processes. Implements `base.Backend`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import orjson
import structlog

from bridge.config import ClaudeConfig
from bridge.errors import BackendError, TmuxError
from bridge.events import Attachment, RequestId, SessionName, TurnId
from bridge.sessions.backends import ask_hook
from bridge.sessions.backends.attached import FILES, files_of, write_files
from bridge.sessions.backends.base import Answer, Batch, Checkpoint, File, Launch, Liveness, Sink
from bridge.sessions.backends.hooks import HookServer
from bridge.sessions.backends.kept import beginning, config_folder, transcript_path
from bridge.sessions.backends.leftovers import Leftovers, made_mark
from bridge.sessions.backends.memory import replace_unfit, watch_memory
from bridge.sessions.backends.process import Process, end, end_stranger, reap
from bridge.sessions.backends.status import StatusFiles
from bridge.sessions.backends.stillness import Watched, watch_for_hangs
from bridge.sessions.backends.tail import FileWatch
from bridge.sessions.backends.tui_link import TICK_S, TuiLink
from bridge.sessions.backends.typist import Entered, Typist
from bridge.sessions.claude import mentions
from bridge.sessions.claude.keyboard import as_acknowledged, as_command, as_typed
from bridge.sessions.claude.launch import LAUNCHER, find_claude
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
)

log = structlog.get_logger(__name__)

ASK_S = 2.0
"""The permission hook looks for the bridge twice a second."""
LOOK_S = 1.0
"""Between two questions whether it is time to look into the input box."""
LATE_WORDS = 75
"""Looks at the screen of a process that has ended, 1.5 s in all, for one that shows nothing."""
SCREEN_LINES = 8
"""Of what the screen showed last: enough to see why a process ended. For people alone."""
BEGIN = "begin"
"""A file beside a process: how many bytes its transcript had when it was started."""
NO_TURN = "0" * 36
"""As long as a turn's id."""
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
    viewers: Callable[[SessionName], int]
    """How many clients see what is asked in a session."""

    def backend(self, name: SessionName, sink: Sink) -> TuiBackend:
        return TuiBackend(name, sink, self)

    @property
    def owner(self) -> str:
        return state_id(self.state_dir)

    def own_config(self, session: Path) -> Path | None:
        """The bridge's own configuration folder, where the TUI is not to use the person's."""
        asked = self.claude.config_dir
        if asked is not None and asked.resolve().is_relative_to(self.state_dir.resolve()):
            return asked
        env = tui_environment(self.claude, self.environ, session, None)
        try:
            existing: bytes | None = config_file(env).read_bytes()
        except OSError:
            existing = None
        needed = needs_own_config(self.claude, self.environ, existing)
        return self.state_dir / "claude-config" if needed else None

    def config_folder(self) -> Path:
        """Where the TUI keeps its conversations."""
        session = self.state_dir / "sessions"
        return config_folder(tui_environment(self.claude, self.environ, session, self.own_config(session)))

    @cached_property
    def leftovers(self) -> Leftovers:
        return Leftovers(self.state_dir)


class KeyboardRules:
    """What cannot be typed is refused when it is submitted."""

    def __init__(self, sessions: Path) -> None:
        """`sessions` holds a folder for each session."""
        self._sessions = sessions

    def prompt(self, text: str) -> None:
        as_typed(text)

    def with_files(self, text: str, session: SessionName, files: Sequence[Attachment]) -> None:
        # Which turn it will be changes neither how long the paths are nor what in them matters.
        folder = files_of(self._sessions / session) / NO_TURN
        as_typed(mentions.with_files(text, str(folder), [(f.name, f.media_type, f.size) for f in files]))

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
        self._typist: Typist | None = None
        self._launch: Launch | None = None
        self._secret: str | None = None
        self._entered = Entered(self._folder)
        self._deadline: float | None = None
        self._woken = asyncio.Event()

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
        mark = made_mark(self._host.state_dir, self._name)
        made = plan_tui(begun.start, folder, claude, self._host.claude, self._host.environ, hooks, own, mark)
        notes = {"config-dir": str(config_dir), BEGIN: str(begun.size)}
        await asyncio.to_thread(_prepare, self._folder, folder, {**made.files, **notes})
        pane = await self._pane_with(launch, ("/bin/sh", str(folder / LAUNCHER)))
        log.info("started", session=self._name, generation=launch.generation, pid=pane.pid)
        self._launch = begun.launch
        if begun.renamed:
            self._sink(Batch(launch.generation, (ConversationNamed(begun.launch.conversation),)))
        reader = TuiReader(begun.launch.conversation)
        reader.begin_at(begun.size)
        if not self._hold(launch.generation, folder, pane, config_dir, reader, secret):
            await self._mourn(launch.generation)

    async def adopt(self, launch: Launch, checkpoint: Checkpoint | None) -> Liveness:
        await self._host.tmux.connect()
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
        if place is None:
            reader.begin_at(_begun_at(folder))
        await asyncio.to_thread(self._entered.take_up, reader, launch.generation)
        same = pane is not None and pane.generation == launch.generation
        if (
            pane is not None
            and same
            and self._hold(launch.generation, folder, pane, config_dir, reader, secret, adopted=True)
        ):
            return Liveness.ALIVE
        await self._read_out(launch.generation, config_dir, reader)
        return Liveness.GONE

    async def attended(self) -> bool:
        return bool(await self._host.tmux.people(self._session))

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
        """Time, deaths, drafts that hold a prompt up, silence, and memory."""
        host, claude = self._host, self._host.claude
        limits = (claude.silence_s, claude.start_timeout_s)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch_process())
            group.create_task(self._watch_box())
            group.create_task(watch_for_hangs(host.tmux, self._session, limits, self._watched))
            group.create_task(watch_memory(claude.max_rss_mb, claude.stop_timeout_s / 3, lambda: self._link))

    def _watched(self) -> Watched | None:
        """The process, while a sign of life is to be expected."""
        link, typist = self._link, self._typist
        if link is None or typist is None or not (link.expected or typist.held):
            return None
        return Watched(link, self._folder / str(link.generation) / "editor")

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

    async def _watch_box(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            if self._typist is not None:
                await self._typist.look_again()
            await self._leave_to_person()

    async def _leave_to_person(self) -> None:
        """What no client is there to answer, a person who is attached is to see."""
        link = self._link
        if link is None or not link.reader.unseen(_now()) or self._host.viewers(self._name):
            return
        with contextlib.suppress(TmuxError):
            if await self.attended():
                link.leave_to_person()

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
        await self._mourn(link.generation, place, link.why)

    async def _mourn(self, generation: int, place: Checkpoint | None = None, why: str | None = None) -> None:
        """`why` is the bridge's own reason, where it ended it."""
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
        if why is not None:
            self._sink(Batch(generation, (ProcessExited(code, why),), place))
            return
        said = await self._screen()
        for _ in range(LATE_WORDS):
            if said:
                break
            await asyncio.sleep(0.02)  # tmux may know that it ended before it has read what it wrote
            said = await self._screen()
        reason = _because(how, said)
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
        self._typist = Typist(host.tmux, self._session, folder / "editor", link, self._entered)
        self._secret = secret
        host.hooks.attach(secret, link)
        self._link = link
        self._deadline = _now() + host.claude.start_timeout_s
        link.open()
        self._woken.set()
        return True

    def _let_go(self, link: TuiLink) -> None:
        if self._secret is not None:
            self._host.hooks.detach(self._secret)
            self._secret = None
        self._typist = None
        link.close()

    async def _end_process(self) -> None:
        """End the process that is held, or the one tmux knows of, and what is left of it or of one before it;
        its tmux session stays."""
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
        await self._host.leftovers.end(self._name, share)

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
        own = host.own_config(self._folder)
        if own is None:
            return None
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

    # --- what is done to a running process --------------------------------------------------------------

    async def send_prompt(self, turn: TurnId, prompt: str, files: Sequence[File] = ()) -> None:
        await replace_unfit(self._running(), self._host.claude.stop_timeout_s / 3)
        text = prompt
        if files:
            folder = files_of(self._folder) / turn
            await asyncio.to_thread(write_files, folder, files)
            given = [(f.name, f.media_type, len(f.data)) for f in files]
            text = mentions.with_files(prompt, str(folder), given)
        await self._keyboard().send(turn, text)

    async def interrupt(self) -> None:
        await self._keyboard().interrupt()

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
        reader = link.reader
        # After the bridge was away the hook that waits for the answer has to find it first.
        await link.until(lambda: reader.asks(request) or reader.outcome(request) is not None, ASK_S)
        rivals = await self._host.tmux.typed_at(self._session) is not None
        if not await link.answer(request, said, "allowed" if answer.allow else "denied", rivals=rivals):
            if reader.outcome(request) is None and not link.left_to_person(request):
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

    def _keyboard(self) -> Typist:
        self._running()
        assert self._typist is not None, "there is one as long as there is a link"
        return self._typist

    def _running(self) -> TuiLink:
        if self._link is None or self._link.gone.done():
            raise BackendError("the process is gone")
        return self._link


def _prepare(session: Path, folder: Path, files: Mapping[str, str]) -> None:
    """A fresh folder for one process; what is not acknowledged of an earlier one is kept, and what was
    attached to prompts, which Claude may look at again."""
    try:
        session.mkdir(mode=0o700, parents=True, exist_ok=True)
        for old in session.iterdir():
            if old.is_dir() and old.name != FILES:
                shutil.rmtree(old, ignore_errors=True)
        folder.mkdir(mode=0o700)
        for name, text in files.items():
            file = folder / name
            file.parent.mkdir(mode=0o700, exist_ok=True)
            fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with open(fd, "w", encoding="utf-8") as out:
                out.write(text)
    except OSError as e:
        raise BackendError(f"the session's folder could not be made: {e}") from e


def _begun_at(folder: Path) -> int:
    """What stood in the transcript when the process was started: of turns that were told of long ago."""
    with contextlib.suppress(OSError, ValueError):
        return int((folder / BEGIN).read_text())
    return 0


def _because(how: str, shown: list[str]) -> str:
    return "\n".join((f"{how}:", *shown)) if shown else how


def _now() -> float:
    return asyncio.get_running_loop().time()
