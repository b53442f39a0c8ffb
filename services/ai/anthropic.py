"""Anthropic.

Facts (2026-11): ``max_tokens`` is required; a thinking block may come before the text; input tokens do **not** include
those read from or written to the cache; the Claude 5 family refuses sampling knobs; there are no embeddings.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp

from services.ai.base import (
    NO_USAGE,
    BadRequest,
    Busy,
    Finish,
    GenerateReply,
    GenerateRequest,
    OnDelta,
    Transient,
    Turn,
    Usage,
)
from services.ai.transport.adapter import Adapter, Draft, count, make_reply
from services.ai.transport.clients import JsonClient, StainlessClient
from services.ai.transport.http import SdkHttp

DEFAULT_BASE_URL = "https://api.anthropic.com"


class Anthropic(Adapter):
    """The Messages API. ``base_url`` is the address in front of ``/v1``."""

    kind = "anthropic"
    sdk = "anthropic"

    def __init__(self, session: aiohttp.ClientSession, base_url: str | None = None) -> None:
        super().__init__(session, (base_url or DEFAULT_BASE_URL).rstrip("/").removesuffix("/v1"))

    def _client(self, api_key: str, http: SdkHttp) -> JsonClient:
        import anthropic
        from anthropic._models import FinalRequestOptions

        client = anthropic.AsyncAnthropic(api_key=api_key, base_url=self._base_url, max_retries=0, http_client=http)
        return StainlessClient(client, FinalRequestOptions)

    def _question(self, request: GenerateRequest, *, streamed: bool) -> tuple[str, dict[str, Any]]:
        body: dict[str, Any] = {
            "model": request.model,
            "max_tokens": request.max_output_tokens,
            "messages": [{"role": t.role, "content": _content(t)} for t in request.turns],
        }
        if request.system:
            block: dict[str, Any] = {"type": "text", "text": request.system}
            if request.cache_system:
                block["cache_control"] = {"type": "ephemeral"}
            body["system"] = [block]
        if request.effort:
            body["output_config"] = {"effort": request.effort}
        if streamed:
            body["stream"] = True
        return "/v1/messages", body

    def _read(self, payload: dict[str, Any], request: GenerateRequest) -> GenerateReply:
        blocks = [b for b in payload.get("content") or () if isinstance(b, dict)]
        text = "".join(str(b.get("text") or "") for b in blocks if b.get("type") == "text")
        model = str(payload.get("model") or request.model)
        return make_reply(text, model, _usage(payload.get("usage")), _finish(payload.get("stop_reason")))

    async def _hear(self, events: AsyncIterator[Any], request: GenerateRequest, on_delta: OnDelta) -> GenerateReply:
        draft = Draft(request, on_delta)
        spent: dict[str, Any] = {}
        reason = None
        async for event in events:
            kind = event.get("type") if isinstance(event, dict) else None
            if kind == "content_block_delta":
                draft.add((event.get("delta") or {}).get("text"))
            elif kind == "message_start":
                message = event.get("message") or {}
                draft.model = str(message.get("model") or draft.model)
                spent.update(message.get("usage") or {})
                draft.usage = _usage(spent)
            elif kind == "message_delta":
                reason = (event.get("delta") or {}).get("stop_reason") or reason
                spent.update({k: v for k, v in (event.get("usage") or {}).items() if v is not None})
                draft.usage = _usage(spent)
            elif kind == "message_stop":
                return draft.reply(_finish(reason))
            elif kind == "error":
                name = str((event.get("error") or {}).get("type"))
                busy = name in ("overloaded_error", "rate_limit_error")
                raise draft.failed(Busy(name) if busy else Transient(name, sent=True))
        raise draft.broken_off()


def _content(turn: Turn) -> str | list[dict[str, Any]]:
    """A turn's words, behind the pictures and PDFs that were sent with them."""
    if not turn.files:
        return turn.text
    blocks: list[dict[str, Any]] = []
    for file in turn.files:
        if not (file.mime.startswith("image/") or file.mime == "application/pdf"):
            raise BadRequest(f"no model of Anthropic takes {file.mime}")
        source = {"type": "base64", "media_type": file.mime, "data": file.base64}
        blocks.append({"type": "image" if file.mime.startswith("image/") else "document", "source": source})
    return [*blocks, {"type": "text", "text": turn.text}]


def _finish(reason: object) -> Finish:
    if reason == "refusal":
        return "refused"
    return "length" if reason in ("max_tokens", "model_context_window_exceeded") else "stop"


def _usage(found: Any) -> Usage:
    if not isinstance(found, dict):
        return NO_USAGE
    read, written = count(found.get("cache_read_input_tokens")), count(found.get("cache_creation_input_tokens"))
    return Usage(
        input_tokens=count(found.get("input_tokens")) + read + written,
        output_tokens=count(found.get("output_tokens")),
        cached_tokens=read,
        cache_write_tokens=written,
    )
