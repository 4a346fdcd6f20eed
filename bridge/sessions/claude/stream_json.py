"""Reads what `claude -p --output-format stream-json` says, and says it in the bridge's own words. Pure.

Fed with bytes as they come; half lines wait, frames that nobody knows and lines that are no JSON change
nothing. The facts behind it are in the design paper on the CLI; it was written against 2.1.330.

What a caller may rely on: the same bytes give the same signals however they are cut; going on from a
checkpoint gives what going on without it would have given; every `TurnEnded` ends a segment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from bridge.events import RequestId, TurnError, TurnId, Usage
from bridge.sessions.claude.blocks import Blocks, Parent
from bridge.sessions.claude.limit import Limit, limit_of
from bridge.sessions.claude.messages import REQUEST_KINDS, error_code, output_text, usage_of
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
    UpstreamRetrying,
)

Json = dict[str, Any]

AGENTS = ("local_agent", "local_workflow")
"""Background tasks that the CLI goes on for by itself and says `idle` only after; unlike a shell's."""


@dataclass(frozen=True, slots=True)
class ControlReply:
    """Answers one of our control requests; or repeats our own answer to one of the CLI's."""

    request: str
    ok: bool
    payload: Json
    error: str = ""


@dataclass(frozen=True, slots=True)
class ControlAsked:
    """The CLI asks its host for something that is not a permission."""

    request: str
    subtype: str


Item = Signal | ControlReply | ControlAsked


@dataclass(frozen=True, slots=True)
class Segment:
    """What came together. `checkpoint` is where another parser may go on right behind it."""

    items: tuple[Item, ...]
    checkpoint: Json | None


class StreamParser:
    """One process's output, from its beginning or from a checkpoint."""

    def __init__(self, checkpoint: Json | None = None) -> None:
        checkpoint = checkpoint or {}
        self.offset: int = checkpoint.get("offset", 0)
        """How many bytes of whole lines have been taken in."""
        self.garbage = 0
        """Lines that were no JSON object."""
        self.broken = False
        """A frame was cut off in its middle, as where the disk was full for a while: what followed is lost,
        nobody knows how much. Nothing is taken in from there on."""
        self._half: list[bytes] = []
        state: Json = checkpoint.get("parser", {})
        self._blocks = Blocks(state.get("blocks"))
        self._expected: str | None = state.get("expected")
        self._identity: str | None = state.get("identity", self._expected)
        self._seen: bool = state.get("seen", False)
        self._typed: bool = state.get("typed", False)
        self._active: bool = state.get("active", False)
        self._running: bool | None = state.get("running")
        self._conversation: str | None = state.get("conversation")
        error = state.get("error")
        self._error: TurnError | None = TurnError(*error) if error else None
        limit = state.get("limit")
        self._limit: Limit | None = Limit(*limit) if limit else None
        """As it was told last; the CLI need not say the same again."""
        self._agents: list[str] = state.get("agents", [])
        """The sub-agents and workflows that are at work in the background."""
        self._awaited: bool = state.get("awaited", False)
        """Some were since the turn began: what Claude says to what they found is still of this turn."""
        self._held: TurnEnded | None = None
        self._so_far: TurnEnded | None = None
        """Claude has answered, and says more since, because its agents are done."""
        self._ours_to_come = False
        """What is held back ends a turn that nobody asked for, and the expected prompt's is to come."""

    def checkpoint(self) -> Json:
        """`{offset, parser}`; only whole at a segment's end that carries one."""
        e = self._error
        return {
            "offset": self.offset,
            "parser": {
                "blocks": self._blocks.export(),
                "expected": self._expected,
                "identity": self._identity,
                "seen": self._seen,
                "typed": self._typed,
                "active": self._active,
                "running": self._running,
                "conversation": self._conversation,
                "error": [e.code, e.message, e.status] if e else None,
                "limit": None if self._limit is None else list(self._limit),
                "agents": self._agents,
                "awaited": self._awaited,
            },
        }

    def expect(self, turn: TurnId, identity: str | None = None) -> None:
        """This prompt is being sent: from now on a turn is open, and its end is this prompt's. `identity` is
        its id as the CLI is told it, where that is not the turn's."""
        known_as = identity or turn
        if (turn, known_as) != (self._expected, self._identity):
            self._expected, self._identity, self._seen = turn, known_as, False

    def feed(self, data: bytes) -> list[Segment]:
        """Take in what was read next."""
        lines = data.split(b"\n")
        if len(lines) == 1:
            self._half.append(data)
            return []
        lines[0] = b"".join((*self._half, lines[0]))
        self._half = [lines.pop()]
        segments: list[Segment] = []
        items: list[Item] = []
        cut, mark = 0, None  # how many items stand before the last place to go on from, and that place
        for line in lines:
            items += self._line(line)
            if self.broken:
                break
            self.offset += len(line) + 1
            if self._held is None and self._so_far is None and self._blocks.settled:
                cut, mark = len(items), self.checkpoint()
                if items and isinstance(items[-1], TurnEnded):
                    segments.append(Segment(tuple(items), mark))
                    items, cut, mark = [], 0, None
        if mark is not None:
            segments.append(Segment(tuple(items[:cut]), mark))
        if items[cut:]:
            segments.append(Segment(tuple(items[cut:]), None))
        return segments

    def end(self) -> tuple[Item, ...]:
        """The process is gone, and all it said has been fed: an end that was held back counts now. One that
        waited for agents does not: they are gone as well."""
        return tuple(self._release())

    def finish(self) -> Json:
        """The checkpoint behind everything, half a line included: nothing of this is to be read again."""
        return {"offset": self.offset + sum(map(len, self._half)), "parser": {}}

    # --- one line ---------------------------------------------------------------------------------------

    def _line(self, line: bytes) -> Sequence[Item]:
        if line[:1] == b"\0":
            line = line.lstrip(b"\0")  # input that was freed after a checkpoint reads as zeros
        if not line.strip():
            return ()
        try:
            frame = orjson.loads(line)
        except orjson.JSONDecodeError:
            frame = None
            self.broken = line.startswith(b'{"')
        if not isinstance(frame, dict):
            self.garbage += 1
            return ()
        try:
            return self._frame(frame)
        except (TypeError, ValueError, AttributeError, KeyError):
            # A known frame of an unknown shape: what it said is lost, the rest goes on.
            self.garbage += 1
            return ()

    def _frame(self, frame: Json) -> Sequence[Item]:
        match frame.get("type"):
            case "stream_event":
                return self._stream_event(frame, frame["event"], frame.get("parent_tool_use_id"))
            case "assistant":
                return self._assistant(frame, frame.get("parent_tool_use_id"))
            case "user":
                return self._user(frame, frame.get("parent_tool_use_id"))
            case "system":
                return self._system(frame)
            case "result":
                return self._result(frame)
            case "command_lifecycle":
                return self._lifecycle(str(frame.get("command_uuid")), str(frame.get("state")))
            case "rate_limit_event":
                self._limit = limit_of(frame["rate_limit_info"])
                return ()
            case "control_request":
                return [self._asked(str(frame["request_id"]), frame["request"])]
            case "control_cancel_request":
                return [AnswerMoot(RequestId(str(frame["request_id"])))]
            case "control_response":
                return [_reply(frame["response"])]
            case _:
                return ()

    # --- what the model says ----------------------------------------------------------------------------

    def _stream_event(self, frame: Json, event: Json, parent: Parent) -> Sequence[Item]:
        kind = event.get("type")
        if kind == "message_start":
            # Also where a turn was announced by no prompt, because Claude went on by itself.
            before = self._activity(parent)
            return before + self._blocks.message_started(parent, str(event["message"].get("id", "")))
        if not self.busy:
            return ()
        match kind:
            case "content_block_start":
                self._blocks.block_started(parent, event["index"], event["content_block"].get("type"))
            case "content_block_delta":
                delta = event["delta"]
                text = delta.get("text") if delta.get("type") == "text_delta" else delta.get("thinking")
                return self._blocks.text_arrived(parent, event["index"], text or "")
            case "message_stop":
                # A block's `assistant` frame comes before its end: without one it was cut off.
                return self._blocks.drop(parent)
        return ()

    def _assistant(self, frame: Json, parent: Parent) -> Sequence[Item]:
        message = frame["message"]
        if message.get("model") == "<synthetic>":
            if self.busy and parent is None and (frame.get("error") or frame.get("is_api_error_message")):
                self._error = _api_error(frame, message)
            return ()
        items = self._activity(parent)
        if not self.busy:
            return ()
        for content in message.get("content") or ():
            items += self._blocks.settle(parent, str(message.get("id", "")), content)
        return items

    def _user(self, frame: Json, parent: Parent) -> Sequence[Item]:
        if frame.get("isReplay"):
            return self._acknowledged(frame["uuid"]) if frame.get("uuid") == self._identity else ()
        content = frame["message"].get("content")
        if not self.busy or not isinstance(content, list):
            return ()
        return [
            ToolAnswered(
                str(block["tool_use_id"]),
                output_text(block.get("content")),
                bool(block.get("is_error")),
                parent,
            )
            for block in content
            if block.get("type") == "tool_result"
        ]

    # --- where the turn stands --------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """A prompt is being answered, as far as has been read."""
        return self._expected is not None or self._typed

    def _activity(self, parent: Parent) -> list[Item]:
        """The model answers. A sub-agent that outlives its turn opens none."""
        if parent is not None:
            return []
        items = self._release()  # the next turn began, and nobody said that the last one is over
        if self._held is not None:
            self._so_far, self._held = self._held, None
        self._error = self._limit = None  # what it was, it is overcome
        if not self.busy:
            self._typed = True
            # A prompt is expected as soon as it is handed over: one that is not yet comes after this.
            items.append(PromptTyped("", first=True, behind=True))
        if not self._active:
            self._active = True
            items.append(UpstreamActive())
        return items

    def _lifecycle(self, prompt: str, state: str) -> Sequence[Item]:
        if state not in ("queued", "started"):
            return ()
        items = self._release()
        if self._expected is None:
            self.expect(TurnId(prompt))
        return [*items, *self._acknowledged(prompt)]

    def _acknowledged(self, prompt: str) -> Sequence[Item]:
        if prompt != self._identity or self._expected is None:
            return (PromptSeen(TurnId(prompt)),)
        if self._seen:
            return ()
        self._seen = True
        return (PromptSeen(TurnId(self._expected)),)

    def _system(self, frame: Json) -> Sequence[Item]:
        match frame.get("subtype"):
            case "init":
                return [
                    *self._release(),  # where Claude goes on by itself there is no `idle` in between
                    *self._named(frame),
                    SettingsSeen(frame.get("model"), frame.get("permissionMode")),
                ]
            case "status" if frame.get("permissionMode"):
                return [SettingsSeen(permission_mode=frame["permissionMode"])]
            case "session_state_changed":
                return self._state(str(frame.get("state")))
            case "api_retry":
                status, error = frame.get("error_status"), frame.get("error") or "unknown"
                return [
                    *self._blocks.drop(frame.get("parent_tool_use_id")),
                    UpstreamRetrying(
                        int(frame.get("attempt") or 0),
                        int(frame.get("max_retries") or 0),
                        int(frame.get("retry_delay_ms") or 0),
                        f"{error} ({status})" if status else str(error),
                    ),
                ]
            case "background_tasks_changed":
                self._agents = [t["task_id"] for t in frame["tasks"] if t.get("task_type") in AGENTS]
                self._awaited = self._awaited or bool(self._agents)
                return ()
            case "task_notification" if frame.get("status") == "stopped" and self._held is not None:
                # By an interrupt, which stops them all: who else would do it rests.
                if frame.get("task_id") in self._agents:
                    self._held = replace(self._held, status="interrupted")
                return ()
            case _:
                return ()

    def _named(self, frame: Json) -> list[Item]:
        conversation = frame.get("session_id")
        if not isinstance(conversation, str) or conversation == self._conversation:
            return []
        self._conversation = conversation
        return [ConversationNamed(conversation)]

    def _state(self, state: str) -> Sequence[Item]:
        was_idle, self._running = not self._running, state != "idle"
        if state != "idle":
            return self._release()
        if self._held is None and self._seen and was_idle:
            # Idle, and never was anything else: the CLI dropped a prompt whose id it had answered before.
            known = TurnError("already_answered", "Claude answered this prompt before, to somebody else.")
            self._held = TurnEnded("failed", None, known)
        return self._release(at_rest=True)

    def _result(self, frame: Json) -> Sequence[Item]:
        items = self._named(frame)
        uuids = [frame.get("user_message_uuid"), *(frame.get("user_message_uuids") or ())]
        unasked = bool(frame.get("origin")) and self._identity is not None and self._identity not in uuids
        unasked = unasked and self._so_far is None
        if not self.busy or (unasked and not self._typed):
            # Unasked: Claude went on by itself just before it read our prompt, whose answer is to come.
            return items + self._blocks.drop_all()
        self._ours_to_come = unasked
        if str(frame.get("terminal_reason") or "").startswith("aborted"):
            items += self._blocks.keep_all()
            held = TurnEnded("interrupted", None)
        elif frame.get("is_error"):
            items += self._blocks.keep_all()
            held = TurnEnded("failed", None, self._error or _result_error(frame))
        else:
            items += self._blocks.drop(None) if self._agents else self._blocks.drop_all()
            text = frame.get("result")
            spoke = self._blocks.spoke or not isinstance(text, str)
            held = TurnEnded("completed", None if spoke else text)
        usage, cost = _spent(frame)
        if self._so_far is not None:
            usage = (self._so_far.usage or Usage()) + (usage or Usage())
            cost = (self._so_far.cost_usd or 0.0) + (cost or 0.0)
        self._held, self._so_far = TurnEnded(held.status, held.text, held.error, usage, cost), None
        # `idle` follows 2 to 4 ms later; a CLI that never tells its state is not waited for.
        return items if self._running else [*items, *self._release(at_rest=True)]

    def _release(self, *, at_rest: bool = False) -> list[Item]:
        """The end that was held back, and a clean sheet for the next turn. A turn with agents in the
        background lasts until they are done and Claude has answered to it, when the CLI is `at_rest`."""
        if self._held is None or (self._awaited and not at_rest and not self._ours_to_come):
            return []
        held, self._held = self._held, None
        self._blocks = Blocks()
        said: list[Item] = [held]
        if self._limit is not None and held.error is not None and held.error.code == "rate_limit":
            said = [self._limit.reached(held.error.message, untouched=not self._active), held]
        if not self._ours_to_come:
            self._expected, self._identity, self._seen = None, None, False
        self._error = None
        self._typed = self._active = self._ours_to_come = False
        self._awaited = bool(self._agents)
        return said

    def _asked(self, request: str, asked: Json) -> Item:
        if asked.get("subtype") != "can_use_tool":
            return ControlAsked(request, str(asked.get("subtype")))
        tool, given = str(asked.get("tool_name", "")), asked.get("input")
        offered = asked.get("permission_suggestions")
        return AnswerNeeded(
            RequestId(request),
            REQUEST_KINDS.get(tool, "permission"),
            tool,
            given if isinstance(given, dict) else {},
            tuple(s for s in offered if isinstance(s, dict)) if isinstance(offered, list) else (),
            asked.get("tool_use_id"),
        )


def _reply(response: Json) -> ControlReply:
    payload = response.get("response")
    return ControlReply(
        str(response.get("request_id")),
        response.get("subtype") == "success",
        payload if isinstance(payload, dict) else {},
        str(response.get("error") or ""),
    )


def _api_error(frame: Json, message: Json) -> TurnError:
    status = frame.get("api_error_status")
    said = str(frame.get("error") or "")
    text = output_text(message.get("content")) or said
    return TurnError(error_code(said, status), text, status if isinstance(status, int) else None)


def _result_error(frame: Json) -> TurnError:
    status = frame.get("api_error_status")
    said = frame.get("result") or "; ".join(map(str, frame.get("errors") or ())) or str(frame.get("subtype"))
    if status is not None or frame.get("terminal_reason") == "api_error":
        return TurnError(error_code("", status), str(said), status if isinstance(status, int) else None)
    code = "max_turns" if frame.get("subtype") == "error_max_turns" else "execution_error"
    return TurnError(code, str(said))


def _spent(frame: Json) -> tuple[Usage | None, float | None]:
    """This turn's share, over all models and retries. `total_cost_usd` is of no use for it: it goes on
    over `--resume`, from wherever the last process managed to save it. `usage` is zero after an interrupt."""
    models = frame.get("model_usage_since_last_result")
    if isinstance(models, dict) and models:
        spent = [m for m in models.values() if isinstance(m, dict)]
        total = sum((_model_usage(m) for m in spent), Usage())
        return total, float(sum(m.get("costUSD") or 0.0 for m in spent))
    usage = frame.get("usage")
    cost = 0.0 if isinstance(models, dict) else None
    if not isinstance(usage, dict):
        return None, cost
    return usage_of(usage), cost


def _model_usage(m: Json) -> Usage:
    return Usage(
        int(m.get("inputTokens") or 0),
        int(m.get("outputTokens") or 0),
        int(m.get("cacheCreationInputTokens") or 0),
        int(m.get("cacheReadInputTokens") or 0),
    )
