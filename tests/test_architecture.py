"""The walls of the house: who may import whom, read from the source with `ast`.

The table is the one of ARCHITECTURE.md. A module that stands in no row fails, so that a new one is given
its place when it is made; a row whose module does not exist yet costs nothing.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BRIDGE = ROOT / "bridge"

SOCKETS = frozenset({"aiohttp", "socketio", "socket", "ssl", "http", "urllib"})
TMUX = frozenset({"libtmux"})
LOOP = frozenset({"asyncio", "uvloop"})
CLOCK = frozenset({"time"})
CHILDREN = frozenset({"subprocess", "multiprocessing", "pty"})

VOCABULARY = ("errors", "events", "signals", "commands", "clock", "config", "log")
CORE = tuple(
    f"sessions.{name}"
    for name in (
        *("core", "turns", "requests", "effects", "facts", "keeper", "records", "attachments", "question"),
    )
)
MACHINERY = tuple(
    f"sessions.{name}"
    for name in (
        *(
            "actor",
            "caretaker",
            "hands",
            "registry",
            "journal",
            "journal_schema",
            "journal_sql",
            "journal_files",
            "adoption",
            "pool",
        ),
        *("idle", "starts", "retention", "inheritance", "journal_copy", "budgets", "journal_spending"),
    )
)
API_PURE = tuple(
    f"sessions.backends.api_{name}" for name in ("history", "stream", "prices", "retry", "setup")
)


@dataclass(frozen=True)
class Row:
    """One wall: `bridge` are modules of ours that may be imported (`x.*`: a package and all below it),
    `never` are libraries that must not."""

    modules: tuple[str, ...]
    bridge: tuple[str, ...] = ()
    never: frozenset[str] = field(default=frozenset())


VOCABULARY_NEVER = SOCKETS | TMUX | LOOP | CHILDREN
PURE_NEVER = SOCKETS | TMUX | LOOP | CHILDREN | CLOCK

COMMANDS = ("client", "locate", "reading", "export", "terminal", "doctor", "token_command", "attaching")

TABLE = (
    # The vocabulary, in its own order: each may import what stands before it.
    Row(("errors",), (), VOCABULARY_NEVER),
    Row(("events",), ("errors",), VOCABULARY_NEVER),
    Row(("signals",), ("errors", "events"), VOCABULARY_NEVER),
    Row(("commands",), ("errors",), VOCABULARY_NEVER),
    Row(("clock",), ("errors", "events", "commands"), VOCABULARY_NEVER),
    Row(("config",), ("errors", "events", "commands", "clock"), VOCABULARY_NEVER),
    Row(("log",), ("errors", "events", "commands", "clock", "config"), VOCABULARY_NEVER),
    # Pure rings.
    Row(("wire.*",), ("errors", "events", "commands", "clock", "wire.*"), SOCKETS | LOOP | TMUX | CHILDREN),
    Row(CORE, ("errors", "events", "signals", "commands", *CORE), PURE_NEVER),
    Row(
        ("sessions.claude.*",),
        ("errors", "events", "signals", "commands", "config", "sessions.claude.*"),
        PURE_NEVER,
    ),
    # What a session runs on.
    Row(("sessions.backends.base",), VOCABULARY, SOCKETS | TMUX | LOOP | CHILDREN),
    Row(
        API_PURE,
        ("errors", "events", "signals", "commands", "config", "sessions.claude.*", "sessions.backends.base"),
        PURE_NEVER,
    ),
    Row(("sessions.backends.hooks",), ("errors",), TMUX | CHILDREN | CLOCK),
    Row(("sessions.backends.ask_hook",), (), TMUX | LOOP | CHILDREN),
    Row(("sessions.backends.editor",), ("errors",), SOCKETS | TMUX | CHILDREN | CLOCK),
    Row(("sessions.backends.stock",), ("config",), PURE_NEVER),
    Row(("sessions.backends.ground",), (), SOCKETS | TMUX | LOOP | CHILDREN),
    Row(
        ("sessions.backends.*",),
        (*VOCABULARY, "sessions.claude.*", "sessions.backends.*", "sessions.tmux"),
        SOCKETS | TMUX,
    ),
    Row(("sessions.tmux",), ("errors", "config", "sessions.tmux_control"), SOCKETS | TMUX),
    Row(("sessions.tmux_control",), ("errors",), SOCKETS | TMUX | CHILDREN | CLOCK),
    # Live screens.
    Row(("sessions.picture",), ("errors",), PURE_NEVER),
    Row(
        ("sessions.pane_line",),
        ("errors", "sessions.picture", "sessions.tmux", "sessions.tmux_control"),
        PURE_NEVER,
    ),
    Row(("screens",), ("errors", "sessions.picture", "supervision"), SOCKETS | TMUX | CHILDREN | CLOCK),
    # A session's own machinery.
    Row(
        MACHINERY,
        (*VOCABULARY, *CORE, *MACHINERY, "sessions.backends.base", "supervision"),
        SOCKETS | TMUX | CHILDREN,
    ),
    Row(("supervision",), VOCABULARY, SOCKETS | TMUX | CHILDREN),
    # Who may come in.
    Row(("tokens",), ("errors",), PURE_NEVER),
    Row(("limits",), ("errors",), PURE_NEVER),
    Row(("jwts",), ("errors", "config"), PURE_NEVER),
    Row(("auth",), (*VOCABULARY, "tokens", "limits", "jwts"), PURE_NEVER),
    Row(("lobby",), ("auth", "events", "hub"), PURE_NEVER),
    Row(("hub",), ("errors", "events", "log"), SOCKETS | LOOP | TMUX | CHILDREN),
    Row(("presence",), ("clock", "events", "hub"), SOCKETS | LOOP | TMUX | CHILDREN | CLOCK),
    Row(("webhooks.endpoint",), (*VOCABULARY, "wire.webhooks"), TMUX | CHILDREN | CLOCK),
    Row(("webhooks.kept",), ("webhooks.endpoint",), PURE_NEVER),
    Row(("webhooks.*",), (*VOCABULARY, "wire.webhooks", "webhooks.*"), TMUX | CHILDREN | CLOCK),
    # The application and what speaks to it.
    Row(
        ("asking",),
        (*VOCABULARY, "sessions.pool", "sessions.question", "hub", "auth", "limits"),
        PURE_NEVER,
    ),
    Row(
        ("service",),
        (
            *VOCABULARY,
            *("sessions.registry", "sessions.actor", "sessions.pool", "hub", "auth", "supervision"),
            *("presence", "lobby", "limits", "screens", "sessions.picture", "asking"),
        ),
        SOCKETS | TMUX | CHILDREN,
    ),
    Row(
        ("transports.terminal",),
        ("auth", "errors", "service", "transports.outbox", "wire.phoenix"),
        PURE_NEVER,
    ),
    Row(("transports.*",), (*VOCABULARY, "service", "wire.*", "auth", "transports.*"), TMUX | CHILDREN),
    Row(("simulator.*",), ("errors", "config", "simulator.*"), TMUX),
    Row(("upstream",), (*VOCABULARY, "sessions.tmux"), TMUX | CHILDREN),
    # The command.
    Row(("locate",), VOCABULARY, PURE_NEVER - {"urllib"}),
    Row(("client",), (*VOCABULARY, "wire.*", "locate", "reading"), TMUX | CHILDREN),
    Row(
        ("token_command",),
        ("clock", "config", "errors", "locate", "tokens"),
        SOCKETS | TMUX | LOOP | CHILDREN,
    ),
    Row(("reading",), ("errors",), PURE_NEVER),
    Row(("attaching",), ("errors", "commands"), PURE_NEVER),
    Row(("export",), (), PURE_NEVER),
    Row(
        ("doctor",),
        (*VOCABULARY, "locate", "sessions.backends.api_setup", "sessions.claude.*", "sessions.tmux"),
        TMUX,
    ),
    Row(("terminal",), ("errors", "client", "reading"), SOCKETS | TMUX | CHILDREN),
    Row(("drill.account",), ("drill.prompts",), PURE_NEVER),
    Row(("drill.prompts",), ("simulator.script",), PURE_NEVER),
    Row(("drill.relay",), (), TMUX | CHILDREN),
    Row(("drill.stage",), ("config", "errors", "locate"), TMUX | LOOP),
    Row(
        ("drill.*",),
        ("config", "clock", "errors", "client", "locate", "reading", "terminal", "doctor", "drill.*"),
        TMUX | CHILDREN,
    ),
    Row(("cli",), ("app", *COMMANDS, "drill.*", "config", "errors", "log", "wire.*"), TMUX),
    Row(("__main__",), ("cli",), TMUX),
    Row(("app",), ("*",), frozenset()),
)

PACKAGES = frozenset(
    {
        "",
        *("sessions", "sessions.backends", "sessions.claude"),
        *("wire", "transports", "simulator", "console", "drill", "webhooks"),
    }
)
"""Packages whose `__init__` says at most what they are: they import nothing of the bridge."""

OWN_TASKS = frozenset({"supervision"})
"""Where a bare `create_task` is allowed: everywhere else a task belongs to a group or a child spec."""

CATCH_ALL = frozenset(
    {
        "cli",  # the command's last line: one sentence instead of a traceback
        "hub",  # one client's trouble must not reach the others
        "supervision",
        "sessions.actor",
        "sessions.journal",  # its thread serves every session and must outlive any one operation
        "transports.engineio_session",
        "transports.phoenix_channels",  # a crash of one channel is told to its client, as Phoenix does
        "transports.phoenix_ws",
        "transports.phoenix_longpoll",
        "transports.http",
        "transports.rest",
        "simulator.server",
    }
)
"""The loops that must go on whatever happens, and log what did."""


WALL_CLOCKS = frozenset(
    {
        *(("time", name) for name in ("time", "time_ns")),
        *(("datetime", name) for name in ("now", "utcnow", "today")),
        *(("date", name) for name in ("today",)),
    }
)

OTHERS_TIMES = frozenset(
    {
        "clock",
        "sessions.tmux",  # tells by the time of day when a person last pressed a key
        "sessions.backends.typist",  # and this waits for that
        "sessions.backends.tui_link",  # the CLI's transcript has the time of day of each line
        "simulator.server",  # the API says when a limit resets
    }
)
"""Who may read the time of day: to compare it with another program's."""


def module_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def sources(root: Path = BRIDGE) -> list[tuple[str, Path]]:
    return sorted((module_name(path, root), path) for path in root.rglob("*.py"))


def covers(pattern: str, module: str) -> bool:
    if pattern == "*":
        return True
    package = pattern.removesuffix(".*")
    return module == package or (pattern.endswith(".*") and module.startswith(package + "."))


def row_of(module: str) -> Row | None:
    """The first row that names the module; an exact name wins over a package."""
    exact = [row for row in TABLE if module in row.modules]
    wide = [row for row in TABLE if any(covers(pattern, module) for pattern in row.modules)]
    return next(iter([*exact, *wide]), None)


def imports(tree: ast.AST, module: str, *, package: bool = False) -> Iterator[tuple[int, str]]:
    """Line and absolute name of everything imported; `from bridge.x import y` counts as `bridge.x.y`."""
    inside = ["bridge", *module.split(".")] if module else ["bridge"]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = inside[: len(inside) - node.level + (1 if package else 0)] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{origin}.{alias.name}") for alias in node.names)


def broken_walls(module: str, path: Path, known: frozenset[str]) -> list[str]:
    row = row_of(module)
    is_package = path.name == "__init__.py"
    if row is None and module not in PACKAGES:
        return [f"{module} stands in no row of the table: give it its place"]
    allowed = row.bridge if row else ()
    never = row.never if row else frozenset()
    found = []
    for line, name in imports(ast.parse(path.read_text()), module, package=is_package):
        if name == "bridge" or name.startswith("bridge."):
            target = name.removeprefix("bridge").removeprefix(".")
            if target not in known:  # `from module import name`: the module is meant
                target = target.rpartition(".")[0]
            if target in {"", module} or any(covers(pattern, target) for pattern in allowed):
                continue
            found.append(f"{path.name}:{line}: {module} must not import {target}")
        elif name.partition(".")[0] in never:
            found.append(f"{path.name}:{line}: {module} must not import {name.partition('.')[0]}")
    return found


def bare_tasks(tree: ast.AST) -> list[int]:
    """Lines of `asyncio.create_task`, `ensure_future` and `loop.create_task`: tasks nobody owns."""
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in {"create_task", "ensure_future"}
        and isinstance(node.func.value, ast.Name)
        and (node.func.value.id in {"asyncio", "loop"} or node.func.value.id.endswith("_loop"))
    ]


def catch_alls(tree: ast.AST) -> list[int]:
    """Lines of `except:`, `except Exception` and `except BaseException` that do not raise again."""
    lines = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.ExceptHandler):
            continue
        caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
        everything = any(
            kind is None or (isinstance(kind, ast.Name) and kind.id in {"Exception", "BaseException"})
            for kind in caught
        )
        raises = any(isinstance(inner, ast.Raise) for inner in ast.walk(node))
        if everything and not raises:
            lines.append(node.lineno)
    return lines


def wall_clocks(tree: ast.AST) -> list[int]:
    """Lines that read the time of day, which may be set to another at any moment."""
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and (node.value.id, node.attr) in WALL_CLOCKS
    ] + [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        and any((node.module, alias.name) in WALL_CLOCKS for alias in node.names)
    ]


KNOWN = frozenset(name for name, _ in sources())
MODULES = [pytest.param(name, path, id=name or "bridge") for name, path in sources()]


@pytest.mark.parametrize(("module", "path"), MODULES)
def test_imports_point_inward(module: str, path: Path) -> None:
    """Each module imports only what its row allows."""
    assert broken_walls(module, path, KNOWN) == []


@pytest.mark.parametrize(("module", "path"), MODULES)
def test_every_task_has_an_owner(module: str, path: Path) -> None:
    """A task has a `TaskGroup` or the supervisor: a forgotten one is neither awaited nor stopped."""
    if module not in OWN_TASKS:
        assert bare_tasks(ast.parse(path.read_text())) == []


@pytest.mark.parametrize(("module", "path"), MODULES)
def test_everything_is_caught_only_at_the_edges(module: str, path: Path) -> None:
    """`except Exception` elsewhere would hide a fault from the part that can restart what failed."""
    if module not in CATCH_ALL:
        assert catch_alls(ast.parse(path.read_text())) == []


@pytest.mark.parametrize(("module", "path"), MODULES)
def test_the_time_of_day_is_read_in_one_place(module: str, path: Path) -> None:
    """All else that waits or measures goes by a clock that nobody can set."""
    if module not in OTHERS_TIMES:
        assert wall_clocks(ast.parse(path.read_text())) == []


def test_only_the_command_imports_the_composition_root() -> None:
    """`app` knows everything, so nothing else may know `app`."""
    importers = {
        module
        for module, path in sources()
        for _, name in imports(ast.parse(path.read_text()), module)
        if name == "bridge.app" or name.startswith("bridge.app.")
    }
    assert importers <= {"cli"}


def test_the_table_of_the_architecture_page_names_every_row() -> None:
    """The page and this table are one: a module named here is found there."""
    page = (ROOT / "ARCHITECTURE.md").read_text()
    missing = [module for row in TABLE for module in row.modules if f"`{module}`" not in page]
    assert missing == []


# --- the walls hold: each check is shown failing -------------------------------------------------


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        ("errors", "from bridge import config", "errors must not import config"),
        ("errors", "from bridge.config import Config", "errors must not import config"),
        ("errors", "from .config import Config", "errors must not import config"),
        ("hub", "import bridge.transports", "hub must not import transports"),
        ("hub", "from bridge.sessions import core", "hub must not import sessions.core"),
        ("wire.phoenix", "import asyncio", "wire.phoenix must not import asyncio"),
        ("wire.phoenix", "def f():\n    import aiohttp.web", "wire.phoenix must not import aiohttp"),
        ("sessions.core", "from time import monotonic", "sessions.core must not import time"),
        ("stranger", "import os", "stranger stands in no row"),
    ],
)
def test_a_broken_wall_is_seen(module: str, source: str, complaint: str, tmp_path: Path) -> None:
    """A check that cannot fail proves nothing."""
    path = tmp_path / "module.py"
    path.write_text(source)
    known = KNOWN | {"config", "sessions.core", "transports"}
    found = broken_walls(module, path, known)
    assert len(found) == 1
    assert complaint in found[0]


def test_a_wall_clock_is_seen() -> None:
    """However it is read."""
    source = "import time\ntime.time()\ndatetime.now(UTC)\nfrom time import time\ntime.monotonic()"
    assert sorted(wall_clocks(ast.parse(source))) == [2, 3, 4]


def test_an_ownerless_task_is_seen() -> None:
    """Both spellings, on the module and on a loop."""
    source = "import asyncio\nasyncio.create_task(f())\nloop.create_task(f())\nasyncio.ensure_future(f())"
    assert bare_tasks(ast.parse(source)) == [2, 3, 4]
    assert bare_tasks(ast.parse("group.create_task(f())")) == []


def test_a_catch_all_is_seen() -> None:
    """All three spellings; one that raises again hides nothing."""
    for kind in ("", " Exception", " (ValueError, BaseException) as e"):
        assert catch_alls(ast.parse(f"try:\n    f()\nexcept{kind}:\n    pass")) == [3]
        assert catch_alls(ast.parse(f"try:\n    f()\nexcept{kind}:\n    raise")) == []
