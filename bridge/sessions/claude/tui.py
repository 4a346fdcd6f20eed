"""Reads what the TUI lets be seen of itself: hooks, its status file, its transcript. Pure.

The transcript is the truth about what was said and called, and comes up to 100 ms late; hooks tell at once
and can be missing, late or doubled; the status file alone tells of a turn that ended without a word. Each
turn of the TUI has a `promptId`, by which the three are put together. A turn is over as soon as the
transcript has all that `Stop` says, or says so itself; where only the status file has gone idle, after a
moment's grace for the others. Times are monotonic seconds, given by the caller.

Read again from an earlier `export`, it says the same again.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

from bridge.events import Outcome, RequestId, TurnError, TurnId, Usage
from bridge.sessions.claude.blocks import Blocks
from bridge.sessions.claude.limit import Limit, limit_of
from bridge.sessions.claude.messages import (
    REQUEST_KINDS,
    entry_of,
    error_code,
    output_text,
    plain_output,
    usage_of,
)
from bridge.signals import (
    AnswerMoot,
    AnswerNeeded,
    ConversationNamed,
    PromptSeen,
    PromptTyped,
    SettingsSeen,
    Signal,
    ToolAnswered,
    TurnEnded,
    UpstreamActive,
)

Json = dict[str, Any]
Status = Literal["idle", "busy", "waiting"]
TurnEnd = Literal["completed", "interrupted", "failed", "unknown"]

GRACE_S = 1.0
"""For the transcript, which is written every 100 ms, and for hooks on their way."""
LAG_S = 2.0
"""From a turn's beginning to a status that says so; usually 30 ms."""
REFUSAL_S = 5.0
"""For a refusal of a client's to stand in the transcript, before it is believed without."""
CALL_S = 0.3
"""A question is shown behind the call that it is about, as long as the transcript has that in time."""
DISAGREE_S = 10.0
"""The status says busy and nothing else does. A person's own command that takes longer (`/compact` of a long
conversation) makes the session `unknown` until it is over."""

ENDED = 16
"""Turns and questions that are known to be over, so that what comes late is known to be late."""

LATER = 1000
"""Hooks that came before their turn's prompt was read, some 100 ms; those of one that never is go again."""

_PASTED = re.compile(r"</?pasted_content id=\"\w+\">")
_STATUS = re.compile(r"API Error: ([45]\d\d)\b")
INTERRUPTED = "[Request interrupted by user"
LIMIT_WORDS = "You've hit your"
"""How a limit of the account is told; any other 429 begins with "API Error"."""
LIMIT_S = 10.0
"""Only the transcript says when it resets: it is worth waiting for."""
SYNTHETIC = "<synthetic>"
AGENTS = ("subagent", "workflow")
"""Background tasks that the TUI is busy with until they are done; unlike a shell's."""
NOTIFIED = "<task-notification>"
"""So begins what Claude is told when one is."""
MODES = {"default": "manual"}
"""The CLI's files and hooks say `default` where its own screen and options say `manual`."""


@dataclass(slots=True)
class _Preview:
    """Lines of one message as they are displayed. They may overtake each other on their way here."""

    index: int
    text: str = ""
    next_line: int = 0
    early: dict[int, str] = field(default_factory=dict)
    shown: bool = False


@dataclass(slots=True)
class _Ask:
    event: Json
    since: float
    call: str | None = None
    opened: bool = False
    left_at: float | None = None
    """Its dialog was gone: it was answered. The transcript tells how."""
    answer: Outcome | None = None
    """A client's, which is on its way to the CLI, while a key of a person's may be as well."""
    answered_at: float = 0.0


@dataclass(slots=True)
class _Turn:
    """One turn of the TUI. `in_transcript` once its prompt stands there: what stands before is another's."""

    prompt_id: str | None
    prompt: str = ""
    ours: TurnId | None = None
    command: bool = False
    in_transcript: bool = False
    agents: bool = False
    """Claude has answered, and has agents in the background: the turn lasts until it has answered to them."""
    further: list[str] = field(default_factory=list)
    """The TUI's ids of what they made Claude say since."""
    behind: bool = False
    """The transcript has not come to the last of these."""
    active: bool = False
    calls: dict[str, set[str]] = field(default_factory=dict)
    """Tool calls without a result: id, and what it is as JSON, as hooks have it and as the model wrote it."""
    said: str = ""
    """The text of its last message."""
    final: bool = False
    """Its last message is one that ends a turn."""
    stopped: str | None = None
    """What `Stop` gave as its last message."""
    stopped_at: float | None = None
    idle_since: float | None = None
    error: TurnError | None = None
    error_read: bool = False
    """The transcript has it."""
    limit: Limit | None = None
    """Of the account, which `error` is about."""
    failed_at: float | None = None
    output: str = ""
    """What a slash command said."""
    usage: dict[str, Usage] = field(default_factory=dict)

    def is_of(self, prompt_id: object) -> bool:
        return prompt_id == self.prompt_id or prompt_id in self.further

    @property
    def told(self) -> bool:
        """The transcript has its last message."""
        return self.in_transcript and self.final and not self.behind


@dataclass(frozen=True, slots=True)
class _Expected:
    turn: TurnId
    text: str
    command: bool
    prompt_id: str | None
    """The TUI's own, where it is known."""

    def matches(self, text: str) -> bool:
        if text == self.text:
            return True
        # What the TUI took for something pasted stands in tags, on lines of its own.
        return bool(_PASTED.search(text)) and _squeezed(_PASTED.sub("", text)) == _squeezed(self.text)


class TuiReader:
    """One process of the TUI, from its start or from an `export` on."""

    def __init__(self, conversation: str, state: Mapping[str, Any] | None = None) -> None:
        state = state or {}
        self.conversation: str = state.get("conversation", conversation)
        self.offset: int = state.get("offset", 0)
        """Bytes of the transcript of `conversation` that have been taken in."""
        self.read_at: str | None = state.get("at")
        """When the bridge that left this `export` had read so far."""
        self.status_now: Status | None = None
        self._resume_at = self.offset
        self._rest = b""
        self._turn: _Turn | None = None
        self._ended: deque[str] = deque(state.get("ended") or (), ENDED)
        """Turns that are over, the last ones: hooks may tell of them seconds later."""
        self._expected: _Expected | None = None
        self._blocks = Blocks()
        self._previews: dict[str, _Preview] = {}
        self._count = 0
        self._later: deque[Json] = deque(maxlen=LATER)
        self._asks: dict[str, _Ask] = {}
        self._outcomes: dict[str, Outcome] = {}
        self._doubt_until = 0.0
        self._model: str | None = None
        self._mode: str | None = None
        self._waited = False
        """A dialog was open when there was a status last: while it is being written there is none."""
        self._alone_since: float | None = None
        """It works, or waits for an answer, and no turn is to be seen."""
        self._agents: bool = state.get("agents", False)
        """Some were put into the background, and are at work as far as is known."""
        self._interrupting = False
        self._tool_since = False
        """A tool was called since the last line was displayed: what comes next is another message."""

    def export(self) -> Json:
        """Where to begin again: before the open turn, else behind all that was read."""
        told = {"conversation": self.conversation, "offset": self._resume_at, "ended": list(self._ended)}
        return {**told, "agents": self._agents}

    @property
    def open(self) -> bool:
        """A turn runs, as far as can be seen."""
        return self._turn is not None

    @property
    def untouched(self) -> bool:
        """The open turn has said nothing yet."""
        return self._turn is not None and not self._turn.active

    @property
    def prompt_id(self) -> str | None:
        """The TUI's own id of the open turn."""
        return self._turn.prompt_id if self._turn is not None else None

    @property
    def awaits_agents(self) -> bool:
        """Claude itself rests: the open turn lasts until its agents in the background are done."""
        return self._turn is not None and self._turn.agents

    def began_with(self, turn: TurnId) -> bool:
        """The open turn is this one of ours."""
        return self._turn is not None and self._turn.ours == turn

    # --- what the keyboard side tells -----------------------------------------------------------------

    def expect(self, turn: TurnId, text: str, *, command: bool = False, prompt_id: str | None = None) -> None:
        """This prompt is about to be entered; what is acknowledged with exactly this text is this turn. With
        `prompt_id` it was, and only what has this id is this turn."""
        self._expected = _Expected(turn, text, command, prompt_id)

    def expects(self, text: str) -> bool:
        return self._expected is not None and not self._expected.command and self._expected.matches(text)

    def forget(self) -> None:
        """It was not entered after all."""
        self._expected = None

    def interrupted(self) -> None:
        """A client's interrupt is on its way: what it denies is withdrawn, and not a person's answer."""
        self._interrupting = True

    def asked(self, request: str, event: Json, now: float) -> list[Signal]:
        """A question, under the id of the hook that waits for its answer."""
        if request in self._asks:
            return []
        self._asks[request] = _Ask(event, now)
        return self._open_asks(now)

    def doubt(self, until: float) -> None:
        """Questions that are asked before then may be long answered, unless the status says that it waits."""
        self._doubt_until = until

    def asks(self, request: str) -> bool:
        """It waits for an answer, as far as can be seen."""
        ask = self._asks.get(request)
        return ask is not None and ask.left_at is None and ask.answer is None

    def unseen(self, now: float) -> list[str]:
        """Questions that the TUI shows nobody, as those of agents in the background while a hook waits."""
        if self.status_now != "busy":
            return []
        waits = [r for r, ask in self._asks.items() if self.asks(r) and now - ask.since > GRACE_S]
        return [r for r in waits if self._asks[r].event.get("agent_id")]

    def answered(self, request: str) -> None:
        """By a client, and nobody else can have."""
        self._asks.pop(request, None)

    def answering(self, request: str, outcome: Outcome, now: float) -> None:
        """By a client, unless a person is quicker: what follows tells (`outcome`), and is waited for."""
        ask = self._asks[request]
        ask.answer, ask.answered_at = outcome, now

    def outcome(self, request: str) -> Outcome | None:
        """How it was closed."""
        return self._outcomes.get(request)

    @property
    def only_ask(self) -> bool:
        """One question is open. Of several, what follows tells only when all have been answered."""
        return len(self._asks) == 1

    def given_back(self, text: str, now: float) -> list[Signal]:
        """This stands in the input box: an Escape before the first word puts the prompt there again."""
        if self._turn is None or self._turn.said or text != self._turn.prompt:
            return []
        return self._over("interrupted")

    # --- hooks ----------------------------------------------------------------------------------------

    def hook(self, event: Json, now: float) -> list[Signal]:
        out = self._settings(None, event.get("permission_mode"))
        prompt_id = event.get("prompt_id")
        match event.get("hook_event_name"):
            case "UserPromptSubmit":
                text = str(event.get("prompt", ""))
                if self._turn is not None and self._turn.is_of(prompt_id):
                    return out  # typed behind the running turn: the transcript tells when it begins
                if prompt_id in self._ended:
                    return out  # late: the transcript has told of that turn, and of its end
                if self._turn is not None and self._turn.command and self._turn.prompt == text:
                    # A command that is a prompt of its own; the status file was quicker.
                    self._turn.prompt_id, self._turn.command = prompt_id, False
                    return out
                return [*out, *self._told(prompt_id, text, now)]
            case "MessageDisplay" | "Stop" | "StopFailure":
                return [*out, *self._of_turn(event, now)]
            case "PreToolUse":
                self._called(
                    str(event.get("tool_use_id", "")), event.get("tool_name"), event.get("tool_input")
                )
            case "PostToolUse" | "PostToolUseFailure":
                return [*out, *self._moot_call(str(event.get("tool_use_id", "")), "allowed")]
            case "SessionStart":
                return [*out, *self._settings(event.get("model"), None)]
        return out

    def _of_turn(self, event: Json, now: float) -> list[Signal]:
        prompt_id = event.get("prompt_id")
        turn = self._turn
        if prompt_id in self._ended:
            return []
        if turn is None or not turn.is_of(prompt_id):
            self._later.append(event)  # its prompt is still to be read
            return []
        match event["hook_event_name"]:
            case "MessageDisplay":
                return self._display(turn, event)
            case "Stop":
                turn.stopped, turn.stopped_at = str(event.get("last_assistant_message") or "").rstrip(), now
                tasks = event.get("background_tasks") or ()
                turn.agents = self._agents = any(task.get("type") in AGENTS for task in tasks)
            case "StopFailure":
                text = str(event.get("last_assistant_message") or "")
                turn.failed_at = now
                found = _STATUS.match(text)
                status = int(found[1]) if found else None
                code = error_code(str(event.get("error")), status)
                turn.error = turn.error or TurnError(code, text, status)
                if code == "rate_limit" and text.startswith(LIMIT_WORDS) and not turn.error_read:
                    turn.limit = Limit(None, shared=False)  # the transcript will say until when
        return self._perhaps_over(now)

    def _display(self, turn: _Turn, event: Json) -> list[Signal]:
        message = str(event.get("message_id"))
        preview = self._previews.get(message)
        out = self._active(turn)
        if preview is None:
            if not self._tool_since:
                # The upstream broke off and began again.
                for old in self._previews.values():
                    out += self._blocks.drop(None, old.index)
                self._previews.clear()
            self._tool_since = False
            self._count += 1
            preview = self._previews[message] = _Preview(self._count)
        preview.early[int(event.get("index", 0))] = str(event.get("delta", ""))
        added = ""
        while (line := preview.early.pop(preview.next_line, None)) is not None:
            preview.next_line += 1
            added += line
        if not preview.shown:
            if not added:
                return out
            self._blocks.block_started(None, preview.index, "text")
            preview.shown = True
        preview.text += added
        return [*out, *self._blocks.text_arrived(None, preview.index, added)]

    # --- the status file --------------------------------------------------------------------------------

    def status(self, said: Mapping[str, Any], now: float) -> list[Signal]:
        """The file's content; of another conversation, where a person began or resumed one."""
        out: list[Signal] = []
        status = said.get("status")
        self.status_now = status if status in ("idle", "busy", "waiting") else None
        for ask in self._asks.values():
            if status == "waiting":
                ask.left_at = None
            elif self._waited and status == "busy" and self.only_ask:
                ask.left_at = now
        if self.status_now is not None:
            self._waited = status == "waiting"
        turn = self._turn
        if status == "busy" and turn is None and self._expected is not None and self._expected.command:
            out += self._begin(None, self._expected.text, now)
        elif turn is not None:
            turn.idle_since = (turn.idle_since or now) if status == "idle" else None
        return [*out, *self._agents_alone(now), *self._perhaps_over(now)]

    def status_lost(self) -> None:
        """There is no file any more: whatever it said last counts for nothing."""
        self.status_now = None
        if self._turn is not None:
            self._turn.idle_since = None

    def switched(self, conversation: str) -> list[Signal]:
        """Another conversation goes on in this process: its transcript is read from where it stands."""
        out: list[Signal] = []
        if self._turn is not None and not self._turn.command:
            out += self._over(self._how(self._turn))  # its end will not be read any more
        self.conversation, self._agents = conversation, False
        self.offset = self._resume_at = 0
        self._rest = b""
        return [*out, ConversationNamed(conversation)]

    def begin_at(self, offset: int) -> None:
        """What stands in the transcript before this is of another time."""
        self.offset = self._resume_at = offset

    # --- time -------------------------------------------------------------------------------------------

    def tick(self, now: float) -> list[Signal]:
        """To be called every tenth of a second or so while `open`."""
        return [*self._agents_alone(now), *self._open_asks(now), *self._perhaps_over(now)]

    def contradiction(self, now: float) -> str | None:
        """What has been at odds for too long."""
        since = self._alone_since if self.status_now == "busy" else None
        if since is not None and now - since > DISAGREE_S:
            return "the status file says busy, and no turn is to be seen"
        return None

    def _agents_alone(self, now: float) -> list[Signal]:
        """Escape ends a turn, and not its agents in the background: they are a turn that nobody asked for."""
        alone = self._turn is None and self.status_now in ("busy", "waiting")
        self._alone_since = (self._alone_since or now) if alone else None
        since, unasked = self._alone_since, self._expected is None
        if since is None or now - since <= GRACE_S or not (self._agents and unasked):
            return []
        out = self._begin(None, "", now)
        assert self._turn is not None
        self._turn.agents = self._turn.final = True
        return out

    # --- the transcript ---------------------------------------------------------------------------------

    def transcript(self, data: bytes, now: float) -> list[Signal]:
        """More of the file, cut anywhere."""
        out: list[Signal] = []
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            begin = self.offset
            self.offset += len(line) + 1
            entry = entry_of(line)
            if not entry.get("isSidechain"):
                out += self._entry(entry, begin, now)
        if self._turn is None:
            self._resume_at = self.offset
        return [*out, *self._show_again(), *self._open_asks(now), *self._perhaps_over(now)]

    def _entry(self, entry: Json, begin: int, now: float) -> list[Signal]:
        message = entry.get("message")
        match entry.get("type"):
            case "user" if isinstance(message, dict) and not entry.get("isMeta"):
                return self._user(entry, message, begin, now)
            case "assistant" if isinstance(message, dict):
                return self._assistant(entry, message)
            case "system" if entry.get("subtype") == "turn_duration":
                turn = self._turn
                if turn is not None and turn.in_transcript and not turn.behind:
                    pending = entry.get("pendingBackgroundAgentCount"), entry.get("pendingWorkflowCount")
                    turn.agents = self._agents = any(pending)
                    return [] if turn.agents else self._over("completed")
            case "system" if entry.get("subtype") == "agents_killed":
                if self._turn is not None and self._turn.agents:
                    return self._over("interrupted")
        return []

    def _user(self, entry: Json, message: Json, begin: int, now: float) -> list[Signal]:
        content, prompt_id = message.get("content"), entry.get("promptId")
        origin = entry.get("origin")
        if isinstance(origin, dict) and origin.get("kind") in ("human", "task-notification") and prompt_id:
            return self._prompt_read(str(prompt_id), prompt_text(content), begin, now)
        turn = self._turn
        if isinstance(content, str):
            return self._command_read(turn, content, prompt_id)
        if turn is None or not turn.in_transcript or not isinstance(content, list):
            return []
        came_of = entry.get("toolUseResult")
        self._agents = self._agents or (isinstance(came_of, dict) and bool(came_of.get("isAsync")))
        out: list[Signal] = []
        decision = entry.get("permissionDecision")
        ran = isinstance(decision, dict) and decision.get("decision") == "accept"
        refused: Outcome = "withdrawn" if self._interrupting else "denied"
        for block in content:
            if block.get("type") == "tool_result":
                call = str(block.get("tool_use_id"))
                failed = bool(block.get("is_error"))
                out += self._moot_call(call, refused if failed and not ran else "allowed")
                turn.calls.pop(call, None)
                out.append(ToolAnswered(call, output_text(block.get("content")), failed))
            elif str(block.get("text", "")).startswith(INTERRUPTED):
                return [*out, *self._over("interrupted")]
        return out

    def _prompt_read(self, prompt_id: str, text: str, begin: int, now: float) -> list[Signal]:
        out: list[Signal] = []
        if prompt_id in self._ended:
            return []
        if self._turn is None or not self._turn.is_of(prompt_id):
            out += self._told(prompt_id, text, now)
        assert self._turn is not None
        if self._turn.prompt_id == prompt_id:
            self._resume_at = begin
        self._turn.in_transcript, self._turn.behind = True, False
        self._turn.final, self._turn.said = False, ""
        later = [*self._later]
        self._later.clear()
        for event in later:
            out += self._of_turn(event, now)
        return out

    def _command_read(self, turn: _Turn | None, content: str, prompt_id: object) -> list[Signal]:
        if turn is not None and (turn.command or turn.prompt_id == prompt_id):
            turn.in_transcript = True
            if content.startswith("<local-command-stdout>"):
                turn.output = plain_output(content)
        return []

    def _assistant(self, entry: Json, message: Json) -> list[Signal]:
        turn = self._turn
        if turn is None or not turn.in_transcript:
            return []
        content = message.get("content")
        content = content if isinstance(content, list) else []
        if message.get("model") == SYNTHETIC:
            if entry.get("isApiErrorMessage"):
                status = entry.get("apiErrorStatus")
                known = status if isinstance(status, int) else None
                code = error_code(str(entry.get("error") or ""), known)
                turn.error, turn.error_read = TurnError(code, output_text(content), known), True
                said = entry.get("apiErrorParams")
                info = said.get("rate_limit_info") if isinstance(said, dict) else None
                turn.limit = limit_of(info) if isinstance(info, dict) else None
            return []
        out = [*self._settings(entry.get("requestedModel"), None), *self._active(turn)]
        turn.error = turn.limit = None  # what it was, it is overcome
        identity = str(message.get("id", ""))
        self._blocks.message_named(identity)
        for block in content:
            out += self._settle(turn, identity, block)
        turn.final = message.get("stop_reason") not in (None, "tool_use", "pause_turn")
        if isinstance(usage := message.get("usage"), dict):
            turn.usage[identity] = usage_of(usage)
        return out

    def _settle(self, turn: _Turn, message: str, block: Json) -> list[Signal]:
        out: list[Signal] = []
        match block.get("type"):
            case "text":
                text = str(block.get("text", ""))
                turn.said = text.rstrip()
                out += self._complete(text)
            case "tool_use":
                turn.said = ""
                out += self._hide()
                self._called(str(block.get("id", "")), block.get("name"), block.get("input"))
            case _:
                out += self._hide()
        return [*out, *self._blocks.settle(None, message, block)]

    # --- previews ---------------------------------------------------------------------------------------

    def _complete(self, text: str) -> list[Signal]:
        """Of all previews leave that of this text, and show what it lacks: those before it were given up."""
        told = [p for p in self._previews.values() if p.text]
        same = next((p for p in told if p.text.rstrip() == text.rstrip()), None)
        same = same or next((p for p in reversed(told) if text.startswith(p.text)), None)
        if same is None:
            return self._hide()
        out: list[Signal] = []
        for message, preview in list(self._previews.items()):
            if preview.index > same.index:
                break
            del self._previews[message]
            if preview is not same:
                out += self._blocks.drop(None, preview.index)
        if not same.shown:
            return out  # taken back when its place was not known: the block says all of it
        if text.startswith(same.text):
            return [*out, *self._blocks.text_arrived(None, same.index, text[len(same.text) :])]
        return [*out, *self._blocks.drop(None, same.index)]

    def _hide(self) -> list[Signal]:
        """What was displayed comes behind what the transcript has now: it is shown again, under its place."""
        for preview in self._previews.values():
            preview.shown = False
        return self._blocks.drop(None)

    def _show_again(self) -> list[Signal]:
        out: list[Signal] = []
        for preview in self._previews.values():
            if not preview.shown and preview.text and self._turn is not None:
                self._blocks.block_started(None, preview.index, "text")
                preview.shown = True
                out += self._blocks.text_arrived(None, preview.index, preview.text)
        return out

    # --- turns ------------------------------------------------------------------------------------------

    def _begin(self, prompt_id: str | None, text: str, now: float) -> list[Signal]:
        out: list[Signal] = []
        if self._turn is not None:
            out += self._over(self._how(self._turn))  # it ended, and nobody said so
        expected = self._expected
        self._turn = _Turn(prompt_id, text)
        if self.status_now == "idle":
            # As it was; where it stays so, the turn has ended before it was written down as begun.
            self._turn.idle_since = now + LAG_S
        self._interrupting = self._tool_since = False
        self._blocks, self._previews = Blocks(), {}
        if expected is None or not expected.matches(text) or expected.prompt_id not in (None, prompt_id):
            return [*out, PromptTyped(text, first=True)]
        self._expected = None
        self._turn.ours, self._turn.command = expected.turn, expected.command and prompt_id is None
        # The request is on its way by now: it is never sent again.
        return [*out, PromptSeen(expected.turn), UpstreamActive()]

    def _told(self, prompt_id: str | None, text: str, now: float) -> list[Signal]:
        """Claude is given another prompt: a turn begins, or goes on where it was waiting for its agents."""
        turn = self._turn
        if turn is None or not turn.agents or not text.startswith(NOTIFIED):
            return self._begin(prompt_id, text, now)
        turn.further.append(str(prompt_id))
        turn.behind, turn.agents = True, False
        turn.stopped = turn.stopped_at = turn.idle_since = None
        self._interrupting, self._tool_since = False, True
        return []

    def _active(self, turn: _Turn) -> list[Signal]:
        if turn.active:
            return []
        turn.active = True
        return [UpstreamActive()]

    def _perhaps_over(self, now: float) -> list[Signal]:
        """End the turn where enough says that it is over."""
        turn = self._turn
        if turn is None:
            return []
        if turn.command:
            done = turn.idle_since is not None and (turn.output or now - turn.idle_since > GRACE_S)
            return self._over("completed") if done else []
        if turn.agents:
            rests = turn.idle_since is not None and now - turn.idle_since > GRACE_S
            self._agents = self._agents and not rests
            return self._over(self._how(turn)) if rests else []
        if turn.stopped is not None and turn.stopped_at is not None:
            whole = turn.told and turn.said.strip() == turn.stopped.strip()
            if whole or now - turn.stopped_at > GRACE_S:
                return self._over("completed")
            return []
        if turn.failed_at is not None:
            patience = GRACE_S if turn.limit is None else LIMIT_S
            if turn.error_read or now - turn.failed_at > patience:
                return self._over("failed")
            return []
        if turn.idle_since is not None and now - turn.idle_since > GRACE_S:
            return self._over(self._how(turn))
        return []

    def _how(self, turn: _Turn) -> TurnEnd:
        """How a turn ended of which only the transcript tells."""
        if turn.error is not None:
            return "failed"
        answered = turn.final or turn.stopped is not None
        if self._interrupting and (turn.agents or not answered):
            return "interrupted"
        if answered:
            return "completed"
        # Escape before the first word leaves no trace but an idle status.
        return "interrupted" if turn.idle_since is not None else "unknown"

    def _over(self, status: TurnEnd) -> list[Signal]:
        turn = self._turn
        assert turn is not None
        out: list[Signal] = []
        text = turn.stopped if turn.stopped is not None else turn.output or None
        if status == "completed" and text and not turn.told and not turn.command:
            # The transcript did not come: what Stop gave is the last message.
            out += self._complete(text)
            message = f"stop-{[turn.prompt_id, *turn.further][-1]}"
            out += self._blocks.settle(None, message, {"type": "text", "text": text})
        out += self._blocks.drop_all() if status == "completed" else self._blocks.keep_all()
        for request, ask in list(self._asks.items()):
            left: Outcome = "allowed" if status == "completed" and ask.left_at is not None else "withdrawn"
            out += self._moot(request, ask.answer or left)
        usage = sum(turn.usage.values(), Usage()) if turn.usage else None
        self._turn, self._previews = None, {}
        self._ended.extend(p for p in (turn.prompt_id, *turn.further) if p is not None)
        self._resume_at = self.offset
        error = turn.error if status == "failed" else None
        if error is not None and turn.limit is not None:
            untouched = not turn.active and turn.ours is not None and not turn.command
            out.append(turn.limit.reached(error.message, untouched=untouched))
        return [*out, TurnEnded(status, text, error, usage)]

    # --- questions --------------------------------------------------------------------------------------

    def _called(self, call: str, name: object, given: object) -> None:
        if self._turn is not None and call:
            self._turn.calls.setdefault(call, set()).add(_key(name, given))

    def _open_asks(self, now: float) -> list[Signal]:
        out: list[Signal] = []
        turn = self._turn
        for request, ask in list(self._asks.items()):
            if (outcome := _presumed(ask, now)) is not None:
                out += self._moot(request, outcome)
                continue
            if ask.opened:
                continue
            if self.status_now in ("idle", "busy") and (turn is None or ask.since < self._doubt_until):
                if now - ask.since > GRACE_S:
                    out += self._moot(request, "withdrawn")  # no dialog is open
                continue
            if turn is None:
                continue
            ask.call = self._call_of(ask, turn)
            known = ask.call is not None and ask.call in self._blocks.calls
            if not known and now - ask.since < CALL_S:
                ask.call = None
                continue
            ask.opened = True
            out.append(_needed(RequestId(request), ask))
        return out

    def _call_of(self, ask: _Ask, turn: _Turn) -> str | None:
        key = _key(ask.event.get("tool_name"), ask.event.get("tool_input"))
        taken = {a.call for a in self._asks.values() if a is not ask}
        return next((c for c, keys in turn.calls.items() if key in keys and c not in taken), None)

    def _moot_call(self, call: str, outcome: Outcome) -> list[Signal]:
        for ask in self._asks.values():
            if ask.call is None and self._turn is not None:
                ask.call = self._call_of(ask, self._turn)
        moot = [r for r, a in self._asks.items() if a.call == call]
        return [signal for request in moot for signal in self._moot(request, outcome)]

    def _moot(self, request: str, outcome: Outcome) -> list[Signal]:
        self._asks.pop(request, None)
        self._outcomes = dict([*self._outcomes.items(), (request, outcome)][-ENDED:])
        return [AnswerMoot(RequestId(request), outcome)]

    def _settings(self, model: object, mode: object) -> list[Signal]:
        new_model = model if isinstance(model, str) and model and model != self._model else None
        known = MODES.get(mode, mode) if isinstance(mode, str) else None
        new_mode = known if known and known != self._mode else None
        self._model, self._mode = new_model or self._model, new_mode or self._mode
        return [SettingsSeen(new_model, new_mode)] if new_model or new_mode else []


def _needed(request: RequestId, ask: _Ask) -> AnswerNeeded:
    event = ask.event
    tool = str(event.get("tool_name", ""))
    given = event.get("tool_input")
    offered = event.get("permission_suggestions")
    return AnswerNeeded(
        request,
        REQUEST_KINDS.get(tool, "permission"),
        tool,
        given if isinstance(given, dict) else {},
        tuple(s for s in offered if isinstance(s, dict)) if isinstance(offered, list) else (),
        ask.call,
    )


def _presumed(ask: _Ask, now: float) -> Outcome | None:
    """How it was answered, where its call has no result for so long that it cannot have been refused, or
    that nobody but the client can have been there."""
    gone_s = 0.0 if ask.left_at is None else now - ask.left_at
    if ask.answer is None:
        return "allowed" if gone_s > GRACE_S else None
    if ask.answer == "allowed" and gone_s > CALL_S:
        return "allowed"
    patience = GRACE_S if ask.answer == "allowed" else REFUSAL_S
    return ask.answer if now - ask.answered_at > patience else None


def _key(name: object, given: object) -> str:
    """What tells a call from others. A plan's input is another in the hook that asks about it, and in the
    transcript; there is one at a time."""
    if name in REQUEST_KINDS:
        return str(name)
    return f"{name} {orjson.dumps(given, option=orjson.OPT_SORT_KEYS).decode()}"


def _squeezed(text: str) -> str:
    return "".join(text.split())


def prompt_text(content: object) -> str:
    if isinstance(content, str):
        return content
    blocks = content if isinstance(content, list) else []
    return "\n".join(
        str(b.get("text", "")) for b in blocks if isinstance(b, dict) and b.get("type") == "text"
    )
