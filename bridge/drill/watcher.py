"""A client that stays with one session through every restart, and disbelieves all it is told.

It keeps the session's turns as a front end would, out of events and snapshots, over the Python client's
connection, and fails at the first thing that does not fit: a number missing or told twice, a turn that
begins or ends twice, a preview unlike its block, a snapshot that forgets what was known.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bridge.client import Connection, ConnectionLost, Cursor, connect
from bridge.drill.account import Broken, Complain, Kind, insist
from bridge.errors import BridgeUnreachable, RefusedByBridge
from bridge.locate import Address
from bridge.reading import FINAL

Json = dict[str, Any]

AGAIN_S = 0.05
"""How soon it tries to come back: faster than any front end, so that it sees a bridge at its youngest."""
SNAPSHOT_TURNS = 1000


@dataclass
class View:
    """A turn as told."""

    status: str
    prompt: str
    key: str | None = None
    text: str = ""
    error: Json | None = None
    previews: dict[int, str] = field(default_factory=dict)
    blocks: dict[int, str] = field(default_factory=dict)
    discards: int = 0
    told_end: int = 0
    """How many `turn_finished` events there were of it, over all epochs."""


class Watcher:
    """`run` it as a task; `until` waits for something to be so."""

    def __init__(
        self,
        address: Address,
        name: str,
        *,
        answers: bool = False,
        start: Json | None = None,
        complain: Complain = insist,
    ) -> None:
        """With `answers` every request for permission is allowed, however often that takes. What does not fit
        goes to `complain`; where that does not raise, it begins anew with what the bridge says then."""
        self.name = name
        self.topic = f"session:{name}"
        self.turns: dict[str, View] = {}
        self.requests: dict[str, Json] = {}
        self.session: Json = {}
        self.states: list[Json] = []
        self.epochs: list[str] = []
        self.joins = 0
        self.recovered = 0
        self.events = 0
        self.connected = False
        self._answers = answers
        self._start = start
        self._complain = complain
        self.address = address
        self._cursor = Cursor()
        self._news = asyncio.Condition()

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            try:
                async with connect(self.address) as connection:
                    await self._watch(connection)
            except Broken as broken:
                self._complain(broken)
                await self._tell(self._forget)
            except (ConnectionLost, BridgeUnreachable):
                await self._tell(self._lost)
                await asyncio.sleep(AGAIN_S)

    async def until(self, holds: Callable[[], bool], what: str, within_s: float | None = 90) -> None:
        """Wait until `holds` does. Raises `Broken`, saying what is missing, when time is up (None: never)."""
        try:
            async with asyncio.timeout(within_s), self._news:
                await self._news.wait_for(holds)
        except TimeoutError:
            open_ = {t: v.status for t, v in self.turns.items() if v.status not in FINAL}
            raise Broken(
                "lost", f"{self.name}: {within_s:g} s without {what}; session {self.session}; open {open_}"
            ) from None

    async def finished(self, turn: str, within_s: float = 90) -> View:
        """How a turn ended."""

        def ended() -> bool:
            return turn in self.turns and self.turns[turn].status in FINAL

        await self.until(ended, f"the end of {turn}", within_s)
        return self.turns[turn]

    @property
    def unfinished(self) -> list[str]:
        return [t for t, v in self.turns.items() if v.status not in FINAL]

    # --- one connection ---------------------------------------------------------------------------------

    async def _watch(self, connection: Connection) -> None:
        first = self._cursor.epoch is None
        start = {"start": self._start} if first and self._start is not None else {}
        payload = {"turns": SNAPSHOT_TURNS, **start, **self._cursor.after()}
        reply = await connection.join(self.topic, payload)
        await self._tell(lambda: self._joined(reply))
        await self._answer(connection)
        while True:
            message = await connection.receive()
            if message.topic != self.topic or message.event.startswith("presence_"):
                continue
            self._holds(message.event not in ("phx_error", "phx_close"), f"the channel broke: {message}")
            await self._tell(lambda m=message: self.take(m.event, m.payload))  # type: ignore[misc]
            if message.event == "request_opened":
                await self._answer(connection)

    async def _answer(self, connection: Connection) -> None:
        for request in list(self.requests) if self._answers else ():
            try:
                await connection.push(self.topic, "answer", {"request": request, "decision": "allow"})
            except RefusedByBridge as refused:
                # Already answered, or moot; or it could not be sent, and is told again.
                if refused.reason not in ("request_closed", "internal"):
                    raise

    async def _tell(self, change: Callable[[], None]) -> None:
        async with self._news:
            change()
            self._news.notify_all()

    def _lost(self) -> None:
        self.connected = False

    def _forget(self) -> None:
        self.connected = False
        self._cursor = Cursor()
        self.turns.clear()
        self.requests.clear()

    def _holds(self, condition: bool, what: str, kind: Kind = "wrong") -> None:
        if not condition:
            raise Broken(kind, f"{self.name}: {what}")

    # --- what it is told --------------------------------------------------------------------------------

    def _joined(self, reply: Json) -> None:
        self.connected = True
        self.joins += 1
        if self._cursor.epoch is None:
            self._holds(not reply["recovered"], "recovered, and nothing was seen before")
        if reply["epoch"] not in self.epochs:
            self.epochs.append(reply["epoch"])
        self._holds(reply["epoch"] == self.epochs[-1], "an epoch came back")
        self._cursor.joined(reply)
        if reply["recovered"]:
            self.recovered += 1
        else:
            self._snapshot(reply)

    def _snapshot(self, reply: Json) -> None:
        """The whole truth; what was known has to fit into it."""
        self.session = reply["session"]
        self.states.append(reply["session"])
        self.requests = {r["id"]: r for r in reply["requests"]}
        open_turn = [reply["open_turn"]] if reply["open_turn"] else []
        told = [*reply["turns"], *open_turn, *reply["queue"]]
        ids = [t["id"] for t in told]
        self._holds(len(set(ids)) == len(ids), f"the snapshot has a turn twice: {ids}", "duplicated")
        oldest = list(self.turns).index(ids[0]) if ids and ids[0] in self.turns else 0
        old = {t for t in list(self.turns)[:oldest] if self.turns[t].status in FINAL}  # a snapshot is bounded
        missing = {t: v.status for t, v in self.turns.items() if t not in ids and t not in old}
        self._holds(missing == {}, f"the snapshot has lost {missing}", "lost")
        for turn in told:
            known = self.turns.get(turn["id"])
            if known is None:
                known = self.turns[turn["id"]] = View("", turn["prompt"], turn.get("key"))
            self._holds(known.prompt == turn["prompt"], f"{turn['id']} has another prompt now")
            if known.status in FINAL:
                same = (turn["status"], turn["text"]) == (known.status, known.text)
                self._holds(same, f"{turn['id']} changed after its end: {known} became {turn}")
            elif known.status == "running":
                self._holds(turn["status"] != "queued", f"{turn['id']} ran, and waits again")
            known.status, known.text, known.error = turn["status"], turn["text"], turn.get("error")
            known.previews, known.blocks = {}, {}
            texts = {b["block"]: b["text"] for b in turn["blocks"] if b["kind"] in ("text", "thinking")}
            if turn["status"] == "running":
                known.previews = texts  # settled or still growing: the next event of the block says which
            else:
                known.blocks = texts

    def take(self, event: str, payload: Json) -> None:
        """One event: the next in number, and one that can happen to what is known."""
        first, last = payload.get("first_seq", payload["seq"]), payload["seq"]
        seen = self._cursor.seq
        place = self._cursor.take(payload)
        broken: Kind = "lost" if place == "gap" else "duplicated"
        self._holds(place == "new", f"{first} to {last} follows {seen}: {event}", broken)
        self.events += 1
        turn = self.turns.get(payload.get("turn", ""))
        match event:
            case "session_changed":
                self.session = payload["session"]
                self.states.append(payload["session"])
            case "turn_queued":
                if turn is not None:  # put back, because nothing could run it
                    self._holds(turn.status == "running", f"queued while {turn.status}: {payload}")
                    self._holds(not turn.previews, f"queued with text: {payload}")
                self.turns[payload["turn"]] = View("queued", payload["prompt"], payload["key"])
            case "turn_started":
                if turn is None:
                    self._holds(payload["source"] == "terminal", f"started, and never queued: {payload}")
                    turn = self.turns[payload["turn"]] = View("queued", payload["prompt"])
                self._holds(turn.status == "queued", f"started while {turn.status}: {payload}", "duplicated")
                turn.status = "running"
            case "turn_finished":
                self._holds(turn is not None, f"finished, and never heard of: {payload}")
                assert turn is not None
                self._finished(turn, payload)
            case "request_opened":
                self.requests[payload["request"]["id"]] = payload["request"]
            case "request_closed":
                self.requests.pop(payload["request"], None)
            case _:
                self._holds(turn is not None, f"of no turn that is known: {event} {payload}")
                assert turn is not None
                self._holds(turn.status == "running", f"{event} of a turn that is {turn.status}: {payload}")
                self._of_turn(turn, event, payload)

    def _of_turn(self, turn: View, event: str, payload: Json) -> None:
        block = payload.get("block", -1)
        match event:
            case "delta":
                self._holds(block not in turn.blocks, f"a delta after the end of its block: {payload}")
                turn.previews[block] = turn.previews.get(block, "") + payload["text"]
            case "discard":
                turn.discards += 1
                self._holds(turn.previews.pop(block, None) is not None, f"nothing to discard: {payload}")
            case "block":
                preview = turn.previews.pop(block, None)
                self._holds(preview in (None, payload["text"]), f"the preview {preview!r} became {payload}")
                turn.blocks[block] = payload["text"]

    def _finished(self, turn: View, payload: Json) -> None:
        turn.told_end += 1
        self._holds(turn.told_end == 1, f"finished twice: {payload}", "duplicated")
        self._holds(turn.status in ("queued", "running"), f"finished while {turn.status}: {payload}")
        turn.status, turn.text, turn.error = payload["status"], payload["text"], payload.get("error")
