"""An account's own pages in a browser: two-step sign-in set up and used, and what lies around it."""

from __future__ import annotations

import pyotp
import pytest
from playwright.async_api import Browser, expect

from tests.browser.conftest import person, unscripted, watched
from tests.web.panel import PASSWORD, Site

pytestmark = pytest.mark.browser


@pytest.mark.parametrize(("size", "scheme"), [("desktop", "light"), ("phone", "dark")])
async def test_two_step_sign_in(chromium: Browser, browser_site: Site, size: str, scheme: str) -> None:
    """The key is read off the page, the recovery codes are shown, and one of them opens another browser."""
    email = await person(browser_site, f"Twostep{size}", "en")
    async with watched(chromium, browser_site, size, scheme, "en") as seen:
        await seen.open("/password/forgot")
        await seen.check()
        await seen.sign_in(email)
        for path in ("/settings/email", "/settings/delete", "/settings/two-step"):
            await seen.open(path)
            await seen.check()
        await seen.page.fill("#current_password", PASSWORD)
        await seen.page.click("form[action='/settings/two-step/begin'] button")
        await expect(seen.page.locator(".qr img")).to_be_visible()
        await seen.check()
        key = (await seen.page.inner_text("main code")).replace(" ", "")
        await seen.page.fill("#code", pyotp.TOTP(key).at(browser_site.core.now()))
        await seen.page.click("form[action='/settings/two-step/confirm'] button")
        codes = (await seen.page.input_value("#recovery-codes")).split()
        assert len(codes) == 10
        await seen.check()
        await seen.open("/settings/two-step")
        await seen.check()
        # The old session's stream of events ends while the page that follows is on its way.
        assert [trouble for trouble in seen.troubles if "[object Event]" not in trouble] == []
    async with watched(chromium, browser_site, size, scheme, "en") as other:
        await other.open("/login")
        await other.page.fill("#login", email)
        await other.page.fill("#password", PASSWORD)
        await other.page.click("main form[action='/login'] button")
        await expect(other.page.locator("#code")).to_be_focused()
        await other.check()
        await other.page.fill("#code", codes[0])
        await other.page.click("main form[action='/login/code'] button")
        await other.page.wait_for_url("**/dashboard*")
        assert other.troubles == []


async def test_without_script_a_refused_form_is_shown_where_it_stands(chromium: Browser, browser_site: Site) -> None:
    """The page that comes back is long: what was wrong is in sight, and what needs a script is not offered."""
    email = await person(browser_site, "Plain", "en")
    async with unscripted(chromium, browser_site, email, viewport={"width": 390, "height": 600}) as page:
        await page.goto(f"{browser_site.base}/settings")
        form = page.locator("form[action='/settings/tokens']")
        await form.locator("[name=name]").fill("Our shop")
        await form.locator("[name=current_password]").fill("another password")
        await form.locator("button").click()
        await expect(page.get_by_role("alert")).to_be_in_viewport()
        await expect(form.locator("[name=name]")).to_have_value("Our shop")
        await page.goto(f"{browser_site.base}/billing/referrals")
        await expect(page.locator("#main [data-copy]").first).to_be_hidden()
