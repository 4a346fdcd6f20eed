"""How often a fault strikes."""

from __future__ import annotations

from typing import Any

from bridge.simulator.counting import FaultLedger
from bridge.simulator.script import Fault, FaultKind, Plan, plan


def planned(prompt: str) -> Plan:
    return plan({"messages": [{"role": "user", "content": prompt}]})


def strikes(ledger: FaultLedger, found: Plan, conversation: str = "c", **more: Any) -> Fault | None:
    return ledger.strike(conversation, found, **{"streams": True, "deltas": 10, **more})


def test_a_counted_fault_strikes_that_often_and_then_spares() -> None:
    """529 twice, then success."""
    ledger, found = FaultLedger(), planned('[[sim {"status": 529, "times": 2}]]')
    assert [strikes(ledger, found) is None for _ in range(4)] == [False, False, True, True]


def test_an_uncounted_fault_always_strikes() -> None:
    """And takes no memory."""
    ledger, found = FaultLedger(), planned('[[sim {"status": 400}]]')
    assert all(strikes(ledger, found) for _ in range(5))
    assert len(ledger) == 0


def test_an_answered_prompt_meets_its_faults_again() -> None:
    """Whoever sends the same prompt twice sees the same twice."""
    ledger, found = FaultLedger(), planned('[[sim {"status": 529, "times": 1}]]')
    strikes(ledger, found)
    ledger.answered("c", found)
    assert strikes(ledger, found) is not None


def test_asking_for_tools_is_not_yet_an_answer() -> None:
    """The faults of a turn are spent once, although it takes two requests."""
    ledger, found = FaultLedger(), planned('[[sim {"status": 529, "times": 1, "tools": [["Bash", {}]]}]]')
    strikes(ledger, found)
    ledger.answered("c", found)
    assert strikes(ledger, found) is None


def test_conversations_are_counted_apart() -> None:
    """Two sessions with the same prompt do not share a fault."""
    ledger, found = FaultLedger(), planned('[[sim {"status": 529, "times": 1}]]')
    assert strikes(ledger, found, "a") is not None
    assert strikes(ledger, found, "b") is not None


def test_only_streams_are_cut() -> None:
    """A retry without streaming is answered, as it is in life."""
    ledger, found = FaultLedger(), planned('[[sim {"drop_after": 3}]]')
    assert strikes(ledger, found, streams=False) is None
    assert strikes(ledger, found) == Fault(FaultKind.DROP, 3, 1)


def test_a_stream_too_short_for_its_cut_is_spared() -> None:
    """The cut waits for one that is long enough."""
    ledger, found = FaultLedger(), planned('[[sim {"drop_after": 3}]]')
    assert strikes(ledger, found, deltas=2) is None
    assert strikes(ledger, found, deltas=3) is not None


def test_several_faults_strike_one_after_the_other() -> None:
    """First refused, then cut, then answered."""
    ledger, found = FaultLedger(), planned('[[sim {"status": 529, "drop_after": 3, "times": 1}]]')
    struck = [strikes(ledger, found) for _ in range(3)]
    assert [fault and fault.kind for fault in struck] == [FaultKind.STATUS, FaultKind.DROP, None]


def test_memory_is_bounded() -> None:
    """The prompts longest untouched are forgotten."""
    ledger = FaultLedger(limit=3)
    for number in range(10):
        strikes(ledger, planned(f'{number} [[sim {{"status": 529, "times": 1}}]]'))
    assert len(ledger) == 3
