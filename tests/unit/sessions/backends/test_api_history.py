"""What of a conversation goes along with a prompt, and as what."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import PromptRejected
from bridge.events import Turn, TurnId, TurnStatus
from bridge.sessions.backends.api_history import (
    CONTINUE,
    INTERRUPTED,
    KEPT,
    Said,
    estimate,
    kept,
    messages,
    said,
    system,
)
from bridge.sessions.backends.base import File

FILES = st.lists(
    st.builds(
        File,
        st.just("name"),
        st.sampled_from(["image/png", "application/pdf", "text/plain; charset=utf-8", "application/json"]),
        st.binary(max_size=20),
    ),
    max_size=2,
).map(tuple)
TURNS = st.builds(
    Turn,
    id=st.just(TurnId("t")),
    prompt=st.text(max_size=20),
    author=st.none(),
    source=st.just("client"),
    status=st.sampled_from(get_args(TurnStatus)),
    queued_at=st.just(0.0),
    text=st.text(max_size=20).map(str.rstrip),
)


@given(st.lists(st.tuples(TURNS, FILES), max_size=8), FILES, st.sampled_from(["", "  ", "part", "part "]))
def test_whatever_was_said_the_api_takes_it(
    turns: list[tuple[Turn, tuple[File, ...]]], files: tuple[File, ...], partial: str
) -> None:
    """Roles alternate from a user's to a user's, nothing is empty, and at most two places are marked."""
    past = [told for turn, own in turns if (told := said(turn, own)) is not None]
    found = messages(past, "prompt", files, partial=partial, caching=True)
    roles = [m["role"] for m in found]
    assert roles == ["user" if n % 2 == 0 else "assistant" for n in range(len(roles))]
    assert roles[-1] == "user"
    blocks = [b for m in found for b in m["content"]]
    assert all(m["content"] for m in found)
    for block in blocks:
        if block["type"] == "text":
            assert block["text"].strip()
        else:
            assert block["source"]["data"].strip() or block["source"]["type"] == "base64"
    marks = [n for n, b in enumerate(blocks) if "cache_control" in b]
    assert len(marks) == (2 if past else 1)
    assert marks[-1] == len(blocks) - 1
    assert all("cache_control" not in b for m in messages(past, "prompt", files) for b in m["content"])


def turn(status: TurnStatus, text: str = "", prompt: str = "asked") -> Turn:
    return Turn(TurnId("t"), prompt, None, "client", status, 0.0, text=text)


def test_what_came_to_nothing_is_left_out() -> None:
    """It may be why it came to nothing. Of what was interrupted the prompt stays."""
    assert said(turn("failed")) is None
    assert said(turn("cancelled")) is None
    assert said(turn("completed")) is None
    assert said(turn("failed", "some")) == Said("asked", "some")
    assert said(turn("interrupted")) == Said("asked", "")
    assert said(turn("unknown", "some")) == Said("asked", "some")
    assert said(turn("completed", "answered", prompt=" ")) is None


def test_a_prompt_without_an_answer_goes_with_the_next() -> None:
    """In one message, with a word on why."""
    (only,) = messages([Said("one", "")], "two")
    assert [b["text"] for b in only["content"]] == ["one", INTERRUPTED, "two"]


def test_an_answer_that_goes_on_is_shown_what_there_is_of_it() -> None:
    """And asked for the rest; the mark is where the request ends."""
    found = messages([], "ask", partial="so far ", caching=True)
    assert [(m["role"], m["content"][0]["text"]) for m in found] == [
        ("user", "ask"),
        ("assistant", "so far"),
        ("user", CONTINUE),
    ]
    assert "cache_control" in found[-1]["content"][-1]


def test_files_come_as_what_they_are_before_the_prompt() -> None:
    """Images and PDFs as base64, text as text."""
    files = [
        File("a", "image/png", b"\x89"),
        File("b", "application/pdf", b"%"),
        File("c", "text/csv", b"1,2"),
    ]
    (asked,) = messages([], "look", files)
    kinds = [(b["type"], b["source"]["type"], b["source"]["media_type"]) for b in asked["content"][:-1]]
    assert kinds == [
        ("image", "base64", "image/png"),
        ("document", "base64", "application/pdf"),
        ("document", "text", "text/plain"),
    ]
    assert asked["content"][-1] == {"type": "text", "text": "look"}
    assert asked["content"][0]["source"]["data"] == "iQ=="


def test_a_file_that_the_api_does_not_take_is_refused() -> None:
    """With its name."""
    with pytest.raises(PromptRejected, match="clip"):
        messages([], "look", [File("clip", "video/mp4", b"x")])


def test_system_prompts_are_said_one_after_the_other() -> None:
    """Blank ones are none."""
    assert system(None, None) == system(" ", "") == []
    assert [b["text"] for b in system("a", "b", caching=True)] == ["a", "b"]
    assert "cache_control" in system("a", None, caching=True)[0]


@given(st.lists(st.integers(1, 1000), max_size=60), st.integers(-100, 20_000))
def test_what_is_kept_fits_and_leaves_room(tokens: list[int], room: int) -> None:
    """Everything, or the newest within three quarters of the room and not one fewer."""
    count = kept(tokens, room)
    newest = tokens[len(tokens) - count :]
    if not tokens or sum(tokens) <= room:
        assert count == len(tokens)
        return
    assert sum(newest) <= max(room * KEPT, 0)
    assert count < len(tokens)
    assert sum(newest) + tokens[len(tokens) - count - 1] > int(room * KEPT)


def test_an_estimate_is_rather_too_high() -> None:
    """Four bytes to a token are usual."""
    text = "The heron stands on one leg. " * 100
    assert estimate(text) > len(text) / 4
    assert estimate("", [File("a", "image/png", b"x" * 9)]) > 1500
