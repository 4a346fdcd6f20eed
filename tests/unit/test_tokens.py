"""Tokens as values, and their lines in the configuration file."""

from __future__ import annotations

import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bridge.config import load
from bridge.errors import SetupError
from bridge.tokens import TOKEN_CHARS, digest, lines_of, new_token, with_token, without_token

FILE = Path("config.toml")
HASH = digest("x" * 32)


def lines(name: str, token: str = "x" * 32) -> str:
    return lines_of(name, digest(token), ["watch", "prompt"], ["team-*"], None)


def names(text: str) -> list[str]:
    return [t["name"] for t in tomllib.loads(text)["auth"].get("tokens", [])]


def test_tokens_cannot_be_guessed_and_go_through_a_sub_protocol() -> None:
    """Letters, digits, - and _: no browser sends a sub-protocol with anything else."""
    made = {new_token() for _ in range(100)}
    assert len(made) == 100
    assert all(
        len(token) >= TOKEN_CHARS and token.replace("-", "").replace("_", "").isalnum() for token in made
    )


def test_a_digest_names_its_scheme_and_not_the_token() -> None:
    """Whatever was given, lone surrogates included."""
    assert digest("abc") == "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert digest("\ud800").startswith("sha256:")


def test_what_is_written_is_what_the_bridge_reads(tmp_path: Path) -> None:
    """Also names with quotes in them, which it then refuses by itself."""
    ends = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    path = tmp_path / "config.toml"
    path.write_text(with_token("", lines_of("ada", HASH, ["watch"], ["a", "b-*"], ends), path))
    (token,) = load({}, path, {}).auth.tokens
    assert (token.name, token.hash, token.scopes) == ("ada", HASH, ["watch"])
    assert (token.sessions, token.expires_at) == (["a", "b-*"], ends)


BEFORE = """\
# ours
[server]
port = 4041   # a comment

[[auth.tokens]]
name = "ada"
hash = "sha256:1"
scopes = ["watch"]

  [[ auth . tokens ]]
name = "bob"
hash = "sha256:2"
scopes = ["watch"]

[sessions]
max_sessions = 3
"""


def test_a_token_is_added_and_taken_out_and_the_rest_stays(tmp_path: Path) -> None:
    """Comments, order and other tables as they were."""
    added = with_token(BEFORE, lines("eve"), FILE)
    assert names(added) == ["ada", "bob", "eve"]
    assert added.startswith(BEFORE.rstrip())
    without = without_token(added, "bob", FILE)
    assert names(without) == ["ada", "eve"]
    assert "# a comment" in without
    assert tomllib.loads(without)["sessions"] == {"max_sessions": 3}
    assert names(without_token(without_token(without, "ada", FILE), "eve", FILE) + "[auth]\n") == []


def test_all_tokens_of_a_name_go() -> None:
    """While one replaces the other there are two."""
    twice = with_token(with_token("", lines("ada", "a" * 32), FILE), lines("ada", "b" * 32), FILE)
    assert "ada" not in without_token(twice, "ada", FILE)


def test_a_name_that_is_not_there_is_told_with_those_that_are() -> None:
    """A revocation that revoked nothing must not look like one that did."""
    with pytest.raises(SetupError, match="ada, bob"):
        without_token(BEFORE, "eve", FILE)


@pytest.mark.parametrize(
    "text",
    [
        'auth = {tokens = [{name = "ada"}]}\n',
        '[auth]\ntokens = [{name = "ada"}]\n',
        '[[auth.tokens]]\nname = "ada"\nhash = """\n[[auth.tokens]]\n"""\n',
    ],
)
def test_what_cannot_be_cut_is_left_alone(text: str) -> None:
    """Tables may be written in other ways; a wrong cut would be worse than none."""
    with pytest.raises(SetupError, match="by hand"):
        without_token(text, "ada", FILE)


def test_a_file_that_is_broken_is_not_made_worse() -> None:
    """It is refused before anything is written."""
    with pytest.raises(SetupError, match="Correct it first"):
        with_token("= 3\n", lines("ada"), FILE)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('hash = "secret-in-plain-text"', "auth.tokens.0.hash"),
        (f'hash = "{HASH}"\nscopes = ["everything"]', "auth.tokens.0.scopes.0"),
        (f'hash = "{HASH}"\nscopes = []', "auth.tokens.0.scopes"),
        (f'hash = "{HASH}"\nsessions = ["a/b"]', "auth.tokens.0.sessions.0"),
        (f'hash = "{HASH}"\nexpires_at = 2030-01-01T00:00:00', "auth.tokens.0.expires_at"),
        (f'hash = "{HASH}"\ntoken = "secret-in-plain-text"', "auth.tokens.0.token"),
    ],
)
def test_a_token_that_does_not_fit_is_refused_by_its_place(tmp_path: Path, line: str, said: str) -> None:
    """And what stands there is not repeated: it may be the token itself."""
    scopes = "" if "scopes" in line else 'scopes = ["watch"]\n'
    path = tmp_path / "config.toml"
    path.write_text(f'[[auth.tokens]]\nname = "ada"\n{scopes}{line}\n')
    with pytest.raises(SetupError) as refused:
        load({}, path, {})
    assert said in refused.value.problem
    assert refused.value.remedy
    assert "secret-in-plain-text" not in str(refused.value)


def test_the_bridges_own_name_and_one_token_twice_are_refused(tmp_path: Path) -> None:
    """Two tokens may share a name, but not be the same."""
    path = tmp_path / "config.toml"
    path.write_text(lines("local"))
    with pytest.raises(SetupError, match="name"):
        load({}, path, {})
    path.write_text(lines("ada") + lines("bob"))
    with pytest.raises(SetupError, match="twice"):
        load({}, path, {})
    path.write_text(lines("ada", "a" * 32) + lines("ada", "b" * 32))
    assert len(load({}, path, {}).auth.tokens) == 2
