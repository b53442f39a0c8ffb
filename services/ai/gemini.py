"""Google Gemini.

Facts (2026-11): ``modelVersion`` tells of silent re-routing to another model; thinking is billed as output but not
counted in ``candidatesTokenCount``; no candidates with a block reason is a refused prompt; ``gemini-embedding-2`` makes
one vector of a whole list, so every text goes as a request of its own in a batch; shortened vectors are not of unit length.
"""

from __future__ import annotations

import math
import ssl
from collections.abc import AsyncIterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, cast

import aiohttp
import httpx2

from services.ai.base import NO_USAGE, Embedding, Finish, GenerateReply, GenerateRequest, OnDelta, Turn, Usage
from services.ai.transport.adapter import Adapter, Draft, count, make_reply
from services.ai.transport.clients import JsonClient
from services.ai.transport.http import Reply, SdkHttp

if TYPE_CHECKING:
    from google.genai._api_client import BaseApiClient

DEFAULT_BASE_URL = "https://generativelanguage.googleapis.com"
_REFUSED = frozenset(
    {"SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "LANGUAGE"}
    | {"IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION"}
)


class Gemini(Adapter):
    """The Gemini Developer API. ``base_url`` may end in an API version, else it is ``v1``."""

    kind = "gemini"
    sdk = "google.genai"

    def __init__(self, session: aiohttp.ClientSession, base_url: str | None = None) -> None:
        address = (base_url or DEFAULT_BASE_URL).rstrip("/")
        self._version = "v1beta" if address.endswith("/v1beta") else "v1"
        super().__init__(session, address.removesuffix(f"/{self._version}"))

    def _client(self, api_key: str, http: SdkHttp) -> JsonClient:
        from google.genai import Client, types

        options = types.HttpOptions(
            base_url=self._base_url,
            api_version=self._version,
            headers={"accept-encoding": "identity"},
            retry_options=types.HttpRetryOptions(attempts=1),
            httpx_client=_unused(),
            httpx_async_client=http,
            async_client_args={"ssl": _no_tls()},
        )
        return _Client(Client(vertexai=False, api_key=api_key, http_options=options)._api_client)

    def _question(self, request: GenerateRequest, *, streamed: bool) -> tuple[str, dict[str, Any]]:
        settings: dict[str, Any] = {"maxOutputTokens": request.max_output_tokens}
        if request.effort:
            settings["thinkingConfig"] = {"thinkingLevel": request.effort}
        roles = {"assistant": "model", "user": "user"}
        body: dict[str, Any] = {
            "contents": [{"role": roles[t.role], "parts": _parts(t)} for t in request.turns],
            "generationConfig": settings,
        }
        if request.system:
            body["systemInstruction"] = {"parts": [{"text": request.system}]}
        action = "streamGenerateContent?alt=sse" if streamed else "generateContent"
        return f"models/{request.model}:{action}", body

    def _read(self, payload: dict[str, Any], request: GenerateRequest) -> GenerateReply:
        text, reason = _candidate(payload)
        model = str(payload.get("modelVersion") or request.model)
        return make_reply(text, model, _usage(payload.get("usageMetadata")), _finish(reason), reason)

    async def _hear(self, events: AsyncIterator[Any], request: GenerateRequest, on_delta: OnDelta) -> GenerateReply:
        draft = Draft(request, on_delta)
        reason = None
        async for event in events:
            if not isinstance(event, dict) or event.get("error"):
                break
            piece, ended = _candidate(event)
            reason = ended or reason
            draft.model = str(event.get("modelVersion") or draft.model)
            if event.get("usageMetadata"):
                draft.usage = _usage(event["usageMetadata"])
            draft.add(piece)
        if reason is None and draft.begun:
            raise draft.broken_off()
        return draft.reply(_finish(reason), reason)

    def _texts(
        self, texts: Sequence[str], model: str, task: Literal["document", "query"], dimensions: int | None
    ) -> tuple[str, dict[str, Any]]:
        shape: dict[str, Any] = {
            "model": f"models/{model}",
            "taskType": "RETRIEVAL_DOCUMENT" if task == "document" else "RETRIEVAL_QUERY",
        }
        if dimensions:
            shape["outputDimensionality"] = dimensions
        requests = [{**shape, "content": {"parts": [{"text": text}]}} for text in texts]
        return f"models/{model}:batchEmbedContents", {"requests": requests}

    def _embedded(self, payload: Any, model: str) -> Embedding:
        vectors = [_unit([float(v) for v in row["values"]]) for row in payload["embeddings"]]
        return Embedding(vectors, model, _usage(payload.get("usageMetadata")))


class _Client:
    """Around the SDK's inner client, which does address, key and errors.

    The public ``generate_content`` above it spends 1 ms on converting types.
    """

    def __init__(self, sdk: BaseApiClient) -> None:
        self._sdk = sdk

    async def ask(self, path: str, content: bytes, silence_s: float) -> str:
        """Return the whole body of the answer."""
        (text,) = await self._send(path, content, silence_s, stream=False)
        return cast(str, text)

    async def ask_streamed(self, path: str, content: bytes, silence_s: float) -> AsyncIterator[bytes]:
        """Return the body as it arrives."""
        reply: Reply = await self._send(path, content, silence_s, stream=True)
        return reply.aiter_bytes()

    async def _send(self, path: str, content: bytes, silence_s: float, *, stream: bool) -> Any:
        request = self._sdk._build_request("post", path, {})
        request.data, request.timeout = content, silence_s
        return (await self._sdk._async_request_once(request, stream=stream)).response_stream


@cache
def _unused() -> httpx2.Client:
    """Given so that the SDK builds neither a second pool nor a TLS context for a way that is not used."""
    return httpx2.Client(transport=httpx2.MockTransport(lambda _: httpx2.Response(500)), trust_env=False)


@cache
def _no_tls() -> ssl.SSLContext:
    """Given so that the SDK does not read all certificates of the world for its websockets, which are not used.

    For each key it would hold up everything for 30 ms. This one trusts nobody.
    """
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _parts(turn: Turn) -> list[dict[str, Any]]:
    """What was sent goes before the words about it."""
    files = [{"inlineData": {"mimeType": file.mime, "data": file.base64}} for file in turn.files]
    return [*files, {"text": turn.text}]


def _candidate(payload: dict[str, Any]) -> tuple[str, str | None]:
    """Text and finish reason; parts that are the model's thinking are left out."""
    candidates = payload.get("candidates")
    if not isinstance(candidates, list) or not candidates or not isinstance(candidates[0], dict):
        return "", "SAFETY" if (payload.get("promptFeedback") or {}).get("blockReason") else None
    first = candidates[0]
    parts = (first.get("content") or {}).get("parts") or ()
    text = "".join(str(p.get("text") or "") for p in parts if isinstance(p, dict) and not p.get("thought"))
    return text, first.get("finishReason")


def _finish(reason: str | None) -> Finish:
    if reason in _REFUSED:
        return "refused"
    return "length" if reason == "MAX_TOKENS" else "stop"


def _usage(found: Any) -> Usage:
    if not isinstance(found, dict):
        return NO_USAGE
    return Usage(
        input_tokens=count(found.get("promptTokenCount")) + count(found.get("toolUsePromptTokenCount")),
        output_tokens=count(found.get("candidatesTokenCount")) + count(found.get("thoughtsTokenCount")),
        cached_tokens=count(found.get("cachedContentTokenCount")),
    )


def _unit(vector: list[float]) -> list[float]:
    norm = math.sqrt(sum(v * v for v in vector))
    return [v / norm for v in vector] if norm else vector
