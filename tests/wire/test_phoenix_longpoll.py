"""What is of long poll alone: section 13 of Phoenix's behaviours, and A14, A20 and M03, by their ids.

That channels behave over it as over a WebSocket is tested where they are: those tests run over both.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest

from bridge.errors import WireError
from bridge.transports import phoenix_longpoll
from bridge.transports.handshake import query_tokens
from bridge.wire.phoenix import V2
from bridge.wire.phoenix_poll import answer, frames, unit
from tests.fakes.phoenix import PATIENCE_S, LongPollClient, PhoenixServer
from tests.fakes.service import TOKEN, WATCH_TOKEN
from tests.wire.conftest import Serve
from tests.wire.test_phoenix_join import A, error, ok, word

HEARTBEAT = '[null,"9","phoenix","heartbeat",{}]'
HEARTBEAT_REPLY = '[null,"9","phoenix","phx_reply",{"status":"ok","response":{}}]'
GONE = {"status": 410}
FORBIDDEN = {"status": 403}
TEXT = {"Content-Type": "application/json"}


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as http:
        yield http


@pytest.fixture
async def poll(server: PhoenixServer, http: aiohttp.ClientSession) -> LongPollClient:
    """A session that polls only when told to."""
    client = LongPollClient(http, server.poll_address())
    await client.open()
    return client


def frame(*parts: Any) -> str:
    return json.dumps(list(parts))


async def until(so: Callable[[], bool]) -> None:
    """For what shows in no answer: what the server has come to know."""
    async with asyncio.timeout(PATIENCE_S):
        while not so():  # noqa: ASYNC110 - nothing tells it
            await asyncio.sleep(0.001)


def session_of(server: PhoenixServer, client: LongPollClient) -> Any:
    return server.polls._sessions[client.token or ""]


async def until_hanging(server: PhoenixServer, client: LongPollClient) -> None:
    """Until the session's poll has come to the server."""
    session = session_of(server, client)
    await until(lambda: session._poll is not None)


# --- a session begins ------------------------------------------------------------------------------


async def test_A01_N01_N02_a_session_begins_with_410_and_a_token(
    server: PhoenixServer, http: aiohttp.ClientSession
) -> None:
    """HTTP itself always says 200; with and without the trailing slash, and with the bare & of the client."""
    for path in ("/socket/longpoll", "/socket/longpoll/"):
        async with http.get(f"{server.http}{path}?vsn=2.0.0&token={TOKEN}&") as said:
            assert said.status == 200
            assert said.headers["content-type"] == "application/json; charset=utf-8"
            assert said.headers["cache-control"] == "no-store"
            assert said.headers["access-control-allow-origin"] == "*"
            body = await said.json()
            assert body.pop("token").startswith("lp.")
            assert body == {"status": 410, "messages": []}
    async with http.get(f"{server.http}/socket/longpoll/more") as said:
        assert said.status == 404


@pytest.mark.parametrize("params", [{"token": "wrong"}, {"token": ""}, {"vsn": "9.0.0"}, {"vsn": "abc"}])
async def test_B03_N13_who_may_not_begin_is_told_403_without_a_token(
    server: PhoenixServer, http: aiohttp.ClientSession, params: dict[str, str]
) -> None:
    """phoenix.js reports it as 1008 and tries again."""
    assert await LongPollClient(http, server.poll_address(**params)).get() == FORBIDDEN


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
async def test_A14_N13_a_foreign_origin_is_403_in_the_body(
    serve: Serve, http: aiohttp.ClientSession, method: str
) -> None:
    """Whatever the method; the bridge's own pages and listed ones pass."""
    server = await serve(origins=["https://front.example"])

    async def tried(origin: str) -> bytes:
        async with http.request(method, server.poll_address(), headers={"Origin": origin}) as said:
            assert said.status == 200
            return await said.read()

    assert await tried("http://elsewhere.example") == b'{"status":403}'
    assert await tried("null") == b'{"status":403}'
    assert await tried("https://front.example") != b'{"status":403}'
    assert await tried(f"http://localhost:{server.port}") != b'{"status":403}'


async def test_A20_the_token_of_a_header_counts_when_a_session_begins(
    server: PhoenixServer, http: aiohttp.ClientSession
) -> None:
    """As it is, not in base64; what is sent needs none."""
    url = f"{server.http}/socket/longpoll?vsn=2.0.0"
    begun = await LongPollClient(http, url).get(**{"X-Phoenix-AuthToken": TOKEN})
    assert begun["status"] == 410
    client = LongPollClient(http, url)
    client.token = begun["token"]
    assert await client.post(HEARTBEAT) == {"status": 200}
    assert (await client.get())["messages"] == [HEARTBEAT_REPLY]
    assert await LongPollClient(http, url).get(**{"X-Phoenix-AuthToken": "wrong"}) == FORBIDDEN


def test_the_credential_and_the_poll_token_are_told_apart() -> None:
    """Both are called `token`: of each the last counts, whatever the order."""
    assert query_tokens("token=a&token=lp.1&token=b&token=lp.2&vsn=2.0.0") == ("b", "lp.2")
    assert query_tokens("token=lp.%2B%26x&tok=b") == (None, "lp.+&x")
    assert query_tokens("token[]=a&token[b]=lp.1&token=") == ("", None)


async def test_a_query_that_is_not_utf_8_is_400(server: PhoenixServer, http: aiohttp.ClientSession) -> None:
    """As on a WebSocket."""
    async with http.get(f"{server.http}/socket/longpoll?bad=%ff") as said:
        assert said.status == 400


# --- polls -----------------------------------------------------------------------------------------


async def test_N03_the_token_is_taken_from_the_header_first(
    server: PhoenixServer, poll: LongPollClient
) -> None:
    """Even where that one is of no session: then another begins."""
    token = poll.token or ""
    await poll.post(HEARTBEAT)
    by_header = LongPollClient(poll.http, poll.url)
    assert await by_header.get(**{"X-Phoenix-Longpoll-Token": token}) == {
        "status": 200,
        "token": token,
        "messages": [HEARTBEAT_REPLY],
    }
    other = await poll.get(**{"X-Phoenix-Longpoll-Token": "lp.nobody"})
    assert other["status"] == 410
    assert other["token"] != token


async def test_N04_N05_what_waits_is_told_at_once_in_order_and_once(
    serve: Serve, http: aiohttp.ClientSession
) -> None:
    """Each message is a string with a whole frame; with nothing to tell it is 204, after the window."""
    server = await serve(longpoll_window_s=0.2)
    client = LongPollClient(http, server.poll_address())
    await client.open()
    assert await client.get() == {"status": 204, "token": client.token, "messages": []}
    await client.post(frame("1", "1", A, "phx_join", {}) + "\n" + HEARTBEAT)
    told = await client.get()
    assert (told["status"], told["token"]) == (200, client.token)
    assert all(isinstance(message, str) for message in told["messages"])
    said = [json.loads(message) for message in told["messages"]]
    assert [message[:4] for message in said[:3]] == [
        ["1", "1", A, "phx_reply"],
        ["1", None, A, "presence_state"],
        [None, "9", "phoenix", "phx_reply"],
    ]
    gathered = said[3:] or [json.loads(message) for message in (await client.get())["messages"]]
    assert [message[:4] for message in gathered] == [[None, None, A, "presence_diff"]]
    assert (await client.get())["status"] == 204


async def poll_for(poll: LongPollClient, begin: str) -> str:
    """The message that begins so, wherever it stands among those that come with it."""
    while True:
        told = await poll.get()
        assert told["messages"], f"nothing came that begins with {begin}"
        if found := [message for message in told["messages"] if message.startswith(begin)]:
            return str(found[0])


async def test_N05_an_event_is_the_same_text_as_on_a_websocket(
    server: PhoenixServer, poll: LongPollClient
) -> None:
    """Quotes, line ends and other letters come through the string in the string."""
    await poll.post(frame("1", "1", A, "phx_join", {}))
    async with server.client() as other:
        await other.join(A)
        server.service.publish("a", word('"\\\n\u2028é\U0001f600\ud800'))
        expected = await other.hear_text()
    assert await poll_for(poll, '[null,null,"session:a","delta"') == expected


async def test_N06_a_hanging_poll_is_woken_by_what_comes(server: PhoenixServer, poll: LongPollClient) -> None:
    """Also by an event, long before its window is over."""
    await poll.post(frame("1", "1", "sessions", "phx_join", {}))
    await poll.get()
    hanging = asyncio.create_task(poll.get())
    await until_hanging(server, poll)
    await poll.post(frame("1", "2", "sessions", "list", {}))
    assert json.loads((await hanging)["messages"][0])[:2] == ["1", "2"]


async def test_N06_a_second_poll_takes_over_from_the_first(serve: Serve, http: aiohttp.ClientSession) -> None:
    """Which ends empty, at its window."""
    server = await serve(longpoll_window_s=0.5)
    client = LongPollClient(http, server.poll_address())
    await client.open()
    first = asyncio.create_task(client.get())
    await until_hanging(server, client)
    session = session_of(server, client)
    waiting = session._poll
    second = asyncio.create_task(client.get())
    await until(lambda: session._poll is not waiting)
    await client.post(HEARTBEAT)
    assert (await second)["messages"] == [HEARTBEAT_REPLY]
    assert await first == {"status": 204, "token": client.token, "messages": []}


async def test_what_a_vanished_poll_would_have_been_told_is_kept_for_the_next(
    server: PhoenixServer, poll: LongPollClient
) -> None:
    """A connection that broke takes nothing with it."""
    async with aiohttp.ClientSession() as broken:
        lost = LongPollClient(broken, poll.url)
        lost.token = poll.token
        hanging = asyncio.create_task(lost.get())
        await until_hanging(server, poll)
        hanging.cancel()
        await asyncio.wait({hanging})
    await until(lambda: len(server.unwritten()) <= 1)
    await poll.post(HEARTBEAT)
    assert (await poll.get())["messages"] == [HEARTBEAT_REPLY]


# --- what is sent ----------------------------------------------------------------------------------


async def test_N07_lines_are_frames_text_or_base64(poll: LongPollClient) -> None:
    """Either line end; a line that is no array is a binary push. The answer has no token."""
    binary = bytes([0, 0, 1, 7, 9]) + b"8" + b"phoenix" + b"heartbeat"
    batch = "\r\n".join([HEARTBEAT, base64.b64encode(binary).decode()]) + "\n" + HEARTBEAT
    assert await poll.post(batch) == {"status": 200}
    heard = [json.loads(message)[1] for message in (await poll.get())["messages"]]
    assert heard == ["9", "8", "9"]


async def test_N08_a_body_of_another_type_is_one_frame(
    server: PhoenixServer, http: aiohttp.ClientSession
) -> None:
    """So it is that V1 clients send theirs, white space and all."""
    client = LongPollClient(http, server.poll_address(vsn="1.0.0"))
    await client.open()
    beat = {"topic": "phoenix", "event": "heartbeat", "payload": {}, "ref": "1"}
    assert await client.post(json.dumps(beat, indent=1), TEXT) == {"status": 200}
    message = json.loads((await client.get())["messages"][0])
    assert message == {
        "topic": "phoenix",
        "event": "phx_reply",
        "payload": {"status": "ok", "response": {}},
        "ref": "1",
    }


async def test_L02_N08_a_v1_client_hears_events_in_its_own_form(
    server: PhoenixServer, http: aiohttp.ClientSession
) -> None:
    """Encoded once for all of them."""
    client = LongPollClient(http, server.poll_address(vsn="1.0.0"))
    await client.open()
    await client.post(json.dumps({"topic": A, "event": "phx_join", "payload": {}, "ref": "1"}), TEXT)
    await client.get()
    server.service.publish("a", word("x"))
    heard: list[Any] = []
    while not heard or heard[-1]["event"] != "delta":
        heard += map(json.loads, (await client.get())["messages"])
    assert set(heard[-1]) == {"topic", "event", "payload", "ref"}
    assert heard[-1]["ref"] is None


async def test_N09_a_batch_is_answered_when_it_was_handled_or_408_after_the_window(
    serve: Serve, http: aiohttp.ClientSession
) -> None:
    """A slow join goes on, and is answered by a poll; what stood behind it is not done."""
    server = await serve(longpoll_window_s=0.2)
    client = LongPollClient(http, server.poll_address())
    await client.open()
    join = frame("1", "1", "session:slow", "phx_join", {"start": {}})
    assert await client.post(join + "\n" + HEARTBEAT) == {"status": 408}
    server.service.gate.set()
    assert json.loads((await client.get())["messages"][0])[:4] == ["1", "1", "session:slow", "phx_reply"]
    assert await client.post(HEARTBEAT.replace("9", "10")) == {"status": 200}
    heard: list[str] = []
    while not heard or '"10"' not in heard[-1]:
        heard += (await client.get())["messages"]
    assert HEARTBEAT_REPLY not in heard


async def test_N09_an_error_reply_is_told_by_a_poll(poll: LongPollClient) -> None:
    """What was sent has the status 200 all the same."""
    assert await poll.post(frame("1", "1", "room:x", "phx_join", {})) == {"status": 200}
    message = json.loads((await poll.get())["messages"][0])
    assert message == error(None, "1", "room:x", {"reason": "unmatched topic"})


async def test_N10_of_a_body_a_hundred_lines_are_taken(poll: LongPollClient) -> None:
    """The rest is dropped without a word; the client sends no more than that."""
    lines = [frame(None, n, "phoenix", "heartbeat", {}) for n in range(101)]
    assert await poll.post("\n".join(lines)) == {"status": 200}
    heard: list[Any] = []
    while len(heard) < 100:
        heard += map(json.loads, (await poll.get())["messages"])
    assert [message[1] for message in heard] == list(range(100))
    assert await poll.post(HEARTBEAT) == {"status": 200}
    assert (await poll.get())["messages"] == [HEARTBEAT_REPLY]


@pytest.mark.parametrize("token", ["lp.nobody", "nonsense", ""])
async def test_N11_who_polls_with_an_unknown_token_begins_anew(
    server: PhoenixServer, http: aiohttp.ClientSession, token: str
) -> None:
    """What is sent with it is 410 without a token; the poll has another token, and the client joins again."""
    client = LongPollClient(http, server.poll_address())
    client.token = token
    assert await client.post(HEARTBEAT) == GONE
    if token.startswith("lp."):
        begun = await client.get()
        assert begun["status"] == 410
        assert begun["token"] not in ("", token)
    else:
        assert await client.get() == FORBIDDEN  # it counts as the credential


async def test_N16_bodies_that_cannot_be_taken(poll: LongPollClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too long, or a line that is neither an array nor base64: HTTP 400, and the session stays."""
    address = poll._address()
    monkeypatch.setattr(phoenix_longpoll, "MAX_BODY", 800_000)
    ndjson = {"Content-Type": "application/x-ndjson"}
    long = frame(None, "9" * 800_000, "phoenix", "heartbeat", {})
    for body in (long, " " + HEARTBEAT, "%%%", b"\xff", '{"topic":"x"}'):
        async with poll.http.post(address, data=body, headers=ndjson) as said:
            assert (said.status, await said.read()) == (400, b"")
    monkeypatch.setattr(phoenix_longpoll, "MAX_BODY", 8_000_000)
    assert await poll.post(long) == {"status": 200}
    assert len((await poll.get())["messages"][0]) > 800_000


async def test_K01_N16_what_was_said_before_a_malformed_frame_is_still_told(
    server: PhoenixServer, poll: LongPollClient
) -> None:
    """To the poll that hangs."""
    hanging = asyncio.create_task(poll.get())
    await until_hanging(server, poll)
    assert await poll.post(HEARTBEAT + "\n[") == GONE
    assert (await hanging)["messages"] == [HEARTBEAT_REPLY]


@pytest.mark.parametrize(
    "body", ["[1,2", HEARTBEAT + "\n", "[1,2,3]", base64.b64encode(b"\x01\x02").decode()]
)
async def test_N16_a_malformed_frame_ends_the_session(
    server: PhoenixServer, poll: LongPollClient, body: str
) -> None:
    """An empty line as well. Phoenix takes a window to find out; its answer from then on is this."""
    await poll.post(frame("1", "1", A, "phx_join", {}))
    assert await poll.post(body) == GONE
    assert await poll.post(HEARTBEAT) == GONE
    assert (await poll.get())["status"] == 410
    await until(lambda: not server.hub.topic(A).viewers)


async def test_K01_a_bug_while_a_frame_is_handled_ends_the_session(
    server: PhoenixServer, poll: LongPollClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its client begins another; the one beside it goes on."""

    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    async with server.client() as other:
        with monkeypatch.context() as patched:
            patched.setattr(V2, "decode", broken)
            assert await poll.post(HEARTBEAT) == GONE
        await other.silence()


# --- the end of a session --------------------------------------------------------------------------


async def test_K09_N12_without_a_poll_for_one_and_a_half_windows_a_session_ends(
    serve: Serve, http: aiohttp.ClientSession
) -> None:
    """What is sent does not keep it; a poll that hangs does."""
    server = await serve(longpoll_window_s=0.4)
    silent, there = (LongPollClient(http, server.poll_address()) for _ in range(2))
    await silent.open()
    await there.open()
    await silent.post(frame("1", "1", A, "phx_join", {}))
    while (await silent.post(HEARTBEAT))["status"] == 200:
        assert (await there.get())["status"] == 204
    assert await silent.post(HEARTBEAT) == GONE
    assert await there.post(HEARTBEAT) == {"status": 200}
    await until(lambda: not server.hub.topic(A).viewers)


async def test_a_session_that_ends_in_the_middle_of_a_join_leaves_nothing_behind(
    server: PhoenixServer, poll: LongPollClient
) -> None:
    """Its other topics are left at once, what it joins too late then; what waited is not done."""
    await poll.post(frame("1", "1", A, "phx_join", {}))
    session = session_of(server, poll)
    server.service.add("slow")
    sending = asyncio.create_task(poll.post(frame("2", "2", "session:slow", "phx_join", {})))
    await until(lambda: session._waiting > 0)
    waiting = asyncio.create_task(poll.post(frame("3", "3", "session:new", "phx_join", {"start": {}})))
    await until(lambda: session._waiting > 1)
    session.end()
    await until(lambda: not server.hub.topic(A).viewers)
    assert not server.service.connections._ends
    assert not sending.done()
    server.service.gate.set()
    assert await asyncio.gather(sending, waiting) == [GONE, GONE]
    assert "new" not in server.service.sessions
    await until(lambda: not server.polls.tasks._running)
    assert not server.hub.topic("session:slow").viewers


async def test_K03_N18_a_token_taken_back_ends_the_session(
    server: PhoenixServer, poll: LongPollClient
) -> None:
    """The poll that hangs is empty, the next one is 410; nobody else's session ends."""
    async with server.longpoll(token=WATCH_TOKEN) as guest:
        hanging = asyncio.create_task(poll.get())
        await until_hanging(server, poll)
        server.service.connections.end(server.service.authenticate(TOKEN))
        assert await hanging == {"status": 204, "token": poll.token, "messages": []}
        assert await poll.post(HEARTBEAT) == GONE
        assert (await poll.get())["status"] == 410
        await guest.silence()


async def test_N18_a_session_that_ended_asks_for_the_credential_again(
    server: PhoenixServer, http: aiohttp.ClientSession
) -> None:
    """And begins no other where that is not good any more."""
    client = LongPollClient(http, server.poll_address())
    await client.open()
    server.service.connections.end(server.service.authenticate(TOKEN))
    client.url = client.url.replace("tok", "old")
    assert await client.get() == FORBIDDEN


async def test_M03_a_stopping_server_answers_the_polls_that_hang(
    server: PhoenixServer, poll: LongPollClient
) -> None:
    """With what there is; the next server knows none of the tokens."""
    await poll.post(frame("1", "1", A, "phx_join", {}))
    await poll_for(poll, '[null,null,"session:a","presence_diff"')
    hanging = asyncio.create_task(poll.get())
    await until_hanging(server, poll)
    port = server.port
    await asyncio.wait_for(server.stop(), PATIENCE_S)
    assert await hanging == {"status": 204, "token": poll.token, "messages": []}
    await server.start(port)
    assert await poll.post(HEARTBEAT) == GONE
    assert (await poll.get())["status"] == 410


async def test_M03_a_join_that_never_ends_does_not_hold_the_stop_up(serve: Serve) -> None:
    """It is given up when the time of a stop is over, and its client is answered."""
    server = await serve(shutdown_s=0.2)
    async with server.longpoll() as client:
        await client.say("9", "9", "session:slow", "phx_join", {"start": {}})
        session = session_of(server, client)
        await until(lambda: session._waiting > 0)
        await asyncio.wait_for(server.stop(), PATIENCE_S)


async def test_a_server_that_stops_begins_no_session(server: PhoenixServer, poll: LongPollClient) -> None:
    """500 makes phoenix.js come back by itself, to whoever answers then."""
    server.polls.close()
    assert await poll.get() == {"status": 500}
    assert await poll.post(HEARTBEAT) == GONE


# --- the rest of it --------------------------------------------------------------------------------


async def test_N14_a_poll_has_no_status_that_phoenix_js_does_not_know(
    serve: Serve, http: aiohttp.ClientSession
) -> None:
    """Another one would leave a client that polls no more and believes itself joined; 408 is for what is
    sent, even while a join makes a poll wait."""
    server = await serve(longpoll_window_s=0.2)
    refused = LongPollClient(http, server.poll_address(token="wrong"))
    client = LongPollClient(http, server.poll_address())
    statuses = [(await refused.get())["status"], (await client.open())["status"]]
    sending = asyncio.create_task(client.post(frame("1", "1", "session:slow", "phx_join", {"start": {}})))
    statuses.append((await client.get())["status"])
    assert (await sending)["status"] == 408
    server.service.gate.set()
    statuses.append((await client.get())["status"])
    await client.post("[")
    statuses.append((await client.get())["status"])
    server.polls.close()
    statuses.append((await client.get())["status"])
    assert statuses == [403, 410, 204, 200, 410, 500]


async def test_N15_other_methods(server: PhoenixServer, http: aiohttp.ClientSession) -> None:
    """What a browser asks before it sends is allowed whatever the header; the rest is 400."""
    asked = {"Access-Control-Request-Headers": "x-phoenix-authtoken,content-type"}
    async with http.options(server.poll_address(), headers=asked) as said:
        assert (said.status, await said.read()) == (200, b"")
        assert said.headers["access-control-allow-headers"] == asked["Access-Control-Request-Headers"]
        assert said.headers["access-control-allow-methods"] == "get, post, options"
        assert said.headers["access-control-allow-origin"] == "*"
        assert said.headers["access-control-max-age"] == "3600"
    for method in ("PUT", "DELETE", "PATCH", "HEAD"):
        async with http.request(method, server.poll_address()) as said:
            assert (said.status, await said.read()) == (400, b"")


async def test_N17_a_screen_is_refused_because_bytes_cannot_be_told(
    server: PhoenixServer, poll: LongPollClient
) -> None:
    """Before anything of it is said."""
    server.service.panes.add("a")
    await poll.post(frame("1", "1", "terminal:a", "phx_join", {}))
    message = json.loads((await poll.get())["messages"][0])
    assert message[:4] == ["1", "1", "terminal:a", "phx_reply"]
    assert message[4]["status"] == "error"
    assert message[4]["response"]["reason"] == "binary_not_supported"


async def test_N19_the_first_poll_decides_for_the_session(
    server: PhoenixServer, poll: LongPollClient
) -> None:
    """Another version, or no credential, in what comes after changes nothing."""
    poll.url = f"{server.http}/socket/longpoll/?vsn=1.0.0"
    await poll.post(HEARTBEAT)
    assert (await poll.get())["messages"] == [HEARTBEAT_REPLY]


def test_N20_the_window_is_well_below_what_phoenix_js_waits() -> None:
    """It gives a request up after 20 s, and takes that for a broken connection."""
    from bridge.config import ServerConfig

    assert ServerConfig().longpoll_window_s == 10
    with pytest.raises(ValueError, match="less than or equal to 15"):
        ServerConfig(longpoll_window_s=20)


async def test_N21_a_client_that_does_as_phoenix_js_joins_pushes_and_leaves(server: PhoenixServer) -> None:
    """Over polls and batches, in order; and its presence says how it is there."""
    async with server.longpoll() as client, server.client() as other:
        await other.join(A)
        await client.join(A, ref="3")
        state = await client.hear_any()
        assert state[:4] == ["3", None, A, "presence_state"]
        while "longpoll" not in (text := await other.hear_any_text()):
            pass
        assert json.loads(text)[3] == "presence_diff"
        reply = await client.ask("3", "4", A, "submit", {"prompt": "words 3"})
        assert reply == ok("3", "4", A, {"turn": "turn-1", "status": "running", "position": 0})
        assert [(await client.hear())[4]["seq"] for _ in range(6)] == [1, 2, 3, 4, 5, 6]
        assert await client.ask("3", "5", A, "submit", {"prompt": "crash"}) == [
            "3",
            "3",
            A,
            "phx_error",
            {"reason": "channel_crash"},
        ]


# --- who does not keep up --------------------------------------------------------------------------


async def test_what_is_not_polled_stays_with_the_hub_and_comes_merged(
    server: PhoenixServer, poll: LongPollClient
) -> None:
    """A session holds little of it; nothing is lost, and the text is whole."""
    await poll.post(frame("1", "1", A, "phx_join", {}))
    await poll.get()
    texts = [f"{i:05d}" + "x" * 2000 for i in range(1000)]
    for n, text in enumerate(texts):
        server.service.publish("a", word(text))
        if n % 10 == 0:
            await asyncio.sleep(0)
    await asyncio.sleep(0)
    session = session_of(server, poll)
    assert session._unread < 200_000
    heard, merged, seq = [], 0, 0
    while seq < 1000:
        for message in map(json.loads, (await poll.get())["messages"]):
            if message[3] == "delta":
                assert message[4].get("first_seq", message[4]["seq"]) == seq + 1
                merged += "first_seq" in message[4]
                seq = message[4]["seq"]
                heard.append(message[4]["text"])
    assert "".join(heard) == "".join(texts)
    assert merged > 0
    assert session._unread == 0


async def test_a_session_that_lags_too_far_ends(serve: Serve, http: aiohttp.ClientSession) -> None:
    """410 where a WebSocket is closed with 4008, and the hub has let go of it."""
    server = await serve(ring_events=10, ring_bytes=1_000_000, outbox_bytes=1_000_000)
    client = LongPollClient(http, server.poll_address())
    await client.open()
    await client.post(frame("1", "1", A, "phx_join", {}))
    topic = server.hub.topic(A)
    async with asyncio.timeout(PATIENCE_S):
        while topic.viewers:
            server.service.publish("a", word("x" * 100_000))
            await asyncio.sleep(0)
    assert await client.post(HEARTBEAT) == GONE
    assert (await client.get())["status"] == 410


async def test_replies_that_are_not_polled_hold_their_client_up(
    serve: Serve, http: aiohttp.ClientSession
) -> None:
    """It is heard no further, so that they are bounded; polling it all comes, in order."""
    server = await serve(longpoll_window_s=0.3, outbox_bytes=800_000)
    client = LongPollClient(http, server.poll_address())
    await client.open()
    refs = [f"{i}" + "r" * 50_000 for i in range(20)]
    batch = "\n".join(frame(None, ref, "phoenix", "heartbeat", {}) for ref in refs)
    assert await client.post(batch) == {"status": 408}
    session = session_of(server, client)
    assert session._outbox.held + session._unread < 400_000
    heard: list[Any] = []
    while (told := await client.get())["status"] == 200:
        heard += map(json.loads, told["messages"])
    assert [message[1] for message in heard] == refs[: len(heard)]
    assert 2 < len(heard) < 20
    assert await client.post(HEARTBEAT) == {"status": 200}


async def test_frames_that_wait_behind_a_slow_join_are_bounded(
    server: PhoenixServer, poll: LongPollClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who sends on is told at once that it takes too long, and nothing more is taken."""
    monkeypatch.setattr(phoenix_longpoll, "MAX_INBOX", 3)
    join = frame("1", "1", "session:slow", "phx_join", {"start": {}})
    async with asyncio.TaskGroup() as requests:
        posts = [requests.create_task(poll.post(body)) for body in (join, HEARTBEAT, HEARTBEAT)]
        await until(lambda: session_of(server, poll)._waiting == 3)
        assert await poll.post(HEARTBEAT) == {"status": 408}
        assert not any(post.done() for post in posts)
        server.service.gate.set()
    assert [post.result() for post in posts] == [{"status": 200}] * 3


# --- the bytes -------------------------------------------------------------------------------------


def test_units_put_behind_one_another_are_a_list() -> None:
    """Each with its comma, of which the last falls away."""
    units = unit(b'["a\\"b\\u0000"]') + unit('["é\\n"]'.encode())
    said = json.loads(answer(200, "lp.x", units))
    assert [json.loads(message) for message in said["messages"]] == [['a"b\0'], ["é\n"]]
    assert json.loads(answer(204, "lp.x")) == {"status": 204, "token": "lp.x", "messages": []}


def test_a_body_is_lines_only_where_its_type_says_exactly_so() -> None:
    """With a parameter, or in capitals, it is one frame, as Phoenix has it."""
    for content_type in (
        None,
        "application/json",
        "application/x-ndjson; charset=utf-8",
        "Application/X-NDJSON",
    ):
        assert frames(content_type, b"[1]\n[2]") == ["[1]\n[2]"]
    assert frames("application/x-ndjson", b"[1]\r\n[2]\nAQI=") == ["[1]", "[2]", b"\x01\x02"]
    for bad in (b" [1]", b"A", b"\xff"):
        with pytest.raises(WireError):
            frames("application/x-ndjson", bad)
