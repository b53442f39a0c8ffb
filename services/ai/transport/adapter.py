"""The course of a call, the same with every provider, and what reading an answer needs everywhere."""

from __future__ import annotations

import asyncio
import importlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from typing import Any, Literal

import aiohttp
import orjson

from services.ai.base import (
    NO_USAGE,
    BadOutput,
    BadRequest,
    Embedding,
    Failure,
    Finish,
    GenerateReply,
    GenerateRequest,
    OnDelta,
    Transient,
    Usage,
)
from services.ai.transport.clients import Clients, JsonClient
from services.ai.transport.failures import raise_failure
from services.ai.transport.http import SdkHttp, sse_data


class Adapter(ABC):
    """A :class:`services.ai.base.Provider` of which a subclass tells the wire format.

    ``kind`` names it in the registry, ``sdk`` is the module of its SDK. Whatever a method of the wire format raises over an
    answer that it does not understand counts as a bad answer.
    """

    kind: str
    sdk: str

    def __init__(self, session: aiohttp.ClientSession, base_url: str) -> None:
        self._base_url = base_url
        http = SdkHttp(session)
        self._clients = Clients(lambda api_key: self._client(api_key, http))
        self._prepared = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._base_url}>"

    # ---- the wire format -------------------------------------------------------------------------------------

    @abstractmethod
    def _client(self, api_key: str, http: SdkHttp) -> JsonClient:
        """Make the SDK's client of a key; the SDK has been imported by then."""

    @abstractmethod
    def _question(self, request: GenerateRequest, *, streamed: bool) -> tuple[str, dict[str, Any]]:
        """Return path and body of a question."""

    @abstractmethod
    def _read(self, payload: dict[str, Any], request: GenerateRequest) -> GenerateReply:
        """Read a whole answer."""

    @abstractmethod
    async def _hear(self, events: AsyncIterator[Any], request: GenerateRequest, on_delta: OnDelta) -> GenerateReply:
        """Read an answer that arrives in pieces, and hand them on."""

    def _encoded(self, body: dict[str, Any], request: GenerateRequest) -> bytes:
        """Return the bytes of a question's body."""
        return orjson.dumps(body)

    def _texts(
        self, texts: Sequence[str], model: str, task: Literal["document", "query"], dimensions: int | None
    ) -> tuple[str, dict[str, Any]]:
        """Return path and body of texts to embed. Raises :class:`BadRequest` where the provider offers no embeddings."""
        raise self._no_embeddings()

    def _embedded(self, payload: Any, model: str) -> Embedding:
        """Read the vectors of what :meth:`_texts` asked for; raises as it does."""
        raise self._no_embeddings()

    def _no_embeddings(self) -> BadRequest:
        return BadRequest(f"{self.kind} offers no embeddings")

    # ---- the course of a call --------------------------------------------------------------------------------

    async def prepare(self) -> None:
        """Import the SDK (up to 3 s), in a thread; calls do it themselves, outside their time limits."""
        if not self._prepared:
            await asyncio.to_thread(importlib.import_module, self.sdk)
            self._prepared = True

    async def generate(
        self, request: GenerateRequest, *, api_key: str, on_delta: OnDelta | None = None
    ) -> GenerateReply:
        """Ask the model; with ``on_delta`` the answer is streamed."""
        path, body = self._question(request, streamed=on_delta is not None)
        await self.prepare()
        try:
            async with asyncio.timeout(request.timeout_s):
                client, content = self._clients.get(api_key), self._encoded(body, request)
                if on_delta is None:
                    answer = await client.ask(path, content, request.first_byte_timeout_s)
                    return self._read(json_object(orjson.loads(answer)), request)
                chunks = await client.ask_streamed(path, content, request.first_byte_timeout_s)
                return await self._hear(sse_data(chunks), request, on_delta)
        except Exception as error:  # noqa: BLE001 - raise_failure raises it again, in our words where it has some
            raise_failure(error, api_key)

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
        """Turn texts into vectors."""
        path, body = self._texts(texts, model, task, dimensions)
        await self.prepare()
        try:
            async with asyncio.timeout(timeout_s):
                answer = await self._clients.get(api_key).ask(path, orjson.dumps(body), first_byte_timeout_s)
            found = self._embedded(orjson.loads(answer), model)
        except Exception as error:  # noqa: BLE001 - raise_failure raises it again, in our words where it has some
            raise_failure(error, api_key)
        if len(found.vectors) != len(texts):
            raise BadOutput("as many vectors as texts expected").with_facts(http_status=200)
        return found

    async def close(self) -> None:
        """Forget the clients."""
        self._clients.clear()


class Draft:
    """An answer as far as it has arrived; pieces that are added are handed on."""

    __slots__ = ("_on_delta", "_pieces", "model", "usage")

    def __init__(self, request: GenerateRequest, on_delta: OnDelta) -> None:
        self.model, self.usage = request.model, NO_USAGE
        self._on_delta = on_delta
        self._pieces: list[str] = []

    @property
    def begun(self) -> bool:
        """Whether there is any text."""
        return bool(self._pieces)

    def add(self, piece: object) -> None:
        """Take the next piece; None and empty ones are passed over."""
        if piece:
            text = str(piece)
            self._pieces.append(text)
            self._on_delta(text)

    def reply(self, finish: Finish, reason: object = None) -> GenerateReply:
        """Return the complete answer, as :func:`make_reply` does."""
        return make_reply("".join(self._pieces), self.model, self.usage, finish, reason)

    def failed(self, failure: Failure) -> Failure:
        """Return ``failure`` with what is known by now."""
        return failure.with_facts(http_status=200, usage=self.usage, model_served=self.model)

    def broken_off(self) -> Failure:
        """Return the failure of a stream without a proper end."""
        return self.failed(Transient("the stream broke off", sent=True))


def make_reply(text: str, model: str, usage: Usage, finish: Finish, reason: object = None) -> GenerateReply:
    """Return the reply; a refusal has no text. Raises :class:`BadOutput`, with the provider's ``reason``, for want of text."""
    if finish == "refused":
        return GenerateReply("", model, usage, finish)
    if not text.strip():
        said = f"no text: {reason}" if reason else "no text"
        raise BadOutput(said).with_facts(http_status=200, usage=usage, model_served=model)
    return GenerateReply(text, model, usage, finish)


def json_object(payload: Any) -> dict[str, Any]:
    """Return ``payload`` itself. Raises :class:`BadOutput` if it is something other than an object."""
    if not isinstance(payload, dict):
        raise BadOutput("not an object").with_facts(http_status=200)
    return payload


def count(value: object) -> int:
    """A number of tokens; 0 for what is none."""
    return max(value, 0) if isinstance(value, int) else 0
