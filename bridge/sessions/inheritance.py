"""What a session begins with that does not begin empty: another's turns, or a conversation's from outside.

Nothing of it is told, and no process started, before it is on disk whole. A client that goes meanwhile
changes nothing: what was begun is brought to its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TypeVar
from uuid import UUID, uuid4

import structlog

from bridge.errors import BackendError, InternalError, InvalidPayload
from bridge.events import SessionName, Turn, TurnId
from bridge.sessions.actor import Parting
from bridge.sessions.backends.base import Branch, Forks, KeptTurn, Past
from bridge.sessions.facts import Facts
from bridge.sessions.records import CopyTurns, Op, SaveBlock, SaveTurn, TurnRecord

log = structlog.get_logger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Inherited:
    """`operations` go into one transaction with the session's record, behind it; `last_number` is the number
    of the last turn that they make."""

    facts: Facts
    operations: tuple[Op, ...] = ()
    last_number: int = 0


async def outlasting(work: asyncio.Future[T]) -> tuple[T, asyncio.CancelledError | None]:
    """The end of work that goes on when its caller is cancelled, and with it the cancellation, which the
    caller raises once it has done what belongs to it. Raises what the work raises."""
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError as e:
            cancelled = e
    return work.result(), cancelled


# --- forks ------------------------------------------------------------------------------------------


def forks_of(backend: str, forks: Forks | None, name: str) -> Forks:
    """Raises `InvalidPayload` where sessions of this kind cannot be forked."""
    if forks is None:
        where = "it runs in a terminal" if backend == "tmux" else f"its backend is {backend!r}"
        raise InvalidPayload("from", f"{name!r} cannot be forked: {where}")
    return forks


def forked(name: SessionName, parting: Parting) -> Inherited:
    """A session like the other, with its finished turns, and with ids and counts of its own."""
    source, past = parting.facts, parting.past
    options = source.options.model_copy(update={"resume": None})
    facts = Facts(
        name=name,
        backend=source.backend,
        options=options,
        node=source.node,
        model=options.model,
        permission_mode=options.permission_mode or source.permission_mode,
        conversation=str(uuid4()),
        turns=past.begun,
    )
    last = past.turns[-1].turn if past.turns else None
    copy = CopyTurns(source.name, name, last, parting.unfinished)
    return Inherited(facts, (copy,), past.last_number)


def _named(turn: TurnId) -> bool:
    """Whether Claude knows it by this id, and not only the session, which counts those that it is told of."""
    try:
        return str(UUID(turn)) == turn
    except ValueError:
        return False


class Forking:
    """A conversation's beginning is made; `kept` once there is a session that has it."""

    kept = False

    def keep(self) -> None:
        self.kept = True


@asynccontextmanager
async def forking(
    forks: Forks, parting: Parting, inherited: Inherited, *, named: bool
) -> AsyncIterator[Forking]:
    """The new session's conversation, with its beginning; taken back where it is not `kept`. `named`: a
    client said which turn is the last.

    Raises `InvalidPayload` where what is kept of the other does not reach.
    """
    loop = asyncio.get_running_loop()
    into, of = inherited.facts.conversation or "", parting.facts.conversation or ""
    kept = tuple(KeptTurn(t.turn, _named(t.turn), t.status, t.said) for t in parting.past.turns)
    state = Forking()
    try:
        work = loop.run_in_executor(None, forks.begin, Branch(of, into, kept))
        _, cancelled = await outlasting(work)
        if cancelled is not None:
            raise cancelled
        yield state
    except BackendError as e:
        field = "from_turn" if named else "from"
        raise InvalidPayload(field, f"{parting.facts.name!r} cannot be forked: {e}") from e
    except OSError as e:
        raise InternalError(f"The conversation could not be copied: {e.strerror or e}") from e
    finally:
        try:
            await outlasting(loop.run_in_executor(None, lambda: forks.settle(into, kept=state.kept)))
        except OSError as e:  # the next bridge tries again
            log.warning("could not settle a fork", session=inherited.facts.name, error=str(e))


# --- conversations from outside ------------------------------------------------------------------------


async def past_of(backend: str, past: Past | None, conversation: str) -> tuple[Turn, ...]:
    """The turns of a conversation that was begun outside the bridge. Raises `InvalidPayload` where there is
    none of this id."""
    if past is None:
        problem = f"sessions of the backend {backend!r} have their conversations in the bridge alone"
        raise InvalidPayload("resume", problem)
    try:
        return await asyncio.to_thread(past, conversation)
    except BackendError as e:
        raise InvalidPayload("resume", str(e)) from e
    except OSError as e:
        raise InternalError(f"The conversation could not be read: {e.strerror or e}") from e


def taken_over(facts: Facts, turns: Iterable[Turn]) -> Inherited:
    """A session that begins with these turns."""
    operations: list[Op] = []
    number = 0
    for number, turn in enumerate(turns, start=1):
        operations.append(SaveTurn(facts.name, TurnRecord(replace(turn, blocks=()), "finished", number)))
        operations += [SaveBlock(facts.name, turn.id, block) for block in turn.blocks]
    facts.turns = number
    return Inherited(facts, tuple(operations), number)
