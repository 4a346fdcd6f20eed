"""Fixtures of the wire tests: a server to speak to, and a client that has joined nothing yet."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.fakes.phoenix import PhoenixServer, Speaker
from tests.fakes.scenario import Connect, JsClient, scenario
from tests.fakes.service import TOKEN

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
    """What a client does is the same over both transports, but where a test is marked to be of one, or says
    itself over which."""
    said = [mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")]
    if "transport" in metafunc.fixturenames and "transport" not in said:
        both = ["websocket", "longpoll"]
        only = [name for name in both if metafunc.definition.get_closest_marker(name) is not None]
        metafunc.parametrize("transport", only or both, indirect=True)


@pytest.fixture
def transport(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
async def client(server: PhoenixServer, transport: str) -> AsyncIterator[Speaker]:
    """A client that says exact frames."""
    async with server.client() if transport == "websocket" else server.longpoll() as client:
        yield client


@pytest.fixture
async def connect(server: PhoenixServer, transport: str) -> AsyncIterator[Connect]:
    """Start the official JavaScript client, joining `session:a`."""
    async with AsyncExitStack() as stack:

        async def start(url: str = server.http, **options: Any) -> JsClient:
            given = {"token": TOKEN, "via": "params", "topic": "session:a", "transport": transport}
            return await stack.enter_async_context(scenario(f"{url}/socket", **{**given, **options}))

        yield start
