"""Runs a session straight on the Messages API: no process, no tools, no terminal.

The conversation is the journal's; each prompt is one request that carries it (`api_conversation`). What a
process is to the other backends is here a task, which dies with the bridge; what it had said until then is in
a file (`api_partial`), and what becomes of its turn is decided by `adopt`.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import structlog

from bridge.clock import Clock, SystemClock
from bridge.commands import StartOptions
from bridge.config import ApiConfig
from bridge.errors import BackendError, JournalError
from bridge.events import Block, RequestId, SessionName, Turn, TurnError, TurnId
from bridge.sessions.backends.api_client import Upstream
from bridge.sessions.backends.api_conversation import Asked, Conversation, Past
from bridge.sessions.backends.api_partial import Partial, PartialFile, Piece
from bridge.sessions.backends.api_setup import access, check
from bridge.sessions.backends.api_stream import StreamReader
from bridge.sessions.backends.api_turn import Answering
from bridge.sessions.backends.base import Answer, Batch, Checkpoint, File, Launch, Liveness, Sink
from bridge.signals import BlockDropped, BlockSettled, ProcessReady, SettingsSeen, Signal, TurnEnded

log = structlog.get_logger(__name__)

RESTARTED = TurnError("bridge_restarted", "The bridge was restarted while Claude answered.")
CANCEL_AGAIN_S = 1.0
NO_MODES = "backend 'api' has no tools, and so no permission modes"


class ApiHost:
    """What the api sessions of one bridge share."""

    def __init__(
        self,
        state_dir: Path,
        config: ApiConfig,
        environ: Mapping[str, str],
        past: Past,
        clock: Clock | None = None,
    ) -> None:
        """`environ` is the bridge's own environment."""
        self.clock = clock or SystemClock()
        self.folder = state_dir / "sessions"
        self.config = config
        self.past = past
        self.upstream = Upstream(config, lambda: access(config, environ))

        self._environ = environ

    def backend(self, name: SessionName, sink: Sink) -> ApiBackend:
        return ApiBackend(name, sink, self)

    def check(self, options: StartOptions) -> None:
        """Raises `InvalidPayload` for what such a session cannot take, and `BackendUnavailable`."""
        check(options)
        access(self.config, self._environ)


class ApiBackend:
    """The `Backend` of one session; see there for what each method promises."""

    def __init__(self, name: SessionName, sink: Sink, host: ApiHost) -> None:
        self._name = name
        self._sink = sink
        self._host = host
        self._folder = host.folder / name
        self._file = PartialFile(self._folder)
        self._conversation = Conversation(name, host.past, host.upstream, host.config)
        self._launch: Launch | None = None
        self._model = host.config.model
        self._group: asyncio.TaskGroup | None = None
        self._answering: Answering | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def attach(self) -> str | None:
        return None

    @property
    def pid(self) -> int | None:
        return None

    async def start(self, launch: Launch) -> None:
        await self._halt()
        await asyncio.to_thread(self._file.remove)
        await self._host.upstream.made()
        self._hold(launch)
        self._say([self._ready()])

    async def adopt(self, launch: Launch, checkpoint: Checkpoint | None) -> Liveness:
        """There is nothing that could be gone. A turn that the bridge before this one cut off ends here, or
        goes on."""
        self._warm()
        try:
            opened = await self._host.past.opened(self._name)
        except JournalError as e:
            log.warning("could not read the open turn", session=self._name, error=str(e))
            return Liveness.UNKNOWN
        left = await asyncio.to_thread(self._file.read)
        self._hold(launch)
        turn = opened[0] if opened is not None else None
        if turn is None or left is None or left.turn != turn.id:
            left = None
        begun = (opened is not None and opened[1]) or (left is not None and left.active)
        if turn is None or not begun:
            # What was not begun is sent again by the core.
            await asyncio.to_thread(self._file.remove)
            self._say([self._ready()])
            return Liveness.ALIVE
        await self._take_up(launch, turn, left or _journaled(turn))
        return Liveness.ALIVE

    async def send_prompt(self, turn: TurnId, prompt: str, files: Sequence[File] = ()) -> None:
        if self._answering is not None:
            if self._answering.asked.turn == turn:
                return
            raise BackendError("another prompt is being answered")
        self._file.begin(turn)
        self._answer(Asked(turn, prompt, tuple(files)))

    async def forget(self, turn: TurnId | None, *, pressing: bool) -> None:
        """See `Forgetful`: what a request says of earlier turns is read for it, and so not at all."""

    async def interrupt(self) -> None:
        answering = self._answering
        if answering is not None:
            await self._halt()
            answering.interrupted()

    async def answer(self, request: RequestId, answer: Answer) -> None:
        raise BackendError("backend 'api' asks nobody")

    async def configure(self, model: str | None, permission_mode: str | None) -> None:
        if permission_mode not in (None, "default"):
            raise BackendError(NO_MODES)
        if model is not None:
            self._model = model
            self._conversation.forget()
            self._say([SettingsSeen(model=model)])

    async def attended(self) -> bool:
        return False

    async def stop(self) -> None:
        await self._halt()
        await asyncio.to_thread(self._file.remove)

    def committed(self, checkpoint: Checkpoint) -> None:
        if (
            self._answering is None
            and self._file.turn is not None
            and checkpoint.get("ended") == self._file.turn
        ):
            self._file.remove()

    async def attend(self) -> None:
        """The answers are tasks of this one."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                await asyncio.Event().wait()
            finally:
                self._group = None

    async def detach(self) -> None:
        """The answer that runs was `attend`'s, and is cut off by now."""
        await self._halt()
        self._file.close()

    async def delete(self) -> None:
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    # --- inside -----------------------------------------------------------------------------------------

    def _hold(self, launch: Launch) -> None:
        self._launch = launch
        self._conversation.alone = launch.fresh is not None
        self._model = launch.options.model or self._host.config.model

    def _warm(self) -> None:
        """The bridge before this one had a client: its next prompt would not have waited for one either."""
        if self._group is not None:
            self._group.create_task(self._host.upstream.warm(), name=f"warm:{self._name}")

    def _ready(self) -> ProcessReady:
        return ProcessReady(self._model, "default")

    async def _take_up(self, launch: Launch, turn: Turn, left: Partial) -> None:
        """A turn that the model has begun to answer is not sent again."""
        then = launch.options.on_restart or self._host.config.on_restart
        if left.ended is not None:
            self._say([*left.signals(), left.ended], ended=turn.id)
        elif then == "continue":
            await self._go_on(turn, left)
            return
        else:
            ended = TurnEnded("interrupted", None, RESTARTED, left.usage, left.cost_usd)
            self._say([*left.signals(), ended], ended=turn.id)
        self._say([self._ready()])
        self._file.turn = turn.id  # so that it goes with `committed`

    async def _go_on(self, turn: Turn, left: Partial) -> None:
        """The text so far becomes a block, and what is to come the next one of the same message. What had not
        come to any text is begun again."""
        said = left.signals()
        for number, piece in sorted(left.blocks.items()):
            if piece.settled:
                continue
            if piece.kind == "text" and piece.text.strip():
                end: Signal = BlockSettled(number, piece.kind, piece.text, piece.message)
            else:
                end = BlockDropped(number)
            said.append(end)
        self._file.go_on(turn.id)
        self._file.add(said[1 + len(left.blocks) :])
        self._say([*said, self._ready()])
        files = await self._host.past.files(self._name, turn.id) if turn.attachments else ()
        reader = StreamReader(first=max(left.blocks, default=-1) + 1, message=left.message)
        answering = self._answer(Asked(turn.id, turn.prompt, tuple(files), left.text), reader)
        answering.already(left.usage, left.cost_usd)

    def _answer(self, asked: Asked, reader: StreamReader | None = None) -> Answering:
        """Begin to. Raises `BackendError` where nobody attends to it, or it was never started."""
        if self._group is None or self._launch is None:
            raise BackendError("the session is not ready")
        host = self._host
        answering = self._answering = Answering(
            asked,
            self._model,
            self._launch.options,
            self._conversation,
            host.upstream,
            host.config,
            self._file,
            lambda signals: self._hear(asked.turn, signals),
            host.clock.now,
            reader,
        )
        self._task = self._group.create_task(answering.run(), name=f"answer:{self._name}")
        return answering

    def _hear(self, turn: TurnId, signals: Sequence[Signal]) -> None:
        over = any(isinstance(s, TurnEnded) for s in signals)
        if over:
            self._answering = self._task = None
        self._say(signals, ended=turn if over else None)

    async def _halt(self) -> None:
        """End the answer that runs, without a word of it."""
        task, self._task, self._answering = self._task, None, None
        while task is not None and not task.done():
            task.cancel()
            # A connection that fails while it is closed may swallow the cancellation.
            await asyncio.wait({task}, timeout=CANCEL_AGAIN_S)

    def _say(self, signals: Sequence[Signal], *, ended: TurnId | None = None) -> None:
        assert self._launch is not None
        checkpoint = None if ended is None else {"ended": ended}
        self._sink(Batch(self._launch.generation, tuple(signals), checkpoint))


def _journaled(turn: Turn) -> Partial:
    """All that is known of a turn whose file is gone: the blocks that were settled."""
    blocks = [b for b in turn.blocks if isinstance(b, Block)]
    pieces = {b.block: Piece(b.kind, b.message, b.text, settled=True) for b in blocks}
    return Partial(turn.id, active=True, blocks=pieces)
