"""`python -m bridge.simulator --port P [--port-file F]`: the simulator as a process of its own.

Listens on loopback only, ends at SIGTERM or SIGINT, and says nothing unless it has to.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import uvloop
from aiohttp import web

from bridge.simulator.server import Simulator

HOST = "127.0.0.1"
SHUTDOWN_S = 0.2
"""An answer under way is cut then: who ends a simulator does not want to wait for its scripted pauses."""


async def serve(port: int, port_file: Path | None) -> int:
    """Serves until told to end; the exit status."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    runner = web.AppRunner(
        Simulator().app(), access_log=None, handler_cancellation=True, shutdown_timeout=SHUTDOWN_S
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, HOST, port, backlog=1024)
        try:
            await site.start()
            chosen = int(runner.addresses[0][1])
            if port_file is not None:
                publish(port_file, chosen)
        except OSError as error:
            sys.stderr.write(f"The simulator cannot listen on {HOST}:{port} or say so: {error}\n")
            return 1
        if port_file is None:
            sys.stdout.write(f"simulator: http://{HOST}:{chosen}\n")
            sys.stdout.flush()
        await stop.wait()
        return 0
    finally:
        await runner.cleanup()


def publish(port_file: Path, port: int) -> None:
    """Writes `{"port", "pid"}` so that a reader sees all of it or nothing."""
    new = port_file.with_name(f".{port_file.name}.{os.getpid()}")
    new.write_text(json.dumps({"port": port, "pid": os.getpid()}) + "\n")
    new.replace(port_file)


def main() -> int:
    """Reads the command line; the exit status is 2 for a bad one, 1 where it cannot listen."""
    parser = argparse.ArgumentParser(
        prog="python -m bridge.simulator", description="The Messages API, simulated, on loopback."
    )
    parser.add_argument("--port", type=int, default=0, help="0 (the default) picks a free one")
    parser.add_argument("--port-file", type=Path, help='where to write {"port", "pid"} once listening')
    options = parser.parse_args()
    return uvloop.run(serve(options.port, options.port_file))


if __name__ == "__main__":
    sys.exit(main())
