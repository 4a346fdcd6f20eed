"""A session's processes, with the real CLI: started, ended, killed, left alone and found again."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import stat
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from inotify_simple import INotify, flags

from bridge.config import TmuxConfig
from bridge.errors import BackendError, TmuxError
from bridge.sessions.backends.base import Answer, Liveness
from bridge.sessions.backends.headless import HeadlessBackend, Host
from bridge.sessions.backends.tail import HOLE_STEP
from bridge.sessions.claude import stdin
from bridge.sessions.tmux import Tmux
from bridge.signals import (
    AnswerNeeded,
    BlockSettled,
    ConversationNamed,
    ProcessExited,
    ProcessReady,
    PromptSeen,
    SettingsSeen,
    TextArrived,
    ToolAnswered,
    TurnEnded,
)
from tests.fakes.headless import WAIT_S, Rig, new_turn
from tests.fakes.held import held
from tests.fakes.simulator import RunningSimulator

pytestmark = pytest.mark.real


def sim(**directive: Any) -> str:
    return f"Please. [[sim {json.dumps(directive)}]]"


def words(count: int) -> str:
    return "".join(f"w{n} \n" if n % 10 == 9 else f"w{n} " for n in range(count))


def text_of(rig: Rig) -> str:
    return "".join(s.text for s in rig.signals if isinstance(s, BlockSettled))


def frames(rig: Rig, kind: str, subtype: str | None = None, generation: int = 1) -> list[dict[str, Any]]:
    """What the CLI said itself, past the parser."""
    lines = rig.output(generation).read_bytes().strip(b"\0").splitlines()
    said = [json.loads(line) for line in lines]
    return [f for f in said if f["type"] == kind and subtype in (None, f.get("subtype"))]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def tmux(rig: Rig, *words: str) -> str:
    command = ["tmux", "-L", rig.tmux.socket, *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def looks(rig: Rig) -> str:
    """The pane's screen."""
    return tmux(rig, "capture-pane", "-p", "-t", "=claude_demo:")


async def left_in_the_middle(rig: Rig, count: int = 100) -> None:
    """A bridge that sent a prompt, saw some of the answer, and is gone."""
    await rig.start()
    await rig.send(sim(words=count, gap_ms=10))
    await rig.until(TextArrived)
    await rig.backend.detach()


# --- options -------------------------------------------------------------------------------------


async def test_every_option_reaches_the_cli(rig: Rig, simulator: RunningSimulator) -> None:
    """As the CLI itself reports them, and as the model is asked."""
    more = rig.folder / "more stuff"
    more.mkdir()
    ready = await rig.start(
        model="claude-sonnet-5-5",
        permission_mode="acceptEdits",
        system_prompt="You are a teapot. 'Quoted'",
        append_system_prompt="Short\nand $stout.",
        disallowed_tools=["WebFetch", "NotebookEdit"],
        allowed_tools=["Bash(git log *)", "Bash(echo *)"],
        add_dirs=[str(more)],
        mcp_config={"mcpServers": {"kettle": {"type": "stdio", "command": "/bin/false"}}},
    )
    assert ready.permission_mode == "acceptEdits"
    turn = await rig.ask(sim(text="Done.", tools=[["Bash", {"command": "echo allowed"}]]))
    assert SettingsSeen("claude-sonnet-5-5", "acceptEdits") in turn
    assert not any(isinstance(s, AnswerNeeded) for s in turn)
    init = frames(rig, "system", "init")[0]
    assert not {"WebFetch", "NotebookEdit"} & set(init["tools"])
    assert init["cwd"] == str(rig.cwd)
    assert str(more) in init["additional_directories"]
    assert [server["name"] for server in init["mcp_servers"]] == ["kettle"]
    asked = json.dumps(simulator.requests())
    assert json.dumps("You are a teapot. 'Quoted'")[1:-1] in asked
    assert json.dumps("Short\nand $stout.")[1:-1] in asked


async def test_the_cli_gets_a_clean_environment_and_shows_no_secret(rig: Rig) -> None:
    """Neither the bridge's own variables nor the key can be seen by other users."""
    await rig.start()
    assert rig.backend.pid is not None
    process = Path(f"/proc/{rig.backend.pid}")
    env = dict(v.split("=", 1) for v in (process / "environ").read_text().split("\0") if "=" in v)
    assert env["ANTHROPIC_API_KEY"] == "sk-ant-simulated"
    assert "CLAUDECODE" not in env
    assert not any(name.startswith("TMUX") for name in env)
    server = (await rig.tmux.panes())[0].server_pid
    for pid in (rig.backend.pid, server):
        assert "sk-ant" not in Path(f"/proc/{pid}/cmdline").read_text()
    assert "ANTHROPIC" not in Path(f"/proc/{server}/environ").read_text()


async def test_a_session_s_files_are_its_owner_s_alone(rig: Rig) -> None:
    """Prompts, answers and keys stand in them."""
    await rig.start()
    folder = rig.output().parent
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert set(modes.values()) == {0o600}
    assert {"in.fifo", "out.ndjson", "err.log", "launch.sh", "run.sh"} <= set(modes)
    for place in (folder, folder.parent):
        assert stat.S_IMODE(place.stat().st_mode) == 0o700


# --- a person at the pane ------------------------------------------------------------------------


async def test_keys_typed_into_the_pane_do_not_touch_the_cli(rig: Rig) -> None:
    """Neither signals nor end of file nor stopped output."""
    await rig.start()
    pid = rig.backend.pid
    await rig.send(sim(words=50, gap_ms=10))
    await rig.until(TextArrived)
    for key in ("C-c", "C-d", "C-z", "C-\\", "C-s", "q", "Enter", "Escape"):
        tmux(rig, "send-keys", "-t", "=claude_demo:", key)
    assert (await rig.until(TurnEnded)).status == "completed"
    await rig.ask(sim(text="Still here."))
    assert rig.backend.pid == pid


async def test_the_pane_shows_the_conversation(rig: Rig) -> None:
    """Prompt, tool and answer, for whoever attaches with the command that the session tells."""
    await rig.start(allowed_tools=["Bash(echo *)"])
    await rig.ask(sim(text="A readable answer.", tools=[["Bash", {"command": "echo from the tool"}]]))
    assert rig.backend.attach == f"tmux -L {rig.tmux.socket} attach -t claude_demo"
    wanted = ("❯ Please.", "⚙ Bash", "⎿ from the tool", "\nA readable answer.")
    async with asyncio.timeout(WAIT_S):
        # tmux draws what it was given a moment later, and tells nobody.
        while not all(line in looks(rig) for line in wanted):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


# --- the bridge goes and comes back ----------------------------------------------------------------


async def test_a_turn_goes_on_while_no_bridge_runs(rig: Rig) -> None:
    """Detached in the middle, adopted in the middle: the pieces are the whole, each once."""
    await left_in_the_middle(rig)
    mark = rig.checkpoint
    taken = [b for b in rig.batches if b.checkpoint is not None]
    rig.batches[:] = rig.batches[: rig.batches.index(taken[-1]) + 1]
    rig.signals[:] = [s for b in rig.batches for s in b.signals]
    rig._seen = len(rig.signals)
    assert await rig.adopt(mark) is Liveness.ALIVE
    assert (await rig.until(TurnEnded)).status == "completed"
    assert "".join(s.text for s in rig.all(TextArrived)) == words(100)
    assert text_of(rig) == words(100)
    assert len(rig.all(PromptSeen)) == 1


async def test_a_turn_that_ended_meanwhile_is_read_up_to_its_end(rig: Rig) -> None:
    """The answer came while nobody listened; then the process says that it is ready."""
    await left_in_the_middle(rig, 20)
    async with asyncio.timeout(WAIT_S):
        while not frames_ended(rig):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    del rig.signals[:], rig.batches[:]
    rig._seen = 0
    assert await rig.adopt(None) is Liveness.ALIVE
    await rig.until(TurnEnded)
    ready = await rig.until(ProcessReady)
    assert ready.busy is False
    assert text_of(rig) == words(20)
    assert await rig.ask(sim(text="On we go."))


def frames_ended(rig: Rig) -> bool:
    return b'"state":"idle"' in rig.output().read_bytes().rpartition(b'"type":"result"')[2]


async def test_an_adopted_process_that_works_says_so(rig: Rig) -> None:
    """`busy` with the sign of life."""
    await rig.start()
    await rig.send(sim(words=1000, gap_ms=20))
    await rig.until(TextArrived)
    await rig.backend.detach()
    assert await rig.adopt(rig.checkpoint) is Liveness.ALIVE
    assert (await rig.until(ProcessReady)).busy is True
    await rig.backend.interrupt()
    assert (await rig.until(TurnEnded)).status == "interrupted"


async def test_a_request_that_waits_survives_the_bridge(rig: Rig) -> None:
    """The one who comes next can answer it."""
    await rig.start()
    await rig.send(sim(text="Done.", tools=[["Bash", {"command": "touch made"}]]))
    asked = await rig.until(AnswerNeeded)
    await rig.backend.detach()
    assert await rig.adopt(rig.checkpoint) is Liveness.ALIVE
    await rig.until(ProcessReady)
    await rig.backend.answer(asked.request, Answer(True, asked.input))
    assert (await rig.until(TurnEnded)).status == "completed"
    assert (rig.cwd / "made").exists()


async def test_what_a_process_said_before_it_died_is_not_lost(rig: Rig) -> None:
    """Killed while no bridge ran: the partial text follows, then the answer is GONE."""
    await left_in_the_middle(rig)
    (pane,) = await rig.tmux.panes()
    os.kill(pane.pid, signal.SIGKILL)
    await until_dead(rig)
    del rig.signals[:]
    assert await rig.adopt(None) is Liveness.GONE
    partial = "".join(s.text for s in rig.all(TextArrived))
    assert partial
    assert words(100).startswith(partial)
    assert rig.all(ProcessExited) == []


async def until_dead(rig: Rig) -> None:
    """Until tmux has heard of the process's death."""
    async with asyncio.timeout(WAIT_S):
        while not (await rig.tmux.panes())[0].dead:
            pass


@pytest.mark.parametrize("watched", [True, False], ids=["under a bridge", "while no bridge ran"])
async def test_what_a_process_said_before_it_died_is_said_once(rig: Rig, watched: bool) -> None:
    """A bridge that comes next, before there is another process, does not take it for a turn of its own."""
    await rig.start()
    await rig.send(sim(words=500, gap_ms=20))
    await rig.until(TextArrived)
    assert rig.backend.pid is not None
    if watched:
        os.kill(rig.backend.pid, signal.SIGKILL)
        await rig.until(ProcessExited)
    else:
        pid, checkpoint = rig.backend.pid, rig.checkpoint
        await rig.backend.detach()
        os.kill(pid, signal.SIGKILL)
        await until_dead(rig)
        assert await rig.adopt(checkpoint) is Liveness.GONE
    del rig.signals[:]
    assert await rig.adopt(rig.checkpoint) is Liveness.GONE
    assert rig.signals == []


async def test_a_session_that_is_nowhere_is_gone(rig: Rig) -> None:
    """No tmux server, no folder."""
    assert await rig.adopt(None) is Liveness.GONE


async def test_a_process_of_another_generation_is_not_adopted(rig: Rig) -> None:
    """The journal knows of a newer one, which never came to be."""
    await rig.start()
    await rig.backend.detach()
    assert await rig.adopt(None, generation=2) is Liveness.GONE


async def test_where_tmux_cannot_be_asked_nothing_is_known(rig: Rig, tmp_path: Path) -> None:
    """A live session must never be taken for a dead one."""
    await rig.start()
    broken = tmp_path / "tmux"
    broken.write_text("#!/bin/sh\necho 'lost server' >&2\nexit 1\n")
    broken.chmod(0o755)
    blind = Host(
        rig.state_dir,
        Tmux(rig.tmux.socket, TmuxConfig(path=broken)),
        rig.host.watch,
        rig.host.claude,
        rig.environ,
    )
    other = HeadlessBackend(rig.name, lambda _: None, blind)
    assert await other.adopt(rig.launch(), None) is Liveness.UNKNOWN
    with pytest.raises(TmuxError, match="lost server"):
        await other.stop()
    assert await rig.ask(sim(text="Alive."))


async def test_half_a_prompt_left_by_a_killed_bridge_costs_one_process(rig: Rig) -> None:
    """The CLI cannot read it and ends; the next one gets the prompt whole, under the same identity."""
    await rig.start()
    turn, prompt = new_turn(), sim(text="Whole.")
    fd = os.open(rig.output().parent / "in.fifo", os.O_RDWR | os.O_NONBLOCK)
    os.write(fd, stdin.prompt(turn, prompt)[:40])
    await rig.backend.detach()
    os.close(fd)
    assert await rig.adopt(rig.checkpoint) is Liveness.ALIVE
    exited = await rig.until(ProcessExited)
    assert exited.code == 1
    assert "Error parsing streaming input line" in exited.reason
    await rig.start(2)
    await rig.backend.send_prompt(turn, prompt)
    await rig.until(TurnEnded)
    assert text_of(rig) == "Whole."


async def test_input_that_is_on_disk_in_the_journal_is_freed(rig: Rig) -> None:
    """The file keeps its size and loses its weight; another bridge goes on behind the hole."""
    await rig.start()
    for _ in range(3):
        await rig.ask(sim(words=3000))
    mark = rig.checkpoint
    assert mark is not None
    assert mark["offset"] > HOLE_STEP
    os.sync()
    before = rig.output().stat()
    rig.backend.committed(mark)
    after = rig.output().stat()
    assert after.st_size == before.st_size
    if after.st_blocks == before.st_blocks:
        pytest.skip("this file system has no holes")
    assert after.st_blocks * 512 < before.st_size - HOLE_STEP // 2
    await rig.backend.detach()
    assert await rig.adopt(mark) is Liveness.ALIVE
    await rig.until(ProcessReady)
    await rig.ask(sim(text="Behind the hole."))
    assert text_of(rig).endswith("Behind the hole.")


# --- the CLI dies ----------------------------------------------------------------------------------


async def test_a_killed_cli_is_told_with_all_it_said(rig: Rig) -> None:
    """The text so far comes first, then the exit and its cause."""
    await rig.start()
    await rig.send(sim(words=500, gap_ms=20))
    await rig.until(TextArrived)
    assert rig.backend.pid is not None
    os.kill(rig.backend.pid, signal.SIGKILL)
    exited = await rig.until(ProcessExited)
    assert exited == ProcessExited(-9, "claude was ended by SIGKILL")
    assert words(500).startswith("".join(s.text for s in rig.all(TextArrived)))
    with pytest.raises(BackendError, match="gone"):
        await rig.send("anybody?")


async def test_a_conversation_goes_on_in_the_next_process(rig: Rig, simulator: RunningSimulator) -> None:
    """Killed and resumed: the model is asked with what was said before."""
    await rig.start()
    await rig.ask("Remember the teapot.")
    assert rig.backend.pid is not None
    os.kill(rig.backend.pid, signal.SIGKILL)
    await rig.until(ProcessExited)
    await rig.start(2, resume=True)
    await rig.ask("What was it?")
    assert "Remember the teapot." in json.dumps(simulator.requests()[-1])
    assert rig.batches[-1].generation == 2


async def test_a_conversation_that_claude_has_not_written_down_begins_again(rig: Rig) -> None:
    """Killed in its first moments, the CLI has no transcript and would refuse to resume: the prompt runs
    under its identity in a conversation of the same id."""
    await rig.start()
    turn = await rig.send(sim(text="not yet", first_ms=60_000))
    assert rig.backend.pid
    os.kill(rig.backend.pid, signal.SIGKILL)
    await rig.until(ProcessExited)
    await rig.start(2, resume=True)
    await rig.backend.send_prompt(turn, "now")
    ended = await rig.until(TurnEnded)
    assert (ended.status, text_of(rig)) == ("completed", "You said: now")


async def test_a_conversation_that_holds_no_word_yet_is_begun_under_another_id(rig: Rig) -> None:
    """Killed a moment later, the CLI has the file, which begins with other things than the prompt."""
    await rig.start()
    assert rig.backend.pid
    os.kill(rig.backend.pid, signal.SIGKILL)
    await rig.until(ProcessExited)
    cwd = rig.launch().options.cwd
    assert cwd
    folder = rig.folder / "claude" / "projects" / re.sub(r"[^A-Za-z0-9]", "-", cwd)
    folder.mkdir(parents=True, exist_ok=True)
    line = {"type": "queue-operation", "operation": "enqueue", "sessionId": rig.conversation, "content": "x"}
    (folder / f"{rig.conversation}.jsonl").write_text(json.dumps(line) + "\n")
    await rig.start(2, resume=True)
    await rig.ask("now")
    assert text_of(rig) == "You said: now"
    named = rig.all(ConversationNamed)[-1].conversation
    assert {path.stem for path in folder.glob("*.jsonl")} == {rig.conversation, named}
    assert named != rig.conversation


async def test_a_prompt_is_answered_however_often_its_process_died_before_a_word(rig: Rig) -> None:
    """Killed for the second time, the CLI takes its own "No response requested." for the answer."""
    turn, prompt = new_turn(), sim(first_ms=3000, text="at last")
    await rig.start()
    for generation, kept in ((2, turn), (3, "No response requested.")):
        await rig.backend.send_prompt(turn, prompt)
        await until_kept(rig, kept)
        assert rig.backend.pid is not None
        os.kill(rig.backend.pid, signal.SIGKILL)
        await rig.until(ProcessExited)
        await rig.start(generation, resume=True)
    await rig.backend.send_prompt(turn, prompt)
    assert (await rig.until(TurnEnded)).error is None
    assert text_of(rig) == "at last"
    assert {seen.turn for seen in rig.all(PromptSeen)} == {turn}


async def until_kept(rig: Rig, text: str) -> None:
    """Until the CLI has written this into its own file of the conversation."""
    news, folder = INotify(), rig.folder / "claude" / "projects"
    folder.mkdir(parents=True, exist_ok=True)
    news.add_watch(folder, flags.CREATE)
    watched: set[Path] = set()
    while True:
        found = [*folder.glob("*"), *folder.glob("*/*.jsonl")]
        for path in {*found} - watched:
            news.add_watch(path, flags.CREATE | flags.MODIFY)
            watched.add(path)
        if any(text in path.read_text() for path in found if path.is_file()):
            break
        assert await asyncio.to_thread(news.read, WAIT_S * 1000), f"the CLI does not keep {text!r}"
    news.close()


async def test_waiting_for_an_answer_ends_with_the_process(rig: Rig) -> None:
    """Nobody waits for a deadline where the answer cannot come any more."""
    await rig.start()
    assert rig.backend.pid is not None
    with held(rig.backend.pid):
        waiting = asyncio.ensure_future(rig.backend.interrupt())
        await asyncio.sleep(0)
        os.kill(rig.backend.pid, signal.SIGKILL)
    with pytest.raises(BackendError, match="gone"):
        await asyncio.wait_for(waiting, WAIT_S)


async def test_a_cli_that_cannot_start_says_why(rig: Rig) -> None:
    """A person asked for a conversation that nobody knows."""
    launch = rig.launch(resume=True)
    wanted = launch.options.model_copy(update={"resume": rig.conversation})
    await rig.backend.start(replace(launch, options=wanted))
    exited = await rig.until(ProcessExited)
    assert exited.code == 1
    assert "No conversation found" in exited.reason


async def test_a_folder_that_is_gone_is_the_reason(rig: Rig) -> None:
    """The shell says so before the CLI runs."""
    await rig.backend.start(rig.launch(cwd=str(rig.folder / "nowhere")))
    exited = await rig.until(ProcessExited)
    assert exited.code == 1
    assert "nowhere" in exited.reason


async def test_a_killed_tmux_server_is_an_exit_like_any_other(rig: Rig) -> None:
    """The CLI hangs up with its terminal; the next start brings the server back."""
    await rig.start()
    await rig.tmux.kill_server()
    exited = await rig.until(ProcessExited)
    assert exited.code is None
    await rig.start(2)
    assert await rig.ask(sim(text="Back."))


# --- ending it on purpose --------------------------------------------------------------------------


async def test_a_stopped_session_leaves_nothing_behind(rig: Rig) -> None:
    """Neither process nor tmux session, and no word about an exit; stopping again does nothing."""
    await rig.start()
    pid = rig.backend.pid
    assert pid is not None
    await rig.backend.stop()
    assert not alive(pid)
    assert await rig.tmux.panes() == []
    await rig.backend.stop()
    assert rig.all(ProcessExited) == []
    assert (rig.backend.pid, rig.backend.attach) == (None, None)
    await rig.backend.delete()
    assert not rig.output().parent.parent.exists()


async def test_a_session_is_stopped_in_the_middle_of_a_turn(rig: Rig) -> None:
    """What it had said is handed over, and kept by the CLI, too."""
    await rig.start()
    await rig.send(sim(words=2000, gap_ms=20))
    await rig.until(TextArrived)
    await rig.backend.stop()
    assert [s.status for s in rig.all(TurnEnded)] == ["interrupted"]
    assert text_of(rig).startswith("w0 ")


async def test_a_cli_that_hangs_is_ended_by_force(
    tmp_path: Path, rig: Rig, simulator: RunningSimulator
) -> None:
    """Stopped by a signal it cannot answer any request."""
    hung = Rig(tmp_path / "hung", simulator.base_url, rig.host.claude.path or Path(), stop_timeout_s=0.6)
    try:
        await hung.start()
        pid = hung.backend.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        await hung.backend.stop()
        assert not alive(pid)
    finally:
        await hung.close()


async def test_a_session_that_nobody_holds_can_be_stopped(rig: Rig) -> None:
    """The bridge was started anew, and has not adopted it."""
    await rig.start()
    pid = rig.backend.pid
    assert pid is not None
    await rig.backend.detach()
    await rig.another().stop()
    assert not alive(pid)
    assert await rig.tmux.panes() == []


async def test_starting_ends_what_ran_before(rig: Rig) -> None:
    """One process for a conversation, never two."""
    await rig.start()
    first = rig.backend.pid
    assert first is not None
    await rig.ask(sim(text="hi"))
    await rig.start(2, resume=True)
    assert not alive(first)
    assert len(await rig.tmux.panes()) == 1
    assert await rig.ask(sim(text="hi"))


async def test_a_tmux_session_of_somebody_else_is_left_alone(rig: Rig) -> None:
    """The socket may be a person's own: their session of that name is neither taken nor ended."""
    await rig.tmux.new_session("claude_demo", ("/bin/sleep", "600"), {})
    with pytest.raises(TmuxError, match="duplicate session"):
        await rig.backend.start(rig.launch())
    await rig.backend.stop()
    (pane,) = await rig.tmux.panes()
    assert not pane.dead
    await rig.tmux.kill_session("claude_demo")


# --- programs that are no claude -------------------------------------------------------------------


def pretending(folder: Path, script: str) -> Path:
    path = folder / "claude"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


async def test_a_cli_that_never_gets_ready_is_given_up(tmp_path: Path) -> None:
    """It is ended, and the reason says so."""
    rig = Rig(
        tmp_path / "rig", "http://127.0.0.1:1", pretending(tmp_path, "exec sleep 600"), start_timeout_s=0.3
    )
    try:
        await rig.backend.start(rig.launch())
        exited = await rig.until(ProcessExited)
        assert exited == ProcessExited(-9, "claude did not answer within 0.3 s")
    finally:
        await rig.close()


async def test_a_request_that_the_bridge_does_not_know_is_refused(tmp_path: Path) -> None:
    """A new version asks its host for something new: it must not wait for ever."""
    asks = '{"type":"control_request","request_id":"r9","request":{"subtype":"brand_new"}}'
    answered = '*brand_new*) echo "$line" >&2; exit 7;;'
    script = f"echo '{asks}'\nwhile read -r line; do case $line in {answered} esac; done"
    rig = Rig(tmp_path / "rig", "http://127.0.0.1:1", pretending(tmp_path, script))
    try:
        await rig.backend.start(rig.launch())
        exited = await rig.until(ProcessExited)
        assert exited.code == 7
        assert "r9" in exited.reason
    finally:
        await rig.close()


async def test_a_tool_s_result_is_handed_over_whole(rig: Rig) -> None:
    """Cutting it is the wire's concern."""
    await rig.start(allowed_tools=["Bash(seq *)"])
    turn = await rig.ask(sim(text="Counted.", tools=[["Bash", {"command": "seq 1 3000"}]]))
    (answered,) = [s for s in turn if isinstance(s, ToolAnswered)]
    assert answered.output.splitlines()[-1] == "3000"
