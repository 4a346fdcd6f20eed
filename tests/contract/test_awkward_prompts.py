"""What a terminal could alter or take for something else is told as it is, or refused with a reason."""

from __future__ import annotations

import pytest

from tests.contract.awkward import CASES, LARGE, Case, Refused
from tests.fakes.bridge import BridgeProcess, Sessions, prompts_of
from tests.fakes.phoenix_js import JsChannel
from tests.fakes.phoenix_js import Refused as ErrorReply

pytestmark = pytest.mark.real

ACCEPTED = [case for case in CASES if not isinstance(case.expected, Refused)]
REFUSED = [case for case in CASES + LARGE if isinstance(case.expected, Refused)]
ACCEPTED_LARGE = [case for case in LARGE if not isinstance(case.expected, Refused)]


def cases(some: list[Case]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in some])


@pytest.fixture
def record(bridge: BridgeProcess) -> BridgeProcess:
    """The bridge, with nothing asked of its simulator yet."""
    bridge.simulator.forget()
    return bridge


@cases(ACCEPTED)
def test_an_awkward_prompt_is_told_as_it_is(
    record: BridgeProcess, sessions: Sessions, backend: str, case: Case
) -> None:
    """One after the other in one conversation; a terminal leaves out the blanks at the end."""
    assert_told(record, sessions.talk(), case.expected if backend == "tmux" else case.prompt, case)


@cases(ACCEPTED_LARGE)
def test_a_large_prompt_is_told_as_it_is(
    record: BridgeProcess, sessions: Sessions, backend: str, case: Case
) -> None:
    """Whatever stands where a terminal folds it."""
    assert_told(record, sessions.join(), case.expected if backend == "tmux" else case.prompt, case)


@cases(REFUSED)
def test_what_a_terminal_would_alter_is_refused(
    record: BridgeProcess, sessions: Sessions, backend: str, case: Case
) -> None:
    """With what it is and why; the session is left as it was. Without a terminal it is told as it is."""
    channel = sessions.talk()
    if backend != "tmux":
        assert_told(record, channel, case.prompt, case)
        return
    assert isinstance(case.expected, Refused)
    turns = sessions.look(channel).joined["turns"]
    with pytest.raises(ErrorReply) as refused:
        channel.submit(case.prompt)
    error = refused.value.response
    assert error["reason"] == "prompt_rejected"
    assert error["what"].startswith(case.expected.what)
    assert case.expected.why in error["why"]
    left = sessions.look(channel).joined
    assert (left["session"]["state"], left["open_turn"], left["queue"]) == ("idle", None, [])
    assert left["turns"] == turns
    assert record.requests() == []


def assert_told(record: BridgeProcess, channel: JsChannel, expected: object, case: Case) -> None:
    """To Claude, whose CLI may ask more than once; and to the client as it was submitted."""
    story = channel.ask(case.prompt)
    assert story.status == "completed"
    assert story.of("turn_started")[0]["prompt"] == case.prompt
    asked = record.requests()
    assert asked
    assert all(expected in prompts_of(request) for request in asked)
