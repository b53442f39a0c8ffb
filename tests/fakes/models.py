"""Model providers on loopback, in their own wire formats, with a switch for every way in which they go wrong.

:class:`FakeModels` speaks Gemini ``generateContent``/``streamGenerateContent``/``embedContent``/``batchEmbedContents``,
OpenAI ``/v1/responses``, ``/v1/chat/completions`` and ``/v1/embeddings``, and Anthropic ``/v1/messages``; it records what
it was asked. ``python -m tests.fakes.models --port N --latency-ms M`` runs a bare server with fixed answers that costs
next to nothing, for measurements.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import math
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, cast

import orjson
from aiohttp import web

DIMENSIONS = 64
FAULTS = (
    "429",  # too many requests; Retry-After (or RetryInfo) when ``retry_after`` is given
    "insufficient_quota",  # 429 of an account without money
    "payment",  # 402
    "500",
    "503",
    "529",
    "cut",  # the connection is closed instead of an answer
    "cut_midway",  # … after half of the body
    "silence",  # nothing at all, until the client gives up
    "headers_only",  # 200 and headers, then silence
    "drip",  # the answer, ``drip_octets`` per ``pace_s``
    "endless",  # bytes without an end
    "huge",  # a 10 MB answer
    "html",  # 200 with a web page
    "broken_json",
    "empty",  # no candidates, no output
    "refused",
    "length",  # cut off by the output limit
    "key_revoked",  # 401
    "forbidden",  # 403
    "retired",  # 404
    "too_long",  # 400, context exceeded
    "bad_parameter",  # 400
    "stream_error",  # a stream that breaks off with the provider's error event
)


@dataclass(slots=True)
class Seen:
    """One request as it arrived. ``kind``: ``generate`` or ``embed``."""

    provider: str
    kind: str
    path: str
    model: str
    key: str
    stream: bool
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def text(self) -> str:
        """Everything that was sent, for assertions on what reached the model."""
        return json.dumps(self.body, ensure_ascii=False, default=repr)


@dataclass(slots=True)
class _Rule:
    fault: str
    times: int | None
    provider: str | None
    model: str | None
    key: str | None
    kind: str | None
    retry_after: float | None

    def fits(self, seen: Seen) -> bool:
        return (
            self.times != 0
            and self.provider in (None, seen.provider)
            and self.model in (None, seen.model)
            and self.key in (None, seen.key)
            and self.kind in (None, seen.kind)
        )


class Hold:
    """Requests that are kept waiting for their answer: await :attr:`reached`, then :meth:`release` them."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self._gate = asyncio.Event()

    def release(self) -> None:
        """Let what is held, and what comes later, go on."""
        self._gate.set()

    async def wait(self) -> None:
        """Tell that a request came, and keep it until the release."""
        self.reached.set()
        await self._gate.wait()


@dataclass
class FakeModels:
    """The providers of one test: set :attr:`reply`, :meth:`fail` it, look at :attr:`requests`.

    ``dimensions``: of the vectors; ``indented``: JSON with a line for each number, as the real ones write it.
    """

    reply: str | Callable[[Seen], str] = "Salom! Nok 12 000 so‘m 🍐"
    latency_s: float = 0.0
    pace_s: float = 0.02
    drip_octets: int = 1
    cached_tokens: int = 0
    model_served: str | None = None
    dimensions: int = DIMENSIONS
    indented: bool = False
    requests: list[Seen] = field(default_factory=list)
    _rules: list[_Rule] = field(default_factory=list)
    _held: Hold | None = None
    _runner: web.AppRunner | None = None
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""

    def fail(
        self,
        fault: str,
        *,
        times: int | None = None,
        provider: str | None = None,
        model: str | None = None,
        key: str | None = None,
        kind: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        """Answer matching requests with ``fault``, ``times`` times (None: always). Earlier rules go first."""
        if fault not in FAULTS:
            raise ValueError(f"unknown fault {fault!r}")
        self._rules.append(_Rule(fault, times, provider, model, key, kind, retry_after))

    def heal(self) -> None:
        """Forget all faults."""
        self._rules.clear()

    def hold(self) -> Hold:
        """Keep every request from now on waiting for its answer."""
        self.release()
        self._held = Hold()
        return self._held

    def release(self) -> None:
        """Let go of what is held."""
        if self._held is not None:
            self._held.release()
            self._held = None

    def reset(self) -> None:
        """Forget faults, requests and the programmed reply; let go of what is held."""
        fresh = FakeModels()
        self.reply, self.latency_s, self.pace_s = fresh.reply, fresh.latency_s, fresh.pace_s
        self.drip_octets = fresh.drip_octets
        self.cached_tokens, self.model_served = fresh.cached_tokens, fresh.model_served
        self.dimensions, self.indented = fresh.dimensions, fresh.indented
        self.requests.clear()
        self._rules.clear()
        self.release()

    @property
    def base_urls(self) -> dict[str, str]:
        """The address for each provider, as its SDK wants it."""
        return {"gemini": self.url, "openai": f"{self.url}/v1", "anthropic": self.url}

    @property
    def application(self) -> web.Application:
        """A new aiohttp application that serves this fake."""
        app = web.Application(client_max_size=64 * 2**20)
        for version in ("v1", "v1beta"):
            app.router.add_post(f"/{version}/models/{{call:.+}}", self._gemini)
        app.router.add_post("/v1/responses", self._responses)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/audio/transcriptions", self._transcriptions)
        app.router.add_post("/v1/embeddings", self._embeddings)
        app.router.add_post("/v1/messages", self._messages)
        return app

    async def start(self, port: int = 0) -> str:
        """Listen on loopback and return the address."""
        self._stopping = asyncio.Event()
        self._runner = web.AppRunner(self.application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port)
        await site.start()
        host, bound = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{bound}"
        return self.url

    async def stop(self) -> None:
        """Stop listening and let go of everyone who still waits."""
        self._stopping.set()
        self.release()
        if self._runner:
            await self._runner.cleanup()

    # ---- the wire formats ------------------------------------------------------------------------------------

    async def _gemini(self, request: web.Request) -> web.StreamResponse:
        model, _, action = request.match_info["call"].partition(":")
        body = await request.json()
        seen = self._seen(
            request,
            "gemini",
            "embed" if "mbed" in action else "generate",
            model,
            request.headers.get("x-goog-api-key", ""),
            body,
            action == "streamGenerateContent",
        )
        if action == "batchEmbedContents":
            texts = ["".join(p["text"] for p in r["content"]["parts"]) for r in body["requests"]]
            return await self._answer(request, seen, {"embeddings": [{"values": self._vector(t)} for t in texts]})
        if action == "embedContent":
            text = "".join(p["text"] for p in body["content"]["parts"])
            return await self._answer(request, seen, {"embedding": {"values": self._vector(text)}})
        return await self._answer(request, seen, None)

    async def _responses(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        seen = self._seen(request, "openai", "generate", body.get("model", ""), bearer(request), body)
        return await self._answer(request, seen, None)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        return await self._responses(request)

    async def _transcriptions(self, request: web.Request) -> web.StreamResponse:
        form = await request.post()
        body: dict[str, Any] = {name: value for name, value in form.items() if isinstance(value, str)}
        file = form.get("file")
        if not isinstance(file, web.FileField):
            return web.json_response(
                {"error": {"message": "file is required", "type": "invalid_request_error"}}, status=400
            )
        body["file"] = {"name": file.filename, "type": file.content_type, "content": file.file.read()}
        seen = self._seen(request, "openai", "generate", str(body.get("model", "")), bearer(request), body)
        text = self.reply(seen) if callable(self.reply) else self.reply
        usage = {"type": "tokens", "input_tokens": 100, "output_tokens": 20, "total_tokens": 120}
        return await self._answer(request, seen, {"text": text, "usage": usage})

    async def _embeddings(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        seen = self._seen(request, "openai", "embed", body.get("model", ""), bearer(request), body)
        texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
        data = [{"object": "embedding", "index": i, "embedding": self._vector(t)} for i, t in enumerate(texts)]
        usage = {"prompt_tokens": 7, "total_tokens": 7}
        return await self._answer(request, seen, {"object": "list", "data": data, "model": seen.model, "usage": usage})

    async def _messages(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        key = request.headers.get("x-api-key") or bearer(request)
        seen = self._seen(request, "anthropic", "generate", body.get("model", ""), key, body)
        return await self._answer(request, seen, None)

    def _seen(
        self,
        request: web.Request,
        provider: str,
        kind: str,
        model: str,
        key: str,
        body: dict[str, Any],
        stream: bool | None = None,
    ) -> Seen:
        streaming = bool(body.get("stream")) if stream is None else stream
        seen = Seen(provider, kind, request.path, model, key, streaming, dict(request.headers), body)
        self.requests.append(seen)
        return seen

    async def _answer(self, request: web.Request, seen: Seen, embedding: dict[str, Any] | None) -> web.StreamResponse:
        rule = next((r for r in self._rules if r.fits(seen)), None)
        if rule and rule.times is not None:
            rule.times -= 1
        fault = rule.fault if rule else ""
        if self.latency_s:
            await self._pause(self.latency_s)
        if self._held is not None:
            await self._held.wait()
        if fault in ("silence", "cut"):
            if fault == "silence":
                await self._pause(3600)
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        error = error_answer(seen.provider, fault, rule.retry_after if rule else None)
        if error:
            status, payload, headers = error
            return web.json_response(payload, status=status, headers=headers)
        if fault == "html":
            return web.Response(text="<!doctype html><title>Sign in</title>", content_type="text/html")
        if fault in ("endless", "headers_only", "drip", "huge", "cut_midway", "stream_error") or seen.stream:
            return await self._stream(request, seen, fault, embedding)
        text = self.reply(seen) if callable(self.reply) else self.reply
        payload = embedding or self._whole(seen, text, fault)
        raw = orjson.dumps(payload, option=orjson.OPT_INDENT_2 if self.indented else None)
        if fault == "broken_json":
            raw = raw[: len(raw) // 2]
        return web.Response(body=raw, content_type="application/json")

    async def _stream(
        self, request: web.Request, seen: Seen, fault: str, embedding: dict[str, Any] | None
    ) -> web.StreamResponse:
        text = self.reply(seen) if callable(self.reply) else self.reply
        kind = "text/event-stream" if seen.stream else "application/json"
        response = web.StreamResponse(headers={"Content-Type": kind})
        await response.prepare(request)
        if fault == "headers_only":
            await self._pause(3600)
            return response
        if fault == "huge":
            text = "x" * 10 * 2**20
        if seen.stream:
            parts = [p async for p in self._events(seen, text, fault)]
        else:
            parts = [orjson.dumps(embedding or self._whole(seen, text, fault))]
        if fault == "broken_json":
            parts = [p[: len(p) // 2] + b"\n\n" for p in parts]
        try:
            if fault == "endless":
                while not self._stopping.is_set():
                    await response.write(parts[len(parts) // 2] if seen.stream else b" " * 65536)
                    await asyncio.sleep(0)
            for number, part in enumerate(parts):
                if fault == "cut_midway" and (number == len(parts) // 2 or not seen.stream):
                    await response.write(part[: len(part) // 2])
                    assert request.transport is not None
                    request.transport.close()
                    return response
                if fault == "drip":
                    for at in range(0, len(part), self.drip_octets):
                        await response.write(part[at : at + self.drip_octets])
                        await self._pause(self.pace_s)
                        if self._stopping.is_set():
                            return response
                else:
                    await response.write(part)
            await response.write_eof()
        except (ConnectionError, asyncio.CancelledError):
            return response
        return response

    def _vector(self, text: str) -> list[float]:
        return vector(text, self.dimensions)

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return

    def _whole(self, seen: Seen, text: str, fault: str) -> dict[str, Any]:
        model = self.model_served or seen.model
        return whole(seen.provider, seen.path, model, text, fault, self.cached_tokens)

    async def _events(self, seen: Seen, text: str, fault: str) -> AsyncIterator[bytes]:
        model = self.model_served or seen.model
        for event in events(seen.provider, seen.path, model, text, fault, self.cached_tokens):
            yield event


def bearer(request: web.Request) -> str:
    """The key of an ``Authorization: Bearer`` header."""
    return request.headers.get("Authorization", "").removeprefix("Bearer ")


def vector(text: str, dimensions: int = DIMENSIONS) -> list[float]:
    """A repeatable unit vector: texts that share words are near each other. More dimensions hold next to nothing, in full."""
    values = [0.0] * DIMENSIONS + [-1.2345678901234567e-05] * (dimensions - DIMENSIONS)
    for word in text.lower().split():
        digest = hashlib.blake2b(word.encode(), digest_size=2).digest()
        values[digest[0] % DIMENSIONS] += 1.0
    norm = math.sqrt(sum(v * v for v in values)) or 1.0
    return [v / norm for v in values]


def error_answer(
    provider: str, fault: str, retry_after: float | None
) -> tuple[int, dict[str, Any], dict[str, str]] | None:
    """Status, body and headers of a refusal as the provider words it, or None for faults of another kind."""
    statuses = {
        "429": 429,
        "insufficient_quota": 429,
        "payment": 402,
        "500": 500,
        "503": 503,
        "529": 529,
        "key_revoked": 401,
        "forbidden": 403,
        "retired": 404,
        "too_long": 400,
        "bad_parameter": 400,
    }
    status = statuses.get(fault)
    if status is None:
        return None
    headers: dict[str, str] = {}
    if retry_after is not None and provider != "gemini":
        headers["retry-after"] = f"{retry_after:g}"
    if provider == "gemini":
        if fault == "key_revoked":  # Gemini words it as a bad request
            status = 400
        message, google_status, details = {
            "429": ("Resource has been exhausted", "RESOURCE_EXHAUSTED", []),
            "insufficient_quota": (
                "Your prepayment credits are depleted. Please go to billing.",
                "RESOURCE_EXHAUSTED",
                [],
            ),
            "key_revoked": (
                "API key not valid. Please pass a valid API key.",
                "INVALID_ARGUMENT",
                [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}],
            ),
            "forbidden": ("Permission denied", "PERMISSION_DENIED", []),
            "retired": ("This model models/x is no longer available.", "NOT_FOUND", []),
            "too_long": (
                "The input token count (2000000) exceeds the maximum number of tokens allowed (1048576).",
                "INVALID_ARGUMENT",
                [],
            ),
            "bad_parameter": ('Invalid JSON payload received. Unknown name "frob"', "INVALID_ARGUMENT", []),
        }.get(fault, ("The service is currently unavailable.", "UNAVAILABLE" if status != 500 else "INTERNAL", []))
        if retry_after is not None:
            details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{retry_after:g}s"}]
        body = {"code": status, "message": message, "status": google_status, "details": details}
        return status, {"error": body}, headers
    if provider == "openai":
        message, kind, code = {
            "429": ("Rate limit reached for requests", "requests", "rate_limit_exceeded"),
            "insufficient_quota": ("You exceeded your current quota.", "insufficient_quota", "insufficient_quota"),
            "key_revoked": ("Incorrect API key provided: sk-te***key.", "invalid_request_error", "invalid_api_key"),
            "forbidden": ("Country not supported", "request_forbidden", "unsupported_country_region_territory"),
            "retired": ("The model `x` does not exist", "invalid_request_error", "model_not_found"),
            "too_long": (
                "This model's maximum context length is 128000 tokens.",
                "invalid_request_error",
                "context_length_exceeded",
            ),
            "bad_parameter": ("Unsupported parameter: 'frob'", "invalid_request_error", "unsupported_parameter"),
        }.get(fault, ("The server had an error", "server_error", None))
        return status, {"error": {"message": message, "type": kind, "param": None, "code": code}}, headers
    message, kind = {
        "429": ("Number of requests has exceeded your rate limit", "rate_limit_error"),
        "insufficient_quota": ("Your credit balance is too low to access the Anthropic API.", "invalid_request_error"),
        "payment": ("Your credit balance is too low", "billing_error"),
        "529": ("Overloaded", "overloaded_error"),
        "key_revoked": ("invalid x-api-key", "authentication_error"),
        "forbidden": ("Your API key does not have permission", "permission_error"),
        "retired": ("model: x", "not_found_error"),
        "too_long": ("prompt is too long: 208310 tokens > 200000 maximum", "invalid_request_error"),
        "bad_parameter": ("frob: Extra inputs are not permitted", "invalid_request_error"),
    }.get(fault, ("Internal server error", "api_error"))
    if fault == "insufficient_quota":
        status = 400
    return status, {"type": "error", "error": {"type": kind, "message": message}}, headers


def whole(provider: str, path: str, model: str, text: str, fault: str = "", cached: int = 0) -> dict[str, Any]:
    """The body of a plain answer."""
    if provider == "gemini":
        return _gemini_chunk(model, text, fault, cached, last=True)
    if provider == "anthropic":
        content: list[dict[str, Any]] = [{"type": "thinking", "thinking": "hm", "signature": "x"}]
        if fault not in ("empty", "refused"):
            content.append({"type": "text", "text": text})
        reason = {"refused": "refusal", "length": "max_tokens"}.get(fault, "end_turn")
        usage = {
            "input_tokens": 100 - cached,
            "cache_read_input_tokens": cached,
            "cache_creation_input_tokens": 0,
            "output_tokens": 20,
        }
        return {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": content,
            "stop_reason": reason,
            "stop_sequence": None,
            "usage": usage,
        }
    if path.endswith("/chat/completions"):
        message = {"role": "assistant", "content": "" if fault == "empty" else text, "refusal": None}
        if fault == "refused":
            message = {"role": "assistant", "content": None, "refusal": "I'm sorry, I can't help with that."}
        reason = "length" if fault == "length" else "stop"
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": model,
            "choices": [{"index": 0, "message": message, "finish_reason": reason}],
            "usage": _chat_usage(cached),
        }
    part: dict[str, Any] = {"type": "output_text", "text": text, "annotations": []}
    if fault == "refused":
        part = {"type": "refusal", "refusal": "I'm sorry, I can't help with that."}
    output: list[dict[str, Any]] = [{"type": "reasoning", "id": "rs_1", "summary": []}]
    if fault != "empty":
        output.append({"type": "message", "id": "m", "status": "completed", "role": "assistant", "content": [part]})
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "status": "incomplete" if fault == "length" else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if fault == "length" else None,
        "error": None,
        "model": model,
        "output": output,
        "usage": {
            "input_tokens": 100,
            "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
            "output_tokens": 20,
            "output_tokens_details": {"reasoning_tokens": 5},
            "total_tokens": 120,
        },
    }


def events(provider: str, path: str, model: str, text: str, fault: str = "", cached: int = 0) -> list[bytes]:
    """The server-sent events of a streamed answer."""
    pieces = [text[i : i + 6] for i in range(0, len(text), 6)] if len(text) < 10_000 else [text]
    if fault in ("empty", "refused"):
        pieces = []
    if provider == "gemini":
        chunks = [_gemini_chunk(model, p, "", cached, last=False) for p in pieces]
        if fault == "stream_error":
            error = {"error": {"code": 503, "message": "overloaded", "status": "UNAVAILABLE"}}
            return [_data(c) for c in [*chunks[:1], error]]
        return [_data(c) for c in [*chunks, _gemini_chunk(model, "", fault, cached, last=True)]]
    body = whole(provider, path, model, text, fault, cached)
    if provider == "anthropic":
        start = {**body, "content": [], "stop_reason": None, "usage": {**body["usage"], "output_tokens": 1}}
        steps: list[dict[str, Any]] = [
            {"type": "message_start", "message": start},
            {"type": "ping"},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        ]
        steps += [
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": p}} for p in pieces
        ]
        if fault == "stream_error":
            steps.append({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}})
            return [_event(s) for s in steps]
        steps += [
            {"type": "content_block_stop", "index": 0},
            {
                "type": "message_delta",
                "delta": {"stop_reason": body["stop_reason"], "stop_sequence": None},
                "usage": {"output_tokens": 20},
            },
            {"type": "message_stop"},
        ]
        return [_event(s) for s in steps]
    if path.endswith("/chat/completions"):
        base = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": model}
        parts = [_data({**base, "choices": [{"index": 0, "delta": {"content": p}}]}) for p in pieces]
        if fault == "stream_error":
            return [*parts[:1], _data({"error": {"message": "The server had an error", "type": "server_error"}})]
        reason = body["choices"][0]["finish_reason"]
        delta = {"refusal": "I'm sorry"} if fault == "refused" else {}
        return [
            *parts,
            _data({**base, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}),
            _data({**base, "choices": [], "usage": _chat_usage(cached)}),
            b"data: [DONE]\n\n",
        ]
    steps = [{"type": "response.created", "response": {**body, "status": "in_progress", "output": []}}]
    steps += [{"type": "response.output_text.delta", "item_id": "m", "output_index": 0, "delta": p} for p in pieces]
    if fault == "stream_error":
        steps.append({"type": "error", "code": "server_error", "message": "The server had an error"})
    else:
        name = "response.incomplete" if fault == "length" else "response.completed"
        steps.append({"type": name, "response": body})
    return [_event(s) for s in steps]


def _chat_usage(cached: int) -> dict[str, Any]:
    details = {"cached_tokens": cached}
    return {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120, "prompt_tokens_details": details}


def _gemini_chunk(model: str, text: str, fault: str, cached: int, *, last: bool) -> dict[str, Any]:
    usage = {
        "promptTokenCount": 100,
        "cachedContentTokenCount": cached,
        "candidatesTokenCount": 15,
        "thoughtsTokenCount": 5,
        "totalTokenCount": 120,
    }
    chunk: dict[str, Any] = {"usageMetadata": usage, "modelVersion": model, "responseId": "r1"}
    if fault == "empty":
        return {**chunk, "candidates": []}
    if fault == "refused":
        return {**chunk, "promptFeedback": {"blockReason": "SAFETY"}}
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": [{"text": text}]}, "index": 0}
    if last:
        candidate["finishReason"] = "MAX_TOKENS" if fault == "length" else "STOP"
    return {**chunk, "candidates": [candidate]}


def _data(payload: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(payload) + b"\n\n"


def _event(payload: dict[str, Any]) -> bytes:
    return b"event: " + str(payload["type"]).encode() + b"\n" + _data(payload)


# ---- the bare server for measurements --------------------------------------------------------------------------


class _Bare(asyncio.Protocol):
    """Just enough HTTP/1.1 for the SDKs: keep-alive, a body with a length or in chunks, a fixed answer."""

    def __init__(self, text: str, latency_s: float) -> None:
        self.text, self.latency_s = text, latency_s
        self.buffer = b""
        self.transport: asyncio.Transport | None = None
        self.answers: dict[bytes, bytes] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is not a subclass

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head, rest = self.buffer[:end].lower(), self.buffer[end + 4 :]
            at = head.find(b"content-length:")
            if at >= 0:
                length = int(head[at + 15 :].split(b"\r\n", 1)[0])
                if len(rest) < length:
                    return
                body, self.buffer = rest[:length], rest[length:]
            elif b"transfer-encoding: chunked" in head:
                if not rest.endswith(b"0\r\n\r\n"):
                    return
                body, self.buffer = rest, b""
            else:
                body, self.buffer = b"", rest
            path = self.raw_path(head)
            streaming = b"stream" in path or b'"stream":true' in body.replace(b'"stream": true', b'"stream":true')
            answer = self.answers.get(path + (b"+" if streaming else b""))
            if answer is None:
                answer = self.answers[path + (b"+" if streaming else b"")] = self.build(path.decode(), body, streaming)
            if self.latency_s:
                asyncio.get_running_loop().call_later(self.latency_s, self.write, answer)
            else:
                self.write(answer)

    def raw_path(self, head: bytes) -> bytes:
        return head.split(b" ", 2)[1]

    def write(self, answer: bytes) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(answer)

    def build(self, path: str, body: bytes, streaming: bool) -> bytes:
        provider = "gemini" if "/models/" in path else "anthropic" if path.endswith("/messages") else "openai"
        model = path.split("/models/")[1].split(":")[0] if provider == "gemini" else orjson.loads(body)["model"]
        if "mbed" in path:
            content = orjson.dumps(
                {"embeddings": [{"values": vector("x")}]}
                if provider == "gemini"
                else {"data": [{"index": 0, "embedding": vector("x")}], "model": "m", "usage": {"prompt_tokens": 1}}
            )
        elif streaming:
            content = b"".join(events(provider, path.split("?")[0], model, self.text))
        else:
            content = orjson.dumps(whole(provider, path, model, self.text))
        kind = b"text/event-stream" if streaming else b"application/json"
        length = str(len(content)).encode()
        return b"HTTP/1.1 200 OK\r\nContent-Type: " + kind + b"\r\nContent-Length: " + length + b"\r\n\r\n" + content


async def serve_bare(port: int, latency_s: float, text: str) -> None:
    """Serve fixed answers until cancelled; prints the port first."""
    loop = asyncio.get_running_loop()
    answers: dict[bytes, bytes] = {}

    def connect() -> _Bare:
        protocol = _Bare(text, latency_s)
        protocol.answers = answers
        return protocol

    server = await loop.create_server(connect, "127.0.0.1", port, family=socket.AF_INET, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201 - the parent process reads it
    async with server:
        await server.serve_forever()


def main() -> None:
    """Entry point of ``python -m tests.fakes.models``."""
    parser = argparse.ArgumentParser(description="A model server with fixed answers, for measurements.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency-ms", type=float, default=0.0)
    parser.add_argument("--text", default="Nok narxi 12 000 so‘m, yetkazib berish bepul 🍐")
    given = parser.parse_args()
    try:
        import uvloop
    except ImportError:
        asyncio.run(serve_bare(given.port, given.latency_ms / 1000, given.text))
    else:
        uvloop.run(serve_bare(given.port, given.latency_ms / 1000, given.text))


if __name__ == "__main__":
    main()
