"""OpenAI, and gateways that speak its language.

Facts (2026-11): the Responses API keeps replies unless ``store`` is false; its input tokens include the cached ones;
models of the GPT-6 family refuse ``temperature`` unless their reasoning effort is ``none``.
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

DEFAULT_BASE_URL = "https://api.openai.com/v1"
PATHS = ("/responses", "/chat/completions", "/embeddings")


class OpenAI:
    """The adapter of OpenAI. ``base_url`` without a path gets ``/v1``."""

    kind = "openai"

    def __init__(self, session: aiohttp.ClientSession, base_url: str | None = None) -> None:
        address = (base_url or DEFAULT_BASE_URL).rstrip("/")
        self._base_url = address if "/" in address.partition("://")[2] else f"{address}/v1"
        self._session = session
        self._clients: Clients[JsonClient] | None = None

    def __repr__(self) -> str:
        return f"<OpenAI {self._base_url}>"

    async def generate(
        self, request: GenerateRequest, *, api_key: str, on_delta: OnDelta | None = None
    ) -> GenerateReply:
        """Ask through the Responses API, or chat completions where the request says so."""
        chat = request.api == "chat"
        body = _chat_body(request) if chat else _responses_body(request)
        path = "/chat/completions" if chat else "/responses"
        if on_delta:
            body["stream"] = True
            if chat:
                body["stream_options"] = {"include_usage": True}
        from services.ai import transport

        await self.prepare()
        try:
            async with asyncio.timeout(request.timeout_s):
                reply = await self._post(path, body, api_key, request.first_byte_timeout_s, stream=bool(on_delta))
                if on_delta is None:
                    payload = orjson.loads(reply.body)
                    return _read_chat(payload, request.model) if chat else _read_response(payload, request.model)
                stream = transport.sse_data(reply.aiter_bytes())
                if chat:
                    return await _chat_stream(stream, request.model, on_delta)
                return await _response_stream(stream, request.model, on_delta)
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
        """Embed; OpenAI's models make no difference between documents and queries."""
        body: dict[str, Any] = {"model": model, "input": list(texts), "encoding_format": "float"}
        if dimensions:
            body["dimensions"] = dimensions
        from services.ai import transport

        await self.prepare()
        try:
            async with asyncio.timeout(timeout_s):
                reply = await self._post("/embeddings", body, api_key, first_byte_timeout_s, stream=False)
            payload = orjson.loads(reply.body)
            rows = sorted(payload["data"], key=lambda row: int(row["index"]))
            vectors = [[float(v) for v in row["embedding"]] for row in rows]
        except Exception as error:  # noqa: BLE001 - raise_failure raises it again, in our words where it has some
            transport.raise_failure(error, api_key)
        if len(vectors) != len(texts):
            raise BadOutput("as many vectors as texts expected").with_facts(http_status=200)
        tokens = _count((payload.get("usage") or {}).get("prompt_tokens"))
        return Embedding(vectors, str(payload.get("model") or model), Usage(input_tokens=tokens))

    async def close(self) -> None:
        """Forget the clients."""
        if self._clients is not None:
            self._clients.clear()

    async def _post(self, path: str, body: dict[str, Any], api_key: str, silence_s: float, *, stream: bool) -> Reply:
        assert self._clients is not None
        return await self._clients.get(api_key).ask(path, orjson.dumps(body), silence_s, stream=stream)

    async def prepare(self) -> None:
        """Import the SDK, in a thread; calls do it themselves, outside their time limits."""
        if self._clients is not None:
            return
        from services.ai.transport import Call, Clients, Reply, SdkHttp, load

        await load("openai")
        import httpx2
        import openai as sdk
        from openai._models import FinalRequestOptions

        class AsyncOpenAI(sdk.AsyncOpenAI):
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

        # A key that no header carries; where there is none the SDK draws random bits for each call.
        templates = {
            path: FinalRequestOptions.construct(method="post", url=path, idempotency_key="-") for path in PATHS
        }
        http = SdkHttp(self._session)

        def make(api_key: str) -> AsyncOpenAI:
            # Organisation and project are named so that the process environment cannot decide them for a foreign key.
            return AsyncOpenAI(
                api_key=api_key, organization="", project="", base_url=self._base_url, max_retries=0, http_client=http
            )

        if self._clients is None:
            self._clients = Clients(make)


def _responses_body(request: GenerateRequest) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": request.model,
        "instructions": request.system,
        "input": [{"role": t.role, "content": t.text} for t in request.turns],
        "max_output_tokens": request.max_output_tokens,
        "store": False,
    }
    if request.cache_key:
        body["prompt_cache_key"] = request.cache_key
    if request.effort:
        body["reasoning"] = {"effort": request.effort}
    if request.temperature is not None:
        body["temperature"] = request.temperature
    return body


def _chat_body(request: GenerateRequest) -> dict[str, Any]:
    turns = [{"role": t.role, "content": t.text} for t in request.turns]
    body: dict[str, Any] = {
        "model": request.model,
        "messages": [{"role": "system", "content": request.system}, *turns],
        "max_completion_tokens": request.max_output_tokens,
    }
    if request.effort:
        body["reasoning_effort"] = request.effort
    if request.temperature is not None:
        body["temperature"] = request.temperature
    return body


def _read_response(payload: Any, asked: str) -> GenerateReply:
    if not isinstance(payload, dict):
        raise BadOutput("not an object").with_facts(http_status=200)
    model = str(payload.get("model") or asked)
    usage = _usage(payload.get("usage"))
    if payload.get("status") == "failed" or payload.get("error"):
        raise Transient("the provider reports a failure", sent=True).with_facts(
            http_status=200, usage=usage, model_served=model
        )
    pieces: list[str] = []
    refused = False
    for item in payload.get("output") or ():
        if isinstance(item, dict) and item.get("type") == "message":
            for part in item.get("content") or ():
                if part.get("type") == "output_text":
                    pieces.append(str(part.get("text") or ""))
                elif part.get("type") == "refusal":
                    refused = True
    reason = (payload.get("incomplete_details") or {}).get("reason")
    finish: Finish = "stop"
    if refused or reason == "content_filter":
        finish = "refused"
    elif payload.get("status") == "incomplete":
        finish = "length"
    return _reply("".join(pieces), model, usage, finish)


def _read_chat(payload: Any, asked: str) -> GenerateReply:
    if not isinstance(payload, dict):
        raise BadOutput("not an object").with_facts(http_status=200)
    model = str(payload.get("model") or asked)
    usage = _usage(payload.get("usage"))
    choices = payload.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    message = choice.get("message") or {}
    refused = bool(message.get("refusal"))
    return _reply(str(message.get("content") or ""), model, usage, _chat_finish(choice.get("finish_reason"), refused))


async def _response_stream(events: AsyncIterator[Any], asked: str, on_delta: OnDelta) -> GenerateReply:
    async for event in events:
        kind = event.get("type") if isinstance(event, dict) else None
        if kind == "response.output_text.delta":
            on_delta(str(event["delta"]))
        elif kind in ("response.completed", "response.incomplete", "response.failed"):
            return _read_response(event.get("response"), asked)
        elif kind == "error":
            break
    raise Transient("the stream broke off", sent=True).with_facts(http_status=200)


async def _chat_stream(events: AsyncIterator[Any], asked: str, on_delta: OnDelta) -> GenerateReply:
    pieces: list[str] = []
    usage, model, reason, refused = NO_USAGE, asked, None, False
    async for event in events:
        if not isinstance(event, dict) or event.get("error"):
            break
        model = str(event.get("model") or model)
        if event.get("usage"):
            usage = _usage(event["usage"])
        for choice in event.get("choices") or ():
            delta = choice.get("delta") or {}
            refused = refused or bool(delta.get("refusal"))
            reason = choice.get("finish_reason") or reason
            if piece := delta.get("content"):
                pieces.append(str(piece))
                on_delta(str(piece))
    if reason is None:
        raise Transient("the stream broke off", sent=True).with_facts(http_status=200, usage=usage, model_served=model)
    return _reply("".join(pieces), model, usage, _chat_finish(reason, refused))


def _chat_finish(reason: object, refused: bool) -> Finish:
    if refused or reason == "content_filter":
        return "refused"
    return "length" if reason == "length" else "stop"


def _reply(text: str, model: str, usage: Usage, finish: Finish) -> GenerateReply:
    if finish != "refused" and not text.strip():
        raise BadOutput("no text").with_facts(http_status=200, usage=usage, model_served=model)
    return GenerateReply("" if finish == "refused" else text, model, usage, finish)


def _usage(found: Any) -> Usage:
    if not isinstance(found, dict):
        return NO_USAGE
    details = found.get("input_tokens_details") or found.get("prompt_tokens_details") or {}
    return Usage(
        input_tokens=_count(found.get("input_tokens") or found.get("prompt_tokens")),
        output_tokens=_count(found.get("output_tokens") or found.get("completion_tokens")),
        cached_tokens=_count(details.get("cached_tokens")),
        cache_write_tokens=_count(details.get("cache_write_tokens")),
    )


def _count(value: object) -> int:
    return max(value, 0) if isinstance(value, int) else 0
