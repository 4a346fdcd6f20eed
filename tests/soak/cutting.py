"""A way to the bridge that breaks wherever a test wants it to: in the middle of a frame, or between two.

It reads the WebSocket frames that the server sends and lets a given number of numbered events through on
each connection; then the connection is reset.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bridge.drill.relay import Relay, listening

EVENT = b'"seq":'
"""What an event has and a reply, a heartbeat and a lobby's message have not (a join's reply does: it is told
by its `phx_reply`)."""


class Cutter(Relay):
    """`allow` events pass on each connection, then it is cut."""

    def __init__(self, to: int) -> None:
        super().__init__(to)
        self.allow = 1
        self.half = False
        """Cut in the middle of the frame behind the last that passes, else right at its end."""
        self.cuts = 0

    async def downward(self, up: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await up.readuntil(b"\r\n\r\n"))
        passed = 0
        while True:
            head, payload = await frame(up)
            is_event = EVENT in payload and b'"phx_reply"' not in payload
            if is_event and passed >= self.allow:
                if self.half:
                    writer.write((head + payload)[: len(head) + len(payload) // 2])
                    await writer.drain()
                self.cuts += 1
                return
            passed += is_event
            writer.write(head + payload)
            await writer.drain()


async def frame(up: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """One frame of a server: its head and its payload."""
    head = await up.readexactly(2)
    length = head[1] & 0x7F
    if length > 125:
        more = await up.readexactly(2 if length == 126 else 8)
        head += more
        (length,) = struct.unpack("!H" if length == 126 else "!Q", more)
    return head, await up.readexactly(length)


@asynccontextmanager
async def cutter(to: int) -> AsyncIterator[Cutter]:
    made = Cutter(to)
    async with listening(made):
        yield made
