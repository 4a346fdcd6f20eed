"""The open turn: its blocks as they come in, and the text that they amount to. No I/O, no clock.

Preview and truth are kept apart: text that is still arriving can be discarded, settled text cannot.
Taking in again what was taken in before (a re-read after a restart) says nothing twice.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from bridge.events import (
    AnyBlock,
    Attachment,
    Block,
    BlockDiscarded,
    BlockFinished,
    BlockKind,
    DeltaAdded,
    Event,
    Source,
    ToolBlock,
    ToolFinished,
    ToolStarted,
    Turn,
    TurnError,
    TurnId,
    TurnStatus,
    Usage,
    text_of,
)
from bridge.sessions.effects import BlockKept
from bridge.signals import BlockDropped, BlockSettled, TextArrived, ToolAnswered, ToolCalled


@dataclass(slots=True)
class _Preview:
    """Text that may yet be discarded; kept in pieces because it grows by a word at a time."""

    kind: BlockKind
    message: str
    parent: str | None
    pieces: list[str] = field(default_factory=list)


class OpenTurn:
    """One turn between `turn_started` and `turn_finished`."""

    def __init__(self, turn: Turn, *, active: bool = False) -> None:
        self._turn = turn
        self._settled: dict[int, AnyBlock] = {b.block: b for b in turn.blocks}
        self._previews: dict[int, _Preview] = {}
        self._tools = {b.tool: b.block for b in turn.blocks if isinstance(b, ToolBlock)}
        self.active = active or bool(turn.blocks)
        """The model has answered something: this turn is never sent again."""

    @property
    def id(self) -> TurnId:
        return self._turn.id

    @property
    def source(self) -> Source:
        return self._turn.source

    @property
    def prompt(self) -> str:
        return self._turn.prompt

    @property
    def attachments(self) -> tuple[Attachment, ...]:
        return self._turn.attachments

    @property
    def text(self) -> str:
        """The text blocks of the last message, joined and right-trimmed; previews count."""
        return text_of(self._blocks())

    def view(self) -> Turn:
        """The turn as a joining client sees it, previews included."""
        blocks = self._blocks()
        return replace(self._turn, blocks=blocks, text=text_of(blocks))

    def _blocks(self) -> tuple[AnyBlock, ...]:
        previews = (_partial(n, p) for n, p in self._previews.items())
        return tuple(sorted((*self._settled.values(), *previews), key=lambda b: b.block))

    def as_queued(self) -> Turn:
        """The turn put back, as it was before it was started. Only right while it has said nothing."""
        return replace(self._turn, status="queued", started_at=None)

    def block(self, tool: str) -> ToolBlock | None:
        number = self._tools.get(tool)
        found = None if number is None else self._settled.get(number)
        return found if isinstance(found, ToolBlock) else None

    def take(
        self, signal: TextArrived | BlockDropped | BlockSettled | ToolCalled | ToolAnswered
    ) -> list[Event | BlockKept]:
        """Take in one signal; returns what it made known, nothing where it was known before."""
        self.active = True
        match signal:
            case TextArrived():
                return self._arrived(signal)
            case BlockDropped(block=number):
                if self._previews.pop(number, None) is None:
                    return []
                return [BlockDiscarded(self.id, number)]
            case BlockSettled():
                return self._settle(
                    Block(signal.block, signal.kind, signal.text, signal.parent, signal.message)
                )
            case ToolCalled():
                return self._called(signal)
            case ToolAnswered():
                return self._answered(signal)

    def settle_previews(self) -> list[Event | BlockKept]:
        """What was still arriving when the turn broke off becomes its final, partial text."""
        events: list[Event | BlockKept] = []
        for number, p in sorted(self._previews.items()):
            events += self._settle(_partial(number, p))
        return events

    def finished(
        self,
        status: TurnStatus,
        at: float,
        *,
        text: str | None = None,
        error: TurnError | None = None,
        usage: Usage | None = None,
        cost_usd: float | None = None,
    ) -> Turn:
        """The finished turn. `text` counts only where the blocks amount to none."""
        view = self.view()
        return replace(
            view,
            status=status,
            finished_at=at,
            text=view.text or (text or "").rstrip(),
            error=error,
            usage=usage,
            cost_usd=cost_usd,
        )

    def _arrived(self, s: TextArrived) -> list[Event | BlockKept]:
        if s.block in self._settled:
            return []
        preview = self._previews.get(s.block)
        if preview is None:
            preview = self._previews[s.block] = _Preview(s.kind, s.message, s.parent)
        preview.pieces.append(s.text)
        return [DeltaAdded(self.id, s.block, s.kind, s.text, s.parent)] if s.text else []

    def _settle(self, block: Block) -> list[Event | BlockKept]:
        self._previews.pop(block.block, None)
        if self._settled.get(block.block) == block:
            return []
        return [
            self._keep(block),
            BlockFinished(self.id, block.block, block.kind, block.text, block.parent),
        ]

    def _called(self, s: ToolCalled) -> list[Event | BlockKept]:
        if s.tool in self._tools:
            return []
        self._tools[s.tool] = s.block
        block = ToolBlock(s.block, s.tool, s.name, s.input, parent=s.parent, message=s.message)
        return [self._keep(block), ToolStarted(self.id, s.block, s.tool, s.name, s.input, s.parent)]

    def _answered(self, s: ToolAnswered) -> list[Event | BlockKept]:
        called = self.block(s.tool)
        if called is None or called.output is not None:
            return []
        return [
            self._keep(replace(called, output=s.output, is_error=s.is_error)),
            ToolFinished(self.id, s.tool, s.output, s.is_error, s.parent),
        ]

    def _keep(self, block: AnyBlock) -> BlockKept:
        self._settled[block.block] = block
        return BlockKept(self.id, block)


def _partial(number: int, preview: _Preview) -> Block:
    return Block(number, preview.kind, "".join(preview.pieces), preview.parent, preview.message)
