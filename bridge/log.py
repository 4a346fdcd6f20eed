"""The one set-up of logging: structlog over the standard library, so that all lines look alike.

Lines for people where the log goes to a terminal, one JSON object a line otherwise. Modules ask
`structlog.get_logger(__name__)` for theirs and need nothing of this one. What a person wrote or Claude
answered never passes above DEBUG, whoever logs it, and a secret at no level.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, TextIO

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from bridge.config import LogConfig

CONTENT = frozenset({"prompt", "text", "input", "output", "answer", "blocks", "payload", "frame"})
"""Keys whose values come from a conversation: cut to their length above DEBUG."""
SECRET = frozenset({"token", "api_key", "authorization", "auth_token", "password"})


def set_up(config: LogConfig, stream: TextIO | None = None) -> None:
    """Send every log line to `stream` (stderr) from now on. Safe to repeat: the last one counts."""
    out = stream if stream is not None else sys.stderr
    people = config.format == "text" or (config.format == "auto" and out.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if people else "iso", utc=not people),
        _discreet,
    ]
    last: list[Processor] = (
        [structlog.dev.ConsoleRenderer(colors=out.isatty(), pad_event_to=0)]
        if people
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(serializer=_json)]
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(config.level.upper())
    # One line for each HTTP request would drown the bridge's own.
    logging.getLogger("aiohttp.access").setLevel("WARNING")
    logging.getLogger("asyncio").setLevel("WARNING")
    for name in ("httpx2", "anthropic"):  # the latter's debug lines hold whole conversations, files and all
        logging.getLogger(name).setLevel("WARNING")
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(config.level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def _discreet(_: WrappedLogger, method: str, line: EventDict) -> EventDict:
    secrets = SECRET & line.keys()
    content = () if line.get("level", method) == "debug" else CONTENT & line.keys()
    for key in secrets:
        line[key] = "…"
    for key in content:
        line[key] = f"<{len(str(line[key]))} characters>"
    return line


def _json(line: EventDict, **_: Any) -> str:
    return orjson.dumps(line, default=repr, option=orjson.OPT_NON_STR_KEYS).decode()
