"""All formats in which the hub hands events on."""

from __future__ import annotations

from bridge.wire import phoenix, phoenix_poll, sse

ENCODERS = {**phoenix.ENCODERS, **phoenix_poll.POLL_ENCODERS, **sse.ENCODERS}
