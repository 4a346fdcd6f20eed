"""The web console in a window of its own, by the names that a screen reader says.

What the console calls its parts stands here and nowhere else in the tests.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from tests.fakes.chromium import Chromium, Page

Name = str | re.Pattern[str]

EXPECTED_WHEN_GONE = re.compile(
    r"WebSocket connection to .* failed|ERR_CONNECTION_REFUSED|ERR_EMPTY_RESPONSE"
)
"""What Chromium itself says on a page's console while there is no bridge."""

SAID = "[...document.querySelectorAll('.row-text')].map((row) => row.innerText).join('\\n')"


class Thing:
    """Something on the page, which may not be there yet."""

    def __init__(self, page: Page, *steps: tuple[Any, ...]) -> None:
        self._page = page
        self._steps = steps

    def role(self, role: str, name: Name | None = None, **options: Any) -> Thing:
        """Among what is in it; a string is the whole name."""
        named = {} if name is None else {"name": _word(name), "exact": True}
        return Thing(self._page, *self._steps, ("getByRole", role, {**named, **options}))

    def text(self, text: Name, **options: Any) -> Thing:
        return Thing(self._page, *self._steps, ("getByText", _word(text), options))

    def labelled(self, label: Name) -> Thing:
        return Thing(self._page, *self._steps, ("getByLabel", _word(label), {"exact": True}))

    def css(self, selector: str) -> Thing:
        """For what has no name, as what a library draws."""
        return Thing(self._page, *self._steps, ("locator", selector))

    @property
    def last(self) -> Thing:
        return Thing(self._page, *self._steps, ("last",))

    def click(self) -> None:
        self._do("click")

    def fill(self, text: str) -> None:
        self._do("fill", text)

    def press(self, key: str) -> None:
        self._do("press", key)

    def choose(self) -> None:
        """A radio button or a checkbox."""
        self._do("check")

    def shown(self) -> Thing:
        """Waits until it is."""
        self._do("waitFor", {"state": "visible"})
        return self

    def gone(self) -> None:
        """Waits until it is."""
        self._do("waitFor", {"state": "hidden"})

    def reads(self) -> str:
        """Its text."""
        return str(self._do("innerText"))

    def value(self) -> str:
        return str(self._do("inputValue"))

    def count(self) -> int:
        return int(self._do("count"))

    def _do(self, *step: Any) -> Any:
        return self._page.act(*self._steps, step)


def _word(name: Name) -> Any:
    return {"re": name.pattern} if isinstance(name, re.Pattern) else name


class Window(Thing):
    """One person's window on the console."""

    def __init__(self, chromium: Chromium, url: str, shots: Path, **context: Any) -> None:
        context = {"viewport": {"width": 1280, "height": 800}, "reducedMotion": "reduce", **context}
        self.page = chromium.open(url, **context)
        super().__init__(self.page)
        self._shots = shots
        self._expected: list[re.Pattern[str]] = []

    # --- what is there ----------------------------------------------------------------------------------

    @property
    def sessions(self) -> Thing:
        """The list."""
        return self.role("navigation", "Sessions")

    @property
    def transcript(self) -> Thing:
        return self.role("region", "Transcript")

    @property
    def prompt(self) -> Thing:
        return self.role("textbox", "Prompt")

    @property
    def terminal(self) -> Thing:
        return self.role("textbox", "Terminal input")

    @property
    def connection(self) -> Thing:
        """The line that is there while there is none, and shortly afterwards."""
        return self.css(".connection")

    def until_on_screen(self, text: str) -> None:
        """Until the terminal shows it, as xterm draws it."""
        words = json.dumps(text)
        self.page.until(f"document.querySelector('.xterm-rows')?.innerText.includes({words})")

    # --- what a person does -----------------------------------------------------------------------------

    def start(self, name: str, backend: str = "Headless") -> None:
        """A session, by the dialog."""
        self.role("button", "New").click()
        dialog = self.role("dialog", "Start a session")
        dialog.labelled("Name").fill(name)
        dialog.role("radio", re.compile(f"^{backend}")).choose()
        self.look("dialog")
        dialog.role("button", "Start").click()
        self.prompt.shown()

    def go(self, name: str) -> None:
        """To a session of the list."""
        self.sessions.role("link", re.compile(rf"^{re.escape(name)}\b")).click()
        self.prompt.shown()

    def say(self, prompt: str) -> None:
        self.prompt.fill(prompt)
        self.role("button", "Send").click()

    def said(self) -> str:
        """What Claude has said, as far as it is on the page; prompts, which quote it here, are no part."""
        return str(self.page.eval(SAID))

    def until_said(self, text: str) -> None:
        """Until Claude has said it."""
        self.page.until(f"{SAID}.includes({json.dumps(text)})")

    def key(self, *keys: str) -> None:
        """Pressed wherever the focus is."""
        for key in keys:
            self.page.act(("keyboard",), ("press", key))

    def type(self, text: str) -> None:
        """Typed wherever the focus is."""
        self.page.act(("keyboard",), ("type", text))

    # --- what is looked at ------------------------------------------------------------------------------

    def look(self, state: str) -> None:
        """Keeps a picture of this state, and fails where axe-core finds something serious in it."""
        shots = Path(os.environ.get("CONSOLE_SHOTS") or self._shots)
        shots.mkdir(parents=True, exist_ok=True)
        self.page.act(("screenshot", {"path": str(shots / f"{state}.png")}))
        serious = [found for found in self.page.axe() if found["impact"] in ("serious", "critical")]
        assert not serious, json.dumps(serious, indent=1)

    def expect(self, complaint: re.Pattern[str]) -> None:
        """Something that goes wrong on purpose."""
        self._expected.append(complaint)

    def complaints(self) -> list[str]:
        """What else went wrong."""
        found = self.page.complaints()
        return [said for said in found if not any(known.search(said) for known in self._expected)]
