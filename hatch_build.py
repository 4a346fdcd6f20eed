"""What a wheel or an sdist takes along that git does not hold: the web console, built into `bridge/console`.

An sdist has it already, so that a wheel made from one needs no Node. An editable install serves what is
built in the checkout, or nothing.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

WITHOUT = "BUILD_WITHOUT_CONSOLE"
"""Set to anything, it builds a package without the console."""


class ConsoleHook(BuildHookInterface):
    """Builds the console before hatchling looks which files there are."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        root = Path(self.root)
        if version == "editable" or os.environ.get(WITHOUT):
            return
        if not (root / "PKG-INFO").exists():  # a checkout, and no unpacked sdist
            done = subprocess.run(["bash", str(root / "scripts" / "build-console")], check=False)
            if done.returncode != 0:
                raise SystemExit(
                    "The web console could not be built (see above). Install Node.js and npm, "
                    f"or set {WITHOUT}=1 to build a package without it."
                )
        if not (root / "bridge" / "console" / "index.html").exists():
            raise SystemExit(f"There is no bridge/console here; {WITHOUT}=1 builds a package without it.")
        build_data["artifacts"].append("/bridge/console/")
