"""What clients ask for becomes a command, or an error that says what is wrong with which field."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.commands import CancelTurn, SubmitPrompt
from bridge.errors import InvalidName, InvalidPayload, PromptEmpty
from bridge.wire.requests import parse, parse_join, route
from tests.wire.test_codecs import JSON


def refusal(event: str, payload: Any, kind: Any = "session") -> tuple[str, str]:
    """The field, and the sentence for a person."""
    with pytest.raises(InvalidPayload) as caught:
        parse(kind, event, payload)
    return caught.value.details["field"], str(caught.value)


def test_topics_lead_to_the_lobby_to_a_session_or_nowhere() -> None:
    """The name is looked at later."""
    assert route("session:a b") is not None
    lobby = route("sessions")
    assert lobby is not None
    assert lobby.kind == "sessions"
    assert [route(t) for t in ("", "session", "pool", "terminal", None, 3, ["sessions"])] == [None] * 7


def test_null_counts_as_absent() -> None:
    """At the top and within `start` and `after`."""
    command = parse("session", "submit", {"prompt": "x", "id": None, "mode": None, "command": None})
    assert command == SubmitPrompt(prompt="x")
    join = parse_join({"start": {"cwd": None, "model": "opus"}, "after": None})
    assert join.start is not None
    assert (join.start.cwd, join.start.model, join.after) == (None, "opus", None)
    assert parse_join(None).turns == 20


def test_null_within_a_tools_input_is_its_own() -> None:
    """Only our own keys are forgiven."""
    command = parse("session", "answer", {"request": "r", "decision": "allow", "input": {"a": None}})
    assert command.model_dump()["input"] == {"a": None}


@pytest.mark.parametrize("prompt", ["", " ", "\n\t ", "\u2003"])
def test_a_prompt_without_text_is_prompt_empty(prompt: str) -> None:
    """White space of any kind is none."""
    with pytest.raises(PromptEmpty):
        parse("session", "submit", {"prompt": prompt})
    with pytest.raises(PromptEmpty):
        parse("session", "submit", {"command": prompt})


@pytest.mark.parametrize("payload", [{}, {"prompt": None}])
def test_a_missing_prompt_is_required(payload: Any) -> None:
    """Not the same as an empty one."""
    assert refusal("submit", payload) == ("prompt", "prompt: is required")


@pytest.mark.parametrize("prompt", [1, ["x"], {"a": 1}, True])
def test_a_prompt_that_is_no_string_is_refused(prompt: Any) -> None:
    """Nothing is made of it."""
    assert refusal("submit", {"prompt": prompt}) == ("prompt", "prompt: must be a string")


def test_an_unknown_key_names_the_nearest_known() -> None:
    """A misspelt option that silently does nothing is the worst answer."""
    assert refusal("submit", {"promt": "x"}) == (
        "promt",
        "promt: is not known here; did you mean 'prompt'?",
    )
    with pytest.raises(InvalidPayload, match=r"start\.permisson_mode: .* 'permission_mode'\?"):
        parse_join({"start": {"permisson_mode": "plan"}})
    assert refusal("interrupt", {"xyz": 1})[1] == "xyz: is not known here"


@pytest.mark.parametrize(
    ("event", "payload", "field", "sentence"),
    [
        ("submit", {"prompt": "x", "mode": "later"}, "mode", "must be one of 'queue' or 'steer'"),
        ("submit", {"prompt": "x", "id": ""}, "id", "must not be empty"),
        ("submit", {"prompt": "x", "id": "y" * 256}, "id", "must have at most 255 characters"),
        ("submit", {"prompt": "a\ud800"}, "prompt", "is not valid Unicode"),
        ("cancel", {}, "turn", "is required"),
        ("answer", {"request": "r", "decision": "perhaps"}, "decision", "must be one of 'allow' or 'deny'"),
        (
            "answer",
            {"request": "r", "decision": "allow", "interrupt": 1},
            "interrupt",
            "must be true or false",
        ),
        (
            "answer",
            {"request": "r", "decision": "allow", "suggestions": ["1"]},
            "suggestions.0",
            "whole number",
        ),
        ("answer", {"request": "r", "decision": "allow", "input": []}, "input", "must be an object"),
        ("history", {"limit": 0}, "limit", "must be at least 1"),
        ("history", {"limit": 5000}, "limit", "must be at most 1000"),
        ("history", {"limit": "5"}, "limit", "must be a whole number"),
        ("history", {"limit": 5.5}, "limit", "must be a whole number"),
        ("history", {"limit": True}, "limit", "must be a whole number"),
        ("configure", {"permission_mode": "yolo"}, "permission_mode", "must be one of"),
        ("configure", {"model": "a\0b"}, "model", "must not contain NUL"),
        ("submit", [], "", "must be an object"),
        ("submit", "x", "", "must be an object"),
    ],
)
def test_each_problem_is_a_sentence_with_its_field(
    event: str, payload: Any, field: str, sentence: str
) -> None:
    """For a person, in the words of the contract, without a library's name in it."""
    found, message = refusal(event, payload)
    assert found == field
    assert sentence in message
    assert "pydantic" not in message.lower()


def test_options_that_take_several_kinds_name_only_the_field() -> None:
    """`mcp_config` is an object or a path."""
    field, _ = refusal("start", {"name": "a", "mcp_config": 5}, "sessions")
    assert field == "mcp_config"


def test_files_come_with_a_prompt_or_in_place_of_one() -> None:
    """In base64, padded or not, or as the bytes themselves; an empty list asks for nothing."""
    assert parse("session", "submit", {"prompt": "x", "attachments": []}) == SubmitPrompt(prompt="x")
    for data in ("aGVsbG8=", "aGVsbG8", b"hello"):
        one = {"name": "größe.txt", "media_type": "Text/Plain; charset=utf-8", "data": data}
        command = parse("session", "submit", {"attachments": [one]})
        assert isinstance(command, SubmitPrompt)
        assert [(f.name, f.media_type, f.data) for f in command.attachments] == [
            ("größe.txt", "text/plain", b"hello")
        ]
        assert "hello" not in repr(command)  # for logs


@pytest.mark.parametrize(
    ("change", "field", "said"),
    [
        ({"name": "a/b"}, "name", "without a path"),
        ({"name": "a\\b"}, "name", "without a path"),
        ({"name": ".."}, "name", "must name the file"),
        ({"name": " "}, "name", "must name the file"),
        ({"name": "a\nb"}, "name", "control characters"),
        ({"name": "a\0"}, "name", "control characters"),
        ({"name": "ä" * 128}, "name", "at most 255 bytes"),
        ({"name": None}, "name", "is required"),
        ({"media_type": "image"}, "media_type", "as image/png"),
        ({"media_type": "image/png\n"}, "media_type", ""),
        ({"media_type": "../etc"}, "media_type", "as image/png"),
        ({"data": "a b"}, "data", "is not base64"),
        ({"data": "a"}, "data", "is not base64"),
        ({"data": 5}, "data", "must be base64"),
        ({"size": 5}, "size", "is not known here"),
        ({"nam": "x"}, "nam", "did you mean 'name'"),
    ],
)
def test_a_wrong_file_is_refused_with_its_field(change: dict[str, Any], field: str, said: str) -> None:
    """By its place in the list."""
    one = {"name": "a.txt", "media_type": "text/plain", "data": "aGVsbG8="}
    if field == "media_type" and change["media_type"].endswith("\n"):
        parse("session", "submit", {"attachments": [{**one, **change}]})  # white space around it is nothing
        return
    found, message = refusal("submit", {"prompt": "x", "attachments": [one, {**one, **change}]})
    assert found == f"attachments.1.{field}"
    assert said in message


def test_files_come_with_no_command() -> None:
    """A slash command takes none."""
    one = {"name": "a.txt", "media_type": "text/plain", "data": "aGVsbG8="}
    assert refusal("submit", {"command": "/compact", "attachments": [one]})[0] == "attachments"
    assert refusal("submit", {"attachments": {"name": "a"}})[0] == "attachments"
    assert refusal("submit", {"attachments": [7]})[0] == "attachments.0"


def test_a_command_stands_in_place_of_a_prompt() -> None:
    """It is the session that says whether it can take one."""
    command = parse("session", "submit", {"command": "/compact"})
    assert command == SubmitPrompt(command="/compact")
    assert refusal("submit", {"prompt": "x", "command": "/compact"})[0] == "command"


@pytest.mark.parametrize("event", ["start", "stop", "delete"])
@pytest.mark.parametrize("name", ["", "-a", "a b", "x" * 65, "a\n", "é", "../x"])
def test_a_bad_name_is_invalid_name(event: str, name: str) -> None:
    """And one that is no string at all is invalid_payload."""
    with pytest.raises(InvalidName):
        parse("sessions", event, {"name": name})
    assert refusal(event, {"name": 5}, "sessions")[0] == "name"
    assert refusal(event, {}, "sessions") == ("name", "name: is required")


def test_an_event_of_the_other_topic_is_unknown() -> None:
    """The nearest one is named, where there is one."""
    assert refusal("submit", {}, "sessions")[0] == "event"
    assert "did you mean 'cancel'" in refusal("cancle", {})[1]
    assert parse("session", "cancel", {"turn": "t"}) == CancelTurn(turn="t")
    assert len(refusal("x" * 10_000, {})[1]) < 200


@given(event=st.sampled_from(["submit", "answer", "history", "start", "x"]) | JSON, payload=JSON)
def test_whatever_is_asked_gives_a_command_or_an_error_of_ours(event: Any, payload: Any) -> None:
    """Nothing a client sends can crash a channel here."""
    for kind in ("session", "sessions"):
        with contextlib.suppress(InvalidPayload, InvalidName, PromptEmpty):
            parse(kind, event, payload)  # type: ignore[arg-type]
    with contextlib.suppress(InvalidPayload):
        parse_join(payload)
