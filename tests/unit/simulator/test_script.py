"""What the simulator makes of a prompt."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.simulator.script import (
    DirectiveMalformed,
    Fault,
    FaultKind,
    Plan,
    default_reply,
    find_directive,
    find_prompt,
    pieces,
    plan,
    words,
)

REMINDER = {"type": "text", "text": "<system-reminder>\nbe [[sim kind]]\n</system-reminder>\n"}


def said(*texts: str) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "text", "text": text} for text in texts]}


def asked(*tools: str) -> dict[str, Any]:
    blocks = [{"type": "tool_use", "id": tool, "name": "Bash", "input": {}} for tool in tools]
    return {"role": "assistant", "content": blocks}


def result(tool: str) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": tool, "content": "[[sim {}]] in a tool's output"}


def planned(prompt: str, **more: Any) -> Plan:
    return plan({"model": "m", "messages": [said(prompt)], **more})


def test_a_plain_string_is_the_prompt() -> None:
    """The API takes content as a string, too."""
    assert find_prompt([{"role": "user", "content": "hello"}]).text == "hello"


def test_reminders_before_and_after_the_prompt_are_not_the_prompt() -> None:
    """Claude Code puts them on either side, as blocks of their own."""
    message = {"role": "user", "content": [REMINDER, {"type": "text", "text": "hello"}, REMINDER]}
    assert find_prompt([message]).text == "hello"


def test_a_reminder_inside_the_prompts_own_block_is_taken_out() -> None:
    """Some versions join the two."""
    assert find_prompt([said(REMINDER["text"] + "hello")]).text == "hello"


def test_of_prompts_sent_together_the_last_one_counts() -> None:
    """A prompt that failed or was interrupted is sent again in one message with the next."""
    message = said('first [[sim {"status": 400}]]\n', "[Request interrupted by user]\n", "second")
    assert find_prompt([message]).text == "second"


@pytest.mark.timeout(5)
@pytest.mark.parametrize("piece", ["<system-reminder>", "[[sim", "[[", "</system-reminder>", " \n"])
def test_a_megabyte_of_anything_is_read_at_once(piece: str) -> None:
    """Reading a prompt takes time in proportion to its length, whatever it repeats."""
    assert planned(piece * (1_000_000 // len(piece)) + 'x[[sim {"words": 1}]]').text == "w0 "


def test_a_reminder_that_does_not_end_is_the_prompt() -> None:
    """People may write the word."""
    assert find_prompt([said("what is a <system-reminder> good for?")]).text.startswith("what is a <sys")


@pytest.mark.parametrize(
    "noise",
    [
        "<local-command-stdout>Compacted</local-command-stdout>",
        "<command-name>/compact</command-name>",
        "<bash-stdout>[[sim {}]]</bash-stdout>",
        "[Request interrupted by user for tool use]",
        "Your response above was cut off mid-stream. Resume directly from where it stops",
        "   ",
    ],
)
def test_what_claude_code_adds_by_itself_is_not_a_prompt(noise: str) -> None:
    """Local commands and marks stand in the user's role, but nobody said them."""
    assert find_prompt([said("hello"), said(noise)]).text == "hello"


def test_a_system_message_after_the_prompt_is_skipped() -> None:
    """Claude Code 2.1.330 sends its environment between the messages."""
    assert find_prompt([said("hello"), {"role": "system", "content": "# Environment"}]).text == "hello"


def test_tool_results_after_the_prompt_mean_that_tools_have_answered() -> None:
    """The prompt itself stays the last real one."""
    prompt = find_prompt([said("go"), asked("t1"), {"role": "user", "content": [result("t1"), REMINDER]}])
    assert (prompt.text, prompt.tools_answered) == ("go", True)


def test_tool_results_before_the_prompt_do_not_count() -> None:
    """They belong to an earlier turn, even in the same message."""
    message = {"role": "user", "content": [result("t1"), {"type": "text", "text": "new"}]}
    prompt = find_prompt([said("go"), asked("t1"), message])
    assert (prompt.text, prompt.tools_answered) == ("new", False)


def steering(text: str) -> dict[str, Any]:
    note = (
        f"The user sent a new message while you were working:\n{text}\n\nThis is how Claude Code surfaces it."
    )
    return {"role": "system", "content": [{"type": "text", "text": note}]}


def test_steering_with_a_directive_takes_over() -> None:
    """What a person types while a tool runs is the last thing they said."""
    messages = [said("go"), asked("t1"), {"role": "user", "content": [result("t1")]}]
    assert find_prompt([*messages, steering("left [[sim {}]]")]).text == "left [[sim {}]]"


def test_steering_without_a_directive_lets_the_script_go_on() -> None:
    """The running script's reply is what a test waits for."""
    messages = [said("go"), asked("t1"), {"role": "user", "content": [result("t1")]}]
    assert find_prompt([*messages, steering("left")]).text == "go"


def test_without_a_directive_the_reply_repeats_the_prompt() -> None:
    """Short and deterministic."""
    assert planned("hello there").text == planned("hello there").text == "You said: hello there"


def test_a_long_prompt_is_repeated_in_part() -> None:
    """A megabyte in is not a megabyte out."""
    reply = default_reply("x" * 1_000_000)
    assert len(reply) < 400
    assert "1000000 characters" in reply


def test_the_directive_never_shows_in_the_reply() -> None:
    """What stands around it does."""
    assert planned('please [[sim {"gap_ms": 0}]] answer').text == "You said: please  answer"


def test_words_have_a_newline_after_every_tenth() -> None:
    """As the contract writes them."""
    assert words(11) == "w0 w1 w2 w3 w4 w5 w6 w7 w8 w9 \nw10 "
    assert planned('[[sim {"words": 3}]]').text == "w0 w1 w2 "


def test_text_is_the_exact_reply() -> None:
    """White space and brackets included."""
    text = ' a  ]] b\n\n[["c"]] '
    assert planned(f"[[sim {json.dumps({'text': text})}]]").text == text


def test_a_directive_may_hold_another_one() -> None:
    """A sub-agent's prompt brings its own script."""
    inner = 'child [[sim {"words": 2}]]'
    outer = json.dumps({"tools": [["Agent", {"prompt": inner}]], "text": "done"})
    found = planned(f"go [[sim {outer}]] on")
    assert found.tools == (("Agent", {"prompt": inner}),)


def test_of_several_directives_the_last_counts_and_none_shows() -> None:
    """Claude Code joins prompts that it queued itself."""
    directive, rest = find_directive('a [[sim {"words": 1}]]\nb [[sim {"words": 2}]]')
    assert directive is not None
    assert (directive.words, rest) == (2, "a \nb")


@pytest.mark.parametrize(
    "prompt", ["[[simple]]", "[[similar {}]]", "[sim {}]", "[[ sim {}]]", "[[sim-1 {}]]"]
)
def test_what_only_looks_like_a_directive_is_text(prompt: str) -> None:
    """People write brackets."""
    assert find_directive(prompt) == (None, prompt)


@pytest.mark.parametrize(
    ("prompt", "what"),
    [
        ("[[sim]]", "JSON"),
        ("[[sim {words: 3}]]", "JSON"),
        ('[[sim {"words": 3]]', "JSON"),
        ('[[sim {"words": 3}', "]]"),
        ("[[sim [1]]]", "object"),
        ('[[sim {"word": 3}]]', "'word'"),
        ('[[sim {"words": "3"}]]', "words"),
        ('[[sim {"words": -1}]]', "words"),
        ('[[sim {"status": 200}]]', "status"),
        ('[[sim {"tools": [["Bash"]]}]]', "tools.0"),
        ('[[sim {"stop_reason": "bored"}]]', "stop_reason"),
        ('[[sim {"text": "a", "words": 1}]]', "exclude"),
        ("[[sim " + "[" * 100_000, "nested"),
    ],
)
def test_a_malformed_directive_says_what_is_wrong(prompt: str, what: str) -> None:
    """The one who wrote it must be able to mend it."""
    with pytest.raises(DirectiveMalformed, match=r"\[\[sim") as caught:
        planned(prompt)
    assert what in str(caught.value)


def test_tools_are_asked_for_before_the_reply() -> None:
    """The first answer is the tools alone."""
    found = planned('[[sim {"tools": [["Bash", {"command": "ls"}], ["Read", {}]], "text": "done"}]]')
    assert [name for name, _ in found.tools] == ["Bash", "Read"]
    assert (found.text, found.stop_reason, found.closes) == ("", "tool_use", False)


def test_after_the_tools_answered_comes_the_reply() -> None:
    """They are asked for once."""
    prompt = said('[[sim {"tools": [["Bash", {}]], "text": "done", "thinking": "hm"}]]')
    found = plan({"messages": [prompt, asked("t1"), {"role": "user", "content": [result("t1")]}]})
    assert (found.tools, found.text, found.thinking, found.stop_reason) == ((), "done", "", "end_turn")


def test_pauses_are_given_in_milliseconds() -> None:
    """The plan has seconds."""
    found = planned('[[sim {"gap_ms": 20, "first_ms": 1500}]]')
    assert (found.gap_s, found.first_s) == (0.02, 1.5)


def test_an_http_error_lasts_unless_it_is_counted() -> None:
    """Claude Code repeats even a 400 in other words: one that happened once would never be seen."""
    always = planned('[[sim {"status": 400}]]').faults
    twice = planned('[[sim {"status": 529, "times": 2}]]').faults
    assert always == (Fault(FaultKind.STATUS, 400, None),)
    assert twice == (Fault(FaultKind.STATUS, 529, 2),)


def test_a_cut_happens_once_unless_it_is_counted() -> None:
    """So that the retry succeeds."""
    assert planned('[[sim {"drop_after": 3}]]').faults == (Fault(FaultKind.DROP, 3, 1),)
    assert planned('[[sim {"drop_after": 3, "times": 4}]]').faults == (Fault(FaultKind.DROP, 3, 4),)


def test_structured_output_is_answered_in_its_shape_and_without_the_quoted_script() -> None:
    """Claude Code names a session by quoting its prompt; the faults are not meant for that."""
    schema = {"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]}
    shape = {"format": {"type": "json_schema", "schema": schema}}
    found = planned('<session>\n[[sim {"status": 529}]]\n</session>', output_config=shape)
    assert json.loads(found.text) == {"title": "Simulated"}
    assert found.faults == ()


def test_compaction_gets_the_summary_it_looks_for() -> None:
    """Claude Code asks for tags."""
    assert "<summary>" in planned("an <analysis> block followed by a <summary> block").text


@given(st.text())
def test_the_deltas_of_a_text_are_the_text(text: str) -> None:
    """Nothing is lost between them, whatever the text."""
    assert "".join(pieces(text)) == text


@given(st.text(), st.text(), st.dictionaries(st.text(), st.text()))
def test_any_directive_is_found_and_taken_out(before: str, after: str, tool_input: dict[str, str]) -> None:
    """Wherever it stands and whatever brackets its JSON holds."""
    directive, rest = find_directive(f"{before}[[sim {json.dumps({'tools': [['T', tool_input]]})}]]{after}")
    assert directive is not None
    assert (directive.tools, rest) == ([("T", tool_input)], (before + after).strip())


def test_a_delta_is_about_a_word() -> None:
    """With the white space that follows; very long words come in parts."""
    assert pieces("one two\n\nthree") == ["one ", "two\n\n", "three"]
    assert [len(piece) for piece in pieces("x" * 130)] == [64, 64, 2]


def test_what_the_cli_says_of_a_picture_is_not_the_prompt() -> None:
    """It stands behind it. Files without a word are a prompt without text, and not the one before."""
    picture: dict[str, Any] = {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": ""},
    }
    copy = {"type": "text", "text": "[Image: source: /tmp/images/1.png]"}
    assert (
        find_prompt([{"role": "user", "content": [picture, said("look")["content"][0], copy]}]).text == "look"
    )
    earlier = [said("earlier"), {"role": "assistant", "content": "yes"}]
    assert find_prompt([*earlier, {"role": "user", "content": [picture, copy]}]).text == ""
