"""All wire formats in which the hub can encode an event, by the name that a subscriber asks for."""

from __future__ import annotations

from bridge.wire import phoenix, socketio

ENCODERS = {**phoenix.ENCODERS, **socketio.ENCODERS}
