"""Small real files for prompts, and a picture of any size; made, because nothing binary is kept here."""

from __future__ import annotations

import base64
import random
import struct
import zlib
from typing import Any

from tests.fakes.phoenix_js import Json


def png(side: int = 2) -> bytes:
    """Noise, which no encoder makes smaller: about three bytes a pixel. The same for the same size."""
    noise = random.Random(side)
    rows = b"".join(b"\0" + noise.randbytes(3 * side) for _ in range(side))
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 1)), (b"IEND", b""))
    packed = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def pdf() -> bytes:
    """One page that says hello."""
    content = b"BT /F1 18 Tf 20 100 Td (Hello) Tj ET"
    objects = (
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 200]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>",
        b"<</Length %d>>stream\n%b\nendstream" % (len(content), content),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    )
    out, places = b"%PDF-1.4\n", []
    for number, said in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj%bendobj\n" % (number, said)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    head = b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    tail = b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, len(out))
    return out + head + table + tail


NOTES = "Notes: größer, and a second line.\nThe word is marmalade.\n"

Given = tuple[str, str, bytes]

PICTURE: Given = ("cat photo.png", "image/png", png())
TEXT: Given = ("notes.md", "text/markdown", NOTES.encode())
PAPER: Given = ("paper.pdf", "application/pdf", pdf())


def attached(*files: Given) -> list[Json]:
    """As JSON has them."""
    return [
        {"name": name, "media_type": media_type, "data": base64.b64encode(data).decode()}
        for name, media_type, data in files
    ]


def in_bytes(*files: Given) -> list[dict[str, Any]]:
    """As a transport that has bytes does."""
    return [{"name": name, "media_type": media_type, "data": data} for name, media_type, data in files]


def described(*files: Given) -> list[Json]:
    """What a turn says of them."""
    return [{"name": name, "media_type": media_type, "size": len(data)} for name, media_type, data in files]


def blocks_of(request: Json) -> list[Json]:
    """What Claude was sent since its last answer, block by block: the CLI may make several messages of it."""
    messages = request["messages"]
    last = max((i for i, m in enumerate(messages) if m["role"] == "assistant"), default=-1)
    blocks: list[Json] = []
    for message in messages[last + 1 :]:
        if message["role"] == "user":
            content = message["content"]
            blocks += [{"type": "text", "text": content}] if isinstance(content, str) else content
    return blocks


def pictures_in(request: Json) -> list[bytes]:
    return [base64.b64decode(b["source"]["data"]) for b in blocks_of(request) if b["type"] == "image"]
