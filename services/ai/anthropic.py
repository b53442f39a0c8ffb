"""Anthropic.

Facts (2026-11): ``max_tokens`` is required; a thinking block may come before the text; input tokens do **not** include
those read from or written to the cache; the Claude 5 family refuses sampling knobs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any, Literal, cast

import aiohttp
import orjson

from services.ai.base import (
    NO_USAGE,
    BadOutput,
    BadRequest,
    Busy,
    Embedding,
    Failure,
    Finish,
    GenerateReply,
    GenerateRequest,
    OnDelta,
    Transient,
    Usage,
)

if TYPE_CHECKING:
    from services.ai.transport import Clients, JsonClient, Reply

DEFAULT_BASE_URL = "https://api.anthropic.com"
PATHS = ("/v1/messages",)


class Anthropic:
    """The adapter of Anthropic. ``base_url`` is the address in front of ``/v1``."""

    kind = "anthropic"

    def __init__(self, session: aiohttp.ClientSession, base_url: str | None = None) -> None:
        self._base_url = (base_url or DEFAULT_BASE_URL).rstrip("/").removesuffix("/v1")
        self._session = session
        self._clients: Clients[JsonClient] | None = None

    def __repr__(self) -> str:
        return f"<Anthropic {self._base_url}>"

    async def generate(
        self, request: GenerateRequest, *, api_key: str, on_delta: OnDelta | None = None
    ) -> GenerateReply:
        """Ask through the Messages API."""
        body = _body(request)
        if on_delta:
            body["stream"] = True
        from services.ai import transport

        await self.prepare()
        try:
            async with asyncio.timeout(request.timeout_s):
                reply = await self._post(body, api_key, request.first_byte_timeout_s, stream=bool(on_delta))
                if on_delta is None:
                    return _read(orjson.loads(reply.body), request.model)
                return await _stream(transport.sse_data(reply.aiter_bytes()), request.model, on_delta)
        except Failure:
            raise
        except Exception as error:  # noqa: BLE001 - raise_failure raises it again, in our words where it has some
            transport.raise_failure(error, api_key)

    async def embed(
        self,
        texts: Sequence[str],
        *,
        model: str,
        api_key: str,
        task: Literal["document", "query"],
        dimensions: int | None = None,
        timeout_s: float = 30.0,
        first_byte_timeout_s: float = 10.0,
    ) -> Embedding:
        """Refuse: Anthropic offers no embeddings."""
        raise BadRequest("anthropic offers no embeddings")

    async def close(self) -> None:
        """Forget the clients."""
        if self._clients is not None:
            self._clients.clear()

    async def _post(self, body: dict[str, Any], api_key: str, silence_s: float, *, stream: bool) -> Reply:
        assert self._clients is not None
        return await self._clients.get(api_key).ask("/v1/messages", orjson.dumps(body), silence_s, stream=stream)

    async def prepare(self) -> None:
        """Import the SDK, in a thread; calls do it themselves, outside their time limits."""
        if self._clients is not None:
            return
        from services.ai.transport import Call, Clients, Reply, SdkHttp, load

        await load("anthropic")
        import anthropic as sdk
        import httpx2
        from anthropic._models import FinalRequestOptions

        class AsyncAnthropic(sdk.AsyncAnthropic):
            """The SDK's client with addresses and headers worked out once per key, not once per call."""

            def _build_request(self, options: FinalRequestOptions, *, retries_taken: int = 0) -> httpx2.Request:
                ready: dict[str, tuple[str, dict[str, str]]] = self.__dict__.setdefault("_ready", {})
                found = ready.get(options.url)
                if found is None:
                    built = self._build_headers(options, retries_taken=retries_taken)
                    headers = {name: value for name, value in built.items() if value}
                    headers["accept-encoding"] = "identity"
                    found = ready[options.url] = (str(self._prepare_url(options.url)), headers)
                content, silence_s = cast(bytes, options.content), cast(float, options.timeout)
                return cast(httpx2.Request, Call(found[0], found[1], content, silence_s))

            async def ask(self, path: str, content: bytes, silence_s: float, *, stream: bool) -> Reply:
                options = copy(templates[path])  # constructing one takes as long as the rest of the SDK together
                options.content, options.timeout = content, silence_s
                if stream:
                    answer = await self.request(
                        httpx2.Response, options, stream=True, stream_cls=sdk.AsyncStream[httpx2.Response]
                    )
                    return cast(Reply, answer)
                return cast(Reply, await self.request(httpx2.Response, options))

        templates = {path: FinalRequestOptions.construct(method="post", url=path) for path in PATHS}
        http = SdkHttp(self._session)

        def make(api_key: str) -> AsyncAnthropic:
            return AsyncAnthropic(api_key=api_key, base_url=self._base_url, max_retries=0, http_client=http)

        if self._clients is None:
            self._clients = Clients(make)


def _body(request: GenerateRequest) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": request.model,
        "max_tokens": request.max_output_tokens,
        "messages": [{"role": t.role, "content": t.text} for t in request.turns],
    }
    if request.system:
        block: dict[str, Any] = {"type": "text", "text": request.system}
        if request.cache_system:
            block["cache_control"] = {"type": "ephemeral"}
        body["system"] = [block]
    if request.effort:
        body["output_config"] = {"effort": request.effort}
    if request.temperature is not None:
        body["temperature"] = request.temperature
    return body


def _read(payload: Any, asked: str) -> GenerateReply:
    if not isinstance(payload, dict):
        raise BadOutput("not an object").with_facts(http_status=200)
    blocks = [b for b in payload.get("content") or () if isinstance(b, dict)]
    text = "".join(str(b.get("text") or "") for b in blocks if b.get("type") == "text")
    return _reply(
        text, str(payload.get("model") or asked), _usage(payload.get("usage")), _finish(payload.get("stop_reason"))
    )


async def _stream(events: AsyncIterator[Any], asked: str, on_delta: OnDelta) -> GenerateReply:
    pieces: list[str] = []
    spent: dict[str, Any] = {}
    model, reason = asked, None
    async for event in events:
        kind = event.get("type") if isinstance(event, dict) else None
        if kind == "content_block_delta":
            piece = (event.get("delta") or {}).get("text")
            if piece:
                pieces.append(str(piece))
                on_delta(str(piece))
        elif kind == "message_start":
            message = event.get("message") or {}
            model = str(message.get("model") or model)
            spent.update(message.get("usage") or {})
        elif kind == "message_delta":
            reason = (event.get("delta") or {}).get("stop_reason") or reason
            spent.update({k: v for k, v in (event.get("usage") or {}).items() if v is not None})
        elif kind == "message_stop":
            return _reply("".join(pieces), model, _usage(spent), _finish(reason))
        elif kind == "error":
            name = str((event.get("error") or {}).get("type"))
            failure = Busy(name) if name in ("overloaded_error", "rate_limit_error") else Transient(name, sent=True)
            raise failure.with_facts(http_status=200, usage=_usage(spent), model_served=model)
    raise Transient("the stream broke off", sent=True).with_facts(
        http_status=200, usage=_usage(spent), model_served=model
    )


def _finish(reason: object) -> Finish:
    if reason == "refusal":
        return "refused"
    return "length" if reason in ("max_tokens", "model_context_window_exceeded") else "stop"


def _reply(text: str, model: str, usage: Usage, finish: Finish) -> GenerateReply:
    if finish != "refused" and not text.strip():
        raise BadOutput("no text").with_facts(http_status=200, usage=usage, model_served=model)
    return GenerateReply("" if finish == "refused" else text, model, usage, finish)


def _usage(found: Any) -> Usage:
    if not isinstance(found, dict):
        return NO_USAGE
    read, written = _count(found.get("cache_read_input_tokens")), _count(found.get("cache_creation_input_tokens"))
    return Usage(
        input_tokens=_count(found.get("input_tokens")) + read + written,
        output_tokens=_count(found.get("output_tokens")),
        cached_tokens=read,
        cache_write_tokens=written,
    )


def _count(value: object) -> int:
    return max(value, 0) if isinstance(value, int) else 0
