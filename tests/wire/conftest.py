"""Fixtures of the wire tests: a server to speak to, and a client that has joined nothing yet."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from tests.fakes.phoenix import PhoenixClient, PhoenixServer

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


@pytest.fixture
async def client(server: PhoenixServer) -> AsyncIterator[PhoenixClient]:
    async with server.client() as client:
        yield client
