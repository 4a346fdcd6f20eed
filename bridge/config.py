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

from bridge.commands import (
    FILE_TYPES,
    NAME,
    AfterReboot,
    Backend,
    Fresh,
    OnRestart,
    PermissionMode,
    StartOptions,
)
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
    max_body_bytes: Positive = 20 * MIB
    """Of one REST request: the longest prompt, however JSON writes it, all that may be attached to it, in
    base64, and some room."""
    idle_timeout_s: Seconds = 60
    """Phoenix closes a socket that sent nothing for so long; clients send a heartbeat every 30 s."""
    longpoll_window_s: Annotated[float, Field(gt=0, le=15)] = 10
    """How long a long poll hangs when there is nothing to tell; phoenix.js gives it up after 20 s. A client
    that has not polled for one and a half of it counts as gone."""
    shutdown_s: Seconds = 10
    """How long a stop may take before what is left is dropped."""
    console: bool = True
    """Serve the web console at `/`. Without it that path is 404."""


Scope = Literal["watch", "prompt", "approve", "control", "admin"]
TokenName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}$")]
Pattern = Annotated[str, Field(pattern=r"^[A-Za-z0-9_*?\[\]!:-]{1,128}$")]
"""A session's name, or several as a shell writes them; of a pool `pool:` and its name."""


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
    """The sessions it covers, by name or pattern (`team-*`), and the pools (`pool:default`, `pool:*`)."""
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
    ring_s: Seconds = 86_400
    """How old they may be. Who was away for longer gets the snapshot."""
    outbox_bytes: Positive = 8 * MIB
    """What one client may lag behind by, merged; more closes it with 4008."""


class AttachmentConfig(Slice):
    """Files that come with a prompt."""

    types: list[Annotated[str, Field(pattern=r"^[a-z0-9.+-]+/([a-z0-9.+-]+|\*)$")]] = [*FILE_TYPES]
    """Media types that may be attached. What is neither one of these pictures nor a PDF is handed to Claude
    as text, and must be UTF-8."""
    max_bytes: Positive = 5_000_000
    """Of one file. A picture that is too large for the API is made smaller by the CLI."""
    max_total_bytes: Positive = 9_000_000
    """Of all files of one prompt. Over a WebSocket `server.max_frame_bytes` bounds them as well, in which
    base64 needs a third more."""
    max_count: Positive = 10
    """Files of one prompt."""


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
    attachments: AttachmentConfig = AttachmentConfig()
    snapshot_bytes: Positive = 4 * MIB
    """A join's snapshot leaves out the oldest turns beyond this."""
    restart_limit: Positive = 3
    """How often a process that ended by itself is started again."""
    restart_window_s: Seconds = 60
    """More restarts than `restart_limit` within the window and the session is `failed`."""


class PoolConfig(Slice):
    """Workers that answer one-off questions, each with a fresh context; a table for each pool. `default` is
    there without one, and starts its workers when somebody first joins or asks; those of a pool that has a
    table are warm from the start. A worker takes about 200 MB."""

    size: Annotated[int, Field(gt=0, le=100)] = 2
    """Workers."""
    backend: Literal["headless", "api"] = "headless"
    """What they run on."""
    model: str | None = None
    """None: `sessions.model`."""
    cwd: UserPath | None = None
    """Their working folder, under one of `sessions.roots`; None: `sessions.cwd`."""
    permission_mode: PermissionMode = "default"
    """What Claude may do unasked. What it would have to ask for is refused: nobody is there to answer."""
    system_prompt: str | None = None
    """Replaces the system prompt."""
    append_system_prompt: str | None = None
    """Is added to the system prompt."""
    allowed_tools: list[str] | None = None
    """Tools that need no permission."""
    disallowed_tools: list[str] | None = None
    """Tools that are refused."""
    mcp_config: str | None = None
    """MCP servers: a file, or JSON."""
    add_dirs: list[UserPath] | None = None
    """Further folders that the tools may use."""
    max_waiting: Positive = 1000
    """Questions that may wait for a worker; more are refused with `queue_full`."""
    keep_s: Seconds = 3600
    """How long an answer is kept for who asks again under the same `id`."""
    keep_answers: Positive = 10_000
    """So many are kept of each worker, whichever is reached first."""
    recycle_questions: Positive = 200
    """A worker's process is replaced, in the background, when it has answered so many questions."""
    recycle_s: Seconds = 21_600
    """Or is so old, looked at after an answer."""
    recycle_rss_mb: Annotated[int, Field(ge=0)] = 800
    """Or takes so much resident memory, in MiB. 0: no limit but `claude.max_rss_mb`."""

    def options(self) -> StartOptions:
        return StartOptions(
            backend=self.backend,
            model=self.model,
            cwd=None if self.cwd is None else str(self.cwd),
            permission_mode=self.permission_mode,
            system_prompt=self.system_prompt,
            append_system_prompt=self.append_system_prompt,
            allowed_tools=self.allowed_tools,
            disallowed_tools=self.disallowed_tools,
            mcp_config=self.mcp_config,
            add_dirs=None if self.add_dirs is None else [str(each) for each in self.add_dirs],
        )

    def fresh(self, *, warm: bool) -> Fresh:
        return Fresh(self.recycle_questions, self.recycle_s, self.recycle_rss_mb, warm)


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


Price = tuple[float, float, float, float]
"""USD for a million tokens: input, output, written to the cache (for 5 minutes), read from it."""


Thinking = Literal["adaptive", "between_tools", "disabled"]


class ApiConfig(Slice):
    """The Messages API, for sessions of backend `api`, which needs the package's extra `api`."""

    key: str | None = Field(default=None, repr=False, min_length=1)
    """The API key. None: what ANTHROPIC_API_KEY says in the bridge's environment."""
    base_url: str | None = None
    """Where the Messages API is. None: what ANTHROPIC_BASE_URL says, else Anthropic's own."""
    model: str = "claude-sonnet-5-5"
    """The model of a session that names none. Full ids only: `sonnet` and the like are the CLI's."""
    max_tokens: Positive = 16_000
    """Of one answer, thinking included. A longer one is cut there, and its turn fails with `max_tokens`."""
    thinking: Annotated[int, Field(ge=1024)] | Thinking | None = None
    """A number of tokens for models that take a budget (up to Haiku 4.5 and Opus 4.6; less than
    `max_tokens`), or the API's own word for the others. None: not asked for, so that each model does as it is
    made; what it thinks may then not be shown."""
    caching: bool = True
    """Ask the API to keep the conversation so far, so that the next prompt pays a fraction of it."""
    context_tokens: Positive = 200_000
    """What a request may have, answer included; the oldest turns are left out for it. Models of today take up
    to 1,000,000; each prompt pays for all that goes with it."""
    max_retries: Annotated[int, Field(ge=0)] = 4
    """After an overload, a broken connection and the like, as the SDK repeats them, with its delays."""
    timeout_s: Seconds = 120
    """How long the API may say nothing before the request counts as broken and is repeated."""
    on_restart: OnRestart = "interrupt"
    """What becomes of an answer that a restart of the bridge cut off, unless a start says otherwise.
    `interrupt`: its turn ends, with the text so far. `continue`: the model is asked to go on where it was."""
    prices: dict[str, Price] = {}
    """USD for a million tokens of input, output, written to the cache, read from it, by model:
    `claude-x = [3, 15, 3.75, 0.3]`. They come before the own table; without a price `cost_usd` is null."""
    max_sessions: Positive = 10_000
    """Api sessions that are not stopped. `sessions.max_sessions` is about those with a process."""

    @model_validator(mode="after")
    def _room_for_thinking(self) -> Self:
        if isinstance(self.thinking, int) and self.thinking >= self.max_tokens:
            raise ValueError("thinking takes its tokens from max_tokens, which must be more")
        return self


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


BudgetPer = Literal["session", "token", "bridge"]
BudgetWindow = Literal["day", "month", "total"]
BudgetName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]


class BudgetConfig(Slice):
    """What may be spent before further turns are refused; the table may stand several times. Read again at
    SIGHUP; see [set budgets](../how-to/set-budgets.md)."""

    name: BudgetName
    """What refusals and warnings call it."""
    per: BudgetPer = "bridge"
    """Whose it is: each session's, each token's, or one for all together."""
    applies_to: Annotated[list[str], Field(min_length=1)] = ["*"]
    """Names of sessions or tokens, or patterns as a shell writes them; each has the whole amount."""
    window: BudgetWindow = "day"
    """When it begins anew: every day or month, UTC, or never."""
    cost_usd: Annotated[float, Field(gt=0)] | None = None
    """In US dollars, as Claude reports them; the TUI (backend `tmux`) reports none."""
    tokens: Positive | None = None
    """Of every kind, those read from the cache too."""
    warn_at: Annotated[float, Field(gt=0, le=1)] = 0.8
    """The part that may be spent before it warns."""
    reserve_usd: Annotated[float, Field(ge=0)] | None = None
    """What a turn counts as until it has finished. None: what those of this window cost on average, 0.05
    before the first."""
    reserve_tokens: Annotated[int, Field(ge=0)] | None = None
    """The same in tokens; 20,000 before the first."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.cost_usd is None and self.tokens is None:
            raise ValueError("a budget has cost_usd, tokens or both")
        if self.per == "bridge" and self.applies_to != ["*"]:
            raise ValueError("the bridge's own budget takes no applies_to")
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
    api: ApiConfig = ApiConfig()
    spares: SparesConfig = SparesConfig()
    tmux: TmuxConfig = TmuxConfig()
    log: LogConfig = LogConfig()
    webhooks: list[WebhookConfig] = []
    budgets: list[BudgetConfig] = []
    pools: dict[str, PoolConfig] = {}

    @field_validator("pools")
    @classmethod
    def _named(cls, pools: dict[str, PoolConfig]) -> dict[str, PoolConfig]:
        for name in pools:
            if NAME.fullmatch(name) is None:
                raise ValueError(
                    f"{name!r} is no name of a pool: they are made of letters, digits, '-' and '_'"
                )
        return pools

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
        tables: dict[str, type[Slice]] = {"auth": TokenConfig, "budgets": BudgetConfig, "pools": PoolConfig}
        table = tables.get(loc[0], WebhookConfig)
        nearest = _nearest(loc[-1], table.model_fields)
        return SetupError(f"Nothing reads {place}.", _hint(nearest and ".".join((*loc[:-1], nearest))))
    said = str(first["msg"]).removeprefix("Value error, ")
    # Of a table in a list the whole is shown where keys do not fit together, its secret among them; and what
    # stands among the tokens may be one, in the wrong place.
    secret = loc[-1] in {"token", "api_key", "key", "secret"} or isinstance(first["input"], dict)
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
    names = [budget.name for budget in config.budgets]
    if len(set(names)) < len(names):
        same = next(name for name in names if names.count(name) > 1)
        raise SetupError(f"budgets: two are called {same}.", "Give one of them another name.")
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
