"""How files are named on disk and mentioned in what is typed."""

from __future__ import annotations

import pytest

from bridge.sessions.claude.keyboard import as_acknowledged, as_typed
from bridge.sessions.claude.mentions import MENTIONED_BYTES, file_name, with_files, without_files

FOLDER = "/state/sessions/demo/files/3f"


@pytest.mark.parametrize(
    ("name", "media_type", "kept"),
    [
        ("cat.png", "image/png", "0-cat.png"),
        ("CAT.PNG", "image/png", "0-CAT.png"),
        ("cat.jpeg", "image/jpeg", "0-cat.jpeg"),
        ("cat.txt", "image/png", "0-cat.txt.png"),
        ("cat", "image/webp", "0-cat.webp"),
        ('a b\'s "c" $(d).pdf', "application/pdf", "0-a_b_s__c____d_.pdf"),
        ("größe.md", "text/markdown", "0-größe.md"),
        ("notes.png", "text/plain", "0-notes.png.txt"),
        (".bashrc", "text/plain", "0-.bashrc.txt"),
        ("x.exe", "text/plain", "0-x.exe.txt"),
        ("ä" * 127, "text/plain", f"0-{'ä' * 60}.txt"),
    ],
)
def test_a_name_says_what_the_file_is_and_nothing_else(name: str, media_type: str, kept: str) -> None:
    """The TUI goes by its ending, and a mention by its quotation marks."""
    assert file_name(0, name, media_type) == kept


def test_what_is_typed_mentions_every_file() -> None:
    """What the TUI would leave out Claude is asked to open."""
    files = [
        ("a.png", "image/png", 10),
        ("b.png", "image/png", MENTIONED_BYTES + 1),
        ("c.pdf", "application/pdf", 10),
    ]
    typed = with_files("what is this? \n", FOLDER, files)
    assert typed.split("\n") == [
        "what is this?",
        "",
        f'@"{FOLDER}/0-a.png"',
        f'Attached, to be opened with the Read tool: "{FOLDER}/1-b.png"',
        f'Attached, to be opened with the Read tool: "{FOLDER}/2-c.pdf"',
    ]


@pytest.mark.parametrize("prompt", ["", "hello", 'with @"/other/a.png" of its own', "two\n\nlines"])
@pytest.mark.parametrize("size", [1, MENTIONED_BYTES + 1])
def test_the_prompt_is_found_again_in_what_was_typed(prompt: str, size: int) -> None:
    """Where the journal is lost it is all there is."""
    typed = with_files(prompt, FOLDER, [("a.png", "image/png", size)])
    assert without_files(as_acknowledged(as_typed(typed)), FOLDER) == prompt
    assert without_files(prompt, FOLDER) == prompt
