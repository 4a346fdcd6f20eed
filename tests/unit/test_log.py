"""What a log line looks like, and what never stands in one."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from bridge import log
from bridge.config import LogConfig


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def lines() -> io.StringIO:
    return io.StringIO()


def test_away_from_a_terminal_each_line_is_json(lines: io.StringIO) -> None:
    """A collector reads them."""
    log.set_up(LogConfig(), lines)
    structlog.get_logger("bridge.x", session="demo").info("session started", turns=3)
    line = json.loads(lines.getvalue())
    assert (line["event"], line["session"], line["turns"]) == ("session started", "demo", 3)
    assert (line["level"], line["logger"]) == ("info", "bridge.x")


def test_for_people_a_line_is_text(lines: io.StringIO) -> None:
    """`format = "text"` asks for it."""
    log.set_up(LogConfig(format="text"), lines)
    structlog.get_logger("bridge.x").warning("port changed", port=1)
    assert "port changed" in lines.getvalue()
    assert not lines.getvalue().startswith("{")


def test_the_standard_librarys_loggers_look_alike(lines: io.StringIO) -> None:
    """aiohttp's warnings come as the bridge's own, their extras included."""
    log.set_up(LogConfig(), lines)
    logging.getLogger("aiohttp.server").warning("request failed", extra={"conn": 7})
    line = json.loads(lines.getvalue())
    assert (line["event"], line["conn"]) == ("request failed", 7)


def test_a_level_silences_what_is_below(lines: io.StringIO) -> None:
    """The default is `info`."""
    log.set_up(LogConfig(), lines)
    structlog.get_logger("bridge.x").debug("> frame")
    assert lines.getvalue() == ""


def test_prompt_text_stands_in_no_line_above_debug(lines: io.StringIO) -> None:
    """Its length does, whoever logs it and through whichever library."""
    log.set_up(LogConfig(), lines)
    structlog.get_logger("bridge.x").info("prompt accepted", prompt="very private")
    logging.getLogger("other").error("failed", extra={"text": "very private"})
    assert "very private" not in lines.getvalue()
    assert "12 characters" in lines.getvalue()


def test_prompt_text_stands_in_a_debug_line(lines: io.StringIO) -> None:
    """That is what DEBUG is for."""
    log.set_up(LogConfig(level="debug"), lines)
    structlog.get_logger("bridge.x").debug("> submit", prompt="very private")
    assert "very private" in lines.getvalue()


def test_a_secret_stands_in_no_line_at_all(lines: io.StringIO) -> None:
    """Not even at DEBUG."""
    log.set_up(LogConfig(level="debug"), lines)
    structlog.get_logger("bridge.x").debug("< connect", token="hush")
    assert "hush" not in lines.getvalue()


def test_a_traceback_stays_on_one_line(lines: io.StringIO) -> None:
    """A collector reads line by line."""
    log.set_up(LogConfig(), lines)
    try:
        raise ValueError("broken")
    except ValueError:
        structlog.get_logger("bridge.x").exception("actor failed")
    (line,) = lines.getvalue().splitlines()
    assert "ValueError: broken" in json.loads(line)["exception"]
