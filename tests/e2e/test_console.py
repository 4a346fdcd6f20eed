"""The web console in a real Chromium, on a real bridge: what a person sees and does.

Each window fails its test where an error was said on its console, its policy was violated, something was
asked of another place, or axe-core finds something serious in a state that is looked at. The pictures of
those states are kept in CONSOLE_SHOTS, where it is given.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from bridge.tokens import digest
from tests.fakes.bridge import BridgeProcess, running_bridge, sim
from tests.fakes.chromium import Chromium
from tests.fakes.console import EXPECTED_WHEN_GONE, Window
from tests.fakes.phoenix_js import Clients, JsChannel

pytestmark = pytest.mark.real

ADA = "ada-0123456789-0123456789"
Open = Callable[..., Window]


@pytest.fixture(scope="module")
def bridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BridgeProcess]:
    """With a second person."""
    ada = {"name": "ada", "hash": digest(ADA), "scopes": ["watch", "prompt", "control"]}
    with running_bridge(
        tmp_path_factory.mktemp("bridge"), CLAUDE_BRIDGE_AUTH__TOKENS=json.dumps([ada])
    ) as running:
        assert "console" in running.run("console", "--help").stdout
        yield running


@pytest.fixture
def open_window(chromium: Chromium, bridge: BridgeProcess, tmp_path: Path) -> Iterator[Open]:
    """Windows on the console, at its start page or a session's; all are closed when the test ends."""
    windows: list[Window] = []

    def make(token: str | None = None, at: str = "", **context: Any) -> Window:
        token = bridge.token if token is None else token
        address = f"http://127.0.0.1:{bridge.port}/#token={quote(token, safe='')}"
        window = Window(chromium, address, tmp_path / "shots", **context)
        windows.append(window)
        window.sessions.shown()
        if at:
            window.go(at)
        return window

    yield make
    complaints = [said for window in windows for said in window.complaints()]
    for window in windows:
        window.page.close()
    assert complaints == []


def session(bridge: BridgeProcess, clients: Clients, name: str, **start: Any) -> JsChannel:
    """One that somebody else has started."""
    return clients.connect(bridge.url, bridge.token).join(f"session:{name}", {"start": start})


def test_a_newcomer_gets_from_the_printed_address_to_a_streamed_reply(
    chromium: Chromium, bridge: BridgeProcess, tmp_path: Path
) -> None:
    """The token is gone from the address at once, and a reply is there before it is whole."""
    window = Window(chromium, bridge.run("console").stdout.strip(), tmp_path)
    window.role("button", "New").shown()
    assert bridge.token not in window.page.eval(
        "location.href + document.title + JSON.stringify(localStorage)"
    )
    window.look("empty")
    window.start("first")
    window.look("started")
    window.say(f"count for me {sim(words=60, gap_ms=60)}")
    window.until_said("w3")
    assert "w59" not in window.said()
    window.look("streaming")
    window.until_said("w59")
    window.role("button", "Send").shown()
    window.look("finished")
    assert window.complaints() == []
    window.page.close()


def test_a_wrong_token_is_refused_and_another_is_asked_for(
    chromium: Chromium, bridge: BridgeProcess, tmp_path: Path
) -> None:
    """With what the bridge said of it."""
    window = Window(chromium, f"http://127.0.0.1:{bridge.port}/#token=wrong", tmp_path)
    window.expect(re.compile("403|401|WebSocket connection"))
    window.role("alert").shown()
    window.look("refused")
    window.labelled("Token").fill(bridge.token)
    window.role("button", "Open").click()
    window.sessions.shown()
    assert window.complaints() == []
    window.page.close()


def test_a_tool_is_allowed_and_another_denied(
    bridge: BridgeProcess, clients: Clients, open_window: Open, tmp_path: Path
) -> None:
    """What exactly would run stands on the card; what was said with the refusal reaches Claude."""
    session(bridge, clients, "asking", cwd=str(bridge.home))
    window = open_window(at="asking")
    window.say(sim(tools=[["Bash", {"command": "touch allowed-by-me"}]], text="It is there."))
    card = window.role("region", re.compile("^Claude wants to use Bash"))
    card.text("touch allowed-by-me", exact=True).shown()
    window.look("permission")
    card.role("button", "Allow").click()
    window.until_said("It is there.")
    assert (bridge.home / "allowed-by-me").exists()
    window.say(sim(tools=[["Bash", {"command": "touch denied-by-me"}]], text="As you like."))
    card.role("textbox", "Message with a denial").fill("not today")
    card.role("button", "Deny").click()
    window.until_said("As you like.")
    window.transcript.role("button", re.compile("touch denied-by-me")).click()
    window.transcript.text(re.compile("not today")).shown()
    window.look("denied")
    assert not (bridge.home / "denied-by-me").exists()


def test_a_question_is_answered(bridge: BridgeProcess, clients: Clients, open_window: Open) -> None:
    """With one of the choices; Claude goes on with it."""
    options = [{"label": label, "description": f"{label} it is"} for label in ("Tea", "Coffee")]
    question = {"question": "What to drink?", "header": "Drink", "options": options, "multiSelect": False}
    channel = session(bridge, clients, "asked")
    window = open_window(at="asked")
    window.say(sim(tools=[["AskUserQuestion", {"questions": [question]}]], text="So be it."))
    card = window.role("region", re.compile("^Claude asks"))
    card.role("radio", re.compile("^Coffee")).choose()
    window.look("question")
    card.role("button", "Answer").click()
    window.until_said("So be it.")
    assert '"What to drink?"="Coffee"' in channel.wait("tool_finished")["output"]


def test_a_plan_goes_back_once_and_is_approved_then(
    bridge: BridgeProcess, clients: Clients, open_window: Open
) -> None:
    """What is to change reaches Claude; with the approval plan mode is over. Claude writes a plan to the file
    that it is told of, and the CLI shows what stands there (2.1.330)."""
    channel = session(bridge, clients, "planned", permission_mode="plan")
    assert channel.ask("where to?").status == "completed"
    said = json.dumps(bridge.requests("where to?")[-1])
    (path,) = set(re.findall(r'/[^ "]+/plans/[^ "]+?\.md', said))
    window = open_window(at="planned")
    write = ["Write", {"file_path": path, "content": "# The plan\n\n1. think\n2. do"}]
    window.say(sim(tools=[write, ["ExitPlanMode", {}]], text="Another one, then."))
    card = window.role("region", re.compile("^Claude has a plan"))
    card.role("heading", "The plan").shown()
    window.look("plan")
    card.role("textbox", "What to change in the plan").fill("do first")
    card.role("button", "Keep planning").click()
    window.until_said("Another one, then.")
    assert "do first" in channel.wait("tool_finished", 2)["output"]
    window.say(sim(tools=[["ExitPlanMode", {}]], text="On it."))
    card.role("button", "Approve the plan").click()
    window.until_said("On it.")
    channel.wait_session(permission_mode="default")


def test_a_turn_is_interrupted(bridge: BridgeProcess, clients: Clients, open_window: Open) -> None:
    """What was said until then stays."""
    session(bridge, clients, "long")
    window = open_window(at="long")
    window.say(sim(words=5000, gap_ms=50))
    window.until_said("w3")
    window.role("button", "Stop").click()
    window.transcript.text(re.compile("^Interrupted")).shown()
    assert "w3" in window.said()
    window.look("interrupted")


def test_a_terminal_is_typed_into(bridge: BridgeProcess, clients: Clients, open_window: Open) -> None:
    """What is typed there is a turn in the conversation beside it."""
    session(bridge, clients, "tui", backend="tmux").ask("warm")
    window = open_window(at="tui")
    window.until_on_screen("You said: warm")
    window.terminal.press("h")
    window.type("ello there")
    window.key("Enter")
    window.until_said("You said: hello there")
    window.until_on_screen("You said: hello there")
    window.look("terminal")


def test_two_people_see_each_other_and_the_same_turn(
    bridge: BridgeProcess, clients: Clients, open_window: Open
) -> None:
    """As it streams."""
    session(bridge, clients, "shared")
    mine, hers = open_window(at="shared"), open_window(ADA, at="shared")
    mine.text(re.compile(r"\bada\b")).shown()
    hers.text(re.compile(r"\blocal\b")).shown()
    hers.say(f"from ada {sim(words=40, gap_ms=50)}")
    for window in (mine, hers):
        window.until_said("w3")
    for window in (mine, hers):
        window.until_said("w39")
        assert window.said().split().count("w39") == 1
    mine.look("two-people")


def test_a_bridge_killed_in_the_middle_of_a_reply_loses_nothing(
    bridge: BridgeProcess, clients: Clients, open_window: Open
) -> None:
    """Nor is anything there twice; the page says that it was away, and for how long."""
    session(bridge, clients, "killed")
    window = open_window(at="killed")
    window.expect(EXPECTED_WHEN_GONE)
    window.say(sim(words=120, gap_ms=50))
    window.until_said("w9")
    bridge.kill()
    window.connection.text(re.compile("^Connection lost")).shown()
    window.look("lost")
    bridge.start()
    window.connection.text(re.compile(r"^Back after \d+ s")).shown()
    window.look("back")
    window.until_said("w119")
    assert window.said().split() == [f"w{n}" for n in range(120)]


def test_it_works_on_a_phone(bridge: BridgeProcess, clients: Clients, open_window: Open) -> None:
    """From the list to a reply, and nothing sticks out at the side."""
    session(bridge, clients, "pocket")
    phone = {"viewport": {"width": 390, "height": 844}, "hasTouch": True, "isMobile": True}
    window = open_window(deviceScaleFactor=2, **phone)
    window.look("phone-list")
    window.go("pocket")
    wide = "# A heading\n\n```\n" + "y" * 200 + "\n```\n\ndone"
    window.say("x" * 200 + sim(text=wide))
    window.until_said("done")
    window.look("phone")
    assert window.page.eval("document.documentElement.scrollWidth") == 390


def test_it_is_dark_where_the_system_is(bridge: BridgeProcess, clients: Clients, open_window: Open) -> None:
    """With contrast enough: axe-core looks at that."""
    text = "**Words**, `code`, a [link](https://example.com).\n\n```py\ndef f() -> str:\n    return 'a'\n```"
    session(bridge, clients, "night", cwd=str(bridge.home), allowed_tools=["Bash"])
    window = open_window(at="night", colorScheme="dark")
    window.say(sim(thinking="hm", tools=[["Bash", {"command": "echo heron"}]], text=text))
    window.role("button", "Send").shown()
    window.until_said("return 'a'")
    red, green, blue = map(
        int, re.findall(r"\d+", window.page.eval("getComputedStyle(document.body).backgroundColor"))[:3]
    )
    assert max(red, green, blue) < 60
    window.look("dark")


def test_no_mouse_is_needed(chromium: Chromium, bridge: BridgeProcess, tmp_path: Path) -> None:
    """From the sign-in to a reply."""
    window = Window(chromium, f"http://127.0.0.1:{bridge.port}/", tmp_path)
    window.labelled("Token").shown()
    window.look("sign-in")
    window.type(bridge.token)
    window.key("Enter")
    window.role("button", "New").shown()
    window.key("n")
    window.role("dialog", "Start a session").shown()
    window.type("by-keys")
    window.key("Enter")
    window.prompt.shown()
    window.page.until("document.activeElement?.matches('textarea')")
    window.type("no mouse")
    window.key("Enter")
    window.until_said("You said: no mouse")
    window.key("Escape", "Tab")
    window.key("?")
    window.look("keys")
    assert window.complaints() == []
    window.page.close()


def test_nothing_from_elsewhere_is_loaded_and_no_script_of_a_reply_runs(
    bridge: BridgeProcess, clients: Clients, open_window: Open
) -> None:
    """Whatever a reply has in it. What the policy forbids would have been noticed."""
    text = (
        "<script>document.title = 'owned'</script><img src=x onerror=\"document.title='owned'\">\n\n"
        "![far](https://example.com/pixel.png)\n\n[click](javascript:document.title='owned')\n\n"
        '<div style="position:fixed;inset:0;background:red">over</div>\n\n<iframe src="https://example.com"></iframe>\n\nend'
    )
    session(bridge, clients, "hostile")
    window = open_window(at="hostile")
    window.say(sim(text=text))
    window.until_said("end")
    assert "owned" not in window.page.eval("document.title")
    hostile = "[aria-label=Transcript] :is(script, iframe, [style*=fixed], [onerror])"
    assert window.page.eval(f"document.querySelectorAll({json.dumps(hostile)}).length") == 0
    assert window.complaints() == []
    window.expect(re.compile("example.com"))
    window.page.eval(
        "void document.body.append(Object.assign(new Image(), {src: 'https://example.com/x.png'}))"
    )
    window.page.until("[...document.images].at(-1).complete")
    assert any("policy: img-src" in said for said in window.page.complaints())
