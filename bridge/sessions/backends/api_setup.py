"""What it takes to talk to the Messages API: the package, a key, an address. Asks nobody."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from bridge.commands import StartOptions
from bridge.config import ApiConfig
from bridge.errors import BackendUnavailable, InvalidPayload

ANTHROPIC = "https://api.anthropic.com"
INSTALL = "install the package: `pip install 'claude-bridge[api]'`."
SET_URL = "set api.base_url, or ANTHROPIC_BASE_URL in the bridge's environment, to an address like"
SET_KEY = "set api.key in the configuration, or ANTHROPIC_API_KEY in the bridge's environment."

_ADDRESS = re.compile(
    r"https?://([^/?#@]*@)?(\[(?P<ip>[0-9a-fA-F:.]+)\]|(?P<name>[^\s/?#@:\[\]]+))(:\d{1,5})?([/?#]|$)"
)

OF_THE_CLI = ("allowed_tools", "disallowed_tools", "mcp_config", "add_dirs", "resume")
"""Options of a start that mean something to the CLI alone."""


@dataclass(frozen=True, slots=True)
class Access:
    key: str = field(repr=False)
    base_url: str

    @property
    def host(self) -> str:
        address = _ADDRESS.match(self.base_url)
        return (address["ip"] or address["name"]).lower() if address is not None else ""


def access(config: ApiConfig, environ: Mapping[str, str]) -> Access:
    """Raises `BackendUnavailable`, which says what to install or to set.

    Key and address of the environment belong together, as they do for the SDK. Nothing else of it, no file
    and no login is looked at.
    """
    if importlib.util.find_spec("anthropic") is None:
        raise BackendUnavailable("api", INSTALL)
    key = config.key or environ.get("ANTHROPIC_API_KEY")
    if not key:
        raise BackendUnavailable("api", SET_KEY)
    url = config.base_url or environ.get("ANTHROPIC_BASE_URL") or ANTHROPIC
    if _ADDRESS.match(url) is None:
        raise BackendUnavailable("api", f"{SET_URL} {ANTHROPIC}.")  # what is there may hold a password
    return Access(key, url)


def check(options: StartOptions) -> None:
    """Raises `InvalidPayload` for what a session without tools and without a process cannot take."""
    for name in OF_THE_CLI:
        if getattr(options, name) is not None:
            raise InvalidPayload(name, "is not for backend 'api', which has no tools and no process")
    if options.permission_mode not in (None, "default"):
        raise InvalidPayload("permission_mode", "is not for backend 'api', which has no tools")
