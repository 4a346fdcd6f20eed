"""The JavaScript client: its types, its package, and its own tests, which start a real bridge."""

from __future__ import annotations

import pytest

from tests.fakes.npm import NpmPackage

pytestmark = [pytest.mark.real, pytest.mark.timeout(400)]


def test_the_client_passes_its_own_tests() -> None:
    """Golden frames, breaks at every step, both transports against a real bridge that is killed."""
    client = NpmPackage("js")
    client.run("npm", "run", "-s", "check")
    client.run("npm", "run", "-s", "build")
    client.run("npx", "vitest", "run")
