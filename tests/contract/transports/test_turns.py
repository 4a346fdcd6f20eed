"""Prompts and answers over every transport: the same events and numbers, also for who was cut off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bridge.simulator.script import scripted as sim
from bridge.simulator.script import words
from tests.contract.transports.conftest import Connect
from tests.contract.transports.test_joining import refusal
from tests.fakes.peers import Peer
from tests.fakes.phoenix_js import Json, assert_well_told

pytestmark = pytest.mark.real

HOLD = sim(first_ms=60_000)
"""Runs until it is interrupted."""
TOO_LARGE = "x" * 1_048_577


def assert_whole(peer: Peer, topic: str, joined: Json) -> None:
    """No number is missing behind the join, and none came twice."""
    seq = joined["seq"]
    for _, payload in peer.numbered(topic):
        assert payload.get("first_seq", payload["seq"]) == seq + 1
        seq = payload["seq"]


async def ask(peer: Peer, topic: str, prompt: str, **more: Any) -> str:
    turn: str = (await peer.ask(topic, "submit", {"prompt": prompt, **more}))["turn"]
    return turn


async def test_a_prompt_is_answered_as_a_stream(connect: Connect, way: str, talk: str) -> None:
    """Begun first, ended last, the preview the same as the text; and the reply to the prompt before all."""
    peer = await connect(way)
    joined = await peer.join(talk, {"turns": 0})
    reply = await peer.ask(talk, "submit", {"prompt": f"hello {sim(thinking='so', words=50)}"})
    assert reply["status"] in ("running", "queued")
    story = await peer.story(talk, reply["turn"])
    assert_well_told(story)
    assert_whole(peer, talk, joined)
    assert "".join(story.deltas) == story.blocks[1] == words(50)
    assert story.blocks[0] == "so"
    assert (story.status, story.text) == ("completed", words(50).rstrip())
    if peer.ordered:
        assert reply.order < story.heard[0].order


async def test_prompts_wait_their_turn_and_can_be_cancelled(connect: Connect, way: str, talk: str) -> None:
    """Only while they wait."""
    peer = await connect(way)
    await peer.join(talk, {"turns": 0})
    running, gone, last = [await ask(peer, talk, prompt) for prompt in (HOLD, "never", "last")]
    await peer.wait(talk, "turn_started", turn=running)
    told = [await peer.wait(talk, "turn_queued", turn=turn) for turn in (running, gone, last)]
    assert [payload["position"] for payload in told] == [0, 1, 2]
    assert (await refusal(peer.ask(talk, "cancel", {"turn": running})))["reason"] == "turn_not_found"
    await peer.ask(talk, "cancel", {"turn": gone})
    assert (await peer.wait(talk, "turn_finished", turn=gone))["status"] == "cancelled"
    assert (await peer.ask(talk, "interrupt"))["turn"] == running
    assert (await peer.story(talk, running)).status == "interrupted"
    assert (await peer.story(talk, last)).text == "You said: last"


async def test_an_interrupt_keeps_what_was_said(connect: Connect, way: str, talk: str) -> None:
    """And with nothing to interrupt it says so."""
    peer = await connect(way)
    await peer.join(talk, {"turns": 0})
    turn = await ask(peer, talk, sim(words=3000, gap_ms=20))
    await peer.wait(talk, "delta", turn=turn, count=3)
    assert (await peer.ask(talk, "interrupt", {})) == {"turn": turn}
    story = await peer.story(talk, turn)
    assert_well_told(story)
    assert story.status == "interrupted"
    assert story.text == "".join(story.deltas).rstrip()
    assert (await peer.ask(talk, "interrupt")) == {"turn": None}


async def test_a_key_makes_a_prompt_once(connect: Connect, way: str, talk: str) -> None:
    """The same again is the same turn; another prompt under it is a mistake."""
    peer = await connect(way)
    joined = await peer.join(talk, {"turns": 0})
    key = f"key-{way}"
    turn = await ask(peer, talk, "only once", id=key)
    assert await ask(peer, talk, "only once", id=key) == turn
    assert (await peer.story(talk, turn)).text == "You said: only once"
    again = await peer.ask(talk, "submit", {"prompt": "only once", "id": key})
    assert (again["turn"], again["status"]) == (turn, "completed")
    other = await refusal(peer.ask(talk, "submit", {"prompt": "another", "id": key}))
    assert (other["reason"], other["field"]) == ("invalid_payload", "id")
    assert (await peer.join(talk, {"turns": 0}))["session"]["turns"] == joined["session"]["turns"] + 1


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")  # so python-socketio polls
async def test_a_prompt_has_text_and_a_limit(connect: Connect, way: str, talk: str) -> None:
    """Empty and too large ones are refused as such."""
    peer = await connect(way)
    await peer.join(talk, {"turns": 0})
    assert (await refusal(peer.ask(talk, "submit", {"prompt": " \n"})))["reason"] == "prompt_empty"
    large = await refusal(peer.ask(talk, "submit", {"prompt": TOO_LARGE}))
    assert (large["reason"], large["size"], large["limit"]) == ("prompt_too_large", 1_048_577, 1_048_576)


async def test_history_has_what_is_finished(connect: Connect, way: str, talk: str) -> None:
    """Newest last, and page by page."""
    peer = await connect(way)
    await peer.join(talk, {"turns": 0})
    turns = [await ask(peer, talk, f"page {n}") for n in range(3)]
    for turn in turns:
        await peer.story(talk, turn)
    latest = (await peer.ask(talk, "history", {"limit": 2}))["turns"]
    assert [turn["id"] for turn in latest] == turns[1:]
    assert (latest[-1]["text"], latest[-1]["status"]) == ("You said: page 2", "completed")
    before = (await peer.ask(talk, "history", {"limit": 1, "before": turns[1]}))["turns"]
    assert [turn["id"] for turn in before] == turns[:1]


def touching(path: Path) -> str:
    """A prompt that makes Claude want to make a file."""
    return sim(tools=[["Bash", {"command": f"touch {path} && echo touched"}]], text="that was it")


async def opened(peer: Peer, topic: str, turn: str) -> Json:
    """The request that the turn opens."""

    def find() -> Json | None:
        told = [h.payload["request"] for h in peer.told[topic] if h.event == "request_opened"]
        return next((r for r in told if r["turn"] == turn), None)

    return await peer.until(find, "a request")


@pytest.mark.parametrize(("decision", "outcome"), [("allow", "allowed"), ("deny", "denied")])
async def test_a_request_is_answered_once(
    connect: Connect, way: str, talk: str, tmp_path: Path, decision: str, outcome: str
) -> None:
    """What is decided is done; who comes later is told who was first, and what they said."""
    peer = await connect(way)
    await peer.join(talk, {"turns": 0})
    made = tmp_path / "made"
    turn = await ask(peer, talk, touching(made))
    request = await opened(peer, talk, turn)
    assert (request["kind"], request["tool"]) == ("permission", "Bash")
    answer = {"request": request["id"], "decision": decision}
    assert await peer.ask(talk, "answer", answer) == {}
    late = await refusal(peer.ask(talk, "answer", {**answer, "decision": "deny"}))
    assert (late["reason"], late["outcome"], late["by"]) == ("request_closed", outcome, "local")
    story = await peer.story(talk, turn)
    assert_well_told(story)
    closed = await peer.wait(talk, "request_closed", request=request["id"])
    assert (closed["outcome"], closed["by"]) == (outcome, "local")
    (finished,) = story.of("tool_finished")
    assert (made.exists(), finished["is_error"]) == (decision == "allow", decision == "deny")
    assert (story.status, story.text) == ("completed", "that was it")


# --- coming back -----------------------------------------------------------------------------------------


def rich(path: Path) -> str:
    """Thinks, wants a tool that is asked about, and answers."""
    return sim(thinking="hm hm", tools=[["Bash", {"command": f"touch {path}"}]], words=8, gap_ms=2)


def merged(told: list[tuple[str, Json]]) -> list[tuple[str, Json]]:
    """To one client adjacent deltas may have come as one, to another singly: their joined text counts."""
    found: list[tuple[str, Json]] = []
    for event, payload in told:
        said = {k: v for k, v in payload.items() if k not in ("seq", "first_seq", "at")}
        if event == "delta" and found and found[-1][0] == event and found[-1][1]["block"] == said["block"]:
            said["text"] = f"{found.pop()[1]['text']}{said['text']}"
        found.append((event, said))
    return found


async def test_who_is_cut_off_behind_every_event_misses_nothing(
    connect: Connect, way: str, talk: str, tmp_path: Path
) -> None:
    """Of a turn with everything in it, cut after each single event while it runs; and from every number on
    again when it is over."""
    stayed = await connect("phoenix-v2")
    joined = await stayed.join(talk, {"turns": 0})
    first, epoch = joined["seq"], joined["epoch"]
    peer = await connect(way)
    await peer.join(talk, {"turns": 0})
    turn = await ask(peer, talk, rich(tmp_path / "made"))
    heard: list[tuple[str, Json]] = []
    while not heard or heard[-1][0] != "turn_finished":
        told = await peer.next_event(talk)
        heard.append((told.event, told.payload))
        if told.event == "request_opened":
            answer = {"request": told.payload["request"]["id"], "decision": "allow"}
            await peer.ask(talk, "answer", answer)
        await come_back(peer, talk, epoch, told.payload["seq"])
    assert_well_told(await stayed.story(talk, turn))
    kinds = {"thinking", "text", "tool_started", "tool_finished", "request_opened", "request_closed"}
    assert kinds <= {event for event, _ in heard} | {payload.get("kind") for _, payload in heard}
    last = heard[-1][1]["seq"]
    assert merged(heard) == merged([told for told in stayed.numbered(talk) if told[1]["seq"] <= last])
    whole: list[tuple[str, Json]] = []
    for seq in range(first, last):
        await come_back(peer, talk, epoch, seq)
        replayed = [await peer.next_event(talk) for _ in range(last - seq)]
        assert [h.payload["seq"] for h in replayed] == list(range(seq + 1, last + 1))
        again = [(h.event, h.payload) for h in replayed]
        # Unlike these, what was heard live may have been merged over the number that is begun behind now.
        whole = whole or again
        assert again == whole[seq - first :]
    assert merged(whole) == merged(heard)


async def come_back(peer: Peer, topic: str, epoch: str, seq: int) -> None:
    """As a client does whose connection broke behind this event."""
    await peer.cut()
    await peer.connect()
    back = await peer.join(topic, {"after": {"epoch": epoch, "seq": seq}, "turns": 0})
    assert (back["recovered"], back["epoch"]) == (True, epoch)


@pytest.mark.parametrize("after", [{"epoch": "another", "seq": 1}, {"epoch": "", "seq": 10**9}])
async def test_a_cursor_that_is_not_held_gets_a_snapshot(
    connect: Connect, way: str, talk: str, after: Json
) -> None:
    """Which says so: of another epoch, or of what has not happened yet."""
    peer = await connect(way)
    joined = await peer.join(talk, {"turns": 0})
    after = {**after, "epoch": after["epoch"] or joined["epoch"]}
    back = await peer.join(talk, {"after": after, "turns": 1})
    assert (back["recovered"], back["seq"]) == (False, joined["seq"])
