"""What a terminal shows of a session's events."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.reading import CAUGHT_UP, Reader, how_to_answer, printable, summary

TURN = "t1"


def show(reader: Reader, *events: tuple[str, dict[str, Any]]) -> str:
    """All that is printed: the reply as it is, everything else as a line in brackets."""
    out = ""
    for event, payload in events:
        for piece in reader.feed(event, payload):
            out += piece.text if piece.tone == "text" else f"[{piece.text}]\n"
    return out


def delta(text: str, block: int = 0, **more: Any) -> tuple[str, dict[str, Any]]:
    return "delta", {"turn": TURN, "block": block, "kind": "text", "text": text, **more}


def block(text: str, block: int = 0, **more: Any) -> tuple[str, dict[str, Any]]:
    return "block", {"turn": TURN, "block": block, "kind": "text", "text": text, **more}


def finished(text: str, status: str = "completed", **more: Any) -> tuple[str, dict[str, Any]]:
    return "turn_finished", {"turn": TURN, "status": status, "text": text, **more}


STARTED = ("turn_started", {"turn": TURN, "prompt": "hi", "author": "ann", "source": "client"})


@pytest.fixture
def reader() -> Reader:
    """One that follows a single turn, as `submit` does."""
    return Reader("demo", TURN)


def test_deltas_are_printed_once_and_end_in_a_newline(reader: Reader) -> None:
    """The final texts repeat what was shown, and are not shown again."""
    out = show(reader, STARTED, delta("Hel"), delta("lo"), block("Hello"), finished("Hello"))
    assert out == "Hello\n"
    assert reader.outcome == "completed"


def test_a_text_that_never_came_as_deltas_is_printed(reader: Reader) -> None:
    """Where the CLI falls back to a non-streaming answer, the block alone carries it."""
    assert show(reader, STARTED, block("Hello"), finished("Hello")) == "Hello\n"
    assert show(Reader("demo", TURN), STARTED, finished("Hello")) == "Hello\n"


def test_the_rest_of_a_block_is_printed_where_its_deltas_stopped(reader: Reader) -> None:
    """After a gap only the missing end is added."""
    assert show(reader, delta("Hel"), block("Hello"), finished("Hello")) == "Hello\n"


def test_a_discarded_preview_is_said_to_be_void(reader: Reader) -> None:
    """It cannot be taken back from a terminal."""
    out = show(reader, delta("Hel"), ("discard", {"turn": TURN, "block": 0}), delta("Bye"), finished("Bye"))
    assert out.startswith("Hel\n[")
    assert "begins again" in out
    assert out.endswith("Bye\n")


DISCARD = ("discard", {"turn": TURN, "block": 0})


@pytest.mark.parametrize(
    "again",
    [
        [delta("Hel", 1), delta("lo", 1), block("Hello", 1)],
        [delta("Hello", 1), block("Hello", 1)],
        [block("Hello", 1)],
        [],
    ],
)
def test_a_discarded_preview_that_comes_again_is_not_printed_again(
    reader: Reader, again: list[tuple[str, dict[str, Any]]]
) -> None:
    """The TUI tells its thinking behind its text: the text then only moves to the next block."""
    out = show(reader, delta("Hel"), delta("lo"), DISCARD, *again, finished("Hello"))
    assert out == "Hello\n"


def test_what_follows_a_preview_that_came_again_goes_on_in_its_line(reader: Reader) -> None:
    """Also where it comes in other pieces than before."""
    out = show(reader, delta("Hel"), DISCARD, delta("H", 1), delta("ello", 1), finished("Hello"))
    assert out == "Hello\n"


@pytest.mark.parametrize("end", [[delta("Help", 1)], [delta("H", 1), block("H", 1)], [block("H", 1)]])
def test_a_preview_that_comes_again_otherwise_is_said_to_be_void(
    reader: Reader, end: list[tuple[str, dict[str, Any]]]
) -> None:
    """A shorter text is another text, too, once it is final."""
    text = end[-1][1]["text"]
    out = show(reader, delta("Hello"), DISCARD, *end, finished(text))
    assert out == f"Hello\n[The text above was a preview; it begins again:]\n{text}\n"


def test_a_preview_that_never_comes_again_is_said_to_be_none(reader: Reader) -> None:
    """Else it would read as the answer."""
    out = show(reader, delta("Hello"), DISCARD, finished("", "interrupted"))
    assert "no part of the answer" in out


def test_two_previews_come_again_in_their_order(reader: Reader) -> None:
    """Each under a new number."""
    discarded = [("discard", {"turn": TURN, "block": n}) for n in (0, 1)]
    out = show(reader, delta("One"), delta("Two", 1), *discarded, block("One", 2), block("Two", 3))
    assert out == "One\nTwo"


def test_a_turn_that_waits_for_the_terminal_says_why(reader: Reader) -> None:
    """One that only waits for its place says nothing here."""
    queued = {"turn": TURN, "position": 0}
    assert show(reader, ("turn_queued", queued)) == ""
    said = show(reader, ("turn_queued", {**queued, "reason": "a draft stands in the way"}))
    assert said == "[Waiting: a draft stands in the way.]\n"


def test_a_final_text_that_differs_is_printed_whole(reader: Reader) -> None:
    """The block is the truth, its preview was not."""
    out = show(reader, delta("Hel"), block("Good day"), finished("Good day"))
    assert "preview" in out
    assert out.endswith("Good day\n")


def test_blocks_stand_on_lines_of_their_own(reader: Reader) -> None:
    """Two answers around a tool are not run together."""
    tool = ("tool_started", {"turn": TURN, "tool": "x", "name": "Bash", "input": {"command": "ls"}})
    out = show(reader, delta("One", 0), tool, delta("Two", 2), finished("Two"))
    assert out == "One\n[· Bash ls]\nTwo\n"


def test_thoughts_stand_on_lines_of_their_own(reader: Reader) -> None:
    """Told apart from the reply by their tone."""
    thought = ("delta", {"turn": TURN, "block": 0, "kind": "thinking", "text": "hm"})
    pieces = [p for event in (thought, delta("Hello", 1), finished("Hello")) for p in reader.feed(*event)]
    assert [(p.tone, p.text) for p in pieces] == [
        ("thinking", "hm"), ("thinking", "\n"), ("text", "Hello"), ("text", "\n")
    ]  # fmt: skip


def test_what_sub_agents_say_is_left_out(reader: Reader) -> None:
    """It is not the reply."""
    assert show(reader, delta("x", parent="toolu"), block("x", parent="toolu"), finished("Hi")) == "Hi\n"


def test_other_turns_are_left_out_while_one_is_followed(reader: Reader) -> None:
    """`submit` prints the answer to its own prompt."""
    other = {"turn": "t0", "block": 0, "kind": "text", "text": "other"}
    end = ("turn_finished", {"turn": "t0", "status": "failed", "text": ""})
    assert show(reader, ("delta", other), end) == ""
    assert reader.outcome is None


def test_a_failed_turn_says_why(reader: Reader) -> None:
    """With what was answered until then."""
    out = show(reader, delta("Hel"), finished("Hel", "failed", error={"code": "x", "message": "Overloaded"}))
    assert out == "Hel\n[The turn failed: Overloaded]\n"
    assert reader.outcome == "failed"


def test_an_unknown_end_is_said_to_be_unknown(reader: Reader) -> None:
    """Never guessed."""
    assert "Nobody can tell" in show(reader, finished("", "unknown"))


def test_an_open_turn_is_caught_up_with(reader: Reader) -> None:
    """A snapshot repeats what was printed and carries on; only the rest is printed."""
    snapshot = {"id": TURN, "prompt": "hi", "blocks": [{"block": 0, "kind": "text", "text": "Hello"}]}
    joined = ("joined", {"recovered": False, "open_turn": snapshot, "requests": []})
    out = show(reader, STARTED, delta("Hel"), joined, delta(" you"), finished("Hello you"))
    assert out == "Hello you\n"


def test_an_open_request_of_the_snapshot_is_shown(reader: Reader) -> None:
    """A late viewer cannot miss it."""
    request = {"id": "r1", "kind": "permission", "turn": TURN, "tool": "Bash", "input": {"command": "ls"}}
    out = show(reader, ("joined", {"recovered": False, "open_turn": None, "requests": [request]}))
    assert "claude-bridge answer demo r1 allow" in out


def test_a_request_says_what_is_asked_and_how_to_answer() -> None:
    """Exactly what to type."""
    request = {
        "id": "r1",
        "kind": "permission",
        "turn": TURN,
        "tool": "Bash",
        "input": {"command": "rm -r x"},
    }
    said = how_to_answer("demo", request)
    assert "Bash: rm -r x" in said
    assert "claude-bridge answer demo r1 allow" in said
    assert "claude-bridge answer demo r1 deny" in said


def test_a_question_shows_its_choices() -> None:
    """And how a choice is named."""
    question = {"question": "Which?", "options": [{"label": "A"}, {"label": "B"}]}
    said = how_to_answer("demo", {"id": "r1", "kind": "question", "input": {"questions": [question]}})
    assert "Which?  [A / B]" in said
    assert "--answer" in said


def test_a_tail_shows_every_turn_with_its_prompt() -> None:
    """Whoever asked, a person at the terminal included."""
    reader = Reader("demo")
    typed = ("turn_started", {"turn": "t2", "prompt": "yo", "author": None, "source": "terminal"})
    out = show(reader, STARTED, delta("Hello"), finished("Hello"), typed)
    assert out == "[ann> hi]\nHello\n[terminal> yo]\n"


# --- snapshots, in place of events that were missed ------------------------------------------------


def past(turn: str, *blocks: str, text: str | None = None, status: str = "completed") -> dict[str, Any]:
    """A turn of the history whose text blocks are these."""
    kept = [{"block": n, "kind": "text", "text": each} for n, each in enumerate(blocks)]
    final = blocks[-1] if text is None and blocks else text
    return {
        "id": turn,
        "author": "ann",
        "prompt": f"ask {turn}",
        "status": status,
        "text": final,
        "blocks": kept,
    }


def joined(*turns: dict[str, Any], open_turn: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
    return "joined", {"recovered": False, "turns": list(turns), "open_turn": open_turn, "requests": []}


def missed(turn: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """How the client tells the end that fell into a gap."""
    return "turn_finished", {**turn, "turn": turn["id"]}


@pytest.mark.parametrize("shown", [[], [delta("Hel")], [delta("Hello")], [delta("Hel"), block("Hello")]])
def test_the_rest_of_a_turn_that_ended_in_a_gap_is_printed(
    reader: Reader, shown: list[tuple[str, dict[str, Any]]]
) -> None:
    """The bridge was away when it ended, and no event will come."""
    out = show(reader, STARTED, *shown, joined(), missed(past(TURN, "Hello", "you")))
    assert out == "Hello\nyou\n"
    assert reader.outcome == "completed"


def test_tools_that_were_used_in_a_gap_are_named_once(reader: Reader) -> None:
    """In their place."""
    before, within = ({"tool": f"u{n}", "name": "Bash", "input": {"command": f"run {n}"}} for n in (1, 2))
    turn = past(TURN, "Hello")
    turn["blocks"] += [{"block": n, "kind": "tool", **tool} for n, tool in ((1, before), (2, within))]
    turn["blocks"].append({"block": 3, "kind": "text", "text": "you"})
    out = show(reader, STARTED, block("Hello"), ("tool_started", {"turn": TURN, **before}), missed(turn))
    assert out == "Hello\n[· Bash run 1]\n[· Bash run 2]\nyou\n"


def test_a_preview_that_was_discarded_in_a_gap_is_no_part_of_the_answer(reader: Reader) -> None:
    """And it may stand in another block by now."""
    moved = past(TURN, "", "Hello")
    assert show(reader, STARTED, delta("Hel"), missed({**moved, "blocks": moved["blocks"][1:]})) == "Hello\n"
    gone = show(Reader("demo", TURN), STARTED, delta("Hel"), missed(past(TURN, text="", status="failed")))
    assert "no part of the answer" in gone


def test_a_question_that_is_told_again_from_its_beginning_is_printed_once(reader: Reader) -> None:
    """A pool does so on another connection: the text so far in one delta, then what follows."""
    tool = ("tool_started", {"turn": TURN, "tool": "u1", "name": "Bash", "input": {"command": "ls"}})
    begun = [STARTED, delta("One"), tool, delta("Tw", 2)]
    again = [STARTED, delta("One"), tool, delta("Two a", 2), delta("nd three", 2)]
    lost = ("lost", {"why": "Gone."})
    submitted = ("submitted", {"turn": TURN, "status": "running"})
    ending = [block("Two and three", 2), finished("Two and three")]
    out = show(reader, submitted, *begun, lost, submitted, *again, *ending)
    assert out == "One\n[· Bash ls]\nTw\n[Gone. Trying again…]\no and three\n"


def test_a_question_that_was_answered_in_a_gap_is_printed_once(reader: Reader) -> None:
    submitted = ("submitted", {"turn": TURN, "status": "completed"})
    out = show(reader, submitted, STARTED, delta("Hel"), submitted, missed(past(TURN, "Hello")))
    assert out == "Hello\n"


def test_a_tail_begins_with_turns_of_the_past_as_they_read_then() -> None:
    """As many as are asked for: none, or more than there are."""
    turns = [past("t0", "Zero"), past("t1", "One", "two")]
    assert show(Reader("demo"), joined(*turns)) == ""
    assert show(Reader("demo", past=1), joined(*turns)) == "[ann> ask t1]\nOne\ntwo\n"
    assert show(Reader("demo", past=9), joined(*turns)).startswith("[ann> ask t0]\nZero\n[ann> ask t1]\n")


def test_a_tail_shows_what_it_missed_once() -> None:
    """The rest of what it had begun to show, what came and went meanwhile, and what runs by now."""
    reader = Reader("demo", past=0)
    begun = [("turn_started", {"turn": "t1", "prompt": "ask t1", "author": "ann"}), delta("On", turn="t1")]
    running = {"id": "t3", "author": "ann", "prompt": "ask t3", "blocks": []}
    turns = [past("t0", "Zero"), past("t1", "One"), past("t2", "Two")]
    out = show(reader, joined(turns[0]), *begun, joined(*turns, open_turn=running), joined(*turns))
    assert out == "[ann> ask t1]\nOne\n[ann> ask t2]\nTwo\n[ann> ask t3]\n"


def test_a_tail_with_a_long_past_shows_none_of_it_again() -> None:
    """However much the first snapshot had: a tail may begin with a thousand turns."""
    turns = [past(f"t{n}", "N") for n in range(1000)]
    reader = Reader("demo", past=1000)
    assert show(reader, joined(*turns)).count("N\n") == 1000
    assert show(reader, joined(*turns)) == ""


def test_a_preview_that_was_being_told_again_stands_there_once(reader: Reader) -> None:
    """Of two discarded blocks only the first was printed; both are gone behind the gap."""
    moved = past(TURN, "", "", "Hello")
    moved["blocks"] = moved["blocks"][2:]
    assert show(reader, STARTED, delta("Hello"), DISCARD, delta("Hel", 1), missed(moved)) == "Hello\n"


def test_a_tail_of_a_new_session_shows_all_that_it_missed() -> None:
    """Nothing was left out at first, so nothing is old."""
    reader = Reader("demo")
    assert show(reader, joined(), joined(past("t1", "One"))) == "[ann> ask t1]\nOne\n"


def test_a_tail_that_missed_more_than_a_snapshot_has_says_so() -> None:
    """The history has it."""
    reader = Reader("demo")
    show(reader, joined(past("t0", "Zero")))
    assert "claude-bridge export demo" in show(reader, joined(past("t7", "Seven")))
    many = [past(f"n{n}", "N") for n in range(CAUGHT_UP)]
    new = Reader("demo")
    assert "claude-bridge export demo" in show(new, joined(), joined(*many))
    assert "claude-bridge export" not in show(new, joined(*many[1:], past("t8", "Eight")))


def test_nothing_printed_can_steer_the_terminal(reader: Reader) -> None:
    """Escape sequences in a reply would move the cursor, or worse."""
    assert show(reader, delta("a\x1b[2Jb\r\x9bc\td\n")) == "a[2Jbc\td\n"
    assert printable("\x07x\x00") == "x"


def test_a_long_input_is_shortened_to_a_line() -> None:
    """Enough to decide, short enough for one look."""
    assert summary({"command": "a\n b"}) == "a b"
    assert summary({"path": "x", "limit": 3}) == "path: x, limit: 3"
    assert len(summary({"command": "x" * 1000})) == 200


def test_a_lost_connection_is_mentioned(reader: Reader) -> None:
    """On a line of its own."""
    assert show(reader, delta("Hel"), ("lost", {"why": "Gone."})) == "Hel\n[Gone. Trying again…]\n"


def test_events_without_a_reading_are_passed_over(reader: Reader) -> None:
    """Later versions of the contract may add some."""
    assert show(reader, ("presence_diff", {"joins": {}, "leaves": {}}), ("surprise", {})) == ""
