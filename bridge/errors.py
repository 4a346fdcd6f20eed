"""Every error a caller can meet, in one tree.

`BridgeError` carries a wire code of `spec/errors.json` and details that go to the client as they are;
its text is made from attributes, so that a caller can match on facts instead of on prose.
Errors of the operator's side (`SetupError`) never reach a wire: they end the command with a sentence.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Protocol


class BridgeError(Exception):
    """The root. `code` is the wire's `reason`, `details` stand beside it in the answer."""

    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False
    http_status: ClassVar[int] = 500

    def __init__(self, message: str = "", **details: Any) -> None:
        super().__init__(message)
        self.message = message or "The bridge met an error of its own."
        self.details = details

    def __str__(self) -> str:
        return self.message

    def as_payload(self) -> dict[str, Any]:
        """The error object of the contract: `{reason, message, …details}`."""
        return {"reason": self.code, "message": self.message, **self.details}


class InternalError(BridgeError):
    code = "internal"
    retryable = True


class Unauthorized(BridgeError):
    code = "unauthorized"
    http_status = 401

    def __init__(self) -> None:
        super().__init__("This needs a valid token.")


class Forbidden(BridgeError):
    code = "forbidden"
    http_status = 403

    def __init__(self, scope: str, message: str = "") -> None:
        super().__init__(message or f"This token lacks the scope {scope!r}.", scope=scope)


class SessionNotFound(BridgeError):
    code = "session_not_found"
    http_status = 404

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no session {name!r}; join with `start` to create it.", name=name)


class PoolNotFound(SessionNotFound):
    def __init__(self, name: str) -> None:
        BridgeError.__init__(self, f"There is no pool {name!r}; the configuration names them.", name=name)


class SessionExists(BridgeError):
    code = "session_exists"
    http_status = 409

    def __init__(self, name: str, differing: list[str], message: str = "") -> None:
        options = ", ".join(differing)
        said = message or f"Session {name!r} exists with other options ({options})."
        super().__init__(said, name=name, differing=differing)


class InvalidName(BridgeError):
    code = "invalid_name"
    http_status = 422

    def __init__(self, name: object) -> None:
        super().__init__(
            "A name is 1 to 64 letters, digits, '-' or '_', and begins with a letter or digit.",
            name=name if isinstance(name, str) else repr(name),
        )


class InvalidPayload(BridgeError):
    code = "invalid_payload"
    http_status = 422

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}" if field else problem, field=field)


class PromptEmpty(BridgeError):
    code = "prompt_empty"
    http_status = 422

    def __init__(self) -> None:
        super().__init__("The prompt has no text.")


class PromptTooLarge(BridgeError):
    code = "prompt_too_large"
    http_status = 413

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"The prompt has {size} bytes; the limit is {limit}.", size=size, limit=limit)


class PromptRejected(BridgeError):
    code = "prompt_rejected"
    http_status = 422

    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"{what} cannot be sent: {why}", what=what, why=why)


class QueueFull(BridgeError):
    code = "queue_full"
    retryable = True
    http_status = 429

    def __init__(self, limit: int) -> None:
        super().__init__(f"{limit} prompts are already waiting.", limit=limit)


class TurnNotFound(BridgeError):
    code = "turn_not_found"
    http_status = 404

    def __init__(self, turn: str, message: str = "") -> None:
        super().__init__(message or f"There is no such queued turn: {turn}.", turn=turn)


class RequestClosed(BridgeError):
    code = "request_closed"
    http_status = 409

    def __init__(self, request: str, outcome: str | None = None, by: str | None = None) -> None:
        said = f"was closed: {outcome} by {by or 'the terminal'}" if outcome else "is not open"
        super().__init__(f"Request {request} {said}.", request=request, outcome=outcome, by=by)


class SessionFailed(BridgeError):
    code = "session_failed"
    http_status = 409

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"Session {name!r} has failed ({why}); restart it to go on.", name=name, why=why)


class SessionStopped(BridgeError):
    code = "session_stopped"
    http_status = 409

    def __init__(self, name: str) -> None:
        super().__init__(f"Session {name!r} is stopped; start it to go on.", name=name)


class TooManySessions(BridgeError):
    code = "too_many_sessions"
    retryable = True
    http_status = 503

    def __init__(self, limit: int) -> None:
        super().__init__(f"The bridge already runs its {limit} sessions.", limit=limit)


class BackendUnavailable(BridgeError):
    code = "backend_unavailable"
    http_status = 503

    def __init__(self, backend: str, remedy: str) -> None:
        super().__init__(f"The backend {backend!r} cannot run here: {remedy}", backend=backend, remedy=remedy)


class SpentBudget(Protocol):
    """A budget as `BudgetExceeded` tells of it."""

    @property
    def name(self) -> str: ...
    @property
    def per(self) -> str: ...
    @property
    def of(self) -> str | None: ...
    @property
    def spent_usd(self) -> float: ...
    @property
    def limit_usd(self) -> float | None: ...
    @property
    def spent_tokens(self) -> int: ...
    @property
    def limit_tokens(self) -> int | None: ...


class BudgetExceeded(BridgeError):
    code = "budget_exceeded"
    http_status = 402

    def __init__(self, budget: SpentBudget, until: str | None, under_way: int) -> None:
        """`under_way` turns that were accepted and have not finished are counted with an estimate."""
        whose = {"session": f"of session {budget.of!r}", "token": f"of token {budget.of!r}"}
        more = f", and {under_way} turns under way" if under_way else ""
        again = f"; it begins anew at {until}" if until else ""
        super().__init__(
            f"The budget {budget.name!r} {whose.get(budget.per, 'of this bridge')} has no room for one more"
            f" turn: {_amounts(budget)}{more}{again}.",
            budget=budget.name,
            per=budget.per,
            of=budget.of,
            spent_usd=budget.spent_usd,
            limit_usd=budget.limit_usd,
            spent_tokens=budget.spent_tokens,
            limit_tokens=budget.limit_tokens,
            under_way=under_way,
            until=until,
        )


def _amounts(budget: SpentBudget) -> str:
    said = []
    if budget.limit_usd is not None:
        said.append(f"{budget.spent_usd:.4f} of {budget.limit_usd:g} USD")
    if budget.limit_tokens is not None:
        said.append(f"{budget.spent_tokens} of {budget.limit_tokens} tokens")
    return f"{' and '.join(said)} are spent"


class RateLimited(BridgeError):
    code = "rate_limited"
    retryable = True
    http_status = 429

    def __init__(self, what: str, retry_after_s: float) -> None:
        seconds = math.ceil(retry_after_s * 1000 - 1e-6) / 1000
        super().__init__(
            f"{what} too often; one more is taken in {seconds:g} seconds.", retry_after_s=seconds
        )


class BinaryNotSupported(BridgeError):
    code = "binary_not_supported"
    http_status = 406


class OriginRefused(BridgeError):
    code = "origin_refused"
    http_status = 403

    def __init__(self) -> None:
        super().__init__("Pages of this origin may not speak to this bridge; `server.origins` lists who may.")


class NotFound(BridgeError):
    code = "not_found"
    http_status = 404

    def __init__(self) -> None:
        super().__init__("Nothing is at this path; GET /api/openapi.json says what there is.")


class MethodNotAllowed(BridgeError):
    code = "method_not_allowed"
    http_status = 405

    def __init__(self, allow: list[str]) -> None:
        super().__init__(f"This path takes {', '.join(allow)}.", allow=allow)


class PayloadTooLarge(BridgeError):
    code = "payload_too_large"
    http_status = 413

    def __init__(self, limit: int) -> None:
        super().__init__(f"The body has more than {limit} bytes.", limit=limit)


class UnsupportedMediaType(BridgeError):
    code = "unsupported_media_type"
    http_status = 415

    def __init__(self, problem: str) -> None:
        super().__init__(problem)


class WireError(Exception):
    """A frame that the protocol does not allow: the connection is closed, nothing is answered."""


class SetupError(Exception):
    """What keeps the command from running, with what to do about it; `exit_code` is the command's."""

    exit_code: ClassVar[int] = 2

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.problem}\n{self.remedy}" if self.remedy else self.problem


class BridgeUnreachable(SetupError):
    """No bridge answers where the command looked for one."""

    exit_code = 3


class RefusedByBridge(SetupError):
    """The bridge said no: `reason` is the wire's code, `details` what stood beside it."""

    exit_code = 4

    def __init__(self, reason: str, problem: str, remedy: str = "", **details: Any) -> None:
        super().__init__(problem, remedy)
        self.reason = reason
        self.details = details


class TmuxError(Exception):
    """tmux could not be asked, or refused: says nothing about whether a session lives."""


class BackendError(Exception):
    """A backend could not do what it was told; its text is fit for `turn_finished.error`."""


class ProcessSpent(BackendError):
    """Nothing is wrong with the process, and it is to be replaced all the same."""


class JournalError(Exception):
    """The journal could not be opened, read or written."""


class JournalStalled(JournalError):
    """Nothing can be written for now: the disk is full, or somebody else holds the file. What was to be
    written is not, and will not be by itself."""


class SupervisionError(Exception):
    """A supervisor cannot do what it was asked: no such child, or one that has not ended."""


class SupervisorFailed(SupervisionError):
    """A supervisor gave up: `child` needed more restarts than allowed, the last time because of `problem`."""

    def __init__(self, supervisor: str, child: str, problem: str) -> None:
        super().__init__(f"{supervisor!r} gave up on {child!r}: {problem}")
        self.supervisor = supervisor
        self.child = child
        self.problem = problem
