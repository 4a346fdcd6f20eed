"""Runs a session as one long-lived `claude -p` inside a tmux session of its own.

The process belongs to tmux and goes on while no bridge runs: it reads a FIFO and appends to a file, and
both outlive whoever is at their other end. This file starts, finds, ends and forgets processes; what
passes between the bridge and one that runs is `link`'s concern.

A folder holds all of one process: `<state>/sessions/<name>/<generation>/`. Each has a FIFO of its own,
because half a line that a killed bridge left in it would outlive the process that should have read it.
Left in the FIFO of a process that lives, half a line ends that process as soon as anything is written
after it (the CLI exits on a line it cannot read), so that adopting such a process is followed by
`ProcessExited`, and the prompt goes, under the same identity, to the next one. A line is written in
pieces only where it is longer than what the FIFO holds, 1 MiB.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import structlog

from bridge.config import ClaudeConfig
from bridge.errors import BackendError, TmuxError
from bridge.events import RequestId, SessionName, TurnId
from bridge.sessions.backends.base import Answer, Batch, Checkpoint, File, Launch, Liveness, Sink
from bridge.sessions.backends.kept import beginning, config_folder, transcript_path
from bridge.sessions.backends.leftovers import Leftovers, made_mark
from bridge.sessions.backends.link import STATUS_AGAIN_S, STATUS_TRIES, Link, exit_reason
from bridge.sessions.backends.memory import replace_unfit, watch_memory
from bridge.sessions.backends.process import Process, end, end_stranger, reap, within
from bridge.sessions.backends.slate import OPTIONS, Slate, digest_of
from bridge.sessions.backends.spare import make_folder, read_spare, taken_spares
from bridge.sessions.backends.spares import Spares, Taken
from bridge.sessions.backends.tail import CHUNK, FileWatch
from bridge.sessions.claude import stdin, transcript
from bridge.sessions.claude.launch import (
    LAUNCHER,
    OUT,
    environment,
    find_claude,
    permission_mode,
    plan,
)
from bridge.sessions.claude.stream_json import ControlAsked, ControlReply, Segment, StreamParser
from bridge.sessions.tmux import GENERATION, OWNER, Pane, Tmux, state_id
from bridge.signals import ConversationNamed, ProcessExited, ProcessReady, SettingsSeen

log = structlog.get_logger(__name__)

DENIED = "The user denied this."
"""What Claude is told where a person said no and nothing else."""

FLUSH_S = 1.0
"""How long a bridge that stops waits for a prompt to be read, rather than leave half a line behind."""

TICK_S = 0.1
"""Between two looks whether a silent process has been silent for long enough, at least."""

INTERRUPT_TRIES = 500
INTERRUPT_AGAIN_S = 0.02
"""A prompt is taken up some milliseconds after it was read; the rest is for a machine under load."""


@dataclass(frozen=True)
class Host:
    """What the headless sessions of one bridge share."""

    state_dir: Path
    tmux: Tmux
    watch: FileWatch
    claude: ClaudeConfig
    environ: Mapping[str, str]
    """The bridge's own environment, of which the CLI gets what `launch` lets through."""
    spares: Spares | None = None

    def backend(self, name: SessionName, sink: Sink) -> HeadlessBackend:
        return HeadlessBackend(name, sink, self)

    @property
    def owner(self) -> str:
        return state_id(self.state_dir)

    def config_folder(self) -> Path:
        """Where the CLI keeps its conversations."""
        return config_folder(environment(self.claude, self.environ))

    @cached_property
    def leftovers(self) -> Leftovers:
        return Leftovers(self.state_dir)


class HeadlessBackend:
    """The `Backend` of one session; see there for what each method promises."""

    def __init__(self, name: SessionName, sink: Sink, host: Host) -> None:
        self._name = name
        self._sink = sink
        self._host = host
        self._session = f"claude_{name}"
        self._folder = host.state_dir / "sessions" / name
        self._link: Link | None = None
        self._conversation = ""
        self._slate: Slate | None = None

    @property
    def attach(self) -> str | None:
        return self._host.tmux.attach_command(self._session) if self._link is not None else None

    @property
    def pid(self) -> int | None:
        return self._link.process.pid if self._link is not None else None

    async def start(self, launch: Launch) -> None:
        claude = find_claude(self._host.claude, self._host.environ.get("PATH"))
        await self._end_whatever_runs(politely=False)
        folder = self._folder / str(launch.generation)
        begun = await asyncio.to_thread(beginning, self._config_folder, launch)
        if launch.fresh is None and not begun.start.resume and await self._take_spare(launch):
            return
        self._conversation = begun.launch.conversation
        mark = made_mark(self._host.state_dir, self._name)
        start = replace(begun.start, fresh=launch.fresh is not None)
        made = plan(start, folder, claude, self._host.claude, self._host.environ, mark)
        self._slate = self._slate_of(launch, folder)
        if self._slate is not None:
            made = replace(made, files={**made.files, OPTIONS: digest_of(launch.options)})
        await asyncio.to_thread(_prepare, self._folder, folder, made.files)
        pane = await self._host.tmux.new_session(
            self._session,
            ("/bin/sh", str(folder / LAUNCHER)),
            {OWNER: self._host.owner, GENERATION: str(launch.generation)},
        )
        log.info("started", session=self._name, generation=launch.generation, pid=pane.pid)
        if begun.renamed:
            self._sink(Batch(launch.generation, (ConversationNamed(self._conversation),)))
        if not self._hold(launch.generation, folder, pane, None):
            code = await self._exit_code()
            self._sink(Batch(launch.generation, (ProcessExited(code, exit_reason(folder, code)),)))

    async def _take_spare(self, launch: Launch) -> bool:
        """A process that waits, in place of a new one; False where there is none that fits.

        Its folder is moved first: from then on the process is this session's, and what ends the session's
        ends it, whatever it is called in tmux. A bridge that is killed after that is followed by one whose
        `Spares.settle` does the rest.
        """
        spares = self._host.spares
        taken = await spares.claim(launch.options) if spares is not None else None
        if taken is None:
            return False
        folder = self._folder / str(launch.generation)
        if not await self._moved(taken, folder):
            return False
        try:
            options = {GENERATION: str(launch.generation)}
            pane = await self._host.tmux.rename(taken.record.session, self._session, options)
            log.info("started", session=self._name, generation=launch.generation, pid=pane.pid, spare=True)
            self._name_conversation(launch, taken.record.conversation)
            ready = ProcessReady(permission_mode=taken.mode)
            if not self._hold(launch.generation, folder, pane, None, ready):
                code = await self._exit_code()
                self._sink(Batch(launch.generation, (ProcessExited(code, exit_reason(folder, code)),)))
        finally:
            taken.arrived()
        return True

    async def _moved(self, taken: Taken, folder: Path) -> bool:
        try:
            await asyncio.to_thread(_make_room, self._folder)
            taken.move(folder)
        except (BackendError, OSError) as e:
            taken.drop(str(e))
            return False
        except asyncio.CancelledError:
            taken.drop("the start was called off")
            raise
        return True

    def _name_conversation(self, launch: Launch, conversation: str) -> None:
        """A spare has a conversation of its own, begun before anybody asked for it."""
        self._conversation = conversation
        if conversation != launch.conversation:
            self._sink(Batch(launch.generation, (ConversationNamed(conversation),)))

    async def adopt(self, launch: Launch, checkpoint: Checkpoint | None) -> Liveness:
        await self._host.tmux.connect()
        try:
            pane = await self._pane()
        except TmuxError as e:
            log.warning("could not ask tmux", session=self._name, error=str(e))
            return Liveness.UNKNOWN
        self._conversation = launch.conversation
        folder = self._folder / str(launch.generation)
        self._slate = self._slate_of(launch, folder)
        if checkpoint is not None and checkpoint.get("generation") != launch.generation:
            checkpoint = None  # another process's place: this one is read from its beginning
        if checkpoint is None and (spare := await asyncio.to_thread(read_spare, folder)) is not None:
            self._name_conversation(launch, spare.conversation)  # it may not have come to the journal
        same = pane is not None and pane.generation == launch.generation
        if pane is not None and same and self._hold(launch.generation, folder, pane, checkpoint):
            if self._link is not None:
                self._link.note("the bridge is back; what was open is shown again")
            return Liveness.ALIVE
        await self._read_out(launch.generation, folder, checkpoint)
        return Liveness.GONE

    async def send_prompt(self, turn: TurnId, prompt: str, files: Sequence[File] = ()) -> None:
        link = self._running()
        await replace_unfit(link, self._host.claude.stop_timeout_s / 3)
        # The first prompt may be one that a process before this one, or a bridge before this one, was sent.
        identity: str = turn if link.prompted else await asyncio.to_thread(self._identity, turn)
        if self._slate is not None:
            await self._slate.write(identity)
        try:
            async with asyncio.timeout(self._host.claude.start_timeout_s):
                await link.prompt(turn, prompt, identity, files)
        except TimeoutError:
            limit = self._host.claude.start_timeout_s
            raise BackendError(f"claude did not read the prompt within {limit:g} s") from None

    async def forget(self, turn: TurnId | None, *, pressing: bool) -> None:
        link = self._running()
        assert self._slate is not None, "only a process that was launched `fresh` is to forget"
        await self._slate.wipe(link, turn, pressing=pressing)

    async def interrupt(self) -> None:
        link = self._running()
        # Between reading a prompt and taking it up the CLI has nothing to interrupt: it says that the
        # prompt is queued still, and would run it.
        for _ in range(INTERRUPT_TRIES):
            reply = await link.ask("interrupt")
            if not reply.payload.get("still_queued"):
                return
            await asyncio.sleep(INTERRUPT_AGAIN_S)
        raise BackendError("claude does not take up the prompt that is to be interrupted")

    async def answer(self, request: RequestId, answer: Answer) -> None:
        if answer.allow:
            line = stdin.allow(request, answer.input, answer.suggestions)
        else:
            line = stdin.deny(request, answer.message or DENIED, interrupt=answer.interrupt)
        await self._running().answer(request, line)

    async def configure(self, model: str | None, permission_mode_: str | None) -> None:
        link = self._running()
        if model is not None:
            reply = await link.ask("set_model", model=model)
            now = reply.payload.get("model")
            link.emit(SettingsSeen(model=now if isinstance(now, str) else model))
        if permission_mode_ is not None:
            mode = permission_mode(permission_mode_)
            await link.ask("set_permission_mode", mode=mode)
            link.emit(SettingsSeen(permission_mode=mode))

    def committed(self, checkpoint: Checkpoint) -> None:
        link = self._link
        if link is not None and checkpoint.get("generation") == link.generation:
            link.committed(checkpoint)

    async def attended(self) -> bool:
        return bool(await self._host.tmux.people(self._session))

    async def stop(self) -> None:
        await self._end_whatever_runs(politely=True)

    async def attend(self) -> None:
        """Silence and memory. Everything else is called back."""
        claude = self._host.claude
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch_for_hangs())
            group.create_task(watch_memory(claude.max_rss_mb, claude.stop_timeout_s / 3, lambda: self._link))

    async def _watch_for_hangs(self) -> None:
        claude = self._host.claude
        while True:
            link = self._link
            silent_s = link.silent_s if link is not None else 0.0
            if link is not None and link.busy and silent_s >= claude.silence_s:
                await link.prove(claude.start_timeout_s)
            await asyncio.sleep(max(TICK_S, claude.silence_s - silent_s))

    async def detach(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            with contextlib.suppress(BackendError, TimeoutError):
                await link.flush(FLUSH_S)
            link.close()

    async def delete(self) -> None:
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    # --- inside -----------------------------------------------------------------------------------------

    @property
    def _config_folder(self) -> Path:
        return self._host.config_folder()

    def _slate_of(self, launch: Launch, folder: Path) -> Slate | None:
        return None if launch.fresh is None else Slate(folder, launch.fresh, launch.options)

    def _identity(self, turn: TurnId) -> str:
        path = transcript_path(self._config_folder, self._conversation)
        try:
            return turn if path is None else transcript.identity(path.read_bytes(), turn)
        except OSError as e:
            log.warning("could not read what Claude has kept", session=self._name, error=str(e))
            return turn

    def _running(self) -> Link:
        if self._link is None or self._link.gone.done():
            raise BackendError("the process is gone")
        return self._link

    async def _pane(self) -> Pane | None:
        """The session's pane, as long as it is ours. Raises `TmuxError` where tmux cannot say."""
        panes = await self._host.tmux.panes(self._session)
        return next((p for p in panes if p.owner == self._host.owner), None)

    async def _exit_code(self) -> int | None:
        """How the process that just ended in the pane did so, as soon as tmux has heard of it."""
        for _ in range(STATUS_TRIES):
            pane = await self._pane()
            if pane is None or pane.exit_code is not None:
                return pane.exit_code if pane is not None else None
            reap(pane.server_pid)
            await asyncio.sleep(STATUS_AGAIN_S)
        return None

    def _hold(
        self,
        generation: int,
        folder: Path,
        pane: Pane,
        checkpoint: Checkpoint | None,
        ready: ProcessReady | None = None,
    ) -> bool:
        """Take up the process of a pane; False where it has ended. Raises `BackendError` where it cannot
        be spoken to. `ready`: it has just said that it is."""
        process = None if pane.dead else Process.open(pane.pid, pane.server_pid)
        if process is None:
            return False
        try:
            link = Link(
                generation, folder, process, self._sink, self._host.watch, tty=pane.tty, checkpoint=checkpoint
            )
        except BackendError:
            process.close()
            raise
        tmux, session = self._host.tmux, self._session
        link.open(lambda: tmux.panes_now(session), self._host.claude.start_timeout_s, ready)
        self._link = link
        return True

    async def _end_whatever_runs(self, *, politely: bool) -> None:
        """End the process that is held, or the one tmux knows of, its tmux session with it, and what is left
        of it or of one before it.

        Cancelling leaves a process that has been told to end; calling again goes on.
        """
        link = self._link
        if link is not None:
            link.stopping = True
            await self._end(link.process, link.gone, link if politely else None)
            link.close()
            self._link = None
        share = self._host.claude.stop_timeout_s / 3
        pane = await self._pane()
        if pane is not None:
            stranger = None if pane.dead else Process.open(pane.pid, pane.server_pid)
            if stranger is not None:
                await end_stranger(stranger, share)
            await self._host.tmux.kill_session(self._session)
        await self._host.leftovers.end(self._name, share)
        for spare in await asyncio.to_thread(taken_spares, self._folder):
            await self._host.leftovers.end(spare.marked, share)
            await self._host.tmux.kill_session(spare.session)  # where it was only half taken

    async def _end(self, process: Process, gone: asyncio.Future[None], link: Link | None) -> None:
        """By its own leave where there is a `link` to ask for it, by request, by force: a third of the
        time each."""
        share = self._host.claude.stop_timeout_s / 3
        if link is not None and not gone.done():
            if link.writable:
                link.say_goodbye()
            else:
                process.send(signal.SIGINT)  # it does not read: a signal says the same
            if await within(share, gone):
                return
        await end(process, gone, share)

    async def _read_out(self, generation: int, folder: Path, checkpoint: Checkpoint | None) -> None:
        """Say what a process said that is gone, from the checkpoint to its last byte."""
        parser = StreamParser(checkpoint)
        try:
            file = (folder / OUT).open("rb")
        except OSError:
            return
        with file:
            file.seek(parser.offset)
            while data := file.read(CHUNK):
                for segment in parser.feed(data):
                    self._say(generation, segment)
                await asyncio.sleep(0)
        # The checkpoint goes to disk with what becomes of the turn, which follows at once.
        self._say(generation, Segment(parser.end(), parser.finish()))

    def _say(self, generation: int, segment: Segment) -> None:
        said = tuple(i for i in segment.items if not isinstance(i, ControlReply | ControlAsked))
        if said or segment.checkpoint is not None:
            mark = segment.checkpoint and {**segment.checkpoint, "generation": generation}
            self._sink(Batch(generation, said, mark))


def _prepare(session: Path, folder: Path, files: Mapping[str, str]) -> None:
    """A fresh folder for one process. What earlier ones left is gone: it has been read to its end."""
    try:
        _make_room(session)
        make_folder(folder, files)
    except OSError as e:
        raise BackendError(f"the session's folder could not be made: {e}") from e


def _make_room(session: Path) -> None:
    """The session's folder, with none of a process in it. Raises `OSError`."""
    session.mkdir(mode=0o700, parents=True, exist_ok=True)
    session.chmod(0o700)
    for old in session.iterdir():
        if old.is_dir():
            shutil.rmtree(old, ignore_errors=True)
