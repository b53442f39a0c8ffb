"""The whole product with two owners, for tests of the API and the chat page: real servers, real HTTP."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from services.core import Core
from tests import leaks
from tests.composition import Shop, address, make_settings, make_shop, running
from tests.fakes.models import FakeModels
from tests.fakes.telegram import FakeTelegram
from tests.web.panel import unguarded

MODEL_KEY = "test-key-of-gemini-0123456789"


@dataclass(frozen=True)
class Reply:
    """An answer of the API."""

    status: int
    body: Any
    headers: Mapping[str, str]

    @property
    def code(self) -> str:
        """The code of an error."""
        return str(self.body["error"]["code"])


class Program:
    """A program that uses the API with a token."""

    def __init__(self, base: str, http: aiohttp.ClientSession, token: str | None, shop: Shop | None = None) -> None:
        self._base, self._http, self.token, self._shop = base, http, token, shop

    @property
    def shop(self) -> Shop:
        """The owner's bot."""
        assert self._shop is not None
        return self._shop

    @property
    def bot(self) -> str:
        """The path of the owner's bot."""
        return f"/bots/{self.shop.bot.id}"

    async def call(self, method: str, path: str, headers: Mapping[str, str] | None = None, **options: Any) -> Reply:
        """Make one request."""
        given = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        async with self._http.request(
            method, f"{self._base}/api/v1{path}", headers={**given, **(headers or {})}, **options
        ) as answer:
            raw = await answer.read()
            assert (leak := leaks.on_page(raw.decode("utf-8", "replace"))) is None, f"{method} {path} shows {leak}"
            assert not (wrong := unguarded(path, answer.headers)), f"{method} {path} {answer.status}: {wrong}"
            body = await answer.json() if raw and "json" in answer.content_type else raw.decode()
            return Reply(answer.status, body, dict(answer.headers))

    async def get(self, path: str, **query: str) -> Reply:
        """Read."""
        return await self.call("GET", path, params=query)

    async def post(self, path: str, body: Any = None) -> Reply:
        """Send JSON."""
        return await self.call("POST", path, json=body) if body is not None else await self.call("POST", path)

    async def raw(self, path: str, data: bytes, method: str = "POST") -> Reply:
        """Send bytes that say they are JSON."""
        return await self.call(method, path, data=data, headers={"Content-Type": "application/json"})

    async def upload(self, path: str, name: str | None, data: bytes, field: str = "file") -> Reply:
        """Send a file."""
        form = aiohttp.FormData(default_to_multipart=True)
        if name is None:
            form.add_field(field, data, content_type="application/octet-stream")
        else:
            form.add_field(field, data, filename=name, content_type="application/octet-stream")
        return await self.call("POST", path, data=form)


@dataclass(frozen=True)
class Site:
    """The running product: an owner, a stranger with an account of their own, somebody without a token."""

    core: Core
    base: str
    http: aiohttp.ClientSession
    models: FakeModels
    telegram: FakeTelegram
    owner: Program
    stranger: Program
    nobody: Program

    @property
    def page(self) -> str:
        """The chat page of the owner's bot."""
        return f"{self.base}/chat/{self.owner.shop.bot.public_id}"


@contextlib.asynccontextmanager
async def started(
    folder: Path, database_url: str, *, overrides: Mapping[str, Mapping[str, Any]] | None = None
) -> AsyncIterator[Site]:
    """Start everything."""
    async with contextlib.AsyncExitStack() as stack:
        upstream = FakeModels()
        await upstream.start()
        stack.push_async_callback(upstream.stop)
        telegram = await stack.enter_async_context(FakeTelegram())
        environment = {
            "GEMINI_API_KEY": MODEL_KEY,
            "GEMINI_BASE_URL": upstream.url,
            "TELEGRAM_API_BASE": telegram.base_url,
        }
        settings = make_settings(folder, database_url, environment=environment, overrides=overrides)
        core = await stack.enter_async_context(running(settings))
        http = await stack.enter_async_context(aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()))
        own = await make_shop(core, "Texno Savdo", email="owner@example.uz")
        other = await make_shop(core, "Nur Gullari", email="stranger@example.uz", document="Atirgul 15 000 so'm.")
        base = address(core)
        yield Site(
            core,
            base,
            http,
            upstream,
            telegram,
            Program(base, http, own.token, own),
            Program(base, http, other.token, other),
            Program(base, http, None),
        )
