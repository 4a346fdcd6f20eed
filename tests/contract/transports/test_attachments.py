"""Files with a prompt over every transport: as base64 wherever there is JSON, as bytes where there are."""

from __future__ import annotations

import json

import pytest

from tests.contract.transports.conftest import Connect
from tests.contract.transports.test_joining import refusal
from tests.fakes.bridge import BridgeProcess, sim
from tests.fakes.files import (
    PICTURE,
    TEXT,
    Given,
    attached,
    blocks_of,
    described,
    in_bytes,
    pictures_in,
    png,
)
from tests.fakes.phoenix_js import Refused

pytestmark = pytest.mark.real


@pytest.mark.parametrize("how", ["base64", "bytes"])
async def test_files_come_with_a_prompt(
    bridge: BridgeProcess, connect: Connect, way: str, talk: str, how: str
) -> None:
    """They reach Claude as they are, and everybody is told their names, types and sizes."""
    peer = await connect(way)
    await peer.join(talk, {"turns": 0})
    prompt = f"two files over {way} as {how} {sim(text='seen')}"
    if how == "base64":
        reply = await peer.ask(talk, "submit", {"prompt": prompt, "attachments": attached(PICTURE, TEXT)})
    else:
        reply = await peer.submit_bytes(talk, {"prompt": prompt, "attachments": in_bytes(PICTURE, TEXT)})
    story = await peer.story(talk, reply["turn"])
    assert (story.status, story.text) == ("completed", "seen")
    for event in ("turn_queued", "turn_started"):
        told = await peer.wait(talk, event, turn=reply["turn"])
        assert (told["prompt"], told["attachments"]) == (prompt, described(PICTURE, TEXT))
    (request,) = bridge.requests(prompt)
    assert pictures_in(request) == [PICTURE[2]]
    assert "The word is marmalade." in json.dumps(blocks_of(request))


async def test_nine_megabytes_of_bytes_are_taken(
    bridge: BridgeProcess, connect: Connect, way: str, talk: str
) -> None:
    """The most that may be attached to one prompt; over polls a body's own limit comes first."""
    if way in ("longpoll-v2", "socketio-polling"):
        pytest.skip("it makes base64 of bytes: a body of it has less")
    peer = await connect(way)
    await peer.join(talk, {"turns": 0})
    files: list[Given] = [(f"{n}.txt", "text/plain", bytes([65 + n]) * 4_500_000) for n in range(2)]
    payload = {"prompt": f"large over {way} {sim(text='much')}", "attachments": in_bytes(*files)}
    try:
        reply = await peer.submit_bytes(talk, payload)
    except Refused as e:
        pytest.fail(f"refused: {e.response}")
    assert (await peer.story(talk, reply["turn"])).text == "much"


async def test_a_refusal_names_the_file(connect: Connect, way: str, talk: str) -> None:
    """By its place, in the same words over every transport."""
    peer = await connect(way)
    await peer.join(talk, {"turns": 0})
    wrong: Given = ("a.gif", "image/gif", png())
    said = await refusal(
        peer.ask(talk, "submit", {"prompt": "x", "attachments": [*attached(PICTURE), *attached(wrong)]})
    )
    assert (said["reason"], said["field"]) == ("invalid_payload", "attachments.1.media_type")
    assert "the bytes are image/png" in said["message"]
    spoilt = [{**attached(PICTURE)[0], "data": "not base64!"}]
    said = await refusal(peer.ask(talk, "submit", {"prompt": "x", "attachments": spoilt}))
    assert (said["reason"], said["field"]) == ("invalid_payload", "attachments.0.data")
    said = await refusal(peer.submit_bytes(talk, {"prompt": "x", "attachments": in_bytes(TEXT, wrong)}))
    assert (said["reason"], said["field"]) == ("invalid_payload", "attachments.1.media_type")


async def test_what_was_attached_is_given_back_over_rest(
    bridge: BridgeProcess, connect: Connect, talk: str
) -> None:
    """As a download, which no browser shows as a page of the bridge's; nothing else is there."""
    peer = await connect("rest")
    await peer.join(talk, {"turns": 0})
    page: Given = ('a "b" größe.html', "text/html", b"<script>alert(1)</script>")
    reply = await peer.ask(talk, "submit", {"prompt": "keep", "attachments": attached(PICTURE, page)})
    at = f"{bridge.address.url}/api/sessions/shared/turns"
    auth = {"Authorization": f"Bearer {bridge.token}"}
    for number, (_, media_type, data) in enumerate((PICTURE, page)):
        async with peer.http.get(f"{at}/{reply['turn']}/attachments/{number}", headers=auth) as answer:
            assert (answer.status, answer.content_type, await answer.read()) == (200, media_type, data)
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert "sandbox" in answer.headers["Content-Security-Policy"]
            assert answer.headers["Content-Disposition"].startswith("attachment; ")
    assert answer.headers["Content-Disposition"].endswith(
        "filename*=UTF-8''a%20%22b%22%20gr%C3%B6%C3%9Fe.html"
    )
    for path, status, reason in (
        (f"{reply['turn']}/attachments/2", 404, "not_found"),
        (f"{reply['turn']}/attachments/-1", 404, "not_found"),
        (f"{reply['turn']}/attachments/x", 404, "not_found"),
        ("none/attachments/0", 404, "turn_not_found"),
    ):
        async with peer.http.get(f"{at}/{path}", headers=auth) as answer:
            assert (answer.status, (await answer.json())["reason"]) == (status, reason)
    async with peer.http.get(f"{at}/{reply['turn']}/attachments/0") as answer:
        assert answer.status == 401
    await peer.story(talk, reply["turn"])
