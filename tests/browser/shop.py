"""Somebody else's site with the chat on it: an origin of its own and the strictest policy."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from aiohttp import web
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, BrowserContext, Page

from tests.browser.conftest import SIZES

SHOTS = os.environ.get("WIDGET_SHOTS")
"""A folder to put pictures of the chat into, for eyes."""
# What a careful site sends; types for scripts are demanded as well: no markup out of strings anywhere.
POLICY = (
    "default-src 'none'; script-src {host}; connect-src {host}; style-src 'self'; img-src 'none'; base-uri 'none'; "
    "form-action 'none'; require-trusted-types-for 'script'"
)
PAGE = """<!doctype html>
<html lang="uz"><head><meta charset="utf-8"><title>Do‘kon</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<script src="{host}/widget.js" data-bot="{bot}"{more} async></script></head>
<body><main><h1>Do‘kon</h1><p>Telefonlar va aksessuarlar.</p><a href="#x" id="before">Katalog</a></main></body></html>
"""


class Product(Protocol):
    """What runs the bots."""

    @property
    def base(self) -> str:
        """Its address."""


P = TypeVar("P", bound=Product)


@dataclass
class Shop(Generic[P]):
    """A site with the chat of the bot ``public_id``, at ``base``."""

    site: P
    public_id: str
    base: str
    more: str = ""
    browsers: list[BrowserContext] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)

    async def open(self, chromium: Browser, size: str = "desktop", **options: Any) -> Page:
        """Open the site in a new browser."""
        options = {"locale": "uz", "viewport": SIZES[size], **options}
        if size == "phone":
            options |= {"is_mobile": True, "has_touch": True}
        context = await chromium.new_context(**options)
        self.browsers.append(context)
        page = await context.new_page()
        page.on("console", lambda said: self.troubles.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: self.troubles.append(str(error)))
        await page.goto(self.base)
        return page

    async def shot(self, page: Page, name: str) -> None:
        """Keep a picture where somebody wants to look."""
        if SHOTS:
            await page.screenshot(path=Path(SHOTS) / f"{name}.png")


@contextlib.asynccontextmanager
async def foreign(site: P, public_id: str) -> AsyncIterator[Shop[P]]:
    """Serve a page with the chat on a port of its own: another origin than the product's."""
    shop = Shop(site, public_id, "")

    async def page(_request: web.Request) -> web.Response:
        text = PAGE.format(host=site.base, bot=shop.public_id, more=shop.more)
        headers = {"Content-Security-Policy": POLICY.format(host=site.base)}
        return web.Response(text=text, content_type="text/html", headers=headers)

    async def icon(_request: web.Request) -> web.Response:
        return web.Response(status=204)

    app = web.Application()
    app.router.add_get("/", page)
    app.router.add_get("/favicon.ico", icon)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        server = web.TCPSite(runner, "127.0.0.1", 0)
        await server.start()
        shop.base = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield shop
    finally:
        for context in shop.browsers:
            await context.close()
        await runner.cleanup()


async def axe(page: Page) -> list[str]:
    """Return what axe finds, in the page and inside the chat."""
    found = await Axe().run(page)
    return [f"{one['id']}: {json.dumps(one['nodes'][0]['target'])}" for one in found.response["violations"]]


def answers(page: Page) -> Any:
    """The messages that are not the visitor's and that the server has named."""
    return page.locator(".message[data-id]:not(.own) .bubble")
