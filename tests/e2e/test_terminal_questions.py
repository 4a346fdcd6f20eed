"""Questions that are asked in the terminal and at every client: whoever answers first, both sides agree."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.contract.test_turns_agents import delegating
from tests.fakes.bridge import BridgeProcess, Sessions, running_bridge, sim
from tests.fakes.person import Person, editor_in
from tests.fakes.phoenix_js import Clients, JsChannel, Json, Refused

pytestmark = pytest.mark.real

Attach = Callable[[JsChannel], Person]
DIALOG = "Do you want to proceed?"


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


def touching(*paths: Path) -> str:
    """A prompt that makes Claude want to make files."""
    return sim(tools=[["Bash", {"command": f"touch {path}"}] for path in paths], text="that was it")


def opened(channel: JsChannel, turn: str, number: int = 1) -> Json:
    """One of the requests that the turn opens."""

    def find() -> Json | None:
        told = [h.payload["request"] for h in list(channel.heard) if h.event == "request_opened"]
        mine = [r for r in told if r["turn"] == turn]
        return mine[number - 1] if len(mine) >= number else None

    return channel.until(find, f"request no. {number}")


def closed(channel: JsChannel, request: Json) -> tuple[str, str | None]:
    said = channel.wait("request_closed", request=request["id"])
    return said["outcome"], said["by"]


def assert_over(sessions: Sessions, channel: JsChannel, person: Person) -> None:
    """Nothing waits for anybody, on either side, and the next prompt is answered."""
    person.until_not_shown(DIALOG)
    joined = sessions.look(channel).joined
    assert (joined["open_turn"], joined["queue"], joined["requests"]) == (None, [], [])
    assert channel.ask("and now?").text == "You said: and now?"


def test_a_clients_yes_closes_the_dialog(sessions: Sessions, attach: Attach, tmp_path: Path) -> None:
    """The tool runs, and the terminal asks no more."""
    channel = sessions.join()
    person = attach(channel)
    turn = channel.submit(touching(tmp_path / "made"))
    request = opened(channel, turn)
    person.until_shown(DIALOG)
    channel.push("answer", {"request": request["id"], "decision": "allow"})
    story = channel.story(turn)
    assert (closed(channel, request), (tmp_path / "made").exists()) == (("allowed", "local"), True)
    assert story.text == "that was it"
    assert_over(sessions, channel, person)


def test_a_clients_no_closes_the_dialog(sessions: Sessions, attach: Attach, tmp_path: Path) -> None:
    """The tool does not run; Claude is told why."""
    channel = sessions.join()
    person = attach(channel)
    turn = channel.submit(touching(tmp_path / "made"))
    request = opened(channel, turn)
    person.until_shown(DIALOG)
    channel.push("answer", {"request": request["id"], "decision": "deny", "message": "not on a Sunday"})
    story = channel.story(turn)
    assert (closed(channel, request), (tmp_path / "made").exists()) == (("denied", "local"), False)
    assert "not on a Sunday" in story.of("tool_finished")[0]["output"]
    assert_over(sessions, channel, person)


def test_a_yes_at_the_keyboard_closes_the_request(sessions: Sessions, attach: Attach, tmp_path: Path) -> None:
    """Nobody of the clients' gave it, and a client that comes too late is told so."""
    channel = sessions.join()
    person = attach(channel)
    turn = channel.submit(touching(tmp_path / "made"))
    request = opened(channel, turn)
    person.until_shown(DIALOG)
    person.choose("1", DIALOG)
    assert channel.story(turn).status == "completed"
    assert (closed(channel, request), (tmp_path / "made").exists()) == (("allowed", None), True)
    with pytest.raises(Refused) as refused:
        channel.push("answer", {"request": request["id"], "decision": "deny"})
    assert (refused.value.reason, refused.value.response["outcome"]) == ("request_closed", "allowed")
    assert_over(sessions, channel, person)


def test_escape_at_the_keyboard_denies_and_ends_the_turn(
    sessions: Sessions, attach: Attach, tmp_path: Path
) -> None:
    """As the terminal does it."""
    channel = sessions.join()
    person = attach(channel)
    turn = channel.submit(touching(tmp_path / "made"))
    request = opened(channel, turn)
    person.until_shown(DIALOG)
    person.choose("Escape", DIALOG)
    story = channel.story(turn)
    outcome, by = closed(channel, request)
    assert (story.status, by, (tmp_path / "made").exists()) == ("interrupted", None, False)
    assert outcome in ("denied", "withdrawn")
    assert_over(sessions, channel, person)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("times", [1, pytest.param(100, marks=pytest.mark.soak)])
def test_both_at_once_end_in_the_same_state(
    sessions: Sessions, attach: Attach, tmp_path: Path, times: int
) -> None:
    """Again and again, and every other time they do not agree."""
    channel = sessions.join()
    person = attach(channel)
    for n in range(times):
        made = tmp_path / f"made-{n}"
        turn = channel.submit(touching(made))
        request = opened(channel, turn)
        person.until_shown(DIALOG)
        decision = "allow" if n % 2 else "deny"
        key = threading.Thread(target=person.type, args=("1",))
        key.start()
        answer = channel.send("answer", {"request": request["id"], "decision": decision})
        key.join()
        story = channel.story(turn)
        outcome, by = closed(channel, request)
        assert (story.status, made.exists()) == ("completed", outcome == "allowed")
        try:
            answer.reply()
            assert (outcome, by) == ("allowed" if n % 2 else "denied", "local")
        except Refused:
            assert by is None
        person.until_not_shown(DIALOG)
        if person.box():  # the key came behind the answer: it is a person's draft
            person.press("C-u")
    assert_over(sessions, channel, person)


def test_what_is_suggested_may_be_taken_up(sessions: Sessions, attach: Attach, tmp_path: Path) -> None:
    """Then Claude does not ask the same again."""
    channel = sessions.join()
    person = attach(channel)
    first, second = tmp_path / "a", tmp_path / "b"
    turn = channel.submit(sim(tools=[["Write", {"file_path": str(first), "content": "x"}]], text="one"))
    request = opened(channel, turn)
    assert request["suggestions"]
    answer = {"request": request["id"], "decision": "allow"}
    channel.push("answer", answer | {"suggestions": [*range(len(request["suggestions"]))]})
    assert channel.story(turn).status == "completed"
    story = channel.ask(sim(tools=[["Write", {"file_path": str(second), "content": "y"}]], text="two"))
    assert (story.text, story.of("request_opened")) == ("two", [])
    assert (first.read_text(), second.read_text()) == ("x", "y")
    assert_over(sessions, channel, person)


def test_an_answer_may_change_what_runs(sessions: Sessions, attach: Attach, tmp_path: Path) -> None:
    """It runs as changed, in the terminal, too."""
    channel = sessions.join()
    person = attach(channel)
    turn = channel.submit(touching(tmp_path / "asked"))
    answer = {"request": opened(channel, turn)["id"], "decision": "allow"}
    channel.push("answer", answer | {"input": {"command": f"touch {tmp_path / 'given'}"}})
    assert channel.story(turn).status == "completed"
    assert ((tmp_path / "asked").exists(), (tmp_path / "given").exists()) == (False, True)
    assert_over(sessions, channel, person)


OPTIONS = [{"label": label, "description": f"it is {label}"} for label in ("red", "green")]
QUESTION = {"question": "Which colour?", "header": "Colour", "multiSelect": False, "options": OPTIONS}
ASKED = sim(tools=[["AskUserQuestion", {"questions": [QUESTION]}]], text="so be it")


def test_a_question_is_answered_by_a_client(sessions: Sessions, attach: Attach) -> None:
    """What was chosen is the tool's result."""
    channel = sessions.join()
    person = attach(channel)
    turn = channel.submit(ASKED)
    request = opened(channel, turn)
    assert request["kind"] == "question"
    person.until_shown("Which colour?")
    answers = {"answers": {"Which colour?": "green"}}
    channel.push("answer", {"request": request["id"], "decision": "allow", "input": answers})
    story = channel.story(turn)
    assert '"Which colour?"="green"' in story.of("tool_finished")[0]["output"]
    assert closed(channel, request) == ("allowed", "local")
    assert_over(sessions, channel, person)


@pytest.mark.soak
def test_a_question_is_answered_at_the_keyboard(sessions: Sessions, attach: Attach) -> None:
    """It closes for clients, and all see what was chosen."""
    channel = sessions.join()
    person = attach(channel)
    turn = channel.submit(ASKED)
    request = opened(channel, turn)
    person.until_shown("2. green")
    person.choose("2", "2. green")
    story = channel.story(turn)
    assert '"Which colour?"="green"' in story.of("tool_finished")[0]["output"]
    assert closed(channel, request) == ("allowed", None)
    assert_over(sessions, channel, person)


PLANNED = sim(tools=[["ExitPlanMode", {"plan": "1. think\n2. do"}]], text="as planned")


@pytest.mark.parametrize("who", [pytest.param("client", marks=pytest.mark.soak), "keyboard"])
def test_a_plan_is_approved(sessions: Sessions, attach: Attach, who: str) -> None:
    """From either side; afterwards there is no plan mode."""
    channel = sessions.join(permission_mode="plan")
    person = attach(channel)
    turn = channel.submit(PLANNED)
    request = opened(channel, turn)
    assert request["kind"] == "plan"
    person.until_shown("Exit plan mode?")
    if who == "client":
        channel.push("answer", {"request": request["id"], "decision": "allow"})
    else:
        person.choose("1", "Exit plan mode?")
    story = channel.story(turn)
    assert (story.status, story.text) == ("completed", "as planned")
    assert closed(channel, request) == ("allowed", "local" if who == "client" else None)
    assert_over(sessions, channel, person)
    assert sessions.look(channel).joined["session"]["permission_mode"] != "plan"


def test_several_questions_at_once_are_answered_one_by_one(
    sessions: Sessions, attach: Attach, tmp_path: Path
) -> None:
    """By a client, in any order."""
    channel = sessions.join()
    person = attach(channel)
    files = [tmp_path / f"file-{n}" for n in range(3)]
    for file in files:
        file.write_text(file.name)
    reads = [["Read", {"file_path": str(file)}] for file in files]
    turn = channel.submit(sim(tools=reads, text="all read"))
    requests = [opened(channel, turn, n) for n in (1, 2, 3)]
    channel.push("answer", {"request": requests[2]["id"], "decision": "deny", "message": "not that"})
    assert closed(channel, requests[2]) == ("denied", "local")
    channel.push("answer", {"request": requests[1]["id"], "decision": "allow"})
    channel.push("answer", {"request": requests[0]["id"], "decision": "allow"})
    story = channel.story(turn)
    assert (story.status, story.text) == ("completed", "all read")
    assert_over(sessions, channel, person)


def test_a_question_outlives_the_bridge(own_bridge: BridgeProcess, clients: Clients, tmp_path: Path) -> None:
    """Killed while it is open, and started again: a client answers it."""
    made = tmp_path / "made"
    channel = clients.connect(own_bridge.url, own_bridge.token).join(
        "session:ask", {"start": {"backend": "tmux"}}
    )
    request = opened(channel, channel.submit(touching(made)))
    own_bridge.kill()
    own_bridge.start()
    again = clients.connect(own_bridge.url, own_bridge.token).join("session:ask")
    (known,) = again.joined["requests"]
    assert (known["tool"], known["input"]) == (request["tool"], request["input"])
    again.wait_session(state="waiting")
    again.push("answer", {"request": known["id"], "decision": "allow"})
    assert again.story(known["turn"]).text == "that was it"
    assert made.exists()
    assert again.ask("next").text == "You said: next"


def test_what_was_answered_while_the_bridge_was_away_is_closed(
    own_bridge: BridgeProcess, clients: Clients, tmp_path: Path
) -> None:
    """The turn is told to its end."""
    made = tmp_path / "made"
    channel = clients.connect(own_bridge.url, own_bridge.token).join(
        "session:ask", {"start": {"backend": "tmux"}}
    )
    opened(channel, channel.submit(touching(made)))
    own_bridge.until_shown("ask", DIALOG)
    own_bridge.kill()
    person = Person(own_bridge, "ask", tmp_path)
    person.choose("1", DIALOG)
    own_bridge.until_shown("ask", "that was it")
    person.leave()
    own_bridge.start()
    again = clients.connect(own_bridge.url, own_bridge.token).join("session:ask")
    again.wait_session(state="idle")
    assert made.exists()
    look = clients.connect(own_bridge.url, own_bridge.token).join("session:ask").joined
    assert (look["requests"], look["open_turn"]) == ([], None)
    assert (look["turns"][-1]["status"], look["turns"][-1]["text"]) == ("completed", "that was it")
    assert again.ask("next").text == "You said: next"


def test_what_an_agent_asks_is_shown_in_the_terminal_where_no_client_sees_it(
    sessions: Sessions, attach: Attach, tmp_path: Path
) -> None:
    """The TUI shows no dialog for an agent in the background as long as a client may answer."""
    channel = sessions.join()
    person = attach(channel)
    turn = channel.submit(delegating(f"touch {tmp_path / 'made'}"))
    opened(channel, turn)
    channel.leave()
    person.until_shown(DIALOG)
    again = sessions.look(channel)
    (request,) = again.joined["requests"]
    with pytest.raises(Refused):
        again.push("answer", {"request": request["id"], "decision": "deny"})
    assert sessions.look(channel).joined["requests"] == [request]
    person.choose("1", DIALOG)
    story = again.story(turn)
    assert (story.status, closed(again, request)) == ("completed", ("allowed", None))
    assert (tmp_path / "made").exists()
