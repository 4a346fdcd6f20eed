"""A bridge on the simulator for the Elixir tests, and its end: `python bridge.py FOLDER`, from the repository.

One JSON line out for every command line in (`start`, `kill`), the first without being asked: `{"url", "token"}`. When
stdin ends, as it does however the VM ends, nothing of it is left.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[4]))

from bridge.drill.stage import Stage


def main() -> int:
    stage = Stage(Path(sys.argv[1]), {})
    left = {}
    try:
        stage.start()
        say(stage)
        for line in sys.stdin:
            match line.strip():
                case "kill":
                    stage.kill()
                case "start":
                    stage.start()
            say(stage)
    finally:
        left = stage.remove()
    return 1 if left else 0


def say(stage: Stage) -> None:
    sys.stdout.write(json.dumps({"url": f"http://127.0.0.1:{stage.port}", "token": stage.token}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
