"""A client whose connection breaks: phoenix.js joins again with what it saw last, and misses nothing.

That no number is missing and none comes twice is checked for every channel of every test (`clients`).
"""

from __future__ import annotations

import pytest

from bridge.simulator.script import words
from tests.fakes.bridge import Sessions, sim
from tests.fakes.phoenix_js import JsChannel, Story, assert_well_told

pytestmark = pytest.mark.real

COUNT = 300
LONG = sim(thinking="hm hm", words=COUNT, gap_ms=4)


def joins(channel: JsChannel) -> list[dict[str, object]]:
    return [h.payload for h in channel.heard if h.event == "join_ok"]


def rejoined(channel: JsChannel, times: int) -> None:
    channel.until(lambda: len(joins(channel)) > times or None, f"rejoin no. {times}")


@pytest.mark.parametrize("cut_at", ["turn_started", "delta", "block", "turn_finished"])
def test_a_cut_anywhere_loses_nothing(sessions: Sessions, cut_at: str) -> None:
    """The story of the turn is the one that who stayed was told."""
    channel = sessions.talk(resume=True)
    stayed = sessions.look(channel)
    turn = channel.submit(f"count {sim(thinking='hm hm', words=100, gap_ms=2)}")
    channel.wait(cut_at, turn=turn)
    channel.socket.cut()
    rejoined(channel, 1)
    story = channel.story(turn)
    assert joins(channel)[1]["recovered"] is True
    assert_well_told(story)
    assert story.text == words(100).rstrip()
    assert told(story) == told(stayed.story(turn))


def told(story: Story) -> list[tuple[str, dict[str, object]]]:
    """Deltas may have been merged on the way to one client and not to the other: their joined text counts."""
    found: list[tuple[str, dict[str, object]]] = []
    for h in story.heard:
        payload = {k: v for k, v in h.payload.items() if k not in ("seq", "first_seq", "at")}
        if (
            h.event == "delta"
            and found
            and found[-1][0] == "delta"
            and found[-1][1]["block"] == payload["block"]
        ):
            payload["text"] = f"{found.pop()[1]['text']}{payload['text']}"
        found.append((h.event, payload))
    return found


def test_twenty_cuts_in_one_turn_lose_nothing(sessions: Sessions) -> None:
    """Each as soon as the last one is mended."""
    channel = sessions.join(resume=True)
    turn = channel.submit(f"count {LONG}")
    channel.wait("turn_started", turn=turn)
    for times in range(1, 21):
        channel.socket.cut()
        rejoined(channel, times)
    story = channel.story(turn)
    assert_well_told(story)
    assert all(join["recovered"] for join in joins(channel)[1:])
    assert (story.blocks[1], story.text) == (words(COUNT), words(COUNT).rstrip())


def test_what_happened_while_away_is_told_on_return(sessions: Sessions) -> None:
    """Whole turns, asked for by others."""
    channel = sessions.talk(resume=True)
    other = sessions.look(channel)
    channel.ask("before")
    channel.socket.disconnect()
    stories = [other.ask(f"meanwhile {n}") for n in range(3)]
    channel.socket.connect()
    for story in stories:
        turn = story.finished["turn"]
        assert told(channel.story(turn)) == told(story)
    assert joins(channel)[1]["recovered"] is True


def test_who_joins_in_mid_turn_gets_the_text_so_far(sessions: Sessions) -> None:
    """Snapshot and the events behind it make the whole, without a gap and without an overlap."""
    channel = sessions.talk()
    turn = channel.submit(f"count {LONG}")
    late = []
    for place in (1, 20, 100):
        channel.wait("delta", count=place, turn=turn)
        late.append(sessions.look(channel))
    for joined in late:
        joined.wait("turn_finished", turn=turn)
        open_turn = joined.joined["open_turn"]
        assert (open_turn["id"], open_turn["status"]) == (turn, "running")
        text = {block["block"]: block["text"] for block in open_turn["blocks"]}
        for h in joined.heard:
            if h.event == "delta":
                text[h.payload["block"]] = text.get(h.payload["block"], "") + h.payload["text"]
        assert text == {0: "hm hm", 1: words(COUNT)}
    assert late[-1].joined["open_turn"]["text"].startswith("w0 w1 ")


def test_a_cursor_of_another_epoch_gets_a_snapshot(sessions: Sessions) -> None:
    """Which says so."""
    channel = sessions.join()
    channel.ask("hello")
    joined = sessions.look(channel, after={"epoch": "another", "seq": 1}).joined
    assert joined["recovered"] is False
    assert [t["text"] for t in joined["turns"]] == ["You said: hello"]


def test_a_cursor_is_good_for_any_client(sessions: Sessions) -> None:
    """`after` at every number that there was gives exactly the events behind it."""
    channel = sessions.join()
    story = channel.ask(sim(words=5))
    channel.wait_session(state="idle", turns=1)
    epoch, numbered = channel.joined["epoch"], channel.numbered()
    last = numbered[-1]["seq"]
    assert len(story.heard) > 5
    for seq in range(channel.joined["seq"], numbered[-1]["seq"] + 1):
        again = sessions.look(channel, after={"epoch": epoch, "seq": seq})
        assert again.joined["recovered"] is True
        assert again.joined["seq"] == numbered[-1]["seq"]
        expected = [e for e in numbered if e["seq"] > seq]
        if expected:
            again.wait_number(last)
        assert again.numbered() == expected
