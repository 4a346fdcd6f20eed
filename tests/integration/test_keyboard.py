"""What the real TUI makes of what is typed into it: what is accepted arrives as it is, the rest would not.

`tests/contract/test_awkward_prompts.py` has the same matrix through the bridge; what is in the soak shows
when another CLI has other rules.
"""

from __future__ import annotations

import asyncio
import random
import unicodedata
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

import pytest

from bridge.errors import PromptRejected
from bridge.sessions.backends.editor import Editor
from bridge.sessions.backends.hooks import HookServer
from bridge.sessions.claude.keyboard import as_acknowledged, as_command, as_typed
from tests.contract.awkward import CASES, COMMAND, EXIT, LARGE, PASTED, SCOTLAND, Case, Refused
from tests.fakes.bridge import prompts_of, sim
from tests.fakes.simulator import RunningSimulator
from tests.fakes.tui import Recorder, Tui, until

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

SETTLE_S = 0.1
"""Between the editor's end and Enter, as the backend waits: the TUI never says that it has read the file."""


class Typist:
    """One TUI, typed into as the bridge does."""

    def __init__(self, tui: Tui, editor: Editor, recorder: Recorder, simulator: RunningSimulator) -> None:
        self.tui = tui
        self.editor = editor
        self._recorder = recorder
        self._simulator = simulator

    async def place(self, text: str, over: str = "") -> None:
        box = await self.editor.put(text, [over])
        assert box is not None, f"no editor opened:\n{self.tui.screen()}"
        assert box.placed, f"this stands in the box: {box.found[:200]!r}"

    async def enter(self, text: str) -> None:
        self._recorder.hooks.clear()
        self._simulator.forget()
        await self.place(text)
        await asyncio.sleep(SETTLE_S + len(text) / 2e6)
        self.tui.key("Enter")

    async def over(self) -> str:
        """Once the turn is: what the hook said at its beginning."""
        await self.until_hook("Stop")
        await self.idle()
        (event,) = self._recorder.named("UserPromptSubmit")
        return str(event["prompt"])

    async def until_hook(self, name: str) -> None:
        await until(lambda: bool(self._recorder.named(name)), self.tui.screen)

    async def idle(self) -> None:
        await until(lambda: self.tui.status == "idle", self.tui.screen)

    async def told(self, text: str) -> tuple[str, list[str]]:
        """What the hook said of it, and the texts that Claude was told."""
        await self.enter(text)
        said = await self.over()
        return said, prompts_of(self._simulator.requests()[-1])

    async def made_of(self, text: str) -> str:
        """What the hook said, or what was kept back in the box."""
        await self.enter(text)
        kept = None
        while not self._recorder.named("UserPromptSubmit"):
            kept = await self.editor.look()
            if kept and kept != text and not self._recorder.named("UserPromptSubmit"):
                await self.place("", kept)
                return kept
        return await self.over()

    async def interrupted(self, text: str) -> str | None:
        """What stands in the box when it was, before the first word of the answer."""
        await self.enter(text)
        await until(lambda: bool(self._simulator.requests()), self.tui.screen)
        self.tui.key("Escape")
        await self.idle()
        return await self.editor.look()

    async def shown(self, text: str) -> None:
        await until(lambda: text in self.tui.screen(), self.tui.screen)

    def hooks(self) -> set[str]:
        return {str(event["hook_event_name"]) for event in self._recorder.hooks}


@pytest.fixture
async def typist(tmp_path: Path, claude_path: Path, simulator: RunningSimulator) -> AsyncIterator[Typist]:
    state = tmp_path / "state"
    state.mkdir()
    server, recorder = HookServer(state), Recorder()
    server.bind()
    tui = Tui(tmp_path / "tui", claude_path, simulator.base_url, server.url, state / "hooks.json")
    server.attach(tui.secret, recorder)
    commands = tui.cwd / ".claude" / "commands"
    commands.mkdir(parents=True)
    (commands / "tell.md").write_text("TELL [$ARGUMENTS]")

    async def press(*keys: str) -> None:
        tui.key(*keys)

    editor = Editor(tmp_path / "tui" / "session" / "editor", press)
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(server.serve())
        try:
            await tui.start()
            yield Typist(tui, editor, recorder, simulator)
        finally:
            tui.close()
            serving.cancel()


def accepted(cases: Iterable[Case]) -> list[Case]:
    return [case for case in cases if not isinstance(case.expected, Refused)]


@pytest.mark.soak
async def test_an_accepted_prompt_arrives_as_it_is(typist: Typist) -> None:
    """At the hook, which acknowledges it, and at the API; but for blanks at its end."""
    wrong = {}
    for case in accepted(CASES):
        typed = as_typed(case.prompt)
        said, told = await typist.told(typed)
        if not (said == as_acknowledged(typed) == case.expected and said in told):
            wrong[case.name] = said
    assert wrong == {}


@pytest.mark.soak
async def test_an_accepted_prompt_arrives_as_it_is_when_it_is_folded(typist: Typist) -> None:
    """Whatever stands where the TUI folds it."""
    for case in accepted(LARGE):
        typed = as_typed(case.prompt)
        said, told = await typist.told(typed)
        assert said == as_acknowledged(typed) == case.expected, case.name
        assert said in told, case.name


@pytest.mark.soak
async def test_a_refused_prompt_would_not_arrive(typist: Typist) -> None:
    """Each is altered, or kept back to be looked at; commands, and what needs a person's paste, aside."""
    refused = [
        c for c in CASES + LARGE if c.expected not in (COMMAND, EXIT, PASTED) and c not in accepted([c])
    ]
    arrived = [case.name for case in refused if await typist.made_of(case.prompt + " ") == case.prompt]
    assert arrived == []


@pytest.mark.parametrize(
    "prompt",
    ["/exit", *(pytest.param(c.prompt, marks=pytest.mark.soak) for c in CASES if c.expected == EXIT)],
)
async def test_a_word_that_is_refused_would_end_claude(typist: Typist, prompt: str) -> None:
    """Else there were no need to refuse it."""
    await typist.enter(prompt + " ")
    await typist.until_hook("SessionEnd")


async def test_what_a_person_pasted_would_be_put_in_place_of_its_name(typist: Typist) -> None:
    """It stands ready though they took it out of the box again."""
    typist.tui.key("\x1b[200~" + "secret\r" * 8 + "\x1b[201~")
    await typist.shown("[Pasted text #1 +8 lines]")
    typist.tui.key("C-u")
    await until(lambda: "[Pasted" not in typist.tui.screen(), typist.tui.screen)
    prompt = "see [Pasted text #1 +8 lines]"
    with pytest.raises(PromptRejected, match="stand for what was pasted"):
        as_typed(prompt)
    assert "secret" in await typist.made_of(prompt)


async def test_a_command_runs_as_it_is(typist: Typist) -> None:
    """With its arguments; nothing completes it."""
    said, told = await typist.told(as_command("/tell a b \\"))
    assert (said, told[-1]) == ("/tell a b \\", "TELL [a b \\]")


async def test_claude_is_told_nothing_of_our_hooks(typist: Typist) -> None:
    """Those of a compaction would stand in the conversation, with their address."""
    await typist.told(as_typed("hello"))
    await typist.enter(as_command("/compact"))
    await typist.shown("Compacted")
    await typist.idle()
    _, told = await typist.told(as_typed("and now?"))
    assert any("Compacted" in text for text in told)
    assert not any("/hook" in text for text in told)


@pytest.mark.parametrize(
    "command", ["/q", *(pytest.param(c, marks=pytest.mark.soak) for c in ("/tel", "/comp"))]
)
async def test_the_beginning_of_a_command_runs_nothing(typist: Typist, command: str) -> None:
    """The first that the TUI's list has would end Claude."""
    await typist.enter(as_command(command))
    await typist.shown(f"Unknown command: {command}")
    assert not typist.hooks() & {"UserPromptSubmit", "SessionEnd"}
    assert (await typist.told(as_typed("still there?")))[0] == "still there?"


@pytest.mark.parametrize(
    "prompt",
    ["a  ", "a\r\nb", "a" * 12_000 + "😀" + "b" * 498, "a" * 12_000 + "😀" + "b" * 499, "😀" * 12_000],
    ids=["blanks", "line_end", "folded", "folded_at_a_pair", "folded_among_pairs"],
)
async def test_an_interrupted_prompt_is_known_again(typist: Typist, prompt: str) -> None:
    """It stands in the box again, without what it was framed in."""
    typed = as_typed(sim(first_ms=60_000) + prompt)
    assert await typist.interrupted(typed) == as_acknowledged(typed)


# --- characters, many at a time -----------------------------------------------------------------------------

ZWNJ, ZWJ, VS15, VS16 = "\u200c", "\u200d", "\ufe0e", "\ufe0f"


def _alone() -> Iterator[str]:
    return (f"a{chr(c)}b" for c in (*range(0x20, 0xD800), *range(0xE000, 0x33400), *range(0xE0000, 0xE2000)))


def _joined() -> Iterator[str]:
    for c in map(chr, range(0x300, 0x20000)):
        kind = unicodedata.category(c)
        if kind == "Lo":
            yield from (f"{c}{ZWNJ}x", f"{c}{ZWJ}x", f"{c}\u180bx")
        elif kind[0] == "M":
            yield from (f"ب{c}{ZWNJ}x", f"क{c}{ZWJ}x")


def _pictures() -> Iterator[str]:
    for c in map(chr, (*range(0xA0, 0x3400), *range(0x1F000, 0x20000))):
        yield from (f"{c}{VS16}x", f"{c}{VS15}x", f"{c}{ZWJ}👩", f"{c}🏽{VS16}{ZWJ}👩", f"👩{ZWJ}{c}")


def _directed() -> Iterator[str]:
    for c in map(chr, (*range(0x20, 0x700), *range(0x2000, 0x2100), *range(0xFB1D, 0xFE00))):
        yield from (f"ש{c}\u200f", f"\u200e{c}ש", f"ب {c}\u061c", f"{c}\u200f", f"{c}. \u200f(x)")


SIGNS = [*"aB1 .,(-<_#\t", *"שבלक漢한ᠠ\u0661\u0640\xa0", "\u05b0", "\u0650", "\u094d", "\u0301", "\u20e3"]
SIGNS += [ZWNJ, ZWJ, VS15, VS16, "\u200e", "\u200f", "\u061c", "\u180b", *"👩❤🏽🏴🇩🇪", f"👩{ZWJ}💻", SCOTLAND]


def _mixed() -> Iterator[str]:
    dice = random.Random(2130)
    return ("".join(dice.choices(SIGNS, k=dice.randint(2, 7))) for _ in range(40_000))


@pytest.mark.soak
@pytest.mark.parametrize(
    "lines", [_alone, _joined, _pictures, _directed, _mixed], ids=lambda f: f.__name__[1:]
)
async def test_every_character_that_is_accepted_arrives(
    typist: Typist, lines: Callable[[], Iterator[str]]
) -> None:
    """Among Latin letters, where it needs others beside it, and anywhere."""
    for some in _accepted_lines(lines()):
        prompt = "\n".join(["x" * 600, *some, "y" * 600])
        said = await typist.made_of(as_typed(prompt))
        assert [pair for pair in zip(some, said.split("\n")[1:], strict=False) if pair[0] != pair[1]] == []
        assert said == prompt


def _accepted_lines(candidates: Iterator[str]) -> Iterator[list[str]]:
    """As many at once as a prompt can well hold."""
    while some := list(islice(candidates, 20_000)):
        yield [line for line in some if _is_accepted(f"x\n{line}\nx")]


def _is_accepted(prompt: str) -> bool:
    try:
        as_typed(prompt)
    except PromptRejected:
        return False
    return True
