"""The official client in a real browser: pages of another origin, over a WebSocket and over long poll."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.fakes.chromium import Chromium, Tab
from tests.fakes.phoenix import PhoenixServer
from tests.fakes.plain_proxy import plain_proxy
from tests.fakes.service import TOKEN, WATCH_TOKEN
from tests.fakes.web_page import web_page
from tests.wire.conftest import Serve

pytestmark = pytest.mark.real


class Client(Tab):
    """A page of the front end with its client, from a test's own loop."""

    async def connect(self, url: str, token: str | None = TOKEN, **options: Any) -> None:
        await self.until("window.loaded")
        address = url.replace("http://", "ws://") + "/socket"
        how = ", ".join(map(json.dumps, (address, token, "session:a", options)))
        await self.eval(f"(connect({how}), 0)")


@pytest.fixture
async def origin() -> AsyncIterator[str]:
    async with web_page() as url:
        yield url


@pytest.fixture
async def listed(serve: Serve, origin: str) -> PhoenixServer:
    return await serve(origins=[origin])


async def test_P03_O04_two_pages_see_each_other_one_of_them_by_long_poll(
    chromium: Chromium, origin: str, listed: PhoenixServer
) -> None:
    """It falls back behind a proxy that knows no WebSockets; what one of them does the other is told."""
    free, proxied = await Client.open(chromium, origin), await Client.open(chromium, origin)
    async with plain_proxy(listed.http) as proxy:
        await free.connect(listed.http)
        await proxied.connect(proxy, WATCH_TOKEN, longPollFallbackMs=20_000)
        both = {"owner": ["websocket"], "guest": ["longpoll"]}
        for tab in (free, proxied):
            shown = "client.present.owner && client.present.guest && client.present"
            assert await tab.until(shown) == both
        assert await free.eval("client.life") == ["websocket"]
        assert await proxied.eval("client.life") == ["longpoll"]
        said = await free.eval('client.push("submit", {prompt: "words 3"})')
        assert said["status"] == "ok"
        told = 'client.events.at(-1)?.[0] === "turn_finished" && client.events'
        assert await proxied.until(told) == await free.until(told)
        refused = await proxied.eval('client.push("submit", {prompt: "words 3"})')
        assert (refused["status"], refused["response"]["reason"]) == ("error", "forbidden")
        await free.close()
        await proxied.until("!client.present.owner")
        await proxied.close()


@pytest.mark.parametrize("header", [True, False])
async def test_A14_N13_a_page_of_an_origin_that_is_not_listed_gets_nowhere(
    chromium: Chromium, origin: str, server: PhoenixServer, header: bool
) -> None:
    """Over neither transport, with a good token. Where it is in a header the browser asks before, in vain."""
    tab = await Client.open(chromium, origin)
    options = {} if header else {"params": {"token": TOKEN}}
    await tab.connect(server.http, TOKEN if header else None, longPollFallbackMs=20_000, **options)
    assert (await tab.until("client.life.length && client.life"))[0] == (1011 if header else 1008)
    assert await tab.eval("client.joined ?? client.refused ?? null") is None
    await tab.close()
