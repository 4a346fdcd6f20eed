"""All formats in which the hub hands events on."""

from __future__ import annotations

from bridge.wire import phoenix, sse

ENCODERS = {**phoenix.ENCODERS, **sse.ENCODERS}
