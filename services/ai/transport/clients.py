"""The SDKs' clients as the adapters use them: JSON out, bytes back."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping
from copy import copy
from functools import lru_cache
from typing import Any, Protocol, cast

import httpx2

from services.ai.transport.http import Call, Reply

KEPT = 200
"""Clients that one adapter keeps."""


class JsonClient(Protocol):
    """A client with the key of one account. Both calls POST JSON and bound each silence; failures come as they are."""

    async def ask(self, path: str, content: bytes, silence_s: float) -> bytes | str:
        """Return the whole body of the answer."""
        ...

    async def ask_streamed(self, path: str, content: bytes, silence_s: float) -> AsyncIterator[bytes]:
        """Return the body as it arrives."""
        ...


class StainlessClient:
    """Around the client of an SDK that Stainless generates (openai, anthropic).

    Addresses and headers are worked out once per key, not once per call. ``options``: the SDK's ``FinalRequestOptions``.
    ``types``: the content's type of paths that do not take JSON.
    """

    def __init__(self, sdk: Any, options: Any, types: Mapping[str, str] | None = None) -> None:
        self._sdk, self._options, self._types = sdk, options, dict(types or {})
        self._ready: dict[str, tuple[str, dict[str, str]]] = {}
        sdk._build_request = self._build_request

    async def ask(self, path: str, content: bytes, silence_s: float) -> bytes:
        """Return the whole body of the answer."""
        return (await self._send(path, content, silence_s, stream=False)).body

    async def ask_streamed(self, path: str, content: bytes, silence_s: float) -> AsyncIterator[bytes]:
        """Return the body as it arrives."""
        return (await self._send(path, content, silence_s, stream=True)).aiter_bytes()

    async def _send(self, path: str, content: bytes, silence_s: float, *, stream: bool) -> Reply:
        options = copy(_post(self._options, path))
        options.content, options.timeout = content, silence_s
        return cast(Reply, await self._sdk.request(httpx2.Response, options, stream=stream))

    def _build_request(self, options: Any, *, retries_taken: int = 0) -> Call:
        """In the place of the SDK's method of this name, which builds what :class:`SdkHttp` does not need."""
        found = self._ready.get(options.url)
        if found is None:
            built = self._sdk._build_headers(options, retries_taken=retries_taken)
            headers = {name: value for name, value in built.items() if value}
            headers["accept-encoding"] = "identity"
            if options.url in self._types:
                headers = {name: value for name, value in headers.items() if name.lower() != "content-type"}
                headers["content-type"] = self._types[options.url]
            found = self._ready[options.url] = (str(self._sdk._prepare_url(options.url)), headers)
        return Call(found[0], found[1], options.content, options.timeout)


@lru_cache(maxsize=16)
def _post(options: Any, path: str) -> Any:
    """Options to copy: constructing them takes as long as the rest of the SDK together.

    With a key that no header carries: where there is none the SDK draws random bits for each call.
    """
    return options.construct(method="post", url=path, idempotency_key="-")


class Clients:
    """One client per key, the most recently used ones kept. Shows no key."""

    def __init__(self, make: Callable[[str], JsonClient]) -> None:
        self._make = make
        self._kept: OrderedDict[str, JsonClient] = OrderedDict()

    def get(self, api_key: str) -> JsonClient:
        """Return the client of ``api_key``, made at first use."""
        client = self._kept.get(api_key)
        if client is None:
            client = self._kept[api_key] = self._make(api_key)
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(api_key)
        return client

    def clear(self) -> None:
        """Forget all."""
        self._kept.clear()

    def __repr__(self) -> str:
        return f"<Clients {len(self._kept)}>"
