"""A way to the bridge that can be cut: every connection through it is reset, as when a client dies."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Relay:
    """Listens on `port` and hands on what comes, in both directions."""

    def __init__(self, to: int) -> None:
        self.to = to
        self.port = 0
        self._open: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        """Reset every connection."""
        for side in list(self._open):
            reset(side)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up, down = await asyncio.open_connection("127.0.0.1", self.to)
        except OSError:
            writer.transport.abort()
            return
        self._open |= {writer, down}
        try:
            async with asyncio.TaskGroup() as group:
                upward = group.create_task(pipe(reader, down))
                with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                    await self.downward(up, writer)
                upward.cancel()
        finally:
            self._open -= {writer, down}
            for side in (writer, down):
                reset(side)

    async def downward(self, up: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """From the bridge to the client, until either is gone."""
        await pipe(up, writer)


async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


def reset(writer: asyncio.StreamWriter) -> None:
    """What was written arrives, and then an end without a close frame."""
    found = writer.get_extra_info("socket")
    if found is not None:
        with contextlib.suppress(OSError):
            found.shutdown(socket.SHUT_RDWR)
    writer.close()


@asynccontextmanager
async def listening(relay: Relay) -> AsyncIterator[None]:
    server = await asyncio.start_server(relay.serve, "127.0.0.1", relay.port)
    relay.port = server.sockets[0].getsockname()[1]
    async with server:
        yield
        relay.cut()
