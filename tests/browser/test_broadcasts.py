"""A broadcast in a browser: the preview follows what is written, and the report what is sent, without loading the page again."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser, expect
from sqlalchemy import update

from db import models
from db.base import utcnow
from services import accounts
from tests.browser.conftest import SIZES, person, watched
from tests.web.panel import Site, web_talk


@pytest.mark.parametrize("size", SIZES)
async def test_written_sent_and_followed_without_reload(chromium: Browser, browser_site: Site, size: str) -> None:
    email = await person(browser_site, f"News-{size}", "en")
    core = browser_site.core
    async with core.db.read() as session:
        user = await accounts.by_email(session, email)
    assert user is not None
    bot = await browser_site.bot_of(user, "Texno Savdo")
    async with core.db.write() as session:
        for number in range(230):
            await web_talk(session, bot, f"{size}-{number}", last_inbound_at=utcnow())
    scheme = "dark" if size == "phone" else "light"
    async with watched(chromium, browser_site, size, scheme, "en") as seen:
        page = seen.page
        await seen.sign_in(email)
        await seen.open(f"/bots/{bot.id}/broadcasts")
        await seen.check()
        await page.get_by_role("link", name="Write the first one").click()
        await page.fill("#text_uz", "Yangi narxlar!")
        await expect(page.locator(".broadcast-bubble").nth(1)).to_contain_text("Янги нархлар!")
        await expect(page.get_by_text("230 customers get it")).to_be_visible()
        await seen.check()
        await page.get_by_role("button", name="Save the draft").click()
        await expect(page.get_by_role("link", name="Send …")).to_be_visible()
        await seen.check()
        await page.get_by_role("link", name="Send …").click()
        await page.wait_for_url("**/send")
        # The hour of the test is not the customers'.
        box = page.get_by_label("Send it at night all the same")
        if await box.count():
            await box.check()
        await page.get_by_label("To confirm, type the bot’s name").fill("texno savdo")
        await seen.check()
        await page.get_by_role("button", name="Send to 230 customers").click()
        await page.evaluate("window.same = true")
        await expect(page.get_by_text("230 of 230")).to_be_visible(timeout=20_000)
        assert await page.evaluate("window.same") is True
        await seen.check()
        await page.get_by_role("link", name="Customer by customer").click()
        await seen.check()
        await page.get_by_role("link", name="Further").click()
        await expect(page.get_by_role("link", name="To the beginning")).to_be_visible()
        # Paused by itself: what is to be done stands there.
        async with core.db.write() as session:
            await session.execute(
                update(models.Broadcast).where(models.Broadcast.bot_id == bot.id).values(status="paused", reason="bot")
            )
        await page.get_by_role("link", name="Back to the broadcast").click()
        await expect(page.get_by_role("button", name="Resume")).to_be_visible()
        await seen.check()
        assert seen.troubles == []
