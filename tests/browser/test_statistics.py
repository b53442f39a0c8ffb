"""The dashboard in Chromium: pictures of days that can be read and saved, first steps by a press, and all without script."""

from __future__ import annotations

import datetime as dt

import pytest
from playwright.async_api import Browser, expect
from sqlalchemy import select

from db import models
from db.base import utcnow
from tests.browser.conftest import person, unscripted, watched
from tests.web.panel import Site, web_talk

pytestmark = pytest.mark.browser


async def _busy(site: Site, name: str, language: str = "en") -> str:
    """Make an owner whose customers wrote on three days, by two channels; return the e-mail."""
    email = await person(site, name, language)
    async with site.core.db.write() as session:
        owner = (await session.scalars(select(models.User).where(models.User.email == email))).one()
        bot = models.Bot(owner_id=owner.id, name="Chinor")
        session.add(bot)
        await session.flush()
        session.add(models.Channel(bot_id=bot.id, kind="telegram", external_id=bot.id, username="chinor_bot"))
        for back in range(3):
            at = utcnow() - dt.timedelta(days=back)
            talk = await web_talk(session, bot, f"{name} {back}", created_at=at, last_message_at=at)
            for _ in range(back + 1):
                session.add(models.Message(conversation_id=talk.id, author="customer", text="Narxi?", created_at=at))
    return email


async def test_pictures_of_days_are_drawn_read_and_saved(chromium: Browser, browser_site: Site) -> None:
    email = await _busy(browser_site, "Pictured")
    async with watched(chromium, browser_site, "phone", "dark", "en") as seen:
        page = seen.page
        await seen.sign_in(email)
        await seen.open("/dashboard")
        figure = page.locator(".chart").first
        # The library that draws comes when a picture is about to be seen.
        assert await page.evaluate("window.uPlot === undefined")
        await figure.scroll_into_view_if_needed()
        await expect(figure.locator(".chart-picture canvas")).to_be_visible()
        await expect(figure.locator(".chart-table tbody tr")).to_have_count(30)
        await figure.locator("summary").click()
        await expect(figure.locator(".chart-table tbody tr").last.locator("td").nth(1)).to_have_text("1")
        await seen.check()
        async with page.expect_download() as waited:
            await figure.locator("[data-chart-save]").click()
        saved = await (await waited.value).path()
        assert saved.read_bytes().startswith(b"\x89PNG")
        await page.click(".period a[href$='period=90']")
        await expect(page.locator(".chart-table").first.locator("tbody tr")).to_have_count(90)
        await page.click("button[aria-label='Skip: Choose a plan']")
        await expect(page.locator(".step.skipped")).to_have_count(1)
        await page.click(".steps form:has([value=hide]) button")
        await expect(page.locator(".steps")).to_have_count(0)
        await page.click(".steps-again button")
        await expect(page.locator(".step.skipped")).to_have_count(1)
        assert seen.troubles == []


async def test_uzbek_numbers_are_written_as_in_uzbek(chromium: Browser, browser_site: Site) -> None:
    """By browsers that know no Uzbek, too: 2,5 and not 2.5, "4,4 mln" and not "4.4M"."""
    for number, (language, thousand, million) in enumerate(
        (("uz", "12 ming", "4,4 mln"), ("uz-Cyrl", "12 минг", "4,4 млн"))
    ):
        email = await _busy(browser_site, f"Counted{number}", language)
        async with watched(chromium, browser_site, "phone", "dark", language) as seen:
            await seen.sign_in(email)
            await seen.open("/dashboard")
            figure = seen.page.locator(".chart").first
            await figure.scroll_into_view_if_needed()
            await expect(figure.locator(".chart-picture canvas")).to_be_visible()
            said = await seen.page.evaluate(
                """async () => {
                    const loaded = performance.getEntriesByType("resource").map((each) => each.name);
                    const { number, short } = await import(loaded.find((name) => /[/]numbers[^/]*[.]js/.test(name)));
                    return [number(2.5, 2, 2), short(12_000), short(4_446_150)];
                }"""
            )
            assert said == ["2,50", thousand, million]


async def test_numbers_need_no_script(chromium: Browser, browser_site: Site) -> None:
    email = await _busy(browser_site, "Unscripted")
    async with unscripted(chromium, browser_site, email, viewport={"width": 360, "height": 740}) as page:
        await page.goto(f"{browser_site.base}/dashboard?period=7")
        await page.locator(".chart summary").first.click()
        await expect(page.locator(".chart-table").first.locator("tbody tr")).to_have_count(7)
        await expect(page.locator("[data-chart-save]").first).to_be_hidden()
        await page.click("button[aria-label='Skip: Choose a plan']")
        await expect(page.locator(".step.skipped")).to_have_count(1)
