"""The administrator's lists of files, channels and webhooks in Chromium, with what is long, broken and strange in them."""

from __future__ import annotations

import datetime as dt

import pytest
from playwright.async_api import Browser, expect
from sqlalchemy import select

from db import models
from db.base import utcnow
from tests.browser.conftest import person, watched
from tests.web.panel import Site, web_talk

pytestmark = pytest.mark.browser
LONG = "narxlar_" * 20


async def _full(site: Site, name: str) -> None:
    """Make an owner who has some of everything in every state."""
    email = await person(site, name, "en")
    async with site.core.db.write() as session:
        owner = (await session.scalars(select(models.User).where(models.User.email == email))).one()
        bot = models.Bot(owner_id=owner.id, name="Chinor do‘koni")
        session.add(bot)
        await session.flush()
        facts = {"bot_id": bot.id, "kind": "pdf", "size": 204_800}
        for status, error in (("ready", None), ("failed", "timeout"), ("failed", "scanned"), ("processing", None)):
            paper = models.Document(**facts, name=f"{LONG}{status}.pdf", status=status, error_code=error, progress=40)
            session.add(paper)
        talk = await web_talk(session, bot, name)
        message = models.Message(conversation_id=talk.id, author="customer", kind="photo")
        ends = int((utcnow() + dt.timedelta(days=3)).timestamp())
        kept = {"token_expires_at": ends, "error": "Wrong response from the webhook: 502 Bad Gateway " * 5}
        working = models.Channel(bot_id=bot.id, kind="telegram", external_id=f"{bot.id}t", title="Chinor", health=kept)
        refused = models.Channel(bot_id=bot.id, kind="whatsapp", external_id=f"{bot.id}w", title=LONG[:100])
        refused.status, refused.last_error, refused.credentials = "refused", "190: the token is no longer valid", "x"
        session.add_all([message, working, refused])
        await session.flush()
        warned = {"user_id": owner.id, "kind": "token_expires", "key": f"channel:{working.id}:token_expires"}
        session.add(models.Notice(**warned))
        for status in ("stored", "no_room", "gone"):
            file = {"bot_id": bot.id, "message_id": message.id, "kind": "document", "status": status}
            session.add(models.Attachment(**file, name=f"{LONG}.pdf", mime="application/pdf", size=70_000))
        for since, off in ((utcnow(), None), (None, utcnow()), (None, None)):
            hook = {"owner_id": owner.id, "url": "https://crm.chinor-savdo-markazi.example.uz/h", "secret": "x"}
            session.add(models.Endpoint(**hook, failing_since=since, disabled_at=off))


@pytest.mark.parametrize(("size", "scheme", "language"), [("desktop", "dark", "ru"), ("phone", "light", "uz")])
async def test_lists_of_all(chromium: Browser, browser_site: Site, size: str, scheme: str, language: str) -> None:
    """Nothing is too wide, nothing is missed by a reader of screens, and a filter chosen there stays chosen."""
    site = browser_site
    await _full(site, f"Full{size}")
    email = await person(site, f"Lists{size}", language)
    async with site.core.db.write() as session:
        (await session.scalars(select(models.User).where(models.User.email == email))).one().role = "admin"
    async with watched(chromium, site, size, scheme, language) as boss:
        page = boss.page
        await boss.sign_in(email)
        for path in ("/admin/channels/webhooks", "/admin/channels", "/admin/files/sent", "/admin/files?order=failed"):
            await boss.open(path)
            await page.evaluate("for (const part of document.querySelectorAll('main details')) part.open = true")
            await boss.check()
        await page.select_option("#state", "failed")
        await page.click(".find-buttons .btn-primary")
        await expect(page.locator("#state")).to_have_value("failed")
        await expect(page.locator("#order")).to_have_value("failed")
        await expect(page.locator(".find-table .state-bad").first).to_be_visible()
        await page.click(".overview-tabs a:not([aria-current])")
        await expect(page.locator(".overview-tabs a[aria-current]")).to_have_attribute("href", "/admin/files/sent")
        assert boss.troubles == []


async def test_prices_that_are_looked_up_come_by_themselves(chromium: Browser, browser_site: Site) -> None:
    email = await person(browser_site, "Prices", "en")
    async with browser_site.core.db.write() as session:
        (await session.scalars(select(models.User).where(models.User.email == email))).one().role = "admin"
    async with watched(chromium, browser_site, "desktop", "light", "en") as boss:
        await boss.sign_in(email)
        await boss.open("/admin/models")
        await expect(boss.page.locator("#prices .row-title").first).to_be_visible()
        await expect(boss.page.locator("#prices")).not_to_contain_text("being looked up", timeout=30_000)
        await expect(boss.page.locator("#prices")).to_contain_text("$")
        await boss.check()
        assert boss.troubles == []
