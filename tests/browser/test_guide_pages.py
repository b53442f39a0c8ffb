"""The guide in Chromium: readable at every width, found by the help link, kept by the switch of languages."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser, expect

from tests.browser.conftest import person, watched
from tests.web.panel import Site


@pytest.mark.parametrize(("size", "scheme"), [("desktop", "light"), ("phone", "dark")])
async def test_a_stranger_and_an_owner_read_the_guide(
    chromium: Browser, browser_site: Site, size: str, scheme: str
) -> None:
    email = await person(browser_site, f"Guide-{size}", "ru")
    async with watched(chromium, browser_site, size, scheme, "uz") as seen:
        page = seen.page
        await seen.open("/")
        await page.click("footer a[href='/guide/uz']")
        await page.wait_for_url("**/guide/uz")
        await page.click(".book-text a[href='/guide/uz/installation']")
        await page.wait_for_url("**/guide/uz/installation")
        if size == "phone":
            await page.set_viewport_size({"width": 360, "height": 740})
        for path in ("/guide/uz", "/guide/uz-Cyrl/inbox", "/guide/ru/installation", "/guide/en/numbers"):
            await seen.open(path)
            await seen.check()
        await page.locator(".book-here summary").click()
        await page.click(".book-here a[href='#charts-and-files']")
        assert page.url.endswith("#charts-and-files")
        await page.click("button[name=language][value=ru]")
        await page.wait_for_url("**/guide/ru/numbers")

        await seen.sign_in(email)
        await seen.open("/team")
        async with page.expect_popup() as opened:
            await page.locator("a[rel=help]:visible").click()
        help_page = await opened.value
        await help_page.wait_for_url("**/guide/ru/inbox#team")
        await expect(help_page.locator("#team")).to_be_in_viewport()
        await help_page.close()
        await seen.check()
        await seen.open("/guide/ru/inbox")
        await seen.check()
        assert seen.troubles == []
