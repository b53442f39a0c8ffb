"""One aiohttp session under all SDKs, with limits on time and size.

The SDKs' own transport costs 1-3 ms of processor time a call; most of it goes into building and parsing objects that a
short JSON exchange does not need. Here an SDK still decides address, headers and authentication, while
:class:`SdkHttp` takes its request to the shared aiohttp session and :class:`Reply` carries the bytes back. An answer
other than 2xx becomes :class:`HttpFailure` before the SDK spends time on it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from functools import lru_cache
from typing import Any, cast

import aiohttp
import httpx2
import orjson

from services.ai.base import MAX_REPLY_BYTES

MAX_ERROR_BYTES = 64 * 1024
CONNECT_S = 5.0


class HttpFailure(Exception):
    """An answer other than 2xx. ``body`` is cut at :data:`MAX_ERROR_BYTES`; never shown as it is."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        super().__init__(f"HTTP {status}")
        self.status, self.headers, self.body = status, headers, body


class TooBig(Exception):
    """The answer is larger than allowed; reading stopped there."""


class Call:
    """A request on its way, in the place of ``httpx2.Request``. Its text form shows no header and no body."""

    __slots__ = ("content", "headers", "method", "timeout_s", "url")

    def __init__(
        self, url: str, headers: Mapping[str, str], content: bytes, timeout_s: float, method: str = "POST"
    ) -> None:
        self.method, self.url, self.headers = method, url, headers
        self.content, self.timeout_s = content, timeout_s

    def __repr__(self) -> str:
        return f"<Call {self.method} {self.url}>"


class Reply(httpx2.Response):
    """A 2xx answer: either its whole body, or a stream that is still arriving."""

    def __init__(self, call: Call, status: int, body: bytes, stream: aiohttp.ClientResponse | None = None) -> None:
        # httpx2.Response.__init__ is left out on purpose: it is the larger part of the SDKs' cost.
        self.status_code = status
        self.headers = cast(httpx2.Headers, {})
        self.body = body
        self._call, self._upstream = call, stream

    @property
    def request(self) -> httpx2.Request:
        """The request this answers."""
        return cast(httpx2.Request, self._call)

    @request.setter
    def request(self, value: httpx2.Request) -> None:
        raise AttributeError("request")

    @property
    def text(self) -> str:
        """The body as text; bytes that are not UTF-8 are replaced."""
        return self.body.decode("utf-8", "replace")

    @property
    def reason_phrase(self) -> str:
        """Empty: nothing reads it."""
        return ""

    def raise_for_status(self) -> Reply:
        """Return itself: failures never get this far."""
        return self

    async def aiter_bytes(self, chunk_size: int | None = None) -> AsyncGenerator[bytes, None]:
        """Yield the bytes as they arrive. Raises :class:`TooBig`."""
        assert self._upstream is not None
        left = MAX_REPLY_BYTES
        try:
            async for chunk in self._upstream.content.iter_any():
                left -= len(chunk)
                if left < 0:
                    raise TooBig
                yield chunk
        except BaseException:
            self._upstream.close()
            raise
        finally:
            # A stream that is left before its end must not go back to the pool.
            if not self._upstream.content.at_eof():
                self._upstream.close()

    def __repr__(self) -> str:
        return f"<Reply {self.status_code}>"


class _Unused(httpx2.AsyncBaseTransport):
    """Spares the SDK's client its own connection pool and TLS context."""


class SdkHttp(httpx2.AsyncClient):
    """The ``http_client`` of every SDK client here. The session stays the caller's."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        super().__init__(transport=_Unused(), trust_env=False)
        self._session = session

    def build_request(self, method: str, url: Any, **kwargs: Any) -> httpx2.Request:
        """Make a :class:`Call` (google-genai comes this way when streaming)."""
        call = Call(str(url), kwargs["headers"], kwargs["content"], float(kwargs["timeout"]), method)
        return cast(httpx2.Request, call)

    async def request(self, method: str, url: Any, **kwargs: Any) -> Reply:
        """Send at once (google-genai comes this way otherwise)."""
        return await self.send(self.build_request(method, url, **kwargs))

    async def send(self, request: httpx2.Request, *, stream: bool = False, **kwargs: Any) -> Reply:
        """Send a :class:`Call`.

        Raises :class:`HttpFailure`, :class:`TooBig`, ``TimeoutError`` and what aiohttp raises.
        """
        call = cast(Call, request)
        async with asyncio.timeout(call.timeout_s):
            response = await self._session.request(
                call.method,
                call.url,
                data=call.content,
                headers=call.headers,
                allow_redirects=False,
                timeout=_limits(call.timeout_s),
            )
        try:
            if not 200 <= response.status < 300:
                body = await _read(response, MAX_ERROR_BYTES, cut=True)
                raise HttpFailure(response.status, response.headers, body)
            if stream:
                return Reply(call, response.status, b"", response)
            return Reply(call, response.status, await _read(response, MAX_REPLY_BYTES))
        except BaseException:
            response.close()
            raise

    async def aclose(self) -> None:
        """Do nothing: the session is not ours."""


@lru_cache(maxsize=64)
def _limits(silence_s: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, sock_connect=min(CONNECT_S, silence_s), sock_read=silence_s)


async def _read(response: aiohttp.ClientResponse, limit: int, *, cut: bool = False) -> bytes:
    content = response.content
    body = await content.readany()
    if content.at_eof() and len(body) <= limit:
        return body
    parts, size = [body], len(body)
    while size <= limit and (chunk := await content.readany()):
        parts.append(chunk)
        size += len(chunk)
    if size > limit:
        if not cut:
            raise TooBig
        response.close()
    return b"".join(parts)[:limit]


async def sse_data(chunks: AsyncIterator[bytes]) -> AsyncIterator[Any]:
    """Yield the parsed JSON of each ``data:`` line. Raises ``orjson.JSONDecodeError``; ``[DONE]`` is passed over."""
    rest = b""
    async for chunk in chunks:
        lines = (rest + chunk).split(b"\n")
        rest = lines.pop()
        for line in lines:
            if line.startswith(b"data:"):
                data = line[5:].strip()
                if data and data != b"[DONE]":
                    yield orjson.loads(data)
    if rest.startswith(b"data:") and (data := rest[5:].strip()) != b"[DONE]":
        yield orjson.loads(data)
