"""Pages of requests, coupons, referrals and payouts: what people see and do there, and what they cannot."""

from __future__ import annotations

import csv
import datetime as dt
import re
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import select, update

from db import models
from services import coupons, referrals
from services.coupons import Terms
from tests import servers
from tests.web.panel import PASSWORD, Browser, Site, open_site

_CHROME = "Mozilla/5.0 (Windows NT 10.0) Chrome/140.0 Safari/537.36"


@pytest.fixture(scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory, servers_run: servers.Run) -> AsyncIterator[Site]:
    """The product, once for this file."""
    folder = tmp_path_factory.mktemp("partners")
    async with open_site(folder, servers_run.new_sqlite(folder)) as running:
        yield running


async def _admin(site: Site, name: str) -> Browser:
    made = await site.person(name)
    async with site.core.db.write() as session:
        await session.execute(update(models.User).where(models.User.id == made.id).values(role="admin"))
    return await site.signed_in(made)


async def _english(browser: Browser) -> Browser:
    await browser.post("/preferences", language="en", next="/settings")
    return browser


async def _pending(site: Site, owner: models.User) -> models.AccessRequest:
    async with site.core.db.read() as session:
        row = models.AccessRequest
        return (await session.scalars(select(row).where(row.user_id == owner.id, row.status == "pending"))).one()


async def test_from_the_form_to_the_plan(site: Site) -> None:
    """Asked for with a coupon, granted; extra fields of the forms change nothing."""
    owner = await site.person("Aziza")
    browser, admin = await _english(await site.signed_in(owner)), await _english(await _admin(site, "Boshliq"))
    core = site.core
    async with core.db.write() as session:
        await coupons.create(session, core.settings, Terms(percent=10), now=core.now(), code="SAVE10_UZ_2026")
    extra = {
        "status": "granted",
        "user_id": "x",
        "ends_at": "2030-01-01",
        "price_uzs": "1",
        "id": "mine",
        "role": "admin",
    }
    wrong = await browser.post("/billing/request", plan="basic", period="monthly", coupon="NONE", note="<b>Salom</b>")
    assert wrong.status == 400 and "This coupon cannot be used." in wrong.visible()
    assert "&lt;b&gt;Salom" in wrong.text
    asked = await browser.post(
        "/billing/request", plan="basic", period="monthly", coupon="save10_uz_2026", note="<b>Salom</b>", **extra
    )
    assert asked.location.startswith("/billing/request")
    row = await _pending(site, owner)
    assert (row.plan, row.user_id, row.note) == ("basic", owner.id, "<b>Salom</b>")
    assert (await browser.post("/billing/request", plan="basic", period="monthly")).status == 409
    page = await admin.get("/admin/requests")
    assert "261000" in page.text and "SAVE10_UZ_2026" in page.text and "<b>Salom" not in page.text
    grant = f"/admin/requests/{row.id}/grant"
    for price in ("", "-5", "1.5", "x", "9" * 12):
        bad = await admin.post(grant, plan="basic", period="monthly", price=price)
        assert bad.status == 400, price
    done = await admin.post(
        grant, plan="basic", period="annual", price="200 000", price_note="naqd", coupon="1", **extra
    )
    assert done.location.startswith("/admin/requests")
    assert (await admin.post(grant, plan="basic", period="annual", price="0")).status == 409
    async with core.db.read() as session:
        span = (await session.scalars(select(models.Subscription).where(models.Subscription.user_id == owner.id))).one()
        assert (await session.get_one(models.User, owner.id)).role == "owner"
    assert (span.plan, span.period, span.value_tiyin) == ("basic", "annual", 200_000_00)
    assert span.ends_at - span.starts_at == dt.timedelta(days=365)
    assert "Granted" in (await browser.get("/billing/request")).visible()
    history = (await admin.get(f"/admin/owners/{owner.id}/plan")).visible()
    assert "naqd" in history and "200\u00a0000\u00a0UZS" in history
    path = f"/admin/owners/{owner.id}/plan"
    assert (await admin.post(f"{path}/extend", days="-5")).status == 303
    assert (await admin.post(f"{path}/extend", days="abc")).status == 400
    assert (await admin.post(f"{path}/change", plan="premium")).status == 303
    assert (await admin.post(f"{path}/revoke", answer="")).status == 400
    assert (await admin.post(f"{path}/revoke", answer="Kelishuv tugadi")).status == 303
    assert (await admin.post("/admin/owners/nobody/plan/revoke", answer="x")).status == 404


async def test_a_form_that_is_sent_twice(site: Site) -> None:
    """A double click, a second window: what the page was drawn from is not there any more, and that is said."""
    owner, admin = await site.person("Ikki"), await _english(await _admin(site, "Beshinchi"))
    path = f"/admin/owners/{owner.id}/plan"
    for step, fields in (
        ("grant", {"plan": "basic", "period": "monthly", "price": "290000"}),
        ("grant", {"plan": "basic", "period": "monthly", "price": "0"}),
        ("extend", {"days": "10"}),
        ("change", {"plan": "premium"}),
        ("revoke", {"answer": "Pul kelmadi"}),
    ):
        seen = set(re.findall(r'name="basis" value="(\d+)"', (await admin.get(path)).text))
        assert len(seen) == 1
        form = {**fields, "basis": seen.pop()}
        assert (await admin.post(f"{path}/{step}", **form)).status == 303
        again = await admin.post(f"{path}/{step}", **form)
        assert again.status == 409 and "has changed since you opened the page" in again.visible(), step
    async with site.core.db.read() as session:
        row = models.Payment
        paid = (await session.scalars(select(row).where(row.user_id == owner.id))).one()
    assert (paid.status, paid.paid_by, paid.amount_tiyin) == ("paid", "manual", 290_000_00)
    assert paid.number in (await admin.get(f"/admin/payments?owner={owner.id}")).text
    assert (await admin.get(f"/admin/payments/{paid.number}/receipt.pdf")).status == 200


async def test_an_administrator_declines(site: Site) -> None:
    owner = await site.person("Bobur")
    browser, admin = await site.signed_in(owner), await _english(await _admin(site, "Ikkinchi"))
    await browser.post("/billing/request", plan="starter", period="monthly")
    row = await _pending(site, owner)
    assert (await admin.post(f"/admin/requests/{row.id}/decline", answer=" ")).status == 400
    assert (await admin.post(f"/admin/requests/{row.id}/decline", answer="Avval sinang")).status == 303
    assert "Avval sinang" in (await browser.get("/billing/request")).visible()
    assert (await browser.post(f"/billing/request/{row.id}/withdraw")).status == 404


async def test_coupons_are_made_listed_and_ended(site: Site) -> None:
    admin = await _english(await _admin(site, "Uchinchi"))
    fields = {"percent": "15", "count": "3", "per_owner": "1", "max_uses": "", "note": "=1+1", "plans": "basic"}
    assert (await admin.post("/admin/coupons", code="BAZAR", valid_until="2999-12-31", **fields)).status == 303
    assert (await admin.get("/admin/coupons?q=bazar")).text.count("BAZAR_") == 3
    table = (await admin.get("/admin/coupons/codes.csv?q=bazar")).text.lstrip("\ufeff")
    rows = list(csv.DictReader(table.splitlines()))
    assert len(rows) == 3 and {row["percent"] for row in rows} == {"15"} and "=1+1" not in table
    for name, value in (
        ("percent", "0"),
        ("percent", "x"),
        ("count", "0"),
        ("valid_until", "31.12"),
        ("max_uses", "-1"),
    ):
        page = await admin.post("/admin/coupons", **{**fields, name: value})
        assert page.status == 400 and "is-invalid" in page.text, (name, value)
    made = await admin.post("/admin/coupons", code="yangi-2026", percent="10", count="1", per_owner="1", uses="-5")
    path = made.location.partition("?")[0]
    assert "YANGI-2026" in (await admin.get(path)).visible()
    assert (await admin.post("/admin/coupons", code="YANGI-2026", percent="5", count="1", per_owner="1")).status == 409
    assert (await admin.post(f"{path}/disable")).status == 303
    assert "Over" in (await admin.get(path)).visible()
    assert "YANGI-2026" not in (await admin.get("/admin/coupons?state=open")).text


async def test_guessing_coupons_is_limited(site: Site) -> None:
    browser = await site.signed_in(await site.person("Taxmin"))
    statuses = [
        (await browser.post("/billing/request", plan="basic", period="monthly", coupon=f"TRY{number}")).status
        for number in range(7)
    ]
    assert statuses == [400] * 5 + [429] * 2


async def test_who_registers_by_a_link_is_the_partner_s(site: Site) -> None:
    """By the first page, and later without the word in the address; previews of the link count nothing."""
    partner = await site.person("Hamkor")
    browser = await _english(await site.signed_in(partner))
    await browser.get("/billing/referrals")
    async with site.core.db.read() as session:
        code = (await session.get_one(models.User, partner.id)).referral_code
    stranger = site.browser()
    await stranger.get(f"/?ref={code}", **{"User-Agent": "TelegramBot (like TwitterBot)"})
    assert stranger.cookie("ref") == ""
    await stranger.get("/?ref=nobody22", **{"User-Agent": _CHROME})
    assert stranger.cookie("ref") == ""
    for _ in range(2):
        await stranger.get(f"/?ref={code}", **{"User-Agent": _CHROME})
    assert stranger.cookie("ref") not in ("", code)
    await stranger.get("/register", **{"User-Agent": _CHROME})
    made = await stranger.post(
        "/register", full_name="Yangi", phone="+998 90 555 11 22", email="yangi@example.uz", password=PASSWORD, ref="x"
    )
    assert made.status == 303
    page = (await browser.get("/billing/referrals")).visible()
    assert " ".join(page.split()).count("Clicks 1 Registered 1 Paying 0") == 1
    async with site.core.db.read() as session:
        row = (await session.scalars(select(models.Referral).where(models.Referral.partner_id == partner.id))).one()
        assert row.source == "web"
        # Signed in people are nobody to bring.
    await stranger.get(f"/register?ref={code}", **{"User-Agent": _CHROME})
    assert "Clicks 1 " in " ".join((await browser.get("/billing/referrals")).visible().split())


async def test_a_payout_is_noted_once(site: Site) -> None:
    core, partner = site.core, await site.person("Sherik")
    admin = await _english(await _admin(site, "Xazinachi"))
    now = core.now()
    async with core.db.write() as session:
        session.add(
            models.ReferralEntry(
                partner_id=partner.id,
                kind="commission",
                amount_tiyin=250_000_00,
                available_at=now - dt.timedelta(days=1),
            )
        )
    path = f"/admin/payouts/{partner.id}"
    assert 'value="250000"' in (await admin.get("/admin/payouts")).text
    assert (await admin.post(path, price="300000", due="25000000")).status == 400
    assert (await admin.post(path, price="99999", due="25000000")).status == 400
    assert (await admin.post(path, price="150 000", due="25000000", note="8600 **** 1234")).status == 303
    assert (await admin.post(path, price="100000", due="25000000")).status == 409
    assert (await admin.post("/admin/payouts/nobody", price="100000", due="1")).status == 404
    async with core.db.read() as session:
        assert await referrals.balance_tiyin(session, partner.id, now=core.now()) == 100_000_00
    browser = await _english(await site.signed_in(partner))
    assert "8600 **** 1234" in (await browser.get("/billing/referrals")).visible()
