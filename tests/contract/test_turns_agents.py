"""Sub-agents, which the CLI puts into the background unless Claude says otherwise: the turn lasts until they
are done and Claude has answered to what they found."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contract.test_turns_tools import opened
from tests.fakes.bridge import END_S, Sessions, ended, sim
from tests.fakes.phoenix_js import JsChannel, Story, assert_well_told

pytestmark = pytest.mark.real


def delegating(command: str) -> str:
    """A prompt: Claude has an agent run this, says that it works, and says so again when it is done."""
    below = sim(tools=[["Bash", {"command": command}]], text="from below")
    agent = {"description": "Work", "subagent_type": "general-purpose", "prompt": below}
    return sim(tools=[["Agent", agent]], text="it works")


def until_there(path: Path) -> str:
    """A command that ends once there is such a file."""
    return f"until [ -e {path} ]; do sleep 0.1; done"


def said(story: Story) -> list[str]:
    """By Claude itself."""
    return [b["text"] for b in story.of("block") if b.get("parent") is None]


def submitted(channel: JsChannel, command: str) -> str:
    """Claude has answered, and its agent is at work."""
    turn = channel.submit(delegating(command))
    channel.wait("block", turn=turn, text="it works")
    return turn


def test_what_an_agent_asks_is_asked_in_its_turn(sessions: Sessions, tmp_path: Path) -> None:
    """Also when Claude has answered by then; its last answer is the turn's."""
    channel = sessions.talk()
    made = tmp_path / "made"
    turn = submitted(channel, f"touch {made}")
    request = opened(channel, turn)
    assert (request["tool"], request["input"]["command"]) == ("Bash", f"touch {made}")
    channel.wait_session(state="waiting")
    assert not made.exists()
    channel.push("answer", {"request": request["id"], "decision": "allow"})
    story = channel.story(turn)
    assert_well_told(story)
    assert made.exists()
    assert channel.wait("request_closed", request=request["id"])["outcome"] == "allowed"
    assert (story.status, story.text, said(story)) == ("completed", "it works", ["it works"] * 2)
    assert channel.ask("and now?").text == "You said: and now?"


def test_the_next_prompt_waits_for_the_agents_of_the_one_before(sessions: Sessions, tmp_path: Path) -> None:
    """As it waits for everything else of that turn; the session is busy, and says so."""
    channel = sessions.join(allowed_tools=["Bash"])
    turn = submitted(channel, until_there(tmp_path / "done"))
    reply = channel.push("submit", {"prompt": "and then?"})
    assert (reply["status"], reply["position"]) == ("queued", 1)
    (tmp_path / "done").touch()
    story = channel.story(turn)
    assert (story.status, said(story)) == ("completed", ["it works"] * 2)
    assert channel.story(reply["turn"]).text == "You said: and then?"
    told = [h.payload["session"]["state"] for h in channel.heard if h.event == "session_changed"]
    assert set(told) <= {"starting", "busy", "idle"}


def test_an_interrupt_stops_the_agents(sessions: Sessions, tmp_path: Path) -> None:
    """What Claude had answered stays; what they were at is ended."""
    channel = sessions.join(allowed_tools=["Bash"])
    pid = tmp_path / "pid"
    turn = submitted(channel, f"echo $$ >{pid}.half; mv {pid}.half {pid}; {until_there(tmp_path / 'done')}")
    channel.until(lambda: pid.exists() or None, "the agent to begin")
    assert channel.push("interrupt") == {"turn": turn}
    story = channel.story(turn)
    assert_well_told(story)
    assert (story.status, story.text) == ("interrupted", "it works")
    assert channel.ask("and now?").text == "You said: and now?"
    assert ended(int(pid.read_text()), END_S)
