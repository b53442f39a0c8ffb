"""Which files customers may receive: said on the page, seen by visitors and in the inbox, on a wide screen and on a phone."""

from __future__ import annotations

import os

import pytest
from playwright.async_api import Browser, FilePayload, expect
from sqlalchemy import select

from db import models
from services import accounts, bots
from services.knowledge import documents
from tests.browser.conftest import person, watched
from tests.composition import FAQ, add_document
from tests.services.test_pictures import encoded
from tests.web.panel import Site

pytestmark = pytest.mark.browser
SHOTS = os.environ.get("SHOTS", "")


@pytest.mark.parametrize(("size", "scheme"), [("desktop", "light"), ("phone", "dark")])
async def test_a_file_is_shared_and_received(chromium: Browser, browser_site: Site, size: str, scheme: str) -> None:
    core = browser_site.core
    email = await person(browser_site, f"Ulash{size}", "uz")
    async with core.db.read() as session:
        user = await accounts.by_email(session, email)
    assert user is not None
    bot = await browser_site.bot_of(user, "Texno")
    await add_document(core, bot, "savollar.txt", FAQ.encode())
    async with watched(chromium, browser_site, size, scheme, "uz") as seen:
        page = seen.page
        await seen.sign_in(email)
        await seen.open(f"/bots/{bot.id}/documents")
        # A picture with its words.
        await page.click("#picture > summary")
        picture = FilePayload(name="menyu.png", mimeType="image/png", buffer=encoded("PNG", (900, 600), "teal"))
        await page.set_input_files("#picture-file", files=picture)
        await page.fill("#picture-caption", "Yozgi ayvon menyusi")
        await seen.check()
        await page.click("#picture button")
        await expect(page.locator("#documents .state-good")).to_have_count(2, timeout=60_000)
        # A document that was there.
        async with core.db.read() as session:
            found = {one.name: one.id for one in await documents.list_for(session, bot)}
        share = page.locator(f"#share-{found['savollar.txt']}")
        await share.locator("summary").click()
        await share.locator("input[type=checkbox]").check()
        await share.locator("input[name=caption]").fill("Ko‘p so‘raladigan savollar")
        await seen.check()
        if SHOTS:
            await page.screenshot(path=f"{SHOTS}/documents-{size}.png", full_page=True)
        await share.locator("button").click()
        await expect(page.locator("#documents .row-main > .state-info")).to_have_count(2)
        await expect(page.locator("#documents")).to_contain_text("Ko‘p so‘raladigan savollar")
        await seen.check()
        # A picture that is dropped where documents are goes to its own form.
        await page.set_input_files("#file", files=picture)
        await expect(page.locator(".upload-line.bad")).to_contain_text("menyu.png")
        await expect(page.locator("#picture")).to_have_attribute("open", "")
        # Its visitor asks for it; there is no model here, so the bot sends it without one.
        await seen.open(f"/chat/{bot.public_id}")
        await page.fill("textarea", "Menyu rasmini yuboring")
        await page.click(".send")
        shown = page.locator(".theirs .sent-file img")
        await expect(shown).to_have_js_property("naturalWidth", 900, timeout=30_000)
        await seen.check()
        if SHOTS:
            await page.screenshot(path=f"{SHOTS}/chat-{size}.png")
        await page.reload()
        await expect(page.locator(".theirs .sent-file img")).to_have_js_property("naturalWidth", 900)
        await page.fill("textarea", "Savollar faylini tashlang")
        await page.click(".send")
        await expect(page.locator(".theirs a[download]")).to_contain_text("savollar.txt", timeout=30_000)
        async with core.db.read() as session:
            channel = bots.of_kind(await bots.channels(session, bot), "web")
            assert channel is not None
            talk = await session.scalar(
                select(models.Conversation.id).where(models.Conversation.channel_id == channel.id)
            )
        await seen.open(f"/inbox/{talk}")
        sent = page.locator(".said-bot .sent-file img")
        await sent.scroll_into_view_if_needed()
        await expect(sent).to_have_js_property("naturalWidth", 900)
        await expect(page.locator(".said-bot .file-link")).to_contain_text("savollar.txt")
        await seen.check()
        if SHOTS:
            await page.screenshot(path=f"{SHOTS}/inbox-{size}.png")
        # The owner's own test chat names it too; nothing is kept there that could be opened.
        await seen.open(f"/bots/{bot.id}")
        field = page.locator("[data-chat] textarea")
        if await field.count():
            await field.fill("Savollar faylini tashlang")
            await page.keyboard.press("Enter")
            await expect(page.locator("[data-chat] .sent-file")).to_contain_text("savollar.txt", timeout=30_000)
            await seen.check()
    assert seen.troubles == []
