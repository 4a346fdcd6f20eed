"""One headless session on the simulator, for the tests that run the real CLI."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.headless import Rig
from tests.fakes.simulator import RunningSimulator


@pytest.fixture
async def rig(tmp_path: Path, simulator: RunningSimulator, claude_path: Path) -> AsyncIterator[Rig]:
    """A session that is not started yet; whatever it started is ended with the test."""
    rig = Rig(tmp_path / "rig", simulator.base_url, claude_path)
    yield rig
    await rig.close()
