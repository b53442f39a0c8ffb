"""Choosing a plan, paying it, and the page that says so by itself; light and dark, wide and narrow, with and without script."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator

import aiohttp
import pypdf
import pytest
from playwright.async_api import Browser, expect
from sqlalchemy import select

from db import models
from services import coupons
from services.coupons import Terms
from tests import servers
from tests.browser.conftest import person, unscripted, watched
from tests.payments.till import AS_SOLD, ENVIRONMENT, NOW, Till
from tests.web.panel import Site, open_site

pytestmark = pytest.mark.browser
KEYS = {name: value for name, value in ENVIRONMENT.items() if name != "WEBHOOK_BASE_URL"}


@pytest.fixture(scope="module")
async def till(tmp_path_factory: pytest.TempPathFactory, servers_run: servers.Run) -> AsyncIterator[tuple[Site, Till]]:
    """The panel with all gateways."""
    folder = tmp_path_factory.mktemp("paying")
    limits = {**AS_SOLD, "limits": {"login_attempts_per_15_min": 500}}
    async with (
        open_site(folder, servers_run.new_sqlite(folder), environment=KEYS, overrides=limits) as site,
        aiohttp.ClientSession() as http,
    ):
        opened = Till(site.core, http, site.base)
        site.core.now = lambda: NOW
        yield site, opened


async def ordered(site: Site, number: str) -> models.Payment:
    async with site.core.db.read() as session:
        found = await session.scalar(select(models.Payment).where(models.Payment.number == number))
    assert found is not None
    return found


@pytest.mark.parametrize(("size", "scheme", "language"), [("desktop", "light", "ru"), ("phone", "dark", "uz")])
async def test_from_the_plan_to_the_receipt(
    chromium: Browser, till: tuple[Site, Till], size: str, scheme: str, language: str
) -> None:
    """The gateway calls while the page is open: it says so without being touched, and the receipt is a file."""
    site, gateways = till
    email = await person(site, f"Payer{size}", language)
    async with watched(chromium, site, size, scheme, language) as owner:
        page = owner.page
        await owner.sign_in(email)
        await owner.open("/billing?period=quarterly")
        await owner.check()
        await page.click("a[href='/billing/order?plan=basic&period=quarterly']")
        await owner.check()
        await page.check("input[value='payme']")
        await page.click("form[action='/billing/order'] button")
        await page.wait_for_url("**/billing/payments/*")
        await expect(page.locator("#payment-state")).to_have_attribute("data-state", "waiting")
        await expect(page.locator(".pay-qr img")).to_be_visible()
        await page.click("#by-number summary")
        await owner.check()
        payment = await ordered(site, page.url.rsplit("/", 1)[1])
        href = await page.get_attribute("#pay-link", "href")
        assert href is not None and href.startswith("https://checkout.paycom.uz/")
        id_ = await gateways.payme_created(payment)
        await gateways.payme("PerformTransaction", id=id_)
        await expect(page.locator("#payment-state")).to_have_attribute("data-state", "paid")
        await owner.check()
        async with page.expect_download() as waited:
            await page.click("a[href$='/receipt.pdf']")
        path = await (await waited.value).path()
        text = pypdf.PdfReader(io.BytesIO(path.read_bytes())).pages[0].extract_text()
        assert payment.number in text and id_ in text and {"ru": "сум", "uz": "so‘m"}[language] in text
        await owner.open("/billing")
        await owner.check()
        assert owner.troubles == []


@pytest.mark.parametrize(
    ("size", "scheme", "language"), [("desktop", "dark", "ru"), ("phone", "light", "uz"), ("phone", "dark", "en")]
)
async def test_the_administrators_pages(
    chromium: Browser, till: tuple[Site, Till], size: str, scheme: str, language: str
) -> None:
    """Each as it stands with something in it: nothing too wide, nothing that a reader of screens would miss."""
    site, gateways = till
    payment = await gateways.order()
    id_ = await gateways.payme_created(payment)
    await gateways.payme("PerformTransaction", id=id_)
    email = await person(site, f"Boss{size}{language}", language)
    async with site.core.db.write() as session:
        await coupons.create(session, site.core.settings, Terms(percent=15, note="Navro‘z"), now=site.core.now())
        row = await session.scalar(select(models.User).where(models.User.email == email))
        assert row is not None
        row.role = "admin"
    async with watched(chromium, site, size, scheme, language) as boss:
        await boss.sign_in(email)
        for path in (
            "/admin/statistics",
            "/admin/payments",
            "/admin/payments/days",
            "/admin/payments/new",
            f"/admin/payments/{payment.number}",
            "/admin/coupons",
            "/admin/owners",
            f"/admin/owners/{payment.user_id}/plan",
            "/admin/requests",
            "/admin/payouts",
            "/admin/texts",
            f"/admin/texts/offer_night/{language}",
        ):
            await boss.open(path)
            await boss.page.evaluate("for (const part of document.querySelectorAll('main details')) part.open = true")
            await boss.check(axe=language != "en")
        assert boss.troubles == []


async def test_paying_works_without_script(chromium: Browser, till: tuple[Site, Till]) -> None:
    """Plain forms, and the page asks by itself."""
    site, gateways = till
    email = await person(site, "Plain", "en")
    async with unscripted(chromium, site, email, viewport={"width": 360, "height": 740}) as page:
        await page.goto(f"{site.base}/billing")
        await page.click("a[href='/billing/order?plan=starter&period=monthly']")
        await page.check("input[value='uzum']")
        await page.click("form[action='/billing/order'] button")
        await page.wait_for_url("**/billing/payments/*")
        number = page.url.rsplit("/", 1)[1]
        assert await page.locator("meta[http-equiv=refresh]").count() == 1
        payment = await ordered(site, number)
        trans_id = await gateways.uzum_created(payment)
        assert (await gateways.uzum("confirm", trans_id)).status == 200
        await page.reload()
        await expect(page.locator("#payment-state")).to_have_attribute("data-state", "paid")
        assert await page.locator("meta[http-equiv=refresh]").count() == 0
