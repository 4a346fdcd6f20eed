"""The TUI comes up without a dialog, whatever it finds at home, and changes nothing of a person's there."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from bridge.commands import StartOptions
from bridge.config import ClaudeConfig, TmuxConfig
from bridge.drill.stage import remove_socket
from bridge.sessions.backends import ask_hook
from bridge.sessions.backends.hooks import HookServer
from bridge.sessions.backends.tty import is_raw
from bridge.sessions.claude.launch import LAUNCHER, Start
from bridge.sessions.claude.tui_launch import (
    Hooks,
    config_file,
    needs_own_config,
    plan_tui,
    seed,
    tui_environment,
)
from bridge.sessions.tmux import Pane, Tmux
from tests.fakes.simulator import RunningSimulator

pytestmark = pytest.mark.real

WAIT_S = 60
KEY = "sk-ant-simulated-0123456789-abcdefghijklmnopqrst"
SESSION, SECRET = "claude_demo", "the-secret"
NOWHERE = "http://127.0.0.1:9"
"""A proxy that takes nothing: what is not on loopback gets no further."""

T = TypeVar("T")


class Receiver:
    """What the hooks told."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def hook(self, event: dict[str, Any]) -> dict[str, Any]:
        self.events.append(event)
        return {}

    def asked(self, request: str, event: dict[str, Any]) -> asyncio.Future[dict[str, Any]]:
        self.events.append(event)
        return asyncio.get_running_loop().create_future()

    def abandoned(self, request: str) -> None: ...

    def names(self) -> list[str]:
        return [event["hook_event_name"] for event in self.events]


class Tui:
    """One TUI in a tmux server of its own, in a made-up home."""

    def __init__(self, root: Path, claude: Path, simulator: RunningSimulator, hooks: HookServer) -> None:
        self.simulator = simulator
        self.home = root / "home of a person"
        self.cwd = root / 'work "here"'
        self.state_dir = root / "the state"
        self.own = self.state_dir / "claude-config"
        for folder in (self.home, self.cwd, self.own):
            folder.mkdir(parents=True)
        self.tmux = Tmux(f"test-{uuid.uuid4().hex[:12]}", TmuxConfig())
        self.environ = {"HOME": str(self.home), "PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
        self.config: dict[str, Any] = {
            "path": claude,
            "base_url": simulator.base_url,
            "api_key": KEY,
            # Run by root, and on loopback alone.
            "env": {
                "IS_SANDBOX": "1",
                "HTTPS_PROXY": NOWHERE,
                "CLAUDE_CODE_DISABLE_OFFICIAL_MARKETPLACE_AUTOINSTALL": "1",
            },
        }
        self.conversation = str(uuid.uuid4())
        self.generation = 0
        self.receiver = Receiver()
        hooks.attach(SECRET, self.receiver)
        self.hooks = Hooks(
            hooks.url, SECRET, str(root / "bridge" / "hooks.json"), sys.executable, str(ask_hook.__file__)
        )

    @property
    def settings(self) -> ClaudeConfig:
        return ClaudeConfig(**self.config)

    @property
    def folder(self) -> Path:
        return self.state_dir / "sessions" / str(self.generation)

    @property
    def editor(self) -> Path:
        return self.folder / "editor"

    def at_home(self, name: str, **content: Any) -> Path:
        file = self.home / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(content, indent=2))
        return file

    def introduced(self, **more: Any) -> Path:
        """Their own file, as somebody has it who has used the TUI elsewhere."""
        elsewhere = {"/elsewhere": {"hasTrustDialogAccepted": True}}
        return self.at_home(
            ".claude.json", numStartups=7, hasCompletedOnboarding=True, projects=elsewhere, **more
        )

    def needs_own(self) -> bool:
        """Decided as the bridge decides it."""
        file = config_file(tui_environment(self.settings, self.environ, self.folder, None))
        content = file.read_bytes() if file.exists() else None
        return needs_own_config(self.settings, self.environ, content)

    async def start(self, *, resume: bool = False, **options: Any) -> Pane:
        """As the bridge would, up to the first moment in which something may be typed."""
        self.generation += 1
        own = self.own if self.needs_own() else None
        if own is not None:
            file = own / ".claude.json"
            file.write_bytes(seed(file.read_bytes() if file.exists() else None, str(self.cwd), KEY))
        given = StartOptions.model_validate({"cwd": str(self.cwd), **options})
        start = Start(self.conversation, resume, given)
        claude = self.config["path"]
        made = plan_tui(start, self.folder, claude, self.settings, self.environ, self.hooks, own)
        self.env = dict(made.env)
        self.editor.mkdir(parents=True)
        for name, text in made.files.items():
            (self.folder / name).write_text(text)
        await self.tmux.kill_session(SESSION)
        self.pane = await self.tmux.new_session(SESSION, ["/bin/sh", str(self.folder / LAUNCHER)], {})
        await self.until(self.idle)
        return self.pane

    def idle(self) -> bool:
        return self.status().get("status") == "idle"

    def status(self) -> dict[str, Any]:
        """What the TUI says of itself, under the number of the pane's process."""
        home = Path(self.env.get("CLAUDE_CONFIG_DIR") or self.home / ".claude")
        with contextlib.suppress(OSError, ValueError):
            found: dict[str, Any] = json.loads((home / "sessions" / f"{self.pane.pid}.json").read_text())
            return found
        return {}

    async def until(self, what: Callable[[], T | None]) -> T:
        """Its first answer that says something."""
        end = time.monotonic() + WAIT_S
        while time.monotonic() < end:
            if found := what():
                return found
            await asyncio.sleep(0.02)
        raise AssertionError(f"waited in vain; the screen:\n{self.screen()}")

    def called(self, *words: str) -> str:
        command = ["tmux", "-L", self.tmux.socket, *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def screen(self) -> str:
        return self.called("capture-pane", "-p", "-S", "-", "-t", f"={SESSION}:")

    def keys(self, *keys: str) -> None:
        self.called("send-keys", "-t", f"={SESSION}:", *keys)

    async def order(self, prompt: str | None, *expected: str, keys: tuple[str, ...] = ("C-g",)) -> Path:
        """Have the prompt put into the box, or look only; what has become of it."""
        shutil.rmtree(self.editor / "done", ignore_errors=True)
        making = self.editor / "making"
        making.mkdir()
        if prompt is not None:
            (making / "put").write_text(prompt)
        for number, text in enumerate(expected, 1):
            (making / f"expect-{number}").write_text(text)
        making.rename(self.editor / "order")
        self.keys(*keys)
        done = self.editor / "done"
        await self.until((done / "found").exists)
        # Its last word comes before its end: until the TUI has its terminal back, that keeps a Backspace.
        await self.until(lambda: is_raw(self.pane.tty))
        return done

    async def sent(self, prompt: str) -> str:
        """Type and send it; what the API was asked."""
        before = len(self.simulator.requests())
        assert (await self.order(None) / "found").read_text() == ""
        assert (await self.order(prompt, keys=("BSpace", "C-g")) / "placed").exists()
        for _ in range(20):  # the key is lost while the box is drawn anew
            await asyncio.sleep(0.2)
            self.keys("Enter")
            if len(self.simulator.requests()) > before:
                break
        await self.until(lambda: len(self.simulator.requests()) > before)
        messages = self.simulator.requests()[-1]["messages"]
        content = [message["content"] for message in messages if message["role"] == "user"][-1]
        await self.until(self.idle)
        return content if isinstance(content, str) else str(content[-1]["text"])


@pytest.fixture
async def tui(tmp_path: Path, simulator: RunningSimulator, claude_path: Path) -> AsyncIterator[Tui]:
    (tmp_path / "bridge").mkdir()
    hooks = HookServer(tmp_path / "bridge")
    hooks.bind()
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(hooks.serve())
        tui = Tui(tmp_path, claude_path, simulator, hooks)
        yield tui
        await tui.tmux.kill_server()
        remove_socket(tui.tmux.socket)
        serving.cancel()


def unchanged(file: Path, before: str) -> None:
    """What the CLI counts and remembers there is its own business; nobody was introduced, trusted or
    approved on the person's behalf."""
    was, now = json.loads(before), json.loads(file.read_text())
    assert now.get("hasCompletedOnboarding") == was.get("hasCompletedOnboarding")
    assert now.get("customApiKeyResponses") == was.get("customApiKeyResponses")
    assert now.get("primaryApiKey") is None
    trusted = [path for path, project in now["projects"].items() if project.get("hasTrustDialogAccepted")]
    assert trusted == [path for path in was["projects"] if was["projects"][path]["hasTrustDialogAccepted"]]
    for project in now["projects"].values():
        assert not project.get("hasClaudeMdExternalIncludesApproved")
        assert not project.get("enabledMcpjsonServers")


# --- three homes -----------------------------------------------------------------------------------


async def test_a_home_without_anything_is_left_so(tui: Tui) -> None:
    """The bridge's own folder is used, the first prompt arrives, and the next start finds it again."""
    assert tui.needs_own()
    pane = await tui.start()
    assert tui.status()["pid"] == pane.pid
    assert tui.status()["sessionId"] == tui.conversation
    assert await tui.sent("Hello.") == "Hello."
    assert not (tui.home / ".claude.json").exists()
    assert not (tui.home / ".claude").exists()
    await tui.start(resume=True)
    assert await tui.sent("Again.") == "Again."
    assert len(tui.simulator.requests()[-1]["messages"]) >= 3


async def test_a_person_s_home_is_used_and_nothing_in_it_decided(tui: Tui) -> None:
    """Neither that the folder is trusted nor that the bridge's key is."""
    file = tui.introduced()
    before = file.read_text()
    assert not tui.needs_own()
    await tui.start()
    assert await tui.sent("Hello.") == "Hello."
    unchanged(file, before)
    assert list(tui.home.glob(f".claude/projects/*/{tui.conversation}.jsonl"))


async def test_a_person_s_login_serves_where_the_bridge_has_no_key(tui: Tui) -> None:
    """A made-up one, with everything but loopback out of reach."""
    tui.config["api_key"] = None
    ids = {"accountUuid": str(uuid.uuid4()), "organizationUuid": str(uuid.uuid4())}
    file = tui.introduced(oauthAccount={"emailAddress": "somebody@example.invalid", **ids})
    login = {
        "accessToken": "sk-ant-oat01-made-up",
        "refreshToken": "sk-ant-ort01-made-up",
        "expiresAt": int((time.time() + 86_400) * 1000),
        "scopes": ["user:inference", "user:profile"],
        "subscriptionType": "max",
    }
    credentials = tui.at_home(".claude/.credentials.json", claudeAiOauth=login)
    before, kept = file.read_text(), credentials.read_text()
    await tui.start()
    assert await tui.sent("Hello.") == "Hello."
    assert "You said: Hello." in tui.screen()
    unchanged(file, before)
    assert credentials.read_text() == kept


async def test_a_home_that_asks_much_asks_nothing(tui: Tui) -> None:
    """Servers of the project's own, hooks switched off, another editor, no permissions to be asked for."""
    file = tui.introduced()
    before = file.read_text()
    tui.at_home(".claude/settings.json", disableAllHooks=True, env={"EDITOR": "vim", "VISUAL": "vim"})
    server = {"command": "/bin/cat"}
    (tui.cwd / ".mcp.json").write_text(json.dumps({"mcpServers": {"here": server}}))
    await tui.start(permission_mode="bypassPermissions")
    assert await tui.sent("Hello.") == "Hello."
    unchanged(file, before)
    assert "UserPromptSubmit" in tui.receiver.names()


async def test_a_folder_of_the_bridge_s_own_does_not_ask_about_imports(tui: Tui) -> None:
    """They stay out, as they do without a TUI."""
    (tui.cwd.parent / "elsewhere.md").write_text("IMPORTED FROM ELSEWHERE")
    (tui.cwd / "CLAUDE.md").write_text("FROM HERE\n@../elsewhere.md\n")
    await tui.start()
    await tui.sent("Hello.")
    asked = json.dumps(tui.simulator.requests()[-1])
    assert "FROM HERE" in asked
    assert "IMPORTED FROM ELSEWHERE" not in asked


# --- hooks -----------------------------------------------------------------------------------------


async def test_hooks_reach_the_bridge_past_a_proxy(tui: Tui) -> None:
    """The TUI's start, the prompt, the answer and its end, each with the conversation."""
    await tui.start()
    await tui.sent("Hello.")
    await tui.until(lambda: "Stop" in tui.receiver.names())
    assert {"SessionStart", "UserPromptSubmit", "MessageDisplay", "Stop"} <= set(tui.receiver.names())
    assert {event["session_id"] for event in tui.receiver.events} == {tui.conversation}
    (submitted,) = [e for e in tui.receiver.events if e["hook_event_name"] == "UserPromptSubmit"]
    assert submitted["prompt"] == "Hello."
    assert submitted["permission_mode"] == "default"  # which is what the TUI calls manual


# --- the editor ------------------------------------------------------------------------------------


async def test_a_megabyte_with_tabs_arrives_as_it_is(tui: Tui) -> None:
    """Which no other way of typing does."""
    line = '\tif x:\t\t# "$HOME" `id` it\'s 100 % é 漢 🎉 \\\n'
    prompt = "  !not a command\n" + line * (1_000_000 // len(line.encode())) + "end"
    await tui.start()
    assert await tui.sent(prompt) == prompt


async def test_a_draft_in_the_box_is_neither_sent_nor_lost(tui: Tui) -> None:
    """It is told to the bridge, and stands there as it did; our own text is replaced."""
    await tui.start()
    tui.keys("-l", "half a thought ")
    await tui.until(lambda: "half a thought" in tui.screen())
    done = await tui.order("Hello.", "something else")
    assert not (done / "placed").exists()
    assert (done / "found").read_text() == "half a thought "
    done = await tui.order("Hello.", "something else", "half a thought ")
    assert (done / "placed").exists()
    assert tui.simulator.requests() == []


async def test_a_person_s_shell_prompt_does_not_run_ours(tui: Tui) -> None:
    """Their `!` does not stand in the box that the editor is given. A Backspace takes it away first."""
    await tui.start()
    tui.keys("-l", "!")
    await tui.until(lambda: "\n!" in tui.screen())
    file = tui.cwd.parent / "run"
    assert await tui.sent(f"touch '{file}'") == f"touch '{file}'"
    assert "UserPromptSubmit" in tui.receiver.names()
    assert not file.exists()


async def test_a_person_s_key_opens_their_own_editor(tui: Tui) -> None:
    """The very key that the bridge uses."""
    mine = tui.home / "my editor"
    mine.write_text('#!/bin/sh\nprintf "written by hand" >"$1"\n')
    mine.chmod(0o755)
    tui.environ["EDITOR"] = f"'{mine}'"
    await tui.start()
    tui.keys("C-g")
    await tui.until(lambda: "written by hand" in tui.screen())
    tui.keys("C-g")
    done = await tui.order("Hello.")
    assert (done / "found").read_text() == "written by hand"


# --- keys ------------------------------------------------------------------------------------------


async def test_the_left_arrow_does_not_move_the_conversation_away(tui: Tui) -> None:
    """In an empty box it would go on in a daemon that nobody here knows."""
    await tui.start()
    await tui.sent("Hello.")
    tui.keys("Left")
    assert await tui.sent("Still here?") == "Still here?"
    assert "parkedJobId" not in tui.status()


async def test_a_person_may_end_the_tui(tui: Tui) -> None:
    """Twice Ctrl-C: it ends by itself, and the pane tells so."""
    await tui.start()
    tui.keys("C-c")
    await tui.until(lambda: "again to exit" in tui.screen())
    tui.keys("C-c")
    await tui.until(lambda: tui.tmux.panes_now(SESSION)[0].dead)
    assert tui.status() == {}


async def test_a_tui_that_was_put_to_sleep_is_woken_by_a_signal(tui: Tui) -> None:
    """There is no shell in the pane for Ctrl-Z to go back to."""
    await tui.start()
    tui.keys("C-z")
    await tui.until(lambda: "suspended" in tui.screen())
    os.kill(tui.pane.pid, signal.SIGCONT)
    assert await tui.sent("Awake?") == "Awake?"


async def test_a_start_that_fails_says_why_on_the_screen(tui: Tui) -> None:
    """And is over at once."""
    starting = asyncio.ensure_future(tui.start(resume=True))
    await tui.until(lambda: any(pane.dead for pane in tui.tmux.panes_now(SESSION)))
    starting.cancel()
    await asyncio.wait([starting])
    assert f"No conversation found with session ID: {tui.conversation}" in tui.screen()
