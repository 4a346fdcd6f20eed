"""Looks at this machine as the bridge will need it, and says what to do about what is missing.

Asks no model and changes nothing. What a backend needs is asked of the part that knows (`launch`, `tmux`),
and `serve` may begin with `find_claude` and `find_tmux`, so that the doctor never disagrees with it.
"""

from __future__ import annotations

import errno
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import orjson

from bridge.config import Config, is_loopback
from bridge.errors import BackendError, BackendUnavailable, SetupError
from bridge.locate import Look, running_bridge
from bridge.sessions import tmux
from bridge.sessions.backends import api_setup
from bridge.sessions.claude import launch

ANSWER_S = 15.0
"""`--version` takes 0.01 s and `auth status` 0.4 s; a cold disk or a busy machine takes longer."""

INSTALL_CLAUDE = (
    "`pip install --upgrade 'claude-bridge[claude]'` brings one; or set claude.path to one that you have."
)
INSTALL_TMUX = "Install it (Debian: apt-get install tmux), or set tmux.path to one that you have."
INSTALL = {"claude": INSTALL_CLAUDE, "tmux": INSTALL_TMUX}
LOG_IN = (
    "Run `claude` once and log in, or name the variable that holds your key in claude.env_allow; "
    "`--simulate` needs no login."
)

Status = Literal["ok", "note", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check. Only a `problem` keeps the bridge from doing its work."""

    check: str
    status: Status
    said: str
    remedy: str = ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Program:
    path: Path
    version: str


def find_claude(config: Config, environ: Mapping[str, str]) -> Program:
    """The CLI that sessions run: the configured one, else the extra's own, else the one on PATH.

    Raises `SetupError` where there is none, or it is too old.
    """
    try:
        path = launch.find_claude(config.claude, environ.get("PATH", ""))
    except BackendError as e:
        raise SetupError(str(e), INSTALL_CLAUDE) from None
    said = _asked("claude", path, ("--version",), environ)
    return _new_enough("claude", path, said, launch.parse_version(said), launch.MINIMUM_VERSION)


def find_tmux(config: Config, environ: Mapping[str, str]) -> Program:
    """The tmux that holds the sessions. Raises `SetupError` where there is none, or it is too old."""
    path = config.tmux.path or _on_path("tmux", environ)
    if path is None or not path.is_file():
        where = f"There is no tmux at {path}." if path else "tmux was not found."
        raise SetupError(f"{where} It holds the sessions' processes.", INSTALL_TMUX)
    said = _asked("tmux", path, ("-V",), environ)
    return _new_enough("tmux", path, said, tmux.parse_version(said), tmux.MINIMUM_VERSION)


def examine(config: Config, environ: Mapping[str, str], only: Iterable[str] = ()) -> list[Finding]:
    """Every check of `CHECKS`, or those named in `only`, in their order."""
    chosen = list(only) or list(CHECKS)
    return [CHECKS[name](config, environ) for name in CHECKS if name in chosen]


def _check_claude(config: Config, environ: Mapping[str, str]) -> Finding:
    try:
        found = find_claude(config, environ)
    except SetupError as e:
        return Finding("claude", "problem", e.problem, e.remedy)
    return Finding("claude", "ok", f"{found.version} ({found.path})")


def _check_login(config: Config, environ: Mapping[str, str]) -> Finding:
    if config.simulate:
        return Finding("login", "ok", "not needed: the simulator answers")
    if config.claude.api_key:
        return Finding(
            "login", "ok", "an API key is configured; whether it is valid shows at the first prompt"
        )
    try:
        path = find_claude(config, environ).path
    except SetupError:
        return Finding("login", "problem", "The login cannot be asked for without claude.", INSTALL_CLAUDE)
    try:
        asked = subprocess.run(
            [path, "auth", "status"],
            env=launch.environment(config.claude, environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=ANSWER_S,
            check=False,
        )
        status = orjson.loads(asked.stdout)
        logged_in, method = bool(status["loggedIn"]), str(status.get("authMethod"))
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError, TypeError):
        return Finding("login", "note", "`claude auth status` gave no answer that can be read.", LOG_IN)
    if not logged_in:
        return Finding("login", "problem", "Claude is not logged in: every prompt would fail.", LOG_IN)
    return Finding("login", "ok", f"logged in ({method})")


def _check_api(config: Config, environ: Mapping[str, str]) -> Finding:
    simulated = config.api.model_copy(update={"key": "simulated"}) if config.simulate else config.api
    try:
        found = api_setup.access(simulated, environ)
    except BackendUnavailable as e:
        remedy = str(e.details["remedy"])
        return Finding(
            "api", "note", "The backend 'api' cannot run; the others do not need it.", _sentence(remedy)
        )
    if config.simulate:
        return Finding("api", "ok", "the simulator answers")
    return Finding(
        "api", "ok", f"{found.base_url}, with a key; whether it is valid shows at the first prompt"
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _check_tmux(config: Config, environ: Mapping[str, str]) -> Finding:
    try:
        found = find_tmux(config, environ)
    except SetupError as e:
        return Finding("tmux", "problem", e.problem, e.remedy)
    return Finding("tmux", "ok", f"{found.version} ({found.path})")


def _check_state(config: Config, _: Mapping[str, str]) -> Finding:
    folder = config.state_dir
    nearest = next(place for place in (folder, *folder.parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as e:
        problem = f"The state folder {folder} cannot be written: {e.strerror}."
        return Finding("state", "problem", problem, "Choose another with --state-dir, or make it writable.")
    running = running_bridge(folder)
    held = f"; the bridge with pid {running['pid']} uses it" if running else ""
    made = "" if folder.exists() else " (will be made)"
    return Finding("state", "ok", f"{folder} is writable{made}{held}")


def _check_port(config: Config, environ: Mapping[str, str]) -> Finding:
    host, port = config.server.host, config.server.port
    if port == 0:
        return Finding("port", "ok", "any free one will be taken")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # As the listener does: a port whose last connections linger is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as e:
        if e.errno == errno.EADDRINUSE:
            return _held_port(config, environ)
        problem = f"{host}:{port} cannot be listened on: {e.strerror}."
        return Finding("port", "problem", problem, "Choose another with --host and --port.")
    return Finding("port", "ok", f"{host}:{port} is free")


def _held_port(config: Config, environ: Mapping[str, str]) -> Finding:
    place = f"{config.server.host}:{config.server.port}"
    folders = dict.fromkeys([config.state_dir, *Look(environ=environ).folders()])
    for folder in folders:
        running = running_bridge(folder)
        if running is not None and running["port"] == config.server.port and is_loopback(running["host"]):
            own = folder == config.state_dir
            whose = "our own bridge" if own else f"the bridge of {folder}"
            said = f"{place} is held by {whose} (pid {running['pid']})"
            if own:
                return Finding("port", "ok", said)
            return Finding("port", "problem", f"{said}.", "End that one, or choose another with --port.")
    remedy = f"See who it is with `ss -ltnp 'sport = :{config.server.port}'`, or choose another with --port."
    return Finding("port", "problem", f"{place} is taken by another program.", remedy)


CHECKS: dict[str, Callable[[Config, Mapping[str, str]], Finding]] = {
    "claude": _check_claude,
    "login": _check_login,
    "tmux": _check_tmux,
    "api": _check_api,
    "state": _check_state,
    "port": _check_port,
}


def _on_path(name: str, environ: Mapping[str, str]) -> Path | None:
    found = shutil.which(name, path=environ.get("PATH", ""))
    return Path(found) if found else None


def _asked(name: str, path: Path, question: tuple[str, ...], environ: Mapping[str, str]) -> str:
    try:
        answer = subprocess.run(
            [path, *question],
            env={k: environ[k] for k in ("HOME", "PATH", "LANG") if k in environ},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=ANSWER_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise SetupError(f"{name} ({path}) does not answer.", INSTALL[name]) from None
    except OSError as e:
        raise SetupError(f"{name} ({path}) cannot be run: {e.strerror}.", INSTALL[name]) from None
    return answer.stdout.decode(errors="replace").strip()


def _new_enough(
    name: str, path: Path, said: str, version: tuple[int, ...] | None, minimum: tuple[int, ...]
) -> Program:
    if version is None:
        raise SetupError(f"{name} ({path}) does not say its version, but {said[:80]!r}.", INSTALL[name])
    if version < minimum:
        had, least = (".".join(map(str, v)) for v in (version, minimum))
        problem = f"{name} {had} ({path}) is too old: {least} is the oldest that works."
        raise SetupError(problem, INSTALL[name])
    return Program(path, said.removeprefix(name).removesuffix("(Claude Code)").strip())
