"""What has come of the answer to one prompt, in a file of the session's folder, which outlives the bridge.

It stands in for what a CLI's own stream file is to the other backends. Nothing is waited for: what a killed
process had written is there, a machine that loses power may lose it. The first byte says whether the model
has begun to answer, and is overwritten in place, which needs no room on a full disk: such a turn is never
sent again.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson
import structlog

from bridge.events import BlockKind, TurnError, TurnId, Usage
from bridge.signals import BlockDropped, BlockSettled, Signal, TextArrived, TurnEnded, UpstreamActive

log = structlog.get_logger(__name__)

UNTOUCHED, ACTIVE = b"-", b"+"


@dataclass(slots=True)
class Piece:
    """A block as far as it came."""

    kind: BlockKind
    message: str
    text: str = ""
    settled: bool = False


@dataclass(slots=True)
class Partial:
    turn: TurnId
    active: bool
    blocks: dict[int, Piece] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)
    cost_usd: float | None = None
    ended: TurnEnded | None = None
    """The answer was complete, and how; the bridge was killed before that was in its journal."""

    @property
    def message(self) -> str:
        """The one that the last block belongs to."""
        return self.blocks[max(self.blocks)].message if self.blocks else ""

    @property
    def text(self) -> str:
        """Of that message."""
        pieces = (p for _, p in sorted(self.blocks.items()))
        return "".join(p.text for p in pieces if p.kind == "text" and p.message == self.message)

    def signals(self) -> list[Signal]:
        """All of it once more. What is known already says nothing new."""
        said: list[Signal] = [UpstreamActive()]
        for number, p in sorted(self.blocks.items()):
            said.append(
                BlockSettled(number, p.kind, p.text, p.message)
                if p.settled
                else TextArrived(number, p.kind, p.text, p.message)
            )
        return said


class PartialFile:
    """A session's; it holds one turn at a time."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "answer.part"
        self._out: int | None = None
        self.turn: TurnId | None = None

    def begin(self, turn: TurnId) -> None:
        """Raises `OSError`: what cannot be written down is not begun."""
        self.close()
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._open(os.O_TRUNC)
        assert self._out is not None
        os.write(self._out, UNTOUCHED + orjson.dumps({"turn": turn}) + b"\n")
        self.turn = turn

    def go_on(self, turn: TurnId) -> None:
        """With what is there of this turn. Raises `OSError`."""
        self.close()
        self._open(0)
        self.turn = turn

    def add(self, signals: Sequence[Signal]) -> None:
        """Before anybody hears of them."""
        if self._out is None:
            return
        lines = bytearray()
        for signal in signals:
            if isinstance(signal, UpstreamActive):
                self._do(lambda out: os.pwrite(out, ACTIVE, 0), 1)
            elif (line := _line(signal)) is not None:
                lines += orjson.dumps(line) + b"\n"
        self._write(lines)

    def spent(self, usage: Usage, cost_usd: float | None) -> None:
        """By this turn up to now."""
        self._write(orjson.dumps(["u", asdict(usage), cost_usd]) + b"\n")

    def close(self) -> None:
        out, self._out = self._out, None
        if out is not None:
            os.close(out)

    def remove(self) -> None:
        self.close()
        self.turn = None
        self._path.unlink(missing_ok=True)

    def read(self) -> Partial | None:
        """What was left here; None where there is nothing that can be understood. Blocking."""
        try:
            first, *lines = self._path.read_bytes().split(b"\n")
            found = Partial(TurnId(orjson.loads(first[1:])["turn"]), first[:1] == ACTIVE)
        except (OSError, ValueError, KeyError, TypeError):
            return None
        for line in lines:
            try:
                _take(found, orjson.loads(line))
            except (ValueError, KeyError, TypeError):
                break  # half a line: its writer was killed
        return found

    def _open(self, flags: int) -> None:
        # No O_APPEND: with it Linux appends what is to be overwritten as well.
        flags |= os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._out = os.open(self._path, flags, 0o600)
        os.lseek(self._out, 0, os.SEEK_END)

    def _write(self, data: bytes | bytearray) -> None:
        if data:
            self._do(lambda out: os.write(out, data), len(data))

    def _do(self, write: Any, size: int) -> None:
        """Where it cannot be written, the rest is not either: what is there stays readable."""
        if self._out is None:
            return
        try:
            if write(self._out) == size:
                return
            said = "the disk is full"
        except OSError as e:
            said = e.strerror or str(e)
        log.error("could not keep an answer as it comes", path=str(self._path), problem=said)
        self.close()


def _line(signal: Signal) -> list[Any] | None:
    match signal:
        case TextArrived(block=block, kind=kind, text=text, message=message):
            return ["t", block, kind, text, message]
        case BlockSettled(block=block):
            return ["s", block]
        case BlockDropped(block=block):
            return ["d", block]
        case TurnEnded(status=status, error=error, usage=usage, cost_usd=cost):
            return ["e", status, error and asdict(error), usage and asdict(usage), cost]
        case _:
            return None


def _take(found: Partial, line: list[Any]) -> None:
    match line:
        case ["t", int(block), "text" | "thinking" as kind, str(text), str(message)]:
            piece = found.blocks.setdefault(block, Piece(kind, message))
            piece.text += text
        case ["s", int(block)]:
            found.blocks[block].settled = True
        case ["d", int(block)]:
            found.blocks.pop(block, None)
        case ["u", dict(usage), cost]:
            found.usage, found.cost_usd = Usage(**usage), cost
        case ["e", "completed" | "failed" as status, error, usage, cost]:
            error = TurnError(**error) if error else None
            found.ended = TurnEnded(status, None, error, Usage(**usage) if usage else None, cost)
