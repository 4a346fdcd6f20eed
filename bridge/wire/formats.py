"""All wire formats in which the hub can encode an event, by the name that a subscriber asks for."""

from __future__ import annotations

from bridge.wire import phoenix, phoenix_poll, socketio, sse

ENCODERS = {**phoenix.ENCODERS, **phoenix_poll.POLL_ENCODERS, **socketio.ENCODERS, **sse.ENCODERS}
