"""The one file that knows the `anthropic` package: a client for all sessions, and what its errors mean.

The package takes a second or two to import and some 60 MB, so that is done in a thread, and only where there
is a session that will need it. Of the SDK's two transports it is aiohttp's: at a thousand streams it takes
less than half of the processor time for a delta that httpx's takes.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import structlog

from bridge.config import ApiConfig, is_loopback
from bridge.errors import BackendError, BackendUnavailable
from bridge.events import TurnError
from bridge.sessions.backends.api_retry import STATUS, passes, wished_s
from bridge.sessions.backends.api_setup import Access
from bridge.sessions.claude.messages import error_code

log = structlog.get_logger(__name__)

Body = dict[str, Any]
"""The parameters of `messages.create`."""

CONNECT_S = 10.0
"""The SDK's own 5 s are short for a machine under load that opens a thousand at once."""
KEPT_OPEN = 100
"""Connections that wait for the next prompt."""
COUNT_S = 10.0
"""Counting is a courtesy: an estimate does, too."""
TOO_LONG = ("prompt is too long", "exceed context limit")
"""How the API says that a request does not fit into the model's context: a 400 like any other."""


class UpstreamFailed(Exception):
    """A request came to no answer, or not to its end. `passing`: it may be made again, after `wish_s` where
    the API asks for that."""

    def __init__(
        self, error: TurnError, *, passing: bool, wish_s: float | None = None, too_long: bool = False
    ) -> None:
        super().__init__(error.message)
        self.error = error
        self.passing = passing
        self.wish_s = wish_s
        self.too_long = too_long


class Upstream:
    """One for a bridge."""

    def __init__(self, config: ApiConfig, access: Callable[[], Access]) -> None:
        """`access` raises `BackendUnavailable` where there is none."""
        self._config = config
        self._access = access
        self._client: Any = None
        self._making = asyncio.Lock()

    async def made(self) -> Any:
        """The client. Raises `BackendError` where there can be none."""
        if self._client is None:
            async with self._making:
                if self._client is None:
                    try:
                        self._client = await asyncio.to_thread(self._make, self._access())
                    except (BackendUnavailable, ImportError) as e:
                        raise BackendError(str(e)) from e
        return self._client

    async def warm(self) -> None:
        """Have the client before it is asked for, where there can be one."""
        with contextlib.suppress(BackendError):
            await self.made()

    async def ask(self, body: Body, heard: Callable[[Any], None]) -> None:
        """Make one request; `heard` gets every event of its stream. Raises `UpstreamFailed`; cancelling it
        ends the request."""
        client = await self._client_or_failure()
        sdk, httpx = _packages()
        try:
            stream = await client.messages.create(**body, stream=True)
            try:
                async for event in stream:
                    heard(event)
                    # A stream whose bytes have come already would not let go of the loop before its end.
                    await asyncio.sleep(0)
            finally:
                await stream.close()
        except (sdk.AnthropicError, httpx.HTTPError, OSError, ValueError) as e:
            raise _failure(e, sdk) from e

    async def count(self, body: Body) -> int | None:
        """How many tokens a request has; None where the API does not say."""
        client = await self._client_or_failure()
        sdk, httpx = _packages()
        asked = {k: v for k, v in body.items() if k in ("model", "messages", "system", "thinking")}
        try:
            counted = await client.messages.count_tokens(**asked, timeout=COUNT_S)
        except (sdk.AnthropicError, httpx.HTTPError, OSError, ValueError) as e:
            log.warning("could not count tokens", error=type(e).__name__)
            return None
        return int(counted.input_tokens)

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def _client_or_failure(self) -> Any:
        try:
            return await self.made()
        except BackendError as e:
            raise UpstreamFailed(TurnError("authentication_failed", str(e)), passing=False) from e

    def _make(self, access: Access) -> Any:
        sdk, httpx = _packages()
        importlib.import_module("anthropic.resources.messages")  # else the first request waits for it
        transport = sdk.DefaultAioHttpClient(
            limits=httpx.Limits(
                max_connections=self._config.max_sessions, max_keepalive_connections=KEPT_OPEN
            ),
            timeout=httpx.Timeout(self._config.timeout_s, connect=CONNECT_S),
            # A proxy for the world is none for this machine.
            trust_env=not is_loopback(access.host),
        )
        return sdk.AsyncAnthropic(
            api_key=access.key, base_url=access.base_url, max_retries=0, http_client=transport
        )


def _packages() -> tuple[Any, Any]:
    return importlib.import_module("anthropic"), importlib.import_module("httpx2")


def _failure(e: Exception, sdk: Any) -> UpstreamFailed:
    if isinstance(e, sdk.APIStatusError):
        return _refusal(e)
    if isinstance(e, sdk.APIConnectionError):
        cause = f": {e.__cause__}" if e.__cause__ is not None and str(e.__cause__) else ""
        return UpstreamFailed(TurnError("api_error", f"The API could not be reached{cause}."), passing=True)
    if isinstance(e, sdk.AnthropicError):
        return UpstreamFailed(TurnError("api_error", str(e)), passing=False)
    said = str(e) or type(e).__name__
    return UpstreamFailed(TurnError("api_error", f"The answer broke off: {said}."), passing=True)


def _refusal(e: Any) -> UpstreamFailed:
    """The API said no, with a status or in the middle of a stream."""
    headers, kind = e.response.headers, e.type
    status = e.status_code if e.status_code >= 400 else STATUS.get(kind or "", 500)
    named = "billing_error" if kind == "billing_error" else ""
    if kind == "not_found_error" and "model" in (e.api_message or ""):
        named = "model_not_found"
    message = e.api_message or str(e)
    return UpstreamFailed(
        TurnError(error_code(named, status), message, status),
        passing=passes(e.status_code, headers, kind),
        wish_s=wished_s(headers),
        too_long=status == 400 and any(words in message for words in TOO_LONG),
    )
