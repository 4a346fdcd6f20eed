"""Settings: where they come from, which wins, and what is said about a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from bridge.config import Config, default_state_dir, is_loopback, load
from bridge.errors import SetupError


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"XDG_STATE_HOME": str(tmp_path)}


def toml(folder: Path, text: str, name: str = "bridge.toml") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    file.write_text(text)
    return file


def refusal(flags: dict[str, object], file: Path | None, environ: dict[str, str]) -> SetupError:
    with pytest.raises(SetupError) as caught:
        load(flags, file, environ)
    return caught.value


def test_without_any_source_the_defaults_hold(environ: dict[str, str], tmp_path: Path) -> None:
    """Nothing given: loopback, port 4040, the state folder below XDG_STATE_HOME."""
    config = load({}, None, environ)
    assert (config.server.host, config.server.port) == ("127.0.0.1", 4040)
    assert config.state_dir == tmp_path / "claude-bridge"


def test_the_environment_wins_over_the_file(environ: dict[str, str], tmp_path: Path) -> None:
    """A variable is nearer to the command than a file."""
    file = toml(tmp_path, "[server]\nport = 1\nhost = '127.0.0.2'\n")
    config = load({}, file, environ | {"CLAUDE_BRIDGE_PORT": "2"})
    assert (config.server.host, config.server.port) == ("127.0.0.2", 2)


def test_a_flag_wins_over_the_environment(environ: dict[str, str]) -> None:
    """A flag is what was typed just now."""
    assert load({"port": 3, "host": None}, None, environ | {"CLAUDE_BRIDGE_PORT": "2"}).server.port == 3


@pytest.mark.parametrize(
    ("variable", "value", "read"),
    [
        ("CLAUDE_BRIDGE_HOST", "127.0.0.9", lambda c: c.server.host == "127.0.0.9"),
        ("CLAUDE_BRIDGE_PORT", "0", lambda c: c.server.port == 0),
        ("CLAUDE_BRIDGE_STATE_DIR", "/var/tmp/x", lambda c: c.state_dir == Path("/var/tmp/x")),
        ("CLAUDE_BRIDGE_SIMULATE", "1", lambda c: c.simulate),
        ("CLAUDE_BRIDGE_INSECURE", "true", lambda c: c.server.insecure),
        ("CLAUDE_BRIDGE_TOKEN", "secret", lambda c: c.token == "secret"),
        ("CLAUDE_BRIDGE_SESSIONS__MAX_QUEUE", "7", lambda c: c.sessions.max_queue == 7),
        ("CLAUDE_BRIDGE_SERVER__ORIGINS", '["//a.example"]', lambda c: c.server.origins == ["//a.example"]),
        ("CLAUDE_BRIDGE_CLAUDE__ENV", '{"A": "b"}', lambda c: c.claude.env == {"A": "b"}),
        ("CLAUDE_BRIDGE_PORT", "", lambda c: c.server.port == 4040),
    ],
)
def test_a_variable_sets_what_it_is_named_after(
    environ: dict[str, str], variable: str, value: str, read: object
) -> None:
    """The flags by their short names, everything else by its nested one; an empty one counts as unset."""
    assert callable(read)
    assert read(load({}, None, environ | {variable: value}))


def test_the_variable_config_names_the_file(environ: dict[str, str], tmp_path: Path) -> None:
    """CLAUDE_BRIDGE_CONFIG stands for --config."""
    file = toml(tmp_path, "node = 'here'\n")
    assert load({}, None, environ | {"CLAUDE_BRIDGE_CONFIG": str(file)}).node == "here"


def test_the_variable_url_is_left_to_the_client(environ: dict[str, str]) -> None:
    """CLAUDE_BRIDGE_URL belongs to the client commands and is not refused here."""
    load({}, None, environ | {"CLAUDE_BRIDGE_URL": "http://127.0.0.1:1"})


def test_the_file_in_the_state_folder_is_read_unasked(environ: dict[str, str], tmp_path: Path) -> None:
    """Without --config, `config.toml` of the state folder counts."""
    toml(tmp_path / "claude-bridge", "[log]\nlevel = 'debug'\n", "config.toml")
    assert load({}, None, environ).log.level == "debug"


def test_the_file_of_another_state_folder_is_not_read(environ: dict[str, str], tmp_path: Path) -> None:
    """--simulate has a state folder and so a configuration of its own."""
    toml(tmp_path / "claude-bridge", "[log]\nlevel = 'debug'\n", "config.toml")
    assert load({"simulate": True}, None, environ).log.level == "info"


@pytest.mark.parametrize("key", ["state_dir = '/x'", "simulate = true"])
def test_the_file_in_the_state_folder_cannot_move_the_folder(
    environ: dict[str, str], tmp_path: Path, key: str
) -> None:
    """What decides where that file is looked for cannot stand in it: the clients would look elsewhere."""
    toml(tmp_path / "claude-bridge", key, "config.toml")
    assert "--" in refusal({}, None, environ).remedy


def test_simulating_has_a_state_folder_of_its_own(environ: dict[str, str], tmp_path: Path) -> None:
    """Said by flag, variable or named file, `simulate` moves the default state folder."""
    expected = tmp_path / "claude-bridge-simulated"
    file = toml(tmp_path, "simulate = true\n")
    assert load({"simulate": True}, None, environ).state_dir == expected
    assert load({}, None, environ | {"CLAUDE_BRIDGE_SIMULATE": "yes"}).state_dir == expected
    assert load({}, file, environ).state_dir == expected


def test_a_state_folder_is_made_absolute(environ: dict[str, str]) -> None:
    """Every part may rely on it, wherever the process moves."""
    assert load({"state_dir": Path("here")}, None, environ).state_dir == Path.cwd() / "here"


def test_an_unknown_key_of_the_file_is_refused_with_the_nearest(
    environ: dict[str, str], tmp_path: Path
) -> None:
    """File, key and suggestion are all named."""
    file = toml(tmp_path, "[server]\nprot = 1\n")
    error = refusal({}, file, environ)
    assert error.problem == f"{file}: nothing is called server.prot."
    assert error.remedy == "Did you mean server.port?"


def test_a_key_in_the_wrong_table_is_refused_with_its_place(environ: dict[str, str], tmp_path: Path) -> None:
    """`max_queue` at the top is told where it belongs."""
    error = refusal({}, toml(tmp_path, "max_queue = 3\n"), environ)
    assert error.remedy == "Did you mean sessions.max_queue?"


def test_an_unknown_variable_is_refused_with_the_nearest(environ: dict[str, str]) -> None:
    """A misspelt variable that does nothing would be the worst answer."""
    error = refusal({}, None, environ | {"CLAUDE_BRIDGE_SESSIONS__MAX_QUEU": "1"})
    assert "CLAUDE_BRIDGE_SESSIONS__MAX_QUEU" in error.problem
    assert error.remedy == "Did you mean CLAUDE_BRIDGE_SESSIONS__MAX_QUEUE?"


def test_a_value_of_the_wrong_type_is_refused_with_its_place(environ: dict[str, str], tmp_path: Path) -> None:
    """Whether file, variable or flag: the message says where it stands and what is wanted."""
    file = toml(tmp_path, "[server]\nport = 'many'\n")
    assert str(file) in refusal({}, file, environ).problem
    assert "CLAUDE_BRIDGE_PORT" in refusal({}, None, environ | {"CLAUDE_BRIDGE_PORT": "many"}).problem
    error = refusal({"port": 70000}, None, environ)
    assert error.problem == "--port does not fit (it says 70000)."
    assert "65535" in error.remedy


def test_a_list_in_a_variable_must_be_json(environ: dict[str, str]) -> None:
    """The message shows how one is written."""
    error = refusal({}, None, environ | {"CLAUDE_BRIDGE_SERVER__ORIGINS": "//a.example"})
    assert "JSON" in error.problem


def test_a_secret_that_does_not_fit_is_not_repeated(environ: dict[str, str], tmp_path: Path) -> None:
    """Messages end up in logs."""
    error = refusal({}, toml(tmp_path, "token = 12345\n"), environ)
    assert "12345" not in str(error)


HOOK = "[[webhooks]]\nurl = 'https://a.example/hook'\n"


def test_webhooks_are_tables_of_a_list(environ: dict[str, str], tmp_path: Path) -> None:
    """In the file `[[webhooks]]`, in a variable a JSON list."""
    file = toml(tmp_path, f"{HOOK}secret = 'hush'\n{HOOK}secret_file = '/s'\nevents = ['turn_finished']\n")
    first, second = load({}, file, environ).webhooks
    assert (first.secret, len(first.events), first.sessions) == ("hush", 3, ["*"])
    assert (second.secret_file, second.events) == (Path("/s"), ["turn_finished"])
    given = '[{"url": "http://127.0.0.1/x", "secret": "hush"}]'
    assert load({}, file, environ | {"CLAUDE_BRIDGE_WEBHOOKS": given}).webhooks[0].url == "http://127.0.0.1/x"
    assert "hush" not in repr(first)
    assert load({}, toml(tmp_path, ""), environ).webhooks == [], "nothing is told unless it was asked for"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("url = 'https://a.example'\nsecret = 'hush'\nevnts = []", "Did you mean webhooks.0.events?"),
        ("url = 'https://a.example'\nsecret_ = 'hush'", "webhooks.0.secret"),
        ("url = 'https://a.example'", "one of secret and secret_file"),
        ("url = 'https://a.example'\nsecret = 'hush'\nsecret_file = '/x'", "one of secret and secret_file"),
        ("url = 'a.example'\nsecret = 'hush'", "webhooks.0.url"),
        ("url = 'https://a.example'\nsecret = 'hush'\nevents = ['delta']", "webhooks.0.events.0"),
        ("url = 'https://a.example'\nsecret = 12345678", "webhooks.0.secret"),
    ],
)
def test_a_webhook_that_does_not_fit_is_refused_without_its_secret(
    environ: dict[str, str], tmp_path: Path, text: str, said: str
) -> None:
    """The place is named, and what is wanted there."""
    file = toml(tmp_path, f"[[webhooks]]\n{text}\n")
    error = str(refusal({}, file, environ))
    assert str(file) in error
    assert said in error
    assert "hush" not in error
    assert "12345678" not in error


def test_pools_are_tables_by_name(environ: dict[str, str], tmp_path: Path) -> None:
    """In the file as in the environment; what does not fit is refused with its place."""
    config = load({}, toml(tmp_path, "[pools.default]\nsize = 4\n[pools.more]\nmodel = 'opus'\n"), environ)
    assert (config.pools["default"].size, config.pools["more"].model) == (4, "opus")
    assert config.pools["more"].options().model == "opus"
    variable = {"CLAUDE_BRIDGE_POOLS": '{"default": {"size": 3}}'}
    assert load({}, None, environ | variable).pools["default"].size == 3
    unknown = refusal({}, toml(tmp_path, "[pools.default]\nsise = 4\n"), environ)
    assert "pools.default.sise" in str(unknown) or "pools: default.sise" in str(unknown)
    assert "pools.default.size" in unknown.remedy
    assert "'a b'" in str(refusal({}, toml(tmp_path, "[pools.'a b']\nsize = 4\n"), environ))
    assert "does not fit" in str(refusal({}, toml(tmp_path, "[pools.default]\nsize = 0\n"), environ))


def test_a_scalar_where_a_table_belongs_is_refused(environ: dict[str, str], tmp_path: Path) -> None:
    """`server = 1` is told to be a table."""
    assert "must be a table" in refusal({}, toml(tmp_path, "server = 1\n"), environ).problem


def test_a_broken_file_is_refused_with_its_line(environ: dict[str, str], tmp_path: Path) -> None:
    """What the parser knows about the place is passed on."""
    assert "line 1" in refusal({}, toml(tmp_path, "= 3\n"), environ).problem


def test_a_missing_file_is_refused(environ: dict[str, str], tmp_path: Path) -> None:
    """A file that was named must be there."""
    assert "no configuration file" in refusal({}, tmp_path / "none.toml", environ).problem


def test_an_address_others_can_reach_needs_insecure(environ: dict[str, str]) -> None:
    """Without TLS only loopback is listened on, unless told otherwise."""
    assert "--insecure" in refusal({"host": "0.0.0.0"}, None, environ).remedy
    assert load({"host": "0.0.0.0", "insecure": True}, None, environ).server.host == "0.0.0.0"


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.1.2.3", True), ("::1", True), ("[::1]", True), ("localhost", True),
     ("0.0.0.0", False), ("::", False), ("10.0.0.1", False), ("bridge.example", False)],
)  # fmt: skip
def test_loopback_is_told_from_the_rest(host: str, loopback: bool) -> None:
    """A name that is not localhost counts as reachable, since it may resolve to anything."""
    assert is_loopback(host) is loopback


def test_the_configuration_is_frozen(environ: dict[str, str]) -> None:
    """No component can change what another one reads."""
    config = load({}, None, environ)
    with pytest.raises(ValidationError):
        config.node = "other"  # type: ignore[misc]


def test_secrets_do_not_show_in_its_text() -> None:
    """A configuration may be logged."""
    assert "hush" not in repr(Config(token="hush"))


def test_each_state_folder_has_a_tmux_server_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two bridges never meet in one."""
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    names = {
        Config(state_dir=folder).tmux_socket
        for folder in (default_state_dir(False), default_state_dir(True), Path("/a"), Path("/b"))
    }
    assert len(names) == 4


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("name = 'a'", "cost_usd"),
        ("name = 'a'\ntokens = 1\nwindw = 'day'", "Did you mean budgets.0.window?"),
        ("name = 'a'\ntokens = 1\napplies_to = ['x']", "applies_to"),
        ("name = 'a'\ntokens = 0", "budgets.0.tokens"),
        ("name = 'a'\ntokens = 1\n[[budgets]]\nname = 'a'\ntokens = 2", "two are called a"),
    ],
)
def test_a_budget_that_does_not_fit_is_refused(
    written: str, said: str, environ: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "c.toml"
    file.write_text(f"[[budgets]]\n{written}\n")
    with pytest.raises(SetupError) as refused:
        load({}, file, environ)
    assert said in str(refused.value)


def test_spares_are_not_filled_to_less_than_where_filling_begins(environ: dict[str, str]) -> None:
    """Where none are kept, `low` says nothing."""
    environ = {**environ, "CLAUDE_BRIDGE_SPARES__LOW": "3"}
    assert load({}, None, environ).spares.low == 3
    refused = refusal({}, None, {**environ, "CLAUDE_BRIDGE_SPARES__HIGH": "2"})
    assert refused.remedy == "Low is not above high."
