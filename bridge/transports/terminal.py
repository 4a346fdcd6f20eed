"""A session's live screen as a channel: `screen` in JSON, `output` as bytes, in the pane's own order.

Both are pushes, with the join_ref of the client's own join, and not broadcasts: what each viewer is sent
next depends on how far it got, and a client that joins again is to drop what was meant for before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from bridge.auth import Principal
from bridge.service import Service
from bridge.transports.outbox import Outbox
from bridge.wire.phoenix import Message, Says

Frame = Callable[[bytes], bytes]


class Picture(Protocol):
    """A screen as it stands, as far as it is said to a client."""

    @property
    def cols(self) -> int: ...
    @property
    def rows(self) -> int: ...
    @property
    def screen(self) -> str: ...


class Viewer(Protocol):
    """A place in a screen's output; see `screens.Viewer`."""

    @property
    def pending(self) -> bool: ...
    @property
    def ended(self) -> bool: ...
    def take(self, limit: int) -> tuple[Picture | None, bytes]: ...
    def close(self) -> None: ...


class Terminal:
    """One client's subscription of a screen: an outbox's `Source`."""

    __slots__ = ("_binary", "_codec", "_frame", "_join_ref", "_outbox", "_topic", "_viewer")

    def __init__(self, outbox: Outbox, codec: Says, message: Message, frame: Frame, binary: Frame) -> None:
        """`message` is the join's. Raises `BinaryNotSupported` where the client cannot be sent bytes."""
        codec.push_bytes(message.join_ref, message.topic, "output", b"")
        self._outbox = outbox
        self._codec = codec
        self._join_ref = message.join_ref
        self._topic = message.topic
        self._frame = frame
        self._binary = binary
        self._viewer: Viewer | None = None

    async def join(self, service: Service, who: Principal, name: str) -> dict[str, Any]:
        """The reply to the join."""
        picture, self._viewer = await service.join_terminal(who, name, self._told)
        return _shown(picture)

    @property
    def pending(self) -> bool:
        return self._viewer is not None and self._viewer.pending

    @property
    def ended(self) -> bool:
        return self._viewer is not None and self._viewer.ended

    def pull(self, limit: int) -> bytes:
        if self._viewer is None:
            return b""
        picture, output = self._viewer.take(limit)
        frames = []
        if picture is not None:
            payload = _shown(picture)
            frames.append(self._frame(self._codec.push(self._join_ref, None, self._topic, "screen", payload)))
        if output:
            data = self._codec.push_bytes(self._join_ref, self._topic, "output", output)
            frames.append(self._binary(data))
        return b"".join(frames)

    def close(self) -> None:
        """Safe to repeat."""
        viewer, self._viewer = self._viewer, None
        if viewer is not None:
            viewer.close()

    def _told(self) -> None:
        if self._viewer is not None:
            self._outbox.wake(self)
            self._outbox.flush()


def _shown(picture: Picture) -> dict[str, Any]:
    return {"cols": picture.cols, "rows": picture.rows, "screen": picture.screen}
