"""The official npm `phoenix` client in Node, driven from tests: what it says and hears, in order.

Blocking on purpose: a test reads as what one person does after another. Every wait has a deadline, and a
wait that fails says what was heard instead.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

Json = dict[str, Any]
T = TypeVar("T")

DRIVER = Path(__file__).parents[1] / "js" / "driver.mjs"
PATIENCE_S = 30
"""For what must come; a machine that runs other things as well is the reason for its length."""
LOOK_S = 0.2


@dataclass(frozen=True)
class Heard:
    """A channel's message. `order` counts everything the client said, replies as well."""

    order: int
    event: str
    payload: Json


class Refused(Exception):
    """An error reply."""

    def __init__(self, response: Json, status: str = "error") -> None:
        super().__init__(f"{status}: {response}")
        self.response = response
        self.reason = response.get("reason")


class Pending:
    """A push whose reply has not been asked for yet."""

    def __init__(self, client: PhoenixJs, ref: int, what: str) -> None:
        self._client = client
        self._ref = ref
        self._what = what

    @property
    def order(self) -> int:
        """When the reply came, among all that was heard."""
        return self._client.answer(self._ref, self._what)[0]

    def reply(self) -> Json:
        """The response of status ok. Raises `Refused`."""
        _, result = self._client.answer(self._ref, self._what)
        if result.get("status") != "ok":
            raise Refused(result.get("response", {}), result.get("status", "?"))
        response: Json = result["response"]
        return response


class PhoenixJs:
    """One Node process with any number of sockets."""

    def __init__(self) -> None:
        node = shutil.which("node")
        assert node is not None, "these tests need Node"
        assert (DRIVER.parent / "node_modules").is_dir(), "run `make setup`: the npm packages are missing"
        self._process = subprocess.Popen(
            [node, str(DRIVER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._news = threading.Condition()
        self._answers: dict[int, tuple[int, Json]] = {}
        self._sockets: dict[str, JsSocket] = {}
        self._refs = itertools.count(1)
        self._ended = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def socket(self, url: str, token: str, **options: Any) -> JsSocket:
        """A socket that connects now: `via` params or authToken, by the `transport` websocket or longpoll."""
        name = f"s{next(self._refs)}"
        socket = self._sockets[name] = JsSocket(self, name)
        self.say("connect", socket=name, url=url, token=token, **options).answered()
        return socket

    def say(self, op: str, **command: Any) -> _Said:
        ref = next(self._refs)
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"id": ref, "op": op, **command}) + "\n")
        self._process.stdin.flush()
        return _Said(self, ref, op)

    def answer(self, ref: int, what: str) -> tuple[int, Json]:
        return self.wait(lambda: self._answers.get(ref), lambda: f"an answer to {what}")

    def wait(self, find: Callable[[], T | None], what: Callable[[], str]) -> T:
        """What `find` finds, as soon as it does. Called at each piece of news, and now and then: what it
        asks a bridge for may change without."""
        end = time.monotonic() + PATIENCE_S
        with self._news:
            over = False
            while (found := find()) is None and not over:
                over = self._ended or time.monotonic() > end
                if not over:
                    self._news.wait(LOOK_S)
        if found is None:
            pytest.fail(f"the driver ended, or {PATIENCE_S} s passed, without {what()}")
        return found

    def close(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it ended by itself, and said why on stderr
            self._process.stdin.close()
        self._process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for order, line in enumerate(self._process.stdout):
            said = json.loads(line)
            with self._news:
                if "id" in said:
                    self._answers[said["id"]] = (order, said["result"])
                else:
                    self._sockets[said["socket"]].take(order, said)
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()


@dataclass(frozen=True)
class _Said:
    client: PhoenixJs
    ref: int
    op: str

    def answered(self) -> Json:
        return self.client.answer(self.ref, self.op)[1]


class JsSocket:
    """One `Socket` of phoenix.js, and its channels."""

    def __init__(self, client: PhoenixJs, name: str) -> None:
        self.client = client
        self.name = name
        self.life: list[Json] = []
        self._channels: dict[str, JsChannel] = {}

    def join(self, topic: str, payload: Json | None = None, *, resume: bool = False) -> JsChannel:
        """Join, and wait for the reply. With `resume` phoenix.js's own rejoins give the last cursor.

        Raises `Refused`.
        """
        key = f"{topic}#{len(self._channels)}"
        channel = self._channels[key] = JsChannel(self, key, topic, (payload or {}).get("after"))
        said = self.client.say(
            "join", socket=self.name, channel=key, topic=topic, payload=payload or {}, resume=resume
        )
        channel.joined = Pending(self.client, said.ref, f"the join of {topic}").reply()
        return channel

    def cut(self) -> None:
        """The connection breaks without a close frame; phoenix.js connects again by itself."""
        self.client.say("cut", socket=self.name).answered()

    def disconnect(self) -> None:
        """On purpose: it stays away until `connect`."""
        self.client.say("disconnect", socket=self.name).answered()

    def connect(self) -> None:
        self.client.say("connectAgain", socket=self.name).answered()

    def wait(self, lifecycle: str, times: int = 1) -> Json:
        """The nth `open`, `close` or `error` of this socket."""

        def find() -> Json | None:
            found = [e for e in self.life if e["lifecycle"] == lifecycle]
            return found[times - 1] if len(found) >= times else None

        return self.client.wait(find, lambda: f"the socket's {lifecycle} no. {times}; {self.life[-5:]}")

    def take(self, order: int, said: Json) -> None:
        if "lifecycle" in said:
            self.life.append(said)
        else:
            self._channels[said["channel"]].take(Heard(order, said["event"], said["payload"]))

    @property
    def channels(self) -> list[JsChannel]:
        return list(self._channels.values())


class JsChannel:
    """One `Channel` of phoenix.js: what it heard, oldest first."""

    def __init__(self, socket: JsSocket, key: str, topic: str, after: Json | None) -> None:
        self.after = after
        self.socket = socket
        self.key = key
        self.topic = topic
        self.joined: Json = {}
        self.heard: list[Heard] = []

    def take(self, heard: Heard) -> None:
        self.heard.append(heard)

    def send(self, event: str, payload: Any = None) -> Pending:
        said = self.socket.client.say(
            "push",
            socket=self.socket.name,
            channel=self.key,
            event=event,
            payload={} if payload is None else payload,
        )
        return Pending(self.socket.client, said.ref, f"the reply to {event}")

    def push(self, event: str, payload: Any = None) -> Json:
        """Push, and wait for the reply. Raises `Refused`."""
        return self.send(event, payload).reply()

    def submit(self, prompt: str, **more: Any) -> str:
        """The id of the turn that a prompt became."""
        turn: str = self.push("submit", {"prompt": prompt, **more})["turn"]
        return turn

    def ask(self, prompt: str, **more: Any) -> Story:
        """Submit, and wait until the turn has finished."""
        return self.story(self.submit(prompt, **more))

    def leave(self) -> None:
        said = self.socket.client.say("leave", socket=self.socket.name, channel=self.key)
        Pending(self.socket.client, said.ref, f"leaving {self.topic}").reply()

    def wait(self, event: str, count: int = 1, **fields: Any) -> Json:
        """The payload of the nth such event, past or coming, whose payload has these fields."""

        def find() -> Json | None:
            found = [h.payload for h in list(self.heard) if h.event == event and _has(h.payload, fields)]
            return found[count - 1] if len(found) >= count else None

        return self.until(find, f"{event} no. {count} with {fields}")

    def wait_session(self, **fields: Any) -> Json:
        """The session as told by the first join or change in which it is so."""

        def find() -> Json | None:
            heard = [h for h in list(self.heard) if h.event in ("join_ok", "session_changed")]
            return next((h.payload["session"] for h in heard if _has(h.payload["session"], fields)), None)

        return self.until(find, f"a session with {fields}")

    def until(self, find: Callable[[], T | None], what: str) -> T:
        return self.socket.client.wait(
            find, lambda: f"{what} on {self.topic}; the last heard: {[_brief(h) for h in self.heard[-12:]]}"
        )

    def story(self, turn: str) -> Story:
        """All that was told of a turn, once it has finished."""
        self.wait("turn_finished", turn=turn)
        return self.so_far(turn)

    def so_far(self, turn: str) -> Story:
        """What was told of a turn until now."""
        return Story([h for h in list(self.heard) if _of_turn(h.payload, turn)])

    def wait_number(self, seq: int) -> None:
        """Until the event of this number has come."""
        self.until(lambda: any(e["seq"] == seq for e in self.numbered()) or None, f"event {seq}")

    def numbered(self) -> list[Json]:
        """Every event that carries a number, as it was heard, over all joins of this channel."""
        return [h.payload for h in list(self.heard) if "seq" in h.payload and not h.event.startswith("join_")]


class Story:
    """The events of one turn."""

    def __init__(self, heard: list[Heard]) -> None:
        self.heard = heard

    @property
    def names(self) -> list[str]:
        """The events' names, a run of deltas as one."""
        return [name for name, _ in itertools.groupby(h.event for h in self.heard)]

    def of(self, event: str, **fields: Any) -> list[Json]:
        return [h.payload for h in self.heard if h.event == event and _has(h.payload, fields)]

    @property
    def finished(self) -> Json:
        (finished,) = self.of("turn_finished")
        return finished

    @property
    def status(self) -> str:
        status: str = self.finished["status"]
        return status

    @property
    def text(self) -> str:
        text: str = self.finished["text"]
        return text

    @property
    def deltas(self) -> list[str]:
        return [d["text"] for d in self.of("delta", kind="text")]

    @property
    def blocks(self) -> dict[int, str]:
        """The final text of each block of text or thinking."""
        return {b["block"]: b["text"] for b in self.of("block")}

    def previews(self) -> dict[int, str]:
        """What each block's preview had come to when the block's final text came."""
        settled: dict[int, str] = {}
        growing: dict[int, str] = {}
        for h in self.heard:
            block: int = h.payload.get("block", -1)
            if h.event == "delta":
                assert block not in settled, f"a delta after the end of block {block}"
                growing[block] = growing.get(block, "") + h.payload["text"]
            elif h.event == "discard":
                del growing[block]
            elif h.event == "block" and block in growing:
                settled[block] = growing.pop(block)
        assert not growing, f"previews that came to nothing: {growing}"
        return settled


def assert_well_told(story: Story) -> None:
    """What holds for every turn, however it ended: begun first, ended last and once, no number twice, and
    every preview the same as the final text of its block."""
    started = [h.event for h in story.heard if h.event in ("turn_started", "turn_finished")]
    assert started == ["turn_started", "turn_finished"]
    assert story.heard[-1].event == "turn_finished"
    queued_or_started = [h.event for h in story.heard[:2]]
    assert "turn_started" in queued_or_started
    numbers = [h.payload["seq"] for h in story.heard]
    assert numbers == sorted(set(numbers))
    blocks = story.blocks
    assert {number: blocks.get(number) for number in story.previews()} == story.previews()
    assert len(story.of("block")) == len(blocks), "a block came twice"


def assert_contiguous(channel: JsChannel) -> None:
    """Nothing is missing and nothing came twice: from the first join's reply on, over all rejoins."""
    seq, epoch = (channel.after["seq"], channel.after["epoch"]) if channel.after else (0, None)
    for h in list(channel.heard):
        if h.event == "join_ok" and "epoch" in h.payload:
            if not h.payload["recovered"]:
                seq, epoch = h.payload["seq"], h.payload["epoch"]
            assert h.payload["epoch"] == epoch
        elif "seq" in h.payload:
            assert h.payload.get("first_seq", h.payload["seq"]) == seq + 1, f"after {seq}: {_brief(h)}"
            seq = h.payload["seq"]


def _has(payload: Json, fields: Json) -> bool:
    return all(payload.get(name) == value for name, value in fields.items())


def _of_turn(payload: Json, turn: str) -> bool:
    request = payload.get("request")
    return turn == (request.get("turn") if isinstance(request, dict) else payload.get("turn"))


def _brief(heard: Heard) -> str:
    text = json.dumps(heard.payload)
    return f"{heard.event} {text if len(text) < 300 else text[:300] + '…'}"


@pytest.fixture(scope="session")
def phoenix_js_process() -> Iterator[PhoenixJs]:
    process = PhoenixJs()
    yield process
    process.close()


class Clients:
    """Sockets of one test, to whichever bridge it means; gone when the test ends."""

    def __init__(self, process: PhoenixJs) -> None:
        self._process = process
        self.sockets: list[JsSocket] = []

    def connect(self, url: str, token: str, **options: Any) -> JsSocket:
        """A socket that connects now, whether or not that works."""
        socket = self._process.socket(url, token, **options)
        self.sockets.append(socket)
        return socket


@pytest.fixture
def clients(phoenix_js_process: PhoenixJs) -> Iterator[Clients]:
    """When the test ends, every channel of a session must have been told every event once."""
    made = Clients(phoenix_js_process)
    yield made
    for socket in made.sockets:
        socket.disconnect()
    for socket in made.sockets:
        for channel in socket.channels:
            if channel.joined:
                assert_contiguous(channel)
