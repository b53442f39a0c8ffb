"""What comes while a page is open: notices, and messages in a conversation that is being read."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser, expect

from db import models
from services import accounts, notices
from tests.browser.conftest import person, watched
from tests.web.panel import Site, web_talk

pytestmark = pytest.mark.browser


async def _talk(site: Site, name: str, messages: int) -> tuple[str, models.Bot, models.Conversation, models.User]:
    email = await person(site, name, "uz")
    async with site.core.db.read() as session:
        user = await accounts.by_email(session, email)
    assert user is not None
    bot = await site.bot_of(user, name)
    async with site.core.db.write() as session:
        talk = await web_talk(session, bot)
        source = {"document_id": "x", "document_name": "narxlar.csv", "snippet": "Har kuni", "score": 0.8}
        for number in range(messages):
            session.add(models.Message(conversation_id=talk.id, author="bot", text=f"Javob {number}", sources=[source]))
            await session.flush()
    return email, bot, talk, user


@pytest.mark.parametrize("size", ["desktop", "phone"])
async def test_notices_come_by_themselves(chromium: Browser, browser_site: Site, size: str) -> None:
    """The bar appears on an open page, its rest stays unfolded when more comes, and it leads to the conversation."""
    email, bot, talk, user = await _talk(browser_site, f"Live{size}", 1)
    core = browser_site.core

    async def tell(kind: str, key: str) -> None:
        async with core.db.write() as session:
            await notices.open_notice(
                session, user.id, kind, key=key, bot_id=bot.id, params={"bot": bot.name, "name": "Aziza"}
            )
        core.bell.ring("notices")

    async with watched(chromium, browser_site, size, "light", "uz") as seen:
        page = seen.page
        await seen.sign_in(email)
        # Each page's own stream is waited for: a late one of the page before would be taken for it.
        async with page.expect_response("**/events*"):
            await seen.open(f"/bots/{bot.id}/documents")
        bar = page.locator("#notices")
        await expect(bar).to_be_hidden()
        await tell("over_limit", f"limit:{bot.id}")
        await expect(bar.locator(".notice")).to_have_count(1, timeout=60_000)
        await tell("send_failed", f"send:{bot.id}")
        await expect(bar.locator(".notice")).to_have_count(2, timeout=60_000)
        await page.click("#notices-more summary")
        await tell("operator_wanted", notices.talk_key(talk.id))
        await expect(bar.locator(".notice")).to_have_count(3, timeout=60_000)
        await expect(bar.locator(".notice").last).to_be_visible()
        await seen.check()
        await bar.locator(".notice a").first.click()
        await page.wait_for_url(f"**/inbox/{talk.id}")
        assert seen.troubles == []


async def test_earlier_messages_stay_and_what_is_unfolded_stays_so(chromium: Browser, browser_site: Site) -> None:
    """A message that comes takes nobody from the earlier page, and folds nothing on the newest one."""
    email, bot, talk, _ = await _talk(browser_site, "Reading", 60)
    core = browser_site.core

    async def say(text: str) -> None:
        async with core.db.write() as session:
            session.add(models.Message(conversation_id=talk.id, author="customer", text=text))
        core.bell.ring(f"bot:{bot.id}", {"conversation": talk.id})

    async with watched(chromium, browser_site, "desktop", "light", "uz") as seen:
        page = seen.page
        await seen.sign_in(email)
        # Each page's own stream is waited for: a late one of the page before would be taken for it.
        async with page.expect_response("**/events*"):
            await seen.open(f"/inbox/{talk.id}")
        async with page.expect_response("**/events*"):
            await page.click("#talk a.older")
        async with page.expect_response(lambda answer: "before=" in answer.url):
            await say("Yangi savol")
        lines = page.locator("#talk .chat-lines")
        await expect(lines).to_contain_text("Javob 0")
        await expect(lines).not_to_contain_text("Yangi savol")
        await seen.check()
        async with page.expect_response("**/events*"):
            await page.locator("#talk a.older").last.click()
        await expect(lines).to_contain_text("Yangi savol")
        await page.locator("#talk details.sources summary").last.click()
        await say("Yana biri")
        await expect(lines).to_contain_text("Yana biri", timeout=60_000)
        await expect(page.locator("#talk details.sources").last).to_have_attribute("open", "")
        await expect(page.locator("#talk details.sources[open]")).to_have_count(1)
        assert seen.troubles == []
