"""Finds the bridge a command means: the one that was named, else one that left word in its state folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import orjson

from bridge.config import default_state_dir, is_loopback
from bridge.errors import BridgeUnreachable, SetupError

Payload = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Address:
    """Where a bridge answers, and what it is shown."""

    url: str
    token: str = field(repr=False)
    certificate: str | None = None
    """SHA-256 of the only certificate that it may show; None: one that this machine trusts."""

    @property
    def websocket(self) -> str:
        return f"{self._base('http', 'ws')}/socket/websocket?vsn=2.0.0"

    @property
    def console(self) -> str:
        """The web console's page, with the token where no server and no log sees it."""
        return f"{self._base('ws', 'http')}/#token={quote(self.token, safe='')}"

    def _base(self, scheme: str, wanted: str) -> str:
        """The address below which everything is, with one scheme, or its secure form, turned to another."""
        parts = urlsplit(self.url)
        path = parts.path.rstrip("/").removesuffix("/websocket").removesuffix("/socket")
        turned = {scheme: wanted, f"{scheme}s": f"{wanted}s"}.get(parts.scheme, parts.scheme)
        return f"{turned}://{parts.netloc}{path}"


@dataclass(frozen=True, slots=True)
class Look:
    """Where to look for a bridge: flags, and the environment below them."""

    state_dir: Path | None = None
    url: str | None = None
    token: str | None = None
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)

    def folders(self) -> list[Path]:
        """State folders that may be meant, the likeliest first."""
        given = self.state_dir or self.environ.get("CLAUDE_BRIDGE_STATE_DIR")
        if given:
            return [Path(given).expanduser().absolute()]
        simulated = default_state_dir(True, self.environ)
        if self.environ.get("CLAUDE_BRIDGE_SIMULATE", "").lower() in {"1", "true", "yes", "on"}:
            return [simulated]
        return [default_state_dir(False, self.environ), simulated]

    def address(self) -> Address:
        """The bridge that is meant. Raises `BridgeUnreachable` where none runs, `SetupError` for a bad URL.

        A token found on disk is sent to this machine only.
        """
        token = self.token or self.environ.get("CLAUDE_BRIDGE_TOKEN")
        url = self.url or self.environ.get("CLAUDE_BRIDGE_URL")
        if url:
            host = urlsplit(url).hostname
            if urlsplit(url).scheme not in {"http", "https", "ws", "wss"} or not host:
                raise SetupError(f"{url} is no address of a bridge.", "Write it like http://127.0.0.1:4040.")
            if token is None and is_loopback(host):
                token = next(filter(None, map(read_token, self.folders())), None)
            if token is None:
                raise SetupError(f"{url} needs a token.", "Give --token or CLAUDE_BRIDGE_TOKEN.")
            return Address(url, token, self._shown_by(host, urlsplit(url).port))
        for folder in self.folders():
            running = running_bridge(folder)
            if running is not None:
                token = token or read_token(folder)
                if token is None:
                    raise SetupError(f"{folder}/token cannot be read.", "Give --token, or check its owner.")
                url = url_of(running["host"], running["port"], secure=bool(running.get("certificate")))
                return Address(url, token, running.get("certificate"))
        raise BridgeUnreachable(
            f"No bridge is running ({' and '.join(map(str, self.folders()))} name none).",
            "Start one with `claude-bridge serve`, or say where it is with --url or --state-dir.",
        )

    def _shown_by(self, host: str, port: int | None) -> str | None:
        """The certificate of this machine's own bridge, where that is the one that is meant."""
        if not is_loopback(host):
            return None
        here = filter(None, map(running_bridge, self.folders()))
        return next((r.get("certificate") for r in here if r["port"] == port), None)


def url_of(host: str, port: int, *, secure: bool) -> str:
    """Where this machine reaches what listens there."""
    host = _reached(host)
    return f"http{'s' if secure else ''}://{f'[{host}]' if ':' in host else host}:{port}"


def _reached(host: str) -> str:
    """A wildcard is listened on, not connected to."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104


def read_token(folder: Path) -> str | None:
    """The token that the bridge of this state folder made, if it can be read."""
    try:
        return (folder / "token").read_text().strip() or None
    except OSError:
        return None


def running_bridge(folder: Path) -> Payload | None:
    """What the bridge of this state folder wrote about itself, if its process is there."""
    try:
        said = orjson.loads((folder / "bridge.json").read_bytes())
        pid, host, port = int(said["pid"]), str(said["host"]), int(said["port"])
        os.kill(pid, 0)
    except PermissionError:
        pass  # somebody else's process, and it lives
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return {**said, "pid": pid, "host": _reached(host), "port": port}
