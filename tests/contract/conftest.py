"""The suites here run over every backend: what clients rely on does not depend on what runs below."""

from __future__ import annotations

import pytest

BACKENDS = ("headless", "tmux")
"""The next backend is added here, and has to keep every promise that is tested in this folder."""


@pytest.fixture(params=BACKENDS, autouse=True)
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name
