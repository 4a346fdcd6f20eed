"""One example of everything that goes over the wire, as the bridge's own values.

`python -m tests.contract.examples` writes `spec/frames/` anew from them. The files are the contract: a
change that shows there is a change for every client, and is made on purpose or not at all.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from bridge.errors import Forbidden, InvalidPayload, QueueFull, SessionNotFound, SessionStopped
from bridge.events import (
    Attachment,
    Block,
    BlockDiscarded,
    BlockFinished,
    DeltaAdded,
    Epoch,
    Event,
    PoolChanged,
    PromptSteered,
    Request,
    RequestAnswered,
    RequestId,
    RequestOpened,
    Seq,
    SessionChanged,
    SessionDeleted,
    SessionName,
    Snapshot,
    ToolBlock,
    ToolFinished,
    ToolStarted,
    Turn,
    TurnError,
    TurnFinished,
    TurnId,
    TurnQueued,
    TurnStarted,
    Usage,
)
from bridge.wire import attachments, views
from bridge.wire.phoenix import V1, V2, Codec, encode_event_v1, encode_event_v2, event_said
from tests.fakes.service import a_session

FRAMES = Path(__file__).parents[2] / "spec" / "frames"

AT = 1_760_000_000.125
DEMO = "session:demo"
POOL = "pool:default"
TURN = TurnId("018f3c1e-0000-4000-8000-000000000001")
NEXT = TurnId("018f3c1e-0000-4000-8000-000000000002")
EPOCH = Epoch("mgx1c2-4f")
USAGE = Usage(1200, 34, 0, 1100)
NOTE = {"name": "größe.txt", "media_type": "text/plain"}
NOTE_BYTES = b"drei\n"
WRITE = {"file_path": "/home/someone/notes.txt", "content": "Grüße\n"}

SESSION = a_session("demo", attach="tmux -L claude-bridge attach -t claude_demo", turns=1, viewers=1)
REQUEST = Request(
    RequestId("req-1"), "permission", TURN, "Write", WRITE, ({"type": "setMode", "mode": "acceptEdits"},), AT
)
FINISHED = Turn(
    TURN,
    "Write a note",
    "owner",
    "client",
    "completed",
    AT,
    key="note-1",
    text="Done.",
    blocks=(
        Block(0, "thinking", "A note, then."),
        ToolBlock(1, "toolu_1", "Write", WRITE, "written"),
        Block(2, "text", "Done."),
    ),
    usage=USAGE,
    cost_usd=0.0042,
    started_at=AT,
    finished_at=AT + 2,
)
OPEN = Turn(NEXT, "And now?", None, "terminal", "running", AT, text="", blocks=(Block(0, "text", "Now w"),))
FAILED = TurnFinished(
    NEXT, "failed", "", TurnError("invalid_request_error", "The request is too long.", 400), None, None, 120
)

EVENTS: dict[str, tuple[str, int, int, Event]] = {
    "turn_queued": (DEMO, 1, 1, TurnQueued(TURN, "note-1", "Write a note", "owner", 0)),
    "turn_started": (DEMO, 2, 2, TurnStarted(TURN, "Write a note", "owner", "client")),
    "turn_started by a person at the terminal": (DEMO, 3, 3, TurnStarted(NEXT, "And now?", None, "terminal")),
    "steered": (DEMO, 4, 4, PromptSteered(TURN, "In German, please", "owner")),
    "delta": (DEMO, 5, 5, DeltaAdded(TURN, 0, "text", 'Grüße, 世界 🎉\n"quoted" \\ </script>')),
    "delta of thinking": (DEMO, 6, 6, DeltaAdded(TURN, 0, "thinking", "A note")),
    "delta of a sub-agent": (DEMO, 7, 7, DeltaAdded(TURN, 3, "text", "found", parent="toolu_9")),
    "delta merged of five": (DEMO, 8, 12, DeltaAdded(TURN, 2, "text", "Done, and well done")),
    "discard": (DEMO, 13, 13, BlockDiscarded(TURN, 2)),
    "block": (DEMO, 14, 14, BlockFinished(TURN, 2, "text", "Done.")),
    "tool_started": (DEMO, 15, 15, ToolStarted(TURN, 1, "toolu_1", "Write", WRITE)),
    "tool_finished": (DEMO, 16, 16, ToolFinished(TURN, "toolu_1", "written", False)),
    "request_opened": (DEMO, 17, 17, RequestOpened(REQUEST)),
    "request_closed": (DEMO, 18, 18, RequestAnswered(REQUEST.id, "allowed", "owner")),
    "request_closed by the terminal": (DEMO, 19, 19, RequestAnswered(REQUEST.id, "denied", None)),
    "turn_finished": (DEMO, 20, 20, TurnFinished(TURN, "completed", "Done.", None, USAGE, 0.0042, 2000)),
    "turn_finished that failed": (DEMO, 21, 21, FAILED),
    "session_changed": (DEMO, 22, 22, SessionChanged(SESSION)),
    "session_changed to failed": (
        DEMO,
        23,
        23,
        SessionChanged(replace(SESSION, state="failed", reason="The CLI ended three times in a minute.")),
    ),
    "session_changed in the lobby": ("sessions", 0, 0, SessionChanged(SESSION)),
    "session_deleted": ("sessions", 0, 0, SessionDeleted(SessionName("demo"))),
    "pool_changed": (POOL, 0, 0, PoolChanged(size=2, idle=1, busy=1, waiting=0)),
    "delta of a pool's question": (POOL, 0, 0, DeltaAdded(NEXT, 0, "text", "Blue")),
    "turn_finished of a pool's question": (
        POOL,
        0,
        0,
        TurnFinished(NEXT, "completed", "Blue.", None, USAGE, 0.0042, 900),
    ),
}

JOINED = views.join_reply(Snapshot(SESSION, (FINISHED,), OPEN, (), (REQUEST,)), EPOCH, Seq(23), False, AT)
SUBMITTED = {"turn": TURN, "status": "running", "position": 0}
ASKED_BEFORE = {"turn": views.turn_payload(FINISHED), "status": "completed", "duplicate": True}

SAID: dict[str, Callable[[Codec], bytes]] = {
    "heartbeat answered": lambda c: c.reply(None, "9", "phoenix", "ok", {}),
    "session joined": lambda c: c.reply("3", "3", DEMO, "ok", JOINED),
    "session not joined": lambda c: c.reply("3", "3", DEMO, "error", SessionNotFound("demo").as_payload()),
    "unmatched topic": lambda c: c.reply(None, "4", "room:1", "error", {"reason": "unmatched topic"}),
    "submitted": lambda c: c.reply("3", "5", DEMO, "ok", SUBMITTED),
    "forbidden": lambda c: c.reply("3", "6", DEMO, "error", Forbidden("control").as_payload()),
    "queue full": lambda c: c.reply("3", "7", DEMO, "error", QueueFull(1000).as_payload()),
    "invalid payload": lambda c: c.reply(
        "3", "8", DEMO, "error", InvalidPayload("prompt", "is required").as_payload()
    ),
    "pool joined": lambda c: c.reply(
        "7", "7", POOL, "ok", views.pool_payload(PoolChanged(size=2, idle=2, busy=0, waiting=0))
    ),
    "asked": lambda c: c.reply("7", "8", POOL, "ok", {"turn": NEXT, "status": "running", "position": 0}),
    "asked before, and answered": lambda c: c.reply("7", "9", POOL, "ok", ASKED_BEFORE),
    "left": lambda c: c.reply("3", "9", DEMO, "ok", {}),
    "closed": lambda c: c.push("3", "3", DEMO, "phx_close", {}),
    "crashed": lambda c: c.push("3", "3", DEMO, "phx_error", {"reason": "channel_crash"}),
}

ASKED: dict[str, tuple[Any, Any, Any, str, Any]] = {
    "heartbeat": (None, "9", "phoenix", "heartbeat", {}),
    "join the lobby": ("1", "1", "sessions", "phx_join", {}),
    "start": ("1", "2", "sessions", "start", {"name": "demo", "permission_mode": "plan", "model": None}),
    "stop in the lobby": ("1", "3", "sessions", "stop", {"name": "demo"}),
    "delete": ("1", "4", "sessions", "delete", {"name": "demo"}),
    "list": ("1", "5", "sessions", "list", {}),
    "fork": ("1", "9", "sessions", "fork", {"name": "other", "from": "demo", "from_turn": "0b1c"}),
    "join a session, starting it": ("3", "3", DEMO, "phx_join", {"start": {"cwd": "/home/someone"}}),
    "join a session again": ("4", "4", DEMO, "phx_join", {"after": {"epoch": EPOCH, "seq": 17}, "turns": 0}),
    "submit": ("3", "5", DEMO, "submit", {"prompt": "Grüße, 世界 🎉", "id": "note-1"}),
    "submit to steer": ("3", "6", DEMO, "submit", {"prompt": "In German, please", "mode": "steer"}),
    "interrupt": ("3", "7", DEMO, "interrupt", {}),
    "cancel": ("3", "8", DEMO, "cancel", {"turn": NEXT}),
    "allow": ("3", "10", DEMO, "answer", {"request": "req-1", "decision": "allow", "suggestions": [0]}),
    "deny": (
        "3",
        "11",
        DEMO,
        "answer",
        {"request": "req-1", "decision": "deny", "message": "Not there", "interrupt": True},
    ),
    "answer a question": (
        "3",
        "12",
        DEMO,
        "answer",
        {"request": "req-2", "decision": "allow", "input": {"answers": {"Which one?": "The first"}}},
    ),
    "history": ("3", "13", DEMO, "history", {"before": TURN, "limit": 10}),
    "configure": ("3", "14", DEMO, "configure", {"model": "opus"}),
    "restart": ("3", "15", DEMO, "restart", {}),
    "stop": ("3", "16", DEMO, "stop", {}),
    "leave": ("3", "17", DEMO, "phx_leave", {}),
    "join a pool": ("7", "7", POOL, "phx_join", {}),
    "ask": ("7", "8", POOL, "ask", {"prompt": "Which colour is the sky?", "id": "sky-1"}),
}

SCREEN = "terminal:demo"
PAINTED = {"cols": 80, "rows": 24, "screen": "\x1b[H\x1b[2J\x1b[1;1HGrüße"}

TYPED: dict[str, tuple[str, str, str, str, Any]] = {
    "join a screen": ("5", "5", SCREEN, "phx_join", {}),
    "input in bytes": ("5", "6", SCREEN, "input", b"\x1b[A\xff"),
    "input in text": ("5", "7", SCREEN, "input", {"text": "é\r"}),
    "resize": ("5", "8", SCREEN, "resize", {"cols": 100, "rows": 30}),
}
"""What a client says to a live screen: only in V2."""

SHOWN: dict[str, tuple[str, str | None, str, str, Any]] = {
    "screen joined": ("5", "5", SCREEN, "phx_reply", {"status": "ok", "response": PAINTED}),
    "output": ("5", None, SCREEN, "output", b"\x1b[1mbold\xff\x00"),
    "screen after a client fell behind": ("5", None, SCREEN, "screen", PAINTED),
    "typed": ("5", "6", SCREEN, "phx_reply", {"status": "ok", "response": {}}),
    "nothing runs": (
        "5",
        "7",
        SCREEN,
        "phx_reply",
        {"status": "error", "response": SessionStopped("demo").as_payload()},
    ),
}

MALFORMED: dict[str, list[str]] = {
    "v2": [
        "",
        "nonsense",
        "{}",
        "[]",
        '["1","2","sessions","list"]',
        '{"topic":"sessions","event":"list","payload":{},"ref":"1"}',
        '[null,"1","phoenix","heartbeat",{"a":NaN}]',
        '[null,"1","phoenix","heartbeat",{"a":1e400}]',
        '[null,"1","phoenix","heartbeat",{"a":"\\ud800"}]',
        '[null,"1","phoenix","heartbeat",{}] and more',
    ],
    "v1": [
        "nonsense",
        '[null,"1","phoenix","heartbeat",{}]',
        '{"event":"heartbeat","payload":{},"ref":"1"}',
        '{"topic":"phoenix","payload":{},"ref":"1"}',
        '{"topic":"phoenix","event":"heartbeat","ref":"1"}',
        '{"topic":"phoenix","event":"heartbeat","payload":{}}',
    ],
}

CODECS: dict[str, Codec] = {"v2": V2(), "v1": V1()}
ENCODERS = {"v2": encode_event_v2, "v1": encode_event_v1}


def unframed(frame: bytes) -> str:
    """The text of a whole WebSocket frame."""
    size = frame[1] & 0x7F
    head = 2 if size < 126 else 4 if size == 126 else 10
    assert frame[0] == 0x81
    return frame[head:].decode()


def spoken(version: str) -> dict[str, str]:
    """Everything the bridge says in this version, by the frame's name."""
    said = {name: make(CODECS[version]).decode() for name, make in SAID.items()}
    for name, (topic, first, seq, event) in EVENTS.items():
        said[f"event {name}"] = unframed(ENCODERS[version](topic, EPOCH, first, seq, AT, event))
    return said


def on_screen() -> list[dict[str, Any]]:
    """The rows of `v2_terminal.json`."""
    return [
        *(_row("client", name, frame) for name, frame in TYPED.items()),
        *(_row("server", name, frame) for name, frame in SHOWN.items()),
    ]


def with_files() -> list[dict[str, Any]]:
    """The rows of `v2_attachments.json`."""
    said = {**NOTE, "data": base64.b64encode(NOTE_BYTES).decode()}
    as_json = ("5", "6", DEMO, "submit", {"prompt": "what is it?", "attachments": [said]})
    in_bytes = attachments.packed({"prompt": "what is it?", "attachments": [{**NOTE, "data": NOTE_BYTES}]})
    kept = (Attachment(NOTE["name"], NOTE["media_type"], len(NOTE_BYTES), ""),)
    told: list[Event] = [
        TurnQueued(TURN, "k-1", "what is it?", "local", 0, attachments=kept),
        TurnStarted(TURN, "what is it?", "local", "client", kept),
    ]
    shown = [(None, None, DEMO, e.event, event_said(7 + n, 7 + n, AT, e)) for n, e in enumerate(told)]
    return [
        _row("client", "submit with a file", as_json),
        _row("client", "submit with a file, in bytes", ("5", "7", DEMO, "submit", in_bytes)),
        *(_row("server", frame[3], frame) for frame in shown),
    ]


def _row(direction: str, name: str, frame: tuple[Any, ...]) -> dict[str, Any]:
    join_ref, ref, topic, event, payload = frame
    opcode = "binary" if isinstance(payload, bytes) else "text"
    if not isinstance(payload, bytes):
        wire = json.dumps(frame, ensure_ascii=False, separators=(",", ":"))
    elif direction == "client":
        fields = [field.encode() for field in frame[:4]]
        wire = (bytes([0, *map(len, fields)]) + b"".join(fields) + payload).hex()
        payload = payload.hex()
    else:
        wire = CODECS["v2"].push_bytes(join_ref, topic, event, payload).hex()
        payload = payload.hex()
    decoded = {"join_ref": join_ref, "ref": ref, "topic": topic, "event": event, "payload": payload}
    return {"name": name, "direction": direction, "opcode": opcode, "wire": wire, "decoded": decoded}


def _decoded(version: str, wire: str) -> dict[str, Any]:
    frame = json.loads(wire)
    if version == "v1":
        return {"join_ref": None, **frame}
    return dict(zip(("join_ref", "ref", "topic", "event", "payload"), frame, strict=True))


def _asked(version: str, frame: tuple[Any, ...]) -> str:
    if version == "v2":
        return json.dumps(frame, ensure_ascii=False, separators=(",", ":"))
    named = dict(zip(("join_ref", "ref", "topic", "event", "payload"), frame, strict=True))
    return json.dumps(named, ensure_ascii=False, separators=(",", ":"))


def write() -> None:
    FRAMES.mkdir(parents=True, exist_ok=True)
    for version in CODECS:
        client = {name: _asked(version, frame) for name, frame in ASKED.items()}
        for direction, frames in (("client", client), ("server", spoken(version))):
            rows = [
                {"name": n, "direction": direction, "wire": w, "decoded": _decoded(version, w)}
                for n, w in frames.items()
            ]
            _write(f"{version}_{direction}.json", rows)
    _write("v2_terminal.json", on_screen())
    _write("v2_attachments.json", with_files())
    rows = [{"vsn": v, "wire": wire} for v, wires in MALFORMED.items() for wire in wires]
    _write("malformed.json", rows)


def _write(name: str, rows: list[dict[str, Any]]) -> None:
    (FRAMES / name).write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    write()
