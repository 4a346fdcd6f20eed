"""Socket.IO, by python-socketio's own client."""

from __future__ import annotations

import asyncio
from typing import Any

import socketio  # type: ignore[import-untyped]

from tests.fakes.peers.base import Peer, Reply, answered
from tests.fakes.phoenix_js import Json, Refused


class SocketIOPeer(Peer):
    transport = "socketio"

    def __init__(self, address: str, token: str, *transports: str) -> None:
        super().__init__(address, token)
        self._transports = list(transports)

    async def _open(self) -> None:
        self._client = client = socketio.AsyncClient(
            reconnection=False, http_session=self.http, handle_sigint=False
        )
        refusals: list[Any] = []
        client.on("message", self._hear)
        client.on("connect_error", refusals.append)
        client.on("disconnect", lambda reason: self._parted(client, reason))
        try:
            await client.connect(self.address, auth={"token": self.token}, transports=self._transports)
        except socketio.exceptions.ConnectionError as e:
            raise Refused(refusals[-1] if refusals else {}, str(e)) from None

    async def _join(self, topic: str, payload: Json) -> Reply:
        return await self._emit("join", topic, payload)

    async def ask(self, topic: str, event: str, payload: Any = None) -> Reply:
        return await self._emit("push", topic, event, {} if payload is None else payload)

    async def submit_bytes(self, topic: str, payload: Json) -> Reply:
        return await self.ask(topic, "submit", payload)  # its own packets have bytes anywhere

    async def leave(self, topic: str) -> None:
        await self._emit("leave", topic)

    async def cut(self) -> None:
        await super().cut()
        await asyncio.gather(self._client.eio.wait(), return_exceptions=True)

    async def close(self) -> None:
        await self._client.disconnect()
        await super().close()

    def _parted(self, client: socketio.AsyncClient, reason: str) -> None:
        if client is self._client:
            self._ended(f"disconnected: {reason}")

    async def _emit(self, event: str, *data: Any) -> Reply:
        future: asyncio.Future[tuple[str, Any, int]] = asyncio.get_running_loop().create_future()

        def acknowledged(ack: Json) -> None:
            future.set_result((ack["status"], ack["response"], self._order()))

        await self._client.emit(event, data, callback=acknowledged)
        return answered(*await asyncio.wait_for(future, 30))
