"""Server-sent events: facts as units of an event stream, and what is read back out of one.

A unit has the fact's name as `event`, its payload as `data` and, where its topic has numbers, `epoch:seq` as
`id`: what a browser's EventSource sends back as `Last-Event-ID` is then a cursor. How units travel in an HTTP
body is `transports.sse`'s concern.
"""

from __future__ import annotations

import re
from typing import Any

from bridge.events import Epoch, Event, Seq, TurnFinished
from bridge.wire.json import dumps, loads
from bridge.wire.phoenix import numbered
from bridge.wire.views import event_payload

FORMAT = "sse"
ENDS = "turn-ends"
"""For who waits for the end of a turn and wants nothing else: the ids of turns that finish, a line each."""

END = b"\n\n"
BEAT = b":\n\n"
"""A comment, which no client hears."""

_CURSOR = re.compile(r"(?P<epoch>[^\s:]{1,64}):(?P<seq>0|[1-9]\d{0,17})", re.ASCII)


def unit(event: str, payload: Any, cursor: str | None = None) -> bytes:
    """One event. JSON has no line breaks of its own, so `data` is always one line."""
    name = b"" if cursor is None else b"\nid: " + cursor.encode()
    return b"event: %b%b\ndata: %b\n\n" % (event.encode(), name, dumps(payload))


def retry(ms: int) -> bytes:
    """How long a client waits before it comes back."""
    return b"retry: %d\n\n" % ms


def cursor_text(epoch: Epoch | str, seq: Seq | int) -> str:
    return f"{epoch}:{seq}"


def read_cursor(text: str) -> dict[str, Any] | None:
    """The `after` of a join that an event's `id` stands for; None for what is no such id."""
    match = _CURSOR.fullmatch(text)
    return None if match is None else {"epoch": match["epoch"], "seq": int(match["seq"])}


def encode_event(topic: str, epoch: Epoch, first_seq: int, seq: int, at: float, event: Event) -> bytes:
    payload = numbered(event_payload(event, at), first_seq, seq, at)
    return unit(event.event, payload, cursor_text(epoch, seq) if seq else None)


def encode_end(topic: str, epoch: Epoch, first_seq: int, seq: int, at: float, event: Event) -> bytes:
    return f"{event.turn}\n".encode() if type(event) is TurnFinished else b""


ENCODERS = {FORMAT: encode_event, ENDS: encode_end}


class OneTurn:
    """Keeps of a session's events those of one turn, until it ends."""

    __slots__ = ("_requests", "_turn", "ended")

    def __init__(self, turn: str) -> None:
        self._turn = turn
        self._requests: set[str] = set()
        self.ended = False

    def keep(self, units: bytes) -> bytes:
        """Of whole units as the hub gives them, those that are about the turn."""
        said = units.split(END)
        return b"".join([each + END for each in said if each and not self.ended and self._about(each)])

    def _about(self, text: bytes) -> bool:
        lines = text.split(b"\n")
        event, payload = lines[0].removeprefix(b"event: "), loads(lines[-1].removeprefix(b"data: "))
        match event:
            case b"request_opened":
                mine = bool(payload["request"]["turn"] == self._turn)
                if mine:
                    self._requests.add(payload["request"]["id"])
                return mine
            case b"request_closed":
                return payload["request"] in self._requests
            case _:
                mine = bool(payload.get("turn") == self._turn)
                self.ended = mine and event == b"turn_finished"
                return mine
