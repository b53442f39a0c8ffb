"""An owner's own server, as the convention asks for it: it checks each signature and keeps what it was told."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.conveyor.harness import until


@dataclass(frozen=True)
class Told:
    """One request."""

    id: str
    body: Mapping[str, Any]
    headers: Mapping[str, str]
    raw: str

    @property
    def type(self) -> str:
        """The event."""
        return str(self.body["type"])

    def signed_by(self, secret: str) -> bool:
        """Whether one of the signatures is made with this secret."""
        key = base64.b64decode(secret.removeprefix("whsec_"))
        signed = f"{self.id}.{self.headers['webhook-timestamp']}.{self.raw}".encode()
        mine = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        return mine in self.headers["webhook-signature"].split(" ")


Answer = Callable[[Told], Awaitable[web.StreamResponse]]


class Receiver:
    """The server. ``answers``: what it says next, by default 204 to everything."""

    def __init__(self, status: int = 204) -> None:
        self.status = status
        self.told: list[Told] = []
        self.answer: Answer | None = None
        app = web.Application()
        app.router.add_post("/{path:.*}", self._receive)
        self._server = TestServer(app)

    async def __aenter__(self) -> Self:
        await self._server.start_server()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.close()

    @property
    def url(self) -> str:
        """Where it is."""
        return str(self._server.make_url("/hook"))

    async def _receive(self, request: web.Request) -> web.StreamResponse:
        raw = await request.text()
        told = Told(request.headers["webhook-id"], json.loads(raw), dict(request.headers), raw)
        self.told.append(told)
        return await self.answer(told) if self.answer else web.Response(status=self.status, text="so it is")

    def types(self) -> list[str]:
        """Return the events in the order of their coming."""
        return [told.type for told in self.told]

    async def hears(self, number: int, timeout: float = 30) -> list[Told]:
        """Wait until so many requests came; return them."""

        async def enough() -> bool:
            return len(self.told) >= number

        await until(enough, timeout)
        return self.told
