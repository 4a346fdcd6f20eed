"""The codecs against malformed input: a value or a typed refusal, whatever comes in."""

from __future__ import annotations

import contextlib
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.errors import BridgeError
from bridge.wire import requests
from bridge.wire.requests import _EVENTS
from tests.fakes.fuzz.codecs import TARGETS, feed_all
from tests.wire.test_codecs import JSON

SEED = 5
COUNT = 10_000
"""A hundredth of what the soak feeds them."""


def test_ten_thousand_malformed_inputs_are_each_taken_or_refused() -> None:
    """Of every kind that comes in; enough of them are refused, so that this tests something."""
    found = feed_all(SEED, COUNT)
    assert found.keys() == {target.name for target in TARGETS}
    for name, outcomes in found.items():
        refused = outcomes.total() - outcomes["taken"]
        assert refused > outcomes.total() / 4, (name, outcomes)
        assert outcomes["taken"], (name, outcomes)


KEYS = sorted({key for events in _EVENTS.values() for model in events.values() for key in model.model_fields})
PAYLOADS = st.dictionaries(
    st.sampled_from([*KEYS, "start", "after", "turns", "attachments"]), JSON, max_size=4
)


@given(kind=st.sampled_from(list(_EVENTS)), event=st.data(), payload=PAYLOADS | JSON)
@settings(deadline=None, derandomize=True, max_examples=50)
def test_a_known_event_with_any_payload_is_a_command_or_refused(
    kind: requests.TopicKind, event: st.DataObject, payload: Any
) -> None:
    """Known keys with values of any kind reach further than noise does."""
    with contextlib.suppress(BridgeError):
        requests.parse(kind, event.draw(st.sampled_from(list(_EVENTS[kind]))), payload)
    with contextlib.suppress(BridgeError):
        requests.parse_join(payload)
