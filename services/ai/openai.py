"""OpenAI, and gateways that speak its language.

Facts (2026-11): the Responses API keeps replies unless ``store`` is false; its input tokens include the cached ones; the
models make no difference between documents and queries to embed; speech is written down by ``/audio/transcriptions``, which takes
a form and knows a file by the suffix of its name.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from typing import Any, Literal

import aiohttp

from services.ai.base import (
    NO_USAGE,
    BadRequest,
    Embedding,
    File,
    Finish,
    GenerateReply,
    GenerateRequest,
    OnDelta,
    Transient,
    Turn,
    Usage,
)
from services.ai.transport.adapter import Adapter, Draft, count, json_object, make_reply
from services.ai.transport.clients import JsonClient, StainlessClient
from services.ai.transport.http import SdkHttp

DEFAULT_BASE_URL = "https://api.openai.com/v1"
_TRANSCRIPTIONS = "/audio/transcriptions"
_BOUNDARY = secrets.token_hex(16)
_SUFFIXES = {"audio/ogg": "ogg", "audio/mpeg": "mp3", "audio/mp4": "m4a", "audio/wav": "wav", "audio/webm": "webm"}


class OpenAI(Adapter):
    """The Responses API, or chat completions where a request says so. ``base_url`` without a path gets ``/v1``."""

    kind = "openai"
    sdk = "openai"

    def __init__(self, session: aiohttp.ClientSession, base_url: str | None = None) -> None:
        address = (base_url or DEFAULT_BASE_URL).rstrip("/")
        super().__init__(session, address if "/" in address.partition("://")[2] else f"{address}/v1")

    def _client(self, api_key: str, http: SdkHttp) -> JsonClient:
        import openai
        from openai._models import FinalRequestOptions

        # Organisation and project are named so that the process environment cannot decide them for a foreign key.
        client = openai.AsyncOpenAI(
            api_key=api_key, organization="", project="", base_url=self._base_url, max_retries=0, http_client=http
        )
        return StainlessClient(
            client, FinalRequestOptions, {_TRANSCRIPTIONS: f"multipart/form-data; boundary={_BOUNDARY}"}
        )

    def _question(self, request: GenerateRequest, *, streamed: bool) -> tuple[str, dict[str, Any]]:
        if request.transcribe:
            return _TRANSCRIPTIONS, {"model": request.model, "response_format": "json"}
        if request.api == "chat":
            return "/chat/completions", _chat_body(request, streamed)
        return "/responses", _response_body(request, streamed)

    def _read(self, payload: dict[str, Any], request: GenerateRequest) -> GenerateReply:
        if request.transcribe:
            return make_reply(str(payload.get("text") or ""), request.model, _usage(payload.get("usage")), "stop")
        read = _read_chat if request.api == "chat" else _read_response
        return read(payload, request.model)

    def _encoded(self, body: dict[str, Any], request: GenerateRequest) -> bytes:
        return _form(body, request.turns[-1].files[0]) if request.transcribe else super()._encoded(body, request)

    async def _hear(self, events: AsyncIterator[Any], request: GenerateRequest, on_delta: OnDelta) -> GenerateReply:
        hear = _hear_chat if request.api == "chat" else _hear_response
        return await hear(events, request, on_delta)

    def _texts(
        self, texts: Sequence[str], model: str, task: Literal["document", "query"], dimensions: int | None
    ) -> tuple[str, dict[str, Any]]:
        body: dict[str, Any] = {"model": model, "input": list(texts), "encoding_format": "float"}
        if dimensions:
            body["dimensions"] = dimensions
        return "/embeddings", body

    def _embedded(self, payload: Any, model: str) -> Embedding:
        rows = sorted(payload["data"], key=lambda row: int(row["index"]))
        vectors = [[float(v) for v in row["embedding"]] for row in rows]
        return Embedding(vectors, str(payload.get("model") or model), _usage(payload.get("usage")))


def _form(fields: dict[str, Any], file: File) -> bytes:
    """A form with one file, between marks that nothing sent can hold."""
    mark = f"--{_BOUNDARY}".encode()
    parts = [f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}'.encode() for name, value in fields.items()]
    name = f"sound.{_SUFFIXES.get(file.mime, 'ogg')}"
    head = f'Content-Disposition: form-data; name="file"; filename="{name}"\r\nContent-Type: {file.mime}\r\n\r\n'
    parts.append(head.encode() + file.data)
    return b"".join(mark + b"\r\n" + part + b"\r\n" for part in parts) + mark + b"--\r\n"


def _content(turn: Turn) -> str | list[dict[str, Any]]:
    """A turn's words, behind the pictures and PDFs that were sent with them."""
    if not turn.files:
        return turn.text
    blocks: list[dict[str, Any]] = []
    for file in turn.files:
        if file.mime.startswith("image/"):
            blocks.append({"type": "input_image", "image_url": file.address})
        elif file.mime == "application/pdf":
            blocks.append({"type": "input_file", "filename": "document.pdf", "file_data": file.address})
        else:
            raise BadRequest(f"no model of OpenAI takes {file.mime} with a question")
    return [*blocks, {"type": "input_text", "text": turn.text}]


def _chat_content(turn: Turn) -> str | list[dict[str, Any]]:
    if not turn.files:
        return turn.text
    if not all(file.mime.startswith("image/") for file in turn.files):
        raise BadRequest("chat completions take pictures only")
    pictures: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": file.address}} for file in turn.files]
    return [*pictures, {"type": "text", "text": turn.text}]


def _response_body(request: GenerateRequest, streamed: bool) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": request.model,
        "instructions": request.system,
        "input": [{"role": t.role, "content": _content(t)} for t in request.turns],
        "max_output_tokens": request.max_output_tokens,
        "store": False,
    }
    if request.cache_key:
        body["prompt_cache_key"] = request.cache_key
    if request.effort:
        body["reasoning"] = {"effort": request.effort}
    if streamed:
        body["stream"] = True
    return body


def _read_response(payload: dict[str, Any], asked: str) -> GenerateReply:
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
    return make_reply("".join(pieces), model, usage, finish)


async def _hear_response(events: AsyncIterator[Any], request: GenerateRequest, on_delta: OnDelta) -> GenerateReply:
    """Hand the pieces on; the last event brings the answer once more, as a whole."""
    async for event in events:
        kind = event.get("type") if isinstance(event, dict) else None
        if kind == "response.output_text.delta":
            on_delta(str(event["delta"]))
        elif kind in ("response.completed", "response.incomplete", "response.failed"):
            return _read_response(json_object(event.get("response")), request.model)
        elif kind == "error":
            break
    raise Transient("the stream broke off", sent=True).with_facts(http_status=200)


def _chat_body(request: GenerateRequest, streamed: bool) -> dict[str, Any]:
    turns = [{"role": t.role, "content": _chat_content(t)} for t in request.turns]
    body: dict[str, Any] = {
        "model": request.model,
        "messages": [{"role": "system", "content": request.system}, *turns],
        "max_completion_tokens": request.max_output_tokens,
    }
    if request.effort:
        body["reasoning_effort"] = request.effort
    if streamed:
        body["stream"] = True
        body["stream_options"] = {"include_usage": True}
    return body


def _read_chat(payload: dict[str, Any], asked: str) -> GenerateReply:
    choices = payload.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    message = choice.get("message") or {}
    finish = _chat_finish(choice.get("finish_reason"), bool(message.get("refusal")))
    model = str(payload.get("model") or asked)
    return make_reply(str(message.get("content") or ""), model, _usage(payload.get("usage")), finish)


async def _hear_chat(events: AsyncIterator[Any], request: GenerateRequest, on_delta: OnDelta) -> GenerateReply:
    draft = Draft(request, on_delta)
    reason, refused = None, False
    async for event in events:
        if not isinstance(event, dict) or event.get("error"):
            break
        draft.model = str(event.get("model") or draft.model)
        if event.get("usage"):
            draft.usage = _usage(event["usage"])
        for choice in event.get("choices") or ():
            delta = choice.get("delta") or {}
            refused = refused or bool(delta.get("refusal"))
            reason = choice.get("finish_reason") or reason
            draft.add(delta.get("content"))
    if reason is None:
        raise draft.broken_off()
    return draft.reply(_chat_finish(reason, refused))


def _chat_finish(reason: object, refused: bool) -> Finish:
    if refused or reason == "content_filter":
        return "refused"
    return "length" if reason == "length" else "stop"


def _usage(found: Any) -> Usage:
    if not isinstance(found, dict):
        return NO_USAGE
    details = found.get("input_tokens_details") or found.get("prompt_tokens_details") or {}
    return Usage(
        input_tokens=count(found.get("input_tokens") or found.get("prompt_tokens")),
        output_tokens=count(found.get("output_tokens") or found.get("completion_tokens")),
        cached_tokens=count(details.get("cached_tokens")),
        cache_write_tokens=count(details.get("cache_write_tokens")),
    )
