"""Webhooks against a real HTTP server that fails, hangs, is slow or gone; the time between is the test's."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import structlog
from aiohttp import web

from bridge.config import WebhookConfig
from bridge.errors import SetupError
from bridge.events import (
    DeltaAdded,
    Event,
    Request,
    RequestAnswered,
    RequestId,
    RequestOpened,
    SessionChanged,
    SessionDeleted,
    SessionName,
    TurnFinished,
    TurnId,
    Usage,
)
from bridge.webhooks import dispatch
from bridge.webhooks.dispatch import Webhooks
from bridge.webhooks.endpoint import PARALLEL
from bridge.wire import webhooks as wire
from tests.fakes.clock import FakeClock, settle
from tests.fakes.service import a_session

PATIENCE_S = 10
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
A, B = SessionName("a"), SessionName("b")


def finished(turn: str, text: str = "Done.") -> TurnFinished:
    return TurnFinished(TurnId(turn), "completed", text, None, Usage(1, 2), 0.5, 7)


def opened(id: str = "r1") -> RequestOpened:
    return RequestOpened(
        Request(RequestId(id), "permission", TurnId("t"), "Bash", {"command": "ls"}, (), 900.0)
    )


def failed(name: str = "a", reason: str = "it exits") -> SessionChanged:
    return SessionChanged(a_session(name, state="failed", reason=reason))


class Time(FakeClock):
    """A clock whose timers are run by the test."""

    def __init__(self) -> None:
        super().__init__(1_760_000_000.0)
        self.timers: dict[_Timer, tuple[float, Callable[[], None]]] = {}

    def later(self, delay: float, callback: Callable[[], None]) -> Any:
        timer = _Timer(self, delay)
        self.timers[timer] = (self.at + delay, callback)
        return timer

    @property
    def delays(self) -> list[float]:
        """How long it is until each timer, but the one for what is kept."""
        return sorted(at - self.at for t, (at, _) in self.timers.items() if t.delay != dispatch.KEEP_S)

    def pass_by(self, seconds: float) -> None:
        self.at += seconds
        for timer, (at, callback) in list(self.timers.items()):
            if at <= self.at + 1e-6:
                self.timers.pop(timer, None)
                callback()

    async def until_waiting(self) -> float:
        """Until a repetition is waited for; how long it has to be."""
        await until(lambda: bool(self.delays))
        return self.delays[0]


@dataclass(eq=False)
class _Timer:
    time: Time
    delay: float

    def cancel(self) -> None:
        self.time.timers.pop(self, None)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not holds():  # noqa: ASYNC110 - sockets and a thread are waited for
            await asyncio.sleep(0.001)


@dataclass
class Receiver:
    """An endpoint. `answer` says what it does with each request: a status, or something to wait for."""

    answer: Callable[[dict[str, Any]], int | asyncio.Event] = lambda body: 204
    url: str = ""
    heard: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    retry_after: str = ""
    at_once: int = 0
    most_at_once: int = 0

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.heard.append(({k.lower(): v for k, v in request.headers.items()}, body))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            answer = self.answer(json.loads(body))
            if isinstance(answer, asyncio.Event):
                await answer.wait()
                answer = 200
        finally:
            self.at_once -= 1
        headers = {"retry-after": self.retry_after} if self.retry_after else {}
        return web.Response(status=answer, headers=headers | {"location": f"{self.url}/other"})

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.heard]

    def of(self, session: str) -> list[str]:
        return [b["turn"] for b in self.bodies if b["session"] == session]

    async def until(self, count: int) -> None:
        await until(lambda: len(self.heard) >= count)


@asynccontextmanager
async def receiving(**how: Any) -> AsyncIterator[Receiver]:
    receiver = Receiver(**how)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", receiver.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook?key=hush"
    try:
        yield receiver
    finally:
        await runner.cleanup()


@dataclass
class Rig:
    folder: Path
    time: Time = field(default_factory=Time)
    log: list[Any] = field(default_factory=list)

    def make(self, *hooks: WebhookConfig) -> Webhooks:
        return Webhooks(hooks, self.folder / "webhooks.json", self.time, self.time.later)

    @asynccontextmanager
    async def running(self, *hooks: WebhookConfig) -> AsyncIterator[Webhooks]:
        made = self.make(*hooks)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(made.run())
            try:
                yield made
            finally:
                task.cancel()

    def said(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.log if line["event"].startswith(event)]


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    made = Rig(tmp_path)

    def keep(logger: Any, method: str, line: Any) -> Any:
        made.log.append(dict(line))
        raise structlog.DropEvent

    structlog.configure(processors=[keep])
    return made


def hook(receiver: Receiver, **settings: Any) -> WebhookConfig:
    return WebhookConfig(**{"url": receiver.url, "secret": SECRET, **settings})


def verified(headers: dict[str, str], body: bytes) -> bool:
    """As a receiver does it, from the specification's text."""
    key = base64.b64decode(SECRET.split("_")[1])
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.{body.decode()}"
    expected = base64.b64encode(hmac.new(key, signed.encode(), hashlib.sha256).digest()).decode()
    return any(each == f"v1,{expected}" for each in headers["webhook-signature"].split(" "))


# --- what is said -----------------------------------------------------------------------------------------


def test_a_signature_is_that_of_the_specifications_example() -> None:
    """Made with another implementation; its key is shorter than the specification has it."""
    key = base64.b64decode("plJ3nmyCDGBKInavdOK15jsl")
    body = b'{"event_type":"ping","data":{"success":true}}'
    said = wire.headers(key, "msg_loFOjxBNrRLzqYUf", 1731705121, body)
    assert said["webhook-signature"] == "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0="


async def test_a_finished_turn_is_told_signed(rig: Rig) -> None:
    """With the fields of the wire; the id is a message's, the time is now."""
    async with receiving() as receiver, rig.running(hook(receiver)) as hooks:
        hooks.tell(A, 5.0, finished("t1", "grüße"))
        await receiver.until(1)
    (headers, body), (said,) = receiver.heard[0], receiver.bodies
    assert verified(headers, body)
    assert not verified(headers, body + b" ")
    assert headers["webhook-timestamp"] == "1760000000"
    assert headers["content-type"] == "application/json"
    assert (said["type"], said["at"], said["session"]) == ("turn_finished", "1970-01-01T00:00:05.000Z", "a")
    assert (said["turn"], said["status"], said["text"]) == ("t1", "completed", "grüße")


async def test_a_request_and_a_failure_are_told(rig: Rig) -> None:
    """The request as clients get it; of the session everything, and why."""
    async with receiving() as receiver, rig.running(hook(receiver)) as hooks:
        hooks.tell(A, 5.0, opened())
        hooks.tell(A, 6.0, failed())
        await receiver.until(2)
    request, failure = receiver.bodies
    assert (request["type"], request["request"]["id"]) == ("request_opened", "r1")
    assert (failure["type"], failure["session"], failure["state"]) == ("session_failed", "a", "failed")
    assert failure["reason"] == "it exits"


async def test_a_failure_is_told_once_each_time(rig: Rig) -> None:
    """However often the session is shown meanwhile."""
    async with receiving() as receiver, rig.running(hook(receiver)) as hooks:
        hooks.begin([a_session("b", state="failed")], [])
        hooks.tell(B, 1.0, failed("b"))
        for at in (1.0, 2.0):
            hooks.tell(A, at, failed())
            hooks.tell(A, at, failed())
            hooks.tell(A, at, SessionChanged(a_session("a", state="idle")))
        hooks.tell(B, 3.0, SessionDeleted(B))
        hooks.tell(B, 4.0, failed("b"))
        await receiver.until(3)
    assert sorted(b["session"] for b in receiver.bodies) == ["a", "a", "b"]
    assert len({headers["webhook-id"] for headers, _ in receiver.heard}) == 3


async def test_only_what_is_configured_is_told(rig: Rig) -> None:
    """By event and by the session's name; deltas never."""
    async with receiving() as receiver:
        config = hook(receiver, events=["turn_finished"], sessions=["a*"])
        async with rig.running(config) as hooks:
            events: list[Event] = [DeltaAdded(TurnId("t"), 0, "text", "x"), opened(), finished("t1")]
            for name in (A, B, SessionName("also")):
                for event in events:
                    hooks.tell(name, 1.0, event)
            await receiver.until(2)
    assert [b["session"] for b in receiver.bodies] == ["a", "also"]


async def test_whatever_a_tool_is_given_can_be_told(rig: Rig) -> None:
    """Half a surrogate pair, no number, an id of anything: the session's task must not end of it."""
    request = Request(
        RequestId("r\ud800"), "permission", TurnId("t"), "Bash", {"a": "x\ud800", "n": 1e999}, (), 1.0
    )
    async with receiving() as receiver, rig.running(hook(receiver)) as hooks:
        hooks.tell(A, 5.0, RequestOpened(request))
        await receiver.until(1)
    assert verified(*receiver.heard[0])
    assert receiver.bodies[0]["request"]["input"] == {"a": "x\ufffd", "n": None}


# --- again and again --------------------------------------------------------------------------------------


async def test_a_message_is_repeated_with_growing_delays_until_it_is_taken(rig: Rig) -> None:
    """The same id and body, signed anew; the delay is bounded, and has chance in it."""
    statuses = [500, 302, 404, 429, 500, 200]
    async with (
        receiving(answer=lambda _: statuses.pop(0)) as receiver,
        rig.running(hook(receiver, retry_longest_s=6)) as hooks,
    ):
        hooks.tell(A, 1.0, finished("t1"))
        delays = []
        for _ in range(5):
            delays.append(await rig.time.until_waiting())
            rig.time.pass_by(delays[-1])
        await receiver.until(6)
        await until(lambda: hooks.describe()["webhooks"][0]["waiting"] == 0)
    for delay, most in zip(delays, [1, 2, 4, 6, 6], strict=True):
        assert 0.75 * most <= delay <= most
    assert len({headers["webhook-id"] for headers, _ in receiver.heard}) == 1
    assert len({body for _, body in receiver.heard}) == 1
    assert all(verified(*each) for each in receiver.heard)
    assert len({headers["webhook-timestamp"] for headers, _ in receiver.heard}) >= 5
    assert len(rig.said("webhook is not taken")) == len(rig.said("webhook is taken again")) == 1


async def test_an_endpoint_may_ask_for_more_time(rig: Rig) -> None:
    """`Retry-After` counts, up to the longest delay."""
    async with receiving(answer=lambda _: 503, retry_after="40") as receiver:
        async with rig.running(hook(receiver)) as hooks:
            hooks.tell(A, 1.0, finished("t1"))
            assert await rig.time.until_waiting() == 40
        receiver.retry_after = "40000"
        async with rig.running(hook(receiver)) as hooks:
            hooks.tell(A, 1.0, finished("t2"))
            assert await rig.time.until_waiting() == 900


async def test_a_message_is_given_up_after_so_many_attempts(rig: Rig) -> None:
    """The log has its id, and the next of the session follows."""
    async with (
        receiving(answer=lambda b: 500 if b["turn"] == "t1" else 200) as receiver,
        rig.running(hook(receiver, attempts=2)) as hooks,
    ):
        hooks.tell(A, 1.0, finished("t1"))
        hooks.tell(A, 1.0, finished("t2"))
        rig.time.pass_by(await rig.time.until_waiting())
        await receiver.until(3)
    assert receiver.of("a") == ["t1", "t1", "t2"]
    assert [line["id"] for line in rig.said("webhook's message was given up")] == [
        receiver.heard[0][0]["webhook-id"]
    ]


async def test_a_message_is_given_up_when_it_is_too_old(rig: Rig) -> None:
    """Whichever comes first."""
    async with receiving(answer=lambda _: 500) as receiver, rig.running(hook(receiver)) as hooks:
        hooks.tell(A, 1.0, finished("t1"))
        await rig.time.until_waiting()
        rig.time.pass_by(86_400)
        await until(lambda: bool(rig.said("webhook's message was given up")))


async def test_the_messages_of_a_session_keep_their_order(rig: Rig) -> None:
    """What comes behind one that is repeated waits for it; other sessions' do not."""
    ready = False
    async with (
        receiving(answer=lambda b: 200 if ready or b["session"] == "b" else 503) as receiver,
        rig.running(hook(receiver)) as hooks,
    ):
        for turn in ("t1", "t2", "t3"):
            hooks.tell(A, 1.0, finished(turn))
        await rig.time.until_waiting()
        hooks.tell(B, 1.0, finished("u1"))
        await receiver.until(2)
        ready = True
        rig.time.pass_by(1)
        await receiver.until(5)
    assert receiver.of("a") == ["t1", "t1", "t2", "t3"]
    assert receiver.of("b") == ["u1"]


async def test_an_endpoint_that_is_gone_is_told_nothing_more(rig: Rig) -> None:
    """410: what waits is dropped, and the log says so, once."""
    async with (
        receiving(answer=lambda _: 410) as receiver,
        receiving() as other,
        rig.running(hook(receiver), hook(other)) as hooks,
    ):
        hooks.tell(A, 1.0, finished("t1"))
        hooks.tell(A, 1.0, finished("t2"))
        await until(lambda: bool(rig.said("webhook is gone")))
        hooks.tell(A, 1.0, finished("t3"))
        await other.until(3)
        assert [e["state"] for e in hooks.describe()["webhooks"]] == ["gone", "ok"]
    assert len(receiver.heard) == 1


async def test_nobody_listens(rig: Rig) -> None:
    """A connection that is refused is a failure like any other."""
    async with receiving() as receiver:
        pass
    async with rig.running(hook(receiver)) as hooks:
        hooks.tell(A, 1.0, finished("t1"))
        assert await rig.time.until_waiting() <= 1
    assert rig.said("webhook is not taken")[0]["problem"] == "ClientConnectorError"


async def test_an_endpoint_that_hangs_is_left_after_its_time(rig: Rig) -> None:
    """And tried again."""
    gate = asyncio.Event()
    async with (
        receiving(answer=lambda _: gate) as receiver,
        rig.running(hook(receiver, timeout_s=0.05)) as hooks,
    ):
        hooks.tell(A, 1.0, finished("t1"))
        await rig.time.until_waiting()
        gate.set()
    assert rig.said("webhook is not taken")[0]["problem"] == "no answer within 0.05 s"


async def test_a_slow_endpoint_costs_the_others_nothing(rig: Rig) -> None:
    """Its own requests are few at a time; another one hears everything meanwhile."""
    gate = asyncio.Event()
    async with (
        receiving(answer=lambda _: gate) as slow,
        receiving() as other,
        rig.running(hook(slow), hook(other)) as hooks,
    ):
        for n in range(50):
            hooks.tell(SessionName(f"s{n}"), 1.0, finished(f"t{n}"))
        await other.until(50)
        await slow.until(PARALLEL)
        assert len(slow.heard) == PARALLEL
        gate.set()
        await slow.until(50)
    assert slow.most_at_once <= PARALLEL


# --- bounds -----------------------------------------------------------------------------------------------


SIZE = len(wire.body("turn_finished", A, 1.0, finished("t1")))


@pytest.mark.parametrize("bound", [{"queue_messages": 3}, {"queue_bytes": 4 * SIZE - 1}])
async def test_a_full_queue_drops_the_oldest(rig: Rig, bound: dict[str, int]) -> None:
    """Said once when it begins, and how many when it is over."""
    gate = asyncio.Event()
    async with (
        receiving(answer=lambda _: gate) as receiver,
        rig.running(hook(receiver, **bound)) as hooks,
    ):
        hooks.tell(A, 1.0, finished("t0"))
        await receiver.until(1)
        for n in range(1, 10):
            hooks.tell(A, 1.0, finished(f"t{n}"))
        told = hooks.describe()["webhooks"][0]
        gate.set()
        await until(lambda: bool(rig.said("webhook has caught up")))
    assert receiver.of("a") == ["t0", "t8", "t9"]
    assert (told["waiting"], told["dropped"]) == (3, 7)
    assert len(rig.said("webhook's queue is full")) == 1
    assert rig.said("webhook has caught up")[0]["dropped"] == 7


async def test_a_message_larger_than_the_bound_is_sent_all_the_same(rig: Rig) -> None:
    """Alone; nothing would come of dropping what there is."""
    async with receiving() as receiver, rig.running(hook(receiver, queue_bytes=10)) as hooks:
        hooks.tell(A, 1.0, finished("t1", "x" * 5000))
        await receiver.until(1)
    assert len(receiver.bodies[0]["text"]) == 5000


# --- over a restart ---------------------------------------------------------------------------------------


async def test_what_waits_at_a_stop_is_told_by_the_next_bridge(rig: Rig) -> None:
    """Under the same id, and what was under way had a moment to end."""
    gate = asyncio.Event()
    async with receiving(answer=lambda b: gate if b["session"] == "a" else 503) as receiver:
        async with rig.running(hook(receiver)) as hooks:
            hooks.tell(A, 1.0, finished("t1"))
            hooks.tell(B, 1.0, finished("u1"))
            hooks.tell(B, 1.0, finished("u2"))
            await rig.time.until_waiting()
            asyncio.get_running_loop().call_soon(gate.set)
        assert len(rig.said("webhook's messages are kept")[0]["ids"]) == 2
        assert (rig.folder / "webhooks.json").stat().st_mode & 0o777 == 0o600
        first = [headers["webhook-id"] for headers, body in receiver.heard if b"u1" in body]
        receiver.heard.clear()
        receiver.answer = lambda _: 200
        async with rig.running(hook(receiver)) as hooks:
            await receiver.until(2)
    assert (receiver.of("a"), receiver.of("b")) == ([], ["u1", "u2"])
    assert receiver.heard[0][0]["webhook-id"] == first[0]


async def test_what_waits_is_on_disk_before_a_kill(rig: Rig) -> None:
    """A second later; what was taken by then is not there, and costs no write."""
    async with (
        receiving() as receiver,
        rig.running(hook(receiver)) as hooks,
    ):
        file = rig.folder / "webhooks.json"
        hooks.tell(A, 1.0, finished("t0"))
        await receiver.until(1)
        await until(lambda: hooks.describe()["webhooks"][0]["waiting"] == 0)
        rig.time.pass_by(dispatch.KEEP_S)
        await settle()
        receiver.answer = lambda _: 500
        hooks.tell(A, 1.0, finished("t1"))
        await rig.time.until_waiting()
        assert not file.exists()
        await until(lambda: any(at - rig.time.at == dispatch.KEEP_S for at, _ in rig.time.timers.values()))
        rig.time.pass_by(dispatch.KEEP_S)
        await until(file.exists)
        killed = file.read_bytes()
        receiver.answer = lambda _: 200
    assert b"t1" in killed
    assert b"t0" not in killed


async def test_an_open_request_is_told_again_only_where_it_was_not_taken(rig: Rig) -> None:
    """Whether it was taken is known over the restart; its id is the same in any case."""
    async with receiving() as receiver:
        async with rig.running(hook(receiver)) as hooks:
            for id in ("r1", "r2", "r3"):
                hooks.tell(A, 1.0, opened(id))
            await receiver.until(3)
            await until(lambda: hooks.describe()["webhooks"][0]["waiting"] == 0)
            hooks.tell(A, 2.0, RequestAnswered(RequestId("r3"), "allowed", None))
        ids = {json.loads(body)["request"]["id"]: headers["webhook-id"] for headers, body in receiver.heard}
        kept = json.loads((rig.folder / "webhooks.json").read_bytes())
        assert [set(told) for _, told in kept.values()] == [{ids["r1"], ids["r2"]}]
        receiver.heard.clear()
        async with rig.running(hook(receiver)) as hooks:
            hooks.begin([], [(A, opened(id).request) for id in ("r1", "r4")])
            hooks.tell(A, 3.0, opened("r1"))  # a backend may say again what is open
            await receiver.until(1)
        assert [b["request"]["id"] for b in receiver.bodies] == ["r4"]
        # Where that file is lost it is told once more, and the receiver knows it.
        (rig.folder / "webhooks.json").unlink()
        async with rig.running(hook(receiver)) as hooks:
            hooks.begin([], [(A, opened("r1").request)])
            await receiver.until(2)
    assert receiver.heard[1][0]["webhook-id"] == ids["r1"]


async def test_a_kept_file_that_is_not_ours_is_no_obstacle(rig: Rig) -> None:
    """Logged; the bridge starts."""
    (rig.folder / "webhooks.json").write_text('{"x": 3}')
    async with receiving() as receiver, rig.running(hook(receiver)) as hooks:
        hooks.tell(A, 1.0, finished("t1"))
        await receiver.until(1)
    assert rig.said("what was kept of webhooks cannot be read")


# --- secrets ----------------------------------------------------------------------------------------------


async def test_no_secret_and_no_text_is_logged(rig: Rig) -> None:
    """Whatever goes wrong: neither the key, nor the rest of the URL, nor what was said."""
    async with (
        receiving(answer=lambda _: 500) as receiver,
        rig.running(hook(receiver, attempts=1, queue_messages=1)) as hooks,
    ):
        for n in range(3):
            hooks.tell(A, 1.0, finished(f"t{n}", "the heron"))
        await until(lambda: bool(rig.said("webhook's message was given up")))
        receiver.answer = lambda _: 410
        hooks.tell(A, 1.0, finished("t9", "the heron"))
        await until(lambda: bool(rig.said("webhook is gone")))
    said = repr(rig.log)
    assert "heron" not in said
    assert "hush" not in said
    assert SECRET.removeprefix("whsec_") not in said


def test_the_secret_may_stand_in_a_file(rig: Rig) -> None:
    """With the newline that editors leave."""
    file = rig.folder / "secret"
    file.write_text(SECRET + "\n")
    rig.make(WebhookConfig(url="https://a.example/hook", secret_file=file))


@pytest.mark.parametrize("secret", ["short", "whsec_" + "A" * 8, "whsec_!!!", None])
def test_a_secret_that_cannot_be_used_ends_the_start(rig: Rig, secret: str | None) -> None:
    """With what to do, and without repeating it."""
    file = {"secret": secret} if secret else {"secret_file": rig.folder / "none"}
    with pytest.raises(SetupError) as refused:
        rig.make(WebhookConfig(url="https://a.example/hook", **file))
    assert "a.example" in str(refused.value)
    assert "whsec_$(" in refused.value.remedy
    assert secret is None or secret not in refused.value.problem


def test_the_example_of_the_how_to_page_verifies() -> None:
    """And refuses what was altered, or is old."""
    page = (Path(__file__).parents[2] / "docs/how-to/webhooks.md").read_text()
    names: dict[str, Any] = {}
    exec(page.partition("```python\n")[2].partition("```")[0], names)
    now = int(names["time"].time())
    body = wire.body("turn_finished", A, 1.0, finished("t1", "grüße"))
    said = wire.headers(wire.secret_bytes(SECRET), "msg_1", now, body)
    assert names["verified"](SECRET, said, body)
    assert not names["verified"](SECRET, said, body + b" ")
    old = wire.headers(wire.secret_bytes(SECRET), "msg_1", now - 600, body)
    assert not names["verified"](SECRET, old, body)
