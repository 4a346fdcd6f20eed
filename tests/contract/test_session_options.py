"""Options of `start` and `configure`: what is asked for is what Claude gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.bridge import BridgeProcess, Sessions, sim
from tests.fakes.phoenix_js import Refused

pytestmark = pytest.mark.real


def system_text(request: dict[str, object]) -> str:
    return str(request["system"])


def test_a_system_prompt_replaces_claudes_own(bridge: BridgeProcess, sessions: Sessions) -> None:
    """And an addition is added."""
    plain = sessions.join("plain")
    own = sessions.join("own", system_prompt="You are a heron.")
    more = sessions.join("more", append_system_prompt="Stand on one leg.")
    for channel in (plain, own, more):
        channel.ask(f"prompt for {channel.topic}")
    said = [system_text(bridge.requests(f"prompt for {c.topic}")[0]) for c in (plain, own, more)]
    assert "heron" not in said[0]
    assert "You are a heron." in said[1]
    assert len(said[1]) < len(said[0])
    assert "Stand on one leg." in said[2]
    assert len(said[2]) > len(said[0])


def test_a_session_works_where_it_is_told_to(bridge: BridgeProcess, sessions: Sessions) -> None:
    """In a folder below the roots, which by default is the bridge's home; tools run there."""
    folder = bridge.home / "a project"
    folder.mkdir()
    channel = sessions.join(cwd=str(folder), allowed_tools=["Bash"])
    assert channel.joined["session"]["cwd"] == str(folder)
    story = channel.ask(sim(tools=[["Bash", {"command": "pwd; touch made"}]], text="."))
    assert story.of("tool_finished")[0]["output"] == str(folder)
    assert (folder / "made").exists()


def test_without_a_folder_a_session_works_at_home(bridge: BridgeProcess, sessions: Sessions) -> None:
    """The first root."""
    assert sessions.join().joined["session"]["cwd"] == str(bridge.home)


@pytest.mark.parametrize("cwd", ["/etc", "relative", "{home}/missing", "{home}/../outside", "{home}/link"])
def test_a_folder_outside_the_roots_is_refused(bridge: BridgeProcess, sessions: Sessions, cwd: str) -> None:
    """By any way; and nothing was made."""
    link = bridge.home / "link"
    if not link.is_symlink():
        link.symlink_to("/etc")
    with pytest.raises(Refused) as refused:
        sessions.join(cwd=cwd.format(home=bridge.home))
    assert refused.value.reason == "invalid_payload"
    assert "cwd" in refused.value.response["field"]
    with pytest.raises(Refused, match="session_not_found"):
        sessions.socket.join(f"session:{sessions.name()}")


def test_an_allowed_tool_needs_no_permission_and_a_disallowed_one_is_not_there(
    bridge: BridgeProcess, sessions: Sessions
) -> None:
    """Claude is offered all but the disallowed."""
    channel = sessions.join(allowed_tools=["Bash(touch:*)"], disallowed_tools=["WebFetch", "Edit"])
    story = channel.ask(f"offer {sim(tools=[['Bash', {'command': 'touch allowed'}]], text='.')}")
    assert story.of("request_opened") == []
    assert (bridge.home / "allowed").exists()
    offered = set(bridge.requests("offer")[0]["tools"])
    assert "Bash" in offered
    assert offered & {"WebFetch", "Edit"} == set()


def test_a_model_is_asked_for_and_changed(bridge: BridgeProcess, sessions: Sessions) -> None:
    """At the start and by `configure`, from the next prompt on; everybody is told."""
    channel = sessions.join(model="claude-haiku-4-5")
    channel.ask("with the first model")
    assert channel.push("configure", {"model": "claude-sonnet-4-5"}) == {}
    channel.wait_session(model="claude-sonnet-4-5")
    channel.ask("with the second model")
    asked = [bridge.requests(f"with the {n} model")[0]["model"] for n in ("first", "second")]
    assert [m.partition("-2")[0] for m in asked] == ["claude-haiku-4-5", "claude-sonnet-4-5"]
    assert sessions.look(channel).joined["session"]["model"].startswith("claude-sonnet-4-5")


def test_what_is_configured_before_the_process_is_up_counts(
    bridge: BridgeProcess, sessions: Sessions
) -> None:
    """From the first prompt on."""
    channel = sessions.join(model="claude-haiku-4-5")
    pending = channel.send("configure", {"model": "claude-sonnet-4-5"})
    turn = channel.submit("configured early")
    assert pending.reply() == {}
    channel.story(turn)
    assert bridge.requests("configured early")[0]["model"].startswith("claude-sonnet-4-5")


def test_a_permission_mode_is_changed(sessions: Sessions) -> None:
    """`acceptEdits` lets a file be written that had to be asked for before."""
    channel = sessions.join()
    home = channel.joined["session"]["cwd"]
    writing = sim(tools=[["Write", {"file_path": f"{home}/written", "content": "x"}]], text=".")
    turn = channel.submit(writing)
    request = channel.wait("request_opened")["request"]
    assert request["tool"] == "Write"
    channel.push("answer", {"request": request["id"], "decision": "deny"})
    channel.story(turn)
    assert not Path(home, "written").exists()
    channel.push("configure", {"permission_mode": "acceptEdits"})
    channel.wait_session(permission_mode="acceptEdits")
    assert channel.ask(writing).of("tool_finished")[0]["is_error"] is False
    assert Path(home, "written").read_text() == "x"


def test_what_was_configured_holds_after_a_restart(bridge: BridgeProcess, sessions: Sessions) -> None:
    """The new process gets it as its own."""
    channel = sessions.join(model="claude-haiku-4-5")
    channel.ask("first")
    mode = "plan" if sessions.process else "default"
    channel.push("configure", {"model": "claude-sonnet-4-5", "permission_mode": mode})
    channel.push("restart")
    channel.ask("after the restart with another model")
    asked = bridge.requests("after the restart with another model")[0]["model"]
    assert asked.startswith("claude-sonnet-4-5")
    assert sessions.look(channel).joined["session"]["permission_mode"] == mode


def test_a_mode_that_claude_refuses_is_refused(sessions: Sessions) -> None:
    """`bypassPermissions` needs a process that was started with it; the session is as before."""
    if sessions.tui:
        pytest.skip("the TUI is started again for it, and then has it")
    channel = sessions.join()
    channel.ask("hello")
    with pytest.raises(Refused) as refused:
        channel.push("configure", {"permission_mode": "bypassPermissions"})
    assert refused.value.reason == "invalid_payload"
    assert sessions.look(channel).joined["session"]["permission_mode"] == "default"
    assert channel.ask("still there?").text == "You said: still there?"


def test_an_mcp_server_is_offered(bridge: BridgeProcess, sessions: Sessions, tmp_path: Path) -> None:
    """Given as an object; its tools are Claude's."""
    server = tmp_path / "server.py"
    server.write_text(MCP_SERVER)
    config = {"mcpServers": {"birds": {"command": "python3", "args": [str(server)]}}}
    channel = sessions.join(mcp_config=config, allowed_tools=["mcp__birds__legs"])
    channel.ask("settle")
    story = channel.ask(f"birds {sim(tools=[['mcp__birds__legs', {}]], text='.')}")
    assert "two, mostly one" in story.of("tool_finished")[0]["output"]


MCP_SERVER = """
import json, sys
TOOLS = [{"name": "legs", "description": "how many", "inputSchema": {"type": "object", "properties": {}}}]
for line in sys.stdin:
    asked = json.loads(line)
    answers = {
        "initialize": {
            "protocolVersion": asked.get("params", {}).get("protocolVersion"),
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "birds", "version": "1"},
        },
        "tools/list": {"tools": TOOLS},
        "tools/call": {"content": [{"type": "text", "text": "two, mostly one"}]},
    }
    if "id" in asked:
        said = {"jsonrpc": "2.0", "id": asked["id"], "result": answers.get(asked["method"], {})}
        print(json.dumps(said), flush=True)
"""
