"""Payments as the administrator sees them: found, counted, noted by hand, given back, compared and exported."""

from __future__ import annotations

import csv
import datetime as dt
import io
import re
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from sqlalchemy import select

from db import models
from db.engine import Database
from services import accounts, bookkeeping, subscriptions
from tests import servers
from tests.payments.till import AS_SOLD, NOW, Till
from tests.web.panel import Browser, open_site
from tests.web.test_billing import BASIC, KEYS, Shop, said

FORMULA = '=HYPERLINK("http://evil.example","x")'


@pytest.fixture(scope="module")
async def shop(tmp_path_factory: pytest.TempPathFactory, servers_run: servers.Run) -> AsyncIterator[Shop]:
    folder = tmp_path_factory.mktemp("books")
    async with (
        open_site(folder, servers_run.new_sqlite(folder), environment=KEYS, overrides=AS_SOLD) as site,
        aiohttp.ClientSession() as http,
    ):
        till = Till(site.core, http, site.base)
        site.core.now = lambda: till.moment
        yield Shop(site, till)


@pytest.fixture(scope="module")
async def boss(shop: Shop) -> Browser:
    person = await shop.site.person("Boss", language="en")
    async with shop.site.core.db.write() as session:
        (await session.get_one(models.User, person.id)).role = "admin"
    return await shop.site.signed_in(person)


@pytest.fixture(autouse=True)
def _clock(shop: Shop) -> None:
    shop.till.moment = NOW


async def audited(shop: Shop, action: str, object_id: str) -> models.AuditLog:
    """Return the one row that says who did this."""
    async with shop.site.core.db.read() as session:
        log = models.AuditLog
        return (await session.scalars(select(log).where(log.action == action, log.object_id == object_id))).one()


async def test_the_filters_find_and_the_sums_count(shop: Shop, boss: Browser) -> None:
    _, browser = await shop.owner("Filtered")
    other, foreign = await shop.owner("Unfiltered")
    paid = await shop.ordered(browser)
    await shop.paid(paid)
    waiting = await shop.ordered(browser, "premium", gateway="click")
    elsewhere = await shop.ordered(foreign, "starter", gateway="uzum")

    async def found(query: str) -> set[str]:
        page = await boss.get(f"/admin/payments?{query}")
        assert page.status == 200
        return {payment.number for payment in (paid, waiting, elsewhere) if f"/{payment.number}" in page.text}

    mine = {paid.number, waiting.number}
    assert await found("owner=filtered@example.uz") == mine
    assert await found(f"owner={other.id}") == {elsewhere.number}
    assert await found("owner=%25") == set() == await found("owner=_iltered")
    assert await found("owner=filtered@example.uz&state=paid") == {paid.number}
    assert await found("owner=filtered@example.uz&gateway=click") == {waiting.number}
    assert await found(f"number={paid.number}") == {paid.number}
    assert await found("since=2026-12-01&until=2026-12-01") >= mine
    assert await found("since=2026-12-02") == set() == await found("until=2026-11-30")
    shown = said(await boss.get("/admin/payments?owner=filtered@example.uz"))
    assert "Paid 290 000 UZS 1 payment" in shown and "Refunded 0 UZS 0 payments" in shown


@pytest.mark.parametrize("query", ["state=rich", "since=yesterday", "until=2026-02-30", "since=0001-01-01"])
async def test_a_filter_that_makes_no_sense_says_so(shop: Shop, boss: Browser, query: str) -> None:
    page = await boss.get(f"/admin/payments?{query}")
    assert page.status == 400 and "alert" in page.text
    assert (await boss.get(f"/admin/payments/export.csv?{query}")).status == 400


async def test_a_long_list_comes_in_pages(shop: Shop, boss: Browser) -> None:
    person, _ = await shop.owner("Many")
    async with shop.site.core.db.write() as session:
        for number in range(120):
            row = models.Payment(
                number=f"66{number:07}",
                user_id=person.id,
                plan="basic",
                period="monthly",
                gateway="payme",
                status="expired",
                price_tiyin=BASIC,
                amount_tiyin=BASIC,
                created_at=NOW,
                expires_at=NOW,
            )
            session.add(row)
            await session.flush()
    seen: list[str] = []
    path = f"/admin/payments?owner={person.id}"
    while path:
        page = await boss.get(path)
        seen += re.findall(r"/admin/payments/(66\d{7})", page.text)
        link = re.search(r'href="(/admin/payments\?[^"]*cursor=[^"]*)"', page.text)
        path = link[1].replace("&amp;", "&") if link else ""
    assert seen == [f"66{number:07}" for number in reversed(range(120))]
    assert (await boss.get("/admin/payments?cursor=x'--")).status == 400


async def test_money_by_hand_gives_the_plan_and_stays_with_a_reason(shop: Shop, boss: Browser) -> None:
    person, browser = await shop.owner("Cash")
    extra = {"amount_tiyin": "1", "status": "paid", "user_id": "x", "price_tiyin": "1", "gateway": "payme"}
    made = await boss.post("/admin/payments/new", owner="cash@example.uz", plan="basic", period="monthly", **extra)
    assert made.status == 303, made.visible()
    payment = await shop.payment(made.location.split("/")[-1].split("?")[0])
    known = (payment.user_id, payment.amount_tiyin, payment.status, payment.gateway)
    assert known == (person.id, BASIC, "waiting", "manual")
    place = f"/admin/payments/{payment.number}"
    assert "Pay in cash or by bank transfer." in said(await browser.get(f"/billing/payments/{payment.number}"))
    for fields in ({"method": "cash"}, {"method": "cash", "reason": "   "}, {"method": "card", "reason": "x"}):
        assert (await boss.post(f"{place}/paid", **fields)).status == 400
    assert (await shop.payment(payment.number)).status == "waiting"
    more = {"by": "payme", "paid_by": "payme", "amount_tiyin": "1"}
    assert (await boss.post(f"{place}/paid", method="bank", reason="Kvitansiya 12", **more)).status == 303
    payment = await shop.payment(payment.number)
    assert (payment.status, payment.paid_by, payment.amount_tiyin) == ("paid", "manual", BASIC)
    again = await boss.post(f"{place}/paid", method="cash", reason="again")
    assert again.status == 409 and "Bank transfer: Kvitansiya 12" in said(again)
    log = await audited(shop, "payment_marked_paid", payment.id)
    assert log.details["reason"] == "Kvitansiya 12"
    assert "You are on the plan Basic" in said(await browser.get("/billing"))
    assert (await boss.get(f"{place}/receipt.pdf")).status == 200
    shown = said(await boss.get(place))
    assert "Boss" in shown and "Kvitansiya 12" in shown


async def test_a_payment_that_waits_for_a_gateway_may_be_paid_by_hand(shop: Shop, boss: Browser) -> None:
    """And what the gateway does afterwards meets a paid order."""
    _, browser = await shop.owner("Impatient")
    payment = await shop.ordered(browser)
    id_ = await shop.till.payme_created(payment)
    assert (await boss.post(f"/admin/payments/{payment.number}/paid", method="cash", reason="Keldi")).status == 303
    assert (await shop.till.payme("PerformTransaction", id=id_))["error"]["code"] == -31008
    assert await shop.till.deliveries(payment) == 1


async def test_by_hand_while_the_owner_pays_elsewhere(shop: Shop, boss: Browser) -> None:
    """The administrator is told that something else is there by now, and nothing is given twice."""
    person, browser = await shop.owner("Hasty")
    first, second = await shop.ordered(browser), await shop.ordered(browser)
    seen = re.search(r'name="basis" value="(\d+)"', (await boss.get(f"/admin/payments/{first.number}")).text)
    assert seen is not None
    await shop.paid(second)
    fields = {"method": "cash", "reason": "Keldi", "basis": seen[1]}
    page = await boss.post(f"/admin/payments/{first.number}/paid", **fields)
    assert page.status == 409 and "has changed since you opened the page" in said(page)
    assert (await shop.payment(first.number)).status == "waiting"
    async with shop.site.core.db.read() as session:
        assert len(await subscriptions.spans(session, person.id)) == 1


async def test_a_refund_is_marked_once_and_takes_the_plan_back(shop: Shop, boss: Browser) -> None:
    _, browser = await shop.owner("Sorry")
    payment = await shop.ordered(browser)
    place = f"/admin/payments/{payment.number}"
    assert (await boss.post(f"{place}/refund", reason="early")).status == 409
    await shop.paid(payment)
    assert (await boss.post(f"{place}/refund")).status == 400
    assert (await boss.post(f"{place}/refund", reason="<b>Xato</b> to‘lov", status="paid")).status == 303
    assert (await boss.post(f"{place}/refund", reason="twice")).status == 409
    payment = await shop.payment(payment.number)
    assert (payment.status, payment.refund_reason) == ("refunded", "<b>Xato</b> to‘lov")
    assert (await audited(shop, "payment_refunded", payment.id)).details["reason"] == "<b>Xato</b> to‘lov"
    assert "<b>Xato" not in (await boss.get(place)).text
    assert "Trial until" in said(await browser.get("/billing"))


async def test_the_raw_life_is_there_without_secrets(shop: Shop, boss: Browser) -> None:
    _, browser = await shop.owner("Raw")
    payment = await shop.ordered(browser)
    id_ = await shop.paid(payment)
    page = await boss.get(f"/admin/payments/{payment.number}")
    shown = said(page)
    steps = ("Ordered", "Transaction begun (CreateTransaction)", "Transaction performed (PerformTransaction)")
    for wanted in (*steps, id_, "Performed", "perform_time"):
        assert wanted in shown
    assert KEYS["PAYME_KEY"] not in page.text and "Basic UG" not in page.text


@pytest.mark.parametrize("owner", ["", "nobody@example.uz", "Twin", "%", "boss@example.uz"])
async def test_an_owner_who_is_not_named_clearly_pays_nothing(shop: Shop, boss: Browser, owner: str) -> None:
    if owner == "Twin":
        for number in "12":
            await shop.site.person(f"Twin{number}")
    page = await boss.post("/admin/payments/new", owner=owner, plan="basic", period="monthly")
    assert page.status == 400 and 'aria-invalid="true"' in page.text


async def test_nobody_else_may(shop: Shop, boss: Browser) -> None:
    """What is behind the administrator's addresses does not exist for owners, whatever they send."""
    _, browser = await shop.owner("Curious")
    payment = await shop.ordered(browser)
    place = f"/admin/payments/{payment.number}"
    missing = re.sub(r"[0-9a-f]{8,}", "", (await browser.get("/admin/nothing")).visible())
    for path in (
        "/admin/payments",
        place,
        "/admin/payments/export.csv",
        "/admin/payments/days",
        f"{place}/receipt.pdf",
    ):
        page = await browser.get(path)
        assert page.status == 404
        assert re.sub(r"[0-9a-f]{8,}", "", page.visible()).replace(path, "") == missing.replace("/admin/nothing", "")
    for path in (f"{place}/paid", f"{place}/refund", "/admin/payments/new"):
        assert (await browser.post(path, method="cash", reason="mine", owner="curious@example.uz")).status == 404
    assert (await shop.payment(payment.number)).status == "waiting"
    assert "/admin/" not in (await browser.get("/dashboard")).text


async def test_tables_are_read_back(shop: Shop, boss: Browser) -> None:
    """CSV as an office reads it and XLSX: a formula in a name is text, a phone and a number keep their first characters."""
    person, browser = await shop.owner("Exported")
    async with shop.site.core.db.write() as session:
        row = await session.get_one(models.User, person.id)
        row.full_name, row.phone = FORMULA, "+998901234567"
    payment = await shop.ordered(browser)
    await shop.paid(payment)
    raw = await (await boss.http.get(f"{shop.site.base}/admin/payments/export.csv?owner={person.id}")).read()
    assert raw.startswith(b"\xef\xbb\xbf")
    head, line = csv.reader(io.StringIO(raw.decode("utf-8-sig")))
    cells = dict(zip(head, line, strict=True))
    assert cells["Number"] == payment.number and cells["Amount, UZS"] == "290000" and cells["Gateway"] == "Payme"
    assert cells["Owner"] == "'" + FORMULA and cells["Phone"] == "'+998901234567"
    assert cells["Paid at"] == "2026-12-01 10:00:00"
    answer = await boss.http.get(f"{shop.site.base}/admin/payments/export.xlsx?owner={person.id}")
    assert "attachment" in answer.headers["Content-Disposition"]
    with zipfile.ZipFile(io.BytesIO(await answer.read())) as book:
        sheet = book.read("xl/worksheets/sheet1.xml").decode()
    assert "<f>" not in sheet and "<v>290000</v>" in sheet
    assert f'<c r="A2" t="inlineStr"><is><t>{payment.number}</t>' in sheet and "+998901234567" in sheet


async def _transaction(db: Database, gateway: str, at: dt.datetime, tiyin: int, **facts: object) -> None:
    async with db.write() as session:
        owner = await accounts.register_owner(session, email=f"{at.timestamp()}{gateway}@example.uz", full_name="X")
        payment = models.Payment(
            number=str(round(at.timestamp() * 1000)) + gateway[:1],
            user_id=owner.id,
            plan="basic",
            period="monthly",
            gateway=gateway,
            status="paid",
            price_tiyin=tiyin,
            amount_tiyin=tiyin,
            paid_by=gateway,
            paid_at=at,
            expires_at=at,
            refunded_at=facts.get("cancelled_at") if gateway == "manual" else None,
        )
        session.add(payment)
        await session.flush()
        if gateway != "manual":
            session.add(
                models.PaymentTransaction(
                    payment_id=payment.id,
                    gateway=gateway,
                    external_id=payment.number,
                    state="reversed" if "cancelled_at" in facts else "performed",
                    amount_tiyin=tiyin,
                    provider_time=at,
                    created_at=at,
                    performed_at=at,
                    **facts,
                )
            )


async def test_days_are_those_of_tashkent(database_url: str) -> None:
    """The last second of a day and the first of the next, what went back later, tests, and cash."""
    db = Database(database_url)
    night = dt.datetime(2026, 11, 30, 19, 0, tzinfo=dt.UTC)  # midnight in Tashkent
    second, day = dt.timedelta(seconds=1), dt.timedelta(days=1)
    try:
        await _transaction(db, "payme", night - second, 100)
        await _transaction(db, "payme", night, 20_000_000_000_000)
        await _transaction(db, "payme", night + second, 3_000, cancelled_at=night + day)
        await _transaction(db, "click", night, 7, sandbox=True)
        await _transaction(db, "manual", night + 2 * second, 50_000, cancelled_at=night + day - second)
        async with db.read() as session:
            found = await bookkeeping.reconciliation(session, dt.date(2026, 12, 1), dt.date(2026, 12, 2))
            before = await bookkeeping.reconciliation(session, dt.date(2026, 11, 30), dt.date(2026, 11, 30))
    finally:
        await db.close()
    told = [(each.day.day, each.gateway, each.performed.tiyin, each.reversed.tiyin, each.net) for each in found]
    assert told == [
        (2, "payme", 0, 3_000, -3_000),
        (1, "manual", 50_000, 50_000, 0),
        (1, "payme", 20_000_000_003_000, 0, 20_000_000_003_000),
    ]
    assert [(each.gateway, each.performed.tiyin) for each in before] == [("payme", 100)]


async def test_the_days_are_shown_and_exported(shop: Shop, boss: Browser) -> None:
    shop.till.moment = NOW + dt.timedelta(days=40)
    _, browser = await shop.owner("Daily")
    await shop.paid(await shop.ordered(browser))
    shown = said(await boss.get("/admin/payments/days"))
    assert "10.01.2027 Payme 290 000 UZS × 1 0 UZS × 0 290 000 UZS" in shown
    day = shop.till.moment.date().isoformat()
    raw = await (await boss.http.get(f"{shop.site.base}/admin/payments/days.csv?since={day}&until={day}")).read()
    assert raw.decode("utf-8-sig").splitlines()[1] == f"{day},Payme,1,290000,0,0,290000"
    assert "Downloaded payments From date:" in said(await boss.get("/admin/audit"))
    for query in ("since=2027-01-02&until=2027-01-01", "since=2020-01-01&until=2027-01-01", "since=x"):
        assert (await boss.get(f"/admin/payments/days?{query}")).status == 400


def test_a_folder_of_fonts_has_its_licence() -> None:
    folder = Path(bookkeeping.__file__).parent / "fonts"
    assert "Bitstream" in (folder / "LICENSE").read_text()
    assert sum(path.stat().st_size for path in folder.iterdir()) < 200_000
