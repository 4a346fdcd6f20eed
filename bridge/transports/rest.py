"""REST: the table of `wire.operations`, answered. Events of a topic go the way they go from a channel."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import structlog
from aiohttp import hdrs, web

from bridge.auth import Principal
from bridge.clock import Clock
from bridge.commands import AskPool
from bridge.config import HubConfig, ServerConfig
from bridge.errors import (
    BridgeError,
    InternalError,
    InvalidPayload,
    MethodNotAllowed,
    NotFound,
    Unauthorized,
)
from bridge.events import Turn
from bridge.service import Service
from bridge.transports import access, handshake
from bridge.transports.rest_http import (
    EVENT_STREAM,
    HEADERS,
    Call,
    allowed,
    answered,
    cursor,
    downloaded,
    for_origin,
    options,
    query_params,
    refused,
)
from bridge.transports.sse import BEAT_S, Open, Stream, TurnEnd, TurnSource
from bridge.transports.topics import Reply, Topics, asked_reply
from bridge.wire import openapi, requests, sse, views
from bridge.wire.operations import DeleteQuery, EventsQuery, Operation, WaitQuery, by_path
from bridge.wire.requests import Route

log = structlog.get_logger(__name__)

PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"

Handler = Callable[[Call], Awaitable[web.StreamResponse]]

_GOES_ON = ("queued", "running")


class Rest:
    """Everything below /api/."""

    def __init__(
        self,
        service: Service,
        server: ServerConfig,
        hub: HubConfig,
        clock: Clock,
        beat_s: float = BEAT_S,
    ) -> None:
        self._service = service
        self._server = server
        self._outbox_bytes = hub.outbox_bytes
        self._clock = clock
        self._beat_s = beat_s
        self._open = Open()
        self._handlers: dict[str, Handler] = {
            "page": self._page,
            "openapi": self._openapi,
            "start_session": self._start,
            "read_session": self._read_session,
            "delete_session": self._delete,
            "fork": self._fork,
            "submit": self._submit,
            "read_turn": self._read_turn,
            "read_attachment": self._read_attachment,
            "events": self._events,
            "ask": self._ask_pool,
        }

    def mount(self, app: web.Application) -> None:
        for path, methods in by_path().items():
            app.router.add_route("*", path, partial(self._handle, methods))
        app.router.add_route("*", "/api", partial(self._handle, by_path()["/api/"]))
        app.router.add_route("*", "/api/{unknown:.*}", partial(self._handle, {}))

    async def close(self) -> None:
        """End every stream; who waits for a turn is told how far it is. Returns when all have gone."""
        await self._open.close(self._server.shutdown_s)

    # --- what is the same for every request -----------------------------------------------------

    async def _handle(self, methods: Mapping[str, Operation], request: web.Request) -> web.StreamResponse:
        headers = dict(HEADERS)
        try:
            headers |= for_origin(request, self._server)
            if request.method == hdrs.METH_OPTIONS:
                return options(methods, request, headers)
            call = self._admit(methods, request, headers)
            return await self._handlers.get(call.operation.id, self._event)(call)
        except BridgeError as e:
            return refused(e, headers)
        except ConnectionError:
            raise  # the client is gone, which aiohttp expects
        except Exception:
            log.exception("request crashed", method=request.method)
            return refused(InternalError(), headers)

    def _admit(self, methods: Mapping[str, Operation], request: web.Request, headers: dict[str, str]) -> Call:
        """Who asks for what. A request without a valid token is not told whether there is anything."""
        method = hdrs.METH_GET if request.method == hdrs.METH_HEAD else request.method
        operation = methods.get(method)
        params = query_params(request)
        in_query = operation is not None and operation.token_in_query and params is not None
        token = params.pop("token", None) if in_query and params is not None else None
        who = self._service.authenticate(handshake.bearer_of(request) or token, handshake.peer_of(request))
        access.belongs_to(request, who)
        if params is None:
            raise InvalidPayload("", "The query is not UTF-8.")
        if not methods:
            raise NotFound
        if operation is None:
            raise MethodNotAllowed(allowed(methods))
        return Call(request, operation, who, params, headers, token)

    # --- events of a topic ----------------------------------------------------------------------

    async def _event(self, call: Call) -> web.StreamResponse:
        return answered(call, await self._ask(call, await call.payload(self._server)))

    async def _ask(self, call: Call, payload: object, event: str | None = None) -> Reply:
        """Do what an event asks. Raises `BridgeError`."""
        operation = call.operation
        topics = Topics(self._service, call.who, self._clock, "rest")
        route = Route("sessions", "") if operation.topic == "sessions" else Route("session", call.name)
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        def done(reply: Reply | BridgeError) -> None:
            if isinstance(reply, BridgeError):
                answer.set_exception(reply)
            else:
                answer.set_result(reply)

        work = topics.ask(route, event or operation.event, payload, done)
        return await (answer if work is None else work)

    # --- sessions -------------------------------------------------------------------------------

    async def _start(self, call: Call) -> web.StreamResponse:
        reply = await self._ask(call, await call.payload(self._server))
        call.headers[hdrs.LOCATION] = f"/api/sessions/{reply['session']['name']}"
        return answered(call, reply, HTTPStatus.OK if reply.get("existing") else HTTPStatus.CREATED)

    async def _fork(self, call: Call) -> web.StreamResponse:
        reply = await self._ask(call, await call.payload(self._server))
        call.headers[hdrs.LOCATION] = f"/api/sessions/{reply['session']['name']}"
        return answered(call, reply, HTTPStatus.CREATED)

    async def _read_session(self, call: Call) -> web.StreamResponse:
        call.query(call.operation.query)
        seen = await self._service.look(call.who, call.name)
        now = views.session_now(seen.snapshot, seen.epoch, seen.seq, self._clock.now())
        return answered(call, now)

    async def _delete(self, call: Call) -> web.StreamResponse:
        kept = call.query(DeleteQuery).keep == "history"
        return answered(call, await self._ask(call, {"name": call.name}, "stop" if kept else "delete"))

    # --- turns ----------------------------------------------------------------------------------

    async def _read_turn(self, call: Call) -> web.StreamResponse:
        query, who, name = call.query(WaitQuery), call.who, call.name
        turn_id = call.request.match_info["turn"]
        turn = await self._service.turn(who, name, turn_id)
        if query.wait and turn.status in _GOES_ON:
            with self._following(call) as end:
                await self._waited(call, end, turn_id, query.wait)
            turn = await self._service.turn(who, name, turn_id)
        return answered(call, views.turn_payload(turn, whole=True))

    async def _read_attachment(self, call: Call) -> web.StreamResponse:
        call.query(call.operation.query)
        asked, turn = call.request.match_info["number"], call.request.match_info["turn"]
        number = int(asked) if asked.isascii() and asked.isdecimal() and len(asked) < 10 else None
        return downloaded(call, *await self._service.file(call.who, call.name, turn, number))

    async def _submit(self, call: Call) -> web.StreamResponse:
        query = call.query(WaitQuery)
        payload = await call.payload(self._server)
        if call.wants_stream:
            if query.wait is not None:
                raise InvalidPayload("wait", "an event stream lasts until the turn ends")
            return await self._submit_stream(call, payload)
        with self._following(call) if query.wait else nullcontext() as end:
            reply = await self._ask(call, payload)
            turn = await self._submitted(call, payload, reply)
            if query.wait and end is not None and turn["status"] in _GOES_ON:
                await self._waited(call, end, turn["id"], query.wait)
                turn = await self._submitted(call, payload, reply)
        call.headers[hdrs.LOCATION] = f"/api/sessions/{call.name}/turns/{turn['id']}"
        waited_out = query.wait and turn["status"] not in _GOES_ON
        return answered(call, turn, HTTPStatus.OK if waited_out else HTTPStatus.ACCEPTED)

    async def _submitted(self, call: Call, payload: Mapping[str, Any], reply: Reply) -> Reply:
        """The turn that a reply is about. The prompt was accepted: what keeps the turn from being read (a
        token that may not, a turn that is not kept any more) must not look as if it were not."""
        said: Reply = {key: reply[key] for key in ("position", "duplicate") if key in reply}
        try:
            turn = await self._service.turn(call.who, call.name, reply["turn"])
        except BridgeError:
            return {**_outline(payload, reply, call.who), **said}
        return {**views.turn_payload(turn, whole=True), **said}

    @contextmanager
    def _following(self, call: Call) -> Iterator[TurnEnd]:
        """Before a prompt is submitted, so that no end is missed."""
        end = TurnEnd()
        end.of(self._service.follow(call.who, call.name, end))
        try:
            yield end
        finally:
            end.close()

    async def _waited(self, call: Call, end: TurnEnd, turn: str, seconds: float) -> None:
        """Until the turn has ended or the time is up. Raises `Unauthorized` where the token is taken back."""
        revoked = False

        def revoke() -> None:
            nonlocal revoked
            revoked = True
            end.stop()

        gone = self._service.connected(call.who, revoke, "rest")
        try:
            with self._open.held(end):
                await end.wait(turn, seconds, call.request.transport)
        finally:
            gone()
        if revoked:
            raise Unauthorized

    # --- pools ----------------------------------------------------------------------------------

    async def _ask_pool(self, call: Call) -> web.StreamResponse:
        query, name, pools = call.query(WaitQuery), call.name, self._service.pools
        command = requests.parse("pool", "ask", await call.payload(self._server))
        assert isinstance(command, AskPool)
        if call.wants_stream:
            if query.wait is not None:
                raise InvalidPayload("wait", "an event stream lasts until the question is answered")
            return await self._ask_pool_stream(call, command)
        with pools.feed(name) as feed:
            end = TurnEnd()
            end.of(feed.subscribe(end))
            asked = await pools.ask(call.who, name, command, feed)
            turn = await pools.turn(name, asked, command)
            if query.wait and turn.status in _GOES_ON:
                await self._waited(call, end, turn.id, query.wait)
                turn = await pools.turn(name, asked, command)
            end.close()
        said = views.turn_payload(turn, whole=True) | {"position": asked.position}
        said |= {"duplicate": True} if asked.duplicate else {}
        return answered(call, said, HTTPStatus.ACCEPTED if turn.status in _GOES_ON else HTTPStatus.OK)

    async def _ask_pool_stream(self, call: Call, command: AskPool) -> web.StreamResponse:
        stream = Stream(call.request, self._outbox_bytes, self._beat_s)
        source = TurnSource(stream.outbox)
        with self._service.pools.feed(call.name) as feed:
            source.of(feed.subscribe(source))
            try:
                asked = await self._service.pools.ask(call.who, call.name, command, feed)
                await stream.open(call.headers)
                stream.send(sse.unit("submitted", asked_reply(asked)))
                if asked.turn is not None:
                    stream.send(sse.unit("turn_finished", views.turn_finished(asked.turn)))
                    stream.stop()
                elif asked.question is not None:
                    source.only(asked.question.turn)
                    stream.follow((source,))
                await self._run(call, stream)
            finally:
                source.close()
        return stream.response

    # --- event streams --------------------------------------------------------------------------

    async def _events(self, call: Call) -> web.StreamResponse:
        query, name = call.query(EventsQuery), call.name
        after = cursor(call.request, query.after)
        if call.request.method == hdrs.METH_HEAD:
            await self._service.look(call.who, name)
            return web.Response(headers=call.headers, content_type=EVENT_STREAM)
        stream = Stream(call.request, self._outbox_bytes, self._beat_s)
        topics = Topics(self._service, call.who, self._clock, "sse")
        payload = {"turns": query.turns, "after": after}
        joined = await topics.join(Route("session", name), payload, stream.outbox)
        try:
            await stream.open(call.headers)
            reply = joined.reply
            # Who is told only what is missing keeps its cursor until that has come.
            at = after if reply["recovered"] and after is not None else reply
            stream.send(sse.unit("joined", reply, sse.cursor_text(at["epoch"], at["seq"])))
            stream.send(sse.unit("presence_state", joined.presence))
            joined.reply = reply = at = {}  # said; it may be megabytes
            joined.presence = None
            stream.follow(joined.sources)
            await self._run(call, stream)
        finally:
            joined.close()
        return stream.response

    async def _submit_stream(self, call: Call, payload: Mapping[str, Any]) -> web.StreamResponse:
        service, who, name = self._service, call.who, call.name
        stream = Stream(call.request, self._outbox_bytes, self._beat_s)
        source = TurnSource(stream.outbox)
        source.of(service.follow(who, name, source))
        try:
            reply = await self._ask(call, payload)
            turn: Turn | None = None
            if reply.get("duplicate"):
                turn = await service.turn(who, name, reply["turn"])
                source.of(service.follow(who, name, source))  # between the view and this nothing happens
                if turn.status in _GOES_ON:
                    reply = {**reply, "open_turn": views.turn_payload(turn)}
            await stream.open(call.headers)
            stream.send(sse.unit("submitted", reply))
            if turn is None or turn.status in _GOES_ON:
                source.only(reply["turn"])
                stream.follow((source,))
            else:
                stream.send(sse.unit("turn_finished", views.turn_finished(turn)))
                stream.stop()
            await self._run(call, stream)
        finally:
            source.close()
        return stream.response

    async def _run(self, call: Call, stream: Stream) -> None:
        gone = self._service.connected(call.who, stream.stop, "sse")
        log.debug("= stream opened", who=call.who.name)
        try:
            with self._open.held(stream):
                await stream.run()
        finally:
            gone()
            log.debug("x stream closed", who=call.who.name)

    # --- the description ------------------------------------------------------------------------

    async def _openapi(self, call: Call) -> web.StreamResponse:
        call.query(call.operation.query)
        return answered(call, openapi.document())

    async def _page(self, call: Call) -> web.StreamResponse:
        call.query(call.operation.query)
        link = "/api/openapi.json" + (f"?token={quote(call.token, safe='')}" if call.token else "")
        headers = {**call.headers, "Content-Security-Policy": PAGE_POLICY, "Referrer-Policy": "no-referrer"}
        return web.Response(text=openapi.page(link), content_type="text/html", headers=headers)


def _outline(payload: Mapping[str, Any], reply: Reply, who: Principal) -> Reply:
    """What is known of a turn without reading it."""
    outline: Reply = {
        "id": reply["turn"],
        "prompt": payload.get("prompt") or payload.get("command"),
        "author": None if reply.get("duplicate") else who.name,
        "source": "client",
        "status": reply["status"],
        "text": "",
        "blocks": [],
        "queued_at": None,
    }
    return outline if payload.get("id") is None else {**outline, "key": payload["id"]}
