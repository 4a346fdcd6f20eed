"""What may be typed into the TUI: accepted as it is, or refused with a reason that helps."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.errors import PromptEmpty, PromptRejected
from bridge.sessions.claude.keyboard import as_acknowledged, as_command, as_typed
from tests.contract.awkward import CASES, LARGE, SURROGATE, Case, Refused

ACCEPTED = [case for case in CASES + LARGE if not isinstance(case.expected, Refused)]
REFUSED = [case for case in CASES + LARGE if isinstance(case.expected, Refused)]
BEYOND = "b" * 12_000


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in ACCEPTED])
def test_what_is_accepted_is_acknowledged_as_expected(case: Case) -> None:
    """Typed with a blank at its end, which is all that is lost."""
    typed = as_typed(case.prompt)
    assert typed.endswith(" ")
    assert as_acknowledged(typed) == case.expected


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in REFUSED])
def test_what_is_refused_is_named_with_a_reason(case: Case) -> None:
    """In one sentence, which says what to do instead."""
    assert isinstance(case.expected, Refused)
    with pytest.raises(PromptRejected) as refused:
        as_typed(case.prompt)
    what, why = refused.value.details["what"], refused.value.details["why"]
    assert what.startswith(case.expected.what)
    assert case.expected.why in why
    assert "backend 'headless'" in why
    assert str(refused.value) == f"{what} cannot be sent: {why}"


def test_half_a_character_is_refused() -> None:
    """No backend could send it."""
    with pytest.raises(
        PromptRejected, match=r"U\+D800 .* at character 2 cannot be sent: .*half of a character"
    ):
        as_typed(SURROGATE)


@pytest.mark.parametrize("prompt", ["", " \n\t", "\u3000\xa0\r\n"])
def test_blanks_alone_are_no_prompt(prompt: str) -> None:
    """The TUI would send nothing."""
    with pytest.raises(PromptEmpty):
        as_typed(prompt)


def test_a_refusal_says_where() -> None:
    """Counted as a person counts, in the prompt as they wrote it."""
    with pytest.raises(PromptRejected, match=r"U\+200B \(ZERO WIDTH SPACE\) at character 6 "):
        as_typed("  abc\u200bd")


@pytest.mark.parametrize(
    ("text", "lead"),
    [
        ("a" * 499 + "😀" + BEYOND, 1),
        ("a" * 498 + "👩\u200d💻" + BEYOND, 2),
        ("a" * 490 + "👩\u200d👩\u200d👧\u200d👦" + BEYOND, 10),
    ],
    ids=["pair", "joiner", "family"],
)
def test_a_fold_near_the_beginning_is_moved_by_what_is_left_out(text: str, lead: int) -> None:
    """An emoji that stands there is no reason to give up a long prompt."""
    typed = as_typed(text)
    assert typed == "\u200b" * lead + text + " "
    assert as_acknowledged(typed) == text


def test_as_many_blanks_as_are_asked_for_help() -> None:
    """Where the TUI would tidy up more than it is given to leave out."""
    text = "a\r\n" + "a" * 494 + "👩\u200d💻" + BEYOND
    with pytest.raises(PromptRejected, match="begin it with 3 more blanks, or"):
        as_typed(text)
    assert as_typed(f"   {text}") == f"   {text} "


def test_a_fold_near_the_end_is_moved_by_blanks() -> None:
    """They cost nothing, as they are cut off."""
    text = "a" * 12_000 + "😀" + "b" * 498
    assert as_typed(text) == text + "  "


def test_a_chain_that_cannot_be_folded_is_refused() -> None:
    """Wherever the fold is moved to, it would break it."""
    chain = "👩\u200d" * 6000 + "👩"
    for text in (chain, "x" * 600 + chain):
        with pytest.raises(PromptRejected, match="shorten it, or"):
            as_typed(text)


def test_short_texts_are_not_folded() -> None:
    """10,000 units with their blank are the most that is not."""
    text = "a" * 499 + "😀" + "b" * 9_498
    assert as_typed(text) == text + " "
    assert as_typed(text + "b") == f"\u200b{text}b "


@pytest.mark.parametrize(
    "command",
    ["/compact", "/compact focus on x", "/tell a \\", "/plugin:do it", "/mcp__server__a/b", "/漢字"],
)
def test_a_command_is_typed_so_that_nothing_completes_it(command: str) -> None:
    """It is acknowledged without what it ends in; twice the same."""
    typed = as_command(f" {command}\n")
    assert typed == command + "\xa0"
    assert as_acknowledged(typed) == command
    assert as_command(typed) == typed


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("hello", "a slash and a name"),
        ("/", "a slash and a name"),
        ("/ x", "a slash and a name"),
        ("/etc/passwd", "a slash and a name"),
        ("/* x", "a slash and a name"),
        ("/exit", "stop the session"),
        ("/EXIT now", "stop the session"),
        ("/quit", "stop the session"),
        ("/tell a\x1bb", "leave it out"),
        ("/tell " + "a" * 493 + "😀" + BEYOND, "would break it"),
    ],
)
def test_what_is_no_command_is_refused(command: str, why: str) -> None:
    """And what would end the CLI behind the bridge's back."""
    with pytest.raises(PromptRejected, match=why):
        as_command(command)


def test_a_command_is_not_made_of_blanks() -> None:
    """As a prompt is not."""
    with pytest.raises(PromptEmpty):
        as_command(" \n")


AWKWARD = st.sampled_from(
    [*"aB1 \t\n/<[:@!\\.", "\r\n", "\r", "\x1b", *"שبक漢é", "\u200c", "\u200d", "\u200e", "\ufe0f"]
)
PROMPTS = st.lists(AWKWARD | st.sampled_from(["👩", "❤", "🏽", "\u094d", "\u061c", "\u200b"]), max_size=40)


@given(PROMPTS.map("".join))
@example("a\u200d")
def test_a_prompt_is_acknowledged_as_it_is_or_refused(prompt: str) -> None:
    """Nothing else than the blanks at its end is ever lost; and once accepted, always accepted."""
    try:
        typed = as_typed(prompt)
    except (PromptRejected, PromptEmpty):
        return
    acknowledged = as_acknowledged(typed)
    assert prompt.startswith(acknowledged)
    assert prompt[len(acknowledged) :].strip() == ""
    assert as_typed(typed) == typed
