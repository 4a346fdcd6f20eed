"""A webhook's request as bytes: the body, and its signature after the Standard Webhooks specification.

The body says what a client of the session would be told, flat: `{type, at, session, …}`, where `session` is
the name and the rest are the fields of the event (of `session_failed`: those of the session).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

from bridge.events import RequestOpened, SessionChanged, TurnFinished
from bridge.wire.json import dumps
from bridge.wire.views import event_payload, time_text

PREFIX = "whsec_"
SECRET_BYTES = range(24, 65)
"""What the specification allows."""

Told = RequestOpened | SessionChanged | TurnFinished
"""What a webhook can be about; of the changes of a session, that it failed."""


def secret_bytes(secret: str) -> bytes:
    """The key in a secret as people are given it. Raises `ValueError`, which does not repeat it."""
    try:
        key = base64.b64decode(secret.strip().removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("it is not base64") from None
    if len(key) not in SECRET_BYTES:
        raise ValueError(f"it has {len(key)} bytes; it must have 24 to 64")
    return key


def message_id(kind: str, session: str, of: str) -> str:
    """The same for the same fact, whichever bridge tells it and how often: it tells repetitions."""
    return "msg_" + hashlib.sha256(dumps((kind, session, of))).hexdigest()[:32]


def body(kind: str, session: str, at: float, event: Told) -> bytes:
    """Never raises, whatever a tool's input is: it is made in the session's own task."""
    payload = event_payload(event, at)
    if isinstance(event, SessionChanged):
        payload = payload["session"]
        del payload["name"]
    return dumps({"type": kind, "at": time_text(at), "session": session, **payload})


def headers(key: bytes, id: str, timestamp: int, data: bytes) -> dict[str, str]:
    """To be made anew for each attempt: receivers refuse what was signed long ago."""
    signed = hmac.digest(key, b".".join((id.encode(), str(timestamp).encode(), data)), "sha256")
    return {
        "content-type": "application/json",
        "webhook-id": id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{base64.b64encode(signed).decode()}",
    }
