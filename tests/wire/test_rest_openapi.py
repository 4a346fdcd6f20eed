"""The description and what is served are one: schemathesis asks what the document allows, and more."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from jsonschema import Draft202012Validator
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS

from bridge.events import Request, RequestId, Seq, Snapshot, ToolBlock, TurnError, TurnId
from bridge.transports.rest import Rest
from bridge.wire import openapi, views
from bridge.wire.operations import OPERATIONS, Operation, by_path
from tests.contract import examples
from tests.fakes.phoenix import PhoenixServer
from tests.fakes.rest import PATIENCE_S, RestClient
from tests.fakes.service import TOKEN

SPEC = Path(__file__).parents[2] / "spec"

CHECKED = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
]


@pytest.fixture
async def rest(server: PhoenixServer) -> AsyncIterator[RestClient]:
    async with RestClient(server.http).open() as client:
        yield client


async def test_the_description_is_served_as_it_is_published(rest: RestClient) -> None:
    """spec/openapi.json is what `make docs` wrote."""
    served = (await rest.get("/api/openapi.json")).body
    assert served == json.loads((SPEC / "openapi.json").read_text())
    assert served["openapi"] == "3.1.0"


async def test_every_operation_is_described_and_answered(server: PhoenixServer) -> None:
    """A row of the table without a handler would end in the assertion of another."""
    described = {
        (path, method.upper()) for path, methods in openapi.document()["paths"].items() for method in methods
    }
    assert described == {(o.path, o.method) for o in OPERATIONS}
    service = server.service.as_service()
    handled = Rest(service, server.config, server.hub_config, server.clock)._handlers
    assert {o.id for o in OPERATIONS if o.event is None} <= set(handled)


async def test_the_page_needs_nothing_but_itself(rest: RestClient, server: PhoenixServer) -> None:
    """No script and no other file, so that no other server hears of it; it leads to the JSON."""
    answer = await rest.get("/api/")
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    for word in ("<script", "src=", "http://", "https://", "url(", "@import", "<link"):
        assert word not in answer.text
    for operation in OPERATIONS:
        assert f"<code>{operation.method} {operation.path}</code>" in answer.text
    assert 'href="/api/openapi.json"' in answer.text
    rest.token = None
    by_browser = await rest.get("/api/", params={"token": TOKEN})
    link = by_browser.text.partition('href="')[2].partition('"')[0]
    assert (await rest.get(f"{server.http}{link}")).status == 200


def test_a_schema_of_every_object_fits_what_is_sent() -> None:
    """The views make the objects, the schemas are written beside them."""
    schemas = openapi.document()["components"]["schemas"]
    whole = {"$defs": {}, "components": {"schemas": schemas}}

    def check(name: str, payload: Any) -> None:
        schema = {**whole, "$ref": f"#/components/schemas/{name}"}
        Draft202012Validator(schema).validate(json.loads(json.dumps(payload)))
        known = set(schemas[name].get("properties", payload))
        assert set(payload) <= known, f"{name} does not name all of its keys"

    turn = examples.FINISHED
    tools = (ToolBlock(0, "t", "Bash", {}, None), ToolBlock(1, "t", "Bash", {}, "x", True, "parent"))
    full = replace(
        turn, blocks=(*turn.blocks, *tools), error=TurnError("x", "y", 529), reason="waits", key="k"
    )
    for each in (turn, full, replace(turn, author=None, usage=None, started_at=None)):
        check("Turn", views.turn_payload(each))
    request = Request(RequestId("r"), "permission", TurnId("t"), "Bash", {}, ({},), 1.0, "call")
    check("Request", views.request_payload(request))
    session = examples.SESSION
    check("Session", views.session_payload(session, 2.0))
    check("Session", views.session_payload(replace(session, reason="x", started_at=None), 2.0))
    snapshot = Snapshot(session, (), full, (turn,), (request,))
    check("SessionNow", views.session_now(snapshot, examples.EPOCH, Seq(4), 2.0))


# --- schemathesis -----------------------------------------------------------------------------------


class Served(PhoenixServer):
    """A server on a loop of its own: schemathesis' client blocks."""

    def __enter__(self) -> Served:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.run(self.start())
        self.run(self.prepare())
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def prepare(self) -> None:
        self.service.add("a")

    def run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_S)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with Served() as server:
        yield server


ASKED = [o for o in OPERATIONS if o.stream != "always"]
"""A stream does not end."""
WRONG = [o for o in ASKED if o.body is not None or "{" in o.path or o.query.model_fields]
"""Of the others there is nothing to get wrong."""


def ask(served: Served, operation: Operation, mode: GenerationMode, examples: int, **path: str) -> None:
    """So many requests, each judged by the document."""
    schema = schemathesis.openapi.from_dict(openapi.document())
    asked = schema[operation.path][operation.method]
    given_path = {name: value for name, value in path.items() if f"{{{name}}}" in operation.path}
    strategy = asked.as_strategy(generation_mode=mode, path_parameters=given_path or None)
    checks = [CHECKS.get_one(name) for name in CHECKED]
    headers = {"Authorization": f"Bearer {TOKEN}"}

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=examples < 100,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=strategy)
    def each(case: schemathesis.Case) -> None:
        case.call_and_validate(base_url=served.http, headers=headers, checks=checks, timeout=PATIENCE_S)

    each()


@pytest.mark.parametrize("operation", ASKED, ids=lambda o: o.id)
def test_what_the_description_allows_is_answered_as_it_says(served: Served, operation: Operation) -> None:
    """No 5xx, no status and no body that is not described."""
    ask(served, operation, GenerationMode.POSITIVE, 8, name="a")


@pytest.mark.parametrize("operation", WRONG, ids=lambda o: o.id)
def test_what_the_description_forbids_is_refused_as_it_says(served: Served, operation: Operation) -> None:
    """Names, parameters and bodies of every wrong kind."""
    ask(served, operation, GenerationMode.NEGATIVE, 8)


@pytest.mark.soak
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize("operation", WRONG, ids=lambda o: o.id)
def test_many_more_of_both(served: Served, operation: Operation, mode: GenerationMode) -> None:
    """A thousand of each, other ones every time."""
    ask(served, operation, mode, 1000)


def test_paths_and_methods_meet_once() -> None:
    """Two rows for one request would hide each other."""
    assert sum(len(methods) for methods in by_path().values()) == len(OPERATIONS)
