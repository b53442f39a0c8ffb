"""Google Gemini.

Facts (2026-11): ``modelVersion`` tells of silent re-routing to another model; thinking is billed as output but not
counted in ``candidatesTokenCount``; no candidates with a block reason is a refused prompt; ``gemini-embedding-2`` makes
one vector of a whole list, so every text goes as a request of its own in a batch.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

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
    from google.genai._api_client import BaseApiClient

    from services.ai.transport import Clients

DEFAULT_BASE_URL = "https://generativelanguage.googleapis.com"
_REFUSED = frozenset(
    {"SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "LANGUAGE"}
    | {"IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION"}
)


class Gemini:
    """The adapter of the Gemini Developer API. ``base_url`` may end in an API version, else it is ``v1``."""

    kind = "gemini"

    def __init__(self, session: aiohttp.ClientSession, base_url: str | None = None) -> None:
        address = (base_url or DEFAULT_BASE_URL).rstrip("/")
        self._version = "v1beta" if address.endswith("/v1beta") else "v1"
        self._base_url = address.removesuffix(f"/{self._version}")
        self._session = session
        self._clients: Clients[BaseApiClient] | None = None

    def __repr__(self) -> str:
        return f"<Gemini {self._base_url}>"

    async def generate(
        self, request: GenerateRequest, *, api_key: str, on_delta: OnDelta | None = None
    ) -> GenerateReply:
        """Ask with ``generateContent``, or ``streamGenerateContent`` when pieces are wanted."""
        action = "streamGenerateContent?alt=sse" if on_delta else "generateContent"
        path = f"models/{request.model}:{action}"
        from services.ai import transport

        await self.prepare()
        try:
            async with asyncio.timeout(request.timeout_s):
                answer = await self._post(
                    path, _body(request), api_key, request.first_byte_timeout_s, stream=bool(on_delta)
                )
                if on_delta is None:
                    return _read(orjson.loads(answer), request.model)
                return await _stream(transport.sse_data(answer.aiter_bytes()), request.model, on_delta)
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
        """Embed with ``batchEmbedContents``; shortened vectors are brought back to unit length."""
        shape: dict[str, Any] = {
            "model": f"models/{model}",
            "taskType": "RETRIEVAL_DOCUMENT" if task == "document" else "RETRIEVAL_QUERY",
        }
        if dimensions:
            shape["outputDimensionality"] = dimensions
        body = {"requests": [{**shape, "content": {"parts": [{"text": text}]}} for text in texts]}
        from services.ai import transport

        await self.prepare()
        try:
            async with asyncio.timeout(timeout_s):
                answer = await self._post(
                    f"models/{model}:batchEmbedContents", body, api_key, first_byte_timeout_s, stream=False
                )
            payload = orjson.loads(answer)
            vectors = [_unit([float(v) for v in row["values"]]) for row in payload["embeddings"]]
        except Exception as error:  # noqa: BLE001 - raise_failure raises it again, in our words where it has some
            transport.raise_failure(error, api_key)
        if len(vectors) != len(texts):
            raise BadOutput("as many vectors as texts expected").with_facts(http_status=200)
        return Embedding(vectors, model, _usage(payload.get("usageMetadata")))

    async def close(self) -> None:
        """Forget the clients."""
        if self._clients is not None:
            self._clients.clear()

    async def _post(self, path: str, body: dict[str, Any], api_key: str, silence_s: float, *, stream: bool) -> Any:
        assert self._clients is not None
        client = self._clients.get(api_key)
        # The public generate_content spends 1 ms on converting types; its client below does address, key and errors.
        request = client._build_request("post", path, {})
        request.data = orjson.dumps(body)
        request.timeout = silence_s
        answer = await client._async_request_once(request, stream=stream)
        return answer.response_stream if stream else answer.response_stream[0]

    async def prepare(self) -> None:
        """Import the SDK, in a thread; calls do it themselves, outside their time limits."""
        if self._clients is not None:
            return
        from services.ai.transport import Clients, SdkHttp, load

        await load("google.genai")
        import httpx2
        from google.genai import Client, types

        http = SdkHttp(self._session)
        # Given so that the SDK builds neither a second pool nor a TLS context for a way that is not used.
        unused = httpx2.Client(transport=httpx2.MockTransport(lambda _: httpx2.Response(500)), trust_env=False)

        def make(api_key: str) -> BaseApiClient:
            options = types.HttpOptions(
                base_url=self._base_url,
                api_version=self._version,
                headers={"accept-encoding": "identity"},
                retry_options=types.HttpRetryOptions(attempts=1),
                httpx_client=unused,
                httpx_async_client=http,
            )
            return Client(vertexai=False, api_key=api_key, http_options=options)._api_client

        if self._clients is None:
            self._clients = Clients(make)


def _body(request: GenerateRequest) -> dict[str, Any]:
    settings: dict[str, Any] = {"maxOutputTokens": request.max_output_tokens}
    if request.effort:
        settings["thinkingConfig"] = {"thinkingLevel": request.effort}
    if request.temperature is not None:
        settings["temperature"] = request.temperature
    body: dict[str, Any] = {
        "contents": [
            {"role": "model" if t.role == "assistant" else "user", "parts": [{"text": t.text}]} for t in request.turns
        ],
        "generationConfig": settings,
    }
    if request.system:
        body["systemInstruction"] = {"parts": [{"text": request.system}]}
    return body


def _read(payload: Any, asked: str) -> GenerateReply:
    if not isinstance(payload, dict):
        raise BadOutput("not an object").with_facts(http_status=200)
    text, reason = _candidate(payload)
    return _reply(text, str(payload.get("modelVersion") or asked), _usage(payload.get("usageMetadata")), reason)


async def _stream(events: AsyncIterator[Any], asked: str, on_delta: OnDelta) -> GenerateReply:
    pieces: list[str] = []
    usage, model, reason = NO_USAGE, asked, None
    async for event in events:
        if not isinstance(event, dict) or event.get("error"):
            break
        piece, ended = _candidate(event)
        reason = ended or reason
        model = str(event.get("modelVersion") or model)
        if event.get("usageMetadata"):
            usage = _usage(event["usageMetadata"])
        if piece:
            pieces.append(piece)
            on_delta(piece)
    if reason is None and pieces:
        raise Transient("the stream broke off", sent=True).with_facts(http_status=200, usage=usage, model_served=model)
    return _reply("".join(pieces), model, usage, reason)


def _candidate(payload: dict[str, Any]) -> tuple[str, str | None]:
    """Text and finish reason; parts that are the model's thinking are left out."""
    candidates = payload.get("candidates")
    if not isinstance(candidates, list) or not candidates or not isinstance(candidates[0], dict):
        return "", "SAFETY" if (payload.get("promptFeedback") or {}).get("blockReason") else None
    first = candidates[0]
    parts = (first.get("content") or {}).get("parts") or ()
    text = "".join(str(p.get("text") or "") for p in parts if isinstance(p, dict) and not p.get("thought"))
    return text, first.get("finishReason")


def _reply(text: str, model: str, usage: Usage, reason: str | None) -> GenerateReply:
    if reason in _REFUSED:
        return GenerateReply("", model, usage, "refused")
    finish: Finish = "length" if reason == "MAX_TOKENS" else "stop"
    if not text.strip():
        raise BadOutput(f"no text: {reason}").with_facts(http_status=200, usage=usage, model_served=model)
    return GenerateReply(text, model, usage, finish)


def _usage(found: Any) -> Usage:
    if not isinstance(found, dict):
        return NO_USAGE
    return Usage(
        input_tokens=_count(found.get("promptTokenCount")) + _count(found.get("toolUsePromptTokenCount")),
        output_tokens=_count(found.get("candidatesTokenCount")) + _count(found.get("thoughtsTokenCount")),
        cached_tokens=_count(found.get("cachedContentTokenCount")),
    )


def _count(value: object) -> int:
    return max(value, 0) if isinstance(value, int) else 0


def _unit(vector: list[float]) -> list[float]:
    norm = math.sqrt(sum(v * v for v in vector))
    return [v / norm for v in vector] if norm else vector
