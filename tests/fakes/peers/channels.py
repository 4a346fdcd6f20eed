"""Phoenix Channels by hand, in both versions: over a WebSocket, and over long poll."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import itertools
import json
import struct
from abc import abstractmethod
from typing import Any
from urllib.parse import urlencode

import aiohttp

from tests.fakes.peers.base import Peer, Reply, answered
from tests.fakes.phoenix_js import Json, Refused

V1 = "1.0.0"
V2 = "2.0.0"


def binary_submit(join_ref: str, ref: str, topic: str, payload: Json) -> bytes:
    """As spec/protocol.md describes it, apart from the code that reads it."""
    files = [f["data"] for f in payload["attachments"]]
    named = [{"name": f["name"], "media_type": f["media_type"]} for f in payload["attachments"]]
    sized = [{**f, "size": len(data)} for f, data in zip(named, files, strict=True)]
    head = json.dumps({**payload, "attachments": sized}).encode()
    fields = [field.encode() for field in (join_ref, ref, topic, "submit")]
    header = bytes([0, *map(len, fields)]) + b"".join(fields)
    return header + struct.pack(">I", len(head)) + head + b"".join(files)


class ChannelsPeer(Peer):
    """Frames of one version; how they travel is for the subclass."""

    def __init__(self, address: str, token: str, vsn: str = V2) -> None:
        super().__init__(address, token)
        self.vsn = vsn
        self._refs = itertools.count(1)
        self._asked: dict[str, asyncio.Future[tuple[str, Any, int]]] = {}
        self._joins: dict[str, str] = {}

    @abstractmethod
    async def _say(self, frame: str) -> None: ...

    @abstractmethod
    async def _say_bytes(self, frame: bytes) -> None: ...

    async def submit_bytes(self, topic: str, payload: Json) -> Reply:
        if self.vsn == V1:
            return await super().submit_bytes(topic, payload)
        ref = str(next(self._refs))
        future = self._asked[ref] = asyncio.get_running_loop().create_future()
        await self._say_bytes(binary_submit(self._joins[topic], ref, topic, payload))
        return answered(*await asyncio.wait_for(future, 30))

    async def _join(self, topic: str, payload: Json) -> Reply:
        ref = str(next(self._refs))
        reply = await self._ask(ref, ref, topic, "phx_join", payload)
        self._joins[topic] = ref
        return reply

    async def ask(self, topic: str, event: str, payload: Any = None) -> Reply:
        ref = str(next(self._refs))
        body = {} if payload is None else payload
        return await self._ask(self._joins.get(topic), ref, topic, event, body)

    async def leave(self, topic: str) -> None:
        await self.ask(topic, "phx_leave")
        del self._joins[topic]

    async def cut(self) -> None:
        await super().cut()
        self._joins.clear()

    async def _ask(self, join_ref: str | None, ref: str, topic: str, event: str, payload: Any) -> Reply:
        future = self._asked[ref] = asyncio.get_running_loop().create_future()
        frame: Any = [join_ref, ref, topic, event, payload]
        if self.vsn == V1:
            frame = {"topic": topic, "event": event, "payload": payload, "ref": ref}
        await self._say(json.dumps(frame))
        try:
            return answered(*await asyncio.wait_for(future, 30))
        except TimeoutError:
            raise AssertionError(f"no reply to {event} on {topic}; {self.end}") from None

    def _take(self, text: str) -> None:
        frame = json.loads(text)
        if self.vsn == V1:
            assert frame.keys() == {"topic", "event", "payload", "ref"}
            ref, topic, event, payload = frame["ref"], frame["topic"], frame["event"], frame["payload"]
        else:
            _, ref, topic, event, payload = frame
        if event == "phx_reply":
            future = self._asked.pop(ref)
            future.set_result((payload["status"], payload["response"], self._order()))
        else:
            self._hear(topic, event, payload)


class WebSocketPeer(ChannelsPeer):
    transport = "websocket"

    async def _open(self) -> None:
        query = urlencode({"token": self.token, "vsn": self.vsn})
        try:
            self._ws = await self.http.ws_connect(
                f"{self.address}/socket/websocket?{query}", max_msg_size=0, autoclose=False
            )
        except aiohttp.WSServerHandshakeError as e:
            raise Refused({}, str(e.status)) from None
        self._spawn(self._receive())

    async def _receive(self) -> None:
        while (message := await self._ws.receive()).type is aiohttp.WSMsgType.TEXT:
            self._take(message.data)
        self._ended(f"closed with {message.data}")

    async def _say(self, frame: str) -> None:
        await self._ws.send_str(frame)

    async def _say_bytes(self, frame: bytes) -> None:
        await self._ws.send_bytes(frame)


class LongPollPeer(ChannelsPeer):
    transport = "longpoll"

    async def _open(self) -> None:
        answer = await self._get(token=self.token)
        if answer["status"] != 410 or "token" not in answer:
            raise Refused({}, str(answer["status"]))
        self._poll_token: str = answer["token"]
        for frame in answer.get("messages", []):
            self._take(frame)
        self._spawn(self._poll())

    async def close(self) -> None:
        """Else it would count as there for a window and a half."""
        with contextlib.suppress(Refused, AssertionError):
            for topic in list(self._joins):
                await self.leave(topic)
        await super().close()

    async def _poll(self) -> None:
        while True:
            answer = await self._get(token=self._poll_token)
            if answer["status"] not in (200, 204):
                self._ended(f"a poll was answered with {answer['status']}")
                return
            self._poll_token = answer["token"]
            for frame in answer["messages"]:
                self._take(frame)

    async def _get(self, **params: str) -> Json:
        query = urlencode({"vsn": self.vsn, **params})
        async with self.http.get(f"{self.address}/socket/longpoll?{query}") as answer:
            assert answer.status == 200, await answer.text()
            said: Json = await answer.json()
            return said

    async def _say_bytes(self, frame: bytes) -> None:
        await self._say(base64.b64encode(frame).decode())

    async def _say(self, frame: str) -> None:
        kind = "application/x-ndjson" if self.vsn == V2 else "application/json"
        query = urlencode({"vsn": self.vsn, "token": self._poll_token})
        async with self.http.post(
            f"{self.address}/socket/longpoll?{query}",
            data=io.BytesIO(frame.encode()),  # aiohttp warns of a megabyte as bytes
            headers={"Content-Type": kind},
        ) as answer:
            said = await answer.json()
        assert (answer.status, said["status"]) == (200, 200), said
