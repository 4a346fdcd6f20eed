"""REST, and server-sent events. Each refusal must have the status that `errors.json` names."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest

from tests.fakes.peers.base import Peer, Reply
from tests.fakes.phoenix_js import Json, Refused

ERRORS: Json = json.loads((Path(__file__).parents[3] / "spec" / "errors.json").read_text())


class RestPeer(Peer):
    transport = "sse"
    ordered = False
    topical = False

    async def _open(self) -> None:
        self._streams: dict[str, aiohttp.ClientResponse] = {}
        await self._call("GET", "/sessions")

    async def _join(self, topic: str, payload: Json) -> Reply:
        if topic == "sessions":
            return Reply(await self._call("GET", "/sessions"), self._order())
        kind, _, name = topic.partition(":")
        if kind != "session":
            pytest.skip("REST has no topics: what does not exist has no path")
        options = dict(payload)
        if (start := options.pop("start", None)) is not None:
            if not isinstance(start, dict):
                pytest.skip("what starts a session over REST is the body itself")
            await self._call("POST", "/sessions", {"name": name, **start})
        headers = {"Accept": "text/event-stream"}
        if (after := options.pop("after", None)) is not None:
            if set(after) != {"epoch", "seq"} or after["seq"] < 0:
                pytest.skip("over REST a cursor is one string, and one that makes no sense gives a snapshot")
            headers["Last-Event-ID"] = f"{after['epoch']}:{after['seq']}"
        query = {key: str(value) for key, value in options.items()}
        answer = await self.http.get(
            self._url(f"/sessions/{quote(name, safe='')}/events"),
            headers=headers | self._auth,
            params=query,
            timeout=aiohttp.ClientTimeout(total=None),
        )
        if answer.status != 200:
            raise _refused(answer.status, await answer.json())
        assert answer.content_type == "text/event-stream"
        if topic in self._streams:
            await self.leave(topic)
        self._streams[topic] = answer
        joined: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._spawn(self._receive(topic, answer, joined))
        return await joined

    async def ask(self, topic: str, event: str, payload: Any = None) -> Reply:
        body = {} if payload is None else payload
        kind, _, name = topic.partition(":")
        if kind == "pool":
            turn = await self._call("POST", f"/pools/{quote(name, safe='')}/{event}", body)
            return Reply({"turn": turn["id"], "status": turn["status"]}, self._order())
        return Reply(await (self._of_session if name else self._of_lobby)(event, name, body), self._order())

    async def submit_bytes(self, topic: str, payload: Json) -> Reply:
        form = aiohttp.FormData(quote_fields=False)  # as browsers and curl write names
        for key, value in payload.items():
            for file in value if key == "attachments" else ():
                data, called, kind = io.BytesIO(file["data"]), file["name"], file["media_type"]
                form.add_field(key, data, filename=called, content_type=kind)
            if key != "attachments":
                form.add_field(key, value)
        path = f"/sessions/{topic.partition(':')[2]}/turns"
        async with self.http.post(self._url(path), data=form, headers=self._auth) as answer:
            said: Json = await answer.json()
        if answer.status >= 400:
            raise _refused(answer.status, said)
        return Reply({"turn": said["id"], "status": said["status"]}, self._order())

    async def leave(self, topic: str) -> None:
        self._streams.pop(topic).close()

    async def cut(self) -> None:
        for answer in self._streams.values():
            answer.close()
        await super().cut()

    async def _of_lobby(self, event: str, _: str, body: Any) -> Json:
        match event:
            case "list":
                return await self._call("GET", "/sessions")
            case "start":
                return await self._call("POST", "/sessions", body)
            case "fork" if isinstance(body, dict) and isinstance(body.get("from"), str):
                rest = {key: value for key, value in body.items() if key != "from"}
                return await self._call("POST", f"/sessions/{body['from']}/fork", rest)
            case "stop":
                return await self._call("POST", f"/sessions/{body['name']}/stop", {})
            case "delete":
                return await self._call("DELETE", f"/sessions/{body['name']}")
        pytest.skip(f"REST has no {event}")

    async def _of_session(self, event: str, name: str, body: Any) -> Json:
        at = f"/sessions/{name}"
        match event:
            case "submit":
                turn = await self._call("POST", f"{at}/turns", body)
                return {"turn": turn["id"], "status": turn["status"]}
            case "interrupt" | "stop" | "restart" | "configure":
                return await self._call("POST", f"{at}/{event}", body)
            case "cancel" if isinstance(body, dict) and isinstance(body.get("turn"), str):
                return await self._call("DELETE", f"{at}/turns/{body['turn']}")
            case "answer" if isinstance(body, dict) and isinstance(body.get("request"), str):
                rest = {key: value for key, value in body.items() if key != "request"}
                return await self._call("POST", f"{at}/requests/{body['request']}", rest)
            case "history" if isinstance(body, dict):
                query = {key: str(value) for key, value in body.items()}
                return await self._call("GET", f"{at}/turns", params=query)
        pytest.skip(f"what is asked by {event} {body} is a path over REST")

    async def _call(self, method: str, path: str, body: Any = None, **more: Any) -> Json:
        headers = self._auth
        if body is not None:
            headers["Content-Type"] = "application/json"
            more["data"] = io.BytesIO(json.dumps(body).encode())  # aiohttp warns of a megabyte as bytes
        async with self.http.request(method, self._url(path), headers=headers, **more) as answer:
            said: Json = await answer.json() if answer.status != 204 else {}
        if answer.status >= 400:
            raise _refused(answer.status, said)
        return said

    async def _receive(
        self, topic: str, answer: aiohttp.ClientResponse, joined: asyncio.Future[Reply]
    ) -> None:
        fields: dict[str, str] = {}
        epoch = ""
        async for raw in _lines(answer):
            line = raw.decode().removesuffix("\n").removesuffix("\r")
            if line:
                name, _, value = line.partition(":")
                if name:  # else it is a comment
                    value = value.removeprefix(" ")
                    fields[name] = f"{fields[name]}\n{value}" if name == "data" and name in fields else value
                continue
            if "data" in fields:
                payload = json.loads(fields["data"])
                if not joined.done():
                    assert fields["event"] == "joined", fields
                    epoch = payload["epoch"]
                    joined.set_result(Reply(payload, self._order()))
                else:
                    said = fields.get("id")
                    assert said == (f"{epoch}:{payload['seq']}" if "seq" in payload else None), fields
                    self._hear(topic, fields["event"], payload)
            fields = {}
        if self._streams.get(topic) is answer:
            self._ended("the stream ended")

    @property
    def _auth(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def _url(self, path: str) -> str:
        return f"{self.address}/api{path}"


async def _lines(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    with suppress(aiohttp.ClientConnectionError):  # it was closed on this side
        async for line in answer.content:
            yield line


def _refused(status: int, said: Json) -> Refused:
    assert status == ERRORS[said["reason"]]["http_status"], (status, said)
    return Refused(said, str(status))
