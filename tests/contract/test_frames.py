"""The golden frames of `spec/frames`, both ways: what clients say is understood, what we say is said so."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bridge.errors import WireError
from bridge.wire import requests
from bridge.wire.phoenix import Message
from tests.contract.examples import ASKED, CODECS, FRAMES, on_screen, spoken, with_files

KEYS = ("join_ref", "ref", "topic", "event", "payload")


def golden(name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((FRAMES / name).read_text())
    return rows


@pytest.mark.parametrize("version", CODECS)
@pytest.mark.parametrize("name", ASKED)
def test_what_a_client_says_is_decoded(version: str, name: str) -> None:
    """To the same message in both versions."""
    row = next(r for r in golden(f"{version}_client.json") if r["name"] == name)
    assert CODECS[version].decode(row["wire"]) == Message(**row["decoded"])
    assert row["decoded"] == dict(zip(KEYS, ASKED[name], strict=True))


@pytest.mark.parametrize("version", CODECS)
@pytest.mark.parametrize("name", spoken("v2"))
def test_what_we_say_is_encoded_as_it_was(version: str, name: str) -> None:
    """A difference here is one for every client in the field."""
    row = next(r for r in golden(f"{version}_server.json") if r["name"] == name)
    assert json.loads(spoken(version)[name]) == json.loads(row["wire"])


@pytest.mark.parametrize("version", CODECS)
def test_each_pair_of_a_golden_file_says_the_same_twice(version: str) -> None:
    """`decoded` is `wire`, named; clients' tests rely on either."""
    for direction in ("client", "server"):
        for row in golden(f"{version}_{direction}.json"):
            frame = json.loads(row["wire"])
            named = dict(zip(KEYS, frame, strict=True)) if version == "v2" else {"join_ref": None, **frame}
            assert row["decoded"] == named
            assert row["direction"] == direction


@pytest.mark.parametrize("row", golden("malformed.json"), ids=lambda r: f"{r['vsn']} {r['wire'][:30]}")
def test_what_is_malformed_is_refused(row: dict[str, Any]) -> None:
    """The socket is closed for it, with 1011."""
    with pytest.raises(WireError):
        CODECS[row["vsn"]].decode(row["wire"])


@pytest.mark.parametrize("name", [n for n, f in ASKED.items() if not f[3].startswith(("phx_", "heart"))])
def test_every_event_a_client_may_send_is_a_command(name: str) -> None:
    """The golden frames are valid requests as well."""
    _, _, topic, event, payload = ASKED[name]
    route = requests.route(topic)
    assert route is not None
    requests.parse(route.kind, event, payload)


def test_the_frames_of_a_prompt_with_files_are_as_they_were() -> None:
    """And what a client says in text and in bytes asks for the same."""
    rows = golden("v2_attachments.json")
    assert rows == with_files()
    text, binary = rows[0], rows[1]
    said = [CODECS["v2"].decode(text["wire"]), CODECS["v2"].decode_binary(bytes.fromhex(binary["wire"]))]
    first, second = (requests.parse("session", m.event, m.payload) for m in said)
    assert first == second


def test_the_frames_of_a_screen_are_as_they_were() -> None:
    """Only V2 has them, text and binary."""
    assert golden("v2_terminal.json") == on_screen()


@pytest.mark.parametrize("row", golden("v2_terminal.json"), ids=lambda row: row["name"])
def test_a_frame_of_a_screen_is_understood_or_said_so(row: dict[str, Any]) -> None:
    """A client's by the codec and as a command, ours as the codec says it."""
    codec, decoded, binary = CODECS["v2"], row["decoded"], row["opcode"] == "binary"
    payload = bytes.fromhex(decoded["payload"]) if binary else decoded["payload"]
    fields = {**decoded, "payload": payload}
    if row["direction"] == "client":
        wire = row["wire"]
        said = codec.decode_binary(bytes.fromhex(wire)) if binary else codec.decode(wire)
        assert said == Message(**fields)
        if said.event != "phx_join":
            requests.parse("terminal", said.event, said.payload)
    elif binary:
        frame = codec.push_bytes(fields["join_ref"], fields["topic"], fields["event"], payload)
        assert frame.hex() == row["wire"]
    elif decoded["event"] == "phx_reply":
        refs = (fields["join_ref"], fields["ref"], fields["topic"])
        frame = codec.reply(*refs, payload["status"], payload["response"])
        assert json.loads(frame) == json.loads(row["wire"])
    else:
        frame = codec.push(fields["join_ref"], fields["ref"], fields["topic"], fields["event"], payload)
        assert json.loads(frame) == json.loads(row["wire"])


def test_the_golden_files_name_the_same_frames_in_both_versions() -> None:
    """And no file is left behind by a renaming."""
    assert {p.name for p in FRAMES.glob("*.json")} == {
        "malformed.json",
        "v2_attachments.json",
        "v2_terminal.json",
        *(f"{v}_{d}.json" for v in CODECS for d in ("client", "server")),
    }
    for direction in ("client", "server"):
        v1, v2 = ([r["name"] for r in golden(f"{v}_{direction}.json")] for v in ("v1", "v2"))
        assert v1 == v2
