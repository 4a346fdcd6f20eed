"""Files of prompts: what may come, and what the journal keeps of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.auth import Principal
from bridge.commands import AttachedFile, SubmitPrompt
from bridge.errors import Forbidden, InvalidPayload, JournalError, NotFound
from bridge.events import SessionName, TurnId
from bridge.sessions.attachments import FileLimits, check, described
from bridge.sessions.backends.base import File
from bridge.sessions.effects import SendPrompt
from bridge.sessions.hands import Hands, Outcome
from bridge.sessions.journal import Journal
from bridge.sessions.records import (
    DeleteSession,
    PrunedTurn,
    PruneTurns,
    SaveFiles,
    SaveSession,
    SaveTurn,
    digest_of,
)
from bridge.sessions.starts import Starts
from tests.fakes.backend import FakeBackend
from tests.fakes.files import pdf, png
from tests.fakes.house import ME, House, call
from tests.fakes.journals import damage, reopened
from tests.fakes.records import DEMO, session, turn

JPEG, GIF, WEBP = b"\xff\xd8\xff\xe0..", b"GIF89a..", b"RIFF\0\0\0\0WEBPVP8 "


def file(media_type: str = "text/plain", data: bytes = b"x", name: str = "a") -> AttachedFile:
    return AttachedFile(name=name, media_type=media_type, data=data)


FILES = (file("image/png", png(), "a.png"), file(name="b.txt", data="größer".encode()))
T1 = TurnId("t1")

# --- what may come ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("media_type", "data"),
    [
        ("image/png", png()),
        ("image/jpeg", JPEG),
        ("image/gif", GIF),
        ("image/webp", WEBP),
        ("application/pdf", pdf()),
        ("application/pdf", b"\n" * 100 + pdf()),
        ("text/html", b"<p>"),
        ("application/json", b"not even JSON"),
    ],
)
def test_what_the_bytes_are_is_what_the_type_says(media_type: str, data: bytes) -> None:
    """Each kind by its own beginning; another's is refused, naming what it is."""
    check([file(media_type, data)], FileLimits())
    if not media_type.startswith(("text", "application/json")):
        with pytest.raises(InvalidPayload) as refused:
            check([file(media_type, JPEG if media_type == "image/png" else png())], FileLimits())
        assert refused.value.details["field"] == "attachments.0.media_type"


@pytest.mark.parametrize(
    ("files", "field"),
    [
        ([file()] * 3, "attachments"),
        ([file(), file("video/mp4")], "attachments.1.media_type"),
        ([file(data=b"")], "attachments.0.data"),
        ([file(data=b"x" * 11)], "attachments.0.data"),
        ([file(data=b"x" * 10), file(data=b"x" * 6)], "attachments"),
        ([file(data=b"\xff")], "attachments.0.data"),
        ([file(data=b"a\0")], "attachments.0.data"),
    ],
)
def test_what_is_too_much_or_no_text_is_refused(files: list[AttachedFile], field: str) -> None:
    """By the limits of the configuration."""
    limits = FileLimits(max_bytes=10, max_total_bytes=15, max_count=2)
    with pytest.raises(InvalidPayload) as refused:
        check(files, limits)
    assert refused.value.details["field"] == field


# --- what is kept -----------------------------------------------------------------------------------


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    async with reopened(tmp_path / "j.db") as opened:
        await opened.write([SaveSession(session())])
        yield opened


def with_files(number: int = 1, **changes: object) -> list[SaveTurn | SaveFiles]:
    record = turn(number, **changes)  # type: ignore[arg-type]
    record = replace(record, turn=replace(record.turn, attachments=described(FILES)))
    return [SaveTurn(DEMO, record), SaveFiles(DEMO, record.turn.id, FILES)]


async def test_files_are_kept_with_their_turn(journal: Journal) -> None:
    """Described with it, also after a restart; their bytes only where they are asked for. Twice is once."""
    await journal.write(with_files())
    await journal.write(with_files())
    (loaded,) = await journal.load()
    assert loaded.open_turns[0].turn.attachments == described(FILES)
    assert await journal.files(DEMO, T1) == tuple(File(f.name, f.media_type, f.data) for f in FILES)
    assert await journal.file(DEMO, T1, 1) == File("b.txt", "text/plain", "größer".encode())
    assert await journal.file(DEMO, T1, 2) is None
    assert await journal.files(DEMO, TurnId("none")) == ()
    assert await journal.files(SessionName("other"), T1) == ()


async def test_files_without_their_turn_are_refused_with_all_of_the_call(journal: Journal) -> None:
    """One transaction: neither is there without the other."""
    with pytest.raises(JournalError):
        await journal.write([SaveTurn(DEMO, turn(2)), SaveFiles(DEMO, T1, FILES)])
    assert await journal.turn(DEMO, TurnId("t2")) is None


@pytest.mark.parametrize("how", ["pruned", "deleted"])
async def test_files_go_with_their_turn(journal: Journal, tmp_path: Path, how: str) -> None:
    """None of their bytes stays behind."""
    await journal.write(with_files(phase="finished", key="k"))
    await journal.write([PruneTurns(DEMO, (T1,)) if how == "pruned" else DeleteSession(DEMO)])
    assert await journal.files(DEMO, T1) == ()
    if how == "pruned":
        pruned = await journal.by_key(DEMO, "k")
        assert isinstance(pruned, PrunedTurn)
        assert pruned.had("prompt 1", described(FILES))
        assert not pruned.had("prompt 1")
        assert not pruned.had("prompt 1", described(FILES[::-1]))


def test_a_digest_is_of_all_that_was_submitted() -> None:
    """Without files it is what it always was; no two differ in nothing but where one part ends."""
    assert digest_of("x", ()) == digest_of(b"x")
    digests = {
        digest_of("x", described(files))
        for files in ((), FILES, FILES[:1], FILES[::-1], (file(name="ab"),), (file(name="a"),))
    }
    assert len(digests) == 6


async def test_a_damaged_file_is_told_and_not_sent(journal: Journal, tmp_path: Path) -> None:
    """Claude would be shown something else."""
    await journal.write(with_files())
    damage(tmp_path / "j.db", "UPDATE attachments SET data = ? WHERE number = 1", b"other")
    with pytest.raises(JournalError):
        await journal.files(DEMO, T1)


# --- handing them over ------------------------------------------------------------------------------


async def sent(stored: list[File] | JournalError, *files: AttachedFile) -> tuple[Outcome, list[object]]:
    """What became of a prompt with these files, and what the backend was told."""
    backend = FakeBackend(lambda batch: None, answer_prompts=False)

    async def read(_: TurnId) -> list[File]:
        if isinstance(stored, JournalError):
            raise stored
        return stored

    hands = Hands(backend, Starts(1), read)
    done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(hands.run())
        hands.do(SendPrompt(T1, "hello", described(files)), done.set_result)
        outcome = await done
        task.cancel()
    return outcome, backend.told


async def test_files_are_read_when_it_is_their_turn() -> None:
    """And never for a prompt without any."""
    given = [File(f.name, f.media_type, f.data) for f in FILES]
    assert await sent(given, *FILES) == (None, [("prompt", T1, "hello")])
    assert await sent(JournalError("not to be asked")) == (None, [("prompt", T1, "hello")])


@pytest.mark.parametrize("stored", [JournalError("gone"), []])
async def test_without_its_files_a_prompt_is_not_sent(stored: list[File] | JournalError) -> None:
    """It would be another prompt."""
    outcome, told = await sent(stored, *FILES)
    assert isinstance(outcome, JournalError)
    assert told == []


# --- through the whole session ----------------------------------------------------------------------


async def test_who_may_watch_may_read_what_was_attached(tmp_path: Path) -> None:
    """And nobody else, nor beyond what there is. The same key with other files is another prompt."""
    house = House(tmp_path)
    async with house.open() as service:
        _, viewer = await house.join(service, "demo")
        command = SubmitPrompt(prompt="look", id="k", attachments=list(FILES))
        first = await call(service, "demo", command)
        await viewer.until("turn_finished", 1)
        assert isinstance(first, dict)
        for number, each in enumerate(FILES):
            found = await service.file(ME, "demo", first["turn"], number)
            assert found == (described(FILES)[number], each.data)
        for number in (2, None):
            with pytest.raises(NotFound):
                await service.file(ME, "demo", first["turn"], number)
        with pytest.raises(Forbidden):
            await service.file(Principal("other", frozenset({"prompt"})), "demo", first["turn"], 0)
        again = await call(service, "demo", command)
        assert isinstance(again, dict)
        assert (again["turn"], again["duplicate"]) == (first["turn"], True)
        others = command.model_copy(update={"attachments": list(FILES[::-1])})
        try:
            refused: object = await call(service, "demo", others)
        except InvalidPayload as e:
            refused = e
        assert isinstance(refused, InvalidPayload)
