"""People at the terminal of a session that clients submit to: two kinds of hands on one input box.

The person is a real tmux client on a pseudo-terminal; what Claude was told is read from the simulator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fakes.bridge import BridgeProcess, Sessions, prompts_of, running_bridge, sim
from tests.fakes.person import Person, editor_in
from tests.fakes.phoenix_js import JsChannel, Json, Story, assert_well_told

pytestmark = pytest.mark.real

Attach = Callable[[JsChannel], Person]
HOLD = sim(first_ms=60_000)


@pytest.fixture(autouse=True)
def backend() -> str:
    return "tmux"


@pytest.fixture(scope="module")
def editor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("person")


@pytest.fixture(scope="module")
def bridge(tmp_path_factory: pytest.TempPathFactory, editor: Path) -> Iterator[BridgeProcess]:
    """One whose people have an editor of which a test knows what it was shown."""
    with running_bridge(tmp_path_factory.mktemp("bridge"), EDITOR=editor_in(editor)) as running:
        yield running


@pytest.fixture
def attach(bridge: BridgeProcess, editor: Path) -> Iterator[Attach]:
    """A person sits down at a session, once it runs."""
    people: list[Person] = []

    def sit_down(channel: JsChannel) -> Person:
        channel.ask("warm up")
        person = Person(bridge, channel.topic.removeprefix("session:"), editor)
        people.append(person)
        return person

    yield sit_down
    for person in people:
        person.leave()


def typed(channel: JsChannel, prompt: str) -> Story:
    """The turn that a prompt typed by hand became."""

    def find() -> str | None:
        begun = (h.payload for h in list(channel.heard) if h.event == "turn_started")
        return next((p["turn"] for p in begun if (p["source"], p["prompt"]) == ("terminal", prompt)), None)

    story = channel.story(channel.until(find, f"a turn of the terminal's with {prompt!r}"))
    assert_well_told(story)
    return story


def held(channel: JsChannel, turn: str) -> str:
    """Why a prompt waits, as soon as that is said."""

    def find() -> str | None:
        told = (h.payload for h in list(channel.heard) if h.event == "turn_queued")
        return next((p["reason"] for p in told if p["turn"] == turn and p.get("reason")), None)

    return channel.until(find, f"why {turn} waits")


def told(bridge: BridgeProcess, containing: str) -> list[str]:
    """What Claude was asked of this, a prompt a request."""
    return [prompts_of(r)[-1] for r in bridge.requests(containing)]


def settled(sessions: Sessions, channel: JsChannel) -> Json:
    """The session, which has nothing left to do, as who joins now is told."""
    joined = sessions.look(channel).joined
    assert (joined["open_turn"], joined["queue"], joined["requests"]) == (None, [], [])
    return joined


def test_a_prompt_typed_by_hand_is_a_turn_like_any_other(
    bridge: BridgeProcess, sessions: Sessions, attach: Attach
) -> None:
    """Told as it is displayed, to whoever listens; nobody is its author."""
    channel = sessions.join()
    person = attach(channel)
    prompt = "by hand " + sim(words=60, gap_ms=10)
    person.type(prompt)
    person.press("Enter")
    story = typed(channel, prompt)
    (started,) = story.of("turn_started")
    assert (started["author"], started["source"]) == (None, "terminal")
    assert len(story.deltas) >= 3
    assert "".join(story.deltas).rstrip() == story.text
    assert story.status == "completed"
    assert told(bridge, "by hand") == [prompt]
    finished = settled(sessions, channel)["turns"][-1]
    assert (finished["prompt"], finished["source"], finished["author"]) == (prompt, "terminal", None)


def test_what_is_submitted_while_a_typed_prompt_runs_waits_for_its_end(
    bridge: BridgeProcess, sessions: Sessions, attach: Attach
) -> None:
    """Then it runs, for itself."""
    channel = sessions.join()
    person = attach(channel)
    prompt = "hand first " + sim(words=100, gap_ms=15)
    person.type(prompt)
    person.press("Enter")
    channel.wait("turn_started", source="terminal")
    turn = channel.submit("client second")
    story = channel.story(turn)
    assert story.text == "You said: client second"
    begun = [h.payload["source"] for h in channel.heard if h.event == "turn_started"]
    assert begun[-2:] == ["terminal", "client"]
    assert typed(channel, prompt).status == "completed"
    assert (told(bridge, "hand first"), told(bridge, "client second")) == ([prompt], ["client second"])


def test_a_draft_holds_prompts_up_until_its_owner_sends_it(
    bridge: BridgeProcess, sessions: Sessions, attach: Attach
) -> None:
    """They say why; the draft stays as it is, and is sent as it is."""
    channel = sessions.join()
    person = attach(channel)
    person.type("  half a thought ")
    person.until_shown("half a thought")
    turns = [channel.submit(f"waits {n}") for n in range(2)]
    assert "draft" in held(channel, turns[0]) or "busy" in held(channel, turns[0])
    queue = sessions.look(channel).joined["queue"]
    assert [t["id"] for t in queue] == turns
    assert queue[0]["reason"]
    assert person.box() == "  half a thought "
    assert told(bridge, "waits") == []
    person.type("is whole")
    person.press("Enter")
    assert typed(channel, "  half a thought is whole").status == "completed"
    assert [channel.story(t).text for t in turns] == [f"You said: waits {n}" for n in range(2)]
    assert told(bridge, "half a thought") == ["  half a thought is whole"]
    assert told(bridge, "waits") == ["waits 0", "waits 1"]


def test_a_draft_holds_prompts_up_until_its_owner_clears_it(
    bridge: BridgeProcess, sessions: Sessions, attach: Attach
) -> None:
    """Nothing is told of what was cleared."""
    channel = sessions.join()
    person = attach(channel)
    person.type("never mind")
    person.until_shown("never mind")
    turn = channel.submit("after the draft")
    held(channel, turn)
    assert person.box() == "never mind"
    person.press("C-u")
    assert channel.story(turn).text == "You said: after the draft"
    assert (told(bridge, "never mind"), told(bridge, "after the draft")) == ([], ["after the draft"])
    assert person.box() == ""


def test_escape_by_hand_ends_the_turn(sessions: Sessions, attach: Attach) -> None:
    """As interrupted, with what had been said; the next prompt is answered."""
    channel = sessions.join()
    person = attach(channel)
    turn = channel.submit(sim(words=3000, gap_ms=20))
    channel.wait("delta", turn=turn)
    person.press("Escape")
    story = channel.story(turn)
    assert (story.status, story.text) == ("interrupted", "".join(story.deltas).rstrip())
    assert channel.ask("next").text == "You said: next"


def test_clear_by_hand_begins_another_conversation(sessions: Sessions, attach: Attach) -> None:
    """Which clients are told, and which goes on like any."""
    channel = sessions.join()
    person = attach(channel)
    before = sessions.look(channel).joined["session"]["conversation"]
    person.type("/clear ")
    person.press("Enter")

    def renamed() -> str | None:
        told = (h.payload["session"] for h in list(channel.heard) if h.event == "session_changed")
        return next((s["conversation"] for s in told if s["conversation"] not in (None, before)), None)

    channel.until(renamed, "another conversation")
    story = channel.ask("a fresh start")
    assert (story.text, "".join(story.deltas).rstrip()) == ("You said: a fresh start",) * 2


@pytest.mark.parametrize(
    "command",
    ["/clear", "/no-such-command", *(pytest.param(c, marks=pytest.mark.soak) for c in ("/compact", "/cost"))],
)
def test_a_command_of_a_clients_ends_and_leaves_the_session_idle(sessions: Sessions, command: str) -> None:
    """Whether it prints something, opens a dialog or is none; the next prompt is answered."""
    channel = sessions.join()
    channel.ask("warm up")
    turn = channel.push("submit", {"command": command})["turn"]
    assert channel.story(turn).status in ("completed", "failed")
    assert channel.ask("next").text == "You said: next"
    settled(sessions, channel)


def test_a_prompt_is_not_run_by_a_shell(bridge: BridgeProcess, sessions: Sessions, attach: Attach) -> None:
    """Where a person typed a `!` and stopped: that is taken away."""
    channel = sessions.join()
    person = attach(channel)
    person.type("!")
    person.until_shown("!")
    assert channel.ask("echo not for a shell").text == "You said: echo not for a shell"
    assert told(bridge, "not for a shell") == ["echo not for a shell"]
    assert person.box() == ""
