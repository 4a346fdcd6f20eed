"""A bridge for tests that are written in another language: `python -m tests.fakes.bridge_by_pipe`.

Commands come in as lines, `kill`, `stop`, `start`; each is answered by a line of JSON, {url, token}
once it runs. When the input ends, bridge, tmux server and everything in it are gone, however the tests ended.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path

from bridge.drill.stage import Stage


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="bridge-by-pipe-"))
    bridge = Stage(folder, {})
    try:
        bridge.start()
        _say(bridge)
        for line in sys.stdin:
            match line.strip():
                case "kill":
                    bridge.kill()
                case "stop":
                    bridge.stop()
                case "start":
                    bridge.start()
                case other:
                    raise SystemExit(f"no such command: {other}")
            _say(bridge)
    finally:
        left = bridge.remove()
        shutil.rmtree(folder, ignore_errors=True)
    if left:
        raise SystemExit(f"processes were left behind: {left}")


def _say(bridge: Stage) -> None:
    known = {"url": bridge.address.url, "token": bridge.token} if bridge.process else {}
    sys.stdout.write(json.dumps(known) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
