"""Fixtures of the wire tests: a server to speak to, and a client that has joined nothing yet."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from tests.fakes.phoenix import PhoenixServer, Speaker

Serve = Callable[..., Awaitable[PhoenixServer]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Start servers with settings of their own; they are stopped at the end."""
    servers: list[PhoenixServer] = []

    async def start(**settings: Any) -> PhoenixServer:
        server = PhoenixServer(**settings)
        await server.start()
        server.service.add("a")
        server.service.add("b")
        servers.append(server)
        return server

    yield start
    for server in servers:
        await server.stop()


@pytest.fixture
async def server(serve: Serve) -> PhoenixServer:
    return await serve()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """What a client does is the same over both transports, but where a test is marked to be of WebSockets."""
    if "client" in metafunc.fixturenames:
        alone = metafunc.definition.get_closest_marker("websocket") is not None
        metafunc.parametrize("client", ["websocket"] if alone else ["websocket", "longpoll"], indirect=True)


@pytest.fixture
async def client(server: PhoenixServer, request: pytest.FixtureRequest) -> AsyncIterator[Speaker]:
    async with server.client() if request.param == "websocket" else server.longpoll() as client:
        yield client
