"""The suites here run over every backend: what clients rely on does not depend on what runs below."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fakes.bridge import BridgeProcess, running_bridge

BACKENDS = ("headless", "tmux")
"""The next backend is added here, and has to keep every promise that is tested in this folder."""


@pytest.fixture(scope="module", params=BACKENDS, autouse=True)
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def bridge(backend: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BridgeProcess]:
    """One for all tests of a file over one backend: its folders and its record of requests are theirs."""
    with running_bridge(tmp_path_factory.mktemp(f"bridge-{backend}")) as running:
        yield running
