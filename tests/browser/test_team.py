"""Inviting somebody and joining, each in a browser of their own; and how a membership ends on an open page."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser, Dialog, expect

from db import models
from services import accounts
from tests.browser.conftest import SIZES, person, watched
from tests.web.panel import PASSWORD, Site, web_talk

pytestmark = pytest.mark.browser


@pytest.mark.parametrize(("size", "scheme"), [("desktop", "light"), ("phone", "dark")])
async def test_inviting_and_joining(chromium: Browser, browser_site: Site, size: str, scheme: str) -> None:
    """The owner makes a link; whoever opens it registers, answers a customer, and is removed with the page open."""
    site = browser_site
    email = await person(site, f"Boss{size}", "en")
    async with site.core.db.read() as session:
        owner = await accounts.by_email(session, email)
    assert owner is not None
    bot = await site.bot_of(owner, "Chinor Dental")
    async with site.core.db.write() as session:
        talk = await web_talk(session, bot, "Gulbahor", status="waiting")
        session.add(models.Message(conversation_id=talk.id, author="customer", text="Odam bormi?"))
    async with (
        watched(chromium, site, size, scheme, "en") as boss,
        watched(chromium, site, size, scheme, "en") as guest,
    ):
        await boss.sign_in(email)
        await boss.open("/team")
        await boss.check()
        await boss.page.fill("#name", "Nodira, evenings")
        await boss.page.check("#invite-operator")
        await boss.page.click("form[action='/team/invitations'] button")
        link = await boss.page.input_value("#invitation-link")
        await expect(boss.page.locator(".qr img")).to_be_visible()
        await boss.check()
        await guest.open("/team/join?" + link.partition("?")[2])
        await expect(guest.page.locator("h1")).to_contain_text(f"Boss{size}")
        await guest.check()
        number = {name: place for place, name in enumerate(SIZES)}[size]
        for field, value in {
            "full_name": "Nodira Aliyeva",
            "phone": f"+99890777000{number}",
            "email": f"nodira{size}@example.uz",
            "password": PASSWORD,
        }.items():
            await guest.page.fill(f"#{field}", value)
        await guest.page.click("form[action='/team/join'] button")
        await guest.page.wait_for_url("**/dashboard*")
        # Without the line that fades in: its colours are looked at where it stands still.
        await guest.open("/dashboard")
        await guest.check()
        await expect(guest.page.locator("a[href='/team'], a[href='/bots/new']")).to_have_count(0)
        await guest.page.click("main a.btn-primary")
        await guest.page.click(".talk-line")
        await guest.page.fill("#reply-text", "Hello, I am Nodira")
        await guest.page.click("#reply button")
        await expect(guest.page.locator(".said-operator")).to_contain_text("I am Nodira")
        await guest.check()
        await boss.open("/team")
        await expect(boss.page.locator("main")).to_contain_text("Nodira Aliyeva")
        await boss.page.click("main details summary")
        await boss.check()
        # What is confirmed names the person.
        asked: list[str] = []

        async def confirm(dialog: Dialog) -> None:
            asked.append(dialog.message)
            await dialog.accept()

        assert boss.troubles == [] == guest.troubles
        boss.page.on("dialog", confirm)
        await boss.page.click("form[action$='/remove'] button")
        await expect(boss.page.locator("main .row-title")).to_have_count(0)
        assert ["Nodira Aliyeva" in question for question in asked] == [True]
        answer = await guest.page.reload()
        assert answer is not None and answer.status == 404
