"""The lines that the CLI reads."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bridge.events import RequestId, TurnId
from bridge.sessions.backends.base import File
from bridge.sessions.claude import stdin

TEXT = st.text(st.characters(exclude_categories=("Cs",)))


def read(line: bytes) -> dict[str, Any]:
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    frame: dict[str, Any] = json.loads(line)
    return frame


@given(TEXT)
def test_a_prompt_is_one_line_whatever_is_in_it(text: str) -> None:
    """A second line would be one that the CLI cannot read, and that ends it."""
    frame = read(stdin.prompt(TurnId("t1"), text))
    assert frame["message"] == {"role": "user", "content": text}
    assert frame["uuid"] == "t1"
    assert frame["client_composed"] is True


def test_files_come_before_the_text() -> None:
    """Each as the kind of block that the API has for it; blanks alone are no text."""
    files = (
        File("a.png", "image/png", b"\x89PNG"),
        File("b.pdf", "application/pdf", b"%PDF-"),
        File("c.md", "text/markdown", "größer".encode()),
    )
    blocks = [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw=="}},
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="},
            "title": "b.pdf",
        },
        {
            "type": "document",
            "source": {"type": "text", "media_type": "text/plain", "data": "größer"},
            "title": "c.md",
        },
    ]
    said = {"type": "text", "text": "/look"}
    assert read(stdin.prompt("t1", "/look", files))["message"]["content"] == [*blocks, said]
    assert read(stdin.prompt("t1", " \n", files))["message"]["content"] == blocks


def test_a_yes_carries_the_input_and_the_chosen_suggestions() -> None:
    """No suggestion chosen: the key is not there."""
    allowed = read(stdin.allow(RequestId("r1"), {"a": 1}, ({"type": "setMode"},)))["response"]
    assert allowed["request_id"] == "r1"
    assert allowed["response"] == {
        "behavior": "allow",
        "updatedInput": {"a": 1},
        "updatedPermissions": [{"type": "setMode"}],
    }
    assert "updatedPermissions" not in read(stdin.allow(RequestId("r1"), {}, ()))["response"]["response"]


def test_a_no_carries_its_reason_and_may_end_the_turn() -> None:
    """Without `interrupt` Claude goes on with what it was told."""
    denied = read(stdin.deny(RequestId("r1"), "no", interrupt=True))["response"]["response"]
    assert denied == {"behavior": "deny", "message": "no", "interrupt": True}
    assert read(stdin.deny(RequestId("r1"), "no", interrupt=False))["response"]["response"] == {
        "behavior": "deny",
        "message": "no",
    }


def test_what_the_bridge_does_not_know_is_refused_with_a_reason() -> None:
    """Unanswered, it would hold the CLI for ever."""
    assert read(stdin.refuse("r1", "unknown"))["response"] == {
        "subtype": "error",
        "request_id": "r1",
        "error": "unknown",
    }


def test_a_control_request_carries_its_arguments() -> None:
    """Beside its subtype."""
    frame = read(stdin.control("q1", "set_model", model="opus"))
    assert frame["request_id"] == "q1"
    assert frame["request"] == {"subtype": "set_model", "model": "opus"}
