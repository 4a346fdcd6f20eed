"""The composition root: everything is built here, and the supervision tree stands on one screen.

    claude-bridge
    ├── simulator         (with --simulate) watches the stand-in's process
    ├── hooks             where the TUI's hooks report to
    ├── webhooks          (where there are) tells endpoints outside what happens
    ├── sessions          one_for_one
    │   └── session:NAME  one task a session; its process is tmux's child, not ours
    ├── spares            (where they are kept) processes that wait for new sessions
    ├── history           (where it is limited) prunes what is too old
    ├── pools             looks after the pools' workers
    ├── workers           one_for_one
    │   └── pool:NAME     one_for_one
    │       └── worker:…  a session that nobody else sees
    ├── screens           one_for_one
    │   └── screen:NAME   what the pane of a session puts out, while somebody watches it
    └── listener          HTTP and WebSockets

Stopping goes from the bottom up: clients are told first (1012), then sessions let go of their processes,
which go on.
"""

from __future__ import annotations

import asyncio
import fcntl
import gc
import os
import platform
import secrets
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import orjson
import structlog
import uvloop
from aiohttp import web

from bridge import __version__
from bridge.auth import ADMIN, Authenticator, Connections, Principal, made_token
from bridge.clock import Clock, SystemClock
from bridge.commands import INNER
from bridge.config import ApiConfig, ClaudeConfig, Config
from bridge.doctor import Program, examine, find_claude, find_tmux
from bridge.errors import JournalError, SetupError, SupervisorFailed
from bridge.events import Epoch, Event, SessionChanged, SessionDeleted, SessionName, Turn
from bridge.hub import Hub, Topic
from bridge.lobby import Lobby
from bridge.locate import Address, url_of
from bridge.log import set_up
from bridge.presence import Presence
from bridge.screens import Screens
from bridge.service import Service
from bridge.sessions.actor import Publisher
from bridge.sessions.adoption import Adopting, Sidecars, Stray
from bridge.sessions.backends.api import ApiHost
from bridge.sessions.backends.api_conversation import Past
from bridge.sessions.backends.attached import forget_files
from bridge.sessions.backends.base import NothingToCopy
from bridge.sessions.backends.forks import TranscriptForks
from bridge.sessions.backends.headless import Host
from bridge.sessions.backends.hooks import HookServer
from bridge.sessions.backends.past import TranscriptPast
from bridge.sessions.backends.recall import StreamRecall, TuiRecall
from bridge.sessions.backends.spare import is_spare
from bridge.sessions.backends.spare_process import Premises
from bridge.sessions.backends.spares import Spares
from bridge.sessions.backends.status import StatusFiles
from bridge.sessions.backends.tail import FileWatch
from bridge.sessions.backends.tui import KeyboardRules, TuiHost
from bridge.sessions.journal import Journal
from bridge.sessions.pane_line import PaneLine
from bridge.sessions.pool import Pools
from bridge.sessions.registry import BackendKind, Registry
from bridge.sessions.retention import Retention
from bridge.sessions.tmux import Tmux, state_id
from bridge.supervision import ChildSpec, RestartBudget, Supervisor
from bridge.transports.console import Console
from bridge.transports.http import make_app, make_runner
from bridge.transports.tls import Certificate
from bridge.upstream import SimulatorProcess
from bridge.webhooks.dispatch import Webhooks
from bridge.wire.formats import ENCODERS

log = structlog.get_logger(__name__)

SESSIONS_BUDGET = RestartBudget(limit=50, window=60)
"""Crashes of session tasks, all sessions together: a defect shows as a flood; a single session that cannot
go on must not take the others down. That nothing can be written is no crash (`JournalStalled`)."""

LET_GO_S = 60.0
"""Between two looks for events that are too old: a minute too many of what is kept for hours."""

BACKLOG = 1024
"""Connections that may wait to be accepted: after a restart all clients come back at once."""


def serve(config: Config, reread: Callable[[], Config], file: Path) -> int:
    """Run the bridge until it is told to stop; the exit status. Raises `SetupError`.

    `reread` is the configuration as its sources say it now, `file` the one among them that can be written.
    """
    set_up(config.log)
    state_dir = config.state_dir
    try:
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        (state_dir / ".writable").write_text("")
        (state_dir / ".writable").unlink()
    except OSError as e:
        raise SetupError(
            f"The state folder {state_dir} cannot be used: {e.strerror or e}.",
            "Choose another with --state-dir, or make it writable.",
        ) from e
    with _alone(state_dir):
        return uvloop.run(Bridge(config, reread, file).run())


def _programs(config: Config) -> tuple[Program, Program]:
    return find_claude(config, os.environ), find_tmux(config, os.environ)


@contextmanager
def _alone(state_dir: Path) -> Iterator[None]:
    """Hold the state folder's lock: two bridges would both write to the same sessions."""
    descriptor = os.open(state_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            pid = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
            raise SetupError(
                f"Another bridge (pid {pid}) already serves the state folder {state_dir}.",
                f"Use that one, end it (kill {pid}; its sessions go on), or choose another --state-dir.",
            ) from e
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


class _TopicPublisher:
    """One session's way to the hub, and to `hears`, who is told the same. Who watches its screen is told that
    it is another now."""

    def __init__(
        self,
        topic: Callable[[], Topic],
        lobby: Lobby,
        screens: Screens,
        name: SessionName,
        hears: Callable[[SessionName, float, Event], None] | None,
    ) -> None:
        self._topic = topic
        self._lobby = lobby
        self._screens = screens
        self._name = name
        self._hears = hears

    @property
    def viewers(self) -> int:
        return self._topic().viewers

    @property
    def watched(self) -> bool:
        return self._screens.watched(self._name)

    def publish(self, at: float, event: Event) -> None:
        self._topic().publish(at, event)
        if self._hears is not None:
            self._hears(self._name, at, event)

    def announce(self, at: float, event: SessionChanged | SessionDeleted) -> None:
        self._lobby.publish(at, event)
        self._screens.changed(self._name)
        if self._hears is not None and isinstance(event, SessionDeleted):  # a change is published as well
            self._hears(self._name, at, event)


class _WorkerPublisher:
    """A pool's worker tells its pool and nobody else."""

    viewers = 0
    watched = False

    def __init__(self, pools: Pools, name: SessionName) -> None:
        self._pools = pools
        self._name = name

    def publish(self, at: float, event: Event) -> None:
        self._pools.hear(self._name, at, event)

    def announce(self, at: float, event: SessionChanged | SessionDeleted) -> None:
        self._pools.hear(self._name, at, event)


class _Listener:
    """The address the bridge answers on. Bound first, so that a port in use is told before anything is
    touched; served last, so that whoever connects finds every session. Between the two, who connects
    waits and is not refused."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._socket: socket.socket | None = None
        self.certificate: Certificate | None = None
        self.port = 0

    def bind(self) -> None:
        server = self._config.server
        if server.tls_cert is not None and server.tls_key is not None:
            self.certificate = Certificate(server.tls_cert, server.tls_key)
        family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((server.host, server.port))
            self._socket.listen(BACKLOG)
        except OSError as e:
            self._socket.close()
            raise SetupError(
                f"The bridge cannot listen on {server.host}:{server.port}: {e.strerror or e}.",
                "Choose another with --port (0 picks a free one), or end what uses it.",
            ) from e
        self.port = self._socket.getsockname()[1]

    @property
    def scheme(self) -> str:
        return "http" if self.certificate is None else "https"

    async def serve(self, app: web.Application) -> None:
        """Serve until cancelled; then every client is sent away with 1012."""
        assert self._socket is not None
        runner = make_runner(app, self._config.server)
        await runner.setup()
        try:
            tls = self.certificate.context if self.certificate is not None else None
            await web.SockSite(runner, self._socket, backlog=BACKLOG, ssl_context=tls).start()
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()


class Bridge:
    """One run of the bridge, from the journal to the listener and back."""

    def __init__(self, config: Config, reread: Callable[[], Config], file: Path) -> None:
        self.config = config
        self._reread = reread
        self._file = file
        self.node = config.node or platform.node() or "localhost"
        self._clock = SystemClock()
        self._root = Supervisor("claude-bridge", clock=self._clock)
        self._stopping = asyncio.Event()
        self._serving = False
        self._at_terminal = sys.stdin.isatty()

    async def run(self) -> int:
        """Serve until SIGTERM or SIGINT; the exit status. Raises `SetupError`."""
        config, state = self.config, self.config.state_dir
        listener = _Listener(config)
        listener.bind()
        try:
            claude_program, tmux_program = await asyncio.to_thread(_programs, config)
            tmux = Tmux(config.tmux_socket, config.tmux.model_copy(update={"path": tmux_program.path}))
            claude, api = await self._upstream(
                tmux, config.claude.model_copy(update={"path": claude_program.path})
            )
            known = (state / "token").exists() or config.token is not None
            token = made_token(state / "token", config.token)
            try:
                journal = await Journal.open(state / "journal.db", clock=self._clock)
            except JournalError as e:
                raise SetupError(f"The journal cannot be opened: {e}") from e
            try:
                past = Past(journal.turns, partial(_opened, journal), journal.files)
                host = ApiHost(state, api, os.environ, past, self._clock)
                service = await self._build(journal, tmux, claude, host, token)
                console = Console() if config.server.console else None
                app = make_app(service, config.server, config.hub, self._clock, console)
                self._root.start_child(
                    ChildSpec("listener", lambda: listener.serve(app), shutdown_s=config.server.shutdown_s)
                )
                # Before anybody learns where the bridge is, who might then send the signal.
                loop = asyncio.get_running_loop()
                loop.add_signal_handler(signal.SIGHUP, self._hung_up, listener, service)
                self._leave_word(listener)
                self._greet(listener, token, known, console)
                return await self._supervised()
            finally:
                (state / "bridge.json").unlink(missing_ok=True)
                await tmux.close()
                await host.upstream.close()
                await journal.close()
        finally:
            listener.close()

    async def _upstream(self, tmux: Tmux, claude: ClaudeConfig) -> tuple[ClaudeConfig, ApiConfig]:
        """The CLI as it is to be run, and the API's client; pointed at the simulator where that was
        asked for."""
        if not self.config.simulate:
            return claude, self.config.api
        simulator = SimulatorProcess(tmux, self.config.state_dir)
        await simulator.ensure()
        self._root.start_child(ChildSpec("simulator", simulator.watch, describe=simulator.describe))
        return simulator.point(claude), simulator.point_api(self.config.api)

    async def _build(
        self, journal: Journal, tmux: Tmux, claude: ClaudeConfig, api: ApiHost, token: str
    ) -> Service:
        config = self.config
        loop = asyncio.get_running_loop()
        hub = Hub(ENCODERS, config.hub, loop.call_soon, Epoch(secrets.token_hex(6)))
        presence = Presence(hub, self._clock, loop.call_later)
        lobby = Lobby(hub)
        sessions = Supervisor("sessions", budget=SESSIONS_BUDGET, clock=self._clock)
        watching = Supervisor("screens", budget=SESSIONS_BUDGET, clock=self._clock)
        hooks = HookServer(config.state_dir)
        hooks.bind()
        owner = state_id(config.state_dir)
        screens = Screens(
            lambda name, hears: PaneLine.open(tmux, owner, name, hears),
            watching,
            (config.tmux.width, config.tmux.height),
        )

        def topic(name: SessionName) -> Topic:
            return hub.topic(f"session:{name}")

        def forget(name: SessionName) -> None:
            hub.drop(f"session:{name}")
            presence.drop(f"session:{name}")
            screens.drop(name)

        webhooks = None
        if config.webhooks:
            kept = config.state_dir / "webhooks.json"
            webhooks = Webhooks(config.webhooks, kept, self._clock, loop.call_later)
        workers = Supervisor("workers", budget=SESSIONS_BUDGET, clock=self._clock)
        pools = Pools(config.pools, workers, self._clock, loop.call_later)

        def publisher(name: SessionName) -> Publisher:
            if INNER.fullmatch(name):
                return _WorkerPublisher(pools, name)
            hears = webhooks.tell if webhooks is not None else None
            return _TopicPublisher(lambda: topic(name), lobby, screens, name, hears)

        watch = FileWatch()
        premises = Premises(config.state_dir, tmux, watch, claude, os.environ, self._clock)
        spares = Spares(premises, config.spares)
        registry = Registry(
            journal,
            self._backends(tmux, claude, hooks, api, watch, spares, lambda name: topic(name).viewers),
            publisher,
            forget,
            sessions,
            self._clock,
            config.sessions,
            self.node,
            Adopting(Sidecars(config.state_dir / "sessions"), lambda: _strays(tmux, owner)),
            config.budgets,
            pools.workers,
        )
        if spares.wanted:
            await premises.settle()
        await registry.load()
        pools.open(registry, journal)
        self._root.start_child(ChildSpec("hooks", hooks.serve))
        if webhooks is not None:
            webhooks.begin(registry.sessions(), registry.open_requests())
            self._root.start_child(ChildSpec("webhooks", webhooks.run, describe=webhooks.describe))
        self._root.start_child(sessions.spec())
        if spares.wanted:
            keep = lambda: spares.run(registry.starts.spare_place, lambda: registry.defaults("headless"))  # noqa: E731
            self._root.start_child(ChildSpec("spares", keep, restart="transient", describe=spares.describe))
        unkept = partial(forget_files, config.state_dir / "sessions")
        retention = Retention(journal, registry, self._clock, config.sessions, unkept)
        if retention.wanted:
            self._root.start_child(ChildSpec("history", retention.run))
        self._root.start_child(workers.spec())
        self._root.start_child(ChildSpec("pools", lambda: pools.run(registry)))
        self._root.start_child(watching.spec())
        self._root.start_child(ChildSpec("replay", partial(_let_go, hub, self._clock, config.hub.ring_s)))
        service = Service(
            registry,
            hub,
            lobby,
            Authenticator([(token, Principal("local", ADMIN, credential="local"))], self._clock),
            Connections(self._clock, loop.call_later),
            screens,
            presence,
            self._clock,
            pools=pools,
            node=self.node,
            snapshot_bytes=config.sessions.snapshot_bytes,
            tree=self._root.tree,
            ready=lambda: self._serving,
            spares=spares.figures,
        )
        service.admit(config.auth)
        return service

    def _backends(
        self,
        tmux: Tmux,
        claude: ClaudeConfig,
        hooks: HookServer,
        api: ApiHost,
        watch: FileWatch,
        spares: Spares,
        viewers: Callable[[SessionName], int],
    ) -> dict[str, BackendKind]:
        state = self.config.state_dir
        headless = Host(state, tmux, watch, claude, os.environ, spares)
        tui = TuiHost(state, tmux, watch, StatusFiles(watch), hooks, claude, os.environ, viewers)
        folder = state / "sessions"
        return {
            "headless": BackendKind(
                headless.backend,
                recall=StreamRecall(folder),
                fork=TranscriptForks(state, headless.config_folder),
                past=TranscriptPast(headless.config_folder),
            ),
            "tmux": BackendKind(
                tui.backend,
                KeyboardRules(folder),
                TuiRecall(folder),
                past=TranscriptPast(tui.config_folder),
            ),
            "api": BackendKind(
                api.backend,
                fork=NothingToCopy(),
                check=api.check,
                without_process=api.config.max_sessions,
                model=api.config.model,
            ),
        }

    def _hung_up(self, listener: _Listener, service: Service) -> None:
        """SIGHUP: read again who may come in, budgets, the certificate; what does not fit changes nothing.

        Where the terminal it was started at is gone, it is that which was meant, and the bridge stops.
        """
        if self._at_terminal and not sys.stdin.isatty():
            self._stopping.set()
            return
        try:
            reread = self._reread()
            ended = service.admit(reread.auth)
            service.budget(reread.budgets)
            renewed = listener.certificate is not None and listener.certificate.reload()
        except SetupError as e:
            log.error("configuration not taken", problem=e.problem, remedy=e.remedy)
            return
        if renewed:
            self._leave_word(listener)
        log.info("configuration read again", connections_ended=ended, certificate_renewed=renewed)

    async def _supervised(self) -> int:
        """Run the tree until a signal comes or it fails; a second signal hurries, as the deadline does."""
        loop = asyncio.get_running_loop()
        hurry = asyncio.Event()

        def told() -> None:
            (hurry if self._stopping.is_set() else self._stopping).set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, told)
        async with asyncio.TaskGroup() as group:
            root = group.create_task(self._kept(), name="root")
            waiting = [group.create_task(e.wait()) for e in (self._stopping, hurry)]
            login = group.create_task(self._look_at_login(), name="login")
            # What was loaded so far stays: the collector need not walk over it again (30 ms each time).
            gc.collect()
            gc.freeze()
            self._serving = True
            await asyncio.wait({root, waiting[0]}, return_when=asyncio.FIRST_COMPLETED)
            self._serving = False
            root.cancel()
            _, late = await asyncio.wait(
                {root, waiting[1]},
                timeout=self.config.server.shutdown_s,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if root in late:
                log.warning("hurried the stop")
                root.cancel()
                await asyncio.wait({root})
            for task in (*waiting, login):
                task.cancel()
        log.info("stopped; sessions go on")
        return 0 if self._stopping.is_set() else 1

    async def _look_at_login(self) -> None:
        """Say early what every prompt would say otherwise. Nobody waits for it."""
        for found in await asyncio.to_thread(examine, self.config, os.environ, ["login"]):
            if found.status != "ok":
                log.warning("not logged in", said=found.said, remedy=found.remedy)

    async def _kept(self) -> None:
        with suppress(SupervisorFailed):  # logged where it failed, with what failed below it
            await self._root.run()

    def _leave_word(self, listener: _Listener) -> None:
        """For the commands on this machine: where the bridge answers, and which certificate it shows."""
        certificate = listener.certificate
        said = {
            "host": self.config.server.host,
            "port": listener.port,
            "scheme": listener.scheme,
            "certificate": None if certificate is None else certificate.fingerprint,
            "config": str(self._file),
            "pid": os.getpid(),
            "version": __version__,
            "simulate": self.config.simulate,
        }
        note = self.config.state_dir / "bridge.json"
        new = note.with_suffix(".new")
        new.write_bytes(orjson.dumps(said) + b"\n")
        new.replace(note)

    def _greet(self, listener: _Listener, token: str, known: bool, console: Console | None) -> None:
        """The person at the terminal. The token is said where that is one, and elsewhere, in a file or a
        journal, only when it is new."""
        config = self.config
        address = f"{listener.scheme}://{config.server.host}:{listener.port}"
        lines = [f"claude-bridge {__version__} answers on {address}"]
        if config.simulate:
            lines.append("Every reply is simulated: no account, no key and no network are used.")
        if not known:
            lines.append(f"Its token, kept in {config.state_dir}/token: {token}")
        if console is not None and console.files:
            secure = listener.certificate is not None
            at = Address(url_of(config.server.host, listener.port, secure=secure), token)
            shown = at.console if sys.stdout.isatty() or not known else f"{_command()} console  (prints it)"
            lines.append(f"Its web console:  {shown}")
        lines.append(f'Say hello from another terminal:  {_command()} submit demo "hello" --start')
        sys.stdout.write("\n".join(lines) + "\n")
        sys.stdout.flush()


async def _let_go(hub: Hub, clock: Clock, ring_s: float) -> None:
    """Events that are too old to be replayed, of sessions in which nothing happens as well."""
    while True:
        await asyncio.sleep(min(ring_s, LET_GO_S))
        hub.expire(clock.now())


async def _opened(journal: Journal, name: SessionName) -> tuple[Turn, bool] | None:
    """The turn that a session's backend was given and has not ended, and whether it was being answered."""
    for loaded in await journal.load(name):
        for record in loaded.open_turns:
            if record.phase != "queued":
                return record.turn, record.phase == "active" or bool(record.turn.blocks)
    return None


async def _strays(tmux: Tmux, owner: str) -> list[Stray]:
    """What runs under this state folder's mark."""
    ours = [
        p
        for p in await tmux.panes()
        if p.owner == owner and p.session.startswith("claude_") and not is_spare(p, owner)
    ]
    return [
        Stray(
            SessionName(pane.session.removeprefix("claude_")),
            pane.generation,
            None if pane.dead else pane.pid,
            tmux.attach_command(pane.session),
            tmux.end_command(pane.session),
        )
        for pane in ours
    ]


def _command() -> str:
    """How this command was called, so that what is told to be typed works as it stands."""
    called = Path(sys.argv[0])
    if called.name != "claude-bridge":
        return f"{sys.executable} -m bridge"
    return "claude-bridge" if shutil.which("claude-bridge") == str(called.absolute()) else str(called)
