"""The web console's own types and tests; neither a browser nor a bridge is started."""

from __future__ import annotations

import pytest

from tests.fakes.npm import NpmPackage

pytestmark = pytest.mark.timeout(400)


def test_the_console_passes_its_own_tests() -> None:
    """As `npm run check` and `npm test` do."""
    console = NpmPackage("console")
    console.run("npm", "run", "-s", "check")
    console.run("npx", "vitest", "run")
