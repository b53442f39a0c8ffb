"""Pages of requests, coupons, referrals and payouts: what people see and do there, and what they cannot."""

from __future__ import annotations

import csv
import datetime as dt
import re
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import select, update
from yarl import URL

from db import models
from services import coupons, leaving, referrals
from services.coupons import Terms
from tests import servers
from tests.web.panel import PASSWORD, Browser, Site, hashed, open_site

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
    # All of them, however many there are.
    many = {**fields, "count": "1000"}
    assert (await admin.post("/admin/coupons", **{**many, "code": "ULGURJI"})).status == 303
    assert (await admin.post("/admin/coupons", **{**many, "code": "ULGURJI"})).status == 303
    table = (await admin.get("/admin/coupons/codes.csv?q=ulgurji")).text
    assert len(set(table.splitlines()[1:])) == 2000
    # What offers make for each owner does not stand in the way of what administrators made.
    owner = await site.person("Taklif")
    async with site.core.db.write() as session:
        terms = coupons.Terms(percent=10, user_id=owner.id)
        await coupons.create(session, site.core.settings, terms, now=site.core.now(), code="SAVE10_OFFER")
    assert "SAVE10_OFFER" not in (await admin.get("/admin/coupons")).text
    for asked in ("made=all", "q=save10_of"):
        page = await admin.get(f"/admin/coupons?{asked}")
        assert "SAVE10_OFFER" in page.text and '<option value="all" selected>' in page.text
    assert "SAVE10_OFFER" not in (await admin.get("/admin/coupons/codes.csv")).text
    assert "SAVE10_OFFER" in (await admin.get("/admin/coupons/codes.csv?made=all")).text
    assert "By whom: Administrators only" in (await admin.get("/admin/audit?action=coupons_exported")).visible()
    for place in ("coupons", "payouts"):
        assert (await admin.get(f"/admin/{place}?before=x")).status == 400
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
    # Looking makes nothing: whoever only passes by has no link yet.
    assert "Make my link" in (await browser.get("/billing/referrals")).visible()
    async with site.core.db.read() as session:
        assert (await session.get_one(models.User, partner.id)).referral_code is None
    assert (await browser.post("/billing/referrals")).location == "/billing/referrals"
    async with site.core.db.read() as session:
        code = (await session.get_one(models.User, partner.id)).referral_code
    assert f"ref={code}" in (await browser.get("/billing/referrals")).text
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


async def _code_of(site: Site, partner: models.User) -> str:
    async with site.core.db.write() as session:
        return await referrals.code_of(session, await session.get_one(models.User, partner.id))


async def _registers(browser: Browser, name: str, phone: str, code: str) -> None:
    """Open a partner's link in a browser and register there."""
    await browser.get(f"/?ref={code}", **{"User-Agent": _CHROME})
    await browser.get("/register", **{"User-Agent": _CHROME})
    email = f"{name.lower()}@example.uz"
    made = await browser.post("/register", full_name=name, phone=phone, email=email, password=PASSWORD)
    assert made.status == 303


async def _brought_by(site: Site, partner: models.User) -> list[str]:
    async with site.core.db.read() as session:
        row = models.Referral
        query = select(models.User.full_name).join(row, row.user_id == models.User.id)
        return sorted(await session.scalars(query.where(row.partner_id == partner.id)))


async def test_nobody_brings_a_second_account_of_the_same_browser(site: Site) -> None:
    """Signed out, by the own link; nor a third one after the second was used there. A colleague at the same address counts."""
    partner = await site.person("Ustasi", password_hash=await hashed())
    code = await _code_of(site, partner)
    own = site.browser()
    await own.get("/login")
    assert (await own.post("/login", login="ustasi@example.uz", password=PASSWORD)).status == 303
    for number, name in enumerate(("Ikkinchim", "Uchinchim")):
        await own.post("/logout")
        await _registers(own, name, f"+998 90 700 00 0{number}", code)
    assert await _brought_by(site, partner) == []
    page = " ".join((await (await _english(await site.signed_in(partner))).get("/billing/referrals")).visible().split())
    assert "Clicks 0 Registered 0" in page
    # The same office, the same address on the internet: another browser is another person.
    await _registers(site.browser(), "Hamkasbim", "+998 90 700 00 05", code)
    assert await _brought_by(site, partner) == ["Hamkasbim"]


async def test_the_way_on_into_telegram_keeps_the_link(site: Site) -> None:
    """The first page leads to the factory bot with the partner's code, also days later without the word in the address."""
    site.core.factory_username = site.core.factory_username or "factory_test_bot"
    partner = await site.person("Yetaklovchi")
    code = await _code_of(site, partner)
    stranger, plain = site.browser(), f'href="https://t.me/{site.core.factory_username}"'
    led = f'href="https://t.me/{site.core.factory_username}?start=ref_{code}"'
    assert plain in (await stranger.get("/", **{"User-Agent": _CHROME})).text
    assert plain in (await stranger.get("/?ref=nobody22", **{"User-Agent": _CHROME})).text
    assert led in (await stranger.get(f"/?ref={code}", **{"User-Agent": _CHROME})).text
    assert led in (await stranger.get("/", **{"User-Agent": _CHROME})).text
    now, window = site.core.now, site.core.settings.referrals.window_days
    site.core.now = lambda: now() + dt.timedelta(days=window)
    try:
        assert plain in (await stranger.get("/", **{"User-Agent": _CHROME})).text
    finally:
        site.core.now = now


async def test_a_colleague_s_link_counts_in_a_browser_of_others(site: Site) -> None:
    """Somebody else has used this browser: that is no reason against the partner; a cookie that is not ours says nothing."""
    partner, other = await site.person("Sotuvchi"), await site.person("Oldingi")
    code = await _code_of(site, partner)
    shared = await site.signed_in(other)
    await shared.post("/logout")
    await _registers(shared, "Keyingi", "+998 90 700 00 11", code)
    forged = site.browser()
    forged.http.cookie_jar.update_cookies({"people": f"{partner.id}.{'0' * 64}"}, URL(forged.base))
    await _registers(forged, "Halol", "+998 90 700 00 12", code)
    assert await _brought_by(site, partner) == ["Halol", "Keyingi"]


async def _earned(site: Site, partner: models.User, amount_tiyin: int) -> None:
    async with site.core.db.write() as session:
        session.add(
            models.ReferralEntry(
                partner_id=partner.id,
                kind="commission",
                amount_tiyin=amount_tiyin,
                available_at=site.core.now() - dt.timedelta(days=1),
            )
        )


async def test_a_payout_noted_by_mistake_is_taken_back(site: Site) -> None:
    """With a reason, once; the partner sees both lines and has the amount again."""
    core, partner = site.core, await site.person("Xatolik")
    admin, browser = await _english(await _admin(site, "Kassir")), await _english(await site.signed_in(partner))
    await _earned(site, partner, 100_000_00)
    await admin.post(f"/admin/payouts/{partner.id}", price="100000", due="10000000", note="8600")
    async with core.db.read() as session:
        entry = models.ReferralEntry
        mine = entry.partner_id == partner.id, entry.kind == "payout"
        paid = (await session.scalars(select(entry).where(*mine))).one()
    path = f"/admin/payouts/{paid.id}/undo"
    assert path in (await admin.get("/admin/payouts")).text
    refused = await admin.post(path, reason=" ")
    assert refused.status == 400 and "Write the reason" in refused.visible()
    assert (await admin.post(path, reason="<b>Boshqa karta")).location == "/admin/payouts?done=payout_undone"
    again = await admin.post(path, reason="Yana")
    assert again.status == 409 and "taken back already" in again.visible()
    page = await admin.get("/admin/payouts")
    assert "&lt;b&gt;Boshqa karta" in page.text and path not in page.text
    assert (await browser.post(path, reason="Men")).status == 404
    async with core.db.read() as session:
        assert await referrals.balance_tiyin(session, partner.id, now=core.now()) == 100_000_00
    seen = (await browser.get("/billing/referrals")).visible()
    assert "Payout taken back" in seen and "Paid out" in seen and "Boshqa karta" in seen
    about = (await admin.get(f"/admin/owners/{partner.id}/plan")).visible()
    assert "Payout taken back" in about and "100\u00a0000\u00a0UZS" in about


async def test_payouts_outlive_the_account(site: Site) -> None:
    core, partner = site.core, await site.person("Ketadi")
    admin = await _english(await _admin(site, "Hisobchi"))
    await _earned(site, partner, 300_000_00)
    await admin.post(f"/admin/payouts/{partner.id}", price="250000", due="30000000", note="8600 Ketadiev")
    async with core.db.read() as session:
        before = await referrals.books(session, now=core.now())
    async with core.db.write() as session:
        (await session.get_one(models.User, partner.id)).delete_at = core.now() - dt.timedelta(seconds=1)
    await leaving.delete_account(core, partner.id)
    page = await admin.get("/admin/payouts")
    assert "Deleted account" in page.visible() and "250\u00a0000\u00a0UZS" in page.visible()
    assert "Ketadi" not in page.text
    async with core.db.read() as session:
        after = await referrals.books(session, now=core.now())
        assert not [row.note for row in await session.scalars(select(models.ReferralEntry)) if "Ketadi" in row.note]
    assert (after.earned, after.paid, after.spent) == (before.earned, before.paid, before.spent)
    assert before.owed - after.owed == after.lapsed - before.lapsed == 50_000_00


async def test_asking_too_often_says_when(site: Site) -> None:
    browser = await _english(await site.signed_in(await site.person("Qayta")))
    for _ in range(3):
        page = await browser.post("/billing/request", plan="basic", period="monthly")
        assert page.status == 303
        async with site.core.db.read() as session:
            row = models.AccessRequest
            waiting = (
                await session.scalars(select(row).where(row.status == "pending").order_by(row.id.desc()))
            ).first()
        assert waiting is not None
        await browser.post(f"/billing/request/{waiting.id}/withdraw")
    page = await browser.post("/billing/request", plan="basic", period="monthly")
    assert page.status == 429 and "You can ask again from" in page.visible()
    assert int(page.headers["Retry-After"]) > 80_000
