"""Who is there, as Phoenix.Presence tells it: section 14, by its ids; raw, and with npm phoenix."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bridge.events import Attendant, PresenceChanged
from bridge.wire.views import event_payload
from tests.fakes.phoenix import PhoenixServer, Speaker
from tests.fakes.scenario import Connect
from tests.fakes.service import WATCH_TOKEN
from tests.wire.test_phoenix_join import A

Metas = list[dict[str, Any]]


async def told(client: Speaker, event: str = "presence_diff") -> Any:
    """The next frame of presence, of this kind; whatever comes before it is passed over."""
    while (frame := await client.hear_any())[3] != event:
        pass
    return frame


async def settled(client: Speaker, ref: str = "1") -> Metas:
    """Join, and wait for one's own arrival; the metas of one's own name."""
    await client.join(A, ref=ref)
    while not (joins := (await told(client))[4]["joins"]).get("owner"):
        pass
    metas: Metas = joins["owner"]["metas"]
    return metas


def refs(metas: Metas) -> list[str]:
    return [meta["phx_ref"] for meta in metas]


async def test_O01_the_state_is_pushed_after_every_join(server: PhoenixServer, client: Speaker) -> None:
    """After the reply, with the join's own ref; an empty object where nobody has been told to be there."""
    await client.say("1", "1", A, "phx_join", {})
    assert (await client.hear_any())[3] == "phx_reply"
    assert await client.hear_any() == ["1", None, A, "presence_state", {}]
    (mine,) = (await told(client))[4]["joins"]["owner"]["metas"]
    await client.say("2", "2", A, "phx_join", {})
    state = await told(client, "presence_state")
    assert state == ["2", None, A, "presence_state", {"owner": {"metas": [mine]}}]


async def test_O02_a_diff_is_a_broadcast_with_both_keys(server: PhoenixServer, client: Speaker) -> None:
    """No refs; `{}` where nobody came, or nobody went."""
    await settled(client)
    async with server.client(token=WATCH_TOKEN) as guest:
        await guest.join(A, ref="77")
        came = await told(client)
        assert came == (await told(guest))
        await guest.say("77", "78", A, "phx_leave", {})
        went = await told(client)
    for frame, key, other in ((came, "joins", "leaves"), (went, "leaves", "joins")):
        assert frame[:4] == [None, None, A, "presence_diff"]
        assert set(frame[4]) == {"joins", "leaves"}
        assert set(frame[4][key]) == {"guest"}
        assert frame[4][other] == {}
    assert came[4]["joins"] == went[4]["leaves"]
    (meta,) = came[4]["joins"]["guest"]["metas"]
    assert set(meta) == {"phx_ref", "transport", "joined_at"}
    assert meta["transport"] == "websocket"


async def test_O02_presence_is_of_sessions_alone_and_has_no_numbers(client: Speaker) -> None:
    """The lobby has none; a session's events go on counting as if it were not there."""
    await client.say("1", "1", "sessions", "phx_join", {})
    assert (await client.hear_any())[3] == "phx_reply"
    metas = await settled(client, "2")
    assert metas
    reply = await client.ask("2", "3", A, "submit", {"prompt": "words 1"})
    assert reply[4]["status"] == "ok"
    assert [(await client.hear())[4]["seq"] for _ in range(4)] == [1, 2, 3, 4]


async def test_O03_after_a_rejoin_the_class_goes_on_with_a_new_state(
    server: PhoenixServer, connect: Connect
) -> None:
    """Without one it would hold every diff back for ever."""
    client = await connect(presence=True)
    (mine,) = (await client.until("present", lambda present: "owner" in present))["owner"]
    client.tell(push="submit", payload={"prompt": "crash"})
    assert await client.until("errored") == {"reason": "channel_crash"}
    await client.until("joined")
    again = await client.until("present", lambda p: refs(p.get("owner", [])) not in ([], refs([mine])))
    assert len(again["owner"]) <= 2  # for a moment the old one may stand beside the new
    async with server.client(token=WATCH_TOKEN) as guest:
        await guest.join(A)
        assert await client.until("came", lambda key: key == "guest")
        present = await client.until("present", lambda p: "guest" in p)
        assert len(present["owner"]) == 1
        assert refs(present["owner"]) != refs([mine])


async def test_O04_two_tabs_of_one_person_are_two_metas_and_one_leaving_leaves_one(
    server: PhoenixServer, connect: Connect
) -> None:
    """Each has a `phx_ref` of its own, by which the class tells them apart."""
    client = await connect(presence=True)
    (first,) = (await client.until("present", lambda present: "owner" in present))["owner"]
    async with server.longpoll() as tab:
        await tab.join(A)
        both = (await client.until("present", lambda p: len(p["owner"]) == 2))["owner"]
        assert sorted(meta["transport"] for meta in both) == sorted([first["transport"], "longpoll"])
        assert len(set(refs(both))) == 2
        await tab.ask("1", "2", A, "phx_leave", {})
        assert (await client.until("present", lambda p: len(p["owner"]) == 1))["owner"] == [first]


async def test_O05_who_joins_anew_is_one_diff_with_the_new_and_the_old(
    server: PhoenixServer, client: Speaker
) -> None:
    """With the new alone there would be two of them. (A meta itself never changes here.)"""
    async with server.client(token=WATCH_TOKEN) as guest:
        await settled(client)
        await guest.join(A, ref="1")
        (old,) = (await told(client))[4]["joins"]["guest"]["metas"]
        await guest.join(A, ref="2")
        diff = (await told(client))[4]
    (new,) = diff["joins"]["guest"]["metas"]
    assert diff["leaves"] == {"guest": {"metas": [old]}}
    assert new["phx_ref"] != old["phx_ref"]


async def test_O05_the_class_has_one_entry_of_who_joins_anew(server: PhoenixServer, connect: Connect) -> None:
    """Seen from another client."""
    client = await connect(presence=True)
    async with server.client(token=WATCH_TOKEN) as guest:
        await guest.join(A, ref="1")
        (old,) = (await client.until("present", lambda p: "guest" in p))["guest"]
        await guest.join(A, ref="2")
        present = await client.until("present", lambda p: refs(p["guest"]) != refs([old]))
        assert len(present["guest"]) == 1


def test_O05_a_change_names_the_new_and_the_old_under_one_key() -> None:
    """Whatever there is of each."""
    old, new, other = (Attendant(key, ref, "sse", 1.0) for key, ref in (("k", "1"), ("k", "2"), ("o", "3")))
    payload = event_payload(PresenceChanged((new, other), (old,)), 1.0)
    assert {k: refs(v["metas"]) for k, v in payload["joins"].items()} == {"k": ["2"], "o": ["3"]}
    assert {k: refs(v["metas"]) for k, v in payload["leaves"].items()} == {"k": ["1"]}


async def test_O06_leaves_name_the_metas_that_left_and_no_others(
    server: PhoenixServer, client: Speaker
) -> None:
    """Three connections of one token, of which one goes."""
    mine = await settled(client)
    async with server.client() as stays:
        await stays.join(A)
        (staying,) = (await told(client))[4]["joins"]["owner"]["metas"]
        async with server.longpoll() as goes:
            await goes.join(A)
            (going,) = (await told(client))[4]["joins"]["owner"]["metas"]
            await goes.ask("1", "2", A, "phx_leave", {})
            assert (await told(client))[4] == {"joins": {}, "leaves": {"owner": {"metas": [going]}}}
        async with server.client(token=WATCH_TOKEN) as late:
            await late.join(A)
            state = (await told(late, "presence_state"))[4]
    assert state == {"owner": {"metas": [*mine, staying]}} or state == {"owner": {"metas": [staying, *mine]}}


@pytest.mark.parametrize("how", ["leave", "crash", "death", "malformed"])
async def test_K09_O07_who_leaves_in_whatever_way_is_told_to_the_others_alone(
    server: PhoenixServer, client: Speaker, how: str
) -> None:
    """By leaving, by a crash of the channel, by a connection that breaks."""
    await settled(client)
    async with server.client(token=WATCH_TOKEN) as guest:
        await guest.join(A, ref="1")
        (meta,) = (await told(client))[4]["joins"]["guest"]["metas"]
        await told(guest)
        if how == "leave":
            await guest.ask("1", "2", A, "phx_leave", {})
        elif how == "crash":
            server.service.history = None  # type: ignore[assignment, method-assign]
            await guest.ask("1", "2", A, "history", {})
        elif how == "death":
            assert guest.ws._response.connection is not None
            guest.ws._response.connection.transport.abort()
        else:
            await guest.send_text("[")
        assert (await told(client))[4] == {"joins": {}, "leaves": {"guest": {"metas": [meta]}}}
        if how == "leave":
            assert await guest.hear_any() == ["1", "1", A, "phx_close", {}]
        if how in ("leave", "crash"):
            await guest.say(None, "9", "phoenix", "heartbeat", {})
            assert json.loads(await guest.hear_any_text())[1] == "9"


async def test_O07_a_session_that_ends_over_long_poll_is_told(serve: Any) -> None:
    """A client that polls no more is gone when its time is over."""
    server = await serve(longpoll_window_s=0.3)
    async with server.client(token=WATCH_TOKEN) as watcher:
        await watcher.join(A)
        await told(watcher)
        async with server.longpoll() as client:
            await client.join(A)
            (meta,) = (await told(watcher))[4]["joins"]["owner"]["metas"]
            assert meta["transport"] == "longpoll"
        assert (await told(watcher))[4] == {"joins": {}, "leaves": {"owner": {"metas": [meta]}}}
