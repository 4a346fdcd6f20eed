"""Clients that go in the middle of what they send: nothing of it is an error of the bridge's."""

from __future__ import annotations

import asyncio
from urllib.parse import quote

import aiohttp
import pytest

from tests.fakes.fuzz.sockets import Held, nothing_logged
from tests.fakes.phoenix import PhoenixServer
from tests.fakes.service import TOKEN
from tests.wire.conftest import Serve


async def begun(server: PhoenixServer) -> str:
    """The token of a poll."""
    address = f"{server.http}/socket/longpoll?vsn=2.0.0&token={quote(TOKEN)}"
    async with aiohttp.ClientSession() as http, http.get(address) as answer:
        return str((await answer.json())["token"])


@pytest.mark.parametrize("path", ["/socket/longpoll?token={poll}", "/api/sessions/a/turns"])
async def test_a_body_that_never_comes_whole_is_no_error(serve: Serve, path: str) -> None:
    """Neither a traceback nor anything held."""
    server = await serve(longpoll_window_s=0.2)
    head = (
        f"POST {path.format(poll=quote(await begun(server)))} HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n"
    )
    held = Held(server)
    await held.while_nobody_is_there()
    with nothing_logged():
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(head.encode() + b"[")
        await held._until(lambda now: now["connections"] == 1)
        writer.close()
        await held.until_released()
