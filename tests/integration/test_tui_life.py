"""The real TUI is killed, left alone, found again, stopped, started, with prompts on their way."""

from __future__ import annotations

import asyncio
import re
import signal
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bridge.commands import AnswerRequest, ConfigureSession, RestartSession, StopSession
from bridge.events import DeltaAdded, RequestOpened, ToolBlock, TurnFinished, TurnQueued
from bridge.sessions.backends import typist
from bridge.sessions.backends.editor import Editor
from bridge.sessions.backends.tui_link import TuiLink
from bridge.sessions.backends.typist import Entered, Typist
from bridge.sessions.claude import tui_launch
from tests.fakes.simulator import RunningSimulator
from tests.fakes.tui_rig import TuiRig, sim

pytestmark = pytest.mark.real

WORDS = "slow " + sim(words=400, gap_ms=10)


@pytest.fixture
async def rig(tmp_path: Path, simulator: RunningSimulator, claude_path: Path) -> AsyncIterator[TuiRig]:
    rig = TuiRig(tmp_path / "rig", simulator, claude_path)
    yield rig
    await rig.close()


def words(count: int) -> str:
    return "".join(f"w{n} \n" if n % 10 == 9 else f"w{n} " for n in range(count)).rstrip()


async def works(rig: TuiRig, word: str = "after") -> None:
    turn = await rig.ask(f"{word} " + sim(text="Well."))
    assert (turn.status, turn.text) == ("completed", "Well.")
    assert rig.typed(f"{word} Please") == 1


def tmux_session(rig: TuiRig) -> str:
    return rig.run_tmux("display-message", "-p", "-t", "=claude_demo:", "#{session_id} #{session_created}")


# --- the CLI dies -------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.soak)])
async def test_a_cli_that_dies_while_idle_is_started_again_where_people_are_attached(
    rig: TuiRig, number: signal.Signals
) -> None:
    """In the same tmux session, with the conversation."""
    async with rig.bridge():
        await rig.start()
        await works(rig, "before")
        place, conversation = tmux_session(rig), rig.session.conversation
        rig.kill(number)
        await rig.until(lambda: rig.session.restarts == 1)
        await rig.until_state("idle")
        await works(rig)
        assert rig.typed("before Please") == 1  # the model is told of it again
        assert (tmux_session(rig), rig.session.conversation) == (place, conversation)
        assert len(await rig.turns()) == 2


async def test_a_cli_that_dies_in_the_middle_of_a_turn(rig: TuiRig) -> None:
    """Nobody can tell how far it came: what came of it is kept, and it is not typed again."""
    async with rig.bridge():
        await rig.start()
        turn = await rig.submit(WORDS)
        await rig.event(DeltaAdded, count=4)
        rig.kill(signal.SIGKILL)
        ended = await rig.finished(turn)
        assert ended.status == "unknown"
        assert ended.error is not None
        assert ended.error.code == "process_died"
        assert len(ended.text) > 20
        assert words(400).startswith(ended.text)
        await rig.until_state("idle")
        await works(rig)
        assert rig.typed("slow Please") <= 1
        assert [t.status for t in await rig.turns()] == ["unknown", "completed"]


async def test_a_cli_that_dies_too_often_is_left_alone(rig: TuiRig) -> None:
    """The reason is there, and a restart by hand begins afresh."""
    rig.limits = {"restart_limit": 1}
    async with rig.bridge():
        await rig.start()
        for _ in range(2):
            await rig.until_state("idle")
            rig.kill(signal.SIGKILL)
            await rig.until(lambda: rig.session.state != "idle")
        session = await rig.until_state("failed")
        assert session.reason is not None
        assert "signal 9" in session.reason
        await rig.call(RestartSession())
        await rig.until_state("idle")
        await works(rig)


async def test_a_conversation_that_holds_no_word_yet_is_begun_under_another_id(rig: TuiRig) -> None:
    """Killed a moment after its first prompt: Claude neither resumes it nor takes its id again."""
    async with rig.bridge():
        await rig.start()
        before = rig.session.conversation
        folder = rig.config_dir / "projects" / re.sub(r"[^A-Za-z0-9]", "-", str(rig.cwd))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{before}.jsonl").write_text(f'{{"type":"mode","mode":"normal","sessionId":"{before}"}}\n')
        rig.kill(signal.SIGKILL)
        await rig.until(lambda: rig.session.restarts == 1)
        await rig.until_state("idle")
        assert rig.session.conversation != before
        await works(rig)
        assert rig.session.restarts == 1
        [kept] = [path.stem for path in folder.glob("*.jsonl") if path.stem != before]
        assert kept == rig.session.conversation


# --- a prompt is on its way ---------------------------------------------------------------------------

STEPS = ("before the order", "with the order out", "with the text in the box", "before Enter", "after Enter")


def freeze(monkeypatch: pytest.MonkeyPatch, step: str) -> asyncio.Event:
    """Whoever comes to this step stays there; says when."""
    reached = asyncio.Event()

    async def stay(*args: Any, **more: Any) -> Any:
        reached.set()
        await asyncio.Event().wait()

    real_order, real_record = Editor._order, Entered._write

    async def order(self: Editor, *args: Any) -> Any:
        box = await real_order(self, *args)
        return box if "put" not in str(args) else await stay()

    def record(self: Entered, *args: Any) -> None:
        real_record(self, *args)
        reached.set()

    match step:
        case "before the order":
            monkeypatch.setattr(Editor, "put", stay)
        case "with the order out":
            monkeypatch.setattr(Editor, "_answered", stay)
        case "with the text in the box":
            monkeypatch.setattr(Typist, "_enter", stay)
        case "before Enter":
            monkeypatch.setattr(Entered, "_write", record)
            monkeypatch.setattr(typist, "ENTER_AFTER_S", 1e6)
        case "after Enter":
            monkeypatch.setattr(Typist, "_acknowledged", stay)
    # What is killed takes nothing back.
    monkeypatch.setattr(Editor, "_withdraw", lambda self: True)
    return reached


@pytest.mark.parametrize(
    ("step", "dies"),
    [
        (STEPS[-2], "bridge"),
        *(pytest.param(step, "bridge", marks=pytest.mark.soak) for step in STEPS if step != STEPS[-2]),
        *(pytest.param(step, "claude", marks=pytest.mark.soak) for step in STEPS[2:]),
    ],
)
async def test_a_prompt_on_its_way_is_typed_once_or_its_fate_is_unknown(
    rig: TuiRig, monkeypatch: pytest.MonkeyPatch, step: str, dies: str
) -> None:
    prompt = "cut " + sim(text="Said.")
    async with rig.bridge():
        await rig.start()
        reached = freeze(monkeypatch, step)
        if step == "after Enter":
            rig.hooks.spoil = lambda: "lost"
        turn = await rig.submit(prompt)
        await asyncio.wait_for(reached.wait(), 60)
        if dies == "claude":
            rig.kill(signal.SIGKILL)
            await rig.until(lambda: rig.session.state == "restarting")
            monkeypatch.undo()
            rig.hooks.spoil = lambda: None
            await judge(rig, turn, step)
    monkeypatch.undo()
    if dies == "bridge":
        if step == "with the order out":
            # No bridge starts faster than the editor opens for a key of the last one.
            done = rig.state_dir / "sessions" / "demo" / "1" / "editor" / "done"
            await rig.until(lambda: (done / "found").exists())
        async with rig.bridge():
            await judge(rig, turn, step)


@pytest.mark.soak
async def test_a_long_prompt_that_stands_in_the_box_already_is_sent_as_it_is(
    rig: TuiRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given the same long text twice, the TUI would send a part of it as something pasted."""
    prompt = f"cut {'x' * 20_000} {sim(text='Said.')}"
    async with rig.bridge():
        await rig.start()
        reached = freeze(monkeypatch, "with the text in the box")
        turn = await rig.submit(prompt)
        await asyncio.wait_for(reached.wait(), 60)
    monkeypatch.undo()
    async with rig.bridge():
        ended = await rig.finished(turn)
        assert (ended.status, ended.text) == ("completed", "Said.")
        assert [t.id for t in await rig.turns()] == [turn]
    assert rig.typed(prompt.replace('"', '\\"')) == 1


async def test_a_prompt_of_unknown_fate_is_not_typed_again_behind_a_persons(
    rig: TuiRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Claude died with it unacknowledged, and a person is at the new process before anybody can tell."""
    async with rig.bridge():
        await rig.start()
        with monkeypatch.context() as patch:
            reached = freeze(patch, "after Enter")
            for reads in ("_find", "read_out"):  # the transcript is written down a moment later
                patch.setattr(TuiLink, reads, lambda self: None)
            rig.hooks.spoil = lambda: "lost"
            turn = await rig.submit("cut " + sim(text="Said.", first_ms=60_000))
            await asyncio.wait_for(reached.wait(), 60)
            await rig.until(lambda: rig.typed("cut Please") == 1)
            patch.setattr(typist, "ACK_S", 60.0)  # time enough for the person
            rig.kill(signal.SIGKILL)
            await rig.until(lambda: rig.session.state == "restarting")
            patch.undo()
            patch.setattr(typist, "ACK_S", 60.0)
            rig.hooks.spoil = lambda: None
            await rig.until(lambda: rig.session.state == "busy")
            await rig.write("hands " + sim(text="By hand."))
            await asyncio.sleep(0.3)
            await rig.press("Enter")
            await rig.until_shown("● By hand.")
        assert (await rig.finished(turn)).status == "unknown"
        await works(rig)
        assert rig.typed("cut Please") == 1


@pytest.mark.parametrize("meanwhile", [pytest.param("it runs", marks=pytest.mark.soak), "it ends"])
async def test_an_acknowledged_prompt_is_not_typed_again_where_the_journal_was_not_told(
    rig: TuiRig, meanwhile: str
) -> None:
    """That it was seen is written down a moment later; a bridge may be killed in that moment."""
    async with rig.bridge():
        await rig.start()
        turn = await rig.submit("cut " + sim(text="Said.", first_ms=1500))
        entered = rig.state_dir / "sessions" / "demo" / "entered.json"
        await rig.until(lambda: entered.exists() and b'"known":true' in entered.read_bytes())
    with closing(sqlite3.connect(rig.state_dir / "journal.db")) as journal, journal:
        changed = journal.execute("UPDATE turns SET phase = 'sending' WHERE turn = ?", (turn,))
        assert changed.rowcount == 1
    if meanwhile == "it ends":
        await rig.until_shown("● Said.")
    async with rig.bridge():
        await judge(rig, turn, "before the order")


async def judge(rig: TuiRig, turn: str, step: str) -> None:
    ended = await rig.finished(turn)
    if step in ("before the order", "with the order out", "with the text in the box"):
        assert ended.status == "completed"  # it was not entered: nothing is uncertain
    assert ended.status in ("completed", "unknown")
    await works(rig)
    assert rig.typed("cut Please") <= 1
    told = [t for t in await rig.turns() if t.prompt.startswith("cut")]
    assert len(told) == 1
    assert ended.status == "unknown" or told[0].text == "Said."


# --- the bridge goes away and comes again -------------------------------------------------------------


async def test_a_turn_that_goes_on_while_no_bridge_runs(rig: TuiRig) -> None:
    """All of it is there in the end, once, under the numbers it had."""
    async with rig.bridge():
        await rig.start()
        turn = await rig.submit(WORDS)
        await rig.event(DeltaAdded, count=3)
        pid = rig.pid
    async with rig.bridge():
        ended = await rig.finished(turn)
        assert (ended.status, ended.text) == ("completed", words(400))
        assert [b.block for b in ended.blocks] == [0]
        assert rig.pid == pid
        await works(rig)
        assert rig.typed("slow Please") == 1
        assert len(await rig.turns()) == 2


@pytest.mark.soak
async def test_what_stood_there_when_the_process_was_started_is_not_told_again(rig: TuiRig) -> None:
    """The bridge goes before the new process has said a word."""
    async with rig.bridge():
        await rig.start()
        await works(rig, "before")
        await rig.call(RestartSession())
        await rig.until_state("idle")
    async with rig.bridge():
        await rig.until_state("idle")
        await works(rig)
        assert [t.source for t in await rig.turns()] == ["client", "client"]


async def test_what_ends_while_no_bridge_runs_is_told_with_what_was_typed_by_hand(rig: TuiRig) -> None:
    """The turn's end, its tool's result, a turn of a person's: each once, in order."""
    async with rig.bridge():
        await rig.start(allowed_tools=["Bash(sleep *)"])
        await works(rig, "before")
        turn = await rig.submit("tool " + sim(text="Slept.", tools=[["Bash", {"command": "sleep 1.5"}]]))
        await rig.until_shown("Running")
    await rig.until_shown("● Slept.")
    await asyncio.sleep(0.3)
    await rig.write("hands " + sim(text="By hand."))
    await asyncio.sleep(0.3)
    await rig.press("Enter")
    await rig.until_shown("● By hand.")
    async with rig.bridge():
        ended = await rig.finished(turn)
        assert (ended.status, ended.text) == ("completed", "Slept.")
        assert isinstance(ended.blocks[0], ToolBlock)
        await rig.until(lambda: len(rig.all(TurnFinished)) == 3)
        await works(rig)
        turns = await rig.turns()
        assert [(t.source, t.status, t.text) for t in turns] == [
            ("client", "completed", "Well."),
            ("client", "completed", "Slept."),
            ("terminal", "completed", "By hand."),
            ("client", "completed", "Well."),
        ]


async def test_an_idle_session_is_found_as_it_was(rig: TuiRig) -> None:
    """No turn comes of what was told before."""
    async with rig.bridge():
        await rig.start()
        await works(rig, "before")
    async with rig.bridge():
        await rig.until_state("idle")
        await works(rig)
        assert len(await rig.turns()) == 2


@pytest.mark.soak
async def test_an_escape_before_the_first_word_while_no_bridge_runs(rig: TuiRig) -> None:
    """Only the status tells of it."""
    async with rig.bridge():
        await rig.start()
        turn = await rig.submit("early " + sim(text="Never said.", first_ms=60_000))
        await rig.until_state("busy")
        await rig.until_shown("esc to interrupt")
    await rig.press("Escape")
    await rig.until_shown("❯ early")
    await asyncio.sleep(0.5)
    async with rig.bridge():
        assert (await rig.finished(turn)).status in ("interrupted", "unknown")
        await works(rig)


@pytest.mark.parametrize("meanwhile", ["nothing", pytest.param("answered by key", marks=pytest.mark.soak)])
async def test_a_question_that_is_open_while_the_bridge_is_away(rig: TuiRig, meanwhile: str) -> None:
    """It is asked again, and answered; where a person did so meanwhile, it is closed."""
    async with rig.bridge():
        await rig.start()
        turn = await rig.submit("ask " + sim(text="Done.", tools=[["Bash", {"command": "touch made"}]]))
        opened = await rig.event(RequestOpened)
        await rig.until_shown("Do you want to proceed?")
    if meanwhile == "answered by key":
        await asyncio.sleep(0.3)
        await rig.press("1")
        await rig.until_shown("● Done.")
    async with rig.bridge():
        if meanwhile == "nothing":
            await rig.until_state("waiting")
            await rig.call(AnswerRequest(request=opened.request.id, decision="allow"))
        ended = await rig.finished(turn)
        assert (ended.status, ended.text) == ("completed", "Done.")
        assert (rig.cwd / "made").exists()
        await works(rig)
        assert not rig.actor.core.requests
        assert len(rig.all(RequestOpened)) == 1


@pytest.mark.soak
async def test_a_conversation_that_was_cleared_while_the_bridge_was_away(rig: TuiRig) -> None:
    """What was said in the new one meanwhile is told, and nothing of the old one again."""
    async with rig.bridge():
        await rig.start()
        await works(rig, "before")
        before = rig.session.conversation
    await rig.write("/clear")
    await asyncio.sleep(0.5)
    await rig.press("Enter")
    await rig.until_shown("/clear")
    await asyncio.sleep(1)
    await rig.write("hands " + sim(text="By hand."))
    await asyncio.sleep(0.3)
    await rig.press("Enter")
    await rig.until_shown("● By hand.")
    async with rig.bridge():
        await rig.until(lambda: rig.session.conversation != before)
        await works(rig)
        told = [(t.source, t.text) for t in await rig.turns()]
        assert told == [("client", "Well."), ("terminal", "By hand."), ("client", "Well.")]


# --- stopped, and not started -------------------------------------------------------------------------


async def test_stopped_and_started_the_conversation_goes_on(rig: TuiRig) -> None:
    async with rig.bridge():
        await rig.start()
        await works(rig, "before")
        conversation = rig.session.conversation
        await rig.call(StopSession())
        assert rig.session.state == "stopped"
        await rig.start()
        await works(rig)
        assert rig.typed("before Please") == 1
        assert rig.session.conversation == conversation
        assert len(await rig.turns()) == 2


@pytest.mark.soak
async def test_a_prompt_right_behind_a_change_waits_for_the_new_process(
    tmp_path: Path, simulator: RunningSimulator, claude_path: Path
) -> None:
    """A TUI is told of a change by a start of its own, and takes no keys before that is over."""
    slow, script = tmp_path / "slow", tmp_path / "claude"
    script.write_text(f'#!/bin/sh\nif [ -e {slow} ]; then sleep 1; fi\nexec {claude_path} "$@"\n')
    script.chmod(0o755)
    rig = TuiRig(tmp_path / "rig", simulator, script)
    try:
        async with rig.bridge():
            await rig.start()
            slow.touch()
            await rig.call(ConfigureSession(permission_mode="acceptEdits"))
            await works(rig)
            assert [e.reason for e in rig.all(TurnQueued)] == [None]
            assert [t.source for t in await rig.turns()] == ["client"]
    finally:
        await rig.close()


async def test_a_cli_that_does_not_start_says_why(rig: TuiRig, tmp_path: Path) -> None:
    """What it wrote to its screen is the reason."""
    broken = tmp_path / "claude"
    broken.write_text("#!/bin/sh\necho 'the flux is out of order'\nsleep 0.1\nexit 7\n")
    broken.chmod(0o755)
    rig.claude = rig.claude.model_copy(update={"path": broken})
    rig.limits = {"restart_limit": 1}
    async with rig.bridge():
        starting = asyncio.create_task(rig.start())
        await rig.until(lambda: bool(rig.registry.sessions()))
        session = await rig.until_state("failed")
        starting.cancel()
        assert session.reason is not None
        assert "status 7" in session.reason
        assert "the flux is out of order" in session.reason


async def test_a_cli_that_somebody_stopped_by_ctrl_z_goes_on(rig: TuiRig) -> None:
    """There is no shell to say fg to: the next prompt wakes it."""
    async with rig.bridge():
        await rig.start()
        await works(rig, "before")
        await rig.press("C-z")
        await rig.until_shown("is suspended")
        await works(rig)


async def test_a_ctrl_z_between_a_prompt_and_its_enter_is_waited_out(
    rig: TuiRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The CLI says that it is suspended a moment before it is: what is typed then it reads when it wakes."""
    put = Editor.put

    async def put_and_suspended(self: Editor, *order: Any) -> Any:
        box = await put(self, *order)
        if box is not None and box.placed:
            monkeypatch.undo()
            while "is suspended" not in await rig.screen():  # a key right behind an editor is lost
                await rig.press("C-z")
                await asyncio.sleep(0.2)
        return box

    async with rig.bridge():
        await rig.start()
        monkeypatch.setattr(Editor, "put", put_and_suspended)
        await works(rig)


async def test_an_editor_that_is_slow_to_end_has_no_shell_run_the_prompt(
    rig: TuiRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a busy machine: until it has ended, the Backspace that takes a person's `!` away is lost."""
    ends = 'mv "$here/taken" "$here/done"\n'
    assert ends in tui_launch.SHIM
    monkeypatch.setattr(tui_launch, "SHIM", tui_launch.SHIM.replace(ends, ends + "    sleep 0.2\n"))
    async with rig.bridge():
        await rig.start()
        await rig.press("!")
        await rig.until_shown("! for shell mode")
        await works(rig)


async def test_a_dialog_at_the_start_is_for_a_person_to_answer(rig: TuiRig) -> None:
    """The CLI is left alone with it, and the session says so; answered, it is ready."""
    rig.claude = rig.claude.model_copy(update={"start_timeout_s": 1.5})
    async with rig.bridge():
        settings = rig.cwd / ".claude"
        settings.mkdir()
        (settings / "settings.json").write_text("{ broken")
        starting = asyncio.create_task(rig.start())
        await rig.until(lambda: bool(rig.registry.sessions()) and rig.session.state == "unknown")
        assert rig.session.reason is not None
        assert "attach" in rig.session.reason
        pid, attach = rig.pid, rig.session.attach
        assert attach is not None
        turn = await rig.submit("waits " + sim(text="At last."))
        await rig.press("Enter")
        await starting
        assert rig.pid == pid
        assert (await rig.finished(turn)).text == "At last."
