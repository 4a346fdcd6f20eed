"""Settings: a TOML file, the environment (`CLAUDE_BRIDGE_…`), and flags, the later winning.

Read once, frozen, and handed down as slices, one per component, so that no component sees another's.
A key that nobody knows is refused with the nearest one that somebody does.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from bridge.errors import SetupError

MIB = 1024 * 1024
Port = Annotated[int, Field(ge=0, le=65535)]
Positive = Annotated[int, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0)]


class Slice(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ServerConfig(Slice):
    """Listening, and who may connect from a browser."""

    host: str = "127.0.0.1"
    port: Port = 4040
    insecure: bool = False
    """Allow a non-loopback address without TLS."""
    origins: list[str] = []
    """Browser origins allowed beside the bridge's own, as Phoenix's `check_origin` writes them."""
    max_topics: Positive = 10_000
    """Topics one socket may join."""
    max_frame_bytes: Positive = 10_000_000
    """Phoenix's own limit; a longer frame closes the socket with 1009."""
    idle_timeout_s: Seconds = 60
    """Phoenix closes a socket that sent nothing for so long; clients send a heartbeat every 30 s."""
    shutdown_s: Seconds = 10
    """How long a stop may take before what is left is dropped."""


class HubConfig(Slice):
    """Replay and slow clients."""

    ring_events: Positive = 10_000
    ring_bytes: Positive = 8 * MIB
    """Per session, whichever is reached first."""
    outbox_bytes: Positive = 8 * MIB
    """What one client may lag behind by, merged; more closes it with 4008."""


class SessionConfig(Slice):
    """Limits and defaults of sessions."""

    roots: list[Path] = []
    """Folders under which a `cwd` must lie; none given: the home folder."""
    cwd: Path | None = None
    """Default working folder; none given: the first root."""
    backend: Literal["headless", "tmux", "api"] = "headless"
    model: str | None = None
    permission_mode: str = "default"
    max_sessions: Positive = 100
    max_queue: Positive = 1000
    max_prompt_bytes: Positive = MIB
    snapshot_bytes: Positive = 4 * MIB
    """A join's snapshot leaves out the oldest turns beyond this."""
    restart_limit: Positive = 3
    restart_window_s: Seconds = 60
    """More restarts than `restart_limit` within the window and the session is `failed`."""


class ClaudeConfig(Slice):
    """The CLI: where it is and what it is given."""

    path: Path | None = None
    """None: the extra `claude`'s own, else the one on PATH."""
    env: dict[str, str] = {}
    """Variables given to every CLI."""
    env_allow: list[str] = []
    """Names of variables passed on from the bridge's own environment."""
    max_retries: Annotated[int, Field(ge=0)] = 4
    """The CLI's own default of 10 takes 186 s to give up (claude-cli.md §1)."""
    start_timeout_s: Seconds = 60
    """A start takes about 1 s; a loaded machine with many starting at once is the reason for the rest."""
    stop_timeout_s: Seconds = 5
    base_url: str | None = None
    api_key: str | None = Field(default=None, repr=False)
    config_dir: Path | None = None
    home: Path | None = None


class TmuxConfig(Slice):
    socket: str | None = None
    """Name of the tmux server's socket (`-L`); None: one that belongs to the state folder."""
    path: Path | None = None
    width: Positive = 220
    height: Positive = 50


class LogConfig(Slice):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "text", "json"] = "auto"


def default_state_dir(simulate: bool) -> Path:
    base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state")
    return base / ("claude-bridge-simulated" if simulate else "claude-bridge")


class Config(BaseSettings):
    """All settings. Nested keys are written `CLAUDE_BRIDGE_SESSIONS__MAX_QUEUE` in the environment."""

    model_config = SettingsConfigDict(
        env_prefix="CLAUDE_BRIDGE_", env_nested_delimiter="__", frozen=True, extra="forbid"
    )

    state_dir: Path = Path()
    token: str | None = Field(default=None, repr=False)
    simulate: bool = False
    node: str = ""
    """This bridge's name in `Session.node`; empty: the host's name."""
    server: ServerConfig = ServerConfig()
    hub: HubConfig = HubConfig()
    sessions: SessionConfig = SessionConfig()
    claude: ClaudeConfig = ClaudeConfig()
    tmux: TmuxConfig = TmuxConfig()
    log: LogConfig = LogConfig()

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

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings, env_settings)
