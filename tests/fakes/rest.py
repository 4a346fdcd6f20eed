"""A client of the REST interface that keeps nothing back: status, headers, and the JSON of every answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from tests.fakes.event_stream import PATIENCE_S, EventSource
from tests.fakes.service import TOKEN


async def until(true: Callable[[], object]) -> None:
    """Until something is so on the server, of which no client is told."""
    async with asyncio.timeout(PATIENCE_S):
        while not true():  # noqa: ASYNC110  (nothing tells)
            await asyncio.sleep(0.001)


@dataclass
class Answer:
    status: int
    headers: Any
    text: str
    body: Any = None

    @property
    def reason(self) -> Any:
        """The code of a refusal; every refusal has one, and a sentence."""
        assert self.status >= 400, f"no refusal: {self.status} {self.text}"
        assert set(self.body) >= {"reason", "message"}
        return self.body["reason"]


class RestClient:
    def __init__(self, address: str, token: str | None = TOKEN) -> None:
        self.address = address
        self.token = token
        self._session: aiohttp.ClientSession

    @asynccontextmanager
    async def open(self) -> AsyncIterator[RestClient]:
        timeout = aiohttp.ClientTimeout(total=60)
        async with aiohttp.ClientSession(timeout=timeout) as self._session:
            yield self

    async def ask(self, method: str, path: str, json: Any = None, **request: Any) -> Answer:
        """One request below /api/; `json` is its body."""
        headers = request.pop("headers", {})
        if self.token is not None and "Authorization" not in headers:
            headers = {"Authorization": f"Bearer {self.token}", **headers}
        if json is not None:
            request["json"] = json
        url = path if path.startswith("http") else f"{self.address}{path}"
        async with self._session.request(method, url, headers=headers, **request) as response:
            text = await response.text()
            answer = Answer(response.status, response.headers, text)
            if text and response.content_type == "application/json":
                answer.body = await response.json()
            return answer

    async def get(self, path: str, **request: Any) -> Answer:
        return await self.ask("GET", path, **request)

    async def post(self, path: str, json: Any = None, **request: Any) -> Answer:
        return await self.ask("POST", path, json, **request)

    async def delete(self, path: str, **request: Any) -> Answer:
        return await self.ask("DELETE", path, **request)

    def source(self, path: str, **headers: str) -> EventSource:
        return EventSource(f"{self.address}{path}", self.token, **headers)


__all__ = ["PATIENCE_S", "Answer", "RestClient", "until"]
