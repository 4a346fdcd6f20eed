"""Files where a transport has bytes: the binary `submit`, and forms of parts."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.errors import InvalidPayload
from bridge.wire import forms, requests
from bridge.wire.attachments import packed, unpacked

ONE = {"name": "a.txt", "media_type": "text/plain", "data": b"hello"}
EMPTY = {**ONE, "data": b""}


def refused(work: Any, *arguments: Any) -> str:
    with pytest.raises(InvalidPayload) as refusal:
        work(*arguments)
    return str(refusal.value.details["field"])


# --- binary pushes ----------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(st.binary(max_size=50), max_size=4), st.text(max_size=10).filter(str.isprintable))
def test_what_is_packed_is_read_again(contents: list[bytes], prompt: str) -> None:
    """Every byte in its own file."""
    payload = {"prompt": prompt, "attachments": [{**ONE, "data": data} for data in contents]}
    assert unpacked(packed(payload)) == payload


def test_a_binary_submit_is_a_submit() -> None:
    """And one without files is, too."""
    command = requests.parse("session", "submit", packed({"prompt": "x", "attachments": [ONE, EMPTY]}))
    assert [f.data for f in command.attachments] == [b"hello", b""]  # type: ignore[attr-defined]
    assert requests.parse("session", "submit", b'\0\0\0\x0e{"prompt":"x"}')


def head(json: str, rest: bytes = b"") -> bytes:
    return len(json.encode()).to_bytes(4) + json.encode() + rest


@pytest.mark.parametrize(
    ("data", "field"),
    [
        (b"", ""),
        (b"\0\0\0", ""),
        (b"\0\0\0\x05{}", ""),
        (b"\xff\xff\xff\xff{}", ""),
        (head("[]"), ""),
        (head("{"), ""),
        (head('{"attachments": {}}'), "attachments"),
        (head('{"attachments": {"a": 1}}'), "attachments"),
        (head('{"attachments": [1]}'), "attachments.0"),
        (head('{"attachments": [{}]}'), "attachments.0.size"),
        (head('{"attachments": [{"size": -1}]}'), "attachments.0.size"),
        (head('{"attachments": [{"size": true}]}', b"x"), "attachments.0.size"),
        (head('{"attachments": [{"size": 1.0}]}', b"x"), "attachments.0.size"),
        (head('{"attachments": [{"size": 2}]}', b"x"), "attachments.0.size"),
        (head('{"attachments": [{"size": 1, "data": ""}]}', b"x"), "attachments.0.data"),
        (head('{"prompt": "x"}', b"x"), "attachments"),
        (head('{"attachments": [{"size": 1}]}', b"xy"), "attachments"),
    ],
)
def test_what_does_not_fit_together_is_refused(data: bytes, field: str) -> None:
    """With the field, and the socket stays open."""
    assert refused(requests.parse, "session", "submit", data) == field


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_crash_it(data: bytes) -> None:
    """Whatever comes is read or refused."""
    with contextlib.suppress(InvalidPayload):
        unpacked(data)


# --- forms ------------------------------------------------------------------------------------------

TYPE = "multipart/form-data; boundary=b"


def form(*parts: tuple[str, bytes]) -> bytes:
    return (
        b"".join(b"--b\r\n%b\r\n\r\n%b\r\n" % (said.encode(), content) for said, content in parts)
        + b"--b--\r\n"
    )


def part(name: str, content: bytes = b"", more: str = "") -> tuple[str, bytes]:
    return f'Content-Disposition: form-data; name="{name}"{more}', content


def test_a_form_says_what_json_would() -> None:
    """Texts, and files with name and type."""
    body = form(
        part("prompt", "größe\r\nzwei".encode()),
        part("attachments", b"\r\n--\0", '; filename="a b.png"\r\ncontent-type: image/png'),
        part("attachments", b"", '; filename="n.txt"'),
    )
    assert forms.payload(TYPE, body) == {
        "prompt": "größe\r\nzwei",
        "attachments": [
            {"name": "a b.png", "media_type": "image/png", "data": b"\r\n--\0"},
            {"name": "n.txt", "media_type": "text/plain", "data": b""},
        ],
    }
    assert forms.payload('multipart/form-data; boundary="b"', b"before\r\n" + body + b"behind")["prompt"]


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ('filename="plain.txt"', "plain.txt"),
        ("filename=plain.txt", "plain.txt"),
        ('filename="quo\\"te.txt"', 'quo"te.txt'),
        ('filename="quo%22te.txt"', 'quo"te.txt'),
        ('filename="größe.txt"', "größe.txt"),
        ("filename=\"x\"; filename*=UTF-8''gr%C3%B6%C3%9Fe.txt", "größe.txt"),
        ("filename*=utf-8'de'a%20b.txt", "a b.txt"),
        ('filename="a;b.txt"', "a;b.txt"),
    ],
)
def test_a_files_name_is_read_as_clients_write_it(said: str, name: str) -> None:
    """Browsers, curl, and libraries each have their way."""
    (file,) = forms.payload(TYPE, form(part("attachments", b"x", f"; {said}")))["attachments"]
    assert file["name"] == name


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--b",
        b"--b--",
        b"no form",
        form(part("prompt"))[:-8],
        b"--b\r\nno header\r\n\r\nx\r\n--b--",
        b"--b\r\nContent-Type: text/plain\r\n\r\nx\r\n--b--",
        b"--b\r\n\r\nx\r\n--b--",
        b'--b\r\nContent-Disposition: attachment; name="prompt"\r\n\r\nx\r\n--b--',
        b'--bb\r\nContent-Disposition: form-data; name="prompt"\r\n\r\nx\r\n--bb--',
        form(*[part("prompt")] * 2),
        form(*[part("attachments", b"x", '; filename="a"')] * 101),
        form(part("prompt", b"\xff")),
        form(part("prompt", b"", "\r\nX: " + "x" * 20_000)),
    ],
)
def test_what_is_no_form_is_refused(body: bytes) -> None:
    """An empty one has no prompt, which is refused with the rest."""
    if body == b"--b--":
        assert forms.payload(TYPE, body) == {}
        return
    refused(forms.payload, TYPE, body)


@pytest.mark.parametrize(
    "kind", ["multipart/form-data", "multipart/form-data; boundary=", f"{TYPE}{'x' * 70}"]
)
def test_a_form_without_a_boundary_is_refused(kind: str) -> None:
    """It cannot be taken apart."""
    refused(forms.payload, kind, form(part("prompt", b"x")))


@settings(deadline=None)
@given(
    st.binary(max_size=200), st.lists(st.sampled_from([b"--b", b"\r\n", b"--", b"\r\n\r\n", b"a:b", b";"]))
)
def test_no_body_crashes_it(noise: bytes, pieces: list[bytes]) -> None:
    """Whatever comes is read or refused."""
    for body in (noise, b"".join(pieces), b"".join(pieces) + noise):
        with contextlib.suppress(InvalidPayload):
            forms.payload(TYPE, body)
