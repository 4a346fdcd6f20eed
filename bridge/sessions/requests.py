"""The open requests of one session: asked by Claude, answered once, by whoever is first. No I/O, no clock.

An answer counts when it has been sent: until then the request is open for viewers and closed for other
answers, so that a pipe that breaks at this moment leaves a question that can be answered again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from bridge.commands import AnswerRequest
from bridge.errors import InvalidPayload, RequestClosed
from bridge.events import Outcome, Request, RequestAnswered, RequestId
from bridge.sessions.effects import SendAnswer


class OpenRequests:
    def __init__(self, requests: Iterable[Request] = ()) -> None:
        self._open = {r.id: r for r in requests}
        self._answering: dict[RequestId, tuple[Outcome, str | None]] = {}

    def __bool__(self) -> bool:
        return bool(self._open)

    def __iter__(self) -> Iterator[Request]:
        return iter(self._open.values())

    def opened(self, request: Request) -> bool:
        """Whether it was new."""
        if request.id in self._open:
            return False
        self._open[request.id] = request
        return True

    def answer(self, command: AnswerRequest, by: str | None) -> SendAnswer:
        """Take the first answer. Raises `RequestClosed`, `InvalidPayload`."""
        request = self._open.get(RequestId(command.request))
        if request is None:
            raise RequestClosed(command.request)
        if request.id in self._answering:
            raise RequestClosed(request.id, *self._answering[request.id])
        offered = range(len(request.suggestions))
        if any(i not in offered for i in command.suggestions):
            raise InvalidPayload("suggestions", f"the request offers {len(offered)}, numbered from 0")
        allow = command.decision == "allow"
        self._answering[request.id] = ("allowed" if allow else "denied", by)
        return SendAnswer(
            request.id,
            allow,
            _input(request, command.input),
            tuple(request.suggestions[i] for i in command.suggestions),
            command.message,
            command.interrupt,
        )

    def answered(self, request: RequestId) -> list[RequestAnswered]:
        """The answer is on its way to Claude: closed, as it says, unless it became moot meanwhile."""
        outcome, by = self._answering.pop(request, ("withdrawn", None))
        return self._closed(request, outcome, by)

    def answer_failed(self, request: RequestId) -> None:
        """The answer could not be sent: the request is open as before."""
        self._answering.pop(request, None)

    def withdraw(self, request: RequestId, outcome: Outcome = "withdrawn") -> list[RequestAnswered]:
        """Claude no longer waits for it: it was answered by nobody we know, or in the terminal."""
        answering = self._answering.pop(request, None)
        by = answering[1] if answering is not None and answering[0] == outcome else None
        return self._closed(request, outcome, by)

    def withdraw_call(self, call: str) -> list[RequestAnswered]:
        """A tool call that has its result is not waiting for anybody any more. An answer that was on its way
        has arrived: that can be known before it is known to be sent."""
        moot = [r.id for r in self if r.call == call]
        return [c for r in moot for c in (self.answered(r) if r in self._answering else self.withdraw(r))]

    def withdraw_all(self) -> list[RequestAnswered]:
        return [closed for request in list(self._open) for closed in self.withdraw(request)]

    def _closed(self, request: RequestId, outcome: Outcome, by: str | None) -> list[RequestAnswered]:
        if self._open.pop(request, None) is None:
            return []
        return [RequestAnswered(request, outcome, by)]


def _input(request: Request, given: dict[str, Any] | None) -> dict[str, Any]:
    """What the tool is to run with: as asked for, as changed, or with a question's answers in it."""
    if given is None:
        return request.input
    return {**request.input, **given} if request.kind == "question" else given
