"""The example in Chromium: from the first page to an answer by three presses, on a narrow phone too."""

from __future__ import annotations

import asyncio

import pytest
from playwright.async_api import Browser, Route, ViewportSize, expect

from services import accounts, bots, samples
from services.knowledge import documents
from tests.browser.conftest import person, watched
from tests.web.panel import Site

pytestmark = pytest.mark.browser

NARROW: ViewportSize = {"width": 360, "height": 740}


@pytest.mark.parametrize(
    ("size", "language", "known"),
    [("desktop", "uz", "4 150 000"), ("desktop", "en", "4,150,000"), ("phone", "ru", "4 150 000")],
)
async def test_example_to_first_answer(
    chromium: Browser, browser_site: Site, size: str, language: str, known: str
) -> None:
    """Press for the example, press a question, read the answer; the page says how to go on with an own bot."""
    email = await person(browser_site, f"Example{language}", language)
    async with watched(chromium, browser_site, size, "light", language) as seen:
        page = seen.page
        if size == "phone":
            await page.set_viewport_size(NARROW)
        await seen.sign_in(email)
        await seen.open("/dashboard")
        await seen.check()
        await seen.open("/bots/new")
        await seen.check()
        await page.dblclick("form[action='/bots/example'] button")
        await page.wait_for_url("**/setup")
        tries = page.locator(".chat [data-tries] button")
        await expect(tries.first).to_be_visible(timeout=60_000)
        await expect(page.locator("#documents .state-good")).to_have_count(2)
        assert await tries.count() == 3
        await seen.check()
        question = await tries.first.inner_text()
        await tries.first.click()
        await expect(page.locator(".chat .bubble-in")).to_have_text(question)
        await expect(page.locator(".chat .bubble-out")).to_contain_text(known, timeout=60_000)
        await expect(page.locator(".chat .sources")).to_be_visible()
        await expect(page.locator(".chat .bubble-out")).to_be_in_viewport()
        await expect(tries).to_have_count(2)
        await seen.check()
        await page.click(".next-steps a[href='/bots/new']")
        await page.wait_for_url("**/bots/new")
        await expect(page.locator(".example a[href$='/setup']")).to_be_visible()
        await seen.check()
        assert seen.troubles == []


async def test_documents_that_were_read_before_the_page_could_hear_of_it(chromium: Browser, browser_site: Site) -> None:
    """A page that showed them as waiting catches up when its stream of events opens late."""
    email = await person(browser_site, "Late", "uz")
    core, heard = browser_site.core, asyncio.Event()

    async def hold(route: Route) -> None:
        await heard.wait()
        await route.continue_()

    async with watched(chromium, browser_site, "desktop", "light", "uz") as seen:
        page = seen.page
        await seen.sign_in(email)
        await page.route("**/events", hold)
        async with core.db.write() as session:
            user = await accounts.by_email(session, email)
            assert user is not None
            bot = await samples.open_example(session, user, "uz", limits=core.settings.limits, max_bytes=10 * 1_048_576)
        async with core.bell.listen(f"bot:{bot.id}", limit=1000) as events, asyncio.timeout(60):
            async with core.db.write():  # nothing can become ready meanwhile
                await seen.open(f"/bots/{bot.id}/setup")
            await expect(page.locator("[data-tries]")).to_be_hidden()
            core.bell.ring("jobs")
            while True:
                async with core.db.read() as session:
                    files = await documents.list_for(session, await bots.get(session, user, bot.id))
                if all(file.status == "ready" for file in files):
                    break
                await events.get()
        await expect(page.locator("[data-reading='1']")).to_have_count(1)
        heard.set()
        await expect(page.locator(".chat [data-tries] button")).to_have_count(3)
        await expect(page.locator(".chat [data-tries]")).to_be_visible()
        assert seen.troubles == []
