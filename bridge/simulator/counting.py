"""Which faults are still to come: how often each has struck the prompt that asked for it. Pure, bounded."""

from __future__ import annotations

import hashlib
from collections import OrderedDict

from bridge.simulator.script import Fault, FaultKind, Plan

PROMPTS_REMEMBERED = 10_000
"""Prompts whose faults are being counted; the ones longest untouched are forgotten first."""


class FaultLedger:
    """Counts per conversation and prompt; a prompt that was answered starts from the beginning."""

    def __init__(self, limit: int = PROMPTS_REMEMBERED) -> None:
        self._limit = limit
        self._struck: OrderedDict[bytes, dict[FaultKind, int]] = OrderedDict()

    def strike(self, conversation: str, plan: Plan, *, streams: bool, deltas: int) -> Fault | None:
        """The fault that this answer suffers, counted as having struck; None where it is spared.

        Only streams are cut, and only where they are long enough: a retry without streaming succeeds.
        """
        key = self._key(conversation, plan)
        struck = self._struck.get(key, {})
        for fault in plan.faults:
            applies = fault.kind in (FaultKind.STATUS, FaultKind.LIMIT) or (streams and fault.at <= deltas)
            if applies and (fault.times is None or struck.get(fault.kind, 0) < fault.times):
                if fault.times is not None:
                    self._struck[key] = {**struck, fault.kind: struck.get(fault.kind, 0) + 1}
                    self._struck.move_to_end(key)
                    if len(self._struck) > self._limit:
                        self._struck.popitem(last=False)
                return fault
        return None

    def answered(self, conversation: str, plan: Plan) -> None:
        """The turn was answered in full: the same prompt asked again meets its faults again."""
        if plan.closes:
            self._struck.pop(self._key(conversation, plan), None)

    def __len__(self) -> int:
        return len(self._struck)

    @staticmethod
    def _key(conversation: str, plan: Plan) -> bytes:
        text = f"{conversation}\0{plan.key}".encode(errors="surrogatepass")
        return hashlib.blake2b(text, digest_size=16).digest()
