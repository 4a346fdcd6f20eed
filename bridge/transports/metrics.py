"""`/metrics`: a few figures in the text format of Prometheus, for who may watch. A token for some sessions
counts only those."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, get_args

from aiohttp import hdrs, web

from bridge.errors import BridgeError
from bridge.events import SessionState
from bridge.service import Figures, Service
from bridge.transports import access, handshake
from bridge.transports.rest_http import refused

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Sample = tuple[str, float]
"""Labels as they stand in the line, and the value."""


def handler(service: Service) -> Callable[[web.Request], Coroutine[Any, Any, web.Response]]:
    """Answers `GET /metrics` with `Authorization: Bearer`."""

    async def metrics(request: web.Request) -> web.Response:
        try:
            who = service.authenticate(handshake.bearer_of(request), handshake.peer_of(request))
            access.belongs_to(request, who)
            text = "".join(_lines(service.figures(who)))
        except BridgeError as e:
            return refused(e, {hdrs.CACHE_CONTROL: "no-store"})
        headers = {hdrs.CONTENT_TYPE: CONTENT_TYPE, hdrs.CACHE_CONTROL: "no-store"}
        return web.Response(body=text.encode(), headers=headers)

    return metrics


def _lines(figures: Figures) -> Iterable[str]:
    states = {state: figures.sessions.get(state, 0) for state in get_args(SessionState)}
    yield _family("connections", "gauge", "Open connections.", _by("transport", figures.connections))
    yield _family("sessions", "gauge", "Sessions, by their state.", _by("state", states))
    yield _family("turns", "gauge", "Turns of the sessions there are.", [("", figures.turns)])
    published = [("", figures.published)]
    yield _family("events_published_total", "counter", "Events, each counted once.", published)
    limited = _by("what", figures.rate_limited)
    yield _family("rate_limited_total", "counter", "What was refused for being too much.", limited)
    spent = [("", figures.spent_usd)]
    yield _family("spent_today_usd", "gauge", "What the turns have cost that finished today, UTC.", spent)
    tokens = [("", figures.spent_tokens)]
    yield _family("spent_today_tokens", "gauge", "And their tokens, of every kind.", tokens)
    refused = [("", figures.unauthorized)]
    yield _family("unauthorized_total", "counter", "Tokens that were not valid.", refused)
    if spares := figures.spares:
        yield from _spares(spares)


def _spares(said: Mapping[str, float]) -> Iterable[str]:
    states = _by("state", {state: said[state] for state in ("ready", "starting")})
    yield _family("spares", "gauge", "Processes kept for new sessions.", states)
    yield _family("spares_memory_bytes", "gauge", "What they keep resident.", [("", said["memory_bytes"])])
    yield _family("spares_taken_total", "counter", "New sessions that got one.", [("", said["taken"])])
    missed = [("", said["missed"])]
    yield _family("spares_missed_total", "counter", "New sessions for which there was none.", missed)
    claims = [("_sum", said["claims_s"]), ("_count", said["taken"])]
    yield _family("spares_claim_seconds", "summary", "From asking for one to having it.", claims)


def _by(label: str, counts: Mapping[str, float]) -> list[Sample]:
    """Labels are words of ours: there is nothing in them to escape."""
    return [(f'{{{label}="{value}"}}', count) for value, count in sorted(counts.items())]


def _family(name: str, kind: str, about: str, samples: Iterable[Sample]) -> str:
    full = f"claude_bridge_{name}"
    lines = [f"# HELP {full} {about}", f"# TYPE {full} {kind}"]
    lines += [f"{full}{labels} {value}" for labels, value in samples]
    return "\n".join(lines) + "\n"
