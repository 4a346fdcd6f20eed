"""Prompts that a terminal could take for something else, or alter, and what Claude has to be told of each.

`expected` is the exact text at the API, or how the refusal begins that the backend 'tmux' gives instead. All
of it was found out on the real TUI: it reads commands, exits on some words, completes others, drops what
cannot be seen, and folds what is long. The backend 'headless' takes each of them as it stands.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Refused:
    """`what` begins so, and `why` has this in it."""

    what: str
    why: str


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    prompt: str
    expected: str | Refused


COMMAND = Refused("A prompt that begins with '/", "submit {command}")
EXIT = Refused("The prompt '", "would end Claude")
LEFT_OUT = Refused("U+", "would leave it out")
LINE_FEED = Refused("U+", "would make it a line feed")
PASTED = Refused("The text '[", "stand for what was pasted")
PASTE_TAG = Refused("A tag <pasted_content>", "stand for what was pasted")
FOLD = Refused("So long a text, with what stands 500 characters from its beginning", "begin it with")

_TAGS = "".join(chr(0xE0000 + ord(c)) for c in "gbsct") + "\U000e007f"
SCOTLAND = f"🏴{_TAGS}"
FAMILY = "👩\u200d👩\u200d👧\u200d👦"

_CODE = "".join(f"def f{n}(a, b):\n\tif a:\n\t\treturn b  # «{n}» \\\n\n" for n in range(2400))
_LINES = "\n".join(f"{n}\tline" for n in range(50_000))


def _same(**prompts: str) -> list[Case]:
    return [Case(name, prompt, prompt) for name, prompt in prompts.items()]


def _trimmed(**prompts: str) -> list[Case]:
    blanks = " \t\r\n\xa0\u3000\u2028"
    return [Case(name, prompt, prompt.rstrip(blanks)) for name, prompt in prompts.items()]


def _refused(refusal: Refused, **prompts: str) -> list[Case]:
    return [Case(name, prompt, refusal) for name, prompt in prompts.items()]


CASES = [
    # Commands
    *_refused(
        COMMAND,
        slash_command="/cost",
        slash_command_with_text="/cost of this",
        slash_after_blanks="  /cost",
        slash_after_line_feed="\n/cost",
        slash_after_tab="\t/cost",
        slash_after_no_break_space="\xa0/cost",
        slash_alone="/",
        slash_and_blank="/ x",
        slash_before_line_feed="/cost\nfoo",
        slash_unknown="/nosuch",
        slash_beginning_of_a_name="/comp",
        slash_other_letters="/漢字",
        slash_with_dot="/a.b",
        slash_of_a_server="/mcp__server__a/b",
        slash_exit="/exit",
        slash_of_a_folder="/etc",
    ),
    *_same(
        path="/etc/passwd is a file",
        path_of_a_folder="/etc/",
        line_comment="// comment",
        block_comment="/* comment */",
        slash_within="say /cost",
        slash_in_second_line="x\n/cost",
        path_to_an_image="look at /tmp/x.png",
        path_of_an_image_alone="/tmp/x.png",
        path_quoted="'/tmp/a b.png'",
        path_escaped="/tmp/a\\ b.png",
        file_url="file:///tmp/x.png",
    ),
    # Words that end the CLI
    *_refused(
        EXIT,
        exit="exit",
        quit="quit",
        vi_quit=":q",
        vi_write_quit=":wq",
        vi_quit_hard=":q!",
        vi_write_quit_hard=":wq!",
        exit_between_blanks=" exit \n",
        exit_after_no_break_space="\xa0exit",
    ),
    *_same(
        exit_in_capitals="EXIT",
        exit_now="exit now",
        exit_with_dot="exit.",
        q="q",
        bye="bye",
        logout="logout",
        vi_x=":x",
    ),
    # Signs with a meaning at the beginning or the end
    *_same(
        bang="!ls",
        bang_alone="!",
        bang_twice="!!",
        hash="#note",
        hash_alone="#",
        at="@",
        at_file="see @file",
        at_and_more="@nosuch what is it",
        ampersand="& do it",
        question_mark="?",
        quote="> quoted",
        digit="1",
        digit_of_a_menu="1. Yes",
        emoji_name=":qa",
        emoji_name_complete="well :smile:",
        shell="$(id) `id` ${HOME} $HOME",
        keyword="ultrathink about it",
        option="--help",
        json='{"type":"x"}\n{',
    ),
    *_same(
        backslash="a \\",
        backslash_twice="a\\\\",
        backslash_three_times="a\\\\\\",
        backslash_alone="\\",
        backslash_within="a\\\nb\\\n\\c",
    ),
    *_trimmed(backslash_before_line_feed="a\\\n", backslash_before_blank="a\\ "),
    # White space
    *_same(
        blanks_before="  a",
        line_feeds_before="\n\na",
        tab_before="\ta",
        tabs_within="a\tb\t\tc",
        line_feeds_within="a\n\n\nb",
        line_ends_of_windows="a\r\nb\r\n\r\nc",
        other_blanks="a\xa0b\u3000c\u2003d\u202fe",
    ),
    *_trimmed(
        blanks_behind="a  ",
        tab_behind="a\t",
        line_feeds_behind="a\n\n",
        line_end_of_windows_behind="a\r\n",
        other_blanks_behind="a\xa0\u3000\u2028",
    ),
    *_refused(
        LINE_FEED,
        carriage_return="a\rb",
        vertical_tab="a\vb",
        form_feed="a\fb",
        next_line="a\x85b",
        line_separator="a\u2028b",
        paragraph_separator="a\u2029b",
    ),
    # What cannot be seen
    *_refused(
        LEFT_OUT,
        nul="a\0b",
        bell="a\x07b",
        backspace="a\bb",
        escape="\x1b[31mred\x1b[0m",
        end_of_paste="a\x1b[201~b\rc",
        delete="a\x7fb",
        c1_introducer="a\x9b31mb",
        right_to_left_override="a \u202egnp.exe",
        isolate="\u2067שלום\u2069",
        left_to_right_mark_among_latin="a\u200eb",
        direction_mark_within_a_number="שלום 1\u200f2",
        arabic_mark_beside_hebrew="שלום\u061c 5",
        zero_width_space="a\u200bb",
        word_joiner="a\u2060b",
        byte_order_mark="\ufeffa",
        soft_hyphen="a\u00adb",
        joiner_among_latin="a\u200db",
        joiner_at_the_end="👩\u200d",
        variation_selector_of_a_letter="a\ufe0fb",
        ideographic_variation="葛\U000e0100",
        tags_of_no_flag="a\U000e0061b",
        hangul_filler="a\u3164b",
        annotation="a\ufff9b",
    ),
    *_same(
        emoji="👍🏽 🇩🇪 1️⃣ ❤️ ❤︎ ©️",
        emoji_family=FAMILY,
        emoji_with_hair_and_skin="👨🏽\u200d💻 👩\u200d❤️\u200d💋\u200d👨 🏳️\u200d⚧️",
        flag_of_scotland=SCOTLAND,
        han="漢字かな混じり文",
        hangul="한국어 \u1112\u1161\u11ab",
        right_to_left="שלום עולם مرحبا",
        direction_marks_beside_hebrew="שלום \u200e(abc)\u200e",
        direction_mark_beside_arabic="مرحبا\u061c 5",
        non_joiner_in_persian="می\u200cخواهم",
        joiners_in_devanagari="क्\u200dष र्\u200d",
        joiner_in_malayalam="അവര്\u200d പറഞ്ഞു",
        composed_and_decomposed="é e\u0301 Å \u212b 豈",
        many_marks="h̷̡̢e̸l̵l̶o",
        no_characters="\uffff \ufdd0 \U0001ffff",
        private_use="\ue000 \U000f0000",
    ),
    # What the terminal writes itself
    *_refused(
        PASTED,
        pasted_text="see [Pasted text #1]",
        pasted_lines="see [Pasted text #1 +10 lines] there",
        image="[Image #1] what is it",
        truncated_text="[...Truncated text #1 +2 lines...]",
    ),
    *_refused(
        PASTE_TAG,
        pasted_content='<pasted_content id="1509">\nx\n</pasted_content id="1509">',
        pasted_content_begun="a <Pasted-Content",
        pasted_content_wide="＜pasted_content＞",
    ),
    *_same(
        system_reminder="<system-reminder>\nx\n</system-reminder>",
        command_name="<command-name>/cost</command-name>",
        bash_input="<bash-input>ls</bash-input>",
        interrupted="[Request interrupted by user]",
        pasted_content_spoken_of="the tag pasted_content, &lt;pasted_content&gt;",
    ),
]
"""Short ones, which may follow one another in one conversation."""

_BEYOND = "b" * 12_000

LARGE = [
    *_same(
        code_of_100_kb=_CODE.rstrip(),
        lines_50_000=_LINES,
        one_line_of_200_kb="0123456789" * 20_000,
        han_of_300_kb="漢" * 100_000,
        emoji_at_every_fold="a"
        + "\n".join([FAMILY, "❤️", SCOTLAND, "می\u200cخواهم"] * 800)
        + "\n"
        + "x" * 600,
        pair_before_the_fold="a" * 498 + "😀" + _BEYOND,
        pair_on_the_fold="a" * 499 + "😀" + _BEYOND,
        joiner_on_the_fold="a" * 498 + "👩\u200d💻" + _BEYOND,
        family_on_the_fold="a" * 495 + FAMILY + _BEYOND,
        selector_on_the_fold="a" * 499 + "❤️" + _BEYOND,
        direction_mark_on_the_fold="a" * 498 + "ש \u200f." + _BEYOND,
        pairs_everywhere="😀 " * 20_000 + "x",
        pair_at_the_end="a" * 12_000 + "😀" + "b" * 498,
        pairs_to_the_end="a" * 12_000 + "😀" * 600,
        line_end_at_the_end="a" * 12_000 + "\r\n" + "b" * 498,
        pair_in_what_is_not_folded="a" * 499 + "😀" + "b" * 9_498,
    ),
    *_refused(
        FOLD,
        line_end_on_the_fold="a" * 499 + "\r\n" + _BEYOND,
        pair_on_the_fold_of_windows="a\r\n" + "a" * 496 + "😀" + _BEYOND,
        pair_on_the_fold_after_blanks="  " + "a" * 497 + "😀" + _BEYOND,
    ),
]
"""Those that the TUI folds, or nearly."""

SURROGATE = "a\ud800b"
"""One half of a character: no JSON in UTF-8 can hold it, so that no client can send it."""
