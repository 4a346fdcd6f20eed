"""Files that come with a prompt reach Claude, whatever runs below, and the turn says what came with it."""

from __future__ import annotations

import json

import pytest

from tests.fakes.bridge import BridgeProcess, Sessions, sim
from tests.fakes.files import (
    NOTES,
    PAPER,
    PICTURE,
    TEXT,
    Given,
    attached,
    blocks_of,
    described,
    pictures_in,
    png,
)
from tests.fakes.phoenix_js import JsChannel, Refused, assert_well_told

pytestmark = pytest.mark.real

HOLD = sim(first_ms=60_000)
"""Runs until it is interrupted."""


def test_a_picture_and_a_text_reach_claude(bridge: BridgeProcess, sessions: Sessions) -> None:
    """Exactly, and once; the turn's prompt is what was submitted, wherever it is told."""
    channel = sessions.join()
    prompt = f"what is in these? {sim(text='a cat')}"
    turn = channel.submit(prompt, attachments=attached(PICTURE, TEXT))
    story = channel.story(turn)
    assert_well_told(story)
    assert (story.status, story.text) == ("completed", "a cat")
    for event in ("turn_queued", "turn_started"):
        told = channel.wait(event, turn=turn)
        assert (told["prompt"], told["attachments"]) == (prompt, described(PICTURE, TEXT))
    (request,) = bridge.requests("what is in these?")
    assert pictures_in(request) == [PICTURE[2]]
    whole = json.dumps(blocks_of(request), ensure_ascii=False)
    assert "The word is marmalade." in whole
    assert "größer" in whole
    (kept,) = channel.push("history", {"limit": 1})["turns"]
    assert (kept["prompt"], kept["attachments"]) == (prompt, described(PICTURE, TEXT))


def test_files_may_say_all_there_is_to_say(bridge: BridgeProcess, sessions: Sessions) -> None:
    """Without a word, or with blanks alone; without files there must be some."""
    channel = sessions.join()
    channel.ask("warm up")
    for payload in ({}, {"prompt": ""}, {"prompt": " \n"}):
        with pytest.raises(Refused) as refused:
            channel.push("submit", payload)
        assert refused.value.response["reason"] in ("prompt_empty", "invalid_payload")
        turn = channel.push("submit", {**payload, "attachments": attached(PICTURE)})["turn"]
        assert channel.story(turn).status == "completed"
        assert channel.wait("turn_started", turn=turn)["prompt"] == payload.get("prompt", "")
    assert [pictures_in(r) for r in bridge.requests()][-3:] == [[PICTURE[2]]] * 3


def test_a_long_prompt_may_have_files(bridge: BridgeProcess, sessions: Sessions) -> None:
    """Also where a terminal folds it."""
    channel = sessions.talk()
    prompt = f"long {'word ' * 5000}{sim(text='read')}"
    assert channel.ask(prompt, attachments=attached(PICTURE, TEXT)).text == "read"
    (request,) = bridge.requests("long word")
    assert pictures_in(request) == [PICTURE[2]]


def test_a_large_file_and_a_pdf_can_be_read(bridge: BridgeProcess, sessions: Sessions) -> None:
    """Headless they stand in the prompt. The TUI takes neither: Claude opens them, and asks nobody."""
    channel = sessions.join()
    large: Given = ("large.png", "image/png", png(400))
    prompt = f"large ones {sim(text='seen')}"
    turn = channel.submit(prompt, attachments=attached(large, PAPER))
    assert channel.story(turn).status == "completed"
    (request,) = bridge.requests("large ones")
    if not sessions.tui:
        assert [b["type"] for b in blocks_of(request) if b["type"] != "text"][-2:] == ["image", "document"]
        return
    said = "\n".join(b["text"] for b in blocks_of(request) if b["type"] == "text")
    folder = bridge.state_dir / "sessions" / channel.topic.partition(":")[2] / "files" / turn
    paths = [str(path) for path in sorted(folder.iterdir())]
    assert [f'to be opened with the Read tool: "{path}"' in said for path in paths] == [True, True]
    reading = sim(tools=[["Read", {"file_path": path}] for path in paths], text="read")
    story = channel.ask(f"read them {reading}")
    assert story.text == "read"
    assert story.of("request_opened") == []
    outputs = "\n".join(t["output"] for t in story.of("tool_finished"))  # the two are read at once
    assert ["[image]" in outputs, "[document]" in outputs] == [True, True]


def test_files_wait_with_their_prompt(bridge: BridgeProcess, sessions: Sessions) -> None:
    """The queue says of them what the turn will; a cancelled one's are never handed over."""
    channel = sessions.talk()
    channel.ask("warm up")
    first = channel.submit(HOLD)
    waits, gone = (
        channel.submit(f"{p} of files", attachments=attached(PICTURE)) for p in ("first", "second")
    )
    queue = sessions.look(channel).joined["queue"]
    assert [(t["id"], t["attachments"]) for t in queue] == [(t, described(PICTURE)) for t in (waits, gone)]
    channel.push("cancel", {"turn": gone})
    channel.wait("turn_started", turn=first)
    channel.push("interrupt")
    assert channel.story(waits).status == "completed"
    assert [pictures_in(r) for r in bridge.requests("of files")] == [[PICTURE[2]]]


def test_one_id_is_one_prompt_with_the_same_files(bridge: BridgeProcess, sessions: Sessions) -> None:
    """Again with the same it runs nothing; with others it is refused."""
    channel = sessions.talk()
    payload = {
        "prompt": "once with files",
        "id": f"key-{channel.topic}",
        "attachments": attached(PICTURE, TEXT),
    }
    first = channel.push("submit", payload)
    channel.story(first["turn"])
    again = channel.push("submit", payload)
    assert (again["turn"], again["duplicate"]) == (first["turn"], True)
    renamed = ("other.png", *PICTURE[1:])
    for others in ([], attached(PICTURE), attached(TEXT, PICTURE), attached(renamed, TEXT)):
        with pytest.raises(Refused) as refused:
            channel.push("submit", {**payload, "attachments": others})
        assert (refused.value.response["reason"], refused.value.response["field"]) == (
            "invalid_payload",
            "id",
        )
    assert len(bridge.requests("once with files")) == 1


@pytest.mark.parametrize(
    ("file", "field"),
    [
        (("a/b.png", "image/png", png()), "attachments.1.name"),
        (("a.zip", "application/zip", b"PK"), "attachments.1.media_type"),
        (("a.jpg", "image/jpeg", png()), "attachments.1.media_type"),
        (("a.txt", "text/plain", b"\xff\xfe"), "attachments.1.data"),
        (("a.txt", "text/plain", b""), "attachments.1.data"),
        (("a.txt", "text/plain", b"x" * 5_000_001), "attachments.1.data"),
    ],
    ids=["name", "type", "mismatch", "no text", "empty", "large"],
)
def test_what_claude_could_not_take_is_refused(sessions: Sessions, file: Given, field: str) -> None:
    """At once, with the field: later it would spoil the conversation."""
    channel = sessions.talk()
    with pytest.raises(Refused) as refused:
        channel.push("submit", {"prompt": "x", "attachments": attached(PICTURE, file)})
    assert (refused.value.response["reason"], refused.value.response["field"]) == ("invalid_payload", field)


def test_files_stay_for_as_long_as_the_session(bridge: BridgeProcess, sessions: Sessions) -> None:
    """A restart of its process keeps them, and `delete` leaves nothing."""
    channel: JsChannel = sessions.join()
    channel.ask(f"keep it {sim(text='kept')}", attachments=attached(TEXT))
    channel.push("restart")
    assert channel.ask(f"is it there? {sim(text='yes')}", attachments=attached(PICTURE)).text == "yes"
    name = channel.topic.partition(":")[2]
    folder = bridge.state_dir / "sessions" / name
    if sessions.tui:
        kept = [path.read_bytes() for path in folder.glob("files/*/*")]
        assert sorted(kept) == sorted([NOTES.encode(), PICTURE[2]])
        assert {path.stat().st_mode & 0o777 for path in folder.glob("files/*/*")} == {0o600}
    sessions.socket.join("sessions").push("delete", {"name": name})
    assert not folder.exists()
