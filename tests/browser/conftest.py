"""One Chromium for the whole run, a context a test, and watchers for what must not happen on any page."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, BrowserContext, Page, ViewportSize, async_playwright

from services import accounts
from tests import servers
from tests.conftest import CHROMIUM
from tests.web.panel import PASSWORD, Site, hashed, open_site

FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
_AXE = Axe().axe_script
# Only what is wrong comes back, of any gravity. What nobody reads is not made: selectors for nodes take two fifths
# of the time, and no rule that is asked needs the style sheets a second time. Frames are not called: nobody is there to answer.
_FIND = """(rules) => axe.run(document, {
    resultTypes: ["violations"], selectors: false, preload: { assets: ["media"] }, iframes: false,
    ...(rules.length ? { runOnly: rules } : {}),
  }).then(({ violations }) => violations.map(({ id, nodes: [{ html, failureSummary }] }) => [id, html, failureSummary]))"""
# What lies under the mouse of a page that has just come learns of it with the next picture.
SETTLED = """Promise.race([
    new Promise((done) => setTimeout(done, 1000)),
    new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))).then(() => Promise.allSettled(
        document.getAnimations().filter((each) => each instanceof CSSTransition).map((each) => each.finished)
    )),
]).then(() => null)"""
SIZES: dict[str, ViewportSize] = {"desktop": {"width": 1366, "height": 850}, "phone": {"width": 390, "height": 844}}


@dataclass
class Watched:
    """A page and everything about it that a test must hear of."""

    page: Page
    site: Site
    troubles: list[str] = field(default_factory=list)

    @property
    def base(self) -> str:
        """Where the product is."""
        return self.site.base

    async def open(self, path: str) -> None:
        """Go to a path."""
        answer = await self.page.goto(self.base + path)
        if answer is None or answer.status >= 400:
            self.troubles.append(f"{path}: status {answer.status if answer else 'none'}")

    async def check(self, *, axe: bool = True) -> None:
        """Look for what is wrong with the page as it stands: overflow, and whatever axe finds."""
        # Before all styles are there, the page is not yet what a person sees.
        await self.page.wait_for_load_state()
        wide = await self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        if wide > 0:
            self.troubles.append(f"{self.page.url}: {wide} px too wide")
        if axe:
            await self.axe()

    async def axe(self, *rules: str) -> None:
        """Look for what axe finds, by all its rules or by these."""
        # What the mouse has just come upon, or another scheme, changes colours for a moment.
        await self.page.evaluate(SETTLED)
        if not await self.page.evaluate("'axe' in window"):
            await self.page.evaluate(_AXE)
        for rule, html, summary in await self.page.evaluate(_FIND, rules):
            self.troubles.append(f"{self.page.url}: {rule}: {html[:200]} {summary}")

    async def sign_in(self, email: str) -> None:
        """Give this browser what somebody has who signed in elsewhere by a link; no page is opened."""
        async with self.site.core.db.read() as session:
            user = await accounts.by_email(session, email)
        assert user is not None
        cookies = (await self.site.signed_in(user)).http.cookie_jar
        await self.page.context.add_cookies(
            [
                {
                    "name": each.key,
                    "value": each.value,
                    "url": self.base,
                    "httpOnly": bool(each["httponly"]),
                    "sameSite": "Lax",
                }
                for each in cookies
            ]
        )

    async def sign_in_by_form(self, email: str) -> None:
        """Sign in as people do, and come to the dashboard."""
        await self.open("/login")
        await self.page.fill("#login", email)
        await self.page.fill("#password", PASSWORD)
        await self.page.click("main form[action='/login'] button")
        await self.page.wait_for_url("**/dashboard*")


@pytest.fixture(scope="session")
async def chromium() -> AsyncIterator[Browser]:
    """The browser of the run."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        await browser.close()


@pytest.fixture(scope="session")
async def browser_site(tmp_path_factory: pytest.TempPathFactory, servers_run: servers.Run) -> AsyncIterator[Site]:
    """The product for the browser tests."""
    folder = tmp_path_factory.mktemp("browser")
    generous = {"limits": {"login_attempts_per_15_min": 500}}
    async with open_site(folder, servers_run.new_sqlite(folder), overrides=generous) as site:
        yield site


@contextlib.asynccontextmanager
async def watched(chromium: Browser, site: Site, size: str, scheme: str, locale: str) -> AsyncIterator[Watched]:
    """Open a page in a context of its own and note console errors and requests to other hosts."""
    options: dict[str, Any] = {"color_scheme": scheme, "locale": locale, "viewport": SIZES[size]}
    if size == "phone":
        options |= {"is_mobile": True, "has_touch": True}
    context: BrowserContext = await chromium.new_context(**options)
    try:
        made = Watched(await context.new_page(), site)
        own = urlsplit(site.base).netloc

        def hear(message: Any) -> None:
            if message.type in ("error", "warning"):
                made.troubles.append(f"{made.page.url}: console: {message.text}")

        def requested(request: Any) -> None:
            parts = urlsplit(request.url)
            if parts.scheme not in ("data", "blob") and parts.netloc != own:
                made.troubles.append(f"{made.page.url}: asks {request.url}")

        made.page.on("console", hear)
        made.page.on("pageerror", lambda error: made.troubles.append(f"{made.page.url}: {error}"))
        made.page.on("request", requested)
        yield made
    finally:
        await context.close()


async def person(site: Site, name: str, language: str) -> str:
    """Make an account with a password; return its e-mail."""
    user = await site.person(name, password_hash=await hashed(), language=language)
    return str(user.email)


@contextlib.asynccontextmanager
async def unscripted(chromium: Browser, site: Site, email: str, **looks: Any) -> AsyncIterator[Page]:
    """Open a page of a browser without scripts in which somebody has signed in by the form."""
    context = await chromium.new_context(java_script_enabled=False, locale="en", **looks)
    try:
        page = await context.new_page()
        await page.goto(f"{site.base}/login")
        await page.fill("#login", email)
        await page.fill("#password", PASSWORD)
        await page.click("main form[action='/login'] button")
        yield page
    finally:
        await context.close()
