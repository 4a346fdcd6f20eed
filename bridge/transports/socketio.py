"""Socket.IO in the default namespace: `join`, `leave` and `push` of topics, and `message` for what happens.

What topics are and the order within them is `Channels`', as for Phoenix; the session below is `engineio`'s.
Of python-socketio (pinned by the lock; the tests of this transport are the tests of it) this uses the
decoding of packets, and `_handle_connect` and `_handle_disconnect` with the manager for who is connected.
Its own dispatch of events is not used: acks have their place in the outbox, and a malformed packet ends its
client.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import orjson
import socketio  # type: ignore[import-untyped]
import structlog
from aiohttp import web
from socketio import packet as packets

from bridge.auth import Principal
from bridge.clock import Clock
from bridge.config import HubConfig, ServerConfig
from bridge.errors import BridgeError, InvalidPayload, WireError
from bridge.service import Service
from bridge.transports.engineio import SILENT, EngineServer
from bridge.transports.engineio_session import REVOKED, EngineSocket
from bridge.transports.outbox import Outbox, Source
from bridge.transports.phoenix_channels import MAX_INBOX, Channels
from bridge.transports.tasks import Tasks
from bridge.transports.topics import Topics
from bridge.wire.json import dumps
from bridge.wire.phoenix import Message
from bridge.wire.socketio import SocketIo

log = structlog.get_logger(__name__)

WIRE = SocketIo()

MOST_ATTACHMENTS = 16
"""Pieces of bytes in one packet; ours have one. Beside it, a message's own bound holds for all together."""

MOST_ENTRIES = 16
"""How often a session may ask to be let in. A client asks once, and again where its token was refused; its
answers wait for it in no outbox that would bound them."""

EVENTS = {"join": 2, "leave": 1, "push": 3}
"""What a client emits, and how many arguments each has at most, beside the ack."""


class _Json:
    """For python-socketio's packets."""

    @staticmethod
    def loads(text: str) -> Any:
        return orjson.loads(text)

    @staticmethod
    def dumps(value: Any, **_: Any) -> str:
        return dumps(value).decode()


class _Packet(packets.Packet):  # type: ignore[misc]
    json = _Json


class SocketIoServer(socketio.AsyncServer):  # type: ignore[misc]
    """All Socket.IO clients of one listener: mount it with `attach`, and end it with `close`."""

    def __init__(self, service: Service, server: ServerConfig, hub: HubConfig, clock: Clock) -> None:
        self.service = service
        self.config = server
        self.outbox_bytes = hub.outbox_bytes
        self.clock = clock
        self.tasks = Tasks()
        super().__init__(async_mode="aiohttp", serializer=_Packet, logger=SILENT)
        self.on("connect", self._admit)

    def attach(self, app: web.Application, socketio_path: str = "socket.io") -> None:
        app.cleanup_ctx.append(self.tasks.context)
        super().attach(app, socketio_path)

    async def close(self) -> None:
        """See `EngineServer.close`."""
        await self.eio.close()

    # --- what python-socketio calls -------------------------------------------------------------

    def _engineio_server_class(self) -> Callable[..., EngineServer]:
        def made(**_: Any) -> EngineServer:
            return EngineServer(self.config, self.outbox_bytes, self.tasks, self._received)

        return made

    def _admit(self, sid: str, environ: object, auth: object = None) -> None:
        """A client connects: the token decides. Before this nothing reaches anything."""
        token = auth.get("token") if isinstance(auth, dict) else None
        socket: EngineSocket = self.eio.sockets[self.manager.eio_sid_from_sid(sid, "/")]
        try:
            who = self.service.authenticate(token if isinstance(token, str) else None, socket.peer)
        except BridgeError as e:
            raise socketio.exceptions.ConnectionRefusedError(e.message, e.as_payload()) from None
        socket.client = SocketIoClient(self, socket, who)
        log.debug("= client connected", who=who.name)

    async def _received(self, socket: EngineSocket, data: str | bytes) -> None:
        """One engine.io message. Raises `WireError`."""
        packet = self._whole(socket, data)
        if packet is None:
            return
        client = socket.client
        if packet.packet_type == packets.CONNECT:
            socket.entered += 1
            if socket.entered > MOST_ENTRIES:
                raise WireError("asks to be let in again and again")
            await self._handle_connect(socket.sid, packet.namespace, packet.data)
        elif packet.packet_type == packets.DISCONNECT and packet.namespace in (None, "/"):
            await self._handle_disconnect(socket.sid, "/")
            socket.client = None
            if client is not None:
                client.close()
        elif packet.packet_type in (packets.EVENT, packets.BINARY_EVENT):
            if not isinstance(client, SocketIoClient) or packet.namespace not in (None, "/"):
                raise WireError("an event of somebody who is not connected")
            await client.take(packet.id, packet.data)
        elif packet.packet_type not in (packets.ACK, packets.BINARY_ACK):  # nothing of ours asks for acks
            raise WireError("not a packet that a client sends")

    def _whole(self, socket: EngineSocket, data: str | bytes) -> Any:
        """The packet, once all its bytes are there; None until then."""
        packet = socket.partial
        try:
            if packet is not None:
                held = sum(map(len, packet.attachments)) + len(data)
                if isinstance(data, str) or held > self.config.max_frame_bytes:
                    raise WireError("bytes were expected, and not so many")
                if not packet.add_attachment(data):
                    return None
                socket.partial = None
                return packet
            if isinstance(data, bytes):
                raise WireError("bytes that belong to no packet")
            packet = self.packet_class(encoded_packet=data)
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as e:
            raise WireError("not a packet of Socket.IO") from e
        if packet.attachment_count > MOST_ATTACHMENTS:
            raise WireError("a packet of too many pieces")
        if packet.packet_type in (packets.BINARY_EVENT, packets.BINARY_ACK) and packet.attachment_count:
            socket.partial = packet
            return None
        return packet


class SocketIoClient:
    """One connected client: its topics, each in strict order, none waiting for another."""

    __slots__ = ("_channels", "_gone", "_joining", "_spawn", "outbox")

    def __init__(self, server: SocketIoServer, socket: EngineSocket, who: Principal) -> None:
        loop = asyncio.get_running_loop()
        self._spawn = server.tasks.spawn
        self.outbox = Outbox(WIRE.format, socket, server.outbox_bytes, loop.call_soon)
        self._channels = Channels(
            Topics(server.service, who, server.clock, "socketio"),
            WIRE,
            self.outbox,
            spawn=server.tasks.spawn,
            frame=bytes,  # what the wire makes is whole frames
            binary=bytes,
            max_topics=server.config.max_topics,
        )
        self._joining: dict[str, tuple[deque[Message], asyncio.Task[None]]] = {}
        self._gone = server.service.connected(who, partial(socket.stop, REVOKED), "socketio")

    async def take(self, ack: int | None, data: object) -> None:
        """One event; returns when the next may come. Raises `WireError`."""
        if not isinstance(data, list) or not data or not isinstance(data[0], str):
            raise WireError("an event is an array that begins with its name")
        try:
            message = _message(ack, data[0], data[1:])
        except BridgeError as e:
            if ack is not None:
                self.outbox.send(WIRE.reply(None, ack, None, "error", e.as_payload()))
            return
        topic = message.topic
        joining = self._joining.get(topic) if isinstance(topic, str) else None
        if joining is not None:
            waiting, task = joining
            waiting.append(message)
            if len(waiting) >= MAX_INBOX:
                await asyncio.wait({task})
        elif message.event == "phx_join" and isinstance(topic, str):
            waiting = deque([message])
            self._joining[topic] = (waiting, self._spawn(self._join(topic, waiting)))
        else:
            await self._channels.handle(message)

    async def _join(self, topic: str, waiting: deque[Message]) -> None:
        """A join, and what came behind it for this topic: no other topic waits for it."""
        while waiting:
            await self._channels.settled(topic)
            await self._channels.handle(waiting.popleft())
        del self._joining[topic]

    def ended(self, subscription: Source) -> bytes:
        return self._channels.ended(subscription)

    def close(self) -> None:
        self._gone()
        self._channels.close()
        self.outbox.close()


def _message(ack: int | None, name: str, arguments: list[Any]) -> Message:
    """What was emitted, as a channel takes it. Raises `InvalidPayload`."""
    if name not in EVENTS:
        raise InvalidPayload("event", "a client emits 'join', 'leave' or 'push'")
    topic, *rest = [*arguments[: EVENTS[name]], None, None, None]
    if name == "join":
        return Message(None, ack, topic, "phx_join", rest[0])
    if name == "leave":
        return Message(None, ack, topic, "phx_leave", {})
    event = rest[0]
    if isinstance(event, str) and event.startswith("phx_"):
        raise InvalidPayload("event", "it is Phoenix's own")
    return Message(None, ack, topic, event, rest[1])
