"""A real Chromium, headless, driven through playwright-core: pages, and what is evaluated in them.

Blocking on purpose, like the driver of phoenix.js: a test reads as what one person does after another. A
test that serves its page from its own event loop has `Tab`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

DRIVER = Path(__file__).parents[1] / "js" / "browser.mjs"
PATIENCE_S = 60
"""For what must come; Chromium starts slowly on a machine that runs other things as well."""
ACT_S = 30
"""For what a page has to show before something can be done to it."""


class PageError(Exception):
    """What a page could not do, and what it had said on its console until then."""


class Chromium:
    """One browser, with a new profile."""

    def __init__(self, folder: Path) -> None:
        node, chromium = shutil.which("node"), shutil.which("chromium")
        assert node is not None, "these tests need Node"
        assert (DRIVER.parent / "node_modules").is_dir(), "run `make setup`: the npm packages are missing"
        if chromium is None:
            pytest.skip("there is no Chromium on this machine: `make test` installs it where it can")
        self._folder = folder
        self._process = subprocess.Popen(
            [node, str(DRIVER), chromium],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(folder),
                "TMPDIR": str(folder),  # for its profile
                "LANG": "C.UTF-8",
            },
        )
        self._news = threading.Condition()
        self._answers: dict[int, dict[str, Any]] = {}
        self._ids = itertools.count(1)
        self._ended = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def open(self, url: str, **context: Any) -> Page:
        """A new window with this page, loaded; nobody else's storage is in it. `context` is what playwright's
        `newContext` takes: `viewport`, `colorScheme`, …"""
        name = f"p{next(self._ids)}"
        self.do("open", page=name, url=url, context=context)
        return Page(self, name)

    def do(self, op: str, **command: Any) -> Any:
        ref = next(self._ids)
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"id": ref, "op": op, **command}) + "\n")
        self._process.stdin.flush()
        with self._news:
            self._news.wait_for(lambda: self._ended or ref in self._answers, PATIENCE_S)
            answer = self._answers.pop(ref, None)
        if answer is None:
            pytest.fail(f"the browser ended, or {PATIENCE_S} s passed, without an answer to {op} {command}")
        if "error" in answer:
            raise PageError(answer["error"])
        return answer["result"]

    def close(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it ended by itself, and said why on stderr
            self._process.stdin.close()
        try:
            self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()  # Chromium ends with the pipe that leads to it
            self._process.wait()
        self._reader.join(PATIENCE_S)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            answer = json.loads(line)
            with self._news:
                self._answers[answer["id"]] = answer
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()


class Page:
    """One tab."""

    def __init__(self, browser: Chromium, name: str) -> None:
        self._browser = browser
        self._name = name

    def eval(self, expression: str) -> Any:
        """The value of a JavaScript expression, a promise's as well. Raises `PageError`."""
        return self._browser.do("eval", page=self._name, expression=expression)

    def until(self, expression: str, within_s: float = PATIENCE_S - 10) -> Any:
        """The value of the expression as soon as it is a true one. Raises `PageError` where that takes too
        long, with what the page had said: its own complaint says more than ours."""
        return self._browser.do(
            "until", page=self._name, expression=expression, timeout=round(within_s * 1000)
        )

    def act(self, *steps: tuple[Any, ...]) -> Any:
        """What playwright's `page` gives where these methods, each with its arguments, are called one after
        the other: `("getByRole", "button", {"name": "Send"}), ("click",)`. Raises `PageError`."""
        return self._browser.do("act", page=self._name, steps=steps, timeout=ACT_S * 1000)

    def axe(self) -> list[dict[str, str]]:
        """What axe-core finds wrong for who does not see, hear or point: `id`, `impact`, `help`, `at`."""
        found: list[dict[str, str]] = self._browser.do("axe", page=self._name)
        return found

    def measure(self) -> dict[str, float]:
        """Chromium's own figures of the page (`JSHeapUsedSize`, `TaskDuration`, `Timestamp`, …) after its
        garbage was collected."""
        found: dict[str, float] = self._browser.do("measure", page=self._name)
        return found

    def complaints(self) -> list[str]:
        """What went wrong in the page since this was asked last: errors on its console, violations of its
        policy, requests to another origin than its own."""
        found: list[str] = self._browser.do("complaints", page=self._name)
        return found

    def close(self) -> None:
        self._browser.do("close", page=self._name)


class Tab:
    """A page, from a test's own loop."""

    def __init__(self, page: Page) -> None:
        self._page = page

    @classmethod
    async def open(cls, chromium: Chromium, url: str) -> Self:
        return cls(await asyncio.to_thread(chromium.open, url))

    async def eval(self, expression: str) -> Any:
        return await asyncio.to_thread(self._page.eval, expression)

    async def act(self, *steps: tuple[Any, ...]) -> Any:
        return await asyncio.to_thread(self._page.act, *steps)

    async def until(self, expression: str, within_s: float = PATIENCE_S - 10) -> Any:
        return await asyncio.to_thread(self._page.until, expression, within_s)

    async def measure(self) -> dict[str, float]:
        return await asyncio.to_thread(self._page.measure)

    async def close(self) -> None:
        await asyncio.to_thread(self._page.close)


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """One browser for all tests of a run; each opens pages of its own."""
    browser = Chromium(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()
