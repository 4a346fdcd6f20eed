"""The web console at `/`: files that Vite built into `bridge/console`, and nothing that a session knows.

They are read once, at the start: an upgrade below a running bridge must not mix the files of two builds, and
a path that is none of theirs cannot lead anywhere. No token is asked for, since the page is the same for all
and brings its own to the socket.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from http import HTTPStatus
from pathlib import Path

from aiohttp import hdrs, web

BUILT = Path(__file__).parents[1] / "console"
INDEX = "index.html"

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "font-src 'self'",
        "img-src 'self' data: blob:",
        "connect-src 'self'",  # the page's own WebSocket is among that
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
"""What the page may load and do: what came with it, and no script or style that stands in a text. No text is
ever parsed as HTML: the page builds elements."""

HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}

ASKED_EACH_TIME = "no-cache"
NEVER_AGAIN = "public, max-age=31536000, immutable"
"""For what has its content's hash in its name."""

KINDS = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
    ".woff2": "font/woff2",
}
"""Our own table: the machine's may know less, or call a script something else."""

MISSING = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>claude-bridge</title>
<h1>The bridge runs, but its web console was not built</h1>
<p>This is a checkout in which Node.js was missing or too old. Install Node.js 18, 20, 22 or newer with npm,
run <code>make bridge/console/index.html</code> there, and start the bridge again. Everything else that the
bridge serves is unaffected.</p>
</html>
"""


@dataclass(frozen=True, slots=True)
class File:
    """One file as it is sent."""

    path: str
    """`/` and its place below the folder; `/` alone for the page."""
    body: bytes
    packed: bytes | None
    """The same with gzip, which a browser takes over plain HTTP too; None where nothing is gained by it."""
    tag: str
    content_type: str
    cache: str

    @classmethod
    def read(cls, folder: Path, file: Path) -> File:
        name, body = file.relative_to(folder).as_posix(), file.read_bytes()
        packed = file.with_name(f"{file.name}.gz")
        return cls(
            "/" if name == INDEX else f"/{name}",
            body,
            packed.read_bytes() if packed.exists() else None,
            sha256(body).hexdigest()[:32],
            KINDS.get(file.suffix, "application/octet-stream"),
            NEVER_AGAIN if name.startswith("assets/") else ASKED_EACH_TIME,
        )

    async def answer(self, request: web.Request) -> web.Response:
        """Whole, or 304 where the client has it. The two forms of it have tags of their own."""
        packed = self.packed if _takes_gzip(request) else None
        tag = self.tag if packed is None else f"{self.tag}-gz"
        headers = {**HEADERS, hdrs.CACHE_CONTROL: self.cache, hdrs.ETAG: f'"{tag}"'}
        if self.packed is not None:
            headers[hdrs.VARY] = hdrs.ACCEPT_ENCODING
        if any(known.value in (tag, "*") for known in request.if_none_match or ()):
            return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
        headers[hdrs.CONTENT_TYPE] = self.content_type
        if packed is not None:
            headers[hdrs.CONTENT_ENCODING] = "gzip"
        return web.Response(body=self.body if packed is None else packed, headers=headers)


class Console:
    """The files there are in `folder`; a page that says how to build them where there is no page."""

    def __init__(self, folder: Path = BUILT) -> None:
        found = sorted(file for file in folder.rglob("*") if file.is_file() and file.suffix != ".gz")
        files = [File.read(folder, file) for file in found]
        self.files = files if any(file.path == "/" for file in files) else []

    def mount(self, app: web.Application) -> None:
        """GET and HEAD of each file by its own path."""
        if not self.files:
            app.router.add_get("/", _missing)
        for file in self.files:
            app.router.add_get(file.path, file.answer)


def _takes_gzip(request: web.Request) -> bool:
    for part in request.headers.get(hdrs.ACCEPT_ENCODING, "").split(","):
        coding, _, weight = part.replace(" ", "").lower().partition(";q=")
        if coding == "gzip":
            return weight.strip("0.") != "" or weight == ""
    return False


async def _missing(_: web.Request) -> web.Response:
    return web.Response(
        status=HTTPStatus.SERVICE_UNAVAILABLE,
        text=MISSING,
        content_type="text/html",
        headers={**HEADERS, hdrs.CACHE_CONTROL: "no-store"},
    )
