"""Settings: a TOML file, the environment (`CLAUDE_BRIDGE_…`), and flags, the later winning.

Read once by `load`, frozen, and handed down as slices, one per component, so that no component sees
another's. A key that nobody knows is refused with the nearest one that somebody does; a value that does
not fit is refused with the place it was written in.
"""

from __future__ import annotations

import difflib
import hashlib
import ipaddress
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import orjson
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from bridge.commands import AfterReboot, Backend, PermissionMode
from bridge.errors import SetupError

MIB = 1024 * 1024
Port = Annotated[int, Field(ge=0, le=65535)]
Positive = Annotated[int, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0)]
UserPath = Annotated[Path, AfterValidator(Path.expanduser)]


class Slice(BaseModel):
    # The strings below the fields are the reference page's text (scripts/reference.py).
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class ServerConfig(Slice):
    """Listening, and who may connect from a browser."""

    host: str = "127.0.0.1"
    """What to listen on."""
    port: Port = 4040
    """0 takes a free one and prints it."""
    insecure: bool = False
    """Allow a non-loopback address without TLS."""
    tls_cert: UserPath | None = None
    """Certificate and its chain, PEM: the bridge then speaks TLS only, 1.2 or newer. Read again at SIGHUP."""
    tls_key: UserPath | None = None
    """The certificate's private key, PEM, without a passphrase."""
    hosts: list[str] = []
    """Names by which the bridge may be asked (`*.example.com`, `*`), beside its address and loopback's.
    Others are refused with 421, so that no page reaches a loopback bridge by a name that it made lead there.
    A bridge that listens on more than loopback takes any name as long as this is empty."""
    origins: list[str] = []
    """Browser origins allowed beside the bridge's own, as Phoenix's `check_origin` writes them."""
    max_topics: Positive = 10_000
    """Topics one socket may join."""
    max_frame_bytes: Positive = 10_000_000
    """Phoenix's own limit; a longer frame closes the socket with 1009."""
    max_body_bytes: Positive = 8 * MIB
    """Of one REST request: the longest prompt, however JSON writes it, and some room."""
    idle_timeout_s: Seconds = 60
    """Phoenix closes a socket that sent nothing for so long; clients send a heartbeat every 30 s."""
    longpoll_window_s: Annotated[float, Field(gt=0, le=15)] = 10
    """How long a long poll hangs when there is nothing to tell; phoenix.js gives it up after 20 s. A client
    that has not polled for one and a half of it counts as gone."""
    shutdown_s: Seconds = 10
    """How long a stop may take before what is left is dropped."""


Scope = Literal["watch", "prompt", "approve", "control", "admin"]
TokenName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}$")]
Pattern = Annotated[str, Field(pattern=r"^[A-Za-z0-9_*?\[\]!-]{1,128}$")]
"""A session's name, or several as a shell writes them."""


class TokenConfig(Slice):
    """One token that people or programs hold; `claude-bridge token new` makes these lines."""

    name: TokenName
    """Who it is: the `author` of its prompts, its key in presence. Two tokens may share one, so that one can
    replace the other; `local` is the bridge's own."""
    hash: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
    """`sha256:` and the digest of the token, which itself stands nowhere. It has at least 22 characters."""
    scopes: Annotated[list[Scope], Field(min_length=1)]
    """Of `watch`, `prompt`, `approve`, `control`, `admin`."""
    sessions: list[Pattern] = ["*"]
    """The sessions it covers, by name or pattern (`team-*`)."""
    expires_at: AwareDatetime | None = None
    """When it ends, with a time zone; its connections are closed then."""

    @field_validator("name")
    @classmethod
    def _not_the_bridges_own(cls, name: str) -> str:
        if name == "local":
            raise ValueError("`local` is the bridge's own token; take another name")
        return name


class JwtConfig(Slice):
    """JSON Web Tokens, which somebody else makes for each user. They are taken as soon as a key is given."""

    secret: Annotated[str, Field(min_length=32)] | None = Field(default=None, repr=False)
    """For HS256: 32 characters or more, shared with who makes them."""
    secret_file: UserPath | None = None
    """The same out of a file, without the white space at its end."""
    public_key: UserPath | None = None
    """For RS256: a file with the public key, PEM."""
    jwks: UserPath | None = None
    """For RS256: a file with a JWK set; a token's `kid` names the key. Read again at SIGHUP."""
    audience: str | None = None
    """What `aud` must say or contain. None: it is not looked at."""
    issuer: str | None = None
    """What `iss` must say. None: it is not looked at."""
    leeway_s: Annotated[float, Field(ge=0, le=60)] = 10
    """How far the clocks of the two machines may differ."""


class AuthConfig(Slice):
    """Who may come in, and how much they may ask for. Read again at SIGHUP, without a restart."""

    tokens: list[TokenConfig] = []
    """Tables `[[auth.tokens]]`; see [give access](../how-to/give-access.md)."""
    submits_per_minute: Positive | None = None
    """Prompts one token may submit, over all its connections; more are `rate_limited`. None: no limit."""
    joins_per_minute: Positive | None = None
    """Topics that one token may join; after a restart of the bridge all its clients join at once. None: no
    limit."""
    failures_per_minute: Positive = 60
    """Wrong tokens that one address may show; after that it cannot try what could be guessed."""
    jwt: JwtConfig = JwtConfig()


class HubConfig(Slice):
    """Replay and slow clients."""

    ring_events: Positive = 10_000
    """Events kept for clients that come back; older ones are in the snapshot."""
    ring_bytes: Positive = 8 * MIB
    """Per session, whichever is reached first."""
    outbox_bytes: Positive = 8 * MIB
    """What one client may lag behind by, merged; more closes it with 4008."""


class SessionConfig(Slice):
    """Limits and defaults of sessions."""

    roots: list[UserPath] = []
    """Folders under which a `cwd` must lie; none given: the home folder."""
    cwd: UserPath | None = None
    """Default working folder; none given: the first root."""
    backend: Backend = "headless"
    """What a session runs on unless its start says otherwise."""
    model: str | None = None
    """None: the CLI's own default."""
    permission_mode: PermissionMode = "default"
    """What Claude may do unasked, unless a start says otherwise."""
    max_sessions: Positive = 100
    """Running at once; a headless one takes about 200 MB."""
    starts_at_once: Positive | None = None
    """Processes that may be starting at the same time, at about 0.8 s of a core each; the others wait, those
    with a prompt to be answered the least. None: as many as the machine has cores, but at least 4."""
    idle_stop_s: Seconds | None = None
    """A session that nobody used for so long gives its memory back: its process ends, and the next prompt
    starts it again. Whoever is attached or has its screen open uses it. None: never."""
    after_reboot: AfterReboot = "resume"
    """What becomes of sessions whose processes are gone when the bridge starts, as after a reboot. `resume`:
    they are started again. `pending`: those with prompts to be answered are, the others when one comes.
    `stop`: none is until somebody does, and its queue waits."""
    history_turns: Positive | None = None
    """Finished turns kept of each session; None: all."""
    history_days: Annotated[float, Field(gt=0)] | None = None
    """How long finished turns are kept; None: for ever."""
    max_queue: Positive = 1000
    """Prompts that may wait in one session."""
    max_prompt_bytes: Positive = MIB
    """Of UTF-8."""
    snapshot_bytes: Positive = 4 * MIB
    """A join's snapshot leaves out the oldest turns beyond this."""
    restart_limit: Positive = 3
    """How often a process that ended by itself is started again."""
    restart_window_s: Seconds = 60
    """More restarts than `restart_limit` within the window and the session is `failed`."""


class ClaudeConfig(Slice):
    """The CLI: where it is and what it is given."""

    path: UserPath | None = None
    """None: the extra `claude`'s own, else the one on PATH."""
    env: dict[str, str] = {}
    """Variables given to every CLI."""
    env_allow: list[str] = []
    """Names of variables passed on from the bridge's own environment."""
    max_retries: Annotated[int, Field(ge=0)] = 4
    """The CLI's own default of 10 takes three minutes to give up."""
    start_timeout_s: Seconds = 60
    """A start takes about 1 s; a loaded machine with many starting at once is the reason for the rest."""
    silence_s: Seconds = 120
    """A process that has said nothing for so long in the middle of a turn, and on whose screen nothing moved,
    is asked whether it lives, which it answers also while a tool runs. Where it does not within
    `start_timeout_s`, it hangs: it is killed, and started again."""
    max_rss_mb: Annotated[int, Field(ge=0)] = 2000
    """Resident memory, in MiB, beyond which a CLI is ended and started again, its tools not counted; it takes
    200 to 300. Between two turns, or at once where it takes half as much again. 0: no limit."""
    stop_timeout_s: Seconds = 5
    """After that a process is killed."""
    base_url: str | None = None
    """Where the Messages API is, if not Anthropic's own."""
    api_key: str | None = Field(default=None, repr=False)
    """None: the CLI's own login."""
    config_dir: UserPath | None = None
    """The CLI's configuration folder (CLAUDE_CONFIG_DIR); None: its default."""
    home: UserPath | None = None
    """The CLI's home folder; None: the bridge's."""


class SparesConfig(Slice):
    """Warm processes for new headless sessions; see [keep spares](../how-to/keep-spares.md)."""

    high: Annotated[int, Field(ge=0)] = 0
    """So many `claude -p` are kept ready of each kind that is kept. 0: none."""
    low: Positive | None = None
    """Fewer than so many, and they are filled up to `high` again. None: as soon as one is taken."""
    max_keys: Positive = 4
    """Kinds that are kept: that of the default options, and those that were asked for last."""
    starts_per_s: Annotated[float, Field(gt=0, le=100)] = 1.0
    """No more are started in a second, at about 0.8 s of a core each; a session's own start goes first."""
    memory_mb: Positive = 2000
    """Resident memory of all spares together, in MiB. One that would not fit is not started."""
    max_age_s: Seconds = 1800
    """An older one is replaced: what it was started with is no longer news."""
    max_rss_mb: Positive = 500
    """One that takes more, in MiB, is replaced; a spare takes 170 to 190."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.low is not None and self.high and self.low > self.high:
            raise ValueError("low is not above high")
        return self


class TmuxConfig(Slice):
    """The tmux server that holds the sessions' processes."""

    socket: str | None = None
    """Name of the tmux server's socket (`-L`); None: one that belongs to the state folder."""
    path: UserPath | None = None
    """None: the one on PATH."""
    width: Positive = 220
    """Of a pane, in columns."""
    height: Positive = 50
    """In lines."""


class LogConfig(Slice):
    """Log lines, on stderr."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Prompts and answers stand in `debug` lines alone."""
    format: Literal["auto", "text", "json"] = "auto"
    """`auto`: text on a terminal, JSON elsewhere."""


WebhookEvent = Literal["request_opened", "session_failed", "turn_finished"]


class WebhookConfig(Slice):
    """One endpoint that is told what happens, by signed HTTP requests; the table may stand several times."""

    url: Annotated[str, Field(pattern=r"^https?://[^/?#\s]+")]
    """Where to POST to: `https://…`, or `http://…` where nobody can listen on the way."""
    secret: str | None = Field(default=None, repr=False)
    """What the requests are signed with: `whsec_` and 24 to 64 bytes in base64."""
    secret_file: UserPath | None = None
    """The file that holds the secret, in its place; read when the bridge starts."""
    events: list[WebhookEvent] = ["request_opened", "session_failed", "turn_finished"]
    """What is told."""
    sessions: list[str] = ["*"]
    """Patterns of the sessions' names, as a shell writes them."""
    timeout_s: Seconds = 10
    """How long the endpoint may take to answer; it should answer first and work then."""
    retry_first_s: Seconds = 1
    """Before the first repetition; each further one waits twice as long, with some chance in it."""
    retry_longest_s: Seconds = 900
    """No repetition waits longer than this."""
    attempts: Positive = 100
    """How often one message is sent before it is given up; with the delays above that is about a day."""
    give_up_s: Seconds = 86_400
    """How old a message may become before it is given up, whichever is reached first."""
    queue_messages: Positive = 1000
    """Messages that may wait; the oldest is dropped for one more."""
    queue_bytes: Positive = 8 * MIB
    """And their bytes, whichever is reached first."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.secret is None) == (self.secret_file is None):
            raise ValueError("a webhook has one of secret and secret_file")
        return self


def default_state_dir(simulate: bool, environ: Mapping[str, str] = os.environ) -> Path:
    base = Path(environ.get("XDG_STATE_HOME") or Path.home() / ".local/state")
    return base / ("claude-bridge-simulated" if simulate else "claude-bridge")


class Config(Slice):
    """All settings."""

    state_dir: UserPath = Path()
    """Where the journal, the token and the sessions' files are; another one for `--simulate`."""
    token: str | None = Field(default=None, repr=False, min_length=1)
    """The token clients need, instead of the one made and kept in the state folder."""
    simulate: bool = False
    """Run every backend against the bundled simulator: no key, no network."""
    node: str = ""
    """This bridge's name in `Session.node`; empty: the host's name."""
    server: ServerConfig = ServerConfig()
    auth: AuthConfig = AuthConfig()
    hub: HubConfig = HubConfig()
    sessions: SessionConfig = SessionConfig()
    claude: ClaudeConfig = ClaudeConfig()
    spares: SparesConfig = SparesConfig()
    tmux: TmuxConfig = TmuxConfig()
    log: LogConfig = LogConfig()
    webhooks: list[WebhookConfig] = []

    @property
    def tmux_socket(self) -> str:
        """One tmux server per state folder, so that two bridges never meet in one."""
        if self.tmux.socket:
            return self.tmux.socket
        for simulate, name in ((False, "claude-bridge"), (True, "claude-bridge-simulated")):
            if self.state_dir == default_state_dir(simulate):
                return name
        digest = hashlib.sha256(str(self.state_dir).encode()).hexdigest()[:10]
        return f"claude-bridge-{digest}"


# --- reading them --------------------------------------------------------------------------------

PREFIX = "CLAUDE_BRIDGE_"
FLAGS: dict[str, tuple[str, ...]] = {
    "host": ("server", "host"),
    "port": ("server", "port"),
    "insecure": ("server", "insecure"),
    "state_dir": ("state_dir",),
    "simulate": ("simulate",),
    "token": ("token",),
}
"""The flags of `serve`, each also a variable of that name, and where they belong."""
NOT_SETTINGS = ("CONFIG", "URL")
"""Variables that say where to look, and are no settings themselves."""
WHERE_TO_LOOK = ("state_dir", "simulate")
"""What decides in which folder `config.toml` is found cannot be said in that file."""

Key = tuple[str, ...]


def load(flags: Mapping[str, Any], config_file: Path | None, environ: Mapping[str, str]) -> Config:
    """Read all sources, the later winning: file, environment, flags (None: not given).

    Without `config_file` (or `CLAUDE_BRIDGE_CONFIG`) the file is `<state dir>/config.toml`, where there
    is one. Raises `SetupError` naming the place, the key, and what was wanted there.
    """
    given = [*_environment(environ), *_flags(flags)]
    path, explicit = _place(given, config_file, environ)
    if explicit and not path.is_file():
        raise SetupError(f"There is no configuration file {path}.", "Give the path of a TOML file.")
    settings = given
    if path.is_file():
        settings = [*_file(path, forbidden=() if explicit else WHERE_TO_LOOK), *given]
    return _checked(_validated(settings, environ))


def file_of(flags: Mapping[str, Any], config_file: Path | None, environ: Mapping[str, str]) -> Path:
    """The file that `load` reads, given the same, whether or not it is there."""
    return _place([*_environment(environ), *_flags(flags)], config_file, environ)[0]


def _place(given: list[Setting], config_file: Path | None, environ: Mapping[str, str]) -> tuple[Path, bool]:
    explicit = config_file or (Path(named) if (named := environ.get(PREFIX + "CONFIG")) else None)
    if explicit is not None:
        return explicit.expanduser().absolute(), True
    early = {key: value for key, value, _ in given if len(key) == 1}
    folder = _state_dir(early.get(("state_dir",)), early.get(("simulate",)), environ)
    return folder / "config.toml", False


def _state_dir(given: object, simulate: object, environ: Mapping[str, str]) -> Path:
    if given:
        return Path(str(given)).expanduser().absolute()
    return default_state_dir(str(simulate).lower() in {"true", "1", "yes", "on", "t", "y"}, environ)


Setting = tuple[Key, Any, str]
"""Where it belongs, its value, and where it was written, for a person."""


def _flags(flags: Mapping[str, Any]) -> Iterator[Setting]:
    for flag, value in flags.items():
        if value is not None:
            yield FLAGS[flag], value, f"--{flag.replace('_', '-')}"


def _environment(environ: Mapping[str, str]) -> Iterator[Setting]:
    known = _leaves()
    names = {"__".join(key).upper(): key for key in known} | {n.upper(): key for n, key in FLAGS.items()}
    for variable, value in sorted(environ.items()):
        if not variable.startswith(PREFIX) or not value:
            continue
        name = variable.removeprefix(PREFIX)
        if name in NOT_SETTINGS:
            continue
        if name not in names:
            nearest = _nearest(name, [*names, *NOT_SETTINGS])
            raise SetupError(f"Nothing reads the variable {variable}.", _hint(nearest and PREFIX + nearest))
        key = names[name]
        yield key, _structured(variable, value) if known[key] else value, variable


def _structured(variable: str, value: str) -> Any:
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        remedy = 'A list is written ["one", "two"], a table {"key": "value"}.'
        raise SetupError(f"{variable} does not fit: it must be JSON.", remedy) from None


def _file(path: Path, forbidden: tuple[str, ...]) -> Iterator[Setting]:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise SetupError(f"{path} is not valid TOML: {e}", "Correct it, or move it away.") from None
    except OSError as e:
        raise SetupError(f"{path} cannot be read: {e.strerror}.", "Check its owner and mode.") from None
    for key, value in _flatten(table, (), path):
        if key[0] in forbidden:
            raise SetupError(
                f"{path}: {key[0]} cannot be set in the file that lies in the state folder.",
                f"Give --{key[0].replace('_', '-')}, or name the file with --config.",
            )
        yield key, value, f"{path}: {'.'.join(key)}"


def _flatten(table: Mapping[str, Any], prefix: Key, path: Path) -> Iterator[tuple[Key, Any]]:
    fields = _fields(prefix)
    for name, value in table.items():
        key = (*prefix, name)
        if name not in fields:
            nearest = _nearest(name, fields)
            everywhere = [".".join(leaf) for leaf in _leaves() if leaf[-1] == name]
            hint = ".".join((*prefix, nearest)) if nearest else (everywhere[0] if everywhere else None)
            raise SetupError(f"{path}: nothing is called {'.'.join(key)}.", _hint(hint))
        if _is_slice(fields[name]):
            if not isinstance(value, dict):
                raise SetupError(f"{path}: {name} must be a table.", f"Write [{name}] and its keys below.")
            yield from _flatten(value, key, path)
        else:
            yield key, value


def _fields(prefix: Key) -> dict[str, Any]:
    model: type[BaseModel] = Config
    for name in prefix:
        model = model.model_fields[name].annotation  # type: ignore[assignment]
    return {name: field.annotation for name, field in model.model_fields.items()}


def _is_slice(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Slice)


def _leaves(prefix: Key = ()) -> dict[Key, bool]:
    """Every setting's key, and whether its value is a list or a table."""
    leaves: dict[Key, bool] = {}
    for name, annotation in _fields(prefix).items():
        key = (*prefix, name)
        if _is_slice(annotation):
            leaves |= _leaves(key)
        else:
            leaves[key] = getattr(annotation, "__origin__", None) in (list, dict)
    return leaves


def _validated(settings: list[Setting], environ: Mapping[str, str]) -> Config:
    tree: dict[str, Any] = {}
    places: dict[Key, str] = {}
    for key, value, place in settings:
        table = tree
        for name in key[:-1]:
            table = table.setdefault(name, {})
        table[key[-1]] = value
        places[key] = place
    try:
        config = Config.model_validate(tree)
    except ValidationError as e:
        raise _misfit(e, places) from None
    folder = _state_dir(tree.get("state_dir"), config.simulate, environ)
    return config.model_copy(update={"state_dir": folder})


def _misfit(error: ValidationError, places: Mapping[Key, str]) -> SetupError:
    first = error.errors()[0]
    loc = tuple(str(part) for part in first["loc"])
    known = next((n for n in range(len(loc), 0, -1) if loc[:n] in places), 0)
    place = ".".join([*([places[loc[:known]]] if known else []), *loc[known:]])
    if first["type"] == "extra_forbidden":  # in a table of a list: the others are looked at before
        table = TokenConfig if loc[0] == "auth" else WebhookConfig
        nearest = _nearest(loc[-1], table.model_fields)
        return SetupError(f"Nothing reads {place}.", _hint(nearest and ".".join((*loc[:-1], nearest))))
    said = str(first["msg"]).removeprefix("Value error, ")
    # Of a table in a list the whole is shown where keys do not fit together, its secret among them; and what
    # stands among the tokens may be one, in the wrong place.
    secret = loc[-1] in {"token", "api_key", "secret"} or isinstance(first["input"], dict)
    secret = secret or loc[:2] == ("auth", "tokens")
    got = "" if secret else f" (it says {first['input']!r})"
    return SetupError(f"{place} does not fit{got}.", f"{said[:1].upper()}{said[1:]}.")


def _checked(config: Config) -> Config:
    server = config.server
    if (server.tls_cert is None) != (server.tls_key is None):
        missing = "server.tls_key" if server.tls_key is None else "server.tls_cert"
        raise SetupError(f"TLS needs a certificate and its key, and {missing} is not set.", f"Set {missing}.")
    if not server.insecure and server.tls_cert is None and not is_loopback(server.host):
        raise SetupError(
            f"{server.host} is reachable from other machines, and the bridge speaks plain HTTP.",
            "Set server.tls_cert and server.tls_key, listen on 127.0.0.1 behind a proxy that speaks TLS, "
            "or give --insecure to allow it.",
        )
    hashes = [token.hash for token in config.auth.tokens]
    if len(set(hashes)) < len(hashes):
        twice = next(t.name for t in config.auth.tokens if hashes.count(t.hash) > 1)
        raise SetupError(f"auth.tokens: the token of {twice} stands there twice.", "Remove one of the two.")
    return config


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`; a name other than localhost counts as reachable."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _nearest(word: str, known: Any) -> str | None:
    return next(iter(difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)), None)


def _hint(nearest: str | None) -> str:
    return f"Did you mean {nearest}?" if nearest else "docs/reference/configuration.md lists what there is."
