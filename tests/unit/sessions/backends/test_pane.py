"""What a person who attaches gets to see."""

from __future__ import annotations

import asyncio
import os
import pty
import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.events import RequestId, TurnError
from bridge.sessions.backends.pane import KEPT_BYTES, PaneWriter, Transcript, safe
from bridge.signals import (
    AnswerNeeded,
    BlockDropped,
    BlockSettled,
    Signal,
    TextArrived,
    ToolAnswered,
    ToolCalled,
    TurnEnded,
    UpstreamRetrying,
)

OUR_STYLES = re.compile(r"\x1b\[\d+m")
TEXT = st.text()


def shown(*signals: Signal) -> str:
    transcript = Transcript()
    return OUR_STYLES.sub("", "".join(map(transcript.show, signals)))


def test_text_is_shown_as_it_arrives_and_not_again() -> None:
    """The final text repeats the preview."""
    said = shown(
        TextArrived(0, "text", "Hello, "),
        TextArrived(0, "text", "world."),
        BlockSettled(0, "text", "Hello, world."),
    )
    assert said == "Hello, world.\n"


def test_text_that_was_never_previewed_is_shown_when_it_is_final() -> None:
    """An answer that was not streamed."""
    assert shown(BlockSettled(0, "text", "All at once.")).strip() == "All at once."


def test_each_block_begins_on_a_line_of_its_own() -> None:
    """Thinking, then text, then a tool."""
    said = shown(
        TextArrived(0, "thinking", "hm"),
        BlockSettled(0, "thinking", "hm"),
        TextArrived(1, "text", "ok"),
        ToolCalled(2, "c1", "Bash", {"command": "ls"}),
        ToolAnswered("c1", "a\nb", False),
    )
    assert [line for line in said.splitlines() if line] == [
        "✻ hm",
        "ok",
        '⚙ Bash {"command":"ls"}',
        "  ⎿ a",
        "  ⎿ b",
    ]


def test_a_dropped_block_is_said_and_shown_again() -> None:
    """What stands on a terminal cannot be taken back."""
    said = shown(TextArrived(0, "text", "Hel"), BlockDropped(0), TextArrived(0, "text", "Hello"))
    assert "begins again" in said
    assert said.endswith("Hello")


def test_long_output_is_cut() -> None:
    """All of it is in the history."""
    said = shown(ToolAnswered("c1", "\n".join(str(n) for n in range(100)), False))
    assert said.splitlines()[-1] == "  ⎿ …"
    assert len(said.splitlines()) == 6


def test_requests_retries_and_errors_are_said() -> None:
    """Whoever watches knows what the session waits for."""
    assert "permission" in shown(AnswerNeeded(RequestId("r"), "permission", "Bash", {}))
    assert "2 of 4" in shown(UpstreamRetrying(2, 4, 100, "overloaded"))
    assert "no such model" in shown(TurnEnded("failed", None, TurnError("model_not_found", "no such model")))
    assert "interrupted" in shown(TurnEnded("interrupted", None))


def test_a_sub_agent_s_text_is_not_mixed_into_claude_s_own() -> None:
    """Its tool calls are shown, indented."""
    assert (
        shown(TextArrived(1, "text", "below", "s1", "c1"), BlockSettled(1, "text", "below", "s1", "c1")) == ""
    )
    assert shown(ToolCalled(1, "c2", "Bash", {}, parent="c1")).startswith("  ⚙")


@given(TEXT, TEXT, TEXT)
def test_nobody_else_s_control_sequences_reach_the_terminal(said: str, name: str, output: str) -> None:
    """Neither a model nor a tool may move a cursor, set a title or turn the text around."""
    transcript = Transcript()
    everything = transcript.prompt(said) + transcript.note(name)
    for signal in (
        TextArrived(0, "text", said),
        BlockSettled(1, "text", said),
        ToolCalled(2, "c1", name, {said: output}),
        ToolAnswered("c1", output, True),
        TurnEnded("failed", None, TurnError("api_error", said)),
    ):
        everything += transcript.show(signal)
    left = OUR_STYLES.sub("", everything)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", left)


def test_newlines_and_tabs_are_kept() -> None:
    """They are part of the text."""
    assert safe("a\n\tb\x1b[2J\x07\x9bc") == "a\n\tb[2Jc"


@pytest.fixture
def terminal() -> Iterator[tuple[int, str]]:
    """The descriptor of whoever shows it, and its name."""
    controller, tty = pty.openpty()
    yield controller, os.ttyname(tty)
    os.close(controller)
    os.close(tty)


async def read(controller: int) -> bytes:
    return await asyncio.to_thread(os.read, controller, 10_000)


async def test_what_comes_together_is_one_write(terminal: tuple[int, str]) -> None:
    """Each write wakes tmux; sixty of them for a line nobody can read as fast would be waste."""
    controller, name = terminal
    writer = PaneWriter(name)
    for word in ("one ", "two ", "three"):
        writer.write(word)
    assert await read(controller) == b"one two three"
    writer.close()


async def test_what_a_terminal_does_not_take_at_once_follows(terminal: tuple[int, str]) -> None:
    """A long answer that comes whole is more than a terminal holds."""
    controller, name = terminal
    writer = PaneWriter(name)
    writer.write("x" * 20_000)
    seen = 0
    while seen < 20_000:
        seen += len(await read(controller))
    writer.close()


async def test_what_was_said_last_is_shown_when_the_writer_is_closed(terminal: tuple[int, str]) -> None:
    """The note that the process has ended comes right before that."""
    controller, name = terminal
    writer = PaneWriter(name)
    writer.write("the end")
    writer.close()
    writer.write("after the end")
    assert await read(controller) == b"the end"


async def test_a_terminal_that_takes_nothing_costs_nothing(terminal: tuple[int, str]) -> None:
    """What it does not take for long is dropped; nobody waits."""
    controller, name = terminal
    writer = PaneWriter(name)
    writer.write("x" * (2 * KEPT_BYTES))
    seen = len(await read(controller))
    writer.write("y")
    while not (data := await read(controller)).endswith(b"y"):
        seen += len(data)
    assert seen < KEPT_BYTES
    writer.close()


async def test_a_terminal_that_is_not_there_is_no_error() -> None:
    """A session does not need one."""
    writer = PaneWriter("/nowhere/tty")
    writer.write("x")
    writer.close()
