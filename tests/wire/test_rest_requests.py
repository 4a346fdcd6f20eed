"""What REST lets in, what it refuses, and how."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from bridge.commands import AnswerRequest, CancelTurn, ConfigureSession, InterruptTurn, RestartSession
from bridge.wire.operations import OPERATIONS
from tests.fakes.phoenix import PhoenixServer
from tests.fakes.rest import PATIENCE_S, RestClient
from tests.fakes.service import TOKEN, WATCH_TOKEN
from tests.wire.conftest import Serve

SESSION = "/api/sessions/a"
TURNS = f"{SESSION}/turns"


@pytest.fixture
async def rest(server: PhoenixServer) -> AsyncIterator[RestClient]:
    async with RestClient(server.http).open() as client:
        yield client


def a_path(path: str) -> str:
    return path.replace("{name}", "a").replace("{turn}", "t").replace("{id}", "r")


# --- who ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda o: o.id)
async def test_nothing_is_answered_without_a_token(rest: RestClient, operation: Any) -> None:
    """Neither what there is, nor what a wrong request is wrong about."""
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}):
        rest.token = None
        answer = await rest.ask(operation.method, a_path(operation.path), headers=headers)
        assert (answer.status, answer.reason) == (401, "unauthorized")
        assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_a_path_that_is_not_there_is_not_told_to_strangers(rest: RestClient) -> None:
    """401 before 404 and 405."""
    rest.token = None
    assert (await rest.get("/api/nothing")).status == 401
    assert (await rest.ask("PUT", "/api/sessions")).status == 401


async def test_a_token_in_the_query_counts_only_where_a_browser_has_no_other_way(rest: RestClient) -> None:
    """Event streams and the description; elsewhere it would end up in logs for nothing."""
    rest.token = None
    query = {"token": TOKEN}
    assert (await rest.get("/api/openapi.json", params=query)).status == 200
    assert (await rest.ask("HEAD", f"{SESSION}/events", params=query)).status == 200
    for path in ("/api/sessions", SESSION, TURNS):
        assert (await rest.get(path, params=query)).status == 401
    assert (await rest.post(TURNS, {"prompt": "x"}, params=query)).status == 401


async def test_a_missing_scope_is_named(rest: RestClient, server: PhoenixServer) -> None:
    """As on the channels; nothing was done."""
    rest.token = WATCH_TOKEN
    answer = await rest.post(TURNS, {"prompt": "x"})
    assert (answer.status, answer.reason, answer.body["scope"]) == (403, "forbidden", "prompt")
    assert (await rest.get(TURNS)).body == {"turns": []}


async def test_a_page_of_another_origin_is_refused_before_anything_happens(serve: Serve) -> None:
    """Even with a token that is good, and a preflight without one."""
    server = await serve(origins=["https://app.example"])
    async with RestClient(server.http).open() as rest:
        for method in ("GET", "POST", "OPTIONS"):
            refused = await rest.ask(method, TURNS, headers={"Origin": "https://evil.example"})
            assert (refused.status, refused.reason) == (403, "origin_refused")
            assert "Access-Control-Allow-Origin" not in refused.headers
        assert server.service.calls == []
        assert server.service.authenticated == 0
        allowed = await rest.get(TURNS, headers={"Origin": "https://app.example"})
        assert allowed.status == 200
        assert allowed.headers["Access-Control-Allow-Origin"] == "https://app.example"
        assert allowed.headers["Vary"] == "Origin"
        missing = await rest.get("/api/x", headers={"Origin": "https://app.example"})
        assert missing.headers["Access-Control-Allow-Origin"] == "https://app.example", "a page may read why"


async def test_a_preflight_is_answered_without_a_token(serve: Serve) -> None:
    """A browser sends none; it is told what it may send then."""
    server = await serve(origins=["https://app.example"])
    async with RestClient(server.http, None).open() as rest:
        answer = await rest.ask("OPTIONS", TURNS, headers={"Origin": "https://app.example"})
    assert (answer.status, answer.text) == (204, "")
    assert answer.headers["Allow"] == "POST, GET, HEAD, OPTIONS"
    assert answer.headers["Access-Control-Allow-Methods"] == answer.headers["Allow"]
    assert {"authorization", "content-type", "last-event-id"} <= {
        each.strip().lower() for each in answer.headers["Access-Control-Allow-Headers"].split(",")
    }


# --- where ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/api/nothing", "/api/sessions/", "/api/sessions/a/b", "/api/pools/default"]
)
async def test_a_path_that_is_not_there_is_an_error_like_any_other(rest: RestClient, path: str) -> None:
    """With a code, and not a page of the server's."""
    answer = await rest.get(path)
    assert (answer.status, answer.reason) == (404, "not_found")


async def test_a_method_that_a_path_does_not_take_is_answered_with_those_it_does(rest: RestClient) -> None:
    """In the header that HTTP has for it, and in the body."""
    answer = await rest.ask("PUT", SESSION)
    assert (answer.status, answer.reason) == (405, "method_not_allowed")
    assert answer.headers["Allow"] == "GET, DELETE, HEAD, OPTIONS"
    assert answer.body["allow"] == ["GET", "DELETE", "HEAD", "OPTIONS"]


async def test_head_is_get_without_the_body(rest: RestClient) -> None:
    """Also of an event stream, which would not end."""
    get = await rest.get("/api/sessions")
    head = await rest.ask("HEAD", "/api/sessions")
    assert (head.status, head.text) == (200, "")
    assert head.headers["Content-Length"] == get.headers["Content-Length"]
    stream = await asyncio.wait_for(rest.ask("HEAD", f"{SESSION}/events"), PATIENCE_S)
    assert stream.headers["Content-Type"] == "text/event-stream"
    assert (await rest.ask("HEAD", "/api/sessions/none/events")).status == 404


@pytest.mark.parametrize("name", [".hidden", "-x", "a%20b", "x" * 65, "%C3%A9"])
async def test_a_name_that_is_none_is_refused_on_every_path(rest: RestClient, name: str) -> None:
    """Before it is looked for."""
    for method, path in (
        ("GET", ""),
        ("DELETE", ""),
        ("GET", "/turns"),
        ("POST", "/stop"),
        ("GET", "/events"),
    ):
        answer = await rest.ask(method, f"/api/sessions/{name}{path}")
        assert (answer.status, answer.reason) == (422, "invalid_name")


async def test_no_answer_is_kept_by_anybody(rest: RestClient) -> None:
    """Neither the good nor the bad ones."""
    for path in ("/api/sessions", "/api/nothing", "/api/openapi.json", "/api/"):
        answer = await rest.get(path)
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


# --- what -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "field", "said"),
    [
        ({}, "prompt", "is required"),
        ({"prompt": 7}, "prompt", "must be a string"),
        ({"promt": "x"}, "promt", "did you mean 'prompt'"),
        ({"prompt": "x", "mode": "now"}, "mode", "must be one of"),
        ({"prompt": "x", "attachments": [{"name": "a"}]}, "attachments.0.media_type", "is required"),
    ],
)
async def test_a_wrong_body_is_refused_as_on_the_channels(
    rest: RestClient, body: Any, field: str, said: str
) -> None:
    """The same code, field and sentence."""
    answer = await rest.post(TURNS, body)
    assert (answer.status, answer.reason, answer.body["field"]) == (422, "invalid_payload", field)
    assert said in answer.body["message"]


@pytest.mark.parametrize(
    "body", ["", "{", '{"prompt": "x"} more', "[]", '"x"', "NaN", '{"prompt": "\\ud800"}']
)
async def test_a_body_that_is_no_object_is_refused(rest: RestClient, body: str) -> None:
    """Nothing at all is an empty object, which has no prompt."""
    answer = await rest.ask("POST", TURNS, data=body, headers={"Content-Type": "application/json"})
    assert (answer.status, answer.reason) == (422, "invalid_payload")


async def test_an_empty_prompt_has_its_own_code(rest: RestClient) -> None:
    """As on the channels."""
    answer = await rest.post(TURNS, {"prompt": " \n"})
    assert (answer.status, answer.reason) == (422, "prompt_empty")


async def test_a_body_of_another_kind_is_refused(rest: RestClient) -> None:
    """curl's `-d` alone sends a form."""
    for headers in (
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
    ):
        answer = await rest.ask("POST", TURNS, data='{"prompt": "x"}', headers=headers)
        assert (answer.status, answer.reason) == (415, "unsupported_media_type")
    kind = {"Content-Type": "application/vnd.claude+json; charset=utf-8"}
    assert (await rest.ask("POST", TURNS, data='{"prompt": "x"}', headers=kind)).status == 202


async def test_a_body_beyond_the_limit_is_refused_unread(serve: Serve) -> None:
    """Whether it says its size before or comes in pieces; one that just fits is read."""
    server = await serve(max_body_bytes=1000)
    async with RestClient(server.http).open() as rest:
        fits = '{"prompt": "%s"}' % ("x" * 986)
        json = {"Content-Type": "application/json"}
        assert (await rest.ask("POST", TURNS, data=fits, headers=json)).status == 202

        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(4):
                yield b" " * 400

        for data in (fits + " ", pieces()):
            answer = await rest.ask("POST", TURNS, data=data, headers=json)
            assert (answer.status, answer.reason, answer.body["limit"]) == (413, "payload_too_large", 1000)


@pytest.mark.parametrize("authorization", [f"Authorization: Bearer {TOKEN}", "X: y"])
async def test_a_body_that_is_not_framed_as_http_has_it_is_no_defect_of_ours(
    server: PhoenixServer, caplog: pytest.LogCaptureFixture, authorization: str
) -> None:
    """Whether we read it or refuse the request before: an answer, and nothing in the log."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    head = f"POST {TURNS} HTTP/1.1\r\nHost: localhost\r\n{authorization}\r\n"
    head += "Transfer-Encoding: chunked\r\n\r\n5\r\n"
    writer.write(head.encode())
    await asyncio.sleep(0)
    writer.write(b"{}   \r\nnot a size\r\n")
    said = await asyncio.wait_for(reader.read(), PATIENCE_S)
    assert said.startswith((b"HTTP/1.1 422 ", b"HTTP/1.1 401 ", b"HTTP/1.0 400 ", b"HTTP/1.1 400 "))
    writer.close()
    assert caplog.text == ""


async def test_a_body_that_never_comes_is_not_waited_for(serve: Serve) -> None:
    """`idle_timeout_s`, as for a socket that says nothing."""
    server = await serve(idle_timeout_s=0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    head = f"POST {TURNS} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
    head += "Content-Length: 9\r\n\r\n{"
    writer.write(head.encode())
    line = await asyncio.wait_for(reader.readline(), PATIENCE_S)
    assert b" 422 " in line
    writer.close()


@pytest.mark.parametrize(
    ("method", "path", "field"),
    [
        ("GET", f"{TURNS}?limit=x", "limit"),
        ("GET", f"{TURNS}?limit=0", "limit"),
        ("GET", f"{TURNS}?limti=1", "limti"),
        ("GET", f"{TURNS}?limit[]=1", "limit"),
        ("GET", f"{TURNS}/t?wait=soon", "wait"),
        ("GET", f"{TURNS}/t?wait=-1", "wait"),
        ("GET", f"{TURNS}/t?wait=1e9", "wait"),
        ("GET", f"{TURNS}/t?wait=99999", "wait"),
        ("GET", f"{SESSION}?x=1", "x"),
        ("GET", f"{SESSION}/events?after=7", "after"),
        ("GET", f"{SESSION}/events?turns=1001", "turns"),
        ("DELETE", f"{SESSION}?keep=all", "keep"),
        ("POST", f"{SESSION}/stop?x=1", "x"),
        ("GET", "/api/sessions?x=1", "x"),
        ("GET", "/api/openapi.json?x=1", "x"),
        ("GET", "/api/sessions?x=%FF", ""),
    ],
)
async def test_a_wrong_parameter_is_refused(rest: RestClient, method: str, path: str, field: str) -> None:
    """By its name; one that nobody knows as well."""
    answer = await rest.ask(method, path)
    assert (answer.status, answer.reason, answer.body["field"]) == (422, "invalid_payload", field)


async def test_what_the_path_says_cannot_be_said_twice(rest: RestClient) -> None:
    """The two could differ."""
    answer = await rest.post(f"{SESSION}/requests/r1", {"request": "r2", "decision": "allow"})
    assert (answer.status, answer.body["field"]) == (422, "request")


async def test_a_defect_is_one_log_line_and_an_internal_error(rest: RestClient) -> None:
    """Nothing of it is told."""
    with capture_logs() as logs:
        answer = await rest.post(TURNS, {"prompt": "crash"})
    assert (answer.status, answer.reason) == (500, "internal")
    assert "a bug" not in answer.text
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["request crashed"]
    assert (await rest.get("/api/sessions")).status == 200


async def test_no_token_and_no_prompt_is_logged(rest: RestClient) -> None:
    """At any level, whatever is asked."""
    with capture_logs() as logs:
        await rest.post(TURNS, {"prompt": "my-prompt"})
        await rest.post(TURNS, {"prompt": "crash"})
        await rest.ask("HEAD", f"{SESSION}/events?token={TOKEN}")
        await rest.get(f"{SESSION}?token={TOKEN}")
    assert TOKEN not in repr(logs)
    assert "my-prompt" not in repr(logs)


# --- sessions, and what is asked of one -----------------------------------------------------------


async def test_a_session_is_started_read_stopped_and_deleted(rest: RestClient, server: PhoenixServer) -> None:
    """The replies are those of the lobby."""
    made = await rest.post("/api/sessions", {"name": "new"})
    assert (made.status, made.headers["Location"]) == (201, "/api/sessions/new")
    assert set(made.body) == {"session"}
    again = await rest.post("/api/sessions", {"name": "new"})
    assert (again.status, again.body["existing"]) == (200, True)
    assert [s["name"] for s in (await rest.get("/api/sessions")).body["sessions"]] == ["a", "b", "new"]
    now = await rest.get("/api/sessions/new")
    assert set(now.body) == {"session", "epoch", "seq", "open_turn", "queue", "requests"}
    stopped = await rest.delete("/api/sessions/new?keep=history")
    assert (stopped.status, set(stopped.body)) == (200, {"session"})
    assert "new" in server.service.sessions
    gone = await rest.delete("/api/sessions/new")
    assert (gone.status, gone.body) == (200, {})
    assert "new" not in server.service.sessions
    assert (await rest.delete("/api/sessions/new")).reason == "session_not_found"


@pytest.mark.parametrize(
    ("method", "path", "body", "command"),
    [
        ("POST", f"{SESSION}/interrupt", None, InterruptTurn()),
        ("POST", f"{SESSION}/restart", {}, RestartSession()),
        ("POST", f"{SESSION}/configure", {"model": "m"}, ConfigureSession(model="m")),
        ("DELETE", f"{TURNS}/t7", None, CancelTurn(turn="t7")),
        (
            "POST",
            f"{SESSION}/requests/r1",
            {"decision": "deny", "message": "no"},
            AnswerRequest(request="r1", decision="deny", message="no"),
        ),
    ],
)
async def test_each_event_of_a_session_has_its_path(
    rest: RestClient, server: PhoenixServer, method: str, path: str, body: Any, command: Any
) -> None:
    """The service gets the command that a channel would give it."""
    answer = await rest.ask(method, path, body)
    assert answer.status == 200
    assert server.service.calls == [("a", command)]
