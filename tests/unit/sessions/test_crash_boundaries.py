"""The bridge is killed at every boundary of a story in turn: see docs/explanation/crash-safety.md."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from bridge.commands import InterruptTurn, RestartSession, StopSession
from tests.fakes.mortal_bridge import House, Pace
from tests.fakes.simulated_cli import Cli, HeadlessCli
from tests.fakes.simulated_tui import TuiCli

Script = Callable[[House], None]


def plain(house: House) -> None:
    house.submit("a", "hello")
    moves(house, "active", "preview", "settle", "end")


def tool(house: House) -> None:
    house.submit("a", "hello")
    moves(house, "active", "preview", "call", "ask")
    house.answer()
    moves(house, "result", "settle", "end")


def two(house: House) -> None:
    house.submit("a", "hello")
    house.submit("b", "and on")
    moves(house, "active", "settle", "end", "active", "preview", "settle", "end")


def interrupted(house: House) -> None:
    house.submit("a", "hello")
    house.submit("b", "and on")
    moves(house, "active", "preview")
    house.call(InterruptTurn())


def stopped(house: House) -> None:
    house.submit("a", "hello")
    house.submit("b", "and on")
    moves(house, "active", "preview")
    house.call(StopSession())
    house.start()


def restarted(house: House) -> None:
    house.submit("a", "hello")
    moves(house, "active", "settle")
    house.call(RestartSession())
    house.submit("b", "and on")


def died_before(house: House) -> None:
    house.cli.slow = True
    house.submit("a", "hello")
    house.die()
    house.cli.slow = False
    house.settle(10)


def died_unanswered(house: House) -> None:
    house.submit("a", "hello")
    house.submit("b", "and on")
    house.die()
    house.settle(10)
    moves(house, "active", "settle", "end")


def died_after(house: House) -> None:
    house.submit("a", "hello")
    house.submit("b", "and on")
    moves(house, "active", "settle", "preview")
    house.die()
    house.settle(10)


def cancelled(house: House) -> None:
    house.submit("a", "hello")
    house.submit("b", "and on")
    house.cancel(0)
    moves(house, "active", "settle", "end")


def by_itself(house: House) -> None:
    moves(house, "by_itself", "settle", "end")
    house.submit("a", "hello")


def deleted(house: House) -> None:
    house.submit("a", "hello")
    house.submit("b", "and on")
    house.delete()


def held(house: House) -> None:
    moves(house, "draft")
    house.submit("a", "hello")
    house.submit("b", "and on")
    moves(house, "clear", "settle", "end")


def persons_first(house: House) -> None:
    house.cli.slow = True
    house.submit("a", "hello")
    moves(house, "by_itself", "settle")
    house.cli.slow = False
    house.settle(10)
    moves(house, "end", "settle", "end")


def lost(house: House) -> None:
    assert isinstance(house.cli, TuiCli)
    house.cli.deaf = True
    house.submit("a", "hello")
    house.submit("b", "and on")


BOTH: tuple[Script, ...] = (
    *(plain, tool, two, interrupted, stopped, restarted, cancelled, by_itself, deleted),
    *(died_before, died_unanswered, died_after),
)
STORIES: list[tuple[type[Cli], Script]] = [
    *((HeadlessCli, script) for script in BOTH),
    *((TuiCli, script) for script in (*BOTH, held, persons_first, lost)),
]
QUICK: list[tuple[type[Cli], Script]] = [
    *((HeadlessCli, script) for script in (tool, stopped, restarted, by_itself, died_unanswered, died_after)),
    *((TuiCli, script) for script in (tool, two, interrupted, died_after, held, persons_first, lost)),
]


# --- what goes on while no bridge runs ----------------------------------------------------------------


def nothing(house: House) -> None:
    """It is found alive, as it was."""


def goes_on(house: House) -> None:
    """It is found alive, and has said more."""
    for _ in range(3):
        house.go_on()


def goes_by_itself(house: House) -> None:
    """It has ended its turn, and begun another that nobody asked for."""
    for _ in range(8):
        house.go_on()
    moves(house, "by_itself")


def dies(house: House) -> None:
    """It is found gone."""
    house.die()


def says_and_dies(house: House) -> None:
    for _ in range(2):
        house.go_on()
    house.die()


PACES: tuple[Pace, ...] = ("prompt", "lazy")
AFTERMATHS: tuple[Script, ...] = (nothing, goes_on, goes_by_itself, dies, says_and_dies)


def moves(house: House, *wanted: str) -> None:
    """As far as the CLI can: a killed bridge leaves stories open."""
    for what in wanted:
        if what in house.cli.moves():
            house.move(what)


@contextmanager
def told(make: type[Cli], script: Script, pace: Pace, fuse: int | None) -> Iterator[House]:
    """The story up to the boundary `fuse`, or to its end."""
    house = House(make())
    try:
        house.fuse = fuse
        house.disk.pace = pace
        house.boot()
        house.start()
        script(house)
        yield house
    finally:
        house.close()


@dataclass(frozen=True)
class Kill:
    """At which boundary, with which disk, and what went on until the next bridge came. `unsure`: tmux cannot
    say at first whether the CLI lives."""

    fuse: int
    pace: Pace
    aftermath: Script
    unsure: bool


def survives(make: type[Cli], script: Script, kill: Kill) -> bool:
    """Holds all of it against the ledger; False where the story was over before that boundary."""
    with told(make, script, kill.pace, kill.fuse) as house:
        if house.life is not None:
            return False
        house.check_repeat()
        kill.aftermath(house)
        house.cli.silent = kill.unsure
        house.boot()
        house.settle(3.0)
        house.check()
        house.calm()
        return True


@pytest.mark.parametrize(("make", "script"), QUICK, ids=lambda p: p.__name__)
def test_a_kill_at_every_boundary_keeps_what_was_promised(make: type[Cli], script: Script) -> None:
    """What goes on around it takes turns, so that this stays short."""
    kills = (Kill(n, PACES[n % 2], AFTERMATHS[n % 5], n % 3 == 0) for n in itertools.count(1))
    survived = sum(1 for _ in itertools.takewhile(lambda kill: survives(make, script, kill), kills))
    assert survived > 20


@pytest.mark.soak
@pytest.mark.parametrize(("make", "script"), STORIES, ids=lambda p: p.__name__)
def test_a_kill_at_every_boundary_of_every_story(make: type[Cli], script: Script) -> None:
    for around in itertools.product(PACES, AFTERMATHS, (False, True)):
        kills = (Kill(n, *around) for n in itertools.count(1))
        survived = sum(1 for _ in itertools.takewhile(lambda kill: survives(make, script, kill), kills))
        assert survived > 10


@pytest.mark.parametrize(("make", "script"), STORIES, ids=lambda p: p.__name__)
def test_a_story_without_a_kill_ends(make: type[Cli], script: Script) -> None:
    """And counts one restart for each process that was not started by hand."""
    with told(make, script, "prompt", None) as house:
        house.calm()
        if script is not deleted:
            assert house.actor is not None
            by_hand = 2 if script is stopped else 1
            assert house.actor.core.facts.restarts == house.cli.starts - by_hand


def test_an_adoption_that_was_overtaken_is_not_tried_again() -> None:
    """It would take up a process of which the session knows no place any more."""
    with told(HeadlessCli, plain, "prompt", None) as house:
        house.kill(0)
        house.cli.silent = True
        house.boot()
        house.cli.refuses = True
        house.call(RestartSession())
        before = list(house.cli.adopted)
        house.settle(60)
        assert house.cli.adopted == before
