"""The way from an SDK to the wire: one aiohttp session under all three, with limits on time and size.

The SDKs' own transport costs 1-3 ms of processor time a call; most of it goes into building and parsing objects that a
short JSON exchange does not need. Here an SDK still decides address, headers and authentication, while
:class:`SdkHttp` takes its request to the shared aiohttp session and :class:`Reply` carries the bytes back. An answer
other than 2xx becomes :class:`HttpFailure` before the SDK spends time on it. Imported by the adapters at first use.
"""

from __future__ import annotations

import asyncio
import importlib
import re
import ssl
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from functools import lru_cache
from types import ModuleType
from typing import Any, Generic, NoReturn, Protocol, TypeVar, cast

import aiohttp
import httpx2
import orjson

from services.ai.base import (
    MAX_REPLY_BYTES,
    BadOutput,
    BadRequest,
    Busy,
    Failure,
    KeyRefused,
    Refused,
    Retired,
    TooLarge,
    TooLong,
    Transient,
)

MAX_ERROR_BYTES = 64 * 1024
CONNECT_S = 5.0

_C = TypeVar("_C")
_SECRETS = re.compile(r"\b(?:sk|pk|rk|key|AIza|AQ)[-_.*A-Za-z0-9]{8,}", re.ASCII)


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

    def __init__(
        self, call: Call, status: int, body: bytes, stream: aiohttp.ClientResponse | None, max_bytes: int
    ) -> None:
        # httpx2.Response.__init__ is left out on purpose: it is the larger part of the SDKs' cost.
        self.status_code = status
        self.headers = cast(httpx2.Headers, {})
        self.body = body
        self._call, self._upstream, self._max_bytes = call, stream, max_bytes

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
        left = self._max_bytes
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


class JsonClient(Protocol):
    """An SDK's client as the adapters use it: JSON out, bytes back."""

    async def ask(self, path: str, content: bytes, silence_s: float, *, stream: bool) -> Reply:
        """POST ``content``; with ``stream`` the body is left to :meth:`Reply.aiter_bytes`."""
        ...


class _Unused(httpx2.AsyncBaseTransport):
    """Spares the SDK's client its own connection pool and TLS context."""


class SdkHttp(httpx2.AsyncClient):
    """The ``http_client`` of every SDK client here. The session stays the caller's."""

    def __init__(self, session: aiohttp.ClientSession, max_bytes: int = MAX_REPLY_BYTES) -> None:
        super().__init__(transport=_Unused(), trust_env=False)
        self._session, self._max_bytes = session, max_bytes

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
                return Reply(call, response.status, b"", response, self._max_bytes)
            return Reply(call, response.status, await _read(response, self._max_bytes), None, self._max_bytes)
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


class Clients(Generic[_C]):
    """One SDK client per key, the most recently used ones kept. Shows no key."""

    def __init__(self, make: Callable[[str], _C], limit: int = 200) -> None:
        self._make, self._limit = make, limit
        self._kept: OrderedDict[str, _C] = OrderedDict()

    def get(self, api_key: str) -> _C:
        """Return the client of ``api_key``, made at first use."""
        client = self._kept.get(api_key)
        if client is None:
            client = self._kept[api_key] = self._make(api_key)
            if len(self._kept) > self._limit:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(api_key)
        return client

    def clear(self) -> None:
        """Forget all."""
        self._kept.clear()

    def __repr__(self) -> str:
        return f"<Clients {len(self._kept)}>"


async def load(module: str) -> ModuleType:
    """Import an SDK (up to 3 s) in a thread, so that the event loop goes on."""
    return await asyncio.to_thread(importlib.import_module, module)


def shorten(message: object, api_key: str) -> str:
    """The first words of a provider's message without anything that looks like a key."""
    text = str(message).replace(api_key, "***") if api_key else str(message)
    return _SECRETS.sub("***", text)[:200]


def raise_failure(error: BaseException, api_key: str) -> NoReturn:
    """Turn what :class:`SdkHttp` raised into the failure the router knows. Anything else is raised as it is."""
    cause = error
    while cause.__cause__ is not None and not isinstance(cause, HttpFailure | TimeoutError | aiohttp.ClientError):
        cause = cause.__cause__  # the anthropic SDK wraps whatever its client raises
    if isinstance(cause, HttpFailure):
        raise from_status(cause.status, cause.headers, cause.body, api_key) from None
    if isinstance(cause, TooBig):
        raise TooLarge("the answer is too large").with_facts(http_status=200) from None
    if isinstance(cause, orjson.JSONDecodeError):
        # Not "from": the error holds the whole document.
        raise BadOutput("the answer is not JSON").with_facts(http_status=200) from None
    if isinstance(cause, TimeoutError):
        raise Transient("no answer in time", sent=True) from None
    if isinstance(cause, aiohttp.ClientConnectorError | ssl.SSLError):
        raise Transient(f"no connection: {type(cause).__name__}") from None
    if isinstance(cause, aiohttp.ClientError | OSError):
        raise Transient(f"connection lost: {type(cause).__name__}", sent=True) from None
    if isinstance(cause, AttributeError | KeyError | IndexError | TypeError | ValueError):
        raise BadOutput(f"an answer of unexpected shape: {type(cause).__name__}").with_facts(http_status=200) from cause
    raise error


def from_status(status: int, headers: Mapping[str, str], body: bytes, api_key: str) -> Failure:
    """Class an HTTP failure of any of the providers (their formats are alike enough to be read in one place)."""
    error = _error_object(body)
    message = str(error.get("message") or "")
    lowered = message.lower()
    words = {str(error.get(k)) for k in ("code", "type", "status")} | _reasons(error)
    failure: Failure
    if status in (401, 402, 403) or "API_KEY_INVALID" in words or "api key not valid" in lowered:
        failure = KeyRefused("no_money" if status == 402 else "forbidden" if status == 403 else "invalid")
    elif _out_of_money(words, lowered):
        failure = KeyRefused("no_money")
    elif status in (429, 529):
        failure = Busy(f"busy: HTTP {status}", retry_after_s=_delay(headers, error))
    elif status == 404 or "no longer available" in lowered or "model_not_found" in words:
        failure = Retired(f"not available: {shorten(message, api_key)}")
    elif status == 413 or _is_too_long(words, lowered):
        failure = TooLong(f"too long: HTTP {status}")
    elif words & {"content_policy_violation", "content_filter", "invalid_prompt"}:
        failure = Refused("refused by the provider")
    elif status == 408 or status >= 500:
        failure = Transient(f"HTTP {status}", retry_after_s=_delay(headers, error), sent=True)
    else:
        failure = BadRequest(f"HTTP {status}: {shorten(message, api_key)}")
    return failure.with_facts(http_status=status)


def _error_object(body: bytes) -> dict[str, Any]:
    try:
        payload = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    if isinstance(payload, list) and payload:
        payload = payload[0]  # Gemini wraps errors of streams in a list
    error = payload.get("error", payload) if isinstance(payload, dict) else None
    if isinstance(error, str):
        return {"message": error}
    return error if isinstance(error, dict) else {}


def _details(error: Mapping[str, Any]) -> list[dict[str, Any]]:
    details = error.get("details")
    return [d for d in details if isinstance(d, dict)] if isinstance(details, list) else []


def _reasons(error: Mapping[str, Any]) -> set[str]:
    return {str(d["reason"]) for d in _details(error) if "reason" in d}


def _out_of_money(words: set[str], message: str) -> bool:
    return bool(words & {"insufficient_quota", "billing_error", "billing_hard_limit_reached"}) or any(
        part in message for part in ("credit balance is too low", "credits are depleted", "spending cap")
    )


def _is_too_long(words: set[str], message: str) -> bool:
    return "context_length_exceeded" in words or any(
        part in message
        for part in (
            "prompt is too long",
            "maximum context length",
            "exceeds the maximum number of tokens",
            "context window",
            "exceed context limit",
        )
    )


def _delay(headers: Mapping[str, str], error: Mapping[str, Any]) -> float | None:
    """Seconds to wait, from ``Retry-After`` (a number) or Google's ``RetryInfo``."""
    for value in (headers.get("retry-after"), *(d.get("retryDelay") for d in _details(error))):
        try:
            seconds = float(str(value).removesuffix("s"))
        except ValueError:
            continue
        if 0 <= seconds < 86_400:
            return seconds
    return None
