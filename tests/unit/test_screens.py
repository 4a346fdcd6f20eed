"""Live screens without tmux: a picture, then every byte after it to who keeps up, a picture to the rest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bridge.screens
from bridge.errors import InternalError, SessionNotFound, SessionStopped, TmuxError
from bridge.screens import BACKLOG_BYTES, Screens
from bridge.sessions.picture import BLANK
from tests.fakes.screens import FakeLine, FakePane, FakePanes, Watcher, running_screens


@pytest.fixture
def panes() -> FakePanes:
    return FakePanes()


@pytest.fixture
async def screens(panes: FakePanes) -> AsyncIterator[Screens]:
    async with running_screens(panes) as screens:
        yield screens


@pytest.fixture
def pane(panes: FakePanes) -> FakePane:
    return panes.add("a")


async def joined(screens: Screens, count: int = 1) -> list[Watcher]:
    watchers = [Watcher() for _ in range(count)]
    for watcher in watchers:
        await watcher.join(screens)
    return watchers


async def test_a_join_is_shown_the_picture_and_told_what_follows(screens: Screens, pane: FakePane) -> None:
    """From the very byte on at which the picture stands."""
    pane.write(b"before")
    (watcher,) = await joined(screens)
    assert [(p.screen, p.cols, p.rows) for p in watcher.pictures] == [("<6>", 80, 24)]
    pane.write(b"after")
    await watcher.until(lambda: watcher.at() == 11)
    assert watcher.since == b"after"
    assert watcher.right(pane)


async def test_what_comes_while_the_picture_is_made_follows_it(screens: Screens, pane: FakePane) -> None:
    """Neither lost nor said twice, whether it is in the picture or not."""
    await joined(screens)
    pane.gate.clear()
    pane.asked.clear()
    watcher = Watcher()
    async with asyncio.TaskGroup() as group:
        group.create_task(watcher.join(screens))
        await pane.asked.wait()
        pane.write(b"mean")
        await asyncio.sleep(0)
        pane.write(b"while")
        pane.gate.set()
    assert watcher.pictures[0].screen == "<0>"
    await watcher.until(lambda: watcher.at() == 9)
    assert watcher.right(pane)


async def test_all_viewers_of_a_session_share_one_line(screens: Screens, pane: FakePane) -> None:
    """It ends after the last, and is made anew for the next."""
    watchers = await joined(screens, 3)
    (line,) = pane.lines
    for watcher in watchers:
        assert watcher.viewer is not None
        assert pane.lines == [line]
        assert screens.watched("a")
        watcher.viewer.close()
        watcher.viewer.close()
    assert not screens.watched("a")
    await asyncio.wait_for(pane.left.wait(), 60)
    await joined(screens)
    assert pane.opened == 2
    assert len(pane.lines) == 1


async def test_who_comes_while_the_line_is_being_let_go_is_served(screens: Screens, pane: FakePane) -> None:
    """By another one."""
    (first,) = await joined(screens)
    assert first.viewer is not None
    first.viewer.close()
    (second,) = await joined(screens)
    pane.write(b"x")
    await second.until(lambda: second.at() == 1)


async def test_a_slow_viewer_is_shown_a_picture_instead_of_what_it_missed(
    screens: Screens, pane: FakePane
) -> None:
    """And the others are told everything, meanwhile and after."""
    fast, slow = await joined(screens, 2)
    slow.room = False
    written = 0
    while written <= 2 * BACKLOG_BYTES:
        pane.write(b"x" * 1000)
        written += 1000
        await fast.until(lambda: fast.at() == len(pane.written))
    assert len(fast.pictures) == 1
    assert slow.told == 1, "while it has not taken what it was told of, it is not told again"
    slow.room = True
    slow.take()
    await slow.until(lambda: len(slow.pictures) == 2)
    assert slow.pictures[1].screen == f"<{len(pane.written)}>"
    pane.write(b"and on")
    await slow.until(lambda: slow.at() == fast.at() == len(pane.written))
    assert slow.right(pane)
    assert fast.right(pane)


async def test_what_is_kept_for_the_slowest_is_bounded(screens: Screens, pane: FakePane) -> None:
    """Once for all viewers, however many there are."""
    watchers = await joined(screens, 5)
    for watcher in watchers[1:]:
        watcher.room = False
    for _ in range(3 * BACKLOG_BYTES // 10_000):
        pane.write(b"x" * 10_000)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    feed = screens._feeds["a"]
    assert sum(map(len, feed._chunks)) <= BACKLOG_BYTES
    for watcher in watchers[1:]:
        assert watcher.viewer is not None
        watcher.viewer.close()
    pane.write(b"x")
    await watchers[0].until(lambda: watchers[0].at() == len(pane.written))
    await asyncio.sleep(0)
    assert not feed._chunks, "all have taken it"


async def test_a_picture_that_was_overtaken_is_taken_again(screens: Screens, pane: FakePane) -> None:
    """More output than is kept came between the place where it stands and its being there."""
    pane.gate.clear()
    watcher = Watcher()
    async with asyncio.TaskGroup() as group:
        group.create_task(watcher.join(screens))
        await pane.asked.wait()
        for _ in range(3):
            pane.write(b"x" * BACKLOG_BYTES)
            await asyncio.sleep(0)
        pane.gate.set()
    assert watcher.at() == len(pane.written)
    assert watcher.right(pane)
    assert pane.pictures == 2


async def test_a_session_without_a_pane_shows_nothing_until_it_has_one(
    screens: Screens, panes: FakePanes
) -> None:
    """The join works; the picture comes when the process does."""
    watcher = Watcher()
    picture = await watcher.join(screens)
    assert (picture.cols, picture.rows, picture.screen) == (220, 50, BLANK)
    pane = panes.add("a")
    pane.write(b"hello")
    screens.changed("a")
    await watcher.until(lambda: len(watcher.pictures) == 2)
    assert watcher.pictures[1].screen == "<5>"
    pane.write(b"!")
    await watcher.until(lambda: watcher.at() == 6)


async def test_a_pane_that_comes_untold_is_found(screens: Screens, panes: FakePanes) -> None:
    """By looking again, ever more seldom."""
    watcher = Watcher()
    await watcher.join(screens)
    panes.add("a")
    await watcher.until(lambda: len(watcher.pictures) == 2)


@pytest.mark.parametrize("told", [True, False])
async def test_a_tmux_that_cannot_be_asked_is_asked_again(
    screens: Screens, panes: FakePanes, pane: FakePane, told: bool
) -> None:
    """Meanwhile the screen is empty, and a join waits for nothing."""
    panes.fault = TmuxError("busy")
    (watcher,) = await joined(screens)
    assert watcher.pictures[0].screen == BLANK
    panes.fault = None
    if told:
        screens.changed("a")
    await watcher.until(lambda: len(watcher.pictures) == 2)
    assert watcher.right(pane)


async def test_a_trouble_that_lasts_is_logged_once(
    screens: Screens, panes: FakePanes, capsys: pytest.CaptureFixture[str]
) -> None:
    """However often it is met."""
    panes.fault = TmuxError("too old")
    await joined(screens)
    for _ in range(5):
        panes.looked.clear()
        screens.changed("a")
        await asyncio.wait_for(panes.looked.wait(), 60)
    assert panes.looks > 5
    captured = capsys.readouterr()
    assert (captured.out + captured.err).count("too old") == 1


async def test_a_join_does_not_wait_for_a_tmux_that_hangs(
    screens: Screens, pane: FakePane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The picture comes as an event, once there is one."""
    monkeypatch.setattr(bridge.screens, "JOIN_S", 0.01)
    pane.gate.clear()
    (watcher,) = await joined(screens)
    assert watcher.pictures[0].screen == BLANK
    pane.gate.set()
    await watcher.until(lambda: len(watcher.pictures) == 2)
    pane.write(b"x")
    await watcher.until(lambda: watcher.at() == 1)


async def test_a_viewer_stays_when_the_process_goes_and_comes(screens: Screens, panes: FakePanes) -> None:
    """The last picture stays; the next pane is shown anew."""
    old = panes.add("a")
    (watcher,) = await joined(screens)
    old.write(b"goodbye")
    await watcher.until(lambda: watcher.at() == 7)
    del panes.panes["a"]
    panes.looked.clear()
    old.end()
    await panes.looked.wait()
    assert len(watcher.pictures) == 1
    assert old.lines == []
    pane = panes.add("a")
    screens.changed("a")
    await watcher.until(lambda: len(watcher.pictures) == 2)
    pane.write(b"hi")
    await watcher.until(lambda: watcher.at() == 2)


async def test_another_process_in_the_same_pane_is_shown_anew(screens: Screens, pane: FakePane) -> None:
    """tmux clears the screen for it without a word in the output. A change that is none shows nothing."""
    pane.written = b"old"
    watchers = await joined(screens, 2)
    screens.changed("a")
    pane.pid += 1
    screens.changed("a")
    for watcher in watchers:
        await watcher.until(lambda: len(watcher.pictures) == 2)  # noqa: B023
    taken = pane.pictures
    screens.changed("a")
    await asyncio.sleep(0.01)
    assert pane.pictures == taken


async def test_a_new_size_is_shown_to_all(screens: Screens, pane: FakePane) -> None:
    """What was written for the old one, and not taken, is left out."""
    fast, slow = await joined(screens, 2)
    slow.room = False
    pane.write(b"wide")
    await fast.until(lambda: fast.at() == 4)
    await screens.resize("a", 100, 30)
    await fast.until(lambda: len(fast.pictures) == 2)
    assert (fast.pictures[1].cols, fast.pictures[1].rows) == (100, 30)
    slow.room = True
    slow.take()
    await slow.until(lambda: len(slow.pictures) == 2)
    assert slow.pictures[1].screen == "<4>"
    pane.write(b"x")
    await slow.until(lambda: slow.at() == 5)


async def test_a_size_asked_for_before_there_is_a_pane_is_given_to_it(
    screens: Screens, panes: FakePanes
) -> None:
    """The latest one."""
    watcher = Watcher()
    await watcher.join(screens)
    await screens.resize("a", 90, 20)
    await screens.resize("a", 100, 30)
    assert (await Watcher().join(screens)).cols == 100
    panes.add("a")
    screens.changed("a")
    await watcher.until(lambda: len(watcher.pictures) == 2)
    assert (watcher.pictures[1].cols, watcher.pictures[1].rows) == (100, 30)


async def test_what_is_typed_reaches_the_pane(screens: Screens, pane: FakePane) -> None:
    """In order, as it is; where nothing runs that could read it, that is said."""
    await joined(screens)
    for piece in (b"\x1b[A", b"\xff\x00", b"x"):
        await screens.type("a", piece)
    assert pane.typed == b"\x1b[A\xff\x00x"
    pane.dead = True
    with pytest.raises(SessionStopped):
        await screens.type("a", b"y")


async def test_nothing_can_be_done_with_a_screen_that_is_not_there(
    screens: Screens, panes: FakePanes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No pane; nobody watches; tmux says no."""
    await Watcher().join(screens)
    with pytest.raises(SessionStopped):
        await screens.type("a", b"x")
    with pytest.raises(SessionNotFound):
        await screens.type("b", b"x")
    with pytest.raises(SessionNotFound):
        await screens.resize("b", 80, 24)

    async def no(*_: object) -> bool:
        raise TmuxError("no")

    panes.add("b")
    await Watcher().join(screens, "b")
    monkeypatch.setattr(FakeLine, "type", no)
    monkeypatch.setattr(FakeLine, "resize", no)
    with pytest.raises(InternalError):
        await screens.type("b", b"x")
    with pytest.raises(InternalError):
        await screens.resize("b", 80, 24)


@pytest.mark.parametrize("how", ["told", "closed"])
async def test_a_pane_that_goes_while_it_is_typed_at_has_stopped(
    screens: Screens, panes: FakePanes, pane: FakePane, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """tmux does not answer then; a size that was asked for is given to the next one."""
    watcher = Watcher()
    await watcher.join(screens)

    async def lost(line: FakeLine, *_: object) -> bool:
        monkeypatch.undo()
        del panes.panes["a"]
        pane.end()
        if how == "closed":
            await pane.left.wait()
        raise TmuxError("The connection to tmux ended.")

    monkeypatch.setattr(FakeLine, "type", lost)
    with pytest.raises(SessionStopped):
        await screens.type("a", b"x")
    pane = panes.add("a")
    screens.changed("a")
    await watcher.until(lambda: len(watcher.pictures) == 2)
    monkeypatch.setattr(FakeLine, "resize", lost)
    await screens.resize("a", 100, 30)
    panes.add("a")
    screens.changed("a")
    await watcher.until(lambda: watcher.pictures[-1].cols == 100)


async def test_a_deleted_sessions_viewers_end(screens: Screens, panes: FakePanes, pane: FakePane) -> None:
    """A namesake that comes at once has a screen of its own."""
    (watcher,) = await joined(screens)
    screens.drop("a")
    screens.drop("a")
    viewer = watcher.viewer
    assert viewer is not None
    await watcher.until(lambda: viewer.ended)
    del panes.panes["a"]
    other = panes.add("a")
    other.write(b"another")
    (second,) = await joined(screens)
    assert second.pictures[0].screen == "<7>"
    pane.write(b"late")
    await asyncio.sleep(0.01)
    assert second.since == b""


async def test_a_join_of_a_session_that_is_deleted_meanwhile_is_refused(
    screens: Screens, pane: FakePane
) -> None:
    """It would wait for a picture that nobody makes."""
    pane.gate.clear()
    joining = asyncio.ensure_future(Watcher().join(screens))
    await pane.asked.wait()
    screens.drop("a")
    with pytest.raises(SessionNotFound):
        await joining
    pane.gate.set()


async def test_a_join_that_is_given_up_leaves_nothing(screens: Screens, pane: FakePane) -> None:
    """The line ends with the last viewer, also with one that never was."""
    pane.gate.clear()
    joining = asyncio.ensure_future(Watcher().join(screens))
    await pane.asked.wait()
    joining.cancel()
    with pytest.raises(asyncio.CancelledError):
        await joining
    pane.gate.set()
    await asyncio.wait_for(pane.left.wait(), 60)
    await asyncio.sleep(0)
    assert not screens._feeds


async def test_a_viewer_that_has_left_is_given_nothing(screens: Screens, pane: FakePane) -> None:
    """Also one that was told just before."""
    stays, leaves = await joined(screens, 2)
    viewer = leaves.viewer
    assert viewer is not None
    leaves.room = False
    pane.write(b"x")
    viewer.close()
    assert viewer.take(100) == (None, b"")
    pane.write(b"y")
    await stays.until(lambda: stays.at() == 2)
    assert viewer.take(100) == (None, b"")


async def test_one_viewers_trouble_is_not_anothers(screens: Screens, pane: FakePane) -> None:
    """What goes wrong where one is told is the loop's to report."""
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))

    def broken() -> None:
        raise RuntimeError("a bug")

    viewer, _ = await screens.join("a", broken)
    viewer.take(1)
    (watcher,) = await joined(screens)
    pane.write(b"x")
    await watcher.until(lambda: watcher.at() == 1)
    assert len(reported) == 1


async def test_the_rest_of_a_sequence_follows_its_beginning(screens: Screens, pane: FakePane) -> None:
    """tmux has taken in the beginning, and its picture does not show that."""
    pane.pending = b"\x1b[3"
    (watcher,) = await joined(screens)
    pane.pending = b""
    pane.write(b"1mred")
    await watcher.until(lambda: len(watcher.since) == 8)
    assert watcher.since == b"\x1b[31mred"


async def test_the_rest_of_a_character_follows_its_beginning(screens: Screens, pane: FakePane) -> None:
    """Which this side has seen, if it watched by then."""
    (first,) = await joined(screens)
    pane.write("ab界".encode()[:4])
    (watcher,) = await joined(screens)
    pane.write("界".encode()[2:] + b"c")
    await watcher.until(lambda: len(watcher.since) == 4)
    assert watcher.since == "界c".encode()
    assert first.since == "ab界c".encode()


async def test_a_picture_in_the_middle_of_a_character_nobody_saw_begin_is_taken_again(
    screens: Screens, pane: FakePane
) -> None:
    """Where the process wrote the beginning before anybody watched."""
    pane.written = b"\xe7"
    (watcher,) = await joined(screens)
    pane.write(b"\x95")
    await asyncio.sleep(0.01)
    pane.write(b"\x8cabc")
    await watcher.until(lambda: watcher.at() == len(pane.written))
    assert watcher.since in (b"abc", b"")
    assert 2 <= len(watcher.pictures) <= 3
    pane.write(b"\x95\x95")  # no character at all: that is the process's own doing
    await watcher.until(lambda: watcher.at() == len(pane.written))
    assert len(watcher.pictures) <= 3


async def test_a_line_that_fails_is_made_again(
    screens: Screens, pane: FakePane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a word from tmux, also where nobody writes anything."""
    monkeypatch.setattr(bridge.screens, "LIVES_S", 0.01)
    (watcher,) = await joined(screens)
    asked = 0

    async def gone(self: FakeLine) -> int:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise TmuxError("gone")
        return 100

    monkeypatch.setattr(FakeLine, "process", gone)
    await watcher.until(lambda: len(watcher.pictures) == 2)
    assert pane.opened == 2


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(1, 200)),
        st.tuples(st.just("room"), st.integers(0, 2)),
        st.tuples(st.just("full"), st.integers(0, 2)),
        st.tuples(st.just("take"), st.integers(0, 2)),
        st.tuples(st.just("resize"), st.integers(20, 30)),
        st.tuples(st.just("hold"), st.just(0)),
        st.tuples(st.just("let go"), st.just(0)),
        st.tuples(st.just("tick"), st.integers(1, 3)),
    ),
    max_size=60,
)


@given(steps=STEPS)
@settings(deadline=None, max_examples=150)
async def test_whatever_happens_a_viewer_has_seen_every_byte_after_its_picture(
    steps: list[tuple[str, int]],
) -> None:
    """Slow ones, resizes, pictures that take their time: in the end all are where the pane is."""
    panes = FakePanes()
    pane = panes.add("a")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bridge.screens, "BACKLOG_BYTES", 500)
        async with running_screens(panes) as screens:
            watchers = await joined(screens, 3)
            for number, (what, value) in enumerate(steps):
                match what:
                    case "write":
                        pane.write(bytes([32 + number % 90]) * value)
                    case "room" | "full":
                        watchers[value].room = what == "room"
                    case "take":
                        watchers[value].take(100)
                    case "resize":
                        pane.resize(value, 24)
                    case "hold":
                        pane.gate.clear()
                    case "let go":
                        pane.gate.set()
                    case _:
                        for _ in range(value):
                            await asyncio.sleep(0)
            pane.gate.set()
            for watcher in watchers:
                watcher.room = True
                watcher.take()
            for watcher in watchers:
                await watcher.until(
                    lambda: watcher.at() == len(pane.written) and watcher.pictures[-1].cols == pane.cols  # noqa: B023
                )
                assert watcher.right(pane)
