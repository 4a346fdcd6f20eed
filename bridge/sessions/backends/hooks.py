"""Where running CLIs tell what happens in them and ask what is to be decided: a small HTTP server.

Owns the file `hooks.json` of the state folder: a CLI is given the address once, when it starts, so a bridge
that starts again takes the same port. Each session has a secret of its own, which opens that session and
no other. Knows nothing of what a hook means: that is the receiver's.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import random
import socket
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, Protocol

import orjson
import structlog
from aiohttp import hdrs, web

from bridge.errors import SetupError

log = structlog.get_logger(__name__)

Payload = dict[str, Any]

HOST = "127.0.0.1"
BACKLOG = 1024
"""Connections that may wait: between `bind` and `serve` all the CLIs of a restarted bridge do."""
BODY_BYTES = 32 * 1024 * 1024
"""A hook carries a tool's whole input or result; the Messages API takes requests of this size."""
POLL_S = 20.0
"""How long a question is held before the script is told to ask again: short enough that a peer that
vanished is noticed, long enough that an open question costs next to nothing."""
STOP_S = 2.0
"""For hooks that are being answered when the bridge stops; open questions end at once."""
REFUSED_S = 60.0
"""Between two lines of the log about hooks with an unknown secret: a script that was left behind asks
twice a second."""
OWN_PORTS = 20_000
"""The lowest port that is chosen. Those below belong to services by habit."""
CHOICES = 100
"""Ports that are tried before the system is asked for any."""


class Receiver(Protocol):
    """A session's side. Called on the loop, in the order in which the bodies arrived; nothing may raise."""

    def hook(self, event: Payload) -> Payload:
        """Take one hook; what the CLI is answered, `{}` for nothing. Must not block."""
        ...

    def asked(self, request: str, event: Payload) -> asyncio.Future[Payload]:
        """A permission question under an id of the hook's own; the same id is the same question.

        It comes again every 20 s, and after every lost connection, also after its answer: then the future
        is a done one. It resolves to what the hook shall print, `{}` where nobody waits for it any more;
        cancelled, the hook is told to ask later.
        """
        ...

    def abandoned(self, request: str) -> None:
        """The hook went away without handing over an answer. The id may be unknown or answered."""
        ...


@dataclass(slots=True)
class _Seat:
    """What stands behind one secret; `held` are its questions that wait for an answer just now."""

    secret: bytes
    receiver: Receiver
    held: set[asyncio.Future[None]] = field(default_factory=set)

    def let_go(self) -> None:
        """End what is held without an answer."""
        for over in self.held:
            over.set_result(None)
        self.held.clear()


class HookServer:
    """The listener, and who is behind which secret. Belongs to one event loop.

    `bind` early, so that hooks wait instead of failing; `serve` when the sessions are attached, because a
    hook whose secret is not known is refused.
    """

    def __init__(self, state_dir: Path) -> None:
        self.url = ""
        self._file = state_dir / "hooks.json"
        self._socket: socket.socket | None = None
        self._seats: dict[bytes, _Seat] = {}
        self._stopping = False
        self._refused = 0
        self._told_at: float | None = None

    # --- the address ------------------------------------------------------------------------------

    def bind(self) -> None:
        """Listen, on the kept port if it is free. Raises `SetupError`. Does nothing where it listens."""
        if self._socket is not None:
            return
        kept = self._kept_port()
        try:
            self._socket = _listening(kept) if kept else None
        except OSError as e:
            log.error(
                "hooks lost their port; running CLIs still tell the old one", port=kept, problem=e.strerror
            )
        try:
            self._socket = self._socket or _listening_anywhere()
            port = self._socket.getsockname()[1]
            self.url = f"http://{HOST}:{port}"
            _write(self._file, orjson.dumps({"url": self.url, "port": port}))
        except OSError as e:
            self.close()
            raise SetupError(f"The listener for hooks could not be started: {e}") from e

    def close(self) -> None:
        """Stop listening where `serve` has not begun; it closes what it serves by itself."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _kept_port(self) -> int:
        try:
            port = orjson.loads(self._file.read_bytes())["port"]
        except (OSError, ValueError, KeyError, TypeError):
            return 0
        return port if isinstance(port, int) and 0 < port < 65536 else 0

    # --- sessions ---------------------------------------------------------------------------------

    def attach(self, secret: str, receiver: Receiver) -> None:
        """From now on hooks with this secret go to `receiver`, in place of any before it."""
        self.detach(secret)
        key = secret.encode()
        self._seats[_digest(key)] = _Seat(key, receiver)

    def detach(self, secret: str) -> None:
        """Refuse hooks with this secret; nothing more reaches its receiver.

        Questions that are being held end without an answer, and are asked again later.
        """
        seat = self._seats.pop(_digest(secret.encode()), None)
        if seat is not None:
            seat.let_go()

    def _seat(self, request: web.Request) -> _Seat | None:
        """Who is meant. Found by a digest, which an attacker cannot steer, and then compared in constant
        time: how long a refusal takes says nothing about any secret."""
        scheme, _, given = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        secret = given.encode(errors="surrogateescape")
        seat = self._seats.get(_digest(secret))
        if scheme == "Bearer" and seat is not None and hmac.compare_digest(seat.secret, secret):
            return seat
        self._tell_refused()
        return None

    def _tell_refused(self) -> None:
        self._refused += 1
        now = asyncio.get_running_loop().time()
        if self._told_at is None or now >= self._told_at + REFUSED_S:
            log.warning("hooks with an unknown secret were refused", count=self._refused)
            self._refused = 0
            self._told_at = now

    # --- serving ----------------------------------------------------------------------------------

    async def serve(self) -> None:
        """Answer until cancelled; then questions are let go at once, to be asked again of the next bridge.

        May be called again after it ended, and takes the same port. Raises `SetupError`.
        """
        self.bind()
        listener = self._socket
        assert listener is not None
        self._stopping = False
        app = web.Application(client_max_size=BODY_BYTES)
        app.router.add_post("/hook", self._hook)
        app.router.add_post("/ask/{request:[A-Za-z0-9-]{1,64}}", self._ask)
        app.router.add_post("/ask/{request:[A-Za-z0-9-]{1,64}}/gone", self._gone)
        # No access log: a line for each line of each reply.
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=STOP_S, handle_signals=False)
        try:
            await runner.setup()
            await web.SockSite(runner, listener, backlog=BACKLOG).start()
            await asyncio.Event().wait()
        finally:
            self._stopping = True
            for seat in self._seats.values():
                seat.let_go()
            self._socket = None
            try:
                await runner.cleanup()
            finally:
                listener.close()

    async def _hook(self, request: web.Request) -> web.Response:
        told = await self._told(request)
        if isinstance(told, web.Response):
            return told
        seat, event = told
        log.debug("< hook", hook=event.get("hook_event_name"))
        return _json(seat.receiver.hook(event))

    async def _ask(self, request: web.Request) -> web.Response:
        told = await self._told(request)
        if isinstance(told, web.Response):
            return told
        seat, event = told
        if self._stopping:
            return _status(HTTPStatus.SERVICE_UNAVAILABLE)
        answer = seat.receiver.asked(request.match_info["request"], event)
        over = asyncio.get_running_loop().create_future()
        seat.held.add(over)
        try:
            # The answer is others' as well: `wait` does not cancel it, nor does a client that has gone.
            await asyncio.wait({answer, over}, timeout=POLL_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            seat.held.discard(over)
        if answer.done() and not answer.cancelled():
            return _json(answer.result())
        if answer.cancelled() or over.done():
            return _status(HTTPStatus.SERVICE_UNAVAILABLE)
        return _status(HTTPStatus.NO_CONTENT)

    async def _gone(self, request: web.Request) -> web.Response:
        seat = self._seat(request)
        if seat is None:
            return _status(HTTPStatus.UNAUTHORIZED)
        seat.receiver.abandoned(request.match_info["request"])
        return _status(HTTPStatus.NO_CONTENT)

    async def _told(self, request: web.Request) -> tuple[_Seat, Payload] | web.Response:
        """Whose hook it is and what it says, or the refusal."""
        seat = self._seat(request)
        if seat is None:
            return _status(HTTPStatus.UNAUTHORIZED)
        try:
            event = _parsed(await request.read())
        except ConnectionError:  # the CLI was killed while it spoke
            event = None
        if not isinstance(event, dict):
            return _status(HTTPStatus.BAD_REQUEST)
        if seat is not self._seats.get(_digest(seat.secret)):  # detached meanwhile
            return _status(HTTPStatus.UNAUTHORIZED)
        return seat, event


def _digest(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()


def _status(status: HTTPStatus) -> web.Response:
    return web.Response(status=status)


def _json(answer: Payload) -> web.Response:
    return web.Response(body=orjson.dumps(answer), content_type="application/json")


def _parsed(body: bytes) -> Any:
    """A text that was cut in the middle of an emoji is sent as half of it, which no other part of the
    bridge could write down: it becomes U+FFFD."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    try:
        whole = json.dumps(json.loads(body), ensure_ascii=False)
        return orjson.loads(whole.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
    except (ValueError, RecursionError):
        return None


def _listening(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _listening_anywhere() -> socket.socket:
    """Preferably below the ports that the system gives to outgoing connections: while the bridge is away
    its port must be taken by nobody, and a script that tries it again and again must not by chance be
    given that very port as its own, which connects it to itself."""
    try:
        words = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
        ours = range(OWN_PORTS, int(words[0]))
    except (OSError, ValueError, IndexError):
        ours = range(0)
    for port in random.sample(ours, min(CHOICES, len(ours))):
        try:
            return _listening(port)
        except OSError:
            continue
    return _listening(0)


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all: scripts read it at any time."""
    new = path.with_name(f"{path.name}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        os.fchmod(descriptor, 0o600)
        out.write(content)
    new.replace(path)
