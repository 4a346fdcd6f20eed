"""Sessions without a process that nobody stopped on purpose: parked, found gone, waiting for their start."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from bridge.commands import (
    Command,
    ConfigureSession,
    JoinSession,
    NameSession,
    ReadHistory,
    RestartSession,
    StartSession,
    SubmitPrompt,
)
from bridge.config import SessionConfig
from bridge.errors import SessionStopped, TooManySessions
from bridge.events import RequestId
from bridge.service import Service
from bridge.signals import AnswerNeeded, ProcessReady, UpstreamActive
from tests.fakes.backend import FakeBackend
from tests.fakes.house import ME, House, Viewer, call
from tests.fakes.tui import until

SOON = 0.01
"""A session is parked after so many seconds."""


def silently(backend: FakeBackend) -> None:
    backend.answer_prompts = False


async def asked(house: House, service: Service, prompt: str = "x", name: str = "demo") -> Viewer:
    """A session that has answered."""
    _, viewer = await house.join(service, name)
    await call(service, name, SubmitPrompt(prompt=prompt))
    await viewer.until("turn_finished")
    return viewer


async def until_state(service: Service, name: str, state: str) -> None:
    await until(lambda: (name, state) in {(s.name, s.state) for s in service.list_sessions(ME)})


async def looked_at(backend: FakeBackend, times: int) -> None:
    """Until it was asked so often whether somebody is attached."""
    enough = backend.looks + times
    await until(lambda: backend.looks >= enough)


async def test_a_session_that_nobody_uses_is_stopped_and_the_next_prompt_starts_it(tmp_path: Path) -> None:
    """With its conversation; a join leaves it as it is."""
    house = House(tmp_path, idle_stop_s=SOON)
    async with house.open() as service:
        viewer = await asked(house, service)
        await viewer.state(service, "stopped")
        backend = house.backends["demo"]
        await backend.stopped.wait()
        joined, _ = await house.join(service, "demo")
        assert joined.snapshot.session.state == "stopped"
        assert joined.snapshot.session.reason == "it was not used for 0.01 s; the next prompt starts it again"
        assert backend.told[-1] == "stop"
        reply = await call(service, "demo", SubmitPrompt(prompt="y"))
        assert (reply["status"], reply["position"]) == ("queued", 0)
        assert (await viewer.until("turn_finished", 2)).text == "y"
        *_, (_, _, resume) = [t for t in backend.told if t[0] == "start"]
        assert resume


async def test_a_parked_session_comes_back_parked(tmp_path: Path) -> None:
    """The next bridge starts it with the next prompt, and not before."""
    house = House(tmp_path, idle_stop_s=SOON)
    async with house.open() as service:
        viewer = await asked(house, service)
        await viewer.state(service, "stopped")
    house.config = SessionConfig(roots=[tmp_path])
    async with house.open() as service:
        backend = house.backends["demo"]
        await backend.stopped.wait()
        [session] = service.list_sessions(ME)
        assert (session.state, backend.told) == ("stopped", ["stop"])
        assert session.reason == "it was not used for 0.01 s; the next prompt starts it again"
        await asked(house, service, "y")
        kind, _, resume = backend.told[1]  # which process it is depends on how often it was parked before
        assert (kind, resume) == ("start", True)


async def test_a_duplicate_does_not_wake_a_parked_session(tmp_path: Path) -> None:
    """It runs nothing, so there is nothing to start."""
    house = House(tmp_path, idle_stop_s=SOON)
    async with house.open() as service:
        _, viewer = await house.join(service, "demo")
        await call(service, "demo", SubmitPrompt(prompt="x", id="k"))
        await viewer.until("turn_finished")
        await viewer.state(service, "stopped")
        again = await call(service, "demo", SubmitPrompt(prompt="x", id="k"))
        assert (again["status"], again["duplicate"]) == ("completed", True)
        assert service.list_sessions(ME)[0].state == "stopped"


async def test_a_parked_session_that_somebody_stops_takes_no_prompt(tmp_path: Path) -> None:
    """From then on it is stopped on purpose."""
    house = House(tmp_path, idle_stop_s=SOON)
    async with house.open() as service:
        viewer = await asked(house, service)
        await viewer.state(service, "stopped")
        stopped = await service.stop(ME, NameSession(name="demo"))
        assert (stopped.state, stopped.reason) == ("stopped", None)
        with pytest.raises(SessionStopped):
            await call(service, "demo", SubmitPrompt(prompt="y"))
        await service.start(ME, StartSession(name="demo"))


async def test_a_parked_session_is_configured_for_its_next_process(tmp_path: Path) -> None:
    """As a stopped one is."""
    house = House(tmp_path, idle_stop_s=SOON)
    async with house.open() as service:
        viewer = await asked(house, service)
        await viewer.state(service, "stopped")
        await call(service, "demo", ConfigureSession(model="other"))
        [session] = service.list_sessions(ME)
        assert (session.state, session.model) == ("stopped", "other")


async def test_a_session_is_left_alone_while_somebody_is_attached(tmp_path: Path) -> None:
    """Typing or not; once they have gone it is stopped."""
    house = House(tmp_path, idle_stop_s=SOON)
    house.prepare = lambda backend: setattr(backend, "person", True)
    async with house.open() as service:
        viewer = await asked(house, service)
        backend = house.backends["demo"]
        await looked_at(backend, 50)
        assert service.list_sessions(ME)[0].state == "idle"
        backend.person = False
        await viewer.state(service, "stopped")


async def test_a_session_is_left_alone_while_its_screen_is_watched(tmp_path: Path) -> None:
    """And nobody need be attached for that."""
    house = House(tmp_path, idle_stop_s=SOON)
    house.watched = True
    async with house.open() as service:
        viewer = await asked(house, service)
        await until(lambda: house.looks > 50)
        assert service.list_sessions(ME)[0].state == "idle"
        house.watched = False
        await viewer.state(service, "stopped")


async def test_a_session_is_left_alone_while_it_works_or_waits(tmp_path: Path) -> None:
    """A tool may run for a day, and a request is open until somebody answers it."""
    house = House(tmp_path, idle_stop_s=SOON)
    house.prepare = silently
    async with house.open() as service:
        _, viewer = await house.join(service, "demo")
        await call(service, "demo", SubmitPrompt(prompt="x"))
        backend = house.backends["demo"]
        await backend.prompted.wait()
        backend.say(UpstreamActive(), AnswerNeeded(RequestId("r"), "permission", "Bash", {}))
        await viewer.until("request_opened")
        other = await asked_elsewhere(house, service)  # long enough for that one to be parked
        await other.wait()
        assert {s.name: s.state for s in service.list_sessions(ME)} == {"demo": "waiting", "other": "stopped"}


async def asked_elsewhere(house: House, service: Service) -> asyncio.Event:
    await house.join(service, "other")
    await until_state(service, "other", "stopped")
    return house.backends["other"].stopped


async def test_setting_the_clock_parks_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wall time says nothing about who used a session."""
    monkeypatch.setattr("bridge.sessions.idle.LOOKS", 10_000)
    house = House(tmp_path, idle_stop_s=60)
    async with house.open() as service:
        await asked(house, service)
        monkeypatch.setattr("bridge.clock.time.time", lambda: 4e9)
        await looked_at(house.backends["demo"], 2)
        assert service.list_sessions(ME)[0].state == "idle"


@pytest.mark.parametrize("command", [SubmitPrompt(prompt="y"), RestartSession(), None])
async def test_a_parked_session_needs_room_to_be_started(tmp_path: Path, command: Command | None) -> None:
    """By a prompt, a restart or a start: there are no more sessions than allowed, and it stays as it was."""
    house = House(tmp_path, idle_stop_s=SOON, max_sessions=1)
    async with house.open() as service:
        viewer = await asked(house, service)
        await viewer.state(service, "stopped")
        house.prepare = silently
        await house.join(service, "busy")
        await call(service, "busy", SubmitPrompt(prompt="x"))
        refusing = call(service, "demo", command) if command else service.start(ME, StartSession(name="demo"))
        with pytest.raises(TooManySessions) as refused:
            await refusing
        assert refused.value.code == "too_many_sessions"
        assert [s.state for s in service.list_sessions(ME) if s.name == "demo"] == ["stopped"]
        await service.delete(ME, NameSession(name="busy"))
        await call(service, "demo", SubmitPrompt(prompt="z"))
        assert (await viewer.until("turn_finished", 2)).text == "z"


async def test_a_restart_of_a_stopped_session_needs_room(tmp_path: Path) -> None:
    """It starts a process where there was none; a restart of one that runs does not."""
    house = House(tmp_path, max_sessions=1)
    async with house.open() as service:
        await house.join(service, "demo")
        await service.stop(ME, NameSession(name="demo"))
        await house.join(service, "other")
        with pytest.raises(TooManySessions):
            await call(service, "demo", RestartSession())
        await call(service, "other", RestartSession())


async def test_of_two_sessions_that_start_at_once_only_one_gets_the_last_place(tmp_path: Path) -> None:
    """The place is taken in the same step in which it is looked for."""
    house = House(tmp_path, max_sessions=2)
    async with house.open() as service:
        for name in ("a", "b"):
            await house.join(service, name)
            await service.stop(ME, NameSession(name=name))
        await house.join(service, "c")
        results = await asyncio.gather(
            *(service.start(ME, StartSession(name=name)) for name in ("a", "b")), return_exceptions=True
        )
        assert [type(r) for r in results] == [tuple, TooManySessions]


# --- the process is gone when the bridge starts --------------------------------------------------------


async def left(house: House) -> None:
    """Two sessions, whose bridge then ends: an idle one, and one with an open turn and a prompt behind it."""
    async with house.open() as service:
        await asked(house, service, name="idle")
        house.prepare = silently
        await house.join(service, "demo")
        await call(service, "demo", SubmitPrompt(prompt="one"))
        await call(service, "demo", SubmitPrompt(prompt="two"))
    house.prepare = lambda backend: None


async def texts(service: Service) -> list[str]:
    return [t.text for t in await service.history(ME, "demo", ReadHistory())]


@pytest.mark.parametrize(("setting", "idle"), [("resume", "idle"), ("pending", "stopped")])
async def test_what_had_something_to_do_goes_on_after_a_reboot(
    tmp_path: Path, setting: Any, idle: str
) -> None:
    """What had not is started as well, or when a prompt comes."""
    house = House(tmp_path, after_reboot=setting)
    await left(house)
    async with house.open() as service:
        await until_state(service, "demo", "idle")
        await until_state(service, "idle", idle)
        await house.join(service, "demo", JoinSession())  # a join's moment is one where all is on disk
        assert await texts(service) == ["one", "two"]
        await asked(house, service, "y", "idle")
        assert ("start", 2, True) in house.backends["idle"].told


async def test_nothing_runs_by_itself_after_a_reboot_where_that_is_wanted(tmp_path: Path) -> None:
    """The prompts wait, that which had not begun before the others, until somebody starts the session."""
    house = House(tmp_path, after_reboot="stop")
    await left(house)
    async with house.open() as service:
        await until_state(service, "demo", "stopped")
        await until_state(service, "idle", "stopped")
        with pytest.raises(SessionStopped):
            await call(service, "demo", SubmitPrompt(prompt="three"))
        joined, viewer = await house.join(service, "demo", JoinSession())
        assert [t.prompt for t in joined.snapshot.queue] == ["one", "two"]
        await service.start(ME, StartSession(name="demo"))
        await viewer.until("turn_finished", 2)
        assert await texts(service) == ["one", "two"]


# --- how many start at once ----------------------------------------------------------------------------


class Slow(FakeBackend):
    """Is ready when the test says so."""

    async def start(self, launch: Any) -> None:
        self.told.append(("start", launch.generation, launch.resume))
        self.launch = launch


async def test_no_more_processes_start_at_once_than_allowed(tmp_path: Path) -> None:
    """The next begins when one is ready, or is not wanted any more; who has a prompt waits the least."""
    house = House(tmp_path, starts_at_once=1)
    house.backend_type = Slow

    async def begun(*names: str) -> None:
        await until(lambda: {n for n, b in house.backends.items() if b.launch is not None} == set(names))

    async with house.open() as service:
        for name in "abcd":
            await house.join(service, name)
        await call(service, "c", SubmitPrompt(prompt="x"))
        await begun("a")
        house.backends["a"].say(ProcessReady())
        await begun("a", "c")
        await service.stop(ME, NameSession(name="c"))
        await begun("a", "b")
        await service.stop(ME, NameSession(name="d"))  # while it waits for its turn
        house.backends["b"].say(ProcessReady())
        await until_state(service, "b", "idle")
        await service.start(ME, StartSession(name="d"))
        await begun("a", "b", "d")
