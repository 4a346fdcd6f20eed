"""The simulator's sockets: an aiohttp application that answers as api.anthropic.com does.

Owns the record of requests, the counts of faults, and the pace of a stream. What is answered is
decided in `script`, how it is said in `messages`.
"""

from __future__ import annotations

import asyncio
import math
import time
import uuid
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from aiohttp import web

from bridge.simulator import messages, script, validation
from bridge.simulator.counting import FaultLedger
from bridge.simulator.script import DirectiveMalformed, Fault, FaultKind, Plan

MAX_BODY_BYTES = 32 * 1024 * 1024
"""The API's own limit for a request."""
WRITE_BYTES = 16 * 1024
"""What is sent without a pause is written together up to this size: a write costs more than an event."""
CUT_DELAY_S = 0.1
"""Before a connection is cut: Node's fetch throws away what it holds unread when its connection ends, and
Claude Code would see none of the deltas that came with the cut. On a busy machine it may need longer than
this: a cut that has to come behind what was read is a hang that is cut (`POST /_sim/cut`).
"""
RECORDED_REQUESTS = 200
RECORDED_BYTES = 32 * 1024 * 1024
"""Every request repeats its whole conversation, so the record is bounded by bytes as well."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
REQUEST_ID = web.RequestKey("request_id", str)


class Simulator:
    """One simulator. `app()` is served by whoever owns a listening socket, with handler_cancellation on:
    a client that leaves ends its answer.
    """

    def __init__(self) -> None:
        self._ledger = FaultLedger()
        self._recorded: deque[tuple[int, dict[str, Any]]] = deque()
        self._recorded_bytes = 0
        self._received = 0
        self._cut_now = asyncio.Event()
        """Ends the streams that hang; each cut has one of its own."""
        self._limited_until = 0.0
        """Until then (wall time) every request is refused, as for an account that has reached its limit."""

    def app(self) -> web.Application:
        app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[_api_errors])
        app.on_response_prepare.append(_sign)
        app.router.add_post("/v1/messages", self._messages)
        app.router.add_post("/v1/messages/count_tokens", self._count_tokens)
        app.router.add_get("/v1/models", _models)
        app.router.add_get("/v1/models/{model}", _model)
        app.router.add_get("/_sim/requests", self._requests)
        app.router.add_delete("/_sim/requests", self._forget)
        app.router.add_post("/_sim/cut", self._cut)
        for path in ("/", "/healthz", "/api/hello"):  # Claude Code's TUI probes the last one
            app.router.add_get(path, _alive)
        return app

    async def _messages(self, request: web.Request) -> web.StreamResponse:
        body = await self._body(request)
        refused = validation.problem(body)
        if refused:
            return _error(request, 400, refused)
        try:
            plan = script.plan(body)
        except DirectiveMalformed as error:
            return _error(request, 400, str(error))
        answer = _answer(body, plan)
        streams = body.get("stream") is True
        conversation = request.headers.get("X-Claude-Code-Session-Id", "")
        deltas = sum(len(block.deltas) for block in answer.blocks)
        fault = self._ledger.strike(conversation, plan, streams=streams, deltas=deltas)
        await _pause(plan.first_s)
        if fault is not None and fault.kind is FaultKind.LIMIT:
            self._limited_until = math.ceil(time.time()) + fault.at
        if time.time() < self._limited_until:
            return _limited(request, self._limited_until)
        if fault is not None and fault.kind is FaultKind.STATUS:
            return _error(request, fault.at)
        if not streams:
            response: web.StreamResponse = _json(answer.as_json())
        else:
            response = await _stream(request, answer, plan, fault, self._cut_now)
        if fault is None:
            self._ledger.answered(conversation, plan)
        return response

    async def _count_tokens(self, request: web.Request) -> web.StreamResponse:
        body = await self._body(request)
        refused = validation.problem(body, counting=True)
        return (
            _error(request, 400, refused) if refused else _json({"input_tokens": messages.count_tokens(body)})
        )

    async def _body(self, request: web.Request) -> Any:
        """The request's JSON; recorded for tests, whatever becomes of it."""
        raw = await request.read()
        try:
            body = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise _Refused(400, f"The request body is not valid JSON: {error}") from None
        if isinstance(body, dict):
            self._record(request, body, len(raw))
        return body

    def _record(self, request: web.Request, body: dict[str, Any], size: int) -> None:
        shown = {
            key: body.get(key) for key in ("model", "stream", "max_tokens", "thinking", "system", "messages")
        }
        shown["tools"] = [tool.get("name") for tool in body.get("tools") or [] if isinstance(tool, dict)]
        self._received += 1
        self._recorded.append((size, {"number": self._received, "path": request.path, **shown}))
        self._recorded_bytes += size
        while len(self._recorded) > RECORDED_REQUESTS or (
            self._recorded_bytes > RECORDED_BYTES and len(self._recorded) > 1
        ):
            self._recorded_bytes -= self._recorded.popleft()[0]

    async def _requests(self, request: web.Request) -> web.StreamResponse:
        """With `?after=NUMBER` what came later: who looks often enough sees every request once."""
        after = request.query.get("after", "0")
        if not after.isdecimal():
            return _error(request, 400, f"after: {after!r} is no number of a request")
        return _json({"requests": [shown for _, shown in self._recorded if shown["number"] > int(after)]})

    async def _forget(self, request: web.Request) -> web.StreamResponse:
        self._recorded.clear()
        self._recorded_bytes = 0
        return web.Response(status=204)

    async def _cut(self, request: web.Request) -> web.StreamResponse:
        """What hangs is cut. Whoever has seen what its client made of it knows what the cut comes behind;
        after a time alone, a client that was held up may not have looked yet."""
        cut_now, self._cut_now = self._cut_now, asyncio.Event()
        cut_now.set()
        return web.Response(status=204)


class _Refused(Exception):
    """Ends a handler with one of the API's errors."""

    def __init__(self, status: int, message: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@web.middleware
async def _api_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Whatever goes wrong is answered with the API's error object; everything under /v1 needs a key."""
    request[REQUEST_ID] = f"req_{_token()}"
    try:
        if request.path.startswith("/v1/") and not _has_key(request):
            raise _Refused(401)
        return await handler(request)
    except _Refused as refused:
        return _error(request, refused.status, refused.message)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        said = "" if error.status == 413 else f"{error.reason}: {request.method} {request.path}"
        return _error(request, error.status, said)


async def _sign(request: web.Request, response: web.StreamResponse) -> None:
    response.headers["request-id"] = request[REQUEST_ID]


async def _models(request: web.Request) -> web.StreamResponse:
    return _json(messages.model_list())


async def _model(request: web.Request) -> web.StreamResponse:
    return _json(messages.model_info(request.match_info["model"]))


async def _alive(request: web.Request) -> web.StreamResponse:
    return _json({"status": "ok", "simulator": True})


async def _stream(
    request: web.Request, answer: messages.Answer, plan: Plan, fault: Fault | None, cut_now: asyncio.Event
) -> web.StreamResponse:
    """Sends the answer's events, `gap_s` between deltas, of these only as many as the fault lets through."""
    response = web.StreamResponse(
        headers={"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"}
    )
    await response.prepare(request)
    clock = asyncio.get_running_loop().time
    due = 0.0
    sent = 0
    waiting = bytearray()
    for event, is_delta in answer.events():
        if is_delta:
            if fault is not None and sent == fault.at:
                break
            sent += 1
            if plan.gap_s and sent == 1:
                due = clock()
            elif plan.gap_s:
                await _flush(response, waiting)
                due += plan.gap_s  # a late delta does not make the next one late
                await _pause(due - clock())
        waiting += event
        if len(waiting) > WRITE_BYTES:
            await _flush(response, waiting)
            await asyncio.sleep(0)  # a long answer without gaps must not hold up the other connections
    if fault is not None and fault.kind is FaultKind.ERROR:
        waiting += messages.error_event(529, request[REQUEST_ID])
    await _flush(response, waiting)
    if fault is None or fault.kind is FaultKind.ERROR:
        await response.write_eof()
        return response
    if fault.kind is FaultKind.HANG:
        await cut_now.wait()  # or until the client leaves, or the simulator ends
    else:
        await asyncio.sleep(CUT_DELAY_S)
    if request.transport is not None:
        # Sends what was written, then closes: every delta arrives, the end of the response never does.
        # (An abort could throw away the last deltas, and how many arrive would be chance.)
        request.transport.close()
    return response


async def _flush(response: web.StreamResponse, waiting: bytearray) -> None:
    if waiting:
        await response.write(bytes(waiting))
        waiting.clear()


async def _pause(seconds: float) -> None:
    if seconds > 0:
        await asyncio.sleep(seconds)


def _answer(body: dict[str, Any], plan: Plan) -> messages.Answer:
    blocks = []
    if plan.thinking:
        blocks.append(messages.thinking_block(script.pieces(plan.thinking)))
    if plan.text:
        blocks.append(messages.text_block(script.pieces(plan.text)))
    blocks += [messages.tool_block(f"toolu_{_token()}", name, wanted) for name, wanted in plan.tools]
    usage = messages.usage_of(body, blocks)
    return messages.Answer(f"msg_{_token()}", body["model"], blocks, plan.stop_reason, usage)


def _token() -> str:
    return uuid.uuid4().hex[:24]


def _has_key(request: web.Request) -> bool:
    """Any key will do: there is nothing here to protect, but a client that forgets its key must notice."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return bool(request.headers.get("x-api-key") or (scheme.lower() == "bearer" and token.strip()))


def _json(value: Any, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json")


def _limited(request: web.Request, until: float) -> web.Response:
    """What the API answers once a subscription's share of a window is used up; the reset is in seconds."""
    response = _error(request, 429, "This request would exceed your account's rate limit.")
    response.headers["retry-after"] = str(max(1, math.ceil(until - time.time())))
    response.headers["x-should-retry"] = "false"
    unified = {
        "status": "rejected",
        "reset": f"{until:.0f}",
        "representative-claim": "five_hour",
        "5h-status": "rejected",
        "5h-reset": f"{until:.0f}",
        "5h-utilization": "1.0",
    }
    for name, value in unified.items():
        response.headers[f"anthropic-ratelimit-unified-{name}"] = value
    return response


def _error(request: web.Request, status: int, message: str = "") -> web.Response:
    response = _json(messages.error_body(status, request[REQUEST_ID], message), status)
    if status == 429 or status >= 500:
        response.headers["x-should-retry"] = "true"
    return response
