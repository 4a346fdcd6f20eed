"""The hook that a CLI runs to ask for a permission: a script of its own, never imported by the bridge.

    python -I -S ask_hook.py ASK_FILE [--event]

Takes the question from its standard input to the bridge and prints the answer, however long that takes:
the bridge may go away, come back, and come back elsewhere. It ends without a word when nobody waits for
it any more. With `--event` it only passes its input on, and gives up after two seconds. ASK_FILE names
the file in which the bridge says where it is, and holds the session's secret.

It may live for days beside each open question, hence sockets without `http.client`: half the memory.
Its exit status is 0 whatever happens: all that went wrong is that nobody answered here, and the dialog in
the terminal does not need us.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
import uuid
from time import monotonic
from types import FrameType

ATTEMPT_S = 0.5
"""From one attempt to the next at least."""
LOOK_S = 0.25
"""How often it looks whether its parent is there. The end of its output is noticed at once."""
ANSWER_S = 60.0
"""The bridge ends a poll after 20 s; one that says nothing for so long is asked anew."""
CONNECT_S = 0.5
GONE_S = 0.5
"""For saying that it goes; the one who ended it waits."""
EVENT_S = 2.0
"""The CLI begins when its event has been told, or after this."""
STDOUT = 1

ANSWERED, LATER = 200, 204
NEVER = (400, 413)
"""The bridge will not take this question, however often it is put."""


class Gone(BaseException):
    """Nobody waits for an answer any more. No `Exception`: it passes everything that is only retried."""


class Unanswered(Exception):
    """No whole answer came; another attempt may bring one."""


RETRIED = (Unanswered, OSError, ValueError, OverflowError, RecursionError)
"""What files that are being written, a bridge that is not there, and a stranger on its port amount to."""


class Asker:
    """One question, asked for the process `parent`."""

    def __init__(self, ask_file: str, body: bytes, parent: int) -> None:
        self._ask_file = ask_file
        self._body = body
        self._parent = parent
        self._request = str(uuid.uuid4())
        self._asked = False

    def answer(self) -> bytes:
        """What is to be printed, perhaps nothing. Raises `Gone`."""
        while True:
            next_at = monotonic() + ATTEMPT_S
            try:
                status, said = self._post(f"/ask/{self._request}", self._body, monotonic() + ANSWER_S)
                if status == ANSWERED and isinstance(answer := json.loads(said), dict):
                    return said if answer else b""
                if status in NEVER:
                    return b""
            except RETRIED:
                pass
            self._wait(None, 0, next_at)

    def tell(self) -> None:
        """Pass the body on as a hook; twice, where the first answer was lost. Raises `Gone`."""
        end = monotonic() + EVENT_S
        while monotonic() < end:
            next_at = monotonic() + ATTEMPT_S
            try:
                status, _ = self._post("/hook", self._body, end)
                if status == ANSWERED or status in NEVER:
                    return
            except RETRIED:
                pass
            self._wait(None, 0, min(next_at, end))

    def leave(self) -> None:
        """Say that the question is not ours any more, if the bridge can be told just now."""
        if not self._asked:
            return
        self._parent = 0
        with contextlib.suppress(*RETRIED):
            self._post(f"/ask/{self._request}/gone", b"", monotonic() + GONE_S)

    def _post(self, path: str, body: bytes, end: float) -> tuple[int, bytes]:
        """One request on a connection of its own. Raises one of `RETRIED`, and `Gone`."""
        with open(self._ask_file, "rb") as file:
            ask = _object(file.read())
        with open(_text(ask, "url_file"), "rb") as file:
            host, _, port = _text(_object(file.read()), "url").removeprefix("http://").partition(":")
        head = (
            f"POST {path} HTTP/1.0\r\nHost: {host}:{port}\r\nAuthorization: Bearer {_text(ask, 'secret')}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as connection:
            connection.settimeout(CONNECT_S)
            connection.connect((host, int(port)))
            connection.setblocking(False)
            self._asked = True
            rest = memoryview(head.encode() + body)
            while rest:
                self._wait(connection, select.POLLOUT, end)
                rest = rest[connection.send(rest) :]
            said = bytearray()
            while True:
                self._wait(connection, select.POLLIN, end)
                chunk = connection.recv(65536)
                if not chunk:
                    return _parsed(bytes(said))
                said += chunk

    def _wait(self, connection: socket.socket | None, events: int, end: float) -> None:
        """Until the connection is ready, or the time has come: then `Unanswered` where there is one.

        Raises `Gone` where our parent ended, or whoever read our output stopped reading.
        """
        poll = select.poll()
        if self._parent:
            poll.register(STDOUT, 0)
        if connection is not None:
            poll.register(connection, events)
        while True:
            if self._parent and os.getppid() != self._parent:
                raise Gone
            left = end - monotonic()
            if left <= 0:
                if connection is None:
                    return
                raise Unanswered
            for ready, _ in poll.poll(min(left, LOOK_S) * 1000):
                if ready == STDOUT:
                    raise Gone
                return


def _parsed(said: bytes) -> tuple[int, bytes]:
    """Status and body of an answer. One that was cut short is no JSON object. Raises one of `RETRIED`."""
    head, _, body = said.partition(b"\r\n\r\n")
    version, _, status = head.partition(b" ")
    if not version.startswith(b"HTTP/1."):
        raise Unanswered
    return int(status[:3]), body


def _object(content: bytes) -> dict[str, object]:
    """Raises ValueError: a file may be seen half written."""
    found = json.loads(content)
    if not isinstance(found, dict):
        raise ValueError(found)
    return found


def _text(found: dict[str, object], key: str) -> str:
    value = found.get(key)
    if not isinstance(value, str):
        raise ValueError(key)
    return value


def _print(answer: bytes) -> None:
    """Raises `Gone` where nobody reads."""
    try:
        while answer:
            answer = answer[os.write(STDOUT, answer) :]
    except OSError:
        raise Gone from None


def _end(_signal: int, _frame: FrameType | None) -> None:
    raise Gone


def main(words: list[str]) -> int:
    # A Ctrl-C in the terminal is meant for the CLI.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asker, parent = None, os.getppid()
    try:
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _end)
        files = [word for word in words if word != "--event"]
        asker = Asker(files[0] if files else "", sys.stdin.buffer.read(), parent)
        if "--event" in words:
            asker.tell()
        else:
            _print(asker.answer())
    except Gone:
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        if asker is not None and "--event" not in words:
            asker.leave()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
