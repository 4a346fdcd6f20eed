"""A service elsewhere is told by webhooks what happens in the sessions of a real bridge."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.bridge import BridgeProcess, running_bridge, sim
from tests.fakes.phoenix_js import Clients

pytestmark = pytest.mark.real

PATIENCE_S = 30
KEY = b"0123456789abcdef0123456789abcdef"
Json = dict[str, Any]


class Endpoint:
    """A receiver as somebody else writes one: it verifies, and answers with `status`."""

    def __init__(self) -> None:
        self.status = 200
        self.told: list[tuple[str, Json]] = []
        """Id and body of whatever came, taken or not."""
        self._came = threading.Condition()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                id, at = self.headers["webhook-id"], self.headers["webhook-timestamp"]
                made = hmac.new(KEY, f"{id}.{at}.".encode() + body, hashlib.sha256).digest()
                assert self.headers["webhook-signature"] == "v1," + base64.b64encode(made).decode()
                assert abs(time.time() - int(at)) < 300
                with outer._came:
                    self.send_response(outer.status)
                    self.send_header("content-length", "0")
                    self.end_headers()
                    outer.told.append((id, json.loads(body)))
                    outer._came.notify_all()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/hook"

    def wait(
        self, type: str, fits: Callable[[Json], bool] = lambda _: True, after: int = 0
    ) -> tuple[str, Json]:
        """The first of this kind, not counting what had come when there were `after`."""

        def found() -> tuple[str, Json] | None:
            return next((t for t in self.told[after:] if t[1]["type"] == type and fits(t[1])), None)

        with self._came:
            assert self._came.wait_for(found, PATIENCE_S), f"no {type} came, only {self.told}"
            told = found()
            assert told is not None
            return told

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    made = Endpoint()
    yield made
    made.close()


@pytest.fixture
def claude(tmp_path: Path, claude_path: Path) -> Path:
    """The configured CLI, which the test breaks."""
    wrapper = tmp_path / "claude"
    wrapper.write_text(f'#!/bin/sh\ntest -e {tmp_path}/broken && exit 3\nexec {claude_path} "$@"\n')
    wrapper.chmod(0o755)
    return wrapper


@pytest.fixture
def bridge(tmp_path: Path, endpoint: Endpoint, claude: Path) -> Iterator[BridgeProcess]:
    hook = {"url": endpoint.url, "secret": "whsec_" + base64.b64encode(KEY).decode(), "retry_longest_s": 2}
    settings = {
        "CLAUDE_BRIDGE_WEBHOOKS": json.dumps([hook]),
        "CLAUDE_BRIDGE_CLAUDE__PATH": str(claude),
        "CLAUDE_BRIDGE_SESSIONS__RESTART_LIMIT": "1",
    }
    with running_bridge(tmp_path, **settings) as running:
        yield running


def kept(bridge: BridgeProcess, id: str) -> None:
    """Until the bridge has written down what it knows of a message."""
    deadline = time.monotonic() + PATIENCE_S
    file = bridge.state_dir / "webhooks.json"
    while not (file.exists() and id in file.read_text()):
        assert time.monotonic() < deadline, "it is not kept"
        time.sleep(0.02)


def test_a_service_is_told_of_requests_turns_and_failures(
    bridge: BridgeProcess, clients: Clients, endpoint: Endpoint, tmp_path: Path
) -> None:
    """What waits for an answer, what came of the turn, and a session that cannot run; over a kill as well."""
    socket = clients.connect(bridge.url, bridge.token)
    command = f"touch {bridge.state_dir}/touched"
    prompt = f"the heron {sim(tools=[['Bash', {'command': command}]], text='Touched.')}"
    channels = {name: socket.join(f"session:{name}", {"start": {}}) for name in ("main", "open")}
    turns = {name: channel.submit(prompt) for name, channel in channels.items()}
    asked = {}
    for name, channel in channels.items():
        asked[name], body = endpoint.wait("request_opened", lambda b, name=name: b["session"] == name)
        assert body["request"] == channel.wait("request_opened")["request"]

    # One is answered while nobody takes what is told, and the bridge is killed: the next one tells it.
    endpoint.status = 503
    request = channels["main"].wait("request_opened")["request"]["id"]
    channels["main"].push("answer", {"request": request, "decision": "allow"})
    story = channels["main"].story(turns["main"])
    finished, body = endpoint.wait("turn_finished")
    assert (body["session"], body["turn"], body["status"]) == ("main", turns["main"], "completed")
    assert (body["text"], body["usage"]) == (story.text, story.finished["usage"])
    kept(bridge, finished)
    bridge.kill()
    before = len(endpoint.told)
    endpoint.status = 200
    bridge.start()
    assert endpoint.wait("turn_finished", after=before) == (finished, body)

    (tmp_path / "broken").touch()
    clients.connect(bridge.url, bridge.token).join("sessions").push("start", {"name": "broken"})
    _, body = endpoint.wait("session_failed")
    assert (body["session"], body["state"]) == ("broken", "failed")
    assert "status 3" in body["reason"]
    # The other request is still open, and was known to have been taken.
    assert [id for id, _ in endpoint.told].count(asked["open"]) == 1
    assert "heron" not in bridge.log.read_text()
