"""A small Phoenix Channels client: what the commands speak to a bridge with.

Knows the V2 frames and the promises of spec/protocol.md: it comes back with `{epoch, seq}` after a lost
connection and sends a prompt under one id, so that nothing is missed and nothing runs twice.
Not for concurrent use: one command has one connection and reads it itself.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal

import aiohttp
import orjson

from bridge.errors import BridgeUnreachable, RefusedByBridge, SetupError
from bridge.locate import Address, Look
from bridge.reading import CAUGHT_UP, FINAL
from bridge.wire import attachments, phoenix

Payload = dict[str, Any]
Happening = tuple[str, Payload]

HEARTBEAT_S = 25.0
"""The server closes a socket that was silent for 60 s; phoenix.js beats every 30 s."""
REPLY_S = 30.0
"""No command waits for a process, so an answer that takes so long will not come."""
CONNECT_S = 5.0
BACKOFF_S = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
PAGE = 200
"""Turns of history asked for at once: a frame of them stays far below what a client takes."""
PATIENCE_S = 60.0
"""How long a command that was connected tries to come back: a restart of the bridge takes seconds."""

REMEDIES = {
    "session_not_found": "`claude-bridge sessions` lists them; `claude-bridge start NAME` makes one.",
    "session_stopped": "`claude-bridge start NAME` takes it up again.",
    "session_failed": "`claude-bridge start NAME` tries again; the bridge's log has the details.",
    "session_exists": "Leave the options out to use it as it is, or take another name.",
    "unauthorized": "`claude-bridge token` prints the local bridge's; give it with --token.",
    "budget_exceeded": "`claude-bridge spending` shows what was spent, and until when it counts.",
    "queue_full": "Wait until some of them are answered, or cancel one.",
}


# --- one connection ------------------------------------------------------------------------------


class ConnectionLost(Exception):
    """The socket is gone; what was promised holds, and another connection can go on."""


@dataclass(frozen=True, slots=True)
class Message:
    topic: str
    event: str
    payload: Payload


class Connection:
    """One WebSocket with its joined topics."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self._ws = ws
        self._refs = 0
        self._joined: dict[str, str] = {}
        self._waiting: deque[Message] = deque()
        self._beat_at = time.monotonic() + HEARTBEAT_S
        self._beat: str | None = None

    async def join(self, topic: str, payload: Payload) -> Payload:
        """Join a topic and return its reply. Raises `RefusedByBridge`, `ConnectionLost`."""
        self._joined[topic] = str(self._refs + 1)
        return await self.push(topic, "phx_join", payload)

    async def push(self, topic: str, event: str, payload: Payload) -> Payload:
        """Send and wait for the reply; events that come meanwhile are kept for `receive`."""
        ref = await self._send(self._joined.get(topic), topic, event, payload)
        deadline = time.monotonic() + REPLY_S
        while True:
            join_ref, got, message = await self._read(deadline)
            if got == ref and message.event == "phx_reply":
                break
            if message.event == "phx_error" and join_ref == self._joined.get(topic):
                raise ConnectionLost(f"The bridge lost {topic}.")
            if message.event != "phx_reply":
                self._waiting.append(message)
        response: Payload = message.payload.get("response") or {}
        if message.payload.get("status") != "ok":
            raise refusal(response)
        return response

    async def receive(self) -> Message:
        """The next event of any joined topic. Raises `ConnectionLost`."""
        while not self._waiting:
            _, _, message = await self._read(None)
            if message.event != "phx_reply":
                return message
        return self._waiting.popleft()

    async def _send(self, join_ref: str | None, topic: str, event: str, payload: Payload) -> str:
        self._refs += 1
        ref = str(self._refs)
        try:
            if payload.get(attachments.FILES):
                await self._ws.send_bytes(_with_files(join_ref, ref, topic, event, payload))
            else:
                await self._ws.send_str(orjson.dumps([join_ref, ref, topic, event, payload]).decode())
        except (aiohttp.ClientError, ConnectionError) as e:
            raise ConnectionLost("The connection to the bridge broke.") from e
        return ref

    async def _read(self, deadline: float | None) -> tuple[str | None, str | None, Message]:
        while True:
            now = time.monotonic()
            if deadline is not None and now > deadline:
                raise ConnectionLost(f"The bridge has not answered for {REPLY_S:.0f} seconds.")
            if now >= self._beat_at:
                if self._beat is not None:
                    raise ConnectionLost("The bridge does not answer any more.")
                self._beat_at = now + HEARTBEAT_S
                self._beat = await self._send(None, "phoenix", "heartbeat", {})
            until = self._beat_at if deadline is None else min(self._beat_at, deadline)
            try:
                frame = await self._ws.receive(timeout=max(0.001, until - now))
            except TimeoutError:
                continue
            if frame.type is aiohttp.WSMsgType.BINARY:
                continue
            if frame.type is not aiohttp.WSMsgType.TEXT:
                raise ConnectionLost(self._why())
            join_ref, ref, topic, event, payload = orjson.loads(frame.data)
            if ref is not None and ref == self._beat:
                self._beat = None
                continue
            return join_ref, ref, Message(topic, event, payload)

    def _why(self) -> str:
        code = self._ws.close_code
        return {
            1012: "The bridge is stopping.",
            4008: "This client fell too far behind.",
            1001: "The bridge closed the connection: the token may have been revoked.",
        }.get(code or 0, "The connection to the bridge broke.")


def _with_files(join_ref: str | None, ref: str, topic: str, event: str, payload: Payload) -> bytes:
    return phoenix.client_push(join_ref or "", ref, topic, event, attachments.packed(payload))


def refusal(response: Payload) -> RefusedByBridge:
    """A reply of status `error` as the command's error, with what can be done about it."""
    details = dict(response)
    reason = str(details.pop("reason", "internal"))
    message = str(details.pop("message", reason))
    return RefusedByBridge(reason, message, REMEDIES.get(reason, ""), **details)


@asynccontextmanager
async def connect(address: Address) -> AsyncIterator[Connection]:
    """A connection to the bridge. Raises `BridgeUnreachable`, or `RefusedByBridge` for a wrong token."""
    pinned = address.certificate
    bearer = base64.b64encode(address.token.encode()).decode().rstrip("=")
    async with aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S)
    ) as session:
        try:
            ws = await asyncio.wait_for(
                session.ws_connect(
                    address.websocket,
                    protocols=("phoenix", f"base64url.bearer.phx.{bearer}"),
                    timeout=aiohttp.ClientWSTimeout(ws_close=1.0),  # Ctrl-C must not wait for a dead bridge
                    max_msg_size=0,  # a snapshot has megabytes, and the bridge bounds it
                    ssl=aiohttp.Fingerprint(bytes.fromhex(pinned)) if pinned else True,
                ),
                CONNECT_S,
            )
        except aiohttp.WSServerHandshakeError as e:
            if e.status in {401, 403}:
                raise refusal(
                    {"reason": "unauthorized", "message": f"{address.url} does not accept this token."}
                ) from None
            raise BridgeUnreachable(
                f"{address.url} answers, but not as a bridge (HTTP {e.status}).",
                "Check the address: another program may listen there.",
            ) from None
        except aiohttp.ServerFingerprintMismatch:
            raise BridgeUnreachable(
                f"{address.url} shows another certificate than the bridge on this machine.",
                "Another program may listen there; the token was not sent to it.",
            ) from None
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as e:
            raise BridgeUnreachable(
                f"No bridge answers at {address.url} ({str(e) or type(e).__name__}).",
                "Start one with `claude-bridge serve`, or say where it is with --url or --state-dir.",
            ) from None
        try:
            yield Connection(ws)
        finally:
            await ws.close()


async def ask(look: Look, topic: str, event: str | None, payload: Payload) -> Payload:
    """Join a topic and, where `event` is given, push it: one question, one answer.

    A session is joined without its history. Raises `BridgeUnreachable`, `RefusedByBridge`.
    """
    async with connect(look.address()) as connection:
        try:
            joined = await connection.join(topic, {"turns": 0} if topic.startswith("session:") else {})
            return joined if event is None else await connection.push(topic, event, payload)
        except ConnectionLost as e:
            raise BridgeUnreachable(str(e), "Try again; the bridge's log may say why.") from None


async def history(look: Look, session: str) -> tuple[Payload, list[Payload]]:
    """A session, and all of its finished turns, oldest first. Raises as `ask` does."""
    topic = f"session:{session}"
    async with connect(look.address()) as connection:
        try:
            joined = await connection.join(topic, {"turns": 0})
            return joined["session"], await finished_turns(connection, topic)
        except ConnectionLost as e:
            raise BridgeUnreachable(str(e), "Try again; the bridge's log may say why.") from None


async def finished_turns(connection: Connection, topic: str) -> list[Payload]:
    """All finished turns of a joined session, oldest first."""
    async with aclosing(_pages(connection, topic)) as pages:
        newest_first = [page async for page in pages]
    return [turn for page in reversed(newest_first) for turn in page]


async def answer(look: Look, session: str, payload: Payload, answers: list[str]) -> Payload:
    """Answer a request; `answers` are the choices to its questions, in their order."""
    async with connect(look.address()) as connection:
        topic = f"session:{session}"
        joined = await connection.join(topic, {"turns": 0})
        if answers:
            request: Payload = next((r for r in joined["requests"] if r["id"] == payload["request"]), {})
            questions = request.get("input", {}).get("questions", [])
            if len(questions) != len(answers):
                raise SetupError(
                    f"The request has {len(questions)} questions and {len(answers)} were answered.",
                    "Give --answer once for each, in their order.",
                )
            chosen = {q["question"]: a for q, a in zip(questions, answers, strict=True)}
            payload = {**payload, "input": {**request["input"], "answers": chosen}}
        return await connection.push(topic, "answer", payload)


# --- following a session -------------------------------------------------------------------------


@dataclass(slots=True)
class Cursor:
    """How far the events of a session were seen, and whether the next one is the next."""

    epoch: str | None = None
    seq: int = 0

    def after(self) -> Payload:
        """What a join says of it."""
        return {} if self.epoch is None else {"after": {"epoch": self.epoch, "seq": self.seq}}

    def joined(self, reply: Payload) -> None:
        """A recovered join goes on from here; any other begins where its snapshot ends."""
        if not reply["recovered"]:
            self.epoch, self.seq = reply["epoch"], reply["seq"]

    def take(self, payload: Payload) -> Literal["new", "seen", "gap"]:
        """Where an event stands; a new one moves the cursor. A merged event covers `first_seq` to `seq`."""
        seq = payload["seq"]
        if seq <= self.seq:
            return "seen"
        if payload.get("first_seq", seq) != self.seq + 1:
            return "gap"
        self.seq = seq
        return "new"


@dataclass(slots=True)
class Submission:
    """A prompt under one id: however often it is sent, it runs once."""

    payload: Payload
    turn: str | None = None


class Patience:
    """With a bridge that is gone, from the first loss to the next word of it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lost_at: float | None = None
        self._tries = 0

    def lost(self, remedy: str) -> bool:
        """The connection was lost, or not made; whether that is the first time. Raises `BridgeUnreachable`
        where it has taken too long."""
        now = self._clock()
        self._lost_at = now if self._lost_at is None else self._lost_at
        if now - self._lost_at > PATIENCE_S:
            raise BridgeUnreachable(
                f"The bridge has not come back for {PATIENCE_S:.0f} seconds.", remedy
            ) from None
        return self._tries == 0

    def wait_s(self) -> float:
        """Before the next try."""
        self._tries += 1
        return BACKOFF_S[min(self._tries, len(BACKOFF_S)) - 1]


async def follow(
    look: Look,
    session: str,
    *,
    start: Payload | None = None,
    submission: Submission | None = None,
    turns: int = CAUGHT_UP,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncGenerator[Happening, None]:
    """Every event of a session from now on, each once and in order, over as many connections as it takes.

    Beside the contract's events: `joined` (each join's reply), `submitted` (the reply to `submission`),
    `lost` (a connection went; `why`). Where the submitted turn's end fell into a gap that the snapshot
    filled, it is told as `turn_finished` all the same. Ends when the session is deleted.
    Raises `BridgeUnreachable` when no bridge answers at first, or for `PATIENCE_S` later on;
    `RefusedByBridge` when it says no. Safe to cancel: the session goes on.
    """
    cursor = Cursor()
    patience = Patience(clock)
    while True:
        try:
            async with connect(look.address()) as connection:
                first = cursor.epoch is None
                ask_to_start = {"start": start} if first and start is not None else {}
                payload = {"turns": turns, **ask_to_start, **cursor.after()}
                reply = await connection.join(f"session:{session}", payload)
                cursor.joined(reply)
                patience = Patience(clock)
                yield "joined", reply
                happenings = _events(connection, session, cursor, reply, start, submission)
                async with aclosing(happenings):
                    async for happening in happenings:
                        yield happening
                return
        except (ConnectionLost, BridgeUnreachable) as e:
            if cursor.epoch is None and isinstance(e, BridgeUnreachable):
                raise
            remedy = f"The session goes on by itself. Look again with: claude-bridge tail {session}"
            if patience.lost(remedy):
                yield "lost", {"why": str(e).partition("\n")[0]}
            await sleep(patience.wait_s())


async def ask_pool(
    look: Look,
    pool: str,
    submission: Submission,
    *,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncGenerator[Happening, None]:
    """Every event of one question to a pool, over as many connections as it takes; the last is
    `turn_finished`. What was told before a connection was lost is told again after it, behind `lost`.

    Raises and may be cancelled as `follow`.
    """
    patience = Patience(clock)
    while True:
        try:
            async with (
                connect(look.address()) as connection,
                aclosing(_asked(connection, f"pool:{pool}", submission)) as happenings,
            ):
                async for happening in happenings:
                    patience = Patience(clock)
                    yield happening
            return
        except (ConnectionLost, BridgeUnreachable) as e:
            if submission.turn is None and isinstance(e, BridgeUnreachable):
                raise
            if patience.lost(
                f"The question goes on by itself. Ask again with --id {submission.payload['id']}"
            ):
                yield "lost", {"why": str(e).partition("\n")[0]}
            await sleep(patience.wait_s())


async def _asked(
    connection: Connection, topic: str, submission: Submission
) -> AsyncGenerator[Happening, None]:
    await connection.join(topic, {})
    reply = await connection.push(topic, "ask", submission.payload)
    turn = reply["turn"]
    if isinstance(turn, dict):  # it was answered before
        submission.turn = turn["id"]
        yield "submitted", {**reply, "turn": turn["id"]}
        yield "turn_finished", {**turn, "turn": turn["id"]}
        return
    submission.turn = turn
    yield "submitted", reply
    while True:
        message = await connection.receive()
        if message.topic != topic or message.payload.get("turn", turn) != turn:
            continue
        if message.event in ("phx_close", "phx_error"):
            raise ConnectionLost("The bridge lost the pool's channel.")
        if message.event == "pool_changed":
            continue
        yield message.event, message.payload
        if message.event == "turn_finished":
            return


async def _events(
    connection: Connection,
    session: str,
    cursor: Cursor,
    joined: Payload,
    start: Payload | None,
    submission: Submission | None,
) -> AsyncGenerator[Happening, None]:
    topic = f"session:{session}"
    if submission is not None:
        async for happening in _submit(connection, session, joined, start, submission):
            yield happening
    while True:
        message = await connection.receive()
        if message.topic != topic:
            continue
        if message.event == "phx_close":
            return
        if message.event == "phx_error":
            raise ConnectionLost("The bridge lost the session's channel.")
        if "seq" in message.payload:
            place = cursor.take(message.payload)
            if place == "gap":
                raise ConnectionLost("An event is missing.")
            if place == "seen":
                continue
        yield message.event, message.payload


async def _submit(
    connection: Connection, session: str, joined: Payload, start: Payload | None, submission: Submission
) -> AsyncGenerator[Happening, None]:
    topic = f"session:{session}"
    turns: list[Payload] = joined.get("turns", []) if not joined["recovered"] else []
    if submission.turn is None:
        try:
            reply = await connection.push(topic, "submit", submission.payload)
        except RefusedByBridge as e:
            if e.reason != "session_stopped" or start is None:
                raise
            await connection.join("sessions", {})
            await connection.push("sessions", "start", {"name": session, **start})
            reply = await connection.push(topic, "submit", submission.payload)
        submission.turn = reply["turn"]
        yield "submitted", reply
        if reply.get("status") in FINAL:
            turns = await _looked_up(connection, topic, submission.turn)
    elif not joined["recovered"] and not _tells_of(joined, submission.turn):
        turns = await _looked_up(connection, topic, submission.turn)  # a snapshot is bounded
    for turn in turns:
        if turn["id"] == submission.turn and turn["status"] in FINAL:
            yield "turn_finished", {**turn, "turn": turn["id"]}


def _tells_of(joined: Payload, turn: str) -> bool:
    """Whether a snapshot has this turn, finished or not."""
    open_turn = [joined["open_turn"]] if joined.get("open_turn") else []
    return any(t["id"] == turn for t in (*joined.get("turns", ()), *open_turn, *joined.get("queue", ())))


async def _looked_up(connection: Connection, topic: str, turn: str) -> list[Payload]:
    """A finished turn out of the history, however long ago it was; nothing where it is not there."""
    async with aclosing(_pages(connection, topic)) as pages:
        async for page in pages:
            if found := [t for t in page if t["id"] == turn]:
                return found
    return []


async def _pages(connection: Connection, topic: str) -> AsyncGenerator[list[Payload], None]:
    """The finished turns of a joined session, the newest page first, each oldest first."""
    before: Payload = {}
    while True:
        page: list[Payload] = (await connection.push(topic, "history", {"limit": PAGE, **before}))["turns"]
        yield page
        if len(page) < PAGE:
            return
        before = {"before": page[0]["id"]}
