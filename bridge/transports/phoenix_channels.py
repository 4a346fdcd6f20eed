"""One client's channels, as Phoenix's socket and channel processes behave together.

Takes decoded messages one at a time and answers through the outbox; the same for every transport with
topics. Joins hold the socket up until they are answered; otherwise one channel handles its messages
strictly in order and delays no other. What a topic means is `topics`' business.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import structlog

from bridge.errors import BridgeError, InternalError
from bridge.transports import topics
from bridge.transports.outbox import Outbox, Source
from bridge.transports.terminal import Terminal
from bridge.transports.topics import Joined, Topics
from bridge.wire import requests
from bridge.wire.phoenix import Message, Says, Status
from bridge.wire.requests import Route

log = structlog.get_logger(__name__)

MAX_INBOX = 1000
"""Messages that wait behind a slow one in one channel; beyond this the socket is read no further."""

SAID: topics.Reply = {}
"""In place of a reply that has been told."""

Work = Coroutine[Any, Any, None]
Spawn = Callable[[Work], asyncio.Task[None]]


class Channel:
    """A joined topic. `join_ref` is what the client named, which messages and closes are matched with;
    `reply_ref` is what replies carry: the join's own ref where it named none."""

    __slots__ = ("inbox", "join_ref", "joined", "reply_ref", "route", "topic", "worker")

    def __init__(self, topic: str, route: Route, message: Message, joined: Joined) -> None:
        self.topic = topic
        self.route = route
        self.join_ref = message.join_ref
        self.reply_ref = message.ref if message.join_ref is None else message.join_ref
        self.joined = joined
        self.inbox: deque[Message] | None = None  # None: nothing is under way
        self.worker: asyncio.Task[None] | None = None


class Channels:
    """The socket of Phoenix: routes messages to channels. `frame` makes a transport's unit of JSON, `binary`
    one of bytes, where the transport has such."""

    __slots__ = (
        "_binary",
        "_channels",
        "_closed",
        "_codec",
        "_frame",
        "_joining",
        "_max",
        "_outbox",
        "_spawn",
        "_topics",
    )

    def __init__(
        self,
        topics: Topics,
        codec: Says,
        outbox: Outbox,
        *,
        spawn: Spawn,
        frame: Callable[[bytes], bytes],
        max_topics: int,
        binary: Callable[[bytes], bytes] | None = None,
    ) -> None:
        self._topics = topics
        self._codec = codec
        self._outbox = outbox
        self._spawn = spawn
        self._frame = frame
        self._binary = binary
        self._max = max_topics
        self._channels: dict[str, Channel] = {}
        self._joining = 0
        self._closed = False

    async def handle(self, message: Message) -> None:
        """Take one message in; returns when the next may come. Never raises but when cancelled."""
        work = self.take(message)
        if work is not None:
            await work

    def take(self, message: Message) -> Work | None:
        """Take one message in; where the next must not come at once, what is to be awaited before it."""
        topic, event = message.topic, message.event
        if topic == "phoenix" and event == "heartbeat":
            self._reply(None, message.ref, topic, "ok", {})
            return None
        channel = self._channels.get(topic) if isinstance(topic, str) else None
        if event == "phx_join":
            return self._join(message, channel)
        if channel is None:
            if event == "phx_leave":
                self._reply(message.join_ref, message.ref, topic, "ok", {})
            else:
                self._unmatched(message)
        elif message.join_ref is None or _same(message.join_ref, channel.join_ref):
            if channel.inbox is None:
                self._begin(channel, message)
                return None
            channel.inbox.append(message)
            if len(channel.inbox) >= MAX_INBOX and channel.worker is not None:
                return _ended(channel.worker)
        # else: the message of an earlier join, which Phoenix drops without a word
        return None

    async def settled(self, topic: str) -> None:
        """Until nothing that was handed in before is under way in this topic."""
        channel = self._channels.get(topic)
        if channel is not None and channel.worker is not None:
            await asyncio.wait({channel.worker})

    def ended(self, subscription: Source) -> bytes:
        """The topic is gone: what the client is told, as frames; the channel is no longer joined."""
        for channel in self._channels.values():
            if channel.joined.sources[0] is subscription:
                self._forget(channel)
                return self._frame(self._close_of(channel))
        return b""

    def close(self) -> None:
        """The socket is gone: leave all topics, tell nobody. What is still joining comes to nothing."""
        self._closed = True
        for channel in list(self._channels.values()):
            self._forget(channel)

    # --- joining and leaving --------------------------------------------------------------------

    async def _join(self, message: Message, old: Channel | None) -> None:
        topic = message.topic
        route = requests.route(topic)
        if route is None:
            self._unmatched(message)
            return
        if old is None and len(self._channels) + self._joining >= self._max:
            self._refuse(message, {"reason": "too many channels joined"})
            return
        if old is not None:
            self._forget(old)
        channel = None
        self._joining += 1
        try:
            screen = None
            if self._binary is not None:
                screen = partial(Terminal, self._outbox, self._codec, message, self._frame, self._binary)
            joined = await self._topics.join(route, message.payload, self._outbox, screen)
            if self._closed:
                joined.close()
                return
            channel = Channel(topic, route, message, joined)
            self._channels[topic] = channel
            self._reply(message.join_ref, message.ref, topic, "ok", joined.reply)
        except BridgeError as e:
            self._refuse(message, e.as_payload())
        except Exception:
            log.exception("join crashed", topic=topic)
            self._refuse(message, {"reason": "join crashed"})
        finally:
            self._joining -= 1
        if old is not None and not self._codec.acks:
            self._send(self._close_of(old))
        if channel is not None:
            self._told(channel)

    def _told(self, channel: Channel) -> None:
        """What follows the reply of a join: who is there, then what happens."""
        joined = channel.joined
        if joined.presence is not None:
            ref = channel.reply_ref
            self._send(self._codec.push(ref, None, channel.topic, "presence_state", joined.presence))
        for source in joined.sources:
            self._outbox.attach(source)
        joined.reply, joined.presence = SAID, None  # they may be megabytes

    def _forget(self, channel: Channel) -> None:
        """Unjoin: no event and no reply of this channel leaves any more."""
        if self._channels.get(channel.topic) is channel:
            del self._channels[channel.topic]
        channel.joined.close()

    def _leave(self, channel: Channel, message: Message) -> None:
        self._forget(channel)
        self._reply(channel.reply_ref, message.ref, channel.topic, "ok", {})
        if not self._codec.acks:
            self._send(self._close_of(channel))

    # --- a channel's messages -------------------------------------------------------------------

    def _begin(self, channel: Channel, message: Message) -> None:
        work = self._handle(channel, message)
        if work is not None:
            channel.inbox = deque()
            channel.worker = self._spawn(self._work(channel, work))

    async def _work(self, channel: Channel, work: Work | None) -> None:
        """Finish one thing that waits, then what came behind it, in order."""
        inbox = channel.inbox
        assert inbox is not None, "the channel is given its inbox before its worker"
        while True:
            if work is not None:
                await work
                work = None
            if not inbox or self._channels.get(channel.topic) is not channel:
                break
            work = self._handle(channel, inbox.popleft())
        channel.inbox = channel.worker = None
        if self._codec.acks:
            for message in inbox:
                self._unmatched(message)
        # else: what is queued behind a leave or a new join gets no answer, as in Phoenix

    def _handle(self, channel: Channel, message: Message) -> Work | None:
        """Do what a message asks, or return the work where it has to wait for something."""
        if message.event == "phx_leave":
            self._leave(channel, message)
            return None
        try:
            work = self._topics.ask(
                channel.route, message.event, message.payload, lambda r: self._answer(channel, message, r)
            )
        except Exception:
            log.exception("channel crashed", topic=channel.topic)
            self._crash(channel, message)
            return None
        return None if work is None else self._perform(channel, message, work)

    async def _perform(self, channel: Channel, message: Message, work: topics.Work) -> None:
        try:
            self._answer(channel, message, await work)
        except BridgeError as e:
            self._answer(channel, message, e)
        except Exception:
            log.exception("channel crashed", topic=channel.topic)
            self._crash(channel, message)

    def _answer(self, channel: Channel, message: Message, result: object) -> None:
        """Reply with a payload or an error, if the channel is still the one that was asked."""
        if self._channels.get(channel.topic) is not channel and not self._codec.acks:
            return
        if isinstance(result, BridgeError):
            self._reply(channel.reply_ref, message.ref, channel.topic, "error", result.as_payload())
        else:
            self._reply(channel.reply_ref, message.ref, channel.topic, "ok", result)

    def _crash(self, channel: Channel, message: Message) -> None:
        """A bug of ours: the channel is lost, the client is told and joins again."""
        if self._codec.acks:
            self._answer(channel, message, InternalError())
        if self._channels.get(channel.topic) is channel:
            self._forget(channel)
            ref = channel.join_ref
            payload = {"reason": "channel_crash"}
            self._send(self._codec.push(ref, ref, channel.topic, "phx_error", payload))

    # --- frames ---------------------------------------------------------------------------------

    def _send(self, json: bytes) -> None:
        self._outbox.send(self._frame(json))

    def _reply(self, join_ref: Any, ref: Any, topic: Any, status: Status, response: Any) -> None:
        said = self._codec.reply(join_ref, ref, topic, status, response)
        if said:
            self._send(said)

    def _refuse(self, message: Message, response: dict[str, Any]) -> None:
        self._reply(message.join_ref, message.ref, message.topic, "error", response)

    def _unmatched(self, message: Message) -> None:
        self._reply(None, message.ref, message.topic, "error", {"reason": "unmatched topic"})

    def _close_of(self, channel: Channel) -> bytes:
        """Both refs are the join's: with others, phoenix.js would close the wrong channel."""
        ref = channel.join_ref
        return self._codec.push(ref, ref, channel.topic, "phx_close", {})


async def _ended(worker: asyncio.Task[None]) -> None:
    await asyncio.wait({worker})


def _same(a: Any, b: Any) -> bool:
    """Equal as JSON: 1 is neither "1" nor true."""
    return type(a) is type(b) and bool(a == b)
