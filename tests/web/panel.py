"""The whole product with people at browsers, for tests of the pages: real server, real HTTP, real cookies."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path
from typing import Any

import aiohttp
from sqlalchemy.ext.asyncio import AsyncSession
from yarl import URL

from db import models
from services import accounts, bots
from services.core import Core
from tests import leaks
from tests.composition import address, make_settings, running

PASSWORD = leaks.PASSWORD
_hashes: list[str] = []
_TOKEN = re.compile(r'data-csrf="([0-9a-f]{128})"')


async def hashed() -> str:
    """Return the hash of the password that people of the tests have: made once in a process, for it is made slow on purpose."""
    if not _hashes:
        _hashes.append(await accounts.hash_password(PASSWORD))
    return _hashes[0]


def unguarded(path: str, headers: Mapping[str, str]) -> list[str]:
    """Return which of the headers that every answer has, whatever it says, are missing or weaker than they should be."""
    policy, kept = headers.get("Content-Security-Policy", ""), headers.get("Cache-Control", "")
    open_to_all = ("/static/", "/guide/", "/widget.js")
    wrong = []
    if "default-src 'none'" not in policy or "frame-ancestors" not in policy:
        wrong.append("Content-Security-Policy")
    # A letter has its styles in it; it is shown in a frame where nothing acts.
    if "unsafe" in policy and not (path.endswith("/preview") and policy.endswith("; sandbox")):
        wrong.append(f"Content-Security-Policy: {policy}")
    # Nothing but what comes from here: no other host, no wildcard, no data that acts.
    for kind, sources in re.findall(r"(script|style|connect|font|form)-(?:src|action) ([^;]*)", policy):
        if sources not in ("'self'", "'none'", *(["'unsafe-inline'"] if path.endswith("/preview") else [])):
            wrong.append(f"Content-Security-Policy: {kind} from {sources}")
    if headers.get("X-Content-Type-Options") != "nosniff":
        wrong.append("X-Content-Type-Options")
    if headers.get("Referrer-Policy") != "same-origin":
        wrong.append("Referrer-Policy")
    if "no-store" not in kept and not (path.startswith(open_to_all) and kept):
        wrong.append(f"Cache-Control: {kept}")
    if headers.get("Server") != "BotFactory":
        wrong.append("Server")
    # Other sites' pages read what the chat on them shows, and that without cookies.
    if "Access-Control-Allow-Credentials" in headers:
        wrong.append("Access-Control-Allow-Credentials")
    if "Access-Control-Allow-Origin" in headers and not path.startswith("/widget/"):
        wrong.append("Access-Control-Allow-Origin")
    return wrong


@dataclass(frozen=True)
class Page:
    """What a browser got."""

    status: int
    text: str
    headers: Mapping[str, str]
    url: URL

    @property
    def location(self) -> str:
        """Where it is sent on."""
        return self.headers.get("Location", "")

    def visible(self) -> str:
        """Return the page without its tags."""
        return unescape(re.sub(r"<[^>]*>", " ", self.text))

    def rows(self) -> list[str]:
        """Return the rows of the page's table."""
        return self.text.partition("<tbody>")[2].partition("</tbody>")[0].split("<tr>")[1:]


class Browser:
    """A person's browser: keeps cookies and the token of the last page's forms."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.csrf = ""
        self.http = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))

    async def request(self, method: str, path: str, **options: Any) -> Page:
        """Make one request and read it whole; redirects are not followed."""
        options.setdefault("allow_redirects", False)
        async with self.http.request(method, self.base + path, **options) as answer:
            text = (await answer.read()).decode("utf-8", "replace")
            assert (leak := leaks.on_page(text)) is None, f"{method} {path} shows {leak}"
            assert not (wrong := unguarded(path, answer.headers)), f"{method} {path} {answer.status}: {wrong}"
            found = _TOKEN.search(text)
            if found:
                self.csrf = found[1]
            return Page(answer.status, text, dict(answer.headers), answer.url)

    async def get(self, path: str, **headers: str) -> Page:
        """Open a page."""
        return await self.request("GET", path, headers=headers)

    async def post(self, path: str, /, **fields: str) -> Page:
        """Send a form as the browser would, with the token of the last page."""
        if not self.csrf:
            await self.get("/login")
        return await self.request("POST", path, data={"csrf": self.csrf, **fields})

    async def upload(self, path: str, name: str, data: bytes, **headers: str) -> Page:
        """Send a file as a form."""
        form = aiohttp.FormData()
        form.add_field("csrf", self.csrf)
        form.add_field("file", data, filename=name, content_type="application/octet-stream")
        return await self.request("POST", path, data=form, headers=headers)

    async def upload_with(self, path: str, fields: Mapping[str, str], name: str, data: bytes) -> Page:
        """Send a form with a file; without a name and content it is one in which no file was chosen."""
        form = aiohttp.FormData({"csrf": self.csrf, **fields})
        form.add_field("file", data, filename=name, content_type="application/octet-stream")
        return await self.request("POST", path, data=form)

    def cookie(self, name: str = "botfactory") -> str:
        """Return a cookie's value, empty if there is none."""
        return next((cookie.value for cookie in self.http.cookie_jar if cookie.key == name), "")

    async def close(self) -> None:
        """Close the browser."""
        await self.http.close()


@dataclass
class Site:
    """The running product and everybody in it."""

    core: Core
    base: str
    _browsers: list[Browser] = field(default_factory=list)

    def browser(self) -> Browser:
        """Open another browser of nobody yet."""
        made = Browser(self.base)
        self._browsers.append(made)
        return made

    async def person(self, name: str, **changes: Any) -> models.User:
        """Make an account called ``name@example.uz`` without a password, or with ``password_hash``."""
        async with self.core.db.write() as session:
            user = await accounts.register_owner(session, full_name=name, email=f"{name.lower()}@example.uz", **changes)
        return user

    async def signed_in(self, user: models.User) -> Browser:
        """Open a browser and sign a person in by a one-time link."""
        browser = self.browser()
        async with self.core.db.write() as session:
            token = await accounts.login_link(session, user)
        await browser.get(f"/login/link?token={token}")
        answer = await browser.post("/login/link", token=token)
        assert answer.status == 303, answer.visible()
        await browser.get("/settings")
        return browser

    async def administrator(self, name: str = "Boss", **changes: Any) -> Browser:
        """Make somebody who runs the installation, and sign them in."""
        person = await self.person(name, language="en", **changes)
        async with self.core.db.write() as session:
            (await session.get_one(models.User, person.id)).role = "admin"
        return await self.signed_in(person)

    async def bot_of(self, user: models.User, name: str = "Chinor") -> models.Bot:
        """Make a bot."""
        async with self.core.db.write() as session:
            return await bots.create(session, user, name, limits=self.core.settings.limits)

    async def close(self) -> None:
        """Close all browsers."""
        for browser in self._browsers:
            await browser.close()


async def web_talk(session: AsyncSession, bot: models.Bot, name: str = "Aziza", **values: Any) -> models.Conversation:
    """Add a customer of the chat page with a conversation of these ``values``; return the conversation."""
    web = await bots.connect_web(session, bot)
    contact = models.Contact(bot_id=bot.id, channel_id=web.id, external_id=name[:20], name=name)
    session.add(contact)
    await session.flush()
    talk = models.Conversation(bot_id=bot.id, channel_id=web.id, contact_id=contact.id, **values)
    session.add(talk)
    await session.flush()
    return talk


@contextlib.asynccontextmanager
async def open_site(
    folder: Path,
    database_url: str | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
) -> AsyncIterator[Site]:
    """Start the product for tests of its pages."""
    settings = make_settings(folder, database_url, environment=environment, overrides=overrides)
    async with running(settings) as core:
        site = Site(core, address(core))
        try:
            yield site
        finally:
            await site.close()
