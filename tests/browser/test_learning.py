"""Learning in a browser: an unanswered question is answered, test questions are asked and compared, a thumb is given."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser, expect

from db import models
from services import accounts
from services.knowledge.analysis import question_key
from tests.browser.conftest import SIZES, person, watched
from tests.composition import FAQ, add_document
from tests.web.panel import Site

WARRANTY = "Muzlatgichlarga kafolat bormi?"


@pytest.mark.parametrize("size", SIZES)
async def test_from_a_question_to_a_better_answer(chromium: Browser, browser_site: Site, size: str) -> None:
    email = await person(browser_site, f"Learning-{size}", "en")
    async with browser_site.core.db.read() as session:
        user = await accounts.by_email(session, email)
    assert user is not None
    bot = await browser_site.bot_of(user, "Texno Savdo")
    await add_document(browser_site.core, bot, "savollar.txt", FAQ.encode())
    async with browser_site.core.db.write() as session:
        for text in ("Parkovka bormi?", "Парковка есть?"):
            session.add(models.UnansweredQuestion(bot_id=bot.id, question=text, folded=question_key(text)))
    async with watched(chromium, browser_site, size, "light", "en") as seen:
        page = seen.page
        await seen.sign_in(email)
        await seen.open(f"/bots/{bot.id}/tests")
        for question, expected in ((WARRANTY, "5 yil"), ("Yetkazib berish bormi?", "bepul")):
            await page.fill("#question", question)
            await page.fill("#expected", expected)
            await page.get_by_role("button", name="Add", exact=True).click()
            await expect(page.get_by_text(f"Expected: {expected}")).to_be_visible()
        # The results appear by themselves while the questions are asked.
        await page.get_by_role("button", name="Ask all questions").click()
        await expect(page.get_by_text("1 of 2 as expected")).to_be_visible()
        await seen.check()
        await seen.open(f"/bots/{bot.id}/documents")
        await page.get_by_text("1 other wording").click()
        await expect(page.get_by_text("Парковка есть?")).to_be_visible()
        await seen.check()
        await page.get_by_label("Answer to: Parkovka bormi?").fill("Ha, hovlida.")
        await page.get_by_role("button", name="Add this answer").click()
        await expect(page.get_by_text("so far your documents have had every answer")).to_be_visible()
        await page.get_by_text("Add a question and its answer yourself").click()
        await page.fill("#question", WARRANTY)
        await page.fill("#answer", "Endi 5 yil kafolat beramiz.")
        await page.locator("#teach").get_by_role("button", name="Teach the bot").click()
        await seen.open(f"/bots/{bot.id}/tests")
        await expect(page.get_by_text("have changed since the last run")).to_be_visible()
        await page.get_by_role("button", name="Ask again").click()
        await expect(page.get_by_text("2 of 2 as expected")).to_be_visible()
        await expect(page.get_by_text("1 better")).to_be_visible()
        await page.get_by_text("Answers side by side").first.click()
        await expect(page.get_by_text("Endi 5 yil kafolat beramiz.").first).to_be_visible()
        await seen.check()
        assert seen.troubles == []


async def test_a_thumb_is_given_and_stays(chromium: Browser, browser_site: Site) -> None:
    owner = await browser_site.person("Thumbs")
    bot = await browser_site.bot_of(owner, "Texno Savdo")
    await add_document(browser_site.core, bot, "savollar.txt", FAQ.encode())
    async with watched(chromium, browser_site, "phone", "light", "uz") as seen:
        await seen.open(f"/chat/{bot.public_id}?lang=en")
        await seen.page.fill("#text", WARRANTY)
        await seen.page.get_by_role("button", name="Send", exact=True).click()
        down = seen.page.get_by_role("button", name="Not helpful")
        await expect(down).to_have_attribute("aria-pressed", "false")
        async with seen.page.expect_response("**/ratings"):
            await down.click()
        await expect(down).to_have_attribute("aria-pressed", "true")
        await seen.check()
        await seen.page.reload()
        await expect(down).to_have_attribute("aria-pressed", "true")
        assert seen.troubles == []
